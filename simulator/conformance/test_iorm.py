# SPDX-License-Identifier: Apache-2.0
"""Storage I/O Control is configured per datastore, and shares, limits and reservations per disk."""

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case


class IormTestCase(vcenter_case.VCenterCase):

    @property
    def manager(self):
        return self.content.storageResourceManager

    def configure(self, datastore, **spec):
        return self.manager.ConfigureDatastoreIORM_Task(datastore, vim.StorageResourceManager.IORMConfigSpec(**spec))

    def test_QueryIORMConfigOption(self):
        option = self.manager.QueryIORMConfigOption(self.all(vim.HostSystem)[0])
        self.assertTrue(option.enabledOption.supported)
        self.assertEqual((5, 100, 30), (option.congestionThresholdOption.min, option.congestionThresholdOption.max,
                                        option.congestionThresholdOption.defaultValue))
        self.assertTrue(option.statsCollectionEnabledOption.supported)
        self.assertTrue(option.reservationEnabledOption.supported)

    def test_ConfigureDatastoreIORM_Task_changes_what_it_names(self):
        datastore = self.datastore('LocalDS_1')
        self.assertFalse(datastore.iormConfiguration.enabled)
        self.assertTrue(datastore.capability.storageIORMSupported)
        watch = self.watch(datastore, 'iormConfiguration.enabled')
        self.wait(self.configure(datastore, enabled=True))
        watch.until('iormConfiguration.enabled', True)
        self.assertEqual((30, 'automatic'), (datastore.iormConfiguration.congestionThreshold,
                                             datastore.iormConfiguration.congestionThresholdMode))
        self.wait(self.configure(datastore, congestionThresholdMode='manual', congestionThreshold=20))
        config = datastore.iormConfiguration
        self.assertEqual((True, 20, 'manual'), (config.enabled, config.congestionThreshold, config.congestionThresholdMode))
        self.assertFalse(self.datastore('LocalDS_0').iormConfiguration.enabled, 'each has its own')

    def test_ConfigureDatastoreIORM_Task_refuses_what_is_out_of_range(self):
        datastore = self.datastore('LocalDS_2')
        for spec in {'congestionThreshold': 4}, {'congestionThreshold': 101}, {'percentOfPeakThroughput': 40}, {
                'congestionThresholdMode': 'sometimes'}:
            with self.subTest(spec):
                self.assertIsInstance(self.fault_of(self.configure(datastore, **spec)), vmodl.fault.InvalidArgument)
        self.assertEqual(30, datastore.iormConfiguration.congestionThreshold)

    def allocation(self, vm, index=0):
        found = self.disks(vm)[index].storageIOAllocation
        return found.limit, found.shares.level, found.shares.shares, found.reservation

    def test_ReconfigVM_Task_keeps_the_allocation_of_a_disk(self):
        vm = self.make_vm('limited', 'LocalDS_1', disks_mib=[1, 1])
        self.assertEqual((-1, 'normal', 1000, 0), self.allocation(vm), 'what a disk has if nothing is asked for')
        disk = self.disks(vm)[0]
        disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(
            limit=500, shares=vim.SharesInfo(level='custom', shares=2000), reservation=100)
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])))
        self.assertEqual((500, 'custom', 2000, 100), self.allocation(vm))
        self.assertEqual((-1, 'normal', 1000, 0), self.allocation(vm, 1))

        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation='something else')))
        disk = self.disks(vm)[0]
        disk.capacityInKB = 2 << 10
        disk.storageIOAllocation = None
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])))
        self.assertEqual((500, 'custom', 2000, 100), self.allocation(vm), 'an edit that does not name it')
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_2'))))
        self.assertEqual((500, 'custom', 2000, 100), self.allocation(vm), 'a move')
        self.destroy(vm)

    def test_CreateVM_Task_takes_the_allocation_and_levels_have_their_shares(self):
        for level, shares in ('low', 500), ('high', 2000):
            disk = self.new_disk(1, 0, -1)
            disk.device.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(
                limit=1000, shares=vim.SharesInfo(level=level, shares=0))
            controller = vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                key=-1, busNumber=0, sharedBus='noSharing'))
            spec = vim.vm.ConfigSpec(name=level, files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'), deviceChange=[controller, disk])
            vm = self.wait(self.datacenter.vmFolder.CreateVM_Task(spec, self.pool))
            self.assertEqual((1000, level, shares), self.allocation(vm)[:3])
            self.destroy(vm)

    def edit(self, vm, **allocation):
        disk = self.disks(vm)[0]
        disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(**allocation)
        return vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)]))

    def test_ReconfigVM_Task_refuses_an_allocation_that_is_out_of_range(self):
        vm = self.make_vm('refused', 'LocalDS_1', disks_mib=[1])
        for allocation, named in (
                ({'limit': 0}, 'limit'), ({'limit': 15}, 'limit'), ({'limit': -2}, 'limit'), ({'reservation': -1}, 'reservation'),
                ({'limit': 100, 'reservation': 101}, 'reservation'),
                ({'shares': vim.SharesInfo(level='custom', shares=199)}, 'shares'),
                ({'shares': vim.SharesInfo(level='custom', shares=4001)}, 'shares')):
            with self.subTest(allocation):
                fault = self.fault_of(self.edit(vm, **allocation))
                self.assertIsInstance(fault, vim.fault.InvalidDeviceSpec)
                self.assertIn(named, fault.property)
        self.assertEqual((-1, 'normal', 1000, 0), self.allocation(vm))
        self.destroy(vm)

    def test_ReconfigVM_Task_leaves_what_the_allocation_does_not_name(self):
        vm = self.make_vm('parts', 'LocalDS_1', disks_mib=[1])
        self.wait(self.edit(vm, limit=100))
        self.assertEqual((100, 'normal', 1000, 0), self.allocation(vm))
        self.wait(self.edit(vm, shares=vim.SharesInfo(level='high', shares=0)))
        self.assertEqual((100, 'high', 2000, 0), self.allocation(vm))
        self.destroy(vm)
