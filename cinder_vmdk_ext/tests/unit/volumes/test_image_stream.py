# SPDX-License-Identifier: Apache-2.0
"""The bytes of images, without a transfer."""

import threading
import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import image_stream

LIMITS = image_stream.Limits(60, 30)


def joined(chunks):
    return b''.join(chunks)


class InTimeTestCase(unittest.TestCase):
    """in_time()."""

    def test_what_comes_in_time_is_passed_on(self):
        data = [b'a', b'', b'b' * 100]
        self.assertEqual(data, list(image_stream.in_time(data, LIMITS)))

    def test_a_source_that_fails_is_told(self):
        def source():
            yield b'a'
            raise ValueError('broken')
        chunks = image_stream.in_time(source(), LIMITS)
        self.assertEqual(b'a', next(chunks))
        with self.assertRaisesRegex(exceptions.TransferFailed, 'broken'):
            next(chunks)

    def test_a_source_that_is_silent_is_given_up(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def source():
            yield b'a'
            go_on.wait(30)
        chunks = image_stream.in_time(source(), image_stream.Limits(60, 0.05))
        self.assertEqual(b'a', next(chunks))
        with self.assertRaisesRegex(exceptions.TransferFailed, 'silent'):
            next(chunks)

    def test_the_whole_may_take_no_longer_than_told(self):
        times = iter(range(0, 100, 10))
        chunks = image_stream.in_time([b'a'] * 100,
                                      image_stream.Limits(30, 60),
                                      clock=lambda: next(times))
        with self.assertRaisesRegex(exceptions.TransferFailed, 'longer'):
            list(chunks)

    def test_a_receiver_that_stops_ends_the_reading(self):
        """No thread is left behind, and the source is closed."""
        closed = threading.Event()

        def source():
            try:
                while True:
                    yield b'a'
            finally:
                closed.set()
        before = threading.active_count()
        chunks = image_stream.in_time(source(), LIMITS)
        next(chunks)
        chunks.close()
        self.assertTrue(closed.wait(5))
        for each in threading.enumerate():
            if each.name == 'vmdk-ext-image-source':
                each.join(5)
        self.assertEqual(before, threading.active_count())


class ExactlyTestCase(unittest.TestCase):
    """exactly()."""

    def test_the_announced_size_is_passed_on(self):
        self.assertEqual(b'abc', joined(
            image_stream.exactly([b'a', b'bc'], 3)))

    def test_more_is_an_error_before_it_is_passed_on(self):
        passed = []
        with self.assertRaisesRegex(exceptions.TransferFailed, 'more'):
            passed.extend(image_stream.exactly([b'a', b'bc'], 2))

    def test_less_is_an_error(self):
        with self.assertRaisesRegex(exceptions.TransferFailed, r'less.*\(3\)'):
            joined(image_stream.exactly([b'a', b'bc'], 4))
        with self.assertRaises(exceptions.TransferFailed):
            joined(image_stream.exactly([], 1))


class FlatTestCase(unittest.TestCase):
    """flat()."""

    def test_a_bare_disk_is_passed_on(self):
        data = [b'K', bytes(1023)]
        self.assertEqual(b''.join(data), joined(
            image_stream.flat(data, 'image', 1024)))

    def test_a_vmdk_is_known_however_it_is_cut(self):
        for data in ([b'KDMV' + bytes(508)],
                     [b'K', b'D', b'MV' + bytes(508)],
                     [b'# Disk Desc', b'riptorFile' + bytes(600)]):
            with self.assertRaises(exceptions.UnusableImage):
                joined(image_stream.flat(data, 'image', 512))


class OvaTestCase(unittest.TestCase):
    """disk_in_ova(); archives with a disk are in test_transfers."""

    def test_what_is_no_archive_is_told(self):
        for data in ([], [b'x'], [b'x' * 5000], [bytes(10240)]):
            with self.assertRaises(exceptions.UnusableImage):
                image_stream.disk_in_ova(data, 'image')

    def test_a_source_that_fails_is_told_as_such(self):
        def source():
            yield b'x' * 100
            raise exceptions.TransferFailed('silent', 'look')
        with self.assertRaises(exceptions.TransferFailed):
            image_stream.disk_in_ova(source(), 'image')


if __name__ == '__main__':
    unittest.main()
