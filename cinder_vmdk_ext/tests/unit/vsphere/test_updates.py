# SPDX-License-Identifier: Apache-2.0
"""Changes are gathered only while no caller waits for a report."""

import threading
import types
import unittest
from unittest import mock

from cinder_vmdk_ext.vsphere import updates

LONG_SECONDS = 60


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


if __name__ == '__main__':
    unittest.main()
