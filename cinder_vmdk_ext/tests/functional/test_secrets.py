# SPDX-License-Identifier: Apache-2.0
"""The vCenter's password stays with the driver."""

import hashlib
import json
import logging
import socket
import ssl
from urllib import parse

from os_brick.initiator.connectors import vmware as os_brick_vmware
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.vsphere import transfers
from sandbox.embedded import section

PASSWORD = section.PASSWORD
# As a person, a log filter of XML, a URL or a shell would write it.
FORMS = (PASSWORD, 'Pa55-w0rd', 'Pa55-w0rd&lt;&amp;&gt;')
OS_BRICK = {'platform': 'x86_64', 'os_type': 'linux2', 'host': 'compute',
            'ip': '127.0.0.1', 'initiator': 'iqn', 'multipath': False}
NOVA = {'instance': 'vm-1', 'host': 'compute', 'ip': '127.0.0.1',
        'initiator': 'iqn'}


class SecretsCase(backend_case.BackendCase):
    """A vCenter whose password is one that can be found anywhere."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'password': PASSWORD, 'ds': 2}

    def new_volume(self, pool='LocalDS_1', size_gib=1, type_id=None,
                   **fields):
        return super().new_volume(pool, size_gib, type_id, **fields)


class ConnectionInfoTestCase(SecretsCase):
    """What an attaching side is given."""

    def test_nova_is_given_no_credentials(self):
        volume = self.create()
        self.driver.validate_connector(NOVA)
        info = self.driver.initialize_connection(
            volume, NOVA | {'instance': self.instances()[0]._moId})
        self.assertNotIn('config', info['data'])
        self.assertNotIn(PASSWORD, json.dumps(info))

    def test_a_connector_that_would_need_them_is_refused(self):
        caught = self.assertRaises(exceptions.ConnectorRefused,
                                   self.driver.validate_connector, OS_BRICK)
        self.assertIn('vmdk_ext_backup_dir_shared', str(caught))

    def test_not_even_one_that_is_not_validated_gets_them(self):
        here = OS_BRICK | {'host': socket.gethostname()}
        self.driver.validate_connector(here)
        for connector in OS_BRICK, here:
            caught = self.assertRaises(
                exceptions.ConnectorRefused,
                self.driver.initialize_connection, self.create(), connector)
            self.assertNotIn(PASSWORD, str(caught))

    def test_a_member_cannot_pretend_to_be_nova_and_os_brick(self):
        both = OS_BRICK | {'instance': self.instances()[0]._moId}
        self.driver.validate_connector(both)
        info = self.driver.initialize_connection(self.create(), both)
        self.assertNotIn(PASSWORD, json.dumps(info))

    def test_a_connector_that_names_no_vm_changes_nothing(self):
        volume = self.create()
        before = self.truth(volume)
        datastore = self.datastore('LocalDS_0')._moId
        for instance in (datastore, 'vm-99999', 'group-v3', '',
                         'vm-1</obj><obj type="Folder">group-v3</obj><obj>'):
            self.control.reset_journal()
            caught = self.assertRaises(
                vmware_exceptions.VMwareDriverException,
                self.driver.initialize_connection, volume,
                NOVA | {'instance': instance})
            self.assertNotIn(PASSWORD, str(caught))
            self.assertEqual([], [
                name for name in self.control.journal()['methods']
                if name.endswith('_Task')])
        self.assertEqual(before.path, self.truth(volume).path)

    def test_a_connector_that_names_anothers_vm_changes_nothing_of_it(self):
        volume = self.create()
        self.write(volume, b'content')
        for vm in self.instances():
            before = vm.config.changeVersion
            self.driver.initialize_connection(
                volume, NOVA | {'instance': vm._moId})
            self.assertEqual(before, vm.config.changeVersion)
        self.assertEqual(b'content', self.read(volume, 7))

    def test_os_brick_is_given_what_it_reads_if_the_operator_says_so(self):
        made = self.make_driver(vmdk_ext_connector_credentials=True)
        made.validate_connector(OS_BRICK)
        data = made.initialize_connection(self.create(), OS_BRICK)['data']
        connector = os_brick_vmware.VmdkConnector(None)
        read = set()

        class Watched(dict):
            def __getitem__(self, name):
                read.add(name)
                return super().__getitem__(name)

        connector._load_config({'config': Watched(data['config'])})
        self.assertEqual(PASSWORD, connector._password)
        self.assertEqual(read, set(data['config']), 'nothing beyond it')


class LogsTestCase(SecretsCase):
    """What is written, with every log at DEBUG."""

    def setUp(self):
        super().setUp()
        self.lines = []
        keeper = logging.Handler(logging.DEBUG)
        keeper.emit = lambda record: self.lines.append(keeper.format(record))
        root = logging.getLogger()
        root.addHandler(keeper)
        self.addCleanup(root.removeHandler, keeper)
        # Also what Cinder keeps quiet whatever its own level is.
        for name in ['', 'suds', 'oslo_vmware', 'urllib3', 'requests',
                     'oslo_messaging', *[
                         name for name in logging.root.manager.loggerDict
                         if name.startswith(('suds', 'cinder_vmdk_ext',
                                             'cinder.volume'))]]:
            found = logging.getLogger(name)
            self.addCleanup(found.setLevel, found.level)
            found.setLevel(logging.DEBUG)

    def assert_unsaid(self, *others):
        text = '\n'.join([*self.lines, *others])
        self.assertGreater(len(self.lines), 10)
        for form in FORMS:
            self.assertNotIn(form, text)
        # The simulator's cookie is the session's key, and that is part of
        # references: so the cookie is looked for where one is written.
        self.assertNotIn('soap_session', text)
        self.assertNotIn('vcSessionCookie', text)

    def test_over_a_volumes_life(self):
        made = self.make_driver()
        self.driver = made
        made.get_volume_stats(refresh=True)
        volume = self.create(content=b'x')
        instance = self.attach(volume)
        self.detach(volume, instance)
        volume = self.fresh(volume)
        image = test_transfers.ImageService()
        made.copy_volume_to_image(self.context, volume, image,
                                  image.metadata)
        made.delete_volume(volume)
        made.session.logout()
        self.assert_unsaid(repr(made.session), repr(vars(made)))

    def test_of_a_login_that_is_refused(self):
        self.addCleanup(self.driver.session._account.accept)
        self.control.fault(method='Login', fault={'type': 'InvalidLogin'})
        made = driver.VmdkExtDriver(
            configuration=section.read(**section.of_vcenter(self.vcenter)),
            host=backend_case.HOST)
        caught = self.assertRaises(exceptions.InvalidSettings, made.do_setup,
                                   cinder_context.get_admin_context())
        self.assert_unsaid(str(caught), repr(caught), repr(vars(caught)))

    def test_of_a_login_that_is_refused_later(self):
        self.control.fault(method='Login', fault={'type': 'InvalidLogin'})
        made = self.driver.session
        self.addCleanup(made._account.accept)
        self.control.kill_sessions()
        caught = self.assertRaises(vmware_exceptions.VimFaultException,
                                   made.renew, made._session_id)
        self.control.reset_faults()
        made._account.accept()
        made.renew(made._session_id)
        type(self).service = self.vcenter.connect()
        self.assert_unsaid(str(caught), repr(caught))


class TrustTestCase(SecretsCase):
    """Transfers verify whom they speak to."""

    def test_a_certificate_that_does_not_verify_ends_a_transfer(self):
        made = transfers.Transfers(
            self.driver.session, self.vcenter.host, self.vcenter.port)
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/folder/x'
        caught = self.assertRaises(
            exceptions.TransferFailed, made._put, 'PUT', url, [b'x'], 1)
        self.assertIn('CERTIFICATE_VERIFY_FAILED', str(caught))

    def test_a_wrong_thumbprint_ends_a_transfer(self):
        made = transfers.Transfers(
            self.driver.session, self.vcenter.host, self.vcenter.port,
            ca_file=self.vcenter.cacert)
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/nfc/x/y'
        caught = self.assertRaises(
            exceptions.TransferFailed, made._put, 'POST', url, [b'x'], 1,
            ':'.join(['00'] * 20))
        self.assertIn('Fingerprints did not match', str(caught))

    def test_connections_to_the_vcenter_are_kept_alive(self):
        """D8: a firewall drops what is silent, and informs neither side."""
        pool = self.driver.session.https._pool
        # Not one of those that are idle: another thread may use them all.
        made = pool._get_conn()
        self.addCleanup(pool._put_conn, made)
        made.close()
        made.connect()
        self.assertTrue(made.sock.getsockopt(socket.SOL_SOCKET,
                                             socket.SO_KEEPALIVE))

    def test_the_right_thumbprint_is_enough(self):
        pem = ssl.get_server_certificate((self.vcenter.host,
                                          self.vcenter.port))
        digest = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem),
                              usedforsecurity=False).hexdigest()
        made = transfers.Transfers(
            self.driver.session, self.vcenter.host, self.vcenter.port)
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/nfc/x/y'
        caught = self.assertRaises(
            exceptions.TransferFailed, made._put, 'POST', url, [b'x'], 1,
            digest)
        self.assertIn('HTTP 404', str(caught))

    def test_the_session_goes_to_the_vcenter_alone(self):
        made = transfers.Transfers(
            self.driver.session, self.vcenter.host, self.vcenter.port)
        own = f'https://{self.vcenter.host}:{self.vcenter.port}/folder/x'
        cookie = self.driver.session.vim.get_http_cookie()
        self.assertTrue(cookie)
        self.assertEqual(cookie, made._transport(
            parse.urlsplit(own), None).cookie)
        for url in ('https://esx-1/nfc/x', f'https://{self.vcenter.host}/x'):
            self.assertIsNone(made._transport(
                parse.urlsplit(url), None).cookie)
