# SPDX-License-Identifier: Apache-2.0
"""The bytes of images on their way: complete, in time, and what they claim.

Everything here takes and gives iterators of bytes, so that an image is never
held in memory. An error ends the iteration, and with it the transfer.
"""

import queue
import tarfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector
from oslo_vmware import image_util

from cinder_vmdk_ext import exceptions

CHUNK_BYTES = 1 << 20
# Chunks that are read ahead of a slow receiver.
_AHEAD = 4
_SECTOR_BYTES = 512
_SPARSE_MAGIC = b'KDMV'
_DESCRIPTOR_MAGIC = b'# Disk DescriptorFile'


class Limits(NamedTuple):
    """How long a transfer may take."""

    total_seconds: float
    stall_seconds: float  # without a single byte from the source


def chunks_of(file: Any) -> Iterator[bytes]:
    """The content of a file that is open for reading."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def in_time(chunks: Iterable[bytes], limits: Limits,
            clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """The same chunks, or an error when the source is silent for too long.

    A thread reads the source: nothing else can be waited for with a limit,
    whoever wrote it. A source that never answers keeps that thread alive.

    :raises TransferFailed: the source failed, or is too slow
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
                raise exceptions.TransferFailed(
                    f'it takes longer than {limits.total_seconds:g} s',
                    'raise vmware_image_transfer_timeout_secs')
            try:
                got = read.get(timeout=min(left, limits.stall_seconds))
            except queue.Empty:
                if left > limits.stall_seconds:
                    raise exceptions.TransferFailed(
                        'the source of the data is silent for '
                        f'{limits.stall_seconds:g} s',
                        'look after the image service') from None
                continue
            if got is None:
                return
            if isinstance(got, BaseException):
                raise exceptions.TransferFailed(
                    f'the source of the data failed ({got})',
                    'look after the image service') from got
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


def exactly(chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same chunks, or an error when they are not of that size in all.

    :raises TransferFailed: there are fewer, or more
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
            f'the source gives {than} than the {size_bytes} bytes announced'
            + ('' if count > size_bytes else f' ({count})'),
            "compare the image's size with its data")


def sparse(chunks: Iterable[bytes], image_id: str, disk_type: str,
           most_bytes: int | None = None) -> Iterator[bytes]:
    """The same chunks, of a VMDK that is whole and stands for itself.

    A descriptor inside an image names files. One that names others, a parent
    or another extent, would make a copy of somebody else's disk.

    :param disk_type: ``streamOptimized``, or ``monolithicSparse``
    :param most_bytes: of the disk's capacity; None: any will do
    :raises UnusableImage: it is no such VMDK, or too large
    """
    inspector = format_inspector.VMDKInspector()
    # The last chunk is held back until all is known, so that the receiver of
    # something that is refused has never had the whole.
    last = b''
    try:
        for chunk in chunks:
            inspector.eat_chunk(chunk)
            if last:
                yield last
            last = chunk
        if not inspector.format_match or not inspector.has_region('header'):
            raise exceptions.UnusableImage(
                image_id, f'it is no VMDK of the type {disk_type}')
        inspector.finish()
        inspector.safety_check()
    except (format_inspector.ImageFormatError,
            format_inspector.SafetyCheckFailed) as error:
        raise exceptions.UnusableImage(
            image_id, f'it is no sound VMDK of the type {disk_type} '
            f'({_told(error)})') from error
    _check_descriptor(inspector.desc_text or '', image_id, disk_type)
    check_capacity(inspector.virtual_size, image_id, most_bytes)
    yield last


def check_capacity(size_bytes: int, image_id: str,
                   most_bytes: int | None) -> None:
    """:raises UnusableImage: a disk is larger than its volume"""
    if most_bytes is not None and size_bytes > most_bytes:
        raise exceptions.UnusableImage(
            image_id, f'its disk holds {size_bytes} bytes and the volume '
            f'{most_bytes}; make the volume larger')


def _told(error: Exception) -> str:
    failures = getattr(error, 'failures', None)
    if isinstance(failures, dict):
        return '; '.join(str(each) for each in failures.values())
    return str(error)


def _check_descriptor(text: str, image_id: str, disk_type: str) -> None:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, is_field, value = line.partition('=')
        if is_field:
            fields[name.strip()] = value.strip().strip('"')
    if fields.get('createtype') != disk_type.lower():
        raise exceptions.UnusableImage(
            image_id, f'its descriptor says createType '
            f'{fields.get("createtype")!r} and its property vmware_disktype '
            f'stands for {disk_type!r}; correct the property')
    if (fields.get('parentcid', 'ffffffff') != 'ffffffff'
            or 'parentfilenamehint' in fields):
        raise exceptions.UnusableImage(
            image_id, 'it holds only changes to another disk; export the '
            'whole disk')
    extents = [line.split() for line in text.splitlines()
               if line.startswith(('rw ', 'rdonly ', 'noaccess '))]
    if [extent[0] == 'rw' and extent[2:3] == ['sparse']
            for extent in extents] != [True]:
        raise exceptions.UnusableImage(
            image_id, f'its descriptor names {len(extents)} extents, and not '
            'the one that the file holds')


def check_flat(size_bytes: int, image_id: str,
               most_bytes: int | None = None) -> None:
    """:raises UnusableImage: it cannot be a raw disk that fits"""
    if not size_bytes or size_bytes % _SECTOR_BYTES:
        raise exceptions.UnusableImage(
            image_id, f'its {size_bytes} bytes are no whole number of sectors '
            'of 512 bytes, so it is no preallocated disk')
    check_capacity(size_bytes, image_id, most_bytes)


def flat(chunks: Iterable[bytes], image_id: str,
         size_bytes: int) -> Iterator[bytes]:
    """The same chunks, of a raw disk.

    :raises UnusableImage: it is a VMDK of another type, or no whole disk
    """
    check_flat(size_bytes, image_id)
    head = b''
    for chunk in chunks:
        if len(head) < len(_DESCRIPTOR_MAGIC):
            head += chunk[:len(_DESCRIPTOR_MAGIC)]
            if head.startswith((_SPARSE_MAGIC, _DESCRIPTOR_MAGIC)):
                raise exceptions.UnusableImage(
                    image_id, 'it is a VMDK file and not the bare content of '
                    'a disk; set its property vmware_disktype to '
                    'streamOptimized or sparse, whichever it is')
        yield chunk


class _File:
    """Chunks as a file that is read from beginning to end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b''

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            chunk = next(self._chunks, b'')
            if not chunk:
                break
            self._left += chunk
        data, self._left = self._left[:size], self._left[size:]
        return data


def disk_in_ova(chunks: Iterable[bytes], image_id: str
                ) -> tuple[int, Iterator[bytes]]:
    """The first disk that the descriptor of an OVA names.

    :returns: its size in bytes, and its content
    :raises UnusableImage: there is none
    """
    name = None
    source: Any = _File(chunks)
    try:
        archive = tarfile.open(mode='r|', fileobj=source)
        for member in archive:
            file = archive.extractfile(member)
            if file is None:
                continue
            if member.name.endswith('.ovf'):
                name = image_util.get_vmdk_name_from_ovf(file)
            elif name and member.name.startswith(name):
                return member.size, chunks_of(file)
    except tarfile.TarError as error:
        raise exceptions.UnusableImage(
            image_id, f'it is no OVA ({error})') from error
    except exceptions.TransferFailed:
        raise
    except Exception as error:  # of the parser of its XML
        raise exceptions.UnusableImage(
            image_id, f'its OVF cannot be read ({error})') from error
    raise exceptions.UnusableImage(
        image_id, 'the OVA holds no disk that its OVF names')
