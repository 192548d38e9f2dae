# SPDX-License-Identifier: Apache-2.0
"""Snapshots as templates and in the snapshot tree: kept, read, lost."""

from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

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

    def test_a_snapshot_of_an_empty_volume_brings_emptiness_back(self):
        """The volume got its disk when it was used first."""
        lazy = self.make_driver(vmware_lazy_create=True)
        volume = self.new_volume()
        self.made(volume, lazy.create_volume(volume))
        snapshot = self.snapshot(volume)
        self.driver.initialize_connection(
            volume, {'instance': self.instances()[0]._moId})
        self.write(volume, content('now'))
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(bytes(512), self.read(volume, 512))
        self.assertEqual([volume.name], list(self.shadow_vms()))

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


class LostTemplateTestCase(backend_case.BackendCase):
    """A template whose file is gone, though the vCenter lists its VM."""

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('then'))
        self.lost = self.snapshot(self.volume)
        self.template = self.shadow_vms()[self.lost.name]
        self.path = self.file_of(self.template)
        self.delete_file(self.path)

    def operations(self):
        return {
            'create': lambda: self.driver.create_volume_from_snapshot(
                self.new_volume('LocalDS_2'), self.lost),
            'revert': lambda: self.driver.revert_to_snapshot(
                self.context, self.volume, self.lost),
            'transfer': lambda: self.driver.accept_transfer(
                self.context, self.volume, 'user', 'project'),
            'group': lambda: self.driver.create_group_from_src(
                self.context, mock.Mock(), [self.new_volume(
                    'LocalDS_2', snapshot_id=self.lost.id)],
                snapshots=[self.lost]),
        }

    def test_each_use_names_the_snapshot_and_the_file(self):
        before = {name: vm.parent for name, vm in self.shadow_vms().items()}
        for name, operation in self.operations().items():
            with self.subTest(name):
                error = self.assertRaises(exceptions.BackingLost, operation)
                self.assertIn(self.path, str(error))
                self.assertIn(self.lost.id, str(error))
                self.assertIn('register it again', str(error))
                self.assertEqual(before, {
                    name: vm.parent
                    for name, vm in self.shadow_vms().items()})
        # What the vCenter has of it can be deleted.
        self.driver.delete_snapshot(self.lost)
        self.assertEqual([self.volume.name], list(self.shadow_vms()))

    def test_one_without_a_disk_is_lost_too(self):
        template = self.template
        template.MarkAsVirtualMachine(
            template.environmentBrowser and self.pool())
        self.wait(template.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=each)
            for each in template.config.hardware.device
            if isinstance(each, vim.vm.device.VirtualDisk)])))
        template.MarkAsTemplate()
        for name, operation in self.operations().items():
            with self.subTest(name):
                error = self.assertRaises(exceptions.BackingLost, operation)
                self.assertIn(f'the disk of {template._moId}', str(error))
                self.assertIn(self.lost.id, str(error))

    def pool(self):
        return self.all(vim.ClusterComputeResource)[0].resourcePool

    def test_it_is_not_managed(self):
        taken = self.new_snapshot(self.volume)
        self.lost.destroy()
        error = self.assertRaises(
            exception.ManageExistingInvalidReference,
            self.driver.manage_existing_snapshot, taken,
            {'source-id': self.template._moId})
        self.assertIn(self.path, str(error))
        self.assertEqual(self.lost.name, self.template.name)


class LostBaseTestCase(backend_case.BackendCase):
    """Of a chain of files the lowest one is gone: all above it is lost."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def lose_base(self, volume):
        parent = self.truth(volume).disk.backing.parent
        while parent.parent:
            parent = parent.parent
        self.delete_file(parent.fileName)
        return parent.fileName

    def operations(self, volume):
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute'}
        return {
            'clone': lambda: self.driver.create_cloned_volume(
                self.new_volume(), volume),
            'snapshot': lambda: self.driver.create_snapshot(
                self.new_snapshot(volume)),
            'attach': lambda: self.driver.initialize_connection(
                volume, connector),
            'migrate': lambda: self.driver.migrate_volume(
                self.context, volume, self.there('LocalDS_2')),
            'transfer': lambda: self.driver.accept_transfer(
                self.context, volume, 'user', 'project'),
        }

    def assert_lost(self, operations, path, *names):
        before = set(self.shadow_vms())
        for name, operation in operations.items():
            with self.subTest(name):
                error = self.assertRaises(exceptions.BackingLost, operation)
                self.assertIn(path, str(error))
                self.assertTrue(any(each in str(error) for each in names),
                                error)
                self.assertEqual(before, set(self.shadow_vms()))

    def test_below_a_snapshot(self):
        volume = self.create(content=content('then'))
        snapshot = self.snapshot(volume)
        path = self.lose_base(volume)
        self.assert_lost(self.operations(volume) | {
            'create': lambda: self.driver.create_volume_from_snapshot(
                self.new_volume('LocalDS_2'), snapshot),
            'revert': lambda: self.driver.revert_to_snapshot(
                self.context, volume, snapshot),
        }, path, volume.id, snapshot.id)

    def test_below_a_linked_clone_in_the_folder_of_another(self):
        source = self.create(content=content('then'))
        linked = self.new_volume(
            type_id=self.volume_type('linked', clone_type='linked')['id'])
        self.made(linked, self.driver.create_cloned_volume(linked, source))
        path = self.lose_base(linked)
        self.assertIn(source.name, path)
        self.assert_lost(self.operations(linked), path, linked.id)

    def test_of_a_snapshot_beside_the_present_state(self):
        """After a revert another branch holds what came later."""
        volume = self.create(content=content('first'))
        first = self.snapshot(volume)
        self.write(volume, content('second'))
        second = self.snapshot(volume)
        self.driver.revert_to_snapshot(self.context, volume, first)
        path = next(
            self.file_of(node.snapshot) for node
            in self.truth(volume).vm.snapshot.rootSnapshotList[0]
            .childSnapshotList if node.name == second.name)
        self.delete_file(path)
        self.assert_lost({
            'create': lambda: self.driver.create_volume_from_snapshot(
                self.new_volume('LocalDS_2'), second),
            'revert': lambda: self.driver.revert_to_snapshot(
                self.context, volume, second),
        }, path, second.id)
        self.driver.revert_to_snapshot(self.context, volume, first)
        self.assertEqual(content('first'), self.read(volume, 64 * 1024))
