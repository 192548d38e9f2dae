# SPDX-License-Identifier: Apache-2.0
"""Snapshots keep the old content, revert brings it back, removal consolidates."""

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 16 * MIB
FIRST, SECOND, THIRD = noise(2 * MIB, 1), noise(MIB + 5000, 2), noise(3 * MIB, 3)


def over(lower, *uppers):
    """Contents written at 0 one after the other."""
    content = lower
    for upper in uppers:
        content = upper + content[len(upper):]
    return sha256(content, SIZE)


class SnapshotsTestCase(storage_case.StorageCase):

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '10GiB', 'ds_mount_all': True}

    def setUp(self):
        super().setUp()
        self.vm, self.base = self.vm_with_disk(size_mib=16, data=FIRST)

    @property
    def top(self):
        return self.path_of(self.vm)

    def files(self):
        return sorted(file.name for file in self.vm.layoutEx.file if file.type in ('diskDescriptor', 'diskExtent'))

    def test_the_machine_goes_on_in_a_delta_and_the_snapshot_keeps_the_old_content(self):
        snapshot = self.snapshot(self.vm)
        self.assertNotEqual(self.base, self.top)
        self.assertEqual(self.base, self.disks(self.vm)[0].backing.parent.fileName)
        self.assertEqual(over(FIRST), self.checksum(self.top))
        self.guest_writes(self.top, SECOND)
        self.assertEqual(over(FIRST, SECOND), self.checksum(self.top))
        self.assertEqual(over(FIRST), self.checksum(self.base))
        frozen = [d for d in snapshot.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)][0]
        self.assertEqual(self.base, frozen.backing.fileName)
        self.assertEqual(snapshot, self.vm.snapshot.currentSnapshot)

    def test_zeros_that_are_written_hide_what_is_below(self):
        self.snapshot(self.vm)
        self.guest_writes(self.top, bytes(100), offset=1000)
        self.assertEqual(FIRST[:1000] + bytes(100) + FIRST[1100:2000], self.guest_reads(self.top, 2000))

    def test_revert_brings_the_content_back_and_drops_the_delta(self):
        snapshot = self.snapshot(self.vm)
        self.guest_writes(self.top, SECOND)
        left = self.top
        self.wait(snapshot.RevertToSnapshot_Task())
        self.assertEqual(over(FIRST), self.checksum(self.top))
        self.check_space()
        self.guest_writes(self.top, THIRD)
        self.wait(self.vm.RevertToCurrentSnapshot_Task())
        self.assertEqual(over(FIRST), self.checksum(self.top))
        self.assertLessEqual(len({left, self.top} & set(self.files())), 1)

    def test_removal_consolidates_and_the_content_stays(self):
        snapshot = self.snapshot(self.vm)
        self.guest_writes(self.top, SECOND)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual(self.base, self.top)
        self.assertEqual(over(FIRST, SECOND), self.checksum(self.top))
        self.assertIsNone(self.vm.snapshot)
        self.assertEqual(2, len(self.files()))
        self.assertIsNone(self.disks(self.vm)[0].backing.parent)

    def test_the_middle_one_of_three_goes(self):
        contents = [over(FIRST), over(FIRST, SECOND), over(FIRST, SECOND, THIRD)]
        snapshots = []
        for i, data in enumerate((SECOND, THIRD, b'now')):
            snapshots.append(self.snapshot(self.vm, f's{i}'))
            self.guest_writes(self.top, data)
        self.wait(snapshots[1].RemoveSnapshot_Task(removeChildren=False))
        self.check_space()
        self.assertEqual(over(FIRST, SECOND, THIRD, b'now'), self.checksum(self.top))
        self.wait(snapshots[2].RevertToSnapshot_Task())
        self.assertEqual(contents[2], self.checksum(self.top))
        self.wait(snapshots[0].RevertToSnapshot_Task())
        self.assertEqual(contents[0], self.checksum(self.top))
        self.check_space()
        root = self.vm.snapshot.rootSnapshotList[0]
        self.assertEqual(['s0', 's2'], [root.name, root.childSnapshotList[0].name])

    def test_branches_do_not_disturb_each_other(self):
        first = self.snapshot(self.vm, 'first')
        self.guest_writes(self.top, SECOND)
        branch = self.snapshot(self.vm, 'branch')
        self.wait(first.RevertToSnapshot_Task())
        self.guest_writes(self.top, THIRD)
        other = self.snapshot(self.vm, 'other')
        self.assertEqual({'branch', 'other'}, {node.name for node in self.vm.snapshot.rootSnapshotList[0].childSnapshotList})
        self.wait(branch.RevertToSnapshot_Task())
        self.assertEqual(over(FIRST, SECOND), self.checksum(self.top))
        self.wait(first.RemoveSnapshot_Task(removeChildren=False))
        self.check_space()
        self.wait(other.RevertToSnapshot_Task())
        self.assertEqual(over(FIRST, THIRD), self.checksum(self.top))
        self.wait(branch.RemoveSnapshot_Task(removeChildren=False))
        self.check_space()
        self.wait(other.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual(over(FIRST, THIRD), self.checksum(self.top))
        self.assertEqual(2, len(self.files()))

    def test_with_its_children(self):
        first = self.snapshot(self.vm, 'first')
        self.guest_writes(self.top, SECOND)
        self.snapshot(self.vm, 'second')
        self.guest_writes(self.top, THIRD)
        self.wait(first.RemoveSnapshot_Task(removeChildren=True))
        self.assertIsNone(self.vm.snapshot)
        self.assertEqual(over(FIRST, SECOND, THIRD), self.checksum(self.top))

    def test_all_of_them(self):
        for data in SECOND, THIRD:
            self.snapshot(self.vm)
            self.guest_writes(self.top, data)
        self.wait(self.vm.RemoveAllSnapshots_Task())
        self.assertIsNone(self.vm.snapshot)
        self.assertEqual((self.base, over(FIRST, SECOND, THIRD)), (self.top, self.checksum(self.top)))

    def test_removal_without_consolidation_is_made_up_for(self):
        snapshot = self.snapshot(self.vm)
        self.guest_writes(self.top, SECOND)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=False))
        self.assertTrue(self.vm.runtime.consolidationNeeded)
        self.assertNotEqual(self.base, self.top)
        self.wait(self.vm.ConsolidateVMDisks_Task())
        self.assertFalse(self.vm.runtime.consolidationNeeded)
        self.assertEqual((self.base, over(FIRST, SECOND)), (self.top, self.checksum(self.top)))

    def test_rename(self):
        snapshot = self.snapshot(self.vm, 'old')
        snapshot.RenameSnapshot(name='new', description='words')
        node = self.vm.snapshot.rootSnapshotList[0]
        self.assertEqual(('new', 'words'), (node.name, node.description))

    def test_an_independent_disk_takes_no_part(self):
        self.wait(self.vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            self.new_disk(1, 1, diskMode='independent_persistent')])))
        before = self.path_of(self.vm, 1)
        self.snapshot(self.vm)
        self.assertEqual(before, self.path_of(self.vm, 1))

    def test_a_disk_with_snapshots_is_not_extended(self):
        self.snapshot(self.vm)
        disk = self.disks(self.vm)[0]
        disk.capacityInKB, disk.capacityInBytes = 32 << 10, 32 * MIB
        fault = self.fault_of(self.vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])))
        self.assertIsInstance(fault, vim.fault.InvalidDeviceOperation)

    def test_destroy_takes_all_files(self):
        before = self.free()
        self.snapshot(self.vm)
        self.guest_writes(self.top, SECOND)
        self.snapshot(self.vm)
        self.destroy(self.vm)
        self.check_space()
        self.assertGreater(self.free(), before)
        self.assertEqual(10 << 30, self.free())

    # A file of a chain is gone

    def lose(self, path):
        delete = self.content.fileManager.DeleteDatastoreFile_Task
        self.wait(delete(path, self.datacenter))
        # Its extent is left.
        self.addCleanup(lambda: self.wait(delete(path.rpartition('/')[0], self.datacenter)))

    def test_what_opens_a_disk_names_the_missing_base(self):
        """"Cannot open the disk ... or one of the snapshot disks it depends on" (VMware's knowledge base, 1004232). The tasks
        document FileFault, whose subtype FileNotFound names the file.
        """
        first = self.snapshot(self.vm)
        self.lose(self.base)
        place = vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'), pool=self.pool)
        linked = vim.vm.RelocateSpec(pool=self.pool, diskMoveType='createNewChildDiskBacking')
        folder = self.datacenter.vmFolder
        for task in (self.vm.CreateSnapshot_Task('second', '', False, False), self.vm.RelocateVM_Task(place),
                     self.vm.CloneVM_Task(folder, 'full', vim.vm.CloneSpec(location=place)),
                     self.vm.CloneVM_Task(folder, 'linked', vim.vm.CloneSpec(location=linked, snapshot=first)),
                     first.RevertToSnapshot_Task()):
            fault = self.fault_of(task)
            self.assertIsInstance(fault, vim.fault.FileNotFound)
            self.assertEqual(self.base, fault.file)
        self.assertEqual([self.vm.name], [vm.name for vm in self.all(vim.VirtualMachine)])

    def test_a_missing_file_of_one_branch_leaves_the_other(self):
        """As above; FileNotFound is of the chain that is opened, and of no other."""
        first = self.snapshot(self.vm)
        path = self.path_of(self.snapshot(self.vm))
        second = self.vm.snapshot.currentSnapshot
        self.wait(first.RevertToSnapshot_Task())
        self.lose(path)
        self.assertEqual(path, self.fault_of(second.RevertToSnapshot_Task()).file)
        self.wait(first.RevertToSnapshot_Task())
        self.assertEqual(over(FIRST), self.checksum(self.top))
