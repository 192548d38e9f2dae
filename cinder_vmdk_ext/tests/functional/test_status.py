# SPDX-License-Identifier: Apache-2.0
"""`status` and `metrics`, beside a service that writes its status."""

import tempfile
from unittest import mock
import urllib.request

from oslo_utils import units
from prometheus_client import parser

from cinder_vmdk_ext.cmd import status as command
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.tests import ports


class StatusTestCase(command_case.CommandCase):

    def setUp(self):
        super().setUp()
        self.port = ports.reserved(self.addCleanup)
        self.configured(self.port)

    def configured(self, port):
        options = self.driver.backend.upstream.configuration
        self.useFixture(_Patched(options, port))

    def metrics(self, text):
        return {(sample.name, *sorted(sample.labels.items())): sample.value
                for family in parser.text_string_to_metric_families(text)
                for sample in family.samples}

    def test_a_service_tells_how_it_is(self):
        self.driver.backend.endpoint.start(self.port)
        self.addCleanup(self.driver.backend.endpoint.stop)
        volume = self.create()
        self.driver.get_volume_stats(refresh=True)
        with locks.volumes(volume.id):
            row, = self.listed('status')
        self.assertEqual(
            ('up', True, 4, 4, []),
            tuple(row[key] for key in (
                'state', 'session_active', 'pools', 'pools_available',
                'tasks')))
        self.assertLess(row['report_age_seconds'], 600)
        self.assertIn(volume.id, ' '.join(row['locks']))
        self.assertEqual(1, row['logins'])
        with urllib.request.urlopen(
                f'http://127.0.0.1:{self.port}/metrics') as reply:
            found = self.metrics(reply.read().decode())
        backend = ('backend', 'vmdk')
        pool = (backend, ('pool', 'LocalDS_1'))
        self.assertEqual(
            100.0 * units.Gi, found['cinder_vmdk_pool_capacity_bytes', *pool])
        self.assertEqual(1.0, found['cinder_vmdk_pool_available', *pool])
        made = (backend, ('kind', 'Folder.createVm'), ('result', 'success'))
        self.assertLessEqual(
            1.0, found['cinder_vmdk_task_seconds_count', *made])
        self.assertLess(0.0, found['cinder_vmdk_task_seconds_sum', *made])
        status, out, err = self.command('metrics')
        self.assertEqual((0, ''), (status, err))
        self.assertEqual(found.keys(), self.metrics(out).keys())
        for secret in (self.vcenter.password, self.vcenter.user):
            self.assertNotIn(secret, out)

    def test_it_makes_no_call(self):
        self.driver.get_volume_stats(refresh=True)
        self.driver.backend.endpoint.start(self.port)
        self.addCleanup(self.driver.backend.endpoint.stop)
        self.assertEqual(0, self.calls_of('status'))

    def test_without_a_service_it_says_so(self):
        row, = self.listed('status', status=3)
        self.assertIn(f'127.0.0.1:{self.port}', row['reason'])
        self.configured(0)
        row, = self.listed('status', status=3)
        self.assertEqual(('no answer', command._OFF),
                         (row['state'], row['reason']))

    def test_metrics_of_the_command_itself_with_an_audit(self):
        lost = self.create()
        self.destroy(self.truth(lost).vm)
        with tempfile.TemporaryDirectory() as folder:
            path = f'{folder}/vmdk.prom'
            self.assertEqual((0, '', ''), self.command(
                'metrics', '--audit', '--output', path))
            with open(path) as stream:
                found = self.metrics(stream.read())
        backend = ('backend', 'vmdk')
        self.assertEqual([1.0, 0.0, 1.0], [
            found['cinder_vmdk_audit_findings', backend, ('kind', 'lost')],
            found['cinder_vmdk_audit_findings', backend, ('kind', 'orphan')],
            found['cinder_vmdk_up', backend]])


class _Patched:
    """A fixture: the section has another port."""

    def __init__(self, options, port):
        self._patch = mock.patch.object(
            type(options), 'vmdk_ext_status_port', port, create=True)

    def setUp(self):
        self._patch.start()

    def cleanUp(self):
        self._patch.stop()

    def getDetails(self):
        return {}
