# SPDX-License-Identifier: Apache-2.0
"""The place of a volume in its record, and when it may be changed."""

import unittest

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.volumes import records


class Volume(dict):
    """A record as it was read; ``now`` is what the database has."""

    status = property(lambda self: self['status'])
    migration_status = property(lambda self: self['migration_status'])

    def __init__(self, now=None, **fields):
        super().__init__({'host': 'one@vmdk#gold', 'cluster_name': None,
                          'status': 'available', 'migration_status': None,
                          **fields})
        self.now = dict(self) | (now or {})

    def conditional_update(self, values, expected):
        if any(self.now[field] != value
               for field, value in expected.items()):
            return 0
        self.update(values)
        return 1


class RecordsTestCase(unittest.TestCase):

    def test_at_rest_is_what_no_operation_is_under_way_for(self):
        for fields, at_rest in (
                ({}, True), ({'status': 'in-use'}, True),
                ({'migration_status': 'success'}, True),
                ({'status': 'creating'}, False),
                ({'status': 'deleting'}, False),
                ({'migration_status': 'migrating'}, False)):
            self.assertEqual(at_rest, state.is_at_rest(Volume(**fields)),
                             fields)

    def test_in_a_cluster_two_fields_name_the_pool(self):
        self.assertEqual({'host': 'one@vmdk#lead'},
                         records.on_pool(Volume(), 'lead'))
        both = Volume(cluster_name='group@vmdk#gold')
        self.assertEqual({'host': 'one@vmdk#lead',
                          'cluster_name': 'group@vmdk#lead'},
                         records.on_pool(both, 'lead'))
        self.assertTrue(records.says(both, records.on_pool(both, 'gold')))
        # As of a volume from before pools that was taken into a cluster.
        legacy = Volume(cluster_name='group@vmdk')
        self.assertFalse(records.says(legacy,
                                      records.on_pool(legacy, 'gold')))

    def test_it_is_changed_if_it_is_as_it_was_read(self):
        volume = Volume()
        self.assertTrue(records.change(volume, {'host': 'one@vmdk#lead'}))
        self.assertEqual('one@vmdk#lead', volume['host'])

    def test_what_another_has_changed_stays(self):
        for now in ({'status': 'deleting'}, {'host': 'two@vmdk#lead'},
                    {'migration_status': 'migrating'}):
            volume = Volume(now)
            self.assertFalse(records.change(volume,
                                            {'host': 'one@vmdk#tin'}), now)
            self.assertEqual('one@vmdk#gold', volume['host'])
