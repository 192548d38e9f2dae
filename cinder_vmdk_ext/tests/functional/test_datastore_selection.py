# SPDX-License-Identifier: Apache-2.0
"""A promised volume, and a datastore that gets another's name."""

import itertools

from pyVmomi import vim

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case


class PromiseTestCase(backend_case.BackendCase):

    OPTIONS = {'vmware_lazy_create': True}

    def setUp(self):
        super().setUp()
        self.exports = itertools.count()
        self.first = self.make_datastore()
        self.volume = self.create('Space')

    def make_datastore(self):
        """One called 'Space', on storage of its own."""
        mounts = vim.host.NasVolume.Specification(
            remoteHost='nas.example.org', localPath='Space', type='NFS',
            remotePath=f'/{self.id()}/{next(self.exports)}',
            accessMode='readWrite')
        for host in self.all(vim.HostSystem):
            made = host.configManager.datastoreSystem.CreateNasDatastore(
                mounts)
        self.addCleanup(self.remove, made)
        self.catch_up()
        return made

    def remove(self, datastore):
        self._remove_shadow_vms()
        if datastore in self.all(vim.Datastore):
            self.wait(datastore.Destroy_Task())
        self.catch_up()

    def attach_first(self):
        volume = self.fresh(self.volume)
        self.driver.initialize_connection(volume, {
            'instance': self.instances()[0]._moId, 'ip': '127.0.0.1',
            'host': 'compute'})

    def test_it_is_made_where_it_was_promised(self):
        self.attach_first()
        self.assert_on('Space', self.volume)
        volume = self.fresh(self.volume)
        self.assertTrue(state.is_backed(volume))
        self.assertIsNone(volume.provider_location)

    def test_it_is_not_made_on_a_younger_one_of_that_name(self):
        self.remove(self.first)
        self.make_datastore()
        error = self.assertRaises(exceptions.PromiseLost, self.attach_first)
        for word in (self.volume.id, 'Space', 'cinder migrate'):
            self.assertIn(word, str(error))
        self.assertEqual({}, self.shadow_vms())
        self.assertTrue(state.is_promised(self.fresh(self.volume)))

    def test_migrated_it_is_made_on_the_other_pool(self):
        self.remove(self.first)
        self.make_datastore()
        volume = self.fresh(self.volume)
        there = self.there('LocalDS_3')
        moved, update = self.driver.migrate_volume(self.context, volume,
                                                   there)
        self.assertTrue(moved)
        volume.update({'host': there['host'], **update})
        volume.save()
        self.attach_first()
        self.assert_on('LocalDS_3', self.volume)

    def test_retyped_it_is_made_on_the_other_pool(self):
        volume = self.fresh(self.volume)
        there = self.there('LocalDS_2')
        done, update = self.driver.retype(
            self.context, volume, self.volume_type('thick',
                                                   vmdk_type='thick'),
            {}, there)
        self.assertTrue(done)
        volume.update({'host': there['host'], **update})
        volume.save()
        self.remove(self.first)
        self.attach_first()
        self.assert_on('LocalDS_2', self.volume)

    def test_it_follows_its_datastore_to_another_name(self):
        self.first.RenameDatastore('Former')
        self.make_datastore()
        self.attach_first()
        self.assertEqual(self.first, self.truth(
            self.volume).disk.backing.datastore)
        self.report()
        self.assert_on('Former', self.volume)

    def test_at_a_start_its_host_follows_too(self):
        self.first.RenameDatastore('Former')
        self.make_datastore()
        self.driver.update_provider_info([self.fresh(self.volume)], [])
        self.assertEqual(f'{backend_case.HOST}#Former',
                         self.fresh(self.volume).host)
