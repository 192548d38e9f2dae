# SPDX-License-Identifier: Apache-2.0
"""Volumes move to other pools, and stay complete if a step fails."""

import itertools

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class MoveTestCase(backend_case.BackendCase):
    """Moves by Cinder, and moves that others make."""

    def test_migrate_a_detached_volume_with_snapshots(self):
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        moved = self.driver.migrate_volume(self.context, volume,
                                           self.there('LocalDS_2'))
        self.assertEqual((True, None), moved)
        self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.assertEqual(content('now'), self.read(volume, 64 * 1024))
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(content('then'), self.read(volume, 64 * 1024))

    def test_migrate_an_attached_volume(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        self.driver.migrate_volume(self.context, volume,
                                   self.there('LocalDS_2'))
        disk = self.disk_on(instance, volume)
        self.assertEqual('LocalDS_2', disk.backing.datastore.name)
        self.assertEqual(disk.backing.fileName, self.truth(volume).path)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_to_another_backend_of_the_vcenter(self):
        ours = self.make_driver(vmware_datastore_regex='LocalDS_[01]')
        there = {'host': 'cinder-1@other#LocalDS_2',
                 'capabilities': self.there('LocalDS_2')['capabilities']}
        thin, thick = (self.volume_type(name, vmdk_type=name)
                       for name in ('thin', 'thick'))
        for name, move in (
                ('migrate', lambda volume: ours.migrate_volume(
                    self.context, volume, there)),
                ('retype', lambda volume: (ours.retype(
                    self.context, volume, thick, {}, there), None))):
            with self.subTest(name):
                volume = self.create(type_id=thin['id'], content=content('a'))
                self.assertEqual((True, None), move(volume))
                self.assertEqual('LocalDS_2', self.truth(volume).datastore)
                self.assertEqual(content('a'), self.read(volume, 64 * 1024))

    def test_to_a_backend_whose_pool_is_no_datastore(self):
        volume = self.create()
        there = {'host': 'cinder-1@other#other',
                 'capabilities': self.there('LocalDS_2')['capabilities']}
        self.assertEqual((False, None), self.driver.migrate_volume(
            self.context, volume, there))
        self.assertFalse(self.driver.retype(
            self.context, volume, {'id': volume.volume_type_id}, {}, there))
        self.assertEqual('LocalDS_1', self.truth(volume).datastore)

    def test_a_pool_of_another_vcenter_is_left_to_cinder(self):
        volume = self.create()
        self.assertEqual((False, None), self.driver.migrate_volume(
            self.context, volume, {'host': 'h@other#x', 'capabilities': {
                'location_info': 'VmdkExtDriver:another'}}))

    def test_a_move_that_fails_leaves_an_attached_disk_in_place(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        before = self.disk_on(instance, volume).backing.fileName
        self.control.fault(method='RelocateVM_Task', count=1, task_fault={
            'type': 'NoDiskSpace'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.migrate_volume, self.context, volume,
                          self.there('LocalDS_2'))
        self.assertEqual(before,
                         self.disk_on(instance, volume).backing.fileName)
        self.assertEqual(before, self.truth(volume).path)

    def test_cinders_own_migration_keeps_the_copy(self):
        volume = self.create(content=content('source'))
        copy = self.create('LocalDS_2', content=content('copy'))
        update = self.driver.update_migrated_volume(
            self.context, volume, copy, 'available')
        self.assertIsNone(update['_name_id'])
        self.assertEqual(content('copy'), self.read(volume, 64 * 1024))
        # Cinder now deletes what the new volume's id finds: the source.
        self.driver.delete_volume(copy)
        self.assertEqual([volume.name], list(self.shadow_vms()))
        self.assertEqual(content('copy'), self.read(volume, 64 * 1024))

    def copied(self):
        """A volume and its copy in this vCenter, before they change places."""
        volume = self.create(content=content('source'))
        copy = self.create('LocalDS_2', content=content('copy'))
        # As after_volume_copy leaves it.
        self.driver.volumeops.set_mark(
            self.driver.backend.finder.find(volume), shadow.MIGRATED_AS,
            copy.id)
        return volume, copy

    def test_cinders_own_migration_may_be_completed_twice(self):
        volume, copy = self.copied()
        for _time in range(2):
            self.driver.update_migrated_volume(self.context, volume, copy,
                                               'available')
            self.assertEqual('LocalDS_2', self.truth(volume).datastore)
        self.driver.delete_volume(copy)
        self.assertEqual(content('copy'), self.read(volume, 64 * 1024))

    def test_cinders_own_migration_that_fails_at_its_end_changes_nothing(self):
        failures = 0
        for skip, done in itertools.product(range(5), (False, True)):
            volume, copy = self.copied()
            self.control.fault(method='ReconfigVM_Task', skip=skip, count=1,
                               task_fault={'type': 'InvalidState'},
                               after_work=done)
            try:
                self.driver.update_migrated_volume(self.context, volume, copy,
                                                   'available')
            except exceptions.VMWARE_ERRORS:
                failures += 1
                with self.subTest(skip=skip, done=done):
                    self.assertEqual('LocalDS_1', self.truth(volume).datastore)
            self.control.reset_faults()
            self.driver.delete_volume(copy)
            self.assertEqual([volume.name], list(self.shadow_vms()))
            self.driver.delete_volume(volume)
        self.assertLess(2, failures)


class FailureTestCase(backend_case.BackendCase):
    """Whatever step of a move fails, the volume is whole and is itself."""

    STEPS = 8

    def fail_at_each_step(self, make, act, methods):
        """Run an operation on fresh volumes, with each step failing in turn.

        :returns: how many of them failed
        """
        failures = 0
        for skip in range(self.STEPS):
            self.refresh_figures()
            volume = make(skip)
            before = self.read(volume, 64 * 1024)
            self.control.fault(method=methods, skip=skip, count=1,
                               task_fault={'type': 'InvalidState'})
            try:
                act(volume)
            except vmware_exceptions.VimException:
                failures += 1
            self.control.reset_faults()
            truth = self.truth(volume)
            self.assertEqual(volume.name, truth.vm.name, skip)
            self.assertEqual(before, self.read(volume, 64 * 1024), skip)
            # The record follows with the next report, if not before.
            self.report()
            if volume.status == 'available':
                self.driver.delete_volume(self.fresh(volume))
                self.assertEqual(
                    [], [name for name in self.shadow_vms()
                         if volume.id in name], skip)
        self.assertGreater(failures, 0)
        return failures

    def test_migrate_detached(self):
        self.fail_at_each_step(
            lambda n: self.create(content=content(n)),
            lambda volume: self.driver.migrate_volume(
                self.context, volume, self.there('LocalDS_2')),
            '(Clone|Reconfig|Relocate)VM_Task|MoveIntoFolder_Task')

    def test_migrate_attached(self):
        def make(number):
            volume = self.create(content=content(number))
            self.instance = self.attach(volume)
            return volume

        def act(volume):
            self.driver.migrate_volume(self.context, volume,
                                       self.there('LocalDS_2'))

        for skip in range(5):
            volume = make(skip)
            before = self.read(volume, 64 * 1024)
            self.control.fault(method='(Reconfig|Relocate)VM_Task', skip=skip,
                               count=1, task_fault={'type': 'InvalidState'})
            try:
                act(volume)
            except vmware_exceptions.VimException:
                pass
            self.control.reset_faults()
            # What one failed step left is put right by the next report.
            self.report()
            disk = self.disk_on(self.instance, volume)
            self.assertEqual(disk.backing.fileName,
                             self.truth(volume).path, skip)
            self.assertEqual(before, self.read(volume, 64 * 1024), skip)
            self.detach(self.fresh(volume), self.instance)
            self._remove_shadow_vms()

    def test_extend_with_a_move(self):
        thick = self.volume_type('thick', vmdk_type='thick')['id']
        self.create(size_gib=95, type_id=thick)
        self.fail_at_each_step(
            lambda n: self.create(type_id=thick, content=content(n)),
            lambda volume: self.driver.extend_volume(volume, 9),
            '(Reconfig|Relocate)VM_Task|ExtendVirtualDisk_Task')
