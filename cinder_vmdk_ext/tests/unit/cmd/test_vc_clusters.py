# SPDX-License-Identifier: Apache-2.0
"""The calls of `vc cluster` to the storage API."""

from unittest import mock

from cinder_vmdk_ext.tests.unit.cmd import vc_case


class VcClustersTestCase(vc_case.VcCase):

    def test_create(self):
        self.assert_call(
            self.api.clusters.create,
            mock.call('c', 'DC', drs=True, ha=True),
            'cluster', 'create', 'c', '--datacenter', 'DC', '--drs', '--ha')
