# SPDX-License-Identifier: Apache-2.0
"""Keeps the raw files that backups and migrations read and write.

A volume has at most one such file, and beside it a note in JSON that says what
it is for. Both have the volume's id as their name, so that every service that
sees the folder finds them. The note is written before the file and removed
after it: a file without a note does not exist.

During a rolling upgrade, services of two releases share a folder. A field that
this release does not know is kept; a note with an unknown state is left alone.

The folder may be on a server that does not answer. Operations that do not
need it, and reports, read notes; so they wait for it only so long.
"""

import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import host_space

LOG = logging.getLogger(__name__)

#: What a file is for. A volume is copied to it, the file can be read, the
#: copy failed; it can be written, it has been written and belongs on the
#: volume.
EXPORTING, EXPORTED, FAILED = 'exporting', 'exported', 'failed'
OFFERED, WRITTEN = 'offered', 'written'
#: Of a migration: its copy has not begun, or has been read; what was written
#: is on the volume.
ASKED, READ, IMPORTED = 'asked', 'read', 'imported'
_STATES = (EXPORTING, EXPORTED, FAILED, OFFERED, WRITTEN, ASKED, READ,
           IMPORTED)

#: How long the folder has to answer when a note is read.
ANSWER_SECONDS = 10.0
#: Less free space than this is left to the host.
SPARE_BYTES = 256 * units.Mi
_NOTE, _RAW = '.json', '.raw'
_OWNER_ALONE = 0o600


class FileNote(NamedTuple):
    """What is known of a volume's file."""

    volume_id: str
    state: str
    owner: str  # the host or cluster of the volume's backend
    service: str  # the host of the service that works on it
    backup_id: str = ''
    #: The host that reads or writes the file; '': none yet. Of the source of
    #: a migration: the host (with the pool) of its record.
    host: str = ''
    #: Of a failed copy: why it failed.
    why: str = ''
    #: Of a file that can be written: the time of its last change, and the
    #: ids of user messages about failures, before it was given out.
    changed_ns: int = 0
    messages: tuple[str, ...] = ()
    #: Whether the backup surely holds raw content.
    raw: bool = False
    #: The instance UUID of a VM that is being made of the file.
    machine: str = ''
    #: Of a note without a file, under the id of its backup: the volume of
    #: which a temporary copy is being made.
    source: str = ''
    #: Of a migration: the volume on the other side, and what is copied, as
    #: :func:`raw.digest` returns it.
    peer: str = ''
    digest: str = ''
    #: The adapter type of the disk that is copied.
    adapter: str = ''
    #: What a later release notes beside.
    more: Mapping[str, Any] = {}


class Folder:
    """The folder of these files; it is created when it is first needed."""

    def __init__(self, path: str) -> None:
        self._folder = pathlib.Path(path)
        self._above: Folder | None = None
        self._patience = _patience(path)

    def within(self, name: str) -> 'Folder':
        """A folder in this one, with files and notes of its own."""
        found = Folder(str(self._folder / name))
        found._above = self
        found._patience = self._patience
        return found

    def file(self, volume_id: str) -> str:
        """The path of a volume's file."""
        return str(self._path(volume_id, _RAW))

    def _path(self, volume_id: str, suffix: str) -> pathlib.Path:
        if not uuidutils.is_uuid_like(volume_id):
            raise ValueError(f'{volume_id!r} is no id')
        return self._folder / f'{volume_id}{suffix}'

    # -- Notes --------------------------------------------------------------

    def note(self, volume_id: str) -> FileNote | None:
        """A volume's note; None: it has none.

        :raises TimeoutError: the folder does not answer
        :raises OSError: it cannot be read
        """
        path = self._path(volume_id, _NOTE)
        text = self._patience.call(functools.partial(_text, path),
                                   ANSWER_SECONDS)
        if isinstance(text, OSError):
            raise text
        return None if text is None else _parsed(path, text)

    def save(self, note: FileNote) -> None:
        """Write a note, so that it outlasts a failure of the host.

        :raises OSError: it was not written
        """
        self._create()
        path = self._path(note.volume_id, _NOTE)
        # Two services may write at once, each its own copy.
        partial = path.with_suffix(f'.{uuidutils.generate_uuid()}.part')
        try:
            with _opened(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                         ) as descriptor:
                os.write(descriptor, _written(note))
                os.fsync(descriptor)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        with _opened(self._folder, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)

    def notes(self) -> list[FileNote]:
        """All notes that can be read.

        :raises TimeoutError: the folder does not answer
        """
        found = []
        for path, text in self._patience.call(
                functools.partial(_texts, self._folder), ANSWER_SECONDS):
            try:
                if isinstance(text, OSError):
                    raise text
                if text is not None and path == self._path(path.stem, _NOTE):
                    found.append(_parsed(path, text))
            except (OSError, ValueError) as error:
                LOG.warning('A note of a backup is left alone: %s', error)
        return found

    def remove(self, volume_id: str) -> None:
        """Remove a volume's file and its note; they may be gone already."""
        self.empty(volume_id)
        self._path(volume_id, _NOTE).unlink(missing_ok=True)

    def empty(self, volume_id: str) -> None:
        """Remove a volume's file, and keep its note."""
        self._path(volume_id, _RAW).unlink(missing_ok=True)

    # -- Files --------------------------------------------------------------

    @contextlib.contextmanager
    def created(self, volume_id: str) -> Iterator[int]:
        """A new, empty file of a volume, open for writing.

        :returns: its descriptor
        """
        self._create()
        path = self._path(volume_id, _RAW)
        path.unlink(missing_ok=True)
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                     ) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[int]:
        """A volume's file, open for reading.

        :returns: its descriptor
        """
        with _opened(self._path(volume_id, _RAW), os.O_RDONLY) as descriptor:
            yield descriptor

    def offer(self, volume_id: str, size_bytes: int) -> int:
        """Create a volume's file, for another process to write.

        :param size_bytes: of the file, which is a hole
        :returns: the time of its last change, to be compared later
        """
        with self.created(volume_id) as descriptor:
            os.truncate(descriptor, size_bytes)
            # Long ago: to open it for writing changes that.
            os.utime(descriptor, (0, 0))
            return os.fstat(descriptor).st_mtime_ns

    def is_changed(self, volume_id: str, changed_ns: int) -> bool:
        """Whether a file was opened for writing since it was offered."""
        try:
            found = os.stat(self._path(volume_id, _RAW))
        except FileNotFoundError:
            return False
        return found.st_mtime_ns != changed_ns

    def _create(self) -> None:
        if self._above is not None:
            self._above._create()  # with the same mode
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- Space --------------------------------------------------------------

    @contextlib.contextmanager
    def claimed(self, needed_bytes: int, descriptor: int) -> Iterator[None]:
        """Claim space for a file that the block writes.

        :param needed_bytes: what it takes at most; holes take nothing
        :raises BackupRefused: the folder has not so much, also later
        """
        with _refusing(), host_space.claimed(self._place, needed_bytes,
                                             descriptor):
            yield

    def claim_offered(self, volume_id: str, needed_bytes: int
                      ) -> host_space.SpaceClaim | None:
        """Claim space for a file that another process will write.

        :returns: to be ended with the restore; None: it could not be noted
        :raises BackupRefused: the folder has not so much
        """
        self._create()
        with _refusing():
            return host_space.claim(self._place, needed_bytes,
                                    self.file(volume_id))

    def check_space(self, needed_bytes: int) -> None:
        """Check that the folder has space for a file that is written later.

        :param needed_bytes: what it takes at most; holes take nothing
        :raises BackupRefused: the folder has not so much
        """
        self._create()
        with _refusing():
            found = host_space.claim(self._place, needed_bytes, '')
        if found is not None:
            found.end()

    def check_spare(self) -> None:
        """Check that the host has still some space, while a file grows.

        :raises BackupRefused: it has not
        """
        with _refusing():
            host_space.check_spare(self._place)

    @property
    def _place(self) -> host_space.HostFolder:
        return host_space.HostFolder(
            str(self._folder), 'vmdk_ext_backup_dir', SPARE_BYTES)


@functools.cache
def _patience(path: str) -> concurrency.Patience:
    """That of all objects for one folder; a backend has but one."""
    return concurrency.Patience(f'{path} (vmdk_ext_backup_dir)')


def _text(path: pathlib.Path) -> str | OSError | None:
    """The text of a note; None: there is none. Only calls the system."""
    try:
        return path.read_text(errors='replace')
    except FileNotFoundError:
        return None
    except OSError as error:
        return error


def _texts(folder: pathlib.Path
           ) -> list[tuple[pathlib.Path, str | OSError | None]]:
    return [(path, _text(path)) for path in sorted(folder.glob(f'*{_NOTE}'))]


def _parsed(path: pathlib.Path, text: str) -> FileNote:
    """:raises OSError: it is no note of this release"""
    try:
        fields = json.loads(text)
        known = {name: fields.pop(name) for name in FileNote._fields
                 if name in fields and name != 'more'}
        note = FileNote(**known | {'messages': tuple(known['messages'])},
                        more=fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OSError(f'{path} is no note ({error})') from error
    if note.state not in _STATES:
        raise OSError(f'{path} has the state {note.state!r}, which a later '
                      'release has noted; upgrade this cinder-volume too')
    return note


def _written(note: FileNote) -> bytes:
    fields = note._asdict()
    return json.dumps(dict(fields.pop('more')) | fields).encode()


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except host_space.TooLittleSpace as error:
        raise exceptions.BackupRefused(str(error)) from error


@contextlib.contextmanager
def _opened(path: pathlib.Path, flags: int) -> Iterator[int]:
    # A link of that name must not lead elsewhere.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC,
                         _OWNER_ALONE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
