# SPDX-License-Identifier: Apache-2.0
"""Names and paths in an operator's form and in the vCenter's."""

import types
import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import vcenter

ROOT = references.Ref('Folder', 'group-d1')
PLACE = references.Ref('Datacenter', 'datacenter-1')
FOUND = {
    ROOT: {'name': 'Datacenters'},
    PLACE: {'name': 'DC', 'parent': ROOT},
    references.Ref('Datastore', 'datastore-1'): {
        'name': 'a%2fb', 'parent': PLACE},
    references.Ref('Datastore', 'datastore-2'): {
        'name': 'twin', 'parent': PLACE},
    references.Ref('Datastore', 'datastore-3'): {'name': 'twin'},
}


class NamesTestCase(unittest.TestCase):

    def test_an_object_is_found_by_its_plain_name_or_reference(self):
        for name in 'a/b', 'datastore-1':
            self.assertEqual('datastore-1', vcenter.chosen(
                'Datastore', name, FOUND).value)

    def test_a_name_that_several_have_asks_for_the_reference(self):
        with self.assertRaisesRegex(exceptions.UnknownObject,
                                    "'datastore-2', 'datastore-3'"):
            vcenter.chosen('Datastore', 'twin', FOUND)

    def test_a_name_that_there_is_not_names_those_that_there_are(self):
        with self.assertRaisesRegex(exceptions.UnknownObject,
                                    "there are 'a/b', 'twin'"):
            vcenter.chosen('Datastore', 'no', FOUND)
        with self.assertRaisesRegex(exceptions.UnknownObject, 'none'):
            vcenter.chosen('HostSystem', 'no', FOUND, 'host')

    def test_a_datacenter_that_cannot_be_seen_is_an_error(self):
        self.assertEqual(PLACE, vcenter.datacenter(
            references.Ref('Datastore', 'datastore-1'), FOUND))
        with self.assertRaises(exceptions.StorageRefused):
            vcenter.datacenter(references.Ref('Datastore', 'datastore-3'),
                               FOUND)


class FindTestCase(unittest.TestCase):

    def test_of_all_objects_the_names_alone_are_read(self):
        read = []
        found = vcenter.Vcenter(types.SimpleNamespace(), object())
        found.all = lambda **paths: read.append(paths) or FOUND
        found.properties = lambda ref, *paths: (
            read.append((ref.value, *paths)) or {'host': 'its own'})
        ref, facts = found.find('Datastore', 'a/b', 'host')
        self.assertEqual('datastore-1', ref.value)
        self.assertEqual(('a%2fb', 'its own'), (facts['name'], facts['host']))
        self.assertEqual([{'Datastore': ('name',)}, ('datastore-1', 'host')],
                         read)

    def test_the_extension_is_the_one_that_upstream_registers(self):
        self.assertEqual(upstream.EXTENSION_KEY, vcenter.CINDER)


class PathsTestCase(unittest.TestCase):

    def test_paths_within_a_datastore_are_taken(self):
        for path in 'a.vmdk', 'a/b c.vmdk', 'ä/..b/c..vmdk', '%41/a.vmdk':
            vcenter.check_path(path)

    def test_paths_that_lead_elsewhere_are_refused(self):
        for path in ('', ' ', '/a', '../a', 'a/../b', 'a//b', 'a/', './a',
                     'a\\b', 'a\0b', 'a\nb'):
            with self.subTest(path), self.assertRaises(
                    exceptions.StorageRefused):
                vcenter.check_path(path)

    def test_only_the_datastores_name_is_decoded(self):
        self.assertEqual('[a/b] %2f/x.vmdk',
                         vcenter.plain_path('[a%2fb] %2f/x.vmdk'))
