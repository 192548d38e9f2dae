# SPDX-License-Identifier: Apache-2.0
"""The plain values that placement and statistics work on."""

import dataclasses
import unittest

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.tests.unit import worlds

GIB = model.GIB


class SettingsTestCase(unittest.TestCase):

    def test_the_larger_floor_counts(self):
        settings = worlds.settings(min_free_gib=5, min_free_percent=10)
        self.assertEqual(5 * GIB, settings.floor_bytes(20 * GIB))
        self.assertEqual(10 * GIB, settings.floor_bytes(100 * GIB))


class DatastoreTestCase(unittest.TestCase):

    def test_the_plain_name_is_what_an_administrator_sees(self):
        self.assertEqual('a/b\\c%d', worlds.datastore(
            name='a%2fb%5cc%25d').plain_name)

    def test_provisioned_is_never_negative(self):
        for figures in ({'free_gib': 200}, {'uncommitted_bytes': -GIB},
                        {'capacity_gib': -5, 'free_gib': 7}):
            self.assertGreaterEqual(
                worlds.datastore(**figures).provisioned_bytes, 0)

    def test_a_frozen_value_cannot_change(self):
        with self.assertRaises(dataclasses.FrozenInstanceError):
            worlds.datastore().name = 'lead'


class HostTestCase(unittest.TestCase):

    def test_only_a_connected_host_out_of_maintenance_lives(self):
        self.assertTrue(worlds.host().live)
        for state in ('disconnected', 'notResponding', 'unknown'):
            self.assertFalse(worlds.host(connection_state=state).live)
        self.assertFalse(worlds.host(in_maintenance=True).live)

    def test_names_from_before_pools_stand_for_the_backend(self):
        settings = worlds.settings()
        self.assertEqual([True, True, True, False], [
            settings.stands_for_backend(pool) for pool in (
                'vmdk', 'VMwareVcVmdkDriver', '_pool0', 'gold')])


class InventoryTestCase(unittest.TestCase):

    def test_a_path_is_split_at_the_names_of_datastores(self):
        names = ('gold', 'a%2fb', '50%25', 'x%5cy', 'a] b', 'gold')
        inventory = worlds.inventory(*(
            worlds.datastore(f'datastore-{n}', name)
            for n, name in enumerate(names)))
        for text, expected in (
                ('[50%25] f/x', [('datastore-2', 'f/x')]),
                ('[50%] f/x', [('datastore-2', 'f/x')]),
                ('[a%2fb] f/x', [('datastore-1', 'f/x')]),
                ('[a/b] f/x', [('datastore-1', 'f/x')]),
                ('[x\\y]', [('datastore-3', '')]),
                ('[a] b] c] d/x', [('datastore-4', 'c] d/x')]),
                ('[gold] a] b/x', [('datastore-0', 'a] b/x'),
                                   ('datastore-5', 'a] b/x')]),
                ('[lead] f/x', []), ('gold] f/x', []), ('', [])):
            self.assertEqual(expected, [
                (datastore.moref, path)
                for datastore, path in inventory.located(text)], text)

    def test_hosts_in_reach_are_those_of_the_clusters(self):
        inventory = worlds.inventory(hosts=(
            worlds.host('host-1', 'cluster-1'),
            worlds.host('host-2', 'cluster-2'),
            worlds.host('host-3', 'domain-3', in_maintenance=True)))
        for names, expected in (
                ((), {'host-1', 'host-2', 'host-3'}),
                (('c1',), {'host-1'}), (('c1', 'c2'), {'host-1', 'host-2'}),
                (('c3',), set()), (('gone',), set())):
            self.assertEqual(expected, inventory.hosts_in_reach(
                worlds.settings(cluster_names=names)))

    def test_same_named_clusters_are_one(self):
        hosts = (worlds.host('host-1', 'cluster-1'),
                 worlds.host('host-2', 'cluster-2'))
        clusters = {moref: dataclasses.replace(cluster, name='c%2f1')
                    for moref, cluster
                    in worlds.inventory(hosts=hosts).clusters.items()}
        inventory = dataclasses.replace(worlds.inventory(hosts=hosts),
                                        clusters=clusters)
        self.assertEqual({'host-1', 'host-2'}, inventory.hosts_in_reach(
            worlds.settings(cluster_names=('c/1',))))

    @hypothesis.given(worlds.inventories(), worlds.inventories(),
                      worlds.SETTINGS)
    def test_what_is_inherited_is_as_though_it_were_derived_anew(
            self, before, now, settings):
        self.derived(before, settings)
        expected = self.derived(dataclasses.replace(now), settings)
        now.inherit(before)
        self.assertEqual(expected, self.derived(now, settings))

    @hypothesis.given(worlds.inventories(), worlds.SETTINGS)
    def test_what_only_hosts_decide_outlives_a_change_of_datastores(
            self, inventory, settings):
        self.derived(inventory, settings)
        changed = inventory.evolved(datastores={
            moref: dataclasses.replace(each, free_bytes=1)
            for moref, each in inventory.datastores.items()})
        self.assertIs(inventory.live_hosts, changed.live_hosts)
        self.assertIs(inventory.hosts_in_reach(settings),
                      changed.hosts_in_reach(settings))
        self.assertEqual(self.derived(dataclasses.replace(changed), settings),
                         self.derived(changed, settings))

    @hypothesis.settings(max_examples=60)
    @hypothesis.given(
        worlds.inventories(),
        strategies.lists(strategies.tuples(
            strategies.integers(0, 9),
            strategies.sampled_from(['disk', 'host', 'mount', 'one host',
                                     'moved', 'gone', 'renamed', 'left',
                                     'joined', 'no pool', 'hidden',
                                     'none']),
            strategies.booleans()), max_size=6),
        worlds.SETTINGS)
    def test_a_series_knows_what_changed_and_inherits_the_rest(
            self, first, changes, settings):
        seen = [first]
        self.derived(first, settings)
        for number, what, branch in changes:
            before = seen[-1]
            morefs = sorted(before.datastores)
            changed = set(morefs[number:number + 1]
                          if what in ('disk', 'mount') else ())
            now = dataclasses.replace(before, datastores={
                moref: (dataclasses.replace(each, usable_hosts=frozenset())
                        if what == 'mount' else dataclasses.replace(
                            each, free_bytes=each.free_bytes + 1))
                if moref in changed else each
                for moref, each in before.datastores.items()},
                hosts=self.hosts_after(before.hosts, what, number),
                clusters=self.clusters_after(before.clusters, what, number))
            (now.inherit if branch else now.follow)(before, changed)
            self.assertEqual(self.derived(dataclasses.replace(now), settings),
                             self.derived(now, settings))
            seen.append(now)
        for before in seen:
            for now in seen:
                self.assertEqual(
                    dataclasses.replace(now).changed_datastores(
                        dataclasses.replace(before)),
                    now.changed_datastores(before))
                self.assert_the_rest_is_same(before, now, settings)

    def assert_the_rest_is_same(self, before, now, settings):
        changed = now.changed_datastores(before)
        if changed is not None:
            one, other = ({
                moref: eligibility.ineligibility(
                    each, dataclasses.replace(inventory), settings)
                for moref, each in inventory.datastores.items()
                if moref not in changed} for inventory in (before, now))
            self.assertEqual(one, other)

    @staticmethod
    def clusters_after(clusters, what, number):
        """The clusters after a change of one."""
        chosen = sorted(clusters)[number % 2:][:1]
        host = frozenset({f'host-{1 + number % 3}'})
        return {moref: dataclasses.replace(each, **{
            'renamed': {'name': f'c{1 + number % 3}'},
            'left': {'hosts': each.hosts - host},
            'joined': {'hosts': each.hosts | host},
            'no pool': {'resource_pool': '' if number % 2 else 'resgroup-1'},
            'hidden': {'unreadable': (('host', 'denied'),)[:number % 2]},
        }.get(what, {})) if moref in chosen else each
            for moref, each in clusters.items()}

    @staticmethod
    def hosts_after(hosts, what, number):
        """The hosts after a change of all, or of one."""
        chosen = set(sorted(hosts)[number % 3:][:1])
        if what == 'gone':
            return {moref: each for moref, each in hosts.items()
                    if moref not in chosen}
        if what == 'host' and number % 3 == 0:
            chosen = set(hosts)
        if what == 'moved':
            return {moref: dataclasses.replace(
                each, parent=f'cluster-{1 + number % 2}')
                if moref in chosen else each for moref, each in hosts.items()}
        return {moref: dataclasses.replace(
            each, in_maintenance=not each.in_maintenance)
            if moref in chosen and 'host' in what else each
            for moref, each in hosts.items()}

    def test_a_host_that_another_stands_in_for_concerns_no_datastore(self):
        hosts = ('host-1', 'host-2')
        before = worlds.inventory(
            worlds.datastore(hosts=hosts),
            worlds.datastore('datastore-2', 'lead', hosts=hosts,
                             usable=('host-2',)),
            hosts=(worlds.host(), worlds.host('host-2')))

        def after(now, **more):
            return now.evolved(hosts=now.hosts | {'host-2': worlds.host(
                'host-2', **more)})
        down = after(before, connection_state='disconnected')
        self.assertEqual({'datastore-2'}, down.changed_datastores(before))
        moved = after(before, cluster='cluster-2')
        self.assertEqual({'datastore-1', 'datastore-2'},
                         moved.changed_datastores(before))

    def test_a_host_concerns_the_datastores_that_it_mounts(self):
        before = worlds.inventory(
            worlds.datastore(), worlds.datastore('datastore-2', 'lead',
                                                 hosts=('host-2',)),
            hosts=(worlds.host(), worlds.host('host-2')))
        now = before.evolved(hosts=before.hosts | {
            'host-2': worlds.host('host-2', in_maintenance=True)})
        self.assertEqual({'datastore-2'}, now.changed_datastores(before))

    def test_a_host_that_moves_is_in_two_clusters(self):
        before = worlds.inventory(
            worlds.datastore(hosts=('host-1', 'host-2')),
            hosts=(worlds.host(), worlds.host('host-2')))
        before = before.evolved(clusters=before.clusters | {
            'cluster-2': model.Cluster('cluster-2', 'c2', 'resgroup-2',
                                       frozenset({'host-1'}))})
        settings = worlds.settings(cluster_names=('c2',))
        self.assertEqual({}, eligibility.refusals(before, settings))
        now = before.evolved(hosts=before.hosts | {
            'host-1': worlds.host(in_maintenance=True)})
        self.assertEqual({'datastore-1'}, now.changed_datastores(before))
        self.assertIn('datastore-1', eligibility.refusals(now, settings))

    @staticmethod
    def derived(inventory, settings):
        return (inventory.live_hosts, inventory.registering_hosts,
                inventory.hosts_by_cluster_name,
                inventory.shared_datacenter_names,
                inventory.policies_by_datastore,
                inventory.hosts_in_reach(settings),
                eligibility.refusals(inventory, settings),
                pool_names.listed(inventory, settings))


class RequirementTestCase(unittest.TestCase):

    def test_it_says_what_is_asked(self):
        self.assertEqual('a thick disk of 5 GiB',
                         str(model.Requirement(5 * GIB)))
        self.assertEqual("a thin disk of 0.5 GiB with storage policy 'gold'",
                         str(model.Requirement(GIB // 2, thin=True,
                                               policy='gold')))

    def test_a_large_size_is_told_in_whole(self):
        self.assertEqual('a thick disk of 12345 GiB',
                         str(model.Requirement(12345 * GIB)))
