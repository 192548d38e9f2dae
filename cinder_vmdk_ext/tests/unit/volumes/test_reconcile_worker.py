# SPDX-License-Identifier: Apache-2.0

"""The thread that runs the passes of the reconciliation."""

import threading
import time
import unittest
from unittest import mock

from cinder_vmdk_ext.volumes import qos
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


class PassTestCase(unittest.TestCase):

    @staticmethod
    def reconciler(ops):
        return reconcile.Reconciler(
            mock.Mock(volumeops=ops), *[mock.Mock() for _each in range(7)])

    def test_instances_that_are_gone_are_forgotten(self):
        reconciler = self.reconciler(mock.Mock())
        reconciler._owner.cluster_name = None
        reconciler._followed_at = {
            'vm-1': time.monotonic() - qos.LONGEST_ATTACH_SECONDS,
            'vm-2': time.monotonic()}
        reconciler._instances = {'vm-3'}
        reconciler._follow_instances()
        self.assertEqual({'vm-2', 'vm-3'}, reconciler._followed_at.keys())

    def test_an_error_of_any_step_ends_no_thread(self):
        reconciler = self.reconciler(mock.Mock(
            **{'backings_known.side_effect': RuntimeError('no')}))
        reconciler.connect(mock.Mock())
        with self.assertLogs(reconcile.__name__, 'WARNING'):
            self.assertTrue(reconciler.run())


if __name__ == '__main__':
    unittest.main()
