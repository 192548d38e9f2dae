# SPDX-License-Identifier: Apache-2.0
"""`pool list` and `pool show`, compared with pyVmomi."""

from oslo_config import cfg
from oslo_utils import timeutils
from oslo_utils import units

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
        # However long a test takes, it is up.
        cfg.CONF.set_override('service_down_time', 86400)
        self.addCleanup(cfg.CONF.clear_override, 'service_down_time')


class ListTestCase(PoolCase):

    def test_the_scheduler_is_told_what_is_listed(self):
        seen = {pool['pool_name']: pool for pool in
                self.driver.get_volume_stats(refresh=True)['pools']}
        found = {each['name']: each for each in self.listed('pool', 'list')}
        self.assertEqual(set(seen), set(found))
        for name, pool in seen.items():
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
