# SPDX-License-Identifier: Apache-2.0
"""HTTPS to a vCenter: one pool of connections, one way to verify TLS.

Everything that speaks to a vCenter goes through here: SOAP, tags, and the
transfers of disks, which may also lead to a host. A firewall on the way
forgets a connection that is silent for long, and drops what is sent on it
without a word; so connections are kept alive while a reply is awaited, and
an idle one is not used again after a minute.
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

# By this an administrator of the vCenter knows whose a session is.
USER_AGENT = 'cinder-vmdk-ext'

CONNECT_SECONDS = 20.0
READ_SECONDS = 120.0
# An idle connection that is older is closed instead of used.
IDLE_SECONDS = 60.0
# A silent peer is asked for a sign after so long; after two minutes without
# one it counts as gone.
_PROBE_AFTER_SECONDS = 60
_PROBE_EVERY_SECONDS = 15
_PROBES = 4

SESSION_COOKIE = 'vmware_soap_session'


class Trust(NamedTuple):
    """What verifies the certificate of a server."""

    # A file, or a folder, of authorities; where it is given, it decides.
    ca_file: str | None = None
    # Whether nothing is verified, where no file is given.
    insecure: bool = False
    # The one certificate that is accepted, of a host that a vCenter names.
    thumbprint: str | None = None

    def tls(self, url: str) -> dict[str, Any]:
        """How urllib3 is to verify a server.

        :param url: of the server; REQUESTS_CA_BUNDLE counts as it does for
            every OpenStack service
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

        :param host: a name or an address; one of IPv6 with brackets or not
        :param pool_size: connections that are kept
        :param timeouts_seconds: for a connection, and for the reply or the
            next part of it
        """
        host = host.strip('[]')
        self.url = f'https://{netutils.escape_ipv6(host)}:{port}'
        self.timeouts_seconds = timeouts_seconds
        # As the vCenter set it, with quotes where it writes them.
        self.cookie: str | None = None
        self._make_pool = functools.partial(
            _Pool, host, port, maxsize=pool_size, block=False,
            # Not False, of which urllib3 writes a line for each request.
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
        """Send a request and wait for its reply; never a second time.

        :param path: from the root of the server on
        :param whole: read the reply to its end; else the caller has to, and
            to close it
        :returns: the reply, whatever its HTTP status; redirections are not
            followed
        :raises HTTPError, OSError: there is no reply, or not all of it;
            urllib3's or of the system
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
        # urllib3 uses no pool again that was closed.
        pool, self._pool = self._pool, self._make_pool()
        pool.close()


class _Connection(connection.HTTPSConnection):
    """Knows when it was last of use."""

    used_at = float('-inf')

    def getresponse(self) -> Any:
        reply = super().getresponse()
        self.used_at = time.monotonic()
        return reply


class _Pool(urllib3.HTTPSConnectionPool):
    """Closes a connection that was idle for long instead of using it."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        found: Any = super()._get_conn(timeout)
        if time.monotonic() - found.used_at > IDLE_SECONDS:
            found.close()  # it connects again by itself
        return found


@functools.cache
def _socket_options() -> tuple[tuple[int, int, int], ...]:
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Not every system knows these.
    wanted += [(socket.IPPROTO_TCP, getattr(socket, name), value)
               for name, value in (('TCP_KEEPIDLE', _PROBE_AFTER_SECONDS),
                                   ('TCP_KEEPINTVL', _PROBE_EVERY_SECONDS),
                                   ('TCP_KEEPCNT', _PROBES))
               if hasattr(socket, name)]
    return (*connection.HTTPConnection.default_socket_options, *wanted)
