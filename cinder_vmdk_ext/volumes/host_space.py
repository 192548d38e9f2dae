# SPDX-License-Identifier: Apache-2.0
"""Claims space of this host's file systems for operations that will write.

An operation claims, before it begins, what it will write at most. What the
other operations of this host have still to write is subtracted from the free
space, in every process: Cinder runs one for each backend, and their folders
may be on one file system. Each claim is a small file beside Cinder's locks,
which its process keeps locked, so that a claim ends with its process.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

_FOLDER = 'cinder_vmdk_ext-space'
_CLAIM = '.claim'
_LOCK = 'vmdk-ext-space'
_BLOCK_BYTES = 512  # of st_blocks, on every file system
#: Errors that mean: the file system, or a quota of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


class HostFolder(NamedTuple):
    """A folder to write to, and what an operator knows of it."""

    path: str
    option: str
    spare_bytes: int = 0  # left to the host


class TooLittleSpace(Exception):
    """The folder cannot take what is to be written; says why in a sentence."""

    def __init__(self, place: HostFolder, needed_bytes: int, free_bytes: int,
                 claimed_bytes: int = 0, how: str = 'has too little space'
                 ) -> None:
        others = (f', of which other operations of this host will take '
                  f'{_size(claimed_bytes)}' if claimed_bytes else '')
        super().__init__(
            f'{place.path} ({place.option}) {how}: '
            f'{_size(needed_bytes + place.spare_bytes)} needed, '
            f'{_size(free_bytes)} free{others}; make space there, or set '
            f'{place.option} to a larger folder')


class SpaceClaim:
    """Space that an operation of this process still has to write to."""

    def __init__(self, path: pathlib.Path, fields: dict[str, Any]) -> None:
        """Write and lock the claim's file; the caller holds the lock of all.

        :raises OSError: it cannot be written
        """
        self._path = path
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._descriptor, json.dumps(fields).encode())
        except OSError:
            self.end()
            raise

    def end(self) -> None:
        """Give up the claim; may be repeated."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def claim(place: HostFolder, needed_bytes: int, path: str,
          inode: int | None = None) -> SpaceClaim | None:
    """Claim space for a file, until the claim is ended.

    :param needed_bytes: what it takes at most; holes take nothing
    :param path: what the file there takes by and by is free no more, and so
        is subtracted from the claim
    :param inode: of that file; None: any
    :returns: None: other operations cannot be considered, as a warning says
    :raises TooLittleSpace: the folder has not so much
    :raises OSError: the folder cannot be looked at
    """
    device = os.stat(place.path).st_dev
    with contextlib.ExitStack() as stack:
        folder, others = None, 0
        try:
            folder = _folder()
            stack.enter_context(lockutils.lock(
                _LOCK, external=True, lock_path=str(folder)))
            others = _claimed(folder, device)
        except OSError as error:
            _warn(error)
        free = free_bytes(place.path)
        if free - others < needed_bytes + place.spare_bytes:
            raise TooLittleSpace(place, needed_bytes, free, others)
        if folder is None:
            return None
        try:
            return SpaceClaim(
                folder / f'{uuidutils.generate_uuid()}{_CLAIM}', {
                    'device': device, 'bytes': needed_bytes, 'path': path,
                    'inode': inode})
        except OSError as error:
            _warn(error)
            return None


@contextlib.contextmanager
def claimed(place: HostFolder, needed_bytes: int,
            file: int) -> Iterator[None]:
    """Claim space for a file that the block writes.

    :param needed_bytes: what it takes at most; holes take nothing
    :param file: its descriptor; it need not have a name
    :raises TooLittleSpace: the folder has not so much, also later
    """
    found = claim(place, needed_bytes, f'/proc/{os.getpid()}/fd/{file}',
                  os.fstat(file).st_ino)
    try:
        with explained(place, needed_bytes):
            yield
    finally:
        if found is not None:
            found.end()


@contextlib.contextmanager
def explained(place: HostFolder, needed_bytes: int) -> Iterator[None]:
    """Say in a sentence that a file system became full in the block.

    :raises TooLittleSpace: in place of that OSError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise TooLittleSpace(place, needed_bytes, free_bytes(place.path),
                             how='became full') from error


def check_spare(place: HostFolder) -> None:
    """Check that the host has still what is left to it.

    :raises TooLittleSpace: it has not
    """
    free = free_bytes(place.path)
    if free < place.spare_bytes:
        raise TooLittleSpace(place, 0, free)


def free_bytes(path: str) -> int:
    """What a file system has free for this process's user."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _folder() -> pathlib.Path:
    # Every process of Cinder on a host has the same.
    path = pathlib.Path(CONF.oslo_concurrency.lock_path
                        or CONF.state_path) / _FOLDER
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _claimed(folder: pathlib.Path, device: int) -> int:
    """What operations have still to write; removes the claims of ended ones.

    The caller holds the lock of all claims.
    """
    total = 0
    for path in sorted(folder.glob(f'*{_CLAIM}')):
        try:
            total += _left(path, device)
        except FileNotFoundError:
            pass  # it has ended meanwhile
    return total


def _left(path: pathlib.Path, device: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            path.unlink()  # its process has ended
            return 0
        try:
            fields = json.loads(os.pread(descriptor, units.Mi, 0))
            if fields['device'] != device:
                return 0
            return max(0, int(fields['bytes']) - _occupied(fields))
        except (ValueError, TypeError, KeyError) as error:
            raise OSError(f'{path} is no claim ({error})') from error
    finally:
        os.close(descriptor)


def _occupied(fields: dict[str, Any]) -> int:
    """What the file of a claim takes already; 0: that is not known."""
    try:
        found = os.stat(fields['path'])
    except OSError:
        return 0
    if found.st_dev != fields['device'] or (
            fields['inode'] not in (None, found.st_ino)):
        return 0  # another process has that number now
    return found.st_blocks * _BLOCK_BYTES


def _warn(error: OSError) -> None:
    LOG.warning('What this operation will write to the host is not noted '
                'for other operations: %s', error)


def _size(count: int) -> str:
    if count < units.Gi:
        return f'{count / units.Mi:.1f} MiB'
    return f'{count / units.Gi:.2f} GiB'
