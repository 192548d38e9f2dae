# SPDX-License-Identifier: Apache-2.0
"""qcow2 images, valid, hostile and damaged."""

import io
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import qcow2
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

CONTENT = b''.join((b'begin'.ljust(1 << 20, b'\0'),
                    random.Random(1).randbytes(100_000), b'end' * 9000,
                    bytes(-127_000 % 512)))
# What qemu-img writes, by its options.
OPTIONS = ('', '-o compat=0.10', '-o cluster_size=512',
           '-o cluster_size=2M', '-c', '-c -o cluster_size=512',
           '-c -o cluster_size=2M', '-o preallocation=metadata')
# Features that need a conversion, and the words about them.
UNKNOWN = {'-c -o compression_type=zstd': 'compression_type=zlib',
           '-o extended_l2=on,cluster_size=128k': 'extended_l2=off'}


def content_of(data, most_bytes=None):
    found = qcow2.open_qcow2(io.BytesIO(data), most_bytes)
    return b''.join(stream_vmdk.flat(found.pieces, found.capacity_bytes))


def with_entry(data, number, value):
    """An image with another entry in its (first) L2 table."""
    data = bytearray(data)
    l1_at, = struct.unpack_from('>Q', data, 40)
    table, = struct.unpack_from('>Q', data, l1_at)
    struct.pack_into('>Q', data, (table & qcow2.OFFSET_MASK) + 8 * number,
                     value)
    return bytes(data)


class SoundTestCase(unittest.TestCase):

    def test_images_of_both_versions_and_all_sizes_of_clusters(self):
        for version in (2, 3):
            for bits in (9, 12, 16, 21):
                for compress in (False, True):
                    with self.subTest((version, bits, compress)):
                        data = disk_images.qcow2(
                            CONTENT, version=version, cluster_bits=bits,
                            compress=compress)
                        self.assertEqual(CONTENT, content_of(data))

    def test_a_cluster_that_is_marked_as_zeros(self):
        data = disk_images.qcow2(CONTENT)
        entry = 1 << 63 | 1 << 16 | 1
        wanted = bytes(5) + CONTENT[5:]
        self.assertEqual(wanted, content_of(with_entry(data, 0, entry)))

    def test_an_image_without_content(self):
        self.assertEqual(bytes(4096), content_of(disk_images.qcow2(
            bytes(4096))))

    @unittest.skipUnless(shutil.which('qemu-img'), 'qemu-img is missing')
    def test_what_qemu_img_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            raw, made = pathlib.Path(folder, 'raw'), pathlib.Path(folder, 'q')
            raw.write_bytes(CONTENT)
            for options in (*OPTIONS, *UNKNOWN):
                with self.subTest(options):
                    made.unlink(missing_ok=True)
                    subprocess.run(
                        ['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                         *options.split(), raw, made], check=True)
                    if options in UNKNOWN:
                        self.refuse(UNKNOWN[options], made.read_bytes())
                    else:
                        self.assertEqual(CONTENT,
                                         content_of(made.read_bytes()))

    def refuse(self, words, data):
        with self.assertRaisesRegex(stream.FormatError, words):
            content_of(data)


class RefusedTestCase(unittest.TestCase):

    def refuse(self, words, data, most_bytes=None):
        with self.assertRaisesRegex(stream.FormatError, words):
            content_of(data, most_bytes)

    def test_what_needs_another_file(self):
        self.refuse('backing file', disk_images.qcow2(
            CONTENT, backing=b'/etc/shadow'))
        self.refuse('backing file', disk_images.qcow2(
            CONTENT, version=2, backing=b'/etc/shadow'))
        self.refuse('data-file', disk_images.qcow2(CONTENT, features=1 << 2))

    def test_features_that_are_not_read(self):
        for features, words in ((1 << 1, 'corrupt'), (1 << 3, 'zlib'),
                                (1 << 4, 'subclusters'),
                                (1 << 5, 'unknown'), (1 << 63, 'unknown')):
            self.refuse(words, disk_images.qcow2(CONTENT, features=features))
        self.refuse('encrypted', disk_images.qcow2(CONTENT, crypt=2))

    def test_one_that_was_not_closed_is_read(self):
        """Only its reference counts may be wrong."""
        self.assertEqual(CONTENT, content_of(disk_images.qcow2(
            CONTENT, features=1)))

    def test_a_disk_that_is_too_large(self):
        data = disk_images.qcow2(CONTENT)
        content_of(data, len(CONTENT))
        self.refuse('make the volume larger', data, len(CONTENT) - 512)

    def test_headers_that_cannot_be(self):
        good = disk_images.qcow2(CONTENT)
        for at, value, words in ((4, 4, 'version 4'), (20, 8, 'clusters of'),
                                 (20, 63, 'clusters of'),
                                 (36, 0, 'no table'), (40, 0, 'no table')):
            data = bytearray(good)
            struct.pack_into('>I', data, at, value)
            if at == 40:
                struct.pack_into('>Q', data, at, value)
            self.refuse(words, bytes(data))
        for size in (513, 1 << 63):
            self.refuse('', disk_images.qcow2(CONTENT, size=size))
        for data in (b'', b'QFI', b'QFI\xfb', bytes(70_000)):
            self.refuse('', data)

    def test_another_format_is_named(self):
        for data, words in ((b'KDMV', 'but a VMDK file; correct its disk_f'),
                            (b'conectix', 'a vhd image'),
                            (CONTENT, 'or a raw disk; correct')):
            self.refuse(words, data.ljust(4096, b'\0'))

    def test_entries_that_cannot_be(self):
        for compress in (False, True):
            data = disk_images.qcow2(CONTENT, compress=compress)
            for entry in (1 << 63 | 1 << 40, 1 << 63 | 512, 1 << 62,
                          1 << 62 | 1 << 40, (1 << 63) - 1):
                with self.subTest((compress, hex(entry))):
                    self.refuse('cut off|damaged',
                                with_entry(data, 0, entry))

    def test_entries_behind_the_end_of_any_file(self):
        """Where a file system knows no such offset."""
        data = disk_images.qcow2(CONTENT)
        with tempfile.TemporaryFile() as file:
            file.write(with_entry(data, 0, 1 << 63 | 1 << 55))
            found = qcow2.open_qcow2(file)
            with self.assertRaisesRegex(stream.FormatError, 'cut off'):
                list(found.pieces)

    def test_a_mark_of_zeros_in_version_2(self):
        """QEMU reports damage too."""
        data = disk_images.qcow2(CONTENT, version=2)
        self.refuse('damaged', with_entry(data, 0, 1 << 63 | 1))

    def test_data_that_is_named_again_and_again(self):
        """Or a small image would become a large transfer."""
        for compress in (False, True):
            data = disk_images.qcow2(CONTENT[-1 << 16:], compress=compress,
                                     capacity=1 << 30)
            l2_at = 2 << 16
            entry, = struct.unpack_from('>Q', data, l2_at)
            for number in range(1, 8192):
                data = bytearray(data)
                struct.pack_into('>Q', data, l2_at + 8 * number, entry)
            self.refuse('several places', bytes(data))
        data = bytearray(disk_images.qcow2(CONTENT, capacity=1 << 30))
        data[65544:65552] = data[65536:65544]
        self.refuse('several places', bytes(data))

    def test_one_that_is_cut(self):
        for compress in (False, True):
            data = disk_images.qcow2(CONTENT, compress=compress)
            for length in (60, 600, 66_000, 140_000, len(data) - 512):
                with self.subTest((compress, length)):
                    self.refuse('', data[:length])

    def test_a_check_that_fails_ends_the_reading(self):
        def check():
            raise ZeroDivisionError
        found = qcow2.open_qcow2(io.BytesIO(disk_images.qcow2(CONTENT)),
                                 None, check)
        self.assertRaises(ZeroDivisionError, list, found.pieces)

    def test_noise_in_any_place_ends_in_words_or_in_content(self):
        good = disk_images.qcow2(CONTENT, cluster_bits=12)
        dice = random.Random(2)
        for _ in range(300):
            data = bytearray(good)
            at = dice.choice((0, 4096, 8192)) + dice.randrange(600)
            data[at:at + 4] = dice.randbytes(4)
            try:
                content_of(bytes(data), 2 * len(CONTENT))
            except stream.FormatError as error:
                self.assertNotIn('\n', str(error))


if __name__ == '__main__':
    unittest.main()
