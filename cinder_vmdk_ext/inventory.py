# SPDX-License-Identifier: Apache-2.0
"""Reads the vCenter's datastores, hosts and clusters into plain values."""

import sys
from typing import Any
from typing import Protocol

from lxml import etree

from cinder_vmdk_ext import collector
from cinder_vmdk_ext import model
from cinder_vmdk_ext import soap

# Only what decisions need: a whole summary or runtime costs many times more.
PATHS = {
    'Datastore': ('name', 'summary.capacity', 'summary.freeSpace',
                  'summary.uncommitted', 'summary.accessible',
                  'summary.maintenanceMode', 'summary.type', 'summary.url',
                  'host'),
    'HostSystem': ('name', 'parent', 'runtime.connectionState',
                   'runtime.inMaintenanceMode'),
    'ComputeResource': ('name', 'resourcePool', 'host'),
    'Datacenter': ('name', 'vmFolder', 'datastore'),
}


class Policies(Protocol):
    """Where the datastores of a storage policy are known."""

    def compliant_datastores(self, name: str) -> frozenset[str]:
        """Datastores that comply with the policy of that name."""


class InventoryReader:
    """Reads everything that decides about pools and placement, in bulk."""

    def __init__(self, session: Any, client: soap.Client,
                 policies: Policies | None = None,
                 policy_names: tuple[str, ...] = ()) -> None:
        """:param policies: asked for each of ``policy_names`` on every read"""
        self._session = session
        self._client = client
        self._policies = policies
        self._policy_names = policy_names

    def read(self) -> model.Inventory:
        """The inventory as it is now.

        One bulk read, see :func:`collector.read_all`, and none for policies
        that are cached.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        inventory = build(collector.read_all(self._session, self._client,
                                             PATHS))
        if self._policies is None or not self._policy_names:
            return inventory
        return model.Inventory(
            inventory.datastores, inventory.hosts, inventory.clusters,
            inventory.datacenters,
            {name: self._policies.compliant_datastores(name)
             for name in self._policy_names})


def build(found: dict[soap.Ref, dict[str, Any]]) -> model.Inventory:
    """An inventory of collected properties.

    An object that lacks what it cannot be used without is left out; it never
    takes the others down.
    """
    hosts: dict[str, model.Host] = {}
    clusters: dict[str, model.Cluster] = {}
    datacenters: dict[str, model.Datacenter] = {}
    datacenter_of: dict[str, str] = {}
    for (kind, moref), seen in found.items():
        if kind == 'HostSystem':
            hosts[moref] = host(moref, seen)
        elif kind == 'Datacenter':
            datacenters[moref] = model.Datacenter(
                moref, seen.get('name', ''), _target(seen.get('vmFolder')))
            datacenter_of.update(
                (datastore.value, moref)
                for datastore in seen.get('datastore') or ())
        elif kind in ('ComputeResource', 'ClusterComputeResource'):
            clusters[moref] = cluster(kind, moref, seen)
    datastores = {
        moref: datastore(moref, seen, datacenter_of.get(moref))
        for (kind, moref), seen in found.items() if kind == 'Datastore'}
    return model.Inventory(datastores, hosts, clusters, datacenters)


def datastore(moref: str, seen: dict[str, Any],
              datacenter: str | None) -> model.Datastore:
    """A datastore of its properties; what is absent makes it unusable."""
    mounted, usable = mounts(seen.get('host'))
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
        usable_hosts=usable)


def host(moref: str, seen: dict[str, Any]) -> model.Host:
    """A host of its properties; one of unknown state counts as down."""
    return model.Host(
        moref, seen.get('name') or moref, _target(seen.get('parent')),
        seen.get('runtime.connectionState') or 'unknown',
        bool(seen.get('runtime.inMaintenanceMode')))


def cluster(kind: str, moref: str, seen: dict[str, Any]) -> model.Cluster:
    """A compute resource of its properties."""
    return model.Cluster(
        moref, seen.get('name') or moref, _target(seen.get('resourcePool')),
        frozenset(member.value for member in seen.get('host') or ()),
        standalone=kind == 'ComputeResource')


def mounts(array: etree._Element | None
           ) -> tuple[frozenset[str], frozenset[str]]:
    """Hosts that mount a datastore, and those of them that may write to it.

    As HostMountInfo defines its absent fields: ``mounted`` is then true,
    ``accessible`` false.
    """
    mounted: set[str] = set()
    usable: set[str] = set()
    # An empty array may come as text.
    for mount in array if isinstance(array, etree._Element) else ():
        key = None
        writable = accessible = False
        attached = True
        for part in mount:
            if part.tag == _KEY:
                # One string per host, however many datastores it mounts.
                key = sys.intern(part.text or '')
            elif part.tag == _MOUNT_INFO:
                for field in part:
                    if field.tag == _ACCESS_MODE:
                        writable = field.text == 'readWrite'
                    elif field.tag == _MOUNTED:
                        attached = field.text == 'true'
                    elif field.tag == _ACCESSIBLE:
                        accessible = field.text == 'true'
        if key:
            mounted.add(key)
            if writable and attached and accessible:
                usable.add(key)
    everywhere = frozenset(mounted)
    return everywhere, (everywhere if usable == mounted
                        else frozenset(usable))


_KEY = f'{{{soap.VIM}}}key'
_MOUNT_INFO = f'{{{soap.VIM}}}mountInfo'
_ACCESS_MODE = f'{{{soap.VIM}}}accessMode'
_MOUNTED = f'{{{soap.VIM}}}mounted'
_ACCESSIBLE = f'{{{soap.VIM}}}accessible'


def _target(reference: soap.Ref | None) -> str:
    return reference.value if isinstance(reference, soap.Ref) else ''
