# SPDX-License-Identifier: Apache-2.0
"""Datacenters are read from memory; an existing folder is used."""

import sys
import types
import unittest
from typing import Any

import hypothesis
from hypothesis import strategies

from oslo_vmware import exceptions

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import folders
from cinder_vmdk_ext import model
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.vsphere import references

PARENT = references.Ref('Folder', 'group-v1')


class Ops(folders.PlaceOps):
    """On a vCenter that answers as the test says."""

    answer = None

    def __init__(self):
        super().__init__(types.SimpleNamespace(
            vim=None, invoke_api=self.invoke), 100, 'key', 'type')

    def invoke(self, module, method, *args, **kwargs):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def get_datastore(self, backing):
        return references.Ref('Datastore', 'datastore-1')

    def _get_child_folder(self, parent, name):
        return f'the child {name}'


class PlaceOpsTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.ops = Ops()
        known = worlds.inventory(worlds.datastore(datacenter='datacenter-1'))
        self.ops.inventory_view = types.SimpleNamespace(known=lambda: known)

    def test_the_datacenter_of_what_uses_a_datastore_is_the_datastores(self):
        for child in (references.Ref('Datastore', 'datastore-1'),
                      references.Ref('VirtualMachine', 'vm-1'),
                      references.Ref('ResourcePool', 'resgroup-1')):
            self.assertEqual(
                references.Ref('Datacenter', 'datacenter-1'),
                self.ops.get_dc(child), child)

    def test_what_memory_does_not_know_is_upstreams_to_find(self):
        self.ops.inventory_view = None
        found = upstream.VMwareVolumeOps.get_dc
        try:
            upstream.VMwareVolumeOps.get_dc = lambda ops, child: 'looked up'
            self.assertEqual('looked up', self.ops.get_dc(PARENT))
        finally:
            upstream.VMwareVolumeOps.get_dc = found

    def test_the_fault_of_a_double_name_names_the_folder(self):
        self.ops.answer = exceptions.DuplicateName(
            'twice', details={'object': 'group-v7'})
        self.assertEqual(references.Ref('Folder', 'group-v7'),
                         self.ops.create_folder(PARENT, 'Volumes'))
        self.ops.answer = exceptions.DuplicateName('twice')
        self.assertEqual('the child Volumes',
                         self.ops.create_folder(PARENT, 'Volumes'))

    def test_folders_are_forgotten_once(self):
        self.ops._folder_cache['/datacenter-1/Volumes'] = PARENT
        self.assertTrue(self.ops.forget_folders())
        self.assertFalse(self.ops.forget_folders())


class CheckedFoldersTestCase(unittest.TestCase):
    """Known folders against what the vCenter reports."""

    PATHS = {'/datacenter-1': 'group-v1',
             '/datacenter-1/OpenStack': 'group-v2',
             '/datacenter-1/OpenStack/Project (p)': 'group-v3',
             '/datacenter-1/OpenStack/Project (p)/Volumes': 'group-v4',
             '/datacenter-1/OpenStack/Project (q)': 'group-v5'}
    REPORTED = {'group-v1': ('vm', 'datacenter-1'),
                'group-v2': ('OpenStack', 'group-v1'),
                'group-v3': ('Project (p)', 'group-v2'),
                'group-v4': ('Volumes', 'group-v3'),
                'group-v5': ('Project (q)', 'group-v2')}

    def left(self, gone=(), **changed):
        """The known folders (morefs) after a report."""
        ops = Ops()
        ops._folder_cache.update({
            path: references.Ref('Folder', moref)
            for path, moref in self.PATHS.items()})
        ops.check_folders(self.REPORTED, (), ())
        changed = {f'group-{name}': seen for name, seen in changed.items()}
        ops.check_folders(
            {moref: seen for moref, seen in self.REPORTED.items()
             if moref not in gone} | changed, {*changed, *gone}, gone)
        return sorted(ref.value for ref in ops._folder_cache.values())

    def test_those_that_are_as_they_were_stay_known(self):
        self.assertEqual(sorted(self.REPORTED), self.left())

    def test_a_renamed_one_is_forgotten_with_those_in_it(self):
        self.assertEqual(['group-v1', 'group-v2', 'group-v5'],
                         self.left(v3=('old', 'group-v2')))

    def test_a_moved_one_is_forgotten(self):
        self.assertEqual(['group-v1', 'group-v2', 'group-v3', 'group-v4'],
                         self.left(v5=('Project (q)', 'group-v9')))

    def test_a_removed_one_is_forgotten(self):
        self.assertEqual(['group-v1', 'group-v2', 'group-v5'],
                         self.left(gone={'group-v3', 'group-v4'}))

    def test_one_that_was_not_reported_yet_stays_known(self):
        ops = Ops()
        ops._folder_cache['/datacenter-1/OpenStack'] = PARENT
        ops.check_folders({}, (), ())
        self.assertEqual({'/datacenter-1/OpenStack': PARENT},
                         ops._folder_cache)


_NAMES = ('a', 'b', 'b%2fc')
_MOREFS = ('group-v1', 'group-v2', 'group-v3', 'group-v4', 'group-v5')
_PATHS = ['/dc', *[f'/dc/{one}' for one in 'ab'],
          *[f'/dc/{one}/{other}' for one in 'ab' for other in 'ab'],
          '/dc/a/b/a', '/dc/a/b/b']
# A path becomes known; a folder is reported, renamed, moved or removed.
EVENTS: Any = strategies.one_of(
    strategies.tuples(strategies.just('known'),
                      strategies.sampled_from(_PATHS),
                      strategies.sampled_from(_MOREFS)),
    strategies.tuples(strategies.just('reported'),
                      strategies.sampled_from(_MOREFS), strategies.tuples(
                          strategies.sampled_from(_NAMES),
                          strategies.sampled_from((*_MOREFS, 'group-d')))),
    strategies.tuples(strategies.just('removed'),
                      strategies.sampled_from(_MOREFS), strategies.none()),
    strategies.tuples(strategies.just('settled'), strategies.none(),
                      strategies.none()))


class KnownFoldersTestCase(unittest.TestCase):
    """A check looks at what changed, and finds what is wrong of all."""

    @staticmethod
    def right(known, reported, gone):
        """Of all known folders those that are as they are reported."""
        wrong = set()
        for path, folder in sorted(known.items()):
            above, _, name = path.rpartition('/')
            seen, parent = reported.get(folder.value), known.get(above)
            if above and (above in wrong or folder.value in gone or seen and (
                    model.plain_name(seen[0]) != model.plain_name(name)
                    or parent and parent.value != seen[1])):
                wrong.add(path)
        return {path: folder for path, folder in known.items()
                if path not in wrong}

    @hypothesis.given(strategies.lists(EVENTS, max_size=30))
    def test_a_check_is_as_though_it_looked_at_all(self, events):
        found, expected = folders.KnownFolders(), {}
        reported, changed, gone = {}, set(), set()
        for kind, one, other in events:
            if kind == 'known':
                folder = references.Ref('Folder', other)
                found.setdefault(one, folder)
                expected.setdefault(one, folder)
            elif kind == 'reported':
                reported[one] = other
                changed.add(one)
            elif kind == 'removed':
                reported.pop(one, None)
                changed.add(one)
                gone.add(one)
            else:
                right = self.right(expected, reported, gone)
                self.assertEqual(expected.keys() - right.keys(),
                                 found.check(reported, changed, gone))
                self.assertEqual(right, found)
                expected, changed, gone = right, set(), set()

    def test_a_path_with_another_folder_is_looked_up_again(self):
        known = folders.KnownFolders()
        known['/dc/a'] = references.Ref('Folder', 'group-v1')
        known.check({}, (), ())
        known['/dc/a'] = references.Ref('Folder', 'group-v2')
        self.assertEqual({'/dc/a'}, known.check({}, ['group-v1'],
                                                ['group-v1']))
        self.assertEqual({}, known)

    def calls_of_checks(self, projects):
        """How many functions checks of single folders call."""
        known, reported = folders.KnownFolders(), {}

        def seen(path, moref, parent):
            reported[moref] = path.rpartition('/')[2], parent
            known[path] = references.Ref('Folder', moref)
        seen('/dc/OpenStack', 'group-v1', 'group-d')
        for number in range(projects):
            path = f'/dc/OpenStack/Project ({number})'
            seen(path, f'group-p{number}', 'group-v1')
            seen(f'{path}/Volumes', f'group-s{number}', f'group-p{number}')
        known.check(reported, reported, ())
        found = {}
        for what, moref, now in (
                ('nothing', 'group-p1', reported['group-p1']),
                ('renamed', 'group-p1', ('old', 'group-v1')),
                ('moved', 'group-p2', ('Project (2)', 'group-d')),
                ('removed', 'group-p3', None)):
            reported[moref] = now
            if now is None:
                del reported[moref]
            calls = []
            sys.setprofile(lambda frame, event, argument, calls=calls:
                           calls.append(event))
            try:
                wrong = known.check(reported, [moref], () if now else [moref])
            finally:
                sys.setprofile(None)
            found[what] = len(calls), len(wrong)
        return found

    def test_one_change_takes_as_many_calls_at_any_number_of_projects(self):
        few, many = map(self.calls_of_checks, (10, 1000))
        self.assertEqual(few, many)
        self.assertEqual([0, 2, 2, 2], [wrong for _calls, wrong
                                        in many.values()])


if __name__ == '__main__':
    unittest.main()
