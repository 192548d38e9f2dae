# SPDX-License-Identifier: Apache-2.0
"""How the first reports are awaited, and when changes are gathered."""

import threading
import types
import unittest
from unittest import mock

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LONG_SECONDS = 60
start = updates.Conversation.start


class StartTestCase(unittest.TestCase):

    def test_a_thread_that_cannot_be_started_is_started_later(self):
        stream = updates.Stream(types.SimpleNamespace(cookie='session'),
                                client=None)
        with (mock.patch.object(threading.Thread, 'start',
                                side_effect=RuntimeError('no thread')),
              self.assertLogs(updates.__name__, 'WARNING')):
            self.assertIsNone(stream.conversation())
        with mock.patch.object(threading.Thread, 'start') as begin:
            self.assertIsNotNone(stream.conversation())
        begin.assert_called_once()


class GatherTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.stream = updates.Stream(
            types.SimpleNamespace(cookie='session'), client=None)
        self.conversation = updates.Conversation(self.stream)
        # It would take longer than any test waits.
        patch = mock.patch.object(updates, 'GATHER_SECONDS', 3600)
        patch.start()
        self.addCleanup(patch.stop)

    def gathering(self):
        """A thread that gathers changes."""
        thread = threading.Thread(target=self.conversation._gather,
                                  daemon=True)
        thread.start()
        return thread

    def wait(self, waiter):
        self.stream.waiting.add(waiter)
        self.stream.hurry.set()

    def assert_ends(self, thread):
        thread.join(LONG_SECONDS)
        self.assertFalse(thread.is_alive())

    def test_while_one_waits_nothing_is_gathered(self):
        self.wait('a task')
        self.assert_ends(self.gathering())

    def test_one_who_begins_to_wait_ends_the_gathering(self):
        thread = self.gathering()
        self.assertTrue(thread.is_alive())
        self.wait('a task')
        self.assert_ends(thread)

    def test_it_goes_on_while_no_other_waits(self):
        for each in ('a task', 'an instance'):
            self.wait(each)
        self.stream.waiting.discard('a task')
        self.assertTrue(self.stream.waiting)
        self.assert_ends(self.gathering())
        self.stream.waiting.discard('an instance')
        self.assertFalse(self.stream.waiting)
        thread = self.gathering()
        self.assertTrue(thread.is_alive())
        self.wait('another')
        self.assert_ends(thread)

    def test_the_gathering_ends_after_its_time(self):
        with mock.patch.object(updates, 'GATHER_SECONDS', 0.001):
            self.assert_ends(self.gathering())


class ReplacedTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.lost = []
        self.stream = updates.Stream(
            types.SimpleNamespace(cookie='session'), client=None,
            listeners=[types.SimpleNamespace(
                lost=lambda: self.lost.append(True))])
        self.conversation = updates.Conversation(self.stream)

    def break_off(self, conversation):
        conversation._wake = types.SimpleNamespace(
            clear=lambda: None, set=lambda: None, wait=lambda seconds: None)
        conversation._fail(ValueError('no reply'), 0)

    def test_one_that_fails_tells_the_listeners(self):
        self.break_off(self.conversation)
        self.assertEqual([True], self.lost)

    def test_one_that_was_replaced_tells_them_nothing(self):
        self.conversation.abandon()
        self.break_off(self.conversation)
        self.assertEqual([], self.lost)
        with self.assertRaises(updates.Replaced), self.conversation.turn():
            pass


class StopTestCase(unittest.TestCase):

    def test_one_may_be_stopped_before_its_thread_has_started(self):
        """Another thread is about to start it (Stream.conversation)."""
        stream = updates.Stream(types.SimpleNamespace(cookie='session'),
                                client=None)
        with mock.patch.object(
                updates.Conversation, 'start',
                lambda conversation: (stream.stop(), start(conversation))):
            conversation = stream.conversation()
        conversation._thread.join(LONG_SECONDS)
        self.assertFalse(conversation._thread.is_alive())


class SinksTestCase(unittest.TestCase):
    """What a conversation knows of sinks and of objects."""

    def setUp(self):
        super().setUp()
        self.client = vcenters.Client(
            CreateFilter=[vcenters.reply(
                f'<returnval type="PropertyFilter">{number}</returnval>')
                for number in range(100)],
            DestroyPropertyFilter=vcenters.reply(''))
        self.conversation = updates.Conversation(updates.Stream(
            types.SimpleNamespace(cookie='session'), self.client))
        self.conversation._collector = references.Ref('PropertyCollector', 'c')

    def update(self, kind, content):
        element = etree.fromstring(
            f'<objectSet xmlns="{soap.VIM}" xmlns:xsi="{soap.XSI}">'
            f'<kind>{kind}</kind><obj type="Datastore">d</obj>{content}'
            '</objectSet>')
        updates._pass_on(element, mock.Mock(), self.conversation._denied)

    @staticmethod
    def missing(fault):
        return (f'<missingSet><path>name</path><fault><fault xsi:type='
                f'"{fault}"/></fault></missingSet>')

    def test_those_without_a_filter_are_forgotten(self):
        class Once:
            """Unwatched as soon as it is settled."""

            def settle(once):
                self.conversation.unwatch(once.made)

        for _ in range(3):
            once = Once()
            once.made = self.conversation.watch(soap.Typed('', {}), once)
            self.conversation._settle(False)
        self.assertEqual((set(), {}), (self.conversation._begun,
                                       self.conversation._routes))

    def test_one_of_which_only_a_part_was_reported_waits(self):
        first, second = mock.Mock(), mock.Mock()
        self.conversation.watch(soap.Typed('', {}), first)
        self.conversation._settle(False)
        self.conversation.watch(soap.Typed('', {}), second)
        self.conversation._settle(True)
        self.assertEqual((2, 0), (first.settle.call_count,
                                  second.settle.call_count))

    def test_an_object_that_went_as_it_was_reported_is_denied_no_longer(self):
        self.update('enter', self.missing('NoPermission'))
        self.assertTrue(self.conversation._denied)
        self.update('modify', self.missing('ManagedObjectNotFound'))
        self.assertFalse(self.conversation._denied)


class FirstReportsTestCase(unittest.TestCase):
    """Readers wait for them, however long they take."""

    SECONDS = 10.0
    READERS = 20

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.probes = []
        self.stream = updates.Stream(
            types.SimpleNamespace(cookie='session'), client=None,
            clock=lambda: self.now)
        self.stream.probe = self.probe
        self.conversation = updates.Conversation(self.stream)
        self.answers = True
        self.errors = []

    def probe(self):
        self.probes.append(self.now)
        if not self.answers:
            raise exceptions.VimConnectionException('no reply')

    def wait(self, *steps):
        """Await the first reports; each wait takes one of these steps."""
        left = iter(steps)
        with mock.patch.object(self.conversation.decided, 'wait',
                               lambda seconds: next(left)(seconds)):
            self.conversation.await_decision(self.SECONDS)
        self.assertEqual([], list(left))

    def silence(self, seconds):
        self.now += seconds

    def report(self, seconds):
        self.now += seconds / 2
        self.conversation._advanced_at = self.now

    def end(self, seconds):
        self.conversation.decided.set()

    def test_while_they_arrive_the_vcenter_is_asked_nothing(self):
        self.wait(*[self.report] * 100, self.end)
        self.assertGreater(self.now, 20 * self.SECONDS)
        self.assertEqual([], self.probes)

    def test_a_vcenter_that_works_on_them_is_asked_after_each_silence(self):
        self.wait(self.silence, self.silence, self.report, self.silence,
                  self.end)
        self.assertEqual([10, 20, 35], self.probes)

    def test_a_vcenter_that_does_not_answer_is_an_error(self):
        self.answers = False
        self.assertRaises(exceptions.VimConnectionException, self.wait,
                          self.silence)

    def readers(self):
        """Many threads that wait at once."""
        def read():
            try:
                self.conversation.await_decision(self.SECONDS)
            except exceptions.VimConnectionException as error:
                self.errors.append(error)
        threads = [threading.Thread(target=read, daemon=True)
                   for _ in range(self.READERS)]
        self.now = self.SECONDS
        for each in threads:
            each.start()
        return threads

    def test_one_of_many_readers_asks_for_all(self):
        threads = self.readers()
        while not self.probes:
            threads[0].join(0.01)
        self.conversation.decided.set()
        for each in threads:
            each.join(LONG_SECONDS)
        self.assertEqual(([10], []), (self.probes, self.errors))

    def test_all_get_the_error_of_the_one_that_asked(self):
        self.answers = False
        for each in self.readers():
            each.join(LONG_SECONDS)
        self.assertEqual(([10], self.READERS),
                         (self.probes, len(self.errors)))


if __name__ == '__main__':
    unittest.main()
