# SPDX-License-Identifier: Apache-2.0
"""How volumes come into being, each on the pool in its host."""

from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import snapshots

LOG = logging.getLogger(__name__)


class Creation(snapshots.Snapshots):
    """Create volumes: empty, from a snapshot, a volume or an image."""

    def create_volume(self, volume: Any) -> dict[str, str]:
        """Create a volume on the datastore of the pool in its host.

        With ``vmware_lazy_create`` its space is promised there and taken at
        first use.

        :raises InvalidExtraSpec: the type asks for what does not exist
        :raises NoPlacement: with the reason for each datastore considered
        """
        self._check_specs(lambda: self._volume_specs(volume))
        super().create_volume(volume)
        lazy = self.configuration.vmware_lazy_create
        return {'provider_id':
                state.PROMISED if lazy else state.BACKED}

    def _create_backing(self, volume: Any, host: Any = None,
                        create_params: Any = None) -> Any:
        temporary = (create_params or {}).get(vmdk.CREATE_PARAM_TEMP_BACKING)
        try:
            backing = super()._create_backing(volume, host, create_params)
        except exceptions.VMWARE_ERRORS:
            if not temporary:
                self._discard_unfinished(volume)
            raise
        if state.is_promised(volume) and not temporary:
            state.remember(volume, state.BACKED)
        return backing

    def _discard_unfinished(self, volume: Any) -> None:
        """Delete a VM that was made and could not be made the volume's."""
        try:
            backing = self.volumeops.get_backing_by_uuid(volume['id'])
            # Of a whole one the disk has the volume's id, too.
            if backing and (self.volumeops.disk_of(backing).uuid.lower()
                            != volume['id']):
                self._discard(backing)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('Something of volume %(volume)s may be left until it '
                        'is deleted: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def create_volume_from_snapshot(self, volume: Any,
                                    snapshot: Any) -> dict[str, str]:
        """Create a volume with a snapshot's content, in one copy (Cinder).

        :raises BackingLost: the snapshot or its volume is gone
        """
        self._check_specs(lambda: self._volume_specs(volume))
        if state.is_promised(snapshot):
            return {'provider_id': state.PROMISED}
        if snapshot['provider_location']:
            self._copy(volume, self._existing_template(snapshot))
            return {'provider_id': state.BACKED}
        backing = self._existing_backing(snapshot['volume'])
        if not backing:
            return {'provider_id': state.PROMISED}
        point = self._existing_snapshot(backing, snapshot)
        if self._may_link(volume, snapshot['volume'], snapshot['volume_size']):
            self._link(volume, backing, point,
                       self._folder_beside(backing, volume))
        else:
            self._copy(volume, backing, snapshot=point)
        return {'provider_id': state.BACKED}

    def create_cloned_volume(self, volume: Any,
                             src_vref: Any) -> dict[str, str]:
        """Create a volume with another's content, in one copy (Cinder).

        :raises BackingLost: the source's disk is gone
        """
        self._check_specs(lambda: self._volume_specs(volume))
        backing = self._existing_backing(src_vref)
        if not backing:
            return {'provider_id': state.PROMISED}
        if self._in_use(src_vref):
            instance, disk = self._attached_disk(src_vref)
            self._copy(volume, instance, only_disk=disk.uuid)
        elif self._may_link(volume, src_vref, src_vref['size']):
            self._link_to_current(volume, backing)
        else:
            self._copy(volume, backing)
        return {'provider_id': state.BACKED}

    def _may_link(self, volume: Any, source: Any, size_gib: int) -> bool:
        """Whether a linked clone is asked for and possible.

        A delta lies where its parent lies, as large as its parent; else the
        volume becomes a full clone, which is slower and nothing less.
        """
        if self._get_clone_type(volume) != upstream.LINKED_CLONE_TYPE:
            return False
        why = None
        if volume['size'] > size_gib:
            why = 'it is to be larger than its source'
        elif self._pool_of(volume) != self._pool_of(source):
            why = 'it is scheduled to another pool than its source'
        if why:
            LOG.info('Volume %(volume)s becomes a full clone: %(why)s.',
                     {'volume': volume['id'], 'why': why})
        return why is None

    def _copy(self, volume: Any, source: Any, *, snapshot: Any = None,
              only_disk: str | None = None) -> None:
        """A full clone of a VM as the volume's backing."""
        (host, pool, folder, summary) = self._select_ds_for_volume(volume)
        backing = self.volumeops.clone(
            volume['name'], source, folder=folder,
            datastore=summary.datastore, host=host, resource_pool=pool,
            snapshot=snapshot, only_disk=only_disk,
            provisioning=self._get_disk_type(volume),
            profile_id=self._profile_id(volume),
            extra_config=self._get_extra_config(volume)
            | {snapshots.SNAPSHOT_ID: ''})
        self._finish(volume, backing)

    def _link_to_current(self, volume: Any, source: Any) -> None:
        """A linked clone of a VM as it is now."""
        name = f'temp-snapshot-{volume["id"]}'
        adapter = self.volumeops.adapter_of(source)
        folder = self._folder_beside(source, volume)
        # An earlier attempt may have left one of that name.
        point = self.volumeops.create_snapshot(source, name,
                                               uuidutils.generate_uuid())
        try:
            self._link(volume, source, point, folder, adapter)
        finally:
            try:
                self.volumeops.remove_snapshot(point)
            except exceptions.VMWARE_ERRORS as error:
                LOG.warning('Snapshot %(name)s stays on the source of volume '
                            '%(volume)s: %(error)s',
                            {'name': name, 'volume': volume['id'],
                             'error': error})

    def _folder_beside(self, source: Any, volume: Any) -> Any:
        """The folder of a volume whose delta lies where its source does."""
        return self._get_volume_group_folder(self.volumeops.get_dc(source),
                                             volume['project_id'])

    def _link(self, volume: Any, source: Any, snapshot: Any, folder: Any,
              adapter: str | None = None) -> None:
        """A delta of a snapshot's disk as the volume's backing.

        :param adapter: the disk's in the snapshot, if it is known
        """
        backing = self.volumeops.clone(
            volume['name'], source, folder=folder, datastore=None,
            snapshot=snapshot, linked=True,
            extra_config=self._get_extra_config(volume))
        if adapter != self._get_adapter_type(volume):
            self._finish(volume, backing, linked=True)

    def clone_image(self, context: Any, volume: Any, image_location: Any,
                    image_meta: Any, image_service: Any) -> Any:
        """Create a volume straight from an image (Cinder hook).

        Left to Cinder where its image-volume cache is on, so that a cached
        image is found and a new one is kept.
        """
        if self.configuration.safe_get('image_volume_cache_enabled'):
            return None, False
        return super().clone_image(context, volume, image_location,
                                   image_meta, image_service)

    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool = False) -> None:
        """Write an image to a volume on the pool in its host (Cinder)."""
        self._check_specs(lambda: self._volume_specs(volume))
        with self.selecting(self._pool_of(volume),
                            lambda: self._volume_specs(volume)):
            super().copy_image_to_volume(context, volume, image_service,
                                         image_id, disable_sparse)

    def _get_temp_image_folder(self, image_size_in_bytes: int) -> Any:
        try:
            # On the volume's own datastore no second copy is needed.
            return super()._get_temp_image_folder(image_size_in_bytes)
        except exceptions.NoPlacement:
            # vSAN and vVol hold no bare images.
            with self.selecting(None, dict):
                return super()._get_temp_image_folder(image_size_in_bytes)
