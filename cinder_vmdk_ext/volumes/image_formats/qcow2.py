# SPDX-License-Identifier: Apache-2.0
"""Reads a qcow2 image from a file, without other files.

The format is that of QEMU's docs/interop/qcow2.txt. An image of version 2 or
3 is read, with clusters that zlib compressed; its internal snapshots are not.
One that needs another file is refused, and so are features that oslo.utils,
by which Cinder and Glance check images, does not know. A table and a cluster
of at most 2 MiB each are held in memory. What is read is at most as large as
the file: tables that name the same bytes again and again are refused.
"""

import io
import math
import struct
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import BinaryIO
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector

from cinder_vmdk_ext.volumes.image_formats import foreign
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

MAGIC = b'QFI\xfb'
#: The header with the fields of version 2, and those that version 3 adds.
HEADER_2 = struct.Struct('>4sIQIIQIIQQIIQ')
HEADER_3 = struct.Struct('>QQQII')
OFFSET_MASK = (1 << 56) - 1 & ~511
COMPRESSED = 1 << 62
IS_ZERO = 1
SECTOR_BYTES = 512
_HEAD_BYTES = 512
_SMALLEST_CLUSTER_BITS, _LARGEST_CLUSTER_BITS = 9, 21
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED = range(5)
_CONVERT = 'convert it to one that stands alone (qemu-img convert)'
_CHECK = 'check it (qemu-img check), and upload a sound one'
# What the bits of incompatible features mean, and what helps.
_REFUSED = {
    _CORRUPT: ('is marked as corrupt', 'repair it (qemu-img check -r all)'),
    _DATA_FILE: ('keeps its content in another file (data-file)', _CONVERT),
    _COMPRESSION: ('is compressed by another method than zlib', 'convert it '
                   '(qemu-img convert -o compression_type=zlib)'),
    _EXTENDED: ('has subclusters', 'convert it (qemu-img convert -o '
                'extended_l2=off)'),
}
_ENTRIES_AT_ONCE = 4096


class Qcow2(NamedTuple):
    """An image whose header is sound, and its content.

    The iterator raises FormatError where the data is unsound.
    """

    capacity_bytes: int
    pieces: Iterator[stream_vmdk.Piece]


class _Layout(NamedTuple):
    """What the header says; sizes and offsets are in bytes."""

    capacity: int
    cluster: int
    l1_at: int
    l1_entries: int
    has_zero_flag: bool

    @property
    def table_covers(self) -> int:
        return self.cluster // 8 * self.cluster

    @property
    def tables(self) -> int:
        return math.ceil(self.capacity / self.table_covers)


def check_header(head: bytes, most_bytes: int | None = None) -> None:
    """Check what the beginning of an image says.

    :param head: the first bytes, foreign.HEAD_BYTES if there are so many
    :param most_bytes: the largest capacity that is allowed; None: no limit
    :raises FormatError: it is not a qcow2 image, needs another file, has
        unknown features, or is too large
    """
    layout = _layout(head)
    stream.check_capacity(layout.capacity, most_bytes)
    if (layout.l1_entries < layout.tables or not layout.l1_at
            or layout.l1_at % layout.cluster):
        raise stream.FormatError('the qcow2 image has no table for its size',
                                 _CHECK)
    _inspect(head)


def open_qcow2(file: BinaryIO, most_bytes: int | None = None,
               check: Callable[[], None] = lambda: None) -> Qcow2:
    """Check an image's header.

    :param file: open for reading; it is read while the content is iterated
    :param most_bytes: see :func:`check_header`
    :param check: is called for each table of the image; it may raise an error
    :raises FormatError: see :func:`check_header`
    """
    file.seek(0)
    head = file.read(foreign.HEAD_BYTES)
    check_header(head, most_bytes)
    layout = _layout(head)
    return Qcow2(layout.capacity, _content(_Source(file), layout, check))


def _layout(head: bytes) -> _Layout:
    if not head.startswith(MAGIC):
        raise stream.FormatError(
            'it is not a qcow2 image but '
            + (foreign.name_of(head) or 'another file, or a raw disk'),
            'correct its disk_format')
    head = head.ljust(HEADER_2.size + HEADER_3.size + 8, b'\0')
    (_, version, backing_at, backing_size, cluster_bits, capacity, crypt,
     l1_size, l1_at, _, _, _, _) = HEADER_2.unpack_from(head)
    features = HEADER_3.unpack_from(head, HEADER_2.size)[0] \
        if version == 3 else 0
    problem, remedy = None, _CHECK
    if version not in (2, 3):
        problem = f'has version {version}'
    elif backing_at or backing_size:
        problem = 'holds only changes to another image (a backing file)'
        remedy = _CONVERT
    elif crypt:
        problem, remedy = 'is encrypted', 'decrypt it (qemu-img convert)'
    elif not (_SMALLEST_CLUSTER_BITS <= cluster_bits
              <= _LARGEST_CLUSTER_BITS):
        problem = f'has clusters of 2^{cluster_bits} bytes'
    elif not capacity or capacity % SECTOR_BYTES:
        problem = f'says that the disk holds {capacity} bytes'
    elif features >> (_EXTENDED + 1):
        problem = f'has features that are unknown here ({features:#x})'
        remedy = _CONVERT
    else:
        problem, remedy = next(
            (why for bit, why in _REFUSED.items() if features >> bit & 1),
            (None, ''))
    if problem:
        raise stream.FormatError(f'the qcow2 image {problem}', remedy)
    return _Layout(capacity, 1 << cluster_bits, l1_at, l1_size, version == 3)


def _inspect(head: bytes) -> None:
    """Have oslo.utils check it too, as Cinder does."""
    inspector = format_inspector.QcowInspector()
    try:
        inspector.eat_chunk(head[:_HEAD_BYTES])
        inspector.finish()
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        raise stream.FormatError(', '.join(
            str(each) for each in error.failures.values()),
            _CONVERT) from error
    except (format_inspector.SafetyViolation,
            format_inspector.ImageFormatError) as error:
        raise stream.FormatError(str(error), _CHECK) from error


class _Source:
    """A file of which each byte is read about once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = self._left = file.seek(0, io.SEEK_END)

    def read(self, at: int, count: int) -> bytes:
        """:raises FormatError: the file ends before"""
        if at + count > self._size:
            raise stream.FormatError(stream.CUT)
        self.spend(count)
        self._file.seek(at)
        return self._file.read(count)

    def peek(self, at: int, count: int) -> bytes:
        """The same, of which only a part may be used; see :meth:`spend`."""
        self._file.seek(min(at, self._size))
        return self._file.read(count)

    def spend(self, count: int) -> None:
        """Count bytes that are used.

        :raises FormatError: more than the file has, so some are used twice
        """
        self._left -= count
        if self._left < 0:
            raise stream.FormatError(
                'the qcow2 image names the same data for several places of '
                'the disk', _CHECK)


def _damaged(what: str) -> stream.FormatError:
    return stream.FormatError(f'the qcow2 image is damaged ({what})', _CHECK)


# -- Content ----------------------------------------------------------------


def _content(source: _Source, layout: _Layout,
             check: Callable[[], None]) -> Iterator[stream_vmdk.Piece]:
    empty = bytes(layout.cluster)
    for number, l1_entry in enumerate(_l1(source, layout)):
        check()
        table_at = l1_entry & OFFSET_MASK
        if not table_at:
            continue
        _check_aligned(table_at, layout.cluster)
        table = source.read(table_at, layout.cluster)
        if table != empty:
            yield from _table(source, layout, number * layout.table_covers,
                              table)


def _l1(source: _Source, layout: _Layout) -> Iterator[int]:
    for first in range(0, layout.tables, _ENTRIES_AT_ONCE):
        count = min(layout.tables - first, _ENTRIES_AT_ONCE)
        yield from struct.unpack(f'>{count}Q', source.read(
            layout.l1_at + 8 * first, 8 * count))


def _table(source: _Source, layout: _Layout, offset: int,
           table: bytes) -> Iterator[stream_vmdk.Piece]:
    """The content below one L2 table.

    :param offset: where on the disk its first cluster is
    """
    for entry in struct.unpack(f'>{len(table) // 8}Q', table):
        count = min(layout.cluster, layout.capacity - offset)
        if count <= 0:
            return
        if entry & COMPRESSED:
            yield offset, _unpacked(source, layout, entry)[:count]
        elif entry & IS_ZERO:
            # Where QEMU finds one in version 2, it reports damage too.
            if not layout.has_zero_flag:
                raise _damaged(f'an entry {entry:#x}')
        elif entry & OFFSET_MASK:
            yield offset, source.read(_cluster_at(layout, entry), count)
        offset += layout.cluster


def _cluster_at(layout: _Layout, entry: int) -> int:
    at = entry & OFFSET_MASK
    _check_aligned(at, layout.cluster)
    return at


def _check_aligned(at: int, cluster: int) -> None:
    if at % cluster or not at:
        raise _damaged(f'a cluster at {at}')


def _unpacked(source: _Source, layout: _Layout, entry: int) -> bytes:
    shift = 62 - (layout.cluster.bit_length() - 1 - 8)
    at = entry & ((1 << shift) - 1)
    sectors = (entry & (COMPRESSED - 1)) >> shift
    packed = source.peek(at, (sectors + 1) * SECTOR_BYTES
                         - at % SECTOR_BYTES)
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpack.decompress(packed, layout.cluster)
    except zlib.error as error:
        raise _damaged(f'a cluster at {at}: {error}') from None
    if len(data) < layout.cluster:
        raise _damaged(f'a cluster at {at} that is not whole')
    source.spend(len(packed) - len(unpack.unconsumed_tail)
                 - len(unpack.unused_data))
    return data
