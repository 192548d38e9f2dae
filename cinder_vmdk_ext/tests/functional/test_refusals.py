# SPDX-License-Identifier: Apache-2.0
"""Requests that the driver cannot serve are refused with the reason."""

import random

from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception
from cinder.message import message_field
from cinder.volume import qos_specs
from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_images
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.volumes import admission
from sandbox.embedded import database

ACTION, DETAIL = message_field.Action, message_field.Detail
# The nearest that Cinder has: it has none for a change of type.
RETYPED = ACTION.SCHEDULE_ALLOCATE_VOLUME, DETAIL.NO_BACKEND_AVAILABLE
TOO_LARGE = admission.MOST_GIB + 1
NOVA = {'host': 'compute', 'ip': '127.0.0.1', 'initiator': 'iqn'}
CHANGES = ('CreateVM_Task', 'CloneVM_Task', 'ReconfigVM_Task',
           'RelocateVM_Task', 'CreateFolder', 'ImportVApp', 'Rename_Task',
           'ExtendVirtualDisk_Task', 'CreateSnapshot_Task',
           'ExportVm', 'CreateSnapshotEx_Task')


class RefusalsTestCase(backend_case.BackendCase):
    """One class, so that one simulator serves them all."""

    VCENTER = backend_case.BackendCase.VCENTER | {'ds': 2, 'vm': 1}
    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def refuse(self, kind, words, hook, *args, message=None):
        """It ends in one sentence and one ERROR line, and changes nothing.

        :param message: the action and the detail of the user message
        """
        known = {each['id'] for each in self.messages()}
        self.control.reset_journal()
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            caught = self.assertRaises(kind, hook, *args)
        self.assertIsInstance(caught, test_images.not_rescheduled())
        self.assertIsNone(caught.__cause__ or None)
        self.assertTrue(caught.__suppress_context__)
        self.assertEqual(1, len(log.output))
        for text in (str(caught), log.output[0]):
            self.assertNotIn('\n', text)
            for word in words:
                self.assertIn(word, text)
        self.assertEqual(set(), set(CHANGES)
                         & set(self.control.journal()['methods']))
        self.assertEqual([message and (message[0][0], message[1][0])], [
            (each['action_id'], each['detail_id'])
            for each in self.messages() if each['id'] not in known] or [None])

    def messages(self):
        return database.api.message_get_all(self.context)

    def encrypted_type(self, name='encrypted'):
        made = self.database.volume_type(name)
        database.api.volume_type_encryption_create(self.context, made.id, {
            'provider': 'luks', 'control_location': 'front-end',
            'cipher': 'aes-xts-plain64', 'key_size': 256})
        return made.id

    def ways_to_make(self, *volumes):
        """Every hook that makes a volume, with its user message."""
        source = self.create()
        snapshot = self.snapshot(source)
        image = test_transfers.ImageService(disk_images.stream_optimized(
            test_images.CONTENT))
        image_id = image.metadata['id']
        moment = self.driver.backend.groups._clone_at
        made = ACTION.CREATE_VOLUME_FROM_BACKEND, DETAIL.DRIVER_FAILED_CREATE
        of_image = ACTION.COPY_IMAGE_TO_VOLUME, DETAIL.DRIVER_FAILED_CREATE
        ref = {'source-name': '[LocalDS_0] a/b.vmdk'}
        return [way for volume in volumes for way in (
            ((self.driver.create_volume, volume), made),
            ((self.driver.create_volume_from_snapshot, volume, snapshot),
             made),
            ((self.driver.create_cloned_volume, volume, source), made),
            ((self.driver.clone_image, self.context, volume, None,
              image.metadata, image), of_image),
            ((self.driver.copy_image_to_volume, self.context, volume, image,
              image_id), of_image),
            ((self.driver.manage_existing, volume, ref), made),
            ((moment, volume, source, None), made))]

    # -- D6: what Cinder calls encrypted never lies there in plain. --

    CANNOT = ('which this driver cannot do', 'vmware:storage_profile',
              'VM Encryption Policy')

    def test_no_volume_is_made_of_an_encrypted_type(self):
        by_type = self.new_volume(type_id=self.encrypted_type())
        by_key = self.new_volume(encryption_key_id=self.context.request_id[4:])
        for (hook, *args), message in self.ways_to_make(by_type, by_key):
            with self.subTest(hook.__name__):
                self.refuse(exceptions.EncryptionRefused, self.CANNOT,
                            hook, *args, message=message)

    def test_a_group_of_attached_volumes_is_not_copied_to_one(self):
        source = self.create()
        volume = self.new_volume(type_id=self.encrypted_type())
        self.assertRaises(exceptions.EncryptionRefused,
                          self.driver.backend.clone.from_moment, volume,
                          source, None)

    def test_no_volume_is_retyped_to_one(self):
        volume = self.create()
        wanted = volume_types.get_volume_type(self.context,
                                              self.encrypted_type())
        self.refuse(exceptions.EncryptionRefused, self.CANNOT,
                    self.driver.retype, self.context, volume, wanted, {},
                    self.there('LocalDS_1'), message=RETYPED)

    def test_one_that_exists_is_not_handed_out(self):
        """As upstream's driver made them."""
        volume = self.create()
        volume.encryption_key_id = self.context.request_id[4:]
        volume.save()
        words = ('not encrypted', 'vc disk copy', 'a type without encryption')
        self.refuse(exceptions.EncryptionRefused, words,
                    self.driver.initialize_connection, volume,
                    NOVA | {'instance': self.instances()[0]._moId},
                    message=(ACTION.ATTACH_VOLUME, DETAIL.ATTACH_ERROR))
        target = test_transfers.ImageService()
        self.refuse(exceptions.EncryptionRefused, words,
                    self.driver.copy_volume_to_image, self.context, volume,
                    target, target.metadata)
        self.assert_a_copy_can_be_managed(volume)

    def assert_a_copy_can_be_managed(self, volume):
        """The remedy works. Cinder refuses to clone to another type."""
        content = self.service.content
        path = '[LocalDS_1] plain.vmdk'
        self.wait(content.virtualDiskManager.CopyVirtualDisk_Task(
            self.truth(volume).path, content.rootFolder.childEntity[0], path,
            content.rootFolder.childEntity[0], None, False))
        managed = self.new_volume()
        self.made(managed, self.driver.manage_existing(
            managed, {'source-name': path}))
        self.driver.initialize_connection(
            managed, NOVA | {'instance': self.instances()[0]._moId})
        self.assertEqual(self.checksum(volume), self.checksum(managed))
        encrypted = self.encrypted_type('once')
        self.assertTrue(volume_types.volume_types_encryption_changed(
            self.context, encrypted, self.database.volume_type('of none').id))

    # -- E11: sizes that no virtual disk can have. --

    LARGE = (f'{TOO_LARGE} GiB', '63488 GiB (62 TiB)')

    def test_no_volume_is_made_above_62_tib(self):
        volume = self.new_volume(size_gib=TOO_LARGE)
        for (hook, *args), message in self.ways_to_make(volume):
            with self.subTest(hook.__name__):
                # For an empty volume Cinder makes the message.
                if hook == self.driver.create_volume:
                    message = None
                self.refuse(exceptions.VolumeRefused, self.LARGE, hook, *args,
                            message=message)

    def test_none_is_extended_above_62_tib(self):
        for volume in (self.create(), self.new_volume()):
            self.refuse(exceptions.VolumeRefused, self.LARGE,
                        self.driver.extend_volume, volume, TOO_LARGE)

    # -- E11, D15: volume types that ask for what nothing gives. --

    def test_a_misspelt_key_is_named_with_the_right_one(self):
        type_id = self.database.volume_type('x', vmdk_typ='thick').id
        words = ('vmware:vmdk_typ ', "'thick'", 'write vmware:vmdk_type')
        volume = self.new_volume(type_id=type_id)
        for (hook, *args), message in self.ways_to_make(volume):
            with self.subTest(hook.__name__):
                if hook == self.driver.create_volume:
                    message = None
                self.refuse(exceptions.InvalidExtraSpec, words, hook, *args,
                            message=message)
        self.refuse(exceptions.InvalidExtraSpec, words, self.driver.retype,
                    self.context, self.create(),
                    volume_types.get_volume_type(self.context, type_id), {},
                    self.there('LocalDS_1'), message=RETYPED)

    def type_with_qos(self, consumer, **specs):
        type_id = self.database.volume_type(uuidutils.generate_uuid()).id
        found = qos_specs.create(self.context, type_id, {
            'consumer': consumer} | specs)
        qos_specs.associate_qos_with_type(self.context, found['id'], type_id)
        return type_id

    def test_qos_that_only_a_front_end_enforces_is_warned_of_once(self):
        for consumer, warned in (('back-end', 0), ('both', 1),
                                 ('front-end', 1)):
            specs = {'total_iops_sec': '500'}
            if consumer == 'both':
                specs['read_bytes_sec'] = '1'
            type_id = self.type_with_qos(consumer, **specs)
            with self.assertLogs('cinder_vmdk_ext', 'DEBUG') as log:
                for _ in range(2):
                    self.create(type_id=type_id)
            lines = [line for line in log.output if 'Of the QoS' in line]
            self.assertEqual(warned, len(lines), consumer)
            for line in lines:
                self.assertIn(f'QoS specs {type_id} of volume type {type_id}, '
                              + ('read_bytes_sec' if consumer == 'both'
                                 else 'total_iops_sec') + ' have no effect',
                              line)

    def test_qos_that_vsphere_does_not_have_is_refused_with_its_keys(self):
        type_id = self.type_with_qos('back-end', min_iops='1', burst='2')
        words = ('no burst, min_iops for a disk', 'known are total_iops_sec')
        volume = self.new_volume(type_id=type_id)
        for (hook, *args), message in self.ways_to_make(volume):
            with self.subTest(hook.__name__):
                if hook == self.driver.create_volume:
                    message = None
                self.refuse(exceptions.InvalidQosSpec, words, hook, *args,
                            message=message)
        self.refuse(exceptions.InvalidQosSpec, words, self.driver.retype,
                    self.context, self.create(),
                    volume_types.get_volume_type(self.context, type_id), {},
                    self.there('LocalDS_1'), message=RETYPED)

    # -- E7, D15: tenants learn what is wrong with an image. --

    def test_of_an_image_that_is_no_disk(self):
        data = disk_images.ova(disk_images.stream_optimized(
            test_images.CONTENT))
        image = test_transfers.ImageService(data, 'preallocated')
        volume = self.new_volume()
        args = (self.driver.copy_image_to_volume, self.context, volume, image,
                image.metadata['id'])
        self.refuse(exception.ImageUnacceptable, ('tar archive',), *args,
                    message=(ACTION.COPY_IMAGE_TO_VOLUME,
                             DETAIL.IMAGE_FORMAT_UNACCEPTABLE))
        volume.previous_status = 'available'  # as for a reimage
        self.refuse(exception.ImageUnacceptable, ('tar archive',), *args,
                    message=(ACTION.REIMAGE_VOLUME,
                             DETAIL.IMAGE_FORMAT_UNACCEPTABLE))

    def test_of_an_image_that_is_deleted_or_breaks_off_meanwhile(self):
        """Cinder tries no other pool, and has no message for them."""
        for error in (exception.ImageNotFound(image_id='i'),
                      exception.GlanceConnectionFailed(reason='gone')):
            def download(context, image_id):
                yield image.data[:65536]
                raise error
            image = test_transfers.ImageService(disk_images.stream_optimized(
                random.Random(1).randbytes(1 << 18)))
            image.download = download
            volume = self.new_volume()
            with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
                self.assertRaises(
                    exceptions.TransferFailed,
                    self.driver.copy_image_to_volume, self.context, volume,
                    image, image.metadata['id'])
            self.assertEqual(1, len(log.output))
            self.assertIn(str(error), log.output[0])
            self.assertEqual(
                (volume.id, ACTION.COPY_IMAGE_TO_VOLUME[0],
                 DETAIL.DRIVER_FAILED_CREATE[0]), tuple(
                     self.messages()[0][each] for each in (
                         'resource_uuid', 'action_id', 'detail_id')))
            self.assertEqual({}, self.shadow_vms())

    def test_of_a_new_image_that_is_deleted_meanwhile(self):
        volume = self.create()
        target = test_transfers.ImageService()
        shown = iter([target.metadata])

        def show(context, image_id):
            try:
                return next(shown)
            except StopIteration:
                raise exception.ImageNotFound(image_id=image_id)
        target.show = show
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assertRaises(
                exception.ImageNotFound, self.driver.copy_volume_to_image,
                self.context, volume, target, target.metadata)
        self.assertIn('could not be found', log.output[0])
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_of_a_format_that_is_not_written(self):
        target = test_transfers.ImageService()
        target.metadata['disk_format'] = 'vhd'
        self.refuse(exception.ImageUnacceptable, ('vmdk, raw or qcow2',),
                    self.driver.copy_volume_to_image, self.context,
                    self.create(), target, target.metadata,
                    message=(ACTION.COPY_VOLUME_TO_IMAGE,
                             DETAIL.IMAGE_FORMAT_UNACCEPTABLE))

    def test_of_a_source_that_is_lost(self):
        source = self.create()
        self.destroy(self.truth(source).vm)
        self.catch_up()
        self.refuse(exceptions.BackingLost, (source.id, 'no backing'),
                    self.driver.create_cloned_volume, self.new_volume(),
                    source, message=(ACTION.CREATE_VOLUME_FROM_BACKEND,
                                     DETAIL.DRIVER_FAILED_CREATE))

    # -- E7, E14: the size is the first that meets a wrong reference. --

    def test_of_a_disk_to_manage_that_is_not_there(self):
        ref = {'source-name': '[LocalDS_0] none/none.vmdk'}
        known = len(self.messages())
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assertRaises(exception.ManageExistingInvalidReference,
                              self.driver.manage_existing_get_size,
                              self.new_volume(), ref)
        self.assertEqual(1, len(log.output))
        self.assertIn('none/none.vmdk', log.output[0])
        self.assertEqual(known + 1, len(self.messages()))

    def test_of_a_connector_that_cannot_be_served(self):
        """The API waits for it and answers with it, so it has no message."""
        known = len(self.messages())
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            caught = self.assertRaises(
                exception.InvalidConnectorException,
                self.driver.validate_connector, {
                    'platform': 'x', 'os_type': 'y', 'host': 'elsewhere'})
        self.assertEqual(1, len(log.output))
        self.assertIn('validate_connector of backend', log.output[0])
        self.assertIn(str(caught), log.output[0])
        self.assertEqual(known, len(self.messages()))

    def test_of_what_is_managed_no_longer_though_it_should_be(self):
        volume = self.create()
        self.control.fault(method='Rename_Task|ReconfigVM_Task', count=9,
                           task_fault={'type': 'SystemError'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.unmanage, volume)
        self.assertEqual(
            (ACTION.UNMANAGE_VOLUME[0], DETAIL.UNKNOWN_ERROR[0]),
            (self.messages()[0]['action_id'],
             self.messages()[0]['detail_id']))

    def test_of_a_snapshot_to_manage_that_is_not_there(self):
        volume = self.create()
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assertRaises(exception.ManageExistingInvalidReference,
                              self.driver.manage_existing_snapshot_get_size,
                              self.new_snapshot(volume),
                              {'source-name': 'none'})
        self.assertEqual(1, len(log.output))
        self.assertIn('none', log.output[0])
        self.assertEqual(
            ('VOLUME_SNAPSHOT', DETAIL.SNAPSHOT_CREATE_ERROR[0]),
            (self.messages()[0]['resource_type'],
             self.messages()[0]['detail_id']))
