# SPDX-License-Identifier: Apache-2.0
"""All tests that need a whole cloud, on one that is started for them.

    make test-cloud

MODULES are the modules of tests. With --running they are tried on the cloud
that `make sandbox CLOUD=1` has started, which is left running.
"""

import argparse
import os
from pathlib import Path
import sys
import tempfile
import time
import unittest

import sandbox
from sandbox import cloud
from sandbox.tests.full import case

MODULES = ('sandbox.tests.full.walk', 'sandbox.tests.full.dashboard')


def _test(names):
    """Whether the tests of these names pass on the cloud of case.FOLDER."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    return unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--running', action='store_true')
    parser.add_argument('names', nargs='*', default=MODULES,
                        help='modules, classes or tests; all by default')
    options = parser.parse_args()
    if options.running:
        os.environ[case.FOLDER] = str(cloud.DEFAULT_FOLDER)
        return 0 if _test(options.names) else 1
    began = time.monotonic()

    def progress(line):
        print(f'[{time.monotonic() - began:5.1f} s] {line}', flush=True)

    with tempfile.TemporaryDirectory(prefix='test-cloud-') as folder:
        os.environ[case.FOLDER] = folder
        with sandbox.FullCloud(Path(folder), progress=progress):
            progress('testing')
            passed = _test(options.names)
            progress('stopping')
        progress('stopped')
    return 0 if passed else 1


if __name__ == '__main__':
    sys.exit(main())
