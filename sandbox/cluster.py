# SPDX-License-Identifier: Apache-2.0
"""A sandbox in which several cinder-volume processes serve one backend.

Cinder's API, scheduler and volume services run in separate processes, with
RabbitMQ, MariaDB and, for their locks, Redis. These are real servers, which
only this sandbox uses.
"""
from __future__ import annotations

from pathlib import Path
import sysconfig
from typing import Any

from sandbox import cloud
from sandbox import configuration
from sandbox import errors
from sandbox import mariadb
from sandbox import processes
from sandbox import rabbitmq
from sandbox import redis_server
from sandbox import servers

_INITIALIZE_TIMEOUT_SECONDS = 90
# What Cinder's manager logs then, for each backend.
_INITIALIZED = b'Driver post RPC initialization completed successfully'
_NOT_INITIALIZED = b'Failed to initialize driver'

# The name of the volume services' cluster.
NAME = 'sandbox'
PROGRAMS = (*rabbitmq.PROGRAMS, *mariadb.PROGRAMS, *redis_server.PROGRAMS)


class Cluster(cloud.Sandbox):
    """A real Cinder with several active volume services.

    :param size: how many cinder-volume processes
    :param settings: all others are those of `cloud.Sandbox`
    """

    #: What MariaDB is to have; Cinder's is the first.
    DATABASES: tuple[str, ...] = ('cinder',)
    #: Whether the services form a cluster in Cinder's sense
    clustered = True

    def __init__(self, folder: Path = cloud.DEFAULT_FOLDER, *, size: int = 3,
                 **settings: Any) -> None:
        super().__init__(folder, **settings)
        if size < 1:
            raise errors.SandboxError(
                'a cluster of %d services cannot serve; give 1 or more'
                % size)
        self.size = size
        # Volume service -> where in its log its last start begins.
        self._log_begins: dict[int, int] = {}

    # -- start and stop ----------------------------------------------------

    def start(self) -> None:
        # Before a folder is emptied for nothing.
        servers.require(PROGRAMS)
        super().start()

    def kill_volume_service(self, number: int) -> None:
        """SIGKILL one cinder-volume with all that it has launched.

        :param number: which one, from 1
        """
        self.volume_process(number).kill()

    def start_volume_service(self, number: int) -> None:
        """Start a cinder-volume, without waiting for it."""
        log_file = self.folder / 'log' / ('%s.log' % self._volume_name(number))
        self._log_begins[number] = (log_file.stat().st_size
                                    if log_file.exists() else 0)
        self._start_program(
            self._volume_name(number), self._program('cinder-volume'),
            self._write_volume_conf(number))

    def wait_until_initialized(self, number: int, *,
                               tries_again: bool = True) -> None:
        """Return when a cinder-volume that was started has its drivers.

        :param tries_again: wait also for a driver that fails at first
        :raises ProcessFailed: when it ends or stays silent instead
        """
        process = self.volume_process(number)

        def probe() -> bool | None:
            # Its record is written anew before it has any driver.
            with open(process.log_file, 'rb') as log:
                log.seek(self._log_begins[number])
                said = log.read()
            if _NOT_INITIALIZED in said and not tries_again:
                raise process.failure('the volume driver did not initialize')
            return said.count(_INITIALIZED) >= len(self.backends) or None

        process.wait_until_ready(probe, _INITIALIZE_TIMEOUT_SECONDS)

    def volume_process(self, number: int) -> processes.ManagedProcess:
        """The process of a cinder-volume that was started."""
        return processes.ManagedProcess.load(
            self.folder / 'run'
            / ('%s.pid.json' % self._volume_name(number)))

    # -- what others need to know ------------------------------------------

    @property
    def database_url(self) -> str:
        """Cinder's database, to be read with SQLAlchemy."""
        return self._databases['cinder']

    @property
    def volume_conf(self) -> Path:
        """What the first cinder-volume reads beside cinder.conf."""
        return self._conf_of(1)

    @property
    def cinder_log(self) -> Path:
        """The folder of their logs, one for each process."""
        return self.folder / 'log'

    def description(self) -> dict[str, Any]:
        return {**super().description(), 'cluster': {
            'name': NAME,
            'hosts': self._volume_hosts(),
        }}

    # -- steps of the start ------------------------------------------------

    def _start(self) -> None:
        self._start_servers()
        super()._start()

    def _start_servers(self) -> None:
        self._progress('starting RabbitMQ, Redis and MariaDB')
        broker = rabbitmq.start(self.folder)
        locks = redis_server.start(self.folder)
        database = self._start_database()
        for section, option, server in (
                ('DEFAULT', 'transport_url', broker),
                ('database', 'connection', database),
                ('coordination', 'backend_url', locks)):
            server.wait_until_ready()
            self.overrides[section] = {
                option: server.url, **self.overrides.get(section, {})}
        # A service that starts while the vCenter does tries again.
        self.overrides['DEFAULT'] = {
            'reinit_driver_count': 6, **self.overrides['DEFAULT']}
        self._broker = broker.url
        self._databases = {name: mariadb.url_of(database, name)
                           for name in self.DATABASES}

    def _start_database(self) -> servers.Server:
        return mariadb.start(self.folder, self.DATABASES)

    def _start_cinder(self) -> None:
        self._start_program('cinder-scheduler',
                            self._program('cinder-scheduler'))
        for number in range(1, self.size + 1):
            self.start_volume_service(number)
        self._start_serving('cinder-api', 'sandbox.api_service')

    def _wait_for_pools(self) -> None:
        # Their records say that they are up before they have a driver.
        for number in range(1, self.size + 1):
            self.wait_until_initialized(number, tries_again=False)
        super()._wait_for_pools()

    @property
    def _cinder_pid_file(self) -> Path:
        return self.volume_process(1).pid_file

    def _volume_hosts(self) -> list[str]:
        return ['volume-%d' % number for number in range(1, self.size + 1)]

    def _volume_name(self, number: int) -> str:
        """The name of a volume service's process, log and pid file."""
        return 'cinder-volume-%d' % number

    def _conf_of(self, number: int) -> Path:
        return self.folder / 'etc' / ('volume-%d.conf' % number)

    def _write_volume_conf(self, number: int) -> Path:
        """What one volume service has to itself, as on its own machine."""
        own = self.folder / 'state' / ('volume-%d' % number)
        for name in ('locks', 'tmp'):
            (own / name).mkdir(parents=True, exist_ok=True)
        path = self._conf_of(number)
        configuration.write_private(path, configuration.as_ini({
            'DEFAULT': {
                'host': 'volume-%d' % number,
                **({'cluster': NAME} if self.clustered else {}),
                'state_path': own,
                'image_conversion_dir': own / 'tmp',
            },
            'oslo_concurrency': {'lock_path': own / 'locks'},
            **{backend.name: {'vmware_tmp_dir': own / 'tmp'}
               for backend in self.backends},
        }))
        return path

    def _program(self, name: str) -> list[str]:
        """The command of a program of the Cinder beside this Python."""
        return [str(Path(sysconfig.get_path('scripts')) / name)]
