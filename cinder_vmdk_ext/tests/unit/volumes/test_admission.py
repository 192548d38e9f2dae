# SPDX-License-Identifier: Apache-2.0
"""Which volumes are admitted."""

import unittest
from unittest import mock

from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import admission


class AdmissionTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.selection = mock.Mock()
        self.selection.check_specs.return_value = {'qos_specs_id': None}
        self.admission = admission.Admission(self.selection)

    def check(self, encrypted=False, **fields):
        with mock.patch.object(volume_types, 'is_encrypted',
                               return_value=encrypted):
            self.admission.check_new({'id': 'v', 'size': 1} | fields)

    def test_62_tib_is_the_most(self):
        self.check(size=62 * 1024)
        self.assertRaises(exceptions.VolumeRefused, self.check,
                          size=62 * 1024 + 1)

    def test_a_volume_without_a_type_asks_for_nothing(self):
        self.check(encrypted=True)

    def test_a_type_with_encryption_is_refused(self):
        self.assertRaises(exceptions.EncryptionRefused, self.check,
                          encrypted=True, volume_type_id='t')

    def test_a_key_is_enough_whatever_became_of_the_type(self):
        self.assertRaises(exceptions.EncryptionRefused, self.check,
                          encryption_key_id='k', volume_type_id='t')

    def test_the_specs_of_the_type_are_checked(self):
        self.check(volume_type_id='t')
        self.selection.check_specs.assert_called_once_with('t')


if __name__ == '__main__':
    unittest.main()
