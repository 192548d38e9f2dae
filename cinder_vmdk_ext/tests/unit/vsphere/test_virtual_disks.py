# SPDX-License-Identifier: Apache-2.0
"""Invalid paths and sizes of disks are refused without a change."""

import unittest
from typing import Any
from typing import cast

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.vsphere import storage_stub
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import vcenter
from cinder_vmdk_ext.vsphere import virtual_disks


class Located(storage_stub.Tree):
    """A vCenter in which paths can be looked up, and nothing else."""

    def located(self, text):
        name, _, path = text[1:].partition('] ')
        return vcenter.Located(
            references.Ref('Datastore', 'datastore-1'), name, name, path,
            references.Ref('Datacenter', 'datacenter-1'))


class VirtualDisksTestCase(unittest.TestCase):

    disks = virtual_disks.VirtualDisks(cast(Any, Located()))

    def test_only_a_descriptor_is_a_disk(self):
        for name in ('a', 'a.vmx', 'a-flat.vmdk', 'a-delta.vmdk',
                     'a-sesparse.vmdk', 'a-ctk.vmdk', 'a-s001.vmdk'):
            with self.subTest(name), self.assertRaisesRegex(
                    exceptions.StorageRefused, 'is no disk'):
                self.disks.delete(f'[ds] {name}')

    def test_a_size_is_in_kibibytes_and_at_most_62_tib(self):
        for size in 0, -1024, 1000, (62 << 40) + 1024:
            with self.subTest(size), self.assertRaisesRegex(
                    exceptions.StorageRefused, 'no size'):
                self.disks.extend('[ds] a.vmdk', size)
