# SPDX-License-Identifier: Apache-2.0
"""Cinder's record follows disks that others have moved.

An administrator's migration, Storage DRS, a datastore's evacuation or a new
name all leave the volume's host naming the wrong pool, and an attached disk's
shadow VM pointing to a file that is not there any more. With every report of
statistics the VMs that changed since the last one are looked at, and what
they tell is written down.
"""

from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_vmware import vim_util

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext import devices
from cinder_vmdk_ext import location
from cinder_vmdk_ext import moves
from cinder_vmdk_ext import volumeops

LOG = logging.getLogger(__name__)

# Of volumes in another state an operation is under way, which itself knows
# where the disk goes.
_AT_REST = ('available', 'in-use', 'error', 'reserved', 'maintenance',
            'error_extending', 'error_restoring', 'error_managing')
_NOT_MIGRATING = (None, '', 'success', 'error')
# From as many changed instances on, one query for all attached volumes is
# cheaper than one for each instance.
_MANY_INSTANCES = 50
_IDS_A_QUERY = 500


class _Mark(NamedTuple):
    """What tells that a VM is as it was when it was last looked at."""

    pool: str | None
    datastores: tuple[str, ...]
    change_version: str


class Healing(moves.Moves):
    """Notices moves from outside, and puts the record right."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settled: dict[str, _Mark] = {}
        self._looked_at: location.Seen | None = None
        self._all_settled = True

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        if self._locator is None or self._stats.get('backend_state') != 'up':
            return
        if not self.volumeops.backings_known():
            return  # they are being told; the next report looks
        try:
            seen = self._locator.look()
            if seen is not self._looked_at:
                self._heal(seen)
                self._looked_at = seen if self._all_settled else None
        except Exception as error:
            # Statistics are not to fail for it; the next report tries again.
            LOG.warning('Moves from outside were not looked for: %s', error)

    def _heal(self, seen: location.Seen) -> None:
        marks = {vm.moref: _Mark(seen.pool_of(vm), vm.datastores,
                                 vm.change_version)
                 for vm in seen.backings.all}
        changed = [vm for vm in seen.backings.all
                   if self._settled.get(vm.moref) != marks[vm.moref]]
        self._all_settled = True
        if not changed:
            return
        unsettled = set()
        resting: list[tuple[Any, volumeops.Backing]] = []
        for volume in self._volumes_on(changed):
            vm = seen.backings.find(volume.id, volume.name)
            if vm is None:
                continue
            if (volume.status in _AT_REST
                    and volume.migration_status in _NOT_MIGRATING):
                resting.append((volume, vm))
            else:
                unsettled.add(vm.moref)
        disks = self._disks_of_attached(resting, seen)
        for volume, vm in resting:
            try:
                self._heal_volume(volume, vm, seen, disks)
            except Exception as error:
                unsettled.add(vm.moref)
                LOG.warning('Volume %(volume)s was not followed to where it '
                            'is: %(error)s',
                            {'volume': volume.id, 'error': error})
        self._all_settled = not unsettled
        self._settled = {moref: mark for moref, mark in marks.items()
                         if moref not in unsettled}

    def _volumes_on(self, vms: list[volumeops.Backing]) -> list[Any]:
        """This backend's volumes whose shadow VM or instance is among VMs."""
        context = cinder_context.get_admin_context()
        ids = {key for vm in vms for key in (vm.uuid, vm.volume_id) if key}
        ids |= {vm.name.removeprefix('volume-') for vm in vms}
        ids |= self._attached_to(context, {vm.uuid for vm in vms if vm.uuid})
        found = []
        for chunk in _chunks(sorted(ids), _IDS_A_QUERY):
            found += [volume for volume in objects.VolumeList.get_all(
                context, filters={'id': chunk}) if self._is_ours(volume)]
        return found

    def _attached_to(self, context: Any, instances: set[str]) -> set[str]:
        """Ids of volumes that are attached to instances."""
        if len(instances) <= _MANY_INSTANCES:
            return {attachment.volume_id for uuid in instances
                    for attachment in objects.VolumeAttachmentList
                    .get_all_by_instance_uuid(context, uuid)}
        return {volume.id for volume in objects.VolumeList.get_all(
                    context, filters={'host': self.host, 'status': 'in-use'})
                for attachment in volume.volume_attachment
                if attachment.instance_uuid in instances}

    def _is_ours(self, volume: Any) -> bool:
        if self.cluster_name:
            return volume_utils.extract_host(
                volume.cluster_name or '', 'backend') == self.cluster_name
        return volume_utils.extract_host(volume.host or '',
                                         'backend') == self.host

    def _disks_of_attached(
            self, volumes: list[tuple[Any, volumeops.Backing]],
            seen: location.Seen) -> dict[str, list[devices.Disk]]:
        """Disks of attached volumes' shadow VMs and instances, in bulk."""
        morefs = set()
        for volume, vm in volumes:
            instances = _instances(volume, seen)
            if instances:
                morefs |= {vm.moref} | {each.moref for each in instances}
        found: dict[str, list[devices.Disk]] = {}
        for chunk in _chunks(sorted(morefs), _IDS_A_QUERY):
            found |= self.volumeops.disks_of(chunk)
        return found

    def _heal_volume(self, volume: Any, vm: volumeops.Backing,
                     seen: location.Seen,
                     disks: dict[str, list[devices.Disk]]) -> None:
        pool = seen.pool_of(vm)
        attached = [disk for instance in _instances(volume, seen)
                    for disk in disks.get(instance.moref, ())
                    if disk.uuid.lower() == volume.id.lower()]
        if attached:
            # What the instance has is the truth; the shadow VM may be behind.
            disk = attached[0]
            pool = seen.pool_names.get(disk.datastore, pool)
            if disk.path not in {own.path for own
                                 in disks.get(vm.moref, ())}:
                LOG.info("Volume %(volume)s: the instance's disk is now "
                         '%(path)s; the shadow VM follows.',
                         {'volume': volume.id, 'path': disk.path})
                self._follow_instance(volume, vim_util.get_moref(
                    vm.moref, 'VirtualMachine'))
        if pool is not None and self._settings.datastore_pools:
            self._tell_host_if_at_rest(volume, pool)

    def _tell_host_if_at_rest(self, volume: Any, pool: str) -> None:
        """Write the pool, unless an operation has begun meanwhile."""
        host = volume_utils.append_host(
            volume_utils.extract_host(volume.host, 'backend'), pool)
        if host == volume.host:
            return
        values = {'host': host}
        if volume.cluster_name:
            values['cluster_name'] = volume_utils.append_host(
                volume_utils.extract_host(volume.cluster_name, 'backend'),
                pool)
        before = volume.host
        if volume.conditional_update(values, {'host': before,
                                              'status': volume.status}):
            LOG.info('Volume %(volume)s was moved from outside: its host was '
                     '%(before)s and is %(host)s.',
                     {'volume': volume.id, 'before': before, 'host': host})


def _instances(volume: Any, seen: location.Seen) -> list[volumeops.Backing]:
    """The instances that a volume is attached to, as far as they are here."""
    found = [seen.backings.by_uuid(attachment.instance_uuid or '')
             for attachment in volume.volume_attachment or ()]
    return [instance for instance in found if instance is not None]


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    for start in range(0, len(items), size):
        yield items[start:start + size]
