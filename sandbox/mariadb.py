# SPDX-License-Identifier: Apache-2.0
"""Starts MariaDB for a sandbox, where SQLite is not enough."""
from __future__ import annotations

from collections.abc import Sequence
import getpass
from pathlib import Path
import secrets
import shutil
import subprocess
from typing import Any

import pymysql
import sqlalchemy

from sandbox import configuration
from sandbox import errors
from sandbox import processes
from sandbox import servers

_SERVER = servers.Program('mariadbd', 'mariadb-server')
_INSTALLER = servers.Program('mariadb-install-db', 'mariadb-server')
PROGRAMS = (_SERVER, _INSTALLER)

_NAME = _USER = 'cinder'


def home(folder: Path) -> Path:
    """The server's own folder in the sandbox's; its files are in "data"."""
    return folder / 'mariadb'


def release() -> str:
    """The version that the installed server reports."""
    return subprocess.run([_SERVER.required(), '--version'], text=True,
                          check=True, capture_output=True).stdout.strip()


def start(folder: Path, names: Sequence[str] = (_NAME,),
          files: Path | None = None) -> servers.Server:
    """Start a server with databases, without waiting for it.

    :param folder: the sandbox's; the server's own folder is made in it
    :param names: of the databases; "cinder" is one of them
    :param files: data of a stopped server with which to begin; None: no
        data
    :returns: the server; its URL is a connection for SQLAlchemy to the
        database "cinder", see `url_of`
    :raises SandboxError: MariaDB is not installed, or refuses to start
    """
    where = home(folder)
    where.mkdir()
    port, = servers.free_ports(1)
    password = secrets.token_hex(8)
    options = where / 'my.cnf'
    configuration.write_private(options, '\n'.join((
        '[mariadbd]',
        'datadir = %s' % (where / 'data'),
        # As root, the server needs this option to run as root.
        'user = %s' % getpass.getuser(),
        'bind_address = 127.0.0.1',
        'port = %d' % port,
        # Within the data: a whole path may be too long for a socket.
        'socket = socket',
        'pid_file = %s' % (where / 'pid'),
        'init_file = %s' % (where / 'init.sql'),
        'skip_name_resolve',
        # Each of Cinder's processes has a pool of connections.
        'max_connections = 500',
        # Losing the last second in a power cut is fine for a sandbox.
        'innodb_flush_log_at_trx_commit = 2',
        'innodb_log_file_size = 16M',
        'innodb_flush_method = nosync',
        'debug_no_sync = 1',
        '')))
    configuration.write_private(where / 'init.sql', '\n'.join((
        "ALTER USER root@localhost IDENTIFIED BY '%s';"
        % secrets.token_hex(16),
        *('CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb3;' % name
          for name in names),
        "CREATE OR REPLACE USER '%s'@'127.0.0.1' IDENTIFIED BY '%s';"
        % (_USER, password),
        *("GRANT ALL ON %s.* TO '%s'@'127.0.0.1';" % (name, _USER)
          for name in names),
        '')))
    if files:
        shutil.copytree(files, where / 'data')
    else:
        _install(options, folder / 'log' / 'mariadb-install.log')
    process = processes.ManagedProcess.start(
        'mariadb', [_SERVER.required(), '--defaults-file=%s' % options],
        folder)
    return servers.Server(
        process, 'mysql+pymysql://%s:%s@127.0.0.1:%d/%s?charset=utf8mb3'
        % (_USER, password, port, _NAME),
        lambda: connect(port, password).close())


def url_of(server: servers.Server, name: str) -> str:
    """A connection for SQLAlchemy to one of the databases."""
    return sqlalchemy.make_url(server.url).set(
        database=name).render_as_string(hide_password=False)


def connect(port: int, password: str) -> Any:
    """A connection of pymysql to the database."""
    return pymysql.connect(host='127.0.0.1', port=port, user=_USER,
                           password=password, database=_NAME,
                           connect_timeout=2)


def _install(options: Path, log_file: Path) -> None:
    """Make the server's own tables."""
    with open(log_file, 'ab') as log:
        done = subprocess.run(
            [_INSTALLER.required(), '--defaults-file=%s' % options,
             '--auth-root-authentication-method=normal', '--skip-test-db'],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode:
        raise errors.ProcessFailed(
            'MariaDB could not be prepared; the log is %s' % log_file,
            processes.explain(log_file))
