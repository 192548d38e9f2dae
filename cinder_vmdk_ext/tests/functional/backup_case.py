# SPDX-License-Identifier: Apache-2.0
"""Cinder's own backup and volume managers around the driver, in one process.

Only the message bus between them is left out: a call of one is a call of the
other's method. A backup driver of Cinder reads and hashes every byte, so tests
use one of their own that leaves zeros out.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import time
from unittest import mock

from oslo_config import cfg

from cinder import context as cinder_context
from cinder import objects

objects.register_all()  # before the modules that use them are imported

from cinder.backup import driver as backup_driver  # noqa: E402
from cinder.backup import manager as backup_manager  # noqa: E402
from cinder.backup import rpcapi as backup_rpcapi  # noqa: E402
from cinder.db import api as db_api  # noqa: E402
from cinder.objects import fields  # noqa: E402
from cinder import utils  # noqa: E402
from cinder.volume import manager as volume_manager  # noqa: E402

from cinder_vmdk_ext.tests.functional import backend_case  # noqa: E402
from cinder_vmdk_ext.volumes import backup_files  # noqa: E402
from cinder_vmdk_ext.volumes.image_formats import raw  # noqa: E402

CONF = cfg.CONF
FIRST = backend_case.content('first')
SECOND = backend_case.content('second')
# Where they begin once more: in the third table of a VMDK.
LATER = 70 << 20


class VolumeService(volume_manager.VolumeManager):
    """Cinder's volume manager, without the start of a service."""

    def __init__(self, driver):
        self.driver = driver
        self.db = db_api
        self.configuration = driver.configuration


class VolumeCalls:
    """cinder.volume.rpcapi.VolumeAPI, whose calls are calls of a method."""

    def __init__(self, service):
        self._service = service
        #: What each connection info was, and each call that was made.
        self.infos, self.calls = [], []
        #: Errors of messages without a reply.
        self.lost = (Exception,)

    def get_backup_device(self, context, backup, volume):
        self.calls.append('get_backup_device')
        self._service.get_backup_device(context, backup, want_objects=True,
                                        async_call=True)

    def initialize_connection(self, context, volume, connector):
        self.calls.append('initialize_connection')
        info = self._service.initialize_connection(context, volume, connector)
        self.infos.append(info)
        return info

    def terminate_connection(self, context, volume, connector, force=False):
        self.calls.append('terminate_connection')
        self._service.terminate_connection(context, volume.id, connector,
                                           force=force)

    def remove_export(self, context, volume, sync=False):
        self._service.remove_export(context, volume.id)

    def secure_file_operations_enabled(self, context, volume):
        return self._service.secure_file_operations_enabled(context, volume)

    def delete_volume(self, context, volume):
        # A message without a reply: the caller does not learn how it ends.
        try:
            self._service.driver.delete_volume(volume)
        except Exception:
            volume.status = 'error_deleting'
            volume.save()
        except self.lost:
            pass  # the service was killed
        else:
            volume.destroy()


class SparseDriver(backup_driver.BackupDriver):
    """A backup driver that copies no zeros, so that a GiB takes no time."""

    #: What backups contain, by their ids: pieces and a length.
    kept: dict[str, tuple[list[tuple[int, bytes]], int]] = {}
    #: Called while a backup is read or restored.
    meanwhile = staticmethod(lambda: None)

    def backup(self, backup, volume_file, backup_metadata=False):
        self.kept[backup.id] = (
            list(raw.read(volume_file.fileno())),
            os.fstat(volume_file.fileno()).st_size)
        self.meanwhile()

    def restore(self, backup, volume_id, volume_file, volume_is_new):
        pieces, length = self.kept[backup.id]
        for offset, data in pieces:
            os.pwrite(volume_file.fileno(), data, offset)
        self.meanwhile()
        if not volume_is_new:
            os.truncate(volume_file.fileno(), length)

    def delete_backup(self, backup):
        del self.kept[backup.id]


class BackupService(backup_manager.BackupManager):
    """Cinder's backup manager, without the start of a service."""

    def __init__(self, volume_calls, driver):
        self.db = db_api
        self.volume_rpcapi = volume_calls
        self.message_api = backup_manager.message_api.API()
        self._semaphore = contextlib.nullcontext()
        self._process_number = 1
        self.host, self.az = 'backup-host', 'nova'
        self.driver_name = f'{driver.__module__}.{driver.__name__}'
        self.service = driver
        self.is_initialized = True


class BackupCase(backend_case.BackendCase):
    """A folder for raw files, and the two managers."""

    VCENTER = backend_case.BackendCase.VCENTER | {'ds': 2}
    DRIVER = SparseDriver

    def setUp(self):
        super().setUp()
        # The next test has other records than what they import to.
        self.addCleanup(self.join_threads, 'vmdk-ext-restore')
        self.folder = tempfile.mkdtemp(prefix='vmdk-ext-backup-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.set_options(vmdk_ext_backup_dir=self.folder)
        #: What os-brick says of the host of cinder-backup.
        self.connector = {
            'platform': 'x86_64', 'os_type': 'linux', 'ip': '127.0.0.1',
            'host': socket.gethostname(), 'multipath': False}
        self.volume_service = VolumeService(self.driver)
        for module, name, value in (
                (volume_manager.volume_utils, 'require_driver_initialized',
                 mock.DEFAULT),
                # There is no bus to which they could go.
                # os-brick would ask the host as its administrator.
                (volume_manager.volume_utils,
                 'brick_get_connector_properties',
                 lambda *args, **kwargs: self.connector),
                (utils, 'notifications_enabled', lambda conf: False)):
            self.enterContext(mock.patch.object(module, name, value))
        self.calls = VolumeCalls(self.volume_service)
        self.backups = BackupService(self.calls, self.DRIVER)
        self.enterContext(mock.patch.object(
            backup_rpcapi, 'BackupAPI', lambda: self.backups))

    def set_options(self, **options):
        """Options of the backend's section."""
        group = self.driver.configuration.config_group
        for name, value in options.items():
            CONF.set_override(name, value, group)
            self.addCleanup(CONF.clear_override, name, group)

    # -- What a user does ---------------------------------------------------

    def filled(self, content=FIRST, size_gib=1, type_id=None):
        """A volume that holds something at its beginning and later."""
        volume = self.create(size_gib=size_gib, type_id=type_id,
                             content=content)
        self.write(volume, content, LATER)
        return volume

    def back_up(self, volume, parent=None, snapshot=None):
        """Make a backup, as cinder-api asks for one."""
        made = self.new_backup(volume, parent, snapshot)
        self.backups.create_backup(self.user_context(), made)
        return self.backup(made)

    def new_backup(self, volume, parent=None, snapshot=None):
        made = objects.Backup(
            self.context, user_id='user', project_id=volume.project_id,
            volume_id=volume.id, status='creating', size=volume.size,
            host=self.backups.host, display_name='a backup',
            parent_id=parent and parent.id,
            snapshot_id=snapshot and snapshot.id)
        made.create()
        if snapshot:
            snapshot.status = fields.SnapshotStatus.BACKING_UP
            snapshot.save()
        else:
            volume.refresh()
            volume.previous_status = volume.status
            volume.status = 'backing-up'
            volume.save()
        return self.backup(made)

    def restore(self, backup, volume, is_new=False):
        """Restore a backup to a volume, as cinder-api asks for it."""
        self.begin_restore(backup, volume)
        self.backups.restore_backup(self.user_context(), backup, volume.id,
                                    is_new)
        return self.fresh(volume)

    def begin_restore(self, backup, volume):
        backup.status = 'restoring'
        backup.restore_volume_id = volume.id
        backup.save()
        volume.status = 'restoring-backup'
        volume.save()

    def user_context(self):
        return cinder_context.RequestContext(
            'user', self.context.project_id, is_admin=True)

    def backup(self, backup):
        """The backup as the database has it now."""
        return objects.Backup.get_by_id(self.context, backup.id)

    # -- Ways to break it off ------------------------------------------------

    def interrupted(self, act):
        """A restore during which something happens."""
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        self.enterContext(mock.patch.object(
            SparseDriver, 'meanwhile',
            staticmethod(lambda: act(backup))))
        try:
            self.restore(backup, volume)
        except Exception as error:
            self.error = error
        return self.fresh(volume)

    def killed(self, state):
        """A restore whose cinder-volume ended before the import did."""
        volume = self.filled()
        backup = self.back_up(volume)
        self.write(volume, SECOND)
        self.write(volume, SECOND, LATER)
        self.begin_restore(backup, volume)
        info = self.driver.initialize_connection(volume, self.connector)
        with open(info['data']['device_path'], 'wb') as file:
            SparseDriver(self.context).restore(
                backup, volume.id, file, False)
        folder = backup_files.Folder(self.folder)
        folder.save(folder.note(volume.id)._replace(state=state))
        # cinder-backup has waited in vain for the end of the connection.
        backup.status = 'available'
        backup.save()
        volume.status = 'error_restoring'
        volume.save()
        self.driver.backend.backups.resume(
            self.driver.put_restored, self.driver.delete_volume)
        return volume

    # -- What there is ------------------------------------------------------

    def until(self, status, volume):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.fresh(volume)
            if found.status == status:
                return
            time.sleep(0.05)
        self.fail(f'{found.status}, not {status}')

    def assert_content(self, content, volume):
        for offset in (0, LATER):
            self.assertEqual(content, self.read(volume, len(content), offset))

    def assert_failed(self, words, backup):
        self.assertEqual('error', backup.status)
        self.assertIn(words, backup.fail_reason)

    def files(self):
        """The files for cinder-backup that are there."""
        return sorted(os.listdir(self.folder))

    def assert_imported(self, volume):
        """A restore ends with its content on the volume, and leaves nothing.

        The content is FIRST.
        """
        self.until('available', volume)
        self.assert_content(FIRST, volume)
        self.assert_nothing_left(volume)

    def assert_nothing_left(self, *volumes):
        """No file, no VM of another volume, no temporary volume."""
        self.assertEqual([], self.files())
        self.assertEqual(sorted(volume.name for volume in volumes),
                         sorted(self.shadow_vms()))
        self.assertEqual(
            sorted(volume.id for volume in volumes),
            sorted(volume.id for volume
                   in objects.VolumeList.get_all(self.context)))
