# SPDX-License-Identifier: Apache-2.0
"""How long work lets other work of the process run in between."""

import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TypeVar

from cinder import utils

_Item = TypeVar('_Item')


def cooperative_yield() -> None:
    """Let other greenthreads run, where Cinder runs on greenthreads.

    Cinder's own from release 29 on, which does nothing on native threads.
    """
    if hasattr(utils, 'cooperative_yield'):
        utils.cooperative_yield()
    else:
        time.sleep(0)


def in_turns(items: Iterable[_Item], turn: int) -> Iterator[_Item]:
    """All of many items; other greenthreads run after each so many."""
    for count, item in enumerate(items):
        if not count % turn:
            cooperative_yield()
        yield item
