# SPDX-License-Identifier: Apache-2.0
"""The image that a volume is made from, opened and checked before that.

Every way in passes through here: a download, a copy of Cinder's in
``image_conversion_dir``, a file that the image service keeps in vSphere.
"""

import contextlib
from collections.abc import Generator
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from cinder.image import image_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import image_stream

LOG = logging.getLogger(__name__)

DISK_FORMAT = 'vmdk'
CONTAINERS = ('bare', 'ova')
ADAPTERS = ('lsiLogic', 'busLogic', 'lsiLogicsas', 'paraVirtual', 'ide')
DISK_TYPES = ('preallocated', 'sparse', 'streamOptimized', 'thin')
ADAPTER_TYPE, DISK_TYPE = 'vmware_adaptertype', 'vmware_disktype'
_IN_VSPHERE = 'vsphere://'


class SourceImage:
    """An image service that knows one image, and what it holds.

    Upstream's methods take it for Cinder's image service: what they read of
    the record is what the data says. The location is not among it, so that no
    data comes to the vCenter but through the plugin.
    """

    def __init__(self, record: dict[str, Any], disk: image_stream.ImageDisk,
                 most_bytes: int, vsphere_url: str | None) -> None:
        """:param vsphere_url: where the vCenter has the same bytes"""
        self.id = record['id']
        self._most_bytes = most_bytes
        self.disk = disk
        self.vsphere_url = vsphere_url
        self._record = record
        self._taken = False

    @property
    def adapter(self) -> str | None:
        """The adapter that the image asks for, if it does."""
        return (self._record.get('properties') or {}).get(ADAPTER_TYPE)

    def show(self, _context: Any, _image_id: str) -> dict[str, Any]:
        """The record of the disk in the image."""
        return self._record | {
            'size': self.disk.size_bytes, 'container_format': 'bare',
            'properties': (self._record.get('properties') or {})
            | {DISK_TYPE: self.disk.disk_type}}

    def get_location(self, _context: Any,
                     _image_id: str) -> tuple[None, None]:
        """Nothing: see :attr:`vsphere_url`."""
        return None, None

    def take(self) -> Iterator[bytes]:
        """The disk's data, checked as it passes; it can be had once.

        :raises UnusableImage: it turns out to be unsound
        :raises TransferFailed: it does not come
        """
        if self._taken:
            raise exceptions.TransferFailed(
                f'the data of image {self.id} was used up before',
                'repeat the request')
        self._taken = True
        return self.disk.chunks

    def check_copy(self, size_bytes: int, data: Iterator[bytes]) -> None:
        """Check a copy that was made of it by its location.

        :raises UnusableImage: it is not the same, as far as its beginning
            tells
        """
        copy = image_stream.open_disk(data, image_stream.Image(
            self.id, size_bytes, 'bare', self.disk.disk_type),
            self._most_bytes)
        if copy._replace(chunks=self.disk.chunks) != self.disk:
            raise exceptions.UnusableImage(
                self.id, 'the file that its location names is not the one '
                'that the image service sends')


@contextlib.contextmanager
def opened(context: Any, image_service: Any, image_id: str,
           limits: image_stream.Limits,
           most_bytes: int) -> Iterator[SourceImage]:
    """Read an image up to its disk, and check all that is known by then.

    :param most_bytes: of the disk's capacity
    :raises UnusableImage: the record and the data make no such disk
    :raises TransferFailed: the data does not come
    """
    record = image_service.show(context, image_id)
    _check_record(record, image_id)
    data = _data(context, image_service, image_id, limits)
    with contextlib.closing(data):
        properties = record.get('properties') or {}
        disk = image_stream.open_disk(data, image_stream.Image(
            image_id, record['size'] or 0, record.get('container_format'),
            properties.get(DISK_TYPE)), most_bytes)
        yield SourceImage(record, disk, most_bytes, _url(
            context, image_service, record, disk))


def check_target(record: dict[str, Any]) -> None:
    """Check what an image is to become that is made of a volume.

    :raises UnusableImage: this backend does not write that
    """
    for name, good in (('disk_format', DISK_FORMAT),
                       ('container_format', CONTAINERS[0])):
        value = record.get(name)
        if value not in (None, good):
            raise exceptions.UnusableImage(
                record['id'], f'its {name} is to be {value}, and this backend '
                f'makes {good} images alone; ask for --disk-format '
                f'{DISK_FORMAT} --container-format {CONTAINERS[0]}')


def _check_record(record: dict[str, Any], image_id: str) -> None:
    """:raises UnusableImage: the record is of no image for this backend"""
    properties = record.get('properties') or {}
    container = record.get('container_format') or 'bare'
    for name, value, good in (
            ('disk_format', record.get('disk_format'), (DISK_FORMAT,)),
            ('container_format', container, CONTAINERS),
            (DISK_TYPE, properties.get(DISK_TYPE, DISK_TYPES[0]), DISK_TYPES),
            (ADAPTER_TYPE, properties.get(ADAPTER_TYPE, ADAPTERS[0]),
             ADAPTERS)):
        if value not in good:
            raise exceptions.UnusableImage(
                image_id, f'its {name} is {value!r}, and this backend takes '
                f'{", ".join(good)}')


def _data(context: Any, image_service: Any, image_id: str,
          limits: image_stream.Limits) -> Generator[bytes, None, None]:
    """An image's data; an error if it does not come, or comes too slowly."""
    path = image_utils.TemporaryImages.for_image_service(
        image_service).get(context, image_id)
    if path:
        LOG.debug('Image %s has been downloaded already.', image_id)
        with open(path, 'rb') as file:
            yield from image_stream.in_time(image_stream.chunks_of(file),
                                            limits)
    else:
        yield from image_stream.in_time(
            image_service.download(context, image_id), limits)


def _url(context: Any, image_service: Any, record: dict[str, Any],
         disk: image_stream.ImageDisk) -> str | None:
    """Where the vCenter has the very bytes that a datastore is to have."""
    if (disk.disk_type == image_stream.STREAM_OPTIMIZED
            or record.get('container_format') == 'ova'
            or disk.size_bytes != record['size']):
        return None
    url = image_service.get_location(context, record['id'])[0]
    return url if url and url.startswith(_IN_VSPHERE) else None
