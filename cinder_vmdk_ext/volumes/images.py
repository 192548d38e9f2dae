# SPDX-License-Identifier: Apache-2.0
"""Images to volumes and volumes to images, without false success."""

import contextvars
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging
from oslo_utils import units

from cinder import exception
from cinder.image import image_utils
from cinder.volume.drivers.vmware import vmdk
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import image_stream
from cinder_vmdk_ext.vsphere import transfers

LOG = logging.getLogger(__name__)

# An image service that sends nothing for so long is taken for dead.
STALL_SECONDS = 120.0
# Bytes of the volume that is being written, further up the call chain.
_ROOM: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    'vmdk_ext_room', default=None)
_STREAM = vmdk.ImageDiskType.STREAM_OPTIMIZED
_FLAT = 'preallocated'


class Images(finder.Exchange):
    """The transfers of upstream's image operations."""

    @property
    def _transfers(self) -> transfers.Transfers:
        options = self.configuration
        return transfers.Transfers(
            self.session, options.vmware_host_ip, options.vmware_host_port,
            ca_file=options.vmware_ca_file, insecure=options.vmware_insecure)

    def _data_of(self, context: Any, image_service: Any, image_id: str
                 ) -> Iterator[bytes]:
        """An image's data; an error if it does not come, or comes too slow."""
        limits = image_stream.Limits(
            self.configuration.vmware_image_transfer_timeout_secs,
            STALL_SECONDS)
        path = image_utils.TemporaryImages.for_image_service(
            image_service).get(context, image_id)
        if path:
            LOG.debug('Image %s is at hand.', image_id)
            with open(path, 'rb') as file:
                yield from image_stream.in_time(
                    image_stream.chunks_of(file), limits)
        else:
            yield from image_stream.in_time(
                image_service.download(context, image_id), limits)

    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool = False) -> None:
        """Write an image to a volume that it fits into (Cinder hook).

        :raises TransferFailed, UnusableImage: nothing of it is left
        """
        room = volume['size'] * units.Gi
        image = image_service.show(context, image_id)
        kind = (image['properties'] or {}).get('vmware_disktype', _FLAT)
        if kind == _FLAT and image['disk_format'] == 'vmdk':
            # Before a disk is made for it.
            image_stream.check_flat(image['size'], image_id, room)
        token = _ROOM.set(room)
        try:
            super().copy_image_to_volume(context, volume, image_service,
                                         image_id, disable_sparse)
        finally:
            _ROOM.reset(token)

    def _copy_image(self, context: Any, dc_ref: Any, image_service: Any,
                    image_id: str, image_size_in_bytes: int, ds_name: str,
                    upload_file_path: str) -> None:
        """Upload a flat or sparse image to a datastore.

        :raises TransferFailed, UnusableImage: nothing of it is left there
        """
        chunks: Iterable[bytes] = image_stream.exactly(
            self._data_of(context, image_service, image_id),
            image_size_in_bytes)
        if upload_file_path.endswith('-flat.vmdk'):
            chunks = image_stream.flat(chunks, image_id, image_size_in_bytes)
        else:
            chunks = image_stream.sparse(chunks, image_id, 'monolithicSparse',
                                         _ROOM.get())
        try:
            self._transfers.upload(dc_ref, ds_name, upload_file_path, chunks,
                                   image_size_in_bytes)
        except Exception:
            self._forget_file(f'[{ds_name}] {upload_file_path}', dc_ref)
            raise

    def _forget_file(self, path: str, dc_ref: Any) -> None:
        try:
            self.volumeops.delete_file(path, dc_ref)
        except exceptions.VMWARE_ERRORS as error:
            # Often there is none: a server drops what it did not get whole.
            LOG.debug('%(path)s was not deleted: %(error)s',
                      {'path': path, 'error': error})

    def _fetch_stream_optimized_image(
            self, context: Any, volume: Any, image_service: Any,
            image_id: str, image_size: int, adapter_type: str) -> None:
        """Import a streamOptimized image as the volume's disk.

        :raises TransferFailed, UnusableImage: nothing of it is left
        """
        backing = self._import_image(context, volume, image_service, image_id,
                                     image_size, adapter_type)
        try:
            self.volumeops.update_backing_disk_uuid(backing, volume['id'])
        except Exception:
            self._discard(backing)
            raise

    def _import_image(self, context: Any, volume: Any, image_service: Any,
                      image_id: str, image_size: int,
                      adapter_type: str) -> Any:
        _host, pool, folder, summary = self._select_ds_for_volume(volume)
        spec = self.session.vim.client.factory.create(
            'ns0:VirtualMachineImportSpec')
        # The import takes the disk's capacity from its data.
        spec.configSpec = self.volumeops.get_create_spec(
            volume['name'], 0, self._get_disk_type(volume), summary.name,
            profile_id=self._get_storage_profile_id(volume),
            adapter_type=adapter_type,
            extra_config=self._get_extra_config(volume))
        chunks: Iterable[bytes] = self._data_of(context, image_service,
                                                image_id)
        container = image_service.show(context, image_id).get(
            'container_format')
        if container == 'ova':
            image_size, chunks = image_stream.disk_in_ova(chunks, image_id)
        chunks = image_stream.sparse(image_stream.exactly(chunks, image_size),
                                     image_id, _STREAM, _ROOM.get())
        return self._transfers.import_disk(pool, folder, spec, chunks,
                                           image_size)

    def copy_volume_to_image(self, context: Any, volume: Any,
                             image_service: Any, image_meta: Any) -> None:
        """Make an image of a volume that is not attached (Cinder hook).

        :raises BackingLost: the volume's disk is gone
        :raises TransferFailed: the image is not whole
        """
        if self._in_use(volume):
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached; detach it before '
                'an image is made of it')
        self._validate_disk_format(image_meta['disk_format'])
        # One that was never written to is as good as empty.
        backing = (self._existing_backing(volume)
                   or self._create_backing(volume))
        kind = volume['volume_type']
        metadata = {
            'disk_format': 'vmdk', 'name': image_meta['name'],
            'properties': {'vmware_image_version': '1',
                           'vmware_disktype': _STREAM,
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
