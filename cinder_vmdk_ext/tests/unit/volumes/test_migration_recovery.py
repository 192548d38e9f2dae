# SPDX-License-Identifier: Apache-2.0
"""What is done about migrations that were broken off, by their records.

Cinder's database is real; the messages that are sent are recorded.
"""

import contextlib
import shutil
import tempfile
import threading
import types
import unittest
from unittest import mock

import oslo_messaging

from cinder import objects
from cinder.volume import rpcapi as volume_rpcapi

from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import generic_migration
from cinder_vmdk_ext.volumes import migration_recovery
from cinder_vmdk_ext.volumes import reconcile
from sandbox.embedded import database

HOST, OTHER = 'cinder-1@vmdk', 'cinder-1@far'


class RecoveryCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)
        self.path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.path)
        self.restorer = mock.Mock()
        self.calls = mock.Mock()
        patched = mock.patch.object(volume_rpcapi, 'VolumeAPI',
                                    lambda: self.calls)
        patched.start()
        self.addCleanup(patched.stop)
        self.broken_off = self.service(HOST)

    def service(self, host, cluster=None):
        owner = reconcile.Owner(host, cluster)
        self.files = generic_migration.Files(types.SimpleNamespace(
            path=self.path, gives_credentials=False,
            owned_by=cluster or host,
            folder=backup_files.Folder(self.path)), owner)
        return migration_recovery.BrokenOff(self.files, self.restorer)

    def volume(self, host=HOST, **fields):
        return self.database.volume(host=f'{host}#LocalDS_1', **{
            'status': 'available', 'previous_status': 'available'} | fields)

    def target(self, volume, host=OTHER, **fields):
        return self.volume(host, migration_status=f'target:{volume.id}',
                           **fields)

    def note(self, volume, state, peer, **more):
        self.files.folder.save(self.files.new_note(
            volume, state, peer.id, **more))

    def fresh(self, volume):
        return objects.Volume.get_by_id(self.database.context, volume.id)

    def notes(self):
        return [note.volume_id for note in self.files.own_notes()]

    def deleted(self):
        return [call.args[1].id for call
                in self.calls.delete_volume.call_args_list]


class StartTestCase(RecoveryCase):

    def test_a_migration_before_the_exchange_is_given_up(self):
        volume = self.volume(migration_status='migrating', status='retyping',
                             previous_status='available')
        new = self.target(volume)
        self.note(volume, backup_files.READ, new)
        self.broken_off.resume()
        found = self.fresh(volume)
        self.assertEqual(('error', 'available'),
                         (found.migration_status, found.status))
        self.assertEqual([new.id], self.deleted())
        self.assertEqual([], self.notes())

    def test_an_attached_volume_is_left_to_nova(self):
        volume = self.volume(migration_status='migrating', status='in-use')
        objects.VolumeAttachment(
            self.database.context, volume_id=volume.id,
            attach_status='attached').create()
        self.broken_off.resume()
        self.assertEqual('migrating', self.fresh(volume).migration_status)

    def test_another_backends_migration_is_left_alone(self):
        volume = self.volume(OTHER, migration_status='migrating')
        self.broken_off.resume()
        self.assertEqual('migrating', self.fresh(volume).migration_status)

    def test_a_service_of_a_cluster_gives_up_only_its_own(self):
        broken_off = self.service(HOST, 'cluster@vmdk')
        own, others = (self.volume(
            migration_status='migrating',
            cluster_name='cluster@vmdk#LocalDS_1') for _each in range(2))
        self.note(own, backup_files.READ, self.target(own))
        self.note(others, backup_files.READ, self.target(others))
        self.files.folder.save(self.files.note(others.id)._replace(
            service='cinder-2@vmdk'))
        broken_off.resume()
        self.assertEqual(['error', 'migrating'], [
            self.fresh(each).migration_status for each in (own, others)])

    def test_a_migration_in_the_exchange_is_completed(self):
        volume = self.volume(migration_status='completing')
        new = self.target(volume)
        answers = [oslo_messaging.MessagingTimeout, None]

        def answer(_context, found, found_new, error):
            self.assertEqual((volume.id, new.id, False),
                             (found.id, found_new.id, error))
            failure = answers.pop(0)
            if failure:
                raise failure
            found.migration_status = 'success'
            found.save()
        self.calls.migrate_volume_completion.side_effect = answer
        threads, make = [], threading.Thread
        with mock.patch.object(
                migration_recovery.threading, 'Thread',
                lambda **more: threads.append(make(**more)) or threads[-1]):
            self.broken_off.resume()
        [thread] = [each for each in threads  # others read notes
                    if each.name == 'vmdk-ext-migration']
        thread.join(60)
        self.assertFalse(thread.is_alive())
        self.assertEqual([], answers)
        self.assertEqual([], self.deleted())

    def test_an_exchange_of_which_half_was_saved_is_finished(self):
        volume = self.volume(OTHER)
        new = self.target(volume)
        self.note(volume, backup_files.READ, new, host=f'{HOST}#LocalDS_0')
        self.broken_off.resume()
        found = self.fresh(new)
        self.assertEqual(
            (f'{HOST}#LocalDS_0', 'deleting', 'deleting', volume.id),
            (found.host, found.status, found.migration_status,
             found._name_id))
        self.assertEqual([new.id], self.deleted())

    def test_an_import_is_ended_and_its_vm_discarded(self):
        volume = self.volume(OTHER, migration_status='migrating')
        new = self.target(volume, HOST)
        self.note(new, backup_files.WRITTEN, volume, machine='a VM')
        with mock.patch.object(migration_recovery.locks, 'volumes',
                               lambda *ids: contextlib.nullcontext()):
            self.broken_off.resume()
        (undone, left), = (call.args for call
                           in self.restorer.undo.call_args_list)
        self.assertEqual((new.id, 'a VM'), (undone.id, left))
        self.assertEqual(backup_files.FAILED,
                         self.files.note(new.id).state)

    def test_a_failure_hinders_no_start(self):
        self.volume(migration_status='deleting')
        self.calls.delete_volume.side_effect = OSError('no bus')
        volume = self.volume(migration_status='migrating')
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.broken_off.resume()
        self.assertIn('no bus', logs.output[0])
        self.assertEqual('error', self.fresh(volume).migration_status)


class SweepTestCase(RecoveryCase):

    def test_notes_of_what_runs_stay_and_others_go(self):
        runs, ended = (self.volume(migration_status=each)
                       for each in ('migrating', 'error'))
        for each in runs, ended:
            self.note(each, backup_files.READ, self.target(each))
        coming, gone = (self.target(self.volume(OTHER), HOST)
                        for _each in range(2))
        for each in coming, gone:
            self.note(each, backup_files.OFFERED, self.volume(OTHER))
        gone.destroy()
        self.broken_off.sweep()
        self.assertEqual(sorted([runs.id, coming.id]), self.notes())

    def left(self, **fields):
        """A copy of a migration that failed at its end."""
        volume = self.volume(**{
            'host': OTHER, 'migration_status': 'error'} | fields)
        new = self.volume()
        self.note(new, backup_files.IMPORTED, volume)
        self.broken_off.sweep()
        return new

    def test_a_copy_of_a_migration_that_failed_at_its_end_is_deleted(self):
        new = self.left()
        self.assertEqual([new.id], self.deleted())
        self.assertEqual('deleting', self.fresh(new).status)
        self.broken_off.sweep()
        self.assertEqual(1, len(self.deleted()))

    def test_a_copy_waits_while_the_volume_is_migrated_again(self):
        for status in 'starting', 'migrating', 'completing':
            self.left(migration_status=status)
            self.assertEqual([], self.deleted())
        self.assertEqual(3, len(self.notes()))

    def test_a_copy_of_a_volume_that_came_with_another_try_is_deleted(self):
        self.left(host=HOST, migration_status='success')
        self.assertEqual(1, len(self.deleted()))

    def test_a_volume_that_was_migrated_here_is_not_deleted(self):
        for fields in {'host': HOST}, {'migration_status': 'success'}:
            self.left(**fields)
            self.assertEqual([], self.deleted())
        self.assertEqual([], self.notes())
