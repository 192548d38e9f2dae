# SPDX-License-Identifier: Apache-2.0
"""Volumes without a disk, counted in a real database of Cinder."""

import collections
import functools
import random
import threading
import time
import unittest
from unittest import mock

from cinder_vmdk_ext.backings import promises
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
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

    def read(self, cluster=None, **more):
        return promises.Promises(functools.partial(
            promises.share, BACKEND, cluster), **more).all()

    def own(self, cluster=None, **more):
        """Size by pool."""
        return {each.pool: each.size_gib
                for each in self.read(cluster, **more) if each.own}

    def test_those_of_a_pool_are_one(self):
        self.promise(1, f'{BACKEND}#gold', provider_location=PLACE)
        self.promise(2, f'{BACKEND}#gold', provider_location=PLACE)
        self.promise(4, f'{BACKEND}#a.b@c')
        self.assertEqual(
            (model.Promise('a.b@c', 4), model.Promise('gold', 3, PLACE, 2)),
            self.read())

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
            self.read())

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
                         self.read())

    def test_it_does_not_once_its_space_is_claimed(self):
        volume = self.waiting(5, f'{BACKEND}#gold')
        self.assertEqual({}, self.own(begun=lambda: frozenset({volume.id})))

    def test_it_counts_once_when_it_is_promised(self):
        self.waiting(5, f'{BACKEND}#gold', provider_id=state.PROMISED)
        self.assertEqual({'gold': 5}, self.own())


class NotedTestCase(unittest.TestCase):
    """What operations of this service do counts at once, and once."""

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.rows = {}
        self.claimed = set()
        self.reading = list
        self.promises = promises.Promises(
            functools.partial(promises.share, BACKEND, None),
            lambda: frozenset(self.claimed), self.query, lambda: self.now)
        # The tests read in its place.
        with mock.patch.object(promises.threading, 'Thread'):
            self.promises.start()
        self.promises.read()

    def query(self):
        for row in list(self.rows.values()):
            self.reading()
            yield row

    def write(self, volume_id='v', **fields):
        """What Cinder writes to its database."""
        self.rows[volume_id] = dict.fromkeys(promises.FIELDS) | {
            'id': volume_id, 'status': 'creating', 'size': 2,
            'host': f'{BACKEND}#gold'} | self.rows.get(volume_id, {}) | fields
        return dict(self.rows[volume_id])

    def promised(self, volume_id='v', **fields):
        return self.write(volume_id, status='available',
                          provider_id=state.PROMISED, **fields)

    def of(self, record, **changes):
        return self.promises.of(record, changes)

    def now_are(self, **sizes):
        self.assertEqual(sizes, {each.pool: each.size_gib
                                 for each in self.promises.all()})

    def begun(self):
        """A volume whose creation has begun, and was not read yet."""
        record = self.write()
        self.promises.begin('v', self.of(record))
        return record

    def test_a_creation_counts_from_its_begin(self):
        self.begun()
        self.now_are(gold=2)
        self.promises.read()
        self.now_are(gold=2)

    def test_a_new_promise_counts_before_cinder_writes_it(self):
        record = self.begun()
        self.promises.end('v', self.of(record), self.of(
            record, provider_id=state.PROMISED))
        self.now_are(gold=2)
        self.promises.read()
        self.now_are(gold=2)
        self.promised()
        self.promises.read()
        self.now_are(gold=2)

    def test_a_read_that_began_before_an_operation_does_not_undo_it(self):
        self.write('other', status='available')
        self.reading = self.begun
        self.promises.read()
        self.now_are(gold=2)

    def test_a_creation_that_failed_counts_until_cinder_says_so(self):
        record = self.begun()
        self.promises.end('v', self.of(record), self.of(record))
        self.promises.read()
        self.now_are(gold=2)
        self.write(status='error')
        self.promises.read()
        self.now_are()

    def test_a_promise_that_is_kept_counts_no_longer(self):
        record = self.promised()
        self.promises.read()
        self.now_are(gold=2)
        self.promises.end('v', self.of(record), self.of(
            record, provider_id=state.BACKED))
        self.now_are()
        self.promises.read()  # Cinder has not written it yet
        self.now_are()
        self.write(provider_id=state.BACKED)
        self.promises.read()
        self.now_are()

    def test_one_that_is_deleted_counts_until_the_database_says_so(self):
        record = self.promised()
        self.promises.read()
        self.promises.end('v', self.of(record), self.of(record))
        self.now_are(gold=2)
        del self.rows['v']
        self.promises.read()
        self.now_are()

    def test_one_that_moves_counts_on_its_new_pool_alone(self):
        record = self.promised()
        self.promises.read()
        new = {'host': f'{BACKEND}#lead', 'provider_location': PLACE}
        self.promises.end('v', self.of(record), self.of(record, **new))
        self.now_are(lead=2)
        self.promises.read()
        self.now_are(lead=2)
        self.promised(**new)
        self.promises.read()
        self.now_are(lead=2)

    def test_one_that_grows_counts_with_its_new_size(self):
        record = self.promised()
        self.promises.read()
        self.promises.end('v', self.of(record), self.of(record, size=5))
        self.promises.read()
        self.now_are(gold=5)

    def test_another_service_has_the_last_word(self):
        record = self.promised()
        self.promises.read()
        self.promises.end('v', self.of(record), self.of(
            record, host=f'{BACKEND}#lead'))
        self.promised(host=f'{BACKEND}#iron')
        self.promises.read()
        self.now_are(iron=2)
        del self.rows['v']
        self.promises.read()
        self.now_are()

    def test_an_outcome_that_is_never_written_holds_for_two_minutes(self):
        record = self.promised()
        self.promises.end('v', self.of(record), None)
        self.now += promises.SETTLE_SECONDS - 1
        self.promises.read()
        self.now_are()
        self.now += 1
        self.promises.read()
        self.now_are(gold=2)

    def test_what_an_operation_has_claimed_counts_as_the_claim_alone(self):
        for make in (self.begun, self.promised):
            make()
            self.promises.read()
            self.claimed = {'v', 'other'}
            self.now_are()
            self.claimed = set()
            self.now_are(gold=2)

    def test_what_another_service_has_promised_counts_with_the_next_read(
            self):
        self.promised('a')
        self.promised('b', host='cinder-1@other#gold')
        self.promises.read()
        self.assertEqual(
            [(True, 2), (False, 2)],
            [(each.own, each.size_gib) for each in sorted(
                self.promises.all(), key=lambda each: -each.own)])

    def test_a_record_that_lacks_fields_ends_no_operation(self):
        self.assertIsNone(self.promises.of('volume'))
        self.assertIsNone(self.promises.of(None))

    def test_nothing_is_lost_or_counted_twice_in_any_order(self):
        for seed in range(60):
            with self.subTest(seed=seed):
                self.any_order(random.Random(seed))

    def any_order(self, dice):
        self.rows.clear()
        self.promises.read()
        pending = {}

        def step():
            volume_id = dice.choice('abcd')
            record = self.rows.get(volume_id)
            what = dice.choice(('begin', 'end', 'write', 'other', 'delete'))
            if record is None:
                record = self.write(volume_id)
                if what == 'begin':
                    self.promises.begin(volume_id, self.of(record))
            elif what == 'end' and volume_id not in pending:
                pending[volume_id] = changes = dice.choice((
                    {'provider_id': state.PROMISED},
                    {'provider_id': state.BACKED},
                    {'host': f'{BACKEND}#{dice.choice(("lead", "gold"))}'}))
                self.promises.end(volume_id, self.of(record),
                                  self.of(record, **changes))
            elif what == 'write' and volume_id in pending:
                self.write(volume_id, status='available',
                           **pending.pop(volume_id))
            elif what == 'other':
                self.promised(volume_id, host=f'{BACKEND}#iron')
                pending.pop(volume_id, None)
            elif what == 'delete':
                del self.rows[volume_id]
                pending.pop(volume_id, None)

        for _ in range(40):
            step()
            if dice.random() < 0.3:
                self.reading = step
                self.promises.read()
                self.reading = list
            found = self.promises.all()
            self.assertTrue(all(each.volumes > 0 and each.size_gib ==
                                2 * each.volumes for each in found), found)
            self.assertLessEqual(sum(each.volumes for each in found), 4)
        for volume_id, changes in pending.items():
            self.write(volume_id, status='available', **changes)
        self.now += promises.SETTLE_SECONDS
        self.promises.read()
        sums = collections.Counter()
        for row in self.rows.values():
            share = self.of(row)
            if share is not None:
                sums[share.pool] += share.size_gib
        self.now_are(**sums)


class AnsweredCase(unittest.TestCase):
    """A database that answers otherwise each time, or with an error."""

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.queries = 0
        self.error = None
        self.promises = promises.Promises(
            functools.partial(promises.share, BACKEND, None),
            rows=self.query, clock=lambda: self.now)

    def query(self):
        self.queries += 1
        if self.error:
            raise self.error
        return [dict.fromkeys(promises.FIELDS) | {
            'id': 'v', 'host': f'{BACKEND}#gold', 'size': self.queries,
            'provider_id': state.PROMISED}]


class AgeTestCase(AnsweredCase):
    """How old the answer may be, and what follows an error."""

    def start(self):
        with mock.patch.object(promises.threading, 'Thread'):
            self.promises.start()
        self.promises.read()

    def test_a_service_that_is_not_started_reads_for_each_answer(self):
        for queries in (1, 2):
            self.assertEqual([model.Promise('gold', queries)],
                             list(self.promises.of_report()))

    def test_no_report_of_one_that_is_started_makes_a_query(self):
        self.start()
        self.promises.begin('other')
        self.promises.end('other', None, None)
        for _ in range(3):
            self.now += 15
            self.assertEqual([model.Promise('gold', 1)],
                             list(self.promises.of_report()))
        self.assertEqual(1, self.queries)

    def test_but_the_first_if_nothing_was_read_yet(self):
        with mock.patch.object(promises.threading, 'Thread'):
            self.promises.start()
        self.assertEqual(1, len(self.promises.of_report()))

    def test_the_answer_stays_the_same_object_while_nothing_changes(self):
        self.start()
        self.assertIs(self.promises.all(), self.promises.all())

    def test_what_was_read_long_ago_is_unknown(self):
        self.start()
        self.now += promises.UNKNOWN_SECONDS
        self.assertEqual(1, len(self.promises.all()))
        self.now += 1
        with self.assertRaisesRegex(exceptions.PromisesUnknown,
                                    '61 s ago .it does not answer'):
            self.promises.of_report()
        self.assertEqual(1, len(self.promises.latest()))
        self.promises.read()
        self.assertEqual([model.Promise('gold', 2)],
                         list(self.promises.of_report()))

    def test_an_error_of_the_first_read_is_that_of_the_report(self):
        self.error = OSError('gone')
        with self.assertRaisesRegex(OSError, 'gone'):
            self.promises.of_report()

    def test_it_is_read_each_half_minute(self):
        self.start()
        self.assertEqual(self.now + promises.KEEP_SECONDS,
                         self.promises.due_at(self.now))

    def test_and_a_second_before_the_next_report(self):
        self.start()
        self.promises.of_report()
        self.now += 60
        self.promises.read()
        self.promises.of_report()
        self.assertEqual(self.now + 59, self.promises.due_at(self.now + 30))
        self.assertEqual(self.now + 59 + promises.KEEP_SECONDS,
                         self.promises.due_at(self.now + 59))


class ThreadTestCase(AnsweredCase):

    def setUp(self):
        super().setUp()
        self.others = set(threading.enumerate())
        brief = mock.patch.object(promises, 'REST_SECONDS', 0.01)
        brief.start()
        self.addCleanup(brief.stop)

    def start(self):
        self.addCleanup(self.promises.stop)
        self.promises.start()
        self.wait_for(lambda: self.queries and self.promises.latest())

    def wait_for(self, reached):
        until = time.monotonic() + 60
        while not reached():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def test_an_operation_makes_it_read(self):
        self.start()
        for wake in (lambda: self.promises.begin('v'),
                     lambda: self.promises.end('v', None, None)):
            before = self.queries
            wake()
            self.wait_for(lambda: self.queries > before)

    def test_an_error_names_its_cause_once_the_answer_is_old(self):
        self.start()
        self.error = OSError('the disk is full')
        with self.assertLogs(promises.__name__, 'WARNING'):
            self.promises.begin('v')
            self.wait_for(lambda: self.queries > 1)
            self.now += promises.UNKNOWN_SECONDS + 1
            self.wait_for(self.caused)
        self.error = None
        self.promises.begin('v')
        self.wait_for(lambda: not self.caused())

    def caused(self):
        """Whether the answer is unknown because of the error."""
        try:
            self.promises.all()
        except exceptions.PromisesUnknown as error:
            return 'the disk is full' in str(error)
        return False

    def threads(self):
        return [each for each in threading.enumerate()
                if each.name == 'vmdk-ext-promises'
                and each not in self.others]

    def assert_ends(self, threads):
        for each in threads:
            each.join(60)
            self.assertFalse(each.is_alive())

    def test_it_ends_when_it_is_stopped_as_it_is_woken(self):
        self.start()
        threads = self.threads()

        def clear():
            self.promises.stop()
            threading.Event.clear(self.promises._wake)

        with mock.patch.object(self.promises._wake, 'clear', clear):
            self.promises.begin('v')
            self.assert_ends(threads)

    def test_it_ends_when_it_is_stopped(self):
        self.start()
        threads = self.threads()
        self.promises.stop()
        self.assert_ends(threads)
        self.now += promises.UNKNOWN_SECONDS + 1
        before = self.queries
        self.assertEqual(1, len(self.promises.all()))
        self.assertEqual(before + 1, self.queries)
        self.start()
        self.assertEqual(1, len(self.promises.all()))


if __name__ == '__main__':
    unittest.main()
