# SPDX-License-Identifier: Apache-2.0
"""The audit finds each fault, and nothing else."""

from oslo_utils import uuidutils
from pyVmomi import vim

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import audit_case
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.volumes import replace

content = backend_case.content


class FindingsTestCase(audit_case.AuditCase):
    """One kind of finding each."""

    OPTIONS = {'vmware_snapshot_format': 'template'}

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('audited'))

    def test_nothing_is_found_where_all_is_well(self):
        self.snapshot(self.volume)
        clone = self.new_volume('LocalDS_2')
        self.made(clone, self.driver.create_cloned_volume(clone, self.volume))
        self.assertEqual([], self.audit())

    def test_a_vm_without_a_record_is_an_orphan(self):
        self.volume.destroy()
        found, = self.audit()
        self.assertEqual(('orphan', 'vm', self.volume.id, 'LocalDS_1'),
                         (found.kind, found.thing, found.owner, found.place))
        self.assertGreater(found.space_bytes, 0)
        self.assertTrue(found.sweepable)

    def test_an_age_is_never_that_of_the_calendars_first_day(self):
        """A vCenter may say that a VM was last modified in 1970."""
        vm = self.truth(self.volume).vm
        self.assertEqual(1970, vm.config.modified.year)
        self.volume.destroy()
        [found] = self.audit()
        self.assertTrue(0 <= found.age_seconds < 86400, found)

    def test_a_template_without_a_record_is_an_orphan(self):
        snapshot = self.snapshot(self.volume)
        snapshot.destroy()
        self.assertEqual([('orphan', 'template', snapshot.id)], self.kinds())

    def test_a_record_without_its_vm_is_lost(self):
        self.wait(self.truth(self.volume).vm.Destroy_Task())
        found, = self.audit()
        self.assertEqual(('lost', 'volume', self.volume.id, 'LocalDS_1'),
                         (found.kind, found.thing, found.owner, found.place))
        self.assertFalse(found.sweepable)

    def test_the_file_of_a_lost_volume_is_told_and_left_alone(self):
        truth = self.truth(self.volume)
        truth.vm.UnregisterVM()
        self.addCleanup(self._delete, truth.path)
        lost, file = self.audit()
        self.assertEqual('lost', lost.kind)
        self.assertIn(truth.path, lost.detail)
        self.assertEqual(('orphan', 'file', truth.path, False),
                         (file.kind, file.thing, file.reference,
                          file.sweepable))

    def test_a_snapshot_without_its_template_is_lost(self):
        snapshot = self.snapshot(self.volume)
        self.wait(self.shadow_vms()[snapshot.name].Destroy_Task())
        self.assertEqual([('lost', 'snapshot', snapshot.id)], self.kinds())

    def test_a_volume_on_another_pool_is_misplaced(self):
        self.volume.host = f'{backend_case.HOST}#LocalDS_2'
        self.volume.save()
        self.assertEqual([('misplaced', 'vm', self.volume.id)], self.kinds())

    def test_a_second_vm_of_a_volume_is_a_duplicate_and_stays(self):
        self.copy_of(self.volume, 'another', instanceUuid=(
            uuidutils.generate_uuid()))
        found, = self.audit()
        self.assertEqual(('duplicated', 'another', False),
                         (found.kind, found.name, found.sweepable))

    def test_a_vm_that_is_not_found_any_more_is_named_and_comes_back(self):
        vm = self.truth(self.volume).vm
        self.rename(vm, name='by hand',
                    instanceUuid=uuidutils.generate_uuid())
        self.assertRaises(exceptions.BackingLost,
                          self.driver.extend_volume, self.volume, 2)
        lost, there = self.audit()
        self.assertEqual(('lost', self.volume.id), (lost.kind, lost.owner))
        self.assertIn(f'by hand ({vm._moId})', lost.detail)
        self.assertEqual(('duplicated', vm._moId),
                         (there.kind, there.reference))
        self.rename(vm, instanceUuid=self.volume.id)
        self.driver.extend_volume(self.volume, 2)
        larger, = self.audit_of_changes()
        self.assertIn('its disk has 2 GiB', larger)
        self.volume.size = 2
        self.volume.save()
        self.assertEqual([], self.audit_of_changes())

    def audit_of_changes(self):
        """What is wrong besides the name that was given by hand."""
        named, *others = [(each.kind, each.detail) for each in self.audit()]
        self.assertEqual('changed', named[0])
        self.assertIn('is named by hand', named[1])
        self.assertEqual({'changed'}, {'changed', *(
            kind for kind, _detail in others)})
        return [detail for _kind, detail in others]

    def test_leftovers_name_their_volume(self):
        name = replace.temporary_name(self.volume, 'retype')
        self.copy_of(self.volume, name)
        replaced = self.copy_of(self.volume, f'{self.volume.name}-replaced')
        self.rename(replaced, extraConfig=[
            vim.option.OptionValue(key=shadow.REPLACED,
                                   value=self.volume.id)])
        self.assertEqual([('leftover', 'vm', self.volume.id)] * 2,
                         self.kinds())

    def test_a_temporary_snapshot_is_a_leftover(self):
        other = uuidutils.generate_uuid()
        self.wait(self.truth(self.volume).vm.CreateSnapshot_Task(
            f'temp-snapshot-{other}', '', False, False))
        self.assertEqual([('leftover', 'vm-snapshot', other)], self.kinds())
        before = self.checksum(self.volume)
        self.sweep()
        self.assertEqual([], self.audit())
        self.assertEqual(before, self.checksum(self.volume))

    def test_another_volumes_files_are_none_of_ours(self):
        self._make_disk('[LocalDS_0] somebody/else.vmdk')
        self.assertEqual([], self.audit())

    def test_a_temporary_image_is_a_leftover_that_is_moved(self):
        path = '[LocalDS_0] cinder_temp/image.vmdk'
        self._make_disk(path)
        found, = self.audit()
        self.assertEqual(('leftover', 'file', path),
                         (found.kind, found.thing, found.reference))
        self.assertEqual([], self.sweep())
        self.sweep(named=[path])
        moved, = self.audit()
        self.addCleanup(self._delete, moved.reference)
        self.assertEqual('quarantined', moved.kind)
        self.assertIn(f'{compare.QUARANTINE_PATH}/', moved.reference)

    def _make_disk(self, path):
        content = self.service.content
        content.fileManager.MakeDirectory(
            path.rpartition('/')[0], content.rootFolder.childEntity[0], True)
        self.wait(content.virtualDiskManager.CreateVirtualDisk_Task(
            path, content.rootFolder.childEntity[0],
            vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='thin', adapterType='lsiLogic', capacityKb=1024)))
        self.addCleanup(self._delete, path)

    def test_names_with_escaped_signs_are_no_findings(self):
        datastore = self.datastore('LocalDS_2')
        self.addCleanup(datastore.RenameDatastore, 'LocalDS_2')
        for number, name in enumerate(('50%', 'a/b', 'x\\y')):
            path = f'cinder_temp/{number}/image.vmdk'
            with self.subTest(name):
                datastore.RenameDatastore(name)
                [pool] = [each['pool_name'] for each in self.report()['pools']
                          if each['datastore'] == name]
                volume = self.create(pool, content=content('escaped'))
                self.assertEqual([], self.audit())
                self._make_disk(f'[{datastore.name}] {path}')
                [swept] = self.sweep(named=[f'[{name}] {path}'])
                self.assertEqual(f'[{name}] {path}', swept.reference)
                [moved] = self.audit()
                self.assertEqual('quarantined', moved.kind)
                self._delete(moved.reference.replace(
                    f'[{name}]', f'[{datastore.name}]'))
                self.driver.delete_volume(volume)
                volume.destroy()

    def _delete(self, path):
        content = self.service.content
        try:
            self.wait(content.virtualDiskManager.DeleteVirtualDisk_Task(
                path, content.rootFolder.childEntity[0]))
        except (vim.fault.FileNotFound, vim.fault.InvalidDatastore):
            pass


class DisksTestCase(audit_case.AuditCase):
    """A volume's VM is there; its disk is looked at as well."""

    def setUp(self):
        super().setUp()
        self.volume = self.create(content=content('looked at'))

    def findings(self):
        return [(each.kind, each.owner) for each in self.audit()]

    def test_a_vm_without_its_disk_is_lost(self):
        truth = self.truth(self.volume)
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='remove', fileOperation='destroy',
                device=truth.disk)])))
        self.assertEqual([('lost', self.volume.id)], self.findings())

    def test_a_vm_whose_file_is_gone_is_lost(self):
        truth = self.truth(self.volume)
        self.delete_file(truth.path)
        found = self.audit()
        self.assertIn(('lost', self.volume.id),
                      [(each.kind, each.owner) for each in found])
        self.assertIn(truth.path, found[0].detail)

    def test_a_base_that_is_gone_loses_the_snapshots_above_it_too(self):
        tree = self._take_snapshots()
        path = self.file_of(tree['first'])
        self.delete_file(path)
        self.assertEqual(
            {(self.volume.id, path), (self.first.id, path),
             (self.second.id, path)}, self._lost(path))

    def test_a_file_of_another_branch_that_is_gone_loses_its_snapshot(self):
        path = self.file_of(self._take_snapshots()['second'])
        self.delete_file(path)
        self.assertEqual({(self.second.id, path)}, self._lost(path))

    def _take_snapshots(self):
        """Two, and back to the first: each is a branch of its own."""
        self.driver = self.make_driver(vmware_snapshot_format='COW')
        self.first, self.second = (self.snapshot(self.volume)
                                   for _ in range(2))
        self.driver.revert_to_snapshot(self.context, self.volume, self.first)
        self.assertEqual([], self.audit())
        root, = self.truth(self.volume).vm.snapshot.rootSnapshotList
        return {'first': root.snapshot,
                'second': root.childSnapshotList[0].snapshot}

    def _lost(self, path):
        return {(each.owner, path) for each in self.audit()
                if each.kind == 'lost' and path in each.detail}

    def test_a_template_whose_file_is_gone_is_a_lost_snapshot(self):
        snapshot = self.snapshot(self.volume)
        template = self.shadow_vms()[snapshot.name]
        path = self.file_of(template)
        self.delete_file(path)
        lost = next(each for each in self.audit() if each.kind == 'lost')
        self.assertEqual(('snapshot', snapshot.id),
                         (lost.thing, lost.owner))
        self.assertIn(f'its template {template._moId} needs {path}',
                      lost.detail)

    def test_a_file_that_a_stranger_names_is_shared(self):
        truth = self.truth(self.volume)
        stranger = self.instances()[1]
        controller = next(
            device.key for device in stranger.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualSCSIController))
        disk = vim.vm.device.VirtualDisk(
            key=-1, controllerKey=controller, unitNumber=-1,
            capacityInKB=truth.disk.capacityInKB,
            backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName=truth.path, diskMode='persistent'))
        self.wait(stranger.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='add', device=disk)])))
        try:
            self.assertEqual([('shared', self.volume.id)], self.findings())
        finally:
            added = next(
                device for device in stranger.config.hardware.device
                if isinstance(device, vim.vm.device.VirtualDisk)
                and device.backing.fileName == truth.path)
            self.wait(stranger.ReconfigVM_Task(vim.vm.ConfigSpec(
                deviceChange=[vim.vm.device.VirtualDeviceSpec(
                    operation='remove', device=added)])))

    def test_a_disk_in_an_instances_folder_is_at_risk(self):
        truth = self.truth(self.volume)
        instance = self.instances()[0]
        path = (instance.config.files.vmPathName.rpartition('/')[0]
                + '/moved.vmdk')
        service = self.service.content
        datacenter = service.rootFolder.childEntity[0]
        self._change(truth.vm, 'remove', truth.disk)
        self.wait(service.virtualDiskManager.MoveVirtualDisk_Task(
            truth.path, datacenter, path, datacenter))
        truth.disk.backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=path, diskMode='persistent')
        self._change(truth.vm, 'add', truth.disk)
        found, = self.audit()
        self.assertEqual(('at-risk', self.volume.id),
                         (found.kind, found.owner))
        self.assertIn(f'{instance.name} ({instance._moId})', found.detail)

    def _change(self, vm, operation, device):
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation=operation,
                                            device=device)])))

    def test_a_vm_that_was_made_a_template_is_named(self):
        vm = self.truth(self.volume).vm
        vm.MarkAsTemplate()
        lost, *_others = self.audit()
        self.assertEqual('lost', lost.kind)
        self.assertIn(f'({vm._moId}), marked as a template', lost.detail)

    def test_a_deletion_that_failed_is_stuck(self):
        self.volume.provider_id = state.DELETING
        self.volume.status = 'error_deleting'
        self.volume.save()
        self.assertEqual([('stuck', self.volume.id)], self.findings())
