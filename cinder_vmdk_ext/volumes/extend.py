# SPDX-License-Identifier: Apache-2.0
"""Extends volumes, attached or not."""

from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging
from oslo_utils import units
from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import migrate as migration
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class Extend:
    """Extends a disk in place, and moves it where it does not fit."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 migrate: migration.Migrate,
                 host_record: records.HostRecord,
                 admission: admissions.Admission) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._migrate = migrate
        self._host_record = host_record
        self._admission = admission

    def extend(self, volume: Any, size_gib: int) -> None:
        """Extend a volume to a size in GiB.

        A detached volume is moved if its datastore has too little space.

        :raises BackingLost: the volume's disk is gone
        :raises InvalidVolume: snapshots depend on the disk, or the disk of an
            attached volume depends on another one
        :raises VolumeRefused: the size exceeds vSphere's limit for a disk
        """
        self._admission.check_size(size_gib)
        backing = self._finder.existing(volume)
        if not backing:
            return
        if self._upstream.in_use(volume):
            self._extend_attached(volume, backing, size_gib)
            return
        disk, has_snapshots = self._upstream.volumeops.examine(backing)
        if has_snapshots:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} has COW snapshots, and vSphere '
                'extends no disk that has snapshots; delete them, or use '
                'vmware_snapshot_format = template')
        if disk.parent:
            # A linked clone cannot grow; only a full copy can be larger.
            self._replacement.remake(volume, backing, size_gib, 'extend')
            return
        try:
            self._extend_in_place(disk, size_gib)
        except vmware_exceptions.NoDiskSpaceException:
            LOG.info('The datastore of volume %s has no space to extend it; '
                     'the volume is moved.', volume['id'])
            self._extend_elsewhere(volume, backing, disk, size_gib)

    def _extend_in_place(self, disk: devices.Disk, size_gib: int) -> None:
        ops = self._upstream.volumeops
        with self._growing(disk, size_gib):
            ops.extend_virtual_disk(
                size_gib, disk.path,
                ops.get_dc(references.Ref('Datastore', disk.datastore)),
                disk.provisioning == 'eagerZeroedThick')

    def _growing(self, disk: devices.Disk,
                 size_gib: int) -> AbstractContextManager[None]:
        growing: AbstractContextManager[None] = self._upstream.ds_sel.growing(
            disk.datastore, size_gib * units.Gi - disk.capacity_bytes,
            disk.provisioning == 'thin')
        return growing

    def _extend_attached(self, volume: Any, backing: Any,
                         size_gib: int) -> None:
        ops = self._upstream.volumeops
        instance, disk = self._finder.attached_disk(volume)
        if ops.snapshots(instance):
            raise exception.InvalidVolume(
                reason=f'the instance that volume {volume["id"]} is attached '
                'to has snapshots, and vSphere extends no disk that has '
                'snapshots; delete them, or detach the volume first')
        if disk.parent:
            # A COW snapshot, a linked clone, or the delta of a snapshot of
            # another instance from which the disk was detached meanwhile.
            raise exception.InvalidVolume(
                reason=f'the disk {disk.path} of volume {volume["id"]} '
                f'depends on {disk.parent}, and vSphere does not extend such '
                'a disk while it is attached; detach the volume first (and '
                'delete its COW snapshots, if it has any)')
        size_bytes = size_gib * units.Gi
        with self._growing(disk, size_gib):
            ops.resize_attached(instance, disk, size_bytes)
        # The shadow VM also names the disk's size, and Nova reads it there.
        ops.repoint_disk(backing, disk.path, size_bytes,
                         self._upstream.storage_profile_id(volume))

    def _extend_elsewhere(self, volume: Any, backing: Any, disk: devices.Disk,
                          size_gib: int) -> None:
        policy = self._upstream.storage_profile(volume)
        (host, pool, summary) = self._selection.near(
            volume, lambda: self._upstream.select_datastore_for(
                size_gib * units.Gi, policy), excluded=(disk.datastore,))
        self._migrate.relocate(volume, backing, summary.datastore, host, pool)
        with self._host_record.unfailing(volume):
            self._host_record.follow_disk(volume, backing)
        self._upstream.extend_backing(backing, size_gib, disk.provisioning)
