# SPDX-License-Identifier: Apache-2.0
"""A whole cloud that runs, as described by the process that started it."""
from __future__ import annotations

from collections.abc import Callable
import configparser
import json
from pathlib import Path
from typing import Any

from oslo_utils import strutils

from sandbox import clients
from sandbox import cloud
from sandbox import errors
from sandbox.services import accounts
from sandbox.services import keystone
from simulator import client


class RunningCloud:
    """The cloud in a folder.

    :raises SandboxError: when none runs there
    """

    def __init__(self, folder: Path = cloud.DEFAULT_FOLDER) -> None:
        try:
            described = json.loads(
                (folder / 'sandbox.json').read_text())
            self.clouds_yaml = Path(described['clouds_yaml'])
        except (FileNotFoundError, KeyError):
            raise errors.SandboxError(
                'no whole cloud runs in %s: start one with "make sandbox '
                'CLOUD=1"' % folder) from None
        self.folder = folder
        self.dashboard_url: str = described['dashboard_url']
        self.backends: list[str] = described['backends']
        # What the checkout was at when it was started.
        self.commit: str = described.get('commit', '')
        self.vcenter = client.Address(**described['vcenter'], pid=0)

    def connection(self, name: str) -> Any:
        """A connection of openstacksdk as one of clouds.yaml."""
        return keystone.connect(self.clouds_yaml, name)

    def login(self, name: str) -> dict[str, str]:
        """How one of clouds.yaml logs in: username, password and so on."""
        return login(self.clouds_yaml, name)

    @property
    def database_url(self) -> str:
        """Cinder's database, to be read with SQLAlchemy."""
        return self.option('database', 'connection')

    @property
    def gives_credentials(self) -> bool:
        """Whether a backend gives os-brick the vCenter's credentials."""
        return any(strutils.bool_from_string(
            self.option(section, 'vmdk_ext_connector_credentials'))
            for section in (*self.backends, 'backend_defaults'))

    def announcing(self, announce: Callable[[str], None]
                   ) -> tuple[clients.Clients, clients.Clients]:
        """Clients of the member and of the administrator.

        :param announce: called with each command, and then with its output
        """
        return announcing(self.clouds_yaml, announce)

    def option(self, section: str, name: str, default: str = '') -> str:
        """An option of cinder.conf, as it stands there."""
        parser = configparser.RawConfigParser(strict=False)
        parser.read(self.folder / 'etc' / 'cinder.conf')
        return parser.get(section, name, fallback=default)


def announcing(clouds_yaml: Path, announce: Callable[[str], None]
               ) -> tuple[clients.Clients, clients.Clients]:
    """Clients of the member and of the administrator of a cloud."""
    def as_administrator(text: str) -> None:
        announce('$ OS_CLOUD=admin %s' % text.removeprefix('$ ')
                 if text.startswith('$ ') else text)

    def of(name: str, say: Callable[[str], None]) -> clients.Clients:
        return clients.KeystoneClients(
            clouds_yaml, name, accounts.variables(login(clouds_yaml, name)),
            say)

    return of('member', announce), of('admin', as_administrator)


def login(clouds_yaml: Path, name: str) -> dict[str, str]:
    """How one of clouds.yaml logs in: username, password and so on."""
    # It is written as JSON, which is YAML.
    found: dict[str, str] = json.loads(clouds_yaml.read_text())[
        'clouds'][name]['auth']
    return found
