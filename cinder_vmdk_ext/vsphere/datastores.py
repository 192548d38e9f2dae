# SPDX-License-Identifier: Apache-2.0
"""Datastores: read, create, rename, maintain and remove."""

import re
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import vcenter

_SUMMARY = ('summary.type', 'summary.url', 'summary.capacity',
            'summary.freeSpace', 'summary.uncommitted', 'summary.accessible',
            'summary.maintenanceMode')
_PATHS = ('name', 'parent', 'host', 'vm', *_SUMMARY)
_HOST_PATHS = ('name', 'parent', 'runtime.connectionState',
               'configManager.datastoreSystem', 'configManager.storageSystem')
_STORAGE = 'Host.Config.Storage'
_CONFIG = 'Datastore.Config'
_IORM = 'iormConfiguration'
# A name or an address; IPv6 may have a zone.
_SERVER = re.compile(r'[A-Za-z0-9\[][A-Za-z0-9._:%\[\]-]{0,254}')
#: The values that Storage I/O Control accepts (IORMConfigOption).
PERCENT_RANGE = (50, 100)
THRESHOLD_RANGE_MS = (5, 100)


class Mount(NamedTuple):
    """How a host mounts a datastore."""

    host: str
    mounted: bool
    accessible: bool
    access_mode: str  # readWrite or readOnly

    @property
    def usable(self) -> bool:
        """Whether the host can write to it."""
        return (self.mounted and self.accessible
                and self.access_mode == 'readWrite')


class DatastoreFacts(NamedTuple):
    """A datastore."""

    name: str
    reference: str
    type: str
    datacenter: str
    capacity_bytes: int
    free_bytes: int
    uncommitted_bytes: int
    accessible: bool
    maintenance: str  # normal, enteringMaintenance, inMaintenance
    url: str
    cluster: str  # the datastore cluster's name, or empty
    mounts: list[Mount]
    vms: list[str]


class IoControl(NamedTuple):
    """Storage I/O Control of a datastore (StorageIORMInfo)."""

    enabled: bool
    mode: str  # automatic or manual
    percent: int | None  # of the peak throughput; automatic mode only
    threshold_ms: int | None  # the latency; manual mode only
    statistics: bool


class Rescanned(NamedTuple):
    """A host whose storage was rescanned."""

    host: str
    reference: str


class Datastores:
    """The datastores of a vCenter."""

    def __init__(self, of: vcenter.Vcenter) -> None:
        """Make no call."""
        self._vcenter = of

    # -- Reading ------------------------------------------------------------

    def all(self, cluster: str | None = None) -> list[DatastoreFacts]:
        """All datastores, or those of a cluster of hosts, by name.

        A constant number of calls.

        :raises UnknownObject: no cluster has that name
        """
        found = self._all()
        refs = [ref for ref in found if ref.type == 'Datastore']
        if cluster is not None:
            refs = _of_cluster(cluster, found).get('datastore') or []
        return sorted(_datastore(ref, found) for ref in refs)

    def get(self, name: str) -> DatastoreFacts:
        """One datastore, by its name or reference.

        :raises UnknownObject: no such object exists, or there are several
        """
        return self._get(name)[1]

    def browse(self, name: str, folder: str = '', pattern: str = '*',
               recursive: bool = False) -> list[datastore_browser.Entry]:
        """Files and folders (HostDatastoreBrowser.SearchDatastore_Task).

        :param folder: within the datastore; '': its top
        :raises StorageRefused: the folder or the pattern is wrong
        :raises VimException: why it cannot be searched
        """
        if folder:
            vcenter.check_path(folder)
        if not pattern or '/' in pattern:
            raise exceptions.StorageRefused(
                f'{pattern!r} is no pattern of names: write it as *.vmdk, '
                'without a folder')
        ref, facts = self._vcenter.find('Datastore', name, 'name')
        return self._vcenter.browser.listing(
            vcenter.Searched(ref.value, facts['name']), folder, pattern,
            recursive)

    def reach(self, name: str, cluster: str) -> list[Mount]:
        """How each host of a cluster mounts a datastore, or that it does not.
        """
        found = self._all()
        hosts = _of_cluster(cluster, found).get('host') or ()
        ref = vcenter.chosen('Datastore', name, found)
        mounts = _mounts(found[ref], found)
        return sorted(mounts.get(
            host, Mount(vcenter.name_of(host, found), False, False, ''))
            for host in hosts)

    def io(self, name: str) -> IoControl:
        """Storage I/O Control of a datastore (Datastore.iormConfiguration).
        """
        return _io(self._vcenter.find('Datastore', name, _IORM)[1].get(_IORM))

    def _all(self) -> collector.Properties:
        return self._vcenter.all(
            Datastore=_PATHS, HostSystem=_HOST_PATHS,
            VirtualMachine=('name', 'config.managedBy'))

    def _get(self, name: str) -> tuple[references.Ref, DatastoreFacts,
                                       collector.Properties]:
        found = self._all()
        ref = vcenter.chosen('Datastore', name, found)
        return ref, _datastore(ref, found), found

    # -- Making -------------------------------------------------------------

    def create_nfs(self, name: str, servers: Sequence[str], path: str,
                   hosts: Iterable[str] = (), cluster: str | None = None, *,
                   version: str = '3', read_only: bool = False,
                   security: str | None = None) -> list[str]:
        """Mount an export on hosts (HostDatastoreSystem.CreateNasDatastore).

        Hosts that mount the export already are skipped, so that a call which
        failed halfway can be repeated.

        :param servers: one server; for NFS 4.1 several addresses of it
        :param cluster: mount on all hosts of it too, besides ``hosts``
        :param version: '3' or '4.1'
        :param security: for NFS 4.1: AUTH_SYS, SEC_KRB5 or SEC_KRB5I
        :returns: names of the hosts that did not mount it before
        :raises StorageRefused: before any host has mounted the export, or
            after some have; the message then names these hosts
        """
        _check_name(name)
        _check_export(servers, path, version)
        found = self._all()
        chosen = _hosts(found, hosts, cluster)
        existing = self._taken(name, found, chosen)
        have = _mounts(found[existing], found) if existing else {}
        if existing:
            self._check_same(existing, servers, path, name)
        self._check_hosts(chosen, found)
        spec = soap.Typed('', {
            'remoteHost': servers[0], 'remotePath': path, 'localPath': name,
            'accessMode': 'readOnly' if read_only else 'readWrite',
            'type': 'NFS' if version == '3' else 'NFS41',
            'remoteHostNames': list(servers) if version != '3' else None,
            'securityType': security})
        done: list[str] = []
        for host in chosen:
            if host not in have:
                self._mount(host, found, spec, done, len(chosen))
        return done

    def _mount(self, host: references.Ref, found: collector.Properties,
               spec: soap.Typed, done: list[str], wanted: int) -> None:
        title = vcenter.name_of(host, found)
        try:
            self._vcenter.change(
                'CreateNasDatastore',
                found[host]['configManager.datastoreSystem'], spec=spec)
        except exceptions.VMWARE_ERRORS as error:
            raise exceptions.StorageRefused(
                f'host {title} did not mount it: '
                f'{exceptions.first_line(error)}; '
                f'{len(done)} of {wanted} hosts have newly mounted it'
                + (f' ({exceptions.shortened(done)})' if done else '')
                + '; repeat the call once that is mended') from error
        done.append(title)

    def create_vmfs(self, name: str, host: str, device: str,
                    major_version: int | None = None) -> str:
        """Format an unused disk (HostDatastoreSystem.CreateVmfsDatastore).

        :param device: the disk's canonical name (naa....) or its device path
        :returns: the datastore's reference; '' in a dry run
        :raises StorageRefused: the host has no unused disk of that name
        """
        _check_name(name)
        system = self._system(name, host)
        free = {each.findtext(soap.tag('canonicalName')) or '':
                each.findtext(soap.tag('devicePath')) or '' for each
                in self._vcenter.call('QueryAvailableDisksForVmfs', system)}
        path = free.get(device) or (device if device in free.values() else '')
        if not path:
            raise exceptions.StorageRefused(
                f'host {host} sees no unused disk {device!r}; unused there: '
                + (exceptions.shortened(sorted(free)) or 'none'))
        options = self._vcenter.call(
            'QueryVmfsDatastoreCreateOptions', system, devicePath=path,
            vmfsMajorVersion=major_version)
        if not len(options):
            raise exceptions.StorageRefused(
                f'host {host} has no way to format {device!r}')
        spec = options[0].find(soap.tag('spec'))
        vmfs = spec.find(soap.tag('vmfs'))
        label = vmfs.find(soap.tag('volumeName'))
        if label is None:
            label = soap.insert(_typed(vmfs, 'HostVmfsSpec'),
                                soap.tag('volumeName'))
            vmfs.attrib.pop(soap.TYPE)
        label.text = name
        return self._vcenter.make('CreateVmfsDatastore', system, spec=spec)

    def create_local(self, name: str, host: str, path: str) -> str:
        """Make a folder of a host a datastore (CreateLocalDatastore).

        :param path: of the folder on the host
        :returns: the datastore's reference; '' in a dry run
        """
        _check_name(name)
        if not path.startswith('/'):
            raise exceptions.StorageRefused(
                f'{path!r} is no folder of a host: write it from / on')
        return self._vcenter.make('CreateLocalDatastore',
                                  self._system(name, host), name=name,
                                  path=path)

    def _system(self, name: str, host: str) -> references.Ref:
        """What makes datastores of a host, where the name is free."""
        found = self._all()
        where, = _hosts(found, [host], None)
        if self._taken(name, found, [where]):
            raise _name_taken(name)
        self._check_hosts([where], found)
        system: references.Ref = found[where]['configManager.datastoreSystem']
        return system

    def _taken(self, name: str, found: collector.Properties,
               beside: Sequence[references.Ref]) -> references.Ref | None:
        """The datastore of that name in the datacenter of these objects."""
        place = {vcenter.datacenter(each, found) for each in beside}
        return next((ref for ref in found if ref.type == 'Datastore'
                     and vcenter.name_of(ref, found) == name
                     and vcenter.datacenter(ref, found) in place), None)

    def _check_same(self, ref: references.Ref, servers: Sequence[str],
                    path: str, name: str) -> None:
        """Refuse a name that a datastore on other storage has."""
        info = self._vcenter.properties(ref, 'info').get('info')
        nas = None if info is None else info.find(soap.tag('nas'))
        if nas is None or nas.findtext(soap.tag('remotePath')) != path or (
                nas.findtext(soap.tag('remoteHost')) not in servers):
            raise _name_taken(name)

    def _check_hosts(self, hosts: Sequence[references.Ref],
                     found: collector.Properties) -> None:
        for host in hosts:
            state = found[host].get('runtime.connectionState')
            if state != 'connected':
                raise exceptions.StorageRefused(
                    f'host {vcenter.name_of(host, found)} is {state}; '
                    'connect it, or leave it out')
        self._vcenter.require(_STORAGE, hosts)

    # -- Changing -----------------------------------------------------------

    def rename(self, name: str, new_name: str) -> str:
        """Give a datastore another name (Datastore.RenameDatastore).

        :returns: its reference
        :raises StorageRefused: the name is taken, or the datastore has
            volumes, whose records name the pool
        """
        _check_name(new_name)
        ref, datastore, found = self._get(name)
        _refuse_volumes(datastore, ref, found)
        if self._taken(new_name, found, [ref]) not in (None, ref):
            raise _name_taken(new_name)
        self._vcenter.require('Datastore.Rename', [ref])
        self._vcenter.change('RenameDatastore', ref, newName=new_name)
        return datastore.reference

    def delete(self, name: str) -> str:
        """Unmount an export, or destroy a VMFS volume (DestroyDatastore).

        :returns: its reference
        :raises StorageRefused: the datastore has VMs, or is a VMFS volume
            with disks
        """
        ref, datastore, found = self._get(name)
        _refuse_volumes(datastore, ref, found)
        _refuse_vms(datastore)
        if not datastore.type.lower().startswith('nfs'):
            self._refuse_disks(ref, found)
        self._vcenter.require('Datastore.Delete', [ref])
        self._vcenter.change('DestroyDatastore', ref)
        return datastore.reference

    def _refuse_disks(self, ref: references.Ref,
                      found: collector.Properties) -> None:
        place = vcenter.Searched(ref.value, found[ref]['name'])
        disks = [each.path for _place, each
                 in self._vcenter.browser.files([place])]
        if disks:
            raise exceptions.StorageRefused(
                f'datastore {vcenter.name_of(ref, found)!r} has files of '
                'disks, which would be destroyed '
                f'({exceptions.shortened(sorted(disks))}); move '
                'or delete them first')

    def refresh(self, name: str) -> DatastoreFacts:
        """Ask the vCenter to read a datastore's space and files again.

        Calls RefreshDatastore and RefreshDatastoreStorageInfo.
        """
        ref = self._vcenter.find('Datastore', name)[0]
        self._vcenter.change('RefreshDatastore', ref)
        self._vcenter.change('RefreshDatastoreStorageInfo', ref)
        return self.get(ref.value)

    def enter_maintenance(self, name: str) -> str:
        """Take a datastore out of service (DatastoreEnterMaintenanceMode).

        :returns: its reference
        :raises StorageRefused: it is out of service already, or VMs are
            registered on it
        """
        ref, datastore, found = self._get(name)
        if datastore.maintenance not in ('normal', ''):
            raise exceptions.StorageRefused(
                f'datastore {datastore.name!r} is {datastore.maintenance} '
                'already')
        _refuse_volumes(datastore, ref, found)
        _refuse_vms(datastore)
        self._vcenter.require(_CONFIG, [ref])
        self._vcenter.run('DatastoreEnterMaintenanceMode', ref)
        return datastore.reference

    def exit_maintenance(self, name: str) -> str:
        """Put a datastore in service (DatastoreExitMaintenanceMode_Task).

        :returns: its reference
        :raises StorageRefused: it is in service already
        """
        ref, datastore, _found = self._get(name)
        if datastore.maintenance in ('normal', ''):
            raise exceptions.StorageRefused(
                f'datastore {datastore.name!r} is in service')
        self._vcenter.require(_CONFIG, [ref])
        self._vcenter.run('DatastoreExitMaintenanceMode_Task', ref)
        return datastore.reference

    def set_io(self, name: str, *, enabled: bool | None = None,
               percent: int | None = None,
               threshold_ms: int | None = None) -> str:
        """Set Storage I/O Control (ConfigureDatastoreIORM_Task).

        :param enabled: None: unchanged
        :param percent: of the peak throughput; sets the automatic mode
        :param threshold_ms: the latency; sets the manual mode
        :returns: the datastore's reference
        :raises StorageRefused: both modes were given, or nothing at all, or a
            value is out of range
        """
        _check_io(enabled, percent, threshold_ms)
        ref = self._vcenter.find('Datastore', name)[0]
        self._vcenter.require('Datastore.ConfigIOManagement', [ref])
        fields: dict[str, Any] = {'enabled': enabled}
        if percent is not None:
            fields |= {'congestionThresholdMode': 'automatic',
                       'percentOfPeakThroughput': percent}
        if threshold_ms is not None:
            fields |= {'congestionThresholdMode': 'manual',
                       'congestionThreshold': threshold_ms}
        self._vcenter.run('ConfigureDatastoreIORM_Task',
                          self._vcenter.content.storageResourceManager,
                          datastore=ref, spec=soap.Typed('', fields))
        return ref.value

    def rescan(self, hosts: Iterable[str] = (),
               cluster: str | None = None) -> list[Rescanned]:
        """Make hosts search again for disks and VMFS volumes.

        Calls RescanAllHba, RescanVmfs and RefreshStorageSystem on each host.

        :raises StorageRefused: no host was named, or one is not connected
        """
        found = self._vcenter.all(HostSystem=_HOST_PATHS)
        chosen = _hosts(found, hosts, cluster)
        self._check_hosts(chosen, found)
        done = []
        for host in chosen:
            system = found[host]['configManager.storageSystem']
            for method in ('RescanAllHba', 'RescanVmfs',
                           'RefreshStorageSystem'):
                self._vcenter.change(method, system)
            done.append(Rescanned(vcenter.name_of(host, found), host.value))
        return done


# -- Checks and values ------------------------------------------------------

def _check_name(name: str) -> None:
    vcenter.check_name(name, 'a datastore', 42)


def _name_taken(name: str) -> exceptions.StorageRefused:
    return exceptions.StorageRefused(
        f'there is another datastore {name!r} already')


def _check_export(servers: Sequence[str], path: str, version: str) -> None:
    if not servers or not all(map(_SERVER.fullmatch, servers)):
        raise exceptions.StorageRefused(
            'name the server of the export by its name or address, which '
            f'{exceptions.shortened(servers) or "nothing"} is not')
    if version == '3' and len(servers) > 1:
        raise exceptions.StorageRefused(
            'NFS 3 takes one server; NFS 4.1 takes several addresses')
    if not path.startswith('/'):
        raise exceptions.StorageRefused(
            f'{path!r} is no export: write its path from / on')


def _check_io(enabled: bool | None, percent: int | None,
              threshold_ms: int | None) -> None:
    if percent is not None and threshold_ms is not None:
        raise exceptions.StorageRefused(
            'the threshold is automatic or manual, not both')
    if (enabled, percent, threshold_ms) == (None, None, None):
        raise exceptions.StorageRefused('nothing is to be set')
    for value, (low, high), unit in (
            (percent, PERCENT_RANGE, 'percent of the peak throughput'),
            (threshold_ms, THRESHOLD_RANGE_MS, 'ms of latency')):
        if value is not None and not low <= value <= high:
            raise exceptions.StorageRefused(
                f'{value} {unit} is out of range; it takes {low} to {high}')


def _refuse_vms(datastore: DatastoreFacts) -> None:
    if datastore.vms:
        raise exceptions.StorageRefused(
            f'datastore {datastore.name!r} is in use by '
            f'{exceptions.shortened(datastore.vms)}; move them away first')


def _refuse_volumes(datastore: DatastoreFacts, ref: references.Ref,
                    found: collector.Properties) -> None:
    volumes = [vcenter.name_of(vm, found) for vm in found[ref].get('vm') or ()
               if vcenter.machine(vm, found.get(vm, {})).managed_by
               == vcenter.CINDER]
    if volumes:
        raise exceptions.StorageRefused(
            f'datastore {datastore.name!r} has volumes of Cinder '
            f'({exceptions.shortened(sorted(volumes))}); migrate them first')


def _of_cluster(name: str, found: collector.Properties) -> dict[str, Any]:
    """The facts of a cluster of hosts."""
    return found[vcenter.chosen('ClusterComputeResource', name, found,
                                'cluster')]


def _hosts(found: collector.Properties, names: Iterable[str],
           cluster: str | None) -> list[references.Ref]:
    refs = [vcenter.chosen('HostSystem', name, found, 'host')
            for name in names]
    if cluster is not None:
        refs += _of_cluster(cluster, found).get('host') or ()
    if not refs:
        raise exceptions.StorageRefused(
            'name a host, or a cluster that has hosts')
    return list(dict.fromkeys(refs))


def _mounts(facts: dict[str, Any], found: collector.Properties
            ) -> dict[references.Ref, Mount]:
    mounts = {}
    for each in soap.items(facts.get('host')):
        info = each.find(soap.tag('mountInfo'))
        key = each.find(soap.tag('key'))
        if info is None or key is None:
            raise soap.malformed('DatastoreHostMount',
                                 ValueError('a field is missing'))
        host = soap.ref(key)
        # An absent field means true, according to the API's reference.
        mounts[host] = Mount(
            vcenter.name_of(host, found),
            info.findtext(soap.tag('mounted')) != 'false',
            info.findtext(soap.tag('accessible')) != 'false',
            info.findtext(soap.tag('accessMode')) or '')
    return mounts


def _datastore(ref: references.Ref, found: collector.Properties
               ) -> DatastoreFacts:
    facts = found[ref]
    parent = facts.get('parent')
    return DatastoreFacts(
        vcenter.name_of(ref, found), ref.value,
        facts.get('summary.type') or '',
        vcenter.name_of(vcenter.datacenter(ref, found), found),
        facts.get('summary.capacity') or 0,
        facts.get('summary.freeSpace') or 0,
        facts.get('summary.uncommitted') or 0,
        bool(facts.get('summary.accessible')),
        facts.get('summary.maintenanceMode') or '',
        facts.get('summary.url') or '',
        vcenter.name_of(parent, found)
        if parent is not None and parent.type == 'StoragePod' else '',
        sorted(_mounts(facts, found).values()),
        sorted(vcenter.name_of(vm, found) for vm in facts.get('vm') or ()))


def _io(config: Any) -> IoControl:
    if config is None:
        raise exceptions.StorageRefused(
            'the datastore has no Storage I/O Control')

    def number(name: str) -> int | None:
        text = config.findtext(soap.tag(name))
        return int(text) if text else None
    mode = config.findtext(soap.tag('congestionThresholdMode')) or 'manual'
    return IoControl(
        config.findtext(soap.tag('enabled')) == 'true', mode,
        number('percentOfPeakThroughput') if mode == 'automatic' else None,
        number('congestionThreshold') if mode == 'manual' else None,
        config.findtext(soap.tag('statsCollectionEnabled')) == 'true')


def _typed(element: Any, kind: str) -> Any:
    """Add an element's type, which the vCenter leaves out if it is implied.
    """
    element.set(soap.TYPE, kind)
    return element
