# SPDX-License-Identifier: Apache-2.0
"""The walk of `make demo`, by a member of a project."""

from sandbox import demo
from sandbox.tests.full import case


class DemonstrationTestCase(case.CloudCase):

    def test_a_member_walks_through_a_volumes_life(self):
        self.assertTrue(
            demo.Demonstration(self.cloud, self.inspector).run())
