# SPDX-License-Identifier: Apache-2.0
"""The end of a task is reported correctly, whatever happens meanwhile."""

import threading
import time
import unittest
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util
from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import live_view_case
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import tasks


class TaskCase(live_view_case.LiveViewCase):

    # No task has ended when its call is answered.
    flags = {'ds': 2, 'vm': 0, 'ds_capacity': '100GiB', 'ds_mount_all': True,
             'task_delay': 30}

    def setUp(self):
        super().setUp()
        self.waiter = tasks.TaskWaiter(self.stream, poll_seconds=0.2)
        self.session.task_waiter = self.waiter
        self.session.invoke_api(self.view, 'read')  # the long poll runs
        self.sim.reset_journal()

    def create(self, name, **more):
        """Start a CreateVM_Task; the reference of the task."""
        spec = soap.Typed('', {
            'name': name, 'guestId': 'otherGuest', 'files': soap.Typed('', {
                'vmPathName': '[LocalDS_0]'}), 'numCPUs': 1, 'memoryMB': 4})
        reply = self.session.invoke_api(
            self.http, 'call', 'CreateVM_Task',
            references.Ref('Folder', self.datacenter.vmFolder._moId),
            {'config': spec, 'pool': references.Ref('ResourcePool',
                                                    self.pool._moId)})
        return references.Ref('Task', reply[0].text)

    def remove(self, name):
        self.addCleanup(lambda: self.destroy(
            self.named(vim.VirtualMachine, name)))


class EndTestCase(TaskCase):

    def test_a_success_with_its_result(self):
        self.remove('made')
        info = self.waiter(self.create('made'))
        self.assertEqual(self.named(vim.VirtualMachine, 'made')._moId,
                         vim_util.get_moref_value(info.result))
        self.assertEqual('VirtualMachine',
                         vim_util.get_moref_type(info.result))

    def test_the_session_waits_so(self):
        self.remove('by-session')
        info = self.session.wait_for_task(self.create('by-session'))
        self.assertEqual('success', info.state)

    def test_an_end_costs_one_call(self):
        """Which puts the task on the list that the one long poll has."""
        for name in ('cheap', 'cheap-too'):
            self.remove(name)
            task = self.create(name)
            self.sim.reset_journal()
            with self.patience():
                self.waiter(task)
            self.assertEqual({'ModifyListView': 1}, self.calls())

    @staticmethod
    def patience():
        """On a busy machine, a notice may take longer than a second."""
        return mock.patch.object(tasks, 'UNSEEN_SECONDS', 60)

    def test_while_any_task_is_waited_for_no_news_are_gathered(self):
        for name in ('first', 'second'):
            self.remove(name)
        first, second = self.create('first'), self.create('second')
        until_ended = self.waiter._until_ended
        seen = []

        def both(wait):
            facts = until_ended(wait)
            if wait.key == first.value:
                self.waiter(second)
                seen.append(bool(self.stream.waiting))
            return facts
        with mock.patch.object(self.waiter, '_until_ended', both):
            self.waiter(first)
        self.assertEqual([True], seen)
        self.assertFalse(self.stream.waiting)

    def test_a_task_that_has_ended_is_taken_off_the_list(self):
        for number in range(3):
            self.remove(f'listed-{number}')
            self.waiter(self.create(f'listed-{number}'))
        self.assertEqual(1, len(self.waiter._ended))

    def listed(self):
        """The tasks that the vCenter has on the list."""
        view = self.waiter._view
        return {each.value for each in property_collector.properties(
            self.session, self.http, view, ['view']).get('view', ())}

    def test_a_call_that_failed_leaves_no_task_on_the_list(self):
        for cut in ('before', 'after'):
            for number in range(2):
                self.remove(f'{cut}-{number}')
                if number:
                    self.sim.fault(method='ModifyListView', count=1, cut=cut)
                self.waiter(self.create(f'{cut}-{number}'))
            self.remove(f'{cut}-last')
            last = self.create(f'{cut}-last')
            self.waiter(last)
            self.assertEqual({last.value}, self.listed())

    def test_tasks_are_listed_after_a_call_that_failed(self):
        self.remove('slow')
        hang = self.sim.fault(method='CreateVM_Task', count=1, task_hang=True)
        self.sim.fault(method='ModifyListView', count=1, cut='before')
        slow = self.create('slow')
        thread = threading.Thread(target=self.waiter, args=(slow,))
        thread.start()
        self.addCleanup(thread.join, 60)
        self.addCleanup(self.sim.release, hang)
        self.until(lambda: self.sim.journal()['methods'].get(
            'ModifyListView'))
        self.remove('next')
        following = self.create('next')
        self.waiter(following)
        self.assertEqual({slow.value, following.value}, self.listed())

    def test_a_thread_without_a_task_to_list_forgets_none(self):
        """Another thread has listed its task with its own."""
        self.remove('ended')
        self.waiter(self.create('ended'))
        self.waiter._change_list()
        self.remove('next')
        following = self.create('next')
        self.waiter(following)
        self.assertEqual({following.value}, self.listed())

    def test_a_poll_that_was_replaced_takes_no_tasks(self):
        began, let_go = threading.Event(), threading.Event()
        real = tasks.collector.list_view

        def list_view(*args):
            if not began.is_set():
                began.set()
                let_go.wait(60)
            return real(*args)
        replaced = self.stream.conversation()
        with mock.patch.object(tasks.collector, 'list_view', list_view):
            self.sim.kill_sessions(self.login.user)
            self.assertTrue(began.wait(60))
            self.sim.kill_sessions(self.login.user)
            self.session.ensure_logged_in()
            present = self.stream.conversation()
            self.assertIsNot(replaced, present)
            self.assertTrue(present.decided.wait(60))
            let_go.set()
            replaced._thread.join(60)
        self.assertIn(('DestroyView', self.waiter._view),
                      present._belongings)

    def test_an_end_before_the_wait_is_not_missed(self):
        self.remove('early')
        task = self.create('early')
        self.until(lambda: self.all(vim.VirtualMachine))
        time.sleep(0.5)  # and its task ends
        self.sim.reset_journal()
        begun = time.monotonic()
        with self.patience():
            self.waiter(task)
        self.assertLess(time.monotonic() - begun, 60)
        self.assertEqual({'ModifyListView': 1}, self.calls())

    def test_a_failure_is_the_exception_of_oslo_vmware(self):
        self.sim.fault(method='CreateVM_Task', count=1, task_fault={
            'type': 'NoDiskSpace', 'fields': {'datastore': 'LocalDS_0'},
            'message': 'no room in the inn'})
        with self.assertRaisesRegex(vmware_exceptions.NoDiskSpaceException,
                                    'no room in the inn'):
            self.waiter(self.create('unlucky'))

    def test_a_failure_of_no_class_names_its_fault(self):
        self.sim.fault(method='CreateVM_Task', count=1, task_fault={
            'type': 'InvalidPowerState', 'fields': {
                'existingState': 'poweredOn'}})
        with self.assertRaises(vmware_exceptions.VimException) as caught:
            self.waiter(self.create('unlucky'))
        expected = vmware_exceptions.get_fault_class('InvalidPowerState')
        self.assertIsInstance(caught.exception, expected)

    def test_fifty_tasks_are_awaited_by_one_conversation(self):
        self.sim.fault(method='CreateVM_Task', task_delay_ms=400)
        results = {}

        def make(name):
            results[name] = vim_util.get_moref_value(
                self.waiter(self.create(name)).result)

        names = [f'many-{number}' for number in range(50)]
        self.sim.reset_journal()
        threads = [threading.Thread(target=make, args=(name,))
                   for name in names]
        for each in threads:
            each.start()
        for each in threads:
            each.join(300)
        calls = self.calls()
        made = {each.name: each._moId for each in self.all(vim.VirtualMachine)}
        for name in names:
            self.remove(name)
        self.assertEqual(made, results)
        self.assertEqual(50, calls['CreateVM_Task'])
        self.assertLessEqual(calls['ModifyListView'], 50)
        self.assertNotIn('CreateFilter', calls)


class QuietTestCase(TaskCase):

    def test_a_task_is_read_while_the_vcenter_tells_nothing(self):
        self.remove('unpolled')
        self.sim.fault(method='WaitForUpdatesEx',
                       fault={'type': 'NoPermission'})
        self.stream.conversation()._ended = True
        self.stream._conversation = None
        info = self.waiter(self.create('unpolled'))
        self.assertEqual(self.named(vim.VirtualMachine, 'unpolled')._moId,
                         vim_util.get_moref_value(info.result))

    def test_a_task_that_cannot_be_listed_is_read(self):
        self.remove('unlisted')
        self.sim.fault(method='ModifyListView', count=1, cut='after')
        task = self.create('unlisted')
        self.sim.reset_journal()
        self.assertEqual('success', self.waiter(task).state)
        self.assertLessEqual(self.calls()['RetrievePropertiesEx'], 2)

    def test_a_list_that_is_gone_costs_reads_and_no_task(self):
        """As after a session that ended unnoticed."""
        self.remove('no-list')
        self.sim.fault(method='CreateVM_Task', task_delay_ms=700)
        task = self.create('no-list')
        self.client.content.sessionManager.TerminateSession(
            [self.session._session_id])
        begun = time.monotonic()
        self.assertEqual('success', self.waiter(task).state)
        self.assertLess(time.monotonic() - begun, tasks.PROGRESS_SECONDS)

    def test_a_task_that_runs_long_tells_its_progress(self):
        self.remove('slow')
        hang = self.sim.fault(method='CreateVM_Task', task_hang=True)
        with mock.patch.object(tasks, 'PROGRESS_SECONDS', 0.4), \
                self.assertLogs(tasks.__name__, 'INFO') as logged:
            begun = time.monotonic()
            waiter = threading.Thread(target=self.waiter,
                                      args=[self.create('slow')])
            waiter.start()
            self.addCleanup(waiter.join, 60)
            self.addCleanup(self.sim.release, hang)
            self.until(lambda: len(logged.output) >= 3)
            lines = len(logged.output)
            self.assertLessEqual(lines, (time.monotonic() - begun) / 0.4)
            self.sim.release(hang)
            waiter.join(60)
        self.assertFalse(waiter.is_alive())
        self.assertRegex(logged.output[0], r'running, .* % after \d+ s')


class LossTestCase(TaskCase):

    def test_a_task_outlives_the_session_that_began_it(self):
        self.remove('outlives')
        self.sim.fault(method='CreateVM_Task', task_delay_ms=1000)
        task = self.create('outlives')
        self.client.content.sessionManager.TerminateSession(
            [self.session._session_id])
        self.assertEqual('success', self.waiter(task).state)

    def test_a_task_whose_notice_is_lost_is_not(self):
        self.remove('unnoticed')
        self.sim.fault(method='CreateVM_Task', task_delay_ms=500)
        task = self.create('unnoticed')
        self.sim.fault(method='WaitForUpdatesEx', count=2, cut='after')
        self.assertEqual('success', self.waiter(task).state)

    def test_a_task_that_the_vcenter_forgot_has_an_unknown_outcome(self):
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.waiter(vim_util.get_moref('task-0', 'Task'))

    def test_memory_is_bounded(self):
        with mock.patch.object(tasks, 'REMEMBERED', 3):
            for number in range(5):
                self.remove(f'bounded-{number}')
                self.waiter(self.create(f'bounded-{number}'))
            self.assertLessEqual(len(self.waiter._reported), 3)
        self.assertEqual({}, self.waiter._waits)


if __name__ == '__main__':
    unittest.main()
