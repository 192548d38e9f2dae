# SPDX-License-Identifier: Apache-2.0
"""Volumes on their pools; parallel creates overfill no datastore."""

import threading

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from sandbox.embedded import section


class CreationTestCase(backend_case.BackendCase):
    """Volumes come into being where the scheduler said, as the type says."""

    def test_an_empty_volume_is_on_its_pool_and_of_its_type(self):
        for kind in ('thin', 'thick', 'eagerZeroedThick'):
            type_id = self.volume_type(f'{kind}-type', vmdk_type=kind)['id']
            volume = self.create('LocalDS_2', type_id=type_id)
            self.assert_on('LocalDS_2', volume)
            self.assertEqual(kind, self.truth(volume).provisioning)


class DiskUuidTestCase(backend_case.BackendCase):
    """A volume's disk has its id as UUID, by one task where that works."""

    CHANGES = 0

    def test_the_disk_of_a_volume_has_its_id(self):
        self.create('LocalDS_1')  # the session, the view and the folder
        with self.counted() as calls:
            volume = self.create('LocalDS_2')
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)
        self.assertEqual(self.CHANGES, calls['ReconfigVM_Task'])
        self.assertEqual(1, calls['CreateVM_Task'])
        self.assertEqual([volume.name], [
            name for name in self.shadow_vms() if name == volume.name])

    def test_a_disk_that_cannot_be_read_leaves_no_vm(self):
        self.create()
        before = self.shadow_vms().keys()
        self.control.fault(method='RetrievePropertiesEx', count=1,
                           argument='device.2000', fault={
                               'type': 'NotSupported'})
        self.assertRaises(vmware_exceptions.VimFaultException,
                          self.driver.create_volume, self.new_volume())
        self.assertEqual([1], [each['hits'] for each
                               in self.control.faults()])
        self.assertEqual(before, self.shadow_vms().keys())
        self.assertEqual({}, self.driver.volumeops._unchecked)


class IgnoredDiskUuidTestCase(DiskUuidTestCase):
    """The vCenter makes a UUID of its own, which is then replaced."""

    VCENTER = backend_case.BackendCase.VCENTER | {'new_disk_uuid': 'ignored'}
    CHANGES = 1

    def test_a_uuid_that_cannot_be_set_leaves_no_vm(self):
        self.control.fault(method='ReconfigVM_Task',
                           task_fault={'type': 'SystemError'})
        self.assertRaises(vmware_exceptions.VimFaultException,
                          self.driver.create_volume, self.new_volume())
        self.assertEqual({}, self.shadow_vms())


class RefusedDiskUuidTestCase(DiskUuidTestCase):
    """The vCenter refuses the first VM, and the others have no UUID."""

    VCENTER = backend_case.BackendCase.VCENTER | {'new_disk_uuid': 'refused'}
    CHANGES = 1

    def test_another_fault_of_the_spec_is_told(self):
        # It has nothing to do with the UUID, so the next VM has one again.
        self.driver = self.make_driver()
        self.control.fault(method='CreateVM_Task', count=2, task_fault={
            'type': 'InvalidArgument'})
        with self.assertRaises(vmware_exceptions.VimFaultException) as caught:
            self.driver.create_volume(self.new_volume())
        self.assertEqual(['InvalidArgument'], caught.exception.fault_list)
        self.assertEqual({}, self.shadow_vms())
        self.assertIsNotNone(self.truth(self.create()))


class ParallelTestCase(backend_case.BackendCase):
    """Four datastores of 10 GiB, of which the driver chooses."""

    VCENTER = backend_case.BackendCase.VCENTER | {'ds_capacity': '10GiB',
                                                  'vm': 0}
    OPTIONS = {'vmdk_ext_datastore_pools': False}

    def thick(self, size_gib):
        return self.new_volume(section.NAME, size_gib, self._thick)

    def setUp(self):
        super().setUp()
        self._thick = self.volume_type('thick', vmdk_type='thick')['id']

    def in_parallel(self, volumes):
        """Create them at once; the errors of those that failed."""
        failed = []

        def create(volume):
            try:
                self.driver.create_volume(volume)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=create, args=(volume,))
                   for volume in volumes]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return failed

    def datastores_of(self, volumes):
        found = [self.truth(volume) for volume in volumes]
        return sorted(each.datastore for each in found if each)

    def test_parallel_creates_spread(self):
        # Slow enough that all choose before any disk is there.
        self.control.fault(method='CreateVM_Task', task_delay_ms=500)
        volumes = [self.thick(4) for _ in range(8)]
        self.assertEqual([], self.in_parallel(volumes))
        self.assertEqual(
            [f'LocalDS_{number // 2}' for number in range(8)],
            self.datastores_of(volumes))

    def test_no_datastore_is_overfilled(self):
        self.control.fault(method='CreateVM_Task', task_delay_ms=500)
        volumes = [self.thick(4) for _ in range(11)]
        failed = self.in_parallel(volumes)
        self.assertEqual([exceptions.NoPlacement] * 3,
                         [type(error) for error in failed])
        self.assertEqual(8, len(self.datastores_of(volumes)))

    def test_what_failed_and_what_was_deleted_is_given_again(self):
        self.control.fault(method='CreateVM_Task', count=4,
                           task_fault={'type': 'InvalidState'})
        volumes = [self.thick(9) for _ in range(4)]
        self.assertEqual(4, len(self.in_parallel(volumes)))
        again = [self.thick(9) for _ in range(4)]
        self.assertEqual([], self.in_parallel(again))
        for volume in again:
            self.driver.delete_volume(volume)
        self.refresh_figures()
        self.assertEqual([], self.in_parallel(
            [self.thick(9) for _ in range(4)]))

    def test_a_full_datastore_is_passed_over(self):
        self.control.fault(
            method='CreateVM_Task', argument='LocalDS_[0-2]', task_fault={
                'type': 'NoDiskSpace', 'fields': {'datastore': 'x'}})
        volume = self.thick(1)
        self.driver.create_volume(volume)
        self.assertEqual(['LocalDS_3'], self.datastores_of([volume]))

    def test_when_all_are_full_the_vcenters_word_is_told(self):
        self.control.fault(
            method='CreateVM_Task', task_fault={
                'type': 'NoDiskSpace', 'fields': {'datastore': 'x'}})
        with self.assertRaises(vmware_exceptions.NoDiskSpaceException):
            self.driver.create_volume(self.thick(1))

    def test_a_folder_that_was_removed_is_made_again(self):
        first = self.thick(1)
        self.driver.create_volume(first)
        folder = self.truth(first).vm.parent
        self.driver.delete_volume(first)
        self.wait(folder.Destroy_Task())
        again = self.thick(1)
        self.driver.create_volume(again)
        self.assertEqual(1, len(self.datastores_of([again])))
