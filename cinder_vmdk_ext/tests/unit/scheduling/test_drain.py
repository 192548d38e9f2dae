# SPDX-License-Identifier: Apache-2.0
"""Drained datastores take no volumes, and report the volumes left."""

import dataclasses
import unittest

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import reporter
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds

SETTINGS = worlds.settings(drain_attribute='cinder_state', drain_tag='out')


def inventory(*values, tagged=(), pods=(), **more):
    """Two datastores; the first has custom attributes (key, value)."""
    return dataclasses.replace(
        worlds.inventory(
            worlds.datastore(custom_values=tuple(values), **more),
            worlds.datastore('datastore-2', 'lead')),
        attributes={7: 'cinder_state', 8: 'owner'}, tagged=frozenset(tagged),
        storage_pods={each.moref: each for each in pods})


def why(seen, settings=SETTINGS):
    return eligibility.ineligibility(seen.datastores['datastore-1'], seen,
                                     settings)


class DrainTestCase(unittest.TestCase):

    def test_the_attribute_says_drain(self):
        for value in ('drain', 'Drain', ' DRAIN ', 'drain: it is old',
                      'Drain :'):
            refused = why(inventory((7, value)))
            self.assertEqual(('drain', True), (refused.code, refused.passing))
            self.assertIn("'cinder_state'", refused.reason)

    def test_other_values_and_attributes_do_not(self):
        for values in ((), ((7, ''),), ((7, 'up'),), ((8, 'drain'),),
                       ((7, 'drained: it is old'),),
                       ((9, 'drain'),)):
            self.assertIsNone(why(inventory(*values)), values)

    def test_without_the_options_nothing_does(self):
        self.assertIsNone(why(inventory((7, 'drain'), tagged=['datastore-1']),
                              worlds.settings()))

    def test_the_tag_does(self):
        refused = why(inventory(tagged=['datastore-1']))
        self.assertEqual('drain', refused.code)
        self.assertIn("the tag 'out'", refused.reason)

    def test_the_pool_stays_and_takes_nothing(self):
        listed = pool_stats.report(inventory((7, 'drain')), SETTINGS)
        states = scheduler.pool_states({'volume_backend_name': 'vmdk',
                                        'pools': listed})
        for thick in (False, True):
            wanted = scheduler.request(1, thick=thick)
            self.assertFalse(scheduler.passes(states['gold'], wanted))
            self.assertTrue(scheduler.passes(states['lead'], wanted))

    def test_what_is_left_is_in_the_reason(self):
        for count, text in ((0, 'no volumes are left'),
                            (1, '1 volume is left'),
                            (5, '5 volumes are left')):
            for seen in (inventory((7, 'drain')),
                         inventory(maintenance_mode='enteringMaintenance')):
                [gold, lead] = pool_stats.report(seen, SETTINGS, (), {
                    'datastore-1': count, 'datastore-2': 9})
                self.assertIn(text, gold['pool_state_reason'])
                self.assertEqual('', lead['pool_state_reason'])

    def test_a_cluster_goes_on_without_its_drained_member(self):
        settings = dataclasses.replace(SETTINGS, storage_pods=True)
        pod = model.StoragePod('group-p1', 'tier', frozenset(
            {'datastore-1', 'datastore-2'}), True, 'automated')
        [reported] = pool_stats.report(
            inventory((7, 'drain'), pods=[pod]), settings, (),
            {'datastore-1': 3})
        self.assertEqual('available', reported['pool_state'])
        self.assertEqual(100, reported['total_capacity_gb'])
        self.assertIn('gold: it is drained', reported['pool_state_reason'])
        self.assertIn('3 volumes are left', reported['pool_state_reason'])


class ReporterTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.seen = inventory((7, 'drain'))
        self.volumes = {'datastore-1': ['b', 'a'], 'datastore-2': ['c']}
        self.reporter = reporter.Reporter(self, SETTINGS, tuple,
                                          volumes=self.look)

    def read(self):
        return self.seen

    def look(self):
        if isinstance(self.volumes, Exception):
            raise self.volumes
        return self.volumes

    def reason(self):
        return self.reporter.report()['pools'][0]['pool_state_reason']

    def test_volumes_are_named_in_the_log_as_they_go(self):
        with self.assertLogs(reporter.__name__, 'INFO') as logs:
            self.assertIn('2 volumes are left', self.reason())
            self.volumes = {}
            self.assertIn('no volumes are left', self.reason())
            self.reason()
        reported = [line for line in logs.output if 'Volumes left' in line]
        self.assertEqual(2, len(reported))
        self.assertIn('gold, which must be emptied: a, b.', reported[0])
        self.assertIn('none', reported[1])

    def test_what_is_not_known_yet_is_not_in_the_reason(self):
        self.volumes = None
        self.assertNotIn('left on it', self.reason())

    def test_the_report_does_not_fail_for_it(self):
        self.volumes = ValueError('no')
        with self.assertLogs(reporter.__name__, 'WARNING'):
            self.assertIn('it is drained', self.reason())


if __name__ == '__main__':
    unittest.main()
