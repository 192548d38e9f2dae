# SPDX-License-Identifier: Apache-2.0
"""Serves the figures of a backend over HTTP, only to this machine.

It is off unless a port is configured; then one thread waits for requests.
"""

import contextlib
import errno
import io
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from http import server
from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.monitoring import figures

LOG = logging.getLogger(__name__)

ADDRESS = '127.0.0.1'
# A web page in a browser on this machine must not read the figures through a
# name that resolves to this address.
_HOSTS = frozenset({ADDRESS, 'localhost'})
# A client has so long for its request, and as long again to read the answer.
_SECONDS = 10.0
_MOST_BYTES = 16384
# Of an answer; one pool takes a few hundred bytes.
MOST_ANSWER_BYTES = 16 << 20
# The next ones wait in the socket's queue.
MOST_CLIENTS = 16
#: The name of each client's thread.
CLIENT = 'vmdk-ext-status-client'
# After these errors of accept() the next client can be served.
_PASSING = frozenset({
    errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS,
    errno.ENOMEM, errno.EPROTO, errno.EINTR, errno.EPERM})
_PAUSE_SECONDS = 0.1


class Endpoint:
    """One port."""

    def __init__(self, read: Callable[[], figures.Figures | None]) -> None:
        """:param read: returns the figures; None: the backend has ended"""
        self._read = read
        self._socket: socket.socket | None = None

    def start(self, port: int) -> None:
        """Serve at a port; 0: do not serve.

        If the port is not available, this is logged, and the service still
        serves volumes.
        """
        if not port or self._socket is not None:
            return
        try:
            self._socket = socket.create_server((ADDRESS, port))
        except OSError as error:
            LOG.error('The status is not served at %(address)s:%(port)s '
                      '(vmdk_ext_status_port): %(error)s',
                      {'address': ADDRESS, 'port': port, 'error': error})
            return
        threading.Thread(target=_serve, name='vmdk-ext-status', daemon=True,
                         args=(self._socket, _handler(self._read))).start()
        LOG.info('The status is served at '
                 'http://%(address)s:%(port)s/metrics.',
                 {'address': ADDRESS, 'port': port})

    def stop(self) -> None:
        """Stop serving."""
        listening, self._socket = self._socket, None
        if listening is not None:
            with contextlib.suppress(OSError):
                # Closing alone would not wake the thread.
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()


# Not socketserver's loop: it polls, and it does not end if eventlet has put
# its own locks into that module.
def _serve(listening: socket.socket,
           handler: Callable[..., server.BaseHTTPRequestHandler]) -> None:
    places = threading.BoundedSemaphore(MOST_CLIENTS)
    while True:
        places.acquire()
        try:
            connection, address = listening.accept()
        except OSError as error:
            places.release()
            if error.errno in _PASSING:
                time.sleep(_PAUSE_SECONDS)
                continue
            return
        threading.Thread(target=_answer, name=CLIENT, daemon=True, args=(
            connection, address, handler, places)).start()


def _answer(connection: socket.socket, address: Any,
            handler: Callable[..., server.BaseHTTPRequestHandler],
            places: threading.BoundedSemaphore) -> None:
    try:
        handler(connection, address, None)
    except Exception as error:
        LOG.debug('A request for the status failed: %s', error)
    finally:
        connection.close()
        places.release()


def _request(connection: socket.socket) -> bytes:
    """A request with its headers, or as much as came in time.

    A timeout of the socket alone would be one for each byte.
    """
    end = time.monotonic() + _SECONDS
    found = b''
    while len(found) < _MOST_BYTES and not re.search(rb'\r?\n\r?\n', found):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError('the request was not complete in time')
        connection.settimeout(left)
        more = connection.recv(4096)
        if not more:
            break
        found += more
    return found


def _handler(read: Callable[[], figures.Figures | None]
             ) -> Callable[..., server.BaseHTTPRequestHandler]:
    class Handler(server.BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version = 'cinder-vmdk-ext'
        sys_version = ''

        def setup(self) -> None:
            """Read the request within its time (BaseHTTPRequestHandler)."""
            request = _request(self.request)
            super().setup()
            self.rfile.close()
            self.rfile = io.BytesIO(request)

        def do_GET(self) -> None:
            """Answer one request (BaseHTTPRequestHandler)."""
            host = (self.headers.get('Host') or '').rpartition(':')[0]
            if (host or self.headers.get('Host')) not in _HOSTS:
                self.send_error(403)
                return
            found = read()
            if found is None:
                self.send_error(503)
            elif self.path == '/metrics':
                self._answer(figures.CONTENT_TYPE, figures.text([found]))
            elif self.path == '/status':
                self._answer('application/json', json.dumps(found))
            else:
                self.send_error(404)

        def _answer(self, kind: str, content: str) -> None:
            body = content.encode('utf-8')
            self.send_response(200)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep requests out of the service's log."""
    return Handler


def ask(port: int) -> figures.Figures:
    """The figures that a service reports at a port of this machine.

    :raises OSError: no service answers there
    :raises ValueError: the answer is not from a service of ours
    """
    # While the service is down, any user of this machine may have its port.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), _NoRedirect())
    with opener.open(f'http://{ADDRESS}:{port}/status',
                     timeout=_SECONDS) as reply:
        data = reply.read(MOST_ANSWER_BYTES + 1)
    if len(data) > MOST_ANSWER_BYTES:
        raise ValueError(f'the answer has more than {MOST_ANSWER_BYTES} bytes')
    found: figures.Figures = json.loads(data)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none; the answer is an HTTPError then (urllib)."""
