# SPDX-License-Identifier: Apache-2.0
"""Volumes without a backing, counted in a real database of Cinder's."""

import unittest

from cinder_vmdk_ext.backings import state
from sandbox.embedded import database

BACKEND = 'cinder-1@vmdk'


class PromisesTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)

    def promise(self, size_gib, host, **fields):
        return self.database.volume(size_gib, host, **{
            'provider_id': state.PROMISED} | fields)

    def test_sizes_are_summed_by_pool(self):
        self.promise(1, f'{BACKEND}#gold')
        self.promise(2, f'{BACKEND}#gold')
        self.promise(4, f'{BACKEND}#a.b@c')
        self.assertEqual({'gold': 3, 'a.b@c': 4},
                         state.promised_gib(BACKEND, None))

    def test_other_volumes_do_not_count(self):
        self.promise(1, f'{BACKEND}#gold')
        for other in (self.promise(8, 'cinder-1@other#gold'),
                      self.promise(8, 'cinder-2@vmdk#gold'),
                      self.promise(8, f'{BACKEND}#gold',
                                   provider_id=state.BACKED),
                      self.promise(8, f'{BACKEND}#gold', provider_id=None)):
            self.assertFalse(other.deleted)
        self.promise(8, f'{BACKEND}#gold').destroy()
        self.assertEqual({'gold': 1}, state.promised_gib(BACKEND, None))

    def test_a_backend_whose_name_begins_alike_does_not_count(self):
        self.promise(8, f'{BACKEND}2#gold')
        self.assertEqual({}, state.promised_gib(BACKEND, None))

    def test_all_hosts_of_a_cluster_count(self):
        cluster = 'ha@vmdk'
        self.promise(1, f'{BACKEND}#gold', cluster_name=f'{cluster}#gold')
        self.promise(2, 'cinder-2@vmdk#gold', cluster_name=f'{cluster}#gold')
        self.promise(4, 'cinder-3@vmdk#gold')
        self.assertEqual({'gold': 3}, state.promised_gib(BACKEND, cluster))

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


class PromisedSizesTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.queries = 0
        self.sizes = self.of_backend(shared=False)

    def of_backend(self, shared):
        return state.PromisedSizes(self.query, shared, clock=lambda: self.now)

    def query(self):
        self.queries += 1
        return {'gold': self.queries}

    def asked_after(self, seconds=1.0):
        """Whether a report so much later asks the database."""
        self.now += seconds
        before = self.queries
        found = self.sizes.gib()
        self.assertEqual({'gold': self.queries}, found)
        return self.queries > before

    def test_an_answer_holds_while_nothing_is_done(self):
        self.assertTrue(self.asked_after())
        self.assertFalse(self.asked_after(60))

    def test_but_for_ten_minutes_at_most(self):
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after(state.KEEP_SECONDS))

    def test_a_backend_that_is_shared_is_asked_about_each_time(self):
        self.sizes = self.of_backend(shared=True)
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after())

    def test_until_cinder_has_written_an_outcome_each_report_asks(self):
        self.assertTrue(self.asked_after())
        self.sizes.touch()
        self.assertTrue(self.asked_after(0))
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after(state.SETTLE_SECONDS))
        self.assertFalse(self.asked_after())
