# SPDX-License-Identifier: Apache-2.0
"""Reads the records, the inventory and the files for an audit, in bulk."""

import dataclasses
import datetime
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from lxml import etree
from oslo_utils import timeutils
from oslo_utils import uuidutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import expectations
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import config
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import virtual_devices as devices

_MARKS = (shadow.VOLUME_ID, shadow.SNAPSHOT_ID, shadow.UNMANAGED,
          shadow.REPLACED, shadow.QUARANTINED, shadow.DEPLOYMENT,
          shadow.QUARANTINE_RECORD)
_PATHS = {
    'VirtualMachine': (
        'name', 'parent', 'config.instanceUuid', 'config.template',
        'config.managedBy', 'config.modified', 'config.createDate',
        'config.files.vmPathName',
        'datastore', 'snapshot', 'layoutEx.file', 'config.hardware.device',
        'runtime.powerState',
        *(f'config.extraConfig["{mark}"]' for mark in _MARKS)),
    'Folder': ('name', 'parent'),
    'Datacenter': ('name', 'parent')}
_DEVICES = 'config.hardware.device'
_MAINTENANCE = {'normal': '',
                'enteringMaintenance': 'entering maintenance mode'}
_IDS_A_QUERY = 200
# For "never" the vCenter reports the first moment of its calendar.
_NEVER = datetime.datetime(1980, 1, 1, tzinfo=datetime.timezone.utc)
_EXTENSION_KEY = soap.tag('extensionKey')
_NAME = soap.tag('name')
_SIZE = soap.tag('size')


class EvidenceReader:
    """Reads the evidence about a backend from all three sources."""

    def __init__(self, backend: Any,
                 named: Collection[str] = ()) -> None:
        """:param backend: a Backend that is connected
        :param named: references of findings that a sweep may move although
            they have no mark
        """
        self._backend = backend
        self._named = frozenset(named)
        self._ops = backend.volumeops
        self._client = backend.client
        self._browser = datastore_browser.DatastoreBrowser(
            backend.session, self._client, self._ops.properties)
        self._tree: collector.Properties = {}
        self._last: list[compare.Machine] = []
        self._home_folders: dict[str, bool] = {}
        #: The volumes' records of the last comparison, by their ids.
        self.records: dict[str, volume_rows.VolumeRow] = {}

    def read(self, only: Collection[str] | None = None) -> compare.Evidence:
        """Read the present records, VMs and files.

        The records are read last: what is made meanwhile has a record before
        it has a VM.

        :param only: datastores (morefs) whose files are read; None: of all
        :raises VimFaultException, VimConnectionException: by oslo.vmware
        """
        inventory = self._backend.inventory()
        datastores = [each for each in self._datastores(inventory)
                      if only is None or each.moref in only]
        files = list(self._files(inventory, datastores))
        machines = self._with_points(self._machines(inventory), inventory)
        searched = frozenset(storage(each, inventory)
                             for each in datastores)
        files += self._came_meanwhile(machines, files, searched, inventory)
        return self._evidence(machines, files, searched, inventory)

    def without_files(self) -> compare.Evidence:
        """Read as :meth:`read` does, but do not search the datastores.

        Its time does not grow with the number of datastores. The result does
        not show whether a disk's file exists, nor which policies disks have.
        """
        inventory = self._backend.inventory()
        return self._evidence(self._machines(inventory), [], frozenset(),
                              inventory, policies=False)

    def again(self, finding: compare.Finding) -> compare.Evidence:
        """Read the present evidence about one finding.

        That is the VM of the finding and the VM of its volume. For a file it
        is the files in its folder, and the VMs on its datastore.

        :raises LookupError: the datastore is gone, or was renamed
        """
        inventory = self._backend.inventory()
        files: list[compare.File] = []
        morefs = {finding.machine or finding.reference}
        if finding.thing == 'file':
            datastore, path = inventory.located_on(finding.reference,
                                                   finding.datastore)
            files = [_file(datastore, found, inventory) for found
                     in self._browser.folder(datastore,
                                             path.rpartition('/')[0])]
            morefs = {ref.value for ref in self._ops.properties(
                references.Ref('Datastore', finding.datastore),
                'vm').get('vm') or ()}
        if uuidutils.is_uuid_like(finding.owner):
            backing = self._ops.get_backing_by_uuid(finding.owner)
            if backing:
                morefs.add(backing.value)
        record = self.records.get(finding.owner)
        owners = {finding.owner} | {
            each.instance_uuid for each in (
                record.volume_attachment if record else ())
            if each.instance_uuid}
        morefs |= {vm.moref for vm in self._last if not owners.isdisjoint(
            (vm.uuid, vm.volume_id, vm.replaced))}
        return self._evidence(self._machines(inventory, morefs), files,
                              frozenset(), inventory)

    @staticmethod
    def volumes(ids: Iterable[str]) -> dict[str, Any]:
        """Cinder's objects of these volumes, by id, as they are now."""
        context = cinder_context.get_admin_context()
        ordered = sorted(ids)
        return {each.id: each
                for start in range(0, len(ordered), _IDS_A_QUERY)
                for each in objects.VolumeList.get_all(context, filters={
                    'id': ordered[start:start + _IDS_A_QUERY]})}

    def _evidence(self, machines: list[compare.Machine],
                  files: list[compare.File],
                  searched: frozenset[str], inventory: model.Inventory,
                  policies: bool = True) -> compare.Evidence:
        self._last = self._last or machines
        volumes, snapshots = self._records()
        if policies:
            machines = self._with_policies(machines, volumes)
        names = config.name_patterns()
        known = {each.id for each in volumes} | {
            each.id for each in snapshots}
        owners = {owner for vm in machines if vm.ours and not vm.deployment
                  for owner in (
                      vm.volume_id, vm.snapshot_id, vm.replaced, vm.uuid,
                      names.volume_id(vm.name), names.snapshot_id(vm.name),
                      names.temporary_of(vm.name))}
        owners |= {names.in_path(file.path) for file in files}
        return compare.Evidence(
            volumes, snapshots, tuple(machines), tuple(files), names,
            self._backend.deployment(),
            _deleted(owners - known - {''}), self._named, searched,
            self._pools(inventory))

    def _with_policies(self, machines: list[compare.Machine],
                       volumes: Iterable[compare.Volume]
                       ) -> list[compare.Machine]:
        """The same, and which disks lack the policy of their volume's type.
        """
        wanted = {each.id: each.policy for each in volumes
                  if each.policy and not each.attached_to}
        asked = [(vm.moref, disk.key) for vm in machines
                 if vm.uuid in wanted and not vm.template
                 for disk in vm.held]
        if not asked:
            return machines
        directory = self._backend.directory
        found = directory.of_disks(asked)
        ids = {name: directory.policy_id(name)
               for name in set(wanted.values())}

        def judged(vm: compare.Machine, disk: compare.Held) -> compare.Held:
            policy = ids[wanted[vm.uuid]]
            has = found.get((vm.moref, disk.key))
            if policy is None or has is None or str(policy.uniqueId) in has:
                return disk
            return dataclasses.replace(disk, policies=(wanted[vm.uuid],))
        return [dataclasses.replace(vm, held=tuple(
            judged(vm, disk) for disk in vm.held))
            if vm.uuid in wanted else vm for vm in machines]

    def _pools(self, inventory: model.Inventory) -> dict[str, str]:
        """The pools of the backend, and why one cannot be used; '': it can.
        """
        found = {}
        for moref, name in pool_names.by_datastore(
                inventory, self._backend.settings).items():
            datastore = inventory.datastores[moref]
            found[name] = (
                '' if datastore.accessible else 'not accessible') or (
                _MAINTENANCE.get(datastore.maintenance_mode,
                                 'in maintenance mode'))
        return found

    def _datastores(self, inventory: model.Inventory
                    ) -> list[model.Datastore]:
        names = pool_names.by_datastore(inventory, self._backend.settings)
        return [each for each in inventory.datastores.values()
                if each.moref in names and each.accessible]

    # -- Cinder's database --------------------------------------------------

    def _records(self) -> tuple[tuple[compare.Volume, ...],
                                tuple[compare.Snapshot, ...]]:
        context = cinder_context.get_admin_context()
        hosts = {
            each for service in objects.ServiceList.get_all(
                context, {'binary': 'cinder-volume'})
            for each in (service.host, service.cluster_name) if each}
        expected = expectations.Expectations()
        # Of all backends: a VM may belong to another backend.
        self.records = {each.id: each for each in volume_rows.volumes()}
        volumes = tuple(self._volume(each, hosts, expected)
                        for each in self.records.values())
        mine = {each.id for each in volumes if each.mine}
        return volumes, tuple(
            compare.Snapshot(
                each.id, each.name, each.volume_id,
                template=bool(each.provider_location),
                status=each.status,
                backed=each.provider_id == state.BACKED
                or bool(each.provider_location),
                mine=each.volume_id in mine,
                path=each.provider_location or '')
            for each in objects.SnapshotList.get_all(context, {}))

    def _volume(self, volume: Any, hosts: Collection[str],
                expected: expectations.Expectations) -> compare.Volume:
        mine = self._backend.owner.owns(volume)
        asked = (expected.of(volume.volume_type_id) if mine
                 else expectations.ANY)
        place = volume_utils.extract_host(
            volume.cluster_name or volume.host or '', 'backend')
        return compare.Volume(
            volume.id, volume.name,
            volume_utils.extract_host(volume.host or '', 'pool') or '',
            volume.status or '',
            at_rest=state.is_at_rest(volume),
            backed=state.is_backed(volume),
            mine=mine,
            deleting=state.is_deleting(volume),
            idle_seconds=_age(volume.updated_at or volume.created_at) or 0.0,
            attached_to=tuple(
                each.instance_uuid for each in volume.volume_attachment
                if each.instance_uuid),
            size_gib=volume.size or 0, adapter=asked.adapter, io=asked.io,
            policy=asked.policy,
            host=place, served=not hosts or place in hosts)

    # -- Inventory ----------------------------------------------------------

    def _machines(self, inventory: model.Inventory,
                  morefs: Collection[str] | None = None
                  ) -> list[compare.Machine]:
        """All VMs, or those of ``morefs`` that still exist."""
        if morefs is None:
            found = self._tree = collector.read_all(
                self._backend.session, self._client, _PATHS, value=_kept)
        else:
            found = self._ops.read_vms(sorted(morefs),
                                       _PATHS['VirtualMachine'])
        names = pool_names.by_datastore(inventory, self._backend.settings)
        vms = {ref.value: seen for ref, seen in found.items()
               if ref.type == 'VirtualMachine'}
        return [self._machine(moref, seen, _held(seen.get(_DEVICES)),
                              inventory, names)
                for moref, seen in vms.items()]

    def _with_points(self, machines: list[compare.Machine],
                     inventory: model.Inventory) -> list[compare.Machine]:
        """The same, and what the snapshots in the trees of ours need."""
        found = collector.read_objects(
            self._backend.session, self._client,
            [references.Ref('VirtualMachineSnapshot', point.moref)
             for vm in machines if vm.ours for point in vm.points],
            (_DEVICES,), _kept)
        paths = {ref.value: tuple(
            reference(path, inventory)
            for disk in _held(seen.get(_DEVICES)) for path in disk.chain)
            for ref, seen in found.items()}
        return [dataclasses.replace(vm, points=tuple(
            dataclasses.replace(point, disks=paths.get(point.moref, ()))
            for point in vm.points)) if vm.ours and vm.points else vm
            for vm in machines]

    def _came_meanwhile(self, machines: list[compare.Machine],
                        files: list[compare.File], searched: frozenset[str],
                        inventory: model.Inventory
                        ) -> Iterator[compare.File]:
        """Files that VMs name and that were made after the search."""
        known = {file.key for file in files}
        for path in sorted({
                path for vm in machines if vm.ours or vm.template
                for path in (*vm.disks, *vm.below, *(
                    each for point in vm.points for each in point.disks))
                if model.split_path(path, searched)} - known):
            for datastore, within in inventory.located(path):
                folder, _, _name = within.rpartition('/')
                yield from (
                    _file(datastore, found, inventory) for found
                    in self._browser.folder(datastore, folder)
                    if found.path == within)

    def _machine(self, moref: str, seen: dict[str, Any],
                 disks: tuple[devices.HeldDisk, ...],
                 inventory: model.Inventory,
                 names: dict[str, str]) -> compare.Machine:
        name = seen.get('name') or moref
        (volume_id, snapshot_id, unmanaged, replaced, quarantined,
         deployment, record) = (
             disk_scan.mark_of(seen, mark) for mark in _MARKS)
        above = disk_scan.inventory_path(seen.get('parent'), self._tree)
        own = seen.get('config.files.vmPathName') or ''
        home = self._home(seen, inventory)
        datastore = inventory.datastores.get(home)
        manager = seen.get('config.managedBy')
        files = list(soap.items(seen.get('layoutEx.file')))
        return compare.Machine(
            moref, name, f'{above}/{name}',
            (seen.get('config.instanceUuid') or '').lower(),
            volume_id=volume_id, snapshot_id=snapshot_id,
            unmanaged=unmanaged, replaced=replaced, quarantined=quarantined,
            quarantine_record=record,
            ours=isinstance(manager, etree._Element) and manager.findtext(
                _EXTENSION_KEY) == upstream.EXTENSION_KEY,
            deployment=deployment, at_home=self._is_home(above),
            folder=reference(own, inventory).rpartition('/')[0],
            disks=tuple(reference(disk.chain[0], inventory)
                        for disk in disks),
            below=tuple(reference(path, inventory) for disk in disks
                        for path in disk.chain[1:]),
            template=bool(seen.get('config.template')),
            pool=names.get(home),
            place=datastore.plain_name if datastore else '',
            files=tuple((reference(file.findtext(_NAME) or '', inventory),
                         int(file.findtext(_SIZE) or 0))
                        for file in files),
            disk_count=len(disks),
            points=tuple(
                compare.Point(node.moref, node.name, _age(node.created_at))
                for node in snapshot_tree.nodes(seen.get('snapshot'))),
            held=tuple(compare.Held(
                reference(disk.chain[0], inventory), disk.uuid,
                disk.size_bytes, disk.adapter, tuple(disk.limits), disk.key)
                for disk in disks),
            powered_on=seen.get('runtime.powerState') == 'poweredOn',
            age_seconds=min(
                (age for age in (_age(seen.get('config.createDate')),
                                 _age(seen.get('config.modified')))
                 if age is not None), default=None))

    def _is_home(self, folder: str) -> bool:
        """Whether an inventory folder belongs to this backend.

        Upstream makes ``OpenStack/Project (id)/vmware_volume_folder``, and
        ``Snapshots`` in it.
        """
        known = self._home_folders.get(folder)
        if known is None:
            wanted = self._backend.upstream.configuration.vmware_volume_folder
            known = self._home_folders[folder] = re.search(
                f'(^|/)OpenStack/Project \\([^/]*\\)/{re.escape(wanted)}'
                '(/Snapshots)?$', folder) is not None
        return known

    @staticmethod
    def _home(seen: dict[str, Any], inventory: model.Inventory) -> str:
        """The datastore (moref) of a VM's own files; its disk's may differ."""
        morefs = [ref.value for ref in seen.get('datastore') or ()]
        path = seen.get('config.files.vmPathName') or ''
        for datastore, _within in inventory.located(path):
            if datastore.moref in morefs:
                return datastore.moref
        return morefs[0] if len(morefs) == 1 else ''

    # -- Files --------------------------------------------------------------

    def _files(self, inventory: model.Inventory,
               datastores: Iterable[model.Datastore]
               ) -> Iterator[compare.File]:
        for datastore, found in self._browser.files(datastores):
            yield _file(datastore, found, inventory)


def _kept(_kind: str, path: str, element: etree._Element) -> Any:
    """A property as it arrives; of the devices what is compared of disks."""
    return (devices.held(element) if path == _DEVICES
            else soap.value(element))


def _held(found: Any) -> tuple[devices.HeldDisk, ...]:
    return found if isinstance(found, tuple) else devices.held(found)


def _file(datastore: model.Datastore, found: datastore_browser.Found,
          inventory: model.Inventory) -> compare.File:
    return compare.File(
        datastore.plain_name, found.path, found.size_bytes,
        _age(found.modified_at), datastore.moref,
        storage(datastore, inventory))


def storage(datastore: model.Datastore, inventory: model.Inventory) -> str:
    """One name for a storage that several datastores may show."""
    return min(each.plain_name for each
               in inventory.same_storage(datastore))


def _deleted(ids: set[str]) -> frozenset[str]:
    """Those ids whose volumes or snapshots this Cinder has deleted."""
    context = cinder_context.get_admin_context(read_deleted='only')
    found: set[str] = set()
    ordered = sorted(ids)
    for start in range(0, len(ordered), _IDS_A_QUERY):
        some = {'id': ordered[start:start + _IDS_A_QUERY]}
        found |= {each.id for each in objects.VolumeList.get_all(
            context, filters=some)}
    # Cinder has no query for several snapshots.
    for each in ids - found:
        try:
            found.add(objects.Snapshot.get_by_id(context, each).id)
        except exception.SnapshotNotFound:
            continue
    return frozenset(found)


def reference(path: str, inventory: model.Inventory) -> str:
    """A file's path with the datastore's name of :class:`compare.File`.

    The vCenter's path has the name as the vCenter stores it.
    """
    return next((f'[{storage(datastore, inventory)}] {within}'
                 for datastore, within in inventory.located(path)), path)


def _age(moment: datetime.datetime | None) -> float | None:
    """Seconds since a moment that the vCenter reports; None: unknown."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    if moment < _NEVER:
        return None
    return (timeutils.utcnow(with_timezone=True) - moment).total_seconds()
