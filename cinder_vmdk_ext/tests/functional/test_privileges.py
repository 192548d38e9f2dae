# SPDX-License-Identifier: Apache-2.0
"""What the vCenter user lacks is told at the start, and by what fails."""

import logging
import os
from typing import Any

import fixtures
from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import privileges_run
from cinder_vmdk_ext.vsphere import privilege_check
from cinder_vmdk_ext.vsphere import privileges
from sandbox import service_user

LOG = privilege_check.LOG.logger.name


class PrivilegesCase(backend_case.BackendCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(self.without)

    def without(self, *ids):
        """Take privileges away from the service's user until the end."""
        service_user.grant(
            self.vcenter, service_user.of(self.vcenter),
            [each for each in privileges.TABLE if each.id not in ids])

    def permit(self, entity, role):
        """A permission of the user's on an entity until the end."""
        manager = self.service.content.authorizationManager
        found = next(each.roleId for each in manager.roleList
                     if each.name == role)
        manager.SetEntityPermissions(entity, [
            vim.AuthorizationManager.Permission(
                principal=service_user.NAME, group=False, roleId=found,
                propagate=True)])
        self.addCleanup(manager.RemoveEntityPermission, entity,
                        service_user.NAME, False)


class ErrorsTestCase(PrivilegesCase):

    def refused(self, call, *args) -> Any:
        error = self.assertRaises(exceptions.PrivilegeMissing, call, *args)
        self.assertIsInstance(error, vmware_exceptions.NoPermissionException)
        return error

    def test_an_operation_names_the_privilege_and_the_object(self):
        volume = self.create()
        self.without('VirtualMachine.Provisioning.CreateTemplateFromVM')
        shadow = self.truth(volume).vm
        error = self.refused(self.driver.create_snapshot,
                             self.new_snapshot(volume))
        self.assertEqual(
            'VirtualMachine.Provisioning.CreateTemplateFromVM',
            error.privilege)
        self.assertIn(shadow._moId, error.on)
        self.assertIn(shadow.name, str(error))
        self.assertIn('docs/privileges.md', str(error))

    def test_a_task_names_the_privilege_and_the_object(self):
        volume = self.create()
        shadow = self.truth(volume).vm
        self.control.fault(
            method='Destroy_Task', count=1, task_fault={
                'type': 'NoPermission', 'fields': {
                    'object': {'type': 'VirtualMachine',
                               'value': shadow._moId},
                    'privilegeId': 'VirtualMachine.Inventory.Delete'}})
        error = self.refused(self.driver.delete_volume, volume)
        self.assertEqual('VirtualMachine.Inventory.Delete', error.privilege)
        self.assertIn(shadow.name, error.on)


class PreflightTestCase(PrivilegesCase):

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


class TableTestCase(privileges_run.OperationsCase):
    """The table is what the operations need: all of it, and no more."""

    maxDiff = None

    def test_each_privilege_is_needed_and_no_other(self):
        found = privileges_run.needs(self)
        self.assertEqual(
            {(each.id, each.on) for each in privileges.TABLE},
            {(use.privilege, use.on) for used in found.values()
             for use in used})
        if os.environ.get('WRITE_PRIVILEGES'):
            privileges_run.PAGE.write_text(privileges_run.page(found))
        self.assertEqual(privileges_run.PAGE.read_text(),
                         privileges_run.page(found))
        for privilege in sorted({each.id for each in privileges.TABLE}):
            with self.subTest(privilege):
                self.misses(privilege, min(
                    (len(used), name) for name, used in found.items()
                    if privilege in {use.privilege for use in used})[1])

    def misses(self, privilege, name):
        """Without a privilege an operation fails, and names it."""
        with fixtures.FakeLogger():
            error = self.assertRaises(
                (exceptions.PrivilegeMissing, exceptions.InvalidSettings),
                self.carry_out, self.operations()[name], [privilege])
        self.assertIn(f'{privilege} on ', str(error), name)
