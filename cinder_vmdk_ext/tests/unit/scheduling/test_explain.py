# SPDX-License-Identifier: Apache-2.0
"""The explanation agrees with Cinder's scheduler and the driver."""

import dataclasses
import json
import os
import re
import unittest

import hypothesis
from hypothesis import strategies

from cinder.scheduler import filters

from cinder_vmdk_ext.inventory import codec
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds

FILTERS = ('AvailabilityZoneFilter', 'CapacityFilter', 'CapabilitiesFilter')
SERVICE = explain.SchedulerService(scheduler.BACKEND, None, 'nova')
# `make explain-run` takes 1,000.
EXAMPLES = int(os.environ.get('EXPLAIN_EXAMPLES', '40'))


def request(size_gib=1, *, thin=True, policy=None, compliant=(), zone='',
            host=None, **specs):
    return explain.Request(
        size_gib, model.Requirement(
            size_gib * model.GIB, thin=thin, policy=policy,
            compliant=frozenset(compliant) if policy else None),
        'gold', specs, zone, host)


def explained(inventory, settings, wanted):
    stats = {'volume_backend_name': 'vmdk', 'pools': pool_stats.report(
        inventory, settings)}
    pinned = {pool.name: {each.moref for each in pool.datastores}
              for pool in pool_names.listed(inventory, settings)}
    return stats, pinned, {each.pool: each for each in explain.verdicts(
        stats, SERVICE, wanted, pinned, inventory, settings, FILTERS)}


@strategies.composite
def requests(draw):
    specs = draw(strategies.sampled_from((
        {}, {}, {'provisioning:type': 'thick'},
        {'storage_profiles': '<in> silver'}, {'datastore_type': 'vmfs'},
        {'capabilities:datastore_type': '<or> nfs <or> vsan'},
        {'unheard_of': 'x'})))
    return request(
        draw(strategies.integers(1, 600)), thin=draw(strategies.booleans()),
        policy=draw(strategies.sampled_from((None, None, 'silver'))),
        compliant=draw(strategies.sets(strategies.sampled_from(
            [f'datastore-{number}' for number in range(1, 31)]))),
        zone=draw(strategies.sampled_from(('', '', 'nova', 'elsewhere'))),
        host=draw(strategies.sampled_from((None, None, 'host-1'))), **specs)


class AgreementTestCase(unittest.TestCase):

    @hypothesis.settings(max_examples=EXAMPLES)
    @hypothesis.given(worlds.inventories(), worlds.SETTINGS, requests())
    def test_it_is_what_scheduler_and_placement_do(self, inventory, settings,
                                                   wanted):
        stats, pinned, found = explained(inventory, settings, wanted)
        # From a file it answers the same.
        self.assertEqual(found, explained(*(
            codec.decode(type(each), json.loads(json.dumps(
                codec.encode(each)))) for each in (inventory, settings)),
            wanted)[2])
        handler = filters.BackendFilterHandler('cinder.scheduler.filters')
        passed = {each.pool_name for each in handler.get_filtered_objects(
            explain.installed(FILTERS),
            explain.states(stats, SERVICE).values(),
            explain.properties(wanted))}
        self.assertEqual({pool['pool_name'] for pool in stats['pools']},
                         set(found))
        self.assertEqual(passed, {name for name, verdict in found.items()
                                  if not verdict.filters})
        for name, verdict in found.items():
            asked = model.Requirement(
                wanted.size_gib * model.GIB, wanted.requirement.thin,
                frozenset(pinned[name]), policy=wanted.requirement.policy,
                compliant=wanted.requirement.compliant)
            chosen = placement.place(asked, inventory, settings, min)
            self.assertEqual(isinstance(chosen, model.Placement),
                             not verdict.placement)
            if verdict.takes and wanted.instance_host is None:
                self.assertEqual(chosen.datastore.plain_name,
                                 verdict.datastore)
            if wanted.instance_host and not verdict.placement:
                there = placement.place(
                    dataclasses.replace(asked, hosts=frozenset({
                        wanted.instance_host})), inventory, settings, min)
                self.assertEqual(isinstance(there, model.Placement),
                                 not verdict.attaching)
            if verdict.takes and wanted.instance_host:
                self.assertTrue(any(
                    wanted.instance_host in inventory.datastores[
                        moref].usable_hosts for moref in pinned[name]))


class CauseTestCase(unittest.TestCase):
    """The cases of which operators only met "no valid backend"."""

    def of(self, *datastores, wanted, settings=None, hosts=None):
        return explained(worlds.inventory(*datastores, hosts=hosts),
                         settings or worlds.settings(), wanted)[2]

    def test_a_policy_that_few_pools_comply_with_is_named(self):
        found = self.of(
            worlds.datastore('datastore-1', 'gold'),
            worlds.datastore('datastore-2', 'tin'),
            wanted=request(policy='p1', compliant=['datastore-1']))
        self.assertTrue(found['gold'].takes)
        self.assertFalse(found['tin'].filters)
        self.assertIn("does not comply with storage policy 'p1'",
                      found['tin'].placement)

    def test_a_host_that_cannot_use_the_pool_is_named(self):
        hosts = worlds.host(), worlds.host('host-2')
        found = self.of(worlds.datastore(), hosts=hosts,
                        wanted=request(host='host-2'))['gold']
        self.assertFalse(found.placement)
        self.assertIn("host 'esx-host-2' cannot use it", found.attaching)

    def test_a_regex_that_matches_nothing_leaves_no_pool(self):
        self.assertEqual({}, self.of(
            worlds.datastore(), wanted=request(),
            settings=worlds.settings(datastore_regex=re.compile('nothing'))))

    def test_the_capacity_filter_says_why_in_its_own_words(self):
        found = self.of(worlds.datastore(), wanted=request(5000))['gold']
        self.assertRegex(found.filters['CapacityFilter'], 'ratio|Insuffic')

    def test_a_drained_pool_is_refused_for_that(self):
        found = self.of(worlds.datastore(maintenance_mode='inMaintenance'),
                        wanted=request())['gold']
        self.assertIn('maintenance', found.filters['CapacityFilter'])

    def test_a_capability_that_no_pool_has_is_named(self):
        found = self.of(worlds.datastore(), wanted=request(colour='red'))
        self.assertIn('colour', found['gold'].filters['CapabilitiesFilter'])

    def test_another_availability_zone_refuses_it(self):
        found = self.of(worlds.datastore(), wanted=request(zone='moon'))
        self.assertIn("'moon' is asked for",
                      found['gold'].filters['AvailabilityZoneFilter'])

    def test_a_filter_that_is_not_installed_is_an_error(self):
        with self.assertRaisesRegex(LookupError, "'ColourFilter'"):
            explain.installed(['CapacityFilter', 'ColourFilter'])
