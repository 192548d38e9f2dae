# SPDX-License-Identifier: Apache-2.0
"""Environments that services are installed in, and how they are run there."""
from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path
import subprocess
import sysconfig
import urllib.error
import urllib.request

from sandbox import configuration
from sandbox import errors
from sandbox import processes

# Of a service that many others start beside, on few cores.
_START_TIMEOUT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtualenv above the sandbox's own.

    :param name: its folder in build/
    :param proof: a file in it that is there once all is installed
    """

    name: str
    proof: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return configuration.BUILD / self.name

    def require(self) -> None:
        """Check that it is installed.

        :raises SandboxError: when it is not; says how to install it
        """
        if not (self.folder / self.proof).exists():
            raise errors.SandboxError(
                '%s is not installed: run "make cloud"' % self.folder)

    def program(self, name: str) -> str:
        """The path of a program in it."""
        return str(self.folder / 'bin' / name)

    def variables(self, more: Mapping[str, str] | None = None
                  ) -> dict[str, str]:
        """The environment variables that a process in it needs."""
        return {
            'PYTHONPATH': str(configuration.REPOSITORY),
            'PATH': os.pathsep.join([
                str(self.folder / 'bin'), sysconfig.get_path('scripts'),
                os.environ.get('PATH', os.defpath)]),
            **(more or {})}


SERVICES = Environment('cloud-venv', '.installed')
DASHBOARD = Environment('horizon-venv', '.installed')
# Of tests alone.
BROWSER = Environment('browser-venv', '.installed')


def run(name: str, command: Sequence[str], folder: Path,
        variables: Mapping[str, str]) -> None:
    """Run a command to its end.

    :param name: names the log in `folder`
    :raises ProcessFailed: when its exit code is not 0
    """
    log_file = folder / 'log' / ('%s.log' % name)
    with open(log_file, 'ab') as log:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=folder, env={**os.environ, **variables})
    if done.returncode:
        raise errors.ProcessFailed(
            '"%s" failed; its log is %s'
            % (' '.join([Path(command[0]).name, *command[1:2]]), log_file),
            processes.explain(log_file))


def serve(name: str, module: str, port: int, folder: Path,
          variables: Mapping[str, str]) -> processes.ManagedProcess:
    """Start to serve a WSGI application of SERVICES; see `serving`."""
    return processes.ManagedProcess.start(
        name, [SERVICES.program('python'), '-m', 'sandbox.services.serving',
               module, str(port)],
        folder, environment=SERVICES.variables(variables))


def wait_until_serving(process: processes.ManagedProcess, url: str) -> None:
    """Return when a service answers, be it by a refusal.

    :raises ProcessFailed: when it ends or stays silent instead
    """
    def probe() -> bool | None:
        try:
            with urllib.request.urlopen(url, timeout=60):
                return True
        except urllib.error.HTTPError as answer:
            return True if answer.code < 500 else None
        except OSError:
            return None

    process.wait_until_ready(probe, _START_TIMEOUT_SECONDS)
