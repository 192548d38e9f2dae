# SPDX-License-Identifier: Apache-2.0
"""Upstream's unchanged driver does all that it can on the simulated vCenter.

cinder.volume.drivers.vmware.vmdk, with Cinder's own database; what it did is looked at by pyVmomi, bytes by checksum.
"""

import logging
import os
import shutil
import subprocess
import tempfile
import unittest

from oslo_config import cfg
from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import coordination
from cinder import objects
from cinder.volume.drivers.vmware import vmdk

from sandbox.embedded import database
from sandbox.embedded import section
from simulator.conformance import storage_case
from simulator.conformance.storage_case import grain_sum
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance import wsdl_once

CONTENT = noise(MIB + 4321)
OTHER = noise(MIB, 2)
ONE = grain_sum(CONTENT, units.Gi)
ADAPTERS = {
    'lsiLogic': 'VirtualLsiLogicController', 'busLogic': 'VirtualBusLogicController', 'ide': 'VirtualIDEController',
    'lsiLogicsas': 'VirtualLsiLogicSASController', 'paraVirtual': 'ParaVirtualSCSIController'}


class ImageService:
    """What the driver asks of Glance: images in memory."""

    def __init__(self, data=b'', **properties):
        self.metadata = {'id': uuidutils.generate_uuid(), 'size': len(data), 'disk_format': 'vmdk', 'container_format': 'bare',
                         'name': 'image', 'properties': properties}
        self.data = data
        self.temp_images = None

    def show(self, context, image_id):
        return self.metadata

    def get_location(self, context, image_id):
        return None, None

    def download(self, context, image_id):
        return iter([self.data[at:at + MIB] for at in range(0, len(self.data), MIB)])

    def update(self, context, image_id, metadata, data=None, **ignored):
        self.metadata.update(metadata)
        self.data = b''.join(iter(lambda: data.read(units.Mi), b''))


class UpstreamCase(storage_case.StorageCase):

    lenient = 'quoted-policy-cookie'  # oslo.vmware sends it so
    flags = {'ds': 3, 'vm': 1, 'host': 2, 'standalone_host': 0, 'ds_capacity': ['20GiB', 'LocalDS_2=6GiB'],
             'ds_mount_all': True}
    options = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(wsdl_once.shared())
        logging.disable(logging.CRITICAL)  # the driver logs what it expects as well
        cls.addClassCleanup(logging.disable, logging.NOTSET)
        folder = tempfile.TemporaryDirectory(prefix='cinder-locks-')
        cls.addClassCleanup(folder.cleanup)
        # Upstream's driver needs other privileges than the plugin does.
        administrator = {'vmware_host_username': cls.vcenter.user, 'vmware_host_password': cls.vcenter.password}
        cls.driver = vmdk.VMwareVcVmdkDriver(
            configuration=section.read(**section.of_vcenter(cls.vcenter, **administrator, **cls.options)), host='cinder@vmdk')
        cfg.CONF.set_override('backend_url', f'file://{folder.name}', 'coordination')
        cfg.CONF.set_override('lock_path', folder.name, 'oslo_concurrency')
        if not coordination.COORDINATOR.started:
            coordination.COORDINATOR.start()
            cls.addClassCleanup(coordination.COORDINATOR.stop)
        cls.driver.do_setup(None)
        cls.driver.check_for_setup_error()
        cls.addClassCleanup(cls.driver.session.logout)

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)
        self.context = self.database.context
        self.addCleanup(self.remove_all)

    def remove_all(self):
        for vm in self.all(vim.VirtualMachine):
            if not vm.name.startswith('DC0_'):
                self.destroy(vm)

    # What a user does

    def volume(self, size_gib=1, **specs):
        if specs:
            kind = self.database.volume_type(uuidutils.generate_uuid(), **specs)
            return self.database.volume(size_gib, volume_type_id=kind['id'])
        return self.database.volume(size_gib)

    def created(self, content=b'', **specs):
        volume = self.volume(**specs)
        self.driver.create_volume(volume)
        volume.status = 'available'
        if content:
            self.assertEqual(204, self.guest_writes(self.disk(volume).backing.fileName, content))
        return volume

    def snapshot_of(self, volume):
        made = objects.Snapshot(self.context, volume_id=volume.id, volume_size=volume.size, status='creating', user_id='user',
                                progress='0%', project_id=volume.project_id, display_name='snapshot',
                                volume_type_id=volume.volume_type_id)
        made.create()
        made.volume = volume
        made.update(self.driver.create_snapshot(made) or {})
        return made

    # What there is

    def shadow(self, volume):
        return self.content.searchIndex.FindByUuid(None, volume.id, True, True)

    def disk(self, volume):
        vm = self.shadow(volume)
        self.assertIsNotNone(vm, 'the volume has no backing')
        return self.disks(vm)[0]

    def sum_of(self, volume):
        return self.grains(self.disk(volume).backing.fileName)

    def assert_nothing_left(self):
        self.assertEqual([], [vm.name for vm in self.all(vim.VirtualMachine) if not vm.name.startswith('DC0_')])


class LifeTestCase(UpstreamCase):

    def test_every_disk_type(self):
        for kind, taken, backing in (('thin', 0, (True, False)), ('thick', units.Gi, (False, False)),
                                     ('eagerZeroedThick', units.Gi, (False, True))):
            with self.subTest(kind):
                before = sum(map(self.free, ('LocalDS_0', 'LocalDS_1', 'LocalDS_2')))
                volume = self.created(vmdk_type=kind)
                made = self.disk(volume).backing
                self.assertEqual(backing, (made.thinProvisioned, made.eagerlyScrub or False))
                after = sum(map(self.free, ('LocalDS_0', 'LocalDS_1', 'LocalDS_2')))
                self.assertAlmostEqual(before - taken, after, delta=units.Mi)
                self.check_space()
                self.driver.delete_volume(volume)
        self.assert_nothing_left()

    def test_every_adapter(self):
        for adapter, controller in ADAPTERS.items():
            with self.subTest(adapter):
                volume = self.created(adapter_type=adapter)
                vm = self.shadow(volume)
                found = next(d for d in vm.config.hardware.device if d.key == self.disk(volume).controllerKey)
                self.assertEqual(controller, type(found).__name__.rsplit('.', 1)[-1])
                self.driver.delete_volume(volume)

    def test_the_disks_uuid_is_the_volumes(self):
        self.assertEqual((uuid := self.created()).id, self.disk(uuid).backing.uuid)

    def test_attach_moves_to_where_the_instance_can_reach(self):
        volume = self.created(CONTENT)
        instance = self.named(vim.VirtualMachine, 'DC0_C0_RP0_VM0')
        info = self.driver.initialize_connection(volume, {'instance': instance._moId})
        self.assertEqual(self.shadow(volume)._moId, info['data']['volume'])
        self.assertEqual(ONE, self.sum_of(volume))
        self.driver.terminate_connection(volume, {'instance': instance._moId})

    def test_extend_with_space(self):
        volume = self.created(CONTENT, vmdk_type='thick')
        self.driver.extend_volume(volume, 3)
        self.assertEqual(3 * units.Gi, self.disk(volume).capacityInBytes)
        self.assertEqual(grain_sum(CONTENT, 3 * units.Gi), self.sum_of(volume))

    def test_extend_without_space_moves_first(self):
        volume = self.created(CONTENT, vmdk_type='thick')
        vm = self.shadow(volume)
        self.wait(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        self.driver.extend_volume(volume, 7)
        disk = self.disk(volume)
        self.assertNotIn('LocalDS_2', disk.backing.fileName)
        self.assertEqual((7 * units.Gi, grain_sum(CONTENT, 7 * units.Gi)), (disk.capacityInBytes, self.sum_of(volume)))

    def test_retype_of_type_and_adapter(self):
        volume = self.created(CONTENT, vmdk_type='thin', adapter_type='lsiLogic')
        kind = self.database.volume_type('other', vmdk_type='eagerZeroedThick', adapter_type='paraVirtual')
        self.assertTrue(self.driver.retype(self.context, volume, kind, {}, {}))
        disk = self.disk(volume)
        self.assertEqual((True, ONE, volume.id), (disk.backing.eagerlyScrub, self.sum_of(volume), disk.backing.uuid))
        controller = next(d for d in self.shadow(volume).config.hardware.device if d.key == disk.controllerKey)
        self.assertIsInstance(controller, vim.vm.device.ParaVirtualSCSIController)

    def test_manage_and_unmanage(self):
        vm, path = self.vm_with_disk(size_mib=1024, data=CONTENT)
        reference = {'source-name': f'{path}@/DC0/vm/{vm.name}'}
        volume = self.volume()
        self.assertEqual(1, self.driver.manage_existing_get_size(volume, reference))
        self.driver.manage_existing(volume, reference)
        self.assertEqual((ONE, volume.id), (self.sum_of(volume), self.disk(volume).backing.uuid))
        self.assertEqual([], self.disks(vm))
        self.assertFalse(self.there(path))
        self.driver.unmanage(volume)
        self.assertIsNotNone(self.named(vim.VirtualMachine, volume.name))

    def test_clones_full_and_linked(self):
        for kind in 'full', 'linked':
            with self.subTest(kind):
                source = self.created(CONTENT)
                clone = self.volume(clone_type=kind)
                self.driver.create_cloned_volume(clone, source)
                self.guest_writes(self.disk(source).backing.fileName, OTHER)
                self.assertEqual(ONE, self.sum_of(clone))
                self.assertEqual(kind == 'linked', self.disk(clone).backing.parent is not None)
                self.check_space()
                self.driver.delete_volume(source)
                self.assertEqual(ONE, self.sum_of(clone))
                self.driver.delete_volume(clone)
        self.assert_nothing_left()

    def test_a_clone_that_is_larger(self):
        source = self.created(CONTENT)
        clone = self.volume(2)
        self.driver.create_cloned_volume(clone, source)
        self.assertEqual(grain_sum(CONTENT, 2 * units.Gi), self.sum_of(clone))

    def test_a_policy_chooses_the_datastore(self):
        self.control('POST', '/policies', {'name': 'gold', 'datastores': ['LocalDS_1']})
        volume = self.created(CONTENT, storage_profile='gold')
        self.assertIn('LocalDS_1', self.disk(volume).backing.fileName)


class TemplateSnapshotsTestCase(UpstreamCase):

    options = {'vmware_snapshot_format': 'template'}

    def test_create_use_and_delete(self):
        volume = self.created(CONTENT)
        snapshot = self.snapshot_of(volume)
        self.guest_writes(self.disk(volume).backing.fileName, OTHER)
        copy = self.volume()
        self.driver.create_volume_from_snapshot(copy, snapshot)
        self.assertEqual(ONE, self.sum_of(copy))
        self.driver.delete_snapshot(snapshot)
        self.driver.delete_volume(volume)
        self.assertEqual(ONE, self.sum_of(copy))
        self.driver.delete_volume(copy)
        self.assert_nothing_left()


class CowSnapshotsTestCase(UpstreamCase):

    options = {'vmware_snapshot_format': 'COW'}

    def test_create_revert_use_and_delete(self):
        volume = self.created(CONTENT)
        snapshot = self.snapshot_of(volume)
        self.guest_writes(self.disk(volume).backing.fileName, OTHER)
        changed = self.sum_of(volume)
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertNotEqual(changed, ONE)
        self.assertEqual(ONE, self.sum_of(volume))
        self.guest_writes(self.disk(volume).backing.fileName, OTHER)
        for kind in 'full', 'linked':
            copy = self.volume(clone_type=kind)
            self.driver.create_volume_from_snapshot(copy, snapshot)
            self.assertEqual(ONE, self.sum_of(copy))
            self.driver.delete_volume(copy)
        self.driver.delete_snapshot(snapshot)
        self.assertEqual(changed, self.sum_of(volume))
        self.driver.delete_volume(volume)
        self.assert_nothing_left()


@unittest.skipUnless(shutil.which('qemu-img'), 'qemu-img is not installed (Debian: qemu-utils)')
class ImagesTestCase(UpstreamCase):

    SIZE = 8 * MIB

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.raw, self.other = os.path.join(folder.name, 'raw'), os.path.join(folder.name, 'other')
        with open(self.raw, 'wb') as out:
            out.write(CONTENT)
            out.truncate(self.SIZE)

    def image(self, kind):
        if kind == 'preallocated':
            with open(self.raw, 'rb') as file:
                return ImageService(file.read(), vmware_disktype=kind, vmware_adaptertype='lsiLogic')
        subformat = {'sparse': 'monolithicSparse'}.get(kind, kind)
        subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o', f'subformat={subformat}', self.raw, self.other],
                       check=True)
        with open(self.other, 'rb') as file:
            return ImageService(file.read(), vmware_disktype=kind, vmware_adaptertype='lsiLogic')

    def test_images_in_every_format_become_volumes_and_images_again(self):
        for kind in 'preallocated', 'sparse', 'streamOptimized':
            for disk_type in 'thin', 'thick', 'eagerZeroedThick':
                with self.subTest(f'{kind} to {disk_type}'):
                    image = self.image(kind)
                    volume = self.volume(vmdk_type=disk_type)
                    self.driver.copy_image_to_volume(self.context, volume, image, image.metadata['id'])
                    self.assertEqual((units.Gi, ONE), (self.disk(volume).capacityInBytes, self.sum_of(volume)))
                    self.check_space()
                    if disk_type == 'thin':
                        self.assertEqual(ONE, self.sum_of_image(self.uploaded(volume)))
                    self.driver.delete_volume(volume)
        self.assert_nothing_left()

    def uploaded(self, volume):
        target = ImageService()
        self.driver.copy_volume_to_image(self.context, volume, target, target.metadata)
        self.assertEqual('streamOptimized', target.metadata['properties']['vmware_disktype'])
        return target.data

    def sum_of_image(self, stream):
        with open(self.other, 'wb') as file:
            file.write(stream)
        back = self.other + '.raw'
        subprocess.run(['qemu-img', 'convert', '-f', 'vmdk', '-O', 'raw', self.other, back], check=True)
        with open(back, 'rb') as file:
            data = file.read(2 * MIB)
            self.assertEqual(units.Gi, os.path.getsize(back))
            return grain_sum(data, units.Gi)

    def test_of_a_snapshot_and_a_clone(self):
        volume = self.created(CONTENT)
        clone = self.volume(clone_type='linked')
        self.driver.create_cloned_volume(clone, volume)
        self.assertEqual(ONE, self.sum_of_image(self.uploaded(clone)))
