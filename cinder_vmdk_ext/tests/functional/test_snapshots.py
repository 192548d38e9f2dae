# SPDX-License-Identifier: Apache-2.0
"""Snapshots as templates and in the snapshot tree: kept, read, lost."""

from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


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
