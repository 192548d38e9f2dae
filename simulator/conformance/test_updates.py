# SPDX-License-Identifier: Apache-2.0
"""PropertyCollector.WaitForUpdatesEx reports changes as vSphere documents it."""

import threading
import time
import unittest

from pyVim.task import WaitForTask
from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator import client as simulator_client
from simulator.conformance import vcenter_case
from simulator import control as control_endpoint

PC = vmodl.query.PropertyCollector


class UpdatesCase(unittest.TestCase):

    lenient = ()

    @classmethod
    def setUpClass(cls):
        cls.vcenter = simulator_client.Simulator(ds=2, ds_capacity='10GiB', lenient=cls.lenient).start()
        cls.addClassCleanup(cls.vcenter.stop)

    def setUp(self):
        self.client = self.vcenter.connect()
        self.content = self.client.content
        self.datacenter = self.content.rootFolder.childEntity[0]
        self.folder = self.datacenter.vmFolder.CreateFolder(self.id().rsplit('.', 1)[1][:70])
        self.collector = self.content.propertyCollector.CreatePropertyCollector()

    def filter(self, objects, kind, *paths, select=(), skip=False, partial=False, all=False, collector=None):
        spec = PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=obj, skip=skip, selectSet=list(select)) for obj in objects],
            propSet=[PC.PropertySpec(type=kind, pathSet=list(paths), all=all)])
        return (collector or self.collector).CreateFilter(spec, partial)

    def view_filter(self, view, kind, *paths):
        return self.filter([view], kind, *paths, skip=True,
                           select=[PC.TraversalSpec(type=type(view), path='view', skip=False)])

    def wait(self, version='', seconds=5, most=None, collector=None):
        return (collector or self.collector).WaitForUpdatesEx(
            version, PC.WaitOptions(maxWaitSeconds=seconds, maxObjectUpdates=most))

    def wait_all(self, version=''):
        """All updates that are there now, with the last version."""
        found = []
        while True:
            update = self.wait(version, 0)
            if update is None:
                return version, found
            version = update.version
            found += self.changes(update)

    def changes(self, update):
        return [(one.kind, one.obj, {change.name: change.val for change in one.changeSet})
                for each in update.filterSet for one in each.objectSet]

    def rename(self, obj, name):
        WaitForTask(obj.Rename(name))


class UpdatesTestCase(UpdatesCase):

    # Versions

    def test_the_first_answer_enters_all_with_their_values(self):
        made = self.filter([self.folder], vim.Folder, 'name', 'childEntity')
        update = self.wait()
        self.assertEqual([made], [each.filter for each in update.filterSet])
        kind, obj, values = self.changes(update)[0]
        self.assertEqual(('enter', self.folder, self.folder.name), (kind, obj, values['name']))
        self.assertFalse(update.truncated)

    def test_versions_count_up(self):
        self.filter([self.folder], vim.Folder, 'name')
        versions = [self.wait().version]
        for name in 'first', 'second':
            self.rename(self.folder, name)
            update = self.wait(versions[-1])
            self.assertEqual([('modify', self.folder, {'name': name})], self.changes(update))
            versions.append(update.version)
        numbers = [int(version) for version in versions]
        self.assertEqual(sorted(set(numbers)), numbers)

    def test_a_version_that_was_never_given_is_refused(self):
        self.filter([self.folder], vim.Folder, 'name')
        self.wait()
        self.assertRaises(vmodl.query.InvalidCollectorVersion, self.wait, '4711')

    def test_an_answer_that_was_lost_is_given_again(self):
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        self.rename(self.folder, 'lost')
        first, again = self.wait(version), self.wait(version)
        self.assertEqual((first.version, self.changes(first)), (again.version, self.changes(again)))

    def test_an_empty_version_begins_anew(self):
        self.filter([self.folder], vim.Folder, 'name')
        self.wait()
        self.assertEqual('enter', self.changes(self.wait())[0][0])

    # Waiting

    def test_nothing_new_gives_nothing_after_the_time(self):
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        begin = time.monotonic()
        self.assertIsNone(self.wait(version, 1))
        self.assertGreaterEqual(time.monotonic() - begin, 1)
        took = []
        while len(took) < 10 and min(took, default=1) >= 0.5:  # a busy machine may be slow once
            begin = time.monotonic()
            self.assertIsNone(self.wait(version, 0))
            took.append(time.monotonic() - begin)
        self.assertLess(min(took), 0.5)

    def in_thread(self, call):
        result = []

        def run():
            try:
                result.append(call())
            except Exception as error:
                result.append(error)
        thread = threading.Thread(target=run)
        thread.start()
        control = control_endpoint.Control(self.vcenter.control_url)
        vcenter_case.until(lambda: 'WaitForUpdatesEx' in control.journal()['running'])
        time.sleep(0.1)
        return thread, result

    def test_a_change_ends_the_wait(self):
        other = self.vcenter.connect()
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        begin = time.monotonic()
        thread, result = self.in_thread(lambda: self.wait(version, 20))
        WaitForTask(vim.Folder(self.folder._moId, other._stub).Rename('woken'))
        thread.join()
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual([('modify', self.folder, {'name': 'woken'})], self.changes(result[0]))

    def test_cancel(self):
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        thread, result = self.in_thread(lambda: self.wait(version, 20))
        self.collector.CancelWaitForUpdates()
        thread.join()
        self.assertIsInstance(result[0], vmodl.fault.RequestCanceled)
        self.assertIsNone(self.wait(version, 0))

    def test_a_destroyed_collector_ends_the_wait(self):
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        thread, result = self.in_thread(lambda: self.wait(version, 20))
        self.collector.Destroy()
        thread.join()
        self.assertIsInstance(result[0], vmodl.fault.RequestCanceled)
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, self.wait, version, 0)

    def test_check_for_updates_does_not_wait(self):
        self.filter([self.folder], vim.Folder, 'name')
        update = self.collector.CheckForUpdates('')
        self.assertIsNone(self.collector.CheckForUpdates(update.version))
        self.rename(self.folder, 'checked')
        self.assertEqual([('modify', self.folder, {'name': 'checked'})],
                         self.changes(self.collector.CheckForUpdates(update.version)))

    def test_a_wait_whose_client_has_gone_away_ends(self):
        control = control_endpoint.Control(self.vcenter.control_url)
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        body = ('<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
                f'<WaitForUpdatesEx xmlns="urn:vim25"><_this type="PropertyCollector">{self.collector._moId}</_this>'
                f'<version>{version}</version></WaitForUpdatesEx></soapenv:Body></soapenv:Envelope>')
        with self.assertRaises(requests.Timeout):
            requests.post(f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', data=body, timeout=1,
                          headers={'Cookie': self.client._stub.cookie.split(';')[0], 'SOAPAction': 'urn:vim25/8.0'},
                          verify=self.vcenter.cacert)
        deadline = time.monotonic() + 60
        while control.journal()['running']:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    # Truncation

    def test_an_answer_holds_no_more_than_asked(self):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.ManagedEntity], True)
        self.view_filter(view, vim.ManagedEntity, 'name')
        seen, version, truncated = [], '', True
        while truncated:
            update = self.wait(version, 5, most=4)
            found = self.changes(update)
            self.assertLessEqual(len(found), 4)
            self.assertEqual({'enter'}, {kind for kind, _, _ in found})
            seen += [obj for _, obj, _ in found]
            version, truncated = update.version, update.truncated
        self.assertEqual(sorted(obj._moId for obj in view.view), sorted(obj._moId for obj in seen))
        self.assertIsNone(self.wait(version, 0))

    # Filters

    def test_several_filters_are_told_apart(self):
        names = self.filter([self.folder], vim.Folder, 'name')
        values = self.filter([self.folder], vim.Folder, 'customValue', 'name')
        version = self.wait().version
        self.rename(self.folder, 'told')
        self.assertEqual({names, values}, {each.filter for each in self.wait(version).filterSet})
        self.assertEqual({names, values}, set(self.collector.filter))

    def test_a_filter_made_later_is_told_in_the_next_answer(self):
        self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        later = self.filter([self.datacenter], vim.Datacenter, 'name')
        update = self.wait(version)
        self.assertEqual([later], [each.filter for each in update.filterSet])
        self.assertEqual('enter', self.changes(update)[0][0])

    def test_a_destroyed_filter_is_silent(self):
        doomed = self.filter([self.folder], vim.Folder, 'name')
        version = self.wait().version
        doomed.Destroy()
        self.rename(self.folder, 'unheard')
        self.assertIsNone(self.wait(version, 0))
        self.assertEqual([], list(self.collector.filter))

    def test_an_object_that_is_gone_makes_no_filter(self):
        WaitForTask(self.folder.Destroy())
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, self.filter, [self.folder], vim.Folder, 'name')

    def test_only_what_was_asked_for_is_told(self):
        self.filter([self.folder], vim.Folder, 'childType')
        version = self.wait().version
        self.rename(self.folder, 'not asked')
        self.assertIsNone(self.wait(version, 0))

    def test_a_part_is_told_as_the_whole_or_by_itself(self):
        datastore = next(ds for ds in self.datacenter.datastore if ds.name == 'LocalDS_1')
        for partial, name in (False, 'summary'), (True, 'summary.name'):
            with self.subTest(partial=partial):
                collector = self.content.propertyCollector.CreatePropertyCollector()
                self.filter([datastore], vim.Datastore, 'summary', partial=partial, collector=collector)
                version = self.wait(collector=collector).version
                datastore.RenameDatastore(f'partial {partial}')
                values = self.changes(self.wait(version, collector=collector))[0][2]
                self.assertEqual({name}, set(values))
                self.assertEqual(f'partial {partial}', values[name] if partial else values[name].name)
        datastore.RenameDatastore('LocalDS_1')

    def test_what_a_task_changed_is_told_and_nothing_else(self):
        vm = next(vm for vm in self.datacenter.vmFolder.childEntity if isinstance(vm, vim.VirtualMachine))
        self.filter([vm], vim.VirtualMachine, 'name', 'config.annotation', 'config.uuid')
        version = self.wait().version
        WaitForTask(vm.Reconfigure(vim.vm.ConfigSpec(annotation=self.id())))
        _, found = self.wait_all(version)
        self.assertEqual([('modify', vm, {'config.annotation': self.id()})], found)

    # Membership

    def test_a_container_view_wins_and_loses_objects(self):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.Folder], True)
        self.view_filter(view, vim.Folder, 'name')
        version, _ = self.wait_all()
        made = self.folder.CreateFolder('made')
        update = self.wait(version)
        self.assertEqual([('enter', made, {'name': 'made'})], self.changes(update))
        self.assertIn(made, view.view)
        self.rename(made, 'renamed')
        update = self.wait(update.version)
        self.assertEqual([('modify', made, {'name': 'renamed'})], self.changes(update))
        WaitForTask(made.Destroy())
        update = self.wait(update.version)
        self.assertEqual([('leave', made, {})], self.changes(update))
        self.assertNotIn(made, view.view)

    def test_an_object_moved_out_of_the_container_leaves(self):
        view = self.content.viewManager.CreateContainerView(self.folder, [vim.Folder], True)
        self.view_filter(view, vim.Folder, 'name')
        inner = self.folder.CreateFolder('inner')
        version, found = self.wait_all()
        self.assertEqual([('enter', inner, {'name': 'inner'})], found)
        WaitForTask(self.datacenter.vmFolder.MoveInto([inner]))
        update = self.wait(version)
        self.assertEqual([('leave', inner)], [change[:2] for change in self.changes(update)])
        WaitForTask(inner.Destroy())

    def test_a_view_of_the_folder_alone_is_not_recursive(self):
        inner = self.folder.CreateFolder('inner')
        inner.CreateFolder('innermost')
        view = self.content.viewManager.CreateContainerView(self.folder, [vim.Folder], False)
        self.assertEqual([inner], list(view.view))

    def test_a_view_refuses_what_holds_nothing(self):
        views = self.content.viewManager
        self.assertRaises(vmodl.fault.InvalidArgument, views.CreateContainerView, self.datacenter.datastore[0], None, True)
        self.assertRaises(vmodl.fault.InvalidArgument, views.CreateContainerView, self.folder, [vim.Task], True)
        gone = self.folder.CreateFolder('gone')
        WaitForTask(gone.Destroy())
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, views.CreateContainerView, gone, None, True)

    def test_a_traversal_of_folders_wins_and_loses_objects(self):
        down = PC.TraversalSpec(name='down', type=vim.Folder, path='childEntity', skip=False,
                                selectSet=[PC.SelectionSpec(name='down')])
        self.filter([self.folder], vim.Folder, 'name', select=[down])
        version, _ = self.wait_all()
        outer = self.folder.CreateFolder('outer')
        inner = outer.CreateFolder('inner')
        version, found = self.wait_all(version)
        self.assertEqual([('enter', outer), ('enter', inner)], [change[:2] for change in found])
        WaitForTask(outer.Destroy())
        version, found = self.wait_all(version)
        self.assertEqual({('leave', outer), ('leave', inner)}, {change[:2] for change in found})

    def test_a_session_lists_its_own_views(self):
        """ViewManager.viewList: "An array of view references. Each array entry is a managed object reference to a view created by
        this ViewManager"; "the view exists until it is destroyed or the session ends".
        """
        manager = self.content.viewManager
        before = {view._moId for view in manager.viewList}
        made = [manager.CreateContainerView(self.content.rootFolder, [vim.Datastore], True), manager.CreateListView([])]
        other = self.vcenter.connect()
        self.assertEqual({view._moId for view in made}, {view._moId for view in manager.viewList} - before)
        self.assertEqual([], list(other.content.viewManager.viewList))
        retrieved, = self.content.propertyCollector.RetrieveContents([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=manager)],
            propSet=[PC.PropertySpec(type=vim.view.ViewManager, pathSet=['viewList'])])])
        self.assertEqual({view._moId for view in manager.viewList}, {view._moId for view in retrieved.propSet[0].val})
        for view in made:
            view.DestroyView()
        self.assertEqual(before, {view._moId for view in manager.viewList})

    def watched_folders(self, *folders):
        """A list of folders, and a filter over the machines below them; its first answer has been taken."""
        down = PC.TraversalSpec(name='down', type=vim.Folder, path='childEntity', skip=False,
                                selectSet=[PC.SelectionSpec(name='down')])
        view = self.content.viewManager.CreateListView(list(folders))
        self.filter([view], vim.VirtualMachine, 'name', skip=True, select=[PC.TraversalSpec(
            type=vim.view.ListView, path='view', skip=False, selectSet=[down])])
        # A filter that selects nothing yet has nothing to report, so another one stands beside it.
        self.filter([self.datacenter], vim.Datacenter, 'name')
        version, found = self.wait_all()
        self.assertEqual([self.datacenter], [change[1] for change in found])
        return view, version

    def machine_in(self, folder, name):
        spec = vim.vm.ConfigSpec(name=name, files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        task = folder.CreateVM_Task(config=spec, pool=self.datacenter.hostFolder.childEntity[0].resourcePool)
        WaitForTask(task)
        self.addCleanup(lambda: WaitForTask(task.info.result.Destroy()))
        return task.info.result

    def test_a_machine_enters_with_its_folder_and_leaves_it(self):
        """ObjectUpdateKind.enter: "this can happen if a virtual machine is added to a folder"."""
        outside, inner = self.datacenter.vmFolder, self.folder.CreateFolder('inner')
        _, version = self.watched_folders(self.folder)
        machine = self.machine_in(outside, 'stranger')
        self.rename(machine, 'still a stranger')
        version, found = self.wait_all(version)
        self.assertEqual([], found)
        for folder, reported in ((inner, ['enter']), (self.folder, []), (outside, ['leave']), (self.folder, ['enter'])):
            WaitForTask(folder.MoveInto([machine]))
            version, found = self.wait_all(version)
            self.assertEqual([(kind, machine) for kind in reported], [change[:2] for change in found], folder.name)

    def test_a_machine_on_the_list_and_below_it_leaves_when_it_is_neither(self):
        machine = self.machine_in(self.datacenter.vmFolder, 'listed')
        view, version = self.watched_folders(self.folder)
        steps = ((lambda: view.ModifyListView(add=[machine]), ['enter']),
                 (lambda: WaitForTask(self.folder.MoveInto([machine])), []),
                 (lambda: WaitForTask(self.datacenter.vmFolder.MoveInto([machine])), []),
                 (lambda: view.ModifyListView(remove=[machine]), ['leave']))
        for number, (step, reported) in enumerate(steps):
            step()
            version, found = self.wait_all(version)
            self.assertEqual([(kind, machine) for kind in reported], [change[:2] for change in found], number)

    def test_the_machines_of_a_folder_come_and_go_with_it(self):
        later = self.folder.CreateFolder('later')
        machine = self.machine_in(later, 'comes later')
        view, version = self.watched_folders()
        view.ModifyListView(add=[later])
        version, found = self.wait_all(version)
        self.assertEqual([('enter', machine, {'name': 'comes later'})], found)
        view.ModifyListView(remove=[later])
        version, found = self.wait_all(version)
        self.assertEqual([('leave', machine)], [change[:2] for change in found])

    def test_a_list_view_is_followed(self):
        view = self.content.viewManager.CreateListView([self.folder])
        self.view_filter(view, vim.ManagedEntity, 'name')
        version, found = self.wait_all()
        self.assertEqual([self.folder], [change[1] for change in found])
        view.ModifyListView(add=[self.datacenter], remove=[self.folder])
        version, found = self.wait_all(version)
        self.assertEqual({('enter', self.datacenter), ('leave', self.folder)}, {change[:2] for change in found})
        view.ModifyListView(add=[self.datacenter, self.datacenter])
        view.ResetListView([self.datacenter])
        view.ModifyListView(add=[self.datacenter], remove=[self.datacenter])
        self.assertEqual([self.datacenter], list(view.view))
        view.ResetListView([])
        version, found = self.wait_all(version)
        self.assertEqual([('leave', self.datacenter)], [change[:2] for change in found])

    def test_a_machine_is_told_complete(self):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.VirtualMachine], True)
        self.view_filter(view, vim.VirtualMachine, 'name', 'config.instanceUuid', 'runtime.host', 'datastore')
        version, _ = self.wait_all()
        pool = self.datacenter.hostFolder.childEntity[0].resourcePool
        spec = vim.vm.ConfigSpec(name='complete', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        task = self.folder.CreateVM_Task(config=spec, pool=pool)
        WaitForTask(task)
        _, found = self.wait_all(version)
        values = {}
        for kind, obj, change in found:
            self.assertEqual(task.info.result, obj)
            values.update(change)
        self.assertEqual('enter', found[0][0])
        self.assertEqual('complete', values['name'])
        self.assertTrue(values['config.instanceUuid'] and values['runtime.host'] and len(values['datastore']))
        WaitForTask(task.info.result.Destroy())

    # Tasks

    def list_of_tasks(self):
        """:returns: an empty list view, with a filter for the info of the tasks that will be in it"""
        view = self.content.viewManager.CreateListView([])
        self.view_filter(view, vim.Task, 'info')
        return view

    def test_tasks_in_a_list_view_are_told_from_begin_to_end(self):
        """TaskManager.recentTask: "a ListView is a better way to monitor a specific set of Task objects"."""
        view = self.list_of_tasks()
        version, _ = self.wait_all()
        task = self.folder.Rename('by a task')
        self.assertEqual([], view.ModifyListView(add=[task]))
        states = []
        while 'success' not in states:
            update = self.wait(version)
            version = update.version
            states += [value.state for _, obj, values in self.changes(update) if obj == task
                       for name, value in values.items() if name == 'info']
        view.ModifyListView(remove=[task])
        self.assertEqual([('leave', task, {})], self.wait_all(version)[1])

    def test_a_task_that_had_ended_enters_the_list_view_complete(self):
        WaitForTask(task := self.folder.Rename('before'))
        view = self.list_of_tasks()
        version, _ = self.wait_all()
        view.ResetListView([task])
        (kind, obj, values), = self.wait_all(version)[1]
        self.assertEqual(('enter', task, 'success'), (kind, obj, values['info'].state))

    def test_a_list_view_answers_what_is_not_there(self):
        view = self.list_of_tasks()
        version, _ = self.wait_all()
        none = vim.Task('task-0', self.client._stub)
        self.assertEqual([none], view.ModifyListView(add=[none]))
        self.assertEqual([none], view.ResetListView([none, self.folder]))
        self.assertEqual([self.folder], view.view)

    def test_the_objects_of_a_destroyed_list_view_leave(self):
        WaitForTask(task := self.folder.Rename('left'))
        view = self.list_of_tasks()
        view.ModifyListView(add=[task])
        version, _ = self.wait_all()
        view.Destroy()
        self.assertEqual([('leave', task)], [change[:2] for change in self.wait_all(version)[1]])

    # What the reference does not promise ("might not generate property collector update notifications for this property")

    def silence(self, obj, change, silent, sounding):
        """One property's change is reported, and the others' are not, though they have changed."""
        kind = type(obj)
        self.filter([obj], kind, *silent, sounding)
        version, before = self.wait_all()
        values = {name: str(self.value(obj, name)) for name in silent}
        change()
        version, found = self.wait_all(version)
        self.assertEqual({sounding}, {name for _, _, changes in found for name in changes})
        return [name for name in silent if str(self.value(obj, name)) != values[name]]

    @staticmethod
    def value(obj, path):
        for name in path.split('.'):
            obj = getattr(obj, name)
        return obj

    def test_files_and_storage_of_a_machine_change_in_silence(self):
        vm = self.machine()
        changed = self.silence(
            vm, lambda: WaitForTask(vm.CreateSnapshot('silent', '', False, False)),
            ['layoutEx', 'storage', 'summary.storage', 'recentTask'], 'rootSnapshot')
        self.assertIn('layoutEx', changed)
        self.assertIn('recentTask', changed)

    def test_a_summary_is_told_for_what_is_not_silent_in_it(self):
        vm = self.machine()
        self.filter([vm], vim.VirtualMachine, 'summary')
        version, _ = self.wait_all()
        WaitForTask(vm.Rename('louder'))
        _, found = self.wait_all(version)
        self.assertEqual('louder', found[-1][2]['summary'].config.name)

    def test_recent_tasks_begin_in_silence(self):
        manager = self.content.taskManager
        self.filter([manager], vim.TaskManager, 'recentTask')
        self.filter([manager], vim.Task, 'info', skip=True,
                    select=[PC.TraversalSpec(type=vim.TaskManager, path='recentTask', skip=False)])
        version, _ = self.wait_all()
        WaitForTask(task := self.folder.Rename('in silence'))
        self.assertNotIn(task, [change[1] for change in self.wait_all(version)[1]])
        self.assertIn(task, manager.recentTask)

    def test_an_empty_version_gives_the_present_value(self):
        self.filter([self.content.taskManager], vim.TaskManager, 'recentTask')
        self.wait_all()
        WaitForTask(task := self.folder.Rename('asked for'))
        self.assertIn(task, self.wait_all('')[1][0][2]['recentTask'])

    def machine(self):
        pool = self.datacenter.hostFolder.childEntity[0].resourcePool
        spec = vim.vm.ConfigSpec(name='machine', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        WaitForTask(task := self.folder.CreateVM_Task(config=spec, pool=pool))
        self.addCleanup(lambda: WaitForTask(task.info.result.Destroy()))
        return task.info.result

    def test_one_task_with_all_its_properties(self):
        WaitForTask(self.folder.Rename('all'))
        task = self.folder.Rename('of it')
        self.filter([task], vim.Task, all=True, partial=True)
        self.assertIn('info', self.changes(self.wait())[0][2])
        WaitForTask(task)

    def test_a_task_bears_its_methods_name(self):
        vm = next(vm for vm in self.datacenter.vmFolder.childEntity if isinstance(vm, vim.VirtualMachine))
        for call, name in ((vm.PowerOff, 'PowerOff'), (vm.PowerOn, 'PowerOn'), (lambda: vm.Rename(vm.name + '!'), 'Rename')):
            task = call()
            self.assertEqual(name, task.info.name.info.name)
            WaitForTask(task)

    # Sessions

    def test_a_session_does_not_see_anothers_collector(self):
        other = self.vcenter.connect()
        collector = PC(self.collector._moId, other._stub)
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, collector.WaitForUpdatesEx, '', PC.WaitOptions(maxWaitSeconds=0))


class LenientNoticesTestCase(UpdatesCase):
    """With -lenient notices all is reported, also what the reference does not promise."""

    lenient = 'notices'

    def test_recent_tasks_are_told_from_begin_to_end(self):
        manager = self.content.taskManager
        self.filter([manager], vim.Task, 'info.state', 'info.error', skip=True,
                    select=[PC.TraversalSpec(type=vim.TaskManager, path='recentTask', skip=False)])
        version, _ = self.wait_all()
        task = self.folder.Rename('by a task')
        states = []
        while 'success' not in states:
            update = self.wait(version)
            version = update.version
            states += [values['info.state'] for _, obj, values in self.changes(update) if obj == task]
        self.assertEqual('success', states[-1])


class MirrorTestCase(unittest.TestCase):
    """A client that only listens knows the inventory as well as one that asks, whatever others do meanwhile."""

    def test_two_hundred_operations_in_parallel(self):
        with simulator_client.Simulator(ds=2, ds_capacity='100GiB') as vcenter:
            client = vcenter.connect()
            content = client.content
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.ManagedEntity], True)
            down = PC.TraversalSpec(name='down', type=vim.Folder, path='childEntity', skip=False,
                                    selectSet=[PC.SelectionSpec(name='down')])
            vms = content.rootFolder.childEntity[0].vmFolder
            starts = [PC.ObjectSpec(obj=view, skip=True, selectSet=[PC.TraversalSpec(type=type(view), path='view', skip=False)]),
                      PC.ObjectSpec(obj=vms, skip=True, selectSet=[down])]
            filters = [content.propertyCollector.CreateFilter(PC.FilterSpec(
                objectSet=[start], propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=['name', 'parent'])]), False)
                for start in starts]
            mirrors = {each: {} for each in filters}
            working = [threading.Thread(target=self.work, args=(vcenter.connect(), number)) for number in range(8)]
            for thread in working:
                thread.start()
            version = ''
            while True:
                alive = any(thread.is_alive() for thread in working)
                update = content.propertyCollector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=1 if alive else 0))
                if update is None:
                    if alive:
                        continue
                    break
                version = update.version
                self.reflect(update, mirrors)
            for asked, reported in ((view.view, mirrors[filters[0]]), (self.below(vms), mirrors[filters[1]])):
                asked = self.inventory(asked)
                differences = {obj: (asked.get(obj), reported.get(obj)) for obj in {*asked, *reported} if asked.get(obj) != reported.get(obj)}
                self.assertEqual({}, differences)

    def work(self, client, number):
        datacenter = client.content.rootFolder.childEntity[0]
        pool = datacenter.hostFolder.childEntity[0].resourcePool
        collector = client.content.propertyCollector
        for turn in range(5):
            folder = datacenter.vmFolder.CreateFolder(f'folder {number} {turn}')
            WaitForTask(folder.Rename(f'renamed {number} {turn}'), pc=collector)
            spec = vim.vm.ConfigSpec(name=f'vm {number} {turn}', files=vim.vm.FileInfo(vmPathName='[LocalDS_1]'))
            task = folder.CreateVM_Task(spec, pool)
            WaitForTask(task, pc=collector)
            vm = task.info.result
            if turn % 2:
                WaitForTask(datacenter.vmFolder.MoveInto([vm]), pc=collector)
            else:
                WaitForTask(vm.Rename(f'vm renamed {number} {turn}'), pc=collector)
            if turn % 3 == 0:
                WaitForTask(vm.Destroy(), pc=collector)
            if turn == 4:
                WaitForTask(folder.Destroy(), pc=collector)

    def reflect(self, update, mirrors):
        for each in update.filterSet:
            mirror = mirrors[each.filter]
            for one in each.objectSet:
                if one.kind == 'leave':
                    del mirror[one.obj]
                elif one.kind == 'enter':
                    mirror[one.obj] = {}
                for change in one.changeSet:
                    mirror[one.obj][change.name] = change.val

    def inventory(self, objects):
        return {obj: {'name': obj.name, 'parent': obj.parent} for obj in objects}

    def below(self, folder):
        for child in folder.childEntity:
            yield child
            if isinstance(child, vim.Folder):
                yield from self.below(child)
