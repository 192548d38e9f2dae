# SPDX-License-Identifier: Apache-2.0
"""Volumes are copied to a backend of another vCenter without the password."""

import contextlib
import errno
import json
import os
from unittest import mock

import oslo_messaging
from pyVmomi import vim

from cinder import exception
from cinder import objects
from cinder.volume import qos_specs

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import migration_case
from cinder_vmdk_ext.tests.functional import test_transfers
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import backups
from cinder_vmdk_ext.volumes import generic_migration


OTHER_PROJECT = 'b' * 32


FIRST = migration_case.FIRST


class Killed(BaseException):
    """The process is killed: no ``except Exception`` catches it."""


class GenericMigrationTestCase(migration_case.MigrationCase):

    def connector(self, **more):
        return migration_case.backup_case.volume_manager.volume_utils \
            .brick_get_connector_properties() | more

    def meanwhile(self, method, act):
        """Do something once, before a call is made."""
        left = [act]

        def look(name):
            if name == method and left:
                left.pop()()
        self.calls.meanwhile = look

    @property
    def destination(self):
        """The volume that Cinder has made at the destination."""
        return next(each for each in migration_case.objects.VolumeList
                    .get_all(self.context)
                    if state.migrates_from(each))

    def test_a_volume_with_its_content_form_and_adapter(self):
        kind = self.volume_type('thick', vmdk_type='thick',
                                adapter_type='busLogic')['id']
        volume = self.filled(type_id=kind)
        before, adapter = self.checksum(volume), self.truth(volume).adapter
        # Calls that do not wait; the source asks again.
        with mock.patch.object(backups, '_PART', 0):
            moved = self.migrate(volume)
        self.assertEqual('success', moved.migration_status)
        truth = self.assert_only(moved, self.far)
        self.assertEqual(('thick', adapter),
                         (truth.provisioning, truth.adapter))
        self.assertEqual(before, self.far.checksum(moved))
        self.assertEqual({'local'}, {info['driver_volume_type']
                                     for info in self.calls.infos})
        self.assertNotIn(self.far.vcenter.password,
                         json.dumps(self.calls.infos))
        # It is a volume like others there.
        self.far.driver.extend_volume(moved, 2)
        self.far.driver.delete_volume(moved)
        self.assertEqual({}, self.far.shadow_vms())

    def test_a_volume_without_a_disk_yet(self):
        for side in self, self.far:
            self.set_options(side, vmware_lazy_create=True)
        moved = self.migrate(self.create())
        self.assertEqual(
            ('success', state.PROMISED, migration_case.FAR_HOST),
            (moved.migration_status, moved.provider_id,
             moved.host.partition('#')[0]))
        self.assertEqual(({}, {}, []), (
            self.shadow_vms(), self.far.shadow_vms(), self.files()))

    # -- What is refused, or fails -------------------------------------------

    def test_a_host_that_does_not_see_the_folder(self):
        connector = self.connector(host='elsewhere')
        with mock.patch.object(
                migration_case.backup_case.volume_manager.volume_utils,
                'brick_get_connector_properties', lambda *args: connector):
            self.assert_stays(self.filled(), 'vmdk_ext_backup_dir_shared')

    def test_a_copy_that_is_not_complete(self):
        volume = self.filled()

        def truncate():
            file = self.folder / 'migrations' / f'{self.destination.id}.raw'
            os.truncate(file, 1 << 20)
        self.meanwhile('terminate_connection', truncate)
        self.assert_stays(volume, 'is not what was copied')

    def test_an_import_that_fails(self):
        self.far.control.fault(method='ImportVApp',
                               fault={'type': 'NoDiskSpace'})
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assert_stays(self.filled(), 'could not be imported')
        # One line of each of the two services.
        self.assertEqual(['put_migrated', 'after_volume_copy'], [
            line.split(':')[2].split()[0] for line in log.output])

    def test_an_import_whose_failure_cannot_be_noted(self):
        save = backup_files.Folder.save

        def unless_failed(folder, note):
            if note.state == backup_files.FAILED:
                raise OSError(errno.EROFS, 'read-only')
            save(folder, note)
        self.far.control.fault(method='ImportVApp',
                               fault={'type': 'NoDiskSpace'})
        self.enterContext(mock.patch.object(
            backup_files.Folder, 'save', unless_failed))
        # Calls that do not wait; the source asks again.
        self.enterContext(mock.patch.object(backups, '_PART', 0))
        self.assert_stays(self.filled(), 'could not be imported')

    def test_a_destination_without_its_disk_is_deleted(self):
        volume = self.create()
        volume.migration_status = f'target:{volume.id}'
        truth = self.truth(volume)
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='remove', fileOperation='destroy',
                device=truth.disk)])))
        self.catch_up()
        self.driver.delete_volume(volume)
        self.assertEqual({}, self.shadow_vms())

    def test_a_volume_is_deleted_though_the_folder_cannot_be_used(self):
        volume = self.create()
        volume.migration_status = 'error'
        self.set_options(self, vmdk_ext_backup_dir='/dev/null/folder')
        self.driver.delete_volume(volume)
        self.assertEqual({}, self.shadow_vms())

    def test_an_export_that_fails_is_one_line_in_the_log(self):
        self.control.fault(method='ExportVm', fault={'type': 'NoDiskSpace'})
        with self.assertLogs('cinder_vmdk_ext', 'ERROR') as log:
            self.assert_stays(self.filled(), 'space')
        self.assertEqual(1, len(log.output), log.output)

    def test_a_snapshot_taken_meanwhile(self):
        volume = self.filled()
        self.meanwhile('terminate_connection',
                       lambda: self.new_snapshot(volume))
        self.assert_stays(volume, 'has snapshots')

    def extend(self, volume):
        found = self.fresh(volume)
        self.driver.extend_volume(found, 2)
        found.size = 2
        found.save()

    def restore(self, volume):
        """Restore a backup, as cinder-api and cinder-backup do."""
        backup = migration_case.objects.Backup(
            self.context, user_id='user', project_id=volume.project_id,
            volume_id=volume.id, status='restoring', size=volume.size,
            restore_volume_id=volume.id, host='backup-host',
            metadata={backups.CONTENT: backups.RAW})
        backup.create()
        found = self.fresh(volume)
        found.status = 'restoring-backup'
        error = self.elsewhere(self.driver.initialize_connection, found,
                               self.connector())
        if error is not None:
            raise error

    def reimage(self, volume):
        image = test_transfers.ImageService(disk_images.stream_optimized(
            FIRST))
        self.driver.copy_image_to_volume(self.context, self.fresh(volume),
                                         image, image.metadata['id'])

    def take_snapshot(self, volume):
        made = self.new_snapshot(volume)
        try:
            self.driver.create_snapshot(made)
        finally:
            made.destroy()

    def transfer(self, volume):
        self.driver.accept_transfer(self.context, self.fresh(volume), 'user',
                                    OTHER_PROJECT)
        found = self.fresh(volume)
        found.project_id = OTHER_PROJECT
        found.save()

    def test_what_would_be_lost_is_refused_while_a_volume_is_copied(self):
        changes = (self.extend, self.restore, self.reimage, self.transfer,
                   self.take_snapshot)
        for call in 'terminate_connection', 'update_migrated_volume':
            volume = self.filled()
            before = self.checksum(volume)

            def change(volume=volume):
                for change in changes:
                    caught = self.assertRaises(
                        exceptions.MigrationRefused, change, volume)
                    self.assertIn('has been copied', str(caught))
            self.meanwhile(call, change)
            moved = self.migrate(volume)
            with self.subTest(call):
                self.assert_only(moved, self.far)
                self.assertEqual(before, self.far.checksum(moved))
                self.far.driver.delete_volume(moved)
                moved.destroy()

    def test_a_volume_that_changed_while_the_new_one_was_made(self):
        volume = self.filled()
        self.meanwhile('create_volume', lambda: self.extend(volume))
        caught = self.assertRaises(exceptions.MigrationRefused, self.migrate,
                                   volume)
        self.assertIn('was extended', str(caught))
        self.assertEqual(2, self.assert_only(self.fresh(volume),
                                             self).size_gib)

    def test_a_volume_that_was_transferred_meanwhile(self):
        volume = self.filled()
        self.meanwhile('create_volume', lambda: self.transfer(volume))
        self.assert_stays(volume, 'transferred')
        self.assertEqual(OTHER_PROJECT, self.fresh(volume).project_id)

    def test_no_instance_gets_a_disk_that_has_been_copied(self):
        volume = self.filled()

        def attach():
            caught = self.assertRaises(
                exceptions.MigrationRefused,
                self.driver.initialize_connection, self.fresh(volume),
                {'instance': self.instances()[0]._moId})
            self.assertIn('has been copied', str(caught))
        self.meanwhile('terminate_connection', attach)
        self.assert_only(self.migrate(volume), self.far)

    def test_a_member_cannot_have_half_a_copy_imported(self):
        volume = self.filled()

        def forge():
            # After the file was offered, before anything is copied.
            new = self.destination
            self.far.driver.terminate_connection(new, self.connector())
            with contextlib.suppress(exceptions.MigrationRefused):
                self.far.driver.initialize_connection(
                    new, self.connector(**{generic_migration.ASKS: 'guess'}))
        real = self.driver.initialize_connection

        def connect(*args):
            forge()
            return real(*args)
        with mock.patch.object(self.driver, 'initialize_connection', connect):
            self.assert_stays(volume, 'something else is on volume')

    def test_a_source_of_another_driver(self):
        volume = self.create()
        self.calls.locations[migration_case.HOST] = 'LVMVolumeDriver:here'
        new = self.database.volume(
            host=f'{migration_case.FAR_HOST}#LocalDS_1',
            migration_status=f'target:{volume.id}')
        caught = self.assertRaises(
            exceptions.ConnectorRefused,
            self.far.driver.initialize_connection, new, self.connector())
        self.assertIn('from another driver', str(caught))

    # -- Killed --------------------------------------------------------------

    def kill(self, volume, method):
        """The source's service is killed before a call."""
        def die():
            raise Killed
        self.meanwhile(method, die)
        self.assertRaises(Killed, self.migrate, volume)
        self.meanwhile(method, lambda: None)

    def test_a_source_that_is_killed_gives_the_migration_up(self):
        volume = self.filled()
        self.kill(volume, 'terminate_connection')
        self.restart(self)
        found = self.fresh(volume)
        self.assertEqual('error', found.migration_status)
        self.assert_only(found, self)

    def test_a_source_that_is_killed_at_the_end_completes_it(self):
        volume = self.filled()
        before = self.checksum(volume)
        self.kill(volume, 'delete_volume')
        self.restart(self)
        self.assert_only(volume, self.far)
        self.assertEqual(before, self.far.checksum(volume))

    def exchange_half(self, volume, host):
        """Kill the source's service between the saving of two records."""
        save = objects.Volume.save

        def dying(each):
            if each.migration_status == 'deleting':
                raise Killed
            save(each)
        self.begin(volume)
        with mock.patch.object(objects.Volume, 'save', dying):
            self.assertRaises(
                Killed, self.service_of_volumes.migrate_volume, self.context,
                volume, {'host': host, 'capabilities': {}}, True)
        self.restart(self)

    def test_a_source_that_is_killed_between_two_records(self):
        for side, host in ((self.far, f'{migration_case.FAR_HOST}#LocalDS_1'),
                           (self, f'{migration_case.HOST}#LocalDS_1')):
            with self.subTest(host):
                volume = self.filled(pool='LocalDS_0')
                before = self.checksum(volume)
                self.exchange_half(volume, host)
                self.assert_only(volume, side)
                self.assertEqual(host, self.fresh(volume).host)
                self.assertEqual(before, side.checksum(volume))
                side.driver.delete_volume(self.fresh(volume))
                self.fresh(volume).destroy()

    def test_a_volume_whose_migration_was_reset_is_not_taken_for_moved(self):
        volume = self.filled(pool='LocalDS_0')
        before = self.checksum(volume)
        self.enterContext(mock.patch.object(
            self.calls, 'update_migrated_volume', side_effect=Killed))
        self.begin(volume)
        self.assertRaises(
            Killed, self.service_of_volumes.migrate_volume, self.context,
            volume, {'host': f'{migration_case.HOST}#LocalDS_1',
                     'capabilities': {}}, True)
        found = self.fresh(volume)
        found.migration_status = None
        found.save()
        self.restart(self)
        self.assertEqual(before, self.checksum(self.fresh(volume)))

    def test_a_destination_that_is_killed_imports_nothing(self):
        volume = self.filled()
        note = []

        def killed(made):
            note.append(self.far.driver.backend.migration.files.note(made.id))
            self.restart(self.far)
        self.enterContext(mock.patch.object(
            self.far.driver, 'put_migrated', killed))
        self.assert_stays(volume, 'was restarted')
        self.assertEqual([backup_files.WRITTEN],
                         [each.state for each in note])

    def test_a_copy_whose_migration_fails_at_the_end_is_deleted(self):
        volume = self.filled()
        update = self.far.driver.update_migrated_volume

        def lost(*args):
            update(*args)
            raise oslo_messaging.MessagingTimeout('no reply')
        with mock.patch.object(self.far.driver, 'update_migrated_volume',
                               lost):
            self.assertRaises(oslo_messaging.MessagingTimeout, self.migrate,
                              volume)
        self.assertEqual([volume.name], list(self.far.shadow_vms()))
        self.sweep()
        self.assert_only(volume, self)

    def test_a_copy_of_a_failed_migration_goes_with_the_next_one(self):
        volume = self.filled()
        before = self.checksum(volume)
        update = self.far.driver.update_migrated_volume

        def lost(*args):
            update(*args)
            raise oslo_messaging.MessagingTimeout('no reply')
        with mock.patch.object(self.far.driver, 'update_migrated_volume',
                               lost):
            self.assertRaises(oslo_messaging.MessagingTimeout, self.migrate,
                              volume)
        self.meanwhile('terminate_connection', self.sweep)
        moved = self.migrate(self.fresh(volume))
        self.assertEqual('success', moved.migration_status)
        self.assertEqual(before, self.far.checksum(moved))
        self.sweep()
        self.assert_only(moved, self.far)

    def test_a_quality_of_service_that_is_not_set(self):
        kind = self.volume_type('gold')['id']
        specs = qos_specs.create(self.context, 'gold', {
            'consumer': 'back-end', 'disk_io_limit': '500'})
        qos_specs.associate_qos_with_type(self.context, specs['id'], kind)
        volume = self.filled(type_id=kind)
        # The first one is that of the new, empty volume.
        self.meanwhile('terminate_connection', lambda: self.far.control.fault(
            method='ReconfigVM_Task', task_fault={'type': 'NoDiskSpace'}))
        self.assert_stays(volume, 'could not be imported')

    def test_a_repeated_deletion_of_the_source_spares_the_volume(self):
        volume = self.filled()
        self.kill(volume, 'delete_volume')
        new = next(each for each in migration_case.objects.VolumeList.get_all(
            self.context) if each.id != volume.id)
        self.driver.delete_volume(new)
        self.driver.delete_volume(new)
        self.assertEqual([volume.name], list(self.far.shadow_vms()))
        # In one vCenter, the volume's own disk could bear such a mark.
        copy = self.create()
        self.driver.volumeops.set_mark(
            self.driver.backend.finder.find(copy), shadow.MIGRATED_AS, new.id)
        self.driver.delete_volume(new)
        self.assertIn(copy.name, self.shadow_vms())
        new.provider_id = state.BACKED
        self.assertRaises(exception.CinderException,
                          self.driver.delete_volume, new)
