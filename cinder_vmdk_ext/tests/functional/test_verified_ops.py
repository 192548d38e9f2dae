# SPDX-License-Identifier: Apache-2.0
"""If a reply is lost, the operation checks the effect of its call."""

import threading

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class LostReplyTestCase(backend_case.BackendCase):
    """Each operation goes on with what was done, and does it once."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}
    # No task has ended when its call is answered, or its reply is lost.
    VCENTER = backend_case.BackendCase.VCENTER | {'task_delay': 30}

    def lose(self, method, when='after', **more):
        self.control.fault(method=method, count=1, cut=when, **more)
        self.control.reset_journal()

    def assert_once(self, method):
        calls = self.control.journal()['methods']
        self.assertEqual(1, calls[method]['calls'])

    def vms(self):
        return {name: vm._moId for name, vm in self.shadow_vms().items()}

    def test_create(self):
        self.lose('CreateVM_Task')
        volume = self.create('LocalDS_2')
        self.assert_once('CreateVM_Task')
        self.assert_on('LocalDS_2', volume)
        self.assertEqual(volume.id, self.truth(volume).disk.backing.uuid)

    def test_a_disk_that_cannot_be_read_after_a_create_leaves_no_vm(self):
        self.lose('CreateVM_Task')
        self.control.fault(method='RetrievePropertiesEx', count=1,
                           argument='device.2000', fault={
                               'type': 'NotSupported'})
        self.assertRaises(vmware_exceptions.VimFaultException,
                          self.driver.create_volume, self.new_volume())
        self.assertEqual({}, self.vms())

    def broken(self, method, **more):
        """Envoy answers 503 after it has passed a call on."""
        self.control.fault(method=method, count=1, status=503,
                           after_work=True, **more)
        self.control.reset_journal()

    def refused(self, method):
        """Envoy answers 503 and says that it has passed nothing on."""
        self.control.fault(method=method, count=1, status=503)
        self.control.reset_journal()

    def test_create_answered_by_503(self):
        self.broken('CreateVM_Task')
        volume = self.create('LocalDS_2')
        self.assert_once('CreateVM_Task')
        self.assert_on('LocalDS_2', volume)

    def test_snapshot_and_its_deletion_answered_by_503(self):
        volume = self.create()
        self.broken('CreateSnapshot_Task')
        snapshot = self.snapshot(volume)
        self.assert_once('CreateSnapshot_Task')
        tree = self.truth(volume).vm.snapshot.rootSnapshotList
        self.assertEqual([snapshot.name], [each.name for each in tree])
        self.assertEqual([], tree[0].childSnapshotList)
        self.broken('RemoveSnapshot_Task')
        self.driver.delete_snapshot(snapshot)
        self.assert_once('RemoveSnapshot_Task')
        self.assertIsNone(self.truth(volume).vm.snapshot)

    def test_delete_answered_by_503(self):
        volume = self.create()
        self.broken('Destroy_Task', task_delay_ms=500)
        self.driver.delete_volume(volume)
        self.assert_once('Destroy_Task')
        self.assertEqual({}, self.vms())

    def test_what_a_proxy_says_that_it_did_not_pass_on_is_repeated(self):
        self.refused('CreateVM_Task')
        volume = self.create('LocalDS_2')
        self.assertEqual(2, self.control.journal()['methods'][
            'CreateVM_Task']['calls'])
        self.assert_on('LocalDS_2', volume)
        self.assertEqual([volume.name], list(self.vms()))

    def test_a_create_that_is_not_to_be_seen_is_a_failure(self):
        self.lose('CreateVM_Task', 'before')
        volume = self.new_volume()
        self.assertRaises(exceptions.OutcomeUnknown,
                          self.driver.create_volume, volume)
        self.assertEqual({}, self.vms())

    def test_an_earlier_vm_of_that_name_is_not_taken_for_it(self):
        volume = self.create()
        before = self.vms()
        again = self.fresh(volume)
        self.lose('CreateVM_Task', 'before')
        self.assertRaises(exceptions.OutcomeUnknown,
                          self.driver.create_volume, again)
        self.assertEqual(before, self.vms())

    def test_clone_that_goes_on_for_a_while(self):
        source = self.create(content=content('source'))
        self.lose('CloneVM_Task', task_delay_ms=1500)
        copy = self.new_volume('LocalDS_3')
        self.made(copy, self.driver.create_cloned_volume(copy, source))
        self.assert_once('CloneVM_Task')
        self.assert_on('LocalDS_3', copy)
        self.assertEqual(content('source'), self.read(copy, 1 << 16))

    def test_clone_whose_task_fails_unheard(self):
        source = self.create()
        self.lose('CloneVM_Task', task_delay_ms=500,
                  task_fault={'type': 'NoDiskSpace'})
        self.assertRaises(exceptions.OutcomeUnknown,
                          self.driver.create_cloned_volume,
                          self.new_volume(), source)
        self.assertEqual([source.name], list(self.vms()))

    def test_migrate(self):
        volume = self.create(content=content('moved'))
        self.lose('RelocateVM_Task', task_delay_ms=500)
        self.assertEqual((True, None), self.driver.migrate_volume(
            self.context, volume, self.there('LocalDS_2')))
        self.assert_once('RelocateVM_Task')
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.assertEqual(content('moved'), self.read(volume, 1 << 16))

    def test_a_migrate_that_was_not_done_is_a_failure(self):
        volume = self.create()
        self.lose('RelocateVM_Task', 'before')
        self.assertRaises(exceptions.OutcomeUnknown,
                          self.driver.migrate_volume, self.context, volume,
                          self.there('LocalDS_2'))
        self.assertEqual('LocalDS_1', self.truth(volume).datastore)

    def test_snapshot_and_its_deletion(self):
        volume = self.create(content=content('volume'))
        self.lose('CreateSnapshot_Task')
        snapshot = self.snapshot(volume)
        tree = self.truth(volume).vm.snapshot.rootSnapshotList
        self.assertEqual([snapshot.name], [each.name for each in tree])
        self.lose('RemoveSnapshot_Task')
        self.driver.delete_snapshot(snapshot)
        self.assert_once('RemoveSnapshot_Task')
        self.assertIsNone(self.truth(volume).vm.snapshot)

    def test_delete(self):
        volume = self.create()
        self.lose('Destroy_Task', task_delay_ms=500)
        self.driver.delete_volume(volume)
        self.assert_once('Destroy_Task')
        self.assertEqual({}, self.vms())

    def test_the_exchange_of_a_volume_for_its_copy(self):
        volume = self.create(content=content('kept'))
        old = self.truth(volume).vm
        wanted = self.volume_type('thick', vmdk_type='thick')
        # Of three changes the last makes the copy the volume's.
        self.lose('ReconfigVM_Task', skip=2)
        self.assertTrue(self.driver.retype(self.context, volume, wanted, {},
                                           self.there('LocalDS_1')))
        self.assertEqual([1], [each['hits'] for each
                               in self.control.faults()])
        self.assertEqual({volume.name}, set(self.vms()))
        truth = self.truth(volume)
        self.assertNotEqual(old, truth.vm)
        self.assertEqual('thick', truth.provisioning)
        self.assertEqual(content('kept'), self.read(volume, 1 << 16))

    def test_a_task_that_the_vcenter_forgot(self):
        self.driver = self.make_driver()
        self.driver.backend.stream.stop()  # so that the task itself is asked
        self.control.fault(
            method='RetrievePropertiesEx', argument='^task-[0-9]+$', count=1,
            fault={'type': 'ManagedObjectNotFound'})
        volume = self.create('LocalDS_2')
        self.assertEqual([1], [each['hits'] for each
                               in self.control.faults()])
        self.assert_on('LocalDS_2', volume)
        self.assertEqual([volume.name], list(self.vms()))

    def test_many_at_once_each_find_their_own(self):
        volumes = [self.new_volume() for _ in range(6)]
        self.control.fault(method='CreateVM_Task', cut='after', count=6)
        threads = [threading.Thread(target=self.driver.create_volume,
                                    args=[each]) for each in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({each.name for each in volumes}, set(self.vms()))
        for volume in volumes:
            self.assertEqual(volume.id,
                             self.truth(volume).disk.backing.uuid)
