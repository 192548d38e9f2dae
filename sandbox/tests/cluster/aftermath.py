# SPDX-License-Identifier: Apache-2.0
"""Does what an operator does after services were killed.

Each step is one of docs/cluster-run.md. Everything is done through Cinder's
API and the plugin's commands.
"""

import collections
import time

from sandbox.tests.cluster import commands
from sandbox.tests.cluster import load

_PATIENCE_SECONDS = 120.0
# Statuses in which nothing was created yet, or nothing has to be kept.
_GIVEN_UP = ('creating', 'downloading', 'deleting', 'error',
             'error_deleting')


class Operator:
    """Ends stuck operations, and sweeps objects that belong to no volume.

    :param cloud: the sandbox's `Cluster`
    :param quiet_seconds: it begins after nothing has changed for this time
    """

    def __init__(self, cloud, book, quiet_seconds):
        self._cloud = cloud
        self._api = cloud.cinder
        self._quiet_seconds = quiet_seconds
        self._book = book
        #: what was found and done -> how often
        self.actions = collections.Counter()

    def tidy(self):
        """End everything that is stuck."""
        self._wait_until_quiet()
        for attachment in self._api.attachments.list():
            self.actions['attachment left: deleted'] += 1
            self._api.attachments.delete(attachment.id)
        for snapshot in self._api.volume_snapshots.list():
            if snapshot.status != 'available':
                self._give_up(self._api.volume_snapshots, snapshot)
        for volume in self._api.volumes.list():
            self._put_right(volume)
        for moved in commands.sweep(self._cloud):
            self.actions[moved] += 1
        commands.empty_quarantine(self._cloud)

    def _wait_until_quiet(self):
        """Wait while restarted services continue some of their operations."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        seen, since = None, time.monotonic()
        while time.monotonic() < deadline:
            now = {(thing.id, load.status_of(collection, thing.id))
                   for collection in (self._api.volumes,
                                      self._api.volume_snapshots)
                   for thing in collection.list()}
            unsettled = {one for one in now if one[1] not in load.RESTING}
            if unsettled != seen:
                seen, since = unsettled, time.monotonic()
            if not unsettled or (
                    time.monotonic() - since > self._quiet_seconds):
                return
            time.sleep(1)

    def _put_right(self, volume):
        status = load.status_of(self._api.volumes, volume.id)
        if status in _GIVEN_UP:
            self._give_up(self._api.volumes, volume)
            return
        if status not in ('available', 'gone'):
            self.actions[f'volume {status}: set available'] += 1
            self._api.volumes.reset_state(volume, 'available', 'detached',
                                          'none')
        wish = self._book.wishes.pop(volume.id, None)
        if wish is not None and status != 'gone':
            self._repeat(self._api.volumes.get(volume.id), wish)

    def _give_up(self, collection, thing):
        """Delete an object, again if it is being deleted."""
        kind = 'volume' if collection is self._api.volumes else 'snapshot'
        status = load.status_of(collection, thing.id)
        if status == 'gone':
            return
        self.actions[f'{kind} {status}: deleted'] += 1
        if status not in load.RESTING:
            collection.reset_state(thing, 'error')
        collection.delete(thing)
        last = load.settled(collection, thing.id, _PATIENCE_SECONDS)
        if last != 'gone':
            raise AssertionError(f'{kind} {thing.id} was deleted again, and '
                                 f'is {last}')

    def _repeat(self, volume, wish):
        """Repeat an operation that was not done."""
        if load.is_fulfilled(volume, wish):
            return
        self.actions[f'{wish.operation}: repeated'] += 1
        load.ask(self._api, volume, wish)
        last = load.settled(self._api.volumes, volume.id, _PATIENCE_SECONDS)
        if last != 'available' or not load.is_fulfilled(
                self._api.volumes.get(volume.id), wish):
            raise AssertionError(f'{wish.operation} of {volume.id} was '
                                 f'repeated, and it is {last}')
