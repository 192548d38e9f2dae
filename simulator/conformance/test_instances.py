# SPDX-License-Identifier: Apache-2.0
"""A volume's disk that two machines name: the running one of the instance, and the shadow VM, which is never powered on."""

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 16 * MIB
FIRST, SECOND = noise(2 * MIB, 1), noise(MIB + 5000, 2)
ONE = sha256(FIRST, SIZE)
TWO = sha256(SECOND + FIRST[len(SECOND):], SIZE)


class InstanceCase(storage_case.StorageCase):

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '10GiB', 'ds_mount_all': True, 'cluster': 1, 'host': 1, 'standalone_host': 0}

    def setUp(self):
        super().setUp()
        self.shadow, self.path = self.vm_with_disk('LocalDS_0', data=FIRST)
        self.instance = self.make_vm('server', 'LocalDS_1', disks_mib=[1])
        self.addCleanup(self.gone, self.instance)
        disk = self.new_disk(16, 1, self.disks(self.instance)[0].controllerKey, fileName=self.path)
        disk.fileOperation = None
        self.wait(self.instance.Reconfigure(vim.vm.ConfigSpec(deviceChange=[disk])))
        self.wait(self.instance.PowerOn())

    def home(self, vm):
        return vm.config.files.vmPathName.rsplit('/', 1)[0]

    def point_shadow_at(self, path):
        """Have the shadow VM name another file, as a driver does that follows the disk."""
        old = self.disks(self.shadow)[0]
        fresh = self.new_disk(16, 0, old.controllerKey, fileName=path)
        fresh.fileOperation = None
        self.wait(self.shadow.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=old), fresh])))


class MovesTestCase(InstanceCase):
    """RelocateVM_Task of an instance, which live migration and Storage DRS use. That attached volumes come to lie in the
    instance's folder under its name was reported by operators of OpenStack on vSphere (finding B2).
    """

    def assert_moved(self, datastore):
        path = self.path_of(self.instance, 1)
        self.assertTrue(path.startswith(self.home(self.instance) + '/server'), path)
        self.assertTrue(path.startswith(f'[{datastore}] '), path)
        self.assertEqual((ONE, False), (self.checksum(path), self.there(self.path)))
        self.assertEqual(self.path, self.path_of(self.shadow), 'the shadow VM names what is gone')
        self.assertEqual([self.datastore(datastore)], list(self.instance.datastore))

    def test_the_whole_machine_takes_attached_disks_into_its_folder(self):
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        self.assert_moved('LocalDS_2')

    def test_with_locators_it_does_the_same(self):
        target = self.datastore('LocalDS_2')
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=target, disk=[
            vim.vm.RelocateSpec.DiskLocator(diskId=disk.key, datastore=target) for disk in self.disks(self.instance)])))
        self.assert_moved('LocalDS_2')

    def test_a_locator_that_names_where_a_disk_is_leaves_it(self):
        """VirtualMachineRelocateSpec.disk: "an optional list that allows specifying the datastore location for each virtual
        disk".
        """
        attached = self.disks(self.instance)[1]
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'), disk=[
            vim.vm.RelocateSpec.DiskLocator(diskId=attached.key, datastore=self.datastore('LocalDS_0'))])))
        self.assertEqual((self.path, ONE), (self.path_of(self.instance, 1), self.checksum(self.path)))
        self.assertTrue(self.path_of(self.instance).startswith('[LocalDS_2] server/'))

    def test_a_disk_that_is_on_the_target_already_stays_in_its_folder(self):
        """VirtualMachineRelocateSpec.datastore: "the datastore where the virtual machine should be located"; the disk is there."""
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_0'))))
        self.assertEqual((self.path, ONE), (self.path_of(self.instance, 1), self.checksum(self.path)))
        self.assertTrue(self.path_of(self.instance).startswith('[LocalDS_0] server/'))

    def test_a_disk_does_not_go_into_a_folder_of_the_same_name_that_is_anothers(self):
        self.content.fileManager.MakeDirectory(name='[LocalDS_2] server', datacenter=self.datacenter)
        self.addCleanup(lambda: self.wait(self.content.fileManager.DeleteDatastoreFile_Task(
            name='[LocalDS_2] server', datacenter=self.datacenter)))
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(disk=[vim.vm.RelocateSpec.DiskLocator(
            diskId=self.disks(self.instance)[1].key, datastore=self.datastore('LocalDS_2'))])))
        self.assertEqual('[LocalDS_2] server_1/server.vmdk', self.path_of(self.instance, 1))

    def test_a_chain_moves_as_a_whole_though_the_shadow_vm_names_its_base(self):
        self.snapshot(self.instance)
        self.guest_writes(self.path_of(self.instance, 1), SECOND)
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        backing = self.disks(self.instance)[1].backing
        self.assertEqual((TWO, ONE), (self.checksum(backing.fileName), self.checksum(backing.parent.fileName)))
        self.assertEqual([], [name for name in (self.path, self.path.replace('.vmdk', '-000001.vmdk')) if self.there(name)])


class ConsolidationTestCase(InstanceCase):
    """RemoveSnapshot_Task with consolidate, "the virtual disk associated with this snapshot will be merged with other disk if
    possible". A powered-off machine that names a disk locks nothing: clouds with nightly backups of instances with volumes are
    not left with deltas.
    """

    def test_the_delta_of_an_instance_is_merged_into_the_base_that_the_shadow_vm_names(self):
        snapshot = self.snapshot(self.instance)
        delta = self.path_of(self.instance, 1)
        self.guest_writes(delta, SECOND)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual((self.path, TWO, False),
                         (self.path_of(self.instance, 1), self.checksum(self.path), self.there(delta)))
        self.assertFalse(self.instance.runtime.consolidationNeeded)

    def test_a_delta_that_the_shadow_vm_has_followed_to_is_merged_and_gone(self):
        snapshot = self.snapshot(self.instance)
        delta = self.path_of(self.instance, 1)
        self.guest_writes(delta, SECOND)
        self.wait(self.instance.PowerOff())
        self.point_shadow_at(delta)
        self.wait(self.instance.PowerOn())
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual((self.path, TWO, False),
                         (self.path_of(self.instance, 1), self.checksum(self.path), self.there(delta)))
        self.assertEqual(delta, self.path_of(self.shadow), 'it names what is gone')

    def test_what_another_machine_reads_through_stays_apart(self):
        self.wait(self.instance.PowerOff())
        own = self.snapshot(self.shadow, 'of the volume')
        clone, copy = self.clone(self.shadow, 'linked', snapshot=own, diskMoveType='createNewChildDiskBacking')
        self.wait(self.instance.PowerOn())
        snapshot = self.snapshot(self.instance)
        delta = self.path_of(self.instance, 1)
        self.guest_writes(delta, SECOND)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual((delta, TWO), (self.path_of(self.instance, 1), self.checksum(delta)))
        self.assertEqual((ONE, ONE), (self.checksum(copy), self.checksum(self.path)))


class LenientConsolidationTestCase(InstanceCase):

    flags = {**InstanceCase.flags, 'lenient': 'shadow-consolidation'}

    def test_by_the_switch_the_delta_stays_as_long_as_the_shadow_vm_names_the_base(self):
        snapshot = self.snapshot(self.instance)
        delta = self.path_of(self.instance, 1)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual((delta, True), (self.path_of(self.instance, 1), self.there(self.path)))


class DeletionTestCase(InstanceCase):
    """What Nova does to delete a server: PowerOffVM_Task, UnregisterVM, DeleteDatastoreFile_Task of the folder
    (nova.virt.vmwareapi.vmops, _destroy_instance).
    """

    def delete_as_nova_does(self):
        folder = self.home(self.instance)
        self.wait(self.instance.PowerOff())
        self.instance.UnregisterVM()
        self.wait(self.content.fileManager.DeleteDatastoreFile_Task(name=folder, datacenter=self.datacenter))
        return folder

    def test_the_folder_goes_with_a_disk_that_another_machine_names(self):
        self.wait(self.instance.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        moved = self.path_of(self.instance, 1)
        self.wait(self.instance.PowerOff())
        self.point_shadow_at(moved)
        self.wait(self.instance.PowerOn())
        self.delete_as_nova_does()
        self.assertFalse(self.there(moved))
        self.assertEqual(moved, self.path_of(self.shadow), 'the shadow VM names what is gone')
        self.assertEqual(10 << 30, self.free('LocalDS_2'))

    def test_a_disk_in_the_shadow_vms_own_folder_survives(self):
        self.delete_as_nova_does()
        self.assertEqual(ONE, self.checksum(self.path))
        self.assertEqual([self.shadow], self.all(vim.VirtualMachine))

    def test_a_folder_with_a_disk_that_runs_is_locked(self):
        """FileManager.DeleteDatastoreFile_Task documents FileFault; a host refuses what is open."""
        fault = self.fault_of(self.content.fileManager.DeleteDatastoreFile_Task(
            name=self.home(self.shadow), datacenter=self.datacenter))
        self.assertIsInstance(fault, vim.fault.FileLocked)
        self.assertEqual(ONE, self.checksum(self.path))
