# SPDX-License-Identifier: Apache-2.0
"""Computes the figures of pools, as Cinder's scheduler reads them.

Capacities are rounded down and provisioned space is rounded up, so that a
rounding error can only leave space unused. Units are GiB, which Cinder's
keys call "gb".
"""

import dataclasses
import decimal
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names

# Cinder's own default, and its value for 'auto' while nothing is provisioned.
DEFAULT_RATIO = 20.0
# With less than this in use, a single provisioned disk would give an absurd
# ratio for 'auto'.
AUTO_RATIO_MIN_USED_GIB = 10


# Of datastores that are refused for the same reason.
MOST_NAMES_SHOWN = 20

# The inputs of a pool's report, and the report, by the pool's name.
Known = dict[str, tuple[Any, dict[str, Any]]]
# Why datastores are not used, by their morefs.
Refused = Mapping[str, model.Ineligibility]


def report(inventory: model.Inventory, settings: model.Settings,
           promises: Iterable[model.Promise] = (),
           volumes: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    """The ``pools`` list of the driver's statistics.

    A datastore of the backend stays in the list while it takes no volumes
    (maintenance, full, no host): its figures are then such that Cinder's
    CapacityFilter refuses the pool.

    :param promises: space of volumes that are created on first use and have
        no disk yet; other backends' volumes as well
    :param volumes: number of volumes with files on each datastore, by its
        moref; None: not known, and then not reported
    """
    return list(reports(inventory, settings, promised_by_datastore(
        promises, inventory, settings), volumes, {}))


def reports(inventory: model.Inventory, settings: model.Settings,
            promised: 'PromisedSpace',
            volumes: Mapping[str, int] | None, known: Known,
            changed: Iterable[str] | None = None
            ) -> Iterator[dict[str, Any]]:
    """Yield the pools of :func:`report`, one after the other.

    :param promised: of :func:`promised_by_datastore`
    :param known: the reports of earlier calls; a report whose inputs have
        not changed is used again, and the others are replaced
    :param changed: report only the pools of these datastores (morefs); None:
        all pools
    """
    listed = (pool_names.listed(inventory, settings) if changed is None else
              pool_names.holding(changed, inventory, settings))
    for pool in listed:
        seen = _Seen(
            pool, settings,
            [eligibility.ineligibility(each, inventory, settings)
             for each in pool.datastores],
            _sum([promised.get(each.moref, _NOTHING)
                  for each in pool.datastores])
            if promised else _NOTHING,
            None if volumes is None else [volumes.get(each.moref, 0)
                                          for each in pool.datastores],
            pool_names.datacenter_name(pool.datastores[0], inventory),
            [inventory.policies_by_datastore.get(each.moref, ())
             for each in pool.datastores])
        before = known.get(pool.name)
        if before is None or before[0] != seen:
            before = known[pool.name] = seen, _report(seen)
        if before[1]:
            yield before[1]
    if changed is None:
        for name in known.keys() - {pool.name for pool in listed}:
            del known[name]


class Promised(NamedTuple):
    """Space and number of the volumes without a disk on a pool."""

    size_gib: int
    volumes: int


_NOTHING = Promised(0, 0)
# By the datastores' morefs.
PromisedSpace = Mapping[str, Promised]


class _Seen(NamedTuple):
    """All inputs of the report of one pool."""

    pool: pool_names.Pool
    settings: model.Settings
    # One entry for each datastore of the pool.
    refusals: list[model.Ineligibility | None]
    promised: Promised
    volumes: list[int] | None
    datacenter: str
    policies: list[tuple[str, ...]]


def _sum(promised: Iterable[Promised]) -> Promised:
    sizes, counts = zip(*promised, strict=True)
    return Promised(sum(sizes), sum(counts))


def promised_by_datastore(
        promises: Iterable[model.Promise], inventory: model.Inventory,
        settings: model.Settings) -> PromisedSpace:
    """Promises by moref.

    A promise counts on every datastore that is the same storage.
    """
    return recount({}, (), promises, inventory, settings)


def recount(promised: PromisedSpace, before: Iterable[model.Promise],
            now: Iterable[model.Promise], inventory: model.Inventory,
            settings: model.Settings) -> PromisedSpace:
    """As :func:`promised_by_datastore`, from the result for other promises.

    :param promised: the result for ``before``, with an inventory of the same
        names and storages
    """
    old, new = Counter(before), Counter(now)
    found = dict(promised)
    for sign, changed in ((-1, old - new), (1, new - old)):
        for promise, pool in pool_names.promised(
                list(changed.elements()), inventory, settings):
            for seen in inventory.same_storage(pool.datastores[0]):
                found[seen.moref] = _sum([
                    found.get(seen.moref, _NOTHING),
                    Promised(sign * promise.size_gib,
                             sign * promise.volumes)])
    return {moref: each for moref, each in found.items()
            if each != _NOTHING}


def _report(seen: _Seen) -> dict[str, Any]:
    """The report of a pool; empty if it is no pool of this backend."""
    belonging = [number for number, why in enumerate(seen.refusals)
                 if why is None or why.passing]
    if not belonging:
        return {}
    states = [(seen.pool.datastores[number],
               _with_what_is_left(seen, number)) for number in belonging]
    policies = [set(seen.policies[number]) for number in belonging]
    stats = (_report_pod(seen, states) if seen.pool.pod
             else _report_datastore(seen, states))
    stats |= {
        'pool_name': seen.pool.name,
        'datacenter': model.plain_name(seen.datacenter),
        # The driver may choose any member, so all must comply.
        'storage_profiles': sorted(set.intersection(*policies))}
    if seen.volumes is not None:
        stats['total_volumes'] = sum(seen.volumes) + seen.promised.volumes
    return stats


def _with_what_is_left(seen: _Seen,
                       number: int) -> model.Ineligibility | None:
    refused = seen.refusals[number]
    if (refused is None or refused.code not in eligibility.LEAVING
            or seen.volumes is None):
        return refused
    count = seen.volumes[number]
    return dataclasses.replace(refused, reason=(
        f'{refused.reason}; {count or "no"} '
        f'{"volume is" if count == 1 else "volumes are"} left on it'))


_States = list[tuple[model.Datastore, model.Ineligibility | None]]


def _report_datastore(seen: _Seen, states: _States) -> dict[str, Any]:
    [(datastore, refused)] = states
    free_gib = _down(_free_bytes(datastore))
    return _figures([datastore], seen.settings, refused is not None,
                    seen.promised.size_gib) | {
        'datastore': datastore.plain_name,
        'datastore_type': datastore.type,
        'datastore_url': datastore.url,
        'datastore_moref': datastore.moref,
        # The true free space; free_capacity_gb is 0 while it is refused.
        'datastore_free_gb': free_gib,
        'max_contiguous_gb': 0 if refused else free_gib,
        'pool_state': refused.code if refused else 'available',
        'pool_state_reason': refused.reason if refused else ''}


def _report_pod(seen: _Seen, states: _States) -> dict[str, Any]:
    """The figures are sums over the members that take volumes now.

    The free capacity is not: a disk lies on one member, and the scheduler
    compares a thick disk with the free capacity only. So that is the free
    space of the member with the most of it.
    """
    eligible = [each for each, why in states if why is None]
    counted = eligible or [each for each, _why in states]
    largest = _down(max(map(_free_bytes, counted)))
    figures = _figures(counted, seen.settings, not eligible,
                       seen.promised.size_gib)
    figures['free_capacity_gb'] = min(figures['free_capacity_gb'], largest)
    refusals = {each.plain_name: why for each, why in states if why}
    codes = {why.code for why in refusals.values()}
    state = 'available' if eligible else (
        codes.pop() if len(codes) == 1 else 'unavailable')
    members = [each for each, _why in states]
    pod = seen.pool.pod
    return figures | {
        'datastore_cluster': model.plain_name(pod.name) if pod else '',
        'datastore_cluster_moref': pod.moref if pod else '',
        'datastores': [each.plain_name for each in members],
        'datastore_type': ', '.join(sorted({each.type for each in members})),
        'datastore_free_gb': _down(sum(map(_free_bytes, counted))),
        'max_contiguous_gb': largest if eligible else 0,
        'pool_state': state,
        'pool_state_reason': '; '.join(
            f'{name}: {why.reason}' for name, why in refusals.items()),
    }


def report_backend(inventory: model.Inventory, settings: model.Settings,
                   promises: Iterable[model.Promise] = (),
                   volumes: Mapping[str, int] | None = None
                   ) -> dict[str, Any]:
    """The figures of the backend as a single pool: sums over its datastores.

    Only datastores that take volumes now count. A storage that several
    datacenters mount counts once. A disk can be at most as large as the
    largest free space on one datastore, which is reported as
    ``max_contiguous_gb`` and as ``largest_free_gb``.
    """
    refusals = eligibility.refusals(inventory, settings)
    eligible = {moref: each for moref, each in inventory.datastores.items()
                if moref not in refusals}
    for each in list(eligible.values()):
        if each.moref in eligible:
            for same in inventory.same_storage(each):
                if same is not each:
                    eligible.pop(same.moref, None)
    urls = {each.url for each in eligible.values() if each.url}
    counted = [promise for promise in promises
               if promise.own or promise.place.rpartition(' ')[0] in urls]
    figures = _figures(eligible.values(), settings, not eligible,
                       sum(promise.size_gib for promise in counted))
    largest = _down(max(map(_free_bytes, eligible.values()), default=0))
    figures |= {'largest_free_gb': largest, 'max_contiguous_gb': largest}
    if volumes is not None:
        figures['total_volumes'] = sum(
            volumes.get(moref, 0) for moref in eligible) + sum(
                promise.volumes for promise in counted)
    return figures


def ineligible_names(inventory: model.Inventory, settings: model.Settings,
                     refused: Refused | None = None) -> dict[str, str]:
    """Why datastores take no volumes: ``{pool name: reason}``.

    :param refused: what :func:`eligibility.refusals` returns, if known
    """
    if refused is None:
        refused = eligibility.refusals(inventory, settings)
    if not refused:
        return {}
    return {name: refused[moref].reason for name, moref
            in pool_names.names(inventory).items() if moref in refused}


def why_there_is_none(inventory: model.Inventory, settings: model.Settings,
                      refused: Refused | None = None) -> str:
    """Why no datastore belongs to the backend; empty if one does.

    After each reason are the names of the datastores that it holds for.

    :param refused: what :func:`eligibility.refusals` returns, if known
    """
    if not inventory.datastores:
        return 'the vCenter shows no datastore to this user'
    if refused is None:
        refused = eligibility.refusals(inventory, settings)
    if len(refused) < len(inventory.datastores):
        return ''
    by_reason: dict[str, list[str]] = {}
    for moref, why in refused.items():
        if not why.passing:
            by_reason.setdefault(why.reason, []).append(
                inventory.datastores[moref].plain_name)
    if sum(map(len, by_reason.values())) < len(inventory.datastores):
        return ''
    return 'no datastore belongs to this backend: ' + '; '.join(
        f'{reason} ({_shortened(sorted(found))})'
        for reason, found in sorted(by_reason.items()))


def _shortened(names: list[str]) -> str:
    more = len(names) - MOST_NAMES_SHOWN
    return ', '.join(names[:MOST_NAMES_SHOWN]) + (
        f' and {more} more' if more > 0 else '')


def _figures(datastores: Iterable[model.Datastore], settings: model.Settings,
             refused: bool, promised_gib: int) -> dict[str, Any]:
    datastores = list(datastores)
    total_gib = _down(sum(d.capacity_bytes for d in datastores))
    # Cinder's filters know no figure that means "unusable". All of them
    # refuse a pool with zero free capacity and no thin support, and none
    # divides by zero; the true total stays visible.
    refused = refused or settings.reserved_percentage >= 100
    return {
        'total_capacity_gb': total_gib,
        'free_capacity_gb': 0 if refused else _down(
            sum(_free_bytes(d) for d in datastores)),
        'provisioned_capacity_gb': promised_gib + _up(
            sum(d.provisioned_bytes for d in datastores)),
        'allocated_capacity_gb': 0,  # Cinder's volume manager sets this one
        'thin_provisioning_support': not refused,
        'thick_provisioning_support': True,
        'max_over_subscription_ratio': _ratio(datastores, settings),
        'reserved_percentage': settings.reserved_percentage,
        'QoS_support': True,
        'multiattach': False,
        'consistent_group_snapshot_enabled': True,
    }


def _ratio(datastores: Iterable[model.Datastore],
           settings: model.Settings) -> float:
    ratio = settings.max_over_subscription_ratio
    if ratio is None:
        datastores = list(datastores)
        used_gib = sum(d.capacity_bytes - _free_bytes(d)
                       for d in datastores) / model.GIB
        if used_gib < AUTO_RATIO_MIN_USED_GIB:
            return DEFAULT_RATIO
        provisioned_gib = sum(d.provisioned_bytes
                              for d in datastores) / model.GIB
        ratio = 1 + provisioned_gib / (used_gib + 1)
    # Two decimals, rounded down: the scheduler rounds the product to two
    # decimals, to the nearest, and must not round it up. Computed with
    # decimal numbers, because a binary 1.15 would become 1.14.
    return max(1.0, float(decimal.Decimal(str(ratio)).quantize(
        decimal.Decimal('0.01'), decimal.ROUND_DOWN)))


def _free_bytes(datastore: model.Datastore) -> int:
    return max(0, min(datastore.free_bytes, datastore.capacity_bytes))


def _down(size_bytes: int) -> int:
    return size_bytes // model.GIB


def _up(size_bytes: int) -> float:
    return math.ceil(size_bytes * 100 / model.GIB) / 100
