# SPDX-License-Identifier: Apache-2.0
"""A property that the user may not read is the reason of its pool."""

import time
from unittest import mock

from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.vsphere import denied

USER = 'cinder'


class DeniedPoolsTestCase(backend_case.BackendCase):
    """A user who may do everything but what a test takes away."""

    @classmethod
    def set_up_driver(cls, **options):
        cls.control.grant(
            [{'name': USER, 'password': 'secret'}],
            permissions=[{'entity': '/', 'user': USER, 'role': 'Admin'}])
        return super().set_up_driver(**options, vmware_host_username=USER,
                                     vmware_host_password='secret')

    def take_away(self, entity):
        """Let the user see that the object is there, and no more."""
        self.control.grant(permissions=[
            {'entity': entity._moId, 'user': USER, 'role': 'View',
             'propagate': False}])
        self.addCleanup(
            self.service.content.authorizationManager.RemoveEntityPermission,
            entity, USER, False)

    def assertDenied(self, reason, entity, path):
        self.assertIn(f'{path} cannot be read: NoPermission, the privilege '
                      'System.Read is missing on '
                      f'{type(entity).__name__.rpartition(".")[2]} '
                      f'{entity._moId}', reason)

    def pools(self):
        return {pool['pool_name']: pool for pool
                in self.make_driver().get_volume_stats(refresh=True)['pools']}

    def test_a_datastore_that_cannot_be_read_stays_and_says_so(self):
        datastore = self.datastore('LocalDS_1')
        self.take_away(datastore)
        pools = self.pools()
        self.assertEqual('permission', pools['LocalDS_1']['pool_state'])
        self.assertDenied(pools['LocalDS_1']['pool_state_reason'], datastore,
                          'summary.uncommitted')
        self.assertEqual('available', pools['LocalDS_2']['pool_state'])

    def test_what_is_granted_later_is_used_without_a_restart(self):
        datastore = self.datastore('LocalDS_1')
        self.control.grant(permissions=[
            {'entity': datastore._moId, 'user': USER, 'role': 'View',
             'propagate': False}])
        with mock.patch.object(denied, 'PAUSE_SECONDS', 0):
            made = self.make_driver()
            self.assertEqual('permission', self.state_of(made, 'LocalDS_1'))
            self.service.content.authorizationManager.RemoveEntityPermission(
                datastore, USER, False)
            # A change of another object ends the wait of the poll.
            other = self.datastore('LocalDS_2')
            self.addCleanup(other.RenameDatastore, 'LocalDS_2')
            other.RenameDatastore('another')
            deadline = time.monotonic() + 60
            while self.state_of(made, 'LocalDS_1') != 'available':
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)

    @staticmethod
    def state_of(made, name):
        return {pool['pool_name']: pool['pool_state'] for pool
                in made.get_volume_stats(refresh=True)['pools']}[name]

    def test_nothing_is_placed_where_nothing_can_be_read(self):
        datastore = self.datastore('LocalDS_1')
        self.take_away(datastore)
        volume = self.new_volume('LocalDS_1')
        error = self.assertRaises(
            exceptions.NoPlacement,
            self.make_driver()._select_ds_for_volume, volume)
        self.assertDenied(str(error), datastore, 'summary.uncommitted')

    def test_a_vm_that_cannot_be_read_is_named_with_the_privilege(self):
        vm = self.instances()[0]
        self.take_away(vm)
        made = self.make_driver()
        with self.assertLogs('cinder_vmdk_ext.backings', 'WARNING') as logged:
            found = made.volumeops.read_backings()
        self.assertIn(vm._moId, [each.moref for each in found.all])
        self.assertIn('NoPermission, the privilege System.Read is missing on '
                      f'VirtualMachine {vm._moId}', logged.output[0])

    def test_hosts_whose_state_cannot_be_read_are_the_reason(self):
        hosts = self.all(vim.HostSystem)
        for host in hosts:
            self.take_away(host)
        pool = self.pools()['LocalDS_1']
        self.assertEqual(('permission', 0), (pool['pool_state'],
                                             pool['free_capacity_gb']))
        for host in hosts:
            self.assertDenied(pool['pool_state_reason'], host,
                              'runtime.inMaintenanceMode')
