# SPDX-License-Identifier: Apache-2.0
"""Starts, describes and stops a sandbox."""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import fcntl
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

from sandbox import clients
from sandbox import configuration
from sandbox import errors
from sandbox import glance
from sandbox import processes
from sandbox import service_user
from sandbox import vcenter
from simulator import client

DEFAULT_FOLDER = configuration.BUILD / 'sandbox'

_START_TIMEOUT_SECONDS = 240
_READY_TIMEOUT_SECONDS = 240
_STOPPED_LAST = frozenset({'vcenter-sim', 'rabbitmq', 'rabbitmq-names',
                           'mariadb', 'redis'})
# Marks a folder as one that a sandbox may empty.
_MARKER = '.cinder-sandbox'


class Sandbox:
    """A real Cinder on a simulated vCenter, as a context manager.

    Everything is on loopback, on ports that were free, and in one folder;
    any number can run side by side.

    :param folder: its folder; emptied when the sandbox starts
    :param runtime: "eventlet" or "threads": how Cinder does concurrency
    :param driver: the volume driver's class
    :param options: option -> value for the first backend, `vcenter`
    :param extra_backends: more backends beside that one
    :param overrides: section -> option -> value, for any of cinder.conf
    :param simulator_arguments: flags for vcenter-sim
    :param with_glance: a Glance beside Cinder, which takes images from it
    :param progress: called with one line for each step
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER, *,
                 runtime: configuration.Runtime = 'eventlet',
                 driver: str = configuration.PLUGIN_DRIVER,
                 options: configuration.Options | None = None,
                 extra_backends: Sequence[configuration.Backend] = (),
                 overrides: Mapping[str, configuration.Options] | None = None,
                 simulator_arguments: Sequence[str] = (),
                 with_glance: bool = False,
                 progress: Callable[[str], None] = lambda line: None) -> None:
        if runtime not in configuration.RUNTIMES:
            raise errors.SandboxError(
                'there is no runtime "%s"; choose one of: %s'
                % (runtime, ', '.join(configuration.RUNTIMES)))
        self.folder = folder.absolute()
        self.runtime = runtime
        self.driver = driver
        self.backends = [configuration.Backend(options=options or {}),
                         *extra_backends]
        self.overrides = dict(overrides or {})
        self.simulator_arguments = tuple(simulator_arguments)
        self.with_glance = with_glance
        self.glance_url = ''
        self._vcenter: client.Address | None = None
        self.clients: clients.Clients
        self.cinder_url = ''
        self._progress = progress

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- start and stop ----------------------------------------------------

    def start(self) -> None:
        """Start everything, and return when volumes can be created.

        :raises SandboxError: when it cannot; nothing is left running then
        """
        with _locked(self.folder):
            refuse_if_running(self.folder)
            _empty(self.folder)
            try:
                self._start()
            except BaseException:  # Ctrl-C too
                stop_processes(self.folder)
                raise

    def stop(self) -> None:
        """Stop all that was started, and remove the description."""
        stop(self.folder)

    def _start(self) -> None:
        self._progress('starting the simulated vCenter')
        simulator = vcenter.start(self.folder, self.simulator_arguments)
        self._start_beside()
        # Needs no vCenter: the simulator comes up in the meantime.
        self._progress('preparing the database of Cinder')
        self._write_cinder_conf()
        self._sync_database()
        self._vcenter = vcenter.wait_until_ready(simulator, self.folder)
        self._wait_beside()
        self._write_cinder_conf()
        self._progress('starting Cinder (%s)' % self.runtime)
        self._start_cinder()
        self._progress('creating the volume types')
        self._create_volume_types()
        self._progress('waiting for the pools')
        self._wait_for_pools()
        self._describe()

    def _start_beside(self) -> None:
        """Start what Cinder needs beside the vCenter, without waiting."""
        if self.with_glance:
            self._glance = glance.start(self.folder)

    def _wait_beside(self) -> None:
        """Wait for that, and let Cinder know where it is."""
        if self.with_glance:
            self.glance_url = glance.wait_until_ready(self._glance,
                                                      self.folder)
            self.overrides['DEFAULT'] = {
                **self.overrides.get('DEFAULT', {}),
                **configuration.glance_options(self.glance_url)}

    def restart_cinder(self, *, crash: bool = False) -> None:
        """End Cinder's process and start it again, on the same port.

        :param crash: end it by SIGKILL, whatever it is doing
        """
        process = processes.ManagedProcess.load(self._cinder_pid_file)
        if crash:
            process.kill()
        else:
            process.stop()
        port = int(self.cinder_url.rsplit(':', 1)[1])
        self.overrides['DEFAULT'] = {
            **self.overrides.get('DEFAULT', {}),
            'osapi_volume_listen_port': port}
        self._write_cinder_conf()
        self._start_cinder()
        self._wait_for_pools()

    # -- access ------------------------------------------------------------

    @property
    def vcenter(self) -> client.Address:
        """The address of the simulated vCenter, and its login.

        :raises SandboxError: before the start
        """
        if self._vcenter is None:
            raise errors.SandboxError('the sandbox is not started')
        return self._vcenter

    @property
    def endpoint(self) -> str:
        """The Volume API, up to and including "/v3"."""
        return self.cinder_url + '/v3'

    @property
    def cinder(self) -> Any:
        """A client object of python-cinderclient."""
        return self.clients.python

    @property
    def cinder_log(self) -> Path:
        """The log of Cinder's process."""
        return self.folder / 'log' / 'cinder.log'

    @property
    def cinder_conf(self) -> Path:
        """The generated configuration."""
        return self.folder / 'etc' / 'cinder.conf'

    @property
    def database_file(self) -> Path:
        """Cinder's SQLite database."""
        return configuration.database_file(self.folder)

    @property
    def database_url(self) -> str:
        """Cinder's database, to be read with SQLAlchemy."""
        return 'sqlite:///file:%s?mode=ro&uri=true' % self.database_file

    def announcing(self, announce: Callable[[str], None]
                   ) -> tuple[clients.Clients, clients.Clients]:
        """Clients of a user and of an administrator; here they are one.

        :param announce: called with each command, and then with its output
        """
        only = clients.Clients(self.endpoint, announce=announce)
        return only, only

    def description(self) -> dict[str, Any]:
        """The data for scripts, as in sandbox.json."""
        return {
            'cinder_url': self.cinder_url,
            'project_id': configuration.PROJECT_ID,
            'vcenter': {
                'host': self.vcenter.host,
                'port': self.vcenter.port,
                'user': self.vcenter.user,
                'password': self.vcenter.password,
                'cacert': self.vcenter.cacert,
                'control_url': self.vcenter.control_url,
            },
            'dir': str(self.folder),
            'runtime': self.runtime,
            'driver': self.driver,
            'backends': [backend.name for backend in self.backends],
            **({'glance_url': self.glance_url} if self.with_glance else {}),
        }

    # -- steps of the start ------------------------------------------------

    @property
    def _cinder_pid_file(self) -> Path:
        return self.folder / 'run' / 'cinder.pid.json'

    def _write_cinder_conf(self) -> None:
        where = self._vcenter
        login = service_user.of(where) if where else None
        configuration.write_cinder_conf(
            self.folder, self.backends,
            configuration.vcenter_options(
                where.host, where.port, login.user, login.password,
                where.cacert, self.folder) if where and login else {},
            self.driver, self.overrides)

    def _sync_database(self) -> None:
        """Make Cinder's tables; a second sandbox copies those of the first."""
        # Cinder writes the quotas into the tables: others have to be made.
        own_quotas = any(name.startswith('quota_')
                         for name in self.overrides.get('DEFAULT', {}))
        if 'database' in self.overrides or own_quotas:
            self._migrate_database()
            return
        database = configuration.database_file(self.folder)
        empty = configuration.empty_database_file()
        if empty.exists():
            shutil.copyfile(empty, database)
            return
        self._migrate_database()
        partial = empty.with_suffix(f'.{os.getpid()}')
        empty.parent.mkdir(exist_ok=True)
        shutil.copyfile(database, partial)
        partial.replace(empty)

    def _migrate_database(self) -> None:
        log_file = self.folder / 'log' / 'cinder-manage.log'
        with open(log_file, 'ab') as log:
            done = subprocess.run(
                [str(Path(sysconfig.get_path('scripts')) / 'cinder-manage'),
                 '--config-file', str(self.cinder_conf), 'db', 'sync'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            raise errors.ProcessFailed(
                '"cinder-manage db sync" failed; its log is %s' % log_file,
                processes.explain(log_file))

    def _start_cinder(self) -> None:
        self._start_serving('cinder', 'sandbox.cinder_services')

    def _start_serving(self, name: str, module: str) -> None:
        """Start the process that serves the API, and wait until it does."""
        ready_file = self.folder / 'run' / 'cinder.ready.json'
        ready_file.unlink(missing_ok=True)
        process = self._start_program(
            name, [sys.executable, '-m', module, str(ready_file)])

        def probe() -> dict[str, Any] | None:
            if not ready_file.exists():
                return None
            answer: dict[str, Any] = json.loads(ready_file.read_text())
            return answer

        answer = process.wait_until_ready(probe, _START_TIMEOUT_SECONDS)
        if 'error' in answer:
            raise process.failure('Cinder did not start: %s'
                                  % answer['error'])
        self.cinder_url = 'http://127.0.0.1:%d' % answer['port']
        self.clients = self._make_clients()

    def _start_program(self, name: str, command: Sequence[str],
                       *more_configuration: Path
                       ) -> processes.ManagedProcess:
        """Start a program of Cinder's with the sandbox's cinder.conf."""
        variables = {
            'OS_CINDER_DISABLE_EVENTLET_PATCHING':
                '1' if self.runtime == 'threads' else '0',
            'PYTHONPATH': os.pathsep.join(filter(None, [
                str(configuration.REPOSITORY),
                os.environ.get('PYTHONPATH')])),
        }
        files = [word for path in (self.cinder_conf, *more_configuration)
                 for word in ('--config-file', str(path))]
        return processes.ManagedProcess.start(
            name, [*command, *files], self.folder, environment=variables)

    def _make_clients(self) -> clients.Clients:
        return clients.Clients(self.endpoint)

    def _create_volume_types(self) -> None:
        for wanted in configuration.volume_types(self.backends):
            created = self.cinder.volume_types.create(wanted.name)
            if wanted.extra_specs:
                created.set_keys(dict(wanted.extra_specs))

    def _wait_for_pools(self) -> None:
        """Wait until every backend is up and the scheduler knows its pools."""
        process = processes.ManagedProcess.load(self._cinder_pid_file)
        backends = {backend.name for backend in self.backends}
        hosts = {'%s@%s' % (host, backend)
                 for host in self._volume_hosts() for backend in backends}

        def probe() -> bool | None:
            up = {one.host for one
                  in self.cinder.services.list(binary='cinder-volume')
                  if one.state == 'up'}
            with_pools = {_backend_name(pool.name)
                          for pool in self.cinder.pools.list()}
            return True if hosts <= up and backends <= with_pools else None

        process.wait_until_ready(probe, _READY_TIMEOUT_SECONDS)

    def _volume_hosts(self) -> list[str]:
        """What the volume services call their hosts."""
        return [configuration.HOST]

    def _describe(self) -> None:
        text = json.dumps(self.description(), indent=4) + '\n'
        for path in description_files(self.folder):
            configuration.write_private(path, text)
        self._write_commands()

    def _write_commands(self) -> None:
        clients.write_commands(self.endpoint, self.folder / 'bin')


def _backend_name(host: str) -> str:
    """The backend in "host@backend#pool"."""
    return host.partition('@')[2].partition('#')[0]


def description_files(folder: Path) -> list[Path]:
    """Where the sandbox of a folder is described, for scripts."""
    files = [folder / 'sandbox.json']
    if folder == DEFAULT_FOLDER:
        files.append(configuration.BUILD / 'sandbox.json')
    return files


def stop(folder: Path) -> list[str]:
    """Stop the sandbox of a folder, also one that another program started.

    :returns: the names of the processes that were ended
    """
    folder = folder.absolute()
    stopped = stop_processes(folder)
    for path in [*description_files(folder), folder / 'rc']:
        path.unlink(missing_ok=True)
    return stopped


def stop_processes(folder: Path) -> list[str]:
    """End the processes whose pid files are in a folder."""
    # The services end before their vCenter and their servers, or they would
    # log errors in between.
    found = [processes.ManagedProcess.load(pid_file)
             for pid_file in sorted(folder.glob('run/*.pid.json'))]
    last = [one for one in found if one.name in _STOPPED_LAST]
    others = [one for one in found if one not in last]
    return [one.name for some in (others, last)
            for one in processes.stop_all(some)]


def refuse_if_running(folder: Path) -> None:
    """Raise an error when the sandbox of a folder has a running process."""
    for pid_file in folder.glob('run/*.pid.json'):
        process = processes.ManagedProcess.load(pid_file)
        if process.running():
            raise errors.SandboxError(
                'a sandbox is already running in %s (%s, pid %d). Stop it '
                'with "python -m sandbox stop --dir %s", or start another '
                'one with --dir' % (folder, process.name, process.pid,
                                    folder))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one program at a time start a sandbox in a folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock_file = folder.parent / ('.%s.lock' % folder.name)
    with open(lock_file, 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise errors.SandboxError(
                'another program is starting a sandbox in %s at this moment; '
                'wait for it, or choose another folder with --dir'
                % folder) from exc
        try:
            yield
        finally:
            lock_file.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Make a private, empty folder of what a sandbox has left there.

    :raises SandboxError: when the folder holds something else
    """
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir())
                                   and not (folder / _MARKER).exists()):
            raise errors.SandboxError(
                '%s exists and is not the folder of a sandbox, so it is left '
                'alone; choose another one with --dir' % folder)
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    (folder / _MARKER).touch()
    for name in ('etc', 'log', 'run'):
        (folder / name).mkdir()
