# SPDX-License-Identifier: Apache-2.0
"""The data of images, without a transfer."""

import threading
import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes import image_stream

CONTENT = b'content'.ljust(1 << 20, b'\0')
STREAM = disk_images.stream_optimized(CONTENT)
SPARSE = disk_images.monolithic_sparse(CONTENT)
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
        with self.assertRaisesRegex(exceptions.TransferFailed, 'sent nothing'):
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


class OpenDiskTestCase(unittest.TestCase):
    """open_disk(); the formats have tests of their own."""

    def open(self, data, disk_type=None, container='bare', most_bytes=None):
        return image_stream.open_disk(
            [data], image_stream.Image('image', len(data), container,
                                       disk_type), most_bytes)

    def refuse(self, words, *args, **kwargs):
        with self.assertRaisesRegex(exceptions.UnusableImage,
                                    f'Image image .*{words}'):
            self.open(*args, **kwargs)

    def test_a_disk_is_taken_for_what_it_is(self):
        for data, kind in ((STREAM, 'streamOptimized'), (SPARSE, 'sparse'),
                           (CONTENT, 'preallocated')):
            for said in (None, kind):
                disk = self.open(data, said)
                self.assertEqual((kind, len(data), len(CONTENT)), disk[:3])
                self.assertEqual(data, joined(disk.chunks))

    def test_the_disk_in_an_ova_is_found(self):
        for said in (None, 'streamOptimized'):
            disk = self.open(disk_images.ova(STREAM), said, 'ova')
            self.assertEqual(('streamOptimized', len(STREAM)), disk[:2])
            self.assertEqual(STREAM, joined(disk.chunks))

    def test_a_record_that_says_another_type_is_refused(self):
        self.refuse('createType', STREAM, 'sparse')
        self.refuse('createType', SPARSE, 'streamOptimized')
        self.refuse('vmware_disktype', STREAM, 'preallocated')
        self.refuse('not a VMDK', CONTENT, 'sparse')
        self.refuse('correct the property', disk_images.ova(STREAM), 'thin',
                    'ova')

    def test_an_odd_number_of_sectors_is_rounded_up_to_whole_kib(self):
        disk = self.open(b'x' * 512)
        self.assertEqual((1024, 512), disk[1:3])
        self.assertEqual(b'x' * 512 + bytes(512), joined(disk.chunks))
        self.refuse('not a multiple of 512', b'x' * 513)

    def test_a_disk_that_is_too_large_is_refused(self):
        for data in (STREAM, SPARSE, CONTENT):
            self.open(data, most_bytes=len(CONTENT))
            self.refuse('make the volume larger', data,
                        most_bytes=len(CONTENT) - 512)

    def test_a_raw_disk_that_is_too_large_is_refused_unread(self):
        def source():
            raise AssertionError('it was read')
            yield b''
        with self.assertRaises(exceptions.UnusableImage):
            image_stream.open_disk(source(), image_stream.Image(
                'image', 1024, 'bare', 'preallocated'), 512)

    def test_an_ova_cut_within_its_disk_is_refused_at_once(self):
        whole = disk_images.ova(STREAM)
        self.refuse('cut off', whole[:len(whole) // 2], container='ova')

    def test_a_disk_that_turns_out_to_be_cut_names_its_image(self):
        disk = self.open(STREAM[:-512])
        with self.assertRaisesRegex(exceptions.UnusableImage,
                                    'Image image .*cut off'):
            joined(disk.chunks)

    def test_a_source_that_fails_is_told_as_such(self):
        def source():
            yield b'x' * 100
            raise exceptions.TransferFailed('silent', 'look')
        for container in ('bare', 'ova'):
            with self.assertRaises(exceptions.TransferFailed):
                image_stream.open_disk(source(), image_stream.Image(
                    'image', 5120, container))

    def test_a_source_that_sends_less_than_announced_is_told_as_such(self):
        with self.assertRaises(exceptions.TransferFailed):
            joined(image_stream.open_disk([STREAM], image_stream.Image(
                'image', len(STREAM) + 1)).chunks)


if __name__ == '__main__':
    unittest.main()
