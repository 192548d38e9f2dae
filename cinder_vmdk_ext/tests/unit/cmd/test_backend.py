# SPDX-License-Identifier: Apache-2.0
"""The command finds the backends that this driver serves."""

import unittest
from unittest import mock

from oslo_config import cfg
from tooz import coordination as tooz

from cinder import coordination

from cinder_vmdk_ext.cmd import backend
from cinder_vmdk_ext import exceptions

DRIVER = 'cinder_vmdk_ext.driver.VmdkExtDriver'


class NamesTestCase(unittest.TestCase):

    def names(self, wanted=None, **drivers):
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.ListOpt('enabled_backends'))
        conf([])
        conf.set_override('enabled_backends', list(drivers))
        for name, driver in drivers.items():
            conf.register_opt(cfg.StrOpt('volume_driver'), group=name)
            conf.set_override('volume_driver', driver, group=name)
        with mock.patch.object(backend.cinder_config, 'CONF', conf):
            return backend.names(wanted)

    def test_backends_of_other_drivers_are_left_out(self):
        self.assertEqual(['a', 'c'], self.names(
            a=DRIVER, b='cinder.volume.drivers.lvm.LVM', c=DRIVER))
        self.assertEqual(['c'], self.names('c', a=DRIVER, c=DRIVER))

    def test_one_that_is_not_there_is_refused_with_those_that_are(self):
        with self.assertRaisesRegex(exceptions.InvalidSettings,
                                    "'b'.*name one of: a"):
            self.names('b', a=DRIVER, b='another')

    def test_none_at_all_is_an_error(self):
        with self.assertRaisesRegex(exceptions.InvalidSettings,
                                    'enabled_backends'):
            self.names(b='another')


class ConnectionTestCase(unittest.TestCase):

    def test_it_is_that_of_the_section_with_the_drivers_defaults(self):
        conf = backend.cinder_config.CONF
        found = backend.connection('one-of-several')
        conf.set_override('vmware_host_ip', 'vc.example.com',
                          'one-of-several')
        self.addCleanup(conf.clear_override, 'vmware_host_ip',
                        'one-of-several')
        self.assertEqual(('vc.example.com', 443, None, False), (
            found.vmware_host_ip, found.vmware_host_port,
            found.vmware_ca_file, found.vmware_insecure))


class OwnerTestCase(unittest.TestCase):

    ID = '11111111-2222-3333-4444-555555555555'

    def test_what_cinder_names_so_is_cinders(self):
        for path, words in (
                (f'volume-{self.ID}/a.vmdk', self.ID),
                (f'x/volume-{self.ID}_1.vmdk', self.ID),
                (f'snapshot-{self.ID}/a.vmdk', self.ID),
                ('openstack-quarantine/a.vmdk', 'quarantine list'),
                ('cinder_temp/a/b.vmdk', 'audit')):
            with self.subTest(path):
                self.assertIn(words, backend.owner_of(path))

    def test_anything_else_is_not(self):
        for path in ('a.vmdk', 'tools/volume.vmdk', f'x/{self.ID}.vmdk',
                     'my-cinder_temp/a.vmdk'):
            self.assertEqual('', backend.owner_of(path))


class LockingTestCase(unittest.TestCase):

    def test_without_the_coordination_service_nothing_is_done(self):
        with mock.patch.object(coordination.COORDINATOR, 'start',
                               side_effect=tooz.ToozError('down')):
            with self.assertRaises(exceptions.LockUnavailable):
                with backend.locking():
                    self.fail('without the locks')


if __name__ == '__main__':
    unittest.main()
