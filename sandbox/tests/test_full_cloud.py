# SPDX-License-Identifier: Apache-2.0
"""The configuration of a whole cloud's services; none is started.

They are tried by `make test-cloud`.
"""

import configparser
import dataclasses
import json
import re
import subprocess
import unittest
from unittest import mock

from sandbox import __main__ as program
from sandbox import clients
from sandbox import configuration
from sandbox import errors
from sandbox import full_cloud
from sandbox.services import accounts
from sandbox.services import databases
from sandbox.services import environment
from sandbox.services import horizon
from sandbox.services import keystone
from sandbox.services import no_network
from sandbox.services import nova
from sandbox.services import placement
from sandbox.services import running
from sandbox.tests import full_cloud_run
from sandbox.tests import sandbox_case
from simulator import client

PORTS = accounts.Ports(*range(5001, 5008))


class FilesCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = sandbox_case.new_folder(self.addCleanup)
        self.accounts = accounts.Accounts(PORTS)


class AccountsTestCase(FilesCase):

    def test_openstacksdk_reads_each_user_in_clouds_yaml(self):
        path = accounts.write_clouds_yaml(self.accounts, self.folder)
        for account in self.accounts.people:
            auth = keystone.connect(path, account.name).config.get_auth_args()
            self.assertEqual(
                (self.accounts.auth_url, account.name, account.password),
                (auth['auth_url'], auth['username'], auth['password']))

    def test_only_its_owner_reads_clouds_yaml(self):
        path = accounts.write_clouds_yaml(self.accounts, self.folder)
        self.assertEqual(0o600, path.stat().st_mode & 0o777)

    def test_passwords_are_made_up_anew_and_not_shown(self):
        member = self.accounts.member
        self.assertNotEqual(member.password,
                            accounts.Accounts(PORTS).member.password)
        self.assertNotIn(member.password, repr(member))

    def test_ports_are_different_ones(self):
        ports = dataclasses.astuple(accounts.Ports.free())
        self.assertEqual(len(ports), len(set(ports)))

    def test_every_service_but_horizon_is_in_the_catalogue(self):
        urls = ' '.join([self.accounts.auth_url,
                         *self.accounts.endpoints().values()])
        for name, port in dataclasses.asdict(PORTS).items():
            self.assertEqual(name != 'horizon', str(port) in urls, name)


class ConfigurationTestCase(FilesCase):

    def read(self, sections):
        """Sections as a service would read them."""
        parser = configparser.RawConfigParser()
        parser.read_string(configuration.as_ini(sections))
        return parser

    def test_nova_works_on_the_cluster_of_the_simulated_vcenter(self):
        where = client.Address('127.0.0.1', 1, 'user', 'pass', 'ca.pem', '',
                               0)
        found = self.read(nova.options(
            self.folder, {name: f'mysql://{name}'
                          for name in databases.NAMES},
            'rabbit://bus', self.accounts, where))
        self.assertEqual('DC0_C0', found['vmware']['cluster_name'])
        self.assertEqual('False', found['vmware']['insecure'])
        self.assertEqual('mysql://nova_api',
                         found['api_database']['connection'])

    def test_only_services_may_act_for_others(self):
        for sections in (
                placement.options('mysql://placement', self.accounts),
                full_cloud.cinder_options(self.folder, self.accounts,
                                          'user', 'project')):
            found = self.read(sections)['keystone_authtoken']
            self.assertEqual(
                ('service', 'True'),
                (found['service_token_roles'],
                 found['service_token_roles_required']))
        self.assertIn('service', self.accounts.service.roles)
        self.assertNotIn('service', self.accounts.member.roles)

    def cloud(self, **settings):
        return full_cloud.FullCloud(self.folder / 'one', **settings)

    def test_os_brick_gets_no_credentials_unless_an_option_says_so(self):
        on = {'vmdk_ext_connector_credentials': 'true'}
        for wanted, settings in (
                (False, {}),
                (False, {'overrides': {'vcenter': {
                    'vmdk_ext_connector_credentials': 'false'}}}),
                (True, {'overrides': {'vcenter': on}}),
                (True, {'options': on})):
            with self.subTest(settings):
                self.assertEqual(
                    wanted, self.cloud(**settings)._gives_credentials())

    def test_several_volume_services_share_the_folder_of_backups(self):
        self.assertEqual({}, self.cloud().overrides)
        shared = self.cloud(size=3).overrides['backend_defaults']
        self.assertIs(True, shared['vmdk_ext_backup_dir_shared'])
        self.assertEqual(self.folder.absolute() / 'one',
                         shared['vmdk_ext_backup_dir'].parent)

    def test_horizon_asks_this_keystone(self):
        text = horizon.settings(self.folder, self.accounts)
        compile(text, 'settings', 'exec')
        self.assertIn(repr(self.accounts.auth_url), text)


class PicturesTestCase(unittest.TestCase):
    """Of Horizon, which `make test-cloud ARGS=--pictures` takes."""

    def test_each_picture_is_on_the_page_and_small(self):
        page = full_cloud_run.PICTURES.with_suffix('.md').read_text()
        pictures = list(full_cloud_run.PICTURES.iterdir())
        self.assertEqual(set(re.findall(r'\(horizon/([\w.-]+)\)', page)),
                         {picture.name for picture in pictures})
        for picture in pictures:
            self.assertLess(picture.stat().st_size, 60_000, picture.name)


class NetworkTestCase(unittest.TestCase):

    def test_a_list_is_empty(self):
        self.assertEqual(('200 OK', {'security_groups': []}),
                         no_network.answer('GET',
                                           '/v2.0/security-groups.json'))

    def test_a_project_has_no_limit(self):
        _, document = no_network.answer('GET', '/v2.0/quotas/project.json')
        self.assertEqual(-1, document['quota']['port'])

    def test_nothing_can_be_made_or_found(self):
        for method, path in (('POST', '/v2.0/ports'),
                             ('GET', '/v2.0/ports/1')):
            status, document = no_network.answer(method, path)
            self.assertTrue(status.startswith('404'))
            self.assertEqual('NotFound', document['NeutronError']['type'])


class CommandsTestCase(FilesCase):

    def test_a_user_that_is_not_there_is_refused(self):
        clients.write_cloud_commands(
            self.folder / 'clouds.yaml',
            {account.name: self.accounts.variables(account)
             for account in self.accounts.people},
            'member', self.folder / 'bin')
        done = subprocess.run([self.folder / 'bin' / 'cinder', 'list'],
                              env={'OS_CLOUD': 'stranger'}, text=True,
                              capture_output=True)
        self.assertEqual(1, done.returncode)
        self.assertIn('no cloud "stranger"', done.stderr)

    def test_a_cloud_that_is_not_installed_is_not_begun(self):
        folder = self.folder / 'one'
        missing = environment.Environment('no-such-venv', '.installed')
        with mock.patch.object(environment, 'SERVICES', missing), \
                self.assertRaisesRegex(errors.SandboxError,
                                       'run "make cloud"'):
            full_cloud.FullCloud(folder).start()
        self.assertFalse(folder.exists())

    def test_a_cloud_has_its_own_glance(self):
        self.assertEqual(1, program.main(
            ['start', '--cloud', '--glance', '--dir',
             str(self.folder / 'one')]))

    def test_a_running_cloud_says_whether_it_gives_credentials(self):
        (self.folder / 'etc').mkdir()
        described = {
            'clouds_yaml': 'clouds.yaml', 'dashboard_url': 'http://here',
            'backends': ['vcenter', 'second'], 'vcenter': dict.fromkeys(
                ('host', 'port', 'user', 'password', 'cacert',
                 'control_url'), '')}
        (self.folder / 'sandbox.json').write_text(json.dumps(described))
        for wanted, section in ((False, 'other'), (True, 'second'),
                                (True, 'backend_defaults')):
            (self.folder / 'etc' / 'cinder.conf').write_text(
                configuration.as_ini({section: {
                    'vmdk_ext_connector_credentials': True}}))
            self.assertEqual(wanted, running.RunningCloud(
                self.folder).gives_credentials, section)

    def test_a_folder_without_a_cloud_is_named_with_the_remedy(self):
        with self.assertRaisesRegex(errors.SandboxError,
                                    'make sandbox CLOUD=1'):
            running.RunningCloud(self.folder)
