# SPDX-License-Identifier: Apache-2.0
"""Parallel operations share the space, and release it if they fail."""

import contextvars
import threading
import unittest

from hypothesis import given
from hypothesis import strategies

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.tests.unit import worlds

GIB = worlds.GIB
SETTINGS = worlds.settings()


def first(names):
    return names[0]


class ReservationsTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.books = reservations.Reservations(lambda: self.now)

    def seen(self, *free_gib):
        return worlds.inventory(*(
            worlds.datastore(f'datastore-{number}', f'ds{number}',
                             capacity_gib=100, free_gib=free)
            for number, free in enumerate(free_gib, 1)))

    def place(self, seen, size_gib, **more):
        return self.books.place(
            model.Requirement(size_gib * GIB, **more), seen, SETTINGS, first)

    def placed(self, *args, **kwargs):
        found = self.place(*args, **kwargs)
        self.assertIsInstance(found, model.Placement)
        return found.datastore.moref

    def test_what_is_claimed_is_not_given_again(self):
        seen = self.seen(60)
        with self.books.operation():
            self.placed(seen, 40)
            self.assertIsInstance(self.place(seen, 40), dict)

    def test_the_chosen_datastore_is_told_as_the_vcenter_shows_it(self):
        with self.books.operation():
            self.place(self.seen(60), 20)
            self.assertEqual(60 * GIB,
                             self.place(self.seen(60), 20)
                             .datastore.free_bytes)

    def test_parallel_operations_spread(self):
        seen = self.seen(60, 60, 60)
        with self.books.operation():
            self.assertEqual(3, len({self.placed(seen, 10)
                                     for _ in range(3)}))

    def test_thin_disks_spread_and_are_never_refused_for_it(self):
        seen = self.seen(60, 60)
        with self.books.operation():
            self.assertEqual(2, len({self.placed(seen, 10, thin=True)
                                     for _ in range(2)}))
            for _ in range(50):
                self.placed(seen, 10, thin=True)

    def test_thin_disks_take_nothing_from_thick_ones(self):
        seen = self.seen(60)
        with self.books.operation():
            self.placed(seen, 60, thin=True)
            self.placed(seen, 60)

    def test_an_operation_that_fails_gives_back(self):
        seen = self.seen(60)
        with self.assertRaises(ZeroDivisionError):
            with self.books.operation():
                self.placed(seen, 60)
                raise ZeroDivisionError
        self.placed(seen, 60)

    def test_the_one_that_fails_gives_back_its_own(self):
        # Two operations that claim the same at the same moment.
        seen = self.seen(60)
        with self.books.operation():
            self.placed(seen, 20)
            claimed = contextvars.copy_context()

            def fail():
                with self.assertRaises(ZeroDivisionError):
                    with self.books.operation():
                        self.placed(seen, 20)
                        raise ZeroDivisionError
            claimed.run(fail)
            self.assertEqual(20 * GIB,
                             self.books.claimed_bytes('datastore-1'))
        self.books.observe(self.seen(40))
        self.assertEqual(0, self.books.claimed_bytes('datastore-1'))

    def test_an_operation_of_unknown_outcome_gives_nothing_back(self):
        seen = self.seen(60)
        with self.assertRaises(exceptions.OutcomeUnknown):
            with self.books.operation():
                self.placed(seen, 60)
                raise exceptions.OutcomeUnknown('CreateVM_Task', None,
                                                Exception())
        self.assertIsInstance(self.place(seen, 60), dict)

    def test_what_is_inside_is_held_until_the_outermost_ends(self):
        with self.books.operation():
            with self.books.operation():
                self.placed(self.seen(60), 40)
            # The vCenter shows it already, and it is not counted twice.
            self.assertEqual('datastore-1', self.placed(self.seen(20), 15))
        self.books.observe(self.seen(5))
        self.assertEqual(0, self.books.claimed_bytes('datastore-1'))

    def test_after_its_end_it_is_held_until_the_vcenter_shows_it(self):
        with self.books.operation():
            self.placed(self.seen(60), 40)
        self.books.observe(self.seen(60))
        self.assertIsInstance(self.place(self.seen(60), 40), dict)
        self.books.observe(self.seen(20))
        self.placed(self.seen(60), 40)

    def test_what_the_vcenter_never_shows_is_forgotten(self):
        with self.books.operation():
            self.placed(self.seen(60), 40)
        self.now = reservations.KEEP_SECONDS
        self.placed(self.seen(60), 40)

    def test_an_operation_under_way_is_never_forgotten(self):
        with self.books.operation():
            self.placed(self.seen(60), 40)
            self.now = 10000.0
            self.assertIsInstance(self.place(self.seen(60), 40), dict)

    def test_another_thread_sees_the_claims_and_not_the_operation(self):
        found = []
        seen = self.seen(60)
        with self.books.operation() as operation:
            self.placed(seen, 40)
            thread = threading.Thread(
                target=lambda: found.append(self.place(seen, 40)))
            thread.start()
            thread.join()
            self.assertIsInstance(found[0], dict)
            self.assertEqual(1, len(operation.claims))

    def test_a_trial_takes_no_space_from_others(self):
        """Neither from their disks nor in the figures of a report."""
        seen = self.seen(60, 60)
        others = contextvars.copy_context()
        others.run(self.placed, seen, 10, pinned=frozenset({'datastore-2'}))
        expected = others.run(self.books.expected, seen).datastores
        with self.books.trial():
            self.placed(seen, 40)
            with self.books.operation(volume_id='its volume'):
                self.books.claim('datastore-2', 80 * GIB, True, seen)
            # It sees its own, and those of others.
            self.assertEqual('datastore-2', self.placed(seen, 30))
            self.assertIsInstance(self.place(seen, 30), dict)
            self.assertEqual({'': 10 * GIB}, {
                claim.volume_id: claim.size_bytes
                for claim in self.books._all()})
            self.assertEqual({'datastore-2': 10 * GIB},
                             self.books.by_datastore())
            self.assertEqual(
                expected, others.run(self.books.expected, seen).datastores)
            self.assertEqual('datastore-1', others.run(self.placed, seen, 60))

    def test_what_an_operation_refused_is_not_chosen(self):
        with self.books.operation(frozenset({'datastore-1'})):
            self.assertEqual('datastore-2',
                             self.placed(self.seen(60, 60), 10))

    @given(strategies.lists(strategies.tuples(
        strategies.integers(1, 40), strategies.booleans())))
    def test_the_books_balance(self, disks):
        """Whatever order disks are placed, shown and fail in."""
        books = reservations.Reservations(lambda: 0.0)
        free = {'datastore-1': 60, 'datastore-2': 60}
        for size_gib, fails in disks:
            seen = self.seen(*free.values())
            try:
                with books.operation():
                    chosen = books.place(model.Requirement(size_gib * GIB),
                                         seen, SETTINGS, first)
                    if isinstance(chosen, dict):
                        self.assertLess(max(free.values()), size_gib)
                    elif fails:
                        raise ZeroDivisionError
                    else:
                        free[chosen.datastore.moref] -= size_gib
            except ZeroDivisionError:
                pass
            self.assertGreaterEqual(min(free.values()), 0)


if __name__ == '__main__':
    unittest.main()
