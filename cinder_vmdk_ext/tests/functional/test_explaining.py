# SPDX-License-Identifier: Apache-2.0
"""`pool explain` names the cause, of a vCenter and of a file alike."""

import json
import pathlib
from unittest import mock

import fixtures
from pyVmomi import vim

from cinder.volume import qos_specs
from cinder.volume import volume_types

from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.tests.functional import test_pools
from cinder_vmdk_ext.tests.functional import test_qos


class ExplainTestCase(test_pools.PoolCase):

    def setUp(self):
        super().setUp()
        self.saved = pathlib.Path(self.useFixture(
            fixtures.TempDir()).path, 'inventory.json')

    def explained(self, *words, status=0, **options):
        """Explain now, and from a file: the answers are the same."""
        live = self.listed('pool', 'explain', *words, status=status,
                           **options)
        self.listed('inventory', 'save', str(self.saved), **options)
        with mock.patch.object(command_case.Backends, 'opened',
                               side_effect=AssertionError('not offline')):
            self.assertEqual(live, self.listed(
                'pool', 'explain', *words, '--inventory', str(self.saved),
                status=status, **options))
        return {each['pool']: each for each in live}

    def type(self, name='a type', **specs):
        return self.database.volume_type(name, **specs)

    def test_a_policy_that_few_pools_comply_with_is_the_cause(self):
        self.type('gold', storage_profile='gold')
        found = self.explained('--type', 'gold', '--size', '20')
        self.assertEqual(
            {'LocalDS_0': False, 'LocalDS_1': True, 'LocalDS_2': True,
             'LocalDS_3': False},
            {name: each['takes'] for name, each in found.items()})
        self.assertIn("does not comply with storage policy 'gold'",
                      found['LocalDS_0']['driver'])
        self.assertEqual('passes', found['LocalDS_0']['scheduler'])
        self.assertEqual('LocalDS_1', found['LocalDS_1']['datastore'])

    def test_a_policy_that_no_pool_complies_with_finds_no_pool(self):
        self.type('none', storage_profile='none')
        found = self.explained('--type', 'none', status=3)
        self.assertEqual({False}, {each['takes'] for each in found.values()})

    def test_a_reservation_that_few_pools_can_have_is_the_cause(self):
        made = self.type('reserved')
        specs = qos_specs.create(self.context, 'reserved', {
            'consumer': 'back-end', 'disk_io_reservation': '100'})
        qos_specs.associate_qos_with_type(self.context, specs['id'],
                                          made['id'])
        found = self.explained('--type', 'reserved', status=3)
        self.assertEqual({False}, {each['takes'] for each in found.values()})
        test_qos.reserve(self, 'LocalDS_2', True)
        found = self.explained('--type', 'reserved')
        self.assertEqual(['LocalDS_2'], [
            name for name, each in found.items() if each['takes']])
        self.assertIn('Storage I/O Control', found['LocalDS_0']['driver'])

    def test_a_spec_that_the_driver_refuses_is_the_cause_everywhere(self):
        self.type('wrong', vmdk_type='fat')
        found = self.explained('--type', 'wrong', status=3)
        for each in found.values():
            self.assertIn('vmware:vmdk_type', each['driver'])

    def test_a_volume_that_failed_is_explained_with_its_size_and_type(self):
        failed = self.new_volume(
            size_gib=50000, type_id=self.type('big').id, status='error')
        found = self.explained('--volume', failed.id, '--pool', 'LocalDS_1',
                               status=3)
        self.assertEqual(['LocalDS_1'], list(found))
        self.assertIn('CapacityFilter', found['LocalDS_1']['scheduler'])
        self.assertIn('thin provisioning', found['LocalDS_1']['scheduler'])

    def test_a_regex_that_matches_nothing_is_the_cause(self):
        other = self.make_driver(vmware_datastore_regex='nothing')
        found = self.explained(status=3, driver=other)
        self.assertIn("does not match vmware_datastore_regex 'nothing'",
                      found['LocalDS_0']['scheduler'])
        status, out, _err = self.command('pool', 'list', driver=other)
        self.assertEqual(3, status)
        self.assertIn('no pool', out)

    def test_a_host_that_does_not_mount_the_pool_is_the_cause(self):
        instance = self.instances()[0]
        host = instance.runtime.host

        def mount(mounted):
            self.control.call('POST', '/mounts', {
                'datastore': 'LocalDS_3', 'host': host.name,
                'mounted': mounted})
        self.addCleanup(mount, True)
        mount(False)
        self.catch_up()
        for name in (instance._moId, instance.config.instanceUuid):
            found = self.explained('--instance', name)
            self.assertIn(f"host '{host.name}' cannot use it",
                          found['LocalDS_3']['attaching'])
            self.assertEqual('works', found['LocalDS_1']['attaching'])

    def test_a_service_that_is_disabled_is_the_cause(self):
        self.service_record.disabled = True
        self.service_record.save()
        found = self.explained(status=3)
        self.assertIn('service: it is disabled',
                      found['LocalDS_0']['scheduler'])

    def test_a_drained_pool_is_refused_for_that(self):
        datastore = self.datastore('LocalDS_0')
        fields = self.service.content.customFieldsManager
        key = fields.AddCustomFieldDef('cinder_state', vim.Datastore).key
        self.addCleanup(fields.RemoveCustomFieldDef, key)
        fields.SetField(datastore, key, 'drain')
        self.catch_up()
        found = self.explained()
        self.assertIn('drained', found['LocalDS_0']['scheduler'])

    def test_what_does_not_exist_is_a_wrong_call(self):
        for words in (['--type', 'gone'], ['--volume', 'gone'],
                      ['--pool', 'gone'], ['--instance', 'vm-99999']):
            with self.subTest(words):
                status, out, err = self.command('pool', 'explain', *words)
                self.assertEqual((2, ''), (status, out))
                self.assertIn(words[1], err)
                self.assertEqual(1, err.count('\n'))

    def test_a_file_has_no_credentials_and_is_of_this_version(self):
        self.listed('inventory', 'save', str(self.saved))
        text = self.saved.read_text()
        options = self.driver.configuration
        for secret in (options.vmware_host_password,
                       options.vmware_host_username, options.vmware_host_ip):
            self.assertNotIn(secret, text)
        for change, why in (
                (text.replace('"version": 2', '"version": 1'), 'version 1'),
                (text.replace('"stats"', '"other"'), 'incomplete'),
                ('', 'not written by')):
            self.saved.write_text(change)
            status, out, err = self.command(
                'pool', 'explain', '--inventory', str(self.saved))
            self.assertEqual((2, ''), (status, out))
            self.assertIn(why, err)

    def test_a_file_that_was_changed_ends_in_one_line(self):
        self.listed('inventory', 'save', str(self.saved))
        whole = json.loads(self.saved.read_text())
        (name, facts), = whole['backends'].items()
        changed = [whole | {'backends': {name: facts | {key: value}}}
                   for key in facts
                   for value in (None, 5, 'x', [], {}, [[1]], {'a': {}})]
        changed += [None, [], {}, whole | {'backends': 5},
                    whole | {'backends': {}}]
        texts = [json.dumps(each) for each in changed] + [
            self.saved.read_text()[:-200], '[' * 100000, '\0' * 100]
        for text in texts:
            self.saved.write_text(text)
            status, out, err = self.command(
                'pool', 'explain', '--instance', 'vm-1', '--inventory',
                str(self.saved))
            if status in (0, 3):
                self.assertEqual('', err, text[:200])
                continue
            self.assertEqual((2, '', 1), (status, out, err.count('\n')),
                             (text[:200], err))

    def test_odd_types_and_sizes_are_answered_for_each_pool(self):
        for specs, takes in (
                ({'multiattach': '<is> True'}, False),
                ({'multiattach': '<is> False'}, True),
                ({'volume_backend_name': '<in> nothing'}, False),
                ({'volume_backend_name': 's== other'}, False),
                ({'total_capacity_gb': '>= 5'}, True),
                ({'total_capacity_gb': '>= 5000000'}, False),
                ({'total_capacity_gb': '>= many'}, False),
                ({'thin_provisioning_support': '<is> True'}, True)):
            with self.subTest(specs):
                made = volume_types.create(self.context, str(specs), specs)
                found = self.explained('--type', made['id'],
                                       status=0 if takes else 3)
                self.assertEqual(takes, any(
                    each['takes'] for each in found.values()), found)
        found = self.explained('--size', '99999999999', status=3)
        self.assertEqual({False}, {each['takes']
                                   for each in found.values()})
        self.explained('--availability-zone', 'no such', status=3)
