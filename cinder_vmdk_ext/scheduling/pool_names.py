# SPDX-License-Identifier: Apache-2.0
"""Pools, what they are called, and what a name stands for."""

import functools
import re
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from cinder_vmdk_ext import model


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
    return [_pool(each, inventory)
            for each in _arranged(inventory, settings).pools]


def holding(datastores: Iterable[str], inventory: model.Inventory,
            settings: model.Settings) -> list[Pool]:
    """The pools of some datastores (morefs), each once."""
    arranged = _arranged(inventory, settings)
    found = {arranged.by_datastore[moref] for moref in datastores}
    return [_pool(arranged.pools[number], inventory)
            for number in sorted(found)]


class _Place(NamedTuple):
    """A pool, but for what changes all the time."""

    name: str
    datastores: tuple[str, ...]
    pod: model.StoragePod | None


class _Arrangement(NamedTuple):
    """Which datastores are which pool."""

    pools: list[_Place]
    by_datastore: dict[str, int]  # number of the pool of a moref
    names: dict[str, str]  # of the pool of a moref


def _pool(place: _Place, inventory: model.Inventory) -> Pool:
    return Pool(place.name, tuple([inventory.datastores[moref]
                                   for moref in place.datastores]), place.pod)


def _arranged(inventory: model.Inventory,
              settings: model.Settings) -> _Arrangement:
    known: _Arrangement | None = inventory.pools.get(settings.storage_pods)
    if known is None:
        pools = _arrange(inventory, settings)
        known = inventory.pools[settings.storage_pods] = _Arrangement(
            pools,
            {moref: number for number, each in enumerate(pools)
             for moref in each.datastores},
            {moref: each.name for each in pools for moref in each.datastores})
    return known


def _arrange(inventory: model.Inventory,
             settings: model.Settings) -> list[_Place]:
    pooled = _pooled(inventory, settings)
    found = []
    for name, moref in _named(inventory).items():
        if moref in inventory.datastores:
            if moref not in pooled:
                found.append(_Place(name, (moref,), None))
            continue
        pod = inventory.storage_pods[moref]
        members = tuple(each.moref for each in _members(pod, inventory))
        if members and pooled.get(members[0]) is pod:
            found.append(_Place(name, members, pod))
    return found


def promised(promises: Iterable[model.Promise],
             inventory: model.Inventory, settings: model.Settings
             ) -> Iterator[tuple[model.Promise, Pool]]:
    """Promises, each with the pool that it is to be counted on.

    A promise counts on the pool that it was made on, whatever that is called
    now. One of another backend counts where it is on the same storage, by
    URL; one on a datastore cluster, which has none, where a pool has the
    cluster's name and reference.
    """
    pools = listed(inventory, settings) if promises else []
    by_name = {pool.name: pool for pool in pools}
    by_identity = {identity(pool): pool for pool in pools}
    by_url = {each.url: pool for pool in reversed(pools)
              for each in pool.datastores}
    for promise in promises:
        url = promise.place.rpartition(' ')[0]
        pool = by_identity.get(promise.place) or (
            by_name.get(promise.pool) if not promise.place else None)
        if promise.own:
            # Names from before take longer to find, and are few.
            pool = pool or (
                identified(promise.place, inventory, settings)
                if promise.place
                else resolve(promise.pool, inventory, settings))
        elif url:
            pool = pool or by_url.get(url)
        elif not promise.place or (pool and pool.name != promise.pool):
            pool = None  # perhaps of another vCenter
        if pool is not None:
            yield promise, pool


def by_datastore(inventory: model.Inventory,
                 settings: model.Settings) -> dict[str, str]:
    """Name of the pool that holds each datastore, by the latter's moref."""
    return _arranged(inventory, settings).names


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
    """What distinguishes a pool from one that gets its name later.

    A datastore keeps its URL whatever it is called and however often it is
    mounted. Its reference distinguishes it from the same storage in another
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
    their reference where that name is not unique.
    A ``#`` would end the backend's part of a Cinder host and is written
    ``%23``, as the vCenter writes ``%2f`` for a slash.
    """
    return {name: moref for name, moref in _named(inventory).items()
            if moref in inventory.datastores}


def find(pool: str, inventory: model.Inventory) -> model.Datastore | None:
    """The datastore that a pool name stands for; None: no datastore does.

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
    if not inventory.names:
        inventory.names.update(_make_names(inventory))
    return inventory.names


def _make_names(inventory: model.Inventory) -> dict[str, str]:
    named: dict[str, str] = {}
    things: list[model.Datastore | model.StoragePod] = [
        *inventory.datastores.values(), *inventory.storage_pods.values()]
    for thing in sorted(things, key=lambda thing: _age(thing.moref)):
        name = _plain(thing)
        if name in named:  # rarely so, and the rest is costly
            name = _told_apart(thing, inventory, named)
        named[name] = thing.moref
    return named


def _told_apart(thing: model.Datastore | model.StoragePod,
                inventory: model.Inventory, named: Container[str]) -> str:
    """A name for what has a namesake."""
    _name, name, unique = _possible_names(thing, inventory)
    if not name or name in named or (
            datacenter_name(thing, inventory)
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
    place = datacenter_name(thing, inventory).replace('#', '%23')
    return (name, f'{name} ({place})' if place else '',
            f'{name} ({thing.moref})')


def _plain(thing: model.Datastore | model.StoragePod) -> str:
    return thing.name.replace('#', '%23')


def datacenter_name(thing: model.Datastore | model.StoragePod,
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
