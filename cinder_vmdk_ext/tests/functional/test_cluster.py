# SPDX-License-Identifier: Apache-2.0
"""Several cinder-volume processes of one cluster, one of which is killed.

The short form of `make cluster-run`.
"""

import unittest
from unittest import mock

from cinder_vmdk_ext.tests.functional import cluster_run
from cinder_vmdk_ext.tests.functional import sandbox_case
from sandbox import __main__ as program
from sandbox import cluster
from sandbox import errors
from sandbox import servers

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

    def test_all_is_true_after_one_service_was_killed(self):
        folder = sandbox_case.new_folder(self.addCleanup) / 'one'
        settings = cluster_run.Settings(
            operations=18, clients=4, kills=1, restarts=0, size=2,
            patience_seconds=10, task_milliseconds=200, session_seconds=10,
            quiet_seconds=5)
        report = cluster_run.run(settings, folder, lambda line: None)
        told = '\n'.join([*report.lines(), *report.words])
        self.assertEqual([], report.wrong, told)
        self.assertEqual(1, report.figures['cinder-volume killed'], told)
        self.assertEqual(18, sum(report.outcomes.values()), told)
        self.assertGreater(report.figures['volumes after the operator'], 2,
                           told)
