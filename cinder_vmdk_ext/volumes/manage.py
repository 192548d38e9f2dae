# SPDX-License-Identifier: Apache-2.0
"""Takes existing disks under Cinder's management, and releases volumes.

The disk's content is not copied. First a shadow VM is prepared for the disk.
Then one step removes the disk from its present VM, the disk moves into the
shadow VM's folder, and the shadow VM gets the volume's name. If a step fails,
the present VM gets its disk back.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder import exception
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import disk_home
from cinder_vmdk_ext.volumes import manageable
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

_REMEDY = ("give source-name as 'vmdk_path@vm_inventory_path' (for example "
           "'[ds] vm/vm.vmdk@dc/vm/folder/vm'), or as '[datastore] "
           "folder/disk.vmdk' for a disk that no VM uses, or source-id as the "
           'UUID of a disk or of a VM with one disk')


class Manage:
    """Lists, takes and releases disks."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 home: disk_home.DiskHome,
                 scan: Callable[[], disk_scan.DiskScan],
                 alone: Callable[[], AbstractContextManager[None]]) -> None:
        """:param scan: returns the reader of the vCenter's disks
        :param alone: returns the lock of manage (:func:`locks.manage`)
        """
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._home = home
        self._scan = scan
        self._alone = alone

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    # -- Listing ------------------------------------------------------------

    def list_manageable(
            self, cinder_volumes: Any, marker: Any, limit: int, offset: int,
            sort_keys: list[str], sort_dirs: list[str]
            ) -> list[dict[str, Any]]:
        """List disks of VMs, and disk files that no VM uses (Cinder's hook).

        Disks that cannot be managed are listed with the reason.
        """
        seen = self._selection.inventory()
        found = self._scan().disks()
        found += self._scan().files(
            [each for each in seen.datastores.values()
             if _searchable(each, seen, self._selection.settings)], found)
        entries = manageable.volumes(found, _known_volumes(cinder_volumes),
                                     seen, self._selection.settings)
        return volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs)

    # -- Finding the disk of a reference ------------------------------------

    def _referenced(self, existing_ref: dict[str, str]
                    ) -> tuple[shadow.ScannedDisk, list[shadow.ScannedDisk]]:
        """The disk that a reference names, and the same disk in each VM.

        :raises ManageExistingInvalidReference: it names no disk, or several
        """
        name = existing_ref.get('source-name')
        uuid = existing_ref.get('source-id')
        if bool(name) == bool(uuid):
            raise invalid(existing_ref, 'it must hold either source-name or '
                          f'source-id; {_REMEDY}')
        seen = self._selection.inventory()
        found = (self._disks_named(name, seen) if name
                 else self._disks_identified(str(uuid).lower()))
        places = {disk.place: disk for disk in found}
        if not places:
            raise invalid(existing_ref, f'there is no such disk; {_REMEDY}')
        if len(places) > 1:
            several = '; '.join(sorted(
                str(manageable.reference(disk, seen))
                for disk in places.values()))
            raise invalid(existing_ref, f'it may name any of: {several}')
        disk = found[0]
        return disk, [each for each in self._scan().disks_on(disk.datastore)
                      if each.place == disk.place]

    def _disks_named(self, name: str,
                     seen: model.Inventory) -> list[shadow.ScannedDisk]:
        wanted: dict[str, set[str]] = {}
        for disk_path, vm_path in manageable.splits(name):
            for path in manageable.inventory_paths(vm_path):
                vm = self._ops.get_entity_by_inventory_path(path)
                if vm and vm._type == 'VirtualMachine':
                    wanted.setdefault(vm.value,
                                      set()).add(disk_path)
        found = [disk for disk in self._scan().disks(wanted)
                 if disk.machine is not None
                 and any(_is_at(disk, path, seen)
                         for path in wanted[disk.machine.moref])
                 ] if wanted else []
        return found + self._files_named(name, seen)

    def _files_named(self, name: str,
                     seen: model.Inventory) -> list[shadow.ScannedDisk]:
        """Disks at this path, each with the VM that uses it, if any."""
        files = (self._scan().file(datastore, path)
                 for datastore, path in seen.located(name)
                 if path.lower().endswith('.vmdk'))
        return [self._user_of(file) or file
                for file in files if file is not None]

    def _user_of(self, file: shadow.ScannedDisk) -> shadow.ScannedDisk | None:
        return next((disk for disk in self._scan().disks_on(file.datastore)
                     if disk.place == file.place), None)

    def _disks_identified(self, uuid: str) -> list[shadow.ScannedDisk]:
        return [disk for disk in self._scan().disks()
                if uuid == disk.uuid
                or (disk.machine is not None and uuid == disk.machine.uuid)]

    def _check_free(self, existing_ref: dict[str, str],
                    disk: shadow.ScannedDisk,
                    users: list[shadow.ScannedDisk]) -> None:
        """Refuse a disk that has an owner, or that cannot be managed."""
        named = config.name_patterns()
        for each in users or [disk]:
            vm = each.machine
            for owner in (each.uuid, vm.uuid if vm else '',
                          vm.volume_id if vm else '',
                          named.volume_id(vm.name) if vm else ''):
                if owner and volume_utils.check_already_managed_volume(owner):
                    raise exception.ManageExistingAlreadyManaged(
                        volume_ref=owner)
        why = manageable.obstacle(disk, users, self._selection.inventory(),
                                  self._selection.settings)
        if why is None and disk.machine is None:
            why = self._needed_by_snapshots(disk)
        if why:
            raise invalid(existing_ref, why)

    def _needed_by_snapshots(self, disk: shadow.ScannedDisk) -> str | None:
        datastore = self._selection.inventory().datastores[disk.datastore]
        if self._scan().is_in_snapshots(disk, datastore):
            return 'it is part of the snapshots of a VM'
        return None

    # -- Managing a volume --------------------------------------------------

    def get_size(self, existing_ref: dict[str, str]) -> int:
        """Size of a disk to be managed, in GiB, rounded up (Cinder's hook).

        :raises ManageExistingInvalidReference: it names no disk, or several
        """
        return self._referenced(existing_ref)[0].size_gib

    def examine(self, volume: Any,
                existing_ref: dict[str, str]) -> shadow.ScannedDisk:
        """The disk that a reference names, which can be managed.

        :param volume: a record; of one not made yet its ``volume_type_id``
        :raises ManageExistingInvalidReference, ManageExistingAlreadyManaged,
            ManageExistingVolumeTypeMismatch: as :meth:`manage`
        """
        disk, users = self._referenced(existing_ref)
        self._check_free(existing_ref, disk, users)
        self._check_type(volume, disk)
        return disk

    def manage(self, volume: Any,
               existing_ref: dict[str, str]) -> dict[str, Any]:
        """Make an existing disk the volume's disk (Cinder's hook).

        It stays on its datastore, and is removed from the VM that has it. A
        shadow VM that was unmanaged becomes the volume's shadow VM.

        :returns: the update; its host names the pool that the disk is on,
            which may differ from the pool that the scheduler chose
        :raises ManageExistingInvalidReference: with the reason
        :raises ManageExistingAlreadyManaged: the disk belongs to a volume
        :raises ManageExistingVolumeTypeMismatch: the volume type asks for
            another disk type, or a policy that the datastore does not meet
        """
        with self._alone():
            disk = self.examine(volume, existing_ref)
            if disk.machine is not None and disk.machine.left_behind:
                self.take_over(volume, disk, {shadow.UNMANAGED: ''})
            else:
                self.take_disk(volume, disk)
        return self.update_of(volume, disk)

    def _check_type(self, volume: Any, disk: shadow.ScannedDisk) -> None:
        wanted = self._selection.specs(volume).get('vmware:vmdk_type')
        # A file alone does not show whether it was zeroed in advance.
        fits = wanted in (None, disk.provisioning) or (
            disk.machine is None and disk.provisioning == 'thick'
            and wanted in extra_specs.THICK)
        if not fits:
            raise exception.ManageExistingVolumeTypeMismatch(
                reason=f'the disk is {disk.provisioning}, but the type asks '
                f'for {wanted}; manage it with another type, then retype it')
        policy = self._upstream.storage_profile(volume)
        if policy and not self._upstream.ds_sel.is_datastore_compliant(
                references.Ref('Datastore', disk.datastore), policy):
            raise exception.ManageExistingVolumeTypeMismatch(
                reason="the disk's datastore does not comply with storage "
                f'policy {policy!r}; manage it with another type, then retype '
                'it')
        needs = self._selection.needs(volume.get('volume_type_id'))
        reserved = needs and needs.reservation
        if (reserved is not None
                and disk.datastore not in reserved.datastores):
            raise exception.ManageExistingVolumeTypeMismatch(
                reason="the disk's datastore cannot have "
                f'{reserved}, which the QoS specs of the type ask for; manage '
                'it with another type, then retype it')

    def update_of(self, volume: Any,
                  disk: shadow.ScannedDisk) -> dict[str, Any]:
        """The update of the record of a volume that has a disk now."""
        update: dict[str, Any] = {'provider_id': state.BACKED}
        settings = self._selection.settings
        pool = pool_names.by_datastore(self._selection.inventory(),
                                       settings).get(disk.datastore)
        if not settings.datastore_pools or pool is None:
            return update
        return update | records.on_pool(volume, pool)

    def take_disk(self, volume: Any, disk: shadow.ScannedDisk,
                  attached: bool = False) -> None:
        """Give a disk to a new shadow VM.

        :param attached: an instance has the disk: its place and UUID stay
        """
        seen = self._selection.inventory()
        path = manageable.full_path(disk, seen)
        source = held = adapter = None
        if disk.machine is not None:
            source = references.Ref('VirtualMachine', disk.machine.moref)
            held, adapter = self._held(source, disk.key)
        temporary = uuidutils.generate_uuid()
        uuid = None
        try:
            backing = self._make_shell(volume, disk, temporary, seen)
            self._ops.attach_file(
                backing, path, disk.size_bytes,
                self._adapter(volume, adapter)
                or self._upstream.adapter_type(volume),
                None if attached else
                self._upstream.storage_profile_id(volume))
            if not attached:
                uuid = self._ops.disk_of(backing).uuid
                self._ops.reconfigure_disk(backing, disk_uuid=volume['id'])
                if source is not None and held is not None:
                    self._remove_disk(source, held)
                # The former VM's folder may be deleted with that VM.
                self._home.move_into_folder(volume, backing,
                                            self._ops.disk_of(backing))
            self._name(volume, backing, {shadow.TAKING: ''})
        except Exception:
            self._undo_taking(volume, temporary, source, held, path, uuid)
            raise

    def _make_shell(self, volume: Any, disk: shadow.ScannedDisk, uuid: str,
                    seen: model.Inventory) -> Any:
        """Create a shadow VM without a disk; it belongs to no volume yet."""
        datastore = seen.datastores[disk.datastore]
        where = placement.register_on(
            datastore, seen, self._selection.settings, random.choice)
        if where is None:
            raise exceptions.NoPlacement(
                'the shadow VM of a disk', {datastore.plain_name:
                                            'no host that may be chosen can '
                                            'use it'})
        pool = references.Ref('ResourcePool', where.resource_pool)
        return self._ops.create_backing_disk_less(
            replace.temporary_name(volume, 'manage'),
            self._upstream.volume_folder(self._upstream.datacenter_of(pool),
                                         volume['project_id']),
            pool, references.Ref('HostSystem', where.host.moref),
            datastore.name,
            profileId=self._upstream.storage_profile_id(volume),
            extra_config={upstream.BACKING_UUID_KEY: uuid,
                          shadow.TAKING: volume['id']})

    def _held(self, vm: Any,
              key: int) -> tuple[devices.Disk | None, str | None]:
        """A VM's disk by its device key, and the disk's adapter."""
        hardware = self._ops.devices_of(vm)
        for disk in devices.disks(hardware):
            if disk.device.key == key:
                return disk, devices.adapter_of(disk, hardware)
        return None, None

    def _adapter(self, volume: Any, source: str | None) -> str | None:
        return copy_policy.adapter(self._selection.specs(volume), source)

    def _remove_disk(self, source: Any, held: devices.Disk) -> None:
        power = self._ops.properties(
            source, 'runtime.powerState').get('runtime.powerState')
        if power != 'poweredOff':
            raise exception.InvalidVolume(
                reason=f'the VM of {held.path} is {power} now')
        self._ops.remove_disk(source, held)

    def _lacks(self, vm: Any, path: str) -> bool:
        return all(disk.path != path for disk
                   in devices.disks(self._ops.devices_of(vm)))

    def _name(self, volume: Any, backing: Any, marks: dict[str, str]) -> None:
        """Make a VM the volume's shadow VM: the last, atomic step."""
        self._ops.set_identity(backing, volume['name'],
                               self._upstream.extra_config(volume) | marks)

    def _undo_taking(self, volume: Any, temporary: str, source: Any,
                     held: devices.Disk | None, path: str,
                     uuid: str | None) -> None:
        """Give the source VM its disk back, and delete the shadow VM.

        A failure of this is logged. A VM that still has the disk is never
        destroyed.
        """
        try:
            shell = self._ops.get_backing_by_uuid(temporary)
            if shell:
                self._home.finish_move(volume, shell)
                if uuid:
                    self._ops.reconfigure_disk(shell, disk_uuid=uuid)
                self._take_from_shell(shell, path)
            if held is not None and self._lacks(source, held.path):
                self._ops.reattach_disk(source, held)
            if shell:
                self._replacement.discard(shell)
        except Exception as error:
            LOG.error('Disk %(path)s was not managed, and the driver could '
                      'not undo all changes: %(error)s. A VM with the extra '
                      'configuration key %(mark)s may remain; remove the disk '
                      'from it before you delete it.',
                      {'path': path, 'error': error, 'mark': shadow.TAKING})

    def _take_from_shell(self, shell: Any, path: str) -> None:
        """Remove a shadow VM's disk, and move its file back to ``path``."""
        held = devices.disks(self._ops.devices_of(shell))
        self._ops.detach_disk(shell)
        for disk in held:
            if disk.path != path:
                self._ops.move_vmdk_file(
                    self._ops.get_dc(references.Ref(
                        'Datastore', disk.datastore)), disk.path, path)

    def take_over(self, volume: Any, disk: shadow.ScannedDisk,
                  marks: dict[str, str], attached: bool = False) -> None:
        """Give the volume's identity to a shadow VM that has none.

        :param marks: other marks to set; '' removes a mark
        :param attached: an instance has the disk: it is not changed
        """
        vm = disk.machine
        assert vm is not None
        backing = references.Ref('VirtualMachine', vm.moref)
        marks = marks | {shadow.FORMERLY: ','.join(dict.fromkeys(
            vm.former_ids))}
        if attached:
            self._name(volume, backing, marks)
            return
        self._home.finish_move(volume, backing)
        before = self._ops.disk_of(backing)
        adapter = devices.adapter_of(before, self._ops.devices_of(
            backing))
        try:
            self._ops.reconfigure_disk(
                backing, adapter=self._adapter(volume, None),
                # The vCenter cannot change the UUID of a delta disk.
                disk_uuid=None if before.parent else volume['id'])
            # An interrupted manage may have left the disk in the folder of its
            # former VM.
            self._home.settle(volume, backing)
            self._name(volume, backing, marks)
        except Exception:
            try:
                self._ops.reconfigure_disk(backing, adapter=adapter,
                                           disk_uuid=before.uuid)
            except Exception as error:
                LOG.error('VM %(vm)s was not managed, and its disk now has '
                          'another UUID or adapter: %(error)s',
                          {'vm': vm.name, 'error': error})
            raise

    def give_back(self, volume: Any) -> None:
        """Undo a manage that was interrupted.

        The disk stays where it is, and can be managed again.
        """
        for moref, _name in self._ops.marked(shadow.TAKING, volume['id']):
            shell = references.Ref('VirtualMachine', moref)
            self._home.finish_move(volume, shell)
            held = self._scan().disks([moref])
            if held and not self._has_another(moref, held[0]):
                self._leave(shell, volume)
                continue
            if held:
                self._ops.detach_disk(shell)
            self._replacement.discard(shell)
        self.unmanage(volume)

    def _has_another(self, moref: str, disk: shadow.ScannedDisk) -> bool:
        return any(each.machine is not None and each.machine.moref != moref
                   and each.place == disk.place
                   for each in self._scan().disks_on(disk.datastore))

    def unmanage(self, volume: Any) -> None:
        """Leave the shadow VM and its disk to the administrator.

        Only the marks in the VM's extra configuration change, so that it
        belongs to no volume and can be managed again (Cinder's hook). A
        promised volume gets its disk, or nothing would be left to manage.

        :raises NoPlacement: with the reason for each datastore: the disk of a
            promised volume fits on none
        """
        backing = self._finder.find(volume)
        if not backing and state.is_promised(volume):
            backing = self._upstream.create_backing(volume)
        if not backing:
            if state.is_backed(volume):
                LOG.warning('Volume %s is unmanaged; its shadow VM was '
                            'already gone.', volume['id'])
            return
        self._leave(backing, volume)

    def _leave(self, backing: Any, volume: Any) -> None:
        self._ops.clear_identity(backing, uuidutils.generate_uuid(), {
            upstream.VOLUME_ID_KEY: '', shadow.TAKING: '',
            shadow.DEPLOYMENT: '',
            shadow.UNMANAGED: volume['id']})


def _known_volumes(cinder_volumes: Any) -> manageable.KnownToCinder:
    ids = {}
    for volume in cinder_volumes:
        ids[volume.id.lower()] = volume.id
        ids[(volume.name_id or volume.id).lower()] = volume.id
    return manageable.KnownToCinder(ids, {
        volume.name: volume.id for volume in cinder_volumes})


def _searchable(datastore: model.Datastore, seen: model.Inventory,
                settings: model.Settings) -> bool:
    refused = eligibility.ineligibility(datastore, seen, settings)
    return refused is None or (refused.passing and datastore.accessible)


def _is_at(disk: shadow.ScannedDisk, path: str, seen: model.Inventory) -> bool:
    return any(disk.place == (datastore.moref, within)
               for datastore, within in seen.located(path))


def invalid(existing_ref: dict[str, str],
            reason: str) -> exception.ManageExistingInvalidReference:
    return exception.ManageExistingInvalidReference(
        existing_ref=existing_ref, reason=reason)
