# SPDX-License-Identifier: Apache-2.0
"""Operations decide by the facts at the time when they act.

Findings B3, B6, B7, B14 and B16 (docs/faults.md).
"""

import threading
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class FailedDeleteTestCase(backend_case.BackendCase):

    def failed_delete(self, **effect):
        volume = self.create('LocalDS_1', content=content('kept'))
        self.control.fault(method='Destroy_Task', count=1, **effect)
        self.assertRaises(vmware_exceptions.VMwareDriverException,
                          self.driver.delete_volume, volume)
        self.control.reset_faults()
        return self.fresh(volume)

    def test_a_volume_whose_delete_failed_has_its_disk(self):
        volume = self.failed_delete(task_fault={'type': 'SystemError'})
        self.assertEqual(state.BACKED, volume.provider_id)
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, volume))
        self.assertEqual(self.checksum(volume), self.checksum(clone))

    def test_one_that_is_gone_meanwhile_is_lost_to_all_but_a_delete(self):
        volume = self.failed_delete(task_fault={'type': 'SystemError'})
        state.remember(volume, state.DELETING)
        self.wait(self.truth(volume).vm.Destroy_Task())
        clone = self.new_volume('LocalDS_2')
        for act in (lambda: self.driver.create_cloned_volume(clone, volume),
                    lambda: self.driver.extend_volume(volume, 2),
                    lambda: self.driver.initialize_connection(volume, {
                        'instance': self.instances()[0]._moId})):
            self.assertRaises(exceptions.BackingLost, act)
        self.driver.delete_volume(volume)


class TakenOffDiskTestCase(backend_case.BackendCase):

    def test_a_disk_that_only_a_snapshot_needs_is_not_free(self):
        volume = self.create('LocalDS_1', content=content('needed'))
        truth = self.truth(volume)
        self.driver.unmanage(volume)
        vm = truth.vm
        self.wait(vm.CreateSnapshot_Task('night', '', False, False))
        disk = next(device for device in vm.config.hardware.device
                    if isinstance(device, vim.vm.device.VirtualDisk))
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=disk)])))
        listed = self.driver.get_manageable_volumes(
            [], None, 1000, 0, ['reference'], ['asc'])
        self.assertEqual([], [
            each for each in listed if each['safe_to_manage']
            and truth.path in str(each['reference'])])
        self.assertRaisesRegex(
            exception.ManageExistingInvalidReference, 'snapshots',
            self.driver.manage_existing, self.new_volume('LocalDS_1'),
            {'source-name': truth.path})


class IndependentDiskTestCase(backend_case.BackendCase):

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def make_independent(self, volume):
        truth = self.truth(volume)
        disk = truth.disk
        disk.backing.diskMode = 'independent_persistent'
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit',
                                            device=disk)])))

    def test_a_snapshot_of_an_independent_disk_holds_its_content(self):
        volume = self.create('LocalDS_1', content=content('then'))
        before = self.checksum(volume)
        self.make_independent(volume)
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(before, self.checksum(volume))


class LockTestCase(backend_case.BackendCase):

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def test_a_volume_that_was_attached_meanwhile_gets_no_cow_snapshot(self):
        volume = self.create('LocalDS_1', content=content('attached'))
        snapshot = self.new_snapshot(self.fresh(volume))
        snapshot.volume  # as the manager has loaded it
        update = {}
        taker = threading.Thread(target=lambda: update.update(
            self.driver.create_snapshot(snapshot)))
        waits, acquired = threading.Event(), locks._acquired

        def acquire(*args):
            if threading.current_thread() is taker:
                waits.set()
            return acquired(*args)
        with mock.patch.object(locks, '_acquired', acquire), \
                locks.volumes(volume.id):
            taker.start()
            self.assertTrue(waits.wait(60))
            self.attach(volume)
        taker.join()
        self.assertTrue(update.get('provider_location'))


class MovedTemplateTestCase(backend_case.BackendCase):

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def test_a_template_of_upstreams_in_a_renamed_folder_is_deleted(self):
        volume = self.create('LocalDS_1', content=content('template'))
        snapshot = self.snapshot(volume)
        template = self.shadow_vms()[snapshot.name]
        found = self.driver.volumeops.template_named(snapshot.name)
        self.assertEqual(template._moId, found.value)
        self.wait(template.parent.Rename_Task('elsewhere'))
        # Upstream's driver gives templates no UUID of theirs.
        with mock.patch.object(self.driver.volumeops, 'get_backing_by_uuid',
                               return_value=None):
            self.driver.delete_snapshot(snapshot)
        self.assertNotIn(snapshot.name, self.shadow_vms())
