# SPDX-License-Identifier: Apache-2.0
"""Greenthreads run where the plugin yields; threads share work."""

import gc
import subprocess
import sys
import textwrap
import threading
import unittest

from cinder import utils

from cinder_vmdk_ext import concurrency


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


class CollectionsTestCase(unittest.TestCase):

    def test_full_collections_are_postponed_until_the_last_block_ends(self):
        usual = gc.get_threshold()
        with concurrency.full_collections_postponed():
            with concurrency.full_collections_postponed():
                pass
            self.assertEqual(usual[:2], gc.get_threshold()[:2])
            self.assertGreater(gc.get_threshold()[2], 1 << 30)
        self.assertEqual(usual, gc.get_threshold())


class AtOnceTestCase(unittest.TestCase):

    def test_so_many_are_done_at_a_time_and_no_more(self):
        # Nothing goes on until three are at work.
        three = threading.Barrier(3, timeout=60)
        lock = threading.Lock()
        working, most, done = 0, 0, []

        def work(item):
            nonlocal working, most
            with lock:
                working += 1
                most = max(most, working)
            three.wait()
            with lock:
                working -= 1
                done.append(item)

        concurrency.at_once(work, range(6), 3)
        self.assertEqual([0, 1, 2, 3, 4, 5], sorted(done))
        self.assertEqual(3, most)

    def test_one_item_takes_no_other_thread(self):
        found = []
        concurrency.at_once(
            lambda item: found.append(threading.current_thread()), [1], 4)
        self.assertEqual([threading.current_thread()], found)

    def test_an_error_is_raised_when_the_others_are_done(self):
        done = []

        def work(item):
            if item == 1:
                raise LookupError(item)
            done.append(item)

        self.assertRaises(LookupError, concurrency.at_once, work, range(4), 2)
        self.assertEqual([0, 2, 3], sorted(done))

    def test_greenthreads_share_the_work(self):
        program = textwrap.dedent('''
            from sandbox.embedded import patched
            import threading
            from cinder_vmdk_ext import concurrency
            two = threading.Barrier(2, timeout=60)
            concurrency.at_once(lambda each: two.wait(), range(4), 2)
            ''')
        subprocess.run([sys.executable, '-W', 'ignore', '-c', program],
                       check=True, timeout=600)


class PatienceTestCase(unittest.TestCase):

    # Opening a pipe that nobody writes to blocks, as a dead mount does.
    PROGRAM = textwrap.dedent('''
        import os, tempfile, threading, time
        from cinder_vmdk_ext import concurrency
        path = os.path.join(tempfile.mkdtemp(), 'pipe')
        os.mkfifo(path)
        seen, patience = [], concurrency.Patience('it')
        def run():
            for each in range(3):
                time.sleep(0.05)
                seen.append(each)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            patience.call(lambda: open(path), 0.5)
        except TimeoutError:
            print(*seen)
        began = time.monotonic()
        try:
            patience.call(lambda: 1, 30)
        except TimeoutError:
            print(time.monotonic() - began < 10)
        os.close(os.open(path, os.O_WRONLY))
        while not seen[3:]:
            try:
                seen.append(patience.call(lambda: 'answers', 30))
            except TimeoutError:
                time.sleep(0.01)
        print(*seen[3:])
        ''')

    def test_a_call_that_blocks_stops_nothing_else(self):
        for first in '', 'from sandbox.embedded import patched':
            self.assertEqual(
                ['0 1 2', 'True', 'answers'], subprocess.run(
                    [sys.executable, '-W', 'ignore', '-c',
                     first + self.PROGRAM], check=True, timeout=60,
                    stdout=subprocess.PIPE, text=True).stdout.splitlines())

    def test_an_error_is_that_of_the_work(self):
        with self.assertRaises(ZeroDivisionError):
            concurrency.Patience('it').call(lambda: 1 / 0, 30)


if __name__ == '__main__':
    unittest.main()
