# SPDX-License-Identifier: Apache-2.0
"""Claims stay in the figures until the vCenter's own include them."""

import contextvars
import functools
import unittest

from hypothesis import given
from hypothesis import strategies

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.tests.unit import worlds

GIB = worlds.GIB
SETTINGS = worlds.settings()


class Vcenter:
    """One datastore, whose figures lag until they are refreshed.

    Sizes are GiB.
    """

    CAPACITY = 10000

    def __init__(self):
        self.used = 40
        self.uncommitted = 7
        self.refresh()

    def refresh(self):
        self.shown = worlds.inventory(worlds.datastore(
            capacity_gib=self.CAPACITY, free_gib=self.CAPACITY - self.used,
            uncommitted_bytes=self.uncommitted * GIB))
        return self.shown

    def add(self, size_gib, thin):
        if thin:
            self.uncommitted += size_gib
        else:
            self.used += size_gib

    @property
    def provisioned(self):
        return self.used + self.uncommitted


class ClaimsCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.vcenter = Vcenter()
        self.books = reservations.Reservations(lambda: self.now)

    def place(self, size_gib, thin=True):
        return self.books.place(
            model.Requirement(size_gib * GIB, thin=thin), self.vcenter.shown,
            SETTINGS, min)

    def reported(self, inventory=None):
        """Provisioned, and free, as the scheduler reads it."""
        [pool] = pool_stats.report(self.books.expected(
            inventory or self.vcenter.shown), SETTINGS)
        return (pool['provisioned_capacity_gb'], pool['free_capacity_gb'])

    def refreshed(self):
        """The vCenter refreshes its figures, and reports it."""
        self.now += 1
        self.books.observe(self.vcenter.refresh())

    def made(self, size_gib, thin=True):
        """An operation that makes a disk, from its begin to its end."""
        with self.books.operation():
            self.assertIsInstance(self.place(size_gib, thin),
                                  model.Placement)
            self.vcenter.add(size_gib, thin)


class ReportedTestCase(ClaimsCase):
    """What the scheduler reads of disks in the making, and just made."""

    def test_a_thin_disk_is_provisioned_as_soon_as_it_is_placed(self):
        with self.books.operation():
            self.place(10)
            self.assertEqual((57, 9960), self.reported())

    def test_a_thick_disk_also_takes_what_is_free(self):
        with self.books.operation():
            self.place(10, thin=False)
            self.assertEqual((57, 9950), self.reported())

    def test_it_stays_after_the_end_however_long_the_figures_lag(self):
        for thin in (True, False):
            self.made(10, thin)
        self.now += 600
        self.books.observe(self.vcenter.shown)
        self.assertEqual((67, 9950), self.reported())

    def test_it_is_not_counted_twice_once_the_figures_show_it(self):
        for thin in (True, False):
            self.made(10, thin)
        self.refreshed()
        self.assertEqual((67, 9950), self.reported())
        self.assertEqual(0, self.books.claimed_bytes('datastore-1'))

    def test_nor_while_its_operation_goes_on(self):
        with self.books.operation():
            self.place(10, thin=False)
            self.vcenter.add(10, thin=False)
            self.refreshed()
            self.assertEqual((57, 9950), self.reported())

    def test_one_that_fails_is_given_back(self):
        with self.assertRaises(ZeroDivisionError), self.books.operation():
            self.place(10)
            raise ZeroDivisionError
        self.assertEqual((47, 9960), self.reported())

    def test_one_of_unknown_outcome_is_not(self):
        with (self.assertRaises(exceptions.OutcomeUnknown),
              self.books.operation()):
            self.place(10)
            raise exceptions.OutcomeUnknown('CreateVM_Task', None,
                                            Exception())
        self.assertEqual(57, self.reported()[0])

    def test_a_disk_that_grows_is_provisioned_at_once(self):
        with self.books.operation():
            self.books.claim('datastore-1', 10 * GIB, True,
                             self.vcenter.shown)
        self.assertEqual((57, 9960), self.reported())

    def test_a_move_of_what_is_free_shows_no_thin_disk(self):
        """A vCenter counts what is uncommitted at other times."""
        self.made(10)
        self.vcenter.uncommitted -= 10
        self.vcenter.used += 1
        self.refreshed()
        self.assertEqual(57, self.reported()[0])

    def test_a_move_from_before_the_end_shows_nothing(self):
        """Figures that are read now and then may have moved at any time."""
        with self.books.operation():
            self.place(10)
            self.vcenter.uncommitted -= 1
            moved = self.vcenter.refresh()
        self.now += 1
        self.books.observe(moved, prompt=False)
        self.assertEqual(57, self.reported(moved)[0])

    def test_figures_from_before_the_end_may_be_heard_after_it(self):
        """The long poll gathers changes, and a reply takes its time."""
        self.made(10)
        known, late = self.vcenter.shown, self.vcenter.refresh()
        self.vcenter.shown = known
        self.made(20)
        self.now += 1
        self.books.observe(late)
        self.assertEqual(77, self.reported(late)[0])
        self.refreshed()
        self.assertEqual(77, self.reported()[0])
        self.assertEqual(0, self.books.claimed_bytes('datastore-1'))

    def test_what_another_deletes_meanwhile_is_not_taken_for_it(self):
        self.made(10)
        self.now += reservations.NOTICE_SECONDS
        with self.books.operation():
            self.place(5)
            self.vcenter.uncommitted -= 3
            self.refreshed()  # shows the first, and the deletion
            self.vcenter.add(5, True)
        self.assertEqual(47 + 10 + 5 - 3, self.reported()[0])

    def test_a_burst_of_minutes_keeps_the_ratio(self):
        """With each report the scheduler forgets what it has consumed."""
        settings = worlds.settings(max_over_subscription_ratio=1.0)
        passed = 0
        for _minute in range(10):
            self.now += 60
            self.books.observe(self.vcenter.shown)
            [pool] = pool_stats.report(
                self.books.expected(self.vcenter.shown), settings)
            left = (pool['total_capacity_gb']
                    - pool['provisioned_capacity_gb'])
            for _ in range(min(3, int(left) // 1000)):
                self.made(1000)
                passed += 1
        self.assertEqual(9, passed)
        self.assertLessEqual(self.vcenter.provisioned, Vcenter.CAPACITY)


class RefreshedTestCase(ClaimsCase):
    """What is refreshed is shown, even if no figure moved."""

    def setUp(self):
        super().setUp()
        self.woken = 0
        self.books.notify(self.wake)

    def wake(self):
        self.woken += 1

    def test_what_was_changed_is_to_be_refreshed(self):
        self.made(10)
        self.assertEqual({'datastore-1': 1000.0}, self.books.changed())
        self.assertEqual(1, self.woken)
        self.books.refreshed('datastore-1', 1001.0)
        self.assertEqual({}, self.books.changed())

    def test_also_where_something_was_deleted(self):
        self.books.touch('datastore-1')
        self.assertEqual({'datastore-1': 1000.0}, self.books.changed())
        self.assertEqual(1, self.woken)

    def test_what_changes_while_it_is_refreshed_is_refreshed_again(self):
        self.made(10)
        self.books.refreshed('datastore-1', 999.0)
        self.assertEqual({'datastore-1': 1000.0}, self.books.changed())

    def test_a_claim_from_before_is_dropped_once_a_notice_would_be_here(self):
        self.made(10)
        self.vcenter.uncommitted -= 10
        self.books.refreshed('datastore-1', 1000.0)
        self.assertEqual(57, self.reported()[0])
        self.now += reservations.NOTICE_SECONDS
        self.assertEqual(47, self.reported()[0])

    def test_a_claim_from_after_it_stays(self):
        self.now = 1001.0
        self.made(10)
        self.books.refreshed('datastore-1', 1000.0)
        self.now += reservations.NOTICE_SECONDS
        self.assertEqual(57, self.reported()[0])

    def test_a_datastore_that_is_gone_is_forgotten(self):
        self.made(10)
        self.books.observe(worlds.inventory())
        self.assertEqual(0, self.books.claimed_bytes('datastore-1'))


class SharedStorageTestCase(unittest.TestCase):
    """One storage in two datacenters has one free space."""

    def seen(self, first=(60, 5), second=(60, 7)):
        return worlds.inventory(*(
            worlds.datastore(
                f'datastore-{number}', f'nfs{number}', type='nfs',
                url='ds:///vmfs/volumes/1-2/', free_gib=free,
                datacenter=f'datacenter-{number}',
                uncommitted_bytes=uncommitted * GIB)
            for number, (free, uncommitted) in enumerate((first, second), 1)),
            datacenters={'datacenter-2': 'DC2'})

    def reported(self, books, seen):
        return [(pool['provisioned_capacity_gb'], pool['free_capacity_gb'])
                for pool in pool_stats.report(books.expected(seen),
                                              SETTINGS)]

    def test_uncommitted_space_of_both_counts_on_both(self):
        self.assertEqual([(52, 60), (52, 60)], self.reported(
            reservations.Reservations(), self.seen()))

    def test_the_later_figure_of_free_space_counts_on_both(self):
        self.assertEqual([(72, 40), (72, 40)], self.reported(
            reservations.Reservations(), self.seen(first=(40, 5))))

    def test_a_claim_on_one_counts_on_both(self):
        books = reservations.Reservations()
        seen = self.seen()
        with books.operation():
            books.claim('datastore-2', 10 * GIB, False, seen)
            self.assertEqual([(62, 50), (62, 50)],
                             self.reported(books, seen))

    def test_nothing_is_placed_that_the_other_has_claimed(self):
        books = reservations.Reservations()
        seen = self.seen()
        with books.operation():
            books.claim('datastore-2', 50 * GIB, False, seen)
            refused = books.place(
                model.Requirement(20 * GIB, pinned=frozenset(
                    {'datastore-1'})), seen, SETTINGS, min)
            self.assertEqual(['nfs1'], list(refused))


STEPS = strategies.lists(strategies.one_of(
    strategies.tuples(strategies.just('begin'), strategies.integers(1, 50),
                      strategies.booleans()),
    strategies.tuples(strategies.sampled_from(
        ('make', 'end', 'fail')), strategies.integers(0, 5)),
    strategies.tuples(strategies.just('delete'), strategies.integers(1, 20)),
    strategies.tuples(strategies.sampled_from(('refresh', 'wait')))),
    max_size=40)


class Run:
    """Operations that overlap in any way, and a vCenter that lags."""

    def __init__(self):
        self.now = 0.0
        self.vcenter = Vcenter()
        self.books = reservations.Reservations(lambda: self.now)
        self.operations = []  # [its exit, size_gib, thin, made]

    def step(self, name, *more):
        self.now += 1
        getattr(self, name)(*more)

    def begin(self, size_gib, thin):
        # As in a thread of its own.
        thread = contextvars.Context()
        context = self.books.operation()
        thread.run(context.__enter__)
        placed = thread.run(
            self.books.place, model.Requirement(size_gib * GIB, thin=thin),
            self.vcenter.shown, SETTINGS, min)
        if isinstance(placed, model.Placement):
            self.operations.append([
                functools.partial(thread.run, context.__exit__), size_gib,
                thin, False])

    def make(self, number):
        if number < len(self.operations):
            each = self.operations[number]
            if not each[3]:
                each[3] = True
                self.vcenter.add(*each[1:3])

    def end(self, number):
        self.make(number)
        if number < len(self.operations):
            self.operations.pop(number)[0](None, None, None)

    def fail(self, number):
        if number < len(self.operations) and not self.operations[number][3]:
            error = ZeroDivisionError()
            self.operations.pop(number)[0](type(error), error, None)

    def delete(self, size_gib):
        self.vcenter.uncommitted = max(
            0, self.vcenter.uncommitted - size_gib)

    def refresh(self):
        self.books.observe(self.vcenter.refresh())

    def wait(self):
        self.now += 100

    def finish(self):
        while self.operations:
            self.step('end', 0)

    @property
    def expected(self):
        [datastore] = self.books.expected(
            self.vcenter.shown).datastores.values()
        return datastore

    @property
    def promised_gib(self):
        """What the datastore will hold once all that goes on has ended."""
        return self.vcenter.provisioned + sum(
            size_gib for _exit, size_gib, _thin, made in self.operations
            if not made)


class BooksTestCase(unittest.TestCase):
    """Whatever overlaps, and whenever the vCenter refreshes its figures."""

    @given(STEPS)
    def test_nothing_is_given_away_twice(self, steps):
        run = Run()
        for step in steps:
            run.step(*step)
            self.assertGreaterEqual(run.expected.provisioned_bytes,
                                    run.promised_gib * GIB, step)
        run.finish()

    @given(STEPS)
    def test_in_the_end_the_figures_are_the_vcenters(self, steps):
        run = Run()
        for step in steps:
            run.step(*step)
        run.finish()
        run.now += 1
        run.books.refreshed('datastore-1', run.now)
        run.refresh()
        run.now += reservations.NOTICE_SECONDS
        self.assertEqual(run.vcenter.provisioned * GIB,
                         run.expected.provisioned_bytes)
        self.assertEqual((Vcenter.CAPACITY - run.vcenter.used) * GIB,
                         run.expected.free_bytes)


class PlacementTestCase(ClaimsCase):
    """Placement reckons with claims as the scheduler does."""

    def test_members_of_a_cluster_keep_the_ratio(self):
        seen = worlds.inventory(
            worlds.datastore(capacity_gib=100, free_gib=100),
            worlds.datastore('datastore-2', 'lead', capacity_gib=100,
                             free_gib=100))
        settings = worlds.settings(max_over_subscription_ratio=1.0)
        wanted = model.Requirement(60 * GIB, thin=True,
                                   pinned=frozenset(seen.datastores))
        with self.books.operation():
            chosen = [self.books.place(wanted, seen, settings, min)
                      for _ in range(3)]
        self.assertEqual({'datastore-1', 'datastore-2'}, {
            each.datastore.moref for each in chosen[:2]})
        self.assertIsInstance(chosen[2], dict)
        self.assertIsInstance(placement.place(wanted, seen, settings, min),
                              model.Placement)


if __name__ == '__main__':
    unittest.main()
