# SPDX-License-Identifier: Apache-2.0
"""`pool list`, `show` and `explain`, of a vCenter that pyVmomi looks at."""

from oslo_utils import timeutils
from oslo_utils import units
from pyVmomi import vim

from cinder import objects

from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import command_case


class PoolCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2', 'none=']}

    def setUp(self):
        super().setUp()
        self.service_record = objects.Service(
            self.context, host=backend_case.HOST, binary='cinder-volume',
            topic='cinder-volume', availability_zone='nova', disabled=False,
            report_count=1)
        self.service_record.create()
        self.service_record.updated_at = timeutils.utcnow()
        self.service_record.save()

    def explained(self, *words, status=0, **options):
        return {each['pool']: each for each in self.listed(
            'pool', 'explain', *words, status=status, **options)}

    def type(self, name='a type', **specs):
        return self.database.volume_type(name, **specs)


class ListTestCase(PoolCase):

    def test_the_scheduler_is_told_what_is_listed(self):
        told = {pool['pool_name']: pool for pool in
                self.driver.get_volume_stats(refresh=True)['pools']}
        found = {each['name']: each for each in self.listed('pool', 'list')}
        self.assertEqual(set(told), set(found))
        for name, pool in told.items():
            self.assertEqual(pool['free_capacity_gb'] * units.Gi,
                             found[name]['free_bytes'])
            self.assertEqual('available', found[name]['state'])
        summary = self.datastore('LocalDS_2').summary
        self.assertEqual(summary.capacity // units.Gi,
                         found['LocalDS_2']['total_bytes'] // units.Gi)

    def test_one_pool_is_shown_and_a_datastore_that_is_none_says_why(self):
        status, out, _err = self.command('pool', 'show', 'LocalDS_2')
        self.assertEqual(0, status)
        self.assertIn(self.datastore('LocalDS_2')._moId, out)
        other = self.make_driver(vmware_datastore_regex='LocalDS_[01]')
        status, out, err = self.command('pool', 'show', 'LocalDS_2',
                                        driver=other)
        self.assertEqual((2, ''), (status, out))
        self.assertIn('does not match vmware_datastore_regex', err)
        found = {each['name']: each for each in self.listed(
            'pool', 'list', '--all', driver=other)}
        self.assertEqual(['available', 'no pool'], [
            found[name]['state'] for name in ('LocalDS_1', 'LocalDS_2')])

    def test_a_table_of_pools_fits_eighty_columns(self):
        _status, out, _err = self.command('pool', 'list', '--max-width', '80')
        self.assertLessEqual(max(map(len, out.splitlines())), 80)

    def test_a_listing_takes_no_more_calls_with_more_volumes(self):
        few = self.calls_of('pool', 'list')
        for _each in range(3):
            self.create()
        # It may read a datastore's figures that the creates have changed.
        self.assertLessEqual(self.calls_of('pool', 'list'), few + 2)


class ExplainTestCase(PoolCase):

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

    def test_a_spec_that_the_driver_refuses_is_the_cause_everywhere(self):
        self.type('wrong', vmdk_type='fat')
        found = self.explained('--type', 'wrong', status=3)
        for each in found.values():
            self.assertIn('vmware:vmdk_type', each['driver'])

    def test_a_volume_that_failed_is_explained_with_its_size_and_type(self):
        failed = self.new_volume(
            size_gib=50000, type_id=self.type('big').id)
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
