# SPDX-License-Identifier: Apache-2.0
"""`check` carries out every check, and changes nothing."""

from unittest import mock

from cinder_vmdk_ext.cmd import checking
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import check_case
from cinder_vmdk_ext.tests.functional import command_case


class CheckTestCase(check_case.CheckCase):

    def test_all_is_well_with_a_user_of_least_privilege(self):
        self.database.volume_type('plain')
        self.control.reset_journal()
        found = self.checked(0)
        methods = self.control.reset_journal()['methods']
        self.assertEqual(
            {'connection', 'certificate', 'clock', 'privileges', 'clusters',
             'policies', 'pools', 'volume types', 'options',
             'scheduler filters', 'coordination', 'shared datastores'},
            set(found))
        self.assertEqual({'success'}, {result for each in found.values()
                                       for result, _detail in each})
        self.assertIn(('success', 'type plain: 4 of 4 pools take it'),
                      found['volume types'])
        self.assertRegex(found['certificate'][0][1], r'valid for \d+ more')
        self.assertFalse([each for each in methods if each.startswith(
            ('Create', 'Reconfig', 'Destroy', 'Move')) and 'View' not in each
            and 'Filter' not in each and 'Collector' not in each])

    def test_a_backend_that_does_not_open_is_one_failure(self):
        with mock.patch.object(command_case.Backends, 'opened',
                               side_effect=exceptions.InvalidSettings(
                                   'vmware_host_ip', 'no', 'set it')):
            (result, detail), = self.checked(3)['connection']
        self.assertEqual('failure', result)
        self.assertIn('vmware_host_ip: no; set it', detail)

    def test_it_names_its_checks_in_the_help(self):
        self.assertIn('certificate', checking.Check.__doc__)
