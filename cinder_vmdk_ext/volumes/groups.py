# SPDX-License-Identifier: Apache-2.0
"""Implements Cinder's generic volume groups.

The vCenter has no object for a group: an operation on a group is done to each
of its volumes. A group type with
``consistent_group_snapshot_enabled='<is> True'`` also requires that the copies
of all volumes show the same moment. Detached volumes do not change meanwhile.
For volumes on one instance, a snapshot of that VM keeps their content as it
is. No snapshot does that for several instances, so such groups are refused
with this reason.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import Protocol

from oslo_log import log as logging

from cinder import exception
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import hooks as hook_reports
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import clone as cloning
from cinder_vmdk_ext.volumes import snapshots as volume_snapshots

LOG = logging.getLogger(__name__)

Update = dict[str, Any]


class VolumeHooks(Protocol):
    """The driver's hooks that a group applies to each of its volumes.

    Each call is a separate operation with its own locks.
    """

    def delete_volume(self, volume: Any) -> None:
        """Delete a volume."""

    def create_snapshot(self, snapshot: Any) -> Update:
        """Take a snapshot."""

    def delete_snapshot(self, snapshot: Any) -> None:
        """Delete a snapshot."""

    def create_volume_from_snapshot(self, volume: Any,
                                    snapshot: Any) -> Update:
        """Create a volume with a snapshot's content."""

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> Update:
        """Create a volume with the content of another."""


class Groups:
    """Operations on groups of volumes."""

    def __init__(self, cinder: upstream.Upstream, hooks: VolumeHooks,
                 finder: backing_finder.Finder,
                 snapshots: volume_snapshots.Snapshots,
                 clone: cloning.Clone) -> None:
        self._upstream = cinder
        self._hooks = hooks
        self._finder = finder
        self._snapshots = snapshots
        self._clone = clone

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    def delete(self, context: Any, group: Any, volumes: Any
               ) -> tuple[Update, list[Update]]:
        """Delete the volumes of a group.

        If one volume cannot be deleted, the others still are.

        :returns: the status of the group, and of each volume
        """
        self._release(context, group, _sources(context, volumes),
                      _moment(group))
        updates = [self._update(volume, self._hooks.delete_volume, 'deleted',
                                'error_deleting') for volume in volumes]
        return _of_group(updates, group.status, 'error_deleting'), updates

    # -- Group snapshots ----------------------------------------------------

    def create_snapshots(self, context: Any, group_snapshot: Any,
                         snapshots: Any) -> tuple[Update, list[Update]]:
        """Take a snapshot of each volume of a group.

        If the group type asks for consistency, all snapshots show the same
        moment, and if one fails, none is kept.

        :returns: the status of the group snapshot, and of each snapshot
        """
        if not volume_utils.is_group_a_cg_snapshot_type(group_snapshot):
            updates = [self._update(snapshot, self._hooks.create_snapshot,
                                    'available', 'error',
                                    self._forget_snapshot,
                                    refusals.GROUP_SNAPSHOT)
                       for snapshot in snapshots]
            return _of_group(updates, 'available', 'error'), updates
        try:
            with self._one_moment(context, [each.volume for each in snapshots],
                                  _moment(group_snapshot)
                                  ) as moment:
                made = [(snapshot, self._snapshot_at(snapshot, moment))
                        for snapshot in snapshots]
        except Exception as error:
            refusals.report('create_group_snapshot',
                            hook_reports.about(group_snapshot), error, None)
            for snapshot in snapshots:
                refusals.inform(hook_reports.about(snapshot), error,
                                refusals.GROUP_SNAPSHOT)
                self._forget_snapshot(snapshot)
            return {'status': 'error'}, [
                {'id': each.id, 'status': 'error'} for each in snapshots]
        return {'status': 'available'}, [
            update | {'id': snapshot.id, 'status': 'available'}
            for snapshot, update in made]

    def delete_snapshots(self, context: Any, group_snapshot: Any,
                         snapshots: Any) -> tuple[Update, list[Update]]:
        """Delete the snapshots of a group snapshot.

        :returns: the status of the group snapshot, and of each snapshot
        """
        self._release(context, group_snapshot,
                      [each.volume for each in snapshots],
                      _moment(group_snapshot))
        with locks.snapshots(*(each.id for each in snapshots)):
            updates = [self._update(snapshot, self._hooks.delete_snapshot,
                                    'deleted', 'error_deleting',
                                    message=refusals.DELETE_GROUP_SNAPSHOT)
                       for snapshot in snapshots]
        return _of_group(updates, group_snapshot.status,
                         'error_deleting'), updates

    def _snapshot_at(self, snapshot: Any, moment: Any) -> Update:
        volume = snapshot.volume
        if moment is None or not self._upstream.in_use(volume):
            return self._hooks.create_snapshot(snapshot)
        return {'provider_location': self._snapshots.create_template(
                    snapshot, volume, self._finder.existing(volume), True,
                    moment),
                'provider_id': state.BACKED}

    # -- Groups from other groups -------------------------------------------

    def create_from_source(self, context: Any, group: Any, volumes: Any,
                           snapshots: Any, source_vols: Any
                           ) -> tuple[Update, list[Update]]:
        """Create a group's volumes from another group or group snapshot.

        If one volume fails, none is kept and the error is raised: unless this
        raises, Cinder assumes that every volume was made.

        :raises VimException: by oslo.vmware
        :raises InvalidVolume: as the volumes' hooks, or there is no common
            moment
        """
        try:
            if snapshots:
                updates = self._from_snapshots(volumes, snapshots)
            else:
                updates = self._from_volumes(context, group, volumes,
                                             source_vols or ())
        except Exception as error:
            for volume in volumes:
                refusals.inform(hook_reports.about(volume), error,
                                refusals.GROUP_VOLUME)
                self._forget_volume(volume)
            raise
        return {'status': 'available'}, updates

    def _from_snapshots(self, volumes: Any, snapshots: Any) -> list[Update]:
        by_id = {each.id: each for each in snapshots}
        with locks.snapshots(*by_id):
            return [self._hooks.create_volume_from_snapshot(
                        volume, by_id[volume.snapshot_id])
                    | {'id': volume.id, 'status': 'available'}
                    for volume in volumes]

    def _from_volumes(self, context: Any, group: Any, volumes: Any,
                      sources: Any) -> list[Update]:
        by_id = {each.id: each for each in sources}
        if not volume_utils.is_group_a_cg_snapshot_type(group):
            return [self._hooks.create_cloned_volume(
                        volume, by_id[volume.source_volid])
                    | {'id': volume.id, 'status': 'available'}
                    for volume in volumes]
        with self._one_moment(context, sources,
                              _moment(group)) as moment:
            return [self._clone_at(volume, by_id[volume.source_volid], moment)
                    | {'id': volume.id, 'status': 'available'}
                    for volume in volumes]

    def _clone_at(self, volume: Any, source: Any, moment: Any) -> Update:
        if moment is None or not self._upstream.in_use(source):
            return self._hooks.create_cloned_volume(volume, source)
        return self._clone.from_moment(volume, source, moment)

    # -- One moment ---------------------------------------------------------

    @contextlib.contextmanager
    def _one_moment(self, context: Any, volumes: list[Any],
                    name: str) -> Iterator[Any]:
        """Keep the content of all volumes unchanged during the block.

        Yields the snapshot of the instance that has the attached volumes;
        None if none is attached. The content is crash-consistent: that of the
        disks if the power had failed at that moment.

        :raises InvalidVolume: the volumes are attached to several instances,
            or one was attached meanwhile
        """
        with locks.volumes(*(each.id for each in volumes),
                           *_beside(context, volumes)):
            with self._still(context, volumes, name) as moment:
                yield moment

    @contextlib.contextmanager
    def _still(self, context: Any, volumes: list[Any],
               name: str) -> Iterator[Any]:
        attached = [each for each in volumes if self._upstream.in_use(each)]
        instances = {}
        for volume in attached:
            vm, disk = self._finder.attached_disk(volume)
            instances[vm.value] = vm
            if disk.is_independent:
                raise exception.InvalidVolume(
                    reason=f'the disk of volume {volume.id} is '
                    f'{disk.mode} on its instance, and snapshots do not '
                    'include it; detach the volume first')
        if len(instances) > 1:
            raise exception.InvalidVolume(
                reason=f'its group is on {len(instances)} instances, and no '
                'snapshot can cover several instances at one moment; detach '
                'all volumes but those of one instance, or use a group type '
                'without consistent_group_snapshot_enabled')
        instance = next(iter(instances.values()), None)
        if instance is None:
            yield None
        else:
            with self._held_still(instance, name) as moment:
                yield moment
        for volume in volumes:
            now = objects.Volume.get_by_id(context, volume.id)
            if self._upstream.in_use(now) and volume not in attached:
                raise exception.InvalidVolume(
                    reason=f'volume {volume.id} was attached meanwhile')

    @contextlib.contextmanager
    def _held_still(self, instance: Any, name: str) -> Iterator[Any]:
        """Take a snapshot of an instance, and remove it after the block.

        The shadow VMs still name the disks meanwhile, because Nova reads
        their names there.
        """
        try:
            yield self._ops.create_snapshot(instance, name, None)
        finally:
            self._let_move(instance, name)

    def _let_move(self, instance: Any, name: str) -> None:
        """Remove the snapshot of :meth:`_held_still`; never fails."""
        try:
            try:
                self._ops.delete_snapshot(instance, name)
            except exceptions.OutcomeUnknown:
                if self._ops.get_snapshot(instance, name):
                    self._ops.delete_snapshot(instance, name)
        except exceptions.VMWARE_ERRORS as error:
            LOG.error('Snapshot %(name)s stays on instance %(vm)s until the '
                      'group or group snapshot that it was taken for is '
                      'deleted: %(error)s', {
                          'name': name, 'error': error,
                          'vm': instance.value})

    def _release(self, context: Any, record: Any, volumes: list[Any],
                 name: str) -> None:
        """Remove an instance's snapshot that an interrupted operation left.

        :param record: the group, or group snapshot, that it was taken for
        """
        if not volume_utils.is_group_a_cg_snapshot_type(record):
            return
        attached = [each for each in volumes if self._upstream.in_use(each)]
        with locks.volumes(*(each.id for each in attached)):
            instances = {vm.value: vm
                         for vm in map(self._instance_of, attached) if vm}
            for instance in instances.values():
                if self._ops.get_snapshot(instance, name):
                    self._ops.delete_snapshot(instance, name)

    def _instance_of(self, volume: Any) -> Any:
        """The VM that has a volume; None: it is gone, with its snapshots."""
        try:
            return self._finder.attached_disk(volume)[0]
        except exceptions.BackingLost as error:
            LOG.info('Volume %(volume)s: %(error)s',
                     {'volume': volume.id, 'error': error})
            return None

    # -- One volume or snapshot ---------------------------------------------

    def _update(self, record: Any, act: Callable[[Any], Update | None],
                done: str, failed: str,
                undo: Callable[[Any], None] = lambda record: None,
                message: refusals.Message | None = None) -> Update:
        """Act on one volume or snapshot, and return its update.

        On failure the error is logged, and the update has status ``failed``.

        :param act: a hook, which logs why it fails
        :param message: for the user, if it fails
        """
        try:
            update = act(record) or {}
        except Exception as error:
            if message is not None:
                refusals.inform(hook_reports.about(record), error, message)
            undo(record)
            return {'id': record.id, 'status': failed}
        return update | {'id': record.id, 'status': done}

    def _forget_snapshot(self, snapshot: Any) -> None:
        """Delete what a snapshot that failed may have left."""
        def delete() -> None:
            template = self._ops.get_backing_by_uuid(snapshot.id)
            if template:
                self._ops.delete_backing(template)
                return
            backing = self._ops.get_backing(snapshot.volume.name,
                                            snapshot.volume.id)
            if backing:
                self._ops.delete_snapshot(backing, snapshot.name)
        _or_warn('Snapshot', snapshot.id, delete)

    def _forget_volume(self, volume: Any) -> None:
        """Delete what a volume that failed may have left."""
        def delete() -> None:
            backing = self._finder.find(volume)
            if backing:
                self._ops.delete_backing(backing)
        _or_warn('Volume', volume.id, delete)


def _beside(context: Any, volumes: Iterable[Any]) -> set[str]:
    """Ids of all volumes on the instances that these are attached to."""
    instances = {attachment.instance_uuid for volume in volumes
                 for attachment in volume.volume_attachment or ()}
    return {attachment.volume_id for uuid in instances if uuid
            for attachment in objects.VolumeAttachmentList
            .get_all_by_instance_uuid(context, uuid)}


def _sources(context: Any, volumes: Any) -> list[Any]:
    """The volumes that these were made from, if they still exist."""
    found = []
    for volume in volumes:
        if volume.source_volid:
            try:
                found.append(objects.Volume.get_by_id(context,
                                                      volume.source_volid))
            except exception.VolumeNotFound:
                LOG.debug('The source of volume %s is gone.', volume.id)
    return found


def _moment(record: Any) -> str:
    """Name of the instance's snapshot for a group or group snapshot."""
    kind = ('group-snapshot' if isinstance(record, objects.GroupSnapshot)
            else 'group')
    return f'{kind}-{record.id}'


def _or_warn(kind: str, identifier: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        LOG.warning('%(kind)s %(id)s was not made, and its VM or disk may '
                    'remain in the vCenter: %(error)s',
                    {'kind': kind, 'id': identifier, 'error': error})


def _of_group(updates: Iterable[Update], done: str, failed: str) -> Update:
    return {'status': failed if any(each['status'] == failed
                                    for each in updates) else done}
