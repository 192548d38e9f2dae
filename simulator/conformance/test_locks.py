# SPDX-License-Identifier: Apache-2.0
"""A disk that a running machine has is locked: what another machine, or a call without one, wants to do to its file is FileLocked."""

import time

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

FIRST = noise(MIB)
ONE = sha256(FIRST, 16 * MIB)


class LocksTestCase(storage_case.StorageCase):
    """vim.fault.FileLocked: "thrown if an attempt to write to a file fails because the file is locked". After
    hashicorp/terraform-provider-vsphere issue 2275 (a disk of a running machine, extended from outside) and apache/cloudstack
    issue 12035 (a lock that is gone at the next attempt).
    """

    flags = {'ds': 2, 'vm': 0, 'ds_capacity': '10GiB', 'cluster': 1, 'host': 1, 'standalone_host': 0, 'policy': 'Gold=*',
             'lock_release': 2}

    def setUp(self):
        super().setUp()
        self.shadow, self.path = self.vm_with_disk('LocalDS_0', data=FIRST)
        self.instance = self.make_vm('server', 'LocalDS_1', disks_mib=[1])
        self.addCleanup(self.gone, self.instance)
        disk = self.new_disk(16, 1, self.disks(self.instance)[0].controllerKey, fileName=self.path)
        disk.fileOperation = None
        self.wait(self.instance.Reconfigure(vim.vm.ConfigSpec(deviceChange=[disk])))
        self.wait(self.instance.PowerOn())

    def edit(self, vm, index=0, profile=None, **backing):
        disk = self.disks(vm)[index]
        for name, value in backing.items():
            setattr(disk.backing, name, value)
        change = vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)
        if profile:
            change.profile = [vim.vm.DefinedProfileSpec(profileId=profile)]
        return vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change]))

    @property
    def policy(self):
        return next(each['id'] for each in self.control('GET', '/policies') if each['name'] == 'Gold')

    def detach(self):
        self.wait(self.instance.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=self.disks(self.instance)[1])])))

    def test_what_needs_the_file_is_refused_in_the_tasks_error(self):
        uuid = '6000C29a-1111-2222-3333-444455556666'
        for what, task in (
                ('a policy', lambda: self.edit(self.shadow, profile=self.policy)),
                ('a uuid', lambda: self.edit(self.shadow, uuid=uuid)),
                ('a snapshot', lambda: self.shadow.CreateSnapshot('no', '', False, False)),
                ('a clone', lambda: self.shadow.Clone(self.datacenter.vmFolder, 'no', vim.vm.CloneSpec(
                    location=vim.vm.RelocateSpec(pool=self.pool)))),
                ('a move', lambda: self.shadow.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1')))),
                ('a copy', lambda: self.content.virtualDiskManager.CopyVirtualDisk_Task(
                    self.path, self.datacenter, '[LocalDS_1] no.vmdk', self.datacenter)),
                ('an extension', lambda: self.content.virtualDiskManager.ExtendVirtualDisk_Task(
                    self.path, self.datacenter, 32 << 10)),
                ('the end', self.shadow.Destroy_Task)):
            with self.subTest(what):
                fault = self.fault_of(task())
                self.assertIsInstance(fault, vim.fault.FileLocked)
                self.assertEqual((self.path, f'Unable to access file {self.path} since it is locked'), (fault.file, fault.msg))
        self.assertEqual(ONE, self.checksum(self.path))
        self.assertIsNone(self.shadow.snapshot)

    def test_what_needs_no_file_is_done(self):
        """A mode, shares and the annotation stand in the configuration file, which is not locked."""
        self.wait(self.edit(self.shadow, diskMode='independent_persistent'))
        self.wait(self.shadow.Reconfigure(vim.vm.ConfigSpec(annotation='done')))
        self.assertEqual('independent_persistent', self.disks(self.shadow)[0].backing.diskMode)

    def test_the_holder_may_do_it(self):
        self.wait(self.edit(self.instance, 1, profile=self.policy))
        snapshot = self.snapshot(self.instance)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))

    def test_a_lock_passes_some_seconds_after_the_holder_has_let_the_disk_go(self):
        self.detach()
        began = time.monotonic()
        fault = self.fault_of(self.edit(self.shadow, profile=self.policy))
        self.assertIsInstance(fault, vim.fault.FileLocked)
        self.assertIsInstance(self.fault_of(self.content.fileManager.DeleteDatastoreFile_Task(
            name=self.path.rsplit('/', 1)[0], datacenter=self.datacenter)), vim.fault.FileLocked)

        def passed():
            task = self.edit(self.shadow, profile=self.policy)
            return self._ended(task, 20).state == 'success'

        self.until(passed)
        self.assertGreater(time.monotonic() - began, 1)
        self.assertEqual(ONE, self.checksum(self.path))

    def test_hosts_let_go_at_once_of_what_was_given_back_if_a_test_says_so(self):
        self.assertEqual({'let_go': 0}, self.control('DELETE', '/locks'))
        self.assertIsInstance(self.fault_of(self.edit(self.shadow, profile=self.policy)), vim.fault.FileLocked)
        self.detach()
        self.assertEqual({'let_go': 1}, self.control('DELETE', '/locks'))
        self.wait(self.edit(self.shadow, profile=self.policy))

    def test_a_machine_that_is_powered_off_holds_nothing(self):
        self.wait(self.instance.PowerOff())
        self.wait(self.edit(self.shadow, profile=self.policy))


class LenientLocksTestCase(LocksTestCase):
    """By -lenient locked-edits,lingering-locks what a file's lock forbids is allowed, and a lock ends at once."""

    flags = {**LocksTestCase.flags, 'lenient': 'locked-edits,lingering-locks'}

    def test_what_needs_the_file_is_refused_in_the_tasks_error(self):
        self.wait(self.edit(self.shadow, profile=self.policy))
        self.wait(self.shadow.CreateSnapshot('yes', '', False, False))

    def test_hosts_let_go_at_once_of_what_was_given_back_if_a_test_says_so(self):
        self.detach()
        self.assertEqual({'let_go': 0}, self.control('DELETE', '/locks'))

    def test_a_lock_passes_some_seconds_after_the_holder_has_let_the_disk_go(self):
        self.detach()
        self.wait(self.shadow.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))))
