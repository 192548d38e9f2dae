# SPDX-License-Identifier: Apache-2.0
"""Figures of changed datastores are refreshed, at a limited rate."""

import functools
import threading
import unittest
from unittest import mock

from oslo_vmware import exceptions

from cinder_vmdk_ext.inventory import refresher


class RefresherTestCase(unittest.TestCase):
    """One that runs by a clock of the test."""

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.pending = {}
        self.calls = []
        self.error = None
        self.refresher = refresher.Refresher(self, self, lambda: self.now)
        self.waits = []
        # What the thread waits for passes at once.
        self.refresher._stopped = self

    # As the vCenter, the books and the event that ends the thread.

    def call(self, method, this):
        self.calls.append((self.now, method, this.value))
        if self.error is not None:
            raise self.error

    def changed(self):
        return self.pending

    def refreshed(self, moref, begun_at):
        if self.pending.get(moref, begun_at) <= begun_at:
            self.pending.pop(moref, None)

    def is_set(self):
        return len(self.waits) > 10

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def run_until_it_ends(self):
        self.refresher.wake()
        thread = self.refresher._thread
        if thread is not None:  # it may have ended
            thread.join(60)
            self.assertFalse(thread.is_alive())
        return [(at, moref) for at, _method, moref in self.calls]

    def test_a_changed_datastore_is_refreshed_once_after_a_while(self):
        self.pending = {'datastore-1': 995.0}
        self.assertEqual([(995.0 + refresher.DELAY_SECONDS, 'datastore-1')],
                         self.run_until_it_ends())
        self.assertEqual('RefreshDatastoreStorageInfo', self.calls[0][1])

    def test_one_after_the_other(self):
        self.pending = {'datastore-1': 1000.0, 'datastore-2': 990.0}
        self.assertEqual(['datastore-2', 'datastore-1'], [
            moref for _at, moref in self.run_until_it_ends()])

    def test_one_that_changes_again_waits_for_the_interval(self):
        self.pending = {'datastore-1': 1000.0}
        [(first, _moref)] = self.run_until_it_ends()
        self.pending = {'datastore-1': self.now + 1}
        [_first, (second, _moref)] = self.run_until_it_ends()
        self.assertEqual(refresher.INTERVAL_SECONDS, second - first)

    def test_another_one_that_changes_meanwhile_does_not_wait_for_it(self):
        self.pending = {'datastore-1': 1000.0}
        self.run_until_it_ends()
        begun = self.now
        self.pending = {'datastore-1': begun}
        self.wait = self.change_and_wait
        self.run_until_it_ends()
        self.assertEqual(
            [(begun + refresher.DELAY_SECONDS, 'datastore-2'),
             (begun + refresher.INTERVAL_SECONDS, 'datastore-1')],
            [(at, moref) for at, _method, moref in self.calls[1:]])

    def change_and_wait(self, seconds):
        self.wait = functools.partial(type(self).wait, self)
        self.pending['datastore-2'] = self.now
        self.wait(seconds)

    def test_one_that_refuses_is_asked_again_after_the_interval(self):
        self.error = exceptions.VimFaultException(
            ['NoPermission'], 'System.Read')
        self.pending = {'datastore-1': 1000.0}
        with self.assertLogs(refresher.__name__, 'INFO') as logs:
            calls = self.run_until_it_ends()
        self.assertEqual({refresher.INTERVAL_SECONDS}, {
            after - before for (before, _), (after, _)
            in zip(calls, calls[1:], strict=False)})
        self.assertEqual(1, len(logs.output), logs.output)

    def test_one_that_is_gone_needs_none(self):
        self.error = exceptions.VimFaultException(
            ['ManagedObjectNotFound'], 'gone')
        self.pending = {'datastore-1': 1000.0}
        self.assertEqual(1, len(self.run_until_it_ends()))

    def test_a_thread_that_cannot_be_started_is_started_later(self):
        self.pending = {'datastore-1': 1000.0}
        with (mock.patch.object(threading.Thread, 'start',
                                side_effect=RuntimeError('no thread')),
              self.assertLogs(refresher.__name__, 'WARNING')):
            self.refresher.wake()
        self.assertEqual(1, len(self.run_until_it_ends()))

    def test_the_thread_ends_when_nothing_is_left(self):
        self.pending = {'datastore-1': 1000.0}
        self.run_until_it_ends()
        self.assertIsNone(self.refresher._thread)


if __name__ == '__main__':
    unittest.main()
