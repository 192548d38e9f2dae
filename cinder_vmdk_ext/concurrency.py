# SPDX-License-Identifier: Apache-2.0
"""Lets other greenthreads run during long work; shares work among threads.

Also limits the time of calls that may block for ever.
"""

import collections
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import Generic
from typing import TypeVar

from cinder import utils

_Item = TypeVar('_Item')
# How often a greenthread looks whether a native thread has ended.
_LOOK_SECONDS = 0.002


def cooperative_yield() -> None:
    """Let other greenthreads run, if Cinder runs on greenthreads.

    From Cinder 29 on this is Cinder's own function, which does nothing on
    native threads.
    """
    if hasattr(utils, 'cooperative_yield'):
        utils.cooperative_yield()
    else:
        time.sleep(0)


def on_native_threads() -> bool:
    """Whether Cinder runs on native threads, which it can from 29 on."""
    known = getattr(utils, 'concurrency_mode_threading', None)
    return bool(known and known())


def in_turns(items: Iterable[_Item], turn: int) -> Iterator[_Item]:
    """Yield all items; let other greenthreads run before every ``turn``."""
    for count, item in enumerate(items):
        if not count % turn:
            cooperative_yield()
        yield item


class _Collections:
    """Postpones Python's full garbage collections; threads may share it."""

    # Of a threshold; it counts collections of the younger objects.
    _NEVER = (1 << 31) - 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._postponing = 0
        self._usual = gc.get_threshold()

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        with self._lock:
            if not self._postponing:
                self._usual = gc.get_threshold()
                gc.set_threshold(*self._usual[:2], self._NEVER)
            self._postponing += 1
        try:
            yield
        finally:
            with self._lock:
                self._postponing -= 1
                if not self._postponing:
                    gc.set_threshold(*self._usual)


#: Postpone Python's full garbage collections during a block. Such a collection
#: looks at all objects of the process and stops all threads meanwhile: with
#: Cinder's records of 10,000 volumes for 120 ms. Younger objects are collected
#: as usual.
full_collections_postponed = _Collections().postponed


def at_once(work: Callable[[_Item], object], items: Iterable[_Item],
            most: int) -> None:
    """Do work on each item, on at most ``most`` at a time; wait for all.

    Each thread, native or green, takes one item after another, so a slow item
    delays no other. The caller's thread is one of them.

    :raises Exception: the first one of ``work``, after all has been done
    """
    left = collections.deque(items)
    errors: list[Exception] = []

    def take() -> None:
        while left:
            try:
                item = left.popleft()
            except IndexError:
                return  # another thread was faster
            try:
                work(item)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=take, daemon=True,
                                name=threading.current_thread().name)
               for _each in range(min(most, len(left)) - 1)]
    for thread in threads:
        thread.start()
    take()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Patience:
    """Calls that may block for ever, such as to a network file system.

    Each runs in a native thread, for it would stop all greenthreads. It must
    only call the operating system. A call that blocks cannot be ended; while
    one does, all further ones fail at once.
    """

    def __init__(self, who: str) -> None:
        """:param who: does not answer then, for the error"""
        self._who = who
        self._blocked: set[_NativeCall[Any]] = set()

    def call(self, work: Callable[[], _Item], seconds: float) -> _Item:
        """Do work, in another thread; returns what it returns.

        :raises TimeoutError: it did not end in that time, or an earlier one
            still has not
        :raises Exception: that of the work
        """
        self._blocked -= {each for each in list(self._blocked)
                          if each.ended.is_set()}
        made = _NativeCall(work)
        if self._blocked or not made.wait(seconds):
            if made.begun:
                self._blocked.add(made)
            raise TimeoutError(
                f'{self._who} has not answered for {seconds:g} s or longer')
        if made.error is not None:
            raise made.error
        return made.results[0]


class _NativeCall(Generic[_Item]):
    """A call in a native thread, also where Cinder runs on greenthreads."""

    def __init__(self, work: Callable[[], _Item]) -> None:
        self._work = work
        self._threading = _native_threading()
        self.ended = self._threading.Event()
        self.begun = False
        self.results: list[_Item] = []
        self.error: Exception | None = None

    def _run(self) -> None:
        try:
            self.results.append(self._work())
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    def wait(self, seconds: float) -> bool:
        """Begin, and wait; returns whether it has ended."""
        self.begun = True
        self._threading.Thread(target=self._run, daemon=True,
                               name='vmdk-ext-call').start()
        if self._threading is threading:
            return bool(self.ended.wait(seconds))
        until = time.monotonic() + seconds
        while not self.ended.is_set() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)  # other greenthreads run
        return bool(self.ended.is_set())


def _native_threading() -> Any:
    """The module threading, as it is without eventlet's changes."""
    eventlet = sys.modules.get('eventlet')
    if eventlet is None or not eventlet.patcher.is_monkey_patched('thread'):
        return threading
    return eventlet.patcher.original('threading')
