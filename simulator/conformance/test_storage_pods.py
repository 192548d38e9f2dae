# SPDX-License-Identifier: Apache-2.0
"""Datastore clusters sum up their members, and Storage DRS recommends, places and moves."""

from oslo_vmware import api
from oslo_vmware.objects import datastore as oslo_datastore
from oslo_vmware import vim_util
from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case
from simulator.conformance import wsdl_once

GIB = vcenter_case.GIB


class PodCase(vcenter_case.VCenterCase):

    flags = {**vcenter_case.VCenterCase.flags, 'ds': 4,
             'ds_capacity': ['100GiB', 'LocalDS_1=50GiB', 'LocalDS_2=10GiB', 'LocalDS_3=40GiB'],
             'datastore_cluster': 'Pod=LocalDS_1,LocalDS_2,LocalDS_3'}

    @property
    def pod(self):
        return self.named(vim.StoragePod, 'Pod')

    @property
    def drs(self):
        return self.content.storageResourceManager

    def place(self, kind='create', pod=None, **spec):
        spec = {'resourcePool': self.pool if kind in ('create', 'clone') else None, 'folder': self.datacenter.vmFolder, **spec}
        return vim.storageDrs.StoragePlacementSpec(
            type=kind, podSelectionSpec=vim.storageDrs.PodSelectionSpec(storagePod=pod or self.pod), **spec)

    def config(self, name, size_mib=1):
        controller = vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus='noSharing'))
        return vim.vm.ConfigSpec(name=name, guestId='otherGuest', numCPUs=1, memoryMB=4,
                                 deviceChange=[controller, self.new_disk(size_mib, 0, controller=-1)])

    def destinations(self, result):
        return [each.action[0].destination.name for each in result.recommendations]

    def configure(self, **config):
        self.wait(self.drs.ConfigureStorageDrsForPod_Task(
            self.pod, vim.storageDrs.ConfigSpec(podConfigSpec=vim.storageDrs.PodConfigSpec(**config)), True))


class InventoryTestCase(PodCase):

    def test_the_summary_is_the_sum_over_the_members(self):
        self.assertEqual(100 * GIB, self.pod.summary.capacity)
        watch = self.watch(self.pod, 'summary.freeSpace')
        vm = self.make_vm('takes', 'LocalDS_1', disks_mib=[1024])
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            '[LocalDS_3] thick.vmdk', self.datacenter, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='lsiLogic', capacityKb=GIB >> 10)))
        free = sum(self.refreshed(each.name).summary.freeSpace for each in self.pod.childEntity)
        self.assertLess(free, 99 * GIB)
        watch.until('summary.freeSpace', free)
        self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task('[LocalDS_3] thick.vmdk', self.datacenter))
        self.destroy(vm)
        self.until(lambda: self.pod.summary.freeSpace == sum(self.refreshed(each.name).summary.freeSpace for each in self.pod.childEntity))

    def test_CreateStoragePod_and_MoveIntoFolder_and_Rename_and_Destroy(self):
        folder, outside = self.datacenter.datastoreFolder, self.datastore('LocalDS_0')
        pod = folder.CreateStoragePod('New')
        self.assertEqual(('New', 0, 0), (pod.summary.name, pod.summary.capacity, pod.summary.freeSpace))
        config = pod.podStorageDrsEntry.storageDrsConfig.podConfig
        self.assertEqual((False, 'manual'), (config.enabled, config.defaultVmBehavior))
        with self.assertRaises(vim.fault.DuplicateName):
            folder.CreateStoragePod('New')

        watch = self.watch(pod, 'summary.capacity', 'childEntity')
        self.wait(pod.MoveIntoFolder_Task([outside]))
        watch.until('summary.capacity', 100 * GIB)
        self.assertEqual([outside], list(pod.childEntity))
        self.assertEqual(pod, outside.parent)
        self.assertNotIn(outside, folder.childEntity)
        self.assertIn(outside, self.datacenter.datastore)
        self.assertIn(outside, self.all(vim.Datastore), 'a view finds it in the pod')
        self.assertIsInstance(self.fault_of(pod.MoveIntoFolder_Task([self.datacenter.vmFolder])), vmodl.fault.NotSupported)

        self.assertIsInstance(self.fault_of(pod.Rename_Task('Pod')), vim.fault.DuplicateName)
        self.wait(pod.Rename_Task('Newer'))
        self.assertEqual(('Newer', 'Newer'), (pod.name, pod.summary.name))

        self.wait(folder.MoveIntoFolder_Task([outside]))
        self.assertEqual((folder, 0), (outside.parent, pod.summary.capacity))
        self.wait(pod.MoveIntoFolder_Task([outside]))
        self.wait(pod.Destroy_Task())
        self.assertEqual(folder, outside.parent, 'its datastores go to the folder that it was in')
        self.assertEqual(['Pod'], [each.name for each in self.all(vim.StoragePod)])

    def test_a_member_that_is_renamed_or_destroyed_stays_consistent(self):
        member = self.datastore('LocalDS_2')
        member.RenameDatastore('Member')
        self.assertIn('Member', [each.name for each in self.pod.childEntity])
        member.RenameDatastore('LocalDS_2')

    def test_ConfigureStorageDrsForPod_Task(self):
        self.configure(enabled=False)
        config = self.pod.podStorageDrsEntry.storageDrsConfig.podConfig
        self.assertEqual((False, 'manual'), (config.enabled, config.defaultVmBehavior))
        self.configure(enabled=True, defaultVmBehavior='automated')
        config = self.pod.podStorageDrsEntry.storageDrsConfig.podConfig
        self.assertEqual((True, 'automated'), (config.enabled, config.defaultVmBehavior))
        self.configure(defaultVmBehavior='manual')
        vm = self.make_vm('special', 'LocalDS_1')
        info = vim.storageDrs.VmConfigInfo(vm=vm, enabled=False)
        self.wait(self.drs.ConfigureStorageDrsForPod_Task(self.pod, vim.storageDrs.ConfigSpec(
            vmConfigSpec=[vim.storageDrs.VmConfigSpec(operation='add', info=info)]), True))
        own = self.pod.podStorageDrsEntry.storageDrsConfig.vmConfig
        self.assertEqual([(vm, False)], [(each.vm, each.enabled) for each in own])
        self.destroy(vm)


class RecommendationTestCase(PodCase):

    def test_RecommendDatastores_ranks_by_the_space_that_stays_free(self):
        result = self.drs.RecommendDatastores(self.place(configSpec=self.config('a', 1024)))
        self.assertEqual(['LocalDS_1', 'LocalDS_3', 'LocalDS_2'], self.destinations(result))
        self.assertEqual([5, 4, 3], [each.rating for each in result.recommendations])
        self.assertEqual(3, len({each.key for each in result.recommendations}))
        action = result.recommendations[2].action[0]
        self.assertAlmostEqual(10, action.spaceUtilAfter - (action.spaceUtilBefore or 0), 3, '1 of 10 GiB')
        self.assertEqual(self.pod, result.recommendations[0].target)

    def test_RecommendDatastores_leaves_out_what_is_too_small_in_maintenance_or_out_of_reach(self):
        def found(size_gib):
            return self.destinations(self.drs.RecommendDatastores(self.place(configSpec=self.config('a', size_gib << 10))))

        self.assertEqual(['LocalDS_1', 'LocalDS_3'], found(20))
        self.assertEqual(['LocalDS_1'], found(45))
        result = self.drs.RecommendDatastores(self.place(configSpec=self.config('a', 60 << 10)))
        self.assertEqual([], list(result.recommendations))
        self.assertIsInstance(result.drsFault.faultsByVm[0].fault[0], vim.fault.InsufficientStorageSpace)

        self.wait(self.datastore('LocalDS_1').DatastoreEnterMaintenanceMode().task)
        self.assertEqual(['LocalDS_3', 'LocalDS_2'], found(1))
        self.wait(self.datastore('LocalDS_1').DatastoreExitMaintenanceMode_Task())
        self.control('POST', '/mounts', {'datastore': 'LocalDS_3', 'accessible': False})
        self.assertEqual(['LocalDS_1', 'LocalDS_2'], found(1))
        self.control('POST', '/mounts', {'datastore': 'LocalDS_3', 'accessible': True})

    def test_RecommendDatastores_refuses_what_it_can_not_place(self):
        for spec in (self.place(configSpec=None), self.place(configSpec=self.config('a'), resourcePool=None),
                     self.place('clone', vm=None, cloneName='x'), self.place('nonsense')):
            with self.assertRaises(vmodl.fault.InvalidArgument):
                self.drs.RecommendDatastores(spec)
        self.configure(enabled=False)
        with self.assertRaises(vmodl.fault.InvalidArgument):
            self.drs.RecommendDatastores(self.place(configSpec=self.config('a')))
        self.configure(enabled=True)

    def test_ApplyStorageDrsRecommendation_Task_creates(self):
        result = self.drs.RecommendDatastores(self.place(configSpec=self.config('placed', 8)))
        key = result.recommendations[1].key
        vm = self.wait(self.drs.ApplyStorageDrsRecommendation_Task([key])).vm
        self.assertEqual('[LocalDS_3] placed/placed.vmx', vm.config.files.vmPathName)
        self.assertEqual(['[LocalDS_3] placed/placed.vmdk'], [each.backing.fileName for each in self.disks(vm)])
        self.assertIsInstance(self.fault_of(self.drs.ApplyStorageDrsRecommendation_Task([key])), vmodl.fault.InvalidArgument)
        self.destroy(vm)

    def test_ApplyStorageDrsRecommendation_Task_clones_and_relocates(self):
        vm = self.make_vm('original', 'LocalDS_0', disks_mib=[2])
        spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
        result = self.drs.RecommendDatastores(self.place('clone', vm=vm, cloneName='copy', cloneSpec=spec))
        clone = self.wait(self.drs.ApplyStorageDrsRecommendation_Task([result.recommendations[0].key])).vm
        self.assertEqual(('copy', '[LocalDS_1] copy/copy.vmx'), (clone.name, clone.config.files.vmPathName))
        self.assertEqual(['LocalDS_1'], [each.backing.datastore.name for each in self.disks(clone)])

        result = self.drs.RecommendDatastores(self.place('relocate', vm=vm, relocateSpec=vim.vm.RelocateSpec()))
        moved = self.wait(self.drs.ApplyStorageDrsRecommendation_Task([result.recommendations[0].key])).vm
        self.assertEqual(vm, moved)
        self.assertEqual(['LocalDS_1'], [each.name for each in vm.datastore])
        self.destroy(clone)
        self.destroy(vm)


class MovingTestCase(PodCase):

    def attached(self, size_mib=2):
        """A disk of a shadow machine that is attached to an instance, as Cinder and Nova do it.

        :returns: the shadow, the instance, the disk's path
        """
        shadow = self.make_vm('volume', 'LocalDS_1', disks_mib=[size_mib])
        instance = self.make_vm('server', 'LocalDS_0', disks_mib=[1])
        path = self.disks(shadow)[0].backing.fileName
        disk = self.new_disk(size_mib, 1, self.disks(instance)[0].controllerKey, fileName=path)
        disk.fileOperation = None
        self.wait(instance.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[disk])))
        return shadow, instance, path

    def test_Storage_DRS_moves_and_renames_an_attached_disk_and_the_shadow_machine_does_not_notice(self):
        shadow, instance, path = self.attached()
        disk = self.disks(instance)[1]
        uuid = disk.backing.uuid
        self.assertEqual(path, disk.backing.fileName)
        self.wait(instance.PowerOn())

        moved = self.control('POST', '/sdrs/move', {'vm': 'server', 'disk': uuid, 'datastore': 'LocalDS_3'})['path']
        self.assertRegex(moved, r'^\[LocalDS_3\] server/server[^/]*\.vmdk$')
        disk = self.disks(instance)[1]
        self.assertEqual((moved, 'LocalDS_3', uuid), (disk.backing.fileName, disk.backing.datastore.name, disk.backing.uuid))
        self.assertEqual({'LocalDS_0', 'LocalDS_3'}, {each.name for each in instance.datastore})
        self.assertEqual(path, self.disks(shadow)[0].backing.fileName, 'the shadow still names the old path')
        with self.assertRaises(vmodl.MethodFault):
            self.content.virtualDiskManager.QueryVirtualDiskUuid(path, self.datacenter)
        self.assertEqual(uuid.replace('-', ''), self.content.virtualDiskManager.QueryVirtualDiskUuid(
            moved, self.datacenter).replace(' ', '').replace('-', '').lower())
        self.destroy(instance)
        self.destroy(shadow)

    def test_a_move_that_can_not_be_done_is_refused(self):
        vm = self.make_vm('unmoved', 'LocalDS_1', disks_mib=[2])
        for body, words in (({'vm': 'nobody', 'datastore': 'LocalDS_1'}, 'nobody'),
                            ({'vm': 'unmoved', 'datastore': 'nowhere'}, 'nowhere'),
                            ({'vm': 'unmoved', 'disk': '9999', 'datastore': 'LocalDS_2'}, '9999'),
                            ({'vm': 'unmoved', 'disk': '2000', 'datastore': 'LocalDS_1'}, 'already')):
            self.assertIn(words, self.refused_by_control('POST', '/sdrs/move', body))
        self.destroy(vm)

    def test_DatastoreEnterMaintenanceMode_recommends_or_moves_what_is_there(self):
        member, target = self.datastore('LocalDS_3'), self.datastore('LocalDS_1')
        vm = self.make_vm('moves', 'LocalDS_3', disks_mib=[2])
        result = member.DatastoreEnterMaintenanceMode()
        self.assertEqual(['LocalDS_1'], self.destinations(result))
        self.assertEqual('datastoreMaint', result.recommendations[0].reason)
        self.assertEqual('running', result.task.info.state)
        self.wait(self.drs.ApplyStorageDrsRecommendation_Task([result.recommendations[0].key]))
        self.wait(result.task)
        self.assertEqual([target], list(vm.datastore))
        self.wait(member.DatastoreExitMaintenanceMode_Task())

        self.configure(defaultVmBehavior='automated')
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=member)))
        result = member.DatastoreEnterMaintenanceMode()
        self.assertEqual([], list(result.recommendations))
        self.wait(result.task)
        self.assertEqual(([target], 'inMaintenance'), (list(vm.datastore), member.summary.maintenanceMode))
        self.wait(member.DatastoreExitMaintenanceMode_Task())
        self.configure(defaultVmBehavior='manual')
        self.destroy(vm)


class OsloTestCase(PodCase):
    """The same through oslo.vmware."""

    def test_a_pod_is_found_and_a_place_in_it_recommended_and_applied(self):
        self.enterContext(wsdl_once.shared())
        session = api.VMwareAPISession(self.vcenter.host, self.vcenter.user, self.vcenter.password, 1, 0.1,
                                       port=self.vcenter.port, cacert=self.vcenter.cacert)
        self.addCleanup(session.logout)
        pod, name = oslo_datastore.get_dsc_ref_and_name(session, 'Pod')
        self.assertEqual((self.pod._moId, 'Pod'), (vim_util.get_moref_value(pod), name))
        self.assertEqual((pod.value, 'Pod'), (oslo_datastore.get_dsc_ref_and_name(session, pod.value)[0].value, name))
        self.assertTrue(oslo_datastore.sdrs_enabled(session, pod))

        factory = session.vim.client.factory
        config = factory.create('ns0:VirtualMachineConfigSpec')
        config.name, config.guestId, config.numCPUs, config.memoryMB = 'by-oslo', 'otherGuest', 1, 4
        pool = vim_util.get_moref(self.pool._moId, 'ResourcePool')
        folder = vim_util.get_moref(self.datacenter.vmFolder._moId, 'Folder')
        key = oslo_datastore.get_recommended_datastore_create(session, pod, config, pool, folder)
        task = session.invoke_api(session.vim, 'ApplyStorageDrsRecommendation_Task',
                                  session.vim.service_content.storageResourceManager, key=[key])
        vm = session.wait_for_task(task).result.vm
        made = self.named(vim.VirtualMachine, 'by-oslo')
        self.assertEqual(made._moId, vim_util.get_moref_value(vm))
        self.assertEqual(['LocalDS_1'], [each.name for each in made.datastore])

        spec = factory.create('ns0:VirtualMachineCloneSpec')
        spec.location, spec.powerOn, spec.template = factory.create('ns0:VirtualMachineRelocateSpec'), False, False
        spec.location.pool = pool  # oslo.vmware sends no element that is empty, and the location is required
        key = oslo_datastore.get_recommended_datastore_clone(session, pod, spec, vm, folder, 'cloned-by-oslo', pool)
        self.assertIsNotNone(key)
        self.destroy(made)
