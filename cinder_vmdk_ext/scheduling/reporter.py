# SPDX-License-Identifier: Apache-2.0
"""The driver's statistics, which never fail and never vanish."""

import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_stats

LOG = logging.getLogger(__name__)

MOST_VOLUMES_SHOWN = 20
# A millisecond's work or two.
POOLS_A_TURN = 50


_UP = {'backend_state': 'up', 'backend_state_reason': '',
       'stats_age_seconds': 0}


class _Good(NamedTuple):
    """The last report that the vCenter answered for."""

    figures: dict[str, Any]
    read_at: float
    # What the figures follow from: they are the same as long as it is.
    made_of: tuple[model.Inventory, Mapping[str, int]]


class Reporter:
    """Makes the statistics from a fresh inventory, else from the last good.

    Cinder forgets a backend that reports nothing, and with it every volume's
    pool; so a vCenter that does not answer changes the state, not the list.
    """

    def __init__(self, reader: inventory_reader.InventorySource,
                 settings: model.Settings,
                 promised_gib: Callable[[], Mapping[str, int]],
                 clock: Callable[[], float] = time.monotonic,
                 volumes: Callable[[], Mapping[str, Sequence[str]]] = dict,
                 everywhere: Callable[[], dict[str, Any]] = dict) -> None:
        """:param promised_gib: size of lazily created volumes by pool name
        :param volumes: ids of the volumes on each datastore, by its moref;
            asked while there is a datastore that is to be emptied
        :param everywhere: what the report says, and each of its pools
        """
        self._reader = reader
        self._settings = settings
        self._promised_gib = promised_gib
        self._clock = clock
        self._volumes = volumes
        self._everywhere = everywhere
        self._left: dict[str, Sequence[str]] = {}
        self._lock = threading.Lock()
        self._good: _Good | None = None
        self._told: dict[str, str] = {}

    def report(self) -> dict[str, Any]:
        """Figures and state; the driver adds what it alone knows.

        ``stats_age_seconds`` is 0 for fresh figures, -1 when there never
        were any; ``backend_state`` is that of the connection to the vCenter,
        with the cause in ``backend_state_reason``.
        """
        try:
            read_at = self._clock()
            good = self._fresh(self._reader.read(), self._promised_gib(),
                               read_at)
        except Exception as error:
            # Anything at all: without a report the scheduler would go on with
            # a list that nobody marks as old.
            LOG.warning('The vCenter gave no statistics; the last ones are '
                        'reported again: %s', error)
            return self._stale(str(error).partition('\n')[0]
                               or type(error).__name__)
        with self._lock:
            self._good = good
        return _with_state(good.figures, {})

    def _fresh(self, inventory: model.Inventory,
               promised_gib: Mapping[str, int], read_at: float) -> _Good:
        with self._lock:
            good = self._good
        if (good is not None and good.made_of[0] is inventory
                and good.made_of[1] == promised_gib
                and not self._left):
            return good._replace(read_at=read_at)
        figures = _with_state(self._figures(inventory, promised_gib),
                              _UP | self._everywhere())
        self._tell_changes(inventory)
        return _Good(figures, read_at, (inventory, promised_gib))

    def _stale(self, cause: str) -> dict[str, Any]:
        with self._lock:
            good = self._good
        state = {'backend_state': 'down', 'backend_state_reason': cause}
        if good is None:
            return _with_state(_nothing(self._settings),
                               state | {'stats_age_seconds': -1})
        return _with_state(good.figures, state | {
            'stats_age_seconds': int(self._clock() - good.read_at)})

    def _figures(self, inventory: model.Inventory,
                 promised_gib: Mapping[str, int]) -> dict[str, Any]:
        if not self._settings.datastore_pools:
            return pool_stats.report_backend(inventory, self._settings,
                                             sum(promised_gib.values()))
        left = self._look_what_is_left(inventory)
        listed: list[dict[str, Any]] = []
        for pool in pool_stats.reports(inventory, self._settings, promised_gib,
                                       left):
            if not len(listed) % POOLS_A_TURN:
                concurrency.cooperative_yield()
            listed.append(pool)
        if not listed:
            return _nothing(self._settings)
        return {'pools': listed}

    def _look_what_is_left(self, inventory: model.Inventory
                           ) -> dict[str, int]:
        """How many volumes are on datastores that are to be emptied."""
        leaving = eligibility.leaving(inventory, self._settings)
        found: Mapping[str, Sequence[str]] = {}
        if leaving:
            try:
                found = self._volumes()
            except Exception as error:
                # The figures do not depend on it.
                LOG.warning('What is left on datastores that are drained was '
                            'not looked at: %s', error)
                return {}
        left = {moref: sorted(found.get(moref, ())) for moref in leaving}
        with self._lock:
            before, self._left = self._left, dict(left)
        for moref in sorted(leaving):
            if before.get(moref) != left[moref]:
                LOG.info('Volumes left on datastore %(name)s, which is to be '
                         'emptied: %(volumes)s.',
                         {'name': inventory.datastores[moref].plain_name,
                          'volumes': _shortened(left[moref])})
        return {moref: len(ids) for moref, ids in left.items()}

    def _tell_changes(self, inventory: model.Inventory) -> None:
        """Log a datastore when it stops or starts to take volumes."""
        now = pool_stats.ineligible_names(inventory, self._settings)
        with self._lock:
            before, self._told = self._told, now
        for name in sorted(now.keys() - before.keys()):
            LOG.info('Datastore %(name)s takes no volumes: %(reason)s.',
                     {'name': name, 'reason': now[name]})
        for name in sorted(before.keys() - now.keys()):
            LOG.info('Datastore %s takes volumes again, or is gone.', name)


def _shortened(ids: Sequence[str]) -> str:
    shown = ', '.join(ids[:MOST_VOLUMES_SHOWN])
    more = len(ids) - MOST_VOLUMES_SHOWN
    return f'{shown} and {more} more' if more > 0 else shown or 'none'


def _with_state(figures: dict[str, Any],
                state: dict[str, Any]) -> dict[str, Any]:
    """A report, which Cinder may write into."""
    stats = figures | state
    if 'pools' in figures:
        # Cinder looks for a backend's state in its pools (service-list).
        stats['pools'] = ([pool | state for pool in figures['pools']]
                          if state else list(map(dict.copy, figures['pools'])))
    return stats


def _nothing(settings: model.Settings) -> dict[str, Any]:
    """No pool at all: one of no capacity, which the scheduler refuses.

    An empty list would drop the backend, and no list without figures would
    make it one of unknown, hence endless, capacity.
    """
    return pool_stats.report_backend(model.Inventory(), settings, 0)
