# SPDX-License-Identifier: Apache-2.0
"""Defines the plain values that placement and statistics work on.

An :class:`Inventory` is the state of the vCenter at one moment; it holds no
connection and never changes. The value of a managed object's reference
(``datastore-12``, here called moref) identifies it within one vCenter.
"""

import dataclasses
import functools
import re
import weakref
from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import TypeVar
from urllib import parse

GIB = 1 << 30

# A series of inventories remembers so many changes of datastores. A reader
# that was away for longer compares all datastores.
MOST_CHANGES = 1000


def ceil_gib(size_bytes: int) -> int:
    """A size in GiB, rounded up, as for Cinder's volumes."""
    return -(-size_bytes // GIB)


def format_gib(size_bytes: int) -> str:
    """A size as text in GiB, with two decimals."""
    return f'{size_bytes / GIB:.2f} GiB'


# The defaults of upstream's driver, of this one, and of Cinder's manager.
DEFAULT_BACKEND_NAMES = ('VMwareVcVmdkDriver', 'VmdkExtDriver', '_pool0')

# Types of datastores that upstream's driver supports (DatastoreSummary.type).
SUPPORTED_TYPES = frozenset({'vmfs', 'nfs', 'nfs41', 'vsan', 'vvol'})


def plain_name(name: str) -> str:
    """A name as the vSphere Client shows it.

    A vCenter stores the names of managed entities with ``%25``, ``%2f`` and
    ``%5c`` for a per cent sign, a slash and a backslash
    (``ManagedEntity.name``).
    """
    return parse.unquote(name)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options that affect pools and placement."""

    backend_name: str
    datastore_pools: bool = True
    # Whether a datastore cluster with automated Storage DRS is one pool.
    storage_pods: bool = False
    cluster_names: tuple[str, ...] = ()
    datastore_regex: re.Pattern[str] | None = None
    storage_policies: tuple[str, ...] = ()
    reserved_percentage: int = 0
    # None stands for Cinder's 'auto'.
    max_over_subscription_ratio: float | None = 20.0
    # The custom attribute, and the tag, that take a datastore out of use.
    drain_attribute: str | None = None
    drain_tag: str | None = None
    min_free_gib: float = 0.0
    min_free_percent: float = 0.0

    def stands_for_backend(self, pool: str) -> bool:
        """Whether a pool name stands for the whole backend as one pool.

        Volumes from before the pools still have such a name. Without
        ``volume_backend_name`` a driver reports the name of its class, and
        Cinder's manager writes ``_pool0``.
        """
        return pool in (self.backend_name, *DEFAULT_BACKEND_NAMES)

    def elsewhere(self) -> 'Settings':
        """The settings for a pool of another backend of this vCenter.

        The options that select this backend's datastores are removed,
        because the other backend's options selected the datastore.
        """
        return dataclasses.replace(self, datastore_regex=None,
                                   storage_policies=(), cluster_names=())

    def floor_bytes(self, capacity_bytes: int) -> int:
        """Free space in bytes below which a datastore takes no more disks."""
        return int(max(self.min_free_gib * GIB,
                       self.min_free_percent / 100 * capacity_bytes))


# Properties that cannot be read: (path, "cannot be read: ...").
Unreadable = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Datastore:
    """One datastore (vSphere: Datastore.summary and Datastore.host)."""

    moref: str
    name: str  # as the vCenter stores it, so with %2f for a slash
    url: str = ''
    type: str = 'vmfs'  # in lower case
    capacity_bytes: int = 0
    free_bytes: int = 0
    uncommitted_bytes: int = 0
    accessible: bool = True
    maintenance_mode: str = 'normal'
    datacenter: str | None = None
    mounted_hosts: frozenset[str] = frozenset()
    # Those of mounted_hosts that may write: mounted, accessible, readWrite.
    usable_hosts: frozenset[str] = frozenset()
    # Custom attributes: (key, value); Inventory.attributes has their names.
    custom_values: tuple[tuple[int, str], ...] = ()
    unreadable: Unreadable = ()

    @property
    def plain_name(self) -> str:
        """The name as the vSphere Client shows it."""
        return plain_name(self.name)

    @property
    def provisioned_bytes(self) -> int:
        """Space in use, plus the space that thin disks may still take."""
        # A vCenter may briefly report more free space than capacity.
        return (max(0, self.capacity_bytes
                    - min(self.free_bytes, self.capacity_bytes))
                + max(0, self.uncommitted_bytes))


@dataclasses.dataclass(frozen=True)
class Host:
    """One ESX host."""

    moref: str
    name: str
    parent: str  # the compute resource it belongs to
    connection_state: str = 'connected'
    in_maintenance: bool = False
    unreadable: Unreadable = ()

    @property
    def live(self) -> bool:
        """Whether a shadow VM can be registered on it now."""
        return self.connection_state == 'connected' and not self.in_maintenance


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster, or the compute resource of a standalone host."""

    moref: str
    name: str
    resource_pool: str
    hosts: frozenset[str] = frozenset()
    standalone: bool = False
    unreadable: Unreadable = ()


@dataclasses.dataclass(frozen=True)
class Datacenter:
    """One datacenter and the root of its VM folders."""

    moref: str
    name: str
    vm_folder: str = ''


@dataclasses.dataclass(frozen=True)
class StoragePod:
    """One datastore cluster (vSphere: StoragePod.podStorageDrsEntry)."""

    moref: str
    name: str
    datastores: frozenset[str] = frozenset()
    # Whether Storage DRS is on, and its automation level: it moves disks by
    # itself ("automated"), or recommends moves to a person ("manual").
    drs_enabled: bool = False
    automation: str = 'manual'

    @property
    def balances_itself(self) -> bool:
        """Whether Storage DRS moves disks among its members by itself."""
        return self.drs_enabled and self.automation == 'automated'


def split_path(text: str, names: Container[str]) -> list[tuple[str, str]]:
    """All ways to read '[datastore] folder/name': datastores and paths.

    Both parts may contain brackets, so the text is split only at names of
    existing datastores. No other code of the plugin splits such a path.

    :param names: names of datastores
    """
    if not text.startswith('['):
        return []
    return [(text[1:end.start()], text[end.end():].removeprefix(' '))
            for end in re.finditer(r'\]', text)
            if text[1:end.start()] in names]


_Key = TypeVar('_Key')
_NO_MOREFS: frozenset[str] = frozenset()
# Stands for a cluster that is not known.
_NO_CLUSTER = Cluster('', '', '')


class _Journal:
    """Which datastores changed in a series of inventories."""

    def __init__(self) -> None:
        # Numbers, which begin with 1, and morefs. One thread appends; others
        # may read at the same time.
        self._latest: deque[tuple[int, str]] = deque(maxlen=MOST_CHANGES)
        self.count = 0

    def note(self, changed: Iterable[str]) -> None:
        """Add changed datastores (morefs)."""
        for moref in changed:
            self._latest.append((self.count + 1, moref))
            self.count += 1

    def between(self, one: int, other: int) -> frozenset[str] | None:
        """What changed between two counts; None: it is no longer known."""
        first, last = sorted((one, other))
        if first == last:
            return _NO_MOREFS
        known = tuple(self._latest)
        if known[0][0] > first + 1:
            return None
        return frozenset([moref for number, moref in known
                          if first < number <= last])


class _Line(NamedTuple):
    """Where an inventory stands in a series of inventories."""

    journal: _Journal
    number: int  # the journal's count
    # Datastores that differ from those of the series' inventory.
    besides: frozenset[str] = frozenset()

    def since(self, before: '_Line') -> frozenset[str] | None:
        """Datastores (morefs) that may differ; None: any."""
        if before.journal is not self.journal:
            return None
        noted = self.journal.between(before.number, self.number)
        return None if noted is None else (
            noted | self.besides | before.besides)


class Alteration(NamedTuple):
    """How names differ from earlier ones."""

    # The earlier ones, weakly referenced.
    since: Callable[[], 'DistinctNames | None']
    # Morefs that lost their names, and those that got one, maybe the same.
    lost: frozenset[str]
    found: Mapping[str, str]


class DistinctNames(dict[str, str]):
    """Morefs of datastores and datastore clusters by distinct names."""

    # Plain names of those that have another name: their own was taken.
    taken: tuple[str, ...] = ()
    altered: Alteration | None = None


class Former(NamedTuple):
    """What was derived from an earlier inventory, and what differs from it.

    Both have the same names of datacenters, or no two objects of the earlier
    one have one name.
    """

    names: DistinctNames
    pools: dict[Any, Any]
    identities: dict[Any, Any]
    # Those whose name, datacenter or URL differs, as they were, by moref.
    # None: the earlier inventory had no such datastore.
    datastores: Mapping[str, Datastore | None]
    # Datastore clusters (morefs) that are new, have changed or are gone.
    pods: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The vCenter's objects, as they were when they were read."""

    datastores: Mapping[str, Datastore] = dataclasses.field(
        default_factory=dict)
    hosts: Mapping[str, Host] = dataclasses.field(default_factory=dict)
    clusters: Mapping[str, Cluster] = dataclasses.field(default_factory=dict)
    datacenters: Mapping[str, Datacenter] = dataclasses.field(
        default_factory=dict)
    # Storage policy name -> the datastores that comply with it; only for the
    # policies that were queried.
    compliant: Mapping[str, frozenset[str]] = dataclasses.field(
        default_factory=dict)
    storage_pods: Mapping[str, StoragePod] = dataclasses.field(
        default_factory=dict)
    # Names of custom attributes by key.
    attributes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    # Datastores that have the tag by which they are drained.
    tagged: frozenset[str] = frozenset()

    def evolved(self, **changes: Any) -> 'Inventory':
        """A copy of this inventory with other values for some fields."""
        made = dataclasses.replace(self, **changes)
        made.inherit(self)
        return made

    def inherit(self, before: 'Inventory',
                changed: Iterable[str] | None = None) -> None:
        """Reuse values that were derived from fields that did not change.

        The derived values are costly, and most notices of the vCenter
        concern one datastore only.

        :param changed: the datastores (morefs) that may differ from those of
            ``before``; None: unknown
        """
        if '_line' not in self.__dict__:
            line = before._line
            if changed is not None:
                self.__dict__['_line'] = line._replace(
                    besides=line.besides | frozenset(changed))
            elif self.datastores is before.datastores:
                self.__dict__['_line'] = line
        difference = _Difference(self, before)
        for name, fields in _DERIVED_OF.items():
            # This derives it in ``before``, if it was not yet derived there.
            if name not in self.__dict__ and all(
                    map(difference.same, fields)):
                self.__dict__[name] = getattr(before, name)
        self._inherit_of_hosts(before, difference)
        self._inherit_of_datastores(before, difference)
        self._inherit_verdicts(before, difference)

    def follow(self, before: 'Inventory', changed: Iterable[str]) -> None:
        """As :meth:`inherit`, for the next inventory of a series.

        The inventories of a series know what changed between any two of
        them, without a comparison of all datastores.
        """
        line, changed = before._line, frozenset(changed)
        if line.number == line.journal.count and not line.besides:
            line.journal.note(changed)
            self.__dict__['_line'] = _Line(line.journal, line.journal.count)
        self.inherit(before, changed)

    @functools.cached_property
    def _line(self) -> _Line:
        return _Line(_Journal(), 0)

    def _inherit_of_hosts(self, before: 'Inventory',
                          difference: '_Difference') -> None:
        """Derive sets of hosts from those before, and from what changed."""
        known, changed = self.__dict__, difference.changed_hosts
        if 'live_hosts' not in known and 'live_hosts' in before.__dict__:
            known['live_hosts'] = (before.live_hosts - changed) | {
                moref for moref in changed
                if moref in self.hosts and self.hosts[moref].live}
        if ('registering_hosts' not in known
                and 'registering_hosts' in before.__dict__
                and difference.same_resource_pools):
            known['registering_hosts'] = (
                (before.registering_hosts - changed) | self._registering(
                    self.live_hosts & changed)
                if changed else before.registering_hosts)

    def _inherit_of_datastores(self, before: 'Inventory',
                               difference: '_Difference') -> None:
        """Keep what has to be changed for few datastores only."""
        known, replaced = self.__dict__, difference.replaced
        if ('_by_mounts' not in known and '_by_mounts' in before.__dict__):
            known['_by_mounts'] = _regrouped(
                before._by_mounts, before.datastores, self.datastores,
                difference.changed | difference.gone)
        if '_spellings' not in known and '_spellings' in before.__dict__:
            found = _respelled(before._spellings, replaced, self.datastores)
            if found is not None:
                known['_spellings'] = found
        if ('_shared' not in known and '_shared' in before.__dict__
                and difference.unshared):
            known['_shared'] = before._shared
        if 'former' in known or not difference.same('told_apart'):
            return
        former = before.former
        pods = differing(self.storage_pods, before.storage_pods)
        if not (replaced or pods):
            known['former'] = former
        elif former is not None and not before.pools:
            # The one before has not been used: skip it.
            known['former'] = former._replace(
                datastores={**replaced, **former.datastores},
                pods=former.pods | pods)
        else:
            known['former'] = Former(before.names, before.pools,
                                     before.identities, replaced, pods)

    def _inherit_verdicts(self, before: 'Inventory',
                          difference: '_Difference') -> None:
        """Reuse the verdicts on datastores for which nothing changed."""
        disturbed = difference.disturbed
        if 'verdicts' in self.__dict__ or disturbed is None:
            return
        disturbed |= difference.gone
        if not disturbed:
            self.__dict__['verdicts'] = before.verdicts
            return
        found = {}
        for settings, verdicts in before.verdicts.copy().items():
            found[settings] = verdicts.copy()
            for moref in disturbed:
                found[settings].pop(moref, None)
        self.__dict__['verdicts'] = found

    def changed_datastores(self, before: 'Inventory'
                           ) -> frozenset[str] | None:
        """Datastores (morefs) that are new, gone or have changed.

        Those whose hosts, clusters, storage policies, tag or custom
        attributes have changed, or whose datacenter's name has, count as
        well. Other datastores may be part of another pool, or have got
        another name as pools.

        :returns: None: something differs on which all datastores depend, such
            as a property of a cluster that cannot be read
        """
        difference = _Difference(self, before)
        disturbed = difference.disturbed
        return None if disturbed is None else (
            difference.changed | difference.gone | disturbed
            | difference.in_renamed_datacenters)

    def places_as(self, before: 'Inventory') -> bool:
        """Whether both have the same names, storages and datastore clusters.
        """
        return self is before or all(map(
            _Difference(self, before).same,
            ('names', 'told_apart', 'storages', 'storage_pods')))

    @functools.cached_property
    def live_hosts(self) -> frozenset[str]:
        """Hosts that are connected and not in maintenance."""
        return frozenset(h.moref for h in self.hosts.values() if h.live)

    @functools.cached_property
    def registering_hosts(self) -> frozenset[str]:
        """Live hosts whose resource pool is known: they can register VMs."""
        return self._registering(self.live_hosts)

    def _registering(self, live: frozenset[str]) -> frozenset[str]:
        pools = {moref for moref, cluster in self.clusters.items()
                 if cluster.resource_pool}
        return frozenset([moref for moref in live
                          if self.hosts[moref].parent in pools])

    @functools.cached_property
    def hosts_by_cluster_name(self) -> Mapping[str, frozenset[str]]:
        """Hosts by their cluster's name; clusters of one name are joined."""
        members: dict[str, frozenset[str]] = {}
        for cluster in self.clusters.values():
            if not cluster.standalone:
                name = plain_name(cluster.name)
                members[name] = members.get(name,
                                            frozenset()) | cluster.hosts
        return members

    @functools.cached_property
    def hidden_clusters(self) -> tuple[Cluster, ...]:
        """Clusters of which a property cannot be read."""
        return tuple([each for each in self.clusters.values()
                      if each.unreadable])

    @functools.cached_property
    def shared_datacenter_names(self) -> frozenset[str]:
        """Names that several datacenters have, in different folders."""
        count = Counter(each.name for each in self.datacenters.values())
        return frozenset(name for name in count if count[name] > 1)

    @functools.cached_property
    def _by_mounts(self) -> Mapping[frozenset[str], frozenset[str]]:
        """Datastores by the hosts that mount them (``mounted_hosts``).

        Usually all datastores of one cluster have the same hosts.
        """
        return _regrouped({}, {}, self.datastores, self.datastores)

    def mounted_by(self, hosts: frozenset[str]
                   ) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
        """Yield datastores (morefs) and those of ``hosts`` that mount them.

        Each datastore that one of these hosts mounts comes once. Looks at no
        datastore, but once at each different set of mounting hosts.
        """
        for mounted, morefs in self._by_mounts.items():
            if not mounted.isdisjoint(hosts):
                yield morefs, mounted & hosts

    @functools.cached_property
    def _spellings(self) -> Mapping[str, tuple[str, ...]]:
        """Datastores by their names, as stored and as shown."""
        found: dict[str, tuple[str, ...]] = {}
        for datastore in self.datastores.values():
            for name in {datastore.name, datastore.plain_name}:
                found[name] = (*found.get(name, ()), datastore.moref)
        return found

    def located(self, text: str) -> list[tuple[Datastore, str]]:
        """All meanings of '[datastore] folder/name': datastores and paths.

        The name may be spelt as the vCenter stores it or as the vSphere
        Client shows it. Name and path may contain brackets, so the text is
        split only at names of existing datastores.

        :returns: empty if no datastore has such a name; several if several
            datastores have it
        """
        return [(self.datastores[moref], path)
                for name, path in split_path(text, self._spellings)
                for moref in self._spellings[name]]

    def located_on(self, text: str, moref: str) -> tuple[Datastore, str]:
        """The meaning of '[datastore] folder/name' on this datastore.

        :raises LookupError: the datastore is gone, or has another name
        """
        for datastore, path in self.located(text):
            if datastore.moref == moref:
                return datastore, path
        raise LookupError(f'the datastore of {text} is gone, or was renamed')

    def attribute(self, datastore: Datastore, name: str) -> str | None:
        """A datastore's custom attribute of that name; None: it has none."""
        return next((value for key, value in datastore.custom_values
                     if self.attributes.get(key) == name), None)

    def hosts_in_reach(self, settings: Settings) -> frozenset[str]:
        """Hosts of the configured clusters; all if none is configured.

        Some may be down: see :attr:`live_hosts`.
        """
        names = settings.cluster_names
        found = self._reached.get((names, False))
        if found is None:
            empty: frozenset[str] = frozenset()
            found = self._reached[names, False] = frozenset(
                self.hosts) if not names else empty.union(
                    *(self.hosts_by_cluster_name.get(name, empty)
                      for name in names))
        return found

    def registering_in_reach(self, settings: Settings) -> frozenset[str]:
        """Those of :meth:`hosts_in_reach` that can register VMs now."""
        names = settings.cluster_names
        found = self._reached.get((names, True))
        if found is None:
            found = self._reached[names, True] = (
                self.registering_hosts & self.hosts_in_reach(settings))
        return found

    @functools.cached_property
    def _reached(self) -> dict[tuple[tuple[str, ...], bool],
                               frozenset[str]]:
        # By the clusters' names, and whether they must be able to register.
        return {}

    @functools.cached_property
    def policies_by_datastore(self) -> Mapping[str, tuple[str, ...]]:
        """Storage policies that each datastore complies with, by its moref.

        Sorted; datastores that comply with none are left out.
        """
        found: dict[str, tuple[str, ...]] = {}
        for policy in sorted(self.compliant):
            for moref in self.compliant[policy]:
                found[moref] = (*found.get(moref, ()), policy)
        return found

    @functools.cached_property
    def shared_datastores(self) -> tuple[Datastore, ...]:
        """Datastores whose storage several datacenters mount."""
        return tuple(self.datastores[moref] for same in self._shared.values()
                     if len(same) > 1 for moref in same)

    def same_storage(self, datastore: Datastore) -> tuple[Datastore, ...]:
        """The datastores on the same storage as this one, itself included.

        If two datacenters mount one NFS export, the vCenter shows two
        datastores with one URL. But the URL of an NFS datastore consists of
        the server's name and the path, and one name may be two servers in two
        datacenters. So the capacities are compared as well.
        """
        same = self._shared.get((datastore.url, datastore.capacity_bytes))
        return (tuple(self.datastores[moref] for moref in same) if same
                else (datastore,))

    def shares_url(self, datastore: Datastore) -> bool:
        """Whether another datastore of this inventory has the same URL."""
        return (datastore.url, datastore.capacity_bytes) in self._shared

    @functools.cached_property
    def _shared(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """Datastores by (URL, capacity), if several have that URL."""
        urls = Counter(each.url for each in self.datastores.values())
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for each in self.datastores.values():
            if each.url and urls[each.url] > 1:
                key = each.url, each.capacity_bytes
                found[key] = (*found.get(key, ()), each.moref)
        return found

    @functools.cached_property
    def former(self) -> Former | None:
        """From what :mod:`pool_names` may derive what it fills."""
        return None

    @functools.cached_property
    def names(self) -> DistinctNames:
        """Morefs by pool names; :mod:`pool_names` fills it."""
        return DistinctNames()

    @functools.cached_property
    def pools(self) -> dict[Any, Any]:
        """The pools, by ``storage_pods``; :mod:`pool_names` fills it."""
        return {}

    @functools.cached_property
    def identities(self) -> dict[Any, Any]:
        """Pools by their identities; :mod:`pool_names` fills it."""
        return {}

    @functools.cached_property
    def verdicts(self) -> dict[Settings, dict[
            str, tuple[Datastore, 'Ineligibility | None']]]:
        """Verdicts on datastores, by settings and their morefs.

        :mod:`eligibility` fills it.
        """
        return {}


class VolumesByDatastore(dict[str, tuple[str, ...]]):
    """Ids of the volumes on each datastore, by its moref.

    It is not changed; a change makes another one, which knows how it differs
    from this one.
    """

    def __init__(self, found: Mapping[str, tuple[str, ...]] | None = None,
                 before: 'VolumesByDatastore | None' = None,
                 touched: Iterable[str] = ()) -> None:
        """:param before: equal to this one, except for ``touched``"""
        super().__init__(found or {})
        # Without a strong reference, or all that ever were would stay.
        self._before = None if before is None else weakref.ref(before)
        self._touched = frozenset(touched)

    def changed_since(self, before: object) -> frozenset[str] | None:
        """The datastores (morefs) that may differ; None: any."""
        if before is self:
            return _NO_MOREFS
        known = self._before is not None and self._before() is before
        return self._touched if known else None


class _Difference:
    """Compares two inventories; each field once."""

    def __init__(self, now: Inventory, before: Inventory) -> None:
        self._now = now
        self._before = before
        # Datastores that may differ; None: any.
        self._candidates = now._line.since(before._line)
        self._same: dict[str, bool] = {}

    def same(self, field: str) -> bool:
        """Whether a field, or a part of all datastores, is equal in both."""
        found = self._same.get(field)
        if found is None:
            found = self._same[field] = self._compare(field)
        return found

    def _compare(self, field: str) -> bool:
        if field == 'told_apart':
            names = self._before.names
            return not self.renamed_datacenters or bool(
                names and not names.taken)
        parts = _PARTS.get(field)
        if parts is None:
            now, before = (getattr(each, field)
                           for each in (self._now, self._before))
            return now is before or now == before
        now, before = self._now.datastores, self._before.datastores
        return self._same_datastores and all(
            self._same_part(part, now[moref], before[moref])
            for moref in self.changed for part in parts)

    def _same_part(self, part: str, now: Datastore,
                   before: Datastore) -> bool:
        # A capacity matters only where it distinguishes storages.
        return getattr(now, part) == getattr(before, part) or (
            part == 'capacity_bytes'
            and not self._before.shares_url(before))

    @functools.cached_property
    def _same_datastores(self) -> bool:
        """Whether both have the same set of datastores (by morefs)."""
        now, before = self._now.datastores, self._before.datastores
        if self._candidates is not None:
            return len(now) == len(before) and all(
                (moref in now) == (moref in before)
                for moref in self._candidates)
        return now is before or now.keys() == before.keys()

    @functools.cached_property
    def changed(self) -> frozenset[str]:
        """Datastores (morefs) of ``now`` that are new or have changed."""
        now, before = self._now.datastores, self._before.datastores
        if now is before:
            return frozenset()
        return frozenset([
            moref for moref in (now if self._candidates is None
                                else self._candidates & now.keys())
            if before.get(moref) is not now[moref]
            and before.get(moref) != now[moref]])

    @functools.cached_property
    def gone(self) -> frozenset[str]:
        """Datastores (morefs) that only ``before`` has."""
        now, before = self._now.datastores, self._before.datastores
        if now is before:
            return frozenset()
        return frozenset([moref for moref in (
            before if self._candidates is None else self._candidates)
            if moref in before and moref not in now])

    @functools.cached_property
    def replaced(self) -> Mapping[str, Datastore | None]:
        """Datastores that have another name, datacenter or URL, as they were.

        By moref, also of those that are gone, and of new ones: None.
        """
        now, before = self._now.datastores, self._before.datastores
        return {
            moref: before.get(moref) for moref in self.changed | self.gone
            if moref not in now or moref not in before
            or _place(now[moref]) != _place(before[moref])}

    @property
    def unshared(self) -> bool:
        """Whether each datastore in ``replaced`` has a URL of its own.

        And nothing else differs on which shared storages depend.
        """
        now, before = self._now.datastores, self._before.datastores
        replaced = self.replaced
        if not all(moref in replaced or self._same_part(
                'capacity_bytes', now[moref], before[moref])
                for moref in self.changed):
            return False
        urls = [found[moref].url for found in (now, before)
                for moref in replaced if moref in found]
        rest = {each.url for moref, each in now.items()
                if moref not in replaced}
        new = [now[moref].url for moref in replaced if moref in now]
        old = [before[moref].url for moref in replaced if moref in before]
        return rest.isdisjoint(urls) and all(
            len(set(found)) == len(found) for found in (new, old))

    @functools.cached_property
    def renamed_datacenters(self) -> frozenset[str]:
        """Datacenters (morefs) that are new or gone, or have another name."""
        now, before = self._now.datacenters, self._before.datacenters
        return frozenset([
            moref for moref in differing(now, before)
            if moref not in now or moref not in before
            or now[moref].name != before[moref].name])

    @property
    def in_renamed_datacenters(self) -> frozenset[str]:
        """The datastores (morefs) in those datacenters."""
        renamed = self.renamed_datacenters
        return frozenset([
            moref for moref, each in self._now.datastores.items()
            if each.datacenter in renamed]) if renamed else _NO_MOREFS

    @functools.cached_property
    def changed_hosts(self) -> frozenset[str]:
        """Hosts (morefs) that are new, have changed or are gone."""
        return differing(self._now.hosts, self._before.hosts)

    @functools.cached_property
    def _clusters(self) -> list[tuple[Cluster, Cluster]]:
        """Clusters that changed, as they were and as they are."""
        now, before = self._now.clusters, self._before.clusters
        return [(before.get(moref, _NO_CLUSTER), now.get(moref, _NO_CLUSTER))
                for moref in differing(now, before)]

    @functools.cached_property
    def same_resource_pools(self) -> bool:
        """Whether the same clusters have a resource pool that is known."""
        return all(bool(old.resource_pool) == bool(new.resource_pool)
                   for old, new in self._clusters)

    @functools.cached_property
    def disturbed(self) -> frozenset[str] | None:
        """Datastores for which something else changed than themselves.

        These are the mounts of hosts and clusters that changed, and
        datastores whose storage policies, tag or custom attributes changed.

        :returns: None: any datastore may be
        """
        if any(old.unreadable != new.unreadable
               for old, new in self._clusters):
            return None  # the verdicts on other clusters' mounts mention it
        found = self._now.tagged ^ self._before.tagged
        if not self.same('compliant'):
            now, before = self._now.compliant, self._before.compliant
            found = found.union(*(
                now.get(name, _NO_MOREFS) ^ before.get(name, _NO_MOREFS)
                for name in differing(now, before)))
        if not self.same('attributes'):
            found = found.union(self._disturbed_by_attributes())
        if self.changed_hosts:
            found = found.union(self._disturbed_by_hosts())
        if self._clusters:
            found = found.union(*[morefs for morefs, _hosts in (
                self._now.mounted_by(self._reclustered_hosts()))])
        return found & self._now.datastores.keys()

    def _disturbed_by_attributes(self) -> list[str]:
        """Datastores with a value of an attribute whose name changed."""
        keys = differing(self._now.attributes, self._before.attributes)
        return [moref for moref, each in self._now.datastores.items()
                if each.custom_values
                and not keys.isdisjoint(dict(each.custom_values))]

    def _disturbed_by_hosts(self) -> list[str]:
        """Datastores whose use may depend on the hosts that changed.

        It does not depend on a host's state as long as another host of the
        same cluster could register VMs there all the time.
        """
        steady = self._steady_peers()
        known = self._now.datastores
        return [
            moref for morefs, hosts in self._now.mounted_by(
                self.changed_hosts)
            for moref in morefs
            if any(known[moref].usable_hosts.isdisjoint(steady[host])
                   for host in hosts)]

    def _reclustered_hosts(self) -> frozenset[str]:
        """Hosts that may be used otherwise, because a cluster changed.

        They are in reach through another cluster's name, or their cluster's
        resource pool was found or lost.
        """
        found: frozenset[str] = frozenset().union(*(
            old.hosts ^ new.hosts if _reach(old) == _reach(new)
            else old.hosts | new.hosts for old, new in self._clusters))
        return found if self.same_resource_pools else found | (
            self._now.registering_hosts ^ self._before.registering_hosts)

    def _steady_peers(self) -> dict[str, frozenset[str]]:
        """Hosts that can register VMs, in both, by a changed host.

        These are of the same cluster; none if the host came, left or moved.
        """
        now, before = self._now, self._before
        steady = (now.registering_hosts & before.registering_hosts
                  ) - self.changed_hosts
        found, of_cluster = {}, {}
        for moref in self.changed_hosts:
            places = {each.hosts[moref].parent if moref in each.hosts else ''
                      for each in (now, before)}
            place = places.pop()
            if place not in of_cluster:
                cluster = now.clusters.get(place)
                of_cluster[place] = (cluster.hosts if cluster
                                     else _NO_MOREFS)
            members = of_cluster[place]
            found[moref] = (members & steady if not places
                            and moref in members
                            and self._is_in_one_cluster(moref)
                            else _NO_MOREFS)
        return found

    def _is_in_one_cluster(self, host: str) -> bool:
        """Whether the host is in reach through one cluster's name alone.

        While it moves, the vCenter may name it in two.
        """
        return sum(host in each.hosts
                   for each in self._now.clusters.values()) == 1


def _reach(cluster: Cluster) -> tuple[str, bool]:
    """By what a cluster's hosts are in reach (hosts_by_cluster_name)."""
    return cluster.name, cluster.standalone


def differing(now: Mapping[_Key, Any],
              before: Mapping[_Key, Any]) -> frozenset[_Key]:
    """The keys whose values differ."""
    if now is before:
        return frozenset()
    if now.keys() == before.keys():
        return frozenset([
            key for key, value in now.items()
            if before[key] is not value and before[key] != value])
    return frozenset([
        key for key in now.keys() | before.keys()
        if now.get(key) is not before.get(key)
        and now.get(key) != before.get(key)])


def _place(datastore: Datastore) -> tuple[str, str | None, str]:
    return datastore.name, datastore.datacenter, datastore.url


def _regrouped(known: Mapping[frozenset[str], frozenset[str]],
               before: Mapping[str, Datastore], now: Mapping[str, Datastore],
               changed: Iterable[str]
               ) -> Mapping[frozenset[str], frozenset[str]]:
    """Datastores by their hosts, after some of them changed.

    :param known: the result for ``before``
    :param changed: morefs; no other datastore differs
    """
    left: dict[frozenset[str], set[str]] = {}
    come: dict[frozenset[str], set[str]] = {}
    for moref in changed:
        old, new = (each[moref].mounted_hosts if moref in each else None
                    for each in (before, now))
        if old != new:
            if old is not None:
                left.setdefault(old, set()).add(moref)
            if new is not None:
                come.setdefault(new, set()).add(moref)
    if not (left or come):
        return known
    found = dict(known)
    for hosts in left.keys() | come.keys():
        morefs = (found.pop(hosts, _NO_MOREFS) - left.get(hosts, _NO_MOREFS)
                  ) | come.get(hosts, _NO_MOREFS)
        if morefs:
            found[hosts] = morefs
    return found


def _respelled(known: Mapping[str, tuple[str, ...]],
               replaced: Mapping[str, Datastore | None],
               now: Mapping[str, Datastore]
               ) -> dict[str, tuple[str, ...]] | None:
    """The spellings after some datastores were replaced.

    :returns: None: a name was or is that of several datastores
    """
    found = dict(known)
    for moref, old in replaced.items():
        for name in {old.name, old.plain_name} if old else ():
            if found.pop(name, None) != (moref,):
                return None
    for moref in replaced.keys() & now.keys():
        for name in {now[moref].name, now[moref].plain_name}:
            if name in found:
                return None
            found[name] = (moref,)
    return found


# Parts of datastores on which derived values depend. Names depend on the names
# of datacenters only if several objects have one name ("told_apart").
_PARTS = {'names': ('name', 'datacenter'),
          'storages': ('url', 'capacity_bytes')}
# The derived values of an Inventory, and the fields on which each depends.
# Verdicts are inherited one by one, each as long as its datastore is the same.
_DERIVED_OF = {
    'live_hosts': ('hosts',),
    'registering_hosts': ('hosts', 'clusters'),
    'hosts_by_cluster_name': ('clusters',),
    'hidden_clusters': ('clusters',),
    '_reached': ('hosts', 'clusters'),
    'shared_datacenter_names': ('datacenters',),
    'policies_by_datastore': ('compliant',),
    'names': ('names', 'told_apart', 'storage_pods'),
    'pools': ('names', 'told_apart', 'storage_pods'),
    'identities': ('storages', 'storage_pods'),
    '_spellings': ('names',),
    '_shared': ('storages',),
}


@dataclasses.dataclass(frozen=True)
class Promise:
    """Space of the volumes without a disk on one pool: the sum.

    :func:`pool_names.promised` finds the pool.
    """

    pool: str  # as in the volumes' host
    size_gib: int
    # The pool's identity when the volumes were made (pool_names.identity).
    place: str = ''
    volumes: int = 1
    # Whether the volumes belong to this backend. A pool of another backend
    # may be on the same storage, and have another name.
    own: bool = True


@dataclasses.dataclass(frozen=True)
class Ineligibility:
    """Why a datastore is not used: a code, and a reason in words.

    ``passing`` is True for a temporary condition (maintenance, a full
    datastore): the datastore stays listed as a pool, and takes no volumes.
    Otherwise the datastore does not belong to this backend.
    """

    code: str
    reason: str
    passing: bool


@dataclasses.dataclass(frozen=True)
class Reservation:
    """I/O operations that a disk reserves, and the datastores that can."""

    iops: int
    datastores: frozenset[str]

    def __str__(self) -> str:
        return f'{self.iops} reserved I/O operations a second'


@dataclasses.dataclass(frozen=True)
class Requirement:
    """The requirements of a disk on its datastore."""

    size_bytes: int
    # A thin disk takes no space when it is created, so it may be larger than
    # the free space; the scheduler limits this by its over-subscription ratio.
    thin: bool = False
    # The datastores of the pool that the scheduler chose; None: any.
    pinned: frozenset[str] | None = None
    # One of these hosts must be able to use it; None: any in reach.
    hosts: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    types: frozenset[str] | None = None
    # Datastores that comply with the storage policy; None: no policy.
    policy: str | None = None
    compliant: frozenset[str] | None = None
    reservation: Reservation | None = None
    # Whether the over-subscription ratio counts for any datastore, because
    # the scheduler did not choose the pool.
    within_ratio: bool = False

    def __str__(self) -> str:
        text = (f'a {"thin" if self.thin else "thick"} disk of '
                f'{round(self.size_bytes / GIB, 2):.10g} GiB')
        if self.policy:
            text += f' with storage policy {self.policy!r}'
        if self.reservation:
            text += f' with {self.reservation}'
        return text


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a disk goes: the datastore and the host that registers its VM."""

    datastore: Datastore
    host: Host
    resource_pool: str
