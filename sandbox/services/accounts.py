# SPDX-License-Identifier: Apache-2.0
"""Who there is in a cloud, and where: users, projects, addresses."""
from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
from pathlib import Path
import secrets

from sandbox import clients
from sandbox import configuration
from sandbox import servers

REGION = 'RegionOne'
DOMAIN = 'Default'


@dataclasses.dataclass(frozen=True)
class Account:
    """A user in one project.

    :param name: of the user, and of its entry in clouds.yaml
    """

    name: str
    project: str
    roles: tuple[str, ...]
    password: str = dataclasses.field(
        repr=False, default_factory=lambda: secrets.token_hex(8))


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where each service listens, on loopback."""

    keystone: int
    glance: int
    cinder: int
    placement: int
    nova: int
    network: int
    horizon: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that are free at this moment."""
        return cls(*servers.free_ports(len(dataclasses.fields(cls))))


class Accounts:
    """The users of a cloud; their passwords are made up with them.

    :param ports: of the services
    """

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.admin = Account('admin', 'admin', ('admin',))
        self.member = Account('member', 'demo', ('member',))
        # In a project of its own, as the receiver of a transfer.
        self.other = Account('other', 'other', ('member',))
        self.service = Account('service', 'service', ('admin', 'service'))

    @property
    def people(self) -> tuple[Account, ...]:
        """Those who are in clouds.yaml."""
        return self.admin, self.member, self.other

    @property
    def auth_url(self) -> str:
        """Where Keystone serves."""
        return url(self.ports.keystone) + '/v3'

    def service_options(self) -> configuration.Options:
        """How a service identifies itself, for a section of its file."""
        return {
            'auth_type': 'password',
            'auth_url': self.auth_url,
            'username': self.service.name,
            'password': self.service.password,
            'project_name': self.service.project,
            'user_domain_name': DOMAIN,
            'project_domain_name': DOMAIN,
            'region_name': REGION,
        }

    def token_options(self) -> configuration.Options:
        """The section that names the service that validates tokens."""
        return {
            **self.service_options(),
            'www_authenticate_uri': self.auth_url,
            'service_token_roles': 'service',
            'service_token_roles_required': True,
        }

    def user_options(self) -> configuration.Options:
        """The section that lets a service add a token of its own."""
        return {**self.service_options(), 'send_service_user_token': True}

    def login(self, account: Account) -> dict[str, str]:
        """How somebody logs in, as in clouds.yaml."""
        return {
            'auth_url': self.auth_url,
            'username': account.name,
            'password': account.password,
            'project_name': account.project,
            'user_domain_name': DOMAIN,
            'project_domain_name': DOMAIN,
        }

    def variables(self, account: Account) -> dict[str, str]:
        """The variables with which the program `cinder` logs in."""
        return variables(self.login(account))

    def clouds_yaml(self) -> str:
        """The text of a clouds.yaml with an entry for each person."""
        # What is JSON is YAML.
        return json.dumps({'clouds': {account.name: {
            'auth': self.login(account),
            'region_name': REGION,
            'identity_api_version': '3',
            'volume_api_version': clients.API_VERSION,
        } for account in self.people}}, indent=4) + '\n'

    def endpoints(self) -> dict[tuple[str, str], str]:
        """(name, type) of each service but Keystone -> where it serves."""
        ports = self.ports
        return {
            ('glance', 'image'): url(ports.glance),
            ('cinder', 'block-storage'): url(ports.cinder) + '/v3',
            ('cinderv3', 'volumev3'):
                url(ports.cinder) + '/v3/%(project_id)s',
            ('placement', 'placement'): url(ports.placement),
            ('nova', 'compute'): url(ports.nova) + '/v2.1',
            ('network', 'network'): url(ports.network),
        }


def variables(login: Mapping[str, str]) -> dict[str, str]:
    """The variables with which the program `cinder` logs in.

    :param login: as in clouds.yaml
    """
    return {
        'OS_AUTH_TYPE': 'password',
        'OS_AUTH_URL': login['auth_url'],
        **{'OS_%s' % name.upper(): login[name] for name in (
            'username', 'password', 'project_name', 'user_domain_name',
            'project_domain_name')},
        'OS_REGION_NAME': REGION,
        'OS_VOLUME_API_VERSION': clients.API_VERSION,
    }


def url(port: int) -> str:
    """What listens on a port of loopback."""
    return 'http://127.0.0.1:%d' % port


def write_clouds_yaml(accounts: Accounts, folder: Path) -> Path:
    """Write clouds.yaml into the sandbox's folder; only its owner reads it."""
    path = folder / 'clouds.yaml'
    configuration.write_private(path, accounts.clouds_yaml())
    return path
