# SPDX-License-Identifier: Apache-2.0
"""The simulated vCenter as a process of the sandbox."""
from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import re
import secrets
import shlex
from urllib import parse

from sandbox import configuration
from sandbox import errors
from sandbox import processes
from simulator import client as test_simulator

# Enough to see the scheduler choose; see "vcenter-sim -h".
DEFAULT_ARGUMENTS = ('-ds', '4')

_START_TIMEOUT_SECONDS = 60
_READY_LINE = re.compile(r'^export (GOVC_URL=.*)$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class VCenter:
    """Where the simulated vCenter is and how to log in to it.

    The credentials are the simulator's own; nothing else knows them.
    """

    host: str
    port: int
    user: str
    password: str = dataclasses.field(repr=False)
    ca_file: Path
    control_url: str


def start(folder: Path, arguments: Sequence[str] = (),
          simulator: Path = configuration.SIMULATOR
          ) -> processes.ManagedProcess:
    """Start the simulator on free ports, without waiting for it.

    :param arguments: simulator flags, after (and so above) the sandbox's own
    :raises SandboxError: when there is no simulator to start
    """
    if not simulator.exists():
        raise errors.SandboxError('%s is missing; build it with '
                                  '"make simulator"' % simulator)
    _stdout_file(folder).parent.mkdir(parents=True, exist_ok=True)
    configuration.write_private(_stdout_file(folder), '')
    command = [str(simulator), '-l', '127.0.0.1:0',
               '-control', '127.0.0.1:0',
               '-cacert-out', str(_ca_file(folder)),
               # One of its own, so that a leak of it could be found.
               '-password', secrets.token_hex(8),
               *DEFAULT_ARGUMENTS,
               *(f'-lenient={rule}'
                 for rule in test_simulator.PLUGIN_STILL_NEEDS),
               *arguments]
    return processes.ManagedProcess.start(
        'vcenter-sim', command, folder, stdout_file=_stdout_file(folder))


def wait_until_ready(process: processes.ManagedProcess,
                     folder: Path) -> VCenter:
    """Wait for the line in which the simulator says where it listens.

    :raises ProcessFailed: when it ends or stays silent instead
    """
    def probe() -> VCenter | None:
        line = _READY_LINE.search(_stdout_file(folder).read_text())
        return None if line is None else _parse(line.group(1), folder)

    return process.wait_until_ready(probe, _START_TIMEOUT_SECONDS)


def _parse(assignments: str, folder: Path) -> VCenter:
    values = dict(word.split('=', 1) for word in shlex.split(assignments)
                  if '=' in word)
    url = parse.urlsplit(values['GOVC_URL'])
    return VCenter(host=url.hostname or '127.0.0.1', port=url.port or 443,
                   user=parse.unquote(url.username or ''),
                   password=parse.unquote(url.password or ''),
                   ca_file=_ca_file(folder),
                   control_url=values.get('VCENTER_SIM_CONTROL', ''))


def _ca_file(folder: Path) -> Path:
    return folder / 'etc' / 'vcenter-ca.pem'


def _stdout_file(folder: Path) -> Path:
    return folder / 'run' / 'vcenter-sim.stdout'
