# SPDX-License-Identifier: Apache-2.0
"""A small HTTPS server on loopback that answers as a test wants."""

import datetime
import functools
import http.server
import ipaddress
import os
import shutil
import socket
import ssl
import tempfile
import threading
import types

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography import x509
import fixtures

HOST = '127.0.0.1'


class WebServer(fixtures.Fixture):
    """Answers every POST by ``answer(request)``, in threads.

    ``request`` is the handler, with ``request.body``; it is sent what
    :meth:`reply` is given. ``cert_file`` verifies the TLS, if there is any.
    """

    def __init__(self, answer=None, tls=True, valid_from_days=-1):
        self.answer = answer
        self.tls = tls
        self.valid_from_days = valid_from_days
        self.requests = []

    def _setUp(self):
        # Not of socketserver: of that, eventlet may leave a copy of its own
        # behind where it has been imported before.
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._context = None
        if self.tls:
            folder = tempfile.mkdtemp(prefix='web-server-')
            self.addCleanup(shutil.rmtree, folder)
            self.cert_file = os.path.join(folder, 'cert.pem')
            with open(self.cert_file, 'wb') as file:
                file.write(certificate(self.valid_from_days))
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.cert_file)
        thread = threading.Thread(target=self._accept)
        thread.start()
        self.addCleanup(self._listener.close)
        self.addCleanup(thread.join)
        self.addCleanup(self._listener.shutdown, socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, address),
                             daemon=True).start()

    def _serve(self, connection, address):
        try:
            with connection:
                if self._context:
                    connection = self._context.wrap_socket(
                        connection, server_side=True)
                with connection:
                    _Handler(self, connection, address, None)
        except OSError:
            pass  # the client refused the certificate, or has gone


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def __init__(self, fixture, *args):
        self.fixture = fixture
        super().__init__(*args)

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers['Content-Length']))
        self.fixture.requests.append(types.SimpleNamespace(
            body=self.body, headers=self.headers,
            client_address=self.client_address))
        self.fixture.answer(self)

    def reply(self, body, status=200, headers=None):
        """Send an answer as a vCenter does."""
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header('Content-Type', 'text/xml; charset=utf-8')
        self.send_header('Content-Length', str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


@functools.cache
def certificate(valid_from_days=-1):
    """One that signs itself, and its key, in PEM; it is valid two days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    begin = (datetime.datetime.now(datetime.timezone.utc)
             + datetime.timedelta(days=valid_from_days))
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(HOST))]), False)
        .sign(key, hashes.SHA256()))
    return (certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM,
                                serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption()))
