# SPDX-License-Identifier: Apache-2.0
"""The vCenter of a `vc` command, and the user of its login."""

import os
from unittest import mock

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.cmd import vc_case
from cinder_vmdk_ext.vsphere import vm_snapshots


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

    def test_a_question_names_what_is_changed_and_into_what(self):
        self.api.disks.move.return_value = '[b] y.vmdk'
        self.api.disks.copy.return_value = '[b] y.vmdk'
        self.api.disks.extend.return_value = '[a] x.vmdk'
        self.api.disks.set_io.return_value = '[a] x.vmdk'
        self.api.snapshots.delete.return_value = 'snapshot-2'
        self.api.snapshots.tree.return_value = [
            vm_snapshots.VmSnapshot(name, f'snapshot-{number}', '', depth, '',
                                    False)
            for number, (name, depth) in enumerate(
                (('a', 1), ('b', 2), ('s', 2), ('c', 3), ('d', 4), ('e', 2)))]
        self.api.datastores.create_nfs.return_value = ['h']
        for words, text in (
                ('disk move|[a] x.vmdk|[b] y.vmdk',
                 '[a] x.vmdk on vc will be moved to [b] y.vmdk'),
                ('disk copy|[a] x.vmdk|[b] y.vmdk',
                 '[a] x.vmdk on vc will be copied to [b] y.vmdk'),
                ('disk extend|[a] x.vmdk|--size|2GiB',
                 '[a] x.vmdk on vc will be extended to 2.0 GiB'),
                ('disk io set|web|[a] x.vmdk|--limit|16',
                 'I/O of [a] x.vmdk of VM web on vc will be set: limit 16'),
                ('snapshot create|web|s',
                 'snapshot s of VM web on vc will be created'),
                ('snapshot rename|web|s|t',
                 'snapshot s of VM web on vc will be renamed to t'),
                ('snapshot revert|web|s',
                 'VM web on vc will be reverted to the snapshot s, and its '
                 'present state will be lost'),
                ('snapshot delete|web|s',
                 'snapshot s of VM web on vc will be deleted'),
                ('snapshot delete|web|s|--children',
                 'snapshot s of VM web on vc will be deleted, with all '
                 'snapshots below it: c, d'),
                ('datastore rename|gold|silver',
                 'datastore gold on vc will be renamed to silver'),
                ('datastore create nfs|n|--server|f|--path|/x|--host|h',
                 'n on h on vc will be mounted from f:/x'),
                ('datastore create vmfs|n|--host|h|--device|naa.1',
                 'n on vc will be created on the disk naa.1 of host h, which '
                 'will be formatted'),
                ('datastore create local|n|--host|h|--path|/x',
                 'n on vc will be created from /x on host h'),
                ('datastore io set|gold|--disable|--manual|9',
                 'Storage I/O Control of datastore gold on vc will be set: '
                 'disabled, threshold 9 ms')):
            command, *values = words.split('|')
            self.assertIn(f'{text}. Continue? [y/N]',
                          self.run_vc(*command.split(), *values)[1])

    def test_a_wrong_name_is_a_wrong_call_and_a_refusal_a_failure(self):
        for error, status in ((exceptions.UnknownObject('no c'), 2),
                              (exceptions.StorageRefused('in use'), 1)):
            self.api.clusters.delete.side_effect = error
            self.assertEqual((status, f'Error: {error}\n'), self.run_vc(
                'cluster', 'delete', 'c', '--yes'))
