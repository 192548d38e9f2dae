# SPDX-License-Identifier: Apache-2.0
"""Faults of the libraries below, by the numbers of docs/faults.md.

Each test passes with the plugin, and fails with Cinder's own driver:

    VMDK_EXT_TEST_UPSTREAM=1 python -m unittest \
        cinder_vmdk_ext.tests.functional.test_known_faults
"""

import os
import threading
import time

from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import context as cinder_context
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import manage_case
from cinder_vmdk_ext.tests.functional import test_transfers
from sandbox.embedded import section

UPSTREAM = bool(os.environ.get('VMDK_EXT_TEST_UPSTREAM'))
# What a session's loss may cost; upstream's ten seconds show.
SECONDS = 9


class KnownFaultsTestCase(backend_case.BackendCase):
    """The hooks that both drivers have, and nothing else."""

    OPTIONS = {'vmware_enable_volume_stats': True,
               'vmware_snapshot_format': 'COW'}

    @classmethod
    def set_up_driver(cls, **options):
        if not UPSTREAM:
            return super().set_up_driver(**options)
        made = vmdk.VMwareVcVmdkDriver(
            configuration=section.read(**section.of_vcenter(
                cls.vcenter, **(cls.OPTIONS | options))),
            host=backend_case.HOST)
        made.do_setup(cinder_context.get_admin_context())
        made.check_for_setup_error()
        cls.addClassCleanup(made.session.logout)
        return made

    def setUp(self):
        super().setUp()
        if UPSTREAM:
            # Of what one test does to a driver the next is to know nothing.
            self.driver = self.make_driver()

    def report(self):
        if not UPSTREAM:
            self.reconcile()
        return self.driver.get_volume_stats(refresh=True)

    def assert_refuses(self, act, *args):
        """It ends in an error, whatever that is."""
        try:
            act(*args)
        except Exception:
            return
        self.fail('it succeeds')

    def disks(self, vm):
        return manage_case.ManageCase.disks(vm)

    def retype(self, volume, **specs):
        kind = self.volume_type(f'kind-{uuidutils.generate_uuid()}', **specs)
        diff = {'extra_specs': {name: (None, value)
                                for name, value in specs.items()}}
        host = {'host': volume.host, 'capabilities': {}}
        self.assertTrue(self.driver.retype(self.context, volume, kind, diff,
                                           host))
        volume.volume_type_id = kind['id']
        volume.save()
        volume.refresh()

    def lose(self, volume):
        self.wait(self.truth(volume).vm.Destroy_Task())

    # -- Sessions and statistics --------------------------------------------

    def test_02_a_lost_session_costs_no_ten_seconds(self):
        volume = self.create()
        self.control.kill_sessions()
        type(self).service = self.vcenter.connect()
        start = time.monotonic()
        self.assertIsNotNone(self.driver.volumeops.get_backing(volume.name,
                                                               volume.id))
        self.assertLess(time.monotonic() - start, SECONDS)

    def test_03_statistics_survive_a_lost_session(self):
        self.control.kill_sessions()
        type(self).service = self.vcenter.connect()
        self.assertEqual('up', self.driver.get_volume_stats(refresh=True).get(
            'backend_state', 'up'))

    def test_04_statistics_survive_a_datastore_without_a_host(self):
        def mount(mounted):
            self.control.call('POST', '/mounts', {'datastore': 'LocalDS_3',
                                                  'mounted': mounted})
        self.addCleanup(mount, True)
        mount(False)
        self.assertTrue(self.report())

    # -- Images -------------------------------------------------------------

    def fill(self, image, volume):
        self.driver.copy_image_to_volume(self.context, volume, image,
                                         image.metadata['id'])

    def flat(self):
        return test_transfers.ImageService(
            test_transfers.CONTENT + bytes(units.Mi), 'preallocated')

    def test_05_a_refused_upload_is_no_volume(self):
        target = test_transfers.ImageService()
        self.driver.copy_volume_to_image(self.context, self.create(), target,
                                         target.metadata)
        # So small that all is sent before the refusal comes.
        image = test_transfers.ImageService(target.data)
        self.control.fault(path='/nfc/', status=500)
        self.assert_refuses(self.fill, image, self.new_volume())

    def test_14_a_preallocated_image_is_put_on_a_volume_that_has_a_disk(self):
        volume = self.create(content=b'old')
        self.fill(self.flat(), volume)
        self.assertEqual(test_transfers.CONTENT[:512],
                         self.read(volume, 512))

    def test_16_a_volume_without_a_type_becomes_an_image(self):
        volume = self.create()
        volume.volume_type = volume.volume_type_id = None
        target = test_transfers.ImageService()
        self.driver.copy_volume_to_image(self.context, volume, target,
                                         target.metadata)
        self.assertTrue(target.data)

    # -- What is lost -------------------------------------------------------

    def test_07_what_is_lost_is_no_success(self):
        for act in (self.driver.delete_volume,
                    lambda volume: self.driver.extend_volume(volume, 2),
                    lambda volume: self.driver.create_snapshot(
                        self.new_snapshot(volume)),
                    lambda volume: self.driver.create_cloned_volume(
                        self.new_volume(), volume),
                    lambda volume: self.attach(volume)):
            volume = self.create()
            self.lose(volume)
            self.assert_refuses(act, volume)
            self.assertEqual({}, self.shadow_vms())

    def test_08_cinders_own_migration_keeps_the_copy(self):
        volume = self.create(content=b'source')
        copy = self.create('LocalDS_2', content=b'copy')
        try:
            update = self.driver.update_migrated_volume(
                self.context, volume, copy, 'available')
        except NotImplementedError:  # what the manager does then
            update = {'_name_id': copy.id}
        copy._name_id = volume.id if update['_name_id'] else None
        volume._name_id = update['_name_id']
        self.driver.delete_volume(copy)
        backing = self.driver.volumeops.get_backing(volume.name, volume.id)
        vm = next(vm for vm in self.shadow_vms().values()
                  if backing and vm._moId == backing.value)
        self.assertEqual(
            self.checksum_of(self.disks(vm)[0].backing.fileName),
            self.checksum(self.create(content=b'copy')))

    def test_09_a_disk_that_is_not_managed_stays_with_its_vm(self):
        vm = manage_case.ManageCase.make_vm(self, 'server', sizes_gib=(1,))
        path = self.disks(vm)[0].backing.fileName
        volume = self.new_volume()
        # The step of upstream's driver, and of ours, after the disk was taken.
        self.control.fault(method='MoveVirtualDisk_Task',
                           task_fault={'type': 'SystemError'})
        self.control.fault(method='ReconfigVM_Task', argument=volume.name,
                           task_fault={'type': 'SystemError'})
        self.assert_refuses(
            self.driver.manage_existing, volume,
            {'source-name': f'{path}@/DC0/vm/server' if UPSTREAM
             else f'{path}@DC0/vm/server'})
        self.assertEqual([path], [each.backing.fileName
                                  for each in self.disks(vm)])

    def test_10_a_snapshot_below_another_root_is_deleted(self):
        volume = self.create()
        vm = self.truth(volume).vm
        first, second = self.snapshot(volume), self.snapshot(volume)
        root = vm.snapshot.rootSnapshotList[0].snapshot
        self.wait(root.RevertToSnapshot_Task())
        third = self.snapshot(volume)
        # Its two children become roots.
        self.wait(root.RemoveSnapshot_Task(False))
        self.assertEqual(2, len(vm.snapshot.rootSnapshotList))
        for each in (third, second):
            self.driver.delete_snapshot(each)
        self.assertIsNone(vm.snapshot)
        first.destroy()

    # -- Forms and places ---------------------------------------------------

    def test_11_controllers_do_not_pile_up(self):
        volume = self.create()
        for adapter in ('paraVirtual', 'lsiLogicsas', 'busLogic'):
            self.retype(volume, adapter_type=adapter)
        self.assertLessEqual(len([
            device for device
            in self.truth(volume).vm.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualSCSIController)]), 1)

    def test_12_a_folder_that_was_removed_is_made_again(self):
        self.driver.delete_volume(self.create())
        datacenter = self.all(vim.Datacenter)[0]
        folder = next(each for each in datacenter.vmFolder.childEntity
                      if each.name == 'OpenStack')
        self.wait(folder.Destroy_Task())
        self.assertIsNotNone(self.truth(self.create()))

    def test_13_a_template_may_be_deleted_twice(self):
        driver = self.make_driver(vmware_snapshot_format='template')
        snapshot = self.new_snapshot(self.create())
        snapshot.update(driver.create_snapshot(snapshot))
        driver.delete_snapshot(snapshot)
        driver.delete_snapshot(snapshot)

    def test_15_of_several_first_attaches_all_succeed(self):
        volume = self.new_volume(provider_id=None if UPSTREAM
                                 else state.PROMISED)
        instance = self.instances()[0]
        errors = []

        def attach():
            try:
                self.driver.initialize_connection(
                    self.fresh(volume), {'instance': instance._moId})
            except Exception as error:
                errors.append(error)
        threads = [threading.Thread(target=attach) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(([], 1), (errors, len(self.shadow_vms())))

    def test_17_a_disk_uuid_that_cannot_be_set_leaves_no_vm(self):
        if not UPSTREAM:
            # A new disk gets no UUID, so that it has to be set afterwards.
            self.control.fault(method='CreateVM_Task', count=1,
                               task_fault={'type': 'InvalidArgument'})
        self.control.fault(method='ReconfigVM_Task',
                           task_fault={'type': 'SystemError'})
        self.assert_refuses(self.driver.create_volume, self.new_volume())
        self.assertEqual({}, self.shadow_vms())

    def test_18_a_disk_type_changes_on_its_datastore(self):
        for _ in range(3):
            volume = self.create()
            before = self.truth(volume).datastore
            volume.host = f'{backend_case.HOST}#{before}'
            self.retype(volume, vmdk_type='thick')
            self.assertEqual(before, self.truth(volume).datastore)

    def test_20_a_password_is_given_to_nobody(self):
        volume = self.create()
        with self.assertRaises(exceptions.ConnectorRefused) as caught:
            self.driver.initialize_connection(
                volume, {'platform': 'x86_64', 'os_type': 'linux'})
        self.assertNotIn(self.vcenter.password, str(caught.exception))
        info = self.driver.initialize_connection(
            volume, {'instance': self.instances()[0]._moId})
        self.assertNotIn('config', info['data'])
        self.assertNotIn(self.vcenter.password, repr(info))

    def test_20_a_clone_has_the_form_of_its_type(self):
        source = self.create()
        thick = self.volume_type('thick', vmdk_type='thick')
        volume = self.new_volume(type_id=thick['id'])
        self.driver.create_cloned_volume(volume, source)
        self.assertEqual('thick', self.truth(volume).provisioning)
