# SPDX-License-Identifier: Apache-2.0
"""What the endpoint serves, to whom, and what it costs when it is off."""

import errno
import http.client
import json
import socket
import threading
import time
import unittest
from unittest import mock

from cinder_vmdk_ext.monitoring import endpoint
from cinder_vmdk_ext.monitoring import figures
from cinder_vmdk_ext.tests import ports

FIGURES = figures.of_report('vmdk', 'host', {
    'pools': [], 'backend_state': 'up', 'backend_state_reason': ''})


class EndpointTestCase(unittest.TestCase):

    def setUp(self):
        # Threads that belong to other tests.
        self.others = set(threading.enumerate())
        self.figures = FIGURES
        self.endpoint = endpoint.Endpoint(lambda: self.figures)
        self.addCleanup(self.endpoint.stop)
        self.port = ports.reserved(self.addCleanup)

    def get(self, path, **headers):
        connection = http.client.HTTPConnection(endpoint.ADDRESS, self.port)
        try:
            connection.request('GET', path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def test_it_serves_this_machine(self):
        self.endpoint.start(self.port)
        self.assertEqual(FIGURES, endpoint.ask(self.port))
        self.assertEqual((200, FIGURES), (
            200, json.loads(self.get('/status', Host='localhost')[1])))
        status, text = self.get('/metrics')
        self.assertEqual(200, status)
        self.assertIn('cinder_vmdk_up{backend="vmdk"} 1.0\n', text)
        self.assertEqual(404, self.get('/')[0])
        # By a name that another's DNS has lead here.
        self.assertEqual(403, self.get('/status', Host='evil.example')[0])
        self.figures = None
        self.assertEqual(503, self.get('/status')[0])

    # -- Clients that mean no good -------------------------------------------

    def client(self, *sent):
        found = socket.create_connection((endpoint.ADDRESS, self.port),
                                         timeout=30)
        self.addCleanup(found.close)
        for each in sent:
            found.sendall(each)
        return found

    def test_only_this_machine_is_listened_to(self):
        self.endpoint.start(self.port)
        self.assertEqual((endpoint.ADDRESS, self.port),
                         self.endpoint._socket.getsockname())
        self.assertEqual('127.0.0.1', endpoint.ADDRESS)

    def test_clients_that_say_nothing_make_others_wait_and_no_more(self):
        # None is left before this test closes it.
        self.enterContext(mock.patch.object(endpoint, '_SECONDS', 600))
        self.endpoint.start(self.port)
        slow = [self.client(b'GET /met')
                for _each in range(3 * endpoint.MOST_CLIENTS)]
        end = time.monotonic() + 60
        while self.served() < endpoint.MOST_CLIENTS:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        self.assertEqual(endpoint.MOST_CLIENTS, self.served())
        for each in slow:
            each.close()
        self.assertEqual(200, self.get('/metrics')[0])

    def served(self):
        return len([each for each in threading.enumerate()
                    if each.name == endpoint.CLIENT
                    and each not in self.others])

    def test_a_client_that_sends_byte_after_byte_is_left(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        clock = iter(range(0, 1000, 3))
        theirs.sendall(b'x' * 3 * 4096)
        with mock.patch.object(endpoint, 'time', mock.Mock(
                monotonic=lambda: next(clock))), self.assertRaises(
                    TimeoutError):
            endpoint._request(ours)

    def test_requests_that_are_none_are_refused_or_left(self):
        self.endpoint.start(self.port)
        for sent in (b'\0' * 100, b'GET\r\n\r\n', b'\r\n\r\n',
                     b'GET /metrics HTTP/9.9\r\n\r\n',
                     b'GET /metrics HTTP/1.1\r\n\r\n',
                     b'POST /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n',
                     b'GET /' + b'x' * 100000 + b' HTTP/1.0\r\n\r\n',
                     b'GET /metrics HTTP/1.0\r\n' + b'A: b\r\n' * 20000,
                     b'GET /../../etc/passwd HTTP/1.0\r\nHost: localhost'
                     b'\r\n\r\n',
                     b'GET /metrics HTTP/1.0\r\nHost: 127.0.0.1.evil:80'
                     b'\r\n\r\n'):
            with self.subTest(sent[:40]):
                client = self.client()
                got = b''
                try:
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    while more := client.recv(65536):
                        got += more
                except OSError:
                    pass  # it was left before it had sent everything
                self.assertNotIn(b'cinder_vmdk_up', got)
        self.assertEqual(200, self.get('/metrics')[0])

    def test_a_client_that_is_gone_does_not_end_the_endpoint(self):
        listening = mock.Mock()
        listening.accept.side_effect = [
            OSError(errno.ECONNABORTED, ''), OSError(errno.EMFILE, ''),
            OSError(errno.EINVAL, '')]
        with mock.patch.object(endpoint, '_PAUSE_SECONDS', 0):
            endpoint._serve(listening, mock.Mock())
        self.assertEqual(3, listening.accept.call_count)

    def test_another_server_at_the_port_leads_nowhere(self):
        self.assertIsNone(endpoint._NoRedirect().redirect_request())
        self.endpoint.start(self.port)
        with mock.patch.object(endpoint, 'MOST_ANSWER_BYTES', 10):
            self.assertRaises(ValueError, endpoint.ask, self.port)

    def test_off_means_no_thread_and_no_port(self):
        self.endpoint.start(0)
        self.assertEqual([], [
            each for each in threading.enumerate()
            if each.name == 'vmdk-ext-status' and each not in self.others])
        self.assertRaises(OSError, endpoint.ask, self.port)

    def test_a_port_that_is_taken_is_logged_and_no_more(self):
        self.endpoint.start(self.port)
        another = endpoint.Endpoint(dict)
        with self.assertLogs(endpoint.LOG.logger, 'ERROR') as logs:
            another.start(self.port)
        self.assertIn('vmdk_ext_status_port', logs.output[0])
        another.stop()
