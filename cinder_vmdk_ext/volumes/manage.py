# SPDX-License-Identifier: Apache-2.0
"""Disks and snapshots that Cinder did not make come under its care, and leave.

A disk is taken where it lies: nothing is copied. All is made ready beside it
first; its VM loses it in one step, after which only the shadow VM's name is
changed, and gets it back if that fails.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils
from oslo_vmware import vim_util

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops as upstream
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.volumes import manageable
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import snapshots
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import virtual_devices as devices
from cinder_vmdk_ext import wiring

LOG = logging.getLogger(__name__)

# Extra configuration of a VM that is to become a volume's.
TAKING = 'vmdk-ext.taking-for-volume'
# The state of a volume that is deleted after its managing failed.
_NOT_MANAGED = 'error_managing_deleting'

_REMEDY = ("give source-name as 'vmdk_path@vm_inventory_path' (for example "
           "'[ds] vm/vm.vmdk@dc/vm/folder/vm'), or as '[datastore] "
           "folder/disk.vmdk' for a disk that no VM uses, or source-id as the "
           'UUID of a disk or of a VM with one disk')


class Adoption(finder.Exchange):
    """Manage and unmanage volumes and snapshots, and list what there is."""

    # -- Listing ------------------------------------------------------------

    def get_manageable_volumes(self, cinder_volumes: Any, marker: Any,
                               limit: int, offset: int, sort_keys: list[str],
                               sort_dirs: list[str]) -> list[dict[str, Any]]:
        """Disks of VMs, and disks left as files on datastores (Cinder hook).

        What cannot be taken is listed with the reason.
        """
        seen = self._inventory()
        found = self._census.disks()
        found += self._census.files(
            [each for each in seen.datastores.values()
             if _searchable(each, seen, self._settings)], found)
        entries = manageable.volumes(found, _known_volumes(cinder_volumes),
                                     seen, self._settings)
        return volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs)

    def get_manageable_snapshots(self, cinder_snapshots: Any, marker: Any,
                                 limit: int, offset: int,
                                 sort_keys: list[str], sort_dirs: list[str]
                                 ) -> list[dict[str, Any]]:
        """Snapshots of volumes, in both formats (Cinder hook)."""
        known = {each.name: each.id for each in cinder_snapshots}
        ids = {each.id: each.id for each in cinder_snapshots}
        found = self._census.snapshots()
        entries = []
        for each in found:
            owner = known.get(each.name) or (
                ids.get(each.machine.uuid) if each.machine.template else None)
            reason = 'it is managed already' if owner else (
                None if each.source_volume_id
                else 'it does not tell which volume it was taken of')
            entries.append({
                'reference': {'source-id': each.moref},
                'size': model.ceil_gib(each.size_bytes),
                'safe_to_manage': reason is None, 'reason_not_safe': reason,
                'cinder_id': owner, 'source_reference': {
                    'source-name': f'volume-{each.source_volume_id}'},
                'extra_info': {
                    'name': each.name, 'format': 'template'
                    if each.machine.template else 'COW'}})
        return volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs)

    @property
    def _census(self) -> disk_scan.Census:
        assert self._client is not None
        return disk_scan.Census(self._session, self._client, self.volumeops,
                                vmdk.EXTENSION_KEY, self._inventory)

    # -- Finding what is meant ----------------------------------------------

    def _referenced(self, existing_ref: dict[str, str]
                    ) -> tuple[manageable.Disk, list[manageable.Disk]]:
        """The one disk that a reference means, and all VMs' disks beside it.

        :raises ManageExistingInvalidReference: there is none, or several
        """
        name = existing_ref.get('source-name')
        uuid = existing_ref.get('source-id')
        if bool(name) == bool(uuid):
            raise _invalid(existing_ref, 'it must hold either source-name or '
                           f'source-id; {_REMEDY}')
        seen = self._inventory()
        found = (self._disks_named(name, seen) if name
                 else self._disks_identified(str(uuid).lower()))
        places = {disk.place: disk for disk in found}
        if not places:
            raise _invalid(existing_ref, f'there is no such disk; {_REMEDY}')
        if len(places) > 1:
            several = '; '.join(sorted(
                str(manageable.reference(disk, seen))
                for disk in places.values()))
            raise _invalid(existing_ref, f'it may mean any of: {several}')
        disk = found[0]
        return disk, [each for each in self._census.disks_on(disk.datastore)
                      if each.place == disk.place]

    def _disks_named(self, name: str,
                     seen: model.Inventory) -> list[manageable.Disk]:
        wanted: dict[str, set[str]] = {}
        for disk_path, vm_path in manageable.splits(name):
            for path in manageable.inventory_paths(vm_path):
                vm = self.volumeops.get_entity_by_inventory_path(path)
                if vm and vm._type == 'VirtualMachine':
                    wanted.setdefault(vim_util.get_moref_value(vm),
                                      set()).add(disk_path)
        found = [disk for disk in self._census.disks(wanted)
                 if disk.machine is not None
                 and any(_is_at(disk, path, seen)
                         for path in wanted[disk.machine.moref])
                 ] if wanted else []
        return found + self._files_named(name, seen)

    def _files_named(self, name: str,
                     seen: model.Inventory) -> list[manageable.Disk]:
        """Disks that no VM uses; one that a VM has is to be told by its VM."""
        files = (self._census.file(datastore, path)
                 for datastore, path in seen.located(name)
                 if path.lower().endswith('.vmdk'))
        return [self._user_of(file) or file
                for file in files if file is not None]

    def _user_of(self, file: manageable.Disk) -> manageable.Disk | None:
        return next((disk for disk in self._census.disks_on(file.datastore)
                     if disk.place == file.place), None)

    def _disks_identified(self, uuid: str) -> list[manageable.Disk]:
        return [disk for disk in self._census.disks()
                if uuid == disk.uuid
                or (disk.machine is not None and uuid == disk.machine.uuid)]

    def _check_free(self, existing_ref: dict[str, str],
                    disk: manageable.Disk,
                    users: list[manageable.Disk]) -> None:
        """Refuse a disk that has an owner, or cannot be taken as it is."""
        for each in users or [disk]:
            vm = each.machine
            for owner in (each.uuid, vm.uuid if vm else '',
                          vm.volume_id if vm else '',
                          vm.name.removeprefix('volume-') if vm else ''):
                if owner and volume_utils.check_already_managed_volume(owner):
                    raise exception.ManageExistingAlreadyManaged(
                        volume_ref=owner)
        why = manageable.obstacle(disk, users, self._inventory(),
                                  self._settings)
        if why is None and disk.machine is None:
            why = self._needed_by_snapshots(disk)
        if why:
            raise _invalid(existing_ref, why)

    def _needed_by_snapshots(self, disk: manageable.Disk) -> str | None:
        datastore = self._inventory().datastores[disk.datastore]
        if self._census.is_in_snapshots(disk, datastore):
            return 'it is part of the snapshots of a VM'
        return None

    # -- Managing a volume --------------------------------------------------

    def manage_existing_get_size(self, volume: Any,
                                 existing_ref: dict[str, str]) -> int:
        """Size of the disk that is to be managed, in GiB rounded up (Cinder).

        :raises ManageExistingInvalidReference: no disk is meant, or several
        """
        return self._referenced(existing_ref)[0].size_gib

    def manage_existing(self, volume: Any, existing_ref: dict[str, str]
                        ) -> dict[str, Any]:
        """Make a disk the volume's, where it lies (Cinder hook).

        It is taken from the VM that has it. A shadow VM that was unmanaged
        becomes the volume's as it is.

        :returns: the host, which names the pool that the disk is on, whatever
            pool the scheduler thought of
        :raises ManageExistingInvalidReference: with the reason
        :raises ManageExistingAlreadyManaged: it is a volume's
        :raises ManageExistingVolumeTypeMismatch: its volume type asks for
            what the disk is not
        """
        self._check_specs(lambda: self._volume_specs(volume))
        with self._alone():
            disk, users = self._referenced(existing_ref)
            self._check_free(existing_ref, disk, users)
            self._check_type(volume, disk)
            if disk.machine is not None and disk.machine.left_behind:
                self._take_over(volume, disk)
            else:
                self._take_disk(volume, disk)
        return self._managed(volume, disk)

    def _alone(self) -> AbstractContextManager[None]:
        """Let nobody else take disks of this vCenter meanwhile."""
        return locks.adoption(self._location_info().rpartition(':')[2])

    def _check_type(self, volume: Any, disk: manageable.Disk) -> None:
        wanted = self._volume_specs(volume).get('vmware:vmdk_type')
        # Of a file nobody tells whether it was zeroed in advance.
        fits = wanted in (None, disk.provisioning) or (
            disk.machine is None and disk.provisioning == 'thick'
            and wanted in extra_specs.THICK)
        if not fits:
            raise exception.ManageExistingVolumeTypeMismatch(
                reason=f'the disk is {disk.provisioning}, the type wants '
                f'{wanted}; manage it with another type, and retype it then')
        policy = self._get_storage_profile(volume)
        if policy and not self.ds_sel.is_datastore_compliant(
                self._datastore_ref(disk.datastore), policy):
            raise exception.ManageExistingVolumeTypeMismatch(
                reason="the disk's datastore does not comply with storage "
                f'policy {policy!r}; manage it with another type, and retype '
                'it then')

    def _managed(self, volume: Any, disk: manageable.Disk) -> dict[str, Any]:
        update: dict[str, Any] = {'provider_id': state.BACKED}
        pool = pool_names.by_datastore(self._inventory(),
                                       self._settings).get(disk.datastore)
        if not self._settings.datastore_pools or pool is None:
            return update
        return update | records.on_pool(volume, pool)

    def _take_disk(self, volume: Any, disk: manageable.Disk) -> None:
        """Give a disk to a shadow VM that is made for it."""
        seen = self._inventory()
        path = manageable.full_path(disk, seen)
        source = held = None
        if disk.machine is not None:
            source = vim_util.get_moref(disk.machine.moref, 'VirtualMachine')
            held = self._held(source, disk.key)
        temporary = uuidutils.generate_uuid()
        uuid = None
        try:
            backing = self._make_shell(volume, disk, temporary, seen)
            self.volumeops.attach_file(
                backing, path, disk.size_bytes, self._get_adapter_type(volume),
                self._profile_id(volume))
            uuid = self.volumeops.disk_of(backing).uuid
            self.volumeops.shape(backing, disk_uuid=volume['id'])
            if source is not None and held is not None:
                self._take_away(source, held)
            self._name(volume, backing, {TAKING: ''})
        except Exception:
            self._undo_taking(temporary, source, held, path, uuid)
            raise

    def _make_shell(self, volume: Any, disk: manageable.Disk, uuid: str,
                    seen: model.Inventory) -> Any:
        """A shadow VM with no disk, which is nobody's yet."""
        datastore = seen.datastores[disk.datastore]
        where = placement.register_on(datastore, seen, self._settings,
                                      random.choice)
        if where is None:
            raise exceptions.NoPlacement(
                'the shadow VM of a disk', {datastore.plain_name:
                                            'no host that may be chosen can '
                                            'use it'})
        pool = vim_util.get_moref(where.resource_pool, 'ResourcePool')
        return self.volumeops.create_backing_disk_less(
            f'{volume["name"]}-manage-{uuid}',
            self._get_volume_group_folder(self._get_dc(pool),
                                          volume['project_id']),
            pool, vim_util.get_moref(where.host.moref, 'HostSystem'),
            datastore.name, profileId=self._profile_id(volume),
            extra_config={upstream.BACKING_UUID_KEY: uuid,
                          TAKING: volume['id']})

    def _held(self, vm: Any, key: int) -> devices.Disk | None:
        return next((disk for disk
                     in devices.disks(self.volumeops.devices_of(vm))
                     if disk.device.key == key), None)

    def _take_away(self, source: Any, held: devices.Disk) -> None:
        power = self.volumeops.properties(
            source, 'runtime.powerState').get('runtime.powerState')
        if power != 'poweredOff':
            raise exception.InvalidVolume(
                reason=f'the VM of {held.path} is {power} by now')
        _or_else_done(lambda: self.volumeops.take_away(source, held),
                      lambda: self._lacks(source, held.path))

    def _lacks(self, vm: Any, path: str) -> bool:
        return all(disk.path != path for disk
                   in devices.disks(self.volumeops.devices_of(vm)))

    def _name(self, volume: Any, backing: Any, marks: dict[str, str]) -> None:
        """Make a VM the volume's: the last step, all of it or nothing."""
        _or_else_done(
            lambda: self.volumeops.identify(
                backing, volume['name'],
                self._get_extra_config(volume) | marks),
            lambda: self.volumeops.properties(backing, 'name').get(
                'name') == volume['name'])

    def _undo_taking(self, temporary: str, source: Any,
                     held: devices.Disk | None, path: str,
                     uuid: str | None) -> None:
        """Undo: the source has its disk as it was, and nothing is left.

        What cannot be undone is logged; never is a VM destroyed that still
        has the disk.
        """
        try:
            shell = self.volumeops.get_backing_by_uuid(temporary)
            if shell:
                if uuid:
                    self.volumeops.shape(shell, disk_uuid=uuid)
                self.volumeops.let_go(shell)
            if held is not None and self._lacks(source, held.path):
                self.volumeops.attach_again(source, held)
            if shell:
                self._discard(shell)
        except Exception as error:
            LOG.error('Disk %(path)s was not managed, and undoing that is '
                      'incomplete: %(error)s. A VM with the extra '
                      'configuration %(mark)s may be left; take the disk from '
                      'it before it is deleted.',
                      {'path': path, 'error': error, 'mark': TAKING})

    def _take_over(self, volume: Any, disk: manageable.Disk) -> None:
        """Make a shadow VM that is nobody's the volume's."""
        vm = disk.machine
        assert vm is not None
        backing = vim_util.get_moref(vm.moref, 'VirtualMachine')
        before = self.volumeops.disk_of(backing)
        adapter = devices.adapter_of(before, self.volumeops.devices_of(
            backing))
        try:
            self.volumeops.shape(
                backing, adapter=self._get_adapter_type(volume),
                # vCenter lets nobody change the UUID of a delta disk.
                disk_uuid=None if before.parent else volume['id'])
            self._name(volume, backing, {
                disk_scan.UNMANAGED: '',
                disk_scan.FORMERLY: ','.join(dict.fromkeys(vm.former_ids))})
        except Exception:
            try:
                self.volumeops.shape(backing, adapter=adapter,
                                     disk_uuid=before.uuid)
            except Exception as error:
                LOG.error('VM %(vm)s was not managed, and its disk has '
                          'another UUID or adapter now: %(error)s',
                          {'vm': vm.name, 'error': error})
            raise

    def delete_volume(self, volume: Any) -> None:
        """Delete a volume, but no disk that was not managed to the end (hook).

        Whoever deletes the record of a failed ``cinder manage`` wants the
        disk as it was; it is left, to be managed again.
        """
        if wiring.field(volume, 'status') == _NOT_MANAGED:
            self._give_back(volume)
            self.unmanage(volume)
        else:
            super().delete_volume(volume)

    def _give_back(self, volume: Any) -> None:
        """Undo a taking that was broken off before the VM was the volume's."""
        for moref, _name in self.volumeops.marked(TAKING, volume['id']):
            shell = vim_util.get_moref(moref, 'VirtualMachine')
            held = self._census.disks([moref])
            if held and not self._has_another(moref, held[0]):
                self._leave(shell, volume)
                continue
            if held:
                self.volumeops.let_go(shell)
            self._discard(shell)

    def _has_another(self, moref: str, disk: manageable.Disk) -> bool:
        return any(each.machine is not None and each.machine.moref != moref
                   and each.place == disk.place
                   for each in self._census.disks_on(disk.datastore))

    def unmanage(self, volume: Any) -> None:
        """Leave the shadow VM and its disk to the administrator (Cinder).

        Nothing but the VM's marks is changed, so that it is nobody's, and can
        be managed again.
        """
        backing = self.volumeops.get_backing(volume['name'], volume['id'])
        if not backing:
            if state.is_backed(volume):
                LOG.warning('Volume %s is unmanaged; its shadow VM was gone '
                            'before.', volume['id'])
            return
        self._leave(backing, volume)

    def _leave(self, backing: Any, volume: Any) -> None:
        self.volumeops.disown(backing, uuidutils.generate_uuid(), {
            vmdk.EXTRA_CONFIG_VOLUME_ID_KEY: '', TAKING: '',
            disk_scan.UNMANAGED: volume['id']})

    # -- Snapshots ----------------------------------------------------------

    def manage_existing_snapshot_get_size(self, snapshot: Any,
                                          existing_ref: dict[str, str]) -> int:
        """Size of the disk that a snapshot holds, in GiB (Cinder hook)."""
        return model.ceil_gib(
            self._referenced_snapshot(snapshot, existing_ref).size_bytes)

    def manage_existing_snapshot(self, snapshot: Any,
                                 existing_ref: dict[str, str]
                                 ) -> dict[str, Any]:
        """Make a snapshot in the vCenter that of Cinder, by its name (Cinder).

        :param existing_ref: ``source-name``: the name of a snapshot in the
            volume's tree, or a template's inventory path; ``source-id``: the
            reference of either in the vCenter (``snapshot-12``, ``vm-34``),
            or a template's instance UUID
        :raises ManageExistingInvalidReference: with the reason
        :raises ManageExistingAlreadyManaged: it is a snapshot of Cinder's
        """
        with self._alone():
            found = self._referenced_snapshot(snapshot, existing_ref)
            owner = volume_utils.extract_id_from_snapshot_name(found.name)
            for each in (owner, found.machine.uuid):
                if each and each != snapshot['id'] and objects.Snapshot.exists(
                        cinder_context.get_admin_context(), each):
                    raise exception.ManageExistingAlreadyManaged(
                        volume_ref=each)
            if found.machine.template:
                return self._take_template(snapshot, found)
            ref = vim_util.get_moref(found.moref, 'VirtualMachineSnapshot')
            backing = vim_util.get_moref(found.machine.moref,
                                         'VirtualMachine')
            _or_else_done(
                lambda: self.volumeops.rename_snapshot(
                    ref, snapshot['name'],
                    snapshots.sendable(snapshot['display_description'])),
                lambda: bool(self.volumeops.get_snapshot(backing,
                                                         snapshot['name'])))
        return {'provider_id': state.BACKED}

    def _take_template(self, snapshot: Any,
                       found: disk_scan.Snapshot) -> dict[str, Any]:
        template = vim_util.get_moref(found.moref, 'VirtualMachine')
        _or_else_done(
            lambda: self.volumeops.rename(template, snapshot['name']),
            lambda: self.volumeops.properties(template, 'name').get(
                'name') == snapshot['name'])
        return {'provider_location':
                self.volumeops.get_inventory_path(template),
                'provider_id': state.BACKED}

    def _referenced_snapshot(self, snapshot: Any,
                             existing_ref: dict[str, str]
                             ) -> disk_scan.Snapshot:
        name = existing_ref.get('source-name')
        identifier = existing_ref.get('source-id')
        if bool(name) == bool(identifier):
            raise _invalid(existing_ref, 'it must hold either source-name, '
                           'the name of a snapshot or the inventory path of a '
                           'template, or source-id, its reference or UUID')
        volume = snapshot['volume']
        backing = self._existing_backing(volume)
        found = (self._in_tree(volume, backing, name, identifier)
                 if backing else [])
        template = self._template_meant(name, identifier)
        if template is not None:
            found.append(template)
        if not found:
            raise _invalid(existing_ref, f'volume {volume["id"]} has no such '
                           'snapshot, and no template is called so')
        if len(found) > 1:
            several = ', '.join(sorted(each.moref for each in found))
            raise _invalid(existing_ref, f'it may mean any of {several}; give '
                           'one of these as source-id')
        if found[0].machine.template:
            self._check_source(existing_ref, found[0], volume, backing)
        return found[0]

    def _in_tree(self, volume: Any, backing: Any, name: str | None,
                 identifier: str | None) -> list[disk_scan.Snapshot]:
        tree = self.volumeops.properties(backing, 'snapshot').get('snapshot')
        size_bytes = self.volumeops.disk_of(backing).capacity_bytes
        vm = manageable.Machine(vim_util.get_moref_value(backing),
                                volume['name'])
        return [disk_scan.Snapshot(node.moref, node.name, vm, size_bytes,
                                   volume['id'])
                for node in snapshot_tree.nodes(tree)
                if node.name == name or node.moref == identifier]

    def _template_meant(self, name: str | None, identifier: str | None
                        ) -> disk_scan.Snapshot | None:
        vm = None
        if name:
            for path in manageable.inventory_paths(name):
                vm = vm or self.volumeops.get_entity_by_inventory_path(path)
        elif uuidutils.is_uuid_like(identifier):
            vm = self.volumeops.get_backing_by_uuid(identifier)
        elif identifier and identifier.startswith('vm-'):
            vm = vim_util.get_moref(identifier, 'VirtualMachine')
        if not vm or vm._type != 'VirtualMachine':
            return None
        return self._census.template(vim_util.get_moref_value(vm))

    def _check_source(self, existing_ref: dict[str, str],
                      found: disk_scan.Snapshot, volume: Any,
                      backing: Any) -> None:
        """Refuse a template that is a copy of another volume."""
        ids = {volume['id']}
        if backing:
            ids |= self._census.former_ids(vim_util.get_moref_value(backing))
        if found.source_volume_id not in ids:
            whose = found.source_volume_id or 'nobody knows which volume'
            raise _invalid(existing_ref, f'it is a copy of {whose}, not of '
                           f'volume {volume["id"]}')

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Leave a snapshot to the administrator, as it is (Cinder hook).

        There is nothing to change: it is known by its name, which holds an
        id that Cinder knows no more.
        """


def _or_else_done(action: Callable[[], None],
                  done: Callable[[], bool]) -> None:
    """Do it; an error is none when it turns out to have been done."""
    try:
        action()
    except exceptions.VMWARE_ERRORS:
        try:
            succeeded = done()
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('What a failed call did cannot be seen: %s', error)
            succeeded = False
        if not succeeded:
            raise


def _known_volumes(cinder_volumes: Any) -> manageable.Known:
    ids = {}
    for volume in cinder_volumes:
        ids[volume.id.lower()] = volume.id
        ids[(volume.name_id or volume.id).lower()] = volume.id
    return manageable.Known(ids, {volume.name: volume.id
                                  for volume in cinder_volumes})


def _searchable(datastore: model.Datastore, seen: model.Inventory,
                settings: model.Settings) -> bool:
    refused = eligibility.ineligibility(datastore, seen, settings)
    return refused is None or (refused.passing and datastore.accessible)


def _is_at(disk: manageable.Disk, path: str, seen: model.Inventory) -> bool:
    return any(disk.place == (datastore.moref, within)
               for datastore, within in seen.located(path))


def _invalid(existing_ref: dict[str, str],
             reason: str) -> exception.ManageExistingInvalidReference:
    return exception.ManageExistingInvalidReference(
        existing_ref=existing_ref, reason=reason)
