# SPDX-License-Identifier: Apache-2.0
"""Creates volumes with the content of another volume or of a snapshot."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import create as creation
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import instance_copy
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes import snapshots as volume_snapshots

LOG = logging.getLogger(__name__)


class Clone:
    """Copies disks, full or linked."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement, create: creation.Create,
                 snapshots: volume_snapshots.Snapshots,
                 attached: instance_copy.InstanceCopy,
                 admission: admissions.Admission,
                 limits: qos.DiskLimits) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._create = create
        self._snapshots = snapshots
        self._instance_copy = attached
        self._admission = admission
        self._limits = limits

    def from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, Any]:
        """Create a volume with a snapshot's content.

        :raises BackingLost: the snapshot, or the disk of its volume, is gone
        """
        if state.is_promised(snapshot):
            return self._create.promise(volume)
        if snapshot['provider_location']:
            self.copy(volume, self._snapshots.existing_template(snapshot))
            return {'provider_id': state.BACKED}
        backing = self._finder.existing(snapshot['volume'])
        if not backing:
            return self._create.promise(volume)
        point = self._snapshots.existing_in_tree(backing, snapshot)
        if self._may_link(volume, snapshot['volume'], snapshot['volume_size'],
                          backing):
            self._link(volume, backing, point,
                       self._folder_beside(backing, volume))
        else:
            self.copy(volume, backing, snapshot=point)
        return {'provider_id': state.BACKED}

    def from_volume(self, volume: Any, source: Any) -> dict[str, Any]:
        """Create a volume with the content of another.

        :raises BackingLost: the source's disk is gone
        """
        backing = self._finder.existing(source)
        if not backing:
            return self._create.promise(volume)
        if self._upstream.in_use(source):
            self._copy_attached(volume, source, backing)
        elif self._may_link(volume, source, source['size'], backing):
            self._link_to_current(volume, backing)
        else:
            self.copy(volume, backing)
        return {'provider_id': state.BACKED}

    def from_moment(self, volume: Any, source: Any,
                    moment: Any) -> dict[str, Any]:
        """Create a volume with the content of an attached one at a moment.

        :param moment: the instance's snapshot that holds that content
        """
        limited = self._admission.check_new(volume)
        self._create.settle(volume)
        self._copy_attached(volume, source, self._finder.existing(source),
                            moment)
        if limited:
            self._limits.apply_new(volume)
        return {'provider_id': state.BACKED}

    def _may_link(self, volume: Any, source: Any, size_gib: int,
                  backing: Any) -> bool:
        """Whether the type asks for a linked clone, and it is possible.

        A delta lies on its parent's datastore and has its parent's size.
        Where that does not fit, the volume becomes a full clone, which only
        takes longer.
        """
        if self._upstream.clone_type(volume) != upstream.LINKED_CLONE_TYPE:
            return False
        why = None
        if volume['size'] > size_gib:
            why = 'it is larger than its source'
        elif (self._selection.pool_of(volume)
                != self._selection.pool_of(source)):
            why = 'it is scheduled to another pool than its source'
        elif self._is_barred(volume, backing):
            why = ("its type's storage policy or reservation does not allow "
                   'the datastore of its source')
        if why:
            LOG.info('Volume %(volume)s becomes a full clone: %(why)s.',
                     {'volume': volume['id'], 'why': why})
        return why is None

    def _is_barred(self, volume: Any, source: Any) -> bool:
        return self._create.bars(volume, lambda: str(
            self._upstream.volumeops.get_datastore(source).value))

    def copy(self, volume: Any, source: Any, *, snapshot: Any = None) -> None:
        """Clone a shadow VM fully, and make the clone the volume's backing."""
        def make(target: instance_copy.Target) -> None:
            backing = self._upstream.volumeops.clone(
                target.name, source, folder=target.folder,
                datastore=target.datastore, host=target.host,
                resource_pool=target.resource_pool, snapshot=snapshot,
                provisioning=target.provisioning,
                profile_id=target.profile_id,
                extra_config=target.extra_config)
            self._replacement.finish(volume, backing, target.adapter)

        self._where_space_is(volume, make)

    def _copy_attached(self, volume: Any, source: Any, backing: Any,
                       moment: Any = None) -> None:
        """Copy an instance's disk, and make the copy the volume's disk."""
        instance, disk = self._finder.attached_disk(source)
        attached = instance_copy.AttachedDisk(
            instance, disk.uuid, self._upstream.volumeops.adapter_of(backing),
            moment)
        self._where_space_is(volume, lambda target: self._replacement.finish(
            volume, self._instance_copy.make(attached, target),
            target.adapter))

    def _where_space_is(
            self, volume: Any,
            make: Callable[[instance_copy.Target], None]) -> None:
        def on_a_datastore() -> None:
            (host, pool, folder,
             summary) = self._upstream.select_ds_for_volume(volume)
            make(instance_copy.Target(
                volume['name'], folder, summary.datastore,
                self._upstream.extra_config(volume), host, pool,
                self._adapter(volume), self._upstream.disk_type(volume),
                self._upstream.storage_profile_id(volume)))

        self._create.where_space_is(volume, on_a_datastore)

    def _adapter(self, volume: Any,
                 source: str | None = None) -> str | None:
        return copy_policy.adapter(self._selection.specs(volume), source)

    def _link_to_current(self, volume: Any, source: Any) -> None:
        """Make a linked clone of the present state of a VM."""
        ops = self._upstream.volumeops
        name = f'temp-snapshot-{volume["id"]}'
        adapter = ops.adapter_of(source)
        folder = self._folder_beside(source, volume)
        # An earlier attempt may have left a snapshot of that name.
        point = ops.create_snapshot(source, name, uuidutils.generate_uuid())
        try:
            self._link(volume, source, point, folder, adapter)
        finally:
            try:
                ops.remove_snapshot(point)
            except exceptions.VMWARE_ERRORS as error:
                LOG.warning('Snapshot %(name)s stays on the source of volume '
                            '%(volume)s: %(error)s',
                            {'name': name, 'volume': volume['id'],
                             'error': error})

    def _folder_beside(self, source: Any, volume: Any) -> Any:
        """The folder for a linked clone: in the datacenter of its source."""
        return self._upstream.volume_folder(
            self._upstream.volumeops.get_dc(source), volume['project_id'])

    def _link(self, volume: Any, source: Any, snapshot: Any, folder: Any,
              adapter: str | None = None) -> None:
        """Make a linked clone of a snapshot the volume's backing.

        :param adapter: that of the disk in the snapshot, if it is known
        """
        backing = self._upstream.volumeops.clone(
            volume['name'], source, folder=folder, datastore=None,
            snapshot=snapshot, linked=True,
            extra_config=self._upstream.extra_config(volume))
        wanted = self._adapter(volume)
        if (wanted not in (None, adapter)
                or self._upstream.storage_profile_id(volume)):
            self._replacement.finish(volume, backing, wanted, linked=True)
