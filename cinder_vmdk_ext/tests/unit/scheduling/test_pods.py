# SPDX-License-Identifier: Apache-2.0
"""Datastore clusters as pools, with Cinder's real scheduler code."""

import dataclasses
import unittest

import hypothesis
from hypothesis import strategies

from cinder.volume import volume_utils

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds

GIB = model.GIB
ON = worlds.settings(storage_pods=True)
OFF = worlds.settings()
# From huge to tiny, each more often than it takes to fill a pool up.
FILLING_GIB = [1 << power for power in range(20, -1, -1) for _ in range(2)]


def pod(moref='group-p9', name='tier', members=('datastore-1', 'datastore-2'),
        drs_enabled=True, automation='automated'):
    return model.StoragePod(moref, name, frozenset(members), drs_enabled,
                            automation)


def with_pods(inventory, *pods):
    return dataclasses.replace(inventory, storage_pods={
        each.moref: each for each in pods})


def two_and_one(*pods, **second):
    """Two datastores that pods may hold, and a third."""
    return with_pods(worlds.inventory(
        worlds.datastore('datastore-1', 'gold-1', free_gib=60),
        worlds.datastore('datastore-2', 'gold-2', **{'free_gib': 30} | second),
        worlds.datastore('datastore-3', 'lead', free_gib=10)), *pods)


def reported(inventory, settings=ON, promised_gib=None):
    return {pool['pool_name']: pool for pool in pool_stats.report(
        inventory, settings,
        [model.Promise(*each) for each in (promised_gib or {}).items()])}


@strategies.composite
def clustered(draw):
    """Any inventory whose datastores may be in clusters, which may be gone."""
    inventory = draw(worlds.inventories(most_datastores=8))
    left = sorted(inventory.datastores)
    pods = []
    for number in draw(strategies.lists(
            strategies.integers(1, 40), unique=True, max_size=3)):
        members = draw(strategies.frozensets(
            strategies.sampled_from(left))) if left else frozenset()
        left = [moref for moref in left if moref not in members]
        pods.append(pod(f'group-p{number}', draw(worlds.NAMES),
                        members | draw(strategies.sampled_from(
                            (frozenset(), frozenset({'datastore-99'})))),
                        draw(strategies.sampled_from((True, True, False))),
                        draw(strategies.sampled_from(
                            ('automated', 'automated', 'manual')))))
    return with_pods(inventory, *pods)


SETTINGS = worlds.SETTINGS.map(
    lambda settings: dataclasses.replace(settings, storage_pods=True))


def eligible(pool, inventory, settings):
    return [each for each in pool.datastores if eligibility.ineligibility(
        each, inventory, settings) is None]


class PodPoolsTestCase(unittest.TestCase):
    """What a datastore cluster says as a pool."""

    def test_of_two_with_one_url_the_first_pool_has_anothers_promise(self):
        promise = model.Promise('other', 5, 'ds:///one/ datastore-99',
                                own=False)
        datastores = [worlds.datastore(
            f'datastore-{number}', f'gold-{number}', url='ds:///one/',
            capacity_gib=100 * number) for number in (1, 2)]
        before = worlds.inventory(*datastores)
        [(_promise, found)] = pool_names.promised([promise], before, ON)
        self.assertEqual('gold-1', found.name)
        now = before.evolved(storage_pods={
            'group-p9': pod(members=('datastore-1',))})
        for inventory in (now, dataclasses.replace(now)):
            [(_promise, found)] = pool_names.promised([promise], inventory,
                                                      ON)
            self.assertEqual('gold-2', found.name)

    def test_a_cluster_that_balances_itself_is_one_pool(self):
        self.assertEqual(['lead', 'tier'],
                         sorted(reported(two_and_one(pod()))))

    def test_without_the_option_its_members_are_the_pools(self):
        self.assertEqual(
            ['gold-1', 'gold-2', 'lead'],
            sorted(reported(two_and_one(pod()), OFF)))

    def test_one_that_waits_for_a_person_is_told_by_member(self):
        for manual in (pod(automation='manual'), pod(drs_enabled=False)):
            self.assertEqual(
                ['gold-1', 'gold-2', 'lead'],
                sorted(reported(two_and_one(manual))))

    def test_an_empty_cluster_is_no_pool(self):
        self.assertNotIn('tier', reported(two_and_one(pod(members=()))))

    def test_a_cluster_without_members_holds_no_promise(self):
        """Its volumes are promised where no datastore is left."""
        for settings in (ON, OFF):
            for automation in ('automated', 'manual'):
                inventory = two_and_one(pod(members=('datastore-99',),
                                            automation=automation))
                for place in ('', 'group-p9'):
                    promises = [model.Promise('tier', 5, place)]
                    self.assertEqual([], list(pool_names.promised(
                        promises, inventory, settings)))
                    self.assertEqual(
                        pool_stats.report(inventory, settings),
                        pool_stats.report(inventory, settings, promises))
                self.assertIsNone(pool_names.resolve('tier', inventory,
                                                     settings))
                self.assertIsNone(pool_names.identified(
                    'group-p9', inventory, settings))

    def test_its_figures_are_sums_and_its_free_space_the_largest_gap(self):
        pool = reported(two_and_one(pod()))['tier']
        self.assertEqual(200, pool['total_capacity_gb'])
        self.assertEqual(110, pool['provisioned_capacity_gb'])
        self.assertEqual(60, pool['free_capacity_gb'])
        self.assertEqual(60, pool['max_contiguous_gb'])
        self.assertEqual(90, pool['datastore_free_gb'])
        self.assertEqual(['gold-1', 'gold-2'], pool['datastores'])
        self.assertEqual('tier', pool['datastore_cluster'])

    def test_ten_small_gaps_hold_no_disk_of_two(self):
        members = [f'datastore-{number}' for number in range(1, 11)]
        inventory = with_pods(worlds.inventory(*(
            worlds.datastore(moref, moref, capacity_gib=1, free_gib=1)
            for moref in members)), pod(members=members))
        states = scheduler.pool_states({
            'volume_backend_name': 'vmdk',
            'pools': pool_stats.report(inventory, ON)})
        self.assertTrue(scheduler.passes(
            states['tier'], scheduler.request(1, thick=True)))
        self.assertFalse(scheduler.passes(
            states['tier'], scheduler.request(2, thick=True)))

    def test_a_member_in_maintenance_is_not_counted_and_named(self):
        pool = reported(two_and_one(
            pod(), maintenance_mode='inMaintenance'))['tier']
        self.assertEqual(100, pool['total_capacity_gb'])
        self.assertEqual('available', pool['pool_state'])
        self.assertIn('gold-2: it is in maintenance mode',
                      pool['pool_state_reason'])

    def test_with_no_member_left_it_stays_and_is_refused(self):
        inventory = two_and_one(pod(members=('datastore-2',)),
                                maintenance_mode='inMaintenance')
        pool = reported(inventory)['tier']
        self.assertEqual('maintenance', pool['pool_state'])
        self.assertEqual(0, pool['free_capacity_gb'])
        self.assertEqual(100, pool['total_capacity_gb'])

    def test_a_member_of_another_backend_has_no_part_in_it(self):
        pool = reported(two_and_one(pod(), type='other'))['tier']
        self.assertEqual(['gold-1'], pool['datastores'])
        self.assertEqual(100, pool['total_capacity_gb'])

    def test_a_policy_that_one_member_lacks_is_not_the_clusters(self):
        inventory = dataclasses.replace(two_and_one(pod()), compliant={
            'silver': frozenset({'datastore-1'}),
            'iron': frozenset({'datastore-1', 'datastore-2'})})
        self.assertEqual(['iron'],
                         reported(inventory)['tier']['storage_profiles'])

    def test_promises_under_any_of_its_names_are_its_own(self):
        inventory = two_and_one(pod())
        before = reported(inventory)['tier']['provisioned_capacity_gb']
        for name in ('tier', 'gold-1', 'gold-2', 'tier (DC1)'):
            pool = reported(inventory, promised_gib={name: 7})['tier']
            self.assertEqual(before + 7, pool['provisioned_capacity_gb'], name)


class PodNamesTestCase(unittest.TestCase):
    """What a datastore cluster is called as a pool."""

    def test_the_older_of_namesakes_keeps_its_name(self):
        older = two_and_one(pod('group-p2', 'lead', ('datastore-1',)))
        self.assertEqual({'lead', 'lead (DC1)', 'gold-2'},
                         set(reported(older)))
        self.assertIsNotNone(pool_names.resolve('lead', older, ON).pod)
        younger = two_and_one(pod('group-p9', 'lead', ('datastore-1',)))
        self.assertIsNone(pool_names.resolve('lead', younger, ON).pod)

    def test_a_members_name_goes_on_to_mean_its_pool(self):
        found = pool_names.resolve('gold-2', two_and_one(pod()), ON)
        self.assertEqual('tier', found.name)

    def test_a_clusters_name_goes_on_to_mean_its_members(self):
        for inventory, settings in (
                (two_and_one(pod()), OFF),
                (two_and_one(pod(automation='manual')), ON)):
            found = pool_names.resolve('tier', inventory, settings)
            self.assertEqual(['datastore-1', 'datastore-2'],
                             [each.moref for each in found.datastores])

    def test_a_name_of_nothing_is_none(self):
        self.assertIsNone(pool_names.resolve('tin', two_and_one(pod()), ON))

    @hypothesis.given(clustered(), SETTINGS)
    def test_names_are_legal_and_lead_back(self, inventory, settings):
        for pool in pool_names.listed(inventory, settings):
            host = volume_utils.append_host('h@b', pool.name)
            self.assertEqual(pool.name,
                             volume_utils.extract_host(host, 'pool'))
            self.assertEqual(
                pool, pool_names.resolve(pool.name, inventory, settings))

    @hypothesis.given(clustered(), SETTINGS)
    def test_no_choice_of_the_operator_renames_a_datastore(
            self, inventory, settings):
        off = dataclasses.replace(settings, storage_pods=False)
        alone = pool_names.by_datastore(inventory, off)
        for pool in pool_names.listed(inventory, settings):
            if pool.pod is None:
                self.assertEqual(pool.name, alone[pool.datastores[0].moref])


class IdentityTestCase(unittest.TestCase):
    """What a pool is known by, whatever is called so."""

    def identified(self, inventory, name, later, settings=OFF):
        """Name of the later pool that is the one of that name before."""
        place = pool_names.identity(
            pool_names.resolve(name, inventory, settings))
        found = pool_names.identified(place, later, settings)
        return found and found.name

    def test_a_datastore_by_its_url_whatever_its_name_and_reference(self):
        first = worlds.datastore('datastore-1', 'gold', url='ds:///a/')
        again = worlds.datastore('datastore-5', 'lead', url='ds:///a/')
        other = worlds.datastore('datastore-1', 'gold', url='ds:///b/')
        self.assertEqual('lead', self.identified(
            worlds.inventory(first), 'gold', worlds.inventory(other, again)))
        self.assertIsNone(self.identified(
            worlds.inventory(first), 'gold', worlds.inventory(other)))

    def test_the_same_storage_in_two_datacenters_by_its_reference(self):
        both = worlds.inventory(
            worlds.datastore('datastore-1', 'gold', url='ds:///a/'),
            worlds.datastore('datastore-2', 'lead', url='ds:///a/'))
        for name in ('gold', 'lead'):
            self.assertEqual(name, self.identified(both, name, both))

    def test_without_a_url_by_its_reference(self):
        named = two_and_one()
        self.assertEqual('lead', self.identified(named, 'lead', named))
        self.assertIsNone(self.identified(named, 'lead', worlds.inventory()))

    def test_a_datastore_cluster_by_its_reference(self):
        inventory = two_and_one(pod())
        self.assertEqual('best', self.identified(
            inventory, 'tier', two_and_one(pod(name='best')), ON))
        self.assertIsNone(self.identified(
            inventory, 'tier', two_and_one(pod('group-p10')), ON))
        manual = two_and_one(pod(automation='manual'))
        self.assertEqual('tier', self.identified(inventory, 'tier', manual,
                                                 ON))

    def test_a_datastore_that_joined_a_cluster_is_part_of_it(self):
        self.assertEqual('tier', self.identified(
            two_and_one(), 'gold-1', two_and_one(pod()), ON))


class PodSchedulerTestCase(unittest.TestCase):
    """What the stock filter and the driver's placement make of it."""

    @hypothesis.given(clustered(), SETTINGS)
    def test_every_datastore_is_counted_once(self, inventory, settings):
        listed = pool_names.listed(inventory, settings)
        morefs = [each.moref for pool in listed for each in pool.datastores]
        self.assertEqual(sorted(inventory.datastores), sorted(morefs))
        self.assertEqual(len(listed), len({pool.name for pool in listed}))

    @hypothesis.given(clustered(), SETTINGS, strategies.integers(1, 600))
    def test_a_thick_disk_that_passes_has_a_place(
            self, inventory, settings, size_gib):
        states = scheduler.pool_states({
            'volume_backend_name': 'vmdk',
            'pools': pool_stats.report(inventory, settings)})
        for pool in pool_names.listed(inventory, settings):
            if pool.name not in states or not scheduler.passes(
                    states[pool.name],
                    scheduler.request(size_gib, thick=True)):
                continue
            self.assertIsInstance(placement.place(
                model.Requirement(
                    size_gib * GIB,
                    pinned=frozenset(d.moref for d in pool.datastores)),
                inventory, settings, min), model.Placement)

    @hypothesis.given(clustered(), SETTINGS)
    def test_filling_it_between_reports_never_overfills_a_member(
            self, inventory, settings):
        states = scheduler.pool_states({
            'volume_backend_name': 'vmdk',
            'pools': pool_stats.report(inventory, settings)})
        for pool in pool_names.listed(inventory, settings):
            if pool.pod is None or pool.name not in states:
                continue
            gaps = {each.moref: min(each.free_bytes, each.capacity_bytes)
                    for each in eligible(pool, inventory, settings)}
            for size_gib in FILLING_GIB:
                wanted = scheduler.request(size_gib, thick=True)
                if scheduler.passes(states[pool.name], wanted):
                    self.assertLessEqual(size_gib * GIB, max(gaps.values()))
                    # The worst that a driver may do: the largest gap first.
                    gaps[max(gaps, key=gaps.__getitem__)] -= size_gib * GIB
                    states[pool.name].consume_from_volume(
                        {'id': 'an-id', 'size': size_gib}, update_time=False)


class PodPlacementTestCase(unittest.TestCase):
    """What the scheduler cannot reckon of a cluster, placement does."""

    def place(self, inventory, size_gib, settings, thin=True):
        return placement.place(
            model.Requirement(size_gib * GIB, thin, pinned=frozenset(
                {'datastore-1', 'datastore-2'})), inventory, settings, min)

    def test_thin_disks_overcommit_no_member_beyond_the_ratio(self):
        settings = dataclasses.replace(ON, max_over_subscription_ratio=2.0)
        inventory = two_and_one(pod(), uncommitted_bytes=100 * GIB)
        # Promised: 40 and 170 of 200 GiB each.
        self.assertEqual('datastore-1', self.place(
            inventory, 160, settings).datastore.moref)
        reasons = self.place(inventory, 161, settings)
        self.assertIn('201.00 GiB would be provisioned', reasons['gold-1'])

    def test_of_one_datastore_the_scheduler_has_reckoned_it(self):
        settings = dataclasses.replace(ON, max_over_subscription_ratio=2.0)
        self.assertIsInstance(placement.place(
            model.Requirement(500 * GIB, True,
                              pinned=frozenset({'datastore-1'})),
            two_and_one(), settings, min), model.Placement)


if __name__ == '__main__':
    unittest.main()
