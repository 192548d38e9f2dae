# SPDX-License-Identifier: Apache-2.0
"""Volumes without a backing, counted in a real database of Cinder's."""

import unittest

from cinder_vmdk_ext import promises
from cinder_vmdk_ext.tests import database

BACKEND = 'cinder-1@vmdk'


class PromisesTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)

    def promise(self, size_gib, host, **fields):
        return self.database.volume(size_gib, host, **{
            'provider_id': promises.PROMISED} | fields)

    def test_sizes_are_summed_by_pool(self):
        self.promise(1, f'{BACKEND}#gold')
        self.promise(2, f'{BACKEND}#gold')
        self.promise(4, f'{BACKEND}#a.b@c')
        self.assertEqual({'gold': 3, 'a.b@c': 4},
                         promises.promised_gib(BACKEND, None))

    def test_other_volumes_do_not_count(self):
        self.promise(1, f'{BACKEND}#gold')
        for other in (self.promise(8, 'cinder-1@other#gold'),
                      self.promise(8, 'cinder-2@vmdk#gold'),
                      self.promise(8, f'{BACKEND}#gold',
                                   provider_id=promises.BACKED),
                      self.promise(8, f'{BACKEND}#gold', provider_id=None)):
            self.assertFalse(other.deleted)
        self.promise(8, f'{BACKEND}#gold').destroy()
        self.assertEqual({'gold': 1}, promises.promised_gib(BACKEND, None))

    def test_a_backend_whose_name_begins_alike_does_not_count(self):
        self.promise(8, f'{BACKEND}2#gold')
        self.assertEqual({}, promises.promised_gib(BACKEND, None))

    def test_all_hosts_of_a_cluster_count(self):
        cluster = 'ha@vmdk'
        self.promise(1, f'{BACKEND}#gold', cluster_name=f'{cluster}#gold')
        self.promise(2, 'cinder-2@vmdk#gold', cluster_name=f'{cluster}#gold')
        self.promise(4, 'cinder-3@vmdk#gold')
        self.assertEqual({'gold': 3}, promises.promised_gib(BACKEND, cluster))

    def test_what_is_promised_and_what_is_backed(self):
        unknown = self.database.volume()
        promised = self.promise(1, f'{BACKEND}#gold')
        backed = self.promise(1, f'{BACKEND}#gold',
                              provider_id=promises.BACKED)
        self.assertEqual([False, True, False], [
            promises.is_promised(volume)
            for volume in (unknown, promised, backed)])
        self.assertEqual([False, False, True], [
            promises.is_backed(volume)
            for volume in (unknown, promised, backed)])

    def test_what_is_no_volume_object_is_neither(self):
        self.assertFalse(promises.is_promised({'id': 'x'}))
        self.assertFalse(promises.is_backed({'id': 'x'}))
