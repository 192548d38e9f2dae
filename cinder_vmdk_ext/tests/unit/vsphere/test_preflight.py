# SPDX-License-Identifier: Apache-2.0
"""Errors of the connection to the vCenter are reported at once."""

import socket
import time
import unittest

from oslo_vmware import exceptions as vmware_exceptions

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.vsphere import test_soap
from cinder_vmdk_ext.tests import webserver
from cinder_vmdk_ext.vsphere import preflight
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport
from sandbox.embedded import section


class CheckTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.server = webserver.WebServer(lambda request: request.reply(
            test_soap.response(method='RetrieveServiceContent')))
        self.server.setUp()
        self.addCleanup(self.server.cleanUp)

    def check(self, **options):
        read = section.read(**({
            'vmware_host_ip': webserver.HOST,
            'vmware_host_port': self.server.port,
            'vmware_host_username': 'cinder',
            'vmware_host_password': section.PASSWORD,
            'vmware_ca_file': self.server.cert_file} | options))
        read.append_config_values(vmdk.vmdk_opts)
        preflight.check(lambda: soap.Client(transport.Transport(
            read.vmware_host_ip, read.vmware_host_port, transport.Trust(
                read.vmware_ca_file, read.vmware_insecure))), read)

    def assertRefused(self, option, *words, **options):
        begun = time.monotonic()
        with self.assertRaises(exceptions.InvalidSettings) as caught:
            self.check(**options)
        self.assertLess(time.monotonic() - begun, 60)
        message = str(caught.exception)
        self.assertEqual(option, caught.exception.option, message)
        self.assertEqual(1, len(message.splitlines()), message)
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn(section.PASSWORD, message)

    def test_a_vcenter_is_fine_and_is_asked_without_a_login(self):
        self.check()
        self.assertEqual(1, len(self.server.requests))
        self.assertNotIn(b'password', self.server.requests[0].body.lower())

    def test_a_server_that_is_starting(self):
        self.server.answer = lambda request: request.reply('later', 503)
        self.assertRefused('vmware_host_ip', 'HTTP 503')

    def test_a_server_that_answers_with_a_fault(self):
        self.server.answer = lambda request: request.reply(
            test_soap.fault('<XFault xmlns="urn:vim25"/>'), 500)
        self.assertRefused('vmware_host_ip', 'does not answer as a vCenter')

    def test_a_server_that_hangs_up(self):
        def hang_up(request):
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True

        self.server.answer = hang_up
        self.assertRefused('vmware_host_ip', 'vmware_host_port')

    def test_an_unknown_authority(self):
        self.assertRefused('vmware_ca_file', "system's authorities",
                           vmware_ca_file=None)


class RefusedLoginTestCase(unittest.TestCase):

    def refused(self, *faults):
        fault = vmware_exceptions.VimFaultException(list(faults), 'no')
        return fault, preflight.refused_login(fault, section.read(
            vmware_host_username='cinder',
            vmware_host_password=section.PASSWORD))

    def test_a_wrong_user_or_password_names_both_options_not_the_password(
            self):
        _, error = self.refused('InvalidLogin')
        for word in ("'cinder'", 'vmware_host_username',
                     'vmware_host_password'):
            self.assertIn(word, str(error))
        self.assertNotIn(section.PASSWORD, str(error))

    def test_a_user_without_a_role(self):
        _, error = self.refused(vmware_exceptions.NO_PERMISSION)
        self.assertIn('role', str(error))

    def test_any_other_fault_stays_what_it_is(self):
        fault, error = self.refused('SystemError')
        self.assertIs(fault, error)
