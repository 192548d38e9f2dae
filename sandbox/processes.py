# SPDX-License-Identifier: Apache-2.0
"""Manages long-running processes that outlive the program that started them.

Each has a log and a pid file. The pid file also contains the time of the
process's creation, so that another process to which the kernel gave the pid
later is never taken for it, and never gets a signal.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import time
from typing import TypeVar

import psutil

from sandbox import errors

_POLL_SECONDS = 0.05
# psutil derives the creation time from the boot time, which shifts a little
# when the clock is adjusted.
_CREATION_TOLERANCE_SECONDS = 2.0

Ready = TypeVar('Ready')


@dataclasses.dataclass(frozen=True)
class ManagedProcess:
    """One started process, as its pid file describes it."""

    name: str
    pid: int
    created_seconds: float
    pid_file: Path
    log_file: Path

    @classmethod
    def start(cls, name: str, command: Sequence[str], folder: Path,
              environment: Mapping[str, str] | None = None,
              stdout_file: Path | None = None) -> ManagedProcess:
        """Start `command` in a session of its own, detached from this one.

        :param name: names the pid file and the log within `folder`
        :param environment: added to this process's environment
        :param stdout_file: where standard output goes, if not into the log
        :raises SandboxError: when the program cannot be executed
        """
        log_file = folder / 'log' / ('%s.log' % name)
        pid_file = folder / 'run' / ('%s.pid.json' % name)
        for path in (log_file, pid_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, 'ab') as log, \
                open(stdout_file or log_file, 'ab') as stdout:
            try:
                child = subprocess.Popen(
                    list(command), stdin=subprocess.DEVNULL, stdout=stdout,
                    stderr=log, cwd=folder, start_new_session=True,
                    env={**os.environ, **(environment or {})})
            except OSError as exc:
                raise errors.SandboxError(
                    'cannot start %s: %s' % (name, exc)) from exc
        _CHILDREN[child.pid] = child
        try:
            created_seconds = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            created_seconds = 0.0
        process = cls(name, child.pid, created_seconds, pid_file, log_file)
        pid_file.write_text(json.dumps({
            'name': name, 'pid': child.pid,
            'created_seconds': created_seconds, 'log_file': str(log_file)}))
        return process

    @classmethod
    def load(cls, pid_file: Path) -> ManagedProcess:
        """The process that a pid file describes; it may have ended."""
        values = json.loads(pid_file.read_text())
        return cls(values['name'], values['pid'], values['created_seconds'],
                   pid_file, Path(values['log_file']))

    def running(self) -> bool:
        """Whether this process still exists, and not another of its pid."""
        return self._find() is not None

    def wait_until_ready(self, probe: Callable[[], Ready | None],
                         timeout_seconds: float) -> Ready:
        """Poll `probe` until it returns something other than None.

        :raises ProcessFailed: when the process ends first, or stays silent
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            # Read before the probe, so that its last result is not missed.
            ended = not self.running()
            answer = probe()
            if answer is not None:
                return answer
            if ended:
                raise self.failure('%s ended while starting' % self.name)
            if time.monotonic() > deadline:
                raise self.failure('%s was not ready within %d seconds'
                                   % (self.name, timeout_seconds))
            time.sleep(_POLL_SECONDS)

    def failure(self, message: str) -> errors.ProcessFailed:
        """An error with the relevant part of the log, and the log's path."""
        return errors.ProcessFailed('%s; its log is %s'
                                    % (message, self.log_file),
                                    explain(self.log_file))

    def stop(self, timeout_seconds: float = 15.0) -> bool:
        """End it by SIGTERM, or by SIGKILL if it does not react.

        Child processes that it does not end itself are killed.

        :returns: whether the process was running
        """
        return bool(stop_all([self], timeout_seconds))

    def kill(self) -> None:
        """Kill it by SIGKILL, like a crash, so that it cannot clean up.

        Its child processes are killed as well, as in a crash of the machine.
        """
        process = self._find()
        if process is not None:
            children = _children(process)
            process.kill()
            _kill(children)
            self._gone_within(10.0)
        self.pid_file.unlink(missing_ok=True)

    def _gone_within(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _find(self) -> psutil.Process | None:
        child = _CHILDREN.get(self.pid)
        if child is not None and child.poll() is not None:
            return None  # and by poll() reaped, if it was a zombie
        try:
            process = psutil.Process(self.pid)
            created_seconds = process.create_time()
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        if (abs(created_seconds - self.created_seconds)
                > _CREATION_TOLERANCE_SECONDS):
            return None
        return process


def stop_all(those: Sequence[ManagedProcess],
             timeout_seconds: float = 15.0) -> list[ManagedProcess]:
    """End processes, all at once; see `ManagedProcess.stop`.

    :returns: those that were running
    """
    found = {one: process for one in those
             if (process := one._find()) is not None}
    children = [child for process in found.values()
                for child in _children(process)]
    # One signal each: a second one would interrupt the clean-up.
    for process in found.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    for one, process in found.items():
        if not one._gone_within(deadline - time.monotonic()):
            _kill([process])
            one._gone_within(timeout_seconds)
    _kill(children)
    for one in those:
        one.pid_file.unlink(missing_ok=True)
    return list(found)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def _kill(those: Sequence[psutil.Process]) -> None:
    for one in those:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()  # never another one of the same pid: psutil looks


# Children of this very process have to be reaped, or they stay as zombies.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def explain(log_file: Path, max_lines: int = 20) -> str:
    """The part of a log that says why its process failed.

    Of Cinder's log these are the last records of level ERROR or CRITICAL,
    with the messages of their exceptions and without the frames; of any
    other, or when Python itself has printed a traceback, its end.
    """
    try:
        lines = log_file.read_text(errors='replace').splitlines()
    except FileNotFoundError:
        return ''
    troubles = _troubles(lines)
    return '\n'.join((troubles or lines)[-max_lines:])


# As oslo.log writes them: time, process, level, logger, context, message.
_RECORD = re.compile(r'^(\S+ \S+) \d+ ([A-Z]+) (\S+) (?:\[[^]]*\] )?(.*)$')
_FRAME = re.compile(r'^(\s|Traceback |During handling |The above exc|$)')


def _troubles(lines: Sequence[str]) -> list[str]:
    """The errors in a log, each once."""
    said: list[str] = []
    in_error = False
    for line in lines:
        record = _RECORD.match(line)
        if record is None and line.startswith('Traceback '):
            return []  # not caught: the end of the log explains it
        if record is not None:
            in_error = record.group(2) in ('ERROR', 'CRITICAL')
        message = record.group(4) if record else line
        if not in_error or _FRAME.match(message) \
                or any(message in before for before in said):
            continue
        if record is not None:
            message = ' '.join(record.group(1, 2, 3)) + ' ' + message
        said.append(message)
    return said
