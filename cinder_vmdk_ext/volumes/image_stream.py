# SPDX-License-Identifier: Apache-2.0
"""Checks an image's bytes during a transfer: size, time and format.

Everything here takes and returns iterators of bytes, so that an image is
never held in memory. An error ends the iteration, and so the transfer.
"""

import contextlib
import itertools
import math
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO
from typing import NamedTuple
from typing import TypeVar

from oslo_log import log as logging
from oslo_utils import units

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes.image_formats import foreign
from cinder_vmdk_ext.volumes.image_formats import ova
from cinder_vmdk_ext.volumes.image_formats import qcow2
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk
from cinder_vmdk_ext.volumes.image_formats import vmdk

LOG = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
# How often the progress of a transfer is logged.
PROGRESS_SECONDS = 30.0
# Values of disk_format. Cinder treats an ISO image as a raw disk.
VMDK, QCOW2, RAW = 'vmdk', 'qcow2', ('raw', 'iso')
# How many chunks are read before the receiver asks for them.
_AHEAD = 4
# Values of the property vmware_disktype.
STREAM_OPTIMIZED, SPARSE, PREALLOCATED = (
    'streamOptimized', 'sparse', 'preallocated')
_CREATE_TYPES = {STREAM_OPTIMIZED: vmdk.STREAM_OPTIMIZED,
                 SPARSE: vmdk.MONOLITHIC_SPARSE}
# Upstream accepts this value too for raw content.
_WANTED = {'thin': PREALLOCATED}


_Item = TypeVar('_Item')


class Limits(NamedTuple):
    """How long a transfer may take."""

    total_seconds: float
    stall_seconds: float  # without a single byte from the source


def chunks_of(file: Any) -> Iterator[bytes]:
    """The content of a file that is open for reading, in chunks."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def in_time(chunks: Iterable[bytes], limits: Limits,
            clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """Pass on the chunks; raise an error if the source takes too long.

    A thread reads the source, because a read of an arbitrary source has no
    time limit. If the source never answers, the thread never ends.

    :raises TransferFailed: the source failed, or exceeds the limits
    """
    read: queue.Queue[Any] = queue.Queue(_AHEAD)
    given_up = threading.Event()
    threading.Thread(target=_read_ahead, args=(chunks, read, given_up),
                     name='vmdk-ext-image-source', daemon=True).start()
    deadline = clock() + limits.total_seconds
    try:
        while True:
            left = deadline - clock()
            if left <= 0:
                raise _too_long(limits)
            try:
                got = read.get(timeout=min(left, limits.stall_seconds))
            except queue.Empty:
                if left > limits.stall_seconds:
                    raise exceptions.TransferFailed(
                        'the source of the data has sent nothing for '
                        f'{limits.stall_seconds:g} s',
                        'check the image service') from None
                continue
            if got is None:
                return
            if isinstance(got, BaseException):
                raise exceptions.TransferFailed(
                    f'the source of the data failed ({got})',
                    'check the image service') from got
            yield got
    finally:
        given_up.set()


def _read_ahead(chunks: Iterable[bytes], read: 'queue.Queue[Any]',
                given_up: threading.Event) -> None:
    def put(item: Any) -> bool:
        while not given_up.is_set():
            try:
                read.put(item, timeout=1)
                return True
            except queue.Full:
                continue
        return False

    try:
        for chunk in chunks:
            if not put(chunk):
                close = getattr(chunks, 'close', None)
                if close is not None:
                    close()
                return
        put(None)
    except BaseException as error:
        put(error)


def deadline(limits: Limits,
             clock: Callable[[], float] = time.monotonic
             ) -> Callable[[], None]:
    """A check that raises TransferFailed after the limit, from now on."""
    end = clock() + limits.total_seconds

    def check() -> None:
        if clock() >= end:
            raise _too_long(limits)
    return check


def _too_long(limits: Limits) -> exceptions.TransferFailed:
    return exceptions.TransferFailed(
        f'it takes longer than {limits.total_seconds:g} s',
        'raise vmware_image_transfer_timeout_secs')


def _after(chunk: bytes, before: int) -> int:
    return before + len(chunk)


def logged(items: Iterable[_Item], size_bytes: int, what: str,
           position: Callable[[Any, int], int] = _after,
           clock: Callable[[], float] = time.monotonic) -> Iterator[_Item]:
    """Pass on the items; log every half minute how far they are.

    :param size_bytes: of the whole, as far as it is known
    :param what: the beginning of the log line
    :param position: returns how many bytes are done after an item, from the
        item and the number before it
    """
    began = last = clock()
    done = 0
    for item in items:
        yield item
        done = position(item, done)
        now = clock()
        if now - last >= PROGRESS_SECONDS:
            last = now
            LOG.info('%(what)s: %(done)d of %(size)d MiB (%(percent)d %%) '
                     'after %(seconds)d s',
                     {'what': what, 'done': done // units.Mi,
                      'size': math.ceil(size_bytes / units.Mi),
                      'percent': min(100 * done // max(size_bytes, 1), 100),
                      'seconds': now - began})


def exactly(chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Pass on the chunks; raise an error if their total size differs.

    :raises TransferFailed: the source has fewer bytes, or more
    """
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > size_bytes:
            break
        yield chunk
    if count != size_bytes:
        than = 'more' if count > size_bytes else 'less'
        raise exceptions.TransferFailed(
            f'the source sent {than} than the announced {size_bytes} bytes'
            + ('' if count > size_bytes else f' ({count})'),
            "compare the image's size with its data")


class Image(NamedTuple):
    """What the image service's record says about an image."""

    id: str
    size_bytes: int
    container_format: str | None = None
    disk_type: str | None = None  # vmware_disktype; None: not set
    disk_format: str = VMDK


class ImageDisk(NamedTuple):
    """The disk in an image, and its data.

    The iterator raises UnusableImage as soon as it finds the data unsound, at
    the latest before the last chunk: a receiver that gets all chunks has a
    sound disk.
    """

    disk_type: str  # streamOptimized, sparse or preallocated
    size_bytes: int | None  # of the data; None: known only at its end
    capacity_bytes: int
    chunks: Iterator[bytes]


def open_disk(chunks: Iterable[bytes], image: Image,
              most_bytes: int | None = None) -> ImageDisk:
    """Find the disk in an image, and check what its beginning says.

    The data decides the disk's type. The record must name the same type, or
    none.

    A raw image becomes a streamOptimized disk while it passes.

    :param most_bytes: the largest capacity that is allowed; None: no limit
    :raises UnusableImage: the image holds no disk, another type of disk than
        its record says, or a disk that is too large
    :raises TransferFailed: the data does not arrive
    """
    source = stream.Peekable(exactly(chunks, image.size_bytes))
    return _opened(image, lambda: (
        _open_raw if image.disk_format in RAW else _open)(
            source, image, most_bytes))


def checked_qcow2(chunks: Iterable[bytes], image: Image,
                  most_bytes: int | None = None) -> Iterator[bytes]:
    """Pass on a qcow2 image's data whose beginning is sound.

    So what cannot become a disk is refused before it is stored.

    :raises UnusableImage: see :func:`open_qcow2`
    :raises TransferFailed: (also while iterating) the data does not arrive
    """
    source = stream.Peekable(exactly(chunks, image.size_bytes))
    with _refusing(image):
        qcow2.check_header(source.peek(foreign.HEAD_BYTES), most_bytes)
    return iter(source)


def open_qcow2(file: BinaryIO, image: Image, most_bytes: int | None = None,
               check: Callable[[], None] = lambda: None) -> ImageDisk:
    """The same of a qcow2 image, which can only be read from a file.

    It becomes a streamOptimized disk while it is read.

    :param check: is called again and again; it may raise an error
    :raises UnusableImage: it is not a qcow2 image, needs another file, or its
        disk is too large
    """
    def find() -> ImageDisk:
        capacity, pieces = qcow2.open_qcow2(file, most_bytes, check)
        return _streamed(capacity, logged(
            pieces, capacity, f'Image {image.id} is converted',
            lambda piece, _: piece[0] + len(piece[1])), most_bytes)
    return _opened(image, find)


def _opened(image: Image, find: Callable[[], ImageDisk]) -> ImageDisk:
    with _refusing(image):
        disk = find()
    return disk._replace(chunks=_named(disk.chunks, image.id))


@contextlib.contextmanager
def _refusing(image: Image) -> Iterator[None]:
    """:raises UnusableImage: the image is empty, or a FormatError came"""
    try:
        if not image.size_bytes:
            raise stream.FormatError('it is empty')
        yield
    except stream.FormatError as error:
        raise _unusable(image.id, error) from None


def _unusable(image_id: str,
              error: stream.FormatError) -> exceptions.UnusableImage:
    return exceptions.UnusableImage(image_id, error.reason, error.remedy)


def _streamed(content_bytes: int, pieces: Iterable[stream_vmdk.Piece],
              most_bytes: int | None) -> ImageDisk:
    # With the volume's own size, the vCenter need not extend the disk.
    capacity = max(most_bytes or 0,
                   content_bytes + -content_bytes % units.Ki)
    return ImageDisk(STREAM_OPTIMIZED, None, capacity,
                     stream_vmdk.write(pieces, capacity))


def _open_raw(source: stream.Peekable, image: Image,
              most_bytes: int | None) -> ImageDisk:
    stream.check_capacity(image.size_bytes, most_bytes)
    name = foreign.name_of(source.peek(foreign.HEAD_BYTES))
    if name:
        raise stream.FormatError(
            f'its disk_format is {image.disk_format}, but it is {name}',
            'correct its disk_format')
    return _streamed(image.size_bytes, _offsets(source), most_bytes)


def _offsets(chunks: Iterable[bytes]) -> Iterator[stream_vmdk.Piece]:
    at = 0
    for chunk in chunks:
        yield at, chunk
        at += len(chunk)


def _named(chunks: Iterator[bytes], image_id: str) -> Iterator[bytes]:
    try:
        yield from chunks
    except stream.FormatError as error:
        raise _unusable(image_id, error) from None


def _open(source: stream.Peekable, image: Image,
          most_bytes: int | None) -> ImageDisk:
    wanted = _WANTED.get(image.disk_type or '', image.disk_type)
    size = image.size_bytes
    in_ova = image.container_format == 'ova'
    if in_ova:
        if wanted == PREALLOCATED:
            raise stream.FormatError(
                'its record says container_format ova and vmware_disktype '
                f'{image.disk_type}, but the disk in an OVA is a VMDK file',
                'correct the property')
        size, inner = ova.find_disk(source)
        if size > image.size_bytes - source.position:
            raise stream.FormatError(stream.CUT)
        source = stream.Peekable(inner)
    elif wanted == PREALLOCATED:
        _check_flat(size, most_bytes)  # possible by the record alone
    head = source.peek(foreign.HEAD_BYTES)
    if head.startswith(vmdk.MAGIC):
        return _open_vmdk(source, wanted, size, most_bytes)
    name = foreign.name_of(head)
    if wanted in _CREATE_TYPES or in_ova:
        whose = 'the file in the OVA' if in_ova else 'it'
        raise stream.FormatError(
            f'{whose} is not a VMDK of type {wanted or "streamOptimized"}'
            + (f' but {name}' if name else ''), 'correct its disk_format, '
            'container_format and vmware_disktype, or convert it')
    if name:
        raise stream.FormatError(
            f'it is {name}, not the raw content of a disk', 'correct its '
            'disk_format, container_format and vmware_disktype, or convert '
            'it')
    return _open_flat(source, size, most_bytes)


def _open_vmdk(source: stream.Peekable, wanted: str | None,
               size: int, most_bytes: int | None) -> ImageDisk:
    found = vmdk.open_vmdk(source, most_bytes)
    disk_type = next(known for known, create_type in _CREATE_TYPES.items()
                     if create_type == found.create_type)
    if wanted not in (None, disk_type):
        raise stream.FormatError(
            f'its descriptor says createType {found.create_type!r}, but its '
            f'property vmware_disktype means {wanted!r}',
            'correct the property')
    return ImageDisk(disk_type, size, found.capacity_bytes, found.chunks)


def _open_flat(source: stream.Peekable, size: int,
               most_bytes: int | None) -> ImageDisk:
    _check_flat(size, most_bytes)
    # A vCenter counts disks in KiB.
    padding = bytes(-size % units.Ki)
    return ImageDisk(PREALLOCATED, size + len(padding), size,
                     itertools.chain(source, [padding] if padding else []))


def _check_flat(size: int, most_bytes: int | None) -> None:
    if size % vmdk.SECTOR_BYTES:
        raise stream.FormatError(
            f'its size of {size} bytes is not a multiple of 512 (a sector), '
            'so it is not a preallocated disk')
    stream.check_capacity(size, most_bytes)
