# SPDX-License-Identifier: Apache-2.0
"""The place of an image's disk."""

import types
import unittest
from unittest import mock

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
        None, None, None, None, None, str).place_of(None)


class CacheTestCase(unittest.TestCase):
    """An image is left to Cinder's cache."""

    def clone(self, record, is_native, cached=True):
        """Whether it is left, and whether its download is direct."""
        service = types.SimpleNamespace(download=print)
        cinder = types.SimpleNamespace(
            configuration=types.SimpleNamespace(safe_get=lambda _: cached),
            original=types.SimpleNamespace(
                clone_image=lambda *_: (None, True)))
        with mock.patch.object(images.concurrency, 'on_native_threads',
                               lambda: is_native):
            _, done = images.Images(
                cinder, None, None, None, None, None, None, str).clone_image(
                    None, None, None, record, service)
        return not done, service.download is not print

    def test_on_native_threads_it_is_downloaded_directly(self):
        record = {'id': 'image', 'disk_format': 'vmdk', 'properties': {}}
        self.assertEqual((True, False), self.clone(record, False))
        self.assertEqual((True, True), self.clone(record, True))
        self.assertEqual((False, False), self.clone(record, True, False))

    def test_a_signed_one_is_not_left_to_it_on_native_threads(self):
        record = {'id': 'image', 'disk_format': 'vmdk',
                  'properties': {'img_signature': 'x'}}
        self.assertEqual((True, False), self.clone(record, False))
        self.assertEqual((False, False), self.clone(record, True))


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
