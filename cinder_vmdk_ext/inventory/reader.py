# SPDX-License-Identifier: Apache-2.0
"""Reads the vCenter's datastores, hosts and clusters into plain values."""

import dataclasses
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from lxml import etree

from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

_POD_CONFIG = 'podStorageDrsEntry.storageDrsConfig.podConfig'
# Only the properties that decisions need: a whole summary or runtime costs
# many times more.
PATHS = {
    'Datastore': ('name', 'summary.capacity', 'summary.freeSpace',
                  'summary.uncommitted', 'summary.accessible',
                  'summary.maintenanceMode', 'summary.type', 'summary.url',
                  'host', 'customValue'),
    'HostSystem': ('name', 'parent', 'runtime.connectionState',
                   'runtime.inMaintenanceMode'),
    'ComputeResource': ('name', 'resourcePool', 'host'),
    'Datacenter': ('name', 'vmFolder', 'datastore'),
    'StoragePod': ('name', 'childEntity', f'{_POD_CONFIG}.enabled',
                   f'{_POD_CONFIG}.defaultVmBehavior'),
}


# Objects outside the folders, by their names in the ServiceContent.
MANAGERS = {'customFieldsManager': ('field',)}


class Policies(Protocol):
    """Knows the datastores of each storage policy."""

    def compliant_datastores(self, name: str) -> frozenset[str]:
        """Datastores that comply with the policy of that name."""


class WatchedPolicies:
    """The storage policies whose datastores the inventory names."""

    def __init__(self, policies: Policies | None = None,
                 names: Iterable[str] = (),
                 more: Callable[[], Mapping[str, frozenset[str]]] = dict
                 ) -> None:
        """:param names: an inventory needs an answer for each of these
        :param more: returns what is known of other policies; makes no call
        """
        self._policies = policies
        self._names = tuple(names)
        self._more = more

    def compliance(self) -> dict[str, frozenset[str]] | None:
        """Datastores (morefs) by policy; None: no policy is watched.

        :raises VMwareDriverException: the vCenter does not answer
        """
        if self._policies is None:
            return None
        found = dict(self._more())
        for name in self._names:
            found[name] = self._policies.compliant_datastores(name)
        return found or None


class InventorySource(Protocol):
    """A source of the inventory."""

    def read(self) -> model.Inventory:
        """The inventory as it is now."""


class Completed:
    """Adds the values of another source to an inventory.

    Returns the same object as long as neither changes. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[model.Inventory, model.Inventory] | None = None

    def of(self, known: model.Inventory, **more: Any) -> model.Inventory:
        """The inventory with some fields replaced."""
        with self._lock:
            last = self._last
            if last and last[0] is known and all(
                    getattr(last[1], name) == value
                    for name, value in more.items()):
                return last[1]
            found = known.evolved(**more)
            if last:
                found.inherit(last[1])
            self._last = known, found
        return found


class InventoryReader:
    """Reads everything that decides about pools and placement, in bulk."""

    def __init__(self, session: Any, client: soap.Client,
                 watched: WatchedPolicies | None = None) -> None:
        """:param watched: asked on every read"""
        self._session = session
        self._client = client
        self._watched = watched or WatchedPolicies()

    def read(self) -> model.Inventory:
        """The inventory as it is now.

        Makes one bulk read (:func:`collector.read_all`); cached policies cost
        no call.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        found = collector.read_all(self._session, self._client, PATHS,
                                   MANAGERS, value=value,
                                   keep_unreadable=True)
        known = build(found)
        compliant = self._watched.compliance()
        return (known if compliant is None
                else known.evolved(compliant=compliant))


def build(found: dict[references.Ref, dict[str, Any]]) -> model.Inventory:
    """An inventory from collected properties.

    An object without the properties that it needs is left out; the other
    objects stay.
    """
    assembly = Assembly()
    try:
        for ref, seen in found.items():
            assembly.put(ref, seen)
    except soap.MALFORMED as error:
        raise soap.malformed('the inventory', error) from error
    return assembly.inventory()


class Assembly:
    """Makes inventories from changing properties; rebuilds only changes."""

    def __init__(self) -> None:
        # Objects by the name of the inventory's field, then by moref.
        self._known: dict[str, dict[str, Any]] = {
            field: {} for field in {*_FIELDS.values(), _CLUSTERS}}
        # Parts of the last inventory that have not changed since.
        self._given: dict[str, dict[str, Any]] = {}
        #: Datastores that changed since this set was last emptied.
        self.changed: set[str] = set()
        self._attributes: dict[int, str] = {}
        # A datastore does not name its datacenter; datacenters list them.
        self._listed: dict[str, frozenset[str]] = {}

    def put(self, ref: references.Ref, seen: dict[str, Any]) -> None:
        """Add an object, or replace its properties."""
        kind, moref = ref
        if kind == 'Datastore':
            self._put(kind, moref, datastore(moref, seen,
                                             self._datacenter_of(moref)))
        elif kind == 'HostSystem':
            self._put(kind, moref, host(moref, seen))
        elif kind == 'Datacenter':
            self._put(kind, moref, model.Datacenter(
                moref, seen.get('name') or moref,
                _target(seen.get('vmFolder'))))
            self._list(moref, _targets(seen.get('datastore')))
        elif kind == 'StoragePod':
            self._put(kind, moref, storage_pod(moref, seen))
        elif kind == 'CustomFieldsManager':
            self._attributes = attributes(seen.get('field'))
        elif kind in _COMPUTE:
            self._put(kind, moref, cluster(kind, moref, seen))

    def drop(self, ref: references.Ref) -> None:
        """Remove a deleted object; it may never have been added."""
        kind, moref = ref
        if kind == 'Datacenter':
            self._list(moref, frozenset())
        field = _FIELDS.get(kind, _CLUSTERS)
        if self._known[field].pop(moref, None) is not None:
            self._note(field, moref)

    def inventory(self) -> model.Inventory:
        """The inventory as known now; later calls do not change it.

        Unchanged parts are the same objects as before.
        """
        for field, known in self._known.items():
            if field not in self._given:
                self._given[field] = dict(known)
        given: dict[str, Any] = self._given
        return model.Inventory(**given, attributes=self._attributes)

    def _put(self, kind: str, moref: str, value: Any) -> None:
        field = _FIELDS.get(kind, _CLUSTERS)
        if self._known[field].get(moref) != value:
            self._known[field][moref] = value
            self._note(field, moref)

    def _note(self, field: str, moref: str) -> None:
        self._given.pop(field, None)
        if field == 'datastores':
            self.changed.add(moref)

    def _datacenter_of(self, moref: str) -> str | None:
        return next((datacenter for datacenter, members
                     in self._listed.items() if moref in members), None)

    def _list(self, datacenter: str, members: frozenset[str]) -> None:
        before = self._listed.get(datacenter, frozenset())
        self._listed[datacenter] = members
        for moref in before ^ members:
            known = self._known['datastores'].get(moref)
            if known is not None:
                self._put('Datastore', moref, dataclasses.replace(
                    known, datacenter=self._datacenter_of(moref)))


# The inventory's field for each managed type; all other types are compute
# resources.
_CLUSTERS = 'clusters'
_FIELDS = {'Datastore': 'datastores', 'HostSystem': 'hosts',
           'Datacenter': 'datacenters', 'StoragePod': 'storage_pods'}
_COMPUTE = frozenset({'ComputeResource', 'ClusterComputeResource'})


def value(kind: str, path: str, element: etree._Element) -> Any:
    """A property in the form that :class:`Assembly` needs, without XML."""
    return _VALUES.get((kind, path), soap.value)(element)


def reported(ref: references.Ref, path: str, element: etree._Element) -> Any:
    """:func:`value` of a property of an object."""
    return _VALUES.get((ref[0], path), soap.value)(element)


def datastore(moref: str, seen: dict[str, Any],
              datacenter: str | None) -> model.Datastore:
    """A datastore from its properties; a missing one makes it unusable."""
    mounted, usable = _mounts_seen(seen.get('host'))
    return model.Datastore(
        moref=moref,
        name=seen.get('name') or moref,
        url=seen.get('summary.url') or '',
        type=(seen.get('summary.type') or 'unknown').lower(),
        capacity_bytes=seen.get('summary.capacity') or 0,
        free_bytes=seen.get('summary.freeSpace') or 0,
        uncommitted_bytes=seen.get('summary.uncommitted') or 0,
        accessible=bool(seen.get('summary.accessible')),
        maintenance_mode=seen.get('summary.maintenanceMode') or 'normal',
        datacenter=datacenter,
        mounted_hosts=mounted,
        usable_hosts=usable,
        custom_values=custom_values(seen.get('customValue')),
        unreadable=unreadable(seen))


def host(moref: str, seen: dict[str, Any]) -> model.Host:
    """A host from its properties; an unknown state counts as down."""
    return model.Host(
        moref, seen.get('name') or moref, _target(seen.get('parent')),
        seen.get('runtime.connectionState') or 'unknown',
        bool(seen.get('runtime.inMaintenanceMode')), unreadable(seen))


def cluster(kind: str, moref: str, seen: dict[str, Any]) -> model.Cluster:
    """A compute resource from its properties."""
    return model.Cluster(
        moref, seen.get('name') or moref, _target(seen.get('resourcePool')),
        _targets(seen.get('host')), standalone=kind == 'ComputeResource',
        unreadable=unreadable(seen))


def storage_pod(moref: str, seen: dict[str, Any]) -> model.StoragePod:
    """A datastore cluster from its properties."""
    return model.StoragePod(
        moref, seen.get('name') or moref,
        frozenset(member.value for member in seen.get('childEntity') or ()
                  if member.type == 'Datastore'),
        bool(seen.get(f'{_POD_CONFIG}.enabled')),
        seen.get(f'{_POD_CONFIG}.defaultVmBehavior') or 'manual')


def unreadable(seen: dict[str, Any]) -> model.Unreadable:
    """The properties of an object that cannot be read, and the reason."""
    found = seen.get(collector.UNREADABLE)
    return tuple(sorted((path, str(why).removeprefix(f'{path} '))
                        for path, why in found.items())) if found else ()


def attributes(array: Any) -> dict[int, str]:
    """Names of custom attributes that datastores may have, by their keys."""
    if isinstance(array, dict):
        return array
    if not isinstance(array, etree._Element):
        return {}
    return {int(field.findtext(_KEY) or 0):
            field.findtext(_NAME) or '' for field in array
            if (field.findtext(_OBJECT_TYPE)
                or 'Datastore') == 'Datastore'}


def custom_values(array: Any) -> tuple[tuple[int, str], ...]:
    """Keys and values of an object's custom attributes."""
    if isinstance(array, tuple):
        return array
    if not isinstance(array, etree._Element):
        return ()
    return tuple((int(each.findtext(_KEY) or 0),
                  each.findtext(_VALUE) or '')
                 for each in array)


def mounts(array: etree._Element | None
           ) -> tuple[frozenset[str], frozenset[str]]:
    """Hosts that mount a datastore, and those of them that may write to it.

    HostMountInfo defines the meaning of absent fields: ``mounted`` is then
    true and ``accessible`` false.
    """
    # An empty array may come as text.
    if not isinstance(array, etree._Element) or not len(array):
        return _NO_MOUNTS
    # A large inventory has tens of thousands of mounts, but most datastores
    # have the same mounts except for the path.
    text = etree.tostring(array, method='text', encoding='unicode',
                          with_tail=False)
    first = list(array[0])  # its fields, and those of the last one
    first += first[-1] if first else ()
    path = next((each.text for each in first if each.tag == _PATH), None)
    if path and path.startswith('/'):
        text = text.replace(path, '/')
    fields = [each.tag for each in first]
    return _mounts_alike((tuple(fields), text), array)


def _mounts_alike(form: tuple[tuple[str, ...], str], array: etree._Element
                  ) -> tuple[frozenset[str], frozenset[str]]:
    """:param form: equal for all arrays with the same content"""
    found = _known_mounts.get(form)
    if found is None:
        if len(_known_mounts) >= _MOST_FORMS:
            _known_mounts.clear()
        found = _known_mounts[form] = _read_mounts(array)
    return found


def _read_mounts(array: etree._Element
                 ) -> tuple[frozenset[str], frozenset[str]]:
    mounted, usable = [], []
    for mount in array:
        found = {field.tag: field.text for field in mount.iter()}
        key = found.get(_KEY)
        mounted.append(key)
        if (found.get(_ACCESS_MODE) == 'readWrite'
                and found.get(_ACCESSIBLE) == 'true'
                and found.get(_MOUNTED, 'true') == 'true'):
            usable.append(key)
    hosts = _host_set(mounted)
    return hosts, hosts if len(usable) == len(mounted) else _host_set(usable)


def _host_set(keys: Iterable[str | None]) -> frozenset[str]:
    # Keep one string per host, however many datastores it mounts.
    return frozenset(sys.intern(key) for key in keys if key)


def _mounts_seen(seen: Any) -> tuple[frozenset[str], frozenset[str]]:
    return seen if isinstance(seen, tuple) else mounts(seen)


def _text(element: etree._Element) -> str:
    return element.text or ''


def _number(element: etree._Element) -> int:
    return int(element.text or '')


def _truth(element: etree._Element) -> bool:
    return element.text in ('true', '1')


# How to read properties: data objects, and those of which there are many,
# whose types the API declares.
_VALUES: dict[tuple[str, str], Callable[[etree._Element], Any]] = {
    ('Datastore', 'name'): _text,
    ('Datastore', 'summary.capacity'): _number,
    ('Datastore', 'summary.freeSpace'): _number,
    ('Datastore', 'summary.uncommitted'): _number,
    ('Datastore', 'summary.accessible'): _truth,
    ('Datastore', 'summary.maintenanceMode'): _text,
    ('Datastore', 'summary.type'): _text,
    ('Datastore', 'summary.url'): _text,
    ('Datastore', 'host'): mounts,
    ('Datastore', 'customValue'): custom_values,
    ('HostSystem', 'name'): _text,
    ('HostSystem', 'parent'): soap.ref,
    ('HostSystem', 'runtime.connectionState'): _text,
    ('HostSystem', 'runtime.inMaintenanceMode'): _truth,
    ('CustomFieldsManager', 'field'): attributes,
}
_NO_MOUNTS: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
_known_mounts: dict[tuple[tuple[str, ...], str],
                    tuple[frozenset[str], frozenset[str]]] = {}
_MOST_FORMS = 1000
_KEY = soap.tag('key')
_NAME = soap.tag('name')
_VALUE = soap.tag('value')
_OBJECT_TYPE = soap.tag('managedObjectType')
_PATH = soap.tag('path')
_ACCESS_MODE = soap.tag('accessMode')
_MOUNTED = soap.tag('mounted')
_ACCESSIBLE = soap.tag('accessible')


def _targets(found: Any) -> frozenset[str]:
    return frozenset(reference.value for reference in found or ())


def _target(reference: references.Ref | None) -> str:
    return reference.value if isinstance(reference, references.Ref) else ''
