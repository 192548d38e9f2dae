# SPDX-License-Identifier: Apache-2.0
"""Starts RabbitMQ for a sandbox: the message bus of Cinder's services."""
from __future__ import annotations

import json
import os
from pathlib import Path
import secrets
import subprocess

import kombu

from sandbox import configuration
from sandbox import errors
from sandbox import processes
from sandbox import servers

# Not Debian's wrapper of that name on PATH, which changes to the system's
# user and folders.
_SERVER = servers.Program(
    '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server',
    'rabbitmq-server')
_CONTROL = servers.Program(
    '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmqctl',
    'rabbitmq-server')
# Erlang's register of names, which comes with Erlang.
_EPMD = servers.Program('epmd', 'rabbitmq-server')
PROGRAMS = (_SERVER, _EPMD)

# In the broker's folder: the variables with which its commands find it.
_VARIABLES = 'variables.json'


def start(folder: Path) -> servers.Server:
    """Start a broker with one user, without waiting for it.

    :param folder: the sandbox's; the broker's own folder is made in it
    :returns: the server; its URL is a transport_url for oslo.messaging
    :raises SandboxError: when RabbitMQ is not installed
    """
    home = folder / 'rabbitmq'
    home.mkdir()
    port, names_port, distribution_port = servers.free_ports(3)
    user, password = 'sandbox', secrets.token_hex(8)
    configuration.write_private(home / 'rabbitmq.conf', '\n'.join((
        'listeners.tcp.1 = 127.0.0.1:%d' % port,
        'default_user = %s' % user,
        'default_pass = %s' % password,
        'log.console = true',
        'log.file = false',
        # It would refuse messages on a disk or a machine that is rather full.
        'disk_free_limit.absolute = 50MB',
        '')))
    (home / 'plugins').write_text('[].\n')
    (home / 'environment').touch()
    # One of our own, in the foreground: Erlang would start one for the whole
    # machine, and leave it behind.
    processes.ManagedProcess.start(
        'rabbitmq-names',
        [_EPMD.required(), '-port', str(names_port), '-address', '127.0.0.1'],
        folder)
    variables = _variables(home, names_port, distribution_port)
    configuration.write_private(home / _VARIABLES, json.dumps(variables))
    process = processes.ManagedProcess.start(
        'rabbitmq', [_SERVER.required(), '-noinput'], folder,
        environment=variables)
    place = '%s:%s@127.0.0.1:%d/' % (user, password, port)
    return servers.Server(process, 'rabbit://' + place,
                          lambda: _connect('amqp://' + place + '/'))


def _connect(url: str) -> None:
    with kombu.Connection(url, connect_timeout=2) as connection:
        connection.connect()


def _variables(home: Path, names_port: int, distribution_port: int
               ) -> dict[str, str]:
    """The environment variables of the broker and of its commands."""
    return {
        # For the cookie with which Erlang's nodes know each other.
        'HOME': str(home),
        'ERL_EPMD_ADDRESS': '127.0.0.1',
        'ERL_EPMD_PORT': str(names_port),
        'RABBITMQ_NODENAME': 'sandbox@localhost',
        'RABBITMQ_DIST_PORT': str(distribution_port),
        'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
            '-kernel inet_dist_use_interface {127,0,0,1} +S 1',
        'RABBITMQ_CONF_ENV_FILE': str(home / 'environment'),
        'RABBITMQ_CONFIG_FILE': str(home / 'rabbitmq.conf'),
        'RABBITMQ_GENERATED_CONFIG_DIR': str(home / 'generated'),
        'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'plugins'),
        'RABBITMQ_FEATURE_FLAGS_FILE': str(home / 'feature_flags'),
        'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
        'RABBITMQ_LOG_BASE': str(home),
        'RABBITMQ_PID_FILE': str(home / 'pid'),
        # Else a shell stands between the broker and our signals.
        'RABBITMQ_ALLOW_INPUT': '1',
    }


def control(folder: Path, *arguments: str) -> None:
    """Run a command of rabbitmqctl on the broker of a sandbox.

    :param folder: the sandbox's
    :raises ProcessFailed: when it fails; holds what it says
    """
    home = folder / 'rabbitmq'
    done = subprocess.run(
        [_CONTROL.required(), *arguments], text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **json.loads((home / _VARIABLES).read_text())})
    if done.returncode:
        raise errors.ProcessFailed(
            '"rabbitmqctl %s" failed' % ' '.join(arguments), done.stdout)
