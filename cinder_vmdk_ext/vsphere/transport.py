# SPDX-License-Identifier: Apache-2.0
"""HTTPS to a vCenter: one pool of connections, one way to verify TLS.

All exchanges with a vCenter use this module: SOAP, tags, and transfers of
disks, which may also go to a host. A firewall on the way forgets a connection
that is silent for long, and then drops its packets without an error. So
keepalive runs while a reply is awaited, and a connection that was idle for a
minute is not used again.
"""

import functools
import os
import socket
import time
from collections.abc import Iterable
from collections.abc import Mapping
from http import cookies
from typing import Any
from typing import NamedTuple

from oslo_utils import netutils
import requests
import urllib3
from urllib3 import connection

# Shows an administrator of the vCenter which program has a session.
USER_AGENT = 'cinder-vmdk-ext'

CONNECT_SECONDS = 20.0
READ_SECONDS = 120.0
# A connection that was idle for longer is closed and not used again.
IDLE_SECONDS = 60.0
# Keepalive probes a silent peer after this time; after two minutes without an
# answer the connection counts as lost.
_PROBE_AFTER_SECONDS = 60
_PROBE_EVERY_SECONDS = 15
_PROBES = 4

SESSION_COOKIE = 'vmware_soap_session'


class Trust(NamedTuple):
    """What verifies the certificate of a server."""

    # A file or folder of authorities; if it is given, it decides.
    ca_file: str | None = None
    # Whether verification is off if no file is given.
    insecure: bool = False
    # The only accepted certificate, for a host that a vCenter names.
    thumbprint: str | None = None

    def tls(self, url: str) -> dict[str, Any]:
        """The urllib3 options that verify a server.

        :param url: of the server; REQUESTS_CA_BUNDLE has the same effect as
            in every OpenStack service
        """
        if self.thumbprint:
            return {'cert_reqs': 'CERT_NONE',
                    'assert_fingerprint': self.thumbprint}
        with requests.Session() as like:
            verify = like.merge_environment_settings(
                url, {}, None, self.ca_file or not self.insecure,
                None)['verify']
        if not verify:
            return {'cert_reqs': 'CERT_NONE'}
        if verify is True:
            verify = requests.certs.where()
        kind = 'ca_cert_dir' if os.path.isdir(verify) else 'ca_certs'
        return {'cert_reqs': 'CERT_REQUIRED', kind: verify}


class Transport:
    """Exchanges with one server; threads may share it.

    It keeps the cookie of the vCenter's session, which is sent with every
    request.
    """

    def __init__(self, host: str, port: int, trust: Trust = Trust(), *,
                 pool_size: int = 10,
                 timeouts_seconds: tuple[float, float] = (
                     CONNECT_SECONDS, READ_SECONDS)) -> None:
        """Prepare, without a connection yet.

        :param host: a name or an address; IPv6 with or without brackets
        :param pool_size: number of connections that are kept
        :param timeouts_seconds: for a connection, and for the reply or the
            next part of it
        """
        host = host.strip('[]')
        self.url = f'https://{netutils.escape_ipv6(host)}:{port}'
        self.timeouts_seconds = timeouts_seconds
        # As the vCenter set it, with quotes if it sent them.
        self.cookie: str | None = None
        self._make_pool = functools.partial(
            _Pool, host, port, maxsize=pool_size, block=False,
            # With False, urllib3 would log a line for each request.
            retries=urllib3.Retry(False), socket_options=_socket_options(),
            **trust.tls(self.url))
        self._pool = self._make_pool()

    @property
    def session_key(self) -> str | None:
        """The value of the session's cookie, without quotes."""
        return self.cookie.strip('"') if self.cookie else None

    def request(self, method: str, path: str, *,
                body: bytes | Iterable[bytes] | None = None,
                headers: Mapping[str, str] | None = None,
                read_seconds: float | None = None,
                whole: bool = True) -> 'urllib3.BaseHTTPResponse':
        """Send a request once, never again, and wait for its reply.

        :param path: from the root of the server
        :param whole: read the reply to its end; otherwise the caller has to
            read and close it
        :returns: the reply, whatever its HTTP status; redirections are not
            followed
        :raises HTTPError, OSError: the reply is missing or incomplete; an
            error of urllib3 or of the system
        """
        sent = {'User-Agent': USER_AGENT, **(headers or {})}
        if self.cookie:
            sent['Cookie'] = f'{SESSION_COOKIE}={self.cookie}'
        connect_seconds, usual_seconds = self.timeouts_seconds
        read_seconds = read_seconds or usual_seconds
        reply = self._pool.request(
            method, path, body=body, headers=sent, redirect=False,
            preload_content=whole, timeout=urllib3.Timeout(
                connect=min(connect_seconds, read_seconds),
                read=read_seconds))
        self._keep_cookie(reply)
        return reply

    def _keep_cookie(self, reply: 'urllib3.BaseHTTPResponse') -> None:
        for header in reply.headers.getlist('Set-Cookie'):
            found = cookies.SimpleCookie()
            try:
                found.load(header)
            except cookies.CookieError:
                continue
            for name, morsel in found.items():
                if name.lower() == SESSION_COOKIE:
                    self.cookie = morsel.coded_value

    def close(self) -> None:
        """Close idle connections; the transport can go on to be used."""
        # urllib3 does not reuse a closed pool.
        pool, self._pool = self._pool, self._make_pool()
        pool.close()


class _Connection(connection.HTTPSConnection):
    """A connection that knows when it was last used."""

    used_at = float('-inf')

    def getresponse(self) -> Any:
        reply = super().getresponse()
        self.used_at = time.monotonic()
        return reply


class _Pool(urllib3.HTTPSConnectionPool):
    """A pool that closes a connection which was idle for too long."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        found: Any = super()._get_conn(timeout)
        if time.monotonic() - found.used_at > IDLE_SECONDS:
            found.close()  # it connects again by itself
        return found


@functools.cache
def _socket_options() -> tuple[tuple[int, int, int], ...]:
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Not every system has these options.
    wanted += [(socket.IPPROTO_TCP, getattr(socket, name), value)
               for name, value in (('TCP_KEEPIDLE', _PROBE_AFTER_SECONDS),
                                   ('TCP_KEEPINTVL', _PROBE_EVERY_SECONDS),
                                   ('TCP_KEEPCNT', _PROBES))
               if hasattr(socket, name)]
    return (*connection.HTTPConnection.default_socket_options, *wanted)
