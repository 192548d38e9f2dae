# SPDX-License-Identifier: Apache-2.0
"""How results of Tempest are read, explained and recorded."""

import re
import unittest

from sandbox.tests import sandbox_case
from sandbox.tests import tempest_record
from sandbox.tests import tempest_run

OUTPUT = '''\
prefix
{0} tempest.api.volume.A.test_one [1.25s] ... ok
{1} tempest.api.volume.A.test_two[id-1,smoke] [0.1s] ... FAILED

Captured traceback:
~~~~~~~~~~~~~~~~~~~
    Traceback (most recent call last):

      File "/x/a.py", line 4, in test_two
    {0} is no test
        raise Wrong()

    tempest.lib.exceptions.Wrong: it is | wrong

Captured pythonlogging:
~~~~~~~~~~~~~~~~~~~~~~~
    2026-11-28 a line of the log
{0} setUpClass (tempest.api.volume.B) ... SKIPPED: There is no network
{0} tempest.api.volume.A.test_three ... SKIPPED: Not here
{1} tearDownClass (tempest.api.volume.A) ... FAILED
'''
PLANNED = ['tempest.api.volume.A.test_one', 'tempest.api.volume.A.test_two',
           'tempest.api.volume.A.test_three', 'tempest.api.volume.B.test_one',
           'tempest.api.volume.B.test_two',
           'cinder_tempest_plugin.C.test_one']


def results():
    return tempest_record.of_tests(tempest_record.outcomes(OUTPUT), PLANNED)


def reason(outcome, test, **more):
    return tempest_record.Reason(outcome, test, 'It cannot.', **more)


class ReadTestCase(unittest.TestCase):

    def test_each_outcome_is_found_with_its_reason(self):
        self.assertEqual(
            [('tempest.api.volume.A.test_one', 'ok', ''),
             ('tempest.api.volume.A.test_two[id-1,smoke]', 'FAILED',
              'tempest.lib.exceptions.Wrong: it is | wrong'),
             ('setUpClass (tempest.api.volume.B)', 'SKIPPED',
              'There is no network'),
             ('tempest.api.volume.A.test_three', 'SKIPPED', 'Not here'),
             ('tearDownClass (tempest.api.volume.A)', 'FAILED', '')],
            tempest_record.outcomes(OUTPUT))

    def test_a_class_that_is_skipped_stands_for_its_tests(self):
        found = results()
        for name in ('one', 'two'):
            self.assertEqual('There is no network',
                             found[f'tempest.api.volume.B.test_{name}'].why)
        self.assertNotIn('cinder_tempest_plugin.C.test_one', found)

    def test_the_summary_names_failures_and_skips(self):
        lines = tempest_run.summary(results().values())
        self.assertEqual('1 passed, 3 skipped, 2 failed', lines[-1])
        self.assertEqual(6, len(lines))


class ReasonTestCase(unittest.TestCase):

    def test_what_has_no_reason_is_not_explained(self):
        known = [reason('SKIPPED', 'B'),
                 reason('SKIPPED', 'test_three', why='another reason'),
                 reason('FAILED', 'test_two', modes=('lazy',)),
                 reason('FAILED', 'tearDownClass')]
        found = results().values()
        self.assertEqual(
            [['tempest.api.volume.A.test_three'],
             ['tempest.api.volume.A.test_two',
              'tempest.api.volume.A.test_three']],
            [[each.test for each
              in tempest_record.unexplained(found, mode, known)]
             for mode in ('lazy', 'full')])

    def test_each_reason_in_the_file_is_well_formed(self):
        for each in tempest_record.reasons():
            self.assertIn(each.outcome, ('SKIPPED', 'FAILED'))
            self.assertLessEqual(set(each.modes), set(tempest_record.MODES))
            re.compile(each.test)
            re.compile(each.why)
            self.assertTrue(each.explanation.endswith('.'))

    def test_each_result_in_the_docs_is_explained(self):
        known = tempest_record.reasons()
        self.assertEqual([], [
            each for mode, record in tempest_record.load().items()
            for each in tempest_record.unexplained(record.others, mode,
                                                   known)])


class RecordTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = sandbox_case.new_folder(self.addCleanup)
        self.record = tempest_record.Record.of(
            results(), PLANNED, '1234567', date='2026-11-28', minutes=7,
            releases={'cinder': '29.0.0'})

    def run_of(self, output, planned=PLANNED, **what):
        """The record of a later run."""
        return tempest_record.Record.of(
            tempest_record.of_tests(tempest_record.outcomes(output), planned),
            planned, '89abcde', date='2026-11-29', minutes=1,
            releases={'cinder': '29.0.0'}, **what)

    def test_what_was_recorded_is_read_again(self):
        tempest_record.save({'lazy': self.record}, self.folder, [])
        self.assertEqual({'lazy': self.record},
                         tempest_record.load(self.folder))

    def test_a_record_that_was_broken_off_is_completed_by_classes(self):
        lacking = self.record.lacking(PLANNED)
        self.assertEqual(PLANNED[-1:], lacking)
        more = self.run_of('{0} cinder_tempest_plugin.C.test_one ... ok',
                           lacking)
        whole = self.record.completed(more)
        self.assertEqual((0, 8, '2026-11-29', self.record.others), (
            whole.not_run, whole.minutes, whole.date, whole.others))
        self.assertEqual(2, whole.total('', 'ok'))
        self.assertEqual([], whole.lacking(PLANNED))
        self.assertEqual({'1234567': 5, '89abcde': 1},
                         whole.tests_of_commits())
        more.releases['cinder'] = '30.0.0'
        self.assertRaises(ValueError, self.record.completed, more)

    def test_a_class_that_was_broken_off_keeps_its_earlier_results(self):
        later = self.record.completed(self.run_of(
            '{0} tempest.api.volume.A.test_one ... FAILED\n'
            '{0} tempest.api.volume.B.test_one ... ok\n'
            '{0} tempest.api.volume.B.test_two ... ok\n'))
        self.assertEqual(
            (self.record.counts['tempest.api.volume.A'], {'ok': 2}, 1),
            (later.counts['tempest.api.volume.A'],
             later.counts['tempest.api.volume.B'], later.not_run))
        self.assertEqual([each for each in self.record.others
                          if '.B.' not in each.test], later.others)

    def test_a_whole_run_leaves_nothing_of_earlier_ones(self):
        self.record.note = 'It rained.'
        later = self.run_of('\n'.join(f'{{0}} {name} ... ok'
                                      for name in PLANNED))
        self.assertEqual(later, self.record.completed(later))

    def test_the_page_counts_and_explains(self):
        self.record.note = 'It rained.'
        tempest_record.save({'full': self.record}, self.folder,
                            [reason('SKIPPED', 'B')])
        text = (self.folder / 'tempest.md').read_text()
        for line in (
                '| tempest.api.volume: skipped | 3 | no run |',
                '| **passed / skipped / failed** | **1 / 3 / 2** |  |',
                '| It cannot. | tempest.api.volume.B, 2 tests | 2 | 0 |',
                '| tempest.api.volume.A | 1 / 1 / 2 | no run |',
                '| not run | 1 |  |',
                'Of the run with lazy creation off: It rained.'):
            self.assertIn(line + '\n', text)
        self.assertIn('**not explained:** tempest.lib.exceptions.Wrong: '
                      'it is \\| wrong', text)
        self.assertIn('was broken off. Tests without a result: 1.', text)

    def test_the_page_in_the_docs_is_that_of_the_recorded_results(self):
        page = tempest_record.DOCS / 'tempest.md'
        if not page.exists():
            self.skipTest('nothing is recorded')
        tempest_record.save(tempest_record.load(), self.folder)
        self.assertEqual((self.folder / 'tempest.md').read_text(),
                         page.read_text())
