# SPDX-License-Identifier: Apache-2.0
"""Datastores are renamed, serviced, mounted, made and destroyed as in a vCenter."""

import tempfile

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case

GIB = vcenter_case.GIB


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

    def test_nothing_new_is_placed_on_a_datastore_in_maintenance(self):
        datastore = self.datastore('LocalDS_1')
        outside = self.make_vm('outside', 'LocalDS_0', disks_mib=[1])
        self.wait(datastore.DatastoreEnterMaintenanceMode().task)
        spec = vim.vm.ConfigSpec(name='late', files=vim.vm.FileInfo(vmPathName='[LocalDS_1]'))
        disk = self.new_disk(1, 5, self.disks(outside)[0].controllerKey, fileName='[LocalDS_1] late.vmdk')
        clone = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(datastore=datastore), powerOn=False, template=False)
        file = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(diskType='thin', adapterType='lsiLogic', capacityKb=1024)
        for task in (
                self.datacenter.vmFolder.CreateVM_Task(spec, self.pool),
                outside.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[disk])),
                outside.RelocateVM_Task(vim.vm.RelocateSpec(datastore=datastore)),
                outside.CloneVM_Task(self.datacenter.vmFolder, 'late', clone),
                self.content.virtualDiskManager.CreateVirtualDisk_Task('[LocalDS_1] late.vmdk', self.datacenter, file)):
            with self.subTest(task.info.name):
                fault = self.fault_of(task)
                self.assertIsInstance(fault, vim.fault.InvalidDatastoreState)
                self.assertEqual('LocalDS_1', fault.datastoreName)
        self.assertEqual([], list(datastore.vm))
        self.wait(datastore.DatastoreExitMaintenanceMode_Task())
        self.wait(outside.RelocateVM_Task(vim.vm.RelocateSpec(datastore=datastore)))
        self.destroy(outside)

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
        before = len(watch.seen['host'])
        storage.UnmountVmfsVolume(uuid)
        self.assertEqual((False, False), (self.mount_of(datastore, host).mounted, self.mount_of(datastore, host).accessible))
        self.assertTrue(datastore.summary.accessible, 'the other hosts still mount it')
        watch.take(5)
        self.assertGreater(len(watch.seen['host']), before)
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

    def test_what_no_host_reaches_can_not_be_used(self):
        vm = self.make_vm('unreached', 'LocalDS_1', disks_mib=[1])
        self.control('POST', '/mounts', {'datastore': 'LocalDS_1', 'accessible': False})
        clone = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_0')), powerOn=False,
                                 template=False)
        path = self.disks(vm)[0].backing.fileName
        for task in (vm.CloneVM_Task(self.datacenter.vmFolder, 'of-unreached', clone),
                     vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_0'))),
                     vm.PowerOn(),
                     self.content.virtualDiskManager.CopyVirtualDisk_Task(path, self.datacenter, '[LocalDS_0] copy.vmdk',
                                                                          self.datacenter, None, False)):
            with self.subTest(task.info.name):
                fault = self.fault_of(task)
                self.assertIsInstance(fault, vim.fault.InaccessibleDatastore)
                self.assertEqual('LocalDS_1', fault.name)
        self.control('POST', '/mounts', {'datastore': 'LocalDS_1', 'accessible': True})
        self.destroy(vm)

    def test_nothing_is_written_through_read_only_mounts(self):
        self.control('POST', '/mounts', {'datastore': 'LocalDS_2', 'accessMode': 'readOnly'})
        spec = vim.vm.ConfigSpec(name='late', files=vim.vm.FileInfo(vmPathName='[LocalDS_2]'))
        self.assertIsInstance(self.fault_of(self.datacenter.vmFolder.CreateVM_Task(spec, self.pool)),
                              vim.fault.DatastoreNotWritableOnHost)
        self.control('POST', '/mounts', {'datastore': 'LocalDS_2', 'accessMode': 'readWrite'})

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

    def test_EnterMaintenanceMode_Task_has_DRS_move_what_runs_on_the_host(self):
        vm = self.make_vm('runs', 'LocalDS_0', disks_mib=[1])
        self.wait(vm.PowerOn())
        host = vm.runtime.host
        self.wait(host.EnterMaintenanceMode_Task(0))
        self.assertNotEqual(host, vm.runtime.host)
        self.assertEqual('poweredOn', vm.runtime.powerState)
        self.wait(host.ExitMaintenanceMode_Task(0))
        self.destroy(vm)

    def test_EnterMaintenanceMode_Task_waits_for_what_can_not_be_moved(self):
        standalone = next(each for each in self.all(vim.ComputeResource) if not isinstance(each, vim.ClusterComputeResource))
        host = standalone.host[0]
        spec = vim.vm.ConfigSpec(name='stays', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        vm = self.wait(self.datacenter.vmFolder.CreateVM_Task(spec, standalone.resourcePool, host))
        self.wait(vm.PowerOn())
        self.assertIsInstance(self.fault_of(host.EnterMaintenanceMode_Task(1)), vim.fault.Timedout)
        task = host.EnterMaintenanceMode_Task(0)
        self.assertFalse(host.runtime.inMaintenanceMode)
        self.wait(vm.PowerOff())
        self.wait(task)
        self.assertTrue(host.runtime.inMaintenanceMode)
        self.wait(host.ExitMaintenanceMode_Task(0))
        self.destroy(vm)

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


class VolumeTestCase(vcenter_case.VCenterCase):

    flags = {**vcenter_case.VCenterCase.flags, 'disk': ['10GiB', '20GiB']}

    def system(self, host=0):
        return self.all(vim.HostSystem)[host].configManager.datastoreSystem

    def make_vmfs(self, name, least_bytes=0):
        """Do what a client does: look for a disk, ask how, name it and create it."""
        system = self.system()
        disk = next(each for each in system.QueryAvailableDisksForVmfs(None)
                    if each.capacity.block * each.capacity.blockSize >= least_bytes)
        option = system.QueryVmfsDatastoreCreateOptions(disk.devicePath, None)[0]
        option.spec.vmfs.volumeName = name
        return system.CreateVmfsDatastore(option.spec)

    def test_CreateVmfsDatastore_makes_one_that_all_hosts_mount(self):
        watch = self.watch(self.datacenter, 'datastore')
        datastore = self.make_vmfs('Made', 15 * GIB)
        watch.until('datastore', self.datacenter.datastore)
        self.assertIn(datastore, self.datacenter.datastore)
        self.assertEqual(('Made', 'VMFS', 20 * GIB, 20 * GIB, True, 'normal'),
                         (datastore.name, datastore.summary.type, datastore.summary.capacity, datastore.summary.freeSpace,
                          datastore.summary.accessible, datastore.summary.maintenanceMode))
        self.assertEqual(set(self.all(vim.HostSystem)), {mount.key for mount in datastore.host})
        self.assertEqual(1, len(self.system().QueryAvailableDisksForVmfs(None)), 'one of two disks is taken')
        vm = self.make_vm('on-made', 'Made', disks_mib=[1])
        self.assertIn(datastore, vm.datastore)

        with self.assertRaises(vim.fault.ResourceInUse):
            datastore.DestroyDatastore()
        self.destroy(vm)
        datastore.DestroyDatastore()
        self.assertNotIn('Made', [each.name for each in self.datacenter.datastore])
        for host in self.all(vim.HostSystem):
            self.assertNotIn('Made', [each.name for each in host.datastore])
        self.assertNotIn('Made', [each.name for each in self.all(vim.Datastore)])
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound):
            datastore.summary
        self.assertEqual(2, len(self.system().QueryAvailableDisksForVmfs(None)))

    def test_CreateVmfsDatastore_refuses_a_name_and_a_disk_that_are_taken(self):
        system = self.system()
        free = system.QueryAvailableDisksForVmfs(None)[0]
        spec = system.QueryVmfsDatastoreCreateOptions(free.devicePath, None)[0].spec
        spec.vmfs.volumeName = 'LocalDS_0'
        with self.assertRaises(vim.fault.DuplicateName):
            system.CreateVmfsDatastore(spec)
        spec.vmfs.volumeName = 'Once'
        datastore = system.CreateVmfsDatastore(spec)
        spec.vmfs.volumeName = 'Twice'
        with self.assertRaises(vim.fault.HostConfigFault):
            system.CreateVmfsDatastore(spec)
        self.wait(datastore.Destroy_Task())

    def test_RemoveDatastore_of_a_VMFS_volume_destroys_it_for_all_hosts(self):
        datastore = self.make_vmfs('Removed')
        self.system(1).RemoveDatastore(datastore)
        self.assertNotIn(datastore, self.datacenter.datastore)
        with self.assertRaises(vim.fault.NotFound):
            self.system(0).RemoveDatastore(self.datastore('LocalDS_0').__class__('datastore-none', datastore._stub))

    def test_ExpandVmfsDatastore_follows_a_disk_that_has_grown(self):
        datastore, system = self.datastore('LocalDS_2'), self.system()
        watch = self.watch(datastore, 'summary.capacity')
        self.assertEqual([], list(system.QueryVmfsDatastoreExpandOptions(datastore)))
        self.control('POST', '/disks', {'datastore': 'LocalDS_2', 'size': '150GiB'})
        self.assertEqual(100 * GIB, datastore.summary.capacity)
        system.ExpandVmfsDatastore(datastore, system.QueryVmfsDatastoreExpandOptions(datastore)[0].spec)
        watch.until('summary.capacity', 150 * GIB)
        self.assertEqual((150 * GIB, 150 * GIB, 150 * GIB),
                         (datastore.summary.freeSpace, datastore.info.freeSpace, datastore.info.vmfs.capacity))
        self.assertIn('does not shrink', self.refused_by_control('POST', '/disks', {'datastore': 'LocalDS_2', 'size': '1GiB'}))

    def nas(self, name, path='/exports/one', kind='NFS'):
        return vim.host.NasVolume.Specification(remoteHost='nas.example.org', remotePath=path, localPath=name,
                                                accessMode='readWrite', type=kind)

    def test_CreateNasDatastore_is_one_datastore_on_all_hosts_that_mount_the_export(self):
        datastore = self.system(0).CreateNasDatastore(self.nas('Shared'))
        self.assertEqual(('NFS', True), (datastore.summary.type, datastore.summary.accessible))
        self.assertEqual(('nas.example.org', '/exports/one'), (datastore.info.nas.remoteHost, datastore.info.nas.remotePath))
        self.assertEqual(1, len(datastore.host))
        for host in range(1, len(self.all(vim.HostSystem))):
            self.assertEqual(datastore, self.system(host).CreateNasDatastore(self.nas('Shared')))
        self.assertEqual(len(self.all(vim.HostSystem)), len(datastore.host))
        with self.assertRaises(vim.fault.AlreadyExists):
            self.system(0).CreateNasDatastore(self.nas('Shared'))
        with self.assertRaises(vim.fault.DuplicateName):
            self.system(0).CreateNasDatastore(self.nas('Shared', '/exports/two'))

        vm = self.make_vm('on-nfs', 'Shared', disks_mib=[1])
        self.assertEqual('[Shared] on-nfs/on-nfs.vmx', vm.config.files.vmPathName)
        self.destroy(vm)
        url, moref = datastore.summary.url, datastore._moId
        for host in range(len(self.all(vim.HostSystem))):
            self.system(host).RemoveDatastore(datastore)
        self.assertNotIn('Shared', [each.name for each in self.all(vim.Datastore)])
        again = self.system(0).CreateNasDatastore(self.nas('Shared'))
        self.assertEqual(url, again.summary.url, 'the same export has the same URL')
        self.assertNotEqual(moref, again._moId, 'and a reference of its own')
        again.DestroyDatastore()

    def test_CreateNasDatastore_of_version_41_and_CreateLocalDatastore(self):
        export = self.system().CreateNasDatastore(self.nas('Newer', '/exports/new', 'NFS41'))
        self.assertEqual(('NFS41', 'NFS41'), (export.summary.type, export.info.nas.type))
        local = self.system().CreateLocalDatastore('Own', '/scratch')
        self.assertEqual(('OTHER', '/scratch', False, 1),
                         (local.summary.type, local.info.path, local.summary.multipleHostAccess, len(local.host)))
        export.DestroyDatastore()
        local.DestroyDatastore()

    def test_RefreshDatastore_resets_nothing(self):
        datastore = self.datastore('LocalDS_1')
        vm = self.make_vm('takes-space', 'LocalDS_1', disks_mib=[64])
        datastore.RefreshDatastoreStorageInfo()
        before = datastore.summary.capacity, datastore.summary.freeSpace, datastore.summary.uncommitted
        datastore.RefreshDatastore()
        self.assertEqual(before, (datastore.summary.capacity, datastore.summary.freeSpace, datastore.summary.uncommitted))
        self.destroy(vm)

    def test_AddCustomFieldDef_and_SetField_on_a_datastore(self):
        fields, datastore = self.content.customFieldsManager, self.datastore('LocalDS_0')
        key = fields.AddCustomFieldDef('cinder', vim.Datastore).key

        def values():
            return [(each.key, each.value) for each in datastore.customValue]

        watch = self.watch(datastore, 'customValue')
        fields.SetField(datastore, key, 'drain')
        self.assertEqual([(key, 'drain')], values())
        self.until(lambda: watch.take() or [each.value for each in watch.seen['customValue'][-1]] == ['drain'])
        self.assertIn('cinder', [each.name for each in datastore.availableField])
        datastore.setCustomValue('cinder', 'serve')
        self.assertEqual([(key, 'serve')], values())
        self.until(lambda: watch.take() or [each.value for each in watch.seen['customValue'][-1]] == ['serve'])
        with self.assertRaises(vmodl.fault.InvalidArgument):
            datastore.setCustomValue('unknown', 'x')


class BrowserTestCase(vcenter_case.VCenterCase):

    def setUp(self):
        super().setUp()
        self.browser = self.datastore('LocalDS_0').browser
        self.vm = self.make_vm('browsed', 'LocalDS_0', disks_mib=[8])
        self.addCleanup(self.destroy, self.vm)
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            '[LocalDS_0] browsed/thick.vmdk', self.datacenter, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='busLogic', capacityKb=4 << 10)))
        self.addCleanup(lambda: self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(
            '[LocalDS_0] browsed/thick.vmdk', self.datacenter)))

    def search(self, path='[LocalDS_0] browsed', deep=False, **spec):
        search = vim.host.DatastoreBrowser.SearchSpec(**spec) if spec else None
        method = self.browser.SearchDatastoreSubFolders_Task if deep else self.browser.SearchDatastore_Task
        return method(path, search)

    def files(self, **spec):
        return {each.path: each for each in self.wait(self.search(**spec)).file}

    def test_SearchDatastore_Task_without_a_specification_finds_all_and_tells_their_paths(self):
        files = self.files()
        self.assertLessEqual({'browsed.vmx', 'browsed.vmdk', 'browsed-flat.vmdk', 'thick.vmdk', 'thick-flat.vmdk'}, set(files))
        self.assertEqual((None, None, None), (files['thick.vmdk'].fileSize, files['thick.vmdk'].owner,
                                              files['thick.vmdk'].modification))

    def test_SearchDatastore_Task_tells_sizes_as_they_count_on_the_datastore(self):
        details = vim.host.DatastoreBrowser.FileInfo.Details(fileType=True, fileSize=True, modification=True, fileOwner=True)
        files = self.files(details=details)
        self.assertIsInstance(files['browsed.vmx'], vim.host.DatastoreBrowser.VmConfigInfo)
        thick, thin = files['thick.vmdk'], files['browsed.vmdk']
        for disk in thick, thin:
            self.assertIsInstance(disk, vim.host.DatastoreBrowser.VmDiskInfo)
        self.assertEqual('root', thick.owner)
        self.assertIsNotNone(thick.modification)
        self.assertEqual(4 << 20, files['thick-flat.vmdk'].fileSize)
        self.assertLess(thick.fileSize - (4 << 20), 4096, 'the extent and the descriptor')
        self.assertLess(thin.fileSize, 1 << 20, 'nothing was written to it')

    def test_SearchDatastore_Task_for_disks_tells_what_they_are(self):
        query = vim.host.DatastoreBrowser.VmDiskQuery(details=vim.host.DatastoreBrowser.VmDiskQuery.Details(
            diskType=True, capacityKb=True, hardwareVersion=True, controllerType=True, diskExtents=True, thin=True))
        files = self.files(query=[query], matchPattern=['*.vmdk'])
        self.assertEqual({'browsed.vmdk', 'thick.vmdk'}, set(files), 'extents are no disks')
        thick, thin = files['thick.vmdk'], files['browsed.vmdk']
        device = vim.vm.device
        self.assertEqual((4 << 10, False, device.VirtualDisk.FlatVer2BackingInfo, ['thick-flat.vmdk'],
                          device.VirtualBusLogicController),
                         (thick.capacityKb, thick.thin, thick.diskType, list(thick.diskExtents), thick.controllerType))
        self.assertEqual((8 << 10, True), (thin.capacityKb, thin.thin))
        self.assertGreater(thin.hardwareVersion, 0)
        query.filter = vim.host.DatastoreBrowser.VmDiskQuery.Filter(thin=True)
        self.assertEqual({'browsed.vmdk'}, set(self.files(query=[query])))

    def test_SearchDatastore_Task_matches_patterns(self):
        self.assertEqual({'thick.vmdk', 'thick-flat.vmdk'}, set(self.files(matchPattern=['THICK*'], searchCaseInsensitive=True)))
        self.assertEqual(set(), set(self.files(matchPattern=['THICK*'])))
        self.assertEqual({'browsed.vmx'}, set(self.files(matchPattern=['browsed.vm?'])))

    def test_SearchDatastoreSubFolders_Task_lists_each_folder(self):
        results = self.wait(self.search('[LocalDS_0]', deep=True, matchPattern=['*.vmdk']))
        found = {each.folderPath: {file.path for file in each.file} for each in results}
        self.assertEqual(set(), found['[LocalDS_0]'])
        self.assertLessEqual({'thick.vmdk', 'browsed.vmdk'}, found['[LocalDS_0] browsed'])

    def test_a_search_that_can_not_be_made_fails_in_its_task(self):
        for path, kind in (('[LocalDS_0] nowhere', vim.fault.FileNotFound), ('[LocalDS_1] x', vim.fault.InvalidDatastore),
                           ('no path', vim.fault.InvalidDatastorePath), ('[LocalDS_0] ../..', vim.fault.InvalidDatastorePath)):
            with self.subTest(path):
                self.assertIsInstance(self.fault_of(self.search(path)), kind)


class RestartTestCase(vcenter_case.VCenterCase):
    """What was done to datastores is still so after the vCenter was saved and loaded."""

    flags = {**vcenter_case.VCenterCase.flags, 'ds': 4, 'vm': 0, 'policy': 'gold=LocalDS_1', 'disk': '10GiB',
             'datastore_cluster': 'Pod=LocalDS_2,LocalDS_3:automated', 'ds_capacity': ['100GiB', 'LocalDS_3=1GiB']}

    def test_a_saved_vCenter_has_its_datastores_as_they_were(self):
        self.datastore('LocalDS_1').RenameDatastore('Renamed')
        self.wait(self.datastore('Renamed').DatastoreEnterMaintenanceMode().task)
        stays = self.make_vm('stays', 'LocalDS_0', disks_mib=[1])
        self.datastore('LocalDS_0').DatastoreEnterMaintenanceMode()
        self.control('POST', '/mounts', {'datastore': 'LocalDS_2', 'accessible': False})
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            '[LocalDS_3] full.vmdk', self.datacenter, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='lsiLogic', capacityKb=950 << 10)))
        self.until(lambda: self.refreshed('LocalDS_3').triggeredAlarmState)
        self.wait(self.content.storageResourceManager.ConfigureDatastoreIORM_Task(
            self.datastore('LocalDS_3'), vim.StorageResourceManager.IORMConfigSpec(enabled=True)))
        policies = self.control('GET', '/policies')
        moref = stays._moId

        with tempfile.TemporaryDirectory() as folder:
            self.control('POST', '/state', {'directory': folder + '/state'})
            self.vcenter.stop()
            cls = type(self)
            cls.vcenter = vcenter_case.client.Simulator(state_load=folder + '/state')
            self.addClassCleanup(cls.vcenter.stop)
            cls.vcenter.start()
        cls.client = cls.vcenter.connect()
        cls.content = cls.client.content

        self.assertEqual('inMaintenance', self.datastore('Renamed').summary.maintenanceMode)
        self.assertEqual('normal', self.datastore('LocalDS_0').summary.maintenanceMode, 'its task did not survive')
        self.assertFalse(self.datastore('LocalDS_2').summary.accessible)
        pod, full = self.named(vim.StoragePod, 'Pod'), self.datastore('LocalDS_3')
        self.assertEqual({'LocalDS_2', 'LocalDS_3'}, {each.name for each in pod.childEntity})
        self.assertEqual('automated', pod.podStorageDrsEntry.storageDrsConfig.podConfig.defaultVmBehavior)
        self.assertTrue(full.iormConfiguration.enabled)
        self.assertEqual(policies, self.control('GET', '/policies'))
        vm = self.named(vim.VirtualMachine, 'stays')
        self.assertEqual((moref, '[LocalDS_0] stays/stays.vmdk'), (vm._moId, self.disks(vm)[0].backing.fileName))
        disks = self.all(vim.HostSystem)[0].configManager.datastoreSystem.QueryAvailableDisksForVmfs(None)
        self.assertEqual([10 * GIB], [each.capacity.block * each.capacity.blockSize for each in disks])
        self.assertEqual(['red'], [each.overallStatus for each in full.triggeredAlarmState])
        self.assertEqual('Datastore usage on disk', full.triggeredAlarmState[0].alarm.info.name)
        self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task('[LocalDS_3] full.vmdk', self.datacenter))
        self.refreshed('LocalDS_3')
        self.until(lambda: not full.triggeredAlarmState and not self.datacenter.triggeredAlarmState)
