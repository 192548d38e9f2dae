# SPDX-License-Identifier: Apache-2.0
"""The real clients, pointed at the sandbox: `openstack`, `cinder`, Python."""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import json
import os
from pathlib import Path
import shlex
import subprocess
import sysconfig
import time
from typing import Any

from cinderclient import client as cinder_client
from cinderclient import exceptions as cinder_exceptions
from cinderclient.contrib import noauth
from keystoneauth1 import session as keystone_session

from sandbox import configuration
from sandbox import errors

# The newest microversion that the oldest supported Cinder (27) serves.
API_VERSION = '3.71'

# States in which a volume or a snapshot stays until somebody does something.
_SETTLED = ('available', 'in-use', 'reserved', 'error', 'error_deleting',
            'error_extending', 'error_restoring', 'error_managing')


def environment(endpoint: str) -> dict[str, str]:
    """The variables with which both clients find Cinder, without Keystone.

    :param endpoint: the Volume API, up to and including "/v3"
    """
    return {
        # The plugin comes with python-cinderclient; keystoneauth finds it by
        # its entry point, so `openstack` can use it too.
        'OS_AUTH_TYPE': 'noauth',
        'OS_USER_ID': 'admin',
        'OS_PROJECT_ID': configuration.PROJECT_ID,
        'OS_ENDPOINT': endpoint,
        'CINDER_ENDPOINT': endpoint,
        'OS_VOLUME_API_VERSION': API_VERSION,
    }


class Clients:
    """Clients of one Volume API.

    :param endpoint: the Volume API, up to and including "/v3"
    :param announce: called with each command, and then with its output
    """

    def __init__(self, endpoint: str,
                 announce: Callable[[str], None] | None = None) -> None:
        self.environment = environment(endpoint)
        self._announce = announce
        plugin = noauth.CinderNoAuthPlugin(
            user_id='admin', project_id=configuration.PROJECT_ID,
            endpoint=endpoint)
        self.python = cinder_client.Client(
            API_VERSION, session=keystone_session.Session(
                auth=plugin,
                # As a service's token: only a service may end the attachment
                # of a server, and there is no Nova here to ask about it.
                additional_headers={'X-Service-Roles': 'service'}))

    def run(self, program: str, *arguments: str) -> str:
        """Run a client program of this Python's environment.

        :returns: its output
        :raises CommandFailed: when its exit code is not 0
        """
        command = shlex.join([program, *arguments])
        if self._announce:
            self._announce('$ ' + command)
        # Without a terminal, the clients would wrap tables at 80 columns.
        variables = {**_without_openstack(os.environ), **self.environment,
                     'COLUMNS': '160', 'CLIFF_MAX_TERMINAL_WIDTH': '160'}
        done = subprocess.run([self._path(program), *arguments],
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              env=variables, text=True)
        if self._announce and done.stdout.strip():
            self._announce(done.stdout.rstrip())
        if done.returncode:
            raise errors.CommandFailed(command, done.returncode, done.stdout)
        return done.stdout

    def openstack(self, *arguments: str) -> str:
        """Run `openstack`; see `run`."""
        return self.run('openstack', *arguments)

    def openstack_json(self, *arguments: str) -> Any:
        """Run `openstack` with "-f json" and return what it printed."""
        return json.loads(self.openstack(*arguments, '-f', 'json'))

    def cinder(self, *arguments: str) -> str:
        """Run `cinder`; see `run`."""
        return self.run('cinder', *arguments)

    def settled_volume(self, volume_id: str,
                       timeout_seconds: float = 60.0) -> Any:
        """Wait until a volume is in a state that lasts, and return it.

        :raises SandboxError: when that is an error state, or does not come
        """
        return self._settled(self.python.volumes, volume_id, timeout_seconds)

    def settled_snapshot(self, snapshot_id: str,
                         timeout_seconds: float = 60.0) -> Any:
        """Wait until a snapshot is in a state that lasts, and return it.

        :raises SandboxError: when that is an error state, or does not come
        """
        return self._settled(self.python.volume_snapshots, snapshot_id,
                             timeout_seconds)

    def wait_until_gone(self, collection: Any, identifier: str,
                        timeout_seconds: float = 60.0) -> None:
        """Wait until a volume, snapshot or the like no longer exists.

        :param collection: for example `self.python.volumes`
        :raises SandboxError: when it is still there, or cannot be deleted
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                found = collection.get(identifier)
            except cinder_exceptions.NotFound:
                return
            if (found.status.startswith('error')
                    or time.monotonic() > deadline):
                raise errors.SandboxError('%s is still there, with status %s'
                                          % (identifier, found.status))
            time.sleep(0.2)

    @staticmethod
    def _settled(collection: Any, identifier: str,
                 timeout_seconds: float) -> Any:
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = collection.get(identifier)
            if found.status.startswith('error'):
                raise errors.SandboxError('%s has status %s'
                                          % (identifier, found.status))
            if found.status in _SETTLED:
                return found
            if time.monotonic() > deadline:
                raise errors.SandboxError(
                    '%s still has status %s after %d seconds'
                    % (identifier, found.status, timeout_seconds))
            time.sleep(0.2)

    @staticmethod
    def _path(program: str) -> str:
        path = Path(sysconfig.get_path('scripts')) / program
        if not path.exists():
            raise errors.SandboxError(
                '%s is missing; install sandbox/requirements.txt, which '
                '"make venv" does' % path)
        return str(path)


def _without_openstack(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that lead to somebody else's cloud."""
    return {name: value for name, value in variables.items()
            if not name.startswith(('OS_', 'CINDER_'))}


def shell_script(variables: Mapping[str, str],
                 programs: Sequence[str] = ('openstack', 'cinder')) -> str:
    """A script to be sourced, after which the clients talk to the sandbox."""
    scripts = sysconfig.get_path('scripts')
    lines = ['export %s=%s' % (name, shlex.quote(value))
             for name, value in variables.items()]
    lines += ['alias %s=%s' % (program,
                               shlex.quote('%s/%s' % (scripts, program)))
              for program in programs]
    return '\n'.join(lines) + '\n'
