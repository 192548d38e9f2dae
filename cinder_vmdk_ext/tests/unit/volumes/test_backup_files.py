# SPDX-License-Identifier: Apache-2.0
"""The files for cinder-backup, and what is noted of them."""

import contextlib
import errno
import functools
import json
import os
import shutil
import tempfile
import time
import unittest
from unittest import mock

from oslo_config import cfg
from oslo_utils import uuidutils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import backup_files

ID = uuidutils.generate_uuid()
NOTE = backup_files.FileNote(ID, backup_files.OFFERED, 'cinder@vmdk',
                             'cinder-1', 'backup', messages=('a', 'b'))


class FolderTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        parent = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, parent)
        self.path = os.path.join(parent, 'made', 'by it')
        cfg.CONF.set_override('lock_path', parent, 'oslo_concurrency')
        self.addCleanup(cfg.CONF.clear_override, 'lock_path',
                        'oslo_concurrency')
        self.folder = backup_files.Folder(self.path)

    def test_what_is_noted_is_found_again(self):
        self.assertIsNone(self.folder.note(ID))
        self.assertEqual([], self.folder.notes())
        for state in backup_files.OFFERED, backup_files.WRITTEN:
            note = NOTE._replace(state=state)
            self.folder.save(note)
            self.assertEqual(note, self.folder.note(ID))
        self.assertEqual([note], self.folder.notes())
        self.assertEqual([f'{ID}.json'], os.listdir(self.path))

    def test_a_damaged_note_is_an_error_and_no_missing_one(self):
        self.folder.save(NOTE)
        for text in '', '{}', '[]', '{"volume_id": 1}':
            with open(os.path.join(self.path, f'{ID}.json'), 'w') as file:
                file.write(text)
            self.assertRaises(OSError, self.folder.note, ID)
            self.assertEqual([], self.folder.notes())

    def change(self, **fields):
        """Write a note as another release does."""
        self.folder.save(NOTE)
        path = os.path.join(self.path, f'{ID}.json')
        with open(path) as file:
            text = json.load(file) | fields
        with open(path, 'w') as file:
            json.dump(text, file)
        return path

    def test_what_a_later_release_notes_beside_is_kept(self):
        path = self.change(colour='blue')
        note = self.folder.note(ID)
        self.assertEqual(NOTE, note._replace(more={}))
        self.folder.save(note._replace(state=backup_files.WRITTEN))
        with open(path) as file:
            text = json.load(file)
        self.assertEqual(('blue', backup_files.WRITTEN),
                         (text['colour'], text['state']))
        self.assertNotIn('more', text)

    def test_a_state_of_a_later_release_is_refused_and_left_alone(self):
        self.change(state='verified')
        with self.assertRaisesRegex(OSError, "'verified'.* later release"):
            self.folder.note(ID)
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.assertEqual([], self.folder.notes())
        self.assertIn('later release', logs.output[0])

    def test_a_folder_that_does_not_answer_is_waited_for_once(self):
        self.folder.save(NOTE)
        path = os.path.join(self.path, f'{ID}.json')
        os.unlink(path)
        os.mkfifo(path)  # to open it blocks, as on a dead mount
        self.enterContext(mock.patch.object(
            backup_files, 'ANSWER_SECONDS', 0.2))
        for read in (functools.partial(self.folder.note, ID),
                     self.folder.notes, self.folder.within('more').notes):
            with self.assertRaisesRegex(
                    TimeoutError, r'by it \(vmdk_ext_backup_dir\) has not '
                    'answered'):
                read()
        with open(path, 'w') as file:
            file.write('{}')
        os.unlink(path)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                self.assertIsNone(self.folder.note(ID))
                return
            time.sleep(0.01)
        self.fail('it answers, and is not read')

    def test_a_note_that_cannot_be_written_leaves_the_former(self):
        self.folder.save(NOTE)
        with mock.patch.object(os, 'replace', side_effect=OSError):
            self.assertRaises(OSError, self.folder.save,
                              NOTE._replace(state=backup_files.WRITTEN))
        self.assertEqual(NOTE, self.folder.note(ID))
        self.assertEqual([f'{ID}.json'], os.listdir(self.path))

    def test_a_folder_within_is_as_private_and_has_its_own_files(self):
        inner = self.folder.within('more')
        inner.save(NOTE)
        inner.offer(ID, 1000)
        self.assertEqual([], self.folder.notes())
        for path in self.path, os.path.join(self.path, 'more'):
            self.assertEqual(0o700, os.stat(path).st_mode & 0o777)
        inner.empty(ID)
        self.assertEqual([f'{ID}.json'],
                         os.listdir(os.path.join(self.path, 'more')))

    def test_a_file_is_removed_with_its_note(self):
        self.folder.save(NOTE)
        self.folder.offer(ID, 1000)
        for _twice in range(2):
            self.folder.remove(ID)
        self.assertEqual([], os.listdir(self.path))

    def test_only_the_owner_may_open_what_is_there(self):
        self.folder.save(NOTE)
        self.folder.offer(ID, 1000)
        for name in ('', f'{ID}.json', f'{ID}.raw'):
            mode = os.stat(os.path.join(self.path, name)).st_mode
            self.assertEqual(0, mode & 0o077, name)

    def test_an_offered_file_shows_that_it_was_opened_for_writing(self):
        for size in 0, 1 << 40:
            changed = self.folder.offer(ID, size)
            path = self.folder.file(ID)
            self.assertEqual(size, os.path.getsize(path))
            with open(path, 'rb') as file:
                file.read(1)
            self.assertFalse(self.folder.is_changed(ID, changed))
            with open(path, 'wb'):
                pass
            self.assertTrue(self.folder.is_changed(ID, changed))
        self.folder.remove(ID)
        self.assertFalse(self.folder.is_changed(ID, changed))

    def test_a_link_of_the_files_name_is_not_followed(self):
        self.folder.save(NOTE)
        target = os.path.join(self.path, 'target')
        with open(target, 'w') as file:
            file.write('kept')
        os.symlink(target, self.folder.file(ID))
        with self.assertRaises(OSError):
            with self.folder.opened(ID):
                pass
        self.folder.offer(ID, 0)
        with open(target) as file:
            self.assertEqual('kept', file.read())

    def test_an_id_that_leads_out_of_the_folder_is_refused(self):
        self.assertRaises(ValueError, self.folder.file, '../../etc/passwd')

    def test_space_that_is_missing_is_named_with_the_option(self):
        self.folder.claim_offered(ID, 1).end()
        self.folder.check_spare()
        with self.assertRaisesRegex(
                exceptions.BackupRefused,
                r'by it \(vmdk_ext_backup_dir\) has too little space: '
                r'.* GiB needed, .* free; make space there.*larger'):
            self.folder.claim_offered(ID, 1 << 60)

    def test_a_file_system_that_becomes_full_is_named_too(self):
        with self.folder.created(ID) as descriptor, self.assertRaisesRegex(
                exceptions.BackupRefused,
                r'\(vmdk_ext_backup_dir\) became full: .* needed'):
            with self.folder.claimed(1, descriptor):
                raise OSError(errno.EDQUOT, 'Disk quota exceeded')
