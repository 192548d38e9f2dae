# SPDX-License-Identifier: Apache-2.0
"""Backs up and restores in every way, and breaks off at every call.

``make backup-run`` writes docs/backups-run.md. test_backups is what `make
test` has time for.
"""

import collections
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
import unittest
from typing import Any
from typing import NamedTuple
from unittest import mock

from cinder.backup.drivers import posix
from cinder import exception
from cinder import objects

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backup_case
from cinder_vmdk_ext.tests.functional import crash_matrix
from cinder_vmdk_ext.tests.functional import crash_volumes
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import backups


FIRST, SECOND = backup_case.FIRST, backup_case.SECOND
LATER = backup_case.LATER
PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'backups-run.md'

HEAD = '''\
# Backups, run

`make backup-run` writes this page. Cinder's own backup manager and volume
manager run in one process around the driver and the simulated vCenter; only
the message bus between them is left out.

## Full, incremental, and where they are restored
With Cinder's POSIX backup driver and its compression. Each volume is backed
up, changed, and backed up again as an increment. Both backups are restored to
each destination. The content is compared at three places by the simulator's
control endpoint, size, UUID and disk type by pyVmomi; then no file, VM or
volume is left over.

| what is backed up | full, s | increment, s | its objects | restored to |
|---|---|---|---|---|
'''
CUT = '''
## Broken off
A backup or restore is interrupted at each call that changes something in the
vCenter, in the four ways of [the crash matrix](crash-matrix.md). cinder-backup
meets a timeout if cinder-volume was killed. Then a new driver starts, and the
request is repeated. A case is right if it then succeeds with the right
content, and no file, temporary volume or unknown VM is left over.

| operation | calls | cases | went on | repeated | left for a sweep | wrong |
|---|---|---|---|---|---|---|
'''
MORE = '''
## Further cases
{count} tests of `backup_run`, with failures of each kind: {failed} failed.
'''


class Row(NamedTuple):
    """A line of the first table."""

    source: str
    full_seconds: float
    increment_seconds: float
    objects: int
    targets: tuple[str, ...]


class MoreBackupsTestCase(backup_case.BackupCase):
    """What differs from the ordinary volume."""

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
    """What fails leaves the volume as it was, and no file."""

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
        self.assertEqual('error_restoring', volume.status)
        self.assertIn('was cancelled', str(self.error))
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


class _Matrix(backup_case.BackupCase):
    """Cinder's POSIX driver, full and incremental."""

    DRIVER = posix.PosixBackupDriver
    rows: list[Row] = []

    def setUp(self):
        super().setUp()
        store = tempfile.mkdtemp(prefix='cinder-backups-')
        self.addCleanup(shutil.rmtree, store)
        for name, value in (('backup_posix_path', store),
                            ('backup_file_size', 64 << 20),
                            ('backup_sha_block_size_bytes', 1 << 20),
                            ('backup_enable_progress_timer', False)):
            backup_case.CONF.set_override(name, value)
            self.addCleanup(backup_case.CONF.clear_override, name)

    def timed(self, act, *args, **kwargs):
        began = time.monotonic()
        made = act(*args, **kwargs)
        self.assertEqual((None, 'available'),
                         (made.fail_reason, made.status))
        return made, time.monotonic() - began

    def both(self, volume, change, **how):
        """A full backup, and an increment after a change."""
        full, seconds = self.timed(self.back_up, volume, **how)
        change()
        again, more = self.timed(self.back_up, volume, parent=full)
        return full, again, seconds, more

    def run_row(self, source, form='thin', attached=False):
        kind = self.volume_type(form, vmdk_type=form)['id']
        volume = self.filled(type_id=kind)
        instance = self.attach(volume) if attached else None
        full, again, *seconds = self.both(
            volume, lambda: self.write(volume, SECOND, LATER))
        targets = [('a new one', self.create(type_id=kind), True),
                   ('a larger one', self.create(size_gib=2, type_id=kind),
                    False)]
        if not attached:
            targets.append(('the same', volume, False))
        for backup, later in ((again, SECOND), (full, FIRST)):
            for _name, target, is_new in targets:
                self.restore(backup, target, is_new)
                self.assertEqual(FIRST, self.read(target, len(FIRST)))
                self.assertEqual(later, self.read(target, len(later), LATER))
                self.assertEqual(bytes(99), self.read(target, 99,
                                                      (1 << 30) - 99))
                truth = self.truth(target)
                self.assertEqual(
                    (target.id, target.size, form),
                    (truth.disk.backing.uuid, truth.size_gib,
                     truth.provisioning))
        if instance is not None:
            self.detach(volume, instance)
        self.assert_nothing_left(volume, *(each for _name, each, _new
                                           in targets if each != volume))
        self.rows.append(Row(source, *seconds, again.object_count, tuple(
            name for name, _target, _new in targets)))

    def test_detached(self):
        for form in 'thin', 'thick', 'eagerZeroedThick':
            self.run_row(f'a detached volume, {form}', form)
            self._remove_shadow_vms()
            for volume in objects.VolumeList.get_all(self.context):
                volume.destroy()

    def test_attached(self):
        self.run_row('an attached volume', attached=True)


class _Cut(backup_case.BackupCase, crash_matrix.CrashCase):
    """Backups and restores, cut off at each call."""

    results: list[crash_matrix.Outcome] = []

    def setUp(self):
        super().setUp()
        self.calls.lost = Exception, crash_matrix.Killed
        # Not in threads, so that a killing kills who waits for them too.
        for name, run in (('start', backups._Import._run),
                          ('follow_status', backups._Import._follow)):
            self.enterContext(mock.patch.object(backups._Import, name, run))

    def restart(self):
        self._time_out()
        super().restart()
        self.volume_service.driver = self.driver
        with contextlib.suppress(exception.VolumeBackendAPIException):
            # cinder-backup ends the backup, and raises that to no caller.
            self.driver.backend.backups.resume(
                self.driver.put_restored, self.driver.delete_volume)

    def _time_out(self):
        """What cinder-backup does when its call is not answered."""
        for backup in objects.BackupList.get_all(self.context):
            if backup.status == 'restoring':
                backup.status = 'available'
                backup.save()
        for volume in objects.VolumeList.get_all(self.context):
            if volume.status == 'restoring-backup':
                volume.status = 'error_restoring'
                volume.save()

    def check(self, expect):
        if any(volume.status == 'error_deleting' for volume
               in objects.VolumeList.get_all(self.context)):
            # What could not be deleted is deleted at the next start.
            self.restart()
        left = super().check(expect)
        assert not self.files(), f'files: {self.files()}'
        busy = [volume.status for volume
                in objects.VolumeList.get_all(self.context)
                if volume.status not in ('available', 'in-use')]
        assert not busy, f'volumes are {busy}'
        return left

    def _backing_up(self, attached):
        def prepare(case):
            volume = case.filled()
            if attached:
                instance = case.attach(volume)
                case.undo.append(lambda: case.detach(volume, instance))

            def act():
                made = case.back_up(case.fresh(volume))
                assert made.status == 'available', made.fail_reason
            before = case.checksum(volume)
            return crash_volumes.Attempt(
                act, expected=lambda: {} if attached else {
                    volume.id: before})
        return crash_volumes.Operation(prepare)

    def _restoring(self):
        def prepare(case):
            volume = case.filled()
            before = case.checksum(volume)
            backup = case.back_up(volume)
            case.write(volume, SECOND)

            def act():
                case.restore(case.backup(backup), case.fresh(volume))

            def again():
                if case.fresh(volume).status != 'available':
                    act()
            return crash_volumes.Attempt(act, again, lambda: {
                volume.id: before})
        return crash_volumes.Operation(prepare)

    def test_all(self):
        for name, operation in (('backup', self._backing_up(False)),
                                ('backup of an attached volume',
                                 self._backing_up(True)),
                                ('restore', self._restoring())):
            self.run_operation(name, operation)
        self.results.extend(self.outcomes)


def _counted(outcomes: list[crash_matrix.Outcome]) -> str:
    by_name: dict[str, list[Any]] = collections.defaultdict(list)
    for each in outcomes:
        by_name[each.operation].append(each)
    text = ''
    for name, own in by_name.items():
        wrong = sum(bool(each.wrong) for each in own)
        went_on = sum(each.succeeded and not each.wrong for each in own)
        cells = (max(each.call for each in own) + 1, len(own), went_on,
                 len(own) - went_on - wrong,
                 sum(each.leftovers for each in own), wrong)
        text += f'| {name} | ' + ' | '.join(map(str, cells)) + ' |\n'
    return text


def page(rows: list[Row], outcomes: list[crash_matrix.Outcome],
         count: int, failed: int) -> str:
    """The text of docs/backups-run.md."""
    return HEAD + ''.join(
        f'| {row.source} | {row.full_seconds:.0f} | '
        f'{row.increment_seconds:.0f} | {row.objects} | '
        f'{", ".join(row.targets)} |\n' for row in rows
    ) + CUT + _counted(outcomes) + MORE.format(count=count, failed=failed)


def load_tests(loader, tests, pattern):
    """The tests of failures; the matrices have their own runs."""
    return unittest.TestSuite(
        loader.loadTestsFromTestCase(case)
        for case in (MoreBackupsTestCase, MoreBrokenOffTestCase))


def main() -> int:
    """Run all, and write the page."""
    runner = unittest.TextTestRunner()
    more = runner.run(load_tests(unittest.defaultTestLoader, None, None))
    matrices = runner.run(unittest.TestSuite(
        [_Matrix('test_detached'), _Matrix('test_attached')]))
    cuts = runner.run(unittest.TestSuite([_Cut('test_all')]))
    bad = len(more.failures) + len(more.errors)
    PAGE.write_text(page(_Matrix.rows, _Cut.results, more.testsRun, bad))
    print(f'{PAGE}{os.linesep}', end='')
    return int(bool(bad) or not matrices.wasSuccessful()
               or not cuts.wasSuccessful()
               or any(each.wrong for each in _Cut.results))


if __name__ == '__main__':
    sys.exit(main())
