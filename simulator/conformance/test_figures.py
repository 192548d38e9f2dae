# SPDX-License-Identifier: Apache-2.0
"""What datastores say is free lags behind what is; and one storage may be two datastores."""

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import GIB
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SMALL = {'cluster': 1, 'host': 1, 'standalone_host': 0, 'vm': 0}


class LaggingFiguresTestCase(storage_case.StorageCase):
    """DatastoreSummary.freeSpace and uncommitted: "the server periodically updates this value. It can be explicitly refreshed
    with the RefreshDatastore operation", and RefreshDatastoreStorageInfo.
    """

    flags = {**SMALL, 'ds': 1, 'ds_capacity': '10GiB'}

    def figures(self, datastore):
        return datastore.summary.freeSpace, datastore.summary.uncommitted or 0, datastore.info.freeSpace

    def test_they_say_what_was_until_they_are_refreshed(self):
        datastore = self.refreshed()
        before = self.figures(datastore)
        vm, _ = self.vm_with_disk(size_mib=1024, thinProvisioned=False)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[self.new_disk(512, 1)])))
        self.assertEqual(before, self.figures(datastore))
        datastore.RefreshDatastore()
        free = datastore.summary.freeSpace
        self.assertAlmostEqual(before[0] - GIB, free, delta=8 * MIB)
        self.assertEqual((free, before[1], free), self.figures(datastore), 'the uncommitted space is another refresh')
        datastore.RefreshDatastoreStorageInfo()
        self.assertEqual((free, before[1] + 512 * MIB, free), self.figures(datastore))
        self.destroy(vm)
        self.assertEqual(free, datastore.summary.freeSpace)
        self.assertEqual(before, self.figures(self.refreshed()))

    def test_what_fits_is_decided_by_the_truth(self):
        datastore = self.refreshed()
        vm, _ = self.vm_with_disk(size_mib=9 << 10, thinProvisioned=False)
        self.assertGreater(datastore.summary.freeSpace, 9 * GIB)
        fault = self.fault_of(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            self.new_disk(2 << 10, 1, thinProvisioned=False)])))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)


class PeriodicFiguresTestCase(storage_case.StorageCase):

    flags = {**SMALL, 'ds': 1, 'ds_capacity': '10GiB', 'figures_refresh': 1}

    def test_they_are_refreshed_periodically_and_waiting_clients_are_told(self):
        watch = self.watch(self.datastore(), 'summary.freeSpace', 'summary.uncommitted')
        self.vm_with_disk(size_mib=512)
        watch.until('summary.uncommitted', 512 * MIB)
        self.assertLess(watch.seen['summary.freeSpace'][-1], 10 * GIB)


class SharedStorageTestCase(storage_case.StorageCase):
    """One NFS export that two datacenters mount. HostDatastoreSystem.CreateNasDatastore makes a datastore of the host's
    datacenter; the URL (DatastoreSummary.url, "the unique locator for the datastore") is that of the export.
    """

    flags = {**SMALL, 'dc': 2, 'ds': 1, 'ds_capacity': '10GiB', 'nfs': ['shared=20GiB']}

    def setUp(self):
        super().setUp()
        self.one, self.two = (next(ds for ds in dc.datastore if ds.name == 'shared') for dc in self.all(vim.Datacenter))

    def test_they_are_two_objects_with_one_url_and_one_free_space(self):
        self.assertNotEqual(self.one, self.two)
        self.assertEqual((self.one.summary.url, 'NFS', 20 * GIB),
                         (self.two.summary.url, self.two.summary.type, self.two.summary.capacity))
        vm, _ = self.vm_with_disk('shared', size_mib=1024, thinProvisioned=False)
        self.assertEqual(self.one, vm.datastore[0])
        self.one.RefreshDatastoreStorageInfo()
        self.assertLess(self.one.summary.freeSpace, 19 * GIB + MIB)
        self.assertEqual(self.one.summary.freeSpace, self.two.summary.freeSpace)
        self.assertEqual([[vm], []], [list(each.vm) for each in (self.one, self.two)])
        other = self.all(vim.Datacenter)[1]
        fault = self.fault_of(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            '[shared] too-large.vmdk', other, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='lsiLogic', capacityKb=20 << 20)))
        self.assertIsInstance(fault, vim.fault.NoDiskSpace)

    def test_they_share_their_files_and_locks(self):
        content = noise(MIB)
        vm, path = self.vm_with_disk('shared', data=content)
        other = self.all(vim.Datacenter)[1]
        manager = self.content.virtualDiskManager
        self.assertEqual(self.disks(vm)[0].backing.uuid.replace('-', ''),
                         manager.QueryVirtualDiskUuid(path, other).replace(' ', '').replace('-', '').lower())
        self.wait(manager.CopyVirtualDisk_Task(path, other, '[shared] copy.vmdk', other))
        self.assertEqual(sha256(content, 16 * MIB), self.checksum('[shared] copy.vmdk'))
        self.wait(manager.DeleteVirtualDisk_Task('[shared] copy.vmdk', self.datacenter))
        self.wait(vm.PowerOn())
        self.assertIsInstance(self.fault_of(manager.DeleteVirtualDisk_Task(path, other)), vim.fault.FileLocked)

    def test_snapshots_name_the_datastore_of_their_own_datacenter(self):
        dc = self.all(vim.Datacenter)[1]
        spec = vim.vm.ConfigSpec(name='over-there', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[shared]'),
                                 deviceChange=[vim.vm.device.VirtualDeviceSpec(
                                     operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                                         key=-1, busNumber=0, sharedBus='noSharing')), self.new_disk(16, 0, controller=-1)])
        vm = self.wait(dc.vmFolder.CreateVM_Task(spec, dc.hostFolder.childEntity[0].resourcePool))
        self.addCleanup(self.gone, vm)
        snapshot = self.snapshot(vm)
        backing = self.disks(vm)[0].backing
        self.assertEqual((self.two, self.two), (backing.datastore, backing.parent.datastore))
        self.assertEqual([self.two], list(vm.datastore))
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual(self.two, self.disks(vm)[0].backing.datastore)

    def test_an_export_is_mounted_in_the_second_datacenter_as_in_the_first(self):
        made = []
        for dc in self.all(vim.Datacenter):
            host = dc.hostFolder.childEntity[0].host[0]
            made.append(host.configManager.datastoreSystem.CreateNasDatastore(vim.host.NasVolume.Specification(
                remoteHost='nas', remotePath='/one', localPath='later', accessMode='readWrite', type='NFS')))
        first, second = made
        self.assertNotEqual(first, second)
        self.assertEqual(first.summary.url, second.summary.url)
        self.content.fileManager.MakeDirectory(name='[later] folder', datacenter=self.all(vim.Datacenter)[0])
        with self.assertRaises(vim.fault.FileAlreadyExists):
            self.content.fileManager.MakeDirectory(name='[later] folder', datacenter=self.all(vim.Datacenter)[1])
        first.DestroyDatastore()
        with self.assertRaises(vim.fault.FileAlreadyExists):
            self.content.fileManager.MakeDirectory(name='[later] folder', datacenter=self.all(vim.Datacenter)[1])
        second.DestroyDatastore()
