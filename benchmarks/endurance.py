# SPDX-License-Identifier: Apache-2.0
"""Runs operations for a long time while others change the vCenter.

A part of the worker: it runs in the process of our driver, on greenthreads.
"""

import random
import threading
import time

OPERATORS = 4
FEWEST, MOST = 10, 40
REPORT_SECONDS = 5.0
SETTLE_SECONDS = 120.0


class Endurance:
    """Creates, changes and deletes volumes until a time has passed."""

    def __init__(self, bench, resident_bytes):
        """:param bench: the worker's Bench
        :param resident_bytes: returns the memory of the process
        """
        self._bench = bench
        self._resident_bytes = resident_bytes
        self._volumes = []
        self._going = True
        self._done = {}
        self._failures = []
        # Since the last row.
        self._longest_wait = self._longest_report = 0.0

    def run(self, minutes):
        """Run; report one line for each minute, and then the books."""
        threads = [threading.Thread(target=each, daemon=True) for each in (
            self._tick, self._report, *[self._operate] * OPERATORS)]
        for each in threads:
            each.start()
        for minute in range(1, minutes + 1):
            time.sleep(60)
            self._bench.emit(
                operation='minute', minute=minute, done=dict(self._done),
                failures=len(self._failures), volumes=len(self._volumes),
                resident_bytes=self._resident_bytes(),
                longest_wait_ms=self._longest_wait * 1000,
                longest_report_ms=self._longest_report * 1000)
            self._longest_wait = self._longest_report = 0.0
        self._going = False
        for each in threads:
            each.join()
        self._bench.emit(operation='books', volumes=[
            each.id for each in self._volumes], claims=self._left(),
            failures=self._failures[:20])

    # -- Greenthreads ---------------------------------------------------------

    def _tick(self):
        """Note the longest processor time between two of its turns."""
        before = time.thread_time()
        while self._going:
            time.sleep(0)
            now = time.thread_time()
            self._longest_wait = max(self._longest_wait, now - before)
            time.sleep(0.005)
            before = time.thread_time()

    def _report(self):
        while self._going:
            before = time.thread_time()
            self._bench.driver.get_volume_stats(refresh=True)
            self._longest_report = max(self._longest_report,
                                       time.thread_time() - before)
            time.sleep(REPORT_SECONDS)

    def _operate(self):
        while self._going:
            count = len(self._volumes)
            action = (self._create if count < FEWEST else
                      self._delete if count > MOST else random.choice((
                          self._create, self._delete, self._extend,
                          self._snapshot, self._clone)))
            name = action.__name__.strip('_')
            try:
                action()
            except Exception as error:
                self._failures.append(f'{name}: {type(error).__name__}: '
                                      f'{error}'[:300])
                time.sleep(1)
            else:
                self._done[name] = self._done.get(name, 0) + 1

    # -- Operations -----------------------------------------------------------

    def _create(self):
        self._volumes.append(self._bench.created())

    def _delete(self):
        volume = self._taken()
        self._bench.driver.delete_volume(volume)
        volume.destroy()

    def _extend(self):
        volume = self._taken()
        try:
            self._bench.driver.extend_volume(volume, volume.size + 1)
            volume.size += 1
            volume.save()
        finally:
            self._volumes.append(volume)

    def _snapshot(self):
        volume = self._taken()
        try:
            snapshot = self._bench.database.snapshot(volume)
            self._bench.driver.create_snapshot(snapshot)
            self._bench.driver.delete_snapshot(snapshot)
            snapshot.destroy()
        finally:
            self._volumes.append(volume)

    def _clone(self):
        volume = self._taken()
        try:
            new = self._bench.new_volume(
                pool=volume.host.partition('#')[2], size_gib=volume.size)
            self._bench.made(new, self._bench.driver.create_cloned_volume(
                new, volume))
            self._volumes.append(new)
        finally:
            self._volumes.append(volume)

    def _taken(self):
        """A volume that no other greenthread uses meanwhile."""
        return self._volumes.pop(random.randrange(len(self._volumes)))

    # -- The books ------------------------------------------------------------

    def _left(self):
        """Claims that remain after all figures were refreshed, in bytes."""
        backend = self._bench.driver.backend
        for moref in backend.reservations.changed():
            backend.refresh_figures(moref)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            self._bench.driver.get_volume_stats(refresh=True)
            left = backend.reservations.by_datastore()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(1)
