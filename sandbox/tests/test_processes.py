# SPDX-License-Identifier: Apache-2.0
"""Processes are started, found again and ended, and never confused."""
import dataclasses
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import psutil

from sandbox import errors
from sandbox import processes

SLEEPER = (sys.executable, '-c', 'import time; time.sleep(600)')
# Says so when it ignores SIGTERM, since before that the signal would end it.
STUBBORN = (sys.executable, '-uc',
            'import signal, time; '
            'signal.signal(signal.SIGTERM, signal.SIG_IGN); '
            'print("deaf"); time.sleep(600)')
# Ends by SIGTERM as soon as another one has got that signal, too.
WAITING = (sys.executable, '-uc', '''
import pathlib, signal, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
def end(*_signal):
    mine.touch()
    while not other.exists():
        time.sleep(0.01)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready")
time.sleep(600)
''')


def _ended(those):
    """Pids of those that have ended, or end within a minute."""
    return [process.pid for process in psutil.wait_procs(those, 60)[0]]


class ProcessTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def start(self, *command):
        process = processes.ManagedProcess.start('one', command, self.folder)
        self.addCleanup(process.kill)
        return process

    def test_its_pid_file_is_enough_to_stop_it(self):
        process = self.start(*SLEEPER)

        found = processes.ManagedProcess.load(process.pid_file)

        self.assertTrue(found.running())
        self.assertTrue(found.stop())
        self.assertFalse(process.running())
        self.assertFalse(process.pid_file.exists())
        self.assertFalse(found.stop())

    def test_another_process_with_its_pid_is_left_alone(self):
        process = self.start(*SLEEPER)
        stranger = dataclasses.replace(
            process, created_seconds=process.created_seconds - 3600)

        self.assertFalse(stranger.running())
        self.assertFalse(stranger.stop())
        self.assertTrue(process.running())

    def test_one_that_ignores_sigterm_is_killed(self):
        process = self.start(*STUBBORN)
        process.wait_until_ready(
            lambda: process.log_file.read_text() or None, 60)

        self.assertTrue(process.stop(timeout_seconds=0.5))

        self.assertFalse(process.running())

    def test_what_it_has_launched_ends_with_it(self):
        for end in (processes.ManagedProcess.kill,
                    processes.ManagedProcess.stop):
            process = self.start('sh', '-c', 'sleep 600 & echo $!; wait')
            launched = psutil.Process(process.wait_until_ready(
                lambda: int(process.log_file.read_text() or 0) or None, 60))

            end(process)

            self.assertIn(launched.pid, _ended([launched]), end)
            process.log_file.unlink()

    def test_several_are_ended_at_once(self):
        several = []
        for name, other in (('one', 'two'), ('two', 'one')):
            process = processes.ManagedProcess.start(
                name, (*WAITING, str(self.folder / name),
                       str(self.folder / other)), self.folder)
            self.addCleanup(process.kill)
            process.wait_until_ready(
                lambda: process.log_file.read_text() or None, 60)
            several.append(process)
        with mock.patch.object(processes, '_kill') as killed:

            self.assertEqual(several, processes.stop_all(several, 60.0))

        self.assertEqual([mock.call([])], killed.mock_calls)
        self.assertFalse(any(process.running() for process in several))

    def test_those_that_ignore_sigterm_are_waited_for_together(self):
        several = []
        for name in ('one', 'two'):
            process = processes.ManagedProcess.start(
                name, STUBBORN, self.folder)
            self.addCleanup(process.kill)
            process.wait_until_ready(
                lambda: process.log_file.read_text() or None, 60)
            several.append(process)
        waits = {'one': [], 'two': []}
        wait = processes.ManagedProcess._gone_within

        def waited(process, seconds):
            waits[process.name].append(seconds)
            return wait(process, seconds)
        with mock.patch.object(processes.ManagedProcess, '_gone_within',
                               waited):
            self.assertEqual(several, processes.stop_all(several, 0.5))
        self.assertLessEqual(waits['two'][0], 0)
        self.assertFalse(any(process.running() for process in several))

    def test_the_end_of_one_that_fails_is_told_with_its_log(self):
        process = self.start('sh', '-c', 'echo no such disk >&2; exit 1')

        with self.assertRaises(errors.ProcessFailed) as caught:
            process.wait_until_ready(lambda: None, 60)

        self.assertIn('one ended while starting', str(caught.exception))
        self.assertIn('no such disk', str(caught.exception))

    def test_one_that_stays_silent_is_given_up(self):
        process = self.start(*SLEEPER)
        began = time.monotonic()

        with self.assertRaisesRegex(errors.ProcessFailed, 'not ready within'):
            process.wait_until_ready(lambda: None, 0.3)

        self.assertLess(time.monotonic() - began, 60)

    def test_a_program_that_does_not_exist_is_named(self):
        with self.assertRaisesRegex(errors.SandboxError, 'no-such-program'):
            self.start('/no-such-program')

    def test_it_survives_the_program_that_started_it(self):
        done = subprocess.run(
            [sys.executable, '-c',
             'from pathlib import Path\n'
             'from sandbox.processes import ManagedProcess\n'
             'ManagedProcess.start("one", %r, Path(%r))'
             % (SLEEPER, str(self.folder))],
            cwd=Path(processes.__file__).parent.parent)
        self.assertEqual(0, done.returncode)

        process = processes.ManagedProcess.load(
            self.folder / 'run' / 'one.pid.json')

        self.addCleanup(process.kill)
        self.assertTrue(process.running())
        self.assertEqual('one', json.loads(
            process.pid_file.read_text())['name'])


class ExplainTestCase(unittest.TestCase):

    HEAD = '2026-01-01 00:00:00.000 77 '

    def explain(self, text):
        with tempfile.TemporaryDirectory() as folder:
            log_file = Path(folder) / 'log'
            log_file.write_text(text)
            return processes.explain(log_file, max_lines=3)

    def test_errors_are_shown_without_frames_and_once(self):
        text = (
            self.HEAD + 'INFO a.b [None req-1] Starting\n'
            + self.HEAD + 'ERROR a.b [None req-1] It failed: E: wrong word\n'
            + self.HEAD + 'ERROR a.b Traceback (most recent call last):\n'
            + self.HEAD + 'ERROR a.b   File "x.py", line 1, in y\n'
            + self.HEAD + 'ERROR a.b E: wrong word\n'
            + self.HEAD + 'INFO a.b [None req-1] Ending\n')

        self.assertEqual('2026-01-01 00:00:00.000 ERROR a.b '
                         'It failed: E: wrong word', self.explain(text))

    def test_a_log_without_errors_is_shown_by_its_end(self):
        self.assertEqual('2\n3\n4', self.explain('1\n2\n3\n4\n'))

    def test_an_uncaught_exception_is_shown_by_the_end(self):
        text = (self.HEAD + 'ERROR a.b [-] harmless\n'
                'Traceback (most recent call last):\n'
                '  File "x.py", line 1, in y\n    z()\nE: wrong word\n')

        self.assertTrue(self.explain(text).endswith('E: wrong word'))
        self.assertNotIn('harmless', self.explain(text))

    def test_no_log_is_no_explanation(self):
        self.assertEqual('', processes.explain(Path('/no/such/log')))
