# SPDX-License-Identifier: Apache-2.0
"""Which volumes are migrated between vCenters, and which are refused.

Each refusal is one sentence on an ERROR line that names the volume; a user
whose retype fails gets a message.
"""

import os
from unittest import mock

from oslo_config import cfg

from cinder.db import api as db_api
from cinder import exception
from cinder.message import api as message_api
from cinder.message import message_field
from cinder import objects
from cinder.volume import configuration
from cinder.volume import driver as volume_driver
from cinder.volume.drivers.ibm import gpfs
from cinder.volume import qos_specs

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backup_case
from cinder_vmdk_ext.tests.functional import migration_case
from cinder_vmdk_ext.tests.functional import test_qos
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import generic_migration
from cinder_vmdk_ext.volumes import host_space
from simulator import observer

FIRST, SECOND, LATER = (migration_case.FIRST, migration_case.SECOND,
                        migration_case.LATER)
HOST, FAR_HOST = migration_case.HOST, migration_case.FAR_HOST
GPFS_HOST = 'cinder-1@gpfs'


class KindsCase(migration_case.MigrationCase):

    def retyped(self, volume, type_id):
        """A retype with the policy on-demand: the scheduler chose the pool."""
        volume.previous_status, volume.status = 'available', 'retyping'
        volume.save()
        try:
            return self.migrate(volume, new_type_id=type_id,
                                diff={'extra_specs': {'a': ('b', 'c')}})
        finally:
            # What VolumeManager.retype writes.
            found = self.fresh(volume)
            found.status = 'available'
            found.save()

    def assert_refused(self, volume, *words, migrate=None):
        """A migration is refused, in a line that names the volume."""
        before = self.checksum(volume)
        with self.assertLogs('cinder_vmdk_ext.refusals', 'ERROR') as logged:
            self.assertRaises(exception.CinderException,
                              migrate or self.migrate, volume)
        lines = [line for line in logged.output if volume.id in line]
        for word in words:
            self.assertTrue(any(word in line for line in lines),
                            (word, logged.output))
        found = self.fresh(volume)
        self.assertEqual('error', found.migration_status)
        self.assertEqual((before, {}), (self.checksum(found),
                                        self.far.shadow_vms()))
        self.assertEqual([], list(self.folder.glob('**/*.raw')))
        return found

    def messages(self, volume):
        return [(each['action_id'], each['detail_id'])
                for each in message_api.API().get_all(
                    self.context, filters={'resource_uuid': volume.id})]


class TypesTestCase(KindsCase):

    VCENTER = migration_case.MigrationCase.VCENTER | {
        'policy': ['gold=LocalDS_1', 'near=LocalDS_1', 'Mixed=LocalDS_1']}
    FAR_VCENTER = migration_case.MigrationCase.VCENTER | {
        'policy': ['gold=LocalDS_1', 'silver=LocalDS_0', 'MIXED=LocalDS_1']}

    def policies(self, side, volume):
        truth = side.truth(volume)
        return observer.policies_of_disk(observer.policy_service(
            side.vcenter, side.service), truth.vm, truth.disk)

    def of_policy(self, name):
        return self.volume_type(name, storage_profile=name)['id']

    def test_a_policy_that_both_vcenters_have(self):
        volume = self.filled(type_id=self.of_policy('gold'))
        self.assert_only(self.migrate(volume), self.far)
        self.assertEqual(['gold'], self.policies(self.far, volume))

    def test_a_retype_goes_to_a_pool_that_complies(self):
        silver = self.of_policy('silver')
        for lazy in False, True:
            self.set_options(self.far, vmware_lazy_create=lazy)
            volume = self.filled()
            found = self.retyped(volume, silver)
            self.assertEqual(f'{FAR_HOST}#LocalDS_0', found.host)
            self.assertEqual(['silver'], self.policies(self.far, volume))
            self.assertEqual('LocalDS_0', self.far.truth(volume).datastore)
            self.far.driver.delete_volume(found)
            found.destroy()

    def test_a_policy_that_the_other_has_not_or_not_on_that_pool(self):
        silver = self.of_policy('silver')
        for name, more in (('near', "'near'"), ('Mixed', 'MIXED')):
            volume = self.filled(type_id=self.of_policy(name))
            self.assert_refused(volume, name, more, 'silver')
            self.assertEqual([], self.messages(volume))
            self.driver.delete_volume(volume)
            volume.destroy()
        volume = self.filled()
        volume.volume_type_id = silver
        self.assert_refused(volume, 'does not comply', 'silver')

    def test_a_user_learns_that_a_retype_failed(self):
        volume = self.filled()
        near = self.of_policy('near')
        self.assert_refused(volume, 'near',
                            migrate=lambda each: self.retyped(each, near))
        self.assertEqual([(message_field.Action.SCHEDULE_ALLOCATE_VOLUME[0],
                           message_field.Detail.NO_BACKEND_AVAILABLE[0])],
                         self.messages(volume))

    def test_quality_of_service(self):
        def with_qos(name, **specs):
            made = self.volume_type(name)['id']
            found = qos_specs.create(self.context, name, {
                'consumer': 'back-end'} | specs)
            qos_specs.associate_qos_with_type(self.context, found['id'], made)
            return made
        gold = with_qos('gold', total_iops_sec='500')
        low = with_qos('low', total_iops_sec='100',
                       disk_io_shares_level='low')
        reserved = with_qos('reserved', disk_io_reservation='100')
        for migrate, limits in (
                (self.migrate, (500, 'normal', 1000, 0)),
                (lambda each: self.retyped(each, low), (100, 'low', 500, 0))):
            volume = self.filled(type_id=gold)
            migrate(volume)
            self.assertEqual(limits, test_qos.allocation(
                self.assert_only(volume, self.far).disk))
            self.far.driver.delete_volume(self.fresh(volume))
            volume.destroy()
        self.assert_refused(
            self.filled(type_id=gold), 'no datastore of this backend can have',
            migrate=lambda each: self.retyped(each, reserved))


class StatesTestCase(KindsCase):

    def setUp(self):
        super().setUp()
        self.backups = backup_case.BackupService(
            backup_case.VolumeCalls(self.service_of_volumes),
            backup_case.SparseDriver)
        self.enterContext(mock.patch.object(
            backup_case.backup_rpcapi, 'BackupAPI', lambda: self.backups))
        self.enterContext(mock.patch.object(
            backup_case.utils, 'notifications_enabled', lambda conf: False))

    def test_disks_that_exist_and_those_that_are_promised(self):
        """Also one without content, which has a disk at the source alone."""
        for near, far, make, state_there in (
                (False, True, self.create, state.PROMISED),
                (False, True, self.filled, state.BACKED),
                (True, False, self.create, state.BACKED)):
            self.set_options(self, vmware_lazy_create=near)
            self.set_options(self.far, vmware_lazy_create=far)
            volume = make()
            moved = self.migrate(volume)
            self.assertEqual(('success', state_there),
                             (moved.migration_status, moved.provider_id))
            self.assertEqual({}, self.shadow_vms())
            self.assertEqual(
                [volume.name] if state_there == state.BACKED else [],
                list(self.far.shadow_vms()))
            self.assertEqual([volume.id], [each.id for each in (
                objects.VolumeList.get_all(self.context))])
            self.far.driver.extend_volume(moved, 2)
            self.far.driver.delete_volume(moved)
            moved.destroy()

    def test_attached(self):
        volume = self.filled()
        instance = self.attach(volume)
        manager = backup_case.volume_manager
        with mock.patch.object(manager.compute, 'API') as nova:
            self.assert_refused(self.fresh(volume), 'is attached',
                                'detach the volume first')
        nova.assert_not_called()
        self.assertEqual('in-use', self.fresh(volume).status)
        self.detach(volume, instance)

    def test_encrypted(self):
        volume = self.filled()
        volume.encryption_key_id = '3e1c1b5a-9f57-4f0f-8f43-7a6a7f6f0d11'
        volume.save()
        self.assert_refused(volume, 'encrypted by Cinder or Nova')
        kind = self.volume_type('secret')['id']
        volume = self.filled(type_id=kind)
        db_api.volume_type_encryption_create(self.context, kind, {
            'provider': 'luks', 'cipher': 'aes', 'key_size': 256,
            'control_location': 'front-end'})
        self.assert_refused(volume, 'has encryption by Cinder or Nova')

    # -- At work when it would begin ----------------------------------------

    def assert_fails(self, volume, words):
        caught = self.assertRaises(exception.CinderException, self.migrate,
                                   volume)
        self.assertIn(words, str(caught))
        self.assertEqual(('error', {}, [volume.name]), (
            self.fresh(volume).migration_status, self.far.shadow_vms(),
            list(self.shadow_vms())))
        self.assertEqual([], self.files())

    def test_one_that_is_at_work_when_the_copy_would_begin(self):
        for status in 'backing-up', 'extending':
            volume = self.filled()

            def change(found=volume, status=status):
                found = self.fresh(found)
                found.status = status
                found.save()
            self.calls.before('create_volume', change)
            self.assert_fails(volume, f'is {status}')
            self.driver.delete_volume(self.fresh(volume))
            volume.destroy()

    # -- Cinder's backup manager works on it at the same time ----------------

    def new_backup(self, volume):
        made = objects.Backup(
            self.context, user_id='user', project_id=volume.project_id,
            volume_id=volume.id, status='creating', size=volume.size,
            host=self.backups.host, display_name='a backup')
        made.create()
        volume = self.fresh(volume)
        volume.previous_status = volume.status
        volume.status = 'backing-up'
        volume.save()
        return objects.Backup.get_by_id(self.context, made.id)

    def back_up(self, volume):
        made = self.new_backup(volume)
        self.assertIsNone(self.elsewhere(
            self.backups.create_backup, self.context, made))
        return made

    def test_backed_up(self):
        volume = self.filled()
        self.calls.before('initialize_connection',
                          lambda: self.back_up(volume))
        self.assert_only(self.migrate(volume), self.far)
        [backup] = objects.BackupList.get_all(self.context)
        self.assertEqual('available', backup.status)

    # -- The folders ---------------------------------------------------------

    def test_a_folder_that_is_not_shared_though_an_option_says_so(self):
        """The destination's folder exists on its own host only."""
        theirs = self.folder.parent / 'theirs'
        self.set_options(self.far, vmdk_ext_backup_dir=str(theirs),
                         vmdk_ext_backup_dir_shared=True)
        real = self.far.driver.initialize_connection

        def on_its_host(*args):
            if theirs.with_suffix('.hidden').exists():
                os.rename(theirs.with_suffix('.hidden'), theirs)
            try:
                return real(*args)
            finally:
                os.rename(theirs, theirs.with_suffix('.hidden'))
        with mock.patch.object(self.far.driver, 'initialize_connection',
                               on_its_host):
            self.assert_refused(self.filled(), 'does not exist on this host',
                                'mount the file system')
        self.assertFalse(theirs.exists())

    def test_two_hosts_that_share_the_folder(self):
        self.set_options(self.far, vmdk_ext_backup_dir_shared=True)
        with self.on_another_host():
            self.assert_only(self.migrate(self.filled()), self.far)

    def test_two_hosts_that_do_not(self):
        with self.on_another_host():
            self.assert_refused(self.filled(), 'vmdk_ext_backup_dir_shared')
        self.assertEqual(1, self.calls.made.count('initialize_connection'))

    def on_another_host(self):
        """The source's service runs there; the destination's runs here."""
        real = self.far.driver.initialize_connection
        return mock.patch.object(
            self.far.driver, 'initialize_connection',
            lambda volume, connector: real(
                volume, connector | {'host': 'elsewhere'}))

    def test_space_is_asked_for_at_both_sides_before_anything_is_read(self):
        volume = self.filled()
        needed = self.driver.backend.migration.source._restore \
            .most_data_bytes(volume)
        self.assertLess(needed, 1 << 30)
        self.control.reset_journal()
        for free, words in (
                (needed - 1, 'initialize_connection'),
                # On one file system the two copies take twice that.
                (2 * needed - 1, 'before_volume_copy')):
            with mock.patch.object(
                    host_space, 'free_bytes',
                    lambda path, free=free: backup_files.SPARE_BYTES + free):
                self.assert_refused(volume, 'has too little space',
                                    str(self.folder / 'migrations'), words)
        self.assertFalse([each for each in self.control.calls()
                          if 'ExportVm' in str(each)])
        self.assertEqual({}, self.far.driver.backend.migration.files._claims)

    def test_a_member_cannot_claim_more_than_the_volume_has(self):
        for asked in 1 << 62, -5, 'much', None:
            self.assertIn(generic_migration._needed_bytes(
                {generic_migration.NEEDS: asked}, 1 << 30), (1 << 30, 0))

    def test_credentials_must_be_alike_before_anything_is_copied(self):
        for side in self, self.far:
            self.set_options(side, vmdk_ext_connector_credentials=True)
            self.assert_refused(self.filled(),
                                'vmdk_ext_connector_credentials must be the')
            self.set_options(side, vmdk_ext_connector_credentials=False)
            for each in objects.VolumeList.get_all(self.context):
                self.driver.delete_volume(each)
                each.destroy()
        self.assertEqual([], self.calls.infos)

    # -- Other drivers of Cinder ---------------------------------------------

    def gpfs(self):
        """Cinder's driver of a file system, with the commands it starts.

        Those of Spectrum Scale are answered here; all others are real.

        :returns: the folder of its volumes
        """
        folder = self.folder.parent / 'gpfs'
        commands = self.folder.parent / 'commands'
        for each in folder, commands:
            each.mkdir()
        for name, answer in {
                'mmgetstate': 'state\nactive', 'mmlsconfig': 'value\n1502',
                'mmlsfs': 'data\n15.01', 'mmlsattr': 'fileset name: root',
                'mmlspool': '', 'mmchattr': '', 'mmclone': ''}.items():
            (commands / name).write_text(
                f'#!/bin/sh\nprintf \'%s\\n\' \'{answer}\'\n')
            (commands / name).chmod(0o700)
        self.enterContext(mock.patch.dict(os.environ, {
            'PATH': f'{commands}:{os.environ["PATH"]}'}))
        driver = gpfs.GPFSDriver(
            configuration=configuration.Configuration(
                volume_driver.volume_opts, config_group='gpfs'),
            host=GPFS_HOST)
        self.set_option_of('gpfs', gpfs_mount_point_base=str(folder))
        driver.do_setup(self.context)
        driver.check_for_setup_error()
        self.calls.locations[GPFS_HOST] = driver.get_volume_stats(
            refresh=True)['location_info']
        self.other = migration_case.VolumeService(driver)
        self.calls.services[GPFS_HOST] = self.other
        return folder

    def set_option_of(self, group, **options):
        for name, value in options.items():
            cfg.CONF.set_override(name, value, group)
            self.addCleanup(cfg.CONF.clear_override, name, group)

    def test_to_another_driver_and_not_back(self):
        folder = self.gpfs()
        volume = self.filled()
        self.begin(volume)
        self.service_of_volumes.migrate_volume(self.context, volume, {
            'host': f'{GPFS_HOST}#gpfs', 'capabilities': {
                'location_info': self.calls.locations[GPFS_HOST]}})
        moved = self.fresh(volume)
        self.assertEqual(('success', f'{GPFS_HOST}#gpfs', {}),
                         (moved.migration_status, moved.host,
                          self.shadow_vms()))
        file = folder / moved.name
        self.assertEqual([file], list(folder.iterdir()))
        self.assertEqual(1 << 30, file.stat().st_size)
        with open(file, 'rb') as opened:
            self.assertEqual(FIRST, opened.read(len(FIRST)))
            opened.seek(LATER)
            self.assertEqual(SECOND, opened.read(len(SECOND)))
        self.assertEqual([volume.id], [each.id for each in (
            objects.VolumeList.get_all(self.context))])
        self.assertEqual([], self.files())
        self.begin(moved)
        with self.assertLogs('cinder_vmdk_ext.refusals', 'ERROR') as logged:
            self.assertRaises(exception.CinderException,
                              self.other.migrate_volume, self.context, moved,
                              {'host': f'{HOST}#LocalDS_1',
                               'capabilities': {}})
        self.assertIn(f'to which volume {volume.id} is migrated, failed',
                      logged.output[0])
        self.assertIn('from another driver', logged.output[0])
        self.assertEqual(([file], {}, 'error'), (
            list(folder.iterdir()), self.shadow_vms(),
            self.fresh(volume).migration_status))
