# SPDX-License-Identifier: Apache-2.0
"""A cluster that cannot be created is refused without a call."""

import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.vsphere import storage_stub
from cinder_vmdk_ext.vsphere import clusters


class ClustersTestCase(unittest.TestCase):

    def test_no_name_is_refused(self):
        for name in '', ' ', 'x' * 81:
            with self.subTest(name), self.assertRaises(
                    exceptions.StorageRefused):
                clusters.Clusters(storage_stub.NO_VCENTER).create(name)

    def test_one_of_several_datacenters_has_to_be_named(self):
        found = clusters.Clusters(storage_stub.Tree(
            ('Datacenter', 'datacenter-1', {'name': 'A'}),
            ('Datacenter', 'datacenter-2', {'name': 'B'})))
        with self.assertRaisesRegex(exceptions.UnknownObject, "'A', 'B'"):
            found.create('new')
