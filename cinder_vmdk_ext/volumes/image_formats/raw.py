# SPDX-License-Identifier: Apache-2.0
"""Reads and writes raw files with holes: zeros take no space and no time.

Content is passed as in :mod:`stream_vmdk`: pieces that are an offset in bytes
and the data there, by ascending offsets.
"""

import errno
import os
from collections.abc import Iterable
from collections.abc import Iterator

from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

_READ_BYTES = 1 << 20
_ZEROS = bytes(_READ_BYTES)


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
