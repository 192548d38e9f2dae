# SPDX-License-Identifier: Apache-2.0
"""Changes the type of volumes, in place if possible."""

from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import units
from oslo_vmware import exceptions as vmware_exceptions

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import compliance
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import migrate as migration
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes import retype_messages
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class _Form(NamedTuple):
    """The properties of a disk that a volume type sets."""

    provisioning: str
    adapter: str | None  # None: not set, so the disk keeps its own
    policy: str | None


class _Target(NamedTuple):
    """Where a volume is to be."""

    chosen: str | None  # the pool that the scheduler chose
    pool: str | None  # the one that it may go to; None: any
    needs: datastore_selection.Needs | None  # of the new type
    elsewhere: bool  # the pool is another backend's


class Retype:
    """Changes a disk's form, and moves it to a pool, for a new type."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 migrate: migration.Migrate,
                 admission: admissions.Admission,
                 places: compliance.Compliance,
                 host_record: records.HostRecord,
                 limits: qos.DiskLimits,
                 messages: retype_messages.RetypeMessages) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._migrate = migrate
        self._admission = admission
        self._places = places
        self._host_record = host_record
        self._limits = limits
        self._messages = messages

    def retype(self, volume: Any, new_type: Any, diff: Any, host: Any
               ) -> bool | tuple[bool, dict[str, Any]]:
        """Change a volume's type and pool (Cinder's hook).

        If the pool stays the same, the disk is changed in place, and only
        where the types differ. If that needs a copy, the volume stays complete
        until the copy replaces its disk. If the pool that the scheduler chose
        does not meet the new type's storage policy or reservation, which the
        scheduler does not know, the disk stays where it is or goes to another
        pool of the backend.

        :param diff: how the types differ (volume_types.volume_types_diff)
        :param host: its ``host['host']`` names the pool
        :returns: False: this driver cannot do it, and Cinder may migrate;
            otherwise True, or True and the update of the record
        :raises NoneComplies, NoneReserves: no datastore of the backend meets
            the needs of the new type
        :raises VolumeRefused: the new type has encryption
        :raises InvalidExtraSpec: an extra spec of the new type names something
            that does not exist
        :raises InvalidQosSpec: a QoS spec of it does
        :raises BackingLost: the volume's disk is gone
        """
        try:
            done = self._retype(volume, new_type, diff, host)
        except refusals.ERRORS:
            raise  # they have a message at once
        except Exception as error:
            self._messages.expect(volume, error)
            raise
        if not done:
            self._messages.expect(volume, exceptions.VolumeRefused(
                'it cannot be retyped by this driver'))
        return done

    def _retype(self, volume: Any, new_type: Any, diff: Any, host: Any
                ) -> bool | tuple[bool, dict[str, Any]]:
        self._admission.check_type(new_type['id'])
        elsewhere = bool(host) and self._selection.is_elsewhere(volume, host)
        if elsewhere and not self._migrate.reaches(volume, host):
            return False
        target = self._target(volume, new_type, host, elsewhere)
        backing = self._finder.existing(volume)
        # First, as it is quickly undone.
        limited = backing and self._limits.change(
            volume, backing, volume['volume_type_id'], new_type['id'])
        done: bool | tuple[bool, dict[str, Any]] = False
        try:
            done = (self._change if backing else self._promise)(
                volume, backing, new_type, host, target)
        finally:
            if limited and not done:
                self._limits.change(volume, backing, new_type['id'],
                                    volume['volume_type_id'])
        return done

    def _target(self, volume: Any, new_type: Any, host: Any,
                elsewhere: bool) -> _Target:
        """:raises NoneComplies, NoneReserves: as :meth:`_allowed`"""
        chosen = self._pool_in(host)
        needs = self._selection.needs(new_type['id'])
        pool = (self._allowed(volume, chosen, needs)
                if needs and not elsewhere else chosen)
        return _Target(chosen, pool, needs, elsewhere)

    def _promise(self, volume: Any, _backing: None, new_type: Any, host: Any,
                 target: _Target) -> bool | tuple[bool, dict[str, Any]]:
        """Promise the space of a volume without a disk where it may be."""
        if not host or not state.is_promised(volume):
            return True
        if target.pool == target.chosen:
            return True, self._selection.promised_place(host)
        assert target.needs is not None
        values = records.on_pool(
            volume, target.pool or self._places.pool_for(
                volume, target.needs, new_type['id']))
        self._warn(volume, target, values['host'])
        return True, values | self._selection.promised_place(values)

    def _pool_in(self, host: Any) -> str | None:
        if not self._selection.settings.datastore_pools or not host:
            return None
        pool: str | None = volume_utils.extract_host(host['host'], 'pool')
        return pool

    @staticmethod
    def _warn(volume: Any, target: _Target, host: str) -> None:
        LOG.warning('Volume %(volume)s: pool %(chosen)s was requested, which '
                    '%(why)s; the volume is on %(host)s.',
                    {'volume': volume['id'], 'chosen': target.chosen,
                     'why': datastore_selection.missed(target.needs),
                     'host': host})

    def _change(self, volume: Any, backing: Any, new_type: Any,
                _host: Any, target: _Target
                ) -> bool | tuple[bool, dict[str, Any]]:
        # The disk's own adapter counts, not the one that its type names.
        before = self._form(volume['volume_type_id'])._replace(
            adapter=self._upstream.volumeops.adapter_of(backing))
        after = self._form(new_type['id'])
        if after.adapter is None:
            after = after._replace(adapter=before.adapter)
        chosen, pool, needs, elsewhere = target
        moving = pool != chosen and pool is None or (
            not self._migrate.is_on(pool, volume, backing)) or (
                needs is not None and not elsewhere and self._places.bars(
                    needs, pool,
                    lambda: self._migrate.datastore_of(volume, backing)))
        obstacle = self._obstacle(volume, backing, before, after, moving)
        if obstacle:
            LOG.warning('Volume %(volume)s cannot be retyped by this driver: '
                        '%(why)s.', {'volume': volume['id'], 'why': obstacle})
            return False
        if moving:
            self._retype_moving(volume, backing, pool, before, after,
                                new_type, elsewhere)
        elif before.provisioning != after.provisioning:
            self._retype_copying(volume, backing, pool, after, new_type,
                                 elsewhere)
        else:
            self._retype_in_place(volume, backing, before, after)
        if pool == chosen:
            return True
        with self._host_record.unfailing(volume):
            self._host_record.follow_disk(volume, backing)
        self._warn(volume, target, volume['host'])
        return True, {field: volume[field]
                      for field in ('host', 'cluster_name') if volume[field]}

    def _allowed(self, volume: Any, chosen: str | None,
                 needs: datastore_selection.Needs) -> str | None:
        """The pool for a disk: the chosen one, its present one, or None: any.

        :raises NoneComplies, NoneReserves: no datastore of the backend meets
            the needs of the new type
        """
        if not self._places.forbids(needs, chosen):
            return chosen
        own = self._selection.pool_of(volume)
        if own == chosen or self._places.forbids(needs, own):
            return None
        return own

    def _form(self, type_id: str | None) -> _Form:
        return _Form(self._upstream.disk_type_of(type_id),
                     copy_policy.adapter(self._selection.specs_of(type_id),
                                         None),
                     self._upstream.storage_profile_of(type_id))

    def _obstacle(self, volume: Any, backing: Any, before: _Form,
                  after: _Form, moving: bool) -> str | None:
        converting = before.provisioning != after.provisioning
        if self._upstream.in_use(volume):
            if before.adapter != after.adapter:
                return 'its adapter cannot change while it is attached'
            if converting and not moving:
                return ('its disk type cannot change in place while it is '
                        'attached')
        elif (converting and not moving
                and self._upstream.volumeops.snapshots(backing)):
            return ('its disk type cannot change in place while it has COW '
                    'snapshots')
        return None

    def _retype_moving(self, volume: Any, backing: Any, pool: str | None,
                       before: _Form, after: _Form, new_type: Any,
                       elsewhere: bool) -> None:
        shape = self._upstream.volumeops.reconfigure_disk
        # The adapter first: a move takes long to undo, this does not.
        changed = before.adapter != after.adapter
        if changed:
            shape(backing, adapter=after.adapter)
        try:
            self._migrate.move(
                volume, backing, pool,
                new_type['id'],
                provisioning=after.provisioning
                if before.provisioning != after.provisioning else None,
                policy=after.policy, elsewhere=elsewhere)
        except Exception:
            if changed:
                shape(backing, adapter=before.adapter)
            raise
        if before.policy and not after.policy:
            self._set_form(volume, backing, profile_id='')

    def _retype_copying(self, volume: Any, backing: Any, pool: str | None,
                        after: _Form, new_type: Any,
                        elsewhere: bool) -> None:
        with self._selection.selecting(
                pool, new_type['id'], elsewhere=elsewhere):
            (host, resource_pool, summary) = (
                self._upstream.select_datastore_for(
                    volume['size'] * units.Gi, after.policy))
        folder = self._upstream.volume_folder(
            self._upstream.datacenter_of(resource_pool), volume['project_id'])
        new = self._upstream.volumeops.clone(
            replace.temporary_name(volume, 'retype'), backing, folder=folder,
            datastore=summary.datastore, host=host,
            resource_pool=resource_pool, provisioning=after.provisioning,
            profile_id=self._selection.policy_id(after.policy),
            extra_config={upstream.VOLUME_ID_KEY: ''})
        self._replacement.replace(volume, backing, new, after.adapter)

    def _retype_in_place(self, volume: Any, backing: Any, before: _Form,
                         after: _Form) -> None:
        profile_id = None
        if before.policy != after.policy:
            profile_id = self._selection.policy_id(after.policy) or ''
        self._set_form(
            volume, backing, profile_id,
            after.adapter if before.adapter != after.adapter else None)

    def _set_form(self, volume: Any, backing: Any, profile_id: str | None,
                  adapter: str | None = None) -> None:
        """Change a disk in place, on the instance before the shadow VM."""
        ops = self._upstream.volumeops
        if self._upstream.in_use(volume) and profile_id is not None:
            instance, disk = self._finder.attached_disk(volume)
            ops.reconfigure(instance, deviceChange=[
                devices.change('edit', disk.device, profile_id=profile_id)])
        try:
            ops.reconfigure_disk(backing, profile_id=profile_id,
                                 adapter=adapter)
        except vmware_exceptions.FileLockedException as error:
            # The instance has locked the disk, and has the policy already; the
            # shadow VM gets it at the detachment (disk_home.py).
            if not self._upstream.in_use(volume):
                raise
            LOG.info('Volume %(volume)s: the shadow VM gets the storage '
                     'policy when the volume is detached: %(error)s',
                     {'volume': volume['id'], 'error': error})
