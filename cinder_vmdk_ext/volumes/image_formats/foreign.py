# SPDX-License-Identifier: Apache-2.0
"""Names the format of an image that is not a raw disk, by its beginning."""

from oslo_utils.imageutils import format_inspector

from cinder_vmdk_ext.volumes.image_formats import descriptor
from cinder_vmdk_ext.volumes.image_formats import ova
from cinder_vmdk_ext.volumes.image_formats import vmdk

# Enough to recognize all formats below.
HEAD_BYTES = 4096
# No raw disk begins so: its first sector holds code, or is empty.
_BEGINNINGS = (
    (vmdk.MAGIC, 'a VMDK file'),
    (descriptor.MAGIC, 'the descriptor of a VMDK, whose content is in other '
                       'files'),
    (b'COWD', 'a VMDK file of an ESX host'),
    (b'\x1f\x8b', 'a gzip archive'),
    (b'BZh', 'a bzip2 archive'),
    (b'\xfd7zXZ\0', 'an xz archive'),
    (b'\x28\xb5\x2f\xfd', 'a zstd archive'),
    (b'PK\x03\x04', 'a zip archive'),
    (b'7z\xbc\xaf\x27\x1c', 'a 7z archive'),
    (b'<?xml', 'an XML document'),
)
# GPT, LUKS and ISO images are not here: a raw disk may hold them.
_CONTAINERS = ('qcow2', 'qed', 'vhd', 'vhdx', 'vdi')


def name_of(head: bytes) -> str | None:
    """Name a file's format by its beginning; None: it may be a raw disk."""
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    for kind in _CONTAINERS:
        inspector = format_inspector.get_inspector(kind)()  # type: ignore
        try:
            inspector.eat_chunk(head)
            if inspector.format_match:
                return f'a {kind} image'
        except format_inspector.ImageFormatError:
            continue
    if ova.looks_like_tar(head):
        return 'a tar archive (an OVA, perhaps)'
    return None
