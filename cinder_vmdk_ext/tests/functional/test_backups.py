# SPDX-License-Identifier: Apache-2.0
"""Volumes are backed up and restored without the vCenter's password."""

import contextlib
import errno
import json
import math
import os
import stat
import threading
import time
from unittest import mock

from oslo_db import exception as db_exception

from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field
from cinder import objects
from cinder.volume import qos_specs

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import backup_case
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import backups
from cinder_vmdk_ext.volumes import host_space
from simulator import observer

FIRST, SECOND = backup_case.FIRST, backup_case.SECOND
LATER = backup_case.LATER


class BackupsTestCase(backup_case.BackupCase):

    VCENTER = backup_case.BackupCase.VCENTER | {
        'policy': ['gold=LocalDS_0,LocalDS_1']}

    def set_policy(self, *datastores):
        self.control.call('POST', '/policies', {'Name': 'gold',
                                                'Datastores': datastores})
        self.driver.backend.directory.forget()

    def test_a_volume_goes_to_where_the_restored_disk_may_be(self):
        self.addCleanup(self.set_policy, 'LocalDS_0', 'LocalDS_1')
        kind = self.volume_type('gold', storage_profile='gold')['id']
        volume = self.filled(type_id=kind)
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.assert_on('LocalDS_1', volume)
        # Cinder leaves this for ever.
        volume.migration_status = 'success'
        volume.save()
        self.set_policy('LocalDS_0')
        self.assertEqual('available', self.restore(backup, volume).status)
        self.assert_on('LocalDS_0', volume)
        self.assert_content(FIRST, volume)
        self.assertEqual(['gold'], self.policies(volume))
        self.assert_nothing_left(volume)

    def policies(self, volume):
        truth = self.truth(volume)
        return observer.policies_of_disk(observer.policy_service(
            self.vcenter, self.service), truth.vm, truth.disk)

    def test_a_volume_without_a_disk_yet_gets_the_policy_too(self):
        kind = self.volume_type('gold', storage_profile='gold')['id']
        backup = self.back_up(self.filled(type_id=kind))
        self.set_options(vmware_lazy_create=True)
        volume = self.create(type_id=kind)
        self.assertEqual('available', self.restore(backup, volume).status)
        self.assert_content(FIRST, volume)
        self.assertEqual(['gold'], self.policies(volume))

    def test_a_policy_that_is_gone_is_named_before_anything_is_read(self):
        self.addCleanup(self.set_policy, 'LocalDS_0', 'LocalDS_1')
        kind = self.volume_type('gold', storage_profile='gold')['id']
        volume = self.create(type_id=kind)
        self.control.call('DELETE', '/policies', name='gold')
        self.driver.backend.directory.forget()
        self.begin_restore(self.new_backup(volume), volume)
        caught = self.assertRaises(
            exceptions.UnknownPolicy, self.driver.initialize_connection,
            volume, self.connector)
        self.assertIn("'gold'", str(caught))
        self.assertEqual([], self.files())

    def test_a_restore_gives_the_volume_its_content_back(self):
        kind = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.filled(type_id=kind)
        before, adapter = self.checksum(volume), self.truth(volume).adapter
        backup = self.back_up(volume)
        self.assertEqual(('available', None, 'available'),
                         (backup.status, backup.fail_reason,
                          self.fresh(volume).status))
        self.write(volume, SECOND, 1 << 20)
        self.assertEqual('available', self.restore(backup, volume).status)
        truth = self.truth(volume)
        self.assertEqual(before, self.checksum(volume))
        self.assertEqual(
            (volume.id, 1, 'thick', adapter),
            (truth.disk.backing.uuid, truth.size_gib, truth.provisioning,
             truth.adapter))
        self.assert_nothing_left(volume)
        self.assert_home(volume)

    def test_no_other_user_can_read_the_file_or_a_password(self):
        modes = []

        def look():
            for name in ('', *self.files()):
                found = os.stat(os.path.join(self.folder, name))
                modes.append(stat.S_IMODE(found.st_mode) & 0o077)
        self.enterContext(mock.patch.object(
            backup_case.SparseDriver, 'meanwhile', staticmethod(look)))
        volume = self.filled()
        self.restore(self.back_up(volume), volume)
        self.assertEqual([0] * 6, modes)
        self.assertEqual(['local'] * 2, [info['driver_volume_type']
                                         for info in self.calls.infos])
        self.assertNotIn(self.vcenter.password, json.dumps(self.calls.infos))

    def test_a_larger_new_volume_holds_zeros_behind_the_content(self):
        volume = self.filled()
        larger = self.create(size_gib=2)
        self.restore(self.back_up(volume), larger, is_new=True)
        self.assert_content(FIRST, larger)
        self.assertEqual(2, self.truth(larger).size_gib)
        self.assert_nothing_left(volume, larger)

    def test_an_attached_volume(self):
        volume = self.filled()
        instance = self.attach(volume)
        backup = self.back_up(volume)
        self.assertEqual(('available', None),
                         (backup.status, backup.fail_reason))
        self.assertEqual('in-use', self.fresh(volume).status)
        target = self.create()
        self.restore(backup, target, is_new=True)
        self.assert_content(FIRST, target)
        self.detach(volume, instance)
        self.assert_nothing_left(volume, target)

    def test_an_increment_of_what_os_brick_made_is_refused(self):
        volume = self.filled()
        parent = self.back_up(volume)
        parent.metadata = {}
        parent.save()
        self.assertRaises(exception.VolumeBackendAPIException, self.back_up,
                          volume, parent)
        [made] = [each for each in objects.BackupList.get_all(self.context)
                  if each.parent_id]
        self.assert_failed('a full backup is needed', made)
        self.assertEqual('available', self.fresh(volume).status)
        self.assert_nothing_left(volume)

    def test_a_vmdk_that_os_brick_backed_up_is_restored_as_a_disk(self):
        volume = self.filled(SECOND)
        backup = self.back_up(volume)
        backup.metadata = {}
        backup.save()
        data = disk_images.stream_optimized(FIRST.ljust(LATER, b'\0') + FIRST)
        backup_case.SparseDriver.kept[backup.id] = [(0, data)], len(data)
        self.restore(self.backup(backup), volume)
        self.assert_content(FIRST, volume)
        self.assertEqual(1, self.truth(volume).size_gib)
        self.assert_nothing_left(volume)

    # -- Space of the folder -------------------------------------------------

    def with_free(self, count_bytes):
        """While the file system has so much beside what is left to it."""
        return mock.patch.object(
            host_space, 'free_bytes',
            return_value=backup_files.SPARE_BYTES + count_bytes)

    def failing(self, volume, error=exception.VolumeBackendAPIException):
        """A backup that fails, and the ERROR lines of it."""
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assertRaises(error, self.back_up, volume)
        [backup] = objects.BackupList.get_all(self.context)
        self.assertEqual('available', self.fresh(volume).status)
        self.assert_content(FIRST, volume)
        self.assertEqual(1, len(log.output), log.output)
        return backup, log.output[0]

    def test_a_volume_that_does_not_fit_is_not_copied(self):
        volume = self.filled()
        self.control.reset_journal()
        with self.with_free(1 << 16):
            backup, line = self.failing(volume)
        words = f'{self.folder} (vmdk_ext_backup_dir) has too little space'
        self.assert_failed(words, backup)
        self.assertRegex(backup.fail_reason, r': .* needed, .* free; make')
        self.assertIn(words, line)
        self.assertNotIn('ExportVm', self.control.journal()['methods'])
        self.assertIn(('attach volume', volume.id), [
            (message_field.translate_action(each['action_id']),
             each['resource_uuid']) for each in
            message_api.API().get_all(self.context)])
        self.assert_nothing_left(volume)

    def test_what_a_thin_disk_has_not_taken_need_not_be_free(self):
        thick = self.volume_type('thick', vmdk_type='eagerZeroedThick')['id']
        find = self.driver.backend.finder.find
        most = self.driver.backend.volumeops.most_data_bytes
        thin, full = self.filled(), self.filled(type_id=thick)
        self.assertLess(most(find(thin), 1 << 30), 1 << 24)
        self.assertEqual(1 << 30, most(find(full), 1 << 30))
        with self.with_free(1 << 24):
            self.assertEqual('available', self.back_up(thin).status)

    def test_a_folder_that_becomes_full_ends_a_copy_with_the_reason(self):
        volume = self.filled()
        with mock.patch.object(backup_case.raw.os, 'pwrite',
                               side_effect=OSError(errno.ENOSPC, 'full')):
            backup, line = self.failing(volume)
        for text in backup.fail_reason, line:
            self.assertIn(f'{self.folder} (vmdk_ext_backup_dir) became full',
                          text)
        self.assert_nothing_left(volume)

    def test_a_folder_that_cannot_be_used_ends_a_backup_too(self):
        """Cinder would leave it in "creating" for ever."""
        volume = self.filled()
        self.set_options(vmdk_ext_backup_dir='/dev/null/folder')
        backup, line = self.failing(volume)
        self.assert_failed('/dev/null/folder', backup)
        self.assertIn('/dev/null/folder', line)
        self.set_options(vmdk_ext_backup_dir=self.folder)
        self.back_up(volume)

    def test_a_restore_claims_the_space_that_its_backup_may_take(self):
        volume, other = self.filled(), self.create()
        backup = self.back_up(volume)
        refused = []

        def meanwhile():
            self.begin_restore(backup, other)
            refused.append(self.assertRaises(
                exceptions.BackupRefused, self.driver.initialize_connection,
                other, self.connector))
            self.begin_restore(backup, volume)
        with mock.patch.object(
                backup_case.SparseDriver, 'meanwhile',
                staticmethod(meanwhile)), self.with_free(3 << 29):
            self.restore(backup, volume)
        self.assertRegex(
            str(refused), r'1\.25 GiB needed, 1\.75 GiB free, of which other '
            r'operations of this host will take 1\d{3}\.\d MiB')
        self.assert_content(FIRST, volume)
        self.assert_nothing_left(volume, other)
        # It has ended its claim.
        with self.with_free(3 << 29):
            self.restore(backup, other)
        self.assert_content(FIRST, other)

    def test_a_service_that_starts_claims_what_a_restore_still_needs(self):
        volume = self.filled()
        self.begin_restore(self.back_up(volume), volume)
        self.driver.initialize_connection(volume, self.connector)
        parts = self.driver.backend.backups
        parts._end_claim(volume.id)  # the process ended
        self.assertEqual({}, parts._claims)
        parts.resume(self.driver.put_restored, self.driver.delete_volume)
        self.assertEqual([volume.id], list(parts._claims))
        self.assertRaises(exceptions.BackupRefused,
                          self.driver.terminate_connection, volume,
                          self.connector)
        self.assertEqual({}, parts._claims)
        self.assert_nothing_left(volume)

    # -- Broken off ----------------------------------------------------------

    def test_a_restore_that_cinder_backup_gives_up(self):
        def fail(backup):
            raise OSError('the store is gone')
        volume = self.interrupted(fail)
        self.assertEqual('error_restoring', volume.status)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_file_that_cinder_backup_does_not_see(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.begin_restore(backup, volume)
        self.driver.initialize_connection(volume, self.connector)
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            caught = self.assertRaises(
                exceptions.BackupRefused, self.driver.terminate_connection,
                volume, self.connector)
        for text in str(caught), log.output[0]:
            self.assertIn('must see that folder', text)
        self.assertEqual([message_field.Detail.DETACH_ERROR[0]], [
            each['detail_id'] for each in
            message_api.API().get_all(self.context)])
        self.assert_content(FIRST, volume)
        self.assert_nothing_left(volume)

    def test_an_import_that_was_killed_is_finished_at_the_start(self):
        volume = self.killed(backup_files.WRITTEN)
        self.assert_imported(volume)

    def test_an_export_that_was_killed_fails_the_backup(self):
        volume = self.filled()
        backup = self.new_backup(volume)
        folder = backup_files.Folder(self.folder)
        folder.save(backup_files.FileNote(
            volume.id, backup_files.EXPORTING, backend_case.HOST,
            backend_case.HOST, backup.id))
        # Cinder's backup manager, in this process here, raises its failure.
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.driver.backend.backups.resume(self.driver.put_restored,
                                               self.driver.delete_volume)
        self.assertIn('was restarted', '\n'.join(logs.output))
        self.assert_failed('was restarted', self.backup(backup))
        self.assertEqual('available', self.fresh(volume).status)
        self.assert_nothing_left(volume)

    def test_a_snapshot_is_backed_up_while_its_volume_is(self):
        volume = self.filled()
        snapshot = self.snapshot(volume)
        connect, made = self.calls.initialize_connection, []

        def later(*args):
            if not made:
                made.append(True)
                self.back_up(volume, snapshot=snapshot)
            return connect(*args)
        self.calls.initialize_connection = later
        self.back_up(volume)
        self.assertEqual(['available'] * 2, [
            backup.status for backup
            in objects.BackupList.get_all(self.context)])
        self.assertEqual([], self.files())

    def test_a_snapshot_is_backed_up_while_its_volume_is_restored(self):
        volume = self.filled()
        snapshot = self.snapshot(volume)
        for fails, status in ((False, 'available'), (True, 'error')):
            with self.subTest(fails=fails):
                backup = self.back_up(volume)
                self.write(volume, SECOND)
                self.write(volume, SECOND, LATER)
                others = []
                self.restore_meanwhile(backup, volume, lambda: others.append(
                    self.back_up_or_not(volume, snapshot, fails)))
                self.assertEqual([status], [each.status for each in others])
                self.assert_content(FIRST, volume)
                self.assertEqual('available', objects.Snapshot.get_by_id(
                    self.context, snapshot.id).status)
                self.assertEqual([], self.files())

    def restore_meanwhile(self, backup, volume, act):
        """Restore a backup, and do something in the middle of it once."""
        left = [act]
        with mock.patch.object(
                backup_case.SparseDriver, 'meanwhile',
                staticmethod(lambda: left and left.pop()())):
            self.restore(backup, volume)

    def back_up_or_not(self, volume, snapshot, fails):
        """A backup of a snapshot; one that fails before it has a copy."""
        if not fails:
            return self.back_up(volume, snapshot=snapshot)
        made = self.new_backup(volume, snapshot=snapshot)
        rule = self.control.fault(method='CloneVM_Task',
                                  task_fault={'type': 'NoDiskSpace'})
        self.assertRaises(exceptions.VMWARE_ERRORS,
                          self.backups.create_backup, self.user_context(),
                          made)
        self.control.remove_fault(rule)
        self.assertIn('not enough space', self.backup(made).fail_reason)
        return self.backup(made)

    def test_a_copy_of_a_snapshot_that_was_killed_fails_its_backup(self):
        volume = self.filled()
        snapshot = self.snapshot(volume)
        backup = self.new_backup(volume, snapshot=snapshot)
        folder = backup_files.Folder(self.folder)
        folder.save(backup_files.FileNote(
            backup.id, backup_files.EXPORTING, backend_case.HOST,
            backend_case.HOST, backup.id, source=volume.id))
        self.driver.backend.backups.resume(self.driver.put_restored,
                                           self.driver.delete_volume)
        self.assert_failed('was restarted', self.backup(backup))
        snapshot.refresh()
        self.assertEqual('available', snapshot.status)
        self.assertEqual([], self.files())

    def test_a_file_that_somebody_removes_ends_the_restore_as_failed(self):
        volume = self.interrupted(lambda backup: [
            os.unlink(os.path.join(self.folder, name))
            for name in self.files()])
        self.assertEqual('error_restoring', volume.status)
        self.assertIn('leave the files', str(self.error))
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_note_that_somebody_removes_ends_the_restore_as_failed(self):
        put = self.driver.put_restored
        folder = backup_files.Folder(self.folder)

        def removed(volume):
            folder.remove(volume.id)
            put(volume)
        with mock.patch.object(self.driver, 'put_restored', removed):
            volume = self.interrupted(lambda backup: None)
        self.assertEqual('error_restoring', volume.status)
        self.assertIn('leave the files', str(self.error))
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_sweep_spares_what_was_written_since_it_looked(self):
        folder = backup_files.Folder(self.folder)
        note = backup_files.FileNote(
            self.create().id, backup_files.OFFERED, backend_case.HOST,
            backend_case.HOST, backend_case.HOST)
        folder.save(note)

        def ended(_note):
            folder.save(note._replace(state=backup_files.WRITTEN))
            return False
        with mock.patch.object(backups, '_is_running', ended):
            self.driver.backend.backups.sweep()
        self.assertEqual(backup_files.WRITTEN,
                         folder.note(note.volume_id).state)

    def test_an_import_longer_than_a_call_ends_with_the_status(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.enterContext(mock.patch.object(backups, '_LOOK_SECONDS', 0.05))
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        self.restore(backup, volume)
        self.until('available', volume)
        deadline = time.monotonic() + 60
        while self.files() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assert_imported(volume)

    def test_what_fails_after_the_content_is_there_fails_no_restore(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        with mock.patch.object(
                self.driver.backend.host_record, 'follow_disk',
                side_effect=exceptions.vmware_exceptions
                .VimConnectionException('no reply')), \
                self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.assertEqual('available',
                             self.restore(backup, volume).status)
        self.assertIn('no reply', '\n'.join(logs.output))
        self.assert_content(FIRST, volume)
        self.assert_nothing_left(volume)

    def left(self, backup, volume, content):
        """Restore, write anew; the file and its note were not removed."""
        with mock.patch.object(backup_files.Folder, 'remove',
                               side_effect=OSError(errno.EIO, 'broken')), \
                self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.restore(backup, volume)
        self.assertIn('broken', '\n'.join(logs.output))
        self.until('available', volume)
        self.assertEqual(2, len(self.files()))
        self.assert_content(FIRST, volume)
        self.write(volume, content)
        self.write(volume, content, LATER)

    def start_anew(self):
        """Act as a new process of the service, until no file is left."""
        driver = self.make_driver()
        driver.backend.backups.resume(driver.put_restored,
                                      driver.delete_volume)
        deadline = time.monotonic() + 60
        while self.files() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual([], self.files())

    def test_a_file_that_stays_is_not_restored_once_more(self):
        backup, volume = self.back_up(self.filled()), self.create()
        self.left(backup, volume, SECOND)
        self.start_anew()
        self.until('available', volume)
        self.assert_content(SECOND, volume)

    def test_a_file_that_stays_hinders_no_attachment(self):
        backup, volume = self.back_up(self.filled()), self.create()
        self.left(backup, volume, SECOND)
        self.driver.initialize_connection(
            volume, {'instance': self.instances()[0]._moId})
        self.driver.backend.backups.sweep()
        self.assertEqual([], self.files())

    def test_a_new_disk_of_an_import_that_was_killed_at_its_end_stays(self):
        backup = self.back_up(self.filled())
        self.set_options(vmware_lazy_create=True)
        volume = self.create()
        self.left(backup, volume, SECOND)
        self.start_anew()
        self.until('available', volume)
        self.assert_content(SECOND, volume)

    def test_a_service_that_is_killed_before_it_writes_the_status(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        self.enterContext(mock.patch.object(backups, '_LOOK_SECONDS', 0.05))
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        go, put = threading.Event(), self.driver.put_restored
        write = backups._Import._set_status

        def later(found):
            go.wait(60)
            put(found)

        def dying(begun, status, *before):
            if status == 'available':
                raise SystemExit  # ends the thread
            write(begun, status, *before)
        with mock.patch.object(backups._Import, '_set_status', dying):
            with mock.patch.object(self.driver, 'put_restored', later):
                self.restore(backup, volume)
            self.until('restoring-backup', volume)
            go.set()
            for thread in threading.enumerate():
                if thread.name.startswith('vmdk-ext-restore'):
                    thread.join(60)
        self.assertEqual('restoring-backup', self.fresh(volume).status)
        self.start_anew()
        self.assert_imported(volume)

    def test_a_status_that_cannot_be_written_at_once_is_written_later(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.enterContext(mock.patch.object(backups, '_LOOK_SECONDS', 0.05))
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        errors = [db_exception.DBConnectionError('away')] * 3
        read, ended = backups._volume, threading.Event()

        def away(volume_id):
            if (threading.current_thread().name == 'vmdk-ext-restore-status'
                    and errors):
                raise errors.pop()
            return read(volume_id)
        self.enterContext(mock.patch.object(backups, '_volume', away))
        put = self.driver.put_restored

        def failing(found):
            ended.wait(60)
            put(found)
            raise OSError('broken off')
        with mock.patch.object(self.driver, 'put_restored', failing):
            self.restore(backup, volume)
        self.until('restoring-backup', volume)
        errors += [db_exception.DBConnectionError('away')] * 3
        ended.set()
        self.until('error_restoring', volume)

    def test_a_backup_does_not_discard_what_is_still_imported(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        go = threading.Event()
        put = self.driver.put_restored

        def later(found):
            go.wait(60)
            put(found)
        with mock.patch.object(self.driver, 'put_restored', later):
            self.restore(backup, volume)
        try:
            with contextlib.suppress(exception.CinderException):
                self.back_up(volume)
        finally:
            go.set()
        deadline = time.monotonic() + 60
        while self.files() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assert_imported(volume)

    def test_a_restore_that_is_cancelled_at_its_end_is_no_success(self):
        def cancel(backup):
            backup.status = 'available'
            backup.save()
        volume = self.interrupted(cancel)
        self.assertNotEqual('available', volume.status)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_dead_backup_does_not_hinder_a_restore(self):
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        dead = self.new_backup(volume)
        self.driver.get_backup_device(self.context, dead)
        self.assertEqual(2, len(self.files()))
        self.assertEqual('available', self.restore(backup, volume).status)
        self.assert_content(FIRST, volume)
        self.assert_nothing_left(volume)

    def test_a_dead_restore_does_not_hide_that_another_one_fails(self):
        volume = self.filled()
        dead, backup = self.back_up(volume), self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        self.begin_restore(dead, volume)

        def fail():
            raise OSError('the store is gone')
        with mock.patch.object(backup_case.SparseDriver, 'meanwhile',
                               staticmethod(fail)):
            self.assertRaises(exception.CinderException, self.restore,
                              backup, volume)
        self.assertEqual('error_restoring', self.fresh(volume).status)
        self.assert_content(SECOND, volume)
        self.assert_nothing_left(volume)

    def test_a_restore_whose_quality_of_service_is_not_set(self):
        kind = self.volume_type('gold')['id']
        specs = qos_specs.create(self.context, 'gold', {
            'consumer': 'back-end', 'disk_io_limit': '500'})
        qos_specs.associate_qos_with_type(self.context, specs['id'], kind)
        volume = self.filled(type_id=kind)
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        qos_specs.update(self.context, specs['id'], {'disk_io_limit': 'odd'})
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assertRaises(exception.CinderException, self.restore,
                              backup, volume)
        self.assertEqual(1, len(log.output), log.output)
        self.assert_content(SECOND, volume)
        qos_specs.update(self.context, specs['id'], {'disk_io_limit': '300'})
        self.restore(backup, volume)
        self.assert_content(FIRST, volume)
        self.assertEqual(
            300, self.truth(volume).disk.storageIOAllocation.limit)

    # -- Who is given a file ------------------------------------------------

    def refusal(self, **connector):
        caught = self.assertRaises(
            exceptions.ConnectorRefused, self.driver.validate_connector,
            self.connector | connector)
        return str(caught)

    def test_another_host_is_refused_unless_the_folder_is_shared(self):
        self.driver.validate_connector(self.connector)
        self.assertIn('vmdk_ext_backup_dir_shared',
                      self.refusal(host='elsewhere'))
        self.set_options(vmdk_ext_backup_dir_shared=True)
        self.driver.validate_connector(self.connector | {'host': 'elsewhere'})

    def test_without_a_folder_every_host_is_refused(self):
        self.set_options(vmdk_ext_backup_dir='')
        self.assertIn('set that option', self.refusal())

    def test_a_member_is_given_nothing_outside_of_a_backup(self):
        volume = self.filled()
        caught = self.assertRaises(
            exceptions.ConnectorRefused, self.driver.initialize_connection,
            volume, self.connector)
        self.assertIn('no backup and no restore', str(caught))
        self.driver.terminate_connection(volume, self.connector)
        self.assertEqual([], self.files())

    def test_a_mark_of_a_dead_migration_does_not_hinder_a_backup(self):
        volume = self.filled()
        volume.migration_status = 'migrating'
        volume.save()
        self.assertEqual('available', self.back_up(volume).status)

    def test_another_host_cannot_end_a_restore(self):
        self.set_options(vmdk_ext_backup_dir_shared=True)
        volume = self.filled()
        backup = self.back_up(volume)
        self.begin_restore(backup, volume)
        other = self.connector | {'host': 'elsewhere'}
        self.driver.initialize_connection(volume, self.connector)
        self.assertRaises(exceptions.ConnectorRefused,
                          self.driver.initialize_connection, volume, other)
        self.driver.terminate_connection(volume, other)
        self.assertEqual(2, len(self.files()))

    def test_no_instance_is_given_a_disk_that_will_be_replaced(self):
        volume = self.filled()
        backup_files.Folder(self.folder).save(backup_files.FileNote(
            volume.id, backup_files.WRITTEN, backend_case.HOST,
            backend_case.HOST))
        caught = self.assertRaises(
            exceptions.BackupRefused, self.driver.initialize_connection,
            volume, {'instance': self.instances()[0]._moId})
        self.assertIn('is being restored', str(caught))

    def block(self, volume):
        """Have the folder not answer about a volume, as a dead mount."""
        path = os.path.join(self.folder, f'{volume.id}.json')
        os.mkfifo(path)

        def answer():
            with contextlib.suppress(OSError):  # if it is not read any more
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        self.addCleanup(answer)
        self.enterContext(mock.patch.object(
            backup_files, 'ANSWER_SECONDS', 0.2))

    def test_a_folder_that_does_not_answer_hinders_no_attachment(self):
        volume, restored = self.filled(), self.filled()
        self.restore(self.back_up(restored), restored)
        connector = {'instance': self.instances()[0]._moId}
        for each in volume, restored:
            self.block(each)
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            info = self.driver.initialize_connection(volume, connector)
        self.assertEqual('vmdk', info['driver_volume_type'])
        self.assertIn('has not answered', logs.output[0])
        # A backup was restored to this one, perhaps not to the end.
        caught = self.assertRaises(
            exceptions.BackupRefused, self.driver.initialize_connection,
            restored, connector)
        self.assertIn('has not answered', str(caught))

    def test_a_folder_that_does_not_answer_hinders_neither_report_nor_start(
            self):
        self.block(self.create())
        backups = self.driver.backend.backups
        with mock.patch.object(backups, '_swept_at', -math.inf), \
                self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            stats = self.driver.get_volume_stats(refresh=True)
            backups.resume(self.driver.put_restored,
                           self.driver.delete_volume)
        self.assertEqual('up', stats['backend_state'])
        self.assertIn('has not answered', logs.output[0])
        self.assertIn('restart', '\n'.join(logs.output))

    def test_a_report_does_not_need_the_database_for_backups(self):
        volume = self.create()
        folder = backup_files.Folder(self.folder)
        folder.save(backup_files.FileNote(
            volume.id, backup_files.EXPORTED, backend_case.HOST,
            backend_case.HOST))
        backups = self.driver.backend.backups
        with mock.patch.object(backups, '_swept_at', -math.inf), \
                mock.patch.object(objects.BackupList, 'get_all',
                                  side_effect=db_exception.DBError('away')), \
                self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            stats = self.driver.get_volume_stats(refresh=True)
        self.assertEqual('up', stats['backend_state'])
        self.assertIn('away', logs.output[0])
        self.assertEqual(1, len(folder.notes()))
        backups.sweep()
        self.assertEqual([], folder.notes())

    def test_a_temporary_volume_that_stays_does_not_hinder_a_start(self):
        def left():
            volume = self.create()
            volume.update({'status': 'error_deleting', 'use_quota': False,
                           'display_name': f'backup-vol-{volume.id}'})
            volume.save()
            return volume
        backups = self.driver.backend.backups
        volume = left()
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            backups.resume(self.driver.put_restored,
                           mock.Mock(side_effect=OSError('no reply')))
        self.assertIn('no reply', logs.output[0])
        folder = backup_files.Folder(self.folder)
        folder.save(backup_files.FileNote(
            volume.id, backup_files.EXPORTED, backend_case.HOST,
            backend_case.HOST))
        with mock.patch.object(backup_files.Folder, 'remove',
                               side_effect=PermissionError('not allowed')):
            backups.sweep()
        backups.sweep()
        self.assertEqual([], folder.notes())
        self.destroy(self.truth(volume).vm)  # by hand
        self.catch_up()
        backups.resume(self.driver.put_restored, self.driver.delete_volume)
        self.assertRaises(exception.VolumeNotFound, self.fresh, volume)
