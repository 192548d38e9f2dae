# SPDX-License-Identifier: Apache-2.0
"""The inventory with the datastores that have the drain tag."""

import unittest

from cinder_vmdk_ext.inventory import tagged
from cinder_vmdk_ext.tests.unit import worlds


class TaggedSourceTestCase(unittest.TestCase):
    """An inventory source on top of another, and what the tags say."""

    def setUp(self):
        super().setUp()
        self.known = worlds.inventory(worlds.datastore())
        self.carrying = frozenset({'datastore-1'})
        self.source = tagged.TaggedSource(self, self)

    def read(self):
        return self.known

    def datastores(self):
        return self.carrying

    def test_the_inventory_is_the_same_object_while_nothing_changes(self):
        first = self.source.read()
        self.assertEqual({'datastore-1'}, first.tagged)
        self.assertIs(first, self.source.read())

    def test_a_changed_tag_or_inventory_makes_a_new_one(self):
        self.source.read()
        self.carrying = frozenset()
        self.assertEqual(frozenset(), self.source.read().tagged)
        self.known = worlds.inventory(worlds.datastore(free_gib=1))
        self.assertEqual(self.known.datastores,
                         self.source.read().datastores)


if __name__ == '__main__':
    unittest.main()
