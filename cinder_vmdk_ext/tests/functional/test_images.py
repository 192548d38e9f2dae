# SPDX-License-Identifier: Apache-2.0
"""Images of common tools, and other data that tenants upload."""

import os
import pathlib
import subprocess
import sys
import tarfile
import unittest
from unittest import mock
from urllib import parse

import fixtures
from oslo_config import cfg
from oslo_utils import units
from pyVmomi import vim
import requests

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import names
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.tests import signing
from cinder_vmdk_ext.volumes import host_space
from cinder_vmdk_ext.volumes import image_signature
from simulator import observer

REAL = pathlib.Path(__file__).resolve().parents[3].joinpath(
    '../shared/fixtures/vmdk')
ImageService = test_transfers.ImageService
CONTENT = backend_case.content('images', units.Mi)
ODD = CONTENT + backend_case.content('odd', 512)
# What brings bytes of an image to the vCenter.
UPLOADS = ('ImportVApp', 'PUT /folder', 'POST /nfc', 'PUT /nfc',
           'CopyDatastoreFile_Task', 'CreateVM_Task',
           'CreateVirtualDisk_Task')


def without_type(image):
    del image.metadata['properties']['vmware_disktype']
    return image


def not_rescheduled():
    """What Cinder does not send to another pool, taken from its flow."""
    # Its modules want Cinder's objects to be registered.
    from cinder.volume.flows.manager import create_volume
    return tuple(create_volume.OnFailureRescheduleTask(
        None, None, None, None, False).no_reschedule_types)


class ImagesCase(test_transfers.TransfersCase):

    def setUp(self):
        super().setUp()
        self.wanted = self.sum_of(CONTENT)

    @staticmethod
    def sum_of(content):
        """The checksum of a disk of 1 GiB with a content."""
        return disk_images.checksum(dict(disk_images.grains_of(content)),
                                    units.Gi)

    def accept(self, image, wanted=None):
        volume = self.fill(image)
        self.assertEqual(wanted or self.wanted, self.checksum(volume))
        self.driver.delete_volume(volume)

    def refuse(self, image, words, error=exception.ImageUnacceptable):
        """It ends in one sentence, before anything is made of it."""
        self.control.reset_journal()
        caught = self.assertRaises(error, self.fill, image)
        self.assertIsInstance(caught, not_rescheduled())
        self.assertIn(image.metadata['id'], str(caught))
        self.assertIn(words, str(caught))
        self.assertNotIn('\n', str(caught))
        calls = set(self.control.journal()['methods'])
        self.assertEqual(set(), calls & set(UPLOADS))
        self.assert_nothing_left()

    def made_stream(self, **kwargs):
        return disk_images.stream_optimized(CONTENT, **kwargs)


class WritersTestCase(ImagesCase):
    """C8: what the tools of the field write becomes a volume."""

    def test_streams_of_all_writers(self):
        for describe in disk_images.WRITERS:
            with self.subTest(describe.__name__):
                self.accept(ImageService(self.stream_by(describe)))

    def stream_by(self, describe):
        return disk_images.stream_optimized(CONTENT, describe=describe)

    def test_streams_and_sparse_disks_of_qemu(self):
        self.accept(ImageService(disk_images.stream_by_qemu(CONTENT)))
        self.accept(ImageService(disk_images.monolithic_sparse(CONTENT),
                                 'sparse'))

    def test_sparse_disks_in_other_encodings(self):
        self.accept(ImageService(disk_images.monolithic_sparse(
            CONTENT, describe=lambda sectors: disk_images.by_qemu(
                sectors).replace(b'"disk.vmdk"', '"Größe.vmdk"'.encode(
                    'latin-1')) + b'encoding="windows-1252"\n'), 'sparse'))

    def test_what_vsphere_itself_exported(self):
        if not REAL.is_dir():
            self.skipTest('the disks that vSphere exported are not there')
        for name in ('disk-0.vmdk', 'plain-vm.vmdk'):
            data = (REAL / name).read_bytes()
            self.accept(ImageService(data), self.sum_of(
                disk_images.content_of(data).rstrip(b'\0')))

    def test_what_we_write_we_read(self):
        """Upload, download, clone, and once more."""
        volume = self.create(content=CONTENT)
        for _ in range(2):
            image = self.image_of(volume)
            self.assertIn(b'generated-stream.vmdk', image.data[:2048])
            volume = self.fill(image)
            clone = self.new_volume()
            self.made(clone, self.driver.create_cloned_volume(clone, volume))
            self.assertEqual(self.wanted, self.checksum(clone))
            volume = clone


class RecordsTestCase(ImagesCase):
    """C5: an image is taken for what it is, whatever its record says."""

    def test_a_vmdk_without_its_type(self):
        self.accept(without_type(ImageService(self.made_stream())))
        self.accept(without_type(ImageService(
            disk_images.monolithic_sparse(CONTENT))))

    def test_an_ova_without_the_type_of_its_disk(self):
        self.accept(without_type(ImageService(
            disk_images.ova(self.made_stream()), container='ova')))

    def test_a_raw_disk_without_a_type(self):
        self.accept(without_type(ImageService(CONTENT)))

    def test_an_ova_that_is_called_bare(self):
        data = disk_images.ova(self.made_stream())
        self.refuse(without_type(ImageService(data)), 'tar archive')
        self.refuse(ImageService(data, 'preallocated'), 'tar archive')
        self.refuse(ImageService(data), 'tar archive')

    def test_an_ova_that_is_called_a_raw_disk(self):
        data = disk_images.ova(self.made_stream())
        for kind in ('preallocated', 'thin'):
            self.refuse(ImageService(data, kind, container='ova'),
                        'correct the property')

    def test_a_bare_disk_that_is_called_an_ova(self):
        self.refuse(ImageService(self.made_stream(), container='ova'),
                    'not an OVA')

    def test_other_formats(self):
        for data, words in ((b'QFI\xfb\0\0\0\3'.ljust(65536, b'\0'), 'qcow2'),
                            (b'\x1f\x8b'.ljust(65536, b'\0'), 'gzip'),
                            (disk_images.by_vsphere(1).ljust(1024, b'\0'),
                             'descriptor')):
            self.refuse(without_type(ImageService(data)), words)
            self.refuse(ImageService(data, 'preallocated'), words)

    def test_records_that_say_what_cannot_be(self):
        for field, value in (('disk_format', 'raw'), ('disk_format', None),
                             ('container_format', 'docker')):
            image = ImageService(self.made_stream())
            image.metadata[field] = value
            self.refuse(image, field)
        for name in ('vmware_disktype', 'vmware_adaptertype'):
            image = ImageService(self.made_stream())
            image.metadata['properties'][name] = 'nonsense'
            self.refuse(image, name)

    def test_an_image_without_data(self):
        for kind in ('streamOptimized', 'sparse', 'preallocated'):
            self.refuse(ImageService(b'', kind), 'empty')


class FlatTestCase(ImagesCase):
    """C6: a raw disk of any number of sectors keeps its last one."""

    VCENTER = ImagesCase.VCENTER | {'policy': ['gold=*']}

    def test_an_odd_number_of_sectors(self):
        self.accept(ImageService(ODD, 'preallocated'), self.sum_of(ODD))

    def test_one_sector(self):
        self.accept(ImageService(ODD[-512:], 'preallocated'),
                    self.sum_of(ODD[-512:]))

    def test_each_form_gets_the_policy_of_the_type(self):
        service = observer.policy_service(self.vcenter, self.service)
        for image in (ImageService(CONTENT, 'preallocated'),
                      ImageService(disk_images.monolithic_sparse(CONTENT),
                                   'sparse'),
                      ImageService(disk_images.stream_optimized(CONTENT),
                                   'streamOptimized')):
            for form in ('thin', 'eagerZeroedThick'):
                kind = self.volume_type(
                    f'gold {form} {image.metadata["id"]}',
                    storage_profile='gold', vmdk_type=form)
                volume = self.fill(image, self.new_volume(
                    type_id=kind['id']))
                truth = self.truth(volume)
                self.assertEqual(
                    (['gold'], form), (observer.policies_of_disk(
                        service, truth.vm, truth.disk), truth.provisioning))

    def test_one_whose_policy_is_refused_leaves_nothing(self):
        kind = self.volume_type('gold', storage_profile='gold',
                                vmdk_type='thin')
        volume = self.new_volume(type_id=kind['id'])
        # The disk is added, gets its UUID, and then the policy.
        self.control.fault(
            method='ReconfigVM_Task', skip=2, count=1,
            task_fault={'type': 'InvalidArgument'})
        self.assertRaises(exceptions.VMWARE_ERRORS, self.fill,
                          ImageService(CONTENT, 'preallocated'), volume)
        self.assert_nothing_left()

    def test_a_clone_whose_reply_is_lost_is_found(self):
        self.control.fault(method='CloneVM_Task', count=1, cut='after')
        self.accept(ImageService(CONTENT, 'preallocated'))

    def test_while_it_is_converted_an_audit_knows_whose_it_is(self):
        found = []

        def clone(*args, **kwargs):
            found.extend(self.shadow_vms())
            return original(*args, **kwargs)

        ops = self.driver.volumeops
        original = ops.clone_backing
        with mock.patch.object(ops, 'clone_backing', clone):
            volume = self.fill(ImageService(CONTENT, 'preallocated'))
        [name] = found
        self.assertEqual(volume.id, names.Names().temporary_of(name))


class OvaTestCase(ImagesCase):
    """C7: OVAs as the world writes them."""

    def ova(self, *members, **kwargs):
        return ImageService(disk_images.tar(members, **kwargs),
                            container='ova')

    def test_names_in_an_ova(self):
        disk, named = self.made_stream(), disk_images.one_disk('a.vmdk')
        for members in (
                [('./a.ovf', named), ('./a.vmdk', disk)],
                [('vm', None), ('vm/a.ovf', named), ('vm/a.vmdk', disk)],
                [('a.mf', b'x'), ('a.ovf', named), ('a.cert', b'y'),
                 ('a.vmdk.old', b'wrong'), ('a.vmdk', disk)],
                [('a.ovf', disk_images.one_disk('my%20disk.vmdk')),
                 ('my disk.vmdk', disk)]):
            with self.subTest(members[0][0]):
                self.accept(self.ova(*members))

    def test_names_that_are_long(self):
        name = 'x' * 150 + '.vmdk'
        for archive in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            self.accept(self.ova(('a.ovf', disk_images.one_disk(name)),
                                 (name, self.made_stream()),
                                 archive_format=archive))

    def test_a_cut_ova(self):
        whole = disk_images.ova(self.made_stream())
        for length in (100, 1000, 1600, 2600, 60000):
            self.refuse(ImageService(whole[:length], container='ova'),
                        'tar archive' if length < 512 else 'cut off')

    def test_an_ova_that_is_cut_within_its_disk(self):
        whole = disk_images.ova(self.made_stream())
        caught = self.assertRaises(
            exceptions.UnusableImage, self.fill,
            ImageService(whole[:len(whole) // 2], container='ova'))
        self.assertIn('cut off', str(caught))
        self.assert_nothing_left()

    def test_hostile_ovas(self):
        entity = (b'<!DOCTYPE x [<!ENTITY a "b">]><Envelope>&a;</Envelope>')
        for data, words in (
                (disk_images.tar_header('x', 200 * units.Mi, b'x')
                 + bytes(65536), 'header of'),
                (disk_images.tar_header('x.ovf', 600 * units.Mi)
                 + bytes(65536), 'more than'),
                (disk_images.tar([('x.ovf', entity)]), 'document type')):
            self.refuse(ImageService(data, container='ova'), words)


class CutTestCase(ImagesCase):
    """D15: a cut disk is tried once, and its sentence names the image."""

    def test_wherever_it_is_cut(self):
        for data, kind in ((self.made_stream(), 'streamOptimized'),
                           (disk_images.monolithic_sparse(CONTENT),
                            'sparse')):
            for length in (512, 65536 + 100, len(data) // 2, len(data) - 512):
                image = ImageService(data[:length], kind)
                caught = self.assertRaises(exceptions.UnusableImage,
                                           self.fill, image)
                self.assertIsInstance(caught, not_rescheduled())
                self.assertIn(image.metadata['id'], str(caught))
                self.assertIn('cut off', str(caught))
                self.assert_nothing_left()

    def test_a_damaged_grain(self):
        data = bytearray(self.made_stream())
        data[70000:70004] = b'\xff' * 4
        caught = self.assertRaises(exceptions.UnusableImage, self.fill,
                                   ImageService(bytes(data)))
        self.assertIn('damaged', str(caught))
        self.assert_nothing_left()


class InVsphere(ImageService):
    """An image that the image service keeps on a datastore."""

    url = None

    def get_location(self, context, image_id):
        return self.url, []


class InVsphereTestCase(ImagesCase):
    """C9: what is copied within the vCenter is checked as all else is."""

    def image(self, kept, sent=None, kind='preallocated'):
        """:param sent: what the image service sends, if not the same"""
        image = InVsphere(sent or kept, kind)
        datacenter = self.all(vim.Datacenter)[0]
        path = f'images/{image.metadata["id"]}.vmdk'
        query = parse.urlencode({'dcPath': datacenter.name,
                                 'dsName': 'LocalDS_0'})
        place = f'{self.vcenter.host}:{self.vcenter.port}/folder/{path}'
        requests.put(f'https://{place}?{query}', data=kept, verify=False,
                     cookies=self.cookies()).raise_for_status()
        self.addCleanup(self.delete, path, datacenter)
        self.before = self.files()
        image.url = f'vsphere://{place}?{query}'
        self.control.reset_journal()
        return image

    def cookies(self):
        name, _, value = self.service._stub.cookie.partition(';')[
            0].partition('=')
        return {name: value}

    def delete(self, path, datacenter):
        self.wait(self.service.content.fileManager.DeleteDatastoreFile_Task(
            f'[LocalDS_0] {path}', datacenter))

    def test_good_ones_are_copied_within_the_vcenter(self):
        for kept, kind in ((CONTENT, 'preallocated'),
                           (disk_images.monolithic_sparse(CONTENT),
                            'sparse')):
            self.accept(self.image(kept, kind=kind))
            calls = self.control.journal()['methods']
            self.assertIn('CopyDatastoreFile_Task', calls)
            self.assertNotIn('PUT /folder', calls)

    def test_one_of_an_odd_number_of_sectors_is_whole(self):
        self.accept(self.image(ODD), self.sum_of(ODD))

    def test_what_is_no_disk_is_refused(self):
        self.refuse(self.image(disk_images.ova(self.made_stream())),
                    'tar archive')
        self.refuse(self.image(self.made_stream()), 'vmware_disktype')
        self.refuse(self.image(
            b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n'
            b'createType="monolithicFlat"\n'
            b'RW 2048 FLAT "/vmfs/volumes/LocalDS_0/x-flat.vmdk" 0\n',
            kind='sparse'), 'not a VMDK')

    def test_another_file_than_the_image_service_sends(self):
        for kept in (ODD, self.made_stream()):
            image = self.image(kept, CONTENT)
            self.assertRaises(exception.ImageUnacceptable, self.fill, image)
            self.assert_nothing_left()


class ConvertedTestCase(ImagesCase):
    """D15: raw and qcow2, the formats of most clouds."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.conversion_folder()
        cls.signer = signing.Signer()

    def image(self, data, disk_format='raw', **kwargs):
        image = without_type(ImageService(data, **kwargs))
        image.metadata['disk_format'] = disk_format
        return image

    def accept(self, image, wanted=None):
        super().accept(image, wanted)
        self.assertEqual([], os.listdir(self.folder))

    def refuse(self, image, words, error=exception.ImageUnacceptable):
        super().refuse(image, words, error)
        self.assertEqual([], os.listdir(self.folder))

    def test_raw_images_of_any_size(self):
        for data in (ODD, CONTENT[:700]):
            self.accept(self.image(data), self.sum_of(data))

    def test_qcow2_images_of_any_size(self):
        for data, compress in ((CONTENT, True), (ODD, False)):
            self.accept(self.image(disk_images.qcow2(
                data, compress=compress), 'qcow2'), self.sum_of(data))

    def test_they_need_one_import_and_no_other_copy(self):
        self.control.reset_journal()
        self.fill(self.image(CONTENT))
        calls = set(self.control.journal()['methods'])
        self.assertEqual({'ImportVApp', 'POST /nfc'},
                         calls & {*UPLOADS, 'ExtendVirtualDisk_Task',
                                  'CopyVirtualDisk_Task', 'CloneVM_Task'})

    def test_a_volume_that_has_a_disk_gets_them(self):
        volume = self.create(content=b'old')
        self.fill(self.image(CONTENT), volume)
        self.assertEqual(self.wanted, self.checksum(volume))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_one_of_upstreams_driver_gets_them(self):
        volume = self.create(content=b'old')
        volume.provider_id = None
        volume.status = 'downloading'
        volume.save()
        self.fill(self.image(CONTENT), volume)
        self.assertEqual(self.wanted, self.checksum(volume))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_volume_with_cow_snapshots_keeps_its_disk_and_them(self):
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        volume = self.create(content=b'old')
        snapshot = self.snapshot(volume)
        volume.previous_status, volume.status = 'available', 'downloading'
        volume.save()
        caught = self.assertRaises(exceptions.VolumeRefused, self.fill,
                                   self.image(CONTENT), volume)
        self.assertIn('COW snapshots', str(caught))
        self.assertEqual(b'old', self.read(volume, 3))
        copy = self.new_volume()
        self.made(copy, self.driver.create_volume_from_snapshot(copy,
                                                                snapshot))
        self.assertEqual(b'old', self.read(copy, 3))

    def test_what_needs_another_file_is_refused(self):
        for data, words in (
                (disk_images.qcow2(CONTENT, backing=b'/etc/shadow'),
                 'backing file'),
                (disk_images.qcow2(CONTENT, features=4), 'data-file'),
                (disk_images.qcow2(CONTENT, size=1 << 31), 'make the volume'),
                (CONTENT, 'not a qcow2 image')):
            self.refuse(self.image(data, 'qcow2'), words)

    def test_raw_images_that_are_something_else_are_refused(self):
        for data, words in ((disk_images.qcow2(CONTENT), 'a qcow2 image'),
                            (self.made_stream(), 'a VMDK file')):
            self.refuse(self.image(data), words)
        self.refuse(self.image(CONTENT, container='ova'), 'container_format')

    def test_one_that_is_cut_leaves_nothing(self):
        image = self.image(disk_images.qcow2(CONTENT)[:-512], 'qcow2')
        caught = self.assertRaises(exceptions.UnusableImage, self.fill, image)
        self.assertIn('cut off', str(caught))
        self.assert_nothing_left()
        for disk_format, data in (('raw', CONTENT),
                                  ('qcow2', disk_images.qcow2(CONTENT))):
            self.assert_fails(self.image(data, disk_format,
                                         size=len(data) + 512))
        self.assertEqual([], os.listdir(self.folder))

    def test_too_little_space_for_one_is_said_once(self):
        self.refuse(self.image(b'', 'qcow2', size=1 << 62), self.folder,
                    exception.ImageTooBig)

    def test_no_conversion_without_the_operators_leave(self):
        cfg.CONF.set_override('image_conversion_disable', True)
        self.addCleanup(cfg.CONF.clear_override, 'image_conversion_disable')
        self.refuse(self.image(CONTENT), 'disabled',
                    exception.ImageConversionNotAllowed)

    def test_a_signature_is_verified_before_the_disk_is_whole(self):
        for data, signed, disk_format in (
                (ODD, CONTENT, 'raw'),
                (disk_images.qcow2(CONTENT), disk_images.qcow2(CONTENT),
                 'qcow2')):
            image = self.image(data, disk_format)
            image.metadata['properties'].update(
                self.signer.properties(signed))
            self.try_signed(image, data == signed)

    def try_signed(self, image, is_right):
        volume = self.new_volume()
        with mock.patch.object(
                image_signature.signature_utils, 'get_certificate',
                lambda context, uuid: self.signer):
            if not is_right:
                self.assertRaises(
                    exception.ImageSignatureVerificationException, self.fill,
                    image, volume)
                self.assert_nothing_left()
                return
            self.fill(image, volume)
        self.assertEqual(self.wanted, self.checksum(volume))
        self.driver.delete_volume(volume)


class UploadTestCase(ImagesCase):
    """C3, C5: images that are made of volumes."""

    def test_properties_of_the_record_are_kept(self):
        volume = self.create(content=CONTENT)
        target = ImageService()
        kept = {'hw_disk_bus': 'scsi', 'os_type': 'linux',
                'vmware_adaptertype': 'ide'}
        target.metadata['properties'] = dict(kept)
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        properties = target.metadata['properties']
        self.assertEqual(kept, {name: properties.get(name) for name in kept})
        self.assertEqual('streamOptimized', properties['vmware_disktype'])

    def test_an_adapter_that_no_volume_can_have_is_replaced(self):
        volume = self.create()
        target = ImageService()
        target.metadata['properties'] = {'vmware_adaptertype': 'nonsense',
                                         'hw_disk_bus': 'nonsense'}
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        self.assertEqual(('lsiLogic', 'nonsense'), tuple(
            target.metadata['properties'][name]
            for name in ('vmware_adaptertype', 'hw_disk_bus')))
        # Of a hw_* property this driver asks nothing.
        self.fill(target)

    def test_the_adapter_is_added_where_the_record_has_none(self):
        source = ImageService(self.made_stream())
        source.metadata['properties']['vmware_adaptertype'] = 'paraVirtual'
        volume = self.fill(source)
        target = ImageService()
        target.metadata['properties'] = {}
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        self.assertEqual('paraVirtual', target.metadata['properties'][
            'vmware_adaptertype'])

    def test_formats_that_are_not_written_are_refused(self):
        volume = self.create(content=CONTENT)
        for asked in (('raw', 'ova'), ('qcow2', 'ova'), ('vhd', 'bare'),
                      ('vmdk', 'compressed'), ('raw', 'compressed')):
            target = self.target(*asked)
            caught = self.assertRaises(
                exception.ImageUnacceptable,
                self.driver.copy_volume_to_image, self.context, volume,
                target, target.metadata)
            self.assertIn('its disk_format is %s and its container_format is '
                          '%s, but' % asked, str(caught))
            self.assertIn(target.metadata['id'], str(caught))
            self.assertEqual(b'', target.data)

    def test_raw_and_qcow2_and_ova(self):
        """The content is compared by readers that are not the plugin's."""
        folder = self.enter_folder()
        volume = self.create(content=ODD)
        raw = self.image_as(volume, 'raw', service=test_transfers.GrainKeeper)
        self.assertEqual(self.sum_of(ODD), disk_images.checksum(
            raw.grains, raw.metadata['size']))
        for adapter in (None, 'paraVirtual'):
            image = self.image_as(volume, 'vmdk', 'ova', adapter)
            self.assertEqual(
                self.sum_of(ODD), disk_images.checksum(
                    disk_images.read_stream(disk_images.disk_in(image.data)),
                    units.Gi))
        image = self.image_as(volume, 'qcow2')
        self.assertEqual(self.sum_of(ODD), disk_images.checksum(
            disk_images.read_qcow2(image.data), units.Gi))
        self.assertLess(len(image.data), 4 * units.Mi)
        self.assertNotIn('vmware_disktype', image.metadata['properties'])
        self.assertEqual([], os.listdir(folder))
        copy = self.fill(image)
        self.assertEqual(self.sum_of(ODD), self.checksum(copy))

    def enter_folder(self):
        folder = self.useFixture(fixtures.TempDir()).path
        cfg.CONF.set_override('image_conversion_dir', folder)
        self.addCleanup(cfg.CONF.clear_override, 'image_conversion_dir')
        return folder

    @staticmethod
    def target(disk_format, container_format='bare', adapter=None,
               service=ImageService):
        target = service()
        target.metadata.update(disk_format=disk_format,
                               container_format=container_format)
        target.metadata['properties'] = (
            {'vmware_adaptertype': adapter} if adapter else {})
        return target

    def image_as(self, volume, *asked, **kwargs):
        target = self.target(*asked, **kwargs)
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        self.assertFalse(target.is_deleted)
        return target

    def test_an_export_that_breaks_off_is_no_raw_or_qcow2_image(self):
        folder = self.enter_folder()
        volume = self.create(content=CONTENT)
        for asked in (('raw', 'bare'), ('qcow2', 'bare'), ('vmdk', 'ova')):
            self.control.fault(path='/nfc/', cut='during', after_bytes=5000)
            target = self.target(*asked)
            self.assertRaises(
                exceptions.TransferFailed, self.driver.copy_volume_to_image,
                self.context, volume, target, target.metadata)
            self.control.reset_faults()
            self.assertEqual([], os.listdir(folder))
            if asked[0] != 'raw':
                self.assertEqual(b'', target.data)

    def test_too_little_space_for_one_is_said_before_its_export(self):
        folder = self.enter_folder()
        volume = self.create(content=CONTENT)
        self.control.reset_journal()
        with mock.patch.object(host_space, 'free_bytes', return_value=4096):
            for asked in (('qcow2', 'bare'), ('vmdk', 'ova')):
                target = self.target(*asked)
                with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
                    self.assertRaises(
                        exception.ImageTooBig,
                        self.driver.copy_volume_to_image, self.context,
                        volume, target, target.metadata)
                self.assertRegex(
                    log.output[0], rf'{folder} \(image_conversion_dir\) has '
                    r'too little space: .* needed, .* free; make space there')
            self.assertNotIn('ExportVm', self.control.journal()['methods'])
            # These are not stored.
            self.image_as(volume, 'vmdk')

    def test_none_is_converted_without_the_operators_leave(self):
        cfg.CONF.set_override('image_conversion_disable', True)
        self.addCleanup(cfg.CONF.clear_override, 'image_conversion_disable')
        target = self.target('raw')
        self.assertRaises(
            exception.ImageConversionNotAllowed,
            self.driver.copy_volume_to_image, self.context, self.create(),
            target, target.metadata)


class HostileTestCase(unittest.TestCase):
    """C4: a part of `make image-fuzz`, in a process of its own."""

    def test_images_by_a_seed_within_64_mib(self):
        ran = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m',
             'cinder_vmdk_ext.tests.functional.image_fuzz', '--count', '40',
             '--seed', '7'], capture_output=True, text=True, timeout=600)
        self.assertEqual(0, ran.returncode, ran.stdout + ran.stderr)
        self.assertIn('0 otherwise', ran.stdout)


if __name__ == '__main__':
    unittest.main()
