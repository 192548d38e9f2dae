# SPDX-License-Identifier: Apache-2.0
"""No operation takes more calls or bytes than it did."""

import unittest

from benchmarks import measuring

# Operation -> calls beside the long poll's, and kilobytes with its notices,
# of which there may be more or fewer as they fall together.
MOST = {
    'stats': (0, 5),
    'select': (0, 5),
    'create, first': (7, 35),
    'create': (3, 30),
    'delete': (2, 10),
    'attach': (1, 8),
    'snapshot, COW': (2, 12),
    'volume from snapshot, COW': (4, 50),
    'delete snapshot, COW': (2, 12),
    'snapshot, template': (4, 35),
    'volume from snapshot, template': (4, 45),
    'delete snapshot, template': (2, 10),
    'clone, full': (4, 45),
    'clone, linked': (4, 40),
    'extend': (2, 16),
    'retype, adapter': (2, 20),
    'retype, disk type': (7, 65),
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


if __name__ == '__main__':
    unittest.main()
