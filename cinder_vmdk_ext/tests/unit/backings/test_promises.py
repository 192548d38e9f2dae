# SPDX-License-Identifier: Apache-2.0
"""Volumes without a disk, counted in a real database of Cinder."""

import unittest
from unittest import mock

from cinder_vmdk_ext.backings import promises
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import model
from sandbox.embedded import database

BACKEND = 'cinder-1@vmdk'
PLACE = 'ds:///gold/ datastore-1'


class ReadTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)

    def promise(self, size_gib, host, **fields):
        return self.database.volume(size_gib, host, **{
            'provider_id': state.PROMISED} | fields)

    def waiting(self, size_gib, host, **fields):
        return self.database.volume(size_gib, host, **{
            'status': 'creating', 'provider_id': None} | fields)

    def own(self, cluster=None, **more):
        """Size by pool."""
        return {each.pool: each.size_gib
                for each in promises.read(BACKEND, cluster, **more)
                if each.own}

    def test_those_of_a_pool_are_one(self):
        self.promise(1, f'{BACKEND}#gold', provider_location=PLACE)
        self.promise(2, f'{BACKEND}#gold', provider_location=PLACE)
        self.promise(4, f'{BACKEND}#a.b@c')
        self.assertEqual(
            (model.Promise('a.b@c', 4), model.Promise('gold', 3, PLACE, 2)),
            promises.read(BACKEND, None))

    def test_all_pages_count(self):
        for count in (3, 4, 5):
            while sum(self.own().values()) < count:
                self.promise(1, f'{BACKEND}#gold')
            with mock.patch.object(promises.volume_rows, 'ROWS_A_PAGE', 2):
                self.assertEqual({'gold': count}, self.own())

    def test_one_of_another_backend_counts_where_it_was_promised(self):
        self.promise(8, 'cinder-1@other#lead', provider_location=PLACE)
        self.promise(8, f'{BACKEND}2#gold')  # its name begins alike
        self.assertEqual(
            (model.Promise('gold', 8, own=False),
             model.Promise('lead', 8, PLACE, own=False)),
            promises.read(BACKEND, None))

    def test_volumes_that_have_a_disk_do_not_count(self):
        self.promise(1, f'{BACKEND}#gold')
        for other in (self.promise(8, f'{BACKEND}#gold',
                                   provider_id=state.BACKED),
                      self.promise(8, f'{BACKEND}#gold', provider_id=None,
                                   status='available')):
            self.assertFalse(other.deleted)
        self.promise(8, f'{BACKEND}#gold').destroy()
        self.assertEqual({'gold': 1}, self.own())

    def test_all_hosts_of_a_cluster_are_its_own(self):
        cluster = 'ha@vmdk'
        self.promise(1, f'{BACKEND}#gold', cluster_name=f'{cluster}#gold')
        self.promise(2, 'cinder-2@vmdk#gold', cluster_name=f'{cluster}#gold')
        self.promise(4, 'cinder-3@vmdk#gold')
        self.assertEqual({'gold': 3}, self.own(cluster))

    def test_a_volume_that_waits_to_be_created_counts(self):
        """The scheduler has given it a pool, and forgets with each report."""
        self.waiting(5, f'{BACKEND}#gold')
        self.waiting(8, 'cinder-1@other#gold')
        self.assertEqual((model.Promise('gold', 5),),
                         promises.read(BACKEND, None))

    def test_it_does_not_once_its_space_is_claimed(self):
        volume = self.waiting(5, f'{BACKEND}#gold')
        self.assertEqual({}, self.own(begun=lambda: {volume.id}))

    def test_it_counts_once_when_it_is_promised(self):
        self.waiting(5, f'{BACKEND}#gold', provider_id=state.PROMISED)
        self.assertEqual({'gold': 5}, self.own())


class KeptTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.queries = 0
        self.promises = self.of_backend(shared=False)

    def of_backend(self, shared):
        return promises.Promises(self.query, shared, clock=lambda: self.now)

    def query(self):
        self.queries += 1
        return [model.Promise('gold', self.queries)]

    def asked_after(self, seconds=1.0):
        """Whether a report so much later asks the database."""
        self.now += seconds
        before = self.queries
        found = self.promises.all()
        self.assertEqual([model.Promise('gold', self.queries)], found)
        return self.queries > before

    def test_an_answer_holds_while_nothing_is_done(self):
        self.assertTrue(self.asked_after())
        self.assertFalse(self.asked_after(20))

    def test_but_for_half_a_minute_at_most(self):
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after(promises.KEEP_SECONDS))

    def test_a_backend_that_is_shared_is_asked_about_each_time(self):
        self.promises = self.of_backend(shared=True)
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after())

    def test_until_cinder_has_written_an_outcome_each_report_asks(self):
        self.assertTrue(self.asked_after())
        self.promises.touch()
        self.assertTrue(self.asked_after(0))
        self.assertTrue(self.asked_after())
        self.assertTrue(self.asked_after(promises.SETTLE_SECONDS))
        self.assertFalse(self.asked_after())


if __name__ == '__main__':
    unittest.main()
