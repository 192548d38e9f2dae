# SPDX-License-Identifier: Apache-2.0
"""What the user may not read is asked for again, at a limited cost."""

import types
import unittest
from unittest import mock

from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import denied
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references

DATASTORE = references.Ref('Datastore', 'datastore-1')
HOST = references.Ref('HostSystem', 'host-1')


class DeniedTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.denied = denied.Denied(lambda: self.now)
        # What a look finds, by reference; an error is raised.
        self.found = {}
        self.looks = []
        patch = mock.patch.object(property_collector, 'look_at', self.look_at)
        patch.start()
        self.addCleanup(patch.stop)

    def look_at(self, client, content, refs, paths):
        self.looks.append((refs, paths))
        if isinstance(self.found, Exception):
            raise self.found
        return {ref: self.found[ref] for ref in refs if ref in self.found}

    def look(self, after_seconds=denied.PAUSE_SECONDS):
        self.now += after_seconds
        return self.denied.any_granted(None, types.SimpleNamespace())

    @staticmethod
    def still(*paths):
        return {property_collector.UNREADABLE: dict.fromkeys(paths, 'why')}

    def test_while_nothing_is_denied_no_call_is_made(self):
        self.denied.note('enter', DATASTORE, ['name'], [])
        self.assertFalse(self.look())
        self.assertEqual([], self.looks)

    def test_what_is_still_denied_is_looked_at_once_in_a_pause(self):
        self.denied.note('enter', DATASTORE, [], ['name', 'host'])
        self.denied.note('enter', HOST, [], ['name'])
        self.found = {DATASTORE: self.still('host', 'name'),
                      HOST: self.still('name')}
        self.assertFalse(self.look(1))
        self.assertFalse(self.look())
        self.assertFalse(self.look(1))
        self.assertEqual([([DATASTORE], ['host', 'name']), ([HOST], ['name'])],
                         self.looks)

    def test_a_property_that_can_be_read_was_granted(self):
        self.denied.note('enter', DATASTORE, [], ['name', 'host'])
        self.found = {DATASTORE: {'name': 'gold'} | self.still('host')}
        self.assertTrue(self.look())

    def test_what_was_reported_or_is_gone_is_denied_no_longer(self):
        self.denied.note('enter', DATASTORE, [], ['name', 'host'])
        self.denied.note('modify', DATASTORE, ['name'], [])
        self.found = {DATASTORE: self.still('host')}
        self.assertFalse(self.look())
        self.denied.note('leave', DATASTORE, [], [])
        self.denied.note('enter', HOST, [], ['name'])
        self.denied.note('enter', HOST, ['name'], [])
        self.assertFalse(self.look())
        self.assertEqual(1, len(self.looks))

    def test_an_object_that_is_gone_was_not_granted(self):
        self.denied.note('enter', DATASTORE, [], ['name'])
        self.assertFalse(self.look())

    def test_a_look_that_fails_is_repeated_after_the_pause(self):
        self.denied.note('enter', DATASTORE, [], ['name'])
        self.found = exceptions.VimConnectionException('no reply')
        self.assertFalse(self.look())
        self.found = {DATASTORE: {'name': 'gold'}}
        self.assertTrue(self.look())

    def test_what_the_poll_denies_again_is_looked_at_less_often(self):
        self.found = {DATASTORE: {'name': 'gold'}}
        for _ in range(2):
            self.denied.clear()
            self.denied.note('enter', DATASTORE, [], ['name'])
            self.assertTrue(self.look(2 * denied.PAUSE_SECONDS))
        self.assertFalse(self.look(2 * denied.PAUSE_SECONDS))
        for _ in range(20):
            self.look(denied.LONGEST_PAUSE_SECONDS)
        self.assertTrue(self.look(denied.LONGEST_PAUSE_SECONDS))

    def test_a_limited_number_of_objects_is_looked_at(self):
        for number in range(denied.MOST_OBJECTS + 5):
            self.denied.note('enter', references.Ref(
                'Datastore', f'datastore-{number}'), [], ['name'])
        self.look()
        self.assertEqual([denied.MOST_OBJECTS],
                         [len(refs) for refs, _paths in self.looks])

    def test_all_objects_are_looked_at_in_turn(self):
        refs = [references.Ref('Datastore', f'datastore-{number}')
                for number in range(2 * denied.MOST_OBJECTS + 5)]
        for ref in refs:
            self.denied.note('enter', ref, [], ['name'])
        self.found = {ref: self.still('name') for ref in refs}
        self.found[refs[-1]] = {'name': 'gold'}
        self.assertEqual([False, False, True],
                         [self.look() for _ in range(3)])

    def test_a_grant_that_was_not_in_vain_makes_no_later_one_wait(self):
        """While another client's object stays denied for ever."""
        for _ in range(10):
            self.denied.clear()
            self.denied.note('enter', HOST, [], ['name'])
            self.denied.note('enter', DATASTORE, [], ['name'])
            self.found = {HOST: self.still('name'),
                          DATASTORE: {'name': 'gold'}}
            self.assertTrue(self.look())
            self.denied.clear()
            self.denied.note('enter', HOST, [], ['name'])
            self.denied.note('enter', DATASTORE, ['name'], [])
            self.assertFalse(self.look(2 * denied.PAUSE_SECONDS))


if __name__ == '__main__':
    unittest.main()
