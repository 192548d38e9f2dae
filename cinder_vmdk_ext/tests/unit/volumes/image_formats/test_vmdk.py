# SPDX-License-Identifier: Apache-2.0
"""VMDKs of one file, valid and damaged."""

import pathlib
import struct
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import vmdk

REAL = pathlib.Path(__file__).resolve().parents[5].joinpath(
    '../shared/fixtures/vmdk')
MIB = 1 << 20
# Two grains that hold something, in two tables.
CONTENT = (b'begin'.ljust(40 * MIB, b'\0') + b'middle').ljust(48 * MIB, b'\0')
STREAM = disk_images.stream_optimized(CONTENT)
SPARSE = disk_images.monolithic_sparse(CONTENT)
BY_QEMU = disk_images.stream_by_qemu(CONTENT)
KINDS = (STREAM, SPARSE, BY_QEMU)


def passed(data, size=65536, most_bytes=None):
    """What passes of a VMDK, and what is said of it."""
    source = stream.Peekable(data[at:at + size]
                             for at in range(0, len(data), size))
    found = vmdk.open_vmdk(source, most_bytes)
    return found, b''.join(found.chunks)


def with_field(data, number, value):
    """A VMDK with another value in one field of its header."""
    fields = list(disk_images.HEADER.unpack_from(data))
    fields[number] = value
    return disk_images.HEADER.pack(*fields) + data[79:]


class SoundTestCase(unittest.TestCase):

    def test_they_pass_unchanged_however_they_are_cut(self):
        for data in KINDS:
            for size in (100, 511, 4096, 1 << 20):
                found, whole = passed(data, size)
                self.assertEqual(data, whole)
                self.assertEqual(48 * MIB, found.capacity_bytes)

    def test_those_of_all_writers_of_streams(self):
        for describe in disk_images.WRITERS:
            with self.subTest(describe.__name__):
                data = disk_images.stream_optimized(CONTENT,
                                                    describe=describe)
                found, whole = passed(data)
                self.assertEqual((vmdk.STREAM_OPTIMIZED, data),
                                 (found.create_type, whole))

    def test_a_capacity_that_is_rounded_up_to_grains(self):
        """VirtualBox does so in its header."""
        sectors = 48 * MIB // 512 - 100
        data = disk_images.stream_optimized(
            CONTENT, describe=lambda _: disk_images.by_virtualbox(sectors))
        self.assertEqual(48 * MIB, passed(data)[0].capacity_bytes)

    def test_a_disk_without_content(self):
        for write in (disk_images.stream_optimized,
                      disk_images.monolithic_sparse,
                      disk_images.stream_by_qemu):
            data = write(b'', MIB)
            self.assertEqual(data, passed(data)[1])

    def test_a_last_grain_that_is_not_whole(self):
        data = disk_images.monolithic_sparse(b'x' * (MIB + 512))
        whole = passed(data[:len(data) - 127 * 512])[1]
        self.assertEqual(len(data) - 127 * 512, len(whole))

    def test_what_vsphere_itself_exported(self):
        if not REAL.is_dir():
            self.skipTest('the disks that vSphere exported are not there')
        for name, capacity in (('disk-0.vmdk', MIB),
                               ('plain-vm.vmdk', 50 * MIB)):
            data = (REAL / name).read_bytes()
            found, whole = passed(data)
            self.assertEqual((vmdk.STREAM_OPTIMIZED, capacity, data),
                             (found.create_type, found.capacity_bytes, whole))
            self.assertEqual(bytes(capacity), disk_images.content_of(data))


class RefusedTestCase(unittest.TestCase):

    def refuse(self, data, words, **kwargs):
        with self.assertRaisesRegex(stream.FormatError, words):
            passed(data, **kwargs)

    def refuse_at_once(self, data, words, **kwargs):
        with self.assertRaisesRegex(stream.FormatError, words):
            vmdk.open_vmdk(stream.Peekable([data]), **kwargs)

    def test_whatever_is_cut_off(self):
        for data in KINDS:
            for length in (0, 1, 511, 512, 5000, 65536, len(data) // 2,
                           len(data) - 512, len(data) - 1):
                if data is BY_QEMU and length > len(data) - 512:
                    continue  # nothing of it is missing
                with self.subTest(length=length, of=len(data)):
                    self.refuse(data[:length], 'cut off')

    def test_a_cut_disk_never_passes_whole(self):
        for data in KINDS:
            seen = bytearray()
            with self.assertRaises(stream.FormatError):
                found = vmdk.open_vmdk(stream.Peekable(
                    [data[:len(data) // 2], data[len(data) // 2:-1024]]))
                for chunk in found.chunks:
                    seen += chunk
            self.assertLess(len(seen), len(data) - 1024)

    def test_headers_that_cannot_be(self):
        for number, value, words in (
                (1, 4, 'version'), (1, 0, 'version'), (3, 0, 'holds 0'),
                (3, 1 << 60, 'holds'), (4, 0, 'grains'), (4, 100, 'grains'),
                (4, 1 << 40, 'grains'), (5, 2, 'descriptor'),
                (6, 0, 'descriptor'), (6, 1 << 50, 'descriptor'),
                (7, 1 << 31, 'tables'), (12, b'\n \n\n', 'text mode'),
                (13, 2, 'compressed')):
            with self.subTest(number=number, value=value):
                self.refuse_at_once(with_field(STREAM, number, value), words)

    def test_a_directory_within_the_header(self):
        self.refuse(with_field(SPARSE, 9, 3), 'directory')

    def test_tables_that_lead_out_of_the_file(self):
        self.refuse(with_field(SPARSE, 9, 1 << 40), 'cut off')

    def test_a_kind_that_is_not_that_of_the_header(self):
        self.refuse_at_once(STREAM.replace(
            b'"streamOptimized"', b'"monolithicFlat" '), 'createType')

    def test_a_disk_that_is_too_large(self):
        for data in KINDS:
            self.refuse_at_once(data, 'make the volume larger',
                                most_bytes=MIB)
        larger = with_field(STREAM, 3, 49 * MIB // 512)
        self.refuse_at_once(larger, 'make the volume larger',
                            most_bytes=48 * MIB)

    def test_a_header_and_a_descriptor_that_differ(self):
        self.refuse_at_once(with_field(STREAM, 3, 49 * MIB // 512), 'says')

    def test_a_footer_that_differs(self):
        at = len(STREAM) - 1024
        self.refuse(STREAM[:at] + with_field(STREAM[at:], 1, 2), 'versions')

    def first_grain(self):
        return 128 * 512

    def test_a_grain_that_is_damaged(self):
        at = self.first_grain() + 30
        self.refuse(STREAM[:at] + b'\xff\xff' + STREAM[at + 2:], 'damaged')

    def test_a_grain_that_unpacks_to_more_than_it_may(self):
        bomb = disk_images.zlib.compress(bytes(64 * MIB))
        grain = disk_images.padded(struct.pack('<QI', 0, len(bomb)) + bomb)
        at = self.first_grain()
        self.refuse(STREAM[:at] + grain + STREAM[at + 512:], 'damaged')

    def test_grains_that_cannot_be(self):
        at = self.first_grain()
        for lba, size in ((1 << 50, 100), (1, 100), (0, 1 << 31)):
            self.refuse(STREAM[:at] + struct.pack('<QI', lba, size)
                        + STREAM[at + 12:], 'impossible')

    def test_markers_that_cannot_be(self):
        at = self.first_grain() + 512
        self.refuse(STREAM[:at] + disk_images.marker(1, 9)
                    + STREAM[at + 512:], 'unknown type 9')
        self.refuse(STREAM[:at] + disk_images.marker(1 << 62, 1)
                    + STREAM[at + 512:], 'cut off')


if __name__ == '__main__':
    unittest.main()
