# SPDX-License-Identifier: Apache-2.0
import unittest
from unittest import mock

from cinder_vmdk_ext.scheduling import type_policies


class TypePoliciesTestCase(unittest.TestCase):

    def setUp(self):
        self.now = 0.0
        self.answers = []
        self.policies = type_policies.TypePolicies(
            300, lambda: self.answers.pop(0)(), lambda: self.now)

    def test_those_of_the_types_sorted_and_once(self):
        def of(policy):
            return {'extra_specs': {'vmware:storage_profile': policy}}
        with mock.patch.object(
                type_policies.volume_types, 'get_all_types', return_value={
                    'a': of('gold'), 'b': of('bronze'), 'c': of('gold'),
                    'd': {'extra_specs': {}}, 'e': of('')}):
            self.assertEqual(('bronze', 'gold'), type_policies.read())

    def test_the_database_is_asked_again_after_their_lifetime(self):
        self.answers += [lambda: ('gold',), lambda: ('silver',)]
        for now, found in ((0, 'gold'), (299, 'gold'), (300, 'silver')):
            self.now = now
            self.assertEqual((found,), self.policies())

    def test_without_an_answer_those_known_stand(self):
        def fail():
            raise OSError('no database')
        self.answers += [lambda: ('gold',), fail]
        self.policies()
        self.now = 300
        with self.assertLogs(type_policies.__name__, 'WARNING'):
            self.assertEqual(('gold',), self.policies())
