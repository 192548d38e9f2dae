# SPDX-License-Identifier: Apache-2.0
"""Greenthreads run where the plugin yields to them."""

import subprocess
import sys
import textwrap
import unittest

from cinder import utils


class YieldTestCase(unittest.TestCase):

    def order(self, first_import):
        """In which order two threads run that both yield after each step."""
        program = first_import + textwrap.dedent('''
            import threading
            from cinder_vmdk_ext import concurrency
            seen = []
            def run(name):
                for each in range(3):
                    seen.append(name)
                    concurrency.cooperative_yield()
            thread = threading.Thread(target=run, args=['other'])
            thread.start()
            run('this')
            thread.join()
            print(concurrency.on_native_threads(), *seen)
            ''')
        return subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', program], check=True,
            stdout=subprocess.PIPE, text=True).stdout.split()

    def test_greenthreads_take_turns(self):
        self.assertEqual(['False'] + ['other', 'this'] * 3,
                         self.order('from sandbox.embedded import patched'))

    def test_native_threads_run_to_their_ends(self):
        known, *order = self.order('')
        self.assertEqual(['other'] * 3 + ['this'] * 3, sorted(order))
        # Before Cinder 29 there are none.
        self.assertEqual(
            str(hasattr(utils, 'concurrency_mode_threading')), known)


if __name__ == '__main__':
    unittest.main()
