# SPDX-License-Identifier: Apache-2.0
"""How long work lets other work of the process run in between."""

import time

from cinder import utils


def cooperative_yield() -> None:
    """Let other greenthreads run, where Cinder runs on greenthreads.

    Cinder's own from release 29 on, which does nothing on native threads.
    """
    if hasattr(utils, 'cooperative_yield'):
        utils.cooperative_yield()
    else:
        time.sleep(0)
