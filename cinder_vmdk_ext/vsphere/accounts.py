# SPDX-License-Identifier: Apache-2.0
"""Refused logins, remembered by account for the whole process.

A vCenter locks an account after some wrong passwords in a short time (by
default five in three minutes), also for those that know the right one. So all
that log in with one account share one pause after a refusal, and it grows.
It is longer than those three minutes, so that each process tries once in
them: an account is safe up to four processes, on whatever hosts they run.
"""

import threading
import time
from collections.abc import Callable

# After the first refusal, and at most; it doubles with each.
FIRST_PAUSE_SECONDS = 200.0
LONGEST_PAUSE_SECONDS = 1600.0


class Account:
    """A user of a vCenter with a password that may have been refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._refusals = 0
        self._refusal: Exception | None = None

    def check(self) -> None:
        """Refuse a login that would be too early.

        :raises Exception: the last refusal, as it was noted
        """
        with self._lock:
            if self._refusal is not None and self._clock() < self._until:
                raise self._refusal.with_traceback(None)

    def refuse(self, error: Exception) -> float:
        """Note that the vCenter refused the user or the password.

        :returns: for how many seconds no other login is to be tried
        """
        with self._lock:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** self._refusals,
                        LONGEST_PAUSE_SECONDS)
            self._refusals += 1
            self._refusal, self._until = error, self._clock() + pause
            return pause

    def accept(self) -> None:
        """Note that a login succeeded."""
        with self._lock:
            self._refusal, self._refusals = None, 0


_accounts: dict[tuple[str, int, str, int], Account] = {}
_lock = threading.Lock()


def of(host: str, port: int, user: str, password: str) -> Account:
    """The account of a user at a vCenter; the same object each time.

    With another password it is another one: what an operator has put right
    is tried at once. The password itself is not kept.
    """
    key = host.lower(), port, user.lower(), hash(password)
    with _lock:
        return _accounts.setdefault(key, Account())
