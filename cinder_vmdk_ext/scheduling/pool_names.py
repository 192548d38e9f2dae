# SPDX-License-Identifier: Apache-2.0
"""Arranges datastores in pools, names the pools, and resolves pool names."""

import functools
import re
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from cinder_vmdk_ext import model


class Pool(NamedTuple):
    """A pool of the scheduler: a datastore, or a datastore cluster."""

    name: str
    datastores: tuple[model.Datastore, ...]
    pod: model.StoragePod | None = None  # None: the pool is one datastore


def listed(inventory: model.Inventory,
           settings: model.Settings) -> list[Pool]:
    """All pools; each datastore is in exactly one of them.

    With ``storage_pods``, a datastore cluster whose Storage DRS is fully
    automated is one pool, because a disk does not stay on the member that
    the scheduler chose. Each datastore of any other cluster is a pool.
    """
    return [_pool(each, inventory)
            for each in _arranged(inventory, settings).pools]


def holding(datastores: Iterable[str], inventory: model.Inventory,
            settings: model.Settings) -> list[Pool]:
    """The pools that hold these datastores (morefs), each pool once."""
    arranged = _arranged(inventory, settings)
    found = {arranged.by_datastore[moref] for moref in datastores}
    return [_pool(arranged.pools[number], inventory)
            for number in sorted(found)]


class _Place(NamedTuple):
    """A pool without its datastores' figures, which change all the time."""

    name: str
    datastores: tuple[str, ...]
    pod: model.StoragePod | None


class _Arrangement(NamedTuple):
    """The pools, and the pool of each datastore."""

    pools: list[_Place]
    by_datastore: dict[str, int]  # number of the pool, by moref
    by_name: dict[str, int]  # the same, by the pool's name
    by_pod: dict[str, int]  # the same, by the datastore cluster's moref
    names: dict[str, str]  # name of the pool, by moref

    def holding(self, moref: str, inventory: model.Inventory) -> Pool:
        """The pool of a datastore of the inventory."""
        return _pool(self.pools[self.by_datastore[moref]], inventory)


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
            {each.name: number for number, each in enumerate(pools)},
            {each.pod.moref: number for number, each in enumerate(pools)
             if each.pod},
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
    """Yield each promise with the pool that it counts on.

    A promise counts on the pool that it was made on, even if the pool has
    another name now. A promise of another backend counts on the pool with
    the same storage, by its URL. A datastore cluster has no URL: such a
    promise counts on the pool with the cluster's name and reference.
    """
    if not promises:
        return
    arranged = _arranged(inventory, settings)
    identities = _identities(inventory, settings)

    def known(number: int | None) -> Pool | None:
        return (None if number is None
                else _pool(arranged.pools[number], inventory))
    for promise in promises:
        url = promise.place.rpartition(' ')[0]
        pool = known(identities.pools.get(promise.place)) or (
            known(arranged.by_name.get(promise.pool))
            if not promise.place else None)
        if promise.own:
            # Former names are rare, and finding them takes longer.
            pool = pool or (
                identified(promise.place, inventory, settings)
                if promise.place
                else resolve(promise.pool, inventory, settings))
        elif url:
            pool = pool or known(identities.by_url.get(url))
        elif not promise.place or (pool and pool.name != promise.pool):
            pool = None  # it may be on another vCenter
        if pool is not None:
            yield promise, pool


class _Identities(NamedTuple):
    """Numbers of the pools, by their identities and by datastores' URLs."""

    pools: dict[str, int]
    by_url: dict[str, int]


def _identities(inventory: model.Inventory,
                settings: model.Settings) -> _Identities:
    known: _Identities | None = inventory.identities.get(
        settings.storage_pods)
    if known is None:
        pools = listed(inventory, settings)
        known = inventory.identities[settings.storage_pods] = _Identities(
            {identity(pool): number for number, pool in enumerate(pools)},
            {each.url: number
             for number, pool in reversed(list(enumerate(pools)))
             for each in pool.datastores})
    return known


def by_datastore(inventory: model.Inventory,
                 settings: model.Settings) -> dict[str, str]:
    """The name of each datastore's pool, by the datastore's moref."""
    return _arranged(inventory, settings).names


def resolve(name: str, inventory: model.Inventory,
            settings: model.Settings) -> Pool | None:
    """The pool that has this name, or had it; None: there is no such pool.

    Volumes keep the name of a datastore after its cluster became a pool: the
    name then stands for the cluster's pool. They also keep the name of a
    cluster that is a pool no longer: it then stands for all its members.
    """
    arranged = _arranged(inventory, settings)
    number = arranged.by_name.get(name)
    if number is not None:
        return _pool(arranged.pools[number], inventory)
    datastore = find(name, inventory)
    if datastore is not None:
        return arranged.holding(datastore.moref, inventory)
    pod = _find_pod(name, inventory)
    return Pool(name, _members(pod, inventory), pod) if pod else None


def with_twins(pool: Pool, inventory: model.Inventory
               ) -> tuple[model.Datastore, ...]:
    """A pool's datastores, and the others that show the same storage.

    As one NFS export does that two datacenters mount, also by another name.
    """
    return tuple({each.moref: each for datastore in pool.datastores
                  for each in (datastore, *inventory.same_storage(datastore))
                  }.values())


def identity(pool: Pool) -> str:
    """An identity that a pool keeps when it is renamed.

    For a datastore it is the URL and the reference: it keeps its URL when it
    is renamed or mounted again, and the reference distinguishes it from the
    same storage in another datacenter. A datastore cluster has a reference
    only.
    """
    if pool.pod is not None:
        return pool.pod.moref
    return f'{pool.datastores[0].url} {pool.datastores[0].moref}'.strip()


def identified(place: str, inventory: model.Inventory,
               settings: model.Settings) -> Pool | None:
    """The pool with this :func:`identity`; None: it no longer exists."""
    url, _, moref = place.rpartition(' ')
    arranged = _arranged(inventory, settings)
    pod = inventory.storage_pods.get(moref)
    if pod is not None:
        number = arranged.by_pod.get(moref)
        # Its members may now be pools of their own.
        return (Pool(pod.name, _members(pod, inventory), pod)
                if number is None else _pool(arranged.pools[number],
                                             inventory))
    found = inventory.datastores.get(moref)
    if url and (found is None or found.url != url):
        found = next((each for each in inventory.datastores.values()
                      if each.url == url), None)
    return arranged.holding(found.moref, inventory) if found else None


def names(inventory: model.Inventory) -> dict[str, str]:
    """Name of every datastore as a pool: ``{pool name: datastore moref}``.

    A pool has its datastore's name, as the vCenter stores it. In a vCenter,
    names are unique within a folder only. Of several datastores or datastore
    clusters with one name, the oldest keeps the plain name, so that a later
    one renames no pool. The name of each later one gets its datacenter's name
    added, or its reference if the datacenter's name is not unique.
    A ``#`` separates the backend from the pool in a Cinder host, so in a name
    it is written ``%23``, as the vCenter writes ``%2f`` for a slash.
    """
    return {name: moref for name, moref in _named(inventory).items()
            if moref in inventory.datastores}


def find(pool: str, inventory: model.Inventory) -> model.Datastore | None:
    """The datastore that a pool name stands for; None: no datastore does.

    A name with the datacenter or the reference added stays valid after the
    other datastore of that name was removed.
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

    The names do not depend on whether clusters are pools: an operator who
    changes that option must not change the meaning of a name.
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
        if name in named:  # rare; only then is the costly part needed
            name = _told_apart(thing, inventory, named)
        named[name] = thing.moref
    return named


def _told_apart(thing: model.Datastore | model.StoragePod,
                inventory: model.Inventory, named: Container[str]) -> str:
    """A distinct name for an object whose plain name is taken."""
    _name, name, unique = _possible_names(thing, inventory)
    if not name or name in named or (
            datacenter_name(thing, inventory)
            in inventory.shared_datacenter_names):
        name = unique
    while name in named:  # another object's plain name may be this name
        name += f' ({thing.moref})'
    return name


def _pooled(inventory: model.Inventory, settings: model.Settings
            ) -> dict[str, model.StoragePod]:
    """The datastore clusters that are pools, by their members' morefs."""
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
    """The plain name, with the datacenter ('': unknown), with the reference.
    """
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
    """Sort key by age: a vCenter numbers its references in order."""
    digits = re.search('[0-9]*$', moref)
    return (int(digits[0]) if digits and digits[0] else 0), moref
