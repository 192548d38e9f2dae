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
    'attach': (4, 10),
    'snapshot, COW': (3, 12),
    'volume from snapshot, COW': (6, 50),
    'delete snapshot, COW': (4, 15),
    'snapshot, template': (7, 40),
    'volume from snapshot, template': (5, 45),
    'delete snapshot, template': (2, 10),
    'clone, full': (5, 45),
    'clone, linked': (7, 45),
    'extend': (3, 18),
    'retype, adapter': (4, 25),
    'retype, disk type': (11, 75),
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
