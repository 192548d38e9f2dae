# SPDX-License-Identifier: Apache-2.0
"""Refused logins, remembered by account for all processes of a host.

A vCenter locks an account after some wrong passwords in a short time (by
default five in three minutes), even for users with the right password. Cinder
runs a process for each backend. So all processes that log in with one account
share one pause after a refusal. The pause grows with each refusal, and is
longer than three minutes, so that a host tries only once in that time.
"""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_vmware import exceptions

LOG = logging.getLogger(__name__)

# The pause after the first refusal, and the longest one; each refusal doubles
# it.
FIRST_PAUSE_SECONDS = 200.0
LONGEST_PAUSE_SECONDS = 1600.0
# How long to wait for a login of another process, which may hang.
LOCK_SECONDS = 30.0
_FOLDER = 'cinder_vmdk_ext-logins'


class SharedRefusals:
    """One account's refusals, shared by the processes of a host.

    They are in a file that only its owner may read. If the file cannot be
    read or written, each process knows only its own refusals.
    """

    def __init__(self, folder: str | os.PathLike[str], account: str,
                 clock: Callable[[], float] = time.time) -> None:
        """:param folder: where processes of this host keep their locks"""
        self._folder = pathlib.Path(folder) / _FOLDER
        self._account = account
        self._clock = clock
        self._name: str | None = None
        self._warned = False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from logging in with the account."""
        lock = None
        with self._tolerant():
            lock = lockutils.InterProcessLock(f'{self._file()}.lock')
            if not lock.acquire(timeout=LOCK_SECONDS, delay=0.02,
                                max_delay=0.2):
                lock = None
        try:
            yield
        finally:
            if lock is not None:
                with self._tolerant():
                    lock.release()

    def read(self) -> tuple[float, int, str]:
        """Read how long to pause, and why.

        :returns: seconds without a login, number of refusals, and the text of
            the last refusal
        """
        with self._tolerant():
            try:
                found = json.loads(self._file().read_text())
                left = float(found['until']) - self._clock()
                # The system's clock may have been set back.
                return (left if left <= LONGEST_PAUSE_SECONDS else 0.0,
                        int(found['refusals']), str(found['why']))
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                pass
        return 0.0, 0, ''

    def write(self, pause_seconds: float, refusals: int, why: str) -> None:
        """Note a refusal."""
        with self._tolerant():
            text = json.dumps({'until': self._clock() + pause_seconds,
                               'refusals': refusals, 'why': why})
            _write(self._file(), text.encode())

    def forget(self) -> None:
        """Forget the refusals: a login has succeeded."""
        with self._tolerant():
            self._file().unlink(missing_ok=True)

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                LOG.warning('Refused logins cannot be shared with other '
                            'processes of this host, which may lock the '
                            'account: %s', error)

    def _file(self) -> pathlib.Path:
        """The file; its name depends on the password without revealing it."""
        if self._name is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = self._folder / 'key'
            if not key.exists():
                _write(key, secrets.token_bytes(32), replace=False)
            self._name = hmac.new(key.read_bytes(), self._account.encode(),
                                  hashlib.sha256).hexdigest()[:32]
        return self._folder / self._name


def _write(path: pathlib.Path, content: bytes, replace: bool = True) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    partial = path.with_name(f'{path.name}.{secrets.token_hex(8)}')
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600),
              'wb') as file:
        file.write(content)
    if replace:
        partial.replace(path)
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        pass  # another process was first
    finally:
        partial.unlink()


class Account:
    """A user of a vCenter with a password that may have been refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 note: SharedRefusals | None = None) -> None:
        """:param note: refusals shared with other processes, if any"""
        self._clock = clock
        self._note = note
        self._lock = threading.Lock()
        self._attempting = threading.Lock()
        self._until = 0.0
        self._refusals = 0
        self._refusal: Exception | None = None

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """A block in which no other process of this host logs in.

        :raises Exception: it is too early for a login; raises the last
            refusal, or VimFaultException (InvalidLogin) if another process
            was refused
        """
        if self._note is None:
            self.check()
            yield
            return
        with self._attempting, self._note.locked():
            self.check()
            yield

    def check(self) -> None:
        """Raise if it is too early for a login.

        :raises Exception: as :meth:`attempt`
        """
        with self._lock:
            if self._refusal is not None and self._clock() < self._until:
                raise self._refusal.with_traceback(None)
        left, _refusals, why = (self._note.read() if self._note
                                else (0.0, 0, ''))
        if left > 0:
            raise exceptions.VimFaultException(
                ['InvalidLogin'], 'another process of this host was refused: '
                f'{why}; tried again in {left:.0f} s')

    def refuse(self, error: Exception) -> float:
        """Note that the vCenter refused the user or the password.

        :returns: seconds to wait before the next login
        """
        others = self._note.read()[1] if self._note else 0
        with self._lock:
            self._refusals = max(self._refusals, others)
            pause = min(FIRST_PAUSE_SECONDS * 2 ** self._refusals,
                        LONGEST_PAUSE_SECONDS)
            self._refusals += 1
            self._refusal, self._until = error, self._clock() + pause
            refusals = self._refusals
        if self._note:
            self._note.write(pause, refusals, str(
                getattr(error, 'msg', None) or error))
        return pause

    def accept(self) -> None:
        """Note that a login succeeded."""
        with self._lock:
            self._refusal, self._refusals = None, 0
        if self._note:
            self._note.forget()


_accounts: dict[tuple[str, int, str, int], Account] = {}
_lock = threading.Lock()


def of(host: str, port: int, user: str, password: str,
       folder: str | os.PathLike[str] | None = None) -> Account:
    """The account of a user at a vCenter; the same object each time.

    Another password makes another account, so that a password which an
    operator has corrected is tried at once. The password is not kept.

    :param folder: where processes of this host keep their locks, to share
        refusals with them; None: share with no other process
    """
    key = host.lower(), port, user.lower(), hash(password)
    with _lock:
        known = _accounts.get(key)
        if known is None:
            note = SharedRefusals(folder, '\n'.join(
                (host.lower(), str(port), user.lower(), password))
            ) if folder else None
            known = _accounts[key] = Account(note=note)
        return known
