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


class LockingTestCase(unittest.TestCase):

    def test_without_the_coordination_service_nothing_is_done(self):
        with mock.patch.object(coordination.COORDINATOR, 'start',
                               side_effect=tooz.ToozError('down')):
            with self.assertRaises(exceptions.LockUnavailable):
                with backend.locking():
                    self.fail('without the locks')


if __name__ == '__main__':
    unittest.main()
