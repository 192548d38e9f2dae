# SPDX-License-Identifier: Apache-2.0
"""The data of images, without a transfer."""

import io
import threading
import types
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
            go_on.wait(600)
        limits = types.SimpleNamespace(total_seconds=600, stall_seconds=600)
        chunks = image_stream.in_time(source(), limits)
        self.assertEqual(b'a', next(chunks))
        limits.stall_seconds = 0.05
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
        others = set(threading.enumerate())
        chunks = image_stream.in_time(source(), LIMITS)
        next(chunks)
        threads = [each for each in threading.enumerate()
                   if each.name == 'vmdk-ext-image-source'
                   and each not in others]
        chunks.close()
        self.assertTrue(closed.wait(60))
        self.assertEqual(1, len(threads))
        threads[0].join(60)
        self.assertFalse(threads[0].is_alive())


class LoggedTestCase(unittest.TestCase):
    """logged() and deadline()."""

    def test_a_line_every_half_minute_says_how_far_it_is(self):
        times = iter(range(0, 1000, 16))
        with self.assertLogs(image_stream.__name__, 'INFO') as logged:
            self.assertEqual([b'x' * 1024] * 4, list(image_stream.logged(
                [b'x' * 1024] * 4, 4096, 'It is read',
                clock=lambda: next(times))))
        self.assertEqual(
            ['It is read: 0 of 1 MiB (50 %) after 32 s',
             'It is read: 0 of 1 MiB (100 %) after 64 s'],
            [record.getMessage() for record in logged.records])

    def test_the_time_of_a_conversion_has_an_end(self):
        times = iter((0, 59, 61))
        check = image_stream.deadline(LIMITS, lambda: next(times))
        check()
        with self.assertRaisesRegex(exceptions.TransferFailed, 'longer'):
            check()


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

    def open(self, data, disk_type=None, container='bare', most_bytes=None,
             disk_format='vmdk'):
        return image_stream.open_disk(
            [data], image_stream.Image('image', len(data), container,
                                       disk_type, disk_format), most_bytes)

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

    def test_a_raw_image_becomes_a_stream_of_the_volumes_size(self):
        for size in (len(CONTENT), 512, 700):
            disk = self.open(CONTENT[:size], disk_format='raw',
                             most_bytes=1 << 30)
            self.assertEqual(('streamOptimized', None, 1 << 30), disk[:3])
            stream = joined(disk.chunks)
            self.assertEqual(dict(disk_images.grains_of(CONTENT[:size])),
                             disk_images.read_stream(stream))

    def test_a_raw_image_that_is_something_else_is_refused(self):
        for data, words in ((STREAM, 'a VMDK file'),
                            (disk_images.qcow2(CONTENT), 'a qcow2 image'),
                            (disk_images.ova(STREAM), 'a tar archive')):
            for disk_format in ('raw', 'iso'):
                self.refuse(f'its disk_format is {disk_format}, but it is '
                            f'{words}', data, disk_format=disk_format)
        self.refuse('make the volume larger', CONTENT, disk_format='raw',
                    most_bytes=len(CONTENT) - 1)
        self.refuse('empty', b'', disk_format='raw')

    def test_a_qcow2_image_becomes_a_stream_of_the_volumes_size(self):
        data = disk_images.qcow2(CONTENT)
        image = image_stream.Image('image', len(data), disk_format='qcow2')
        disk = image_stream.open_qcow2(io.BytesIO(data), image, 1 << 30)
        self.assertEqual(('streamOptimized', None, 1 << 30), disk[:3])
        self.assertEqual(CONTENT.ljust(1 << 20, b'\0'), disk_images.content_of(
            joined(disk.chunks))[:1 << 20])
        for data, words in ((CONTENT, 'not a qcow2 image'),
                            (disk_images.qcow2(CONTENT, backing=b'x'),
                             'backing file')):
            with self.assertRaisesRegex(exceptions.UnusableImage,
                                        f'Image image .*{words}'):
                image_stream.open_qcow2(io.BytesIO(data), image)

    def test_a_qcow2_image_that_turns_out_to_be_cut_names_its_image(self):
        data = disk_images.qcow2(CONTENT)[:-1024]
        disk = image_stream.open_qcow2(
            io.BytesIO(data), image_stream.Image('image', len(data)))
        with self.assertRaisesRegex(exceptions.UnusableImage,
                                    'Image image .*cut off'):
            joined(disk.chunks)

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
