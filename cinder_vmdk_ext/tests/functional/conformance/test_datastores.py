# SPDX-License-Identifier: Apache-2.0
"""Datastores are renamed, serviced, mounted, made and destroyed as in a vCenter."""

from pyVmomi import vim
from pyVmomi import vmodl

from cinder_vmdk_ext.tests.functional.conformance import vcenter_case


class RenameTestCase(vcenter_case.VCenterCase):

    def paths(self, vm):
        """Every datastore path that a virtual machine shows."""
        texts = [vm.config.files.vmPathName, vm.config.files.logDirectory, vm.config.files.snapshotDirectory,
                 vm.summary.config.vmPathName]
        texts += [disk.backing.fileName for disk in self.disks(vm)]
        texts += [each.name for each in vm.layoutEx.file]
        return [text for text in texts if text]

    def test_RenameDatastore_is_followed_by_every_path_of_its_machines(self):
        datastore = self.datastore('LocalDS_1')
        url = datastore.summary.url
        vm = self.make_vm('renamed-under', 'LocalDS_1', disks_mib=[1, 2])
        other = self.make_vm('elsewhere', 'LocalDS_0', disks_mib=[1])
        self.wait(vm.CreateSnapshot_Task('one', '', False, False))
        before, elsewhere = self.paths(vm), self.paths(other)
        watch = self.watch(datastore, 'name', 'summary.name')
        watch_vm = self.watch(vm, 'config.files.vmPathName')

        datastore.RenameDatastore('Gold')

        watch.until('name', 'Gold')
        watch.until('summary.name', 'Gold')
        watch_vm.until('config.files.vmPathName', before[0].replace('LocalDS_1', 'Gold'))
        self.assertEqual(('Gold', 'Gold', 'Gold', url),
                         (datastore.name, datastore.summary.name, datastore.info.name, datastore.summary.url))
        self.assertEqual([path.replace('[LocalDS_1]', '[Gold]') for path in before], self.paths(vm))
        self.assertEqual(elsewhere, self.paths(other))
        snapshot = vm.snapshot.rootSnapshotList[0].snapshot
        for device in snapshot.config.hardware.device:
            if isinstance(device, vim.vm.device.VirtualDisk):
                self.assertTrue(device.backing.fileName.startswith('[Gold] '), device.backing.fileName)
        # The files are where the paths say.
        self.content.virtualDiskManager.QueryVirtualDiskUuid(self.disks(vm)[0].backing.fileName, self.datacenter)
        with self.assertRaises(vmodl.MethodFault):
            self.content.virtualDiskManager.QueryVirtualDiskUuid(
                self.disks(vm)[0].backing.fileName.replace('Gold', 'LocalDS_1'), self.datacenter)
        self.destroy(vm)
        self.destroy(other)
        datastore.RenameDatastore('LocalDS_1')

    def test_Rename_Task_gives_DuplicateName_for_a_name_that_exists(self):
        datastore = self.datastore('LocalDS_2')
        self.assertIsInstance(self.fault_of(datastore.Rename_Task('LocalDS_0')), vim.fault.DuplicateName)
        with self.assertRaises(vim.fault.DuplicateName):
            datastore.RenameDatastore('LocalDS_0')
        self.assertEqual('LocalDS_2', datastore.name)

    def test_Rename_Task_escapes_what_a_vCenter_escapes(self):
        datastore = self.datastore('LocalDS_2')
        self.wait(datastore.Rename_Task('a/b 50%'))
        self.addCleanup(datastore.RenameDatastore, 'LocalDS_2')
        self.assertEqual('a%2fb 50%25', datastore.name)

    def test_RenameDatastore_refuses_an_empty_name(self):
        with self.assertRaises(vim.fault.InvalidName):
            self.datastore('LocalDS_2').RenameDatastore('')


class MaintenanceTestCase(vcenter_case.VCenterCase):

    def test_DatastoreEnterMaintenanceMode_ends_when_nothing_is_registered_there(self):
        datastore = self.datastore('LocalDS_1')
        watch = self.watch(datastore, 'summary.maintenanceMode')
        vm = self.make_vm('in-the-way', 'LocalDS_1')

        result = datastore.DatastoreEnterMaintenanceMode()
        watch.until('summary.maintenanceMode', 'enteringMaintenance')
        self.assertEqual('running', result.task.info.state)
        with self.assertRaises(vim.fault.InvalidState):
            datastore.DatastoreEnterMaintenanceMode()
        self.destroy(vm)

        self.wait(result.task)
        watch.until('summary.maintenanceMode', 'inMaintenance')
        self.wait(datastore.DatastoreExitMaintenanceMode_Task())
        self.assertEqual('normal', datastore.summary.maintenanceMode)
        self.assertIsInstance(self.fault_of(datastore.DatastoreExitMaintenanceMode_Task()), vim.fault.InvalidState)

    def test_DatastoreEnterMaintenanceMode_can_be_cancelled(self):
        datastore = self.datastore('LocalDS_1')
        vm = self.make_vm('stays', 'LocalDS_1')
        task = datastore.DatastoreEnterMaintenanceMode().task
        task.CancelTask()
        self.until(lambda: datastore.summary.maintenanceMode == 'normal')
        self.assertIsInstance(self.fault_of(task), vmodl.fault.RequestCanceled)
        self.destroy(vm)


class MountTestCase(vcenter_case.VCenterCase):

    def mount_of(self, datastore, host):
        return next(each.mountInfo for each in datastore.host if each.key == host)

    def test_UnmountVmfsVolume_and_MountVmfsVolume(self):
        datastore, host = self.datastore('LocalDS_1'), self.all(vim.HostSystem)[0]
        storage = host.configManager.storageSystem
        uuid = datastore.info.vmfs.uuid
        watch = self.watch(datastore, 'host')
        told = len(watch.seen['host'])
        storage.UnmountVmfsVolume(uuid)
        self.assertEqual((False, False), (self.mount_of(datastore, host).mounted, self.mount_of(datastore, host).accessible))
        self.assertTrue(datastore.summary.accessible, 'the other hosts still mount it')
        watch._take(5)
        self.assertGreater(len(watch.seen['host']), told)
        with self.assertRaises(vim.fault.InvalidState):
            storage.UnmountVmfsVolume(uuid)
        storage.MountVmfsVolume(uuid)
        self.assertEqual((True, True), (self.mount_of(datastore, host).mounted, self.mount_of(datastore, host).accessible))
        with self.assertRaises(vim.fault.NotFound):
            storage.UnmountVmfsVolume('no-such-volume')

    def test_UnmountVmfsVolume_refuses_while_a_machine_of_the_host_lies_there(self):
        vm = self.make_vm('on-it', 'LocalDS_1')
        with self.assertRaises(vim.fault.ResourceInUse):
            vm.runtime.host.configManager.storageSystem.UnmountVmfsVolume(self.datastore('LocalDS_1').info.vmfs.uuid)
        self.destroy(vm)

    def test_a_datastore_and_its_machines_become_inaccessible_with_the_last_mount(self):
        datastore = self.datastore('LocalDS_1')
        vm = self.make_vm('out-of-reach', 'LocalDS_1')
        watch = self.watch(datastore, 'summary.accessible')
        watch_vm = self.watch(vm, 'runtime.connectionState')
        for host in self.all(vim.HostSystem)[1:]:
            self.control('POST', '/mounts', {'datastore': 'LocalDS_1', 'host': host.name, 'accessible': False,
                                             'inaccessibleReason': 'AllPathsDown_Start'})
            self.assertEqual('AllPathsDown_Start', self.mount_of(datastore, host).inaccessibleReason)
        self.assertTrue(datastore.summary.accessible)
        self.control('POST', '/mounts', {'datastore': 'LocalDS_1', 'accessible': False})
        watch.until('summary.accessible', False)
        watch_vm.until('runtime.connectionState', 'inaccessible')
        self.control('POST', '/mounts', {'datastore': 'LocalDS_1', 'accessible': True})
        watch.until('summary.accessible', True)
        self.until(lambda: vm.runtime.connectionState == 'connected')
        self.destroy(vm)

    def test_a_mount_can_be_read_only(self):
        datastore, host = self.datastore('LocalDS_2'), self.all(vim.HostSystem)[0]
        self.control('POST', '/mounts', {'datastore': 'LocalDS_2', 'host': host.name, 'accessMode': 'readOnly'})
        self.assertEqual('readOnly', self.mount_of(datastore, host).accessMode)
        self.control('POST', '/mounts', {'datastore': 'LocalDS_2', 'accessMode': 'readWrite'})
        self.assertIn('readWrite', self.refused_by_control('POST', '/mounts', {'datastore': 'LocalDS_2', 'accessMode': 'no'}))
        self.assertIn('"nowhere"', self.refused_by_control('POST', '/mounts', {'datastore': 'nowhere'}))

    def test_EnterMaintenanceMode_Task_of_a_host_is_told(self):
        host = self.all(vim.HostSystem)[0]
        watch = self.watch(host, 'runtime.inMaintenanceMode')
        self.wait(host.EnterMaintenanceMode_Task(0))
        watch.until('runtime.inMaintenanceMode', True)
        self.assertIsInstance(self.fault_of(host.EnterMaintenanceMode_Task(0)), vim.fault.InvalidState)
        self.wait(host.ExitMaintenanceMode_Task(0))
        watch.until('runtime.inMaintenanceMode', False)
        self.assertFalse(host.summary.runtime.inMaintenanceMode)

    def test_a_datastore_is_inaccessible_while_no_host_is_connected(self):
        datastore, hosts = self.datastore('LocalDS_2'), self.all(vim.HostSystem)
        watch = self.watch(datastore, 'summary.accessible')
        self.wait(hosts[0].DisconnectHost_Task())
        self.assertEqual('disconnected', hosts[0].runtime.connectionState)
        for host in hosts[1:]:
            self.assertTrue(datastore.summary.accessible)
            self.control('POST', '/hosts', {'host': host.name, 'connectionState': 'notResponding'})
        watch.until('summary.accessible', False)
        for host in hosts:
            self.wait(host.ReconnectHost_Task())
        watch.until('summary.accessible', True)
