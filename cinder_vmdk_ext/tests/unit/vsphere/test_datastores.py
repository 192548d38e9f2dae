# SPDX-License-Identifier: Apache-2.0
"""Arguments that no vCenter accepts are refused without a call."""

import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit.vsphere import storage_stub
from cinder_vmdk_ext.vsphere import datastores

FOUND = datastores.Datastores(storage_stub.NO_VCENTER)


class DatastoresTestCase(unittest.TestCase):

    def refused(self, words, method, *args, **more):
        with self.assertRaisesRegex(exceptions.StorageRefused, words):
            method(*args, **more)

    def test_a_name_has_1_to_42_characters(self):
        for name in '', ' ', 'x' * 43, 'a\nb':
            self.refused('no name', FOUND.create_vmfs, name, 'host', 'naa.1')
            self.refused('no name', FOUND.rename, 'old', name)

    def test_an_export_has_a_server_and_an_absolute_path(self):
        for servers, path, words in (
                ([], '/x', 'name the server'), ([' '], '/x', 'name the'),
                (['a', 'b'], '/x', 'NFS 3 takes one'),
                (['a'], 'x', 'no export')):
            self.refused(words, FOUND.create_nfs, 'n', servers, path)

    def test_a_local_datastore_has_an_absolute_path(self):
        self.refused('no folder', FOUND.create_local, 'n', 'host', 'x')

    def test_a_folder_to_browse_lies_within_the_datastore(self):
        self.refused('no path', FOUND.browse, 'n', '../x')

    def test_io_control_is_set_within_its_range(self):
        for more, words in (({}, 'nothing'),
                            ({'percent': 49}, '50 to 100'),
                            ({'threshold_ms': 101}, '5 to 100'),
                            ({'percent': 60, 'threshold_ms': 9}, 'not both')):
            self.refused(words, FOUND.set_io, 'n', **more)

    def test_a_host_can_use_what_it_can_write_to(self):
        self.assertEqual(
            [True, False, False, False],
            [datastores.Mount('h', *each).usable for each in (
                (True, True, 'readWrite'), (True, True, 'readOnly'),
                (True, False, 'readWrite'), (False, True, 'readWrite'))])
