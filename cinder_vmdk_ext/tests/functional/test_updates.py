# SPDX-License-Identifier: Apache-2.0
"""The long poll is restarted after a failure, or reports the failure."""

import os
import signal
import time
from unittest import mock

from oslo_vmware import exceptions
from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import live_view_case
from cinder_vmdk_ext.vsphere import transport
from cinder_vmdk_ext.vsphere import updates
from sandbox import service_user


class LossTestCase(live_view_case.LiveViewCase):

    def test_a_lost_session_is_replaced_and_the_view_made_anew(self):
        self.synced()
        begun = time.monotonic()
        self.sim.kill_sessions(self.login.user)
        fresh = self.view.read()
        self.assertLess(time.monotonic() - begun, updates.WAIT_SECONDS)
        self.assertEqual(5, len(fresh.datastores))
        self.assertFollows()

    def test_a_collector_that_is_gone_is_made_anew(self):
        self.synced()
        rule = self.sim.fault(
            method='WaitForUpdatesEx', count=1,
            fault={'type': 'ManagedObjectNotFound'})
        self.datastore('LocalDS_1').RenameDatastore('Silver')
        self.addCleanup(self.datastore('Silver').RenameDatastore, 'LocalDS_1')
        self.until(lambda: self.sim.faults()[0]['hits'] == 1, 120)
        self.sim.remove_fault(rule)
        self.synced()
        self.assertFollows()

    def test_a_reply_that_is_lost_is_no_change_that_is_lost(self):
        self.synced()
        self.sim.fault(method='WaitForUpdatesEx', count=1, cut='after')
        for name in ('Bronze', 'LocalDS_1'):
            self.datastore('LocalDS_1' if name == 'Bronze' else 'Bronze'
                           ).RenameDatastore(name)
        self.assertFollows()

    def test_while_the_poll_is_refused_each_read_goes_to_the_vcenter(self):
        self.sim.fault(method='WaitForUpdatesEx',
                       fault={'type': 'NoPermission'})
        self.assertEqual(self.reader.read(), self.view.read())
        self.assertIsNone(self.view.known())
        self.sim.reset_faults()
        self.synced()
        self.assertFollows()

    def test_collectors_and_views_do_not_pile_up_in_the_vcenter(self):
        self.sim.fault(method='WaitForUpdatesEx', count=3,
                       fault={'type': 'InvalidCollectorVersion'})
        self.sim.reset_journal()
        self.view.read()
        self.until(lambda: self.calls().get('DestroyView', 0) >= 3)
        self.synced()
        calls = self.calls()
        self.assertEqual(
            (1, 1), (calls['CreatePropertyCollector']
                     - calls['DestroyPropertyCollector'],
                     calls['CreateContainerView'] - calls['DestroyView']))

    def test_what_was_not_reached_to_be_destroyed_is_destroyed_later(self):
        self.view.read()
        self.synced()
        before = self.sim.watching()
        datastore = self.all(vim.Datastore)[0]
        self.sim.fault(method='Destroy.*|Create.*', count=3, cut='before')
        self.sim.fault(method='WaitForUpdatesEx', count=1,
                       fault={'type': 'InvalidCollectorVersion'})
        self.sim.reset_journal()
        datastore.RenameDatastore('another-name')
        self.until(lambda: self.calls().get('DestroyView', 0) >= 1)
        self.synced()
        self.until(lambda: self.sim.watching() == before,
                   message=lambda: f'{before}, {self.sim.watching()}')

    def test_a_view_whose_making_was_not_heard_of_is_destroyed(self):
        self.view.read()
        self.synced()
        before = self.sim.watching()
        self.sim.fault(method='CreateContainerView', count=1, cut='after')
        self.sim.reset_journal()
        self.assertRaises(exceptions.VimConnectionException, self.reader.read)
        # No other is made; the long poll looks for it when it has returned.
        self.all(vim.Datastore)[0].RenameDatastore('renamed-after-a-loss')
        self.until(lambda: self.calls().get('DestroyView', 0) >= 1)
        self.until(lambda: self.sim.watching() == before,
                   message=lambda: f'{before}, {self.sim.watching()}')


class RestartTestCase(live_view_case.LiveViewCase):

    def test_a_vcenter_that_restarts_is_followed_again(self):
        known = self.synced()
        port = self.vcenter.port
        self.vcenter.stop()
        self.until(lambda: self.view.known() is None)
        with self.assertRaises(exceptions.VimConnectionException):
            self.view.read()
        self.vcenter.start(l=f'127.0.0.1:{port}', ds=6)
        self.sim.url = self.vcenter.control_url
        service_user.of(self.vcenter)
        # It has a certificate of its own.
        self.http.close()
        self.session.https._pool = transport.Transport(
            self.vcenter.host, port,
            transport.Trust(self.vcenter.cacert))._pool
        self.until(lambda: self.view.known() is not None, 120)
        self.assertEqual(len(known.datastores) + 1,
                         len(self.view.read().datastores))
        self.assertFollows()


class EndedSessionTestCase(live_view_case.LiveViewCase):
    """The poll learns in a manner of its own that its session has ended."""

    def test_an_empty_answer_is_not_taken_for_nothing_new(self):
        self.synced()
        for way in ({'kill_sessions': 'caller'},
                    {'kill_sessions': 'caller', 'empty': True}):
            self.sim.fault(method='WaitForUpdatesEx', count=1, **way)
            self.sim.reset_journal()
            for before, after in (('LocalDS_1', 'Gold'),
                                  ('Gold', 'LocalDS_1')):
                self.datastore(before).RenameDatastore(after)
                self.assertFollows(way)
            self.assertEqual([1], [each['hits'] for each
                                   in self.sim.faults()])
            self.sim.reset_faults()
            self.assertLess(self.sim.journal()['methods'][
                'WaitForUpdatesEx']['calls'], 20)


class FrozenTestCase(live_view_case.LiveViewCase):
    """The vCenter's process hangs: it takes connections, and no more."""

    def setUp(self):
        super().setUp()
        # Between the second second and the fifth, memory is old and is used.
        patch = mock.patch.multiple(updates, WAIT_SECONDS=1, GRACE_SECONDS=4,
                                    PROBE_SECONDS=1)
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(os.kill, self.vcenter.pid, signal.SIGCONT)

    def test_what_memory_holds_ages_and_then_is_not_believed(self):
        self.synced()
        os.kill(self.vcenter.pid, signal.SIGSTOP)
        self.until(lambda: self.view.age_seconds() > 1
                   and self.view.known() is not None)
        self.until(lambda: self.view.known() is None)
        begun = time.monotonic()
        with self.assertRaises(exceptions.VimConnectionException):
            self.view.read()
        # Another read would wait for minutes.
        self.assertLess(time.monotonic() - begun, 30)
        os.kill(self.vcenter.pid, signal.SIGCONT)
        self.until(lambda: self.view.known() is not None
                   and self.view.age_seconds() < 2)
