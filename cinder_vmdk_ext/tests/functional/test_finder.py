# SPDX-License-Identifier: Apache-2.0
"""A volume's VM is found where memory says; a lost one is an error."""

import time

from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class LostTestCase(backend_case.BackendCase):
    """Every operation on a volume whose VM somebody destroyed."""

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('lost'))
        self.lost_snapshot = self.snapshot(self.volume)
        self.connector = {'instance': self.instances()[0]._moId,
                          'ip': '127.0.0.1', 'host': 'compute'}
        self.lose()
        self.thick = self.volume_type('thick', vmdk_type='thick')

    def lose(self):
        self.wait(self.truth(self.volume).vm.Destroy_Task())

    def operations(self):
        volume, driver = self.fresh(self.volume), self.driver
        return {
            'attach': lambda: driver.initialize_connection(
                volume, self.connector),
            'attach without an instance': lambda:
                driver.initialize_connection(volume, {'host': 'x'}),
            'delete': lambda: driver.delete_volume(volume),
            'extend': lambda: driver.extend_volume(volume, 5),
            'snapshot': lambda: driver.create_snapshot(
                self.new_snapshot(volume)),
            'clone': lambda: driver.create_cloned_volume(
                self.new_volume(), volume),
            'retype': lambda: driver.retype(
                self.context, volume, self.thick, {},
                self.there('LocalDS_1')),
            'migrate': lambda: driver.migrate_volume(
                self.context, volume, self.there('LocalDS_2')),
            'revert': lambda: driver.revert_to_snapshot(
                self.context, volume, self.lost_snapshot),
            'transfer': lambda: driver.accept_transfer(
                self.context, volume, 'user', 'project'),
            'upload': lambda: driver.copy_volume_to_image(
                self.context, volume, None, {'id': 'i', 'name': 'n',
                                             'disk_format': 'vmdk'}),
        }

    def test_to_learn_that_it_is_lost_takes_no_read_of_all_vms(self):
        self.catch_up()
        for name in ('extend', 'snapshot', 'migrate'):
            operation = self.operations()[name]
            with self.counted() as methods:
                self.assertRaises(exceptions.BackingLost, operation)
            self.assertNotIn('CreateContainerView', methods, name)
            self.assertLessEqual(sum(
                calls for method, calls in methods.items()
                if method.startswith('Retrieve')), 2, (name, methods))

    def test_no_operation_succeeds_or_makes_a_disk(self):
        before = set(self.shadow_vms())
        for name, operation in self.operations().items():
            error = self.assertRaises(exceptions.BackingLost, operation)
            self.assertIn(self.volume.id, str(error), name)
            self.assertIn('LocalDS_1', str(error), name)
            self.assertEqual(before, set(self.shadow_vms()), name)

    def test_what_was_never_made_is_no_loss(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.create()
        self.driver.extend_volume(volume, 2)
        moved, update = self.driver.migrate_volume(
            self.context, volume, self.there('LocalDS_2'))
        there = self.datastore('LocalDS_2')
        self.assertEqual((True, {'provider_location':
                                 f'{there.summary.url} {there._moId}'}),
                         (moved, update))
        self.driver.delete_volume(volume)
        self.assertEqual([], [
            name for name in self.shadow_vms()
            if name.startswith('volume-') and name != self.volume.name])


class LostFileTestCase(backend_case.BackendCase):
    """Every operation on a volume whose VM names a file that is gone."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}
    operations = LostTestCase.operations

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('lost'))
        self.lost_snapshot = None
        self.connector = {'instance': self.instances()[0]._moId,
                          'ip': '127.0.0.1', 'host': 'compute'}
        self.thick = self.volume_type('thick', vmdk_type='thick')

    def lose(self):
        self.path = self.truth(self.volume).path
        self.delete_file(self.path)

    def assert_lost(self, operation):
        before = set(self.shadow_vms())
        error = self.assertRaises(exceptions.BackingLost, operation)
        self.assertIn(self.path, str(error))
        self.assertIn(self.volume.id, str(error))
        self.assertEqual(before, set(self.shadow_vms()))

    def test_a_revert_to_a_snapshot_in_its_tree_is_no_success(self):
        self.lost_snapshot = self.snapshot(self.volume)
        self.lose()
        self.assert_lost(self.operations()['revert'])

    def test_all_but_a_delete_name_volume_and_file(self):
        self.lose()
        operations = self.operations()
        del operations['delete'], operations['revert']
        for name, operation in operations.items():
            with self.subTest(name):
                self.assert_lost(operation)
        # What the vCenter has of it can be deleted.
        self.driver.delete_volume(self.fresh(self.volume))
        self.assertEqual({}, self.shadow_vms())


class LostDiskTestCase(LostTestCase):
    """Every operation on a volume whose VM is there without its disk."""

    def lose(self):
        truth = self.truth(self.volume)
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='remove', fileOperation='destroy',
                device=truth.disk)])))


class PrefetchTestCase(backend_case.BackendCase):
    """Memory says where a VM is; only the VM says that it is so."""

    def setUp(self):
        super().setUp()
        self.volume = self.create()
        deadline = time.monotonic() + 60
        while not self.moref_of(self.volume) and time.monotonic() < deadline:
            time.sleep(0.02)

    def moref_of(self, volume):
        return self.driver.volumeops.backing_view.moref_of(volume.id)

    def supposing(self, moref):
        """Have memory suppose the volume's VM elsewhere."""
        view = self.driver.volumeops.backing_view
        self.addCleanup(setattr, view, 'moref_of', view.moref_of)
        view.moref_of = lambda uuid: moref

    def extended(self):
        before = self.truth(self.volume).size_gib
        with self.counted() as calls:
            self.driver.extend_volume(self.volume, before + 1)
        self.assertEqual(before + 1, self.truth(self.volume).size_gib)
        return calls

    def test_the_vm_is_found_and_read_in_one_call(self):
        self.assertEqual({'RetrievePropertiesEx': 1,
                          'ExtendVirtualDisk_Task': 1,
                          # by which the end of the task is heard of
                          'ModifyListView': 1}, self.extended())

    def test_another_vm_is_not_taken_for_it(self):
        other = self.create()
        size = self.truth(other).size_gib
        self.supposing(self.truth(other).vm._moId)
        self.assertEqual(1, self.extended()['FindAllByUuid'])
        self.assertEqual(size, self.truth(other).size_gib)

    def test_a_vm_that_is_gone_is_looked_for(self):
        self.supposing('vm-0')
        self.assertEqual(1, self.extended()['FindAllByUuid'])
