# SPDX-License-Identifier: Apache-2.0
"""`pool drain` and `pool undrain`; their effects are read by pyVmomi."""

import contextlib
import io
import time

from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import command_case
from cinder_vmdk_ext.tests.unit import scheduler


class DrainingTestCase(command_case.CommandCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(self.forget_attribute)

    def forget_attribute(self):
        manager = self.service.content.customFieldsManager
        for field in manager.field:
            manager.RemoveCustomFieldDef(field.key)

    def values(self, name='LocalDS_1'):
        """The attributes of a datastore, by pyVmomi."""
        names = {field.key: field.name for field
                 in self.service.content.customFieldsManager.field}
        return {names[each.key]: each.value
                for each in self.datastore(name).customValue}

    def pool(self, driver):
        stats = driver.get_volume_stats(refresh=True)
        return stats, next(pool for pool in stats['pools']
                           if pool['pool_name'] == 'LocalDS_1')

    def until(self, state, driver, reason=''):
        deadline = time.monotonic() + 60
        while True:
            pool = self.pool(driver)[1]
            if (pool['pool_state'] == state
                    and reason in pool['pool_state_reason']):
                return
            self.assertLess(time.monotonic(), deadline, pool)
            time.sleep(0.05)

    def drain(self, *words, **options):
        return self.listed('pool', 'drain', 'LocalDS_1', '--reason',
                           'array is old', *words, **options)

    def test_a_pool_is_drained_for_all_services_and_given_back(self):
        volume = self.create()
        row, = self.drain('--yes')
        self.assertEqual(('drained', 'drain: array is old'),
                         (row['done'], row['after']))
        self.assertEqual({'cinder_state': 'drain: array is old'},
                         self.values())
        another = self.make_driver()  # as after a restart, or elsewhere
        for driver in (self.driver, another):
            # Volumes are counted once the view of backings is whole.
            self.until('drain', driver, '1 volume is left')
            stats, pool = self.pool(driver)
            self.assertIn('array is old', pool['pool_state_reason'])
            self.assertIn('array is old', row['state'])
            states = scheduler.pool_states(
                {'volume_backend_name': 'vmdk', **stats})
            wanted = scheduler.request(1)
            self.assertEqual((False, True), tuple(
                scheduler.passes(states[name], wanted)
                for name in ('LocalDS_1', 'LocalDS_2')))
        self.assertRaises(exceptions.NoPlacement, self.create)
        self.driver.extend_volume(volume, 2)
        self.assertEqual(2, self.truth(volume).size_gib)
        self.assertEqual('it was drained already',
                         self.drain('--yes')[0]['done'])
        row, = self.listed('pool', 'undrain', 'LocalDS_1', '--yes')
        self.assertEqual(('undrained', ''), (row['done'], row['state']))
        self.assertEqual('', self.values().get('cinder_state', ''))
        self.until('available', self.driver)
        self.assert_on('LocalDS_1', self.create())

    def test_nothing_changes_unless_it_is_agreed_to(self):
        row, = self.drain('--dry-run')
        self.assertEqual(('would be drained', {}),
                         (row['done'], self.values()))
        self.assertIn('array is old', row['state'])
        status, out, _err = self.command('pool', 'drain', 'LocalDS_1',
                                         '--reason', 'x', answers='n\n')
        self.assertEqual((1, {}), (status, self.values()))
        self.assertIn('left', out)
        status, _out, err = self.command('pool', 'drain', 'none',
                                         '--reason', 'x', '--yes')
        self.assertEqual(2, status)
        self.assertIn("no pool 'none'; the pools are 'LocalDS_0'", err)
        for reason in ('', 'a\nb', 'x' * 201):
            with contextlib.redirect_stderr(io.StringIO()):
                status, _out, _err = self.command(
                    'pool', 'drain', 'LocalDS_1', '--reason', reason, '--yes')
            self.assertEqual((2, {}), (status, self.values()), reason)

    def test_what_else_keeps_volumes_away_is_said(self):
        manager = self.service.content.customFieldsManager
        key = manager.AddCustomFieldDef('cinder_state', vim.Datastore).key
        datastore = self.datastore('LocalDS_3')
        manager.SetField(datastore, key, 'owned by team 1')
        row, = self.listed('pool', 'undrain', 'LocalDS_3', '--yes')
        self.assertEqual('it was undrained already', row['done'])
        self.assertEqual({'cinder_state': 'owned by team 1'},
                         self.values('LocalDS_3'))
        self.wait(datastore.DatastoreEnterMaintenanceMode().task)
        self.addCleanup(lambda: self.wait(
            datastore.DatastoreExitMaintenanceMode_Task()))
        manager.SetField(datastore, key, 'drain')
        self.catch_up()
        row, = self.listed('pool', 'undrain', 'LocalDS_3', '--yes')
        self.assertEqual('undrained', row['done'])
        self.assertIn('maintenance mode', row['state'])
        self.assertEqual('', self.values('LocalDS_3')['cinder_state'])
