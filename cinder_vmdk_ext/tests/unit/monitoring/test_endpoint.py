# SPDX-License-Identifier: Apache-2.0
"""What the endpoint serves, to whom, and what it costs when it is off."""

import http.client
import json
import socket
import threading
import unittest

from cinder_vmdk_ext.monitoring import endpoint
from cinder_vmdk_ext.monitoring import figures

FIGURES = figures.of_report('vmdk', 'host', {
    'pools': [], 'backend_state': 'up', 'backend_state_reason': ''})


class EndpointTestCase(unittest.TestCase):

    def setUp(self):
        self.figures = FIGURES
        self.endpoint = endpoint.Endpoint(lambda: self.figures)
        self.addCleanup(self.endpoint.stop)
        with socket.socket() as found:
            found.bind((endpoint.ADDRESS, 0))
            self.port = found.getsockname()[1]

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

    def test_off_means_no_thread_and_no_port(self):
        before = threading.active_count()
        self.endpoint.start(0)
        self.assertEqual(before, threading.active_count())
        self.assertRaises(OSError, endpoint.ask, self.port)

    def test_a_port_that_is_taken_is_logged_and_no_more(self):
        self.endpoint.start(self.port)
        another = endpoint.Endpoint(dict)
        with self.assertLogs(endpoint.LOG.logger, 'ERROR') as logs:
            another.start(self.port)
        self.assertIn('vmdk_ext_status_port', logs.output[0])
        another.stop()
