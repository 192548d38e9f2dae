# SPDX-License-Identifier: Apache-2.0
"""A prefetched property is used once, and not after a change."""

import unittest

from cinder_vmdk_ext import operation


class PrefetchTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.prefetch = operation.Prefetch(
            ('datastore', 'snapshot'), ('vm-instance',))
        self.prefetch.keep('uuid', 'vm-1', [
            ('vm-1', {'datastore': 'gold', 'name': 'not asked for'})])

    def test_what_was_told_is_taken_once(self):
        self.assertEqual({'datastore': 'gold'},
                         self.prefetch.take('vm-1', ('datastore',)))
        self.assertIsNone(self.prefetch.take('vm-1', ('datastore',)))

    def test_what_the_vm_does_not_have_is_known_to_be_absent(self):
        self.assertEqual({}, self.prefetch.take('vm-1', ('snapshot',)))

    def test_what_was_not_told_is_not_known(self):
        for moref, paths in (('vm-2', ('datastore',)), ('vm-1', ('name',)),
                             ('vm-1', ('datastore', 'name'))):
            with self.subTest(moref, paths=paths):
                self.assertIsNone(self.prefetch.take(moref, paths))
        self.assertEqual({'datastore': 'gold'},
                         self.prefetch.take('vm-1', ('datastore',)))

    def test_a_vm_is_found_again_once(self):
        self.assertEqual('vm-1', self.prefetch.found('uuid'))
        self.assertIsNone(self.prefetch.found('uuid'))

    def test_others_are_read_with_the_first_only(self):
        self.assertEqual((), self.prefetch.others)

    def test_after_a_change_nothing_is_known(self):
        self.prefetch.forget()
        self.assertIsNone(self.prefetch.take('vm-1', ('datastore',)))
        self.assertIsNone(self.prefetch.found('uuid'))


class ScopeTestCase(unittest.TestCase):

    def test_a_block_has_its_own_and_gives_back_that_around_it(self):
        with operation.scope(claims=1):
            with operation.scope(claims=2):
                self.assertEqual(2, operation.current().claims)
            self.assertEqual(1, operation.current().claims)
        self.assertIsNone(operation.current().claims)

    def test_a_block_keeps_what_it_does_not_change(self):
        with operation.scope(claims=1):
            with operation.scope(locks=frozenset({'a'})):
                self.assertEqual(1, operation.current().claims)

    def test_a_block_that_fails_gives_back_too(self):
        with self.assertRaises(ValueError):
            with operation.scope(claims=1):
                raise ValueError
        self.assertIsNone(operation.current().claims)

    def test_outside_an_operation_there_is_nothing_to_forget(self):
        operation.forget_prefetched()
        self.assertIsNone(operation.current().prefetch)


if __name__ == '__main__':
    unittest.main()
