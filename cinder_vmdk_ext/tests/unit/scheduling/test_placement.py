# SPDX-License-Identifier: Apache-2.0
"""Which datastore takes a disk."""

import unittest

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext.tests.unit import worlds

GIB = model.GIB
REQUIREMENTS = strategies.builds(
    model.Requirement, strategies.integers(1, 300 * GIB),
    thin=strategies.booleans(),
    pinned=strategies.sampled_from((
        None, None, frozenset({'datastore-1'}), frozenset({'gone'}),
        frozenset({'datastore-1', 'datastore-2', 'gone'}))),
    hosts=strategies.sampled_from((None, frozenset({'host-1'}),
                                   frozenset({'elsewhere'}))),
    excluded=strategies.sampled_from((frozenset(),
                                      frozenset({'datastore-2'}))),
    types=strategies.sampled_from((None, frozenset({'vmfs'}))),
    policy=strategies.just('silver'),
    compliant=strategies.sampled_from((None, frozenset({'datastore-1'}))))


def first(choices):
    return choices[0]


class FitTestCase(unittest.TestCase):
    """Why a datastore of the backend cannot take a very disk."""

    def reason(self, requirement, **datastore):
        known = worlds.datastore(**datastore)
        return placement.unfit(known, requirement, worlds.inventory(known),
                               worlds.settings())

    def test_what_fits(self):
        self.assertIsNone(self.reason(model.Requirement(60 * GIB)))

    def test_a_thick_disk_needs_its_whole_size_free(self):
        self.assertEqual('60.00 GiB are free, 61.00 GiB are needed',
                         self.reason(model.Requirement(61 * GIB)))

    def test_a_thin_disk_may_be_larger_than_what_is_free(self):
        self.assertIsNone(self.reason(
            model.Requirement(1000 * GIB, thin=True)))

    def test_a_thin_disk_needs_some_space(self):
        self.assertEqual('no space is free', self.reason(
            model.Requirement(GIB, thin=True), free_gib=0))

    def test_an_excluded_datastore(self):
        self.assertIn('excluded', self.reason(model.Requirement(
            GIB, excluded=frozenset({'datastore-1'}))))

    def test_a_type_that_cannot_hold_the_disk(self):
        self.assertIn("'nfs' cannot hold", self.reason(model.Requirement(
            GIB, types=frozenset({'vmfs'})), type='nfs'))

    def test_a_policy_that_it_does_not_comply_with(self):
        self.assertIn("storage policy 'silver'", self.reason(
            model.Requirement(GIB, policy='silver', compliant=frozenset())))

    def test_the_host_of_the_instance_that_does_not_mount_it_is_named(self):
        reason = placement.unfit(
            worlds.datastore(),
            model.Requirement(GIB, hosts=frozenset({'host-2'})),
            worlds.inventory(worlds.datastore(),
                             hosts=(worlds.host(), worlds.host('host-2'))),
            worlds.settings())
        self.assertIn('esx-host-2', reason)

    def test_the_host_of_the_instance_may_be_outside_the_clusters(self):
        """The disk has to be where the instance is."""
        known = worlds.datastore(hosts=('host-1', 'host-2'))
        inventory = worlds.inventory(
            known, hosts=(worlds.host(), worlds.host('host-2', 'cluster-2')))
        self.assertIsNone(placement.unfit(
            known, model.Requirement(GIB, hosts=frozenset({'host-2'})),
            inventory, worlds.settings(cluster_names=('c1',))))


class PlaceTestCase(unittest.TestCase):
    """The choice among datastores."""

    def place(self, requirement, *datastores, **more):
        return placement.place(
            requirement, worlds.inventory(*datastores, **more),
            worlds.settings(), first)

    def test_the_pinned_datastore_is_taken_though_others_are_emptier(self):
        chosen = self.place(
            model.Requirement(GIB, pinned=frozenset({'datastore-2'})),
            worlds.datastore(free_gib=90),
            worlds.datastore('datastore-2', 'lead', free_gib=10))
        self.assertEqual('lead', chosen.datastore.name)

    def test_only_the_pinned_datastore_is_considered_and_refused(self):
        reasons = self.place(
            model.Requirement(50 * GIB, pinned=frozenset({'datastore-2'})),
            worlds.datastore(free_gib=90),
            worlds.datastore('datastore-2', 'lead', free_gib=10))
        self.assertEqual(
            {'lead': '10.00 GiB are free, 50.00 GiB are needed'}, reasons)

    def test_most_mounts_win(self):
        """As upstream chooses."""
        hosts = (worlds.host(), worlds.host('host-2'))
        chosen = self.place(
            model.Requirement(GIB), worlds.datastore(free_gib=90),
            worlds.datastore('datastore-2', 'shared',
                             hosts=('host-1', 'host-2')), hosts=hosts)
        self.assertEqual('shared', chosen.datastore.name)

    def test_the_relatively_emptiest_wins_among_equally_mounted(self):
        chosen = self.place(
            model.Requirement(GIB), worlds.datastore(free_gib=60),
            worlds.datastore('datastore-2', 'small', capacity_gib=10,
                             free_gib=9))
        self.assertEqual('small', chosen.datastore.name)

    def test_equals_are_left_to_the_tie_break(self):
        equals = (worlds.datastore(), worlds.datastore('datastore-2', 'lead'))
        for pick, name in ((min, 'gold'), (max, 'lead')):
            chosen = placement.place(
                model.Requirement(GIB), worlds.inventory(*equals),
                worlds.settings(), pick)
            self.assertEqual(name, chosen.datastore.name)

    def test_the_resource_pool_is_that_of_the_hosts_cluster(self):
        hosts = (worlds.host('host-7', 'cluster-7'),)
        chosen = self.place(model.Requirement(GIB),
                            worlds.datastore(hosts=('host-7',)), hosts=hosts)
        self.assertEqual(('host-7', 'resgroup-7'),
                         (chosen.host.moref, chosen.resource_pool))

    def test_each_refused_namesake_has_its_reason(self):
        reasons = self.place(
            model.Requirement(GIB), worlds.datastore(accessible=False),
            worlds.datastore('datastore-2', hosts=()))
        self.assertEqual({'gold', 'gold (datastore-2)'}, set(reasons))

    def test_no_datastores_at_all(self):
        self.assertEqual({}, self.place(model.Requirement(GIB)))

    @hypothesis.given(worlds.inventories(), worlds.SETTINGS, REQUIREMENTS)
    def test_a_placement_honours_all_that_was_asked(self, inventory, settings,
                                                    wanted):
        chosen = placement.place(wanted, inventory, settings, first)
        if not isinstance(chosen, model.Placement):
            considered = set(inventory.datastores)
            if wanted.pinned is not None:
                considered &= wanted.pinned
            self.assertEqual(len(considered), len(chosen))
            self.assertTrue(all(chosen.values()))
            return
        datastore, host = chosen.datastore, chosen.host
        self.assertIsNone(eligibility.ineligibility(datastore, inventory,
                                                    settings))
        self.assertIn(host.moref, datastore.usable_hosts)
        self.assertTrue(host.live)
        if wanted.pinned is not None:
            self.assertIn(datastore.moref, wanted.pinned)
        self.assertNotIn(datastore.moref, wanted.excluded)
        if not wanted.thin:
            self.assertLessEqual(wanted.size_bytes, datastore.free_bytes)
        if wanted.hosts is not None:
            self.assertIn(host.moref, wanted.hosts)
        if wanted.types is not None:
            self.assertIn(datastore.type, wanted.types)
        if wanted.compliant is not None:
            self.assertIn(datastore.moref, wanted.compliant)


if __name__ == '__main__':
    unittest.main()
