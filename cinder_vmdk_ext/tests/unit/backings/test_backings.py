# SPDX-License-Identifier: Apache-2.0
"""Results for changing VMs equal those of a new search."""

import unittest

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext.backings import locator as backings_locator
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.unit import worlds

KEYS = ('', 'a', 'b', 'c')
VMS = strategies.builds(
    shadow.Backing, moref=strategies.sampled_from(('vm-1', 'vm-2', 'vm-3')),
    name=strategies.sampled_from(('volume-a', 'volume-b', 'other')),
    datastores=strategies.sampled_from((('ds-1',), ('ds-1', 'ds-2'), ())),
    template=strategies.booleans(),
    uuid=strategies.sampled_from(KEYS),
    volume_id=strategies.sampled_from(KEYS))
# Several are reported at once; None: it is gone.
CHANGES = strategies.lists(strategies.dictionaries(
    strategies.sampled_from(('vm-1', 'vm-2', 'vm-3')),
    strategies.none() | VMS, max_size=3).map(lambda changed: {
        moref: vm and vm._replace(moref=moref)
        for moref, vm in changed.items()}), max_size=12)


class Machines:
    """VMs in an index, and what there is to ask of them."""

    def __init__(self):
        self.known = {}
        self.index = shadow.BackingIndex()
        self.backings = shadow.Backings(index=self.index)

    def change(self, changed):
        for moref, vm in changed.items():
            self.known.pop(moref, None)
            if vm is not None and not vm.template:
                self.known[moref] = vm
        self.index.update(changed)
        if not self.backings.current:
            self.backings = shadow.Backings(index=self.index)

    def backings_known(self):
        return True

    def read_backings(self):
        return self.backings

    def read(self):
        return worlds.inventory(worlds.datastore())


class IndexTestCase(unittest.TestCase):

    @hypothesis.given(CHANGES)
    def test_every_vm_is_found_by_all_that_it_has_and_by_nothing_else(
            self, changes):
        machines = Machines()
        for changed in changes:
            machines.change(changed)
            known, backings = machines.known, machines.backings
            self.assertCountEqual(known.values(), backings.all)
            for field, find in (('uuid', backings.by_uuid),
                                ('name', backings.by_name),
                                ('volume_id', machines.index.by_mark.get)):
                for key in ('a', 'b', 'c', 'volume-a', 'volume-b', 'other'):
                    having = [vm for vm in known.values()
                              if getattr(vm, field) == key]
                    self.assertIn(find(key), having or [None])
                self.assertIsNone(find(''))

    @hypothesis.given(CHANGES)
    def test_what_changed_since_is_told(self, changes):
        machines = Machines()
        seen = [(machines.backings, {})]
        for changed in changes:
            machines.change(changed)
            seen.append((machines.backings, dict(machines.known)))
        for before, known in seen:
            told = machines.backings.changed_since(before)
            self.assertLessEqual({
                moref for moref in ('vm-1', 'vm-2', 'vm-3')
                if known.get(moref) != machines.known.get(moref)}, told)

    def test_what_is_too_long_ago_and_what_is_anothers_is_not_known(self):
        machines = Machines()
        first = machines.backings
        vm = shadow.Backing('vm-1', 'x', (), '')
        for number in range(shadow.MOST_CHANGES + 1):
            machines.index.update({'vm-1': vm._replace(name=str(number))})
        now = shadow.Backings(index=machines.index)
        self.assertIsNone(now.changed_since(first))
        self.assertEqual(frozenset(), now.changed_since(now))
        self.assertIsNone(now.changed_since(shadow.Backings([vm])))

    def test_of_two_the_one_known_longer_is_found_until_it_is_gone(self):
        machines = Machines()
        first, second = (shadow.Backing(moref, 'x', (), '', uuid='a')
                         for moref in ('vm-1', 'vm-2'))
        machines.change({'vm-1': first, 'vm-2': second})
        machines.change({'vm-1': first._replace(change_version='2')})
        self.assertEqual('vm-1', machines.backings.by_uuid('a').moref)
        machines.change({'vm-1': None})
        self.assertEqual(second, machines.backings.by_uuid('a'))


class CountTestCase(unittest.TestCase):

    @hypothesis.given(CHANGES)
    def test_volumes_are_counted_as_though_all_were_looked_at(self, changes):
        machines = Machines()
        one = self.locator(machines)
        before = one.volumes_by_datastore()
        for changed in changes:
            machines.change(changed)
            expected = self.locator(machines).volumes_by_datastore()
            found = one.volumes_by_datastore()
            self.assertEqual(expected.keys(), found.keys())
            for moref, ids in found.items():
                self.assertCountEqual(expected[moref], ids)
            self.assertLessEqual(
                {moref for moref in found.keys() | before.keys()
                 if found.get(moref) != before.get(moref)},
                found.changed_since(before))
            before = found

    def test_what_concerns_no_volume_gives_the_same_object(self):
        machines = Machines()
        machines.change({'vm-1': shadow.Backing(
            'vm-1', 'volume-a', ('ds-1',), '', uuid='a')})
        locator = self.locator(machines)
        before = locator.volumes_by_datastore()
        machines.change({'vm-2': shadow.Backing(
            'vm-2', 'other', ('ds-1',), '', uuid='b')})
        self.assertIs(before, locator.volumes_by_datastore())

    @staticmethod
    def locator(machines):
        return backings_locator.Locator(machines, machines,
                                        worlds.settings())


if __name__ == '__main__':
    unittest.main()
