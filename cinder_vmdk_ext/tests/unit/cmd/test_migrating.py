# SPDX-License-Identifier: Apache-2.0
"""An interrupt ends `migrate run` after a move, a second one at once."""

import os
import signal
import unittest

from cinder_vmdk_ext.cmd import migrating


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
