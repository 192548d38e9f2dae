# SPDX-License-Identifier: Apache-2.0
"""Connections to a vCenter: verified, kept alive, and not used when old."""

import os
import socket
import ssl
import tempfile
import threading
import unittest
from unittest import mock

import fixtures
import urllib3

from cinder_vmdk_ext.tests import webserver
from cinder_vmdk_ext.vsphere import transport


class TransportTestCase(fixtures.TestWithFixtures, unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.cookies = []
        self.sockets = set()
        self.server = self.useFixture(webserver.WebServer(self.answer))
        self.https = self.connected()

    def connected(self, host=webserver.HOST, trust=None, **options):
        made = transport.Transport(
            host, self.server.port,
            trust or transport.Trust(self.server.cert_file), **options)
        self.addCleanup(made.close)
        return made

    def answer(self, request):
        self.sockets.add(request.client_address)
        self.cookies.append(request.headers.get('Cookie'))
        request.reply(b'done', headers={
            'Set-Cookie': self.set_cookie} if self.set_cookie else {})

    set_cookie = None

    def post(self, https=None, **options):
        return (https or self.https).request('POST', '/sdk', body=b'x',
                                             **options)

    # -- Connections --------------------------------------------------------

    def test_a_connection_is_used_again(self):
        for _ in range(3):
            self.assertEqual(b'done', self.post().data)
        self.assertEqual(1, len(self.sockets))

    def test_after_it_was_closed_it_connects_again(self):
        self.post()
        self.https.close()
        self.assertEqual(b'done', self.post().data)
        self.assertEqual(2, len(self.sockets))

    def test_one_that_was_idle_for_long_is_not(self):
        self.post()
        with mock.patch.object(transport, 'IDLE_SECONDS', 0):
            self.post()
        self.assertEqual(2, len(self.sockets))

    def test_a_connection_is_kept_alive_while_a_reply_is_awaited(self):
        seen = []

        class Connection(transport._Connection):
            def getresponse(self):
                seen.append([self.sock.getsockopt(*option) for option in (
                    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    (socket.IPPROTO_TCP, socket.TCP_NODELAY))])
                return super().getresponse()
        with mock.patch.object(transport._Pool, 'ConnectionCls', Connection):
            self.post()
        [(alive, after_seconds, at_once)] = seen
        self.assertTrue(alive and at_once)
        self.assertLessEqual(after_seconds, 60)

    def test_a_connection_cut_while_idle_is_replaced(self):
        self.post()
        self.https._pool.pool.queue[-1].sock.shutdown(socket.SHUT_RDWR)
        self.assertEqual(b'done', self.post().data)

    def test_the_time_for_a_reply_is_limited(self):
        done = threading.Event()
        self.addCleanup(done.set)
        self.server.answer = lambda request: done.wait(60)
        with self.assertRaises(urllib3.exceptions.ReadTimeoutError):
            self.post(read_seconds=0.1)

    # -- Trust --------------------------------------------------------------

    def test_a_file_of_authorities_decides_even_if_insecure_is_set(self):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(webserver.certificate.__wrapped__())
        self.addCleanup(os.remove, file.name)
        other = file.name
        self.post(self.connected(trust=transport.Trust(
            self.server.cert_file, insecure=True)))
        with self.assertRaises(urllib3.exceptions.SSLError) as caught:
            self.post(self.connected(trust=transport.Trust(other, True)))
        self.assertIsInstance(caught.exception.args[0],
                              ssl.SSLCertVerificationError)

    def test_without_a_file_nothing_is_verified_only_if_insecure_is_set(self):
        self.post(self.connected(trust=transport.Trust(insecure=True)))
        with self.assertRaises(urllib3.exceptions.SSLError):
            self.post(self.connected(trust=transport.Trust()))

    def test_the_authorities_of_the_environment_count(self):
        with mock.patch.dict(os.environ, {
                'REQUESTS_CA_BUNDLE': self.server.cert_file}):
            self.post(self.connected(trust=transport.Trust()))

    # -- The session --------------------------------------------------------

    def test_the_sessions_cookie_is_kept_and_sent_as_it_was_set(self):
        self.set_cookie = ('vmware_soap_session="a1b2"; Path=/; HttpOnly; '
                           'Secure;')
        self.post()
        self.set_cookie = None
        self.post()
        self.assertEqual([None, 'vmware_soap_session="a1b2"'], self.cookies)
        self.assertEqual('a1b2', self.https.session_key)

    def test_other_cookies_are_not_kept(self):
        self.set_cookie = 'tracking=1; Path=/'
        self.post()
        self.post()
        self.assertEqual([None, None], self.cookies)
        self.assertIsNone(self.https.session_key)

    def test_a_redirection_is_not_followed(self):
        self.server.answer = lambda request: request.reply(
            b'', 302, headers={'Location': '/elsewhere'})
        self.assertEqual(302, self.post().status)
        self.assertEqual(1, len(self.server.requests))


if __name__ == '__main__':
    unittest.main()
