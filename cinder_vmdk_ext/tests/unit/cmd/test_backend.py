# SPDX-License-Identifier: Apache-2.0
"""The command finds the backends that this driver serves."""

import os
import tempfile
import unittest
from unittest import mock

from oslo_config import cfg
from tooz import coordination as tooz

from cinder import coordination

from cinder_vmdk_ext.cmd import backend
from cinder_vmdk_ext import exceptions

DRIVER = 'cinder_vmdk_ext.driver.VmdkExtDriver'


class NamesTestCase(unittest.TestCase):

    def names(self, wanted=None, more={}, **drivers):
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.ListOpt('enabled_backends'))
        conf([])
        conf.set_override('enabled_backends', list(drivers))
        for name, driver in drivers.items():
            conf.register_opt(cfg.StrOpt('volume_driver'), group=name)
            conf.set_override('volume_driver', driver, group=name)
        with mock.patch.object(backend.cinder_config, 'CONF', conf):
            return backend.names(wanted, **more)

    def test_backends_of_other_drivers_are_left_out(self):
        self.assertEqual(['a', 'c'], self.names(
            a=DRIVER, b='cinder.volume.drivers.lvm.LVM', c=DRIVER))
        self.assertEqual(['c'], self.names('c', a=DRIVER, c=DRIVER))

    def test_before_a_switch_those_of_upstreams_driver_count_too(self):
        drivers = {'a': DRIVER, 'b': 'cinder.volume.drivers.vmware.vmdk.'
                   'VMwareVcVmdkDriver', 'c': 'another'}
        self.assertEqual(['a'], self.names(**drivers))
        self.assertEqual(['a', 'b'], self.names(
            more={'upstream': True}, **drivers))

    def test_one_that_is_not_there_is_refused_with_those_that_are(self):
        with self.assertRaisesRegex(exceptions.InvalidSettings,
                                    "'b'.*name one of: a"):
            self.names('b', a=DRIVER, b='another')

    def test_none_at_all_is_an_error(self):
        with self.assertRaisesRegex(exceptions.InvalidSettings,
                                    'enabled_backends'):
            self.names(b='another')


class LockingTestCase(unittest.TestCase):

    def test_without_the_coordination_service_nothing_is_done(self):
        with mock.patch.object(backend, '_hosts_up', return_value=[]), \
                mock.patch.object(coordination.COORDINATOR, 'start',
                                  side_effect=tooz.ToozError('down')):
            with self.assertRaises(exceptions.LockUnavailable):
                with backend.locking():
                    self.fail('without the locks')

    def locked_in(self, url, hosts=()):
        conf = mock.Mock()
        conf.coordination.backend_url = url
        with mock.patch.object(backend, '_hosts_up', return_value=hosts), \
                mock.patch.object(backend.cinder_config, 'CONF', conf), \
                mock.patch.object(coordination.COORDINATOR, 'start'), \
                mock.patch.object(coordination.COORDINATOR, 'stop'), \
                backend.locking():
            return True

    def test_no_lock_file_is_made_that_the_services_cannot_open(self):
        with tempfile.TemporaryDirectory() as path:
            url = f'file://{path}'
            self.assertTrue(self.locked_in(url))
            with mock.patch.object(backend.os, 'geteuid',
                                   return_value=os.geteuid() + 1), \
                    mock.patch.object(backend.os, 'stat') as stat:
                stat.return_value.st_uid = 64055
                with self.assertRaisesRegex(
                        exceptions.LockUnavailable,
                        f'{path} belongs to user 64055; run .* as that user'):
                    self.locked_in(url)
        self.assertTrue(self.locked_in('etcd3+http://locks:2379', ['a', 'b']))

    def test_files_that_no_running_service_sees_are_refused(self):
        with tempfile.TemporaryDirectory() as path:
            url = f'file://{path}/none'
            with self.assertRaisesRegex(exceptions.LockUnavailable,
                                        'the service node1 runs on another'):
                self.locked_in(url, ['node1'])
            self.assertTrue(self.locked_in(url))

    def test_files_for_services_of_several_hosts_are_warned_of(self):
        with tempfile.TemporaryDirectory() as path:
            with self.assertNoLogs('cinder-vmdk-ext'):
                self.locked_in(f'file://{path}', ['node1'])
            with self.assertLogs('cinder-vmdk-ext', 'WARNING') as logs:
                self.locked_in(f'file://{path}', ['node1', 'node2'])
        self.assertIn("the services 'node1', 'node2' run", logs.output[0])


if __name__ == '__main__':
    unittest.main()
