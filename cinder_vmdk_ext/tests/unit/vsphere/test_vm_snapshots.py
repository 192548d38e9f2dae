# SPDX-License-Identifier: Apache-2.0
"""An invalid name of a snapshot is refused without a call."""

import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.vsphere import storage_stub
from cinder_vmdk_ext.vsphere import vm_snapshots


class VmSnapshotsTestCase(unittest.TestCase):

    def test_a_name_has_1_to_80_characters(self):
        found = vm_snapshots.VmSnapshots(storage_stub.NO_VCENTER,
                                         storage_stub.NO_VCENTER)
        for name in '', ' ', 'x' * 81:
            with self.subTest(name), self.assertRaises(
                    exceptions.StorageRefused):
                found.create('vm', name)
            with self.subTest(name), self.assertRaises(
                    exceptions.StorageRefused):
                found.rename('vm', 'old', name)
