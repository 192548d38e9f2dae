# SPDX-License-Identifier: Apache-2.0
"""Moves volumes between the pools of a vCenter.

Each move either succeeds or leaves the volume as it was. In both cases the
volume's host names the pool of the datastore that holds the disk.
"""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import units
from oslo_utils import uuidutils

from cinder import exception
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class Migrate:
    """Moves disks, and makes shadow VMs follow attached disks."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 location_info: Callable[[], str]) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._location_info = location_info

    def migrate(self, volume: Any, host: Any, sharing: bool = True
                ) -> tuple[bool, dict[str, Any] | None]:
        """Move a volume, or its promise of space, to another pool.

        The vCenter moves the disk (RelocateVM_Task); no data passes through
        this host. The volume's snapshots move too. The instance of an
        attached disk keeps running. The pool may belong to another backend of
        this vCenter.

        :returns: Cinder's pair: whether it was moved, and the update;
            (False, None) for a pool of another vCenter, and for a pool that
            is not a datastore: Cinder's generic migration handles these
        """
        if not self.reaches(volume, host):
            return False, None
        backing = self._finder.existing(volume)
        if backing:
            pool = volume_utils.extract_host(host['host'], 'pool')
            if not self.is_on(pool, volume, backing):
                self.move(volume, backing, pool,
                          volume.get('volume_type_id'),
                          elsewhere=self._selection.is_elsewhere(volume,
                                                                 host),
                          sharing=sharing)
            elif self._upstream.in_use(volume):
                # An earlier move may have been interrupted.
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
        """Whether a volume's disk is on a pool; None is any pool."""
        return self._selection.is_on(
            pool, lambda: self.datastore_of(volume, backing))

    def datastore_of(self, volume: Any, backing: Any) -> str:
        """The datastore (moref) of a volume's disk, attached or not."""
        if self._upstream.in_use(volume):
            return self._finder.attached_disk(volume)[1].datastore
        return str(self._upstream.volumeops.get_datastore(backing).value)

    def move(self, volume: Any, backing: Any, pool: str | None,
             type_id: str | None,
             provisioning: str | None = None, policy: str | None = None,
             elsewhere: bool = False, sharing: bool = True) -> None:
        """Move a volume's disk to a pool, attached or not.

        :param pool: None: any; a thin disk then goes only to where it is
            within the over-subscription ratio, as the scheduler ensures for
            the pool that it chooses
        :param type_id: of the volume type to obey
        :param provisioning: disk type there; None: unchanged
        :param policy: storage policy there; None: that of the volume's type
        :param elsewhere: the pool belongs to another backend
        """
        wanted = policy or self._upstream.storage_profile(volume)
        profile_id = self._selection.policy_id(policy)
        if not self._upstream.in_use(volume):
            with self._selection.selecting(pool, type_id, elsewhere=elsewhere,
                                           within_ratio=pool is None):
                (host, resource_pool, summary) = (
                    self._upstream.select_datastore_for(
                        volume['size'] * units.Gi, wanted))
            self.relocate(volume, backing, summary.datastore, host,
                          resource_pool, provisioning, profile_id, sharing)
            return
        instance, disk = self._finder.attached_disk(volume)
        home = self._home_of(instance)
        if pool is not None and self._selection.pinned(pool) == {home}:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached to an instance '
                f'whose own folder is on pool {pool}; a disk that is moved '
                'there is put into that folder and deleted with the instance. '
                'Detach the volume first, or choose another pool')
        with self._selection.selecting(
                pool, type_id, (home,) if home else (), elsewhere,
                within_ratio=pool is None):
            (_host, _resource_pool, summary) = (
                self._upstream.select_datastore_for(
                    volume['size'] * units.Gi, wanted,
                    self._upstream.volumeops.get_host(instance)))
        self._move_attached(volume, backing, instance, disk,
                            summary.datastore, provisioning, profile_id,
                            sharing)

    def destination(self, volume: Any, excluded: tuple[str, ...]) -> str:
        """Where a volume's disk would go, attached or not; moves nothing.

        It claims the space, which is given back at the end of a trial
        (:meth:`Reservations.trial`).

        :param excluded: datastores (morefs) that it must not go to
        :returns: the moref of a datastore
        :raises NoPlacement: with the reason for each datastore considered
        :raises BackingLost: the instance that it is attached to is not there
        """
        hosts: tuple[Any, ...] = ()
        if self._finder.find(volume) and self._upstream.in_use(volume):
            instance, _disk = self._finder.attached_disk(volume)
            hosts = (self._upstream.volumeops.get_host(instance),)
            excluded = (*excluded, *self._homes_of(instance))
        with self._selection.selecting(
                None, volume.get('volume_type_id'), excluded):
            (_host, _resource_pool, summary) = (
                self._upstream.select_datastore_for(
                    volume['size'] * units.Gi,
                    self._upstream.storage_profile(volume), *hosts))
        return str(summary.datastore.value)

    def move_attached(self, volume: Any, backing: Any, instance: Any,
                      disk: devices.Disk,
                      excluded: tuple[str, ...]) -> None:
        """Move an attached disk to another datastore, of its pool if possible.

        :param excluded: datastores (morefs) that must not be selected
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
                       profile_id: str | None,
                       sharing: bool = True) -> None:
        # The shadow VM names a disk during the move too: Nova reads it.
        try:
            self._upstream.volumeops.relocate(
                instance, datastore, only_disk=disk,
                provisioning=provisioning, profile_id=profile_id,
                sharing=sharing)
        finally:
            self.follow_instance(volume, backing)

    def _home_of(self, vm: Any) -> str | None:
        """The datastore (moref) of a VM's own files; None: unknown."""
        return next(iter(self._homes_of(vm)), None)

    def _homes_of(self, vm: Any) -> list[str]:
        """All datastores (morefs) with the name of that datastore."""
        folder = self._upstream.volumeops.home_folder(vm)
        return [datastore.moref for datastore, _path
                in self._selection.inventory().located(f'{folder}/')]

    def relocate(self, volume: Any, backing: Any, datastore: Any, host: Any,
                 resource_pool: Any, provisioning: str | None = None,
                 profile_id: str | None = None,
                 sharing: bool = True) -> None:
        """Move a detached volume's shadow VM, with all its snapshots."""
        ops = self._upstream.volumeops
        here = ops.get_dc(backing)
        ops.relocate(backing, datastore, host=host,
                     resource_pool=resource_pool, provisioning=provisioning,
                     profile_id=profile_id, sharing=sharing)
        there = self._upstream.datacenter_of(resource_pool)
        if here.value != there.value:
            ops.move_backing_to_folder(backing, self._upstream.volume_folder(
                there, volume['project_id']))

    # -- Following an attached disk -----------------------------------------

    def follow_instance(self, volume: Any, backing: Any) -> None:
        """Make the shadow VM name the disk that the instance has now.

        A shadow VM that names it already is not changed, so that this may be
        repeated.

        :raises VimException: by oslo.vmware
        """
        _instance, disk = self._finder.attached_disk(volume)
        try:
            self._repoint(volume, backing, disk)
        except exceptions.OutcomeUnknown as error:
            LOG.info('Volume %(volume)s: %(error)s; it is checked again.',
                     {'volume': volume['id'], 'error': error})
            self._repoint(volume, backing, disk)
        self.bring_home(volume, backing, disk)

    def _repoint(self, volume: Any, backing: Any, disk: devices.Disk) -> None:
        """Make the shadow VM name the base of the instance's disk.

        The deltas above the base belong to the instance's snapshots and are
        removed with them; Nova consolidates them when it detaches the disk.
        """
        own = devices.disks(self._upstream.volumeops.devices_of(backing))
        if [each.path in disk.chain for each in own] != [True]:
            self._upstream.volumeops.repoint_disk(
                backing, disk.base, disk.capacity_bytes,
                self._upstream.storage_profile_id(volume))

    def bring_home(self, volume: Any, backing: Any,
                   disk: devices.Disk) -> None:
        """Move a shadow VM's own files to its disk's datastore.

        A failure is logged: the volume works without this.
        """
        try:
            if disk.datastore not in self._homes_of(backing):
                # The disk is there already; only the VM's own files move.
                self._upstream.volumeops.relocate_home(
                    backing, references.Ref('Datastore', disk.datastore))
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning("Volume %(volume)s: the shadow VM's own files stay "
                        'where they were: %(error)s',
                        {'volume': volume['id'], 'error': error})

    # -- After Cinder's generic migration -----------------------------------

    def update_migrated(self, volume: Any, new_volume: Any,
                        original_volume_status: str) -> dict[str, Any]:
        """Give the copy the volume's identity (Cinder's hook).

        Cinder then deletes the source by the new volume's id. So the two
        shadow VMs exchange their identities if both are in this vCenter.

        A failure leaves them as they were. May be repeated, also after Cinder
        has exchanged what the records say of the disks. Cinder exchanges
        ``provider_id`` later, and does not exchange ``provider_location``.

        :raises BackingLost: the copy is gone
        """
        new, old = (self._finder.find(each) for each in (new_volume, volume))
        if new and self._upstream.volumeops.mark(
                new, shadow.MIGRATED_AS) == new_volume['id']:
            new = None  # it is the source: they have changed places
        if new:
            self._exchange(volume, new_volume, old, new,
                           original_volume_status != 'in-use')
        elif not old and (state.is_promised(volume)
                          or state.is_promised(new_volume)):
            return {'_name_id': None, 'provider_location': None,
                    **self._selection.promised_place(new_volume)}
        elif not old:
            raise exceptions.BackingLost('volume', new_volume['id'],
                                         new_volume.get('host'))
        return {'_name_id': None, 'provider_location': None}

    def _exchange(self, volume: Any, new_volume: Any, old: Any, new: Any,
                  detached: bool) -> None:
        ops = self._upstream.volumeops
        if detached:
            ops.reconfigure_disk(
                new, disk_uuid=volume['id'], adapter=copy_policy.adapter(
                    self._selection.specs(new_volume),
                    ops.adapter_of(old)
                    if old and ops.has_disk(old) else None))
        if not old:
            # Should the migration fail now, Cinder keeps both records.
            ops.set_identity(new, volume['name'],
                             self._upstream.extra_config(volume)
                             | {shadow.MIGRATED_TO: new_volume['id']})
            return
        try:
            self._change_names(volume, old, new_volume, new)
        except Exception:
            # Perhaps the call succeeded and only its reply was lost.
            with excutils.save_and_reraise_exception():
                self._change_names(volume, new, new_volume, old)

    def _change_names(self, volume: Any, was: Any, new_volume: Any,
                      becomes: Any) -> None:
        """Give one VM a volume's identity, and another one the new volume's.

        :param was: the VM that may have the volume's
        :param becomes: the VM that gets it
        """
        ops = self._upstream.volumeops
        ops.set_identity(
            was, replace.temporary_name(volume, 'migrated'), {
                upstream.BACKING_UUID_KEY: uuidutils.generate_uuid(),
                upstream.VOLUME_ID_KEY: ''})
        ops.set_identity(becomes, volume['name'],
                         self._upstream.extra_config(volume))
        ops.set_identity(was, new_volume['name'],
                         self._upstream.extra_config(new_volume))
