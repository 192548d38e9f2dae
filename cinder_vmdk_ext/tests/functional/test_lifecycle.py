# SPDX-License-Identifier: Apache-2.0
"""Each operation lands on the pool that was chosen, with the content kept."""

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder import context as cinder_context
from cinder import exception

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class CreationTestCase(backend_case.BackendCase):
    """Volumes come into being where the scheduler said, as the type says."""

    def test_an_empty_volume_is_on_its_pool_and_of_its_type(self):
        for kind in ('thin', 'thick', 'eagerZeroedThick'):
            type_id = self.volume_type(f'{kind}-type', vmdk_type=kind)['id']
            volume = self.create('LocalDS_2', type_id=type_id)
            self.assert_on('LocalDS_2', volume)
            self.assertEqual(kind, self.truth(volume).provisioning)

    def test_a_full_clone_has_the_form_of_its_own_type(self):
        source = self.create('LocalDS_0', content=content('source'))
        other = self.volume_type('fast', vmdk_type='eagerZeroedThick',
                                 adapter_type='paraVirtual')
        clone = self.new_volume('LocalDS_2', 2, other['id'])
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        truth = self.truth(clone)
        self.assertEqual('eagerZeroedThick', truth.provisioning)
        self.assertEqual('ParaVirtualSCSIController', truth.adapter)
        self.assertEqual(2, truth.size_gib)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_full_clone_takes_one_copy(self):
        source = self.create(content=content('source'))
        clone = self.new_volume('LocalDS_2')
        self.control.reset_journal()
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        calls = self.control.journal()['methods']
        self.assertEqual(1, calls['CloneVM_Task']['calls'])
        self.assertNotIn('MoveVirtualDisk_Task', calls)
        self.assertNotIn('CreateVM_Task', calls)

    def test_a_linked_clone_is_a_delta_of_its_source(self):
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume(type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_1', clone)
        self.assertIsNotNone(self.truth(clone).disk.backing.parent)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_linked_clone_to_another_pool_becomes_a_full_one(self):
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume('LocalDS_2', type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        self.assertIsNone(self.truth(clone).disk.backing.parent)

    def test_a_clone_of_an_attached_volume_knows_nothing_of_the_instance(self):
        source = self.create(content=content('source'))
        instance = self.attach(source)
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assert_on('LocalDS_2', clone)
        vm = self.truth(clone).vm
        self.assertEqual([], [
            device for device in vm.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualEthernetCard)])
        self.assertNotIn(instance.config.instanceUuid, {
            option.value for option in vm.config.extraConfig})
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_a_clone_of_a_promised_volume_is_promised(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        source = self.create()
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assertTrue(state.is_promised(clone))
        self.assertEqual({}, self.shadow_vms())

    def test_a_promised_volume_is_made_at_attach_on_its_pool(self):
        self.driver = self.make_driver(vmware_lazy_create=True)
        volume = self.create('LocalDS_2')
        self.attach(volume)
        self.assert_on('LocalDS_2', volume)
        self.assertTrue(state.is_backed(self.fresh(volume)))

    def test_a_copy_that_fails_half_way_leaves_nothing(self):
        source = self.create()
        clone = self.new_volume('LocalDS_2')
        self.control.fault(method='ReconfigVM_Task', count=1, task_fault={
            'type': 'InvalidState'})
        self.assertRaises(vmware_exceptions.VimException,
                          self.driver.create_cloned_volume, clone, source)
        self.assertEqual([source.name], list(self.shadow_vms()))


class SnapshotTestCase(backend_case.BackendCase):
    """Templates: full copies that stand by themselves."""

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def test_a_volume_from_a_snapshot_holds_what_the_snapshot_held(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        other = self.new_volume('LocalDS_2')
        self.made(other, self.driver.create_volume_from_snapshot(
            other, snapshot))
        self.assert_on('LocalDS_2', other)
        self.assertEqual(content('then'), self.read(other, 64 * 1024))

    def test_revert_brings_back_the_content(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        before = self.checksum(volume)
        self.write(volume, content('now'))
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(before, self.checksum(volume))
        self.assert_on('LocalDS_1', volume)
        self.assertEqual({volume.name, snapshot.name},
                         set(self.shadow_vms()))

    def test_a_revert_that_fails_leaves_the_volume_as_it_was(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        before = self.checksum(volume)
        for skip in range(4):
            self.control.fault(method='(Clone|Reconfig)VM_Task', skip=skip,
                               count=1, task_fault={'type': 'InvalidState'})
            try:
                self.driver.revert_to_snapshot(self.context, volume, snapshot)
            except vmware_exceptions.VimException:
                self.assertEqual(before, self.checksum(volume), skip)
                self.assertEqual({volume.name, snapshot.name},
                                 set(self.shadow_vms()), skip)
            self.control.reset_faults()

    def test_a_snapshot_of_an_attached_volume(self):
        volume = self.create(content=content('then'))
        self.attach(volume)
        snapshot = self.snapshot(volume)
        other = self.new_volume('LocalDS_2')
        self.made(other, self.driver.create_volume_from_snapshot(
            other, snapshot))
        self.assertEqual(content('then'), self.read(other, 64 * 1024))

    def test_delete_can_be_repeated(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        self.driver.delete_snapshot(snapshot)
        self.driver.delete_snapshot(snapshot)
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_template_outlives_its_volume_and_a_renamed_folder(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        folder = self.shadow_vms()[snapshot.name].parent
        self.wait(folder.Rename_Task('Elsewhere'))
        self.driver.delete_volume(volume)
        other = self.new_volume('LocalDS_2')
        self.made(other, self.driver.create_volume_from_snapshot(
            other, snapshot))
        self.assertEqual(content('then'), self.read(other, 64 * 1024))
        self.driver.delete_snapshot(snapshot)
        self.assertEqual([other.name], list(self.shadow_vms()))

    def test_a_lost_template_is_an_error(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        self.wait(self.shadow_vms()[snapshot.name].Destroy_Task())
        other = self.new_volume('LocalDS_2')
        self.assertRaises(exceptions.BackingLost,
                          self.driver.create_volume_from_snapshot, other,
                          snapshot)
        self.assertIsNone(self.truth(other))

    def test_templates_follow_a_transfer(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        member = cinder_context.RequestContext(
            'user', 'another', is_admin=False, roles=['member'])
        self.driver.accept_transfer(member, volume, 'user', 'another')
        template = self.shadow_vms()[snapshot.name]
        folders = []
        entity = template.parent
        while isinstance(entity, vim.Folder):
            folders.append(entity.name)
            entity = entity.parent
        self.assertIn('Project (another)', folders)


class CowSnapshotTestCase(backend_case.BackendCase):
    """vSphere's own snapshots: a tree in the shadow VM."""

    OPTIONS = {'vmware_snapshot_format': 'COW',
               'vmdk_ext_max_snapshot_depth': 3}

    def test_revert_brings_back_the_content(self):
        volume = self.create(content=content('then'))
        before = self.checksum(volume)
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(before, self.checksum(volume))

    def test_full_and_linked_volumes_of_a_snapshot(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        self.write(volume, content('now'))
        for clone_type in ('full', 'linked'):
            type_id = self.volume_type(clone_type,
                                       clone_type=clone_type)['id']
            other = self.new_volume(type_id=type_id)
            self.made(other, self.driver.create_volume_from_snapshot(
                other, snapshot))
            self.assert_on('LocalDS_1', other)
            self.assertEqual(content('then'), self.read(other, 64 * 1024))

    def test_a_snapshot_below_another_root_is_found(self):
        volume = self.create()
        vm = self.truth(volume).vm
        first, second = self.snapshot(volume), self.snapshot(volume)
        # Deleting the first root leaves its child as a root of its own.
        self.driver.delete_snapshot(first)
        third = self.snapshot(volume)
        self.driver.delete_snapshot(second)
        self.driver.delete_snapshot(third)
        self.assertIsNone(vm.snapshot)

    def test_the_chain_has_an_end(self):
        volume = self.create()
        for _ in range(3):
            self.snapshot(volume)
        error = self.assertRaises(exception.InvalidVolume,
                                  self.snapshot, volume)
        self.assertIn('vmdk_ext_max_snapshot_depth', str(error))

    def test_a_lost_snapshot_is_an_error(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        self.wait(self.truth(volume).vm.RemoveAllSnapshots_Task())
        other = self.new_volume()
        self.assertRaises(exceptions.BackingLost,
                          self.driver.create_volume_from_snapshot, other,
                          snapshot)
        self.assertIsNone(self.truth(other))
        self.driver.delete_snapshot(snapshot)

    def test_extend_below_snapshots_says_why_not(self):
        volume = self.create()
        self.snapshot(volume)
        error = self.assertRaises(exception.InvalidVolume,
                                  self.driver.extend_volume, volume, 2)
        self.assertIn('snapshots', str(error))
        self.assertEqual(1, self.truth(volume).size_gib)


class ExtendTestCase(backend_case.BackendCase):
    """A volume grows, wherever it is and in whatever state."""

    def test_in_place(self):
        volume = self.create(content=content('kept'))
        self.driver.extend_volume(volume, 3)
        self.assertEqual(3, self.truth(volume).size_gib)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_moving_when_the_datastore_is_full(self):
        type_id = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.create(type_id=type_id, content=content('kept'))
        filler = self.create(size_gib=98, type_id=type_id)
        self.driver.extend_volume(volume, 5)
        self.assertEqual(5, self.truth(volume).size_gib)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))
        pool = self.truth(volume).datastore
        self.assertNotEqual('LocalDS_1', pool)
        self.assert_on(pool, volume)
        self.assert_on('LocalDS_1', filler)

    def test_no_space_anywhere_leaves_the_volume_as_it_was(self):
        type_id = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.create(type_id=type_id)
        self.assertRaises(exceptions.NoPlacement,
                          self.driver.extend_volume, volume, 500)
        self.assertEqual(1, self.truth(volume).size_gib)
        self.assert_on('LocalDS_1', volume)

    def test_while_attached(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        self.driver.extend_volume(volume, 4)
        self.assertEqual(4, self.truth(volume).size_gib)
        self.assertEqual(4 << 30, self.disk_on(instance,
                                               volume).capacityInBytes)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_a_linked_clone_becomes_a_full_one(self):
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume(type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.driver.extend_volume(clone, 2)
        truth = self.truth(clone)
        self.assertEqual(2, truth.size_gib)
        self.assertIsNone(truth.disk.backing.parent)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))
        self.assertEqual({source.name, clone.name}, set(self.shadow_vms()))


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

    def test_a_disk_that_others_moved_is_followed_in_one_report(self):
        volume = self.create()
        self.report()
        self.wait(self.truth(volume).vm.RelocateVM_Task(
            vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_3'))))
        self.report()
        self.assert_on('LocalDS_3', volume)

    def test_a_renamed_datastore_is_followed_in_one_report(self):
        volume = self.create('LocalDS_3')
        self.report()
        self.datastore('LocalDS_3').RenameDatastore('gold#1')
        self.addCleanup(lambda: self.datastore('gold#1').RenameDatastore(
            'LocalDS_3'))
        self.report()
        self.assertEqual(f'{backend_case.HOST}#gold%231',
                         self.fresh(volume).host)

    def test_an_attached_disk_that_storage_drs_moved_is_followed(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        self.report()
        disk = self.disk_on(instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        moved = self.disk_on(instance, volume).backing.fileName
        self.assertNotEqual(disk.backing.fileName, moved)
        self.report()
        self.assert_on('LocalDS_3', volume)
        self.assertEqual(moved, self.truth(volume).path)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))


class RetypeTestCase(backend_case.BackendCase):
    """A type's form comes to the disk, or the volume stays as it was."""

    def setUp(self):
        super().setUp()
        self.thin = self.volume_type('thin', vmdk_type='thin',
                                     adapter_type='lsiLogic')
        self.eager = self.volume_type('eager', vmdk_type='eagerZeroedThick',
                                      adapter_type='paraVirtual')

    def retype(self, volume, new_type, pool='LocalDS_1'):
        done = self.driver.retype(self.context, volume, new_type, {},
                                  self.there(pool))
        if done:
            volume.volume_type_id = new_type['id']
            volume.host = self.there(pool)['host']
            volume.save()
        return done

    def test_in_place(self):
        volume = self.create(type_id=self.thin['id'], content=content('kept'))
        self.assertTrue(self.retype(volume, self.eager))
        truth = self.truth(volume)
        self.assertEqual('eagerZeroedThick', truth.provisioning)
        self.assertEqual('ParaVirtualSCSIController', truth.adapter)
        self.assert_on('LocalDS_1', volume)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))
        self.assertEqual([volume.name], list(self.shadow_vms()))
        self.assertTrue(self.retype(volume, self.thin))
        self.assertEqual('VirtualLsiLogicController',
                         self.truth(volume).adapter)

    def test_to_another_pool(self):
        volume = self.create(type_id=self.thin['id'], content=content('kept'))
        self.assertTrue(self.retype(volume, self.eager, 'LocalDS_2'))
        self.assert_on('LocalDS_2', volume)
        self.assertEqual('eagerZeroedThick', self.truth(volume).provisioning)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_a_failure_at_any_step_leaves_the_volume_as_it_was(self):
        for pool in ('LocalDS_1', 'LocalDS_2'):
            for skip in range(6):
                volume = self.create(type_id=self.thin['id'],
                                     content=content(skip))
                before = self.checksum(volume)
                rule = self.control.fault(
                    method='(Clone|Reconfig|Relocate)VM_Task|Rename_Task',
                    skip=skip, count=1, task_fault={'type': 'InvalidState'})
                try:
                    failed = not self.retype(volume, self.eager, pool)
                except vmware_exceptions.VimException:
                    failed = True
                self.control.reset_faults()
                del rule
                truth = self.truth(volume)
                self.assertEqual(volume.name, truth.vm.name, (pool, skip))
                self.assertEqual(before, self.checksum(volume), (pool, skip))
                if failed:
                    self.assertEqual(
                        ('thin', 'VirtualLsiLogicController', 'LocalDS_1'),
                        (truth.provisioning, truth.adapter,
                         truth.datastore), (pool, skip))
                self.assertEqual([volume.name], list(self.shadow_vms()),
                                 (pool, skip))
                self.driver.delete_volume(volume)

    def test_a_disk_type_cannot_change_in_place_below_snapshots(self):
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        volume = self.create(type_id=self.thin['id'])
        self.snapshot(volume)
        self.assertFalse(self.retype(volume, self.eager))
        self.assertEqual('thin', self.truth(volume).provisioning)


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
