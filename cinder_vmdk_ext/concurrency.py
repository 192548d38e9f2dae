# SPDX-License-Identifier: Apache-2.0
"""Lets other greenthreads run during long work; shares work among threads.
"""

import collections
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TypeVar

from cinder import utils

_Item = TypeVar('_Item')


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
