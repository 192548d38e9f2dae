# SPDX-License-Identifier: Apache-2.0
"""Transfers of images are complete, or fail and leave nothing."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import unittest
from unittest import mock

from oslo_config import cfg
from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.volumes import images
from sandbox.embedded import section

CONTENT = backend_case.content('image', units.Mi + 4321 - 4321 % 512)
ODD_NAME = 'a b+c&d=e#f?g%h é'


class ImageService:
    """What the driver asks of Glance, with one image in memory."""

    temp_images = None

    def __init__(self, data=b'', disk_type='streamOptimized',
                 container='bare', size=None):
        self.metadata = {
            'id': uuidutils.generate_uuid(), 'name': 'image',
            'size': len(data) if size is None else size,
            'disk_format': 'vmdk', 'container_format': container,
            'properties': {'vmware_disktype': disk_type,
                           'vmware_adaptertype': 'lsiLogic'}}
        self.data = data
        self.taken = None
        self.is_deleted = False

    def show(self, context, image_id):
        return self.metadata

    def get_location(self, context, image_id):
        return None, None

    def download(self, context, image_id):
        for at in range(0, len(self.data), 65536):
            yield self.data[at:at + 65536]

    def update(self, context, image_id, metadata, data=None, *,
               purge_props=True, **ignored):
        """As Glance's client does it: properties go that are not named."""
        kept = {} if purge_props else self.metadata['properties']
        self.metadata.update(
            metadata, properties=kept | metadata['properties'])
        parts = []
        while part := data.read(65536):
            parts.append(part)
            if self.taken is not None and len(parts) == self.taken:
                break
        self.data = b''.join(parts)
        self.metadata['size'] = len(self.data)

    def delete(self, context, image_id):
        self.is_deleted = True


class RepeatingImageService(ImageService):
    """Cinder's client, when the first connection breaks off."""

    def update(self, context, image_id, metadata, data=None, **kwargs):
        data.read(65536)
        super().update(context, image_id, metadata, data, **kwargs)


class GrainKeeper(ImageService):
    """An image service that keeps of a raw image what is not zeros."""

    grains: dict[int, bytes]

    def update(self, context, image_id, metadata, data=None, **ignored):
        self.metadata.update(metadata)
        self.grains, size, ahead = {}, 0, b''
        zeros = bytes(units.Mi)
        while part := data.read(units.Mi):
            if not ahead and part == zeros:
                size += len(part)
                continue
            ahead += part
            whole = len(ahead) - len(ahead) % disk_images.GRAIN
            for number, grain in disk_images.grains_of(ahead[:whole]):
                self.grains[size // disk_images.GRAIN + number] = grain
            size, ahead = size + whole, ahead[whole:]
        self.metadata['size'] = size + len(ahead)


class FailingSource(ImageService):
    """An image service that dies in the middle, in one of three manners."""

    def __init__(self, data, manner, **kwargs):
        super().__init__(data, **kwargs)
        self.manner = manner
        self.released = threading.Event()

    def download(self, context, image_id):
        yield self.data[:len(self.data) // 2]
        if self.manner == 'raises':
            raise OSError('the image service went away')
        if self.manner == 'silent':
            self.released.wait(600)


class TransfersCase(backend_case.BackendCase):
    """Images of one content, of which the checksum of its disk is known."""

    known: tuple[str, bytes] | None = None

    @classmethod
    def conversion_folder(cls):
        """A folder that is image_conversion_dir until the class ends."""
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cfg.CONF.set_override('image_conversion_dir', folder)
        cls.addClassCleanup(cfg.CONF.clear_override, 'image_conversion_dir')
        return folder

    def setUp(self):
        super().setUp()
        if TransfersCase.known is None:
            volume = self.create(content=CONTENT)
            TransfersCase.known = (self.checksum(volume),
                                   self.image_of(volume).data)
            self.driver.delete_volume(volume)
        self.sum, self.stream = TransfersCase.known
        self.before = self.files()

    def image_of(self, volume):
        target = ImageService()
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        return target

    def fill(self, image, volume=None):
        volume = volume or self.new_volume()
        self.driver.copy_image_to_volume(self.context, volume, image,
                                         image.metadata['id'])
        return volume

    def flat(self, **kwargs):
        return ImageService(CONTENT + bytes(units.Mi), 'preallocated',
                            **kwargs)

    def files(self):
        """The paths of all files on all datastores."""
        found = []
        spec = vim.host.DatastoreBrowser.SearchSpec(matchPattern=['*'])
        for each in self.all(vim.Datastore):
            search = each.browser.SearchDatastoreSubFolders_Task(
                f'[{each.name}] ', spec)
            for folder in self.wait(search):
                found += [folder.folderPath + file.path
                          for file in folder.file]
        return sorted(path for path in found if '.vmdk' in path)

    def assert_nothing_left(self):
        self.assertEqual({}, self.shadow_vms())
        self.assertEqual(self.before, self.files())

    def assert_fails(self, image, error=exceptions.TransferFailed,
                     seconds=120):
        """:returns: the message"""
        start = time.monotonic()
        caught = self.assertRaises(error, self.fill, image)
        self.assertLess(time.monotonic() - start, seconds)
        self.assert_nothing_left()
        return str(caught)


class GoodImagesTestCase(TransfersCase):
    """Images that are what they say."""

    def test_a_stream_optimized_image_keeps_its_content(self):
        volume = self.fill(ImageService(self.stream))
        self.assertEqual(self.sum, self.checksum(volume))

    def test_a_preallocated_image_keeps_its_content(self):
        self.assertEqual(self.sum, self.checksum(self.fill(self.flat())))

    @unittest.skipUnless(shutil.which('qemu-img'), 'qemu-img is missing')
    def test_a_sparse_image_keeps_its_content(self):
        with tempfile.TemporaryDirectory() as folder:
            raw, made = (os.path.join(folder, name) for name in 'ab')
            with open(raw, 'wb') as file:
                file.write(CONTENT + bytes(units.Mi))
            subprocess.run(
                ['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o',
                 'subformat=monolithicSparse', raw, made], check=True)
            with open(made, 'rb') as file:
                image = ImageService(file.read(), 'sparse')
        self.assertEqual(self.sum, self.checksum(self.fill(image)))

    def test_the_disk_in_an_ova_keeps_its_content(self):
        volume = self.fill(ImageService(ova(self.stream), container='ova'))
        self.assertEqual(self.sum, self.checksum(volume))

    def test_an_image_of_a_volume_that_was_never_made_is_empty(self):
        volume = self.new_volume(provider_id='vmdk-ext:promised')
        image = self.image_of(volume)
        filled = self.fill(ImageService(image.data))
        self.assertEqual(bytes(512), self.read(filled, 512))

    def test_a_volume_without_a_type_becomes_an_image(self):
        volume = self.create(content=CONTENT)
        volume.volume_type = volume.volume_type_id = None
        self.assertTrue(self.image_of(volume).data.startswith(b'KDMV'))

    def test_names_of_any_characters_are_found(self):
        datastore = self.datastore('LocalDS_1')
        datacenter = self.all(vim.Datacenter)[0]
        names = datastore.name, datacenter.name
        self.wait(datacenter.Rename_Task(ODD_NAME))
        self.addCleanup(
            lambda: self.wait(datacenter.Rename_Task(names[1])))
        datastore.RenameDatastore(ODD_NAME)
        self.addCleanup(datastore.RenameDatastore, names[0])
        self.report()
        volume = self.new_volume(pool=datastore.name)
        self.fill(self.flat(), volume)
        self.assertEqual(self.sum, self.checksum(volume))


class RefusedTransfersTestCase(TransfersCase):
    """The server refuses a transfer, or breaks it off."""

    def test_a_refused_upload_is_no_success(self):
        self.control.fault(path='/folder/', method='PUT', status=500)
        self.assertIn('HTTP 500', self.assert_fails(self.flat()))

    def test_a_refused_import_is_no_success(self):
        self.control.fault(path='/nfc/', status=500)
        self.assertIn('HTTP 500', self.assert_fails(
            ImageService(self.stream)))

    def test_an_upload_that_is_broken_off_is_no_success(self):
        self.control.fault(path='/folder/', method='PUT', cut='during',
                           after_bytes=100000)
        self.assert_fails(self.flat())

    def test_an_import_that_is_broken_off_is_no_success(self):
        self.control.fault(path='/nfc/', cut='during', after_bytes=1000)
        self.assert_fails(ImageService(self.stream))

    def test_an_import_whose_last_reply_is_lost_is_looked_after(self):
        self.control.fault(method='HttpNfcLeaseComplete', cut='after',
                           count=1)
        volume = self.fill(ImageService(self.stream))
        self.assertEqual(self.sum, self.checksum(volume))

    def test_an_import_whose_session_ends_leaves_no_vm_behind(self):
        """Which the vCenter keeps until the lease has timed out."""
        for calls in ({'method': 'HttpNfcLeaseComplete'},
                      {'method': 'RetrieveProperties.*',
                       'argument': 'HttpNfcLease'}):
            with self.subTest(**calls):
                volume = self.new_volume()
                self.control.fault(count=1, kill_sessions='caller', **calls)
                self.assertRaises(exceptions.VMWARE_ERRORS, self.fill,
                                  ImageService(self.stream), volume)
                self.assertEqual(1, self.control.faults()[0]['hits'])
                self.assert_nothing_left()
                self.control.reset_faults()
                self.fill(ImageService(self.stream), volume)
                self.assertEqual(self.sum, self.checksum(volume))
                self.driver.delete_volume(volume)

    def test_an_image_is_whole_though_its_lease_is_not_completed(self):
        volume = self.create(content=CONTENT)
        self.control.fault(method='HttpNfcLeaseComplete', count=1,
                           fault={'type': 'InvalidState'})
        with self.assertLogs('cinder_vmdk_ext.vsphere', 'WARNING'):
            image = self.image_of(volume)
        self.assertEqual(1, self.control.faults()[0]['hits'])
        self.assertEqual(self.sum, self.checksum(
            self.fill(ImageService(image.data))))

    def test_a_refused_download_is_no_image(self):
        volume = self.create(content=CONTENT)
        self.control.fault(path='/nfc/', status=500)
        self.assertRaises(exceptions.TransferFailed, self.image_of, volume)
        self.assert_aborted()

    def test_a_download_that_is_broken_off_is_no_image(self):
        volume = self.create(content=CONTENT)
        self.control.fault(path='/nfc/', cut='during', after_bytes=5000)
        self.assertRaises(exceptions.TransferFailed, self.image_of, volume)
        self.assert_aborted()

    def test_an_image_service_that_takes_a_part_only_is_an_error(self):
        volume = self.create(content=CONTENT)
        target = ImageService()
        target.taken = 1
        caught = self.assertRaises(
            exceptions.TransferFailed, self.driver.copy_volume_to_image,
            self.context, volume, target, target.metadata)
        self.assertIn('only the first', str(caught))
        self.assertTrue(target.is_deleted)
        self.assert_aborted()

    def test_an_upload_that_is_repeated_in_its_midst_is_an_error(self):
        """Else an active image would hold the second part of the disk."""
        volume = self.create(content=CONTENT)
        target = RepeatingImageService()
        caught = self.assertRaises(
            exceptions.TransferFailed, self.driver.copy_volume_to_image,
            self.context, volume, target, target.metadata)
        self.assertIn('the image service has', str(caught))
        self.assertTrue(target.is_deleted)

    def assert_aborted(self):
        calls = [each['method'] for each in self.control.calls(1000)]
        self.assertIn('HttpNfcLeaseAbort', calls)


class DyingSourcesTestCase(TransfersCase):
    """The image service fails in the middle of an upload."""

    def dying(self, manner):
        for data, kind in ((self.flat().data, 'preallocated'),
                           (self.stream, 'streamOptimized')):
            source = FailingSource(data, manner, disk_type=kind)
            self.addCleanup(source.released.set)
            yield source

    def test_one_that_fails_is_told(self):
        for source in self.dying('raises'):
            self.assertIn('the image service went away',
                          self.assert_fails(source))

    def test_one_that_ends_early_is_told(self):
        for source in self.dying('ends'):
            self.assertIn('less than', self.assert_fails(source))

    def test_one_that_falls_silent_is_told(self):
        with mock.patch.object(images, 'STALL_SECONDS', 1):
            for source in self.dying('silent'):
                self.assertIn('sent nothing for 1 s',
                              self.assert_fails(source))

    def test_one_that_is_too_slow_is_told(self):
        option = 'vmware_image_transfer_timeout_secs'
        cfg.CONF.set_override(option, 1, section.NAME)
        self.addCleanup(cfg.CONF.clear_override, option, section.NAME)
        with mock.patch.object(images, 'STALL_SECONDS', 600):
            source = next(self.dying('silent'))
            self.assertIn('longer than 1 s', self.assert_fails(source))


class ReimageTestCase(TransfersCase):
    """An image is put on a volume that has a disk."""

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=b'old')
        self.old = self.checksum(self.volume)

    def test_the_new_disk_takes_the_place_of_the_old_one(self):
        self.fill(ImageService(self.stream), self.volume)
        self.assertEqual(self.sum, self.checksum(self.volume))
        self.assertEqual(1, len(self.shadow_vms()))

    def test_the_old_disk_stands_if_the_new_one_fails(self):
        self.control.fault(path='/nfc/', cut='during', after_bytes=1000)
        self.assertRaises(exceptions.TransferFailed, self.fill,
                          ImageService(self.stream), self.volume)
        self.assertEqual(self.old, self.checksum(self.volume))
        self.assertEqual(1, len(self.shadow_vms()))


class WrongImagesTestCase(TransfersCase):
    """Images that are not what they say, or not safe."""

    def refuse(self, data, disk_type='streamOptimized', **kwargs):
        return self.assert_fails(ImageService(data, disk_type, **kwargs),
                                 exception.ImageUnacceptable)

    def test_truncated(self):
        for length in (0, 1, 511, 512, 4096, len(self.stream) - 512):
            self.refuse(self.stream[:length])

    def test_of_another_size_than_announced(self):
        for size in (len(self.stream) - 1, len(self.stream) + 1):
            self.assert_fails(ImageService(self.stream, size=size))

    def test_something_else(self):
        self.refuse(b'QFI\xfb' + bytes(65536))
        self.refuse(bytes(65536))
        self.refuse(b'MZ' * 5000, 'sparse')

    def test_a_vmdk_that_is_called_a_bare_disk(self):
        self.assertIn('vmware_disktype',
                      self.refuse(self.stream, 'preallocated'))
        descriptor = b'# Disk DescriptorFile\nversion=1\n'
        self.refuse(descriptor.ljust(1024), 'preallocated')

    def test_a_bare_disk_of_broken_sectors(self):
        self.assertIn('not a multiple of 512 (a sector)', self.refuse(
            bytes(65536 + 100), 'preallocated'))

    def test_a_stream_that_is_called_sparse(self):
        self.assertIn('createType', self.refuse(self.stream, 'sparse'))

    def test_a_descriptor_that_points_elsewhere(self):
        for line in (b'RW 2048 VMFS "/vmfs/volumes/LocalDS_0/x-flat.vmdk"',
                     b'parentFileNameHint="/vmfs/volumes/other.vmdk"'):
            self.refuse(with_descriptor_line(self.stream, line))

    def test_extents_that_are_not_the_files_own(self):
        for line in (b'RW 2048 SPARSE "../other/other-flat.vmdk"',
                     b'RW 2048 FLAT "/etc/passwd" 0',
                     b'RW 2048 SPARSE "[LocalDS_0] other/other.vmdk"',
                     b'RDONLY 2048 VMFSRDM "/vmfs/devices/disks/x"',
                     b'\n'.join([b'RW 8 ZERO'] * 12)):
            with self.subTest(line):
                self.refuse(with_descriptor_line(self.stream, line))

    def test_types_that_are_not_what_they_say(self):
        for kind in (b'monolithicFlat', b'vmfs', b'vmfsSparse', b'custom',
                     b'fullDevice', b'../../x'):
            with self.subTest(kind):
                self.refuse(self.stream.replace(
                    b'createType="streamOptimized"',
                    (b'createType="%s"' % kind).ljust(28), 1))

    def test_a_disk_larger_than_the_volume(self):
        """Whichever number of the header a receiver believes."""
        larger = (2 * units.Gi // 512 + 128).to_bytes(8, 'little')
        self.assertIn('make the volume larger', self.refuse(
            self.stream[:12] + larger + self.stream[20:]))
        option = {'size': 2 * units.Gi}
        self.refuse(bytes(512), 'preallocated', **option)

    def test_the_volume_is_unharmed_by_any_of_them(self):
        volume = self.create(content=b'old')
        before = self.checksum(volume)
        for data, kind in ((b'', 'streamOptimized'),
                           (self.stream[:5000], 'streamOptimized'),
                           (b'QFI\xfb' + bytes(65536), 'sparse'),
                           (bytes(513), 'preallocated')):
            self.assertRaises(
                (exception.ImageUnacceptable, exceptions.TransferFailed),
                self.fill, ImageService(data, kind), volume)
            row = self.fresh(volume)
            self.assertEqual((before, 'available', 1, volume.host),
                             (self.checksum(volume), row.status, row.size,
                              row.host))
            self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_bare_descriptor_that_points_elsewhere(self):
        self.refuse(
            b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n'
            b'createType="monolithicFlat"\n'
            b'RW 2048 FLAT "/vmfs/volumes/LocalDS_0/x-flat.vmdk" 0\n',
            'sparse')

    def test_an_ova_without_a_disk(self):
        self.refuse(ova(self.stream, named=False), container='ova')
        self.refuse(b'no archive' * 1000, container='ova')

    def test_noise_in_any_place(self):
        for seed in range(8):
            noise = backend_case.content(seed, 64)
            at = seed * 70
            image = ImageService(
                self.stream[:at] + noise + self.stream[at + 64:])
            try:
                volume = self.fill(image)
            except (exception.ImageUnacceptable, exceptions.TransferFailed):
                self.assert_nothing_left()
            else:  # a place that means nothing
                self.assertEqual(self.sum, self.checksum(volume))
                self.driver.delete_volume(volume)


def ova(disk, named=True):
    """An OVA with one disk."""
    ovf = ('<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" '
           'xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
           'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/'
           'CIM_ResourceAllocationSettingData">'
           '<References><File ovf:href="disk.vmdk" ovf:id="file1"/>'
           '</References>'
           '<DiskSection><Info/><Disk ovf:capacity="1" ovf:diskId="disk1" '
           'ovf:fileRef="file1"/></DiskSection>'
           '<VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>'
           '<Item><rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>'
           '<rasd:InstanceID>1</rasd:InstanceID>'
           '<rasd:ResourceType>17</rasd:ResourceType></Item>'
           '</VirtualHardwareSection></VirtualSystem></Envelope>').encode()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode='w') as archive:
        for name, data in (('x.ovf', ovf),
                           ('disk.vmdk' if named else 'other.bin', disk)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def with_descriptor_line(stream, line):
    """A VMDK whose embedded descriptor has one more line."""
    end = stream.index(b'\0', 512)
    text = stream[512:end] + line + b'\n'
    rest = stream[512 + len(text):]
    assert not stream[end:512 + len(text)].strip(b'\0'), 'no room'
    return stream[:512] + text + rest
