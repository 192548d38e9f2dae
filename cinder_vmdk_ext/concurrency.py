# SPDX-License-Identifier: Apache-2.0
"""Lets other greenthreads of the process run during long work."""

import time
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
