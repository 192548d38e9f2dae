# SPDX-License-Identifier: Apache-2.0
"""Keeps volumes' disks out of the folders of instances.

To delete an instance, Nova unregisters its VM and deletes the VM's folder
with all its files. A live migration or Storage DRS moves an attached disk
into that folder. docs/decisions/10-attached-disks.md says where a disk may be
while it is attached, who may move it and when it returns to the shadow VM's
folder.
"""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import reservations as space
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import migrate as migration
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class DiskHome:
    """Moves disks out of instances' folders, and home after a detachment."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 migrate: migration.Migrate,
                 reservations: space.Reservations,
                 scan: Callable[[], disk_scan.DiskScan]) -> None:
        """:param scan: returns the reader of the vCenter's disks"""
        self._scan = scan
        self._reservations = reservations
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._migrate = migrate

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    # -- While attached -----------------------------------------------------

    def is_at_risk(self, instance: Any, disk: devices.Disk) -> bool:
        """Whether Nova deletes a volume's disk with an instance."""
        return disk.folder == self._ops.home_folder(instance)

    def bring_to_safety(self, volume: Any, backing: Any,
                        anew: bool = False) -> bool:
        """Move an attached disk out of its instance's folder, if it is there.

        The disk goes to another datastore. The vCenter makes a folder for it
        there, which Nova does not delete.

        :param anew: whether it was attached before it came home, so that it
            may be in the folder of its former instance
        :returns: whether the disk is safe now
        """
        instance, disk = self._finder.attached_disk(volume)
        if not (self.is_at_risk(instance, disk) or (
                anew and disk.folder != self._ops.home_folder(backing))):
            return True
        try:
            # Creations meanwhile see the space that the move takes.
            with self._reservations.operation(volume_id=volume['id']):
                self._migrate.move_attached(
                    volume, backing, instance, disk,
                    excluded=(disk.datastore,))
        except (exceptions.NoPlacement,
                vmware_exceptions.VMwareDriverException) as error:
            LOG.warning(
                'The disk of volume %(volume)s is at risk: %(path)s is in '
                'the folder of an instance that it is or was attached to, and '
                'is deleted with that instance. It cannot be moved to another '
                'datastore: %(error)s. Detach the volume before the instance '
                'is deleted.',
                {'volume': volume['id'], 'path': disk.path, 'error': error})
            return False
        LOG.info('The disk of volume %(volume)s was moved out of the folder '
                 'of an instance, %(folder)s.',
                 {'volume': volume['id'], 'folder': disk.folder})
        return True

    # -- Once detached ------------------------------------------------------

    def settle(self, volume: Any, backing: Any) -> bool:
        """Do what could not be done while a volume was attached.

        The disk moves to the shadow VM's folder, without deltas of the
        instance's snapshots, and gets the storage policy of the volume's
        type.

        :returns: False: a snapshot of another VM still needs the disk's base
        :raises VimException: by oslo.vmware; the call may be repeated
        """
        self.finish_move(volume, backing)
        disk, has_snapshots = self._ops.examine(backing)
        self._migrate.bring_home(volume, backing, disk)
        if self._has_foreign_delta(backing, disk, has_snapshots):
            self._ops.consolidate(backing)
            disk, has_snapshots = self._ops.examine(backing)
            if self._has_foreign_delta(backing, disk, has_snapshots):
                LOG.info('Volume %(volume)s stays on %(path)s until the '
                         'snapshot of its former instance is gone.',
                         {'volume': volume['id'], 'path': disk.path})
                return False
        if not (disk.parent or has_snapshots):
            self.move_into_folder(volume, backing, disk)
        elif disk.folder != self._ops.home_folder(backing):
            LOG.warning(
                'The disk of volume %(volume)s stays in %(folder)s: '
                'snapshots depend on it.',
                {'volume': volume['id'], 'folder': disk.folder})
        profile_id = self._upstream.storage_profile_id(volume)
        if profile_id:
            self._ops.set_policy(backing, profile_id)
        return True

    def _has_foreign_delta(self, backing: Any, disk: devices.Disk,
                           has_snapshots: bool) -> bool:
        """Whether a disk has more deltas than its VM has snapshots.

        That is so after Nova detached it from an instance with a snapshot.
        """
        if disk.deltas < 1:
            return False
        own = self._ops.snapshot_depth(backing) if has_snapshots else 0
        return disk.deltas > own

    def move_into_folder(self, volume: Any, backing: Any,
                         disk: devices.Disk) -> None:
        """Move a detached disk into its shadow VM's folder.

        The VM's extra configuration notes the target first, so that
        :meth:`finish_move` can finish a move that was interrupted.
        """
        home = self._ops.home_folder(backing)
        if disk.folder == home:
            return
        target = f'{home}/{volume["name"]}.vmdk'
        datacenter = self._ops.get_dc(
            references.Ref('Datastore', disk.datastore))
        self._ops.set_mark(backing, shadow.MOVING_TO, target)
        try:
            self._ops.move_vmdk_file(datacenter, disk.path, target)
        except vmware_exceptions.VMwareDriverException:
            self.finish_move(volume, backing)
            raise
        self._name_file(volume, backing, target, disk.capacity_bytes)
        LOG.info('The disk of volume %(volume)s was moved home from '
                 '%(path)s.', {'volume': volume['id'], 'path': disk.path})

    def finish_move(self, volume: Any, backing: Any) -> None:
        """Finish a move into the shadow VM's folder that was interrupted."""
        target = self._ops.mark(backing, shadow.MOVING_TO)
        own = devices.disks(self._ops.devices_of(backing)) if target else ()
        if not own:
            return
        disk = own[0]
        if disk.path != target and self._is_file(target) and (
                not self._is_file(disk.path)):
            self._name_file(volume, backing, target, disk.capacity_bytes)
        else:
            self._ops.set_mark(backing, shadow.MOVING_TO, '')

    def _is_file(self, path: str) -> bool:
        """Whether there is a disk at this path."""
        return any(self._scan().file(datastore, within) for datastore, within
                   in self._selection.inventory().located(path))

    def _name_file(self, volume: Any, backing: Any, path: str,
                   size_bytes: int) -> None:
        self._ops.repoint_disk(backing, path, size_bytes,
                               self._upstream.storage_profile_id(volume))
        self._ops.set_mark(backing, shadow.MOVING_TO, '')

    def after_detach(self, volume: Any, again: bool = False) -> bool:
        """Do what remains to do after a detachment; never fails.

        :param again: whether this call repeats one that did not do everything
        :returns: whether everything was done; False: call it again later
        """
        try:
            backing = self._finder.find(volume)
            if not backing:
                return True
            if self._is_attached(volume):
                return not again or self.bring_to_safety(volume, backing,
                                                         anew=True)
            return self.settle(volume, backing)
        except Exception as error:
            LOG.warning(
                'The disk of volume %(volume)s was not moved to the shadow '
                "VM's folder after its detachment; the move is repeated "
                'later: %(error)s',
                {'volume': volume['id'], 'error': error})
            return False

    def _is_attached(self, volume: Any) -> bool:
        """Whether Cinder says that it is attached, and an instance has it."""
        if not self._upstream.in_use(volume):
            return False
        try:
            self._finder.attached_disk(volume)
        except exceptions.BackingLost:
            return False
        return True
