# SPDX-License-Identifier: Apache-2.0
"""What volume types ask of disks."""

import unittest
from unittest import mock

from cinder.volume import volume_types

from cinder_vmdk_ext.audit import expectations


class ExpectationsTestCase(unittest.TestCase):

    def asked(self, specs, qos=None):
        with mock.patch.object(
                volume_types, 'get_volume_type_extra_specs',
                return_value=specs), mock.patch.object(
                    volume_types, 'get_volume_type_qos_specs',
                    return_value={'qos_specs': qos}):
            return expectations.Expectations().of('type')

    def test_adapter_policy_and_limits_of_a_type(self):
        self.assertEqual(expectations.ANY, self.asked({}))
        self.assertEqual(expectations.ANY, expectations.Expectations().of(
            None))
        self.assertEqual(('ide', (500, None, None, None), 'gold'), self.asked(
            {'vmware:adapter_type': 'ide', 'vmware:storage_profile': 'gold'},
            {'name': 'q', 'consumer': 'back-end',
             'specs': {'total_iops_sec': '500'}}))

    def test_specs_that_are_refused_ask_for_nothing(self):
        self.assertEqual((), self.asked({}, {
            'name': 'q', 'consumer': 'back-end',
            'specs': {'total_iops_sec': 'many'}}).io)


if __name__ == '__main__':
    unittest.main()
