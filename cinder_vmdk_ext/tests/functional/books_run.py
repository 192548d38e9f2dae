# SPDX-License-Identifier: Apache-2.0
"""Balanced books over many random steps, in chunks with a simulator each.

    make books ARGS='--steps 20000 --seed 1'

Chunk N has the seed N; to continue an interrupted run, give ``--seed`` of its
next chunk. The first fault ends the run, with the shortest history that was
found (``--no-shrink``: with the first one).
"""

import argparse
import sys
import time
import unittest

import hypothesis
from hypothesis import stateful

from cinder_vmdk_ext.tests.functional import books_with_others

EXAMPLES, STEPS = 10, 50
STEPS_A_CHECK = 10


class Counted(books_with_others.Books):
    """Counts the steps that were taken."""

    taken = 0
    steps_a_check = STEPS_A_CHECK

    def books_balance(self):
        Counted.taken += 1
        super().books_balance()

    books_balance = stateful.invariant()(books_balance)


class ChunkTestCase(books_with_others.BooksCase):
    """A chunk, by its seed."""

    seed = 1
    shrink = True

    def run_chunk(self):
        Counted.case = self
        phases = set(hypothesis.Phase) - (
            set() if self.shrink else {hypothesis.Phase.shrink})
        test = stateful.get_state_machine_test(
            Counted, settings=hypothesis.settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS,
                deadline=None, database=None, print_blob=True,
                phases=tuple(phases), report_multiple_bugs=False,
                suppress_health_check=list(hypothesis.HealthCheck)))
        hypothesis.seed(self.seed)(test)()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--steps', type=int, default=20000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--no-shrink', action='store_true')
    arguments = parser.parse_args()
    ChunkTestCase.shrink = not arguments.no_shrink
    seed, started = arguments.seed, time.monotonic()
    while Counted.taken < arguments.steps:
        ChunkTestCase.seed = seed
        suite = unittest.TestSuite([ChunkTestCase('run_chunk')])
        result = unittest.TextTestRunner(
            stream=sys.stderr, verbosity=0).run(suite)
        print(f'seed {seed}: {Counted.taken} steps, '
              f'{time.monotonic() - started:.0f} s, '
              f'{"balanced" if result.wasSuccessful() else "FAULT"}',
              flush=True)
        if not result.wasSuccessful():
            return 1
        seed += 1
    return 0


def load_tests(loader, tests, pattern):
    """This module holds no tests of its own."""
    return unittest.TestSuite()


if __name__ == '__main__':
    sys.exit(main())
