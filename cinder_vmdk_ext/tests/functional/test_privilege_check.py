# SPDX-License-Identifier: Apache-2.0
"""At the start, one sentence lists the user's missing privileges."""

import logging

import fixtures
from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import test_privileges
from cinder_vmdk_ext.vsphere import privilege_check

LOG = privilege_check.LOG.logger.name


class PrivilegeCheckTestCase(test_privileges.PrivilegesCase):

    def warnings(self, **options):
        """What the start of a driver warned of."""
        with fixtures.FakeLogger(LOG, logging.WARNING) as logged:
            self.make_driver(**options)
        return logged.output.splitlines()

    def test_a_user_with_what_the_table_lists_is_not_warned_of(self):
        self.assertEqual([], self.warnings())

    def test_what_is_missing_is_told_in_one_sentence(self):
        self.without('Datastore.Browse', 'VirtualMachine.Config.RemoveDisk')
        message, = self.warnings()
        self.assertIn("user 'cinder@vsphere.local' lacks", message)
        self.assertIn('VirtualMachine.Config.RemoveDisk on VM folder '
                      "'DC0/vm' (to", message)
        self.assertIn("Datastore.Browse on datastore 'LocalDS_0', "
                      "'LocalDS_1', 'LocalDS_2', 'LocalDS_3' (to", message)

    def test_objects_that_the_backend_does_not_use_are_not_looked_at(self):
        self.without('Datastore.Browse')
        message, = self.warnings(vmware_datastore_regex='.*_2')
        self.assertIn("on datastore 'LocalDS_2' (to", message)

    def test_without_the_extension_s_privilege_it_does_not_start(self):
        self.service.content.extensionManager.UnregisterExtension(
            'org.openstack.storage')
        self.addCleanup(self.make_driver)
        self.addCleanup(self.without)
        self.without('Extension.Register')
        error = self.assertRaises(exceptions.InvalidSettings,
                                  self.make_driver)
        self.assertEqual('vmware_host_username', error.option)
        self.assertIn('Extension.Register on vCenter (root folder)',
                      str(error))

    def test_an_extension_that_is_there_needs_no_privilege(self):
        self.without('Extension.Register')
        self.assertEqual([], self.warnings())

    def test_datastores_that_cannot_be_seen_are_told(self):
        for datastore in self.all(vim.Datastore):
            self.permit(datastore, 'NoAccess')
        message, = self.warnings()
        self.assertIn('System.Read on datastore (to serve volumes at all)',
                      message)

    def test_a_vcenter_that_cannot_say_does_not_stop_the_start(self):
        self.control.fault(method='HasUserPrivilegeOnEntities',
                           fault={'type': 'NotSupported'})
        self.assertIn('could not be found out', self.warnings()[0])
