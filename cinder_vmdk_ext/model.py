# SPDX-License-Identifier: Apache-2.0
"""The plain values that decisions are made on.

An :class:`Inventory` is what the vCenter said at one moment; it holds no
connection and never changes. Managed objects are named by the value of their
reference (``datastore-12``), which is unique within one vCenter.
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
    """A size in GiB, rounded up, as Cinder's volumes have it."""
    return -(-size_bytes // GIB)


def format_gib(size_bytes: int) -> str:
    """A size in GiB as text for a person, with two decimals."""
    return f'{size_bytes / GIB:.2f} GiB'


# Of upstream's driver, of this one, and of Cinder's manager.
DEFAULT_BACKEND_NAMES = ('VMwareVcVmdkDriver', 'VmdkExtDriver', '_pool0')

# What upstream's driver can place a shadow VM on (DatastoreSummary.type).
SUPPORTED_TYPES = frozenset({'vmfs', 'nfs', 'nfs41', 'vsan', 'vvol'})


def plain_name(name: str) -> str:
    """A name as an administrator sees it in vSphere's client.

    A vCenter stores the names of managed entities with ``%25``, ``%2f`` and
    ``%5c`` for a per cent sign, a slash and a backslash
    (``ManagedEntity.name``).
    """
    return parse.unquote(name)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The operator's choices, as far as they affect pools and placement."""

    backend_name: str
    datastore_pools: bool = True
    # Whether a datastore cluster that balances itself is one pool.
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
        """Whether a pool's name is that of the backend as a single pool.

        Volumes that are older than pools still have it. Without
        ``volume_backend_name`` a driver reports the name of its class, and
        Cinder's manager writes ``_pool0``.
        """
        return pool in (self.backend_name, *DEFAULT_BACKEND_NAMES)

    def elsewhere(self) -> 'Settings':
        """Those for a pool of another backend of this vCenter.

        That backend reports the pool, so it has chosen the datastore; which
        ones are ours has no part in it.
        """
        return dataclasses.replace(self, datastore_regex=None,
                                   storage_policies=(), cluster_names=())

    def floor_bytes(self, capacity_bytes: int) -> int:
        """The free space below which a datastore takes no more disks."""
        return int(max(self.min_free_gib * GIB,
                       self.min_free_percent / 100 * capacity_bytes))


# Properties that cannot be read: the path, and "cannot be read: ...".
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
    # Custom attributes: (key, value); the inventory knows the keys' names.
    custom_values: tuple[tuple[int, str], ...] = ()
    unreadable: Unreadable = ()

    @property
    def plain_name(self) -> str:
        """The name as an administrator sees it in vSphere's client."""
        return plain_name(self.name)

    @property
    def provisioned_bytes(self) -> int:
        """Space in use by anyone, plus what thin disks may still take."""
        # A vCenter is known to report odd figures for a moment.
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
    """A cluster, or the compute resource of a host that stands alone."""

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
    # Whether Storage DRS balances it, and on its own ("automated") or by
    # recommendations that a person has to apply ("manual").
    drs_enabled: bool = False
    automation: str = 'manual'

    @property
    def balances_itself(self) -> bool:
        """Whether Storage DRS moves disks among its members unasked."""
        return self.drs_enabled and self.automation == 'automated'


def split_path(text: str, names: Container[str]) -> list[tuple[str, str]]:
    """All ways to read '[datastore] folder/name': datastores and paths.

    Brackets may be part of either, so the text is split at names that there
    are, and nowhere else in the plugin.

    :param names: of datastores
    """
    if not text.startswith('['):
        return []
    return [(text[1:end.start()], text[end.end():].removeprefix(' '))
            for end in re.finditer(r'\]', text)
            if text[1:end.start()] in names]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What the vCenter held when it was read."""

    datastores: Mapping[str, Datastore] = dataclasses.field(
        default_factory=dict)
    hosts: Mapping[str, Host] = dataclasses.field(default_factory=dict)
    clusters: Mapping[str, Cluster] = dataclasses.field(default_factory=dict)
    datacenters: Mapping[str, Datacenter] = dataclasses.field(
        default_factory=dict)
    # Storage policy name -> the datastores that comply with it; holds the
    # policies that were asked about, no others.
    compliant: Mapping[str, frozenset[str]] = dataclasses.field(
        default_factory=dict)
    storage_pods: Mapping[str, StoragePod] = dataclasses.field(
        default_factory=dict)
    # Names of custom attributes by key.
    attributes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    # Datastores that carry the tag by which they are drained.
    tagged: frozenset[str] = frozenset()

    def evolved(self, **changes: Any) -> 'Inventory':
        """The same inventory with other values of some fields."""
        made = dataclasses.replace(self, **changes)
        made.inherit(self)
        return made

    def inherit(self, before: 'Inventory',
                changed: Iterable[str] | None = None) -> None:
        """Take over what was derived of fields that have not changed since.

        What follows from an inventory is costly to derive anew with every
        notice of the vCenter, of which most concern one datastore.

        :param changed: the datastores (morefs) that may differ from those
            before, if that is known
        """
        difference = _Difference(self, before, changed)
        for name, fields in _DERIVED_OF.items():
            # Derived there if need be: it serves all that come after.
            if name not in self.__dict__ and all(
                    map(difference.same, fields)):
                self.__dict__[name] = getattr(before, name)

    def changed_datastores(self, before: 'Inventory'
                           ) -> frozenset[str] | None:
        """Datastores (morefs) that differ in what concerns them alone.

        :returns: None where something differs that others depend on as well:
            a host, a name, which datastores there are
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
        """Live hosts whose resource pool is known, so that VMs fit in."""
        pools = {moref for moref, cluster in self.clusters.items()
                 if cluster.resource_pool}
        return frozenset(moref for moref in self.live_hosts
                         if self.hosts[moref].parent in pools)

    @functools.cached_property
    def hosts_by_cluster_name(self) -> Mapping[str, frozenset[str]]:
        """Member hosts of each cluster; same-named clusters are joined."""
        members: dict[str, frozenset[str]] = {}
        for cluster in self.clusters.values():
            if not cluster.standalone:
                name = plain_name(cluster.name)
                members[name] = members.get(name,
                                            frozenset()) | cluster.hosts
        return members

    @functools.cached_property
    def shared_datacenter_names(self) -> frozenset[str]:
        """Names of several datacenters each, in different folders."""
        count = Counter(each.name for each in self.datacenters.values())
        return frozenset(name for name in count if count[name] > 1)

    @functools.cached_property
    def _spellings(self) -> Mapping[str, tuple[str, ...]]:
        """Datastores by their names, as stored and as seen."""
        found: dict[str, tuple[str, ...]] = {}
        for datastore in self.datastores.values():
            for name in {datastore.name, datastore.plain_name}:
                found[name] = (*found.get(name, ()), datastore.moref)
        return found

    def located(self, text: str) -> list[tuple[Datastore, str]]:
        """What '[datastore] folder/name' may mean: datastores and paths.

        The name may be spelt as the vCenter stores it or as people see it,
        and brackets may be part of it or of the path; so it is split at the
        names of datastores that there are.

        :returns: none where no datastore has such a name; several where
            datastores share it
        """
        return [(self.datastores[moref], path)
                for name, path in split_path(text, self._spellings)
                for moref in self._spellings[name]]

    def attribute(self, datastore: Datastore, name: str) -> str | None:
        """A datastore's custom attribute of that name; None: it has none."""
        return next((value for key, value in datastore.custom_values
                     if self.attributes.get(key) == name), None)

    def hosts_in_reach(self, settings: Settings) -> frozenset[str]:
        """Hosts of the configured clusters, or all where none is configured.

        They may be down: see :attr:`live_hosts`.
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
        """Datastores whose storage is mounted in several datacenters."""
        return tuple(self.datastores[moref] for same in self._shared.values()
                     if len(same) > 1 for moref in same)

    def same_storage(self, datastore: Datastore) -> tuple[Datastore, ...]:
        """The datastores that are one storage with this one, itself included.

        A vCenter shows an NFS export that is mounted in two datacenters as
        two datastores of one URL. The URL of an NFS datastore is made of the
        server's name and the path, which may be two servers in two
        datacenters: those differ in capacity.
        """
        same = self._shared.get((datastore.url, datastore.capacity_bytes))
        return (tuple(self.datastores[moref] for moref in same) if same
                else (datastore,))

    @functools.cached_property
    def _shared(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """Datastores that are one storage, where those are several."""
        urls = Counter(each.url for each in self.datastores.values())
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        for each in self.datastores.values():
            if each.url and urls[each.url] > 1:
                key = each.url, each.capacity_bytes
                found[key] = (*found.get(key, ()), each.moref)
        return found

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Morefs by the names that :mod:`pool_names` has given; or empty."""
        return {}

    @functools.cached_property
    def pools(self) -> dict[Any, Any]:
        """How :mod:`pool_names` arranges them, by the settings it follows.
        """
        return {}

    @functools.cached_property
    def verdicts(self) -> dict[Settings, dict[
            str, tuple[Datastore, 'Ineligibility | None']]]:
        """What was found out of its datastores, by their morefs."""
        return {}


class _Difference:
    """In what two inventories differ; each is compared once."""

    def __init__(self, now: Inventory, before: Inventory,
                 changed: Iterable[str] | None = None) -> None:
        """:param changed: datastores that may differ; None: any"""
        self._now = now
        self._before = before
        self._candidates = changed
        self._same: dict[str, bool] = {}

    def same(self, field: str) -> bool:
        """Whether a field, or a part of all datastores, is the same."""
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
        """Whether both have the same datastores, whatever their values."""
        now, before = self._now.datastores, self._before.datastores
        return now is before or now.keys() == before.keys()

    @functools.cached_property
    def changed(self) -> frozenset[str]:
        """Datastores of now that were not, or were otherwise."""
        now, before = self._now.datastores, self._before.datastores
        if now is before:
            return frozenset()
        if self._candidates is not None:
            return frozenset(self._candidates) & now.keys()
        return frozenset([moref for moref, each in now.items()
                          if before.get(moref) is not each
                          and before.get(moref) != each])


# Parts of datastores that something follows from.
_PARTS = {'names': ('name', 'datacenter'),
          'storages': ('url', 'capacity_bytes')}
# What Inventory.changed_datastores compares.
_CONCERNS_OTHERS = ('names', 'storages', 'hosts', 'clusters', 'datacenters',
                    'compliant', 'storage_pods', 'attributes', 'tagged')
# What an Inventory derives, and the fields that each follows from. Verdicts
# also follow from the datastore, which each of them names.
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
    """Space of volumes that have no disk yet, on one pool.

    Of several volumes of one pool it is the sum.
    """

    pool: str  # as their host names it
    size_gib: int
    # What the pool stood for when they were made (pool_names.identity).
    place: str = ''
    volumes: int = 1
    # Whether they are this backend's; another's pool may lie on the same
    # storage, and be called otherwise.
    own: bool = True


@dataclasses.dataclass(frozen=True)
class Ineligibility:
    """Why a datastore is not used, for a machine and for a person.

    ``passing`` is True for a condition of the moment (maintenance, a full
    datastore): the datastore stays listed as a pool, and takes no volumes.
    Otherwise the datastore is no pool of this backend at all.
    """

    code: str
    reason: str
    passing: bool


@dataclasses.dataclass(frozen=True)
class Requirement:
    """What a disk asks of the datastore it is to be placed on."""

    size_bytes: int
    # A thin disk takes no space when it is made, so it may be larger than the
    # free space; how far is the scheduler's matter (the ratio).
    thin: bool = False
    # The datastores that are allowed, of the pool that the scheduler chose;
    # None: any.
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
