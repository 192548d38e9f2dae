# SPDX-License-Identifier: Apache-2.0
"""The disk removed behind Cinder's back: no success, and no new disk."""

import threading

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext.backings import state
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
            self.control.reset_journal()
            self.assertRaises(exceptions.BackingLost, operation)
            methods = self.control.journal()['methods']
            self.assertNotIn('CreateContainerView', methods, name)
            self.assertLessEqual(sum(
                each['calls'] for method, each in methods.items()
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


class LostDiskTestCase(LostTestCase):
    """Every operation on a volume whose VM is there without its disk."""

    def lose(self):
        truth = self.truth(self.volume)
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='remove', fileOperation='destroy',
                device=truth.disk)])))


class DeleteTestCase(backend_case.BackendCase):
    """A delete can be repeated, whatever became of the first."""

    def test_after_it_was_done_and_nobody_heard(self):
        volume = self.create()
        self.driver.delete_volume(volume)
        self.driver.delete_volume(self.fresh(volume))
        self.assertEqual({}, self.shadow_vms())

    def test_after_it_failed(self):
        volume = self.create()
        self.control.fault(method='Destroy_Task', count=1, task_fault={
            'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.delete_volume, volume)
        self.driver.delete_volume(self.fresh(volume))
        self.assertEqual({}, self.shadow_vms())


class FirstAttachTestCase(backend_case.BackendCase):
    """Several first attachments of a promised volume at once."""

    OPTIONS = {'vmware_lazy_create': True}

    def test_one_makes_the_disk_and_all_get_it(self):
        volume = self.create()
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute'}
        told = []

        def attach():
            told.append(self.driver.initialize_connection(
                self.fresh(volume), connector)['data']['volume'])

        threads = [threading.Thread(target=attach) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([self.truth(volume).vm._moId] * 4, told)
        self.assertTrue(state.is_backed(self.fresh(volume)))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_what_one_has_left_halfway_the_next_finishes(self):
        volume = self.create()
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute'}
        # The disk is there, and has not its UUID yet; and so it stays.
        self.control.fault(method='ReconfigVM_Task|Destroy_Task',
                           task_fault={'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.initialize_connection,
                          self.fresh(volume), connector)
        self.control.reset_faults()
        self.assertNotEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.driver.initialize_connection(self.fresh(volume), connector)
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.assertTrue(state.is_backed(self.fresh(volume)))
        self.assertEqual([volume.name], list(self.shadow_vms()))
