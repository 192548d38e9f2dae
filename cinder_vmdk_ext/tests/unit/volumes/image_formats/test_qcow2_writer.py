# SPDX-License-Identifier: Apache-2.0
"""Content becomes a qcow2 image."""

import io
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

from cinder_vmdk_ext.volumes.image_formats import qcow2
from cinder_vmdk_ext.volumes.image_formats import qcow2_writer
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

NOISE = random.Random(1).randbytes(200_000)
# What compresses, what does not, and a piece in the second table.
PIECES = [(512, b'begin' * 50_000), (1 << 20, NOISE), ((600 << 20) + 7, b'e')]
CAPACITY = (600 << 20) + 512 * 3


def written(pieces, capacity, compress):
    file = io.BytesIO()
    qcow2_writer.write(file, pieces, capacity, compress=compress)
    return file.getvalue()


def pieces_of(data):
    """What the reader finds, without the zeros at the ends of clusters."""
    found = qcow2.open_qcow2(io.BytesIO(data))
    content = bytearray(2 << 20)
    for offset, piece in found.pieces:
        if offset < len(content):
            content[offset:offset + len(piece)] = piece
        else:
            last = offset, piece
    return found.capacity_bytes, bytes(content), last


class WriteTestCase(unittest.TestCase):

    def test_what_is_written_is_read(self):
        wanted = bytearray(2 << 20)
        for offset, data in PIECES[:2]:
            wanted[offset:offset + len(data)] = data
        for compress in (False, True):
            data = written(PIECES, CAPACITY, compress)
            capacity, content, (offset, piece) = pieces_of(data)
            self.assertEqual((CAPACITY, bytes(wanted)), (capacity, content))
            self.assertEqual((PIECES[2][0], b'e'), (
                offset + len(piece.rstrip(b'\0')) - 1, piece.strip(b'\0')))

    def test_compression_makes_it_smaller(self):
        self.assertLess(len(written(PIECES, CAPACITY, True)),
                        len(written(PIECES, CAPACITY, False)) - (2 << 16))

    def test_every_cluster_of_the_file_is_counted(self):
        for compress in (False, True):
            data = written(PIECES, CAPACITY, compress)
            self.assertEqual(0, len(data) % qcow2_writer.CLUSTER)
            blocks_at, = struct.unpack_from('>Q', data, 48)
            block_at, = struct.unpack_from('>Q', data, blocks_at)
            clusters = len(data) // qcow2_writer.CLUSTER
            counts = struct.unpack_from(f'>{clusters + 1}H', data, block_at)
            self.assertNotIn(0, counts[:-1])
            self.assertEqual(0, counts[-1])

    def test_a_disk_without_content(self):
        found = qcow2.open_qcow2(io.BytesIO(written([], 1 << 40, True)))
        self.assertEqual((1 << 40, []), (found.capacity_bytes,
                                         list(found.pieces)))

    @unittest.skipUnless(shutil.which('qemu-img'), 'qemu-img is missing')
    def test_qemu_img_finds_it_sound_and_reads_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            made, raw = pathlib.Path(folder, 'q'), pathlib.Path(folder, 'raw')
            for compress in (False, True):
                made.write_bytes(written(PIECES, CAPACITY, compress))
                subprocess.run(['qemu-img', 'check', '-f', 'qcow2', made],
                               check=True, stdout=subprocess.DEVNULL)
                subprocess.run(['qemu-img', 'convert', '-f', 'qcow2', '-O',
                                'raw', made, raw], check=True)
                self.assertEqual(CAPACITY, raw.stat().st_size)
                with open(raw, 'rb') as file:
                    for offset, data in PIECES:
                        file.seek(offset)
                        self.assertEqual(data, file.read(len(data)))


class CountsTestCase(unittest.TestCase):

    def test_references_are_counted_beyond_one_block(self):
        """2 GiB of clusters have their counts in one block."""
        file = _Counting()
        count = 40_000
        cluster = b'x' * qcow2_writer.CLUSTER
        qcow2_writer.write(
            file, ((number << 16, cluster) for number in range(count)),
            count << 16, compress=False)
        blocks = [data for data in file.kept.values()]
        self.assertLess(2 << 31, 2 * file.end)
        header = file.kept[0]
        blocks_at, = struct.unpack_from('>Q', header, 48)
        first, second, third = struct.unpack_from(
            '>3Q', file.kept[blocks_at])
        self.assertEqual(0, third)
        self.assertTrue(blocks)
        counts = struct.unpack('>65536H', file.kept[first]
                               + file.kept[second])
        clusters = file.end >> 16
        self.assertEqual({1}, set(counts[:clusters]))
        self.assertEqual({0}, set(counts[clusters:]))


class _Counting:
    """A file that keeps everything but the clusters of the disk."""

    def __init__(self):
        self.at = self.end = 0
        self.kept = {}

    def seek(self, at):
        self.at = at

    def write(self, data):
        if data[:1] != b'x':
            self.kept[self.at] = data

    def truncate(self, size):
        self.end = size

    def flush(self):
        pass


class GrainsTestCase(unittest.TestCase):

    def test_clusters_and_grains_are_equally_large(self):
        self.assertEqual(stream_vmdk.GRAIN_BYTES, qcow2_writer.CLUSTER)


if __name__ == '__main__':
    unittest.main()
