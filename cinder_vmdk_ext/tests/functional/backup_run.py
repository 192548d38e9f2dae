# SPDX-License-Identifier: Apache-2.0
"""More of test_backups, which `make test` has no time for.

    python -m unittest cinder_vmdk_ext.tests.functional.backup_run
"""

from unittest import mock

from cinder import exception
from cinder import objects

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backup_case
from cinder_vmdk_ext.volumes import backup_files

FIRST, SECOND = backup_case.FIRST, backup_case.SECOND


class MoreBackupsTestCase(backup_case.BackupCase):

    def test_a_snapshot(self):
        volume = self.filled()
        snapshot = self.snapshot(volume)
        self.write(volume, SECOND)
        backup = self.back_up(volume, snapshot=snapshot)
        snapshot.refresh()
        self.assertEqual('available', snapshot.status)
        target = self.create()
        self.restore(backup, target)
        self.assert_content(FIRST, target)
        self.assertEqual(SECOND, self.read(volume, len(SECOND)))

    def test_a_raw_backup_that_begins_like_a_vmdk_stays_raw(self):
        data = disk_images.stream_optimized(FIRST)
        volume = self.filled(data)
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.restore(backup, volume)
        self.assert_content(data, volume)

    def test_a_volume_without_a_disk_yet(self):
        self.set_options(vmware_lazy_create=True)
        volume, target = self.create(), self.create()
        self.restore(self.back_up(volume), target)
        self.assertEqual(1, self.truth(target).size_gib)
        self.assertEqual(bytes(len(FIRST)), self.read(target, len(FIRST)))
        self.assertIsNone(self.truth(volume))
        self.assertEqual([], self.files())


class MoreBrokenOffTestCase(backup_case.BackupCase):

    def test_a_disk_that_cannot_be_read(self):
        volume = self.filled()
        self.control.fault(method='ExportVm', fault={'type': 'InvalidState'})
        self.assertRaises(exception.VolumeBackendAPIException, self.back_up,
                          volume)
        [backup] = objects.BackupList.get_all(self.context)
        self.assert_failed('ExportVm', backup)
        self.assertEqual('available', self.fresh(volume).status)
        self.assert_nothing_left(volume)

    def test_a_temporary_copy_that_cannot_be_made(self):
        volume = self.filled()
        instance = self.attach(volume)
        self.control.fault(method='CloneVM_Task',
                           task_fault={'type': 'NoDiskSpace'})
        self.assertRaises(exception.VolumeBackendAPIException, self.back_up,
                          volume)
        self.assertEqual('in-use', self.fresh(volume).status)
        self.detach(volume, instance)
        self.assert_nothing_left(volume)

    def test_a_folder_without_space(self):
        volume = self.filled()
        with mock.patch.object(backup_files, 'SPARE_BYTES', 1 << 60):
            self.assertRaises(exception.VolumeBackendAPIException,
                              self.back_up, volume)
        [backup] = objects.BackupList.get_all(self.context)
        self.assert_failed('vmdk_ext_backup_dir', backup)
        self.assert_nothing_left(volume)

    def test_a_restore_that_is_cancelled(self):
        def cancel(backup):
            backup.status = 'available'
            backup.save()
            raise exception.BackupRestoreCancel(back_id='b', vol_id='v')
        volume = self.interrupted(cancel)
        self.assertEqual('error', volume.status)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_volume_with_cow_snapshots_is_left_alone(self):
        self.set_options(vmware_snapshot_format='COW')
        volume = self.filled()
        self.snapshot(volume)
        backup = self.back_up(volume)
        caught = self.assertRaises(exception.VolumeBackendAPIException,
                                   self.restore, backup, volume)
        self.assertIn('COW snapshots', str(caught))
        self.assert_content(FIRST, volume)
        self.assertEqual([], self.files())

    def test_a_file_that_was_not_complete_is_removed_at_the_start(self):
        volume = self.killed(backup_files.OFFERED)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_restore_for_which_the_vcenter_has_no_space(self):
        volume = self.interrupted(lambda backup: self.control.fault(
            method='ImportVApp', fault={'type': 'NoDiskSpace'}))
        self.assertEqual('error_restoring', volume.status)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)
