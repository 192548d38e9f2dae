# SPDX-License-Identifier: Apache-2.0
"""Folder.RegisterVM_Task: a machine that was taken out of the inventory is the same one when it is put in again."""

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 16 * MIB
FIRST, SECOND = noise(2 * MIB, 1), noise(MIB + 5000, 2)
ONE = sha256(FIRST, SIZE)
TWO = sha256(SECOND + FIRST[len(SECOND):], SIZE)


class RegisterTestCase(storage_case.StorageCase):
    """UnregisterVM "removes this virtual machine from the inventory without removing any of the virtual machine's files on
    storage. All high-level information stored with the management server ... is removed"; the configuration file is on storage.
    """

    flags = {'ds': 2, 'vm': 0, 'ds_capacity': '10GiB', 'cluster': 1, 'host': 2, 'standalone_host': 0}

    def register(self, path, name=None, template=False):
        return self.datacenter.vmFolder.RegisterVM_Task(
            path=path, name=name, asTemplate=template, pool=None if template else self.pool,
            host=self.all(vim.HostSystem)[0] if template else None)

    def registered(self, path, **options):
        vm = self.wait(self.register(path, **options))
        self.addCleanup(self.gone, vm)
        return vm

    def test_disks_and_configuration_are_there_again(self):
        vm, first = self.vm_with_disk(data=FIRST)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(
            annotation='words', memoryMB=64, extraConfig=[vim.option.OptionValue(key='guestinfo.a', value='1')],
            deviceChange=[self.new_disk(1, 1, fileName='[LocalDS_1]')])))
        name, path, second = vm.name, vm.config.files.vmPathName, self.path_of(vm, 1)
        before = (vm.config.uuid, vm.config.instanceUuid, self.disks(vm)[0].backing.uuid, self.disks(vm)[0].key)
        vm.UnregisterVM()
        self.assertEqual([], self.all(vim.VirtualMachine))
        again = self.registered(path)
        self.assertNotEqual(vm._moId, again._moId)
        self.assertEqual(before, (again.config.uuid, again.config.instanceUuid, self.disks(again)[0].backing.uuid,
                                  self.disks(again)[0].key))
        self.assertEqual((name, 'words', 64), (again.name, again.config.annotation, again.summary.config.memorySizeMB))
        self.assertIn(('guestinfo.a', '1'), [(each.key, each.value) for each in again.config.extraConfig])
        self.assertEqual([first, second], [self.path_of(again, i) for i in (0, 1)])
        self.assertEqual((2, ONE), (again.summary.config.numVirtualDisks, self.checksum(first)))
        self.assertEqual({'LocalDS_0', 'LocalDS_1'}, {each.name for each in again.datastore})
        self.wait(again.PowerOn())
        self.destroy(again)
        self.assertEqual([10 << 30] * 2, [self.free('LocalDS_0'), self.free('LocalDS_1')])

    def test_snapshots_are_there_again(self):
        vm, base = self.vm_with_disk(data=FIRST)
        self.snapshot(vm, 'first')
        self.guest_writes(self.path_of(vm), SECOND)
        self.snapshot(vm, 'second')
        path, top = vm.config.files.vmPathName, self.path_of(vm)
        vm.UnregisterVM()
        again = self.registered(path)
        tree = again.snapshot.rootSnapshotList
        self.assertEqual(('first', ['second']), (tree[0].name, [each.name for each in tree[0].childSnapshotList]))
        self.assertEqual(tree[0].childSnapshotList[0].snapshot, again.snapshot.currentSnapshot)
        self.assertEqual((top, TWO), (self.path_of(again), self.checksum(self.path_of(again))))
        self.wait(tree[0].snapshot.RevertToSnapshot_Task())
        self.assertEqual(ONE, self.checksum(self.path_of(again)))
        self.wait(again.RemoveAllSnapshots_Task())
        self.assertEqual((base, ONE), (self.path_of(again), self.checksum(base)))

    def test_a_folder_that_was_moved_takes_its_disks_along(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        folder, file = vm.config.files.vmPathName.rsplit('/', 1)
        vm.UnregisterVM()
        self.wait(self.content.fileManager.MoveDatastoreFile_Task(
            sourceName=folder, sourceDatacenter=self.datacenter, destinationName='[LocalDS_1] moved',
            destinationDatacenter=self.datacenter))
        again = self.registered('[LocalDS_1] moved/' + file, name='renamed')
        self.assertEqual('renamed', again.name)
        self.assertTrue(self.path_of(again).startswith('[LocalDS_1] moved/'))
        self.assertEqual(ONE, self.checksum(self.path_of(again)))
        self.assertEqual([self.datastore('LocalDS_1')], list(again.datastore))

    def test_a_disk_that_is_gone_is_still_named(self):
        vm, path = self.vm_with_disk()
        home = vm.config.files.vmPathName
        vm.UnregisterVM()
        self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(name=path, datacenter=self.datacenter))
        again = self.registered(home)
        self.assertEqual(path, self.path_of(again))
        self.assertIsInstance(self.fault_of(again.PowerOn()), vim.fault.FileNotFound)

    def test_an_instance_uuid_that_was_taken_meanwhile_is_changed(self):
        """VirtualMachineConfigSpec.instanceUuid: the environment may "change it when VirtualCenter detects an identifier
        conflict between virtual machines".
        """
        vm, _ = self.vm_with_disk()
        path, uuid = vm.config.files.vmPathName, vm.config.instanceUuid
        vm.UnregisterVM()
        other = self.make_vm('other', instanceUuid=uuid)
        self.addCleanup(self.gone, other)
        again = self.registered(path)
        self.assertEqual(uuid, other.config.instanceUuid)
        self.assertNotEqual(uuid, again.config.instanceUuid)
        self.assertEqual([again], self.content.searchIndex.FindAllByUuid(
            uuid=again.config.instanceUuid, vmSearch=True, instanceUuid=True))

    def test_as_a_template(self):
        vm, _ = self.vm_with_disk(data=FIRST)
        path = vm.config.files.vmPathName
        vm.UnregisterVM()
        template = self.registered(path, template=True)
        self.assertEqual((True, None), (template.config.template, template.resourcePool))
        self.assertEqual(ONE, self.checksum(self.path_of(template)))

    def test_what_cannot_be_is_refused(self):
        """The faults that RegisterVM_Task documents: NotFound, AlreadyExists, DuplicateName, InvalidDatastore."""
        vm, _ = self.vm_with_disk()
        path = vm.config.files.vmPathName
        for task, fault in ((self.register('[LocalDS_0] none/none.vmx'), vim.fault.NotFound),
                            (self.register('[Nowhere] none/none.vmx'), vim.fault.InvalidDatastore),
                            (self.register(path, name='another'), vim.fault.AlreadyExists)):
            error = self.fault_of(task)
            self.assertIsInstance(error, fault)
        other, _ = self.vm_with_disk()
        path = other.config.files.vmPathName
        other.UnregisterVM()
        self.assertIsInstance(self.fault_of(self.register(path, name=vm.name)), vim.fault.DuplicateName)
        self.registered(path)
