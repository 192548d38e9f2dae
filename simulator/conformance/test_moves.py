# SPDX-License-Identifier: Apache-2.0
"""VirtualMachine.RelocateVM_Task and CloneVM_Task change every path and reference, and carry the content."""

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 16 * MIB
FIRST, SECOND = noise(2 * MIB, 1), noise(MIB + 5000, 2)
ONE = sha256(FIRST, SIZE)
TWO = sha256(SECOND + FIRST[len(SECOND):], SIZE)


class MovesCase(storage_case.StorageCase):

    flags = {'ds': 5, 'vm': 0, 'ds_capacity': '10GiB', 'cluster': 2}  # LocalDS_3 and 4 are mounted by some hosts only


class RelocateTestCase(MovesCase):

    def relocate(self, vm, datastore, **more):
        return vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore(datastore), **more))

    def test_every_path_and_reference_changes(self):
        vm, path = self.vm_with_disk(data=FIRST)
        uuid = self.disks(vm)[0].backing.uuid
        self.wait(self.relocate(vm, 'LocalDS_1'))
        target = self.datastore('LocalDS_1')
        disk = self.disks(vm)[0]
        for each in (disk.backing.fileName, vm.config.files.vmPathName, vm.summary.config.vmPathName,
                     vm.config.files.logDirectory, vm.config.files.snapshotDirectory):
            self.assertTrue(each.startswith('[LocalDS_1] '), each)
        self.assertEqual(target, disk.backing.datastore)
        self.assertEqual([target], list(vm.datastore))
        self.assertIn(vm, target.vm)
        self.assertNotIn(vm, self.datastore('LocalDS_0').vm)
        self.assertEqual({'[LocalDS_1]'}, {file.name.split(' ')[0] for file in vm.layoutEx.file})
        self.assertEqual([target], [usage.datastore for usage in vm.storage.perDatastoreUsage])
        self.assertEqual((ONE, uuid), (self.checksum(disk.backing.fileName), disk.backing.uuid))
        self.assertFalse(self.there(path))

    def test_a_disk_locator_converts(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        for i, (thin, eager) in enumerate(((False, False), (False, True), (True, False))):
            target = f'LocalDS_{(i + 1) % 3}'
            disk = self.disks(vm)[0]
            self.wait(self.relocate(vm, target, disk=[vim.vm.RelocateSpec.DiskLocator(
                diskId=disk.key, datastore=self.datastore(target),
                diskBackingInfo=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName='', diskMode='persistent', thinProvisioned=thin, eagerlyScrub=eager))]))
            backing = self.disks(vm)[0].backing
            self.assertEqual((thin, eager), (backing.thinProvisioned, backing.eagerlyScrub))
            self.assertEqual(ONE, self.checksum(backing.fileName))
            self.check_space()

    def test_a_disk_locator_moves_one_disk_only(self):
        vm, first = self.vm_with_disk(data=FIRST)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[self.new_disk(1, 1)])))
        self.wait(vm.Relocate(vim.vm.RelocateSpec(disk=[vim.vm.RelocateSpec.DiskLocator(
            diskId=self.disks(vm)[1].key, datastore=self.datastore('LocalDS_2'))])))
        self.assertEqual(first, self.path_of(vm))
        self.assertTrue(self.path_of(vm, 1).startswith('[LocalDS_2]'))
        self.assertTrue(vm.config.files.vmPathName.startswith('[LocalDS_0]'))
        self.assertEqual({self.datastore('LocalDS_0'), self.datastore('LocalDS_2')}, set(vm.datastore))

    def test_snapshots_move_along(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        self.guest_writes(self.path_of(vm), SECOND)
        self.wait(self.relocate(vm, 'LocalDS_1'))
        self.check_space()
        self.assertEqual(TWO, self.checksum(self.path_of(vm)))
        frozen = [d for d in snapshot.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)][0]
        self.assertTrue(frozen.backing.fileName.startswith('[LocalDS_1]'))
        self.assertEqual(ONE, self.checksum(frozen.backing.fileName))
        self.wait(snapshot.RevertToSnapshot_Task())
        self.assertEqual(ONE, self.checksum(self.path_of(vm)))
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual(ONE, self.checksum(self.path_of(vm)))

    def test_host_and_pool_change_with_their_lists(self):
        vm, _ = self.vm_with_disk()
        cluster = self.all(vim.ClusterComputeResource)[1]
        self.wait(vm.Relocate(vim.vm.RelocateSpec(pool=cluster.resourcePool, host=cluster.host[1])))
        self.assertEqual((cluster.host[1], cluster.resourcePool), (vm.runtime.host, vm.resourcePool))
        self.assertEqual([cluster.host[1]], [host for host in self.all(vim.HostSystem) if vm in host.vm])
        self.assertIn(vm, cluster.resourcePool.vm)
        self.assertNotIn(vm, self.pool.vm)

    def test_a_datastore_that_the_host_does_not_mount_is_refused(self):
        vm, path = self.vm_with_disk()
        host = vm.runtime.host
        away = next(ds for ds in (self.datastore('LocalDS_3'), self.datastore('LocalDS_4'))
                    if host not in [mount.key for mount in ds.host])
        self.assertIsInstance(self.fault_of(self.relocate(vm, away.name)), vim.fault.InvalidDatastore)
        self.assertEqual(path, self.path_of(vm))

    def test_the_pool_alone_finds_a_host_that_mounts_the_datastore(self):
        vm, _ = self.vm_with_disk()
        target = self.datastore('LocalDS_4')
        self.wait(self.relocate(vm, 'LocalDS_4', pool=self.pool))
        self.assertIn(vm.runtime.host, [mount.key for mount in target.host])

    def test_another_vcenter_is_refused(self):
        vm, _ = self.vm_with_disk()
        service = vim.ServiceLocator(
            instanceUuid='x', url='https://elsewhere', credential=vim.ServiceLocatorNamePassword(username='u', password='p'))
        self.assertIsInstance(self.fault_of(vm.Relocate(vim.vm.RelocateSpec(service=service))), vmodl.fault.NotSupported)

    def test_a_name_that_is_taken_there_gets_another(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        other, _ = self.vm_with_disk('LocalDS_1')
        self.content.fileManager.MakeDirectory(name=f'[LocalDS_1] {vm.name}', datacenter=self.datacenter)
        self.wait(self.relocate(vm, 'LocalDS_1'))
        self.assertEqual(ONE, self.checksum(self.path_of(vm)))
        self.assertNotIn(f'] {vm.name}/', self.path_of(vm))
        self.wait(self.content.fileManager.DeleteDatastoreFile_Task(name=f'[LocalDS_1] {vm.name}', datacenter=self.datacenter))

    def test_a_running_machine_moves_its_disks(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        self.wait(vm.PowerOn())
        self.wait(self.relocate(vm, 'LocalDS_1'))
        self.assertEqual(ONE, self.checksum(self.path_of(vm)))

    def test_a_disk_that_another_running_machine_has_does_not_move(self):
        vm, path = self.vm_with_disk(data=FIRST)
        other = self.make_vm('holds-it')
        self.addCleanup(self.gone, other)
        change = self.new_disk(1, 0, fileName=path)
        change.fileOperation = None
        self.wait(other.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
        self.wait(other.PowerOn())
        self.assertIsInstance(self.fault_of(self.relocate(vm, 'LocalDS_1')), vim.fault.FileLocked)
        self.wait(other.PowerOff())
        self.wait(other.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=self.disks(other)[0])])))


class CloneTestCase(MovesCase):

    def test_a_full_clone_has_the_content_and_its_own_uuids(self):
        vm, path = self.vm_with_disk(data=FIRST)
        clone, copy = self.clone(vm, 'full')
        self.guest_writes(path, SECOND)
        self.assertEqual((ONE, TWO), (self.checksum(copy), self.checksum(path)))
        self.assertNotEqual(vm.config.instanceUuid, clone.config.instanceUuid)
        self.assertNotEqual(self.disks(vm)[0].backing.uuid, self.disks(clone)[0].backing.uuid)
        self.assertIsNone(self.disks(clone)[0].backing.parent)

    def test_to_another_datastore_and_type(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        target = self.datastore('LocalDS_1')
        for move in (None, 'moveAllDiskBackingsAndDisallowSharing', 'moveAllDiskBackingsAndConsolidate'):
            clone, copy = self.clone(vm, f'away-{move}', datastore=target, diskMoveType=move, disk=[
                vim.vm.RelocateSpec.DiskLocator(
                    diskId=self.disks(vm)[0].key, datastore=target,
                    diskBackingInfo=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                        fileName='', diskMode='persistent', eagerlyScrub=True))])
            self.assertTrue(copy.startswith('[LocalDS_1]'))
            self.assertEqual((ONE, True), (self.checksum(copy), self.disks(clone)[0].backing.eagerlyScrub))
            self.check_space()

    def test_of_a_snapshot_has_the_snapshots_content(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        self.guest_writes(self.path_of(vm), SECOND)
        _, copy = self.clone(vm, 'of-snapshot', snapshot=snapshot)
        _, now = self.clone(vm, 'of-now')
        self.assertEqual((ONE, TWO), (self.checksum(copy), self.checksum(now)))

    def test_a_linked_clone_reads_through_its_parent_and_writes_for_itself(self):
        vm, path = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        before = self.free()
        clone, copy = self.clone(vm, 'linked', snapshot=snapshot, diskMoveType='createNewChildDiskBacking')
        self.assertGreater(self.free(), before - 2 * MIB)
        self.assertEqual(path, self.disks(clone)[0].backing.parent.fileName)
        self.assertEqual(ONE, self.checksum(copy))
        self.guest_writes(copy, SECOND)
        self.assertEqual((TWO, ONE), (self.checksum(copy), self.checksum(self.path_of(vm))))
        self.check_space()

    def test_a_linked_clone_outlives_the_snapshot_and_its_source(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        clone, copy = self.clone(vm, 'orphan', snapshot=snapshot, diskMoveType='createNewChildDiskBacking')
        self.guest_writes(self.path_of(vm), SECOND)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual((TWO, ONE), (self.checksum(self.path_of(vm)), self.checksum(copy)))
        self.destroy(vm)
        self.assertEqual(ONE, self.checksum(copy))
        self.check_space()
        self.destroy(clone)
        self.assertEqual(10 << 30, self.free())

    def test_a_linked_clone_needs_a_snapshot(self):
        vm, _ = self.vm_with_disk()
        fault = self.fault_of(vm.Clone(folder=self.datacenter.vmFolder, name='no', spec=vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool, diskMoveType='createNewChildDiskBacking'))))
        self.assertIsInstance(fault, vmodl.fault.InvalidArgument)

    def test_relocating_a_linked_clone_shares_or_not_as_asked(self):
        vm, path = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        clone, _ = self.clone(vm, 'linked-moves', snapshot=snapshot, diskMoveType='createNewChildDiskBacking')
        self.guest_writes(self.path_of(clone), SECOND)
        self.wait(clone.Relocate(vim.vm.RelocateSpec(
            datastore=self.datastore('LocalDS_1'), diskMoveType='moveAllDiskBackingsAndAllowSharing')))
        self.assertEqual((path, TWO), (self.disks(clone)[0].backing.parent.fileName, self.checksum(self.path_of(clone))))
        self.check_space()
        self.wait(clone.Relocate(vim.vm.RelocateSpec(
            datastore=self.datastore('LocalDS_2'), diskMoveType='moveAllDiskBackingsAndDisallowSharing')))
        self.assertTrue(self.disks(clone)[0].backing.parent.fileName.startswith('[LocalDS_2]'))
        self.assertEqual((TWO, ONE), (self.checksum(self.path_of(clone)), self.checksum(path)))
        self.check_space()

    def test_configuration_and_owner_come_along_or_are_replaced(self):
        vm, _ = self.vm_with_disk()
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(
            annotation='words', extraConfig=[vim.option.OptionValue(key='a', value='1')],
            managedBy=vim.ext.ManagedByInfo(extensionKey='org.openstack.storage', type='volume'))))
        clone, _ = self.clone(vm, 'configured', config=vim.vm.ConfigSpec(
            extraConfig=[vim.option.OptionValue(key='a', value='2'), vim.option.OptionValue(key='b', value='3')],
            instanceUuid='5008a5ae-0b0a-4d83-a4cb-1d5f1f6b1234'))
        self.assertEqual('words', clone.config.annotation)
        self.assertEqual('org.openstack.storage', clone.config.managedBy.extensionKey)
        self.assertEqual('5008a5ae-0b0a-4d83-a4cb-1d5f1f6b1234', clone.config.instanceUuid)
        extra = {each.key: each.value for each in clone.config.extraConfig}
        self.assertEqual(('2', '3'), (extra['a'], extra['b']))

    def test_disks_that_the_request_removes_are_not_cloned(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[self.new_disk(1, 1)])))
        clone, copy = self.clone(vm, 'one-disk', config=vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=self.disks(vm)[1])]))
        self.assertEqual((1, ONE), (len(self.disks(clone)), self.checksum(copy)))

    def test_a_template(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        template, _ = self.clone(vm, 'template', template=True)
        self.assertTrue(template.config.template)
        _, copy = self.clone(template, 'from-template')
        self.assertEqual(ONE, self.checksum(copy))


class NamesTestCase(MovesCase):

    def create(self, name, folder=None, **config):
        spec = vim.vm.ConfigSpec(name=name, guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'), **config)
        return (folder or self.datacenter.vmFolder).CreateVM_Task(spec, self.pool)

    def test_a_name_that_exists_in_the_folder_is_a_duplicate_name(self):
        vm, _ = self.vm_with_disk()
        self.assertIsInstance(self.fault_of(self.create(vm.name)), vim.fault.DuplicateName)
        fault = self.fault_of(vm.Clone(folder=self.datacenter.vmFolder, name=vm.name, spec=vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool))))
        self.assertIsInstance(fault, vim.fault.DuplicateName)
        folder = self.datacenter.vmFolder.CreateFolder('elsewhere')
        self.addCleanup(lambda: self.wait(folder.Destroy_Task()))
        other = self.wait(self.create(vm.name, folder))
        self.addCleanup(self.destroy, other)

    def test_of_many_who_want_a_name_one_gets_it(self):
        tasks = [self.create('wanted') for _ in range(10)]
        for task in tasks:
            self._ended(task, 20)
        self.assertEqual(1, sum(task.info.state == 'success' for task in tasks))
        self.assertEqual({'vim.fault.DuplicateName'}, {
            type(task.info.error).__name__ for task in tasks if task.info.state == 'error'})
        self.destroy(self.named(vim.VirtualMachine, 'wanted'))

    def test_an_instance_uuid_is_unique_and_a_new_machine_gets_another(self):
        """VirtualMachineConfigSpec.instanceUuid: the environment may "assign or change it when VirtualCenter detects an
        identifier conflict between virtual machines"; what a client asks an existing machine to take is refused.
        """
        vm, _ = self.vm_with_disk()
        uuid = vm.config.instanceUuid
        made = self.wait(self.create('same-uuid', instanceUuid=uuid))
        self.addCleanup(self.gone, made)
        clone, _ = self.clone(vm, 'clone-of-uuid', config=vim.vm.ConfigSpec(instanceUuid=uuid))
        self.assertEqual(3, len({uuid, made.config.instanceUuid, clone.config.instanceUuid}))
        self.assertEqual([made], self.content.searchIndex.FindAllByUuid(
            uuid=made.config.instanceUuid, vmSearch=True, instanceUuid=True))
        fault = self.fault_of(made.Reconfigure(vim.vm.ConfigSpec(instanceUuid=uuid)))
        self.assertIsInstance(fault, vmodl.fault.InvalidArgument)
        self.assertEqual([vm], self.content.searchIndex.FindAllByUuid(uuid=uuid, vmSearch=True, instanceUuid=True))

    def test_an_instance_uuid_leads_to_who_has_it_now(self):
        first, second, third = ('5008a5ae-0b0a-4d83-a4cb-00000000000%d' % number for number in range(3))

        def found(uuid):
            index = self.content.searchIndex
            alone = index.FindByUuid(uuid=uuid, vmSearch=True, instanceUuid=True)
            machines = index.FindAllByUuid(uuid=uuid, vmSearch=True, instanceUuid=True)
            self.assertEqual([alone] if alone else [], machines)
            return alone
        vm, _ = self.vm_with_disk()
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(instanceUuid=first)))
        clone, _ = self.clone(vm, 'has-second', config=vim.vm.ConfigSpec(instanceUuid=second))
        self.assertEqual([vm, clone, None], [found(each) for each in (first, second, third)])
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(instanceUuid=third)))
        self.wait(clone.Reconfigure(vim.vm.ConfigSpec(instanceUuid=first)))
        self.assertEqual([clone, None, vm], [found(each) for each in (first, second, third)])
        path = vm.config.files.vmPathName
        vm.UnregisterVM()
        self.wait(clone.Destroy())
        self.assertEqual([None] * 3, [found(each) for each in (first, second, third)])
        again = self.wait(self.datacenter.vmFolder.RegisterVM_Task(path=path, asTemplate=False, pool=self.pool))
        self.addCleanup(self.gone, again)
        new = self.wait(self.create('has-first', instanceUuid=first))
        self.addCleanup(self.gone, new)
        self.assertEqual([new, None, again], [found(each) for each in (first, second, third)])
        self.assertEqual(new, self.content.searchIndex.FindByUuid(
            uuid=new.config.uuid, vmSearch=True, instanceUuid=False))

    def test_of_many_who_want_an_instance_uuid_one_gets_it(self):
        uuid = '5008a5ae-0b0a-4d83-a4cb-1d5f1f6b4321'
        machines = [self.wait(task) for task in [self.create(f'uuid-{i}', instanceUuid=uuid) for i in range(6)]]
        for vm in machines:
            self.addCleanup(self.gone, vm)
        uuids = [vm.config.instanceUuid for vm in machines]
        self.assertEqual((1, 6), (uuids.count(uuid), len(set(uuids))))

    def test_a_folder_that_is_gone_is_an_error_and_not_the_end(self):
        folder = self.datacenter.vmFolder.CreateFolder('going')
        self.wait(folder.Destroy_Task())
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound):
            self.create('lost', folder)
        vm, _ = self.vm_with_disk()
        fault = self.fault_of(vm.Clone(folder=folder, name='lost', spec=vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool))))
        self.assertIsInstance(fault, vmodl.fault.ManagedObjectNotFound)

    def test_a_datastore_that_is_not_there(self):
        spec = vim.vm.ConfigSpec(name='x', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[Nowhere]'))
        fault = self.fault_of(self.datacenter.vmFolder.CreateVM_Task(spec, self.pool))
        self.assertIsInstance(fault, vim.fault.InvalidDatastore)

    def test_rename_and_move_into_a_folder_mind_the_names(self):
        vm, _ = self.vm_with_disk()
        other, _ = self.vm_with_disk()
        self.assertIsInstance(self.fault_of(vm.Rename_Task(other.name)), vim.fault.DuplicateName)
        self.wait(vm.Rename_Task('renamed'))
        self.assertEqual(('renamed', 'renamed'), (vm.name, vm.config.name))
        folder = self.datacenter.vmFolder.CreateFolder('target')
        self.wait(folder.MoveIntoFolder_Task([vm]))
        self.assertEqual(folder, vm.parent)
        self.wait(other.Rename_Task('renamed'))
        self.assertIsInstance(self.fault_of(folder.MoveIntoFolder_Task([other])), vim.fault.DuplicateName)
        self.wait(folder.Destroy_Task())
        self.assertEqual([other], self.all(vim.VirtualMachine))

    def test_promotion_makes_a_linked_clone_independent(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        snapshot = self.snapshot(vm)
        clone, _ = self.clone(vm, 'promoted', snapshot=snapshot, diskMoveType='createNewChildDiskBacking')
        self.wait(clone.PromoteDisks_Task(unlink=True, disks=[]))
        self.assertIsNone(self.disks(clone)[0].backing.parent)
        self.assertEqual(ONE, self.checksum(self.path_of(clone)))
