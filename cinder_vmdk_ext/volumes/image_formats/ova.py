# SPDX-License-Identifier: Apache-2.0
"""Finds the disk in an OVA: a tar archive of an OVF and then the disk.

The OVF names the disk's file; the formats are those of DMTF's DSP0243.
tarfile parses each header. After some headers it would also read data of any
size that the header claims; this module reads that data itself, with a limit.
"""

import posixpath
import tarfile
import unicodedata
import xml.parsers.expat
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple
from urllib import parse

from cinder_vmdk_ext.volumes.image_formats import descriptor
from cinder_vmdk_ext.volumes.image_formats import stream

BLOCK_BYTES = 512
# The OVFs of the largest appliances have a tenth of this.
MOST_OVF_BYTES = 1 << 20
# For the long names and records that precede a member.
MOST_HEADER_BYTES = 64 << 10
MOST_MEMBERS = 4096
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_HAS_NO_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE,
                tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_PIECE_BYTES = 64 << 10


class Member(NamedTuple):
    """A file in an archive; its data comes next in the source."""

    name: str
    size_bytes: int
    is_file: bool


class Named(NamedTuple):
    """The names of the first disk of an OVF."""

    names: frozenset[str]  # that it may have in the archive
    shown: str  # for messages


def looks_like_tar(head: bytes) -> bool:
    """Whether a file begins with the header of an archive's first member."""
    try:
        tarfile.TarInfo.frombuf(head[:BLOCK_BYTES], 'utf-8', 'replace')
    except tarfile.HeaderError:
        return False
    return True


def find_disk(source: stream.Peekable) -> tuple[int, Iterator[bytes]]:
    """Read an OVA up to the first disk that its OVF names.

    :returns: the size of the disk's file in bytes, and its data
    :raises FormatError: the OVA has no disk, or its disk cannot be read
    """
    wanted = None
    passed: set[str] = set()
    for member in _members(source):
        if member.is_file and wanted and member.name in wanted.names:
            return member.size_bytes, source.pieces(member.size_bytes)
        if member.is_file and _is_ovf(member.name):
            if wanted:
                raise stream.FormatError('the OVA holds two OVFs')
            wanted = _read_ovf(source, member)
            if passed & wanted.names:
                raise stream.FormatError(
                    f'the OVA holds its disk {wanted.shown} before its OVF',
                    'put the OVF first')
        elif not wanted and len(passed) < MOST_MEMBERS:
            passed.add(member.name)
        _pass_by(source, member, read=member.is_file
                 and _is_ovf(member.name))
    if wanted:
        raise stream.FormatError(
            f'the OVA holds no file {wanted.shown}, which its OVF names')
    raise stream.FormatError('the OVA holds no OVF')


def _is_ovf(name: str) -> bool:
    # macOS adds files to an archive whose names begin with "._".
    return (name.lower().endswith('.ovf')
            and not posixpath.basename(name).startswith('._'))


def _pass_by(source: stream.Peekable, member: Member, *, read: bool) -> None:
    padding = -member.size_bytes % BLOCK_BYTES
    left = padding if read else member.size_bytes + padding
    for _piece in source.pieces(left):
        pass


# -- The archive ------------------------------------------------------------


def _members(source: stream.Peekable) -> Iterator[Member]:
    """The members; the caller must read a member's data before the next."""
    name, size = None, None
    for count in range(2 * MOST_MEMBERS):
        block = source.peek(BLOCK_BYTES)
        if not count and len(block) < BLOCK_BYTES:
            raise stream.FormatError('it is not an OVA (not a tar archive)')
        block = source.take(BLOCK_BYTES)
        if not block.strip(b'\0'):
            return  # the end of the archive
        try:
            header = tarfile.TarInfo.frombuf(block, 'utf-8',
                                             'surrogateescape')
        except tarfile.HeaderError as error:
            raise stream.FormatError(
                'it is not an OVA (not a tar archive)' if not count else
                f'the OVA is damaged ({error})') from None
        if header.size < 0:
            raise stream.FormatError('the OVA is damaged (a negative size)')
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise stream.FormatError('the OVA is an archive with holes')
        if header.type in _EXTENDED + _LONG_NAMES:
            data = _header_data(source, header)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = data.rstrip(b'\0').decode('utf-8', 'surrogateescape')
            elif header.type in _EXTENDED:
                more = _records(data)
                name = more.get('path', name)
                size = _size(more['size']) if 'size' in more else size
            continue
        yield Member(
            _normal(header.name if name is None else name),
            0 if header.type in _HAS_NO_DATA else
            header.size if size is None else size, header.type in _REGULAR)
        name, size = None, None
    raise stream.FormatError(f'the OVA holds more than {MOST_MEMBERS} files')


def _header_data(source: stream.Peekable, header: tarfile.TarInfo) -> bytes:
    if header.size > MOST_HEADER_BYTES:
        raise stream.FormatError(
            f'the OVA has a header of {header.size} bytes')
    padded = header.size + -header.size % BLOCK_BYTES
    return source.take(padded)[:header.size]


def _records(data: bytes) -> dict[str, str]:
    """The records ("length name=value" and newline) of an extended header."""
    records = {}
    while data.strip(b'\0'):
        digits, space, _rest = data.partition(b' ')
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        record = data[len(digits) + 1:length]
        name, is_record, value = record.partition(b'=')
        if (not space or not is_record or not record.endswith(b'\n')
                or length > len(data)):
            raise stream.FormatError('the OVA is damaged (a header that '
                                     'cannot be read)')
        key = name.decode('utf-8', 'replace')
        if key.startswith('GNU.sparse'):
            raise stream.FormatError('the OVA is an archive with holes')
        records[key] = value[:-1].decode('utf-8', 'surrogateescape')
        data = data[length:]
    return records


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise stream.FormatError('the OVA is damaged (a size that is not '
                                 'a number)')
    return int(text)


def _normal(name: str) -> str:
    """A name in its normal form: without ``./``, and in Unicode's NFC."""
    return unicodedata.normalize('NFC', posixpath.normpath(name))


# -- The OVF ----------------------------------------------------------------


class _Ovf:
    """The files and disks that an OVF lists; the rest is not kept."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, str]] = {}
        self.disks: list[dict[str, str]] = []
        self._path: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(_local(name))
        if len(self._path) != 3 or self._path[0] != 'Envelope':
            return
        known = {_local(key): value for key, value in attributes.items()}
        if self._path[1:] == ['References', 'File']:
            self.files.setdefault(known.get('id', ''), known)
        elif self._path[1:] == ['DiskSection', 'Disk']:
            self.disks.append(known)

    def end(self, _name: str) -> None:
        self._path.pop()

    def first_disk(self) -> dict[str, str]:
        """The attributes of the file of the first disk that has a file.

        :raises FormatError: no disk has one, or the disk needs a parent disk,
            is compressed or is split into pieces
        """
        disk = next((disk for disk in self.disks if disk.get('fileRef')),
                    None)
        if disk is None:
            raise stream.FormatError('its OVF names no disk with a file')
        if disk.get('parentRef'):
            raise stream.FormatError("its OVF's first disk holds only changes "
                                     'to another disk',
                                     'export the whole disk')
        file = self.files.get(disk['fileRef'])
        if file is None or not file.get('href'):
            raise stream.FormatError(
                "its OVF's first disk is in the file "
                f'{descriptor.shown(disk["fileRef"])}, which it does not '
                'list')
        if file.get('compression') not in (None, '', 'identity'):
            raise stream.FormatError(
                'the OVA holds its disk compressed as '
                f'{descriptor.shown(file["compression"])}', 'decompress it')
        if file.get('chunkSize'):
            raise stream.FormatError('the OVA holds its disk in pieces',
                                     'join them')
        return file


def _local(name: str) -> str:
    return name.rpartition(' ')[2]


def _refuse_entities(*_ignored: Any) -> None:
    raise stream.FormatError('its OVF has a document type declaration, which '
                             'is not accepted')


def _read_ovf(source: stream.Peekable, member: Member) -> Named:
    if member.size_bytes > MOST_OVF_BYTES:
        raise stream.FormatError(
            f'its OVF has {member.size_bytes} bytes, more than '
            f'{MOST_OVF_BYTES}')
    found = _Ovf()
    # Expat builds no tree; it is stopped before it could expand entities.
    parser = xml.parsers.expat.ParserCreate(namespace_separator=' ')
    parser.StartElementHandler = found.start
    parser.EndElementHandler = found.end
    parser.StartDoctypeDeclHandler = _refuse_entities
    try:
        for piece in source.pieces(member.size_bytes):
            parser.Parse(piece, False)
        parser.Parse(b'', True)
    except (xml.parsers.expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, stream.FormatError):
            raise
        raise stream.FormatError(
            f'its OVF cannot be read ({error})') from None
    href = found.first_disk()['href']
    folder = posixpath.dirname(member.name)
    return Named(frozenset(_inside(folder, each)
                           for each in (href, parse.unquote(href))),
                 descriptor.shown(href))


def _inside(folder: str, href: str) -> str:
    """The name that a file has in the archive.

    :raises FormatError: the file is outside of the archive
    """
    name = _normal(posixpath.join(folder, href))
    if '://' in href or name == '..' or name.startswith(('/', '../')):
        raise stream.FormatError(
            f"its OVF's first disk is outside of the OVA: "
            f'{descriptor.shown(href)}')
    return name
