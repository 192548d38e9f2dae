# SPDX-License-Identifier: Apache-2.0
"""A short form of :mod:`simulator.conformance.mixed_load`; ``make simulator-races`` is the long one."""

import unittest

from simulator import client
from simulator.conformance import mixed_load
from simulator import control as control_endpoint


class MixedLoadTestCase(unittest.TestCase):

    def test_clients_in_parallel_find_no_fault_of_the_simulator_and_the_figures_are_right(self):
        with client.Simulator(ds=20, vm=5, ds_capacity='100GiB', ds_mount_all=True, policy='gold=*') as vcenter:
            outcomes, broken = mixed_load.run(vcenter, clients=4, seconds=5, least=51)
            self.assertEqual([], broken)
            control_endpoint.Control(vcenter.control_url).call('GET', '/space')
        self.assertGreater(sum(outcomes.values()), 50)
