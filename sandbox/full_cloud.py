# SPDX-License-Identifier: Apache-2.0
"""A sandbox that is a whole cloud: Cinder among the services it works with.

Keystone, Glance, Placement, Nova with its VMware driver and Horizon beside
Cinder with cinder-backup, on RabbitMQ and MariaDB, and all on one simulated
vCenter.
"""
from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from pathlib import Path
import subprocess
import sys
from typing import Any

from oslo_utils import strutils

from sandbox import clients
from sandbox import cloud
from sandbox import cluster
from sandbox import configuration
from sandbox import mariadb
from sandbox import processes
from sandbox import servers
from sandbox import service_user
from sandbox.services import accounts as accounts_module
from sandbox.services import databases
from sandbox.services import environment
from sandbox.services import horizon
from sandbox.services import images
from sandbox.services import keystone
from sandbox.services import nova
from sandbox.services import placement
from sandbox.services import running

# Every datastore reaches every host, or Nova's cluster could not use all.
SIMULATOR_ARGUMENTS = (
    '-cluster', str(len(nova.CLUSTERS)), '-standalone-host', '0',
    '-ds-mount-all')
# What os-brick needs in addition, if the driver gives it the vCenter's
# credentials (docs/security.md): it logs in as the same user.
OS_BRICK_PRIVILEGES = ('VirtualMachine.Config.Resource',)
_CREDENTIALS = 'vmdk_ext_connector_credentials'


class FullCloud(cluster.Cluster):
    """A Cinder in a cloud, with users, images and servers.

    `cinder` and `clients` are those of the administrator; `clients_of` has
    those of everybody.

    :param settings: those of `cluster.Cluster`
    """

    DATABASES = databases.NAMES

    def __init__(self, folder: Path = cloud.DEFAULT_FOLDER, *, size: int = 1,
                 **settings: Any) -> None:
        settings['simulator_arguments'] = (
            *SIMULATOR_ARGUMENTS, *settings.get('simulator_arguments', ()))
        super().__init__(folder, size=size, **settings)
        # One service has no cluster, as in most clouds: within a cluster,
        # Cinder drops the pool to which an administrator migrates a volume.
        self.clustered = size > 1
        if self.clustered:
            # Each service has a folder of its own by default, and another
            # one than the exporting may end a backup.
            self.overrides['backend_defaults'] = {
                'vmdk_ext_backup_dir': self.folder / 'backup-files',
                'vmdk_ext_backup_dir_shared': True,
                **self.overrides.get('backend_defaults', {})}
        self.accounts: accounts_module.Accounts
        self.admin: Any = None
        self._executor: futures.ThreadPoolExecutor
        self._nova: list[processes.ManagedProcess] = []

    # -- what others need to know ------------------------------------------

    @property
    def clouds_yaml(self) -> Path:
        """A clouds.yaml with "admin", "member" and "other"."""
        return self.folder / 'clouds.yaml'

    @property
    def dashboard_url(self) -> str:
        """Where Horizon is, for a browser."""
        return accounts_module.url(self.accounts.ports.horizon)

    def connection(self, name: str) -> Any:
        """A connection of openstacksdk as one of clouds.yaml."""
        return keystone.connect(self.clouds_yaml, name)

    def clients_of(self, name: str) -> clients.Clients:
        """The clients of one of clouds.yaml."""
        account = next(one for one in self.accounts.people
                       if one.name == name)
        return clients.KeystoneClients(
            self.clouds_yaml, name, self.accounts.variables(account))

    def announcing(self, announce: Callable[[str], None]
                   ) -> tuple[clients.Clients, clients.Clients]:
        return running.announcing(self.clouds_yaml, announce)

    def description(self) -> dict[str, Any]:
        return {**super().description(),
                'project_id': self.connection(
                    'member').current_project_id,
                'keystone_url': self.accounts.auth_url,
                'glance_url': accounts_module.url(self.accounts.ports.glance),
                'nova_url': accounts_module.url(self.accounts.ports.nova),
                'dashboard_url': self.dashboard_url,
                'clouds_yaml': str(self.clouds_yaml),
                'commit': commit()}

    # -- steps of the start ------------------------------------------------

    def start(self) -> None:
        # Before a folder is emptied for nothing.
        for each in (environment.SERVICES, environment.DASHBOARD):
            each.require()
        servers.require(nova.PROGRAMS)
        super().start()

    def _start(self) -> None:
        self.accounts = accounts_module.Accounts(accounts_module.Ports.free())
        accounts_module.write_clouds_yaml(self.accounts, self.folder)
        # It ends only when all that it has begun has ended, so that nothing
        # is started after a failure has stopped the rest.
        with futures.ThreadPoolExecutor(2) as self._executor:
            super()._start()

    def _start_servers(self) -> None:
        if not databases.kept().exists():
            self._progress('making the tables of all services (once)')
            databases.make(self.folder)
        super()._start_servers()

    def _start_database(self) -> servers.Server:
        return mariadb.start(self.folder, self.DATABASES, databases.kept())

    def _sync_database(self) -> None:
        """Nothing: the tables are there from the beginning."""

    def _start_beside(self) -> None:
        """Begin with the services that Cinder needs; see `_wait_beside`."""
        self._progress('preparing Keystone, Glance, Placement and Nova')
        self._identity = self._executor.submit(self._start_identity)
        self._images = self._executor.submit(
            images.start, self.folder, self._databases['glance'],
            self._broker, self.accounts)
        self._placement = self._executor.submit(
            placement.start, self.folder, self._databases['placement'],
            self.accounts)
        self._dashboard = self._executor.submit(
            horizon.start, self.folder, self.accounts)

    def _start_identity(self) -> None:
        keystone.start(self.folder, self._databases['keystone'],
                       self.accounts)
        keystone.populate(self.connection('admin'), self.accounts)
        # One that knows the catalogue from its beginning.
        self.admin = self.connection('admin')

    def _wait_beside(self) -> None:
        service_user.of(self.vcenter, OS_BRICK_PRIVILEGES
                        if self._gives_credentials() else ())
        self._identity.result()
        ports = self.accounts.ports
        environment.wait_until_serving(
            self._images.result(), accounts_module.url(ports.glance))
        service = self.admin.identity.find_user(
            self.accounts.service.name)
        for section, options in cinder_options(
                self.folder, self.accounts, service.id,
                service.default_project_id).items():
            self.overrides[section] = {
                **options, **self.overrides.get(section, {})}

    def _start_cinder(self) -> None:
        environment.serve('network', 'sandbox.services.no_network',
                          self.accounts.ports.network, self.folder, {})
        self._nova = nova.start(self.folder, self._write_nova_conf(),
                                self.accounts)
        super()._start_cinder()
        self._start_program('cinder-backup', self._program('cinder-backup'))

    def _wait_for_pools(self) -> None:
        super()._wait_for_pools()
        self._progress('waiting for Nova and Horizon')
        nova.wait_until_ready(self._nova, self.admin, self.accounts)
        nova.populate(self.admin)
        environment.wait_until_serving(
            self._dashboard.result(), self.dashboard_url + '/auth/login/')

    def _gives_credentials(self) -> bool:
        """Whether a backend gives os-brick the vCenter's credentials."""
        sections = [*self.overrides.values(),
                    *(backend.options for backend in self.backends)]
        return any(strutils.bool_from_string(each.get(_CREDENTIALS))
                   for each in sections)

    def _write_nova_conf(self) -> Path:
        return nova.write(self.folder, nova.options(
            self.folder, self._databases, self._broker, self.accounts,
            self.vcenter))

    def _program(self, name: str) -> list[str]:
        if name in ('cinder-volume', 'cinder-backup'):
            return [sys.executable, '-m', 'sandbox.services.cinder_program',
                    name.removeprefix('cinder-')]
        return super()._program(name)

    def _make_clients(self) -> clients.Clients:
        return self.clients_of('admin')

    def _write_commands(self) -> None:
        clients.write_cloud_commands(
            self.clouds_yaml,
            {account.name: self.accounts.variables(account)
             for account in self.accounts.people},
            self.accounts.member.name, self.folder / 'bin')


def commit() -> str:
    """What the checkout is at, such as "7440ac5" or "7440ac5-dirty".

    :returns: "" outside of a checkout
    """
    try:
        return subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--exclude', '*'],
            cwd=configuration.REPOSITORY, check=True, text=True,
            capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def cinder_options(folder: Path, accounts: accounts_module.Accounts,
                   user_id: str, project_id: str
                   ) -> dict[str, configuration.Options]:
    """Section -> options of cinder.conf that lead to the other services.

    :param user_id: of the services' user in Keystone
    :param project_id: of its project
    """
    backups = folder / 'backups'
    backups.mkdir(exist_ok=True)
    return {
        'DEFAULT': {
            'auth_strategy': 'keystone',
            'osapi_volume_listen_port': accounts.ports.cinder,
            'glance_api_servers': accounts_module.url(accounts.ports.glance),
            'cinder_internal_tenant_user_id': user_id,
            'cinder_internal_tenant_project_id': project_id,
            'backup_driver': 'cinder.backup.drivers.posix.PosixBackupDriver',
            'backup_posix_path': backups,
            'backup_workers': 1,
            'quota_backups': -1,
            'quota_backup_gigabytes': -1,
            'enable_force_upload': True,
        },
        'keystone_authtoken': accounts.token_options(),
        'service_user': accounts.user_options(),
        'nova': accounts.service_options(),
        # Of a sandbox, for volumes whose type wants encryption.
        'key_manager': {
            'backend': 'cinder.keymgr.conf_key_mgr.ConfKeyManager',
            'fixed_key': '00' * 32},
    }
