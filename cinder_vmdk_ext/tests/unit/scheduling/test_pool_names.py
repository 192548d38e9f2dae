# SPDX-License-Identifier: Apache-2.0
"""The names of pools, and the pools that names stand for."""

import dataclasses
import unittest

import hypothesis

from cinder.volume import volume_utils

from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.tests.unit import worlds


class NamesTestCase(unittest.TestCase):
    """A pool's name is one word for one datastore."""

    def names_of(self, *names, datacenters=('DC1', 'DC2', 'DC3', 'DC4')):
        """Of datastores with these names, each in the next datacenter."""
        known = [worlds.datastore(f'datastore-{number}', name,
                                  datacenter=f'datacenter-{number}')
                 for number, name in enumerate(names, 1)]
        places = {f'datacenter-{number}': name
                  for number, name in enumerate(datacenters, 1)}
        return worlds.inventory(*known, datacenters=places)

    def assertNames(self, expected, inventory):
        self.assertEqual(expected, [
            pool_names.name_of(datastore, inventory)
            for datastore in inventory.datastores.values()])

    @hypothesis.given(worlds.inventories(most_datastores=12))
    def test_every_datastore_has_one_name_and_find_is_the_inverse(
            self, inventory):
        named = pool_names.names(inventory)
        self.assertCountEqual(inventory.datastores, named.values())
        for name, moref in named.items():
            self.assertEqual(moref, pool_names.find(name, inventory).moref)
            self.assertEqual(name, pool_names.name_of(
                inventory.datastores[moref], inventory))

    @hypothesis.given(worlds.inventories(most_datastores=12))
    def test_every_name_survives_cinders_host_field(self, inventory):
        for name in pool_names.names(inventory):
            host = volume_utils.append_host(scheduler.BACKEND, name)
            self.assertEqual(
                (scheduler.BACKEND, name),
                (volume_utils.extract_host(host),
                 volume_utils.extract_host(host, 'pool')))

    @hypothesis.given(worlds.inventories(most_datastores=12), worlds.NAMES)
    def test_a_new_datastore_renames_no_other(self, inventory, name):
        before = pool_names.names(inventory)
        newcomer = worlds.datastore('datastore-99', name)
        after = pool_names.names(dataclasses.replace(
            inventory, datastores=inventory.datastores
            | {newcomer.moref: newcomer}))
        self.assertLessEqual(before.items(), after.items())

    def test_a_unique_name_is_the_datastores_own(self):
        self.assertNames(['gold', 'a@b', 'a.b', '50%'],
                         self.names_of('gold', 'a@b', 'a.b', '50%'))

    def test_a_hash_is_written_as_a_vcenter_writes_a_slash(self):
        self.assertNames(['a%231'], self.names_of('a#1'))

    def test_a_namesake_is_told_apart_by_its_datacenter(self):
        self.assertNames(['gold', 'gold (DC2)'],
                         self.names_of('gold', 'gold'))

    def test_same_named_datacenters_are_told_apart_by_reference(self):
        """They can be, in different folders."""
        self.assertNames(
            ['gold', 'gold (datastore-2)', 'gold (datastore-3)'],
            self.names_of('gold', 'gold', 'gold',
                          datacenters=('DC1', 'DC2', 'DC2')))

    def test_a_datastore_called_like_a_namesakes_pool(self):
        self.assertNames(['gold (DC2)', 'gold', 'gold (datastore-3)'],
                         self.names_of('gold (DC2)', 'gold', 'gold',
                                       datacenters=('DC1', 'DC3', 'DC2')))

    def test_all_names_taken_by_others(self):
        self.assertNames(
            ['gold', 'gold (DC4)', 'gold (datastore-4)',
             'gold (datastore-4) (datastore-4)'],
            self.names_of('gold', 'gold (DC4)', 'gold (datastore-4)', 'gold'))

    def test_the_older_datastore_keeps_the_plain_name(self):
        inventory = worlds.inventory(
            worlds.datastore('datastore-10', 'gold'),
            worlds.datastore('datastore-9', 'gold'))
        self.assertEqual('datastore-9', pool_names.names(inventory)['gold'])

    def test_a_name_told_apart_is_understood_when_the_namesake_is_gone(self):
        inventory = self.names_of('gold', 'gold')
        alone = dataclasses.replace(inventory, datastores={
            'datastore-2': inventory.datastores['datastore-2']})
        self.assertEqual('datastore-2',
                         pool_names.find('gold (DC2)', alone).moref)

    @hypothesis.given(worlds.inventories(most_datastores=12))
    def test_a_longer_name_is_that_of_the_only_one_that_may_have_it(
            self, inventory):
        named = pool_names.names(inventory)
        possible = {each.moref: pool_names._possible_names(each, inventory)
                    for each in inventory.datastores.values()}
        for name in {' (', *(name for names in possible.values()
                             for name in names if name)} - named.keys():
            having = [moref for moref, names in possible.items()
                      if name in names]
            found = pool_names.find(name, inventory)
            if name in inventory.names:
                continue  # a datastore cluster's
            self.assertEqual(
                having[0] if len(having) == 1 else None,
                found.moref if found else None, name)

    def test_an_unknown_name_finds_nothing(self):
        self.assertIsNone(pool_names.find('lead', self.names_of('gold')))


if __name__ == '__main__':
    unittest.main()
