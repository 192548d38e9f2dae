# SPDX-License-Identifier: Apache-2.0
"""The table of privileges."""

import re
import unittest

from cinder_vmdk_ext.vsphere import privileges


class TableTestCase(unittest.TestCase):

    def test_a_privilege_is_listed_once_for_a_kind_of_object(self):
        listed = [(each.id, each.on) for each in privileges.TABLE]
        self.assertEqual(sorted(set(listed)), sorted(listed))

    def test_each_is_spelled_as_the_API_does_and_has_a_purpose(self):
        for each in privileges.TABLE:
            with self.subTest(each.id):
                self.assertTrue(re.fullmatch(
                    r'[A-Z]\w+(\.[A-Z]\w+){1,2}', each.id))
                self.assertTrue(each.purpose)

    def test_those_that_every_role_has_are_not_listed(self):
        self.assertEqual([], [each.id for each in privileges.TABLE
                              if each.id in privileges.SYSTEM])
