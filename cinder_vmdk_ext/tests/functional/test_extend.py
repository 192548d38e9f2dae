# SPDX-License-Identifier: Apache-2.0
"""Volumes grow in place, at the instance, or on another datastore."""

from cinder import exception

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class ExtendTestCase(backend_case.BackendCase):
    """A volume grows, wherever it is and in whatever state."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def test_in_place(self):
        volume = self.create(content=content('kept'))
        self.driver.extend_volume(volume, 3)
        self.assertEqual(3, self.truth(volume).size_gib)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def test_moving_when_the_datastore_is_full(self):
        type_id = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.create(type_id=type_id, content=content('kept'))
        filler = self.create(size_gib=98, type_id=type_id)
        self.driver.extend_volume(volume, 5)
        self.assertEqual(5, self.truth(volume).size_gib)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))
        pool = self.truth(volume).datastore
        self.assertNotEqual('LocalDS_1', pool)
        self.assert_on(pool, volume)
        self.assert_on('LocalDS_1', filler)

    def test_no_space_anywhere_leaves_the_volume_as_it_was(self):
        type_id = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.create(type_id=type_id)
        self.assertRaises(exceptions.NoPlacement,
                          self.driver.extend_volume, volume, 500)
        self.assertEqual(1, self.truth(volume).size_gib)
        self.assert_on('LocalDS_1', volume)

    def test_while_attached(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        self.driver.extend_volume(volume, 4)
        self.assertEqual(4, self.truth(volume).size_gib)
        self.assertEqual(4 << 30, self.disk_on(instance,
                                               volume).capacityInBytes)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))

    def linked_clone(self):
        """A volume, and a linked clone of it."""
        type_id = self.volume_type('linked', clone_type='linked')['id']
        source = self.create(content=content('source'))
        clone = self.new_volume(type_id=type_id)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        return source, clone

    def refused(self, volume, instance):
        """A sentence names the disk that the attached one depends on."""
        disk = self.disk_on(instance, volume)
        error = self.assertRaises(exception.InvalidVolume,
                                  self.driver.extend_volume, volume, 2)
        self.assertIn(disk.backing.fileName, str(error))
        self.assertIn(disk.backing.parent.fileName, str(error))
        self.assertEqual(1 << 30, self.disk_on(instance,
                                               volume).capacityInBytes)

    def test_an_attached_linked_clone_is_refused_until_it_is_detached(self):
        source, clone = self.linked_clone()
        instance = self.attach(clone)
        self.refused(clone, instance)
        self.detach(clone, instance)
        self.driver.extend_volume(clone, 2)
        self.assertEqual(2, self.truth(clone).size_gib)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))

    def test_an_attached_disk_with_a_cow_snapshot_is_refused(self):
        volume = self.create()
        self.snapshot(volume)
        self.refused(volume, self.attach(volume))

    def test_a_linked_clone_becomes_a_full_one(self):
        source, clone = self.linked_clone()
        self.driver.extend_volume(clone, 2)
        truth = self.truth(clone)
        self.assertEqual(2, truth.size_gib)
        self.assertIsNone(truth.disk.backing.parent)
        self.assertEqual(content('source'), self.read(clone, 64 * 1024))
        self.assertEqual({source.name, clone.name}, set(self.shadow_vms()))
