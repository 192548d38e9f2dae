# SPDX-License-Identifier: Apache-2.0
"""The text in a VMDK that describes it, as the world writes it.

After VMware's "Virtual Disk Format 5.0". Its encoding is what its line
``encoding=`` says: UTF-8, windows-1252, GBK, Shift_JIS ... In none of them
does a character's second byte look like one of ``/ " = #``, a space or an end
of line, so that it can be read without being decoded.
"""

import re
from typing import NamedTuple

from cinder_vmdk_ext.volumes.image_formats import stream

MAGIC = b'# Disk DescriptorFile'
# As large as any reader takes: QEMU and oslo.utils have the same bound.
MOST_BYTES = (1 << 20) - 1
_EXTENT = re.compile(
    rb'(RW|RDONLY|NOACCESS)[ \t]+(\d{1,19})[ \t]+(\w+)(?:[ \t]+(.*))?',
    re.IGNORECASE)
_FIELD = re.compile(rb'([A-Za-z][\w.\-]*)[ \t]*=[ \t]*(.*)')
_NO_PARENT = 'ffffffff'
# Fields that name another file. A copy of such a disk would hold what is in
# that file, or need it for ever.
_OTHER_FILES = ('parentfilenamehint', 'changetrackpath')
# Fields that decide what a reader takes the disk for.
_DECIDING = ('createtype', 'parentcid', *_OTHER_FILES)
_LONGEST_SHOWN = 60
_TO_ASCII = bytes(each if each < 128 else ord('?') for each in range(256))


class Extent(NamedTuple):
    """A line of the extent description."""

    sectors: int
    kind: str  # in capitals
    rest: bytes


class Descriptor(NamedTuple):
    """What a descriptor says; names of fields are in small letters."""

    fields: dict[str, str]
    extents: tuple[Extent, ...]
    # The same in ASCII and with no space too many, for stricter readers.
    ascii: bytes

    @property
    def create_type(self) -> str:
        return self.fields.get('createtype', '')


def parse(data: bytes) -> Descriptor:
    """Read a descriptor, up to its first NUL.

    :raises FormatError: it is none, or says one thing in two ways
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
                f'its descriptor has a line that means nothing, {shown(line)}')
    return Descriptor(fields, tuple(extents),
                      b'\n'.join(plain).translate(_TO_ASCII))


def _add(fields: dict[str, str], name: str, value: bytes) -> None:
    text = value.strip().strip(b'"').decode('latin-1')
    if name in _DECIDING and fields.get(name, text) != text:
        raise stream.FormatError(
            f'its descriptor says {name} twice, {fields[name]!r} and {text!r}')
    fields[name] = text


def shown(value: bytes | str) -> str:
    """A tenant's text in a message: short, and in ASCII."""
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'backslashreplace')
    if len(value) > _LONGEST_SHOWN:
        value = value[:_LONGEST_SHOWN] + '...'
    return ascii(value)


def check_stands_alone(descriptor: Descriptor) -> None:
    """:raises FormatError: the disk needs, or names, other files"""
    fields = descriptor.fields
    if (fields.get('parentcid', _NO_PARENT).lower() != _NO_PARENT
            or fields.get('parentfilenamehint')):
        raise stream.FormatError('it holds only changes to another disk; '
                                 'export the whole disk')
    for name in _OTHER_FILES:
        if fields.get(name):
            raise stream.FormatError(
                f'its descriptor names another file ({name} '
                f'{shown(fields[name])})')
    if len(descriptor.extents) != 1:
        raise stream.FormatError(
            f'its descriptor names {len(descriptor.extents)} extents, and '
            'not the one that the file holds')
    extent, = descriptor.extents
    if extent.kind != 'SPARSE' or b'/' in extent.rest:
        raise stream.FormatError(
            'its descriptor names an extent that is not the one that the file '
            f'holds ({extent.kind} {shown(extent.rest)})')
