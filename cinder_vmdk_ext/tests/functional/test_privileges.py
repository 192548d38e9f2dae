# SPDX-License-Identifier: Apache-2.0
"""Missing privileges are reported at the start, and by failed calls."""

import os
from typing import Any

import fixtures
from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import privileges_run
from cinder_vmdk_ext.vsphere import privileges
from sandbox import service_user


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
