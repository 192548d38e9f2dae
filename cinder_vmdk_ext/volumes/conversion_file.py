# SPDX-License-Identifier: Apache-2.0
"""Provides temporary files in ``image_conversion_dir``, and their space.

Only data that has to be read or written out of order needs such a file. It
has no name, so that it is gone when the process ends, however it ends.
"""

import contextlib
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import BinaryIO

from oslo_config import cfg
from oslo_utils import fileutils

from cinder import exception

from cinder_vmdk_ext.volumes import host_space

CONF = cfg.CONF
CONF.import_opt('image_conversion_dir', 'cinder.image.image_utils')


@contextlib.contextmanager
def opened(image_id: str, size_bytes: int) -> Iterator[BinaryIO]:
    """A file without a name, open for reading and writing.

    :param size_bytes: the space that it will take at most
    :raises ImageTooBig: the folder has less space, also later while the file
        is written
    """
    place = host_space.HostFolder(CONF.image_conversion_dir,
                                  'image_conversion_dir')
    fileutils.ensure_tree(place.path)
    try:
        with host_space.explained(place, size_bytes), \
                tempfile.TemporaryFile(dir=place.path) as file, \
                host_space.claimed(place, size_bytes, file.fileno()):
            yield file
    except host_space.TooLittleSpace as error:
        raise exception.ImageTooBig(image_id=image_id,
                                    reason=str(error)) from error


def fill(file: BinaryIO, chunks: Iterable[bytes]) -> None:
    """Write all chunks, and go back to the beginning."""
    for chunk in chunks:
        file.write(chunk)
    file.flush()
    file.seek(0)
