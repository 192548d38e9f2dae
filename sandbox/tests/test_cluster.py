# SPDX-License-Identifier: Apache-2.0
"""Several cinder-volume processes of one cluster, one of which is killed.

The short form of `make cluster-run`.
"""

import unittest
from unittest import mock

from pyVim import task
from pyVmomi import vim

from sandbox import __main__ as program
from sandbox import cluster
from sandbox import errors
from sandbox import inspection
from sandbox import servers
from sandbox.tests.cluster import commands
from sandbox.tests.cluster import load
from sandbox.tests.cluster import truth
from sandbox.tests import cluster_run
from sandbox.tests import sandbox_case
from simulator import control

MISSING = servers.missing_packages(cluster.PROGRAMS)


class ProgramsTestCase(unittest.TestCase):
    """Servers that are not installed are named, with the remedy."""

    def setUp(self):
        super().setUp()
        self.folder = sandbox_case.new_folder(self.addCleanup) / 'one'
        self.enterContext(mock.patch.object(cluster, 'PROGRAMS', (
            servers.Program('no-such-server', 'no-such-package'),
            servers.Program('/no/such-*/server', 'another'),
            servers.Program('sh', 'dash'))))

    def test_what_is_missing_is_named_with_the_remedy(self):
        with self.assertRaisesRegex(
                errors.SandboxError, 'apt-get install '
                '--no-install-recommends another no-such-package$'):
            cluster.Cluster(self.folder).start()

    def test_nothing_is_begun_before_that(self):
        self.assertEqual(1, program.main(
            ['start', '--cluster', '3', '--dir', str(self.folder)]))
        self.assertFalse(self.folder.exists())

    def test_a_cluster_of_none_is_refused(self):
        with self.assertRaisesRegex(errors.SandboxError, 'give 1 or more'):
            cluster.Cluster(self.folder, size=0)


@unittest.skipIf(MISSING, 'the cluster was not tried: these packages of '
                 'Debian are not installed: %s' % ' '.join(MISSING))
class ClusterTestCase(unittest.TestCase):

    SETTINGS = cluster_run.Settings(
        operations=14, clients=4, kills=1, restarts=0, size=2,
        patience_seconds=20, task_milliseconds=200, session_seconds=10,
        quiet_seconds=10, delete=False)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cloud = cls.enterClassContext(cluster_run.started(
            cls.SETTINGS, sandbox_case.new_folder(cls.addClassCleanup) / 'one',
            lambda line: None))

    def test_all_is_true_after_one_service_was_killed(self):
        report = cluster_run.Run(self.SETTINGS, self.cloud,
                                 lambda line: None).whole()
        text = '\n'.join([*report.lines(), *report.words])
        self.assertEqual([], report.wrong, text)
        self.assertEqual(1, report.figures['cinder-volume killed'], text)
        self.assertEqual(14, sum(report.outcomes.values()), text)
        self.assertGreater(report.figures['volumes after the operator'], 0,
                           text)

    def test_what_is_wrong_is_told(self):
        """The questions of the run above can be answered with no."""
        control_there = control.Control(self.cloud.vcenter.control_url)
        kept, lost = (self.cloud.clients.settled_volume(
            self.cloud.cinder.volumes.create(1, volume_type='thin').id)
            for _ in range(2))
        content = {kept.id: b'what it was'}
        load.write(self.cloud.vcenter, control_there, kept.id, b'another now')
        with inspection.Inspector(self.cloud.vcenter) as vcenter:
            index = vcenter.service.content.searchIndex
            kept_vm, lost_vm = (index.FindByUuid(None, volume.id, True, True)
                                for volume in (kept, lost))
            task.WaitForTask(kept_vm.CloneVM_Task(
                kept_vm.parent, 'stray', vim.vm.CloneSpec(
                    location=vim.vm.RelocateSpec(), template=False,
                    powerOn=False)))
            task.WaitForTask(lost_vm.Destroy_Task())
            disk = next(device for device in kept_vm.config.hardware.device
                        if isinstance(device, vim.vm.device.VirtualDisk))
            disk.capacityInBytes *= 2
            disk.capacityInKB *= 2
            task.WaitForTask(kept_vm.ReconfigVM_Task(vim.vm.ConfigSpec(
                deviceChange=[vim.vm.device.VirtualDeviceSpec(
                    operation='edit', device=disk)])))
        text = '\n'.join(truth.differences(self.cloud, control_there,
                                           content))
        for words in (f'{lost.id} has 0 VMs', 'stray belongs to no volume',
                      f'{kept.id}: size', f'{kept.id}: content'):
            self.assertIn(words, text)
        found = '\n'.join(commands.audit(self.cloud))
        self.assertIn(f'lost volume volume-{lost.id}', found)
        self.assertIn('duplicated vm stray', found)
