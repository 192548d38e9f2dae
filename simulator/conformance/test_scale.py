# SPDX-License-Identifier: Apache-2.0
"""A thousand datastores and five thousand virtual machines: a read costs what it returns.

Costs are counts, bytes and processor time of the simulator, compared with those at a small inventory in the same run: the time
on the wall depends on what else the machine does.
"""

import os
import time
import unittest

from pyVim.task import WaitForTask
from pyVmomi import vim
from pyVmomi import vmodl

from simulator import client
from simulator import control as control_endpoint

PC = vmodl.query.PropertyCollector
DATASTORES, MACHINES = 1000, 5000


class Site:
    """A simulated vCenter with one filter on all of its inventory."""

    def __init__(self, **flags):
        begin = time.monotonic()
        self.vcenter = client.Simulator(ds_capacity='1TiB', **flags).start(timeout_s=240)
        self.start_s, self.start_cpu_s = time.monotonic() - begin, self.cpu_s()
        self.control = control_endpoint.Control(self.vcenter.control_url)
        self.client = self.vcenter.connect()
        self.content = self.client.content
        self.collector = self.content.propertyCollector.CreatePropertyCollector()  # WaitForTask uses the session's own
        self.version = ''

    def cpu_s(self):
        with open(f'/proc/{self.vcenter.pid}/stat') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def spec(self, kind, *paths):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        return PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[
                PC.TraversalSpec(type=vim.view.ContainerView, path='view', skip=False)])],
            propSet=[PC.PropertySpec(type=kind, pathSet=list(paths))])

    def updates(self, seconds=0):
        """All that there is to report now: (kind, object) pairs."""
        found = []
        while True:
            update = self.collector.WaitForUpdatesEx(self.version, PC.WaitOptions(maxWaitSeconds=seconds))
            if update is None:
                return found
            self.version, seconds = update.version, 0
            found += [(one.kind, one.obj) for each in update.filterSet for one in each.objectSet]

    def watch_everything(self):
        self.collector.CreateFilter(self.spec(vim.ManagedEntity, 'name', 'parent'), False)
        return self.updates()

    def cost_of_updates(self, folder, count):
        """Rename a folder so often, and wait for the report each time: processor seconds, bytes and objects, per update."""
        self.control.reset_journal()
        cpu, told = self.cpu_s(), 0
        for number in range(count):
            WaitForTask(folder.Rename(f'name-{number:06}'))
            told += len(self.updates(5))
        cpu = self.cpu_s() - cpu
        bytes_told = self.control.journal()['methods']['WaitForUpdatesEx']['response_bytes']
        return cpu / count, bytes_told / count, told / count


class ScaleTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.small = Site(vm=2)
        cls.addClassCleanup(cls.small.vcenter.stop)
        cls.large = Site(ds=DATASTORES, vm=MACHINES // 2)  # per resource pool, of which there are two
        cls.addClassCleanup(cls.large.vcenter.stop)

    def test_it_starts_within_a_minute(self):
        self.assertLess(min(self.large.start_s, self.large.start_cpu_s), 60)

    def test_all_datastores_and_machines_are_retrieved_page_by_page(self):
        for kind, count, paths in ((vim.VirtualMachine, MACHINES, ('name', 'runtime.host')),
                                   (vim.Datastore, DATASTORES, ('name', 'summary.freeSpace'))):
            with self.subTest(kind.__name__):
                cpu = self.large.cpu_s()
                page = self.large.collector.RetrievePropertiesEx(
                    [self.large.spec(kind, *paths)], PC.RetrieveOptions(maxObjects=300))
                seen = []
                while True:
                    self.assertLessEqual(len(page.objects), 300)
                    self.assertTrue(all(len(one.propSet) == len(paths) for one in page.objects))
                    seen += [one.obj._moId for one in page.objects]
                    if not page.token:
                        break
                    page = self.large.collector.ContinueRetrievePropertiesEx(page.token)
                self.assertEqual((count, count), (len(seen), len(set(seen))))
                self.assertLess(self.large.cpu_s() - cpu, 10)

    def test_the_cost_of_one_update_does_not_grow_with_the_inventory(self):
        folders, costs = [], []
        for site in self.small, self.large:
            entered = site.watch_everything()
            self.assertEqual({'enter'}, {kind for kind, _ in entered})
            folder = site.content.rootFolder.childEntity[0].vmFolder.CreateFolder('scale').CreateFolder('inner')
            self.assertEqual([('enter', folder)], [one for one in site.updates(5) if one[1] == folder])
            site.cost_of_updates(folder, 20)
            folders.append(folder)
        self.assertGreater(len(entered), DATASTORES + MACHINES)
        for site, folder in zip((self.small, self.large), folders):
            costs.append(site.cost_of_updates(folder, 200))
        (small_cpu, small_bytes, small_told), (large_cpu, large_bytes, large_told) = costs
        self.assertEqual(small_told, large_told)
        self.assertLess(large_bytes, 1.2 * small_bytes)
        # The inventory is 400 times as large. What remains is noise, and the garbage collector's share.
        self.assertLess(large_cpu, 5 * max(small_cpu, 0.001), f'{large_cpu * 1000:.2f} ms, {small_cpu * 1000:.2f} ms')
