# SPDX-License-Identifier: Apache-2.0
"""Converts a disk's content to a streamOptimized VMDK and back, in passing.

Content is an iterator of pieces: an offset in bytes and the data there. The
offsets ascend, and what no piece covers is zeros. Neither direction holds
more than a grain of 64 KiB and the tables of the disk, so a disk of any size
needs no file. The format is that of VMware's "Virtual Disk Format 5.0"; the
layout is that of vSphere's exports.
"""

import array
import math
import sys
import zlib
from collections.abc import Iterable
from collections.abc import Iterator

from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import vmdk

# An offset in bytes, and the data there.
Piece = tuple[int, bytes]

GRAIN_BYTES = 64 << 10
_SECTOR = vmdk.SECTOR_BYTES
_GRAIN_SECTORS = GRAIN_BYTES // _SECTOR
_OVERHEAD_SECTORS = 128
_VERSION = 3
_ZEROS = bytes(GRAIN_BYTES)
# Fast; the vCenter unpacks the grains as they arrive.
_LEVEL = 1
# Small grains are sent together.
_SEND_BYTES = 256 << 10
_DESCRIPTOR = '''\
# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY {sectors} SPARSE "generated-stream.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "7"
'''


# -- Content to VMDK --------------------------------------------------------


def write(pieces: Iterable[Piece], capacity_bytes: int) -> Iterator[bytes]:
    """Make a streamOptimized VMDK of a disk's content.

    :param capacity_bytes: of the disk: a multiple of 512, and at least as
        large as the content
    """
    writer = _VmdkWriter(capacity_bytes // _SECTOR)
    out = bytearray(writer.head())
    for number, grain in grains(pieces):
        out += writer.grain(number, grain)
        if len(out) >= _SEND_BYTES:
            yield bytes(out)
            out.clear()
    yield bytes(out + writer.end())


def grains(pieces: Iterable[Piece],
           size_bytes: int = GRAIN_BYTES) -> Iterator[tuple[int, bytes]]:
    """The whole grains that are not zeros, by their numbers.

    :param size_bytes: of a grain
    """
    zeros = _ZEROS if size_bytes == GRAIN_BYTES else bytes(size_bytes)
    number, grain = -1, bytearray()
    for offset, data in pieces:
        view = memoryview(data)
        while view:
            at, within = divmod(offset, size_bytes)
            if at != number:
                if grain and grain != zeros:
                    yield number, bytes(grain)
                number, grain = at, bytearray()
            part = view[:size_bytes - within]
            if len(part) == size_bytes:
                grain = bytearray(part)
            else:
                grain = grain or bytearray(size_bytes)
                grain[within:within + len(part)] = part
            offset += len(part)
            view = view[len(part):]
    if grain and grain != zeros:
        yield number, bytes(grain)


class _VmdkWriter:
    """The parts of a VMDK in their order; each method returns bytes."""

    def __init__(self, sectors: int) -> None:
        self._sectors = sectors
        self._at = 0  # sectors that were returned
        self._directory = array.array('I', bytes(4 * math.ceil(
            sectors / (_GRAIN_SECTORS * vmdk.TABLE_ENTRIES))))
        self._table = _numbers(vmdk.TABLE_ENTRIES)
        self._table_number = 0

    def head(self) -> bytes:
        text = _DESCRIPTOR.format(
            sectors=self._sectors,
            cylinders=max(self._sectors // (255 * 63), 1)).encode()
        self._descriptor_sectors = math.ceil(len(text) / _SECTOR)
        return self._counted((self._header(vmdk.AT_END) + text).ljust(
            _OVERHEAD_SECTORS * _SECTOR, b'\0'))

    def grain(self, number: int, content: bytes) -> bytes:
        table, entry = divmod(number, vmdk.TABLE_ENTRIES)
        out = b''
        if table != self._table_number:
            out = self._end_table()
            self._table_number = table
        self._table[entry] = self._at
        packed = zlib.compress(content, _LEVEL)
        return out + self._counted(vmdk.GRAIN_HEAD.pack(
            number * _GRAIN_SECTORS, len(packed)) + packed)

    def end(self) -> bytes:
        out = self._end_table()
        directory = _stored(self._directory)
        out += self._marker(math.ceil(len(directory) / _SECTOR),
                            vmdk.GRAIN_DIRECTORY)
        directory_at = self._at
        out += self._counted(directory)
        return (out + self._marker(1, vmdk.FOOTER)
                + self._counted(self._header(directory_at))
                + self._marker(0, vmdk.END_OF_STREAM))

    def _end_table(self) -> bytes:
        if not any(self._table):
            return b''
        data = _stored(self._table)
        out = self._marker(len(data) // _SECTOR, vmdk.GRAIN_TABLE)
        self._directory[self._table_number] = self._at
        self._table = _numbers(vmdk.TABLE_ENTRIES)
        return out + self._counted(data)

    def _header(self, directory_at: int) -> bytes:
        return vmdk.HEADER.pack(*vmdk.Header(
            magic=vmdk.MAGIC, version=_VERSION,
            flags=vmdk.HAS_NEWLINES | vmdk.COMPRESSED | vmdk.MARKERS,
            capacity=self._sectors, grain=_GRAIN_SECTORS, descriptor_at=1,
            descriptor_size=self._descriptor_sectors,
            table_entries=vmdk.TABLE_ENTRIES, redundant_at=0,
            directory_at=directory_at, overhead=_OVERHEAD_SECTORS, unclean=0,
            newlines=vmdk.NEWLINES, compression=vmdk.DEFLATE)).ljust(
                _SECTOR, b'\0')

    def _marker(self, sectors: int, kind: int) -> bytes:
        return self._counted(vmdk.MARKER_HEAD.pack(sectors, 0, kind))

    def _counted(self, data: bytes) -> bytes:
        """The data, filled up to whole sectors."""
        data += bytes(-len(data) % _SECTOR)
        self._at += len(data) // _SECTOR
        return data


def _numbers(count: int) -> 'array.array[int]':
    return array.array('I', bytes(4 * count))


def _stored(numbers: 'array.array[int]') -> bytes:
    if sys.byteorder == 'big':
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


# -- VMDK to content --------------------------------------------------------


def read(chunks: Iterable[bytes]) -> tuple[int, Iterator[Piece]]:
    """Read a streamOptimized VMDK as it arrives, up to its last byte.

    :returns: the disk's capacity in bytes, and its content
    :raises FormatError: it is another kind of file, or (while iterating) it
        is cut off, damaged, or its grains are not in the order of the disk
    """
    source = stream.Peekable(chunks)
    header = vmdk.read_header(source.take(_SECTOR))
    if not header.is_stream:
        raise stream.FormatError('it is not a streamOptimized VMDK')
    return header.capacity * _SECTOR, _content(source, header)


def _content(source: stream.Peekable, header: vmdk.Header) -> Iterator[Piece]:
    _skip(source, header.overhead - 1)
    end = 0
    while True:
        sector = source.take(_SECTOR)
        value, size, kind = vmdk.MARKER_HEAD.unpack_from(sector)
        if not size:
            if kind == vmdk.END_OF_STREAM:
                break
            if kind not in (vmdk.GRAIN_TABLE, vmdk.GRAIN_DIRECTORY,
                            vmdk.FOOTER):
                raise stream.FormatError(
                    f'it has a marker of unknown type {kind}')
            _skip(source, value)
            continue
        if value < end:
            raise stream.FormatError(
                f'its grain for sector {value} comes too late, so that it '
                'cannot be read in passing')
        more = vmdk.sectors_of_grain(header, value, size) - 1
        packed = sector[vmdk.GRAIN_HEAD.size:] + source.take(more * _SECTOR)
        data = vmdk.unpacked(header, value, packed[:size])
        end = value + header.grain
        room = (header.capacity - value) * _SECTOR
        yield value * _SECTOR, data[:room]
    for _rest in source:
        pass


def _skip(source: stream.Peekable, sectors: int) -> None:
    for _piece in source.pieces(sectors * _SECTOR):
        pass


def flat(pieces: Iterable[Piece], size_bytes: int,
         most_bytes: int = 1 << 20) -> Iterator[bytes]:
    """All bytes of a disk, in chunks.

    :param size_bytes: of the disk
    :param most_bytes: of a chunk of zeros
    """
    at = 0
    zeros = bytes(most_bytes)
    for offset, data in pieces:
        yield from _zeros(zeros, offset - at)
        yield data
        at = offset + len(data)
    yield from _zeros(zeros, size_bytes - at)


def _zeros(zeros: bytes, count: int) -> Iterator[bytes]:
    while count > 0:
        yield zeros[:count]
        count -= len(zeros)
