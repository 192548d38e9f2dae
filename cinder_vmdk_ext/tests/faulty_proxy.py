# SPDX-License-Identifier: Apache-2.0
"""A proxy to a server whose connections can be interrupted.

Faults of the vCenter itself are set in the simulator (control.py); this is for
faults of the network, with any server and below TLS.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any


# The name of its threads, which are not those of what is tested.
THREADS = 'faulty-proxy'


class FaultyProxy:
    """Passes TCP connections on to a server, or does not.

    A context manager. ``port`` stays the same however often it is refused and
    opened. Modes, each set by the method of its name:

    - passing: all is passed on (at first)
    - silent: connections are taken, and what comes is never answered
    - mute: requests are passed on, and no reply ever comes back
    - refused: no server listens
    """

    def __init__(self, port: int, host: str = '127.0.0.1') -> None:
        self._target = (host, port)
        self.host = host
        self.port = 0
        self.delay_seconds = 0.0
        self.accepted = 0
        self._mode = 'passing'
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> 'FaultyProxy':
        self._listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.refuse()

    def pass_on(self) -> None:
        """Let all through from now on; mute connections stay broken."""
        self._mode = 'passing'
        if self._listener is None:
            self._listen()

    def keep_silent(self) -> None:
        """Swallow what comes on any connection, and answer nothing."""
        self._mode = 'silent'

    def mute(self) -> None:
        """Pass requests on; their replies break the connection."""
        self._mode = 'mute'

    def refuse(self) -> None:
        """Stop to listen, and break every connection."""
        self._mode = 'refused'
        listener, self._listener = self._listener, None
        if listener is not None:
            # close() alone does not end an accept() in another thread.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection that there is; later ones are served."""
        with self._lock:
            broken, self._sockets = self._sockets, set()
        for each in broken:
            _close(each)

    def open_sockets(self) -> int:
        """How many sockets it has, which are not those of what is tested."""
        with self._lock:
            return len(self._sockets) + (self._listener is not None)

    def _listen(self) -> None:
        listener = socket.create_server((self.host, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._mode = 'passing'
        _in_thread(self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            _in_thread(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 10)
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        _in_thread(self._pump, server, client, 'reply')
        self._pump(client, server, 'request')

    def _pump(self, source: socket.socket, sink: socket.socket,
              what: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                if self._mode == 'silent':
                    continue
                if self._mode == 'mute' and what == 'reply':
                    break
                sink.sendall(data)
        with self._lock:
            self._sockets -= {source, sink}
        _close(source)
        _close(sink)


def _in_thread(work: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=work, args=args, name=THREADS,
                     daemon=True).start()


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
