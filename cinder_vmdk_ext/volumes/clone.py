# SPDX-License-Identifier: Apache-2.0
"""Creates volumes with the content of another volume or of a snapshot."""

from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import create as creation
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes import snapshots as volume_snapshots

LOG = logging.getLogger(__name__)


class Clone:
    """Copies in one CloneVM_Task, full or linked."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement, create: creation.Create,
                 snapshots: volume_snapshots.Snapshots,
                 admission: admissions.Admission) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._create = create
        self._snapshots = snapshots
        self._admission = admission

    def from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, Any]:
        """Create a volume with a snapshot's content.

        :raises BackingLost: the snapshot or its volume is gone
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
        if self._may_link(volume, snapshot['volume'], snapshot['volume_size']):
            self._link(volume, backing, point,
                       self._folder_beside(backing, volume))
        else:
            self.copy(volume, backing, snapshot=point)
        return {'provider_id': state.BACKED}

    def from_volume(self, volume: Any, source: Any) -> dict[str, Any]:
        """Create a volume with another's content.

        :raises BackingLost: the source's disk is gone
        """
        backing = self._finder.existing(source)
        if not backing:
            return self._create.promise(volume)
        if self._upstream.in_use(source):
            instance, disk = self._finder.attached_disk(source)
            self.copy(volume, instance, only_disk=disk.uuid)
        elif self._may_link(volume, source, source['size']):
            self._link_to_current(volume, backing)
        else:
            self.copy(volume, backing)
        return {'provider_id': state.BACKED}

    def from_moment(self, volume: Any, source: Any,
                    moment: Any) -> dict[str, Any]:
        """Create a volume with an attached one's content at a moment.

        :param moment: a snapshot of the instance
        """
        self._admission.check_new(volume)
        instance, disk = self._finder.attached_disk(source)
        self.copy(volume, instance, snapshot=moment, only_disk=disk.uuid)
        return {'provider_id': state.BACKED}

    def _may_link(self, volume: Any, source: Any, size_gib: int) -> bool:
        """Whether a linked clone is asked for and possible.

        A delta lies where its parent lies, as large as its parent; else the
        volume becomes a full clone, which is slower and nothing less.
        """
        if self._upstream.clone_type(volume) != upstream.LINKED_CLONE_TYPE:
            return False
        why = None
        if volume['size'] > size_gib:
            why = 'it is to be larger than its source'
        elif (self._selection.pool_of(volume)
                != self._selection.pool_of(source)):
            why = 'it is scheduled to another pool than its source'
        if why:
            LOG.info('Volume %(volume)s becomes a full clone: %(why)s.',
                     {'volume': volume['id'], 'why': why})
        return why is None

    def copy(self, volume: Any, source: Any, *, snapshot: Any = None,
             only_disk: str | None = None) -> None:
        """Make a full clone of a VM the volume's backing."""
        self._create.where_space_is(
            volume, lambda: self._copy(volume, source, snapshot, only_disk))

    def _copy(self, volume: Any, source: Any, snapshot: Any,
              only_disk: str | None) -> None:
        (host, pool, folder, summary) = self._upstream.select_ds_for_volume(
            volume)
        backing = self._upstream.volumeops.clone(
            volume['name'], source, folder=folder,
            datastore=summary.datastore, host=host, resource_pool=pool,
            snapshot=snapshot, only_disk=only_disk,
            provisioning=self._upstream.disk_type(volume),
            profile_id=self._upstream.storage_profile_id(volume),
            extra_config=self._upstream.extra_config(volume)
            | {shadow.SNAPSHOT_ID: ''})
        self._replacement.finish(volume, backing)

    def _link_to_current(self, volume: Any, source: Any) -> None:
        """Make a linked clone of a VM as it is now."""
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
        """The folder of a volume whose delta lies where its source does."""
        return self._upstream.volume_folder(
            self._upstream.volumeops.get_dc(source), volume['project_id'])

    def _link(self, volume: Any, source: Any, snapshot: Any, folder: Any,
              adapter: str | None = None) -> None:
        """Make a delta of a snapshot's disk the volume's backing.

        :param adapter: the disk's in the snapshot, if it is known
        """
        backing = self._upstream.volumeops.clone(
            volume['name'], source, folder=folder, datastore=None,
            snapshot=snapshot, linked=True,
            extra_config=self._upstream.extra_config(volume))
        if adapter != self._upstream.adapter_type(volume):
            self._replacement.finish(volume, backing, linked=True)
