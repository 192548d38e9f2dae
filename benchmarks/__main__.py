# SPDX-License-Identifier: Apache-2.0
"""Measure upstream's driver and ours side by side (``make bench``)."""

import argparse
import functools
import os
import pathlib

from benchmarks import measuring
from benchmarks import report

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog='make bench')
    parser.add_argument('--quick', action='store_true',
                        help='the smaller sizes, no delays: two minutes')
    parser.add_argument('--large', action='store_true',
                        help='the largest size alone, ours alone')
    parser.add_argument('--start', action='store_true',
                        help='a start with 10,000 volumes')
    parser.add_argument('--prepared', type=pathlib.Path,
                        help='folder that keeps what --start has prepared, '
                        'for another run; delete it if the simulator refuses '
                        'it')
    parser.add_argument('--into', type=pathlib.Path,
                        default=ROOT / 'docs' / 'benchmarks',
                        help='folder for the table, the figures and the plot')
    arguments = parser.parse_args()
    name, measured = (
        ('quick', measuring.quick) if arguments.quick else
        ('large', measuring.large) if arguments.large else
        ('start', functools.partial(
            measuring.start, prepared=arguments.prepared))
        if arguments.start else
        ('full', measuring.full))
    results = []
    try:
        for result in measured():
            print(report.line(result), flush=True)
            results.append(result)
    finally:  # write the results even if a later measurement failed
        for path in report.write(results, arguments.into, name):
            print(f'wrote {os.path.relpath(path)}')


if __name__ == '__main__':
    main()
