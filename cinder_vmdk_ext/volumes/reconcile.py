# SPDX-License-Identifier: Apache-2.0
"""Cinder's record follows disks that others have moved.

An administrator's migration, Storage DRS, a datastore's evacuation or a new
name all leave the volume's host naming the wrong pool, and an attached disk's
shadow VM pointing to a file that is not there any more. With every report of
statistics the VMs that changed since the last one are looked at, and what
they tell is written down.

Every service of a cluster looks, so what seems wrong is looked at once more by
the one that has the volume's lock, in the record and in the vCenter: memory
may be behind what another has just done.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_vmware import vim_util

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import locator
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.volumes import moves
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

# From as many changed instances on, one query for all attached volumes is
# cheaper than one for each instance.
_MANY_INSTANCES = 50
_IDS_A_QUERY = 500
# A few milliseconds' work.
_VMS_A_TURN = 500


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
        self._looked_at: locator.Seen | None = None
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

    def _heal(self, seen: locator.Seen) -> None:
        marks = {vm.moref: _Mark(seen.pool_of(vm), vm.datastores,
                                 vm.change_version)
                 for vm in _in_turns(seen.backings.all)}
        changed = [vm for vm in _in_turns(seen.backings.all)
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
            if records.is_at_rest(volume):
                resting.append((volume, vm))
            else:
                unsettled.add(vm.moref)
        disks = self._disks_to_see(resting, seen)
        for volume, vm in resting:
            try:
                if not self._heal_volume(volume, vm, seen, disks):
                    unsettled.add(vm.moref)
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
            concurrency.cooperative_yield()
            found += [volume for volume in objects.VolumeList.get_all(
                context, filters={'id': chunk}) if self._is_ours(volume)]
        return found

    def _attached_to(self, context: Any, instances: set[str]) -> set[str]:
        """Ids of volumes that are attached to instances."""
        if len(instances) <= _MANY_INSTANCES:
            return {attachment.volume_id for uuid in instances
                    for attachment in objects.VolumeAttachmentList
                    .get_all_by_instance_uuid(context, uuid)}
        backend = ({'cluster_name': self.cluster_name} if self.cluster_name
                   else {'host': self.host})
        return {volume.id for volume in objects.VolumeList.get_all(
                    context, filters=backend | {'status': 'in-use'})
                for attachment in volume.volume_attachment
                if attachment.instance_uuid in instances}

    def _is_ours(self, volume: Any) -> bool:
        if self.cluster_name:
            return volume_utils.extract_host(
                volume.cluster_name or '', 'backend') == self.cluster_name
        return volume_utils.extract_host(volume.host or '',
                                         'backend') == self.host

    def _disks_to_see(
            self, volumes: list[tuple[Any, volumeops.Backing]],
            seen: locator.Seen) -> dict[str, list[devices.Disk]]:
        """Disks in bulk: of shadow VMs that are spread over datastores, and
        of attached volumes' shadow VMs and instances.
        """
        morefs = set()
        for volume, vm in volumes:
            instances = _instances(volume, seen)
            if instances or len(vm.datastores) > 1:
                morefs |= {vm.moref} | {each.moref for each in instances}
        found: dict[str, list[devices.Disk]] = {}
        for chunk in _chunks(sorted(morefs), _IDS_A_QUERY):
            found |= self.volumeops.disks_of(chunk)
        return found

    def _heal_volume(self, volume: Any, vm: volumeops.Backing,
                     seen: locator.Seen,
                     disks: dict[str, list[devices.Disk]]) -> bool:
        """Put a volume right, if something seems wrong.

        :returns: False: it is being worked on, and is to be looked at again
        """
        pool = seen.pool_of(vm)
        disk = _true_disk(volume, vm, seen, disks)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        strayed = disk is not None and (
            _is_another(disk, disks.get(vm.moref))
            or seen.home_of(vm) != disk.datastore)
        told = (pool is None or not self._settings.datastore_pools
                or records.says(volume, records.on_pool(volume, pool)))
        if told and not strayed:
            return True
        with locks.volume_if_free(volume.id) as alone:
            return alone and self._look_again(volume, vm, seen)

    def _look_again(self, volume: Any, vm: volumeops.Backing,
                    seen: locator.Seen) -> bool:
        """Put a volume right by what is so now; nobody else changes it."""
        volume.refresh()
        now = self.volumeops.read_backing(vm.moref)
        if now is None or not records.is_at_rest(volume):
            return False
        disks = self._disks_to_see([(volume, now)], seen)
        disk = _true_disk(volume, now, seen, disks)
        backing = vim_util.get_moref(vm.moref, 'VirtualMachine')
        if disk is not None and _is_another(disk, disks.get(vm.moref)):
            LOG.info("Volume %(volume)s: the instance's disk is now "
                     '%(path)s; the shadow VM follows.',
                     {'volume': volume.id, 'path': disk.path})
            self._follow_instance(volume, backing)
        elif disk is not None and seen.home_of(now) != disk.datastore:
            # A move was broken off halfway.
            self._bring_home(volume, backing, disk)
        pool = seen.pool_of(now)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        return (pool is None or not self._settings.datastore_pools
                or self._record(volume, pool))

    @staticmethod
    def _record(volume: Any, pool: str) -> bool:
        """Write the pool, unless an operation has begun meanwhile."""
        before = volume.host
        values = records.on_pool(volume, pool)
        if records.says(volume, values):
            return True
        if not records.change(volume, values):
            return False
        LOG.info('Volume %(volume)s was moved from outside: its host was '
                 '%(before)s and is %(host)s.',
                 {'volume': volume.id, 'before': before,
                  'host': volume.host})
        return True


def _true_disk(volume: Any, vm: volumeops.Backing, seen: locator.Seen,
               disks: dict[str, list[devices.Disk]]
               ) -> devices.Disk | None:
    """The volume's disk on its instance, else on its shadow VM.

    What the instance has is the truth; the shadow VM may be behind.
    """
    attached = [disk for instance in _instances(volume, seen)
                for disk in disks.get(instance.moref, ())
                if disk.uuid.lower() == volume.id.lower()]
    return next(iter((*attached, *disks.get(vm.moref, ()))), None)


def _is_another(disk: devices.Disk,
                own: Iterable[devices.Disk] | None) -> bool:
    """Whether a shadow VM does not name the disk that the instance has."""
    return disk.path not in {each.path for each in own or ()}


def _instances(volume: Any, seen: locator.Seen) -> list[volumeops.Backing]:
    """The instances that a volume is attached to, as far as they are here."""
    found = [seen.backings.by_uuid(attachment.instance_uuid or '')
             for attachment in volume.volume_attachment or ()]
    return [instance for instance in found if instance is not None]


def _in_turns(vms: Iterable[volumeops.Backing]
              ) -> Iterator[volumeops.Backing]:
    """All of many VMs; other greenthreads run in between."""
    for count, vm in enumerate(vms):
        if not count % _VMS_A_TURN:
            concurrency.cooperative_yield()
        yield vm


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    for start in range(0, len(items), size):
        yield items[start:start + size]
