# SPDX-License-Identifier: Apache-2.0
"""Each finding has a remedy, and each correction a cause."""

import unittest

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import remedies
from cinder_vmdk_ext.audit import repair


def finding(kind, thing='volume', cause=''):
    return compare.Finding(kind, thing, 'name', 'vm-1', 'the-id', 'gold', 0,
                           None, 'detail', cause=cause)


class RemediesTestCase(unittest.TestCase):

    def test_each_kind_but_those_that_only_have_causes_has_a_remedy(self):
        for kind in set(compare.KINDS) - {'misplaced', 'changed'}:
            self.assertTrue(remedies.remedy(finding(kind)), kind)

    def test_what_repair_can_do_is_named_with_the_command(self):
        for cause in set(repair.DEEDS) - {'gone'}:
            self.assertIn('repair the-id',
                          remedies.remedy(finding('changed', cause=cause)))

    def test_the_cause_comes_before_the_kind(self):
        self.assertIn('volume relink the-id', remedies.remedy(
            finding('lost')))
        self.assertNotIn('volume relink', remedies.remedy(
            finding('lost', cause='gone')))
        self.assertIn('snapshot relink the-id --to', remedies.remedy(
            finding('lost', 'snapshot', 'renamed')))
        self.assertIn('--also vm-1', remedies.remedy(finding('duplicated')))

    def test_what_cinder_does_or_only_named_is_a_correction(self):
        self.assertEqual(set(), (repair.ONLY_NAMED | repair.BY_API)
                         - set(repair.DEEDS))


if __name__ == '__main__':
    unittest.main()
