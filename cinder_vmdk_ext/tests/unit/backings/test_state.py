# SPDX-License-Identifier: Apache-2.0
"""The record of a volume's disk in ``provider_id``."""

import unittest

from cinder_vmdk_ext.backings import state
from sandbox.embedded import database

BACKEND = 'cinder-1@vmdk'


class StateTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)

    def promise(self, size_gib, host, **fields):
        return self.database.volume(size_gib, host, **{
            'provider_id': state.PROMISED} | fields)

    def test_what_is_promised_and_what_is_backed(self):
        unknown = self.database.volume()
        promised = self.promise(1, f'{BACKEND}#gold')
        backed = self.promise(1, f'{BACKEND}#gold',
                              provider_id=state.BACKED)
        self.assertEqual([False, True, False], [
            state.is_promised(volume)
            for volume in (unknown, promised, backed)])
        self.assertEqual([False, False, True], [
            state.is_backed(volume)
            for volume in (unknown, promised, backed)])

    def test_what_is_no_volume_object_is_neither(self):
        self.assertFalse(state.is_promised({'id': 'x'}))
        self.assertFalse(state.is_backed({'id': 'x'}))


if __name__ == '__main__':
    unittest.main()
