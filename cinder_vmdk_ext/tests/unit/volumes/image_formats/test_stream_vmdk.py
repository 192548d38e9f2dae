# SPDX-License-Identifier: Apache-2.0
"""Content becomes a streamOptimized VMDK in passing, and is read from one."""

import pathlib
import random
import struct
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk
from cinder_vmdk_ext.volumes.image_formats import vmdk

REAL = pathlib.Path(__file__).resolve().parents[5].joinpath(
    '../shared/fixtures/vmdk')
MIB = 1 << 20
# In three tables, of which the second is empty; it ends within a grain.
CONTENT = b''.join((b'begin'.ljust(66 * MIB, b'\0'),
                    random.Random(1).randbytes(300_000), b'end' * 1000,
                    bytes(-303_000 % 512)))


def pieces(content, size=70_001):
    return ((at, content[at:at + size])
            for at in range(0, len(content), size))


def written(content, capacity=0, size=70_001):
    return b''.join(stream_vmdk.write(pieces(content, size),
                                      capacity or len(content)))


def read_back(data, size=70_001):
    capacity, found = stream_vmdk.read(
        data[at:at + size] for at in range(0, len(data), size))
    return b''.join(stream_vmdk.flat(found, capacity))


class WriteTestCase(unittest.TestCase):

    def test_a_reader_of_markers_finds_the_content(self):
        for size in (512, 70_001, MIB):
            data = written(CONTENT, size=size)
            self.assertEqual(CONTENT, disk_images.content_of(data))

    def test_a_reader_of_tables_finds_the_grains(self):
        data = written(CONTENT)
        footer = disk_images.HEADER.unpack_from(data, len(data) - 1024)
        front = disk_images.HEADER.pack(*footer) + data[79:]
        found = {}
        for number, packed in disk_images.read_sparse(front).items():
            lba, size = struct.unpack_from('<QI', packed)
            self.assertEqual(number * 128, lba)
            found[number] = size
        self.assertEqual(sorted(disk_images.read_stream(data)),
                         sorted(found))

    def test_our_own_checks_accept_it(self):
        data = written(CONTENT)
        found = vmdk.open_vmdk(stream.Peekable([data]))
        self.assertEqual((vmdk.STREAM_OPTIMIZED, len(CONTENT)), found[:2])
        self.assertEqual(data, b''.join(found.chunks))

    def test_zeros_take_no_room(self):
        data = b''.join(stream_vmdk.write(pieces(bytes(64 * MIB), MIB),
                                          1 << 40))
        self.assertLess(len(data), 256 << 10)
        self.assertEqual(1 << 40, stream_vmdk.read([data])[0])
        self.assertEqual({}, disk_images.read_stream(data))


class ReadTestCase(unittest.TestCase):

    def test_what_is_written_is_read(self):
        for size in (100, 4096, MIB):
            self.assertEqual(CONTENT, read_back(written(CONTENT), size))

    def test_what_other_tools_write_is_read(self):
        content = CONTENT[-MIB - 512:]
        for data in (disk_images.stream_optimized(content),
                     disk_images.stream_by_qemu(content)):
            if data == disk_images.stream_by_qemu(content):
                data += bytes(512)  # the end, which qemu-img may leave out
            self.assertEqual(content, read_back(data))

    def test_what_vsphere_exported_is_read(self):
        if not REAL.is_dir():
            self.skipTest('the disks that vSphere exported are not there')
        for name in ('disk-0.vmdk', 'plain-vm.vmdk'):
            data = (REAL / name).read_bytes()
            self.assertEqual(disk_images.content_of(data), read_back(data))

    def test_one_that_is_cut_is_refused_wherever(self):
        data = written(CONTENT)
        for length in (0, 100, 600, 66000, len(data) // 2, len(data) - 512):
            with self.assertRaisesRegex(stream.FormatError, 'cut off'):
                read_back(data[:length])

    def test_grains_out_of_order_are_refused(self):
        data = bytearray(written(CONTENT))
        struct.pack_into('<Q', data, 128 * 512, 128 * 1056)
        with self.assertRaisesRegex(stream.FormatError, 'comes too late'):
            read_back(bytes(data))

    def test_other_kinds_are_refused(self):
        for data, words in (
                (disk_images.monolithic_sparse(CONTENT), 'streamOptimized'),
                (bytes(512), 'not a VMDK')):
            with self.assertRaisesRegex(stream.FormatError, words):
                stream_vmdk.read([data])


class GrainsTestCase(unittest.TestCase):

    def test_pieces_of_any_size_become_whole_grains(self):
        content = CONTENT[-MIB - 512:]
        wanted = list(disk_images.grains_of(content))
        for size in (1, 512, 65536, 65537, 2 * MIB):
            if size == 1:
                content, wanted = content[:70_000], list(
                    disk_images.grains_of(content[:70_000]))
            self.assertEqual(wanted, list(stream_vmdk.grains(
                pieces(content, size))))
            content = CONTENT[-MIB - 512:]
            wanted = list(disk_images.grains_of(content))

    def test_holes_between_pieces_are_zeros(self):
        found = list(stream_vmdk.grains([(10, b'a'), (70_000, b'b')]))
        self.assertEqual([0, 1], [number for number, _ in found])
        self.assertEqual((b'\0' * 10 + b'a').ljust(65536, b'\0'),
                         found[0][1])


if __name__ == '__main__':
    unittest.main()
