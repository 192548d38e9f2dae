# SPDX-License-Identifier: Apache-2.0
"""No operation takes more calls or bytes than before."""

import unittest

from benchmarks import measuring
from benchmarks import report
from benchmarks import targets

# Operation -> calls beside the long poll's, and kilobytes with its notices,
# of which there may be more or fewer as they fall together. One of the calls
# is for each task, which it puts on the list of those that are waited for.
# Copies read once more what their source's VM has, to leave it behind. An
# attachment asks whether the disk's file is there (QueryVirtualDiskUuid).
# A login reads no WSDL, which alone would be 3,100 kilobytes.
MOST = {
    'do_setup': (15, 100),
    'stats': (0, 5),
    'select': (0, 5),
    'create, first': (5, 20),
    'create': (3, 15),
    'delete': (3, 10),
    'attach': (2, 8),
    'snapshot, COW': (3, 14),
    'volume from snapshot, COW': (7, 50),
    'delete snapshot, COW': (3, 14),
    'snapshot, template': (6, 35),
    'volume from snapshot, template': (6, 45),
    'delete snapshot, template': (3, 10),
    'clone, full': (6, 45),
    'clone, linked': (8, 40),
    'extend': (3, 16),
    'retype, adapter': (4, 20),
    'retype, disk type': (14, 65),
}


class CountsTestCase(unittest.TestCase):

    def test_no_operation_costs_more_than_it_did(self):
        found = {each['operation']: each for each in measuring.counts()}
        self.assertLessEqual(set(MOST), set(found))
        for name, (calls, kilobytes) in MOST.items():
            with self.subTest(name):
                self.assertIsNone(found[name]['error'])
                self.assertLessEqual(found[name]['calls'], calls,
                                     found[name]['methods'])
                self.assertLessEqual(found[name]['bytes'] / 1000, kilobytes,
                                     found[name]['methods'])


class TargetsTestCase(unittest.TestCase):

    def rows(self, *results):
        return {row.metric: row for row in targets.rows([
            {'delay_ms': 0, 'runtime': 'native', 'task_ms': 0,
             'operation': 'stats', 'notices': 0, 'bytes': 0} | each
            for each in results])}

    def of_stats(self, ours_ms, **more):
        metric = 'CPU of statistics at 100x32'
        return self.rows(*({
            'size': str(measuring.MEDIUM), 'driver': driver, 'cpu_ms': cpu_ms,
            'wall_ms': cpu_ms, 'calls': 0} | more for driver, cpu_ms in (
                ('upstream', 1000), ('ours', ours_ms))))[metric]

    def test_a_target_is_reached_or_missed(self):
        self.assertEqual(('1,000.0 ms', '0.05 ms', '20,000 times', True),
                         self.of_stats(0.05)[2:])
        self.assertEqual(('1,000.0 ms', '0.50 ms', '2,000 times', False),
                         self.of_stats(0.5)[2:])

    def test_what_was_not_measured_or_failed_is_not_reached(self):
        for row in (*self.rows().values(),
                    self.of_stats(0.05, error='ValueError: x')):
            self.assertIsNone(row.reached)

    def test_the_page_of_a_full_run_begins_with_the_targets(self):
        page = report.markdown([], whole=True)
        for row in targets.rows([]):
            self.assertIn(f'| {row.metric} | {row.target} |', page)


if __name__ == '__main__':
    unittest.main()
