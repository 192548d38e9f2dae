# SPDX-License-Identifier: Apache-2.0
"""What is read ahead is used once, and not after a change."""

import unittest

from cinder_vmdk_ext.volumes import ahead


class AheadTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.ahead = ahead.Ahead(('datastore', 'snapshot'), ('vm-instance',))
        self.ahead.keep('uuid', 'vm-1', [
            ('vm-1', {'datastore': 'gold', 'name': 'not asked for'})])

    def test_what_was_told_is_taken_once(self):
        self.assertEqual({'datastore': 'gold'},
                         self.ahead.take('vm-1', ('datastore',)))
        self.assertIsNone(self.ahead.take('vm-1', ('datastore',)))

    def test_what_the_vm_does_not_have_is_known_to_be_absent(self):
        self.assertEqual({}, self.ahead.take('vm-1', ('snapshot',)))

    def test_what_was_not_told_is_not_known(self):
        for moref, paths in (('vm-2', ('datastore',)), ('vm-1', ('name',)),
                             ('vm-1', ('datastore', 'name'))):
            with self.subTest(moref, paths=paths):
                self.assertIsNone(self.ahead.take(moref, paths))
        self.assertEqual({'datastore': 'gold'},
                         self.ahead.take('vm-1', ('datastore',)))

    def test_a_vm_is_found_again_once(self):
        self.assertEqual('vm-1', self.ahead.found('uuid'))
        self.assertIsNone(self.ahead.found('uuid'))

    def test_others_are_read_with_the_first_only(self):
        self.assertEqual((), self.ahead.others)

    def test_after_a_change_nothing_is_known(self):
        self.ahead.forget()
        self.assertIsNone(self.ahead.take('vm-1', ('datastore',)))
        self.assertIsNone(self.ahead.found('uuid'))


@ahead.reading({'attach': ('runtime.host',), 'extend': ('snapshot',)})
class _Driver:

    def attach(self, volume, connector):
        return ahead.current()

    def extend(self, volume):
        inner = self.attach(volume, {})
        return ahead.current(), inner


class ReadingTestCase(unittest.TestCase):

    def test_an_operation_has_its_own_and_gives_back_that_around_it(self):
        outer, inner = _Driver().extend('volume')
        self.assertEqual(('snapshot',), outer.paths)
        self.assertEqual(('runtime.host',), inner.paths)
        self.assertIsNone(ahead.current())

    def test_an_instance_to_attach_to_is_read_too(self):
        found = _Driver().attach('volume', connector={'instance': 'vm-7'})
        self.assertEqual(('vm-7',), found.others)
        self.assertEqual((), _Driver().attach('volume', {}).others)

    def test_outside_an_operation_there_is_nothing_to_forget(self):
        ahead.forget()
        self.assertIsNone(ahead.current())


if __name__ == '__main__':
    unittest.main()
