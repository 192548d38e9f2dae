# SPDX-License-Identifier: Apache-2.0
"""Opens and checks an image before a volume is made from it.

All sources of an image are read here: a download, a copy that Cinder has in
``image_conversion_dir``, and a file that the image service keeps in vSphere.

A raw image is converted while it passes. A qcow2 image has to be read in any
order, so it is first written to a file in ``image_conversion_dir``, unless
Cinder has it there. Neither needs qemu-img, a second copy or the rights of
root, as Cinder's own conversion does.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from oslo_log import log as logging

from cinder.image import image_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import conversion_file
from cinder_vmdk_ext.volumes import image_signature
from cinder_vmdk_ext.volumes import image_stream

LOG = logging.getLogger(__name__)

DISK_FORMAT = 'vmdk'
DISK_FORMATS = (image_stream.VMDK, image_stream.QCOW2, *image_stream.RAW)
CONTAINERS = ('bare', 'ova')
ADAPTERS = ('lsiLogic', 'busLogic', 'lsiLogicsas', 'paraVirtual', 'ide')
DISK_TYPES = ('preallocated', 'sparse', 'streamOptimized', 'thin')
ADAPTER_TYPE, DISK_TYPE = 'vmware_adaptertype', 'vmware_disktype'
_IN_VSPHERE = 'vsphere://'


class SourceImage:
    """An image service with one image, whose record fits its data.

    Upstream's methods get it in the place of Cinder's image service, and so
    read what the data says. The record gives no location, so that upstream
    cannot send data to the vCenter without these checks.
    """

    def __init__(self, record: dict[str, Any], disk: image_stream.ImageDisk,
                 most_bytes: int, vsphere_url: str | None) -> None:
        """:param most_bytes: the largest capacity of the disk
        :param vsphere_url: where the vCenter has the same bytes
        """
        self.id = record['id']
        self._most_bytes = most_bytes
        self.disk = disk
        self.vsphere_url = vsphere_url
        self._record = record
        #: Whether the data has been read, so that it cannot be read again.
        self.is_taken = False

    @property
    def size_bytes(self) -> int:
        """The size of the image, as its record says."""
        return int(self._record['size'])

    @property
    def adapter(self) -> str | None:
        """The adapter type that the image's record asks for, if any."""
        return (self._record.get('properties') or {}).get(ADAPTER_TYPE)

    def show(self, _context: Any, _image_id: str) -> dict[str, Any]:
        """The image's record, with the disk's size, format and type."""
        return self._record | {
            'size': self.disk.size_bytes, 'container_format': 'bare',
            'disk_format': DISK_FORMAT,
            'properties': (self._record.get('properties') or {})
            | {DISK_TYPE: self.disk.disk_type}}

    def get_location(self, _context: Any,
                     _image_id: str) -> tuple[None, None]:
        """No location: see :attr:`vsphere_url`."""
        return None, None

    def take(self) -> Iterator[bytes]:
        """Return the disk's data, which is checked during the iteration.

        It counts as read from the first step of the iteration, in which all
        errors are raised.

        :raises UnusableImage: the data is unsound
        :raises TransferFailed: it does not arrive, or was read before
        """
        if self.is_taken:
            raise exceptions.TransferFailed(
                f'the data of image {self.id} has been read already',
                'repeat the request')
        self.is_taken = True
        yield from self.disk.chunks

    def check_copy(self, size_bytes: int, data: Iterator[bytes]) -> None:
        """Check a copy that the vCenter made of the image's location.

        :raises UnusableImage: its beginning shows another disk
        """
        copy = image_stream.open_disk(data, image_stream.Image(
            self.id, size_bytes, 'bare', self.disk.disk_type),
            self._most_bytes)
        if copy._replace(chunks=self.disk.chunks) != self.disk:
            raise exceptions.UnusableImage(
                self.id, 'its location names another file than the one that '
                'the image service sends', 'correct or remove its location')


@contextlib.contextmanager
def opened(context: Any, image_service: Any, image_id: str,
           limits: image_stream.Limits,
           most_bytes: int) -> Iterator[SourceImage]:
    """Read an image up to its disk; check its record and what was read.

    :param most_bytes: the largest capacity of the disk
    :raises UnusableImage: the record or the data does not fit this backend
    :raises TransferFailed: the data does not arrive
    :raises ImageTooBig: ``image_conversion_dir`` has no space for it
    :raises ImageConversionNotAllowed: the operator allows no conversion
    :raises InvalidSignatureImage: its signature lacks properties
    :raises ImageSignatureVerificationException: its signature is wrong
    """
    record = image_service.show(context, image_id)
    _check_record(record, image_id)
    check_conversion(record)
    image = image_stream.Image(
        image_id, record['size'] or 0, record.get('container_format'),
        (record.get('properties') or {}).get(DISK_TYPE),
        record['disk_format'])
    check = image_stream.deadline(limits)
    with contextlib.ExitStack() as stack:
        path = image_utils.TemporaryImages.for_image_service(
            image_service).get(context, image_id)
        file = None
        if path:
            LOG.debug('Image %s has been downloaded already.', image_id)
            file = stack.enter_context(open(path, 'rb'))
        # Cinder has verified what it has downloaded.
        signature = image_signature.Signature(
            context, record if file is None else {'id': image_id})
        data = signature.passing(image_stream.logged(
            image_stream.in_time(
                image_stream.chunks_of(file) if file else
                image_service.download(context, image_id), limits),
            image.size_bytes, f'Image {image_id} is read'))
        stack.enter_context(contextlib.closing(data))
        disk = (_open_qcow2(stack, data, file, image, most_bytes, check)
                if image.disk_format == image_stream.QCOW2
                else image_stream.open_disk(data, image, most_bytes))
        yield SourceImage(
            record, disk._replace(chunks=signature.checked(
                disk.chunks, data)), most_bytes,
            # What the vCenter copies by itself, nothing can verify.
            None if signature.is_checked else _url(
                context, image_service, record, disk))


def _open_qcow2(stack: contextlib.ExitStack, data: Iterator[bytes],
                file: BinaryIO | None, image: image_stream.Image,
                most_bytes: int, check: Callable[[], None]
                ) -> image_stream.ImageDisk:
    if file is None:
        file = stack.enter_context(conversion_file.opened(
            image.id, image.size_bytes))
        conversion_file.fill(file, image_stream.checked_qcow2(
            data, image, most_bytes))
    return image_stream.open_qcow2(file, image, most_bytes, check)


def check_conversion(record: dict[str, Any], upload: bool = False) -> None:
    """Compare an image's format with the option image_conversion_disable.

    :param upload: whether the image is to be made from a volume
    :raises ImageConversionNotAllowed: it would have to be converted
    """
    image_utils.check_image_conversion_disable(
        record.get('disk_format'), DISK_FORMAT, record['id'], upload)


def download_directly(image_service: Any) -> None:
    """Have Cinder write an image to a file without eventlet's thread pool.

    Cinder 29 does so through that pool also on native threads, on which a
    call of the pool may never return (``tpool.Proxy`` in
    cinder.image.image_utils.fetch).

    :param image_service: of one request, whose method is replaced
    """
    download = image_service.download

    def run(context: Any, image_id: str, data: Any = None) -> Any:
        return download(context, image_id, getattr(data, '_obj', data))
    image_service.download = run


def _check_record(record: dict[str, Any], image_id: str) -> None:
    """:raises UnusableImage: this backend cannot use such an image"""
    properties = record.get('properties') or {}
    container = record.get('container_format') or 'bare'
    disk_format = record.get('disk_format')
    is_vmdk = disk_format not in DISK_FORMATS[1:]
    # Of another format it says nothing: it may have been copied with the
    # properties of the image from which a volume was made.
    disk_type = (properties.get(DISK_TYPE, DISK_TYPES[0]) if is_vmdk
                 else DISK_TYPES[0])
    for name, value, good in (
            ('disk_format', disk_format, DISK_FORMATS),
            ('container_format', container,
             CONTAINERS if is_vmdk else CONTAINERS[:1]),
            (DISK_TYPE, disk_type, DISK_TYPES),
            (ADAPTER_TYPE, properties.get(ADAPTER_TYPE, ADAPTERS[0]),
             ADAPTERS)):
        if value not in good:
            raise exceptions.UnusableImage(
                image_id, f'its {name} is {value!r}, but this backend accepts '
                f'only {", ".join(good)}', 'correct the record of the image, '
                'or convert the image')


def _url(context: Any, image_service: Any, record: dict[str, Any],
         disk: image_stream.ImageDisk) -> str | None:
    """Where the vCenter has the bytes that the datastore needs; or None."""
    if (disk.disk_type == image_stream.STREAM_OPTIMIZED
            or record.get('container_format') == 'ova'
            or disk.size_bytes != record['size']):
        return None
    url = image_service.get_location(context, record['id'])[0]
    return url if url and url.startswith(_IN_VSPHERE) else None
