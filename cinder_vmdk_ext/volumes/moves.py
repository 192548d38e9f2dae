# SPDX-License-Identifier: Apache-2.0
"""Operations that may move a volume's disk, or change its form.

Each either succeeds, or leaves the volume as it was; and wherever the disk
ends up, the volume's host names the datastore that holds it.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util

from cinder import exception
from cinder.volume import volume_utils
from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class _Form(NamedTuple):
    """What a volume type says about the form of a disk."""

    provisioning: str
    adapter: str
    policy: str | None


class Moves(finder.Exchange):
    """Extend, retype, migrate, and the move that an attachment may need."""

    # -- Attach -------------------------------------------------------------

    def _relocate_backing(self, volume: Any, backing: Any,
                          host: Any) -> None:
        """Move a disk that the instance's host cannot see, and no other.

        A disk that merely does not comply with its policy stays: a copy of
        hundreds of gibibytes is no part of an attachment.
        """
        if self._is_seen_by(host, backing):
            return
        relocate = super()._relocate_backing
        with locks.volumes(volume['id']):
            if self._is_seen_by(host, backing):
                return  # another attachment has moved it meanwhile
            self._near(volume, lambda: relocate(volume, backing, host))
            self._follow_disk(volume, backing)

    def _near(self, volume: Any, select: Callable[[], Any],
              excluded: tuple[str, ...] = ()) -> Any:
        """Select a datastore of the volume's pool, or else any."""
        for pool in (self._pool_of(volume), None):
            try:
                with self.selecting(pool, lambda: self._volume_specs(volume),
                                    excluded):
                    return select()
            except exceptions.NoPlacement:
                if pool is None:
                    raise

    def _is_seen_by(self, host: Any, backing: Any) -> bool:
        if self._reader is None:
            return False
        moref = vim_util.get_moref_value(self.volumeops.get_datastore(backing))
        datastore = self._inventory().datastores.get(moref)
        return (datastore is not None and datastore.accessible
                and vim_util.get_moref_value(host) in datastore.usable_hosts)

    # -- Extend -------------------------------------------------------------

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Extend a volume, attached or not (Cinder hook).

        A detached one is moved when its datastore is too full.

        :param new_size: in GiB
        :raises BackingLost: the volume's disk is gone
        :raises InvalidVolume: snapshots depend on the disk
        """
        backing = self._existing_backing(volume)
        if not backing:
            return
        if self._in_use(volume):
            self._extend_attached(volume, backing, new_size)
            return
        disk, has_snapshots = self.volumeops.examine(backing)
        if has_snapshots:
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} has COW snapshots, which '
                'vSphere lets nobody extend a disk below; delete them, or '
                'use vmware_snapshot_format = template')
        if disk.parent:
            self._extend_linked(volume, backing, disk, new_size)
            return
        try:
            self._extend_disk(disk, new_size)
        except vmware_exceptions.NoDiskSpaceException:
            LOG.info('Volume %s does not fit where it is when it is '
                     'extended; it is moved.', volume['id'])
            self._extend_elsewhere(volume, backing, disk, new_size)

    def _extend_disk(self, disk: devices.Disk, new_size: int) -> None:
        self.volumeops.extend_virtual_disk(
            new_size, disk.path,
            self.volumeops.get_dc(self._datastore_ref(disk.datastore)),
            disk.provisioning == 'eagerZeroedThick')

    def _extend_attached(self, volume: Any, backing: Any,
                         new_size: int) -> None:
        instance, disk = self._attached_disk(volume)
        if self.volumeops.snapshots(instance):
            raise exception.InvalidVolume(
                reason=f'the instance that volume {volume["id"]} is attached '
                'to has snapshots, which vSphere lets nobody extend a disk '
                'below; delete them, or detach the volume first')
        size_bytes = new_size * units.Gi
        self.volumeops.resize_attached(instance, disk, size_bytes)
        # The shadow VM keeps a record of the size, and nova reads it.
        self.volumeops.point_to(backing, disk.path, size_bytes)

    def _extend_linked(self, volume: Any, backing: Any, disk: devices.Disk,
                       new_size: int) -> None:
        """Make a linked clone a full one, which can be larger."""
        (host, pool, folder, summary) = self._select_ds_for_volume(volume)
        new = self.volumeops.clone(
            _temporary_name(volume, 'extend'), backing, folder=folder,
            datastore=summary.datastore, host=host, resource_pool=pool,
            provisioning=self._get_disk_type(volume),
            profile_id=self._profile_id(volume))
        try:
            self._grow(new, volume, new_size)
        except Exception:
            self._discard(new)
            raise
        self._replace(volume, backing, new)

    def _extend_elsewhere(self, volume: Any, backing: Any, disk: devices.Disk,
                          new_size: int) -> None:
        wanted = {
            self.ds_sel.SIZE_BYTES: new_size * units.Gi,
            self.ds_sel.PROFILE_NAME: self._get_storage_profile(volume)}
        (host, pool, summary) = self._near(
            volume, lambda: self._select_datastore(wanted),
            excluded=(disk.datastore,))
        self._relocate(volume, backing, summary.datastore, host, pool)
        self._follow_disk(volume, backing)
        self._extend_backing(backing, new_size, disk.provisioning)

    # -- Migrate ------------------------------------------------------------

    def migrate_volume(self, context: Any, volume: Any, host: Any
                       ) -> tuple[bool, dict[str, Any] | None]:
        """Move a volume to another pool of the same vCenter (Cinder hook).

        Nothing passes through this host. Snapshots move along; an attached
        disk moves under its running instance.

        :returns: (False, None) for a pool of another vCenter, which is left
            to Cinder's own way
        """
        theirs = (host.get('capabilities') or {}).get('location_info')
        if theirs != self._location_info():
            return False, None
        backing = self._existing_backing(volume)
        if backing:
            pool = volume_utils.extract_host(host['host'], 'pool')
            if not self._is_on(pool, volume, backing):
                self._move(volume, backing, pool,
                           lambda: self._volume_specs(volume))
            elif self._in_use(volume):
                # An earlier move may have been broken off halfway.
                self._follow_instance(volume, backing)
        return True, None

    def _move(self, volume: Any, backing: Any, pool: str | None, specs: Any,
              provisioning: str | None = None,
              policy: str | None = None) -> None:
        """Bring a volume's disk to a pool, in whatever state it is.

        :param provisioning: disk type there; None: as it is
        """
        instance = disk = instance_host = None
        if self._in_use(volume):
            instance, disk = self._attached_disk(volume)
            instance_host = self.volumeops.get_host(instance)
        with self.selecting(pool, specs):
            (host, resource_pool, summary) = self._select_datastore({
                self.ds_sel.SIZE_BYTES: volume['size'] * units.Gi,
                self.ds_sel.PROFILE_NAME: policy
                or self._get_storage_profile(volume)}, instance_host)
        profile_id = self._policy_id(policy)
        if disk is None:
            self._relocate(volume, backing, summary.datastore, host,
                           resource_pool, provisioning, profile_id)
            return
        # A disk that two VMs name may pass for shared, and stay or be copied.
        self.volumeops.let_go(backing)
        try:
            self.volumeops.relocate(
                instance, summary.datastore, only_disk=disk,
                provisioning=provisioning, profile_id=profile_id)
        finally:
            self._follow_instance(volume, backing)

    def _relocate(self, volume: Any, backing: Any, datastore: Any, host: Any,
                  resource_pool: Any, provisioning: str | None = None,
                  profile_id: str | None = None) -> None:
        """Move a detached volume's shadow VM, with all its snapshots."""
        here = self.volumeops.get_dc(backing)
        self.volumeops.relocate(backing, datastore, host=host,
                                resource_pool=resource_pool,
                                provisioning=provisioning,
                                profile_id=profile_id)
        there = self._get_dc(resource_pool)
        if (vim_util.get_moref_value(here)
                != vim_util.get_moref_value(there)):
            self.volumeops.move_backing_to_folder(
                backing, self._get_volume_group_folder(
                    there, volume['project_id']))

    def _follow_instance(self, volume: Any, backing: Any) -> None:
        """Bring the shadow VM to where the instance has the disk now.

        What is so already is left alone; so it may be repeated.
        """
        _instance, disk = self._attached_disk(volume)
        try:
            self._point_shadow(backing, disk)
        except exceptions.OutcomeUnknown as error:
            LOG.info('Volume %(volume)s: %(error)s; it is looked at again.',
                     {'volume': volume['id'], 'error': error})
            self._point_shadow(backing, disk)
        self._bring_home(volume, backing, disk)

    def _point_shadow(self, backing: Any, disk: devices.Disk) -> None:
        own = devices.disks(self.volumeops.devices_of(backing))
        if [each.path for each in own] != [disk.path]:
            self.volumeops.point_to(backing, disk.path, disk.capacity_bytes)

    def _bring_home(self, volume: Any, backing: Any,
                    disk: devices.Disk) -> None:
        """Move a shadow VM's own files to where its disk is; never fails."""
        try:
            if not self.volumeops.is_beside(backing, disk):
                # The disk is there already: what moves is the VM's folder.
                self.volumeops.relocate_home(
                    backing, self._datastore_ref(disk.datastore))
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning("Volume %(volume)s: the shadow VM's own files stay "
                        'where they were: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def update_migrated_volume(self, ctxt: Any, volume: Any, new_volume: Any,
                               original_volume_status: str
                               ) -> dict[str, Any]:
        """Make the copy the volume, after Cinder's own migration (hook).

        Cinder deletes what it then takes for the source by the new volume's
        id; so, in one vCenter, the two shadow VMs change identities.
        """
        new = self._existing_backing(new_volume)
        old = self.volumeops.get_backing(volume['name'], volume['id'])
        if new:
            if original_volume_status != 'in-use':
                self.volumeops.shape(new, disk_uuid=volume['id'])
            if old:
                self.volumeops.identify(
                    old, _temporary_name(volume, 'migrated'), {
                        upstream.BACKING_UUID_KEY: uuidutils.generate_uuid(),
                        vmdk.EXTRA_CONFIG_VOLUME_ID_KEY: ''})
            self.volumeops.identify(new, volume['name'],
                                    self._get_extra_config(volume))
            if old:
                self.volumeops.identify(old, new_volume['name'],
                                        self._get_extra_config(new_volume))
        return {'_name_id': None, 'provider_location': None,
                'provider_id': new_volume['provider_id']}

    # -- Retype -------------------------------------------------------------

    def retype(self, ctxt: Any, volume: Any, new_type: Any, diff: Any,
               host: Any) -> bool:
        """Change a volume's type, on the pool that the scheduler chose.

        In place where the place is good: then only what differs is changed.
        What needs a copy is built beside the volume, which stays whole until
        the copy takes its place.

        :param host: its ``host['host']`` names the pool
        :returns: False when it cannot be done so, and Cinder may migrate
        :raises InvalidExtraSpec: the new type asks for what does not exist
        :raises BackingLost: the volume's disk is gone
        """
        self._check_specs(lambda: self._specs(new_type['id']))
        backing = self._existing_backing(volume)
        if not backing:
            return True
        before = self._form(volume['volume_type_id'])
        after = self._form(new_type['id'])
        pool = None
        if self._settings.datastore_pools and host:
            pool = volume_utils.extract_host(host['host'], 'pool')
        moving = not self._is_on(pool, volume, backing)
        obstacle = self._retype_obstacle(volume, backing, before, after,
                                         moving)
        if obstacle:
            LOG.warning('Volume %(volume)s cannot be retyped as it is: '
                        '%(why)s.', {'volume': volume['id'], 'why': obstacle})
            return False
        if moving:
            self._retype_moving(volume, backing, pool, before, after,
                                new_type)
        elif before.provisioning != after.provisioning:
            self._retype_copying(volume, backing, pool, after, new_type)
        else:
            self._retype_in_place(volume, backing, before, after)
        return True

    def _form(self, type_id: str | None) -> _Form:
        return _Form(self._get_extra_spec_disk_type(type_id),
                     self._get_extra_spec_adapter_type(type_id),
                     self._get_extra_spec_storage_profile(type_id))

    def _retype_obstacle(self, volume: Any, backing: Any, before: _Form,
                         after: _Form, moving: bool) -> str | None:
        converting = before.provisioning != after.provisioning
        if self._in_use(volume):
            if before.adapter != after.adapter:
                return 'its adapter cannot change while it is attached'
            if converting and not moving:
                return ('its disk type cannot change in place while it is '
                        'attached')
        elif converting and not moving and self.volumeops.snapshots(backing):
            return ('its disk type cannot change in place while it has COW '
                    'snapshots')
        return None

    def _retype_moving(self, volume: Any, backing: Any, pool: str | None,
                       before: _Form, after: _Form, new_type: Any) -> None:
        # The adapter first: that is quickly undone, a move is not.
        changed = before.adapter != after.adapter
        if changed:
            self.volumeops.shape(backing, adapter=after.adapter)
        try:
            self._move(volume, backing, pool,
                       lambda: self._specs(new_type['id']),
                       provisioning=after.provisioning
                       if before.provisioning != after.provisioning else None,
                       policy=after.policy)
        except Exception:
            if changed:
                self.volumeops.shape(backing, adapter=before.adapter)
            raise
        if before.policy and not after.policy:
            self.volumeops.shape(backing, profile_id='')

    def _retype_copying(self, volume: Any, backing: Any, pool: str | None,
                        after: _Form, new_type: Any) -> None:
        with self.selecting(pool, lambda: self._specs(new_type['id'])):
            (host, resource_pool, summary) = self._select_datastore({
                self.ds_sel.SIZE_BYTES: volume['size'] * units.Gi,
                self.ds_sel.PROFILE_NAME: after.policy})
        folder = self._get_volume_group_folder(
            self._get_dc(resource_pool), volume['project_id'])
        new = self.volumeops.clone(
            _temporary_name(volume, 'retype'), backing, folder=folder,
            datastore=summary.datastore, host=host,
            resource_pool=resource_pool, provisioning=after.provisioning,
            profile_id=self._policy_id(after.policy),
            extra_config={vmdk.EXTRA_CONFIG_VOLUME_ID_KEY: ''})
        self._replace(volume, backing, new, after.adapter)

    def _retype_in_place(self, volume: Any, backing: Any, before: _Form,
                         after: _Form) -> None:
        profile_id = None
        if before.policy != after.policy:
            profile_id = self._policy_id(after.policy) or ''
        if self._in_use(volume) and profile_id is not None:
            instance, disk = self._attached_disk(volume)
            self.volumeops.reconfigure(instance, deviceChange=[
                devices.change('edit', disk.device, profile_id=profile_id)])
        self.volumeops.shape(
            backing, profile_id=profile_id, adapter=after.adapter
            if before.adapter != after.adapter else None)

    def _policy_id(self, name: str | None) -> str | None:
        if not name:
            return None
        return self.ds_sel.get_profile_id(name).uniqueId

    def _is_on(self, pool: str | None, volume: Any, backing: Any) -> bool:
        """Whether a volume's disk lies on a pool; None is anywhere."""
        pinned = self._pinned(pool) if pool is not None else None
        if pinned is None:
            return True
        if self._in_use(volume):
            moref = self._attached_disk(volume)[1].datastore
        else:
            moref = vim_util.get_moref_value(
                self.volumeops.get_datastore(backing))
        return moref in pinned


def _temporary_name(volume: Any, purpose: str) -> str:
    """A name by which a leftover tells whose it is."""
    return f'{volume["name"]}-{purpose}-{uuidutils.generate_uuid()}'
