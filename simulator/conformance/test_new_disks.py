# SPDX-License-Identifier: Apache-2.0
"""What becomes of the uuid that a new disk is given.

The API's reference says of VirtualDiskFlatVer2BackingInfo.uuid only "Disk UUID for the virtual disk, if available", and of
VirtualDiskFlatVer2BackingOption.uuid that it tells whether a backing supports that property. Two programs of VMware's give a
disk its uuid in the specification that creates it: the ESX agent of Photon Controller (vm_config.py), and Safekeeping, which
restores machines through a vCenter (VirtualDiskManager.java). A client has to expect each of the three answers.
"""

import uuid

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import storage_case


class NewDiskCase:

    def setUp(self):
        super().setUp()
        self.given = str(uuid.uuid4())
        self.vm = self.make_vm('machine', disks_mib=[1])
        self.addCleanup(self.destroy, self.vm)

    def add(self):
        return self.vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[self.new_disk(1, 1, uuid=self.given)]))

    def uuid(self):
        """The uuid of a disk that was added."""
        self.wait(self.add())
        return self.disks(self.vm)[1].backing.uuid.lower()


class KeptTestCase(NewDiskCase, storage_case.StorageCase):

    flags = {'ds': 1, 'vm': 0, 'ds_capacity': '1GiB', 'cluster': 1, 'host': 1, 'standalone_host': 0}

    def test_the_disk_has_the_uuid_that_it_was_given(self):
        self.assertEqual(self.given, self.uuid())


class IgnoredTestCase(NewDiskCase, storage_case.StorageCase):

    flags = KeptTestCase.flags | {'new_disk_uuid': 'ignored'}

    def test_the_disk_has_a_uuid_of_vmwares(self):
        self.assertTrue(self.uuid().startswith('6000c29'))


class RefusedTestCase(NewDiskCase, storage_case.StorageCase):

    flags = KeptTestCase.flags | {'new_disk_uuid': 'refused'}

    def test_the_change_fails(self):
        self.assertIsInstance(self.fault_of(self.add()), vmodl.fault.InvalidArgument)
        self.assertEqual(1, len(self.disks(self.vm)))
