# SPDX-License-Identifier: Apache-2.0
"""Keystone: the users, projects and roles of a cloud, and its catalogue."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import fernet
import openstack

from sandbox import configuration
from sandbox import processes
from sandbox.services import accounts as accounts_module
from sandbox.services import environment


def options(folder: Path, database: str
            ) -> dict[str, configuration.Options]:
    """Section -> options of keystone.conf."""
    home = folder / 'keystone'
    return {
        'DEFAULT': {'use_stderr': True},
        'database': {'connection': database},
        'fernet_tokens': {'key_repository': home / 'tokens'},
        # Keystone does not start if this folder is missing.
        'fernet_receipts': {'key_repository': home / 'receipts'},
        'credential': {'key_repository': home / 'credentials'},
        # Passwords are made up at each start, and long; it is the least.
        'identity': {'password_hash_rounds': 4},
        'token': {'expiration': 86400},
    }


def start(folder: Path, database: str, accounts: accounts_module.Accounts
          ) -> processes.ManagedProcess:
    """Make Keystone's keys, start it, and wait until it serves.

    :param database: where its tables are
    """
    (folder / 'keystone').mkdir()
    path = folder / 'etc' / 'keystone.conf'
    configuration.write_private(
        path, configuration.as_ini(options(folder, database)))
    for repository in ('tokens', 'receipts', 'credentials'):
        _make_keys(folder / 'keystone' / repository)
    url = accounts.auth_url
    environment.run(
        'keystone-manage',
        [environment.SERVICES.program('keystone-manage'),
         '--config-file', str(path), 'bootstrap',
         '--bootstrap-username', accounts.admin.name,
         '--bootstrap-project-name', accounts.admin.project,
         '--bootstrap-region-id', accounts_module.REGION,
         '--bootstrap-public-url', url, '--bootstrap-internal-url', url,
         '--bootstrap-admin-url', url],
        folder,
        # Not as an argument, which every user of the machine can see.
        environment.SERVICES.variables(
            {'OS_BOOTSTRAP_PASSWORD': accounts.admin.password}))
    process = environment.serve(
        'keystone', 'keystone.wsgi.api', accounts.ports.keystone, folder,
        {'OS_KEYSTONE_CONFIG_FILES': str(path)})
    environment.wait_until_serving(process, url)
    return process


def _make_keys(repository: Path) -> None:
    """Make the first keys, as `keystone-manage fernet_setup` does."""
    repository.mkdir(mode=0o700)
    for number in ('0', '1'):  # the next key, and the one in use
        configuration.write_private(
            repository / number, fernet.Fernet.generate_key().decode())


def connect(clouds_yaml: Path, name: str) -> Any:
    """A connection of openstacksdk as one of clouds.yaml."""
    loader = openstack.config.OpenStackConfig(
        config_files=[str(clouds_yaml)], secure_files=[], vendor_files=[],
        load_envvars=False)
    return openstack.connection.Connection(config=loader.get_one(name))


def populate(admin: Any, accounts: accounts_module.Accounts) -> None:
    """Make the projects, the users, their roles, and the catalogue.

    :param admin: a connection as the administrator
    """
    identity = admin.identity
    roles = {role.name: role for role in identity.roles()}
    for account in (accounts.service, accounts.member, accounts.other):
        project = identity.create_project(name=account.project,
                                          domain_id='default')
        user = identity.create_user(
            name=account.name, password=account.password,
            domain_id='default', default_project_id=project.id)
        for role in account.roles:
            identity.assign_project_role_to_user(project, user, roles[role])
    for (name, kind), url in accounts.endpoints().items():
        service = identity.create_service(name=name, type=kind)
        for interface in ('public', 'internal'):
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=url,
                region_id=accounts_module.REGION)
