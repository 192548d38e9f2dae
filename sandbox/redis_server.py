# SPDX-License-Identifier: Apache-2.0
"""Starts Redis for a sandbox: the locks of Cinder's services.

With tooz's Redis driver a lock expires after 30 seconds unless its holder
renews it, so the locks of a killed process end by themselves.
"""
from __future__ import annotations

from pathlib import Path
import secrets

import redis

from sandbox import configuration
from sandbox import processes
from sandbox import servers

_SERVER = servers.Program('redis-server', 'redis-server')
PROGRAMS = (_SERVER,)


def start(folder: Path) -> servers.Server:
    """Start a server with a password, without waiting for it.

    :param folder: the sandbox's; the server's own folder is made in it
    :returns: the server; its URL is a backend_url for tooz
    :raises SandboxError: when Redis is not installed
    """
    home = folder / 'redis'
    home.mkdir()
    port, = servers.free_ports(1)
    password = secrets.token_hex(8)
    options = home / 'redis.conf'
    configuration.write_private(options, '\n'.join((
        'bind 127.0.0.1',
        'port %d' % port,
        'requirepass %s' % password,
        'dir "%s"' % home,
        # Locks need not survive a restart.
        'save ""',
        'appendonly no',
        '')))
    process = processes.ManagedProcess.start(
        'redis', [_SERVER.required(), str(options)], folder)
    return servers.Server(
        process, 'redis://:%s@127.0.0.1:%d' % (password, port),
        redis.Redis(port=port, password=password,
                    socket_connect_timeout=2).ping)
