# SPDX-License-Identifier: Apache-2.0
"""Reads and writes raw files with holes: zeros take no space and no time.

Content is passed as in :mod:`stream_vmdk`: pieces that are an offset in bytes
and the data there, by ascending offsets.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

_READ_BYTES = 1 << 20
_ZEROS = bytes(_READ_BYTES)
_GRAIN_BYTES = 1 << 16
#: The digest of content that is nothing but zeros.
NO_DATA = hashlib.sha256().hexdigest()


def write(pieces: Iterable[stream_vmdk.Piece],
          descriptor: int) -> Iterator[int]:
    """Write content to an empty file.

    :param descriptor: of the file, open for writing
    :returns: an iterator, which has to be run to its end; it yields how many
        bytes were written each time
    """
    for offset, data in pieces:
        if data != _ZEROS[:len(data)]:
            _write_at(descriptor, data, offset)
            yield len(data)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def read(descriptor: int) -> Iterator[stream_vmdk.Piece]:
    """The content of a raw file, without its holes.

    The file must not change meanwhile.

    :param descriptor: of the file, open for reading
    """
    for start, end in _data_ranges(descriptor):
        at = start
        while at < end and (data := os.pread(
                descriptor, min(_READ_BYTES, end - at), at)):
            if data != _ZEROS[:len(data)]:
                yield at, data
            at += len(data)


def digest(descriptor: int, pause: Callable[[], None]) -> str:
    """A checksum (SHA-256) of the content of a raw file.

    It is the same wherever the file has holes.

    :param descriptor: of the file, open for reading
    :param pause: called now and then
    """
    found, at = hashlib.sha256(), 0
    for start, end in _data_ranges(descriptor):
        at = max(at, start - start % _GRAIN_BYTES)
        while at < end:
            data = os.pread(descriptor, _GRAIN_BYTES, at)
            if data != _ZEROS[:len(data)]:
                found.update(at.to_bytes(8, 'big'))
                found.update(data)
            at += _GRAIN_BYTES
            if not at % _READ_BYTES:
                pause()
    return found.hexdigest()


def _data_ranges(descriptor: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    size, at = os.fstat(descriptor).st_size, 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # there is no data behind this place
            raise
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, at
