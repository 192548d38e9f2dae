# SPDX-License-Identifier: Apache-2.0
"""The place of an image's disk."""

import types
import unittest

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.volumes import images


def place_of(folder, own, *names):
    """:param own: the datastore of the VM, datastore-0 being the first"""
    ops = types.SimpleNamespace(
        home_folder=lambda _vm: folder,
        get_datastore=lambda _vm: types.SimpleNamespace(value=own))
    inventory = worlds.inventory(*(
        worlds.datastore(f'datastore-{n}', name)
        for n, name in enumerate(names)))
    return images.Images(
        types.SimpleNamespace(volumeops=ops),
        types.SimpleNamespace(inventory=lambda: inventory),
        None, None, None, None, str).place_of(None)


class PlaceTestCase(unittest.TestCase):
    """C10: a path is split at names of datastores that there are."""

    def test_brackets_belong_to_the_datastore_or_to_the_folder(self):
        for own, expected in (('datastore-0', ('a', 'b] c/')),
                              ('datastore-1', ('a] b', 'c/'))):
            self.assertEqual(expected, place_of('[a] b] c', own,
                                                'a', 'a] b'))
        self.assertEqual(('a] b', 'c/'),
                         place_of('[a] b] c', 'datastore-0', 'a] b'))

    def test_the_name_is_spelt_as_the_path_has_it(self):
        for spelt in ('x%2fy', 'x/y'):
            self.assertEqual((spelt, 'c/'), place_of(
                f'[{spelt}] c', 'datastore-0', 'x%2fy'))

    def test_what_no_datastore_is_called_is_an_error(self):
        with self.assertRaisesRegex(exceptions.TransferFailed, 'b'):
            place_of('[b] c', 'datastore-0', 'a')


if __name__ == '__main__':
    unittest.main()
