# SPDX-License-Identifier: Apache-2.0
"""Reads the descriptor in a VMDK, as common tools write it.

The format is that of VMware's "Virtual Disk Format 5.0". The line
``encoding=`` names the encoding: UTF-8, windows-1252, GBK, Shift_JIS ... In
none of them does the second byte of a character equal one of ``/ " = #``, a
space or an end of line. So the descriptor can be parsed without decoding it.
"""

import re
from typing import NamedTuple

from cinder_vmdk_ext.volumes.image_formats import stream

MAGIC = b'# Disk DescriptorFile'
# The limit of QEMU and oslo.utils too: no reader accepts a longer one.
MOST_BYTES = (1 << 20) - 1
_EXTENT = re.compile(
    rb'(RW|RDONLY|NOACCESS)[ \t]+(\d{1,19})[ \t]+(\w+)(?:[ \t]+(.*))?',
    re.IGNORECASE)
_FIELD = re.compile(rb'([A-Za-z][\w.\-]*)[ \t]*=[ \t]*(.*)')
_NO_PARENT = 'ffffffff'
# Fields that name another file. A copy of such a disk would contain that
# file's content, or depend on the file.
_OTHER_FILES = ('parentfilenamehint', 'changetrackpath')
# Fields by which a reader decides what kind of disk it is.
_DECIDING = ('createtype', 'parentcid', *_OTHER_FILES)
_LONGEST_SHOWN = 60
_TO_ASCII = bytes(each if each < 128 else ord('?') for each in range(256))


class Extent(NamedTuple):
    """A line of the extent description."""

    sectors: int
    kind: str  # in upper case
    rest: bytes


class Descriptor(NamedTuple):
    """A parsed descriptor; names of fields are in lower case."""

    fields: dict[str, str]
    extents: tuple[Extent, ...]
    # The same in ASCII, without needless spaces, for stricter readers.
    ascii: bytes

    @property
    def create_type(self) -> str:
        return self.fields.get('createtype', '')


def parse(data: bytes) -> Descriptor:
    """Read a descriptor, up to its first NUL.

    :raises FormatError: it is not a descriptor, or a field that decides the
        disk's kind has two values
    """
    text = data.partition(b'\0')[0]
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(b'#')]
    fields: dict[str, str] = {}
    extents, plain = [], []
    for line in lines:
        extent, field = _EXTENT.fullmatch(line), _FIELD.fullmatch(line)
        if extent:
            extents.append(Extent(int(extent[2]), extent[3].decode().upper(),
                                  extent[4] or b''))
            plain.append(b' '.join(filter(None, extent.groups())))
        elif field:
            _add(fields, field[1].decode().lower(), field[2])
            value = b'"' + field[2].strip(b'"') + b'"' if (
                field[1].lower() == b'createtype') else field[2]
            plain.append(field[1] + b'=' + value)
        else:
            raise stream.FormatError(
                f'its descriptor has an unknown line, {shown(line)}')
    return Descriptor(fields, tuple(extents),
                      b'\n'.join(plain).translate(_TO_ASCII))


def _add(fields: dict[str, str], name: str, value: bytes) -> None:
    text = value.strip().strip(b'"').decode('latin-1')
    if name in _DECIDING and fields.get(name, text) != text:
        raise stream.FormatError(
            f'its descriptor has two values of {name}, {fields[name]!r} and '
            f'{text!r}')
    fields[name] = text


def shown(value: bytes | str) -> str:
    """A tenant's text for a message: shortened, and in ASCII."""
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'backslashreplace')
    if len(value) > _LONGEST_SHOWN:
        value = value[:_LONGEST_SHOWN] + '...'
    return ascii(value)


def check_stands_alone(descriptor: Descriptor) -> None:
    """:raises FormatError: the disk needs or names other files"""
    fields = descriptor.fields
    if (fields.get('parentcid', _NO_PARENT).lower() != _NO_PARENT
            or fields.get('parentfilenamehint')):
        raise stream.FormatError('it holds only changes to another disk',
                                 'export the whole disk')
    for name in _OTHER_FILES:
        if fields.get(name):
            raise stream.FormatError(
                f'its descriptor names another file ({name} '
                f'{shown(fields[name])})')
    if len(descriptor.extents) != 1:
        raise stream.FormatError(
            f'its descriptor names {len(descriptor.extents)} extents, but '
            'the file holds one')
    extent, = descriptor.extents
    if extent.kind != 'SPARSE' or b'/' in extent.rest:
        raise stream.FormatError(
            'its descriptor names another extent than the file holds '
            f'({extent.kind} {shown(extent.rest)})')
