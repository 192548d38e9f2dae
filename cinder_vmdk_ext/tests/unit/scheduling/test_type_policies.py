# SPDX-License-Identifier: Apache-2.0
import unittest
from unittest import mock

from oslo_vmware import exceptions

from cinder_vmdk_ext.scheduling import type_policies


class TypePoliciesTestCase(unittest.TestCase):

    def setUp(self):
        self.now = 0.0
        self.names = ('gold', 'silver')
        self.asked = []
        self.unanswered = set()
        self.policies = type_policies.TypePolicies(
            self, 300, lambda: self.names, lambda: self.now)

    def compliant_datastores(self, name):
        """Of the policy directory."""
        self.asked.append(name)
        if name in self.unanswered:
            raise exceptions.VimConnectionException('no answer')
        return frozenset({f'{name} at {self.now:.0f}'})

    def known(self):
        return {name: set(found) for name, found
                in self.policies.known().items()}

    def test_those_of_the_types_sorted_and_once(self):
        def of(policy):
            return {'extra_specs': {'vmware:storage_profile': policy}}
        with mock.patch.object(
                type_policies.volume_types, 'get_all_types', return_value={
                    'a': of('gold'), 'b': of('bronze'), 'c': of('gold'),
                    'd': {'extra_specs': {}}, 'e': of('')}):
            self.assertEqual(('bronze', 'gold'), type_policies.read())

    def test_nothing_is_asked_until_it_is_refreshed(self):
        self.assertEqual(({}, []), (self.known(), self.asked))

    def test_they_are_asked_for_again_after_their_lifetime(self):
        self.assertTrue(self.policies.refresh())
        self.now = 299
        self.assertFalse(self.policies.refresh())
        self.assertEqual({'gold': {'gold at 0'}, 'silver': {'silver at 0'}},
                         self.known())
        self.now, self.names = 300, ('silver',)
        self.assertTrue(self.policies.refresh())
        self.assertEqual({'silver': {'silver at 300'}}, self.known())

    def test_without_the_database_those_known_stand(self):
        self.policies.refresh()
        self.now, self.names = 300, None
        with self.assertLogs(type_policies.__name__, 'WARNING'):
            self.assertFalse(self.policies.refresh())
        self.assertEqual({'gold', 'silver'}, set(self.known()))

    def test_without_the_vcenter_what_was_known_stands(self):
        self.policies.refresh()
        self.now, self.names = 300, ('bronze', 'gold', 'silver')
        self.unanswered = {'gold'}
        self.asked.clear()
        with self.assertLogs(type_policies.__name__, 'WARNING') as logged:
            self.assertTrue(self.policies.refresh())
        self.assertIn('gold', logged.output[0])
        self.assertEqual({'bronze': {'bronze at 300'}, 'gold': {'gold at 0'},
                          'silver': {'silver at 0'}}, self.known())
        # Each further question would wait as long.
        self.assertEqual(['bronze', 'gold'], self.asked)
