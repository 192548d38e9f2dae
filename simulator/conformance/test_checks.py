# SPDX-License-Identifier: Apache-2.0
"""What a vCenter refuses before it does anything: names, places in the inventory, an old version of a configuration.

The references are the lists of faults of Folder.CreateFolder, MoveIntoFolder_Task, CreateVM_Task and VirtualMachine.ReconfigVM_Task.
"""

from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator.conformance import vcenter_case


class ChecksTestCase(vcenter_case.VCenterCase):

    flags = {'ds': 2, 'vm': 1, 'cluster': 1, 'standalone_host': 0}

    @property
    def folder(self):
        return self.datacenter.vmFolder

    # Names

    def test_a_folder_needs_a_name_of_at_most_79_characters(self):
        for name in '', 'x' * 80:
            with self.assertRaises(vim.fault.InvalidName) as caught:
                self.folder.CreateFolder(name)
            self.assertEqual(name, caught.exception.name)
        self.assertEqual('x' * 79, self.folder.CreateFolder('x' * 79).name)
        self.assertNotIn('', [child.name for child in self.folder.childEntity])

    def test_a_machine_needs_a_name_of_at_most_80_characters(self):
        def create(name):
            return self.folder.CreateVM_Task(vim.vm.ConfigSpec(
                name=name, guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]')), self.pool)

        for name in '', 'x' * 81:
            self.assertIsInstance(self.fault_of(create(name)), vim.fault.InvalidName)
        vm = self.wait(create('x' * 80))  # Nova's: 41 of the server's name, and its UUID
        self.addCleanup(lambda: self.wait(vm.Destroy_Task()))
        self.assertEqual('x' * 80, vm.name)
        self.assertIsInstance(self.fault_of(vm.Rename('x' * 81)), vim.fault.InvalidName)
        self.wait(vm.Rename('y' * 80))
        self.assertIsInstance(self.fault_of(vm.Reconfigure(vim.vm.ConfigSpec(name='x' * 81))), vim.fault.InvalidName)

    def test_nothing_is_renamed_to_a_name_that_is_none(self):
        for entity in self.all(vim.VirtualMachine)[0], self.folder.CreateFolder('to be renamed'), self.datastore():
            before = entity.name
            self.assertIsInstance(self.fault_of(entity.Rename('')), vim.fault.InvalidName)
            self.assertIsInstance(self.fault_of(entity.Rename('x' * 81)), vim.fault.InvalidName)
            self.assertEqual(before, entity.name)

    # Places

    def test_a_folder_does_not_move_into_itself_or_its_child(self):
        outer = self.folder.CreateFolder('outer')
        inner = outer.CreateFolder('inner').CreateFolder('innermost')
        for target in inner, outer:
            self.assertIsInstance(self.fault_of(target.MoveInto([outer])), vim.fault.InvalidFolder)
        self.assertEqual(self.folder, outer.parent)

    def test_a_datastore_does_not_move_into_a_folder_of_machines(self):
        datastore = self.datastore()
        parent = datastore.parent
        self.assertIsInstance(self.fault_of(self.folder.MoveInto([datastore])), vmodl.fault.NotSupported)
        self.assertEqual(parent, datastore.parent)

    def test_a_machine_does_not_move_into_a_folder_of_datastores(self):
        vm = self.all(vim.VirtualMachine)[0]
        self.assertIsInstance(self.fault_of(self.datacenter.datastoreFolder.MoveInto([vm])), vmodl.fault.NotSupported)

    def test_a_datastore_moves_into_a_folder_of_datastores(self):
        folder, datastore = self.datacenter.datastoreFolder.CreateFolder('for datastores'), self.datastore()
        self.wait(folder.MoveInto([datastore]))
        self.assertEqual((folder, [datastore]), (datastore.parent, list(folder.childEntity)))
        self.wait(self.datacenter.datastoreFolder.MoveInto([datastore]))
        self.assertEqual([], list(folder.childEntity))

    def test_a_machine_moves_into_a_folder_of_machines_and_a_folder_too(self):
        outer, inner = self.folder.CreateFolder('holds'), self.folder.CreateFolder('is held')
        vm = self.all(vim.VirtualMachine)[0]
        self.wait(inner.MoveInto([vm]))
        self.wait(outer.MoveInto([inner]))
        self.assertEqual((inner, outer), (vm.parent, inner.parent))

    def test_a_machine_in_no_pool_is_refused(self):
        spec = vim.vm.ConfigSpec(name='nowhere', guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        for pool in '', 'resgroup-0':
            task = self.folder.CreateVM_Task(spec, vim.ResourcePool(pool, self.client._stub))
            self.assertIsInstance(self.fault_of(task), vmodl.fault.ManagedObjectNotFound)

    # Versions of a configuration

    def test_an_old_change_version_is_concurrent_access(self):
        vm = self.all(vim.VirtualMachine)[0]
        version = vm.config.changeVersion
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation='first')))
        self.assertNotEqual(version, vm.config.changeVersion)
        task = vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation='second'))
        self.assertIsInstance(self.fault_of(task), vim.fault.ConcurrentAccess)
        self.assertEqual('first', vm.config.annotation)


class FurtherCallsTestCase(vcenter_case.VCenterCase):
    """Calls that a peer's suite (govmomi's govc/test) makes, and that failed here: ClusterComputeResource.AddHost_Task of the
    reference, and the REST call that govmomi's vapi/simulator answers.
    """

    flags = {'ds': 1, 'vm': 0, 'cluster': 1, 'standalone_host': 0}

    def test_a_host_is_added_to_a_cluster(self):
        cluster = self.all(vim.ClusterComputeResource)[0]
        before = len(cluster.host)
        host = self.wait(cluster.AddHost_Task(
            vim.host.ConnectSpec(hostName='added.example', userName='root', password='secret', force=True), True))
        self.assertEqual((before + 1, 'added.example'), (len(cluster.host), host.name))

    def test_the_certificate_authority_answers_by_REST(self):
        address = f'https://{self.vcenter.host}:{self.vcenter.port}/rest'
        verify = self.vcenter.cacert
        session = requests.post(f'{address}/com/vmware/cis/session', verify=verify, timeout=60,
                                auth=(self.vcenter.user, self.vcenter.password)).json()['value']
        reply = requests.get(f'{address}/vcenter/certificate-authority/get-root', verify=verify, timeout=60,
                             headers={'vmware-api-session-id': session})
        self.assertEqual(200, reply.status_code, reply.text)
        self.assertIn('BEGIN CERTIFICATE', reply.text)


class LenientChecksTestCase(vcenter_case.VCenterCase):

    flags = {'ds': 1, 'vm': 1, 'cluster': 1, 'standalone_host': 0}
    lenient = 'names,concurrent-access'

    def test_long_names_and_old_versions_are_taken(self):
        self.assertEqual('x' * 80, self.datacenter.vmFolder.CreateFolder('x' * 80).name)
        self.wait(self.all(vim.VirtualMachine)[0].ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion='old', annotation='new')))
