# SPDX-License-Identifier: Apache-2.0
"""Looking back at tasks: TaskManager.CreateCollectorForTasks, recentTask, and what a task is about."""

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case

Recursion = vim.TaskFilterSpec.RecursionOption


class HistoryTestCase(vcenter_case.VCenterCase):

    def setUp(self):
        super().setUp()
        self.folder = self.datacenter.vmFolder.CreateFolder(self.id().rsplit('.', 1)[1])
        self.addCleanup(lambda: self.wait(self.folder.Destroy_Task()))

    def collector(self, recursion='self', **spec):
        collector = self.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec(
            entity=vim.TaskFilterSpec.ByEntity(entity=self.folder, recursion=recursion), **spec))
        self.addCleanup(collector.DestroyCollector)
        return collector

    def rename(self, *names):
        for name in names:
            self.wait(self.folder.Rename_Task(name))

    def keys(self, infos):
        return [int(info.key.rsplit('-', 1)[1]) for info in infos]

    def test_it_is_read_forwards_and_backwards(self):
        self.rename('a', 'b', 'c', 'd')
        collector = self.collector()
        forwards = self.keys(collector.ReadNextTasks(3)) + self.keys(collector.ReadNextTasks(3))
        self.assertEqual((4, sorted(forwards)), (len(forwards), forwards))
        self.assertEqual(forwards[::-1], self.keys(collector.ReadPreviousTasks(10)))
        collector.ResetCollector()
        self.assertEqual([], self.keys(collector.ReadNextTasks(1)))
        collector.RewindCollector()
        self.assertEqual(forwards[:1], self.keys(collector.ReadNextTasks(1)))

    def test_the_latest_page_follows_what_happens(self):
        collector = self.collector()
        self.assertFalse(collector.latestPage)
        collector.SetCollectorPageSize(2)
        self.rename('x', 'y', 'z')
        page = collector.latestPage
        self.assertEqual(2, len(page))
        self.assertEqual(sorted(self.keys(page), reverse=True), self.keys(page))
        self.assertEqual({'success'}, {info.state for info in page})

    def test_filters_choose_by_entity_and_state(self):
        inner = self.folder.CreateFolder('inner')
        with self.assertRaises(vim.fault.DuplicateName):
            other = self.folder.CreateFolder('other')
            self.wait_or_raise(other.Rename_Task('inner'))
        self.wait(inner.Rename_Task('renamed'))
        self.assertEqual([], self.collector('self').ReadNextTasks(10))
        below = self.collector('children').ReadNextTasks(10)
        self.assertEqual(['error', 'success'], sorted(info.state for info in below))
        self.assertEqual(self.keys(below), self.keys(self.collector('all').ReadNextTasks(10)))
        failed = self.collector('all', state=['error']).ReadNextTasks(10)
        self.assertEqual(['error'], [info.state for info in failed])

    def wait_or_raise(self, task):
        self.until(lambda: task.info.state in ('success', 'error'))
        if task.info.error:
            raise task.info.error

    def test_a_collector_that_is_destroyed_is_gone(self):
        collector = self.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec())
        collector.DestroyCollector()
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, collector.ReadNextTasks, 1)

    def test_each_task_is_described_under_a_key_of_the_task_manager(self):
        """TaskInfo.descriptionId is a key of TaskManager.description.methodInfo."""
        known = {info.key for info in self.content.taskManager.description.methodInfo}
        vm = self.make_vm('described', disks_mib=[1])
        reported = []
        for call in (lambda: vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation='new')),
                     lambda: vm.CreateSnapshot_Task('one', '', False, False),
                     lambda: vm.snapshot.rootSnapshotList[0].snapshot.RemoveSnapshot_Task(True),
                     lambda: vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))),
                     lambda: vm.Rename_Task('redescribed'), vm.PowerOnVM_Task, vm.PowerOffVM_Task,
                     lambda: self.content.virtualDiskManager.CreateVirtualDisk_Task(
                         '[LocalDS_0] described.vmdk', self.datacenter, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                             diskType='thin', adapterType='lsiLogic', capacityKb=1024)), vm.Destroy_Task):
            self.wait(task := call())
            reported.append(task.info.descriptionId)
        self.assertEqual(
            ['VirtualMachine.reconfigure', 'VirtualMachine.createSnapshot', 'vm.Snapshot.remove', 'VirtualMachine.relocate',
             'VirtualMachine.rename', 'VirtualMachine.powerOn', 'VirtualMachine.powerOff',
             'VirtualDiskManager.createVirtualDisk', 'VirtualMachine.destroy'], reported)
        self.assertEqual(set(), set(reported) - known)

    def test_the_entity_lists_its_recent_tasks(self):
        task = self.folder.Rename_Task('recent')
        self.until(lambda: task in self.folder.recentTask)

    def test_every_task_is_about_a_managed_entity(self):
        """TaskInfo.entity: the managers of disks and files are none."""
        manager = self.content.vStorageObjectManager
        disk = self.wait(manager.CreateDisk_Task(vim.vslm.CreateSpec(
            name='fcd', capacityInMB=1, backingSpec=vim.vslm.CreateSpec.DiskFileBackingSpec(
                datastore=self.datastore(), provisioningType='thin'))))
        self.wait(manager.DeleteVStorageObject_Task(disk.config.id, self.datastore()))
        for task in self.content.taskManager.recentTask:
            self.assertIsInstance(task.info.entity, vim.ManagedEntity)


class RetentionTestCase(vcenter_case.VCenterCase):

    flags = {'ds': 1, 'vm': 0, 'task_retention': '500ms'}

    def test_a_task_is_forgotten_some_time_after_its_end(self):
        """TaskManager.recentTask: "completed within the past 10 minutes"; here within the -task-retention of this simulator."""
        task = self.datacenter.vmFolder.CreateFolder('short').Rename('short memory')
        self.assertIn(task, self.content.taskManager.recentTask)

        def forgotten():
            try:
                return not task.info
            except vmodl.fault.ManagedObjectNotFound:
                return True
        self.until(forgotten)
        self.assertNotIn(task, self.content.taskManager.recentTask)
        folder = self.named(vim.Folder, 'short memory')
        self.assertNotIn(task, folder.recentTask)
