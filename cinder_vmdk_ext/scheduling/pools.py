# SPDX-License-Identifier: Apache-2.0
"""From an inventory to the pools that Cinder's scheduler reads, and back.

Every figure is rounded so that the scheduler can only err towards leaving
space: capacities down, what is promised up. Units are GiB, which Cinder's
keys call "gb".
"""

import dataclasses
import decimal
import functools
import math
import re
from collections import Counter
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from urllib import parse

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import placement

# Cinder's own default, and what it takes where 'auto' has nothing to go by.
DEFAULT_RATIO = 20.0
# With less than this in use, 'auto' would turn one promised disk into an
# absurd ratio.
AUTO_RATIO_MIN_USED_GIB = 10


class Pool(NamedTuple):
    """What the scheduler sees as one: a datastore or a datastore cluster."""

    name: str
    datastores: tuple[model.Datastore, ...]
    pod: model.StoragePod | None = None  # None: of one datastore


def listed(inventory: model.Inventory,
           settings: model.Settings) -> list[Pool]:
    """All pools; each datastore is in one of them.

    With ``storage_pods``, a datastore cluster that balances itself is a pool:
    a disk would not stay on the member that a scheduler chose. Those of every
    other cluster are pools by themselves.
    """
    pooled = _pooled(inventory, settings)
    found = []
    for name, moref in _named(inventory).items():
        if moref in inventory.datastores:
            if moref not in pooled:
                found.append(Pool(name, (inventory.datastores[moref],)))
            continue
        pod = inventory.storage_pods[moref]
        members = _members(pod, inventory)
        if members and pooled.get(members[0].moref) is pod:
            found.append(Pool(name, members, pod))
    return found


def by_datastore(inventory: model.Inventory,
                 settings: model.Settings) -> dict[str, str]:
    """Name of the pool that holds each datastore, by the latter's moref."""
    return {datastore.moref: pool.name
            for pool in listed(inventory, settings)
            for datastore in pool.datastores}


def resolve(name: str, inventory: model.Inventory,
            settings: model.Settings) -> Pool | None:
    """The pool that a name stands for, or stood for; None: it never did.

    Volumes go on to name a datastore whose cluster became a pool, or the
    other way round: the first name stands for the cluster, and the second for
    all its members.
    """
    moref = _named(inventory).get(name, '')
    if (moref in inventory.datastores
            and moref not in _pooled(inventory, settings)):
        return Pool(name, (inventory.datastores[moref],))
    pools = listed(inventory, settings)
    for pool in pools:
        if pool.name == name:
            return pool
    datastore = find(name, inventory)
    if datastore is not None:
        return next(pool for pool in pools if datastore in pool.datastores)
    pod = _find_pod(name, inventory)
    return Pool(name, _members(pod, inventory), pod) if pod else None


def identity(pool: Pool) -> str:
    """What tells a pool from one that is given its name later.

    A datastore keeps its URL whatever it is called and however often it is
    mounted, and its reference tells it from the same storage in another
    datacenter. A datastore cluster has a reference only.
    """
    if pool.pod is not None:
        return pool.pod.moref
    return f'{pool.datastores[0].url} {pool.datastores[0].moref}'.strip()


def identified(place: str, inventory: model.Inventory,
               settings: model.Settings) -> Pool | None:
    """The pool that an :func:`identity` is part of; None: it is gone."""
    url, _, moref = place.rpartition(' ')
    pools = listed(inventory, settings)
    pod = inventory.storage_pods.get(moref)
    if pod is not None:
        # Its members may be pools by themselves by now.
        return next((pool for pool in pools if pool.pod is pod),
                    Pool(pod.name, _members(pod, inventory), pod))
    same = [each for each in inventory.datastores.values()
            if (each.url == url if url else each.moref == moref)]
    found = min(same, key=lambda each: each.moref != moref, default=None)
    return next((pool for pool in pools if found in pool.datastores), None)


def names(inventory: model.Inventory) -> dict[str, str]:
    """Name of every datastore as a pool: ``{pool name: datastore moref}``.

    A pool is called by its datastore's name, as the vCenter stores it. Names
    are unique within a folder only: the datastore, or datastore cluster, that
    is known longest keeps the plain name, so that a namesake that appears
    later renames no pool; the others get their datacenter's name added, or
    their reference where that name would not tell them apart.
    A ``#`` would end the backend's part of a Cinder host and is written
    ``%23``, as the vCenter writes ``%2f`` for a slash.
    """
    return {name: moref for name, moref in _named(inventory).items()
            if moref in inventory.datastores}


def find(pool: str, inventory: model.Inventory) -> model.Datastore | None:
    """The datastore that a pool name stands for; None when there is none.

    Names with the datacenter or the reference added go on to be understood
    once a namesake is gone and the plain name would do.
    """
    named = _named(inventory)
    if pool in named:
        return inventory.datastores.get(named[pool])
    matching = [datastore for datastore in inventory.datastores.values()
                if pool in _possible_names(datastore, inventory)]
    return matching[0] if len(matching) == 1 else None


def name_of(datastore: model.Datastore, inventory: model.Inventory) -> str:
    """The name of a datastore of this inventory as a pool."""
    return next(name for name, moref in names(inventory).items()
                if moref == datastore.moref)


def _named(inventory: model.Inventory) -> dict[str, str]:
    """Morefs of datastores and of datastore clusters by distinct names.

    Whether clusters are pools has no part in it: a choice that the operator
    changes is not to change a name's meaning.
    """
    named: dict[str, str] = {}
    things: list[model.Datastore | model.StoragePod] = [
        *inventory.datastores.values(), *inventory.storage_pods.values()]
    for thing in sorted(things, key=lambda thing: _age(thing.moref)):
        name = _plain(thing)
        if name in named:  # which is seldom, and the rest is dear
            name = _told_apart(thing, inventory, named)
        named[name] = thing.moref
    return named


def _told_apart(thing: model.Datastore | model.StoragePod,
                inventory: model.Inventory, named: Container[str]) -> str:
    """A name for what has a namesake."""
    _name, name, unique = _possible_names(thing, inventory)
    if not name or name in named or (
            _datacenter_name(thing, inventory)
            in inventory.shared_datacenter_names):
        name = unique
    while name in named:  # one is called like another's pool
        name += f' ({thing.moref})'
    return name


def _pooled(inventory: model.Inventory, settings: model.Settings
            ) -> dict[str, model.StoragePod]:
    """The datastore clusters that are pools, by each member's moref."""
    if not settings.storage_pods:
        return {}
    return {moref: pod for pod in inventory.storage_pods.values()
            if pod.balances_itself for moref in pod.datastores
            if moref in inventory.datastores}


def _members(pod: model.StoragePod,
             inventory: model.Inventory) -> tuple[model.Datastore, ...]:
    return tuple(inventory.datastores[moref]
                 for moref in sorted(pod.datastores, key=_age)
                 if moref in inventory.datastores)


def _find_pod(name: str,
              inventory: model.Inventory) -> model.StoragePod | None:
    named = _named(inventory)
    if name in named:
        return inventory.storage_pods.get(named[name])
    matching = [pod for pod in inventory.storage_pods.values()
                if name in _possible_names(pod, inventory)]
    return matching[0] if len(matching) == 1 else None


def _possible_names(thing: model.Datastore | model.StoragePod,
                    inventory: model.Inventory) -> tuple[str, str, str]:
    """Plain, with its datacenter if that is known, and with its reference."""
    name = _plain(thing)
    place = _datacenter_name(thing, inventory).replace('#', '%23')
    return (name, f'{name} ({place})' if place else '',
            f'{name} ({thing.moref})')


def _plain(thing: model.Datastore | model.StoragePod) -> str:
    return thing.name.replace('#', '%23')


def _datacenter_name(thing: model.Datastore | model.StoragePod,
                     inventory: model.Inventory) -> str:
    if isinstance(thing, model.StoragePod):
        members = _members(thing, inventory)
        if not members:
            return ''
        thing = members[0]
    datacenter = inventory.datacenters.get(thing.datacenter or '')
    return datacenter.name if datacenter else ''


@functools.lru_cache(maxsize=10000)
def _age(moref: str) -> tuple[int, str]:
    """Order of creation: a vCenter numbers its references as it makes them."""
    digits = re.search('[0-9]*$', moref)
    return (int(digits[0]) if digits and digits[0] else 0), moref


def report(inventory: model.Inventory, settings: model.Settings,
           promised_gib: Mapping[str, int],
           left: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    """The ``pools`` list of the driver's statistics.

    Datastores that belong to the backend are listed even while they take no
    volumes (maintenance, full, no host): they then carry figures which
    Cinder's stock CapacityFilter refuses.

    :param promised_gib: by pool name, the size of volumes that are to be
        created on first use and take no space yet
    :param left: volumes on each datastore that is to be emptied, by its moref
    """
    return list(reports(inventory, settings, promised_gib, left or {}))


def reports(inventory: model.Inventory, settings: model.Settings,
            promised_gib: Mapping[str, int], left: Mapping[str, int]
            ) -> Iterator[dict[str, Any]]:
    """As :func:`report`, one after the other."""
    found = listed(inventory, settings)
    named = {pool.name: pool for pool in found}
    promised = Counter[str]()
    for name, size_gib in promised_gib.items():
        # Names from before take longer to find, and are few.
        pool = named.get(name) or resolve(name, inventory, settings)
        for each in pool.datastores[:1] if pool else ():
            promised[each.moref] += size_gib
    for pool in found:
        states = [(each, _state(each, inventory, settings, left))
                  for each in pool.datastores]
        belonging = {each.moref: (each, why) for each, why in states
                     if why is None or why.passing}
        if belonging:
            promised_here = sum(promised[each.moref]
                                for each in pool.datastores)
            make = _report_pod if pool.pod else _report_datastore
            yield make(pool, list(belonging.values()), inventory, settings,
                       promised_here)


def leaving(inventory: model.Inventory,
            settings: model.Settings) -> frozenset[str]:
    """Datastores (morefs) of the backend that their volumes are to leave."""
    return frozenset(
        moref for moref, datastore in inventory.datastores.items()
        if (why := placement.ineligibility(datastore, inventory, settings))
        and why.code in placement.LEAVING)


def _state(datastore: model.Datastore, inventory: model.Inventory,
           settings: model.Settings, left: Mapping[str, int]
           ) -> model.Ineligibility | None:
    refused = placement.ineligibility(datastore, inventory, settings)
    if (refused is None or refused.code not in placement.LEAVING
            or datastore.moref not in left):
        return refused
    count = left[datastore.moref]
    return dataclasses.replace(refused, reason=(
        f'{refused.reason}; {count or "no"} '
        f'{"volume is" if count == 1 else "volumes are"} left on it'))


_States = list[tuple[model.Datastore, model.Ineligibility | None]]


def _report_datastore(pool: Pool, states: _States, inventory: model.Inventory,
                      settings: model.Settings,
                      promised_gib: int) -> dict[str, Any]:
    [(datastore, refused)] = states
    return (_figures([datastore], settings, refused is not None, promised_gib)
            | _description(pool.name, datastore, inventory)
            | {'pool_state': refused.code if refused else 'available',
               'pool_state_reason': refused.reason if refused else ''})


def _report_pod(pool: Pool, states: _States, inventory: model.Inventory,
                settings: model.Settings,
                promised_gib: int) -> dict[str, Any]:
    """Sums over the members that take volumes now.

    But a disk lies on one of them: what is told as free is the largest gap,
    for the scheduler compares a thick disk with that and nothing else.
    """
    eligible = [each for each, why in states if why is None]
    counted = eligible or [each for each, _why in states]
    largest = _down(max(map(_free_bytes, counted)))
    figures = _figures(counted, settings, not eligible, promised_gib)
    figures['free_capacity_gb'] = min(figures['free_capacity_gb'], largest)
    refusals = {each.plain_name: why for each, why in states if why}
    codes = {why.code for why in refusals.values()}
    state = 'available' if eligible else (
        codes.pop() if len(codes) == 1 else 'unavailable')
    members = [each for each, _why in states]
    return figures | {
        'pool_name': pool.name,
        'datastore_cluster': parse.unquote(pool.pod.name) if pool.pod else '',
        'datastore_cluster_moref': pool.pod.moref if pool.pod else '',
        'datastores': [each.plain_name for each in members],
        'datastore_type': ', '.join(sorted({each.type for each in members})),
        'datacenter': parse.unquote(_datacenter_name(members[0], inventory)),
        'datastore_free_gb': _down(sum(map(_free_bytes, counted))),
        'max_contiguous_gb': largest if eligible else 0,
        # Any member may be chosen.
        'storage_profiles': sorted(
            policy for policy, morefs in inventory.compliant.items()
            if all(each.moref in morefs for each in members)),
        'pool_state': state,
        'pool_state_reason': '; '.join(
            f'{name}: {why.reason}' for name, why in refusals.items()),
    }


def report_backend(inventory: model.Inventory, settings: model.Settings,
                   promised_gib: int) -> dict[str, Any]:
    """The figures of the backend as a single pool: sums over its datastores.

    Only datastores that take volumes now are counted. The largest of them
    bounds a single disk; it is told as ``largest_free_gb``.
    """
    eligible = [datastore for datastore in inventory.datastores.values()
                if placement.ineligibility(datastore, inventory,
                                           settings) is None]
    figures = _figures(eligible, settings, not eligible, promised_gib)
    figures['largest_free_gb'] = _down(max(
        (_free_bytes(datastore) for datastore in eligible), default=0))
    return figures


def ineligible_names(inventory: model.Inventory,
                     settings: model.Settings) -> dict[str, str]:
    """Why each datastore that is not used is not: ``{pool name: reason}``."""
    refused = {name: placement.ineligibility(inventory.datastores[moref],
                                             inventory, settings)
               for name, moref in names(inventory).items()}
    return {name: why.reason for name, why in refused.items()
            if why is not None}


def _figures(datastores: Iterable[model.Datastore], settings: model.Settings,
             refused: bool, promised_gib: int) -> dict[str, Any]:
    datastores = list(datastores)
    total_gib = _down(sum(d.capacity_bytes for d in datastores))
    # "Unusable" has no word of its own for the stock filters. Zero free
    # without thin support is refused by every one of them and never makes
    # them divide by zero; the true total stays to be seen.
    refused = refused or settings.reserved_percentage >= 100
    return {
        'total_capacity_gb': total_gib,
        'free_capacity_gb': 0 if refused else _down(
            sum(_free_bytes(d) for d in datastores)),
        'provisioned_capacity_gb': promised_gib + _up(
            sum(d.provisioned_bytes for d in datastores)),
        'allocated_capacity_gb': 0,  # the volume manager keeps this one
        'thin_provisioning_support': not refused,
        'thick_provisioning_support': True,
        'max_over_subscription_ratio': _ratio(datastores, settings),
        'reserved_percentage': settings.reserved_percentage,
        'QoS_support': False,
        'multiattach': False,
        'consistent_group_snapshot_enabled': True,
    }


def _description(name: str, datastore: model.Datastore,
                 inventory: model.Inventory) -> dict[str, Any]:
    return {
        'pool_name': name,
        'datastore': datastore.plain_name,
        'datastore_type': datastore.type,
        'datastore_url': datastore.url,
        'datastore_moref': datastore.moref,
        'datacenter': parse.unquote(_datacenter_name(datastore, inventory)),
        # The field as it is now; free_capacity_gb may say 0 on purpose.
        'datastore_free_gb': _down(_free_bytes(datastore)),
        'storage_profiles': sorted(
            policy for policy, morefs in inventory.compliant.items()
            if datastore.moref in morefs),
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
    # Two decimals: the scheduler rounds the product to two, to nearest, and
    # must not be led to round it up. Of the decimal number, or 1.15 would
    # become 1.14.
    return max(1.0, float(decimal.Decimal(str(ratio)).quantize(
        decimal.Decimal('0.01'), decimal.ROUND_DOWN)))


def _free_bytes(datastore: model.Datastore) -> int:
    return max(0, min(datastore.free_bytes, datastore.capacity_bytes))


def _down(size_bytes: int) -> int:
    return size_bytes // model.GIB


def _up(size_bytes: int) -> float:
    return math.ceil(size_bytes * 100 / model.GIB) / 100
