# SPDX-License-Identifier: Apache-2.0
"""Converts an exported disk to the format that an image is requested in.

A vCenter exports a streamOptimized VMDK. As such and as raw it goes to the
image service while it arrives. A qcow2 image and an OVA state at their
beginning what is known only at the end, so they need a temporary file in
``image_conversion_dir``.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO
from typing import NamedTuple

from oslo_config import cfg

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import conversion_file
from cinder_vmdk_ext.volumes import image_stream
from cinder_vmdk_ext.volumes.image_formats import ova_writer
from cinder_vmdk_ext.volumes.image_formats import qcow2_writer
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

CONF = cfg.CONF
CONF.import_opt('image_compress_on_upload', 'cinder.image.image_utils')

#: The formats (disk_format and container_format) that are made.
OVA = ('vmdk', 'ova')
_STREAMED = (('vmdk', 'bare'), ('raw', 'bare'))
_STORED = (('qcow2', 'bare'), OVA)
# The header, the descriptor and what of the tables is for any disk.
_MOST_HEADERS_BYTES = 1 << 20


class Requested(NamedTuple):
    """What is asked of an image."""

    id: str
    name: str
    disk_format: str
    container_format: str
    adapter: str | None  # the disk's, for an OVA

    @property
    def format(self) -> tuple[str, str]:
        return self.disk_format, self.container_format

    @property
    def is_streamed(self) -> bool:
        """Whether the image needs no temporary file."""
        return self.format in _STREAMED

    @property
    def is_vmdk(self) -> bool:
        return self.disk_format == 'vmdk'


def target_of(record: dict[str, Any], adapter: str | None = None) -> Requested:
    """What the record of an image asks for.

    :raises UnusableImage: this backend does not make that format
    """
    found = Requested(
        record['id'], record.get('name') or record['id'],
        record.get('disk_format') or 'vmdk',
        record.get('container_format') or 'bare', adapter)
    if found.format not in _STREAMED + _STORED:
        raise exceptions.UnusableImage(
            found.id, f'its disk_format is {found.disk_format} and its '
            f'container_format is {found.container_format}, but this backend '
            'makes images of the disk_format vmdk, raw or qcow2 in the '
            'container_format bare, and of vmdk in ova', 'ask for one of them')
    return found


class Content:
    """The bytes of an image, which are read once from beginning to end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ahead = memoryview(b'')
        self._is_ended = False
        self.count_bytes = 0

    def read(self, size: int = 65536) -> bytes:
        """The next bytes; empty at the end."""
        while not self._ahead and not self._is_ended:
            chunk = next(self._chunks, None)
            self._is_ended = chunk is None
            self._ahead = memoryview(chunk or b'')
        data = bytes(self._ahead[:size])
        self._ahead = self._ahead[len(data):]
        self.count_bytes += len(data)
        return data

    def check_read_to_the_end(self) -> None:
        """:raises TransferFailed: the reader stopped before the end"""
        if self.read(1):
            raise exceptions.TransferFailed(
                f'the image service took only the first '
                f'{self.count_bytes - 1} bytes of the image',
                'look after the image service')


def streamed(target: Requested, data: Iterable[bytes],
             size_bytes: int) -> Content:
    """An image that is made of an exported disk while it arrives.

    :param data: streamOptimized
    :param size_bytes: the disk's capacity, for the progress in the log
    :raises TransferFailed: (also while it is read) the data is no such disk
    """
    what = f'Image {target.id} is made'
    if target.is_vmdk:
        return Content(image_stream.logged(data, size_bytes, what))
    return Content(image_stream.logged(_sound(_raw(data)), size_bytes, what))


@contextlib.contextmanager
def stored(target: Requested, data_bytes: int,
           size_bytes: int) -> Iterator['Stored']:
    """A place for an image that is made of a disk when it is complete.

    :param data_bytes: what of the disk is not zeros, at most
    :param size_bytes: the disk's capacity
    :raises ImageTooBig: ``image_conversion_dir`` has not the space that the
        image may take
    """
    with conversion_file.opened(target.id, most_bytes(
            data_bytes, size_bytes)) as file:
        yield Stored(target, file)


def most_bytes(data_bytes: int, size_bytes: int) -> int:
    """What a stored image takes at most.

    Data that cannot be compressed becomes larger by 1/128 in a VMDK (a grain
    has a marker and fills whole sectors), and by less in a qcow2 image. Both
    have tables of the whole disk, of which each entry stands for 64 KiB.
    """
    return (data_bytes + data_bytes // 128 + size_bytes // 4096
            + _MOST_HEADERS_BYTES)


class Stored:
    """An image in a temporary file."""

    def __init__(self, target: Requested, file: BinaryIO) -> None:
        self._target = target
        self._file = file
        self._disk: ova_writer.WholeDisk | None = None

    def fill(self, data: Iterable[bytes], size_bytes: int) -> None:
        """Store an exported disk; parameters and errors as streamed()."""
        data = image_stream.logged(
            data, size_bytes, f'The disk for image {self._target.id} is read')
        if self._target.format == OVA:
            self._disk = _keep(self._file, data, self._target.adapter)
            return
        with _as_transfer():
            capacity, pieces = stream_vmdk.read(data)
            qcow2_writer.write(self._file, pieces, capacity,
                               compress=CONF.image_compress_on_upload)

    def content(self) -> Content:
        """The image; valid after fill()."""
        size = self._file.seek(0, 2)
        self._file.seek(0)
        chunks: Iterable[bytes] = image_stream.logged(
            image_stream.chunks_of(self._file), size,
            f'Image {self._target.id} is sent')
        if self._disk:
            chunks = ova_writer.write(self._target.id, self._target.name,
                                      self._disk, chunks)
        return Content(chunks)


def _raw(data: Iterable[bytes]) -> Iterator[bytes]:
    capacity, pieces = stream_vmdk.read(data)
    yield from stream_vmdk.flat(pieces, capacity)


def _keep(file: BinaryIO, data: Iterable[bytes],
          adapter: str | None) -> ova_writer.WholeDisk:
    digest = hashlib.sha256()

    def copied() -> Iterator[bytes]:
        for chunk in data:
            file.write(chunk)
            digest.update(chunk)
            yield chunk
    with _as_transfer():
        capacity, pieces = stream_vmdk.read(copied())
        for _piece in pieces:
            pass  # it is complete and sound
    return ova_writer.WholeDisk(file.tell(), digest.hexdigest(), capacity,
                                adapter)


def _sound(chunks: Iterable[bytes]) -> Iterator[bytes]:
    with _as_transfer():
        yield from chunks


@contextlib.contextmanager
def _as_transfer() -> Iterator[None]:
    try:
        yield
    except stream.FormatError as error:
        raise exceptions.TransferFailed(
            f'the disk that the vCenter sent cannot be read: {error}',
            'repeat the request') from error
