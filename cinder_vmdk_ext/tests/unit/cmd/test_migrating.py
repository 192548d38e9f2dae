# SPDX-License-Identifier: Apache-2.0
"""An interrupt ends `migrate run` after a move, a second one at once."""

import argparse
import os
import signal
import types
import unittest
from unittest import mock

from cinder_vmdk_ext.cmd import draining
from cinder_vmdk_ext.cmd import migrating
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.tests.unit import worlds


GOLD = argparse.Namespace(pool='gold', to=[], reason='x', yes=True,
                          dry_run=False)


def opening(**backends):
    """What stands for the ``opened`` of a command with these backends."""
    return lambda _args, only=None: [
        (name, each) for name, each in backends.items()
        if only is None or name in only]


class EndingTestCase(unittest.TestCase):

    def test_the_first_is_noted_and_the_second_interrupts(self):
        before = signal.getsignal(signal.SIGINT)
        with self.assertRaises(KeyboardInterrupt), (
                migrating.ending()) as ended:
            self.assertFalse(ended)
            os.kill(os.getpid(), signal.SIGINT)
            self.assertTrue(ended)
            os.kill(os.getpid(), signal.SIGINT)
        self.assertEqual(before, signal.getsignal(signal.SIGINT))


class TwinsTestCase(unittest.TestCase):
    """One NFS export that the vCenter shows as two datastores."""

    def setUp(self):
        super().setUp()
        self.seen = worlds.inventory(
            worlds.datastore('datastore-1', 'gold', url='ds:///export/'),
            worlds.datastore('datastore-2', 'silver', url='ds:///export/'),
            worlds.datastore('datastore-3', 'tin', url='ds:///another/'))
        self.settings = worlds.settings(drain_attribute='state')
        self.opened = types.SimpleNamespace(
            settings=self.settings, inventory=lambda: self.seen)

    def test_a_drain_reaches_both(self):
        command = draining.DrainPool(mock.MagicMock(), None)
        command.opened = opening(vmdk=self.opened)
        with mock.patch.object(draining, '_set') as changed:
            rows = command.rows(GOLD)
        self.assertEqual([('gold', 'drained'), ('silver', 'drained')],
                         [(row[1], row[-1]) for row in rows])
        self.assertEqual(['gold', 'silver'], [
            call.args[2].name for call in changed.mock_calls])

    def test_only_backends_that_have_the_pool_need_the_attribute(self):
        foreign = types.SimpleNamespace(
            settings=worlds.settings(drain_attribute=''),
            inventory=worlds.inventory)
        command = draining.DrainPool(mock.MagicMock(), None)
        command.opened = opening(foreign=foreign, vmdk=self.opened)
        with mock.patch.object(draining, '_set'):
            rows = command.rows(GOLD)
        self.assertEqual({'vmdk'}, {row[0] for row in rows})

    def test_no_pool_is_drained_if_a_later_backend_has_no_attribute(self):
        another = types.SimpleNamespace(
            settings=worlds.settings(drain_attribute=''),
            inventory=lambda: self.seen)
        command = draining.DrainPool(mock.MagicMock(), None)
        command.opened = opening(vmdk=self.opened, another=another)
        with mock.patch.object(draining, '_set') as changed, (
                self.assertRaisesRegex(ValueError, 'backend another has no')):
            command.rows(GOLD)
        changed.assert_not_called()

    def test_no_pool_is_emptied_if_a_later_backend_refuses(self):
        another = types.SimpleNamespace(settings=self.settings,
                                        inventory=lambda: self.seen)
        command = migrating.RunMigrate(mock.MagicMock(), None)
        command.opened = opening(vmdk=self.opened, another=another)
        command.check = mock.Mock(side_effect=[None, ValueError('refused')])
        with mock.patch.object(migrating.evacuate, 'Evacuation') as begun, (
                self.assertRaisesRegex(ValueError, 'refused')):
            command.rows(GOLD)
        begun.assert_not_called()

    def test_a_pool_is_not_emptied_while_its_twin_takes_volumes(self):
        pool, = [each for each in pool_names.listed(self.seen, self.settings)
                 if each.name == 'gold']
        drained = mock.Mock(code='drain', passing=True)
        foreign = mock.Mock(code='name', passing=False)
        command = migrating.RunMigrate(mock.MagicMock(), None)
        for twin, refused in ((None, True), (drained, False),
                              (foreign, False)):
            reasons = {'gold': drained, 'silver': twin}
            with self.subTest(twin), mock.patch.object(
                    migrating.eligibility, 'ineligibility',
                    lambda each, *_more: reasons[each.name]):
                if not refused:
                    command.check(self.opened, [pool])
                    continue
                with self.assertRaisesRegex(ValueError, 'silver takes new'):
                    command.check(self.opened, [pool])
