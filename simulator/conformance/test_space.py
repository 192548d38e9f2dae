# SPDX-License-Identifier: Apache-2.0
"""Datastores fill up, and say so: Datastore.summary.freeSpace and .uncommitted, NoDiskSpace."""

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import GIB
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise

# What the files beside a disk take at most: descriptors, configuration.
SMALL = 64 << 10


class SpaceTestCase(storage_case.StorageCase):

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': ['10GiB', 'LocalDS_2=20MiB'], 'ds_mount_all': True}

    def create_disk(self, path, size_mib, disk_type='thin'):
        return self.content.virtualDiskManager.CreateVirtualDisk_Task(
            name=path, datacenter=self.datacenter, spec=vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType=disk_type, adapterType='lsiLogic', capacityKb=size_mib << 10))

    def delete_disk(self, path):
        self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(name=path, datacenter=self.datacenter))

    def test_a_thick_disk_takes_its_capacity_and_gives_it_back(self):
        for eager in False, True:
            before = self.free()
            vm, _ = self.vm_with_disk(size_mib=1024, thinProvisioned=False, eagerlyScrub=eager)
            self.assertAlmostEqual(before - GIB, self.free(), delta=SMALL)
            self.check_space()
            self.destroy(vm)
            self.assertEqual(before, self.free())

    def test_a_thin_disk_takes_what_is_written_and_promises_the_rest(self):
        before = self.free()
        vm, path = self.vm_with_disk(size_mib=1024)
        self.assertAlmostEqual(before, self.free(), delta=SMALL)
        self.assertEqual(GIB, self.uncommitted())
        self.guest_writes(path, noise(3 * MIB), offset=100 * MIB)
        self.check_space()
        self.assertAlmostEqual(before - 3 * MIB, self.free(), delta=SMALL)
        self.assertEqual(GIB - 3 * MIB, self.uncommitted())
        self.guest_writes(path, noise(3 * MIB, 2), offset=100 * MIB)
        self.assertEqual(GIB - 3 * MIB, self.uncommitted())
        self.destroy(vm)
        self.assertEqual((before, 0), (self.free(), self.uncommitted()))

    def test_free_space_and_uncommitted_reach_wait_for_updates(self):
        watch = self.watch(self.datastore(), 'summary.freeSpace', 'summary.uncommitted')
        self.vm_with_disk(size_mib=1024, thinProvisioned=False)
        watch.until('summary.freeSpace', self.free())
        _, path = self.vm_with_disk(size_mib=512)
        self.refreshed()
        watch.until('summary.uncommitted', 512 * MIB)
        self.guest_writes(path, noise(MIB))
        watch.until('summary.freeSpace', self.free())

    def test_what_does_not_fit_fails_with_no_disk_space_in_the_tasks_error_and_leaves_nothing(self):
        before = self.free()
        spec = vim.vm.ConfigSpec(
            name='too-large', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'),
            deviceChange=[
                vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                    key=-1, busNumber=0, sharedBus='noSharing')),
                self.new_disk(11 << 10, 0, controller=-1, thinProvisioned=False)])
        fault = self.fault_of(self.datacenter.vmFolder.CreateVM_Task(spec, self.pool))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)
        self.assertEqual('LocalDS_0', fault.datastore)
        self.assertEqual(before, self.free())
        self.assertEqual([], self.all(vim.VirtualMachine))

    def test_disks_of_the_disk_manager(self):
        before = self.free()
        for disk_type, taken in (('thin', 0), ('preallocated', GIB), ('eagerZeroedThick', GIB), ('thick', GIB)):
            with self.subTest(disk_type):
                self.wait(self.create_disk('[LocalDS_0] d.vmdk', 1024, disk_type))
                self.assertAlmostEqual(before - taken, self.free(), delta=SMALL)
                self.check_space()
                self.delete_disk('[LocalDS_0] d.vmdk')
                self.assertEqual(before, self.free())
        fault = self.fault_of(self.create_disk('[LocalDS_0] d.vmdk', 20 << 10, 'thick'))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)

    def test_extend_takes_the_difference_or_fails_when_there_is_none(self):
        manager = self.content.virtualDiskManager
        before = self.free()
        self.wait(self.create_disk('[LocalDS_0] e.vmdk', 1024, 'preallocated'))
        self.addCleanup(self.delete_disk, '[LocalDS_0] e.vmdk')
        extend = {'name': '[LocalDS_0] e.vmdk', 'datacenter': self.datacenter, 'eagerZero': False}
        self.wait(manager.ExtendVirtualDisk_Task(newCapacityKb=2 << 20, **extend))
        self.assertAlmostEqual(before - 2 * GIB, self.free(), delta=SMALL)
        self.check_space()
        fault = self.fault_of(manager.ExtendVirtualDisk_Task(newCapacityKb=11 << 20, **extend))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)
        self.assertAlmostEqual(before - 2 * GIB, self.free(), delta=SMALL)
        self.assertEqual(2 * GIB, self.disk_info('[LocalDS_0] e.vmdk')['capacity_bytes'])

    def test_extend_of_a_thin_disk_only_promises(self):
        vm, path = self.vm_with_disk(size_mib=100)
        before = self.free()
        self.wait(self.content.virtualDiskManager.ExtendVirtualDisk_Task(
            name=path, datacenter=self.datacenter, newCapacityKb=300 << 10, eagerZero=False))
        self.assertAlmostEqual(before, self.free(), delta=SMALL)
        self.assertEqual(300 * MIB, self.uncommitted())
        self.assertEqual(300 << 10, self.disks(vm)[0].capacityInKB)

    def test_reconfigure_extends(self):
        vm, _ = self.vm_with_disk(size_mib=100, thinProvisioned=False)
        before = self.free()
        disk = self.disks(vm)[0]
        disk.capacityInKB = 300 << 10
        disk.capacityInBytes = None
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])))
        self.assertAlmostEqual(before - 200 * MIB, self.free(), delta=SMALL)
        self.assertEqual(300 * MIB, self.disks(vm)[0].capacityInBytes)

    def test_a_write_that_does_not_fit_is_refused(self):
        vm, path = self.vm_with_disk('LocalDS_2', size_mib=400)
        self.assertEqual(204, self.guest_writes(path, noise(10 * MIB)))
        self.check_space()
        self.assertEqual(507, self.guest_writes(path, noise(15 * MIB), offset=10 * MIB))
        self.check_space()
        self.assertEqual(204, self.guest_writes(path, noise(10 * MIB, 2)), 'what is taken can be written again')

    def test_a_snapshot_needs_space_and_its_delta_grows(self):
        vm, path = self.vm_with_disk(size_mib=100, data=noise(10 * MIB))
        before = self.free()
        snapshot = self.snapshot(vm)
        self.assertAlmostEqual(before - MIB, self.free(), delta=SMALL)
        self.guest_writes(self.path_of(vm), noise(5 * MIB))
        self.assertAlmostEqual(before - 6 * MIB, self.free(), delta=SMALL)
        self.check_space()
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertAlmostEqual(before, self.free(), delta=SMALL)
        self.assertEqual(path, self.path_of(vm))

    def test_relocation_takes_there_and_gives_back_here(self):
        vm, _ = self.vm_with_disk(size_mib=1024, thinProvisioned=False)
        here, there = self.free(), self.free('LocalDS_1')
        self.wait(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))))
        self.assertAlmostEqual(here + GIB, self.free(), delta=SMALL)
        self.assertAlmostEqual(there - GIB, self.free('LocalDS_1'), delta=SMALL)
        self.check_space()
        fault = self.fault_of(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)
        self.assertTrue(self.path_of(vm).startswith('[LocalDS_1]'))
        self.assertAlmostEqual(there - GIB, self.free('LocalDS_1'), delta=SMALL)

    def test_a_clone_that_does_not_fit_fails_and_leaves_nothing(self):
        vm, _ = self.vm_with_disk(size_mib=1024, thinProvisioned=False)
        free = self.free('LocalDS_2')
        fault = self.fault_of(vm.Clone(folder=self.datacenter.vmFolder, name='no-room', spec=vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool, datastore=self.datastore('LocalDS_2')))))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)
        self.assertEqual(free, self.free('LocalDS_2'))
        self.assertEqual([vm], self.all(vim.VirtualMachine))

    def test_one_call_is_one_task(self):
        """TaskManager.recentTask, with what the simulator does inside left out."""
        before = {task._moId for task in self.content.taskManager.recentTask}
        vm, _ = self.vm_with_disk()
        self.destroy(vm)
        fresh = [task for task in self.content.taskManager.recentTask if task._moId not in before]
        self.assertEqual(3, len(fresh))

    def test_refresh_does_not_reset_the_figures(self):
        self.vm_with_disk(size_mib=1024, thinProvisioned=False)
        before = self.free()
        self.datastore().RefreshDatastore()
        self.datastore().RefreshDatastoreStorageInfo()
        self.assertEqual(before, self.free())

    def test_inflate_and_eager_zero(self):
        manager = self.content.virtualDiskManager
        before = self.free()
        name = {'name': '[LocalDS_0] i.vmdk', 'datacenter': self.datacenter}
        self.wait(self.create_disk(name['name'], 1024))
        self.addCleanup(self.delete_disk, name['name'])
        self.guest_writes(name['name'], noise(MIB))
        checksum = self.grains(name['name'])
        self.wait(manager.InflateVirtualDisk_Task(**name))
        self.assertAlmostEqual(before - GIB, self.free(), delta=SMALL)
        self.wait(manager.EagerZeroVirtualDisk_Task(**name))
        self.assertTrue(self.disk_info(name['name'])['eager'])
        self.assertEqual(checksum, self.grains(name['name']))

    def test_two_hundred_mixed_operations_in_parallel_leave_the_sums_right(self):
        tasks = []
        self.addCleanup(self.destroy_all)
        folder = self.datacenter.vmFolder
        for i in range(60):
            spec = vim.vm.ConfigSpec(
                name=f'many-{i}', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName=f'[LocalDS_{i % 2}]'), deviceChange=[
                    vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                        key=-1, busNumber=0, sharedBus='noSharing')),
                    self.new_disk(20, 0, controller=-1, thinProvisioned=i % 3 > 0)])
            tasks.append(folder.CreateVM_Task(spec, self.pool))
        vms = [self.wait(task) for task in tasks]
        self.check_space()
        tasks = []
        for i, vm in enumerate(vms):
            if i % 4 == 0:
                tasks.append(vm.CreateSnapshot(name='s', description='', memory=False, quiesce=False))
            elif i % 4 == 1:
                tasks.append(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore(f'LocalDS_{(i + 1) % 2}'))))
            elif i % 4 == 2:
                tasks.append(vm.Clone(folder=folder, name=f'many-{i}-clone', spec=vim.vm.CloneSpec(
                    location=vim.vm.RelocateSpec(pool=self.pool))))
            else:
                disk = self.disks(vm)[0]
                tasks.append(self.content.virtualDiskManager.ExtendVirtualDisk_Task(
                    name=disk.backing.fileName, datacenter=self.datacenter, newCapacityKb=40 << 10, eagerZero=False))
        for task in tasks:
            self.wait(task)
        self.check_space()
        self.destroy_all()
        self.assertEqual(10 * GIB, self.free())

    def destroy_all(self):
        tasks = [vm.Destroy_Task() for vm in self.all(vim.VirtualMachine)]
        for task in tasks:
            self.wait(task)


class FirstClassDisksTestCase(storage_case.StorageCase):

    flags = {'ds': 1, 'vm': 0, 'ds_capacity': '10GiB'}

    def create(self, size_mib, kind):
        return self.content.vStorageObjectManager.CreateDisk_Task(spec=vim.vslm.CreateSpec(
            name='fcd', capacityInMB=size_mib, backingSpec=vim.vslm.CreateSpec.DiskFileBackingSpec(
                datastore=self.datastore(), provisioningType=kind)))

    def test_they_take_and_give_back_and_do_not_exceed(self):
        before = self.free()
        for kind, taken in (('thin', 0), ('eagerZeroedThick', GIB)):
            disk = self.wait(self.create(1024, kind))
            self.assertAlmostEqual(before - taken, self.free(), delta=SMALL)
            self.check_space()
            self.wait(self.content.vStorageObjectManager.DeleteVStorageObject_Task(disk.config.id, self.datastore()))
            self.assertEqual(before, self.free())
        self.assertIsInstance(self.fault_of(self.create(20 << 10, 'eagerZeroedThick')), vim.fault.NoDiskSpace)
