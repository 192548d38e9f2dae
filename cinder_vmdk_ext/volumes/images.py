# SPDX-License-Identifier: Apache-2.0
"""Copies images to volumes and volumes to images, and checks the data."""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import units

from cinder import exception
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import attach as attachment
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import image_signature
from cinder_vmdk_ext.volumes import image_stream
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes import source_image
from cinder_vmdk_ext.volumes import target_image
from cinder_vmdk_ext.vsphere import transfers

LOG = logging.getLogger(__name__)

# If the image service sends no byte for so long, the transfer fails.
STALL_SECONDS = 120.0


class Images:
    """Image operations, with transfers that are checked."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 attach: attachment.Attach,
                 admission: admissions.Admission,
                 host_record: records.HostRecord,
                 deployment: Callable[[], str]) -> None:
        """:param deployment: returns the mark of this deployment"""
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._attach = attach
        self._admission = admission
        self._host_record = host_record
        self._deployment = deployment

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
        """Create a volume directly from an image (Cinder's hook).

        If Cinder's image-volume cache is on, this leaves the image to Cinder,
        so that Cinder finds a cached image and caches a new one.

        :raises ImageConversionNotAllowed: the operator allows no conversion
        """
        if self._is_cached(image_meta):
            # Cinder names the reason only for some of its ways.
            source_image.check_conversion(image_meta)
            if concurrency.on_native_threads():
                source_image.download_directly(image_service)
            return None, False
        return self._upstream.original.clone_image(
            context, volume, image_location, image_meta, image_service)

    def _is_cached(self, image_meta: Any) -> bool:
        """Whether Cinder is to cache an image."""
        # On native threads, Cinder's own check of a signature may never end:
        # it is done by eventlet's thread pool.
        return bool(self._upstream.configuration.safe_get(
            'image_volume_cache_enabled')) and not (
                concurrency.on_native_threads()
                and image_signature.is_to_be_verified(image_meta))

    def copy_to_volume(self, context: Any, volume: Any, image_service: Any,
                       image_id: str, disable_sparse: bool) -> None:
        """Write an image to a volume on its pool (Cinder's hook).

        If the volume has a disk (reimage), it keeps it until the image's disk
        is complete. If no datastore of its pool takes the new disk, the
        volume moves to another pool.

        :raises VolumeRefused: it has COW snapshots, which would be lost
        :raises InvalidQosSpec: as :func:`qos.wanted`
        :raises UnusableImage: the image is unsound, or larger than the volume
        :raises TransferFailed: the data does not arrive; after either error
            nothing of the image remains in the vCenter
        """
        old, limits = self._replaced(volume), qos.wanted(
            volume['volume_type_id'])
        if old and self._upstream.volumeops.snapshot_exists(old):
            raise exceptions.VolumeRefused(
                f'volume {volume["id"]} has COW snapshots, which an image in '
                'its place would destroy; delete them, or make a new volume '
                'of the image')
        with source_image.opened(
                context, image_service, image_id, self._limits,
                volume['size'] * units.Gi) as source:
            def write(target: Any) -> Any:
                self._write(context, target, source, image_id, disable_sparse)
                return self._finder.find(target)
            new = self._replacement.beside(
                volume, 'reimage', write,
                lambda: not source.is_taken) if old else write(volume)
        if old:
            self._replacement.replace(
                volume, old, new,
                None if source.adapter else self._adapter(volume, old),
                self._upstream.storage_profile_id(volume), limits)
            self._host_record.follow_replaced(volume, new)
            return
        if self._is_converted(volume, source):
            self._replacement.finish_image(volume, new)
        state.remember(volume, state.BACKED)

    def _replaced(self, volume: Any) -> Any:
        """The backing that an image replaces; None: the volume has none."""
        if state.is_promised(volume):
            return None
        if state.is_backed(volume):
            return self._finder.existing(volume)
        # Upstream's driver may have made it.
        return self._finder.find(volume)

    def _is_converted(self, volume: Any,
                      source: source_image.SourceImage) -> bool:
        """Whether upstream cloned the image's disk to another disk type."""
        disk_type = source.disk.disk_type
        return (disk_type != image_stream.STREAM_OPTIMIZED
                and self._upstream.is_converted(
                    disk_type, self._upstream.disk_type(volume)))

    def _adapter(self, volume: Any, old: Any) -> str | None:
        return copy_policy.adapter(self._selection.specs(volume),
                                   self._upstream.volumeops.adapter_of(old))

    @property
    def _limits(self) -> image_stream.Limits:
        return image_stream.Limits(
            self._upstream.configuration.vmware_image_transfer_timeout_secs,
            STALL_SECONDS)

    def _write(self, context: Any, target: Any,
               source: source_image.SourceImage, image_id: str,
               disable_sparse: bool) -> None:
        with self._selection.selecting(
                self._selection.pool_of(target),
                target.get('volume_type_id')):
            self._upstream.original.copy_image_to_volume(
                context, target, source, image_id, disable_sparse)

    def temp_image_folder(self, image_size_in_bytes: int
                          ) -> tuple[Any, str, str]:
        """Choose where a flat image's bytes go first (upstream's seam).

        :returns: datacenter, datastore, and a folder of this deployment
        """
        original = self._upstream.original
        try:
            # The volume's own datastore makes a second copy unnecessary.
            place = original.temp_image_folder(image_size_in_bytes)
        except exceptions.NoPlacement:
            # vSAN and vVol datastores hold no bare images.
            with self._selection.selecting(None, None):
                place = original.temp_image_folder(image_size_in_bytes)
        datacenter, datastore, shared = place
        folder = names.temporary_folder(self._deployment())
        if folder != shared:
            self._upstream.volumeops.create_datastore_folder(
                datastore, folder, datacenter)
        return datacenter, datastore, folder

    def place_of(self, backing: Any) -> tuple[str, str]:
        """Find where a VM's own files are (upstream's seam).

        Upstream cuts a datastore's name at its first closing bracket.

        :returns: the datastore's name as the path writes it, and the folder
        :raises TransferFailed: no datastore has that name
        """
        folder = f'{self._upstream.volumeops.home_folder(backing)}/'
        found = self._selection.inventory().located(folder)
        if len({within for _datastore, within in found}) > 1:
            own = self._upstream.volumeops.get_datastore(backing).value
            found = [each for each in found if each[0].moref == own]
        if not found:
            raise exceptions.TransferFailed(
                f'the folder {folder!r} is on no known datastore',
                'repeat the request')
        _datastore, within = found[0]
        return folder.removesuffix(within).rstrip()[1:-1], within

    def copy_image(self, context: Any, dc_ref: Any, image_service: Any,
                   image_id: str, image_size_in_bytes: int, ds_name: str,
                   upload_file_path: str) -> None:
        """Upload a flat or sparse image to a datastore (upstream's seam).

        :raises UnusableImage: the image is unsound
        :raises TransferFailed: the data does not arrive; after either error
            no file of the image remains on the datastore
        """
        source: source_image.SourceImage = image_service
        try:
            if source.vsphere_url:
                self._copy_within(source, dc_ref, ds_name, upload_file_path)
            else:
                self._transfers.upload(dc_ref, ds_name, upload_file_path,
                                       source.take(), image_size_in_bytes)
        except Exception:
            self._delete_file(f'[{ds_name}] {upload_file_path}', dc_ref)
            raise

    def _copy_within(self, source: source_image.SourceImage, dc_ref: Any,
                     ds_name: str, path: str) -> None:
        """Copy a file that the image service keeps in this vCenter.

        The copy is checked too, because a location may name any file.
        """
        self._upstream.volumeops.copy_datastore_file(
            source.vsphere_url, dc_ref, f'[{ds_name}] {path}')
        with self._transfers.reading(dc_ref, ds_name, path) as (size, data):
            source.check_copy(size, data)

    def _delete_file(self, path: str, dc_ref: Any) -> None:
        try:
            self._upstream.volumeops.delete_file(path, dc_ref)
        except exceptions.VMWARE_ERRORS as error:
            # Often the file is gone: a server removes incomplete uploads.
            LOG.debug('%(path)s was not deleted: %(error)s',
                      {'path': path, 'error': error})

    def fetch_stream_optimized(
            self, context: Any, volume: Any, image_service: Any,
            image_id: str, _image_size: int | None,
            adapter_type: str) -> None:
        """Import a streamOptimized image as a volume's disk (upstream's seam).

        :raises UnusableImage: the image is unsound
        :raises TransferFailed: the data does not arrive; after either error
            nothing of the image remains in the vCenter
        """
        try:
            backing = self._import_image(volume, image_service, adapter_type)
        except Exception:
            # The import may have made a VM though it reported an error.
            with excutils.save_and_reraise_exception():
                self._replacement.discard_by_uuid(volume['id'])
        # Nothing says that an import applies the policy of its spec.
        with self._replacement.discarding(backing):
            self._upstream.volumeops.reconfigure_disk(
                backing, disk_uuid=volume['id'],
                profile_id=self._upstream.storage_profile_id(volume))

    def _import_image(self, volume: Any, image_service: Any,
                      adapter_type: str) -> Any:
        source: source_image.SourceImage = image_service
        return self.imported(
            volume, source.take(), source.disk.size_bytes, source.size_bytes,
            adapter_type, self._upstream.disk_type(volume))

    def imported(self, volume: Any, chunks: Iterable[bytes],
                 size_bytes: int | None, progress_bytes: int, adapter: str,
                 disk_type: str) -> Any:
        """Make a volume's shadow VM with a disk of streamOptimized data.

        :param size_bytes: of the data; None: it ends with the chunks
        :param progress_bytes: the expected size, to report the progress
        :returns: the VM
        :raises TransferFailed: the VM was not made
        """
        cinder = self._upstream
        _host, pool, folder, summary = cinder.select_ds_for_volume(volume)
        spec = cinder.session.vim.client.factory.create(
            'ns0:VirtualMachineImportSpec')
        # The import takes the disk's capacity from its data.
        spec.configSpec = cinder.volumeops.get_create_spec(
            volume['name'], 0, disk_type, summary.name,
            profile_id=cinder.storage_profile_id(volume),
            adapter_type=adapter, extra_config=cinder.extra_config(volume))
        return self._transfers.import_disk(pool, folder, spec, chunks,
                                           size_bytes, progress_bytes)

    def exported(self, volume: Any, backing: Any
                 ) -> AbstractContextManager[transfers.Download]:
        """A volume's disk as streamOptimized data, to be read once."""
        return self._transfers.export_disk(backing,
                                           volume['size'] * units.Gi)

    # -- Volume to image ----------------------------------------------------

    def copy_to_image(self, context: Any, volume: Any, image_service: Any,
                      image_meta: Any) -> None:
        """Make an image of a volume that is not attached (Cinder's hook).

        :raises BackingLost: the volume's disk is gone
        :raises TransferFailed: the image is not complete
        :raises InvalidVolume: before anything is made: the volume is attached
        :raises VolumeRefused: before anything is made: the volume is recorded
            as encrypted
        :raises UnusableImage: before anything is made: this backend does not
            make images of the requested format
        :raises ImageConversionNotAllowed: before anything is made: the
            operator allows no conversion
        :raises ImageTooBig: ``image_conversion_dir`` has not the space that
            the image may take, or becomes full
        """
        self._admission.check_plain(volume)
        self._attach.with_backing(volume, lambda: self._upload(
            context, volume, image_service, image_meta))

    def _upload(self, context: Any, volume: Any, image_service: Any,
                image_meta: Any) -> None:
        if self._upstream.in_use(volume):
            raise exception.InvalidVolume(
                reason=f'volume {volume["id"]} is attached; detach it before '
                'you make an image of it')
        target = target_image.target_of(image_meta)
        source_image.check_conversion(image_meta, upload=True)
        # A volume without a disk was never written to: it is empty.
        backing = (self._finder.existing(volume)
                   or self._upstream.create_backing(volume))
        target = target._replace(
            adapter=self._upstream.volumeops.adapter_of(backing))
        send = functools.partial(self._send, context, volume, image_service,
                                 target)
        size = volume['size'] * units.Gi
        if target.is_streamed:
            with self._transfers.export_disk(backing, size) as data:
                content = target_image.streamed(target, data, size)
                send(content)
        else:
            with target_image.stored(
                    target, self._upstream.volumeops.most_data_bytes(
                        backing, size), size) as image:
                with self._transfers.export_disk(backing, size) as data:
                    image.fill(data, size)
                content = image.content()
                send(content)
        LOG.info('Volume %(volume)s was copied to image %(image)s: %(size)d '
                 'bytes.', {'volume': volume['id'], 'image': image_meta['id'],
                            'size': content.count_bytes})

    def _send(self, context: Any, volume: Any, image_service: Any,
              target: target_image.Requested,
              content: target_image.Content) -> None:
        kind = volume['volume_type']
        image_service.update(
            context, target.id, {
                'disk_format': target.disk_format, 'name': target.name,
                'properties': self._properties_of(
                    context, volume, image_service, target)},
            data=content, purge_props=False,
            store_id=kind.extra_specs.get('image_service:store_id')
            if kind else None,
            base_image_ref=volume_utils.get_base_image_ref(volume))
        try:
            self._check_whole(context, image_service, target, content)
        except exceptions.TransferFailed:
            # It is active, and so Cinder would leave it.
            with excutils.save_and_reraise_exception():
                self._delete_image(context, image_service, target)

    @staticmethod
    def _check_whole(context: Any, image_service: Any,
                     target: target_image.Requested,
                     content: target_image.Content) -> None:
        """Compare the image's size with the number of bytes that were sent.

        Cinder repeats an upload that broke off (``glance_num_retries``), but
        goes on in the middle of the data: the image is then its second part.
        """
        content.check_read_to_the_end()
        size = image_service.show(context, target.id).get('size')
        if size != content.count_bytes:
            raise exceptions.TransferFailed(
                f'the image service has {size} of the {content.count_bytes} '
                f'bytes of image {target.id}',
                'look after the image service, and repeat the request')

    @staticmethod
    def _delete_image(context: Any, image_service: Any,
                      target: target_image.Requested) -> None:
        try:
            image_service.delete(context, target.id)
        except exception.CinderException as error:
            LOG.warning('Image %(image)s, which is not complete, was not '
                        'deleted: %(error)s',
                        {'image': target.id, 'error': error})

    @staticmethod
    def _properties_of(context: Any, volume: Any, image_service: Any,
                       target: target_image.Requested) -> dict[str, str]:
        """The properties that are added to an image's record."""
        properties = {'owner_id': volume['project_id']}
        if target.is_vmdk:
            properties |= {'vmware_image_version': '1',
                           source_image.DISK_TYPE: upstream.STREAM_OPTIMIZED}
        record = image_service.show(context, target.id)
        # With another value no volume could be made of the image.
        if target.adapter and (record.get('properties') or {}).get(
                source_image.ADAPTER_TYPE) not in source_image.ADAPTERS:
            properties[source_image.ADAPTER_TYPE] = target.adapter
        return properties
