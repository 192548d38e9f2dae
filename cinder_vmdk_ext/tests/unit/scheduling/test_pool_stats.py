# SPDX-License-Identifier: Apache-2.0
"""The figures of pools, with Cinder's real scheduler code."""

import dataclasses
import math
import re
import unittest

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds

GIB = model.GIB
SIZES_GIB = strategies.one_of(
    strategies.integers(1, 40), strategies.integers(1, 10000))
# From huge to tiny, each more often than it takes to fill a pool up.
FILLING_GIB = [1 << power for power in range(60, -1, -1) for _ in range(2)]


def promises(sizes_gib):
    """Of this backend's, by pool name."""
    return [model.Promise(*each) for each in (sizes_gib or {}).items()]


def reported(inventory, settings=None, promised_gib=None, **more):
    """The reported pools by name."""
    return {pool['pool_name']: pool for pool in pool_stats.report(
        inventory, settings or worlds.settings(), promises(promised_gib),
        **more)}


def states(inventory, settings, promised_gib):
    return scheduler.pool_states({
        'volume_backend_name': 'vmdk', 'pools': pool_stats.report(
            inventory, settings, promises(promised_gib))})


@strategies.composite
def worlds_with_promises(draw):
    """An inventory, settings, and lazily created volumes on some pools."""
    inventory = draw(worlds.inventories())
    names = sorted(pool_names.names(inventory))
    promised = draw(strategies.dictionaries(
        strategies.sampled_from(names), strategies.integers(0, 500),
        max_size=2)
        if names else strategies.just({}))
    return inventory, draw(worlds.SETTINGS), promised


class Bounds:
    """What a pool may hold, reckoned in bytes from the vCenter's figures."""

    def __init__(self, datastore, settings, pool, promised_gib):
        self.capacity_gib = datastore.capacity_bytes / GIB
        self.free_gib = (min(datastore.free_bytes, datastore.capacity_bytes)
                         / GIB)
        # Cinder's reserve is in whole GiB of the whole GiB reported.
        total_gib = datastore.capacity_bytes // GIB
        self.usable_gib = total_gib - math.floor(
            total_gib * (settings.reserved_percentage / 100))
        self.ratio = (settings.max_over_subscription_ratio
                      or pool['max_over_subscription_ratio'])  # 'auto'
        self.provisioned_gib = promised_gib + (
            datastore.capacity_bytes
            - min(datastore.free_bytes, datastore.capacity_bytes)
            + max(0, datastore.uncommitted_bytes)) / GIB

    def check(self, test, wanted_gib, thick):
        """A request that passed leaves the datastore within its bounds."""
        if thick:
            test.assertLessEqual(wanted_gib, self.free_gib)
            test.assertLessEqual(self.provisioned_gib + wanted_gib,
                                 self.usable_gib)
        else:
            test.assertLessEqual(self.provisioned_gib + wanted_gib,
                                 self.usable_gib * self.ratio + 1e-6)

    def consume(self, size_gib):
        self.free_gib -= size_gib
        self.provisioned_gib += size_gib


def bounds(inventory, settings, promised_gib):
    """Bounds of every reported pool that takes volumes, by name."""
    return {name: Bounds(inventory.datastores[pool['datastore_moref']],
                         settings, pool, promised_gib.get(name, 0))
            for name, pool in reported(inventory, settings,
                                       promised_gib).items()
            if pool['pool_state'] == 'available'}


class SchedulerTestCase(unittest.TestCase):
    """CapacityFilter and CapacityWeigher, fed with any pools."""

    @hypothesis.given(worlds_with_promises(), SIZES_GIB)
    def test_no_report_makes_the_filter_or_the_weigher_raise(self, world,
                                                             size_gib):
        found = states(*world)
        for wanted in (scheduler.request(size_gib),
                       scheduler.request(size_gib, thick=True),
                       scheduler.request(0),
                       scheduler.extension(1, 1 + size_gib)):
            passing = [pool for pool in found.values()
                       if scheduler.passes(pool, wanted)]
            self.assertCountEqual(passing, scheduler.weigh(passing, wanted))
            scheduler.weigh(found.values(), wanted)

    @hypothesis.given(worlds_with_promises(), SIZES_GIB, strategies.booleans())
    def test_what_passes_fits(self, world, size_gib, thick):
        found = states(*world)
        for name, bound in bounds(*world).items():
            wanted = scheduler.request(size_gib, thick=thick)
            if scheduler.passes(found[name], wanted):
                bound.check(self, size_gib, thick)

    @hypothesis.given(worlds_with_promises(), SIZES_GIB, SIZES_GIB)
    def test_an_extension_that_passes_fits(self, world, from_gib, more_gib):
        found = states(*world)
        for name, bound in bounds(*world).items():
            if scheduler.passes(found[name], scheduler.extension(
                    from_gib, from_gib + more_gib)):
                bound.check(self, more_gib, thick=False)

    @hypothesis.given(worlds_with_promises(), SIZES_GIB, strategies.booleans())
    def test_a_pool_that_takes_no_volumes_is_always_refused(
            self, world, size_gib, thick):
        found = states(*world)
        for name, pool in reported(*world).items():
            if pool['pool_state'] != 'available':
                for wanted in (scheduler.request(size_gib, thick=thick),
                               scheduler.extension(1, 1 + size_gib)):
                    self.assertFalse(scheduler.passes(found[name], wanted))

    @hypothesis.given(worlds_with_promises(), strategies.booleans(),
                      strategies.lists(SIZES_GIB, max_size=20))
    def test_volumes_between_two_reports_never_overfill(self, world, thick,
                                                        sizes_gib):
        """The scheduler itself books what it has placed since the report."""
        found = states(*world)
        for name, bound in bounds(*world).items():
            pool = found[name]
            for size_gib in sizes_gib + FILLING_GIB:
                if scheduler.passes(pool, scheduler.request(
                        size_gib, thick=thick)):
                    bound.check(self, size_gib, thick)
                    pool.consume_from_volume({'size': size_gib})
                    bound.consume(size_gib)
            self.assertFalse(scheduler.passes(
                pool, scheduler.request(1, thick=thick)))

    @hypothesis.given(worlds_with_promises(), SIZES_GIB, strategies.booleans())
    def test_the_single_pool_fits_the_sum_of_its_datastores(
            self, world, size_gib, thick):
        inventory, settings, promised = world
        promised_gib = sum(promised.values())
        stats = pool_stats.report_backend(inventory, settings,
                                          promises(promised))
        found = scheduler.pool_states({'volume_backend_name': 'vmdk'}
                                      | stats)
        self.assertEqual(['vmdk'], list(found))
        wanted = scheduler.request(size_gib, thick=thick)
        scheduler.weigh(found.values(), wanted)
        if scheduler.passes(found['vmdk'], wanted):
            eligible = [
                d for d in inventory.datastores.values()
                if eligibility.ineligibility(d, inventory, settings) is None]
            self.assertTrue(eligible)
            Bounds(total(eligible), settings, stats, promised_gib).check(
                self, size_gib, thick)

    def test_an_inaccessible_datastore_stays_listed_and_is_refused(self):
        inventory = worlds.inventory(
            worlds.datastore(accessible=False, free_gib=99))
        pool = states(inventory, worlds.settings(), {})['gold']
        self.assertEqual(100, pool.total_capacity_gb)
        self.assertFalse(scheduler.passes(pool, scheduler.request(1)))
        self.assertTrue(scheduler.passes(pool, scheduler.request(0)),
                        'an existing volume can still be managed')

    def test_a_pool_that_recovers_takes_volumes_again(self):
        backend = scheduler.host_manager.BackendState(
            scheduler.BACKEND, None)
        for accessible in (False, True):
            inventory = worlds.inventory(
                worlds.datastore(accessible=accessible))
            found = scheduler.pool_states(
                {'volume_backend_name': 'vmdk',
                 'pools': pool_stats.report(inventory, worlds.settings())},
                backend)
            self.assertEqual(accessible, scheduler.passes(
                found['gold'], scheduler.request(1)))

    def test_the_emptier_of_two_pools_is_weighed_first(self):
        found = states(worlds.inventory(
            worlds.datastore('datastore-1', 'full', free_gib=10),
            worlds.datastore('datastore-2', 'empty', free_gib=90)),
            worlds.settings(), {})
        for thick in (False, True):
            best = scheduler.weigh(found.values(),
                                   scheduler.request(1, thick=thick))[0]
            self.assertEqual('empty', best.pool_name)


def total(datastores):
    """One datastore of the size of all."""
    def clamped(datastore):
        return max(0, min(datastore.free_bytes, datastore.capacity_bytes))

    return model.Datastore(
        'sum', 'sum',
        capacity_bytes=sum(d.capacity_bytes for d in datastores),
        free_bytes=sum(map(clamped, datastores)),
        uncommitted_bytes=sum(max(0, d.uncommitted_bytes)
                              for d in datastores))


class FiguresTestCase(unittest.TestCase):
    """The figures of one pool."""

    def figures(self, settings=None, promised_gib=0, **datastore):
        inventory = worlds.inventory(worlds.datastore(**datastore))
        return reported(inventory, settings, {'gold': promised_gib})['gold']

    def test_capacities_are_rounded_down(self):
        pool = self.figures(capacity_gib=100.9, free_gib=59.99)
        self.assertEqual((100, 59), (pool['total_capacity_gb'],
                                     pool['free_capacity_gb']))

    def test_provisioned_is_used_and_uncommitted_and_promised(self):
        pool = self.figures(capacity_gib=100, free_gib=60,
                            uncommitted_bytes=25 * GIB, promised_gib=7)
        self.assertEqual(100 - 60 + 25 + 7, pool['provisioned_capacity_gb'])

    def test_provisioned_is_rounded_up(self):
        pool = self.figures(uncommitted_bytes=1)
        self.assertEqual(40.01, pool['provisioned_capacity_gb'])

    def test_negative_uncommitted_frees_nothing(self):
        pool = self.figures(uncommitted_bytes=-30 * GIB)
        self.assertEqual(40, pool['provisioned_capacity_gb'])

    def test_free_is_never_more_than_the_capacity(self):
        pool = self.figures(capacity_gib=10, free_gib=20)
        self.assertEqual((10, 0), (pool['free_capacity_gb'],
                                   pool['provisioned_capacity_gb']))

    def test_the_largest_disk_is_what_is_free(self):
        self.assertEqual(60, self.figures()['max_contiguous_gb'])

    def test_the_floor_refuses_and_shows_the_true_free_space(self):
        pool = self.figures(worlds.settings(min_free_gib=61))
        self.assertEqual((0, 60, False, 'floor'), (
            pool['free_capacity_gb'], pool['datastore_free_gb'],
            pool['thin_provisioning_support'], pool['pool_state']))

    def test_the_larger_floor_counts(self):
        settings = worlds.settings(min_free_gib=1, min_free_percent=61)
        self.assertEqual('floor', self.figures(settings)['pool_state'])

    def test_a_full_datastore_is_refused_without_a_floor_too(self):
        """A thin disk would be judged by the ratio alone."""
        self.assertEqual('full', self.figures(free_gib=0)['pool_state'])

    def test_the_ratio_is_kept_to_two_decimals(self):
        for ratio, wanted in ((1.15, 1.15), (20.0, 20.0), (1.999, 1.99)):
            settings = worlds.settings(max_over_subscription_ratio=ratio)
            self.assertEqual(wanted, self.figures(settings)[
                'max_over_subscription_ratio'])

    def test_auto_ratio_follows_the_use(self):
        settings = worlds.settings(max_over_subscription_ratio=None)
        pool = self.figures(settings, free_gib=61, uncommitted_bytes=41 * GIB)
        self.assertEqual(1 + (39 + 41) / (39 + 1),
                         pool['max_over_subscription_ratio'])

    def test_auto_ratio_of_a_datastore_with_little_in_use_is_the_default(self):
        settings = worlds.settings(max_over_subscription_ratio=None)
        pool = self.figures(settings, free_gib=99.9,
                            uncommitted_bytes=10 ** 6 * GIB)
        self.assertEqual(20.0, pool['max_over_subscription_ratio'])

    def test_promises_under_an_earlier_name_count(self):
        """Such as one that had a namesake, which is gone."""
        inventory = worlds.inventory(worlds.datastore())
        pool = reported(inventory, None, {'gold (DC1)': 5, 'gold': 2})['gold']
        self.assertEqual(47, pool['provisioned_capacity_gb'])

    def test_a_pool_says_which_datastore_it_is(self):
        [pool] = reported(worlds.inventory(worlds.datastore(
            name='a%2fb#1', url='ds:///x/', type='nfs'))).values()
        expected = {
            'pool_name': 'a%2fb%231', 'datastore': 'a/b#1',
            'datastore_type': 'nfs', 'datastore_url': 'ds:///x/',
            'datastore_moref': 'datastore-1', 'datacenter': 'DC1',
            'pool_state': 'available', 'pool_state_reason': ''}
        self.assertEqual(expected, {key: pool[key] for key in expected})

    def test_every_key_of_the_scheduler_is_there(self):
        """Else there is no notification of the pool's capacity."""
        self.assertLessEqual(
            scheduler.host_manager.HostManager.REQUIRED_KEYS,
            set(self.figures()))

    def test_a_pool_is_marked_with_the_policies_it_complies_with(self):
        inventory = worlds.inventory(
            worlds.datastore(), compliant={'silver': {'datastore-1'},
                                           'gold': frozenset()})
        self.assertEqual(['silver'],
                         reported(inventory)['gold']['storage_profiles'])


class StorageInTwoDatacentersTestCase(unittest.TestCase):
    """An NFS export that is mounted in two datacenters is one storage."""

    def export(self, number, **more):
        return worlds.datastore(
            f'datastore-{number}', 'nfs', url='ds:///vmfs/volumes/1-2/',
            type='nfs', **{'datacenter': f'datacenter-{number}', **more})

    def seen(self, first=None, second=None):
        return worlds.inventory(
            self.export(1, **(first or {})), self.export(2, **(second or {})),
            datacenters={'datacenter-2': 'DC2'})

    def test_a_promise_on_one_counts_on_both(self):
        pools = reported(self.seen(), None, {'nfs (DC2)': 7})
        self.assertEqual([47, 47], [each['provisioned_capacity_gb']
                                    for each in pools.values()])

    def test_the_single_pool_counts_it_once(self):
        stats = pool_stats.report_backend(self.seen(), worlds.settings())
        self.assertEqual((100, 60), (stats['total_capacity_gb'],
                                     stats['free_capacity_gb']))

    def test_two_of_one_url_that_differ_in_capacity_are_two(self):
        """Two servers of one name, each in its own datacenter."""
        seen = self.seen(second={'capacity_gib': 50, 'free_gib': 20})
        pools = reported(seen, None, {'nfs (DC2)': 7})
        self.assertEqual([40, 37], [each['provisioned_capacity_gb']
                                    for each in pools.values()])


class PromisesTestCase(unittest.TestCase):
    """What is promised counts on the storage that it is promised on."""

    def provisioned(self, *promises, settings=None, pods=()):
        seen = dataclasses.replace(worlds.inventory(
            worlds.datastore(url='ds:///gold/'),
            worlds.datastore('datastore-2', 'lead', url='ds:///lead/')),
            storage_pods={each.moref: each for each in pods})
        return [pool['provisioned_capacity_gb'] for pool
                in pool_stats.report(seen, settings or worlds.settings(),
                                     promises)]

    def test_another_backends_on_the_same_datastore_counts(self):
        self.assertEqual([45, 40], self.provisioned(model.Promise(
            'gold', 5, 'ds:///gold/ datastore-1', own=False)))

    def test_another_vcenters_on_the_same_storage_counts(self):
        """There it has another name and another reference."""
        self.assertEqual([45, 40], self.provisioned(model.Promise(
            'other', 5, 'ds:///gold/ datastore-99', own=False)))

    def test_another_backends_on_a_namesake_does_not(self):
        for place in ('', 'ds:///else/ datastore-1'):
            self.assertEqual([40, 40], self.provisioned(model.Promise(
                'gold', 5, place, own=False)), place)

    def test_another_backends_on_the_same_cluster_counts(self):
        pod = model.StoragePod('group-p1', 'tier', frozenset(
            {'datastore-1', 'datastore-2'}), True, 'automated')
        for name, expected in (('tier', 85), ('else', 80)):
            self.assertEqual([expected], self.provisioned(
                model.Promise(name, 5, 'group-p1', own=False),
                settings=worlds.settings(storage_pods=True), pods=[pod]))

    def test_a_name_that_was_given_again_is_not_the_place(self):
        """The datastore that was called gold is called lead by now."""
        self.assertEqual([40, 45], self.provisioned(model.Promise(
            'gold', 5, 'ds:///lead/ datastore-2')))

    def test_the_single_pool_counts_all_on_its_storage(self):
        seen = worlds.inventory(worlds.datastore(url='ds:///gold/'))
        stats = pool_stats.report_backend(seen, worlds.settings(), [
            model.Promise('vmdk', 1),
            model.Promise('x', 2, 'ds:///gold/ datastore-1', own=False),
            model.Promise('x', 4, 'ds:///else/ datastore-1', own=False)])
        self.assertEqual(43, stats['provisioned_capacity_gb'])


class VolumesTestCase(unittest.TestCase):
    """How many volumes a pool has, for filter functions (total_volumes)."""

    def test_volumes_with_a_disk_and_promised_ones_count(self):
        seen = worlds.inventory(worlds.datastore(),
                                worlds.datastore('datastore-2', 'lead'))
        pools = pool_stats.report(
            seen, worlds.settings(), [model.Promise('gold', 9, volumes=3)],
            {'datastore-1': 2, 'datastore-9': 1})
        self.assertEqual([5, 0], [each['total_volumes'] for each in pools])

    def test_the_single_pool_has_the_sum(self):
        stats = pool_stats.report_backend(
            worlds.inventory(worlds.datastore()), worlds.settings(),
            [model.Promise('vmdk', 9, volumes=3)],
            {'datastore-1': 2, 'datastore-9': 1})
        self.assertEqual(5, stats['total_volumes'])

    def test_what_is_not_known_is_not_reported(self):
        [pool] = pool_stats.report(worlds.inventory(worlds.datastore()),
                                   worlds.settings())
        self.assertNotIn('total_volumes', pool)


class KnownTestCase(unittest.TestCase):
    """What has not changed is not made anew."""

    @hypothesis.given(strategies.lists(worlds.inventories(), min_size=2,
                                       max_size=4), worlds.SETTINGS)
    def test_reports_are_as_though_they_were_made_anew(self, seen, settings):
        known = {}
        for inventory in seen:
            self.assertEqual(
                pool_stats.report(inventory, settings),
                list(pool_stats.reports(inventory, settings, (), None,
                                        known)))

    def test_only_the_pool_that_changed_is_made_anew(self):
        before = worlds.inventory(worlds.datastore(),
                                  worlds.datastore('datastore-2', 'lead'))
        after = before.evolved(datastores={
            **before.datastores,
            'datastore-1': worlds.datastore(free_gib=59)})
        known = {}
        [gold, lead] = pool_stats.reports(before, worlds.settings(), (), None,
                                          known)
        [new, same] = pool_stats.reports(after, worlds.settings(), (), None,
                                         known)
        self.assertIs(lead, same)
        self.assertEqual((60, 59), (gold['free_capacity_gb'],
                                    new['free_capacity_gb']))


class NoneTestCase(unittest.TestCase):
    """Why a backend has no pool at all."""

    def why(self, inventory, **settings):
        return pool_stats.why_there_is_none(inventory,
                                            worlds.settings(**settings))

    def test_a_regex_that_matches_nothing_is_named_with_all_names(self):
        why = self.why(worlds.inventory(
            worlds.datastore(), worlds.datastore('datastore-2', 'lead')),
            datastore_regex=re.compile('silver'))
        self.assertIn("vmware_datastore_regex 'silver' (gold, lead)", why)

    def test_every_reason_is_named(self):
        why = self.why(worlds.inventory(
            worlds.datastore(hosts=()),
            worlds.datastore('datastore-2', 'lead', type='tape')))
        self.assertIn('no host mounts it (gold)', why)
        self.assertIn("type 'tape'", why)

    def test_many_names_are_cut_short(self):
        why = self.why(worlds.inventory(*(
            worlds.datastore(f'datastore-{number}', f'ds{number:02}')
            for number in range(1, 31))), datastore_regex=re.compile('x'))
        self.assertIn('ds20 and 10 more', why)

    def test_a_pool_of_the_moment_is_one(self):
        self.assertEqual('', self.why(worlds.inventory(
            worlds.datastore(accessible=False))))

    def test_a_vcenter_that_shows_no_datastore(self):
        self.assertIn('no datastore', self.why(worlds.inventory()))


class ListedTestCase(unittest.TestCase):
    """Which datastores are pools."""

    def test_a_foreign_datastore_takes_no_other_down(self):
        inventory = worlds.inventory(
            worlds.datastore(),
            worlds.datastore('datastore-2', 'unmounted', hosts=()),
            worlds.datastore('datastore-3', 'odd', type='tape'))
        self.assertEqual(['gold'], list(reported(inventory)))
        self.assertEqual(
            {'unmounted', 'odd'},
            set(pool_stats.ineligible_names(inventory, worlds.settings())))

    def test_a_datastore_in_maintenance_stays_listed_with_the_reason(self):
        pool = reported(worlds.inventory(worlds.datastore(
            maintenance_mode='inMaintenance')))['gold']
        self.assertEqual(('maintenance', 'it is in maintenance mode'),
                         (pool['pool_state'], pool['pool_state_reason']))

    def test_the_single_pool_counts_what_takes_volumes_now(self):
        stats = pool_stats.report_backend(worlds.inventory(
            worlds.datastore(),
            worlds.datastore('datastore-2', 'down', accessible=False),
            worlds.datastore('datastore-3', 'big', capacity_gib=1000,
                             free_gib=700)), worlds.settings(),
            promises({'gold': 5}))
        self.assertEqual((1100, 760, 345, 700), (
            stats['total_capacity_gb'], stats['free_capacity_gb'],
            stats['provisioned_capacity_gb'], stats['largest_free_gb']))


if __name__ == '__main__':
    unittest.main()
