# SPDX-License-Identifier: Apache-2.0
"""Writes a disk's content to a file as a qcow2 image of version 3.

The clusters are written in the order of the disk. Tables and reference counts
(of 16 bits) follow as soon as they are complete, so that only one of each is
held in memory, besides the top-level tables. What is zeros is not written.
"""

import array
import math
import sys
import zlib
from collections.abc import Iterable
from typing import BinaryIO

from cinder_vmdk_ext.volumes.image_formats import qcow2
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
_TABLE_ENTRIES = CLUSTER // 8
_BLOCK_ENTRIES = CLUSTER // 2
_REFCOUNT_ORDER = 4
_COPIED = 1 << 63
_SECTORS_SHIFT = 62 - (CLUSTER_BITS - 8)
# QEMU reads no compressed cluster that looks further back (2^12 bytes).
_WINDOW_BITS = 12
_LEVEL = 1


def write(file: BinaryIO, pieces: Iterable[stream_vmdk.Piece],
          capacity_bytes: int, *, compress: bool) -> None:
    """Write an image from the file's beginning; it ends where the file ends.

    :param file: empty, and open for writing
    :param capacity_bytes: of the disk: a multiple of 512
    :param compress: whether clusters are compressed (zlib) if that is smaller
    """
    writer = _Qcow2Writer(file, capacity_bytes)
    for number, cluster in stream_vmdk.grains(pieces, CLUSTER):
        packed = _packed(cluster) if compress else None
        if packed and len(packed) < CLUSTER:
            writer.add_packed(number, packed)
        else:
            writer.add(number, cluster)
    writer.finish()


def _packed(cluster: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=-_WINDOW_BITS)
    return packer.compress(cluster) + packer.flush()


class _Qcow2Writer:
    """A qcow2 image that grows at its end."""

    def __init__(self, file: BinaryIO, capacity_bytes: int) -> None:
        self._file = file
        self._capacity = capacity_bytes
        clusters = math.ceil(capacity_bytes / CLUSTER)
        tables = math.ceil(clusters / _TABLE_ENTRIES)
        self._l1 = _numbers('Q', tables)
        l1_clusters = math.ceil(8 * tables / CLUSTER)
        # The most clusters that there can be, with some to spare.
        blocks = (clusters + tables + l1_clusters) // (
            _BLOCK_ENTRIES - 8) + 2
        self._blocks = _numbers('Q', blocks)
        block_clusters = math.ceil(8 * blocks / CLUSTER)
        self._counts = _numbers('H', _BLOCK_ENTRIES)
        self._block = 0
        self._table = _numbers('Q', _TABLE_ENTRIES)
        self._table_number = 0
        self._end = 0
        self._allocate()  # the header
        self._l1_at = self._end
        for _ in range(l1_clusters):
            self._allocate()
        self._blocks_at = self._end
        for _ in range(block_clusters):
            self._allocate()

    def add(self, number: int, cluster: bytes) -> None:
        self._select(number)
        at = self._allocate()
        self._write(at, cluster)
        self._table[number % _TABLE_ENTRIES] = at | _COPIED

    def add_packed(self, number: int, packed: bytes) -> None:
        self._select(number)
        at = self._end
        sectors = ((at + len(packed) - 1) // qcow2.SECTOR_BYTES
                   - at // qcow2.SECTOR_BYTES)
        self._end += len(packed)
        self._write(at, packed)
        self._table[number % _TABLE_ENTRIES] = (
            qcow2.COMPRESSED | sectors << _SECTORS_SHIFT | at)
        # Compressed clusters share those of the file.
        for shared in range(at // CLUSTER,
                            (self._end - 1) // CLUSTER + 1):
            self._count(shared)

    def finish(self) -> None:
        self._end_table()
        at = self._allocate()
        self._blocks[self._block] = at
        self._write(at, _stored(self._counts))
        self._write(self._blocks_at, _stored(self._blocks))
        self._write(self._l1_at, _stored(self._l1))
        self._write(0, self._header())
        self._file.truncate(self._end)
        self._file.flush()

    def _header(self) -> bytes:
        blocks = math.ceil(8 * len(self._blocks) / CLUSTER)
        return qcow2.HEADER_2.pack(
            qcow2.MAGIC, 3, 0, 0, CLUSTER_BITS, self._capacity, 0,
            len(self._l1), self._l1_at, self._blocks_at, blocks, 0, 0
        ) + qcow2.HEADER_3.pack(
            0, 0, 0, _REFCOUNT_ORDER,
            qcow2.HEADER_2.size + qcow2.HEADER_3.size)

    def _select(self, number: int) -> None:
        """Go to the table of a cluster of the disk."""
        table = number // _TABLE_ENTRIES
        if table != self._table_number:
            self._end_table()
            self._table_number = table

    def _end_table(self) -> None:
        if any(self._table):
            at = self._allocate()
            self._l1[self._table_number] = at | _COPIED
            self._write(at, _stored(self._table))
            self._table = _numbers('Q', _TABLE_ENTRIES)

    def _allocate(self) -> int:
        at = -(-self._end // CLUSTER) * CLUSTER
        self._end = at + CLUSTER
        self._count(at // CLUSTER)
        return at

    def _count(self, cluster: int) -> None:
        """Add a reference to a cluster of the file; they come in order."""
        block, entry = divmod(cluster, _BLOCK_ENTRIES)
        full = None
        if block != self._block:
            full, self._counts = self._counts, _numbers('H', _BLOCK_ENTRIES)
            self._block = block
        self._counts[entry] += 1
        if full is not None:
            at = self._allocate()
            self._blocks[block - 1] = at
            self._write(at, _stored(full))

    def _write(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        self._file.write(data)


def _numbers(kind: str, count: int) -> 'array.array[int]':
    empty = array.array(kind)
    return array.array(kind, bytes(empty.itemsize * count))


def _stored(numbers: 'array.array[int]') -> bytes:
    if sys.byteorder == 'little':
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
