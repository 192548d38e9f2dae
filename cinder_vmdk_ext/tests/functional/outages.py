# SPDX-License-Identifier: Apache-2.0
"""Runs outages of the vCenter for any time; see test_outages.py.

    python -m cinder_vmdk_ext.tests.functional.outages --minutes 60

In turn the vCenter is restarted, unreachable, silent, mute and slow, ends
sessions, refuses logins and loses replies, while volumes are created and
deleted and statistics are read. The run prints how long each recovery took. It
fails if one fails, or if sessions, threads, files or machines are left.
"""

import argparse
import os
import unittest


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Outages of a simulated vCenter, one after the other.')
    parser.add_argument('--minutes', type=float, default=60)
    minutes = parser.parse_args().minutes
    # Read when the module of the test is imported.
    os.environ['VMDK_EXT_TEST_OUTAGE_MINUTES'] = str(minutes)
    unittest.main(module=f'{__package__}.test_outages', argv=['outages'],
                  warnings='ignore')


if __name__ == '__main__':
    main()
