# SPDX-License-Identifier: Apache-2.0
"""Runs `openstack` and `cinder` without a new Python for each command.

Each of them imports modules for one second, and then works for a tenth of a
second. So for each program a helper process imports the modules once, and
forks for each command. A command is the function that the installed script
calls, with the arguments, environment and output of the script.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from importlib import metadata
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import threading
import traceback
from typing import Any

from sandbox import errors

# Where they look for their commands.
_PLUGINS: dict[str, tuple[str, ...]] = {
    'openstack': ('openstack.cli.base', 'openstack.cli.extension',
                  'openstack.volume.v3'),
    'cinder': (),
}
PROGRAMS = tuple(_PLUGINS)


class Helper:
    """The process that commands are forked from; it ends with this one.

    :param program: one of PROGRAMS
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str],
            variables: Mapping[str, str]) -> tuple[int, str]:
        """Run one command to its end.

        :param variables: its whole environment
        :returns: the exit code and all output
        """
        with self._lock, tempfile.NamedTemporaryFile(
                'r', prefix='client-', errors='replace') as output:
            exit_code = self._ask({
                'arguments': list(arguments), 'variables': dict(variables),
                'folder': os.getcwd(), 'output': output.name})
            return exit_code, output.read()

    def _ask(self, command: dict[str, Any]) -> int:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, '-m', __name__, self._program],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                cwd=Path(__file__).resolve().parent.parent)
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        requests.write(json.dumps(command) + '\n')
        requests.flush()
        answer = answers.readline()
        if not answer:
            raise errors.SandboxError('the process that runs %s has ended'
                                      % self._program)
        return int(answer)


def main() -> None:
    program = sys.argv[1]
    # The program's name in its messages; it is kept when it is imported.
    sys.argv[0] = program
    command = _command(program)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(command, **json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(command: Callable[[], Any], arguments: list[str],
            variables: dict[str, str], folder: str, output: str) -> None:
    """Run a command in this process, and end with it."""
    exit_code: Any = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        sys.argv[1:] = arguments
        exit_code = command()
    except SystemExit as exc:
        exit_code = exc.code
    except BaseException:
        traceback.print_exc()
    finally:
        if isinstance(exit_code, str):
            print(exit_code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code if isinstance(exit_code, int)
                 else exit_code is not None)


def _command(program: str) -> Callable[[], Any]:
    """The function that the installed script of a program calls.

    This imports all its modules, for the processes that are forked later.
    """
    script, = metadata.entry_points(group='console_scripts', name=program)
    for group in _PLUGINS[program]:
        for plugin in metadata.entry_points(group=group):
            # The program itself reports a failed import.
            with contextlib.suppress(Exception):
                plugin.load()
    command: Callable[[], Any] = script.load()
    return command


HELPERS = {program: Helper(program) for program in PROGRAMS}

if __name__ == '__main__':
    main()
