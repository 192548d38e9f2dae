# SPDX-License-Identifier: Apache-2.0
"""The driver starts on every vCenter, or says in one line why not."""

import io
import logging
import time
import traceback
import unittest

from cinder import context

from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import webserver
from sandbox import service_user
from sandbox.embedded import database
from sandbox.embedded import section
from simulator import client

FLAGS = {'ds': 2, 'vm': 0, 'ds_capacity': '100GiB'}
HOST = f'cinder-1@{section.NAME}'


class SetupCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)
        self.log = self.log_everything()

    def log_everything(self):
        """All that anything logs, also suds, which Cinder keeps quiet."""
        text = io.StringIO()
        handler = logging.StreamHandler(text)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        # Of suds the messages, and not each step by which it reads a WSDL.
        for name, suds_level in (('suds', logging.INFO),
                                 ('suds.client', logging.DEBUG),
                                 ('suds.transport', logging.DEBUG)):
            logging.getLogger(name).setLevel(suds_level)
        self.addCleanup(root.setLevel, level)
        self.addCleanup(root.removeHandler, handler)
        return text

    def set_up(self, vcenter, **options):
        made = driver.VmdkExtDriver(configuration=section.read(
            **section.of_vcenter(vcenter, **options)), host=HOST)
        self.addCleanup(lambda: made._session and made._session.logout())
        made.do_setup(context.get_admin_context())
        return made


class VersionsTestCase(SetupCase):
    """vCenter 7, 8 and 9."""

    def start(self, version):
        with client.for_plugin(**FLAGS, api_version=version) as vcenter:
            made = self.set_up(vcenter)
            stats = made.get_volume_stats(refresh=True)
            self.assertEqual('up', stats['backend_state'])
            self.assertEqual(['LocalDS_0', 'LocalDS_1'], sorted(
                pool['pool_name'] for pool in stats['pools']))
            # The storage policy service answers.
            self.assertTrue(made.backend.directory.names())

    def test_7(self):
        self.start('7.0.3.0')

    def test_8(self):
        self.start('8.0.3.0')

    def test_9_though_oslo_vmware_has_no_wsdl_of_it(self):
        self.start('9.0.0.0')

    def test_no_wsdl_is_read(self):
        with client.for_plugin(**FLAGS) as vcenter:
            self.set_up(vcenter)
        self.assertNotIn('"GET /sdk', self.log.getvalue())
        self.assertIn('"POST /sdk', self.log.getvalue())


class SilenceTestCase(SetupCase):
    """A vCenter that is gone leaves what it said last."""

    def test_the_last_list_comes_with_its_age_until_it_is_back(self):
        with client.for_plugin(**FLAGS) as vcenter:
            made = self.set_up(vcenter)
            before = made.get_volume_stats(refresh=True)
        deadline = time.monotonic() + 60
        while True:
            begun = time.monotonic()
            stats = made.get_volume_stats(refresh=True)
            # A call that is repeated as often as may be takes a minute.
            self.assertLess(time.monotonic() - begun, 45)
            if stats['backend_state'] == 'down':
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual([pool['pool_name'] for pool in before['pools']],
                         [pool['pool_name'] for pool in stats['pools']])
        self.assertIn(str(vcenter.port), stats['backend_state_reason'])
        time.sleep(1)
        self.assertGreaterEqual(made.get_volume_stats(refresh=True)[
            'stats_age_seconds'], 1)


class BadInputTestCase(SetupCase):
    """Each ends in one line: the option, the value, the remedy."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vcenter = client.for_plugin(**FLAGS, password=section.PASSWORD)
        cls.addClassCleanup(cls.vcenter.stop)
        cls.vcenter.start()
        # The simulator's line of readiness quotes it for a URL.
        cls.vcenter.password = section.PASSWORD

    def assertRefused(self, option, *words, **options):
        begun = time.process_time()
        with self.assertRaises(exceptions.InvalidSettings) as caught:
            self.set_up(self.vcenter, **options)
        # Not by the clock: other tests want the processor too.
        self.assertLess(time.process_time() - begun, 6)
        message = str(caught.exception)
        self.assertEqual(option, caught.exception.option, message)
        self.assertEqual(1, len(message.splitlines()), message)
        for word in (option, *words):
            self.assertIn(str(word), message)
        for password in (section.PASSWORD, 'wr0ng'):
            self.assertNotIn(password, message)
            self.assertNotIn(password, self.log.getvalue())

    def test_good_input_starts_and_never_logs_the_password(self):
        made = self.set_up(self.vcenter)
        made.get_volume_stats(refresh=True)
        self.assertNotIn(section.PASSWORD, self.log.getvalue())
        self.assertIn('POST /sdk', self.log.getvalue())

    def test_no_host(self):
        self.assertRefused('vmware_host_ip', 'not set', vmware_host_ip=None)

    def test_a_host_name_that_does_not_exist(self):
        self.assertRefused('vmware_host_ip', 'no-such-vcenter.invalid',
                           'resolved',
                           vmware_host_ip='no-such-vcenter.invalid')

    def test_a_port_at_which_nobody_listens(self):
        server = webserver.WebServer()
        server.setUp()
        server.cleanUp()
        self.assertRefused('vmware_host_ip', f'127.0.0.1:{server.port}',
                           'vmware_host_port', 'start the vCenter',
                           vmware_host_port=server.port)

    def test_a_port_that_speaks_no_tls(self):
        server = webserver.WebServer(tls=False)
        server.setUp()
        self.addCleanup(server.cleanUp)
        self.assertRefused('vmware_host_port', server.port, 'TLS',
                           vmware_host_port=server.port)

    def test_a_server_that_is_no_vcenter(self):
        server = webserver.WebServer(
            lambda request: request.reply('<html/>', 404))
        server.setUp()
        self.addCleanup(server.cleanUp)
        self.assertRefused('vmware_host_ip', f'127.0.0.1:{server.port}',
                           'HTTP 404', vmware_host_port=server.port,
                           vmware_ca_file=server.cert_file)

    def test_no_user(self):
        self.assertRefused('vmware_host_username', 'not set',
                           vmware_host_username='')

    def test_a_user_whom_the_vcenter_does_not_know(self):
        self.assertRefused('vmware_host_username', "'nobody'",
                           'vmware_host_password', 'correct',
                           vmware_host_username='nobody')

    def test_no_password(self):
        self.assertRefused('vmware_host_password', 'not set',
                           vmware_host_password=None)

    def test_a_wrong_password(self):
        self.assertRefused('vmware_host_username', repr(service_user.NAME),
                           'vmware_host_password', 'correct',
                           vmware_host_password='wr0ng')

    def test_no_ca_file_where_the_systems_authorities_do_not_do(self):
        self.assertRefused('vmware_ca_file', "system's authorities",
                           'authority', vmware_ca_file=None)

    def test_a_ca_file_that_is_not_there(self):
        self.assertRefused('vmware_ca_file', '/no/such.pem',
                           vmware_ca_file='/no/such.pem')

    def test_a_ca_file_that_is_none(self):
        self.assertRefused('vmware_ca_file', __file__, 'authority',
                           vmware_ca_file=__file__)

    def test_a_name_that_the_certificate_does_not_hold(self):
        server = webserver.WebServer()
        server.setUp()
        self.addCleanup(server.cleanUp)
        self.assertRefused('vmware_host_ip', 'localhost', 'another name',
                           vmware_host_ip='localhost',
                           vmware_host_port=server.port,
                           vmware_ca_file=server.cert_file)

    def test_a_ca_file_of_somebody_else(self):
        server = webserver.WebServer()
        server.setUp()
        self.addCleanup(server.cleanUp)
        self.assertRefused('vmware_ca_file', server.cert_file, 'verify',
                           vmware_ca_file=server.cert_file)

    def test_a_certificate_that_has_expired_or_is_not_valid_yet(self):
        for days in (-9, 9):
            server = webserver.WebServer(valid_from_days=days)
            server.setUp()
            self.addCleanup(server.cleanUp)
            self.assertRefused(
                'vmware_host_ip', f'127.0.0.1:{server.port}',
                'not valid at this time', 'renew it', 'clock',
                vmware_host_port=server.port, vmware_ca_file=server.cert_file)

    def test_a_folder_without_a_name(self):
        self.assertRefused('vmware_volume_folder', 'folder',
                           vmware_volume_folder='')

    def test_a_version_that_is_none(self):
        self.assertRefused('vmware_host_version', "'abc'", 'like 8.0.3',
                           vmware_host_version='abc')

    def test_a_wsdl_that_is_nowhere_has_no_effect_and_one_line_says_so(self):
        self.set_up(self.vcenter, vmware_wsdl_location='/no/such.wsdl')
        self.assertEqual(1, self.log.getvalue().count(
            'vmware_wsdl_location is set and not used'))

    def test_each_attempt_ends_in_the_sentence_alone_and_one_line(self):
        """Cinder tries four times, and writes a traceback each time."""
        made = driver.VmdkExtDriver(configuration=section.read(
            **section.of_vcenter(self.vcenter, vmware_host_version='abc')),
            host=HOST)
        for _ in range(4):
            with self.assertRaises(exceptions.InvalidSettings) as caught:
                made.do_setup(context.get_admin_context())
            frames = traceback.extract_tb(caught.exception.__traceback__)
            self.assertLess(len(frames), 6)
            self.assertTrue(caught.exception.__suppress_context__)
        self.assertEqual(1, self.log.getvalue().count(
            f'The backend does not start: {caught.exception}'))

    def test_insecure_needs_no_ca_file(self):
        self.set_up(self.vcenter, vmware_ca_file=None, vmware_insecure=True)

    def test_a_cluster_that_does_not_exist(self):
        self.assertRefused('vmware_cluster_name', "'DC0_C9'", 'DC0_C0',
                           vmware_cluster_name=['DC0_C0', 'DC0_C9'])

    def test_a_regex_that_is_none(self):
        self.assertRefused('vmware_datastore_regex', "'Local['",
                           vmware_datastore_regex='Local[')

    def test_a_storage_policy_that_does_not_exist(self):
        self.assertRefused('vmware_storage_profile', "'platinum'",
                           'VM Encryption Policy',
                           vmware_storage_profile='platinum')

    def test_a_driver_may_be_set_up_again(self):
        """Cinder does so when the first time failed (reinit_driver_count)."""
        made = self.set_up(self.vcenter)
        made.do_setup(context.get_admin_context())
        self.assertEqual('up', made.get_volume_stats(refresh=True)[
            'backend_state'])


class BadExtraSpecTestCase(SetupCase):
    """A volume type that means nothing makes no volume."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vcenter = client.for_plugin(**FLAGS)
        cls.addClassCleanup(cls.vcenter.stop)
        cls.vcenter.start()

    def assertRefused(self, made, spec, value, *words):
        type_id = self.database.volume_type(f'a bad {spec}',
                                            **{spec: value}).id
        volume = self.database.volume(1, f'{HOST}#LocalDS_0',
                                      volume_type_id=type_id)
        with self.assertRaises(exceptions.InvalidExtraSpec) as caught:
            made.create_volume(volume)
        message = str(caught.exception)
        self.assertEqual(1, len(message.splitlines()), message)
        for word in (f'vmware:{spec}', repr(value), *words):
            self.assertIn(word, message)

    def check(self, **options):
        made = self.set_up(self.vcenter, **options)
        for spec, known in (('vmdk_type', 'eagerZeroedThick'),
                            ('adapter_type', 'paraVirtual'),
                            ('clone_type', 'linked'),
                            ('storage_profile', 'VM Encryption Policy')):
            with self.subTest(spec):
                self.assertRefused(made, spec, 'nonsense', known)

    def test_each_spec_names_the_value_and_what_there_is(self):
        self.check(vmware_lazy_create=False)

    def test_also_where_the_disk_is_not_made_yet(self):
        self.check(vmware_lazy_create=True)
