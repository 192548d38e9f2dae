# SPDX-License-Identifier: Apache-2.0
"""`check` says what is wrong, each in its line, and changes nothing."""

import datetime
from unittest import mock

from oslo_config import cfg
from oslo_utils import timeutils

from cinder_vmdk_ext.audit import readiness
from cinder_vmdk_ext.cmd import checking
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.vsphere import diagnosis
from cinder_vmdk_ext.vsphere import privileges
from sandbox import service_user
from sandbox.embedded import section


class CheckTestCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2', 'none=']}

    def setUp(self):
        super().setUp()
        explain.configured()
        names = [*readiness.NEEDED_FILTERS, readiness.ADVISED_FILTER]
        cfg.CONF.set_override('scheduler_default_filters', names)
        self.addCleanup(cfg.CONF.clear_override, 'scheduler_default_filters')

    def checked(self, status, **options):
        found = {}
        for each in self.listed('check', status=status, **options):
            found.setdefault(each['check'], []).append(
                (each['result'], each['detail']))
        return found

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

    def test_a_type_that_few_pools_take_is_named_with_their_number(self):
        self.database.volume_type('gold', storage_profile='gold')
        self.database.volume_type('none', storage_profile='none')
        self.database.volume_type('wrong', colour='red')
        told = '\n'.join(detail for _result, detail
                         in self.checked(3)['volume types'])
        self.assertIn('type gold: 2 of 4 pools take it; the scheduler may '
                      'choose 2 that the driver refuses', told)
        self.assertIn('type none: 0 of 4 pools take it', told)
        self.assertIn('type wrong is refused: ', told)

    def test_a_missing_privilege_is_named_with_its_object(self):
        everything = service_user.of(self.vcenter)
        self.addCleanup(service_user.grant, self.vcenter, everything,
                        privileges.TABLE)
        service_user.grant(self.vcenter, everything, [
            each for each in privileges.TABLE
            if each.id != 'Datastore.FileManagement'])
        (result, detail), = self.checked(3)['privileges']
        self.assertIn('lacks Datastore.FileManagement on datastore', detail)
        self.assertNotEqual('success', result)

    def test_filters_that_are_missing_or_not_installed_fail(self):
        cfg.CONF.set_override('scheduler_default_filters', ['CapacityFilter'])
        self.assertIn('lacks CapabilitiesFilter',
                      self.checked(3)['scheduler filters'][0][1])

    def test_a_wrong_clock_and_an_old_certificate_are_warned_of(self):
        wrong = timeutils.utcnow(True) + datetime.timedelta(hours=-1)
        self.assertAlmostEqual(3600, diagnosis.clock_skew_seconds(
            self.driver.session, self.driver.backend.client,
            now=lambda: wrong), delta=60)
        with mock.patch.object(readiness, 'CERTIFICATE_DAYS', 1e6):
            self.assertEqual('warning',
                             self.checked(3)['certificate'][0][0])

    def test_a_backend_that_does_not_open_is_one_failure(self):
        with mock.patch.object(command_case.Backends, 'opened',
                               side_effect=exceptions.InvalidSettings(
                                   'vmware_host_ip', 'no', 'set it')):
            (result, detail), = self.checked(3)['connection']
        self.assertEqual('failure', result)
        self.assertIn('vmware_host_ip: no; set it', detail)

    def test_a_datastore_of_two_backends_is_warned_of(self):
        own = readiness.datastores(self.driver.backend)
        (result,) = readiness.of_sections({section.NAME: own, 'other': own})
        self.assertEqual('warning', result.result)
        self.assertIn("'LocalDS_1'", result.detail)

    def test_a_lock_in_a_folder_fails_where_services_share_a_backend(self):
        for shared, wanted in ((True, 'failure'), (False, 'success')):
            found = {each.check: each.result
                     for each in readiness.of_cinder(shared)}
            self.assertEqual(wanted, found['coordination'])

    def test_it_names_its_checks_in_the_help(self):
        self.assertIn('certificate', checking.Check.__doc__)
