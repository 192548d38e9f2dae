# SPDX-License-Identifier: Apache-2.0
"""Locks are acquired once, in one order, and released."""

import inspect
import tempfile
import threading
import unittest
from unittest import mock

from oslo_config import cfg
from tooz import coordination as tooz

from cinder import coordination

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import hooks
from cinder_vmdk_ext import locks


class Lock:
    """One of a coordination service that is not there."""

    def __init__(self, taken, name, answer=True):
        self._taken = taken
        self._name = name
        self._answer = answer

    def acquire(self, blocking):
        if isinstance(self._answer, Exception):
            raise self._answer
        self._taken.append(self._name)
        return self._answer

    def release(self):
        self._taken.append(f'-{self._name}')
        raise tooz.ToozError('gone')


class CannedTestCase(unittest.TestCase):
    """What is asked of the service."""

    def setUp(self):
        super().setUp()
        self.taken = []
        self.answer = True
        coordinator = mock.Mock()
        coordinator.get_lock.side_effect = (
            lambda name: Lock(self.taken, name, self.answer))
        self.enterContext(mock.patch.object(coordination, 'COORDINATOR',
                                            coordinator))

    def test_several_are_taken_in_one_order_and_once(self):
        with locks.volumes('b', 'a', 'b'):
            with locks.volumes('a'), locks.volume_if_free('b') as had:
                self.assertTrue(had)
            self.assertEqual(['vmdk-ext-volume-a', 'vmdk-ext-volume-b'],
                             self.taken)

    def test_one_that_cannot_be_given_back_spoils_nothing(self):
        with self.assertLogs(locks.__name__, 'WARNING'):
            with locks.volumes('a'):
                pass
        self.assertEqual(['vmdk-ext-volume-a', '-vmdk-ext-volume-a'],
                         self.taken)

    def test_without_the_service_nothing_is_begun(self):
        for answer in (tooz.ToozConnectionError('refused'),
                       PermissionError('not yours'), False):
            self.answer = answer
            with self.subTest(answer=answer):
                with self.assertRaises(exceptions.LockUnavailable) as caught:
                    with locks.volumes('a'):
                        self.fail('begun')
                self.assertIn('backend_url', str(caught.exception))
                self.assertIn('vmdk-ext-volume-a', str(caught.exception))

    def test_the_name_of_a_folder_is_short_whatever_its_path(self):
        with locks.folder('a' * 36, '/datacenter-2/' + 'b' * 500):
            self.assertLess(len(f'cinder-{self.taken[0]}'), 64)

    def test_a_template_does_not_keep_its_volume_busy(self):
        class Taker:
            backend = mock.MagicMock()

            @hooks.hook(locks_on=('snapshot', 'volume'))
            def take(self, volume, snapshot):
                return volume['id']
        self.assertEqual('a', Taker().take({'id': 'a'}, snapshot={
            'provider_location': 'path', 'volume': {'id': 'b'}}))
        self.assertEqual(['vmdk-ext-volume-a', '-vmdk-ext-volume-a'],
                         self.taken)
        Taker().take({'id': 'a'}, {'provider_location': None,
                                   'volume': {'id': 'b'}})
        self.assertEqual(['vmdk-ext-volume-a', 'vmdk-ext-volume-b'],
                         self.taken[2:4])


class RealTestCase(unittest.TestCase):
    """Files, as on one host."""

    def setUp(self):
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        cfg.CONF.set_override('backend_url', f'file://{folder}',
                              'coordination')
        self.addCleanup(cfg.CONF.clear_override, 'backend_url',
                        'coordination')
        coordination.COORDINATOR.start()
        self.addCleanup(coordination.COORDINATOR.stop)

    def test_another_thread_has_it_afterwards(self):
        results = []

        def other():
            with locks.volume_if_free('a') as had:
                results.append(had)
            entered.set()
            with locks.volumes('a'):
                results.append('at last')
        entered = threading.Event()
        thread = threading.Thread(target=other)
        with locks.volumes('a'):
            thread.start()
            entered.wait(60)
            results.append('mine')
        thread.join(60)
        self.assertEqual([False, 'mine', 'at last'], results)


class DriverTestCase(unittest.TestCase):

    def test_each_hook_has_the_parameters_that_it_locks(self):
        found = {name: getattr(member, 'hook').locks_on for name, member
                 in vars(driver.VmdkExtDriver).items()
                 if hasattr(member, 'hook')}
        self.assertGreater(len([each for each in found.values() if each]), 12)
        for name, parameters in found.items():
            known = inspect.signature(
                getattr(driver.VmdkExtDriver, name)).parameters
            self.assertLessEqual(set(parameters), set(known), name)

    def test_several_services_are_supported(self):
        self.assertTrue(driver.VmdkExtDriver.SUPPORTS_ACTIVE_ACTIVE)
