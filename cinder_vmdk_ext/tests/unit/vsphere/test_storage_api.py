# SPDX-License-Identifier: Apache-2.0
"""A dry run ends with its block."""

import types
import unittest

from cinder_vmdk_ext.tests.unit.vsphere import storage_stub
from cinder_vmdk_ext.vsphere import storage_api


class StorageApiTestCase(unittest.TestCase):

    def test_a_dry_run_ends_with_its_block_also_by_an_error(self):
        vcenter = types.SimpleNamespace(dry_run=False)
        api = storage_api.StorageApi(vcenter, storage_stub.NO_VCENTER, 'vc')
        with self.assertRaises(ZeroDivisionError), api.dry_run():
            with api.dry_run():
                pass
            self.assertTrue(vcenter.dry_run)
            raise ZeroDivisionError
        self.assertFalse(vcenter.dry_run)
