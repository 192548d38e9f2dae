# SPDX-License-Identifier: Apache-2.0
"""The calls of `vc datastore` and `vc host` to the storage API."""

from unittest import mock

from cinder_vmdk_ext.tests.unit.cmd import vc_case


class VcDatastoresTestCase(vc_case.VcCase):

    def test_create_nfs41(self):
        self.api.datastores.create_nfs.return_value = ['h']
        self.assert_call(
            self.api.datastores.create_nfs,
            mock.call('n', ['a', 'b'], '/x', ['h'], 'c', version='4.1',
                      read_only=True, security='SEC_KRB5'),
            'datastore', 'create', 'nfs41', 'n', '--server', 'a', '--server',
            'b', '--path', '/x', '--host', 'h', '--cluster', 'c',
            '--read-only', '--security', 'SEC_KRB5')

    def test_an_export_that_all_hosts_have_leaves_nothing_to_do(self):
        self.api.datastores.create_nfs.return_value = []
        self.assertEqual((0, ''), self.run_vc(
            'datastore', 'create', 'nfs', 'n', '--server', 'a', '--path',
            '/x', '--host', 'h'))
        self.assertEqual(1, self.api.datastores.create_nfs.call_count)

    def test_io_set(self):
        for words, expected in (
                (['--enable', '--manual', '9'],
                 {'enabled': True, 'percent': None, 'threshold_ms': 9}),
                (['--disable', '--automatic', '80'],
                 {'enabled': False, 'percent': 80, 'threshold_ms': None})):
            self.assert_call(self.api.datastores.set_io,
                             mock.call('d', **expected),
                             'datastore', 'io', 'set', 'd', *words)
