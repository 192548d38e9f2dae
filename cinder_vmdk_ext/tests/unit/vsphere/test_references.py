# SPDX-License-Identifier: Apache-2.0
"""One type of reference serves the plugin, oslo.vmware and upstream."""

import unittest

from oslo_vmware import vim_util

from cinder_vmdk_ext.vsphere import references


class RefTestCase(unittest.TestCase):

    def test_oslo_vmware_reads_it_as_one_of_its_own(self):
        ref = references.Ref('Datastore', 'datastore-1')
        self.assertEqual(('Datastore', 'datastore-1'), (
            vim_util.get_moref_type(ref), vim_util.get_moref_value(ref)))

    def test_equal_ones_are_one_key(self):
        first, second = (references.Ref('Folder', 'group-v3')
                         for _ in range(2))
        self.assertEqual({first: 1}, {second: 1})
        self.assertNotEqual(first, references.Ref('Datacenter', 'group-v3'))


if __name__ == '__main__':
    unittest.main()
