# SPDX-License-Identifier: Apache-2.0
"""Starts servers for a sandbox: the common code of a cluster's servers.

The system's servers are never used: each sandbox starts its own, in its own
folder, on free ports of loopback, with generated users and passwords.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import glob
import os
import shutil
import socket

from sandbox import errors
from sandbox import processes

_START_TIMEOUT_SECONDS = 90
# Debian installs servers in folders that only root's PATH contains.
_MORE_FOLDERS = ('/usr/sbin', '/usr/local/sbin', '/sbin')


@dataclasses.dataclass(frozen=True)
class Program:
    """A server's program, and the Debian package that it comes in.

    :param name: its name on PATH, or a pattern for its absolute path
    """

    name: str
    package: str

    def path(self) -> str | None:
        """Where it is installed, or None."""
        if self.name.startswith('/'):
            found = sorted(glob.glob(self.name))
            return found[-1] if found else None
        places = [os.environ.get('PATH', os.defpath), *_MORE_FOLDERS]
        return shutil.which(self.name, path=os.pathsep.join(places))

    def required(self) -> str:
        """Where it is installed.

        :raises SandboxError: when it is not; names the package
        """
        path = self.path()
        if path is None:
            raise errors.SandboxError(_remedy([self.package]))
        return path


#: What tests of Horizon use
CHROMIUM = Program('chromium', 'chromium')
CHROMEDRIVER = Program('chromedriver', 'chromium-driver')


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that was started, and may not be ready yet.

    :param url: where clients reach it, with a password
    :param answers: whether it does already; a failure to connect means no
    """

    process: processes.ManagedProcess
    url: str = dataclasses.field(repr=False)
    answers: Callable[[], object] = dataclasses.field(repr=False)

    def wait_until_ready(self) -> Server:
        """Return when it answers.

        :raises ProcessFailed: when it ends or stays silent instead
        """
        self.process.wait_until_ready(self._probe, _START_TIMEOUT_SECONDS)
        return self

    def _probe(self) -> bool | None:
        try:
            self.answers()
        except Exception:  # each client library has errors of its own
            return None
        return True


def missing_packages(programs: Sequence[Program]) -> list[str]:
    """The packages of those programs that are not installed."""
    return sorted({program.package for program in programs
                   if program.path() is None})


def require(programs: Sequence[Program]) -> None:
    """Check that all programs are installed.

    :raises SandboxError: when some are not; says how to install them
    """
    missing = missing_packages(programs)
    if missing:
        raise errors.SandboxError(_remedy(missing))


def _remedy(packages: Sequence[str]) -> str:
    return ('programs that this needs are not installed; on Debian: '
            'apt-get install --no-install-recommends %s'
            % ' '.join(packages))


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which no process listens at this moment."""
    # All are held until all are known, or one could be named twice.
    held = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
