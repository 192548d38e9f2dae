# SPDX-License-Identifier: Apache-2.0
"""Checks single-file VMDKs: streamOptimized (exports) and monolithicSparse.

The format is that of the hosted sparse extents in VMware's "Virtual Disk
Format 5.0". oslo.utils' inspector checks the data too. It gets the descriptor
in ASCII, the only encoding that it reads.
"""

import array
import contextlib
import math
import struct
import sys
import zlib
from collections.abc import Generator
from collections.abc import Iterator
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector

from cinder_vmdk_ext.volumes.image_formats import descriptor
from cinder_vmdk_ext.volumes.image_formats import stream

MAGIC = b'KDMV'
STREAM_OPTIMIZED = 'streamOptimized'
MONOLITHIC_SPARSE = 'monolithicSparse'
SECTOR_BYTES = 512
AT_END = (1 << 64) - 1
TABLE_ENTRIES = 512
_TABLE_BYTES = 4 * TABLE_ENTRIES
# That of a disk of 128 TiB with grains of the usual 64 KiB.
_MOST_DIRECTORY_BYTES = 16 << 20
_SMALLEST_GRAIN, _LARGEST_GRAIN = 8, 4096  # sectors
_VERSIONS = (1, 2, 3)
HAS_NEWLINES, COMPRESSED, MARKERS = 1, 1 << 16, 1 << 17
DEFLATE = 1
NEWLINES = b'\n \r\n'
GRAIN_HEAD, MARKER_HEAD = struct.Struct('<QI'), struct.Struct('<QII')
END_OF_STREAM, GRAIN_TABLE, GRAIN_DIRECTORY, FOOTER = range(4)


class Header(NamedTuple):
    """The first sector; offsets and sizes are in sectors."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_size: int
    table_entries: int
    redundant_at: int
    directory_at: int
    overhead: int
    unclean: int
    newlines: bytes
    compression: int

    @property
    def is_stream(self) -> bool:
        return bool(self.flags & (COMPRESSED | MARKERS))

    @property
    def tables(self) -> int:
        return math.ceil(math.ceil(self.capacity / self.grain)
                         / TABLE_ENTRIES)

    @property
    def head_bytes(self) -> int:
        """Number of bytes up to the end of the descriptor."""
        return (self.descriptor_at + self.descriptor_size) * SECTOR_BYTES


HEADER = struct.Struct('<4sIIQQQQIQQQB4sH')


class Vmdk(NamedTuple):
    """A VMDK whose beginning is sound, and its data.

    The iterator raises FormatError as soon as it finds the data unsound, at
    the latest before the last chunk.
    """

    create_type: str
    capacity_bytes: int
    chunks: Iterator[bytes]


def open_vmdk(source: stream.Peekable,
              most_bytes: int | None = None) -> Vmdk:
    """Check a VMDK's header and descriptor.

    :param most_bytes: the largest capacity that is allowed; None: no limit
    :raises FormatError: the data is not a VMDK in one file, needs another
        file, or is too large
    """
    sector = source.peek(SECTOR_BYTES)
    if len(sector) < SECTOR_BYTES:
        raise stream.FormatError(stream.CUT)
    header = read_header(sector)
    head = source.peek(header.head_bytes)
    if len(head) < header.head_bytes:
        raise stream.FormatError(stream.CUT)
    text = descriptor.parse(head[SECTOR_BYTES:])
    kind = STREAM_OPTIMIZED if header.is_stream else MONOLITHIC_SPARSE
    if text.create_type.lower() != kind.lower():
        raise stream.FormatError(
            f'its descriptor says createType '
            f'{descriptor.shown(text.create_type)}, but its header is that of '
            f'a {kind} disk')
    descriptor.check_stands_alone(text)
    extent, = text.extents
    # A receiver may use either of the two, so the larger one counts.
    capacity = max(extent.sectors, header.capacity) * SECTOR_BYTES
    stream.check_capacity(capacity, most_bytes)
    # One of them may be rounded up to whole grains.
    if abs(extent.sectors - header.capacity) >= header.grain:
        raise stream.FormatError(
            f'its header says that it holds {header.capacity} sectors, but '
            f'its descriptor says {extent.sectors}')
    inspector = format_inspector.VMDKInspector()
    with _judged():
        inspector.eat_chunk(_for_inspector(head, text.ascii))
        inspector.check_descriptor()
    return Vmdk(kind, capacity, _checked(source, header, inspector))


def read_header(sector: bytes) -> Header:
    header = Header._make(HEADER.unpack_from(sector))
    if header.magic != MAGIC:
        raise stream.FormatError('it is not a VMDK')
    problem = None
    if header.version not in _VERSIONS:
        problem = f'has version {header.version}'
    elif header.flags & HAS_NEWLINES and header.newlines != NEWLINES:
        problem = 'was changed by a transfer in text mode'
    elif not (_SMALLEST_GRAIN <= header.grain <= _LARGEST_GRAIN
              and header.grain & (header.grain - 1) == 0):
        problem = f'has grains of {header.grain} sectors'
    elif header.table_entries != TABLE_ENTRIES:
        problem = f'has grain tables of {header.table_entries} entries'
    elif not header.capacity or header.tables * 4 > _MOST_DIRECTORY_BYTES:
        problem = f'says that the disk holds {header.capacity} sectors'
    elif header.is_stream and (
            not header.flags & COMPRESSED or not header.flags & MARKERS
            or header.compression != DEFLATE):
        problem = 'does not say how its grains are compressed'
    elif not (header.descriptor_at == 1 and 0 < header.descriptor_size
              * SECTOR_BYTES <= descriptor.MOST_BYTES):
        problem = 'has no descriptor after it'
    if problem:
        raise stream.FormatError(f'its header {problem}')
    return header


def _checked(source: stream.Peekable, header: Header,
             inspector: format_inspector.VMDKInspector) -> Iterator[bytes]:
    """The data, checked as it passes; the last chunk follows the last check.

    :param inspector: that of oslo.utils, which has read the head
    """
    walker = stream.Walker(_walk(header))
    last = source.take(header.head_bytes)
    walker.feed(last)
    for chunk in source:
        with _judged():
            inspector.eat_chunk(chunk)
        walker.feed(chunk)
        yield last
        last = chunk
    walker.finish()
    with _judged():
        inspector.finish()
        inspector.safety_check()
    yield last


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """Turn an error of oslo.utils' inspector into a FormatError."""
    try:
        yield
    except format_inspector.SafetyCheckFailed as error:
        raise stream.FormatError('; '.join(
            str(each) for each in error.failures.values())) from error
    except (format_inspector.SafetyViolation,
            format_inspector.ImageFormatError) as error:
        raise stream.FormatError(str(error)) from error


def _for_inspector(head: bytes, ascii_descriptor: bytes) -> bytes:
    """The head, with the descriptor replaced by its ASCII form."""
    room = len(head) - SECTOR_BYTES
    if len(ascii_descriptor) > room:
        raise stream.FormatError('its descriptor is too long')
    return head[:SECTOR_BYTES] + ascii_descriptor.ljust(room, b'\0')


# -- Walks: the checks of the data while it passes --------------------------


def _walk(header: Header) -> stream.Walk:
    yield from stream.skip(header.head_bytes)
    if header.is_stream:
        yield from _walk_stream(header)
    else:
        _at, needed = yield from _walk_tables(header)
        if needed > _at:
            yield from stream.skip((needed - _at) * SECTOR_BYTES)


def _walk_tables(header: Header) -> Generator[int, bytes, tuple[int, int]]:
    """Read the grain tables that follow the present position.

    :returns: the number of the sector after the tables, and the number of
        sectors that the data must have
    """
    at = header.head_bytes // SECTOR_BYTES
    if header.directory_at < at:
        raise stream.FormatError('its grain directory lies within its header')
    yield from stream.skip((header.directory_at - at) * SECTOR_BYTES)
    size = math.ceil(header.tables * 4 / SECTOR_BYTES)
    directory = _numbers((yield from stream.take(size * SECTOR_BYTES)))
    at = header.directory_at + size
    needed = 0
    # The last grain of the disk may be shorter than the others.
    last_table, last_entry = divmod(
        math.ceil(header.capacity / header.grain) - 1, TABLE_ENTRIES)
    rest = header.capacity % header.grain or header.grain
    tables = sorted((sector, number) for number, sector
                    in enumerate(directory[:header.tables]) if sector)
    for sector, number in tables:
        if sector < at:
            continue  # already passed: the vCenter, which can seek, checks it
        yield from stream.skip((sector - at) * SECTOR_BYTES)
        table = _numbers((yield from stream.take(_TABLE_BYTES)))
        at = sector + _TABLE_BYTES // SECTOR_BYTES
        if number == last_table:
            if table[last_entry] > 1:
                needed = max(needed, table[last_entry] + (
                    1 if header.is_stream else rest))
            table = table[:last_entry]
        if table and max(table) > 1:
            needed = max(needed, max(table) + (
                1 if header.is_stream else header.grain))
    return at, needed


def _numbers(data: bytes) -> 'array.array[int]':
    numbers = array.array('I', data)
    if sys.byteorder == 'big':
        numbers.byteswap()
    return numbers


def _walk_stream(header: Header) -> stream.Walk:
    """Check the grains up to the end marker; or to the end of the data."""
    at, needed = header.head_bytes // SECTOR_BYTES, 0
    tables_first = header.directory_at != AT_END
    if tables_first:
        at, needed = yield from _walk_tables(header)
    if header.overhead < at:
        raise stream.FormatError('its header says that its data begins '
                                 f'at sector {header.overhead}')
    yield from stream.skip((header.overhead - at) * SECTOR_BYTES)
    at = header.overhead
    while True:
        sector = yield SECTOR_BYTES
        if not sector and tables_first:
            break  # qemu-img writes no end marker after a full grain
        if len(sector) < SECTOR_BYTES:
            raise stream.FormatError(stream.CUT)
        value, size, kind = MARKER_HEAD.unpack_from(sector)
        if size:
            at += yield from _walk_grain(header, sector, value, size)
        elif kind == END_OF_STREAM:
            break
        elif kind not in (GRAIN_TABLE, GRAIN_DIRECTORY, FOOTER):
            raise stream.FormatError(f'it has a marker of unknown type {kind}')
        else:
            yield from stream.skip(value * SECTOR_BYTES)
            at += 1 + value
    if at < needed:
        raise stream.FormatError(stream.CUT)


def _walk_grain(header: Header, sector: bytes, lba: int,
                size: int) -> Generator[int, bytes, int]:
    """Check that a grain decompresses, to no more than a grain's size.

    :returns: how many sectors the grain takes in the file
    """
    sectors = sectors_of_grain(header, lba, size)
    packed = sector[GRAIN_HEAD.size:]
    if sectors > 1:
        packed += yield from stream.take((sectors - 1) * SECTOR_BYTES)
    unpacked(header, lba, packed[:size])
    return sectors


def sectors_of_grain(header: Header, lba: int, size: int) -> int:
    """How many sectors a compressed grain takes in the file.

    :param size: of the compressed grain, in bytes
    :raises FormatError: the disk cannot have such a grain
    """
    if (lba >= header.capacity or lba % header.grain
            or size > 2 * header.grain * SECTOR_BYTES):
        raise stream.FormatError(
            f'it has a grain of {size} bytes for sector {lba}, which is '
            'impossible')
    return math.ceil((GRAIN_HEAD.size + size) / SECTOR_BYTES)


def unpacked(header: Header, lba: int, packed: bytes) -> bytes:
    """The content of a compressed grain.

    :param lba: the grain's first sector on the disk
    :raises FormatError: it does not decompress, or to more than a grain's size
    """
    grain = header.grain * SECTOR_BYTES
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(packed, grain + 1)
    except zlib.error as error:
        raise stream.FormatError(
            f'its grain for sector {lba} is damaged ({error})') from None
    if not unpack.eof or len(data) > grain:
        raise stream.FormatError(f'its grain for sector {lba} is damaged')
    return data
