# SPDX-License-Identifier: Apache-2.0
"""Disks that others moved are followed, attached or not."""

from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import backend_case

content = backend_case.content


class FollowTestCase(backend_case.BackendCase):
    """Moves and renames that Cinder did not make."""

    def test_a_disk_that_others_moved_is_followed_in_one_report(self):
        volume = self.create()
        self.report()
        self.wait(self.truth(volume).vm.RelocateVM_Task(
            vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_3'))))
        self.report()
        self.assert_on('LocalDS_3', volume)

    def test_a_renamed_datastore_is_followed_in_one_report(self):
        volume = self.create('LocalDS_3')
        self.report()
        self.datastore('LocalDS_3').RenameDatastore('gold#1')
        self.addCleanup(lambda: self.datastore('gold#1').RenameDatastore(
            'LocalDS_3'))
        self.report()
        self.assertEqual(f'{backend_case.HOST}#gold%231',
                         self.fresh(volume).host)

    def test_an_attached_disk_that_storage_drs_moved_is_followed(self):
        volume = self.create(content=content('kept'))
        instance = self.attach(volume)
        self.report()
        disk = self.disk_on(instance, volume)
        self.control.call('POST', '/sdrs/move', {
            'vm': instance.name, 'disk': str(disk.key),
            'datastore': 'LocalDS_3'})
        moved = self.disk_on(instance, volume).backing.fileName
        self.assertNotEqual(disk.backing.fileName, moved)
        self.report()
        self.assert_on('LocalDS_3', volume)
        self.assertEqual(moved, self.truth(volume).path)
        self.assertEqual(content('kept'), self.read(volume, 64 * 1024))
