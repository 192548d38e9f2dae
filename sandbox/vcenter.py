# SPDX-License-Identifier: Apache-2.0
"""Starts the simulated vCenter of a sandbox."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import secrets

from sandbox import configuration
from sandbox import errors
from sandbox import processes
from simulator import client

# Enough to see the scheduler choose; see "vcenter-sim -h".
DATASTORES = 4

_START_TIMEOUT_SECONDS = 240


def start(folder: Path, arguments: Sequence[str] = ()
          ) -> processes.ManagedProcess:
    """Start the simulator on free ports, without waiting for it.

    :param arguments: simulator flags, after (and so above) the sandbox's own
    :raises SandboxError: when there is no simulator to start
    """
    _stdout_file(folder).parent.mkdir(parents=True, exist_ok=True)
    configuration.write_private(_stdout_file(folder), '')
    try:
        command = client.command(_ca_file(folder), {
            'ds': DATASTORES,
            # A separate password, so that a leak of it can be found.
            'password': secrets.token_hex(8),
            # Tests compare the figures right after each operation.
            'lenient': 'lagging-figures'}, arguments)
    except client.SimulatorError as error:
        raise errors.SandboxError(str(error)) from None
    return processes.ManagedProcess.start(
        'vcenter-sim', command, folder, stdout_file=_stdout_file(folder))


def wait_until_ready(process: processes.ManagedProcess,
                     folder: Path) -> client.Address:
    """Wait for the line in which the simulator prints its address.

    :raises ProcessFailed: when it ends or stays silent instead
    """
    return process.wait_until_ready(
        lambda: client.read_ready_line(_stdout_file(folder).read_text(),
                                       _ca_file(folder)),
        _START_TIMEOUT_SECONDS)


def _ca_file(folder: Path) -> Path:
    return folder / 'etc' / 'vcenter-ca.pem'


def _stdout_file(folder: Path) -> Path:
    return folder / 'run' / 'vcenter-sim.stdout'
