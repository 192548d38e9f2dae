# SPDX-License-Identifier: Apache-2.0
"""The tables of all services, made once and copied from then on.

To make them takes most of a minute; they are the same at each start. What is
kept are MariaDB's own files, of a server that was stopped in good order.
"""
from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
import hashlib
from importlib import metadata
import os
from pathlib import Path
import shutil
import sysconfig

from sandbox import configuration
from sandbox import mariadb
from sandbox import servers
from sandbox.services import environment

NAMES = ('cinder', 'keystone', 'glance', 'placement',
         'nova_api', 'nova', 'nova_cell0')

_PACKAGES = ('glance', 'keystone', 'nova', 'openstack-placement')
# Nova puts in what its own connections are at that time (it calls this a
# template); so its cells are there at each start, whatever the passwords.
_CELL0 = ('{scheme}://{username}:{password}@{hostname}:{port}/'
          'nova_cell0?{query}')
_CELL = '{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}'
_BUS = '{scheme}://{username}:{password}@{hostname}:{port}/{path}'


def kept() -> Path:
    """Where the files are kept for the releases that are installed."""
    installed = environment.SERVICES.folder.glob(
        'lib/python*/site-packages')
    releases = sorted(
        '%s %s' % (one.metadata['Name'], one.version)
        for name in _PACKAGES
        for one in metadata.distributions(
            name=name, path=[str(path) for path in installed]))
    releases.append('cinder %s' % metadata.version('cinder'))
    releases.append('mariadb %s' % mariadb.release())
    # Cinder writes them into its tables.
    releases.append('quotas %s' % configuration.QUOTAS)
    digest = hashlib.sha256('\n'.join(releases).encode()).hexdigest()
    return configuration.BUILD / ('empty-cloud-%s' % digest[:16])


def make(folder: Path) -> None:
    """Make the files that `kept` names, with a server of their own.

    :param folder: the sandbox's, which has no server yet
    :raises ProcessFailed: when a service cannot make its tables
    """
    server = mariadb.start(folder, NAMES).wait_until_ready()
    try:
        # Two, for they are busy all the time.
        with futures.ThreadPoolExecutor(2) as executor:
            for done in [executor.submit(_fill, folder, server, name)
                         for name in ('nova', 'keystone', 'cinder',
                                      'glance', 'placement')]:
                done.result()
    finally:
        server.process.stop(timeout_seconds=60)
    home = mariadb.home(folder)
    partial = kept().with_suffix('.%d' % os.getpid())
    shutil.copytree(home / 'data', partial,
                    ignore=shutil.ignore_patterns('socket'))
    try:
        partial.rename(kept())
    except OSError:
        # Another sandbox that starts at the same time has made them first.
        shutil.rmtree(partial)
        if not kept().exists():
            raise
    shutil.rmtree(home)


def _fill(folder: Path, server: servers.Server, service: str) -> None:
    path = folder / 'etc' / ('%s-tables.conf' % service)
    where = {name: mariadb.url_of(server, name) for name in NAMES}
    configuration.write_private(path, configuration.as_ini({
        # Of no broker; it is only looked at for the parts that _BUS names.
        'DEFAULT': {'use_stderr': True,
                    'transport_url': 'rabbit://user:none@127.0.0.1:5672/',
                    **(configuration.QUOTAS if service == 'cinder' else {})},
        'database': {'connection': where[service]},
        'placement_database': {'connection': where['placement']},
        'api_database': {'connection': where['nova_api']},
    }))
    for command in _commands(service):
        environment.run(
            '%s-tables' % service,
            [_program(service), '--config-file', str(path), *command],
            folder, environment.SERVICES.variables())
    path.unlink()


def _program(service: str) -> str:
    if service == 'cinder':
        return str(Path(sysconfig.get_path('scripts')) / 'cinder-manage')
    return environment.SERVICES.program('%s-manage' % service)


def _commands(service: str) -> Iterator[tuple[str, ...]]:
    if service == 'nova':
        yield 'api_db', 'sync'
        yield 'cell_v2', 'map_cell0', '--database_connection', _CELL0
        yield 'db', 'sync'
        yield ('cell_v2', 'create_cell', '--name', 'cell1',
               '--database_connection', _CELL, '--transport-url', _BUS)
    elif service in ('keystone', 'glance'):
        yield 'db_sync',
    else:
        yield 'db', 'sync'
