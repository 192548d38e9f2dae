# SPDX-License-Identifier: Apache-2.0
"""Errors name subject, value and remedy, and upstream catches them."""

import unittest

from oslo_vmware import exceptions as vmware_exceptions

from cinder import exception
from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions

from cinder_vmdk_ext import exceptions


class InvalidTestCase(unittest.TestCase):

    def test_settings_name_the_option_the_problem_and_the_remedy(self):
        error = exceptions.InvalidSettings('vmware_host_ip', 'it is not set',
                                           'set it')
        self.assertEqual('vmware_host_ip', error.option)
        self.assertIn('vmware_host_ip: it is not set; set it', str(error))
        self.assertIsInstance(error, exception.InvalidInput)

    def test_a_percent_sign_is_kept(self):
        """Cinder's messages are formats; what is said in them is not."""
        error = exceptions.InvalidSettings('vmware_datastore_regex',
                                           "'%(x)s %d' is none", 'correct it')
        self.assertIn("'%(x)s %d' is none", str(error))

    def test_an_extra_spec_names_its_value(self):
        error = exceptions.InvalidExtraSpec('vmware:vmdk_type', 'fat',
                                            'set it to thin')
        self.assertIn("vmware:vmdk_type has the value 'fat'; set it to thin",
                      str(error))
        self.assertIsInstance(error, exception.InvalidVolumeType)


class UnusableImageTestCase(unittest.TestCase):

    def test_it_names_the_image_the_problem_and_a_remedy(self):
        for remedy, words in (('convert it', 'it is cut; convert it$'),
                              ('', 'it is cut; make the image anew')):
            self.assertRegex(
                str(exceptions.UnusableImage('i', 'it is cut', remedy)),
                f'^Image i is unacceptable: {words}')


class PrivilegeMissingTestCase(unittest.TestCase):

    def test_it_names_the_privilege_the_object_and_the_remedy(self):
        error = exceptions.PrivilegeMissing(
            'CreateFolder: Permission was denied.', 'Folder.Create',
            "Folder group-v3 ('vm')")
        self.assertEqual(
            'CreateFolder: Permission was denied: the user lacks the '
            "privilege Folder.Create on Folder group-v3 ('vm'); give its role "
            'what docs/privileges.md lists.', str(error))
        self.assertIsInstance(error,
                              vmware_exceptions.NoPermissionException)

    def test_a_vcenter_that_names_neither_is_no_riddle(self):
        error = exceptions.PrivilegeMissing('Denied', '', '')
        self.assertIn('privilege (not named) on (not named)', str(error))


class NoPlacementTestCase(unittest.TestCase):

    def test_each_datastore_is_told_with_its_reason(self):
        error = exceptions.NoPlacement('a thin disk of 1 GiB', {
            'gold': 'it is full', 'a 100% #1': 'no host mounts it'})
        self.assertEqual('No datastore for a thin disk of 1 GiB: a 100% #1: '
                         'no host mounts it; gold: it is full.', str(error))

    def test_upstreams_handlers_know_it(self):
        self.assertIsInstance(exceptions.NoPlacement('x', {}),
                              vmdk_exceptions.NoValidDatastoreException)

    def test_hundreds_of_datastores_are_not_all_told_but_kept(self):
        reasons = {f'ds-{number:03}': 'full' for number in range(500)}
        error = exceptions.NoPlacement('a disk', reasons)
        self.assertIn('ds-009: full; and 490 more', str(error))
        self.assertEqual(reasons, error.reasons)

    def test_no_datastores_at_all(self):
        self.assertIn('no datastores', str(exceptions.NoPlacement('x', {})))


class UnknownPoolTestCase(unittest.TestCase):

    def test_the_pool_and_what_there_is_instead_are_told(self):
        error = exceptions.UnknownPool('gone', {'gold': 'there'})
        self.assertEqual('gone', error.pool)
        self.assertIn("'gone'", str(error))
        self.assertIn('gold: there', str(error))
        self.assertIsInstance(error, exceptions.NoPlacement)
