# SPDX-License-Identifier: Apache-2.0

"""The thread that runs the passes of the reconciliation."""

import threading
import unittest
from unittest import mock

from cinder_vmdk_ext.volumes import reconcile


class WorkerTestCase(unittest.TestCase):

    def workers(self):
        return [each for each in threading.enumerate()
                if each.name == 'vmdk-ext-reconcile']

    def test_it_ends_when_it_is_stopped_as_a_pass_begins(self):
        noticed, passes = threading.Event(), []
        others = set(self.workers())

        def clear():
            worker.stop()
            threading.Event.clear(noticed)

        with mock.patch.object(noticed, 'clear', clear):
            worker = reconcile._Worker(
                lambda: lambda: passes.append('a pass'), 3600, noticed)
            (thread,) = set(self.workers()) - others
            noticed.set()
            thread.join(60)
            self.assertFalse(thread.is_alive())
        self.assertEqual([], passes)


if __name__ == '__main__':
    unittest.main()
