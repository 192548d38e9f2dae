# SPDX-License-Identifier: Apache-2.0
"""Images to volumes and volumes to images, without false success."""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from cinder import exception
from cinder.image import image_utils
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import operation
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import attach as attachment
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import image_stream
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import transfers

LOG = logging.getLogger(__name__)

# An image service that sends nothing for so long is treated as failed.
STALL_SECONDS = 120.0


class Images:
    """Transfers of upstream's image operations, checked."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 attach: attachment.Attach) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._attach = attach

    @property
    def _transfers(self) -> transfers.Transfers:
        options = self._upstream.configuration
        return transfers.Transfers(
            self._upstream.session, options.vmware_host_ip,
            options.vmware_host_port, ca_file=options.vmware_ca_file,
            insecure=options.vmware_insecure)

    # -- Image to volume ----------------------------------------------------

    def clone_image(self, context: Any, volume: Any, image_location: Any,
                    image_meta: Any, image_service: Any) -> Any:
        """Create a volume straight from an image.

        Left to Cinder where its image-volume cache is on, so that a cached
        image is found and a new one is kept.
        """
        if self._upstream.configuration.safe_get('image_volume_cache_enabled'):
            return None, False
        return self._upstream.original.clone_image(
            context, volume, image_location, image_meta, image_service)

    def copy_to_volume(self, context: Any, volume: Any, image_service: Any,
                       image_id: str, disable_sparse: bool) -> None:
        """Write an image to a volume that it fits into, on its pool.

        A volume that has a disk keeps it until the image's stands (reimage).

        :raises TransferFailed, UnusableImage: nothing of it is left
        """
        old = (self._finder.existing(volume)
               if state.is_backed(volume) else None)
        target = _Aside(volume) if old else volume
        limit_bytes = volume['size'] * units.Gi
        self._check_size(context, image_service, image_id, limit_bytes)
        self._selection.check_specs(lambda: self._selection.specs(target))
        with self._selection.selecting(
                self._selection.pool_of(target),
                lambda: self._selection.specs(target)), operation.scope(
                    image_limit_bytes=limit_bytes):
            self._upstream.original.copy_image_to_volume(
                context, target, image_service, image_id, disable_sparse)
        if old:
            self._replacement.replace(volume, old, self._finder.find(target))
        state.remember(volume, state.BACKED)

    @staticmethod
    def _check_size(context: Any, image_service: Any, image_id: str,
                    limit_bytes: int) -> None:
        """Refuse a flat image that does not fit, before a disk is created."""
        image = image_service.show(context, image_id)
        kind = (image['properties'] or {}).get('vmware_disktype',
                                               upstream.PREALLOCATED)
        if kind == upstream.PREALLOCATED and image['disk_format'] == 'vmdk':
            image_stream.check_flat(image['size'], image_id, limit_bytes)

    def temp_image_folder(self, image_size_in_bytes: int) -> Any:
        """Where a flat image's bytes go first (upstream's seam)."""
        original = self._upstream.original
        try:
            # On the volume's own datastore no second copy is needed.
            return original.temp_image_folder(image_size_in_bytes)
        except exceptions.NoPlacement:
            # vSAN and vVol hold no bare images.
            with self._selection.selecting(None, dict):
                return original.temp_image_folder(image_size_in_bytes)

    def _data_of(self, context: Any, image_service: Any, image_id: str
                 ) -> Iterator[bytes]:
        """An image's data; an error if it stops, or comes too slowly."""
        limits = image_stream.Limits(
            self._upstream.configuration.vmware_image_transfer_timeout_secs,
            STALL_SECONDS)
        path = image_utils.TemporaryImages.for_image_service(
            image_service).get(context, image_id)
        if path:
            LOG.debug('Image %s has been downloaded already.', image_id)
            with open(path, 'rb') as file:
                yield from image_stream.in_time(
                    image_stream.chunks_of(file), limits)
        else:
            yield from image_stream.in_time(
                image_service.download(context, image_id), limits)

    def copy_image(self, context: Any, dc_ref: Any, image_service: Any,
                   image_id: str, image_size_in_bytes: int, ds_name: str,
                   upload_file_path: str) -> None:
        """Upload a flat or sparse image to a datastore (upstream's seam).

        :raises TransferFailed, UnusableImage: nothing of it is left there
        """
        chunks: Iterable[bytes] = image_stream.exactly(
            self._data_of(context, image_service, image_id),
            image_size_in_bytes)
        if upload_file_path.endswith('-flat.vmdk'):
            chunks = image_stream.flat(chunks, image_id, image_size_in_bytes)
        else:
            chunks = image_stream.sparse(
                chunks, image_id, 'monolithicSparse',
                operation.current().image_limit_bytes)
        try:
            self._transfers.upload(dc_ref, ds_name, upload_file_path, chunks,
                                   image_size_in_bytes)
        except Exception:
            self._delete_file(f'[{ds_name}] {upload_file_path}', dc_ref)
            raise

    def _delete_file(self, path: str, dc_ref: Any) -> None:
        try:
            self._upstream.volumeops.delete_file(path, dc_ref)
        except exceptions.VMWARE_ERRORS as error:
            # Often there is none: a server drops an incomplete upload.
            LOG.debug('%(path)s was not deleted: %(error)s',
                      {'path': path, 'error': error})

    def fetch_stream_optimized(
            self, context: Any, volume: Any, image_service: Any,
            image_id: str, image_size: int, adapter_type: str) -> None:
        """Import a streamOptimized image as a volume's disk (upstream's seam).

        :raises TransferFailed, UnusableImage: nothing of it is left
        """
        backing = self._import_image(context, volume, image_service, image_id,
                                     image_size, adapter_type)
        try:
            self._upstream.volumeops.update_backing_disk_uuid(backing,
                                                              volume['id'])
        except Exception:
            self._replacement.discard(backing)
            raise

    def _import_image(self, context: Any, volume: Any, image_service: Any,
                      image_id: str, image_size: int,
                      adapter_type: str) -> Any:
        cinder = self._upstream
        _host, pool, folder, summary = cinder.select_ds_for_volume(volume)
        spec = cinder.session.vim.client.factory.create(
            'ns0:VirtualMachineImportSpec')
        # The import takes the disk's capacity from its data.
        spec.configSpec = cinder.volumeops.get_create_spec(
            volume['name'], 0, cinder.disk_type(volume), summary.name,
            profile_id=cinder.storage_profile_id(volume),
            adapter_type=adapter_type,
            extra_config=cinder.extra_config(volume))
        chunks: Iterable[bytes] = self._data_of(context, image_service,
                                                image_id)
        container = image_service.show(context, image_id).get(
            'container_format')
        if container == 'ova':
            image_size, chunks = image_stream.disk_in_ova(chunks, image_id)
        chunks = image_stream.sparse(
            image_stream.exactly(chunks, image_size), image_id,
            upstream.STREAM_OPTIMIZED, operation.current().image_limit_bytes)
        return self._transfers.import_disk(pool, folder, spec, chunks,
                                           image_size)

    # -- Volume to image ----------------------------------------------------

    def copy_to_image(self, context: Any, volume: Any, image_service: Any,
                      image_meta: Any) -> None:
        """Make an image of a volume that is not attached.

        :raises BackingLost: the volume's disk is gone
        :raises TransferFailed: the image is not whole
        """
        self._attach.with_backing(volume, lambda: self._upload(
            context, volume, image_service, image_meta))

    def _upload(self, context: Any, volume: Any, image_service: Any,
                image_meta: Any) -> None:
        if self._upstream.in_use(volume):
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached; detach it before '
                'an image is made of it')
        self._upstream.validate_disk_format(image_meta['disk_format'])
        # One that was never written to is as good as empty.
        backing = (self._finder.existing(volume)
                   or self._upstream.create_backing(volume))
        kind = volume['volume_type']
        metadata = {
            'disk_format': 'vmdk', 'name': image_meta['name'],
            'properties': {'vmware_image_version': '1',
                           'vmware_disktype': upstream.STREAM_OPTIMIZED,
                           'owner_id': volume['project_id']}}
        with self._transfers.export_disk(
                backing, volume['size'] * units.Gi) as data:
            image_service.update(
                context, image_meta['id'], metadata, data=data,
                store_id=kind.extra_specs.get('image_service:store_id')
                if kind else None,
                base_image_ref=volume_utils.get_base_image_ref(volume))
        LOG.info('Volume %(volume)s was copied to image %(image)s: %(size)d '
                 'bytes.', {'volume': volume['id'], 'image': image_meta['id'],
                            'size': data.count_bytes})


class _Aside:
    """A volume under another name, to be built beside the volume itself."""

    def __init__(self, volume: Any) -> None:
        identity = uuidutils.generate_uuid()
        self._volume = volume
        self._own = {'id': identity,
                     'name': f'{volume["name"]}-reimage-{identity}'}

    def __getitem__(self, field: str) -> Any:
        return self._own[field] if field in self._own else self._volume[field]

    def __getattr__(self, field: str) -> Any:
        return (self._own[field] if field in self._own
                else getattr(self._volume, field))
