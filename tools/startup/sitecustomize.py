# SPDX-License-Identifier: Apache-2.0
"""Python imports this when it starts, in each process of a run of the tests.

run_tests.py puts this folder on their path. A run has hundreds of processes
that import all of Cinder and soon end; by default Python looks for garbage in
them after each 700 objects, for a tenth of their processor time.
"""

import gc

gc.set_threshold(50_000, 20, 20)
