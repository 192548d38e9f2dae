# SPDX-License-Identifier: Apache-2.0
"""Arranges datastores in pools, names the pools, and resolves pool names."""

import functools
import re
import weakref
from collections.abc import Collection
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import NamedTuple
from typing import TypeVar

from cinder_vmdk_ext import model


_Value = TypeVar('_Value')
_Thing = TypeVar('_Thing', model.Datastore, model.StoragePod)


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
            for each in _arranged(inventory, settings).pools.values()]


def holding(datastores: Iterable[str], inventory: model.Inventory,
            settings: model.Settings) -> list[Pool]:
    """The pools that hold these datastores (morefs), each pool once."""
    arranged = _arranged(inventory, settings)
    found = {(place := arranged.by_datastore[moref]).name: place
             for moref in datastores}
    return [_pool(found[name], inventory) for name in sorted(found)]


def rearranged(before: model.Inventory, now: model.Inventory,
               settings: model.Settings) -> frozenset[str] | None:
    """The datastores (morefs) whose pool has changed, but for its figures.

    The pool has another name or other datastores, or is new.

    :returns: only datastores of ``now``; None: all pools are the same
    """
    old, new = (_arranged(each, settings) for each in (before, now))
    if old is new:
        return None
    if new.since is old.mark:
        return _members_of(new.changed, new)
    return _members_of(model.differing(new.pools, old.pools), new)


def _members_of(names: Iterable[str],
                arranged: '_Arrangement') -> frozenset[str]:
    return frozenset([moref for name in names if name in arranged.pools
                      for moref in arranged.pools[name].datastores])


def ordered(inventory: model.Inventory, settings: model.Settings
            ) -> Collection[str]:
    """The pools' names, in the order of :func:`listed`."""
    return _arranged(inventory, settings).pools.keys()


class _Place(NamedTuple):
    """A pool without its datastores' figures, which change all the time."""

    name: str
    datastores: tuple[str, ...]
    pod: model.StoragePod | None


class _Arrangement(NamedTuple):
    """The pools, and the pool of each datastore."""

    pools: dict[str, _Place]  # by name
    by_datastore: dict[str, _Place]  # by moref
    by_pod: dict[str, _Place]  # by the datastore cluster's moref
    names: dict[str, str]  # name of the pool, by moref
    mark: object  # of this arrangement alone
    # The mark of the one that this one was made from, and the names of the
    # pools that are not the same in both.
    since: object = None
    changed: frozenset[str] = frozenset()

    def holding(self, moref: str, inventory: model.Inventory) -> Pool:
        """The pool of a datastore of the inventory."""
        return _pool(self.by_datastore[moref], inventory)


def _pool(place: _Place, inventory: model.Inventory) -> Pool:
    return Pool(place.name, tuple([inventory.datastores[moref]
                                   for moref in place.datastores]), place.pod)


def _arranged(inventory: model.Inventory,
              settings: model.Settings) -> _Arrangement:
    known: _Arrangement | None = inventory.pools.get(settings.storage_pods)
    if known is None:
        known = _altered_arrangement(inventory, settings)
        if known is None:
            known = _arrange(inventory, settings)
        inventory.pools[settings.storage_pods] = known
    return known


def _arrange(inventory: model.Inventory,
             settings: model.Settings) -> _Arrangement:
    pooled = _pooled(inventory, _pooled_pods(inventory, settings))
    found = []
    for name, moref in _named(inventory).items():
        if moref in inventory.datastores:
            if moref not in pooled:
                found.append(_Place(name, (moref,), None))
            continue
        place = _place(name, inventory.storage_pods[moref], inventory, pooled)
        if place.datastores:
            found.append(place)
    return _Arrangement(
        {each.name: each for each in found},
        {moref: each for each in found for moref in each.datastores},
        {each.pod.moref: each for each in found if each.pod},
        {moref: each.name for each in found for moref in each.datastores},
        object())


def _place(name: str, pod: model.StoragePod, inventory: model.Inventory,
           pooled: Mapping[str, model.StoragePod]) -> _Place:
    """The pool of a datastore cluster; without datastores if it is none.

    :param pooled: of :func:`_pooled`
    """
    return _Place(name, tuple([
        each.moref for each in _members(pod, inventory)
        if pooled.get(each.moref) is pod]), pod)


def _altered_arrangement(inventory: model.Inventory,
                         settings: model.Settings) -> _Arrangement | None:
    """The former arrangement, with the changes of names and of members.

    :returns: None: there is none
    """
    former = inventory.former
    old: _Arrangement | None = (
        former and former.pools.get(settings.storage_pods))
    if former is None or old is None or not former.names:
        return None
    lost, found = _difference(former.names, _named(inventory))
    things = lost | found.keys() | former.pods
    pods = _pooled_pods(inventory, settings)
    # What has another pool now, or whose pool has other members.
    concerned = {moref for moref in things if moref in old.by_datastore
                 or moref in inventory.datastores}
    for moref in things & old.by_pod.keys():
        concerned.update(old.by_pod[moref].datastores)
    for pod in pods:
        if pod.moref in things:
            concerned |= pod.datastores
    pods = [pod for pod in pods if pod.moref in things
            or not pod.datastores.isdisjoint(concerned)]
    gone = [old.by_datastore[moref] for moref in concerned
            if moref in old.by_datastore]
    gone += [old.by_pod[pod.moref] for pod in pods if pod.moref in old.by_pod]
    for place in gone:
        concerned.update(place.datastores)
    return _with_places(old, {place.name: place for place in gone},
                        _places(concerned, pods, inventory), inventory)


def _places(datastores: Collection[str], pods: Iterable[model.StoragePod],
            inventory: model.Inventory) -> dict[str, _Place]:
    """The pools of some datastores (morefs), by their names.

    :param pods: all that are pools of these datastores
    """
    # Others of their members may belong to other datastore clusters.
    pooled = {moref: pod for moref, pod in _pooled(inventory, pods).items()
              if moref in datastores}
    found = [_place(name_of(pod, inventory), pod, inventory, pooled)
             for pod in pods]
    found += [_Place(name_of(inventory.datastores[moref], inventory),
                     (moref,), None) for moref in datastores
              if moref in inventory.datastores and moref not in pooled]
    return {each.name: each for each in found if each.datastores}


def _with_places(old: _Arrangement, gone: Mapping[str, _Place],
                 made: Mapping[str, _Place], inventory: model.Inventory
                 ) -> _Arrangement:
    """An arrangement without some pools, and with others, in their order."""
    places = {**old.pools}
    by_datastore, by_pod = {**old.by_datastore}, {**old.by_pod}
    names = {**old.names}
    for name, place in gone.items():
        del places[name]
        for moref in place.datastores:
            del by_datastore[moref], names[moref]
        if place.pod:
            del by_pod[place.pod.moref]
    for name, place in made.items():
        places[name] = place
        for moref in place.datastores:
            by_datastore[moref], names[moref] = place, name
        if place.pod:
            by_pod[place.pod.moref] = place
    return _Arrangement(
        {name: places[name] for name in _named(inventory) if name in places},
        by_datastore, by_pod, names, object(), old.mark,
        model.differing(made, gone))


def _with_keys(found: dict[str, _Value],
               renamed: Mapping[str, str]) -> dict[str, _Value]:
    """The same values in the same order, some with another key."""
    keys = list(found)
    changed = {keys.index(old): new for old, new in renamed.items()}
    for number, new in changed.items():
        keys[number] = new
    return dict(zip(keys, found.values(), strict=True))


def _difference(was: model.DistinctNames, now: model.DistinctNames
                ) -> tuple[frozenset[str], Mapping[str, str]]:
    """The morefs that lost their names, and those that got others."""
    if now.altered is not None and now.altered.since() is was:
        return now.altered.lost, now.altered.found
    return (frozenset([was[name] for name in was
                       if name not in now or now[name] != was[name]]),
            {now[name]: name for name in now
             if name not in was or was[name] != now[name]})


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

    def known(moref: str | None) -> Pool | None:
        return None if moref is None else arranged.holding(moref, inventory)
    for promise in promises:
        url = promise.place.rpartition(' ')[0]
        pool = known(identities.pools.get(promise.place)) or (
            _known(promise.pool, arranged, inventory)
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


def _known(name: str, arranged: _Arrangement,
           inventory: model.Inventory) -> Pool | None:
    place = arranged.pools.get(name)
    return _pool(place, inventory) if place else None


class _Identities(NamedTuple):
    """A datastore (moref) of each pool, by identities and by URLs."""

    pools: dict[str, str]
    by_url: dict[str, str]


def _identities(inventory: model.Inventory,
                settings: model.Settings) -> _Identities:
    known: _Identities | None = inventory.identities.get(
        settings.storage_pods)
    if known is None:
        known = _altered_identities(inventory, settings)
        if known is None:
            pools = listed(inventory, settings)
            known = _Identities(
                {identity(pool): pool.datastores[0].moref for pool in pools},
                {each.url: each.moref for pool in reversed(pools)
                 for each in pool.datastores if each.url})
        inventory.identities[settings.storage_pods] = known
    return known


def _altered_identities(inventory: model.Inventory,
                        settings: model.Settings) -> _Identities | None:
    """The former identities, without pools that are gone, with new ones.

    :returns: None: there are none, or it takes more to change them
    """
    former = inventory.former
    old: _Identities | None = (
        former and former.identities.get(settings.storage_pods))
    before: _Arrangement | None = (
        former and former.pools.get(settings.storage_pods))
    if former is None or old is None or before is None:
        return None
    now = _arranged(inventory, settings)
    changed = _changed_pools(before, now, former.datastores)
    if changed is None:
        return None
    found = _Identities(old.pools.copy(), old.by_url.copy())
    for each in former.datastores.values():
        if each is None or not each.url:
            continue
        if found.by_url.pop(each.url, None) != each.moref:
            return None  # it is that of several
    for name in changed & before.pools.keys():
        found.pools.pop(_former_identity(
            before.pools[name], former.datastores, inventory), None)
    for name in changed & now.pools.keys():
        pool = _pool(now.pools[name], inventory)
        # Of several with one URL, the first in the order of the pools has it.
        if any(map(inventory.shares_url, pool.datastores)):
            return None
        found.pools[identity(pool)] = pool.datastores[0].moref
        found.by_url.update({each.url: each.moref for each
                             in pool.datastores if each.url})
    urls = {each.url for each in former.datastores.values()
            if each and each.url}
    return None if urls and _others_have(
        urls, former.datastores, inventory) else found


def _changed_pools(before: _Arrangement, now: _Arrangement,
                   replaced: Iterable[str]) -> frozenset[str] | None:
    """The names of the pools that differ, or whose datastores do.

    :param replaced: morefs of datastores
    :returns: None: it takes more to find them
    """
    if now is not before and now.since is not before.mark:
        return None
    changed = now.changed if now is not before else frozenset()
    return changed.union(*([each.names[moref] for moref in replaced
                            if moref in each.names]
                           for each in (before, now)))


def _former_identity(place: _Place,
                     replaced: Mapping[str, model.Datastore | None],
                     inventory: model.Inventory) -> str:
    if place.pod is not None:
        return place.pod.moref
    [moref] = place.datastores
    return _identity(replaced.get(moref) or inventory.datastores[moref])


def _others_have(urls: Container[str], morefs: Container[str],
                 inventory: model.Inventory) -> bool:
    """Whether other datastores than these have one of these URLs."""
    return bool([moref for moref, each in inventory.datastores.items()
                 if each.url in urls and moref not in morefs])


def by_datastore(inventory: model.Inventory,
                 settings: model.Settings) -> dict[str, str]:
    """The name of each datastore's pool, by the datastore's moref."""
    return _arranged(inventory, settings).names


def resolve(name: str, inventory: model.Inventory,
            settings: model.Settings) -> Pool | None:
    """The pool that has this name, or had it; None: there is no such pool.

    Volumes keep the name of a datastore after its cluster became a pool: the
    name then stands for the cluster's pool. They also keep the name of a
    cluster that is a pool no longer: it then stands for all its members, if
    it has any.
    """
    arranged = _arranged(inventory, settings)
    known = _known(name, arranged, inventory)
    if known is not None:
        return known
    datastore = find(name, inventory)
    if datastore is not None:
        return arranged.holding(datastore.moref, inventory)
    pod = _find_pod(name, inventory)
    return _of_members(name, pod, inventory) if pod else None


def _of_members(name: str, pod: model.StoragePod,
                inventory: model.Inventory) -> Pool | None:
    """The members of a cluster that is no pool; None: it has none."""
    members = _members(pod, inventory)
    return Pool(name, members, pod) if members else None


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
    return _identity(pool.datastores[0])


def _identity(datastore: model.Datastore) -> str:
    return f'{datastore.url} {datastore.moref}'.strip()


def identified(place: str, inventory: model.Inventory,
               settings: model.Settings) -> Pool | None:
    """The pool with this :func:`identity`; None: it no longer exists.

    Or it is a datastore cluster without members.
    """
    url, _, moref = place.rpartition(' ')
    arranged = _arranged(inventory, settings)
    pod = inventory.storage_pods.get(moref)
    if pod is not None:
        known = arranged.by_pod.get(moref)
        # Its members may now be pools of their own.
        return (_pool(known, inventory) if known else
                _of_members(pod.name, pod, inventory))
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
    return _of_longer_name(pool, inventory.datastores, inventory)


def name_of(thing: model.Datastore | model.StoragePod,
            inventory: model.Inventory) -> str:
    """The name of a datastore of this inventory, or of a datastore cluster."""
    named, name = _named(inventory), _plain(thing)
    if named.get(name) == thing.moref:
        return name
    return next(name for name, moref in named.items()
                if moref == thing.moref)


def _named(inventory: model.Inventory) -> model.DistinctNames:
    """Morefs of datastores and of datastore clusters by distinct names.

    The names do not depend on whether clusters are pools: an operator who
    changes that option must not change the meaning of a name.
    """
    if not inventory.names:
        found = _altered_names(inventory) or _make_names(inventory)
        inventory.names.taken = found.taken
        inventory.names.altered = found.altered
        inventory.names.update(found)
    return inventory.names


def _make_names(inventory: model.Inventory) -> model.DistinctNames:
    named = model.DistinctNames()
    things: list[model.Datastore | model.StoragePod] = [
        *inventory.datastores.values(), *inventory.storage_pods.values()]
    for thing in sorted(things, key=lambda thing: _age(thing.moref)):
        name = _plain(thing)
        if name in named:  # rare; only then is the costly part needed
            named.taken += (name,)
            name = _told_apart(thing, inventory, named)
        named[name] = thing.moref
    return named


def _altered_names(inventory: model.Inventory) -> model.DistinctNames | None:
    """The former names, with the changes of few datastores.

    A datastore whose name is neither that of another nor begins with the
    name of several changes no other's name.

    :returns: None: there are none, or names of others may change
    """
    former = inventory.former
    if former is None or not former.names:
        return None
    was, before = former.names, former.datastores
    new = {moref: _plain(inventory.datastores[moref])
           for moref in sorted(before, key=_age)
           if moref in inventory.datastores}
    if len(set(new.values())) < len(new) or any(
            name.startswith(was.taken) for name in (
                *new.values(), *[_plain(each) for each in before.values()
                                 if each])):
        return None
    if any(was.get(name, moref) not in before
           for moref, name in new.items()):
        return None
    pods = inventory.storage_pods
    if any(moref not in pods or was.get(_plain(pods[moref])) != moref
           for moref in former.pods):
        return None
    if was.taken and any(was.get(_plain(pod)) != pod.moref
                         for pod in pods.values()):
        return None  # its name depends on its members' datacenter
    added = [moref for moref in new if before[moref] is None]
    if added and _age(added[0]) < _age(next(reversed(was.values()))):
        return None
    return _with_names(was, before, new, added)


def _with_names(was: model.DistinctNames,
                before: Mapping[str, model.Datastore | None],
                new: Mapping[str, str], added: Iterable[str]
                ) -> model.DistinctNames:
    """:param added: those of ``new`` that come last"""
    lost = {moref: _plain(each) for moref, each in before.items() if each}
    renamed = {name: new[moref] for moref, name in lost.items()
               if moref in new}
    found = model.DistinctNames(was)
    for moref, name in lost.items():
        if moref not in new:
            del found[name]
    if renamed:
        found = model.DistinctNames(_with_keys(found, renamed))
    found.update({new[moref]: moref for moref in added})
    found.taken = was.taken
    found.altered = model.Alteration(weakref.ref(was), frozenset(lost), new)
    return found


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


def _pooled(inventory: model.Inventory, pods: Iterable[model.StoragePod]
            ) -> dict[str, model.StoragePod]:
    """The datastore clusters that are pools, by their members' morefs.

    While a datastore moves from one to another, the vCenter may name it as a
    member of both; then it is one of the older.

    :param pods: of :func:`_pooled_pods`
    """
    return {moref: pod for pod in sorted(
        pods, key=lambda pod: _age(pod.moref), reverse=True)
        for moref in pod.datastores if moref in inventory.datastores}


def _pooled_pods(inventory: model.Inventory, settings: model.Settings
                 ) -> list[model.StoragePod]:
    return [pod for pod in inventory.storage_pods.values()
            if pod.balances_itself] if settings.storage_pods else []


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
    return _of_longer_name(name, inventory.storage_pods, inventory)


def _of_longer_name(name: str, things: Mapping[str, _Thing],
                    inventory: model.Inventory) -> _Thing | None:
    """The only one that has this name as a plain name with an addition.

    Looks at those alone whose plain name the name begins with, however many
    there are: a name that nothing has is looked up by each selection for a
    volume without a pool.
    """
    named = _named(inventory)
    begins = [name[:found.start()] for found in re.finditer(r' \(', name)]
    # Of several with one plain name, the oldest alone is found by it.
    of: Collection[str] = (
        things if any(each in named.taken for each in begins)
        else {named.get(each, '') for each in begins} & things.keys())
    matching = [things[moref] for moref in of
                if name in _possible_names(things[moref], inventory)]
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
