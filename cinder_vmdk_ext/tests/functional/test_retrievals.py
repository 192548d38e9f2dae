# SPDX-License-Identifier: Apache-2.0
"""Pages, ``missingSet`` and empty replies of a vCenter are read right.

A vCenter answers with at most 100 objects and a token. It reports the end of a
session in place of properties, with HTTP 200, or by an empty reply.
"""

import unittest
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util
from pyVmomi import vim

from cinder_vmdk_ext.backings import verified_ops
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_sessions
from cinder_vmdk_ext.vsphere import soap


class PagesTestCase(test_sessions.SessionCase):
    """More objects than fit into a page."""

    flags = {'ds': 1, 'host': 1, 'vm': 105, 'cluster': 1, 'autostart': False}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = cls.log_in()
        cls.http = soap.Client(cls.made.https)
        cls.addClassCleanup(cls.http.close)

    def setUp(self):
        super().setUp()
        self.ops = verified_ops.VerifiedOps(self.made, 100, 'key', 'type',
                                            client=self.http)
        self.vms = {each._moId for each in self.all(vim.VirtualMachine)}
        self.assertGreater(len(self.vms), 100)

    def test_all_vms_are_read_in_bulk(self):
        found = self.ops.read_all_backings().all
        self.assertEqual(self.vms, {each.moref for each in found})

    def test_the_disks_of_all_vms_that_are_named_are_read(self):
        found = self.ops.disks_of(self.vms)
        self.assertEqual(self.vms, set(found))
        self.assertTrue(all(found.values()))

    def test_of_many_vms_only_those_that_are_gone_are_left_out(self):
        found = self.ops.read_vms([*self.vms, 'vm-0'], ('name',))
        self.assertEqual(self.vms, {ref.value for ref in found})
        self.assertEqual({}, self.ops.read_vms(['vm-0'], ('name',)))

    def test_upstreams_reads_have_all_objects_in_their_first_page(self):
        for most in (100, 7):
            found = self.made.invoke_api(
                vim_util, 'get_objects', self.made.vim, 'VirtualMachine',
                most, ['name'])
            self.assertEqual(self.vms, {each.obj.value
                                        for each in found.objects})
            self.assertIsNone(self.made.invoke_api(
                vim_util, 'continue_retrieval', self.made.vim, found))

    def test_a_session_that_ends_between_pages_begins_the_read_again(self):
        for how in ({'kill_sessions': 'caller'},
                    {'kill_sessions': 'caller', 'empty': True}):
            self.sim.fault(method='ContinueRetrievePropertiesEx', count=1,
                           **how)
            self.assertEqual(self.vms, set(self.ops.disks_of(self.vms)))
            self.assertEqual([1], [each['hits'] for each
                                   in self.sim.faults()])
            self.sim.reset_faults()

    def test_a_page_that_does_not_come_is_an_error_or_asked_for_again(self):
        self.sim.fault(method='ContinueRetrievePropertiesEx', count=1,
                       cut='after')
        self.assertEqual(self.vms, set(self.ops.disks_of(self.vms)))
        self.sim.fault(method='ContinueRetrievePropertiesEx', count=1,
                       cut='after')
        self.assertRaises(vmware_exceptions.VimConnectionException,
                          self.ops.read_all_backings)


class LostSessionTestCase(backend_case.BackendCase):
    """A vCenter restarts during an operation: no session lives on.

    Each retrieval of the operation, one after the other, is the one that
    hears of it.
    """

    OPTIONS = {'vmware_snapshot_format': 'COW'}
    WAYS = ({'kill_sessions': 'caller'},
            {'kill_sessions': 'caller', 'empty': True})

    def at_each_retrieval(self, prepare, act, check):
        for way in self.WAYS:
            skip = 0
            while True:
                subject = prepare()
                self.control.fault(method='RetrievePropertiesEx', count=1,
                                   skip=skip, **way)
                act(subject)
                hits = self.control.faults()[0]['hits']
                self.control.reset_faults()
                check(subject)
                if not hits:
                    break
                skip += 1
            self.assertGreater(skip, 0, 'nothing is retrieved')

    def test_a_deleted_snapshot_is_gone(self):
        volume = self.create()
        self.at_each_retrieval(
            lambda: self.snapshot(volume), self.driver.delete_snapshot,
            lambda snapshot: self.assertIsNone(
                self.truth(volume).vm.snapshot))

    def test_a_deleted_volume_is_gone(self):
        """Its call was not executed, and to look whether it was ..."""
        def delete(volume):
            self.control.fault(method='Destroy_Task', count=1, cut='before')
            self.assertRaises(exceptions.OutcomeUnknown,
                              self.driver.delete_volume, volume)
            self.assertEqual([volume.name], list(self.shadow_vms()))
            self.driver.delete_volume(volume)
        self.at_each_retrieval(
            self.create, delete,
            lambda volume: self.assertEqual({}, self.shadow_vms()))

    def test_a_snapshot_that_is_there_is_found(self):
        volume = self.create()
        names = []

        def check(snapshot):
            names.append(snapshot.name)
            self.assertEqual(set(names), set(self.driver.volumeops.snapshots(
                self.driver.volumeops.get_backing(volume.name, volume.id))))
        self.at_each_retrieval(lambda: self.new_snapshot(volume),
                               self.driver.create_snapshot, check)

    def test_an_empty_reply_of_a_good_session_is_no_absence(self):
        volume = self.create()
        snapshot = self.snapshot(volume)
        self.control.fault(method='RetrievePropertiesEx', empty=True)
        with self.driver_that_gives_up():
            self.assertRaises(vmware_exceptions.VMwareDriverException,
                              self.driver.delete_snapshot, snapshot)
        self.control.reset_faults()
        self.assertIsNotNone(self.truth(volume).vm.snapshot)
        self.control.fault(method='RetrievePropertiesEx', count=1, empty=True)
        self.driver.delete_snapshot(snapshot)
        self.assertIsNone(self.truth(volume).vm.snapshot)

    def driver_that_gives_up(self):
        return mock.patch.object(self.driver.session, '_api_retry_count', 2)


if __name__ == '__main__':
    unittest.main()
