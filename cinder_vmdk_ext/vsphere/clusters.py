# SPDX-License-Identifier: Apache-2.0
"""Clusters of hosts (ClusterComputeResource): read, create and remove."""

from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import vcenter

_KIND = 'ClusterComputeResource'
_DRS = f'{soap.tag("drsConfig")}/{soap.tag("enabled")}'
_HA = f'{soap.tag("dasConfig")}/{soap.tag("enabled")}'


class ClusterFacts(NamedTuple):
    """A cluster."""

    name: str
    reference: str
    datacenter: str
    hosts: list[str]
    datastores: list[str]
    drs: bool
    ha: bool


class Clusters:
    """The clusters of a vCenter."""

    def __init__(self, of: vcenter.Vcenter) -> None:
        """Make no call."""
        self._vcenter = of

    def all(self) -> list[ClusterFacts]:
        """All clusters, by name; a constant number of calls."""
        found = self._vcenter.all(HostSystem=('name',), Datastore=('name',))
        return sorted(_cluster(ref, found) for ref in found
                      if ref.type == _KIND)

    def get(self, name: str) -> ClusterFacts:
        """One cluster, by its name or reference.

        :raises UnknownObject: no such object exists, or there are several
        """
        found = self._vcenter.all(HostSystem=('name',), Datastore=('name',))
        return _cluster(vcenter.chosen(_KIND, name, found, 'cluster'), found)

    def create(self, name: str, datacenter: str | None = None, *,
               drs: bool = False, ha: bool = False) -> str:
        """Make an empty cluster (Folder.CreateClusterEx).

        :param datacenter: its name; None: the only one
        :returns: its reference; '' in a dry run
        :raises StorageRefused: the name is taken or invalid, or several
            datacenters exist and none was named
        """
        vcenter.check_name(name, 'a cluster', 80)
        found = self._vcenter.all()
        place = _datacenter(datacenter, found)
        if any(ref.type == _KIND and vcenter.name_of(ref, found) == name
               and vcenter.datacenter(ref, found) == place for ref in found):
            raise exceptions.StorageRefused(
                f'there is a cluster {name!r} already')
        folder = found[place]['hostFolder']
        self._vcenter.require('Host.Inventory.CreateCluster', [folder])
        return self._vcenter.make(
            'CreateClusterEx', folder, name=name, spec=soap.Typed('', {
                'drsConfig': soap.Typed('', {'enabled': drs}),
                'dasConfig': soap.Typed('', {'enabled': ha})}))

    def delete(self, name: str) -> str:
        """Remove a cluster without hosts (ManagedEntity.Destroy_Task).

        :returns: its reference
        :raises StorageRefused: it has hosts, whose VMs would be lost with it
        """
        cluster = self.get(name)
        if cluster.hosts:
            raise exceptions.StorageRefused(
                f'cluster {cluster.name!r} has hosts '
                f'({exceptions.shortened(cluster.hosts)}); move them out '
                'first')
        ref = references.Ref(_KIND, cluster.reference)
        self._vcenter.require('Host.Inventory.DeleteCluster', [ref])
        self._vcenter.run('Destroy_Task', ref)
        return cluster.reference


def _datacenter(name: str | None, found: Any) -> references.Ref:
    if name is not None:
        return vcenter.chosen('Datacenter', name, found)
    every = [ref for ref in found if ref.type == 'Datacenter']
    if len(every) != 1:
        raise exceptions.UnknownObject(
            'name one of the datacenters: ' + exceptions.shortened(sorted(
                vcenter.name_of(ref, found) for ref in every)))
    return every[0]


def _cluster(ref: references.Ref, found: Any) -> ClusterFacts:
    facts = found[ref]
    config = facts.get('configurationEx')

    def is_on(path: str) -> bool:
        return config is not None and config.findtext(path) == 'true'
    return ClusterFacts(
        vcenter.name_of(ref, found), ref.value,
        vcenter.name_of(vcenter.datacenter(ref, found), found),
        sorted(vcenter.name_of(each, found)
               for each in facts.get('host') or ()),
        sorted(vcenter.name_of(each, found)
               for each in facts.get('datastore') or ()),
        is_on(_DRS), is_on(_HA))
