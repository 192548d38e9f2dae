# SPDX-License-Identifier: Apache-2.0
"""A section of cinder.conf becomes settings, or one clear error."""

import os
import tempfile
import unittest

from oslo_config import cfg

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from sandbox.embedded import section

GOOD = {'vmware_host_ip': 'vcenter.example.org',
        'vmware_host_username': 'cinder@vsphere.local',
        'vmware_host_password': section.PASSWORD}


def read(**options):
    found = section.read(**options)
    found.append_config_values(vmdk.vmdk_opts)
    return found


def settings(**options):
    return config.settings(read(**options))


class SettingsTestCase(unittest.TestCase):
    """What becomes of the options."""

    def test_an_empty_section_has_pools_and_a_floor(self):
        found = settings()
        self.assertTrue(found.datastore_pools)
        self.assertEqual(('VmdkExtDriver', (), None, (), 0, 20.0, 0.0, 2.0), (
            found.backend_name, found.cluster_names, found.datastore_regex,
            found.storage_policies, found.reserved_percentage,
            found.max_over_subscription_ratio, found.min_free_gib,
            found.min_free_percent))

    def test_lists_keep_their_order(self):
        found = settings(vmware_cluster_name=['c2', 'c1'],
                         vmware_storage_profile=['silver', 'gold'])
        self.assertEqual((('c2', 'c1'), ('silver', 'gold')),
                         (found.cluster_names, found.storage_policies))

    def test_the_off_switch(self):
        self.assertFalse(settings(vmdk_ext_datastore_pools='false')
                         .datastore_pools)

    def test_a_floor_of_nothing_is_no_floor(self):
        found = settings(vmdk_ext_min_free_percent=0)
        self.assertEqual(0, found.floor_bytes(1 << 40))

    def test_auto_ratio(self):
        self.assertIsNone(settings(max_over_subscription_ratio='auto')
                          .max_over_subscription_ratio)

    def test_the_regex_is_compiled(self):
        self.assertTrue(settings(vmware_datastore_regex='^prod-[0-9]+$')
                        .datastore_regex.match('prod-7'))

    def test_the_sample_shows_every_option_with_a_sentence(self):
        [(group, options)] = config.list_opts()
        self.assertEqual('backend_defaults', group)
        for option in options:
            self.assertTrue(option.name.startswith('vmdk_ext_'))
            self.assertTrue(option.help.endswith('.'), option.name)


class BadInputTestCase(unittest.TestCase):
    """One line each: the option, the value, the remedy."""

    def assertRefused(self, option, words, call, **options):
        with self.assertRaises(exceptions.InvalidSettings) as caught:
            call(read(**options))
        message = str(caught.exception)
        self.assertEqual(option, caught.exception.option)
        self.assertEqual(1, len(message.splitlines()), message)
        for word in (option, *words):
            self.assertIn(word, message)
        self.assertNotIn(section.PASSWORD, message)

    def test_each_missing_option_is_named(self):
        for option in GOOD:
            for missing in (None, ''):
                with self.subTest(option, missing=missing):
                    self.assertRefused(
                        option, ['not set', 'cinder.conf'],
                        config.check_connection_options,
                        **(GOOD | {option: missing}))

    def test_good_options_are_no_error(self):
        config.check_connection_options(read(**GOOD))

    def test_a_ca_file_that_is_not_there(self):
        self.assertRefused('vmware_ca_file', ['/no/such.pem', 'authority'],
                           config.check_connection_options,
                           **GOOD, vmware_ca_file='/no/such.pem')

    def test_a_ca_file_that_is_a_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertRefused('vmware_ca_file', [folder],
                               config.check_connection_options,
                               **GOOD, vmware_ca_file=folder)

    def test_a_ca_file_that_may_not_be_read(self):
        with tempfile.NamedTemporaryFile() as file:
            os.chmod(file.name, 0)
            if os.access(file.name, os.R_OK):
                self.skipTest('the superuser may read everything')
            self.assertRefused('vmware_ca_file', [file.name],
                               config.check_connection_options,
                               **GOOD, vmware_ca_file=file.name)

    def test_a_regex_that_is_none(self):
        self.assertRefused('vmware_datastore_regex', ['prod-[', 'correct it'],
                           config.settings, vmware_datastore_regex='prod-[')

    def test_a_ratio_below_one(self):
        self.assertRefused('max_over_subscription_ratio', ['0.5', '1.0'],
                           config.settings, max_over_subscription_ratio='0.5')

    def test_a_ratio_without_an_end(self):
        self.assertRefused(
            'max_over_subscription_ratio', ["'9", '1.0'], config.settings,
            max_over_subscription_ratio='9' * 400)

    def test_a_floor_that_is_no_number_of_gib(self):
        for value in ('nan', 'inf'):
            self.assertRefused('vmdk_ext_min_free_gib', [value, 'GiB'],
                               config.settings, vmdk_ext_min_free_gib=value)

    def test_a_floor_that_is_no_percentage(self):
        self.assertRefused('vmdk_ext_min_free_percent', ['nan', '0 to 100'],
                           config.settings, vmdk_ext_min_free_percent='nan')

    def test_what_oslo_config_refuses_names_the_option_too(self):
        for option, value in (('vmware_host_port', 'https'),
                              ('vmware_host_port', '70000'),
                              ('vmdk_ext_min_free_percent', '101'),
                              ('vmdk_ext_datastore_pools', 'perhaps')):
            with self.subTest(option, value=value):
                with self.assertRaisesRegex(cfg.ConfigFileValueError, option):
                    getattr(read(**{option: value}), option)
