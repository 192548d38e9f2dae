# SPDX-License-Identifier: Apache-2.0
"""Raw files are written and read without their zeros."""

import os
import tempfile
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import raw
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

GRAIN = disk_images.GRAIN
MIB = 1 << 20
# Grains in two tables of 32 MiB, at their begins and ends.
_content = bytearray(34 * MIB)
for _at in (0, 5, GRAIN - 3, 7 * GRAIN + 11, 32 * MIB - 1, 32 * MIB,
            33 * MIB + 4096, 34 * MIB - 1):
    _content[_at] = 1 + _at % 255
CONTENT = bytes(_content)


class RawTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        file = tempfile.TemporaryFile()
        self.addCleanup(file.close)
        self.file = file.fileno()

    def write(self, pieces):
        return sum(raw.write(pieces, self.file))

    def content(self):
        return os.pread(self.file, 1 << 30, 0)

    def read(self):
        found = bytearray(os.fstat(self.file).st_size)
        for offset, data in raw.read(self.file):
            found[offset:offset + len(data)] = data
        return bytes(found)

    def test_of_a_vmdk_it_holds_what_the_disk_held(self):
        _size, pieces = stream_vmdk.read(
            [disk_images.stream_optimized(CONTENT)])
        self.assertEqual(
            GRAIN * len(list(disk_images.grains_of(CONTENT))),
            self.write(pieces))
        self.assertEqual(CONTENT, self.content())
        self.assertLess(os.fstat(self.file).st_blocks * 512, 2 * MIB)

    def test_zeros_are_not_written(self):
        self.assertEqual(3, self.write([(0, bytes(MIB)), (MIB, b'abc'),
                                        (2 * MIB, bytes(100))]))
        self.assertEqual(bytes(MIB) + b'abc', self.content())

    def test_it_is_read_as_it_was_written(self):
        os.pwrite(self.file, CONTENT[:GRAIN], 0)
        os.pwrite(self.file, CONTENT[32 * MIB - 5:], 32 * MIB - 5)
        self.assertEqual(
            CONTENT[:GRAIN].ljust(32 * MIB - 5, b'\0')
            + CONTENT[32 * MIB - 5:], self.read())

    def test_holes_and_written_zeros_are_left_out(self):
        os.truncate(self.file, 1 << 40)
        os.pwrite(self.file, bytes(3 * MIB) + b'end', 0)
        pieces = list(raw.read(self.file))
        self.assertEqual([3 * MIB], [offset for offset, _data in pieces])
        self.assertTrue(pieces[0][1].startswith(b'end'))

    def test_an_empty_file_holds_nothing(self):
        self.assertEqual([], list(raw.read(self.file)))

    def test_there_and_back_through_a_vmdk(self):
        os.pwrite(self.file, CONTENT, 0)
        data = b''.join(stream_vmdk.write(raw.read(self.file), len(CONTENT)))
        self.assertEqual(dict(disk_images.grains_of(CONTENT)),
                         disk_images.read_stream(data))
        os.truncate(self.file, 0)
        size, pieces = stream_vmdk.read([data])
        self.write(pieces)
        os.truncate(self.file, size)
        self.assertEqual(CONTENT, self.content())

    def test_a_digest_does_not_depend_on_the_holes(self):
        def digest():
            return raw.digest(self.file, lambda: None)
        os.truncate(self.file, 34 * MIB)
        self.assertEqual(raw.NO_DATA, digest())
        os.pwrite(self.file, bytes(MIB), 5 * MIB)
        self.assertEqual(raw.NO_DATA, digest())
        self.write([(0, CONTENT)])
        whole = digest()
        os.truncate(self.file, 0)
        os.truncate(self.file, 34 * MIB)
        for at in range(0, 34 * MIB, 4096):
            if any(CONTENT[at:at + 4096]):
                os.pwrite(self.file, CONTENT[at:at + 4096], at)
        self.assertEqual(whole, digest())
        os.pwrite(self.file, b'x', 33 * MIB)
        self.assertNotEqual(whole, digest())
