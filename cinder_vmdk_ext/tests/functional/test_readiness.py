# SPDX-License-Identifier: Apache-2.0
"""Each check reports its error in its line."""

import datetime
from unittest import mock

from oslo_config import cfg
from oslo_utils import timeutils

from cinder_vmdk_ext.audit import readiness
from cinder_vmdk_ext.tests.functional import check_case
from cinder_vmdk_ext.vsphere import diagnosis
from cinder_vmdk_ext.vsphere import privileges
from sandbox.embedded import section
from sandbox import service_user


class ReadinessTestCase(check_case.CheckCase):

    def test_a_type_that_few_pools_take_is_named_with_their_number(self):
        self.database.volume_type('gold', storage_profile='gold')
        self.database.volume_type('none', storage_profile='none')
        self.database.volume_type('wrong', colour='red')
        text = '\n'.join(detail for _result, detail
                         in self.checked(3)['volume types'])
        self.assertIn('type gold: 2 of 4 pools take it; the scheduler may '
                      'choose 2 that the driver refuses', text)
        self.assertIn('type none: 0 of 4 pools take it', text)
        self.assertIn('type wrong is refused: ', text)

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
