# SPDX-License-Identifier: Apache-2.0
"""Mistakes that oslo.config does not report are reported."""

import os
import tempfile
import unittest
from unittest import mock

from oslo_config import cfg

from cinder.volume import configuration
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import option_check

OPTIONS = [*vmdk.vmdk_opts, *config.vmdk_ext_opts]
NAMES = {option.dest for option in OPTIONS}
SECRET = 'Pa55-w0rd'


class FileCase(unittest.TestCase):

    def read(self, text):
        """A backend's section, in a file that stays while the test runs."""
        with tempfile.NamedTemporaryFile('w', suffix='.conf',
                                         delete=False) as file:
            file.write(f'[vmdk]\n{text}\n')
        self.addCleanup(os.unlink, file.name)
        cfg.CONF(['--config-file', file.name], project='cinder',
                 default_config_dirs=[])
        return configuration.Configuration(OPTIONS, config_group='vmdk')


class CheckTestCase(FileCase):

    def refuse(self, option, text, *words):
        with self.assertRaises(exceptions.InvalidSettings) as caught:
            option_check.check(self.read(text), OPTIONS)
        message = str(caught.exception)
        self.assertEqual(option, caught.exception.option)
        self.assertEqual(1, len(message.splitlines()))
        self.assertNotIn(SECRET, message)
        self.assertTrue(caught.exception.__suppress_context__
                        or caught.exception.__context__ is None)
        for word in words:
            self.assertIn(word, message)

    def test_an_empty_section_is_good(self):
        option_check.check(self.read(''), OPTIONS)

    def test_a_dollar_before_a_name_that_no_option_has(self):
        for value in (f'{SECRET}$nosuch', f'{SECRET}${{nosuch}}',
                      f'{SECRET}$vmdk.x'):
            self.refuse('vmware_host_password',
                        f'vmware_host_password = {value}', 'write $$')
        self.refuse('vmware_datastore_regex',
                    'vmware_datastore_regex = (a$|b$nosuch)', 'write $$')

    def test_dollars_that_stand_for_themselves(self):
        for value in ('a$', 'a$1', 'a$$b', 'a$$$$b', 'a $ b'):
            option_check.check(self.read(f'vmware_host_password = {value}'),
                               OPTIONS)

    def test_values_of_another_type(self):
        for option, value in (('vmware_host_port', 'https'),
                              ('vmware_insecure', 'perhaps'),
                              ('vmware_adapter_type', 'scsi'),
                              ('vmware_lazy_create', 'true  # the default'),
                              ('vmdk_ext_min_free_percent', '101')):
            self.refuse(option, f'{option} = {value}', 'correct it')

    def test_numbers_that_lead_nowhere(self):
        for option in ('vmware_connection_pool_size',
                       'vmware_task_poll_interval',
                       'vmware_max_objects_retrieval',
                       'vmware_image_transfer_timeout_secs'):
            self.refuse(option, f'{option} = 0')
        self.refuse('vmware_api_retry_count', 'vmware_api_retry_count = -1')
        self.refuse('vmware_task_poll_interval',
                    'vmware_task_poll_interval = nan')

    def test_an_address_that_is_more_than_that(self):
        for value in ('https://vcenter', 'vcenter/sdk', 'a b', 'a # the b'):
            self.refuse('vmware_host_ip', f'vmware_host_ip = {value}',
                        'without https://')
        for value in ('vcenter.example.com', '192.0.2.1', '2001:db8::1'):
            option_check.check(self.read(f'vmware_host_ip = {value}'), OPTIONS)

    def test_folders_that_cannot_have_that_name(self):
        for value in ('', "'  '", 'x' * 80):
            self.refuse('vmware_volume_folder',
                        f'vmware_volume_folder = {value}')

    def test_a_version_that_is_none(self):
        for value in ('abc', '8.0 U3', '8.x'):
            self.refuse('vmware_host_version',
                        f'vmware_host_version = {value}', 'like 8.0.3')


class WarnTestCase(FileCase):

    def warned(self, text):
        self.read(text)
        with mock.patch.object(option_check.LOG, 'warning') as log:
            option_check.warn('vmdk', OPTIONS)
        return [call.args[0] % call.args[1] for call in log.mock_calls]

    def test_each_misspelt_option_is_named_with_the_right_one(self):
        for wrong, right in (
                ('vmdk_ext_min_free_gb', 'vmdk_ext_min_free_gib'),
                ('vmdk_ext_storage_pod', 'vmdk_ext_storage_pods'),
                ('vmdkext_drain_tag', 'vmdk_ext_drain_tag'),
                ('vmware_clustername', 'vmware_cluster_name'),
                ('VMWARE_HOST_IP', 'vmware_host_ip'),
                ('vmdk-ext-drain-tag', 'vmdk_ext_drain_tag')):
            [line] = self.warned(f'{wrong} = {SECRET}')
            self.assertIn(f'section [vmdk]: {wrong} is no option and has no '
                          f'effect; {right} may be meant.', line)
            self.assertNotIn(SECRET, line)

    def test_the_section_of_all_backends_is_looked_at_too(self):
        [line] = self.warned('[backend_defaults]\nvmdk_ext_pods = true')
        self.assertIn('[backend_defaults]: vmdk_ext_pods', line)

    def test_options_of_others_are_none_of_ours(self):
        self.assertEqual([], self.warned(
            'volume_backend_name = x\nmax_over_subscription_ratio = 2\n'
            'image_volume_cache_enabled = true\nfilter_function = 1\n'
            'vmdk_ext_min_free_gib = 3\n[other]\nvmdk_ext_pods = true'))

    def test_a_password_that_oslo_config_changes(self):
        for value, warned in ((f'{SECRET}$host', True), ('$my_ip', True),
                              ('a$$host', False), ('a\\$host', False),
                              ('a$$$host', True), ('a$', False),
                              ('a$5', False)):
            lines = self.warned(f'vmware_host_password = {value}')
            self.assertEqual(int(warned), len(lines), value)
            for line in lines:
                self.assertIn('vmware_host_password has a $', line)
                self.assertNotIn(SECRET, line)

    def test_a_file_that_is_gone_is_no_error(self):
        with mock.patch.object(option_check, '_files',
                               return_value=['/no/such.conf']):
            self.assertEqual([], self.warned('vmdk_ext_pods = true'))


if __name__ == '__main__':
    unittest.main()
