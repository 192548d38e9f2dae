# SPDX-License-Identifier: Apache-2.0
"""Provides temporary files in ``image_conversion_dir``, and their space.

Only data that has to be read or written out of order needs such a file. It
has no name, so that it is gone when the process ends, however it ends.
"""

import contextlib
import errno
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import BinaryIO

from oslo_config import cfg
from oslo_utils import fileutils

from cinder import exception
from cinder.image import image_utils

CONF = cfg.CONF


@contextlib.contextmanager
def opened(image_id: str, size_bytes: int) -> Iterator[BinaryIO]:
    """A file without a name, open for reading and writing.

    :param size_bytes: the space that it will take, as far as it is known
    :raises ImageTooBig: the folder has less space, also later while the file
        is written
    """
    folder = CONF.image_conversion_dir
    fileutils.ensure_tree(folder)
    image_utils.check_available_space(folder, size_bytes, image_id)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise exception.ImageTooBig(
            image_id=image_id, reason=f'{folder} (image_conversion_dir) has '
            f'no space left ({error.strerror})') from error


def fill(file: BinaryIO, chunks: Iterable[bytes]) -> None:
    """Write all chunks, and go back to the beginning."""
    for chunk in chunks:
        file.write(chunk)
    file.flush()
    file.seek(0)
