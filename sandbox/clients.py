# SPDX-License-Identifier: Apache-2.0
"""Runs the real clients with the sandbox: `openstack`, `cinder`, Python."""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import json
import os
from pathlib import Path
import shlex
import sysconfig
import time
from typing import Any

from cinderclient import client as cinder_client
from cinderclient import exceptions as cinder_exceptions
from cinderclient.contrib import noauth
from keystoneauth1.identity import v3
from keystoneauth1 import session as keystone_session

from sandbox import client_programs
from sandbox import configuration
from sandbox import errors

# The newest microversion that the oldest supported Cinder (27) serves.
API_VERSION = '3.71'

# States in which a volume or a snapshot stays until the next request.
_SETTLED = ('available', 'in-use', 'reserved', 'error', 'error_deleting',
            'error_extending', 'error_restoring', 'error_managing')


def environments(endpoint: str) -> dict[str, dict[str, str]]:
    """The environment variables of each client program to find Cinder.

    Without Keystone the programs need different variables: `cinder` has its
    own authentication type, `noauth`, which `openstack` does not support; and
    the type of `openstack` is unknown to `cinder`.

    :param endpoint: the Volume API, up to and including "/v3"
    """
    project_id = configuration.PROJECT_ID
    return {
        'openstack': {
            'OS_AUTH_TYPE': 'none',
            'OS_ENDPOINT': '%s/%s' % (endpoint, project_id),
            # Otherwise a clouds.yaml in the home folder would be read.
            'OS_CLIENT_CONFIG_FILE': os.devnull,
            'OS_VOLUME_API_VERSION': API_VERSION,
        },
        'cinder': {
            'OS_AUTH_TYPE': 'noauth',
            'OS_USER_ID': 'admin',
            'OS_PROJECT_ID': project_id,
            'CINDER_ENDPOINT': endpoint,
            'OS_VOLUME_API_VERSION': API_VERSION,
        },
    }


_COMMAND = r"""#!/bin/sh
# Whatever cloud the caller is used to is not meant here.
for name in $(env | sed -n 's/^\(OS_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
%(exports)s
exec %(program)s "$@"
"""


def write_commands(endpoint: str, folder: Path) -> None:
    """Write `openstack` and `cinder` that talk to this sandbox.

    :param folder: where; to be put at the head of PATH, which the file `rc`
        beside it does when it is sourced
    """
    folder.mkdir(exist_ok=True)
    for program, variables in environments(endpoint).items():
        command = folder / program
        command.write_text(_COMMAND % {
            'exports': export_lines(variables),
            'program': shlex.quote(_path(program))})
        command.chmod(0o755)
    (folder.parent / 'rc').write_text(
        'PATH=%s:"$PATH"; export PATH\n' % shlex.quote(str(folder)))


_CLOUD_COMMAND = r"""#!/bin/sh
# The program reads no clouds.yaml; OS_CLOUD chooses here.
case "$OS_CLOUD" in
%(cases)s
*) echo "%(program)s: no cloud \"$OS_CLOUD\"" >&2; exit 1;;
esac
exec %(path)s "$@"
"""


def write_cloud_commands(clouds_yaml: Path,
                         variables: Mapping[str, Mapping[str, str]],
                         default: str, folder: Path) -> None:
    """Write `openstack` and `cinder` for a cloud with users.

    Once `rc` beside the folder is sourced, OS_CLOUD says as whom they act.

    :param variables: name in clouds.yaml -> how `cinder` logs in
    :param default: the name that `rc` chooses
    """
    folder.mkdir(exist_ok=True)
    cases = '\n'.join('%s)\n%s;;' % (name, export_lines(those))
                      for name, those in variables.items())
    configuration.write_private(folder / 'cinder', _CLOUD_COMMAND % {
        'cases': cases, 'program': 'cinder',
        'path': shlex.quote(_path('cinder'))})
    configuration.write_private(
        folder / 'openstack',
        '#!/bin/sh\nexec %s "$@"\n' % shlex.quote(_path('openstack')))
    for program in ('cinder', 'openstack'):
        (folder / program).chmod(0o700)
    (folder.parent / 'rc').write_text(
        # What is set for another cloud would be preferred.
        'for name in $(env | sed -n \'s/^\\(OS_[A-Z_]*\\)=.*/\\1/p\'); do '
        'unset "$name"; done\n'
        'export OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=%s\n'
        'PATH=%s:"$PATH"; export PATH\n'
        % (shlex.quote(str(clouds_yaml)), default,
           shlex.quote(str(folder))))


def export_lines(variables: Mapping[str, str]) -> str:
    """The variables as lines of a shell script."""
    return '\n'.join('export %s=%s' % (name, shlex.quote(value))
                     for name, value in variables.items())


class Clients:
    """Clients of one Volume API.

    :param endpoint: the Volume API, up to and including "/v3"
    :param announce: called with each command, and then with its output
    """

    def __init__(self, endpoint: str,
                 announce: Callable[[str], None] | None = None) -> None:
        self.environments = environments(endpoint)
        self._announce = announce
        self.python = self._python_client(endpoint)

    @staticmethod
    def _python_client(endpoint: str) -> Any:
        plugin = noauth.CinderNoAuthPlugin(
            user_id='admin', project_id=configuration.PROJECT_ID,
            endpoint=endpoint)
        return cinder_client.Client(
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
        variables = {**_without_openstack(os.environ),
                     **self.environments[program], 'COLUMNS': '160'}
        _path(program)
        exit_code, output = client_programs.HELPERS[program].run(
            arguments, variables)
        if self._announce and output.strip():
            self._announce(output.rstrip())
        if exit_code:
            raise errors.CommandFailed(command, exit_code, output)
        return output

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
                       timeout_seconds: float = 240.0) -> Any:
        """Wait until a volume is in a state that lasts, and return it.

        :raises SandboxError: when that is an error state, or does not come
        """
        return self._settled(self.python.volumes, volume_id, timeout_seconds)

    def settled_snapshot(self, snapshot_id: str,
                         timeout_seconds: float = 240.0) -> Any:
        """Wait until a snapshot is in a state that lasts, and return it.

        :raises SandboxError: when that is an error state, or does not come
        """
        return self._settled(self.python.volume_snapshots, snapshot_id,
                             timeout_seconds)

    def wait_until_gone(self, collection: Any, identifier: str,
                        timeout_seconds: float = 240.0) -> None:
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


class KeystoneClients(Clients):
    """Clients of one user of a cloud that has a Keystone.

    :param clouds_yaml: the file in which the user is
    :param name: of the user there
    :param variables: how `cinder` logs in, which reads no such file
    """

    def __init__(self, clouds_yaml: Path, name: str,
                 variables: Mapping[str, str],
                 announce: Callable[[str], None] | None = None) -> None:
        self._announce = announce
        self.environments = {
            'openstack': {'OS_CLIENT_CONFIG_FILE': str(clouds_yaml),
                          'OS_CLOUD': name},
            'cinder': dict(variables),
        }
        self.python = cinder_client.Client(
            API_VERSION, region_name=variables['OS_REGION_NAME'],
            session=keystone_session.Session(auth=v3.Password(
                auth_url=variables['OS_AUTH_URL'],
                username=variables['OS_USERNAME'],
                password=variables['OS_PASSWORD'],
                project_name=variables['OS_PROJECT_NAME'],
                user_domain_name=variables['OS_USER_DOMAIN_NAME'],
                project_domain_name=variables['OS_PROJECT_DOMAIN_NAME'])))


def _path(program: str) -> str:
    path = Path(sysconfig.get_path('scripts')) / program
    if not path.exists():
        raise errors.SandboxError(
            '%s is missing; install sandbox/requirements.txt, which '
            '"make venv" does' % path)
    return str(path)


def _without_openstack(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that lead to another cloud."""
    return {name: value for name, value in variables.items()
            if not name.startswith(('OS_', 'CINDER_'))}
