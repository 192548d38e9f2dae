# SPDX-License-Identifier: Apache-2.0
"""A volume survives the instance that it is or was attached to.

docs/decisions/10-attached-disks.md; findings B2, B9.
"""

import threading
import time
from unittest import mock

from oslo_utils import units
from pyVmomi import vim

from cinder import exception

from cinder_vmdk_ext import locks
from cinder_vmdk_ext.tests.functional import attached_case
from cinder_vmdk_ext.volumes import reconcile
from simulator.actors import backup
from simulator.actors import nova
from simulator import observer


class InstanceFolderTestCase(attached_case.AttachedCase):

    def test_a_disk_that_a_live_migration_moved_is_brought_to_safety(self):
        volume = self.attached()
        before = self.checksum(volume)
        self.live_migrate('LocalDS_2')
        self.assertTrue(self.of_volume(volume).startswith(
            self.folder(self.instance)))
        self.report()
        self.assertFalse(self.of_volume(volume).startswith(
            self.folder(self.instance)))
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)
        self.terminate(volume)
        self.delete_as_nova_does(self.instance)
        self.assertEqual(before, self.checksum(self.fresh(volume)))
        self.assert_home(volume)

    def test_it_is_not_followed_to_a_folder_that_memory_does_not_know(self):
        volume = self.attached()
        former = self.folder(self.instance)
        self.live_migrate('LocalDS_2')
        self.control.reset_journal()
        known = reconcile._instances
        with mock.patch.object(
                reconcile, '_instances', lambda volume, seen: [
                    each._replace(folder=former)
                    for each in known(volume, seen)]):
            self.reconcile()
        self.assertFalse(self.of_volume(volume).startswith(
            self.folder(self.instance)))
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)
        self.assertEqual(1, self.control.journal()['methods'][
            'ReconfigVM_Task']['calls'])

    def test_a_live_migration_is_followed_at_once(self):
        volume = self.attached()
        self.reconcile()
        reconciler = self.driver.backend.reconciler
        reconciler.start(interval_seconds=3600)
        # Its last pass would do something in the next test.
        self.addCleanup(self.join_threads, 'vmdk-ext-reconcile')
        self.addCleanup(reconciler.stop)
        self.live_migrate('LocalDS_2')
        deadline = time.monotonic() + 60
        while (self.of_volume(volume).startswith(self.folder(self.instance))
               and time.monotonic() < deadline):
            time.sleep(0.05)
        self.assertFalse(self.of_volume(volume).startswith(
            self.folder(self.instance)))

    def moving(self, count=1):
        """Volumes that are at risk; the first of them hangs in its move."""
        volumes = [self.attached() for _each in range(count)]
        self.live_migrate('LocalDS_2')
        rule = self.control.fault(method='RelocateVM_Task', count=1,
                                  task_hang=True)
        worker = threading.Thread(target=self.reconcile)
        worker.start()
        self.addCleanup(worker.join)
        self.addCleanup(self.control.release, rule)
        self.wait_for(lambda: self.control.faults()[0]['hits'])
        return volumes, lambda: (self.control.release(rule),
                                 worker.join(60))

    def is_free(self, volume):
        with locks.volume_if_free(volume.id) as free:
            return free

    def wait_for(self, reached):
        deadline = time.monotonic() + 60
        while not reached():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def claims(self):
        """Whether each claim of this moment is of an operation that runs."""
        return {claim.number: claim.ended_at is None for claim
                in list(self.driver.backend.reservations._all())}

    def test_a_move_claims_its_space_until_it_ends(self):
        [volume], release = self.moving()
        self.assertEqual([True], [runs for runs in self.claims().values()
                                  if runs])
        release()
        self.assertNotIn(True, self.claims().values())
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)

    def test_a_move_that_fails_keeps_no_claim(self):
        self.attached()
        self.live_migrate('LocalDS_2')
        before = self.claims()
        self.control.fault(method='RelocateVM_Task',
                           task_fault={'type': 'NoDiskSpace'})
        self.reconcile()
        self.assertLessEqual(self.claims().keys(), before.keys())

    def test_operations_do_not_wait_for_the_move_of_another_volume(self):
        volumes, release = self.moving(3)
        # Two wait for their instance, each with its lock free.
        self.wait_for(lambda: sum(map(self.is_free, volumes)) == 2)
        release()
        self.report()
        for volume in volumes:
            self.assertFalse(self.of_volume(volume).startswith(
                self.folder(self.instance)))

    def test_where_it_cannot_be_moved_it_comes_home_when_detached(self):
        volume = self.attached()
        before = self.checksum(volume)
        self.live_migrate('LocalDS_2')
        self.control.fault(method='RelocateVM_Task',
                           task_fault={'type': 'NoDiskSpace'})
        with self.assertLogs('cinder_vmdk_ext.volumes', 'WARNING') as logged:
            self.report()
        self.assertIn('is at risk', '\n'.join(logged.output))
        self.assertIn(volume.id, self.driver.backend.reconciler.at_risk)
        self.assertEqual(1, self.report()['volumes_at_risk'])
        self.control.reset_faults()
        self.terminate(volume)
        self.assert_home(volume)
        self.delete_as_nova_does(self.instance)
        self.assertEqual(before, self.checksum(self.fresh(volume)))

    def at_risk(self):
        """A volume whose disk could not be moved out of the folder."""
        volume = self.attached()
        self.live_migrate('LocalDS_2')
        rule = self.control.fault(method='RelocateVM_Task',
                                  task_fault={'type': 'NoDiskSpace'})
        self.assertEqual(1, self.report()['volumes_at_risk'])
        self.control.remove_fault(rule)
        return volume

    def test_it_is_at_risk_no_longer_than_it_is_there(self):
        volume = self.at_risk()
        # Storage DRS, or an administrator, moves it alone.
        disk = self.disk_on(self.instance, volume)
        self.wait(self.instance.RelocateVM_Task(vim.vm.RelocateSpec(disk=[
            vim.vm.RelocateSpec.DiskLocator(
                diskId=disk.key, datastore=self.datastore('LocalDS_3'))])))
        self.assertEqual(0, self.report()['volumes_at_risk'])

    def test_what_another_service_detached_is_at_risk_no_longer(self):
        volume = self.at_risk()
        other = self.make_driver()
        self.detach(volume, self.instance)
        other.terminate_connection(self.fresh(volume), {})
        self.assert_home(volume)
        self.assertEqual(0, self.report()['volumes_at_risk'])

    def test_what_comes_home_later_is_at_risk_no_longer(self):
        volume = self.at_risk()
        rule = self.control.fault(method='MoveVirtualDisk_Task',
                                  task_fault={'type': 'InvalidState'})
        self.terminate(volume)
        self.assertEqual(1, self.report()['volumes_at_risk'])
        self.control.remove_fault(rule)
        self.report()
        self.assert_home(volume)
        self.assertEqual(0, self.report()['volumes_at_risk'])

    def test_what_is_attached_again_before_it_came_home_is_safe(self):
        volume = self.at_risk()
        before = self.checksum(volume)
        rule = self.control.fault(method='MoveVirtualDisk_Task',
                                  task_fault={'type': 'InvalidState'})
        self.terminate(volume)
        former, self.instance = self.instance, self.make_instance(
            'LocalDS_3', 'DC0_other')
        volume = self.fresh(volume)
        time.sleep(1.1)  # as long as the former host keeps its lock
        self.attach(volume, self.instance)
        self.assertTrue(self.of_volume(volume).startswith(
            self.folder(former)))
        self.control.remove_fault(rule)
        self.report()
        # While it runs, it locks the file.
        self.wait(self.instance.PowerOffVM_Task())
        time.sleep(1.1)
        self.delete_as_nova_does(former)
        self.assertEqual(before, self.checksum(self.fresh(volume)))
        self.assertEqual(self.of_volume(volume), self.truth(volume).path)
        self.assertEqual(0, self.report()['volumes_at_risk'])

    def test_migrate_to_the_instances_own_datastore_is_refused(self):
        volume = self.attached()
        self.assertRaisesRegex(
            exception.InvalidVolume, 'deleted with the instance',
            self.driver.migrate_volume, self.context, self.fresh(volume),
            self.there('LocalDS_0'))
        self.assert_on('LocalDS_1', volume)

    def test_a_move_home_that_is_broken_off_is_finished(self):
        for method, when in (('MoveVirtualDisk_Task', 'before'),
                             ('MoveVirtualDisk_Task', 'after'),
                             ('ReconfigVM_Task', 'before'),
                             ('ReconfigVM_Task', 'after')):
            with self.subTest(f'{method} {when}'):
                volume = self.attached()
                before = self.checksum(volume)
                self.live_migrate('LocalDS_2')
                self.control.fault(method='RelocateVM_Task',
                                   task_fault={'type': 'NoDiskSpace'})
                self.report()
                self.control.reset_faults()
                self.detach(volume, self.instance)
                self.control.fault(method=method, count=1, cut=when)
                self.driver.terminate_connection(self.fresh(volume), {})
                self.control.reset_faults()
                self.report()
                self.assert_home(volume)
                self.assertEqual(before, self.checksum(volume))
                self.driver.delete_volume(self.fresh(volume))
                self.live_migrate('LocalDS_0')


class DetachedUnderSnapshotTestCase(attached_case.AttachedCase):
    """Nova takes a volume from a server while a backup's snapshot is there.

    Then the shadow VM names the base and the server a delta above it, and
    Nova gives the shadow VM the delta in place of the base.
    """

    def setUp(self):
        super().setUp()
        self.nova = nova.Nova(self.service)
        self.backup = backup.Backup(self.service)

    def plug(self, volume, instance):
        self.nova.attach(instance, volume.id)

    def backed_up(self):
        """A volume whose server has a snapshot, and wrote since."""
        volume = self.attached()
        self.base = self.truth(volume).path
        self.backup.begin([self.instance])
        delta = self.of_volume(volume)
        self.write_to(delta, b'written later')
        self.later = self.checksum_of(delta)
        self.report()
        return volume

    def terminated(self, volume):
        self.record_detached(volume)
        self.driver.terminate_connection(self.fresh(volume), {})

    def assert_consolidated(self, volume):
        self.assertEqual((self.base, self.later, None), (
            self.truth(volume).path, self.checksum(volume),
            self.truth(volume).disk.backing.parent))
        self.assert_home(volume)

    def test_a_server_that_is_deleted_leaves_the_volume_whole(self):
        volume = self.backed_up()
        self.nova.delete(self.instance)
        self.assertNotEqual(self.base, self.truth(volume).path)
        self.terminated(volume)
        self.assert_consolidated(volume)
        self.driver.extend_volume(self.fresh(volume), 2)

    def test_a_running_server_keeps_it_until_the_backup_has_ended(self):
        volume = self.backed_up()
        self.assertRaises(vim.fault.FileLocked, self.nova.detach,
                          self.instance, volume.id)
        self.backup.end([self.instance])
        self.report()
        self.nova.detach(self.instance, volume.id)
        self.terminated(volume)
        self.assert_consolidated(volume)

    def test_it_stays_on_the_delta_as_long_as_the_snapshot_is_there(self):
        volume = self.backed_up()
        self.wait(self.instance.PowerOffVM_Task())
        self.nova.detach(self.instance, volume.id)
        self.terminated(volume)
        self.assertEqual(self.later, self.checksum(volume))
        self.assertNotEqual(self.base, self.truth(volume).path)
        self.backup.end([self.instance])
        self.report()
        self.assert_consolidated(volume)


class PolicyTestCase(attached_case.AttachedCase):
    """The disk has its type's policy again, at the latest when detached."""

    VCENTER = attached_case.AttachedCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2', 'silver=LocalDS_2']}

    def setUp(self):
        super().setUp()
        self.policy_service = observer.policy_service(self.vcenter,
                                                      self.service)
        kind = self.volume_type('gold', storage_profile='gold')
        self.volume = self.attached(type_id=kind['id'])
        self.assertEqual(['gold'], self.policies())

    def policies(self):
        """Of the shadow VM's disk."""
        truth = self.truth(self.volume)
        return observer.policies_of_disk(self.policy_service, truth.vm,
                                         truth.disk)

    def test_an_extended_disk_keeps_its_policy(self):
        self.driver.extend_volume(self.fresh(self.volume), 2)
        self.assertEqual(
            2 * units.Gi,
            self.disk_on(self.instance, self.volume).capacityInBytes)
        self.terminate(self.volume)
        self.assertEqual(['gold'], self.policies())

    def test_a_disk_that_is_followed_keeps_its_policy(self):
        disk = self.disk_on(self.instance, self.volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': self.instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_2'})
        self.report()
        self.assertEqual('LocalDS_2', self.truth(self.volume).datastore)
        self.terminate(self.volume)
        self.assertEqual(['gold'], self.policies())

    def test_a_disk_that_comes_home_keeps_its_policy(self):
        self.live_migrate('LocalDS_2')
        self.control.fault(method='RelocateVM_Task',
                           task_fault={'type': 'NoDiskSpace'})
        self.report()
        self.control.reset_faults()
        self.terminate(self.volume)
        self.assert_home(self.volume)
        self.assertEqual(['gold'], self.policies())

    def test_a_policy_changed_while_attached_is_set_when_detached(self):
        silver = self.volume_type('silver', storage_profile='silver')
        found = self.fresh(self.volume)
        self.assertTrue(self.driver.retype(self.context, found, silver, {},
                                           self.there('LocalDS_2')))
        found.volume_type_id = silver['id']
        found.save()
        self.terminate(found)
        self.assertEqual(['silver'], self.policies())
