# SPDX-License-Identifier: Apache-2.0
"""Kills the services and restarts the vCenter while clients use them."""

import os
import random
import signal
import threading
import time

from simulator import control as control_endpoint

_DOWN_SECONDS = 2.0
_PATIENCE_SECONDS = 90.0
_SETTLING_SECONDS = 4.0


class Chaos(threading.Thread):
    """Kills volume services in turn, and restarts the vCenter.

    A service is killed by SIGKILL with all its children, and the next one
    only when it is back. The vCenter refuses all calls, ends, and comes back
    with its state and without its sessions.

    :param kills: how many services to kill
    :param restarts: how often to restart the vCenter; both are spread evenly
        over the operations of the ledger
    """

    def __init__(self, cloud, control, book, kills, restarts, seed):
        super().__init__(name='chaos', daemon=True)
        self._cloud = cloud
        self._control = control
        self._book = book
        self._events = sorted(
            [(each * book.operations // (kills + 1), self._kill)
             for each in range(1, kills + 1)]
            + [(each * book.operations // (restarts + 1), self._restart)
               for each in range(1, restarts + 1)],
            key=lambda event: event[0])
        self._random = random.Random(seed)
        self.kills = self.restarts = 0
        self.error = None
        self._ahead = book.operations // (kills + restarts + 1)

    def run(self):
        try:
            for due, event in self._events:
                # The clients go on meanwhile, but not to the end.
                self._book.limit = due + self._ahead
                while self._book.started < due:
                    time.sleep(0.2)
                # In the middle of operations, which may have waited for this.
                time.sleep(self._random.uniform(2, 5))
                event()
        except Exception as error:  # raised again by end()
            self.error = error
        finally:
            self._book.limit = self._book.operations

    def end(self):
        """Return when all has happened, and everything is up again."""
        self.join()
        if self.error:
            raise self.error

    def _kill(self):
        number = self.kills % self._cloud.size + 1
        self._cloud.kill_volume_service(number)
        self.kills += 1
        time.sleep(_DOWN_SECONDS)
        self._cloud.start_volume_service(number)
        self._cloud.wait_until_initialized(number)

    def _restart(self):
        before = self._control.process()['pid']
        # A vCenter forgets nothing that it has answered. The simulated one
        # needs a moment until all of that is on disk.
        for rule in ({'method': '.*'}, {'path': '.*'}):
            self._control.fault(cut='before', **rule)
        time.sleep(_SETTLING_SECONDS)
        os.kill(before, signal.SIGKILL)
        self.restarts += 1
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if self._control.process()['pid'] != before:
                    return
            except (OSError, control_endpoint.ControlError):
                pass
            time.sleep(0.2)
        raise AssertionError('the vCenter did not come back')
