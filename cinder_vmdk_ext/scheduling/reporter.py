# SPDX-License-Identifier: Apache-2.0
"""Reports the driver's statistics: never an error, never an empty list."""

import dataclasses
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats

LOG = logging.getLogger(__name__)

MOST_VOLUMES_SHOWN = 20
# So many pools are computed in one or two milliseconds.
POOLS_A_TURN = 50
# Each report has new copies of so many pools that did not change: one part
# of this number.
RENEWAL_REPORTS = 16

_UP = {'backend_state': 'up', 'backend_state_reason': '',
       'stats_age_seconds': 0}


class _Facts(NamedTuple):
    """All inputs of the figures: equal inputs give equal figures."""

    inventory: model.Inventory
    promises: Sequence[model.Promise]
    # Ids of volumes by the datastore's moref; None: unknown.
    volumes: Mapping[str, Sequence[str]] | None


class _Good(NamedTuple):
    """The last report that was made from the vCenter's answers."""

    figures: dict[str, Any]
    read_at: float
    inventory: model.Inventory


class Reporter:
    """Makes the statistics for Cinder's scheduler.

    If the vCenter does not answer, the last good figures are reported again,
    with the state ``down``: Cinder drops a backend that reports no pools,
    and with it the pool of every volume.
    """

    def __init__(self, reader: inventory_reader.InventorySource,
                 settings: model.Settings,
                 promises: Callable[[], Sequence[model.Promise]],
                 clock: Callable[[], float] = time.monotonic,
                 volumes: Callable[
                     [], Mapping[str, Sequence[str]] | None] = dict,
                 everywhere: Callable[[], dict[str, Any]] = dict,
                 expected: Callable[
                     [model.Inventory], model.Inventory] = lambda seen: seen,
                 age: Callable[[], float] = float,
                 refresh: Callable[[], bool] = bool) -> None:
        """:param promises: returns the space of volumes without a disk
        :param volumes: returns the ids of the volumes on each datastore, by
            its moref; None: not known yet
        :param everywhere: returns keys for the report and for each pool
        :param expected: adds to an inventory the changes by operations that
            the vCenter's figures do not show yet
        :param age: seconds since the vCenter last confirmed the inventory
            that ``reader`` returns
        :param refresh: called after the vCenter has answered; returns
            whether ``reader`` has to be read again
        """
        self._refresh = refresh
        self._reader = reader
        self._settings = settings
        self._promises = promises
        self._clock = clock
        self._volumes = volumes
        self._everywhere = everywhere
        self._expected = expected
        self._age = age
        # Held while a report is computed: that lets other greenthreads run,
        # which may ask for a report, too.
        self._making = threading.Lock()
        self._last = _Last()
        self._left: dict[str, Sequence[str]] = {}
        self._lock = threading.Lock()
        self._good: _Good | None = None
        self._refused: dict[str, str] = {}
        self._why_none = ''

    def report(self) -> dict[str, Any]:
        """Return the figures and the state, for Cinder's get_volume_stats.

        ``stats_age_seconds`` is the time since the vCenter last confirmed
        the figures, in seconds; -1: there never were any. ``backend_state``
        is the state of the connection to the vCenter (``up`` or ``down``),
        and ``backend_state_reason`` the cause. Never raises.

        Cinder may change the report. A pool that has not changed has the
        dictionary of the report before, with the age of this one, because
        Cinder's manager writes the same keys into each report
        (allocated_capacity_gb, and those of extra_capabilities) before it
        sends a copy to the scheduler. Any other change by a caller ends
        within ``RENEWAL_REPORTS`` reports.
        """
        try:
            # First the promises: one whose disk is begun meanwhile counts
            # twice in this report; the other way round it would not count.
            promises = tuple(self._promises())
            inventory = self._reader.read()
            if self._refresh():
                inventory = self._reader.read()
            inventory = self._expected(inventory)
            read_at = self._clock() - self._age()
            with self._making:
                good = self._fresh(_Facts(inventory, promises,
                                          self._look_at_volumes()), read_at)
                handed = self._handed(good, int(self._clock() - good.read_at))
        except Exception as error:
            # Every error is caught: without a report the scheduler would keep
            # a list that is not marked as old.
            LOG.warning('There are no new statistics; the last ones are '
                        'reported again: %s', error)
            return self._stale(exceptions.first_line(error)
                               or type(error).__name__)
        with self._lock:
            self._good = good
        return handed

    def latest(self) -> tuple[dict[str, Any], float] | None:
        """The last report that the vCenter answered for, without a call.

        :returns: the report, and since when the vCenter has not confirmed
            it, in seconds; None: there was none
        """
        with self._lock:
            good = self._good
        return None if good is None else (
            good.figures, max(0.0, self._clock() - good.read_at))

    def inventory(self) -> model.Inventory | None:
        """What the figures of :meth:`latest` were made of, without a call."""
        with self._lock:
            return self._good.inventory if self._good else None

    def _fresh(self, facts: _Facts, read_at: float) -> _Good:
        with self._lock:
            good = self._good
        # An error below leaves an empty one, and the next report is full.
        last, self._last = self._last, _Last()
        changed = _changed(last.made_of, facts) if last.made_of else None
        same = last.made_of is not None and facts.inventory.places_as(
            last.made_of.inventory)
        if (good is not None and same and changed is not None and not changed
                and last.made_of and last.made_of.promises == facts.promises):
            last.made_of = facts
            self._last = last
            return good._replace(read_at=read_at, inventory=facts.inventory)
        changed = self._count_promises(facts, last, changed, same)
        if self._judge(facts, last, changed) or not same:
            self._log_changes(facts, last.refused)
        self._log_what_is_left(facts, last.refused)
        state = _UP | {'backend_state_reason': self._why_none
                       } | self._everywhere()
        if state != last.state:
            last.state, changed = state, None
        # Naming and arranging all pools takes some milliseconds in one piece.
        concurrency.cooperative_yield()
        figures = self._figures(facts, last, changed)
        last.made_of = facts
        self._last = last
        return _Good(figures, read_at, facts.inventory)

    def _judge(self, facts: _Facts, last: '_Last',
               changed: frozenset[str] | None) -> bool:
        """Bring the verdicts on datastores up to date, in turns.

        :param changed: morefs; None: judge all datastores anew
        :returns: whether any verdict may have changed
        """
        altered = changed is None
        if changed is None:
            last.refused, changed = {}, frozenset(facts.inventory.datastores)
        for moref in concurrency.in_turns(changed, POOLS_A_TURN):
            altered |= eligibility.alter(last.refused, (moref,),
                                         facts.inventory, self._settings)
        return altered

    def _count_promises(self, facts: _Facts, last: '_Last',
                        changed: frozenset[str] | None, same: bool
                        ) -> frozenset[str] | None:
        """:param same: whether all names, storages and datastore clusters
            are the same

        :returns: ``changed``, and where the promised space changed
        """
        if changed is None or last.made_of is None:
            last.promised = pool_stats.promised_by_datastore(
                facts.promises, facts.inventory, self._settings)
            return None
        if same and facts.promises == last.made_of.promises:
            return changed
        known, made_for = ((last.promised, last.made_of.promises) if same
                           else ({}, ()))
        before, last.promised = last.promised, pool_stats.recount(
            known, made_for, facts.promises, facts.inventory, self._settings)
        return changed | {
            moref for moref in before.keys() | last.promised.keys()
            if before.get(moref) != last.promised.get(moref)}

    def _handed(self, good: _Good, age: int) -> dict[str, Any]:
        """A report that Cinder may change.

        :param age: of its figures, in seconds
        """
        last, aged = self._last, {'stats_age_seconds': age}
        if not last.pools or good.figures.get('pools') is None:
            return _with_state(good.figures, aged if age else {})
        last.turn = (last.turn + 1) % RENEWAL_REPORTS
        for name in list(last.pools)[last.turn::RENEWAL_REPORTS]:
            last.copies[name] = last.pools[name].copy()
        if age or last.age:
            for pool in last.copies.values():
                pool['stats_age_seconds'] = age
        last.age = age
        return good.figures | aged | {'pools': list(last.copies.values())}

    def _stale(self, cause: str) -> dict[str, Any]:
        with self._lock:
            good = self._good
        state = {'backend_state': 'down', 'backend_state_reason': cause}
        if good is None:
            return _with_state(_nothing(self._settings),
                               state | {'stats_age_seconds': -1})
        return _with_state(good.figures, state | {
            'stats_age_seconds': int(self._clock() - good.read_at)})

    def _figures(self, facts: _Facts, last: '_Last',
                 changed: frozenset[str] | None) -> dict[str, Any]:
        """:param changed: datastores (morefs); None: report all pools anew"""
        if not self._settings.datastore_pools:
            return pool_stats.report_backend(
                facts.inventory, self._settings, facts.promises,
                _counts(facts.volumes)) | last.state
        if changed is not None and last.made_of is not None:
            self._make_some(facts, last, last.made_of.inventory, changed)
        else:
            last.pools = self._made(facts, last, None)
            last.copies = {name: pool.copy()
                           for name, pool in last.pools.items()}
        if not last.pools:
            return _with_state(_nothing(self._settings), last.state)
        return {'pools': list(last.pools.values())} | last.state

    def _make_some(self, facts: _Facts, last: '_Last',
                   before: model.Inventory, changed: frozenset[str]) -> None:
        """Report the pools of the changed datastores anew.

        :param before: what the pools so far were made of
        """
        now = facts.inventory
        rearranged = pool_names.rearranged(before, now, self._settings)
        changed = (changed & now.datastores.keys()) | (rearranged or set())
        pools = pool_names.holding(changed, now, self._settings)
        made = self._made(facts, last, frozenset(
            each.moref for pool in pools for each in pool.datastores))
        concerned = {pool.name for pool in pools}
        shown = concerned & last.pools.keys()
        last.pools |= made
        last.copies |= {name: pool.copy() for name, pool in made.items()}
        if rearranged is not None or made.keys() != shown:
            names = pool_names.ordered(now, self._settings)
            if len(last.known) > len(names):
                for name in last.known.keys() - names:
                    del last.known[name]
            last.keep(names, concerned - made.keys())

    def _made(self, facts: _Facts, last: '_Last',
              changed: frozenset[str] | None) -> dict[str, dict[str, Any]]:
        return {pool['pool_name']: pool | last.state
                for pool in concurrency.in_turns(pool_stats.reports(
                    facts.inventory, self._settings, last.promised,
                    _counts(facts.volumes, changed), last.known, changed),
                    POOLS_A_TURN)}

    def _look_at_volumes(self) -> Mapping[str, Sequence[str]] | None:
        try:
            return self._volumes()
        except Exception as error:
            # The figures of space do not depend on it.
            LOG.warning('The volumes on each datastore were not counted: %s',
                        error)
            return None

    def _log_changes(self, facts: _Facts,
                     refused: Mapping[str, model.Ineligibility]) -> None:
        """Log which datastores stop or start to take volumes."""
        why_none = pool_stats.why_there_is_none(
            facts.inventory, self._settings, refused)
        now = pool_stats.ineligible_names(
            facts.inventory, self._settings, refused)
        with self._lock:
            before, self._refused = self._refused, now
            none_before, self._why_none = self._why_none, why_none
        for name in sorted(now.keys() - before.keys()):
            LOG.info('Datastore %(name)s takes no volumes: %(reason)s.',
                     {'name': name, 'reason': now[name]})
        for name in sorted(before.keys() - now.keys()):
            LOG.info('Datastore %s takes volumes again, or no longer exists.',
                     name)
        if why_none and why_none != none_before:
            LOG.warning('The backend has no pool: %s.', why_none)

    def _log_what_is_left(self, facts: _Facts,
                          refused: Mapping[str, model.Ineligibility]) -> None:
        """Log which volumes are on datastores that must be emptied."""
        if facts.volumes is None:
            return
        leaving = [moref for moref, why in refused.items()
                   if why.code in eligibility.LEAVING]
        left = {moref: sorted(facts.volumes.get(moref, ()))
                for moref in leaving}
        with self._lock:
            before, self._left = self._left, dict(left)
        for moref in sorted(leaving):
            if before.get(moref) != left[moref]:
                LOG.info('Volumes left on datastore %(name)s, which must be '
                         'emptied: %(volumes)s.',
                         {'name': facts.inventory.datastores[moref].plain_name,
                          'volumes': _shortened(left[moref])})


@dataclasses.dataclass
class _Last:
    """Inputs and results of the last report, which the next one reuses."""

    made_of: _Facts | None = None
    known: pool_stats.Known = dataclasses.field(default_factory=dict)
    refused: dict[str, model.Ineligibility] = dataclasses.field(
        default_factory=dict)
    state: dict[str, Any] = dataclasses.field(default_factory=dict)
    promised: pool_stats.PromisedSpace = dataclasses.field(
        default_factory=dict)
    # Reports by the pools' names, and the copies that Cinder has.
    pools: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict)
    copies: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict)
    turn: int = 0
    # In the copies, in seconds.
    age: int = 0

    def keep(self, names: Collection[str], besides: Set[str]) -> None:
        """Forget all but these pools, and bring them into this order.

        :param besides: those of ``names`` that are not reported any more
        """
        for name in (self.pools.keys() - names) | besides:
            self.pools.pop(name, None)
            self.copies.pop(name, None)
        if len(self.pools) < len(names):
            names = [name for name in names if name in self.pools]
        if list(self.pools) == list(names):
            return
        # These are no loops of Python: there may be 1,500 pools.
        self.pools, self.copies = (
            dict(zip(names, map(found.__getitem__, names), strict=True))
            for found in (self.pools, self.copies))


def _changed(before: _Facts, now: _Facts) -> frozenset[str] | None:
    """The datastores (morefs) whose figures may have changed.

    Promised space is left out.

    :returns: None: the figures of all datastores may have changed
    """
    if (before.volumes is None) != (now.volumes is None):
        return None
    changed = (frozenset() if now.inventory is before.inventory else
               now.inventory.changed_datastores(before.inventory))
    if (changed is None or now.volumes is before.volumes
            or before.volumes is None or now.volumes is None):
        return changed
    counted = (now.volumes.changed_since(before.volumes)
               if isinstance(now.volumes, model.VolumesByDatastore) else None)
    if counted is None:
        counted = _recounted(before.volumes, now.volumes)
    return changed | (counted & now.inventory.datastores.keys())


def _recounted(before: Mapping[str, Sequence[str]],
               now: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The datastores (morefs) whose volumes are others."""
    counted = {moref for moref, ids in now.items()
               if before.get(moref) is not ids and before.get(moref) != ids}
    return frozenset(counted | (before.keys() - now.keys()))


def _counts(volumes: Mapping[str, Sequence[str]] | None,
            of: frozenset[str] | None = None) -> dict[str, int] | None:
    """Number of volumes by datastore.

    :param of: morefs of the datastores to count; None: all
    """
    if volumes is None:
        return None
    return {moref: len(volumes.get(moref, ()))
            for moref in (volumes if of is None else of)}


def _shortened(ids: Sequence[str]) -> str:
    shown = ', '.join(ids[:MOST_VOLUMES_SHOWN])
    more = len(ids) - MOST_VOLUMES_SHOWN
    return f'{shown} and {more} more' if more > 0 else shown or 'none'


def _with_state(figures: dict[str, Any],
                state: dict[str, Any]) -> dict[str, Any]:
    """A copy of the report with this state, which Cinder may change."""
    stats = figures | state
    if 'pools' in figures:
        # Cinder looks for a backend's state in its pools (service-list).
        stats['pools'] = ([pool | state for pool in figures['pools']]
                          if state else list(map(dict.copy, figures['pools'])))
    return stats


def _nothing(settings: model.Settings) -> dict[str, Any]:
    """The report of a backend without pools: a single pool of capacity zero.

    The scheduler refuses it. With an empty list of pools, Cinder would drop
    the backend; without figures, Cinder would take the capacity as unknown,
    that is, as infinite.
    """
    return pool_stats.report_backend(model.Inventory(), settings)
