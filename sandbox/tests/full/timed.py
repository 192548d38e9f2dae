# SPDX-License-Identifier: Apache-2.0
"""Runs tests by their names, and says how many seconds each takes. Run as

    python -m sandbox.tests.full.timed NAME...
"""

import sys
import time
import unittest


class Result(unittest.TextTestResult):
    """Adds a line with the seconds of each test, its set-up not included."""

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f'    {time.monotonic() - self._began:.0f} s')
        self.stream.flush()


def run(names):
    """Run modules, classes or tests.

    :returns: whether all passed
    """
    return unittest.TextTestRunner(verbosity=2, resultclass=Result).run(
        unittest.defaultTestLoader.loadTestsFromNames(names)).wasSuccessful()


if __name__ == '__main__':
    sys.exit(0 if run(sys.argv[1:]) else 1)
