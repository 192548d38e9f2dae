# SPDX-License-Identifier: Apache-2.0
"""MariaDB as a server of the sandbox: Cinder's database in a cluster."""
from __future__ import annotations

import getpass
from pathlib import Path
import secrets
import subprocess
from typing import Any

import pymysql

from sandbox import configuration
from sandbox import errors
from sandbox import processes
from sandbox import servers

_SERVER = servers.Program('mariadbd', 'mariadb-server')
_INSTALLER = servers.Program('mariadb-install-db', 'mariadb-server')
PROGRAMS = (_SERVER, _INSTALLER)

_NAME = _USER = 'cinder'


def start(folder: Path) -> servers.Server:
    """Start a server with one empty database, without waiting for it.

    :param folder: the sandbox's; the server's own folder is made in it
    :returns: the server; its URL is a database connection for SQLAlchemy
    :raises SandboxError: when MariaDB is not installed or not willing
    """
    home = folder / 'mariadb'
    home.mkdir()
    port, = servers.free_ports(1)
    password = secrets.token_hex(8)
    options = home / 'my.cnf'
    configuration.write_private(options, '\n'.join((
        '[mariadbd]',
        'datadir = %s' % (home / 'data'),
        # Root has to be told to run it as root.
        'user = %s' % getpass.getuser(),
        'bind_address = 127.0.0.1',
        'port = %d' % port,
        # Within the data: a whole path may be too long for a socket.
        'socket = socket',
        'pid_file = %s' % (home / 'pid'),
        'init_file = %s' % (home / 'init.sql'),
        'skip_name_resolve',
        # Each of Cinder's processes has a pool of connections.
        'max_connections = 500',
        # Losing the last second in a power cut is fine for a sandbox.
        'innodb_flush_log_at_trx_commit = 2',
        'innodb_log_file_size = 16M',
        '')))
    configuration.write_private(home / 'init.sql', '\n'.join((
        "ALTER USER root@localhost IDENTIFIED BY '%s';"
        % secrets.token_hex(16),
        'CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb3;' % _NAME,
        "CREATE USER IF NOT EXISTS '%s'@'127.0.0.1' IDENTIFIED BY '%s';"
        % (_USER, password),
        "GRANT ALL ON %s.* TO '%s'@'127.0.0.1';" % (_NAME, _USER),
        '')))
    _install(options, folder / 'log' / 'mariadb-install.log')
    process = processes.ManagedProcess.start(
        'mariadb', [_SERVER.required(), '--defaults-file=%s' % options],
        folder)
    return servers.Server(
        process, 'mysql+pymysql://%s:%s@127.0.0.1:%d/%s?charset=utf8mb3'
        % (_USER, password, port, _NAME),
        lambda: connect(port, password).close())


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
