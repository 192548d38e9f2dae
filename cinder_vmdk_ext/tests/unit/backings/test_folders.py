# SPDX-License-Identifier: Apache-2.0
"""Datacenters are read from memory; an existing folder is used."""

import types
import unittest

from oslo_vmware import exceptions

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import folders
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
        ops._folder_cache = {path: references.Ref('Folder', moref)
                             for path, moref in self.PATHS.items()}
        ops.check_folders(
            {moref: seen for moref, seen in self.REPORTED.items()
             if moref not in gone}
            | {f'group-{name}': seen for name, seen in changed.items()}, gone)
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
        ops.check_folders({}, ())
        self.assertEqual({'/datacenter-1/OpenStack': PARENT},
                         ops._folder_cache)


if __name__ == '__main__':
    unittest.main()
