# SPDX-License-Identifier: Apache-2.0
"""Moves volumes between the pools of a vCenter.

Each move either succeeds or leaves the volume as it was. In both cases the
volume's host names the datastore that holds the disk.
"""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from cinder import exception
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class Migrate:
    """Moves disks, and has shadow VMs follow attached ones."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 location_info: Callable[[], str]) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._location_info = location_info

    def migrate(self, volume: Any, host: Any
                ) -> tuple[bool, dict[str, Any] | None]:
        """Move a volume, or its promise of space, to another pool.

        No data passes through this host. Snapshots move along; an attached
        disk moves under its running instance.

        A pool of another backend of this vCenter is as good as one of ours.

        :returns: (False, None) for a pool of another vCenter, and for one
            that is no datastore; they are left to Cinder's generic migration
        """
        if not self.reaches(volume, host):
            return False, None
        backing = self._finder.existing(volume)
        if backing:
            pool = volume_utils.extract_host(host['host'], 'pool')
            if not self.is_on(pool, volume, backing):
                self.move(volume, backing, pool,
                          lambda: self._selection.specs(volume),
                          elsewhere=self._selection.is_elsewhere(volume,
                                                                 host))
            elif self._upstream.in_use(volume):
                # An earlier move may have been broken off halfway.
                self.follow_instance(volume, backing)
        if state.is_promised(volume):
            return True, self._selection.promised_place(host)
        return True, None

    def reaches(self, volume: Any, host: Any) -> bool:
        """Whether a volume can be moved to a pool within this vCenter.

        :param host: the pool, and the capabilities that its backend reports
        """
        theirs = (host.get('capabilities') or {}).get('location_info')
        return theirs == self._location_info() and (
            not self._selection.is_elsewhere(volume, host)
            or self._selection.has_datastores(
                volume_utils.extract_host(host['host'], 'pool')))

    def is_on(self, pool: str | None, volume: Any, backing: Any) -> bool:
        """Whether a volume's disk lies on a pool; None is any pool."""
        def datastore() -> str:
            if self._upstream.in_use(volume):
                return self._finder.attached_disk(volume)[1].datastore
            return self._upstream.volumeops.get_datastore(backing).value
        return self._selection.is_on(pool, datastore)

    def move(self, volume: Any, backing: Any, pool: str | None,
             specs: Callable[[], dict[str, str]],
             provisioning: str | None = None, policy: str | None = None,
             elsewhere: bool = False) -> None:
        """Move a volume's disk to a pool, attached or not.

        :param provisioning: disk type there; None: as it is
        :param policy: storage policy there; None: that of the volume's type
        :param elsewhere: the pool is another backend's
        """
        wanted = policy or self._upstream.storage_profile(volume)
        profile_id = self._selection.policy_id(policy)
        if not self._upstream.in_use(volume):
            with self._selection.selecting(pool, specs,
                                           elsewhere=elsewhere):
                (host, resource_pool, summary) = (
                    self._upstream.select_datastore_for(
                        volume['size'] * units.Gi, wanted))
            self.relocate(volume, backing, summary.datastore, host,
                          resource_pool, provisioning, profile_id)
            return
        instance, disk = self._finder.attached_disk(volume)
        home = self._home_of(instance)
        if pool is not None and self._selection.pinned(pool) == {home}:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached to an instance '
                f'whose own folder is on pool {pool}; a disk that is moved '
                'there lies in that folder and is deleted with the instance. '
                'Detach the volume first, or choose another pool')
        with self._selection.selecting(
                pool, specs, (home,) if home else (), elsewhere):
            (_host, _resource_pool, summary) = (
                self._upstream.select_datastore_for(
                    volume['size'] * units.Gi, wanted,
                    self._upstream.volumeops.get_host(instance)))
        self._move_attached(volume, backing, instance, disk,
                            summary.datastore, provisioning, profile_id)

    def move_attached(self, volume: Any, backing: Any, instance: Any,
                      disk: devices.Disk,
                      excluded: tuple[str, ...]) -> None:
        """Move an attached disk to another datastore, near its pool.

        :param excluded: datastores (morefs) that it must not go to
        """
        host = self._upstream.volumeops.get_host(instance)
        policy = self._upstream.storage_profile(volume)
        (_host, _resource_pool, summary) = self._selection.near(
            volume, lambda: self._upstream.select_datastore_for(
                volume['size'] * units.Gi, policy, host), excluded)
        self._move_attached(volume, backing, instance, disk,
                            summary.datastore, None,
                            self._selection.policy_id(policy))

    def _move_attached(self, volume: Any, backing: Any, instance: Any,
                       disk: devices.Disk, datastore: Any,
                       provisioning: str | None,
                       profile_id: str | None) -> None:
        # Meanwhile the shadow VM goes on naming a disk: Nova reads it.
        try:
            self._upstream.volumeops.relocate(
                instance, datastore, only_disk=disk,
                provisioning=provisioning, profile_id=profile_id)
        finally:
            self.follow_instance(volume, backing)

    def _home_of(self, vm: Any) -> str | None:
        """The datastore (moref) of a VM's own files, if it is known."""
        return next(iter(self._homes_of(vm)), None)

    def _homes_of(self, vm: Any) -> list[str]:
        """The same, where several datastores have the name."""
        folder = self._upstream.volumeops.home_folder(vm)
        return [datastore.moref for datastore, _path
                in self._selection.inventory().located(f'{folder}/')]

    def relocate(self, volume: Any, backing: Any, datastore: Any, host: Any,
                 resource_pool: Any, provisioning: str | None = None,
                 profile_id: str | None = None) -> None:
        """Move a detached volume's shadow VM, with all its snapshots."""
        ops = self._upstream.volumeops
        here = ops.get_dc(backing)
        ops.relocate(backing, datastore, host=host,
                     resource_pool=resource_pool, provisioning=provisioning,
                     profile_id=profile_id)
        there = self._upstream.datacenter_of(resource_pool)
        if here.value != there.value:
            ops.move_backing_to_folder(backing, self._upstream.volume_folder(
                there, volume['project_id']))

    # -- Following an attached disk -----------------------------------------

    def follow_instance(self, volume: Any, backing: Any) -> None:
        """Have the shadow VM name the disk that the instance has now.

        What is so already is left alone; so it may be repeated.
        """
        _instance, disk = self._finder.attached_disk(volume)
        try:
            self._repoint(volume, backing, disk)
        except exceptions.OutcomeUnknown as error:
            LOG.info('Volume %(volume)s: %(error)s; it is looked at again.',
                     {'volume': volume['id'], 'error': error})
            self._repoint(volume, backing, disk)
        self.bring_home(volume, backing, disk)

    def _repoint(self, volume: Any, backing: Any, disk: devices.Disk) -> None:
        """Name the base of the instance's disk.

        Deltas above it are those of the instance's snapshots, which go when
        the snapshots go; Nova consolidates them where it detaches the disk.
        """
        own = devices.disks(self._upstream.volumeops.devices_of(backing))
        if [each.path in disk.chain for each in own] != [True]:
            self._upstream.volumeops.repoint_disk(
                backing, disk.base, disk.capacity_bytes,
                self._upstream.storage_profile_id(volume))

    def bring_home(self, volume: Any, backing: Any,
                   disk: devices.Disk) -> None:
        """Move a shadow VM's own files to where its disk is.

        A failure is logged: the volume is whole without it.
        """
        try:
            if disk.datastore not in self._homes_of(backing):
                # The disk is there already: what moves is the VM's folder.
                self._upstream.volumeops.relocate_home(
                    backing, references.Ref('Datastore', disk.datastore))
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning("Volume %(volume)s: the shadow VM's own files stay "
                        'where they were: %(error)s',
                        {'volume': volume['id'], 'error': error})

    # -- After Cinder's generic migration -----------------------------------

    def update_migrated(self, volume: Any, new_volume: Any,
                        original_volume_status: str) -> dict[str, Any]:
        """Make the copy the volume.

        Cinder then deletes, by the new volume's id, what it takes for the
        source; so, in one vCenter, the two shadow VMs change identities.
        """
        ops = self._upstream.volumeops
        new = self._finder.existing(new_volume)
        old = self._finder.find(volume)
        if new:
            if original_volume_status != 'in-use':
                ops.reconfigure_disk(
                    new, disk_uuid=volume['id'], adapter=copy_policy.adapter(
                        self._selection.specs(new_volume),
                        ops.adapter_of(old)
                        if old and ops.has_disk(old) else None))
            if old:
                ops.set_identity(
                    old, replace.temporary_name(volume, 'migrated'), {
                        upstream.BACKING_UUID_KEY: uuidutils.generate_uuid(),
                        upstream.VOLUME_ID_KEY: ''})
            ops.set_identity(new, volume['name'],
                             self._upstream.extra_config(volume))
            if old:
                ops.set_identity(old, new_volume['name'],
                                 self._upstream.extra_config(new_volume))
        return {'_name_id': None, 'provider_location': None,
                'provider_id': new_volume['provider_id']}
