# SPDX-License-Identifier: Apache-2.0
"""Listings and `check` take as many calls at a large vCenter as at a small."""

import unittest
from unittest import mock

from cinder_vmdk_ext.tests.functional import cli_scale_run
from cinder_vmdk_ext.vsphere import updates

COMMANDS = cli_scale_run.COMMANDS


class CallsTestCase(unittest.TestCase):

    def measured(self, datastores, hosts, machines):
        """Without the view in memory: all is asked of the vCenter."""
        with cli_scale_run.opened(datastores, hosts, machines) as backend, \
                mock.patch.object(updates.Stream, 'conversation',
                                  return_value=None):
            return [cli_scale_run.measured(backend, words)
                    for words in COMMANDS]

    def test_a_small_and_a_larger_vcenter_take_equally_many(self):
        few = self.measured(2, 1, 5)
        many = self.measured(40, 4, 130)
        self.assertEqual([40, 130], [each['rows'] for each in many[:2]])
        self.assertEqual([8, 7, 25], [each['calls'] for each in few])
        self.assertEqual([8, 7, 25], [each['calls'] for each in many])
        # A vCenter decides how many objects a page of its reply has; the
        # simulator's has 100.
        self.assertEqual([[0, 0, 0], [1, 1, 1]], [
            [each['pages'] for each in found] for found in (few, many)])
