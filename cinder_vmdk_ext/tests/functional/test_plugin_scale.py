# SPDX-License-Identifier: Apache-2.0
"""A report makes as many calls to a large vCenter as to a small one."""

import time
import unittest
from unittest import mock

from pyVmomi import vim

from cinder import context

from cinder_vmdk_ext import driver
from cinder_vmdk_ext.inventory import cache
from sandbox.embedded import database
from sandbox.embedded import section
from simulator import client as simulator_client
from simulator import control

SMALL = {'ds': 5, 'cluster': 1, 'host': 2}
LARGE = {'ds': 500, 'cluster': 4, 'host': 16}
# Datastores, hosts, clusters, and what is there once.
OBJECTS = 500 + 64 + 4 + 2
# The vCenter may report in several answers; one is always under way.
POLLED = 'WaitForUpdatesEx'


class ScaleTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        cinder = database.Database()
        cinder.setUp()
        self.addCleanup(cinder.cleanUp)

    def start(self, size):
        vcenter = simulator_client.for_plugin(
            **size, vm=0, standalone_host=0, ds_mount_all=True,
            ds_capacity='100GiB')
        self.addCleanup(vcenter.stop)
        vcenter.start()
        made = driver.VmdkExtDriver(
            configuration=section.read(**section.of_vcenter(vcenter)),
            host=f'cinder-1@{section.NAME}')
        made.do_setup(context.get_admin_context())
        self.addCleanup(made._session.logout)
        return vcenter, made

    def reports(self, vcenter, made):
        """The first, one from memory, one by a direct read, and their calls.

        On a busy machine the first may take longer than a report waits for
        memory; it would then read directly, too.
        """
        patience = mock.patch.object(cache, 'SYNC_SECONDS', 120)
        patience.start()
        self.addCleanup(patience.stop)
        journal = control.Control(vcenter.control_url)
        found = []
        for prepare in (int, int, made.backend.stream.stop):
            prepare()
            journal.reset_journal()
            stats = made.get_volume_stats(refresh=True)
            if not found:
                self.wait_for_memory(made)
            found.append((stats, {
                name: each['calls']
                for name, each in journal.journal()['methods'].items()
                if name != POLLED}))
        return found

    def wait_for_memory(self, made):
        """The long poll's thread may still be asking for the VMs."""
        deadline = time.monotonic() + 60
        while made.volumeops.backing_view.filling():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_500_datastores_on_64_hosts_take_as_many_calls_as_5_on_2(self):
        vcenter, made = self.start(LARGE)
        large = self.reports(vcenter, made)
        for stats, _ in large:
            self.assertEqual('up', stats['backend_state'])
            self.check_pools(vcenter, stats['pools'])
        # A vCenter returns what it reads in pages of 100 objects.
        for _, calls in large:
            self.assertLessEqual(
                calls.pop('ContinueRetrievePropertiesEx', 0),
                calls.get('RetrievePropertiesEx', 0) * OBJECTS // 100)
        small = self.reports(*self.start(SMALL))
        self.assertEqual([calls for _, calls in small],
                         [calls for _, calls in large])
        self.assertLess(sum(large[0][1].values()), 15, large[0][1])

    def check_pools(self, vcenter, pools):
        """By what pyVmomi reads."""
        client = vcenter.connect()
        content = client.content
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [vim.Datastore], True)
        collector = vim.PropertyCollector
        walk = collector.TraversalSpec(
            name='view', path='view', type=vim.view.ContainerView)
        found = content.propertyCollector.RetrieveContents([
            collector.FilterSpec(
                objectSet=[collector.ObjectSpec(obj=view, skip=True,
                                                selectSet=[walk])],
                propSet=[collector.PropertySpec(
                    type=vim.Datastore, pathSet=['name', 'summary'])])])
        expected = {}
        for each in found:
            seen = {prop.name: prop.val for prop in each.propSet}
            expected[seen['name']] = (
                each.obj._moId, seen['summary'].capacity >> 30,
                seen['summary'].freeSpace >> 30, 'available')
        self.assertEqual(500, len(expected))
        self.assertEqual(expected, {
            pool['pool_name']: (
                pool['datastore_moref'], pool['total_capacity_gb'],
                pool['free_capacity_gb'], pool['pool_state'])
            for pool in pools})

    def test_a_report_of_a_large_vcenter_takes_little_time(self):
        _, made = self.start(LARGE)
        made.get_volume_stats(refresh=True)
        begun = time.process_time()
        made.get_volume_stats(refresh=True)
        self.assertLess(time.process_time() - begun, 2)
