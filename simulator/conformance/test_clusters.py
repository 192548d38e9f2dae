# SPDX-License-Identifier: Apache-2.0
"""Clusters of hosts are made and destroyed as in a vCenter."""

from pyVmomi import vim
from pyVmomi import vmodl

from simulator.conformance import vcenter_case


class ClusterTestCase(vcenter_case.VCenterCase):

    def test_Destroy_Task_removes_a_cluster_without_hosts(self):
        folder = self.datacenter.hostFolder
        watch = self.watch(folder, 'childEntity')
        cluster = folder.CreateClusterEx('empty', vim.cluster.ConfigSpecEx())
        pool = cluster.resourcePool
        self.assertIn('empty', [each.name for each in folder.childEntity])
        self.wait(cluster.Destroy_Task())
        self.assertNotIn('empty', [each.name for each in folder.childEntity])
        self.assertTrue(watch.seen['childEntity'])
        for gone in cluster, pool:
            with self.assertRaises(vmodl.fault.ManagedObjectNotFound):
                gone.name
        again = folder.CreateClusterEx('empty', vim.cluster.ConfigSpecEx())
        self.wait(again.Destroy_Task())

    def test_CreateClusterEx_refuses_a_name_that_exists(self):
        cluster = self.all(vim.ClusterComputeResource)[0]
        with self.assertRaises(vim.fault.DuplicateName):
            self.datacenter.hostFolder.CreateClusterEx(cluster.name, vim.cluster.ConfigSpecEx())
