# SPDX-License-Identifier: Apache-2.0
"""Users may do what permissions on objects give them, and nothing else.

What is asserted follows the API's reference: the description of AuthorizationManager (roles, permissions, complex entities,
nearest permission), the "Required privileges" of each method, parameter and property, and the lists of dynamic privileges of
Folder.CreateVM_Task, VirtualMachine.ReconfigVM_Task, CloneVM_Task, RelocateVM_Task and Folder.MoveIntoFolder_Task.
"""

import pathlib
import subprocess
import sys
import unittest

from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator import control
from simulator.conformance import vcenter_case

PC = vmodl.query.PropertyCollector
DENIED = 'Permission to perform this operation was denied.'


class PrivilegesCase(vcenter_case.VCenterCase):
    """A user `cinder` whose permissions each test gives, and the administrator beside it."""

    user, password = 'cinder', 'secret'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.endpoint = control.Control(cls.vcenter.control_url)
        root = {'entity': '/', 'user': cls.user}
        cls.endpoint.grant([{'name': cls.user, 'password': cls.password}], permissions=[{**root, 'role': 'ReadOnly'}])
        cls.mine = cls.vcenter.connect(cls.user, cls.password).content
        cls.content.authorizationManager.RemoveEntityPermission(cls.content.rootFolder, cls.user, False)

    def setUp(self):
        self.manager = self.content.authorizationManager
        self.root = self.content.rootFolder

    def role(self, *privileges):
        """A role of exactly these privileges and the three that each role has.

        :returns: its id
        """
        name = f'role of {self.id()} {len(self.manager.roleList)}'
        return self.manager.AddAuthorizationRole(name, list(privileges))

    def permit(self, entity, *privileges, role=None, propagate=True):
        """A permission of the user on an entity, gone at the end of the test."""
        role = self.role(*privileges) if role is None else role
        self.manager.SetEntityPermissions(entity, [vim.AuthorizationManager.Permission(
            principal=self.user, group=False, roleId=role, propagate=propagate)])
        self.addCleanup(self.forget, entity)
        return role

    def forget(self, entity):
        try:
            self.manager.RemoveEntityPermission(entity, self.user, False)
        except vim.fault.NotFound:  # the entity, or the permission, is gone
            pass
        except vmodl.fault.ManagedObjectNotFound:
            pass

    def login(self):
        """A session of its own."""
        return self.vcenter.connect(self.user, self.password).content

    def as_user(self, entity):
        """The same object, as the user sees it."""
        return type(entity)(entity._moId, self.mine.rootFolder._stub)

    def denied(self, entity, privilege, call, *args, **kwargs):
        """Expect NoPermission that names an entity and a privilege."""
        with self.assertRaises(vim.fault.NoPermission) as caught:
            call(*args, **kwargs)
        self.assertEqual((entity._moId, privilege), (caught.exception.object._moId, caught.exception.privilegeId))
        return caught.exception


class PermissionsTestCase(PrivilegesCase):

    flags = {'dc': 2, 'ds': 2, 'vm': 0, 'folder': 0, 'pool': 1}

    def test_a_user_without_any_permission_may_not_log_in(self):
        fault = self.denied(self.root, 'System.View', self.login)
        self.assertEqual(DENIED, fault.msg)

    def test_an_unknown_user_is_an_invalid_login(self):
        with self.assertRaises(vim.fault.InvalidLogin):
            self.vcenter.connect('nobody', 'secret')

    def test_names_are_not_case_sensitive_and_have_two_spellings(self):
        self.endpoint.grant([{'name': r'CORP\Volumes', 'password': 'secret'}])
        self.manager.SetEntityPermissions(self.root, [vim.AuthorizationManager.Permission(
            principal='volumes@corp', group=False, roleId=-2, propagate=True)])
        self.assertEqual('Datacenters', self.vcenter.connect('VOLUMES@corp', 'secret').content.rootFolder.name)
        self.manager.RemoveEntityPermission(self.root, r'corp\volumes', False)

    def test_the_administrator_may_do_everything_and_cannot_be_removed(self):
        self.assertRaises(vim.fault.AuthMinimumAdminPermission, self.manager.RemoveEntityPermission, self.root,
                          self.vcenter.user, False)
        self.assertRaises(vim.fault.AuthMinimumAdminPermission, self.manager.ResetEntityPermissions, self.root, [])

    def test_a_role_always_has_the_system_privileges(self):
        role = self.role('Folder.Create')
        found = next(each for each in self.manager.roleList if each.roleId == role)
        self.assertEqual(['Folder.Create', 'System.Anonymous', 'System.Read', 'System.View'], sorted(found.privilege))
        self.assertFalse(found.system)

    def test_wrong_roles_are_refused(self):
        role = self.role()
        name = next(each.name for each in self.manager.roleList if each.roleId == role)
        self.assertRaises(vim.fault.AlreadyExists, self.manager.AddAuthorizationRole, name, [])
        self.assertRaises(vim.fault.InvalidName, self.manager.AddAuthorizationRole, '', [])
        self.assertRaises(vmodl.fault.InvalidArgument, self.manager.AddAuthorizationRole, 'other', ['No.Such'])
        self.assertRaises(vmodl.fault.InvalidArgument, self.manager.UpdateAuthorizationRole, -1, 'mine', [])
        self.assertRaises(vmodl.fault.InvalidArgument, self.manager.RemoveAuthorizationRole, -2, False)
        self.assertRaises(vim.fault.NotFound, self.manager.RemoveAuthorizationRole, 4711, False)

    def test_a_changed_role_counts_at_once(self):
        role = self.permit(self.datacenter)
        folder = self.as_user(self.datacenter.vmFolder)
        self.denied(self.datacenter.vmFolder, 'Folder.Create', folder.CreateFolder, 'changed')
        self.manager.UpdateAuthorizationRole(role, f'changed {self.id()}', ['Folder.Create'])
        self.assertEqual('changed', folder.CreateFolder('changed').name)

    def test_a_used_role_is_not_removed_if_that_is_asked(self):
        role = self.permit(self.datacenter)
        self.assertRaises(vim.fault.RemoveFailed, self.manager.RemoveAuthorizationRole, role, True)
        self.manager.RemoveAuthorizationRole(role, False)
        self.assertNotIn(role, [each.roleId for each in self.manager.roleList])
        self.denied(self.root, 'System.View', self.login)

    def test_permissions_of_a_role_merge_into_another(self):
        first = self.permit(self.datacenter)
        second = self.role('Folder.Create')
        self.manager.MergePermissions(first, second)
        self.assertEqual([self.datacenter], [each.entity for each in self.manager.RetrieveRolePermissions(second)])
        self.as_user(self.datacenter.vmFolder).CreateFolder('merged')

    def test_wrong_permissions_are_refused(self):
        def permission(**values):
            return vim.AuthorizationManager.Permission(
                **{'principal': self.user, 'group': False, 'roleId': -2, 'propagate': True, **values})
        setter = self.manager.SetEntityPermissions
        self.assertRaises(vim.fault.UserNotFound, setter, self.datacenter, [permission(principal='nobody')])
        self.assertRaises(vim.fault.NotFound, setter, self.datacenter, [permission(roleId=4711)])
        for role in (-3, -4):  # View and Anonymous cannot be granted
            self.assertRaises(vmodl.fault.InvalidArgument, setter, self.datacenter, [permission(roleId=role)])
        self.assertRaises(vim.fault.NotFound, self.manager.RemoveEntityPermission, self.datacenter, self.user, False)

    def test_objects_of_a_complex_entity_have_no_permissions_of_their_own(self):
        host = next(each for each in self.all(vim.HostSystem) if isinstance(each.parent, vim.ComputeResource)
                    and not isinstance(each.parent, vim.ClusterComputeResource))
        for entity in (self.datacenter.vmFolder, self.datacenter.datastoreFolder, self.pool, host):
            with self.subTest(entity):
                self.assertRaises(vmodl.fault.InvalidArgument, self.manager.SetEntityPermissions, entity, [])
        clustered = next(each for each in self.all(vim.HostSystem) if isinstance(each.parent, vim.ClusterComputeResource))
        self.permit(clustered)

    def test_a_datacenters_folders_have_its_permission_though_it_does_not_propagate(self):
        self.permit(self.datacenter, 'Folder.Create', propagate=False)
        folder = self.as_user(self.datacenter.vmFolder).CreateFolder('complex')
        self.denied(folder, 'Folder.Create', folder.CreateFolder, 'below')

    def test_a_permission_that_propagates_counts_below(self):
        self.permit(self.root, 'Folder.Create')
        folder = self.as_user(self.datacenter.vmFolder).CreateFolder('propagated')
        self.assertEqual('below', folder.CreateFolder('below').name)

    def test_the_nearest_permission_counts(self):
        self.permit(self.root, 'Folder.Create')
        self.permit(self.datacenter, 'Folder.Delete')
        folder = self.as_user(self.datacenter.vmFolder)
        self.denied(self.datacenter.vmFolder, 'Folder.Create', folder.CreateFolder, 'nearest')
        other = self.all(vim.Datacenter)[1]
        self.as_user(other.vmFolder).CreateFolder('nearest')

    def test_no_access_hides_what_is_below(self):
        self.permit(self.root)
        self.permit(self.datacenter, role=-5)
        seen = self.mine
        view = seen.viewManager.CreateContainerView(seen.rootFolder, [vim.ManagedEntity], True)
        names = {each._moId for each in view.view}
        self.assertIn(self.all(vim.Datacenter)[1]._moId, names)
        self.assertNotIn(self.datacenter._moId, names)
        self.assertNotIn(self.datacenter.vmFolder._moId, names)
        self.assertEqual([self.all(vim.Datacenter)[1]._moId], [each._moId for each in seen.rootFolder.childEntity])

    def test_what_lies_above_is_visible_and_no_more(self):
        self.permit(self.datastore())
        seen = self.mine
        datacenter = self.as_user(self.datacenter)
        self.assertEqual(self.datacenter.name, datacenter.name)
        self.assertEqual('Datacenters', seen.rootFolder.name)
        self.denied(self.datacenter, 'System.Read', lambda: datacenter.overallStatus)
        view = seen.viewManager.CreateContainerView(seen.rootFolder, [vim.Datastore], True)
        self.assertEqual([self.datastore()._moId], [each._moId for each in view.view])

    def test_a_groups_permission_counts_unless_the_user_has_its_own(self):
        self.endpoint.grant([{'name': 'member', 'password': 'secret', 'groups': ['operators', 'makers']}])
        makers, none = self.role('Folder.Create'), self.role()
        self.manager.SetEntityPermissions(self.datacenter, [
            vim.AuthorizationManager.Permission(principal=group, group=True, roleId=role, propagate=True)
            for group, role in (('makers', makers), ('operators', none))])
        folder = vim.Folder(self.datacenter.vmFolder._moId,
                            self.vcenter.connect('member', 'secret').content.rootFolder._stub)
        folder.CreateFolder('by the group')
        self.manager.SetEntityPermissions(self.datacenter, [vim.AuthorizationManager.Permission(
            principal='member', group=False, roleId=none, propagate=True)])
        self.denied(self.datacenter.vmFolder, 'Folder.Create', folder.CreateFolder, 'by the user')
        self.manager.ResetEntityPermissions(self.datacenter, [])

    def test_a_machine_inherits_from_its_folder_and_from_its_pool(self):
        vm = self.make_vm('inherits')
        self.addCleanup(self.destroy, vm)
        self.permit(self.datacenter.vmFolder.parent, 'VirtualMachine.State.CreateSnapshot')
        self.permit(self.pool.parent, 'VirtualMachine.Interact.PowerOn')
        found = self.manager.FetchUserPrivilegeOnEntities([vm], self.user)[0].privileges
        self.assertIn('VirtualMachine.State.CreateSnapshot', found)
        self.assertIn('VirtualMachine.Interact.PowerOn', found)
        self.permit(vm)
        self.assertEqual(['System.Anonymous', 'System.Read', 'System.View'],
                         sorted(self.manager.FetchUserPrivilegeOnEntities([vm], self.user)[0].privileges))

    def test_permissions_are_listed_with_those_inherited(self):
        role = self.permit(self.datacenter)
        own = self.manager.RetrieveEntityPermissions(self.datacenter, False)
        self.assertEqual([(self.user, role)], [(each.principal, each.roleId) for each in own])
        inherited = self.manager.RetrieveEntityPermissions(self.datastore(), True)
        self.assertEqual([(self.user, role), (self.vcenter.user, -1)],
                         [(each.principal, each.roleId) for each in inherited])
        self.assertEqual(2, len([each for each in self.manager.RetrieveAllPermissions()
                                 if each.principal in (self.user, self.vcenter.user)]))

    def test_only_what_one_has_can_be_granted(self):
        self.permit(self.root, 'Authorization.ModifyRoles', 'Authorization.ModifyPermissions')
        manager = self.mine.authorizationManager
        self.denied(self.root, 'Folder.Create', manager.AddAuthorizationRole, 'more', ['Folder.Create'])
        self.denied(self.root, 'Authorization.ReassignRolePermissions', manager.MergePermissions, -2, -5)

    def test_permissions_of_a_destroyed_entity_are_gone(self):
        folder = self.datacenter.vmFolder.CreateFolder('short')
        self.permit(folder)
        self.wait(folder.Destroy_Task())
        self.assertNotIn(self.user, [each.principal for each in self.manager.RetrieveAllPermissions()])

    def test_who_may_do_what_is_told(self):
        self.permit(self.datacenter, 'Folder.Create')
        asked = ['Folder.Create', 'Folder.Delete']
        want = [('Folder.Create', True), ('Folder.Delete', False)]

        def told(answer):
            return [(each.privId, each.isGranted) for each in answer.privAvailability]
        folder = self.datacenter.vmFolder
        self.assertEqual(want, told(self.manager.HasUserPrivilegeOnEntities([folder], self.user, asked)[0]))
        seen = self.mine
        session = seen.sessionManager.currentSession.key
        mine = seen.authorizationManager
        self.assertEqual(want, told(mine.HasPrivilegeOnEntities([folder], session, asked)[0]))
        self.assertEqual([True, False], list(mine.HasPrivilegeOnEntity(folder, session, asked)))
        # of an object that is no entity, the root folder counts
        other = mine.HasUserPrivilegeOnEntities([seen.sessionManager], self.user, ['Folder.Create'])[0]
        self.assertEqual([('Folder.Create', False)], told(other))
        self.assertRaises(vmodl.fault.InvalidArgument, mine.HasUserPrivilegeOnEntities, [folder], self.user, ['No.Such'])

    def test_users_and_groups_are_found(self):
        self.endpoint.grant([{'name': 'finder', 'password': 'secret', 'groups': ['seekers']}])
        directory = self.content.userDirectory
        self.assertEqual(['finder'], [each.principal for each in directory.RetrieveUserGroups(
            searchStr='finder', exactMatch=True, findUsers=True, findGroups=True)])
        self.assertEqual([('seekers', True)], [(each.principal, each.group) for each in directory.RetrieveUserGroups(
            searchStr='seek', exactMatch=False, findUsers=True, findGroups=True)])

    def test_the_checks_that_were_made_are_remembered(self):
        self.permit(self.datacenter)
        folder = self.as_user(self.datacenter.vmFolder)
        self.endpoint.forget_used_privileges()
        self.assertRaises(vim.fault.NoPermission, folder.CreateFolder, 'remembered')
        self.assertIn({'user': self.user, 'method': 'CreateFolder', 'privilege': 'Folder.Create', 'object': 'Folder',
                       'checked': 1, 'denied': 1}, self.endpoint.used_privileges(self.user))


class ReadingTestCase(PrivilegesCase):

    flags = {'ds': 2, 'vm': 0}

    def retrieve(self, content, obj, *paths):
        return content.propertyCollector.RetrievePropertiesEx([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=obj)],
            propSet=[PC.PropertySpec(type=type(obj), pathSet=list(paths))])], PC.RetrieveOptions()).objects

    def test_denied_properties_are_missing_with_the_reason(self):
        self.permit(self.datastore())
        content = self.mine
        found, = self.retrieve(content, self.as_user(self.datacenter), 'name', 'datastore')
        self.assertEqual(['name'], [each.name for each in found.propSet])
        missing, = found.missingSet
        self.assertEqual('datastore', missing.path)
        self.assertIsInstance(missing.fault, vim.fault.NoPermission)
        self.assertEqual((self.datacenter._moId, 'System.Read'), (missing.fault.object._moId, missing.fault.privilegeId))

    def test_an_invisible_object_that_is_asked_for_has_all_missing(self):
        self.permit(self.datastore())
        other = self.datastore('LocalDS_1')
        found, = self.retrieve(self.mine, self.as_user(other), 'name', 'summary')
        self.assertFalse(found.propSet)
        self.assertEqual([('name', 'System.View'), ('summary', 'System.Read')],
                         sorted((each.path, each.fault.privilegeId) for each in found.missingSet))

    def test_an_invisible_object_that_a_traversal_meets_is_not_there(self):
        self.permit(self.datastore())
        content = self.mine
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.Datastore], True)
        found = content.propertyCollector.RetrievePropertiesEx([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[PC.TraversalSpec(
                name='view', type=vim.view.ContainerView, path='view')])],
            propSet=[PC.PropertySpec(type=vim.Datastore, pathSet=['name'])])], PC.RetrieveOptions())
        self.assertEqual([self.datastore()._moId], [each.obj._moId for each in found.objects])

    def test_updates_tell_what_may_be_read(self):
        self.permit(self.datastore())
        content = self.mine
        collector = content.propertyCollector
        collector.CreateFilter(PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=self.as_user(self.datacenter))],
            propSet=[PC.PropertySpec(type=vim.Datacenter, pathSet=['name', 'datastore'])]), False)
        update = collector.WaitForUpdatesEx('', PC.WaitOptions(maxWaitSeconds=5)).filterSet[0].objectSet[0]
        self.assertEqual(['name'], [each.name for each in update.changeSet])
        self.assertEqual([('datastore', 'System.Read')],
                         [(each.path, each.fault.privilegeId) for each in update.missingSet])

    def test_the_list_of_sessions_needs_its_own_privilege(self):
        self.permit(self.root)
        sessions = self.mine.sessionManager
        self.assertEqual(self.user, sessions.currentSession.userName)
        self.denied(self.root, 'Sessions.TerminateSession', lambda: sessions.sessionList)
        self.denied(self.root, 'Sessions.ValidateSession', sessions.SessionIsActive, sessions.currentSession.key, self.user)

    def test_a_search_does_not_find_what_is_invisible(self):
        vm = self.make_vm('hidden')
        self.addCleanup(self.destroy, vm)
        self.permit(self.root)
        search = self.mine.searchIndex
        uuid = vm.config.instanceUuid
        self.assertEqual([vm._moId], [each._moId for each in search.FindAllByUuid(None, uuid, True, True)])
        self.permit(vm, role=-5)
        self.assertFalse(search.FindAllByUuid(None, uuid, True, True))
        self.assertIsNone(search.FindByUuid(None, uuid, True, True))

    def test_ones_own_task_can_be_read_and_anothers_needs_the_entity(self):
        vm = self.make_vm('tasks')
        self.addCleanup(self.destroy, vm)
        task = vm.Rename_Task('tasks too')
        self.wait(task)
        self.permit(vm, 'VirtualMachine.Config.Rename')
        self.wait(self.as_user(vm).Rename_Task('tasks three'))
        self.assertEqual('success', self.as_user(task).info.state)
        self.permit(vm, role=-5)
        self.permit(self.datastore())
        self.denied(vm, 'System.Read', lambda: self.as_user(task).info)


class MethodsTestCase(PrivilegesCase):
    """Each case: a call, then what is missing one after the other until it succeeds."""

    flags = {'ds': 2, 'vm': 0, 'ds_mount_all': True}

    def setUp(self):
        super().setUp()
        self.cluster = self.pool.parent
        self.other = self.datastore('LocalDS_1')

    def needs(self, wanted, call):
        """Expect that a call needs exactly these privileges, in any order, beside System.Read on everything.

        :param wanted: {(entity, privilege), ...}
        :param call: makes the call as the user
        :returns: what the call returned
        """
        role = self.permit(self.root)
        name = next(each.name for each in self.manager.roleList if each.roleId == role)
        granted, missed = [], set()
        for _ in range(len(wanted) + 1):
            try:
                answer = call()
                break
            except vim.fault.NoPermission as fault:
                self.assertEqual(fault.object, fault.missingPrivileges[0].entity)
                for each in fault.missingPrivileges:
                    missed |= {(each.entity._moId, privilege) for privilege in each.privilegeIds}
                granted = sorted({privilege for _, privilege in missed})
                self.manager.UpdateAuthorizationRole(role, name, granted)
        else:
            self.fail(f'still denied with {granted}')
        self.assertEqual({(entity._moId, privilege) for entity, privilege in wanted}, missed)
        if isinstance(answer, vim.Task):
            return self.wait(self.client_of(answer))
        return answer

    def client_of(self, task):
        return vim.Task(task._moId, self.content.rootFolder._stub)

    def machine(self, name, **config):
        vm = self.make_vm(name, disks_mib=[8], **config)
        self.addCleanup(self.remove, vm)
        return vm

    def remove(self, vm):
        try:
            self.destroy(vm)
        except vmodl.fault.ManagedObjectNotFound:
            pass

    def spec(self, name, **config):
        change = vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus='noSharing'))
        return vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', numCPUs=1, memoryMB=4, files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'),
            **{'deviceChange': [change, self.new_disk(8, 0, controller=-1)], **config})

    def reconfigured(self, vm, **config):
        mine = self.as_user(vm)
        return lambda: mine.ReconfigVM_Task(vim.vm.ConfigSpec(**config))

    def test_create(self):
        folder = self.datacenter.vmFolder
        mine, pool = self.as_user(folder), self.as_user(self.pool)
        vm = self.needs(
            {(folder, 'VirtualMachine.Inventory.Create'), (self.pool, 'Resource.AssignVMToPool'),
             (folder, 'VirtualMachine.Config.AddNewDisk'), (folder, 'VirtualMachine.Config.AdvancedConfig'),
             (self.datastore(), 'Datastore.AllocateSpace')},
            lambda: mine.CreateVM_Task(self.spec('created', extraConfig=[vim.option.OptionValue(key='a.b', value='c')]),
                                       pool))
        self.addCleanup(self.destroy, vm)

    def test_destroy_needs_the_parent_too(self):
        vm = self.machine('destroyed')
        mine = self.as_user(vm)
        self.needs({(vm, 'VirtualMachine.Inventory.Delete'), (vm.parent, 'VirtualMachine.Inventory.Delete')},
                   lambda: mine.Destroy_Task())

    def test_a_folder_is_made_renamed_moved_and_destroyed(self):
        base = self.datacenter.vmFolder
        mine = self.as_user(base)
        folder = self.needs({(base, 'Folder.Create')}, lambda: mine.CreateFolder('made'))
        target = base.CreateFolder('target')
        self.needs({(folder, 'Folder.Rename')}, lambda: folder.Rename_Task('renamed'))
        self.needs({(base, 'Folder.Move'), (target, 'Folder.Move'), (folder, 'Folder.Move')},
                   lambda: self.as_user(target).MoveIntoFolder_Task([folder]))
        self.needs({(folder, 'Folder.Delete'), (target, 'Folder.Delete')}, lambda: folder.Destroy_Task())
        self.wait(target.Destroy_Task())

    def test_destroying_a_folder_needs_to_delete_the_machines_in_it(self):
        folder = self.datacenter.vmFolder.CreateFolder('full')
        vm = self.machine('inside')
        self.wait(folder.MoveIntoFolder_Task([vm]))
        self.needs({(folder, 'Folder.Delete'), (folder.parent, 'Folder.Delete'), (vm, 'VirtualMachine.Inventory.Delete')},
                   lambda: self.as_user(folder).Destroy_Task())

    def test_a_machine_is_moved_to_another_folder(self):
        vm = self.machine('moved')
        folder = self.datacenter.vmFolder.CreateFolder('for the moved')
        move = 'VirtualMachine.Inventory.Move'
        self.needs({(vm, move), (vm.parent, move), (folder, move)}, lambda: self.as_user(folder).MoveIntoFolder_Task([vm]))

    def test_parts_of_a_reconfiguration(self):
        vm = self.machine('parts')
        config = 'VirtualMachine.Config.'
        for privilege, spec in {
            'Rename': {'name': 'parts too'}, 'Annotation': {'annotation': 'words'}, 'CPUCount': {'numCPUs': 2},
            'Memory': {'memoryMB': 8}, 'AdvancedConfig': {'extraConfig': [vim.option.OptionValue(key='x.y', value='z')]},
            'Settings': {'guestId': 'otherGuest64'}, 'ChangeTracking': {'changeTrackingEnabled': True},
            'Resource': {'cpuAllocation': vim.ResourceAllocationInfo(limit=100)},
            'ManagedBy': {'managedBy': vim.ext.ManagedByInfo(extensionKey='a', type='b')},
        }.items():
            with self.subTest(privilege):
                self.needs({(vm, config + privilege)}, self.reconfigured(vm, **spec))

    def test_disks_of_a_reconfiguration(self):
        vm = self.machine('disks')
        config = 'VirtualMachine.Config.'
        spec = vim.vm.device.VirtualDeviceSpec
        self.needs({(vm, config + 'AddNewDisk'), (self.datastore(), 'Datastore.AllocateSpace')},
                   self.reconfigured(vm, deviceChange=[self.new_disk(8, 1)]))
        disk = self.disks(vm)[1]
        disk.capacityInKB, disk.capacityInBytes = 16 << 10, 16 << 20
        self.needs({(vm, config + 'DiskExtend')},
                   self.reconfigured(vm, deviceChange=[spec(operation='edit', device=disk)]))
        disk = self.disks(vm)[1]
        disk.backing.diskMode = 'independent_persistent'
        self.needs({(vm, config + 'EditDevice')},
                   self.reconfigured(vm, deviceChange=[spec(operation='edit', device=disk)]))
        for part in {'limit': 500}, {'reservation': 9}, {'shares': vim.SharesInfo(level='high', shares=0)}:
            disk = self.disks(vm)[1]
            disk.storageIOAllocation = vim.StorageResourceManager.IOAllocationInfo(**part)
            self.needs({(vm, config + 'EditDevice'), (vm, config + 'Resource')},
                       self.reconfigured(vm, deviceChange=[spec(operation='edit', device=disk)]))
        disk = self.disks(vm)[1]
        self.needs({(vm, config + 'RemoveDisk')},
                   self.reconfigured(vm, deviceChange=[spec(operation='remove', device=disk)]))
        again = self.new_disk(16, 1, fileName=disk.backing.fileName)
        again.fileOperation = None
        self.needs({(vm, config + 'AddExistingDisk')}, self.reconfigured(vm, deviceChange=[again]))
        controller = spec(operation='add', device=vim.vm.device.VirtualLsiLogicController(
            key=-7, busNumber=1, sharedBus='noSharing'))
        self.needs({(vm, config + 'AddRemoveDevice')}, self.reconfigured(vm, deviceChange=[controller]))

    def test_a_new_disk_takes_space_where_its_backing_says(self):
        vm = self.machine('elsewhere')
        self.needs({(vm, 'VirtualMachine.Config.AddNewDisk'), (self.other, 'Datastore.AllocateSpace')},
                   self.reconfigured(vm, deviceChange=[self.new_disk(8, 1, fileName='[LocalDS_1]')]))

    def test_clone(self):
        vm = self.machine('source')
        folder = self.datacenter.vmFolder
        mine = self.as_user(vm)
        spec = vim.vm.CloneSpec(powerOn=False, template=False, location=vim.vm.RelocateSpec(
            datastore=self.other, pool=self.pool))
        clone = self.needs(
            {(vm, 'VirtualMachine.Provisioning.Clone'), (folder, 'VirtualMachine.Inventory.CreateFromExisting'),
             (folder, 'VirtualMachine.Config.AddNewDisk'), (self.pool, 'Resource.AssignVMToPool'),
             (self.other, 'Datastore.AllocateSpace')},
            lambda: mine.CloneVM_Task(folder, 'clone', spec))
        self.addCleanup(self.destroy, clone)

    def test_the_kind_of_clone_decides_about_the_privilege_on_the_source(self):
        vm = self.machine('kinds')
        folder = self.datacenter.vmFolder

        def provisioning(template):
            role = self.permit(self.root)
            spec = vim.vm.CloneSpec(powerOn=False, template=template, location=vim.vm.RelocateSpec(
                pool=None if template else self.pool))
            with self.assertRaises(vim.fault.NoPermission) as caught:
                self.as_user(vm).CloneVM_Task(folder, 'never', spec)
            self.manager.RemoveAuthorizationRole(role, False)
            return caught.exception.privilegeId.removeprefix('VirtualMachine.Provisioning.')
        self.assertEqual(['Clone', 'CreateTemplateFromVM'], [provisioning(False), provisioning(True)])
        vm.MarkAsTemplate()
        self.assertEqual(['DeployTemplate', 'CloneTemplate'], [provisioning(False), provisioning(True)])

    def test_relocate(self):
        vm = self.machine('relocated')
        mine = self.as_user(vm)
        self.needs({(vm, 'Resource.ColdMigrate'), (self.other, 'Datastore.AllocateSpace')},
                   lambda: mine.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.other)))
        self.wait(vm.PowerOn())
        back = vim.vm.RelocateSpec(pool=self.pool, disk=[vim.vm.RelocateSpec.DiskLocator(
            diskId=self.disks(vm)[0].key, datastore=self.datastore())])
        self.needs({(vm, 'Resource.ColdMigrate'), (vm, 'Resource.HotMigrate'), (self.pool, 'Resource.AssignVMToPool'),
                    (self.datastore(), 'Datastore.AllocateSpace')}, lambda: mine.RelocateVM_Task(back))

    def test_snapshots(self):
        vm = self.machine('snapshots')
        mine = self.as_user(vm)
        state = 'VirtualMachine.State.'
        snapshot = self.needs({(vm, state + 'CreateSnapshot'), (self.datastore(), 'Datastore.AllocateSpace')},
                              lambda: mine.CreateSnapshot_Task('one', '', False, False))
        mine = self.as_user(snapshot)
        self.needs({(vm, state + 'RevertToSnapshot')}, lambda: mine.RevertToSnapshot_Task())
        self.needs({(vm, state + 'RenameSnapshot')}, lambda: mine.RenameSnapshot('two'))
        self.needs({(vm, state + 'RemoveSnapshot')}, lambda: mine.RemoveSnapshot_Task(False))

    def test_files_need_their_datastore(self):
        files, disks = self.mine.fileManager, self.mine.virtualDiskManager
        dc = self.datacenter
        manage = {(self.datastore(), 'Datastore.FileManagement')}
        both = manage | {(self.other, 'Datastore.FileManagement')}
        disk = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(diskType='thin', adapterType='lsiLogic', capacityKb=1024)
        self.needs(manage, lambda: files.MakeDirectory('[LocalDS_0] made', dc, False))
        self.needs(manage, lambda: disks.CreateVirtualDisk_Task('[LocalDS_0] made/a.vmdk', dc, disk))
        self.needs(manage, lambda: disks.QueryVirtualDiskUuid('[LocalDS_0] made/a.vmdk', dc))
        self.needs(both, lambda: disks.CopyVirtualDisk_Task(
            '[LocalDS_0] made/a.vmdk', dc, '[LocalDS_1] b.vmdk', None, None, False))
        self.needs(manage, lambda: disks.ExtendVirtualDisk_Task('[LocalDS_0] made/a.vmdk', dc, 2048, False))
        self.needs({(self.other, 'Datastore.FileManagement')},
                   lambda: disks.DeleteVirtualDisk_Task('[LocalDS_1] b.vmdk', dc))
        self.needs({(self.datastore(), 'Datastore.Browse')},
                   lambda: self.as_user(self.datastore().browser).SearchDatastore_Task('[LocalDS_0] made'))
        self.needs(manage, lambda: files.DeleteDatastoreFile_Task('[LocalDS_0] made', dc))

    def test_import(self):
        folder = self.datacenter.vmFolder
        mine, pool = self.as_user(folder), self.as_user(self.pool)
        spec = vim.vm.VmImportSpec(configSpec=self.spec('imported'))
        lease = self.needs(
            {(self.pool, 'VApp.Import'), (folder, 'VApp.Import'), (folder, 'VirtualMachine.Config.AddNewDisk'),
             (self.datastore(), 'Datastore.AllocateSpace')}, lambda: pool.ImportVApp(spec, mine))
        self.until(lambda: lease.state == 'ready')
        vm = vim.VirtualMachine(lease.info.entity._moId, self.content.rootFolder._stub)
        lease.HttpNfcLeaseComplete()
        self.needs({(vm, 'VApp.Export')}, lambda: self.as_user(vm).ExportVm()).HttpNfcLeaseAbort()
        self.destroy(vm)

    def test_extensions_fields_and_datastores(self):
        root, ds = self.root, self.datastore()
        extension = vim.Extension(key='org.example', version='1', lastHeartbeatTime=self.client.CurrentTime(),
                                  description=vmodl_description())
        self.needs({(root, 'Extension.Register')}, lambda: self.mine.extensionManager.RegisterExtension(extension))
        field = self.needs({(root, 'Global.ManageCustomFields')},
                           lambda: self.mine.customFieldsManager.AddCustomFieldDef('a field', vim.Datastore, None, None))
        self.needs({(ds, 'Global.SetCustomField')},
                   lambda: self.mine.customFieldsManager.SetField(ds, field.key, 'value'))
        self.needs({(ds, 'Datastore.Rename')}, lambda: self.as_user(ds).RenameDatastore('LocalDS_0'))
        self.needs({(ds, 'Datastore.Config')}, lambda: self.as_user(ds).DatastoreEnterMaintenanceMode().task)
        self.wait(ds.DatastoreExitMaintenanceMode_Task())

    def test_a_host_manager_needs_its_host(self):
        host = self.all(vim.HostSystem)[0]
        self.needs({(host, 'Host.Config.Storage')},
                   lambda: self.as_user(host.configManager.datastoreSystem).QueryAvailableDisksForVmfs())

    def test_storage_policies_need_to_be_viewed(self):
        self.permit(self.root)
        cookie = self.mine.rootFolder._stub.cookie.split(';')[0]
        request = (f'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Header><vcSessionCookie>'
                   f'{cookie.split("=")[1].strip(chr(34))}</vcSessionCookie></Header><Body><PbmQueryProfile xmlns="urn:pbm">'
                   '<_this type="PbmProfileProfileManager">ProfileManager</_this><resourceType><resourceType>STORAGE'
                   '</resourceType></resourceType></PbmQueryProfile></Body></Envelope>')

        def query():  # pyVmomi cannot read a NoPermission that this API answers
            return requests.post(f'https://{self.vcenter.host}:{self.vcenter.port}/pbm/sdk', data=request, timeout=20,
                                 headers={'Cookie': cookie}, verify=self.vcenter.cacert)
        refused = query()
        self.assertEqual(500, refused.status_code)
        self.assertIn('<privilegeId>StorageProfile.View</privilegeId>', refused.text)
        self.permit(self.root, 'StorageProfile.View')
        self.assertEqual(200, query().status_code)

    def test_a_storage_policy_needs_to_be_applied(self):
        vm = self.machine('policy')
        self.permit(self.root)
        self.denied(self.root, 'StorageProfile.Apply', self.as_user(vm).ReconfigVM_Task,
                    vim.vm.ConfigSpec(vmProfile=[vim.vm.DefinedProfileSpec(profileId='policy-1')]))

    def test_files_over_http_need_the_datastore(self):
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/folder/http.txt?dcPath=DC0&dsName=LocalDS_0'
        role = self.permit(self.root)

        def ask(method):
            return requests.request(method, url, data=b'text', auth=(self.user, self.password),
                                    verify=self.vcenter.cacert, timeout=20).status_code
        self.assertEqual(403, ask('PUT'))
        self.manager.UpdateAuthorizationRole(role, f'http {role}', ['Datastore.FileManagement'])
        self.assertEqual([201, 200], [ask('PUT'), ask('GET')])

    def test_an_older_api_names_the_first_missing_privilege_only(self):
        with vcenter_case.client.Simulator(vm=0, api_version='7.0.0.0', user=['cinder:secret:ReadOnly']) as vcenter:
            folder = vcenter.connect('cinder', 'secret').content.rootFolder
            with self.assertRaises(vim.fault.NoPermission) as caught:
                folder.CreateFolder('never')
        self.assertEqual(('Folder.Create', []),
                         (caught.exception.privilegeId, list(caught.exception.missingPrivileges)))


def vmodl_description():
    return vim.Description(label='a', summary='b')


class TableTestCase(unittest.TestCase):

    def test_the_table_is_what_the_script_makes_of_the_references_tables(self):
        here = pathlib.Path(__file__).parents[1] / 'internal' / 'privileges'
        made = subprocess.run([sys.executable, str(here / 'generate.py'), '/dev/stdout'], capture_output=True, check=True)
        self.assertEqual((here / 'table.txt').read_bytes(), made.stdout)


class KeptTestCase(unittest.TestCase):

    def test_users_roles_and_permissions_are_saved_with_the_state(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            with vcenter_case.client.Simulator(vm=0, state_save=folder + '/state') as vcenter:
                control.Control(vcenter.control_url).grant(
                    [{'name': 'kept', 'password': 'secret'}], {'makers': ['Folder.Create']},
                    [{'entity': '/DC0', 'user': 'kept', 'role': 'makers'}])
            with vcenter_case.client.Simulator(state_load=folder + '/state') as vcenter:
                content = vcenter.connect('kept', 'secret').content
                datacenter = content.rootFolder.childEntity[0]
                self.assertEqual('made', datacenter.vmFolder.CreateFolder('made').name)
                self.assertRaises(vim.fault.NoPermission, content.rootFolder.CreateFolder, 'never')
