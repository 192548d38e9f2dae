# SPDX-License-Identifier: Apache-2.0
"""The vCenter of a `vc` command, and the user of its login."""

import os
from unittest import mock

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.cmd import vc_case


class TwoVcenters(vc_case.Backends):

    hosts = ['one', 'two']


class VcCommandTestCase(vc_case.VcCase):

    def test_of_several_vcenters_one_has_to_be_named(self):
        words = 'cluster', 'list'
        status, err = self.run_vc(*words, backends=TwoVcenters())
        self.assertEqual(2, status)
        self.assertIn('--backend', err)
        self.assertEqual([], self.logins)
        self.assertEqual(0, self.run_vc(
            *words, '--backend', '1', backends=TwoVcenters())[0])
        self.assertEqual([('two', 'me', 'secret')], self.logins)

    def test_the_account_of_cinder_is_refused_however_it_is_spelt(self):
        with mock.patch.dict(os.environ, {'VCENTER_USERNAME': 'cINDER'}):
            status, err = self.run_vc('cluster', 'list')
        self.assertEqual(2, status)
        self.assertIn('account of cinder-volume', err)
        self.assertEqual([], self.logins)

    def test_without_an_answer_nothing_is_changed(self):
        self.api.clusters.delete.return_value = 'domain-c1'
        self.run_vc('cluster', 'delete', 'c')
        self.assertEqual(1, self.api.clusters.delete.call_count)
        self.api.dry_run.assert_called_once_with()

    def test_a_wrong_name_is_a_wrong_call_and_a_refusal_a_failure(self):
        for error, status in ((exceptions.UnknownObject('no c'), 2),
                              (exceptions.StorageRefused('in use'), 1)):
            self.api.clusters.delete.side_effect = error
            self.assertEqual((status, f'Error: {error}\n'), self.run_vc(
                'cluster', 'delete', 'c', '--yes'))
