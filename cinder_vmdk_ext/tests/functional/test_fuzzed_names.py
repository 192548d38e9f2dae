# SPDX-License-Identifier: Apache-2.0
"""Names of users, in any script and with any character."""

from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.functional import backend_case

# Of datastores every other one is tried.
# vSphere's names have less than 80 characters.
LONGEST = 79
NAMES = ('данные', 'データストア', '@#%&+=?', "a'b\"c", '..%', 'a%2fb',
         '[x] y', 'a;b|c$(d)', '\U0001f4be disk', '\u202egnp.x', 'x' * LONGEST)
# No XML can hold these.
CONTROL = 'a\x00b\x0bc\x1fd\ufffe'


class NamesTestCase(backend_case.BackendCase):

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def rename(self, datastore, name):
        before = datastore.name
        datastore.RenameDatastore(name)
        self.undo = lambda: datastore.RenameDatastore(before)

    def test_of_datastores(self):
        for name in NAMES[::2]:
            with self.subTest(name):
                datastore = self.datastore('LocalDS_1')
                self.rename(datastore, name)
                try:
                    if ']' in name:
                        self.fail_on(name)
                    else:
                        self.live_on(name)
                finally:
                    self.undo()
                    self.catch_up()

    def fail_on(self, name):
        """In a path a bracket ends the name of the datastore."""
        self.report()
        self.assertRaises(exceptions.VimException, self.create, name)
        self.assertEqual({}, self.shadow_vms())

    def live_on(self, name):
        """A volume's life on a datastore of that name."""
        # A pool's name is part of a host, where some signs are escaped.
        [name] = {pool['pool_name'] for pool in self.report()['pools']} - {
            'LocalDS_0', 'LocalDS_2', 'LocalDS_3'}
        volume = self.create(name, content=b'content')
        snapshot = self.snapshot(volume)
        for pool in ('LocalDS_2', name):
            moved, _update = self.driver.migrate_volume(
                self.context, volume, self.there(pool))
            self.assertTrue(moved)
            volume.host = f'{backend_case.HOST}#{pool}'
            volume.save()
            where = self.truth(volume).datastore
            self.assertEqual(pool == 'LocalDS_2', where == 'LocalDS_2')
            self.report()
            self.assertEqual(volume.host, self.fresh(volume).host)
            self.assertEqual(b'content', self.read(volume, 7))
        self.driver.delete_snapshot(snapshot)
        self.driver.delete_volume(volume)
        self.assertEqual({}, self.shadow_vms())

    def test_of_snapshots(self):
        volume = self.create()
        for text in (*NAMES, CONTROL, ''):
            with self.subTest(text):
                snapshot = self.new_snapshot(volume)
                snapshot.display_description = text
                snapshot.display_name = text
                self.driver.create_snapshot(snapshot)
                tree = self.truth(volume).vm.snapshot
                self.assertEqual(snapshot.name,
                                 tree.rootSnapshotList[0].name)
                self.driver.delete_snapshot(snapshot)

    def test_of_projects(self):
        longest = LONGEST - len('Project ()')
        for name in (*NAMES, '../../x', 'a/b', '..'):
            with self.subTest(name):
                volume = self.new_volume(project_id=name[:longest])
                self.made(volume, self.driver.create_volume(volume))
                folder = self.truth(volume).vm.parent.parent
                self.assertEqual('OpenStack', folder.parent.name)
                self.driver.delete_volume(volume)
