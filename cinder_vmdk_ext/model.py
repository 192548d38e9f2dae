# SPDX-License-Identifier: Apache-2.0
"""Defines the plain values that placement and statistics work on.

An :class:`Inventory` is the state of the vCenter at one moment; it holds no
connection and never changes. The value of a managed object's reference
(``datastore-12``, here called moref) identifies it within one vCenter.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from urllib import parse

GIB = 1 << 30


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
        difference = _Difference(self, before, changed)
        for name, fields in _DERIVED_OF.items():
            # This derives it in ``before``, if it was not yet derived there.
            if name not in self.__dict__ and all(
                    map(difference.same, fields)):
                self.__dict__[name] = getattr(before, name)

    def changed_datastores(self, before: 'Inventory'
                           ) -> frozenset[str] | None:
        """Datastores (morefs) whose change affects no other datastore.

        :returns: None: something differs on which other datastores depend,
            such as a host, a name or the set of datastores
        """
        difference = _Difference(self, before)
        return difference.changed if all(
            map(difference.same, _CONCERNS_OTHERS)) else None

    @functools.cached_property
    def live_hosts(self) -> frozenset[str]:
        """Hosts that are connected and not in maintenance."""
        return frozenset(h.moref for h in self.hosts.values() if h.live)

    @functools.cached_property
    def registering_hosts(self) -> frozenset[str]:
        """Live hosts whose resource pool is known: they can register VMs."""
        pools = {moref for moref, cluster in self.clusters.items()
                 if cluster.resource_pool}
        return frozenset(moref for moref in self.live_hosts
                         if self.hosts[moref].parent in pools)

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
    def shared_datacenter_names(self) -> frozenset[str]:
        """Names that several datacenters have, in different folders."""
        count = Counter(each.name for each in self.datacenters.values())
        return frozenset(name for name in count if count[name] > 1)

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

    def attribute(self, datastore: Datastore, name: str) -> str | None:
        """A datastore's custom attribute of that name; None: it has none."""
        return next((value for key, value in datastore.custom_values
                     if self.attributes.get(key) == name), None)

    def hosts_in_reach(self, settings: Settings) -> frozenset[str]:
        """Hosts of the configured clusters; all if none is configured.

        Some may be down: see :attr:`live_hosts`.
        """
        names = settings.cluster_names
        found = self._reached.get(names)
        if found is None:
            empty: frozenset[str] = frozenset()
            found = self._reached[names] = frozenset(
                self.hosts) if not names else empty.union(
                    *(self.hosts_by_cluster_name.get(name, empty)
                      for name in names))
        return found

    @functools.cached_property
    def _reached(self) -> dict[tuple[str, ...], frozenset[str]]:
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

    @functools.cached_property
    def _shared(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """Datastores by (URL, capacity), if several are one storage."""
        urls = Counter(each.url for each in self.datastores.values())
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for each in self.datastores.values():
            if each.url and urls[each.url] > 1:
                key = each.url, each.capacity_bytes
                found[key] = (*found.get(key, ()), each.moref)
        return found

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Morefs by pool names; :mod:`pool_names` fills it."""
        return {}

    @functools.cached_property
    def pools(self) -> dict[Any, Any]:
        """The pools, by ``storage_pods``; :mod:`pool_names` fills it."""
        return {}

    @functools.cached_property
    def verdicts(self) -> dict[Settings, dict[
            str, tuple[Datastore, 'Ineligibility | None']]]:
        """Verdicts on datastores, by settings and their morefs.

        :mod:`eligibility` fills it.
        """
        return {}


class _Difference:
    """Compares two inventories; each field once."""

    def __init__(self, now: Inventory, before: Inventory,
                 changed: Iterable[str] | None = None) -> None:
        """:param changed: datastores that may differ; None: any"""
        self._now = now
        self._before = before
        self._candidates = changed
        self._same: dict[str, bool] = {}

    def same(self, field: str) -> bool:
        """Whether a field, or a part of all datastores, is equal in both."""
        found = self._same.get(field)
        if found is None:
            found = self._same[field] = self._compare(field)
        return found

    def _compare(self, field: str) -> bool:
        parts = _PARTS.get(field)
        if parts is None:
            now, before = (getattr(each, field)
                           for each in (self._now, self._before))
            return now is before or now == before
        now, before = self._now.datastores, self._before.datastores
        return self._same_datastores and all(
            getattr(now[moref], part) == getattr(before[moref], part)
            for moref in self.changed for part in parts)

    @functools.cached_property
    def _same_datastores(self) -> bool:
        """Whether both have the same set of datastores (by morefs)."""
        now, before = self._now.datastores, self._before.datastores
        return now is before or now.keys() == before.keys()

    @functools.cached_property
    def changed(self) -> frozenset[str]:
        """Datastores (morefs) of ``now`` that are new or have changed."""
        now, before = self._now.datastores, self._before.datastores
        if now is before:
            return frozenset()
        if self._candidates is not None:
            return frozenset(self._candidates) & now.keys()
        return frozenset([moref for moref, each in now.items()
                          if before.get(moref) is not each
                          and before.get(moref) != each])


# Parts of datastores on which derived values depend.
_PARTS = {'names': ('name', 'datacenter'),
          'storages': ('url', 'capacity_bytes')}
# The fields that Inventory.changed_datastores compares.
_CONCERNS_OTHERS = ('names', 'storages', 'hosts', 'clusters', 'datacenters',
                    'compliant', 'storage_pods', 'attributes', 'tagged')
# The derived values of an Inventory, and the fields on which each depends. A
# verdict also depends on its datastore, so it is stored with the datastore.
_DERIVED_OF = {
    'live_hosts': ('hosts',),
    'registering_hosts': ('hosts', 'clusters'),
    'hosts_by_cluster_name': ('clusters',),
    '_reached': ('hosts', 'clusters'),
    'shared_datacenter_names': ('datacenters',),
    'policies_by_datastore': ('compliant',),
    'verdicts': ('hosts', 'clusters', 'compliant', 'attributes', 'tagged'),
    'names': ('names', 'datacenters', 'storage_pods'),
    'pools': ('names', 'datacenters', 'storage_pods'),
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

    def __str__(self) -> str:
        text = (f'a {"thin" if self.thin else "thick"} disk of '
                f'{round(self.size_bytes / GIB, 2):.10g} GiB')
        if self.policy:
            text += f' with storage policy {self.policy!r}'
        return text


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a disk goes: the datastore and the host that registers its VM."""

    datastore: Datastore
    host: Host
    resource_pool: str
