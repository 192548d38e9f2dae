# SPDX-License-Identifier: Apache-2.0
"""Copies volumes to and from other backends by files (generic migration).

Cinder creates an empty volume at the destination, attaches both volumes to
the source's host, copies, exchanges the two records and deletes the source
(VolumeManager._migrate_volume_generic). Both attachments are raw files here:

- At the source ``before_volume_copy`` notes the migration, and
  ``initialize_connection``, which Cinder calls in the same process, so that
  it may last, exports the disk.
- At the destination ``initialize_connection`` offers an empty file.
- ``terminate_connection`` comes alike after a complete and a failed copy, so
  it imports nothing. ``after_volume_copy``, which the source gets only after
  a complete copy, asks the destination for the import, with a checksum of the
  content, by further calls of ``initialize_connection`` until it has ended.
  ``before_volume_copy`` asks it in the same way for the space.

The source keeps its disk until Cinder deletes it at the end.
"""

import contextlib
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import units

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import rpcapi as volume_rpcapi

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import attach
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import backups
from cinder_vmdk_ext.volumes import host_space
from cinder_vmdk_ext.volumes import restore
from cinder_vmdk_ext.volumes.image_formats import raw

LOG = logging.getLogger(__name__)

#: How the location_info of each backend of this driver begins.
OURS = 'VmdkExtDriver:'
#: Keys of the connector by which the source asks for the import: what the
#: content is, and the adapter type of the source's disk.
ASKS, ADAPTER = 'vmdk_ext_copied', 'vmdk_ext_adapter'
#: Key of the connector by which the source asks for space: how many bytes the
#: copy takes at most.
NEEDS = 'vmdk_ext_needed'
#: Key of the connection info that answers: whether the import has ended.
DONE = 'vmdk_ext_imported'
# The name of the folder in vmdk_ext_backup_dir.
_NAME = 'migrations'
_OF_BACKUPS = ('backing-up', 'restoring-backup')  # statuses of a volume
#: States of notes of the source.
AT_SOURCE = (backup_files.ASKED, backup_files.EXPORTING,
             backup_files.EXPORTED, backup_files.READ)
# A volume has one of these while Cinder copies it.
_COPIED_IN = ('available', 'maintenance', 'retyping')
_NOT_ALIKE = ('vmdk_ext_connector_credentials must be the same in both '
              'backends: volume {volume} has no file that was written by the '
              'other')
# How often the end of an import is looked for.
_LOOK_SECONDS = 0.2


class Files:
    """What both sides have in common: the folder and its notes."""

    def __init__(self, transport: backups.Backups, owner: Any) -> None:
        """:param transport: knows the folder and who may use it
        :param owner: the backend (:class:`reconcile.Owner`)
        """
        self.transport = transport
        self.owner = owner
        # Space of copies that Cinder may still write, by volumes' ids.
        self._claims: dict[str, host_space.SpaceClaim] = {}

    @property
    def is_used(self) -> bool:
        """Whether migrations are done by files."""
        return bool(self.transport.path
                    and not self.transport.gives_credentials)

    @property
    def folder(self) -> backup_files.Folder:
        """The folder of the files of migrations."""
        return self.transport.folder.within(_NAME)

    def new_note(self, volume: Any, note_state: str, peer: str,
                 **more: Any) -> backup_files.FileNote:
        """A note of this service about a volume.

        :param peer: the volume on the other side
        """
        return backup_files.FileNote(
            volume['id'], note_state, self.transport.owned_by,
            self.owner.host or '', peer=peer, **more)

    def own_notes(self) -> list[backup_files.FileNote]:
        """The notes of this backend."""
        if not self.transport.path:
            return []
        return [note for note in self.folder.notes()
                if note.owner == self.transport.owned_by]

    def note(self, volume_id: str) -> backup_files.FileNote | None:
        """A volume's note; None: it has none."""
        return self.folder.note(volume_id) if self.transport.path else None

    def claim(self, volume: Any, needed_bytes: int) -> None:
        """Claim the space of a copy to a volume, until :meth:`release`.

        :raises BackupRefused: the folder has not so much
        """
        self.release(volume['id'])
        found = self.folder.claim_offered(volume['id'], needed_bytes)
        if found is not None:
            self._claims[volume['id']] = found

    def release(self, volume_id: str) -> None:
        """Give up what was claimed for a volume; may be repeated."""
        found = self._claims.pop(volume_id, None)
        if found is not None:
            found.end()

    def release_ended(self) -> None:
        """Give up the space of copies that another service has ended."""
        for volume_id in list(self._claims):
            note = self.note(volume_id)
            if note is None or note.state != backup_files.OFFERED:
                self.release(volume_id)

    def forget(self, volume: Any) -> None:
        """Remove what a deleted volume has left.

        A failure is logged: :meth:`migration_recovery.BrokenOff.sweep` finds
        it when the volume is gone.
        """
        self.release(volume['id'])
        try:
            self._forget(volume)
        except OSError as error:
            LOG.warning('What the migration of volume %(volume)s left was '
                        'not removed with it: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def _forget(self, volume: Any) -> None:
        if not self.transport.path:
            return
        if self.folder.note(volume['id']) is not None:
            self.folder.remove(volume['id'])
        # Cinder deletes the source by the other volume's id.
        source = volume.get('name_id') or volume['id']
        note = self.folder.note(source)
        if note is not None and note.peer == volume['id']:
            self.folder.remove(source)

    def info(self, volume: Any, **more: Any) -> dict[str, Any]:
        """The connection info that names a volume's file."""
        return {'driver_volume_type': 'local',
                'data': {'volume_id': volume['id'],
                         'device_path': self.folder.file(volume['id']),
                         **more}}


class Source:
    """The side from which a volume is copied."""

    def __init__(self, cinder: upstream.Upstream,
                 admission: admissions.Admission,
                 finder: backing_finder.Finder, restorer: restore.Restore,
                 files: Files) -> None:
        self._upstream = cinder
        self._admission = admission
        self._finder = finder
        self._restore = restorer
        self._files = files
        # The threads in which migrations run, by volumes' ids.
        self._threads: dict[str, int] = {}

    def begin(self, context: Any, volume: Any, new_volume: Any) -> None:
        """Check and note that a migration begins (``before_volume_copy``).

        :raises MigrationRefused: the volume cannot be copied, or the
            destination's file cannot be seen from here
        :raises BackupRefused: there is too little space here
        :raises VolumeBackendAPIException: or there; the destination says why
        """
        self._threads.pop(volume['id'], None)
        if not self._files.is_used:
            if self._files.transport.gives_credentials and _is_ours(
                    new_volume):
                # It refuses if it would wait for a file.
                volume_rpcapi.VolumeAPI().initialize_connection(
                    context, new_volume, _connector(**{ASKS: ''}))
            return
        self._admission.check_plain(volume)
        folder = self._files.folder
        folder.remove(volume['id'])
        folder.save(self._files.new_note(
            volume, backup_files.ASKED, new_volume['id'],
            host=volume['host']))
        try:
            # From now on others are refused, or have changed the record.
            _check_unchanged(_existing(volume['id']), new_volume)
            self._files.transport.check_settled(volume)
            needed = self._restore.most_data_bytes(volume)
            if _is_ours(new_volume):
                self._reserve(context, new_volume, needed)
            folder.check_space(needed)
        except Exception:
            folder.remove(volume['id'])
            raise
        self._threads[volume['id']] = threading.get_ident()

    @staticmethod
    def _reserve(context: Any, new_volume: Any, needed_bytes: int) -> None:
        """Have the destination offer its file, with space for the copy."""
        path = volume_rpcapi.VolumeAPI().initialize_connection(
            context, new_volume, _connector(**{NEEDS: needed_bytes})
        )['data']['device_path']
        # Another host of that name, or a folder that is not shared: the copy
        # would be written to a file that nobody imports.
        try:
            os.stat(path)
        except FileNotFoundError:
            raise exceptions.MigrationRefused(
                f'{path}, which the destination has made for the copy, does '
                f'not exist on this host ({socket.gethostname()}); mount the '
                'file system of its vmdk_ext_backup_dir here under the same '
                'path') from None
        except PermissionError:
            pass  # the copy is by root

    def is_at_work(self, volume: Any) -> bool:
        """Whether this call is part of a migration of the volume.

        Cinder calls all hooks of the source from one thread. The calls of a
        backup that is made meanwhile look alike.
        """
        return self._threads.get(volume['id']) == threading.get_ident()

    def connect(self, volume: Any) -> dict[str, Any]:
        """Copy the disk to a file, and name it; once for each migration.

        :raises ConnectorRefused: no migration of the volume has begun, or its
            copy has been read
        :raises BackupRefused, TransferFailed, BackingLost: the disk cannot be
            copied
        """
        with locks.volumes(volume['id']):
            note = self._files.note(volume['id'])
            if note is None or note.state not in (
                    backup_files.ASKED, backup_files.EXPORTED):
                raise exceptions.ConnectorRefused(
                    f'no migration of volume {volume["id"]} by this service '
                    'waits for a copy of its disk')
            if note.state == backup_files.ASKED:
                self._export(volume, note)
        return self._files.info(volume)

    def _export(self, volume: Any, note: backup_files.FileNote) -> None:
        folder, began = self._files.folder, time.monotonic()
        LOG.info('The copy of volume %(volume)s for its migration begins.',
                 {'volume': volume['id']})
        folder.save(note._replace(state=backup_files.EXPORTING))
        try:
            written = self._restore.export_to(folder, volume)
            with folder.opened(volume['id']) as descriptor:
                digest = raw.digest(descriptor,
                                    concurrency.cooperative_yield)
        except Exception:
            folder.remove(volume['id'])
            raise
        folder.save(note._replace(state=backup_files.EXPORTED,
                                  digest=digest))
        LOG.info('Volume %(volume)s was copied for its migration: %(size)d '
                 'bytes of data in %(seconds).1f s.',
                 {'volume': volume['id'], 'size': written,
                  'seconds': time.monotonic() - began})

    def disconnect(self, volume: Any) -> None:
        """Remove the file; the note stays until the migration has ended."""
        self._threads.pop(volume['id'], None)
        note = self._files.note(volume['id'])
        if note is not None and note.state == backup_files.EXPORTED:
            self._files.folder.empty(volume['id'])
            self._files.folder.save(note._replace(state=backup_files.READ))

    def check_settled(self, volume: Any) -> None:
        """Check that no migration is copying the volume's disk.

        What is written to it, or extended, now would be lost.

        :raises MigrationRefused: one is
        """
        # A migration that has begun since sees the status of this request.
        if volume.get('migration_status') not in ('migrating', 'completing'):
            return
        note = self._files.note(volume['id'])
        if note is not None and note.state in AT_SOURCE:
            raise exceptions.MigrationRefused(
                f'wait until the migration of volume {volume["id"]} has '
                'ended: its disk has been copied')

    def finish(self, context: Any, volume: Any, new_volume: Any) -> None:
        """Have the destination import the content (``after_volume_copy``).

        Returns when it is on the new volume.

        :raises MigrationRefused: the volume was used meanwhile, or nothing
            says what was copied
        :raises VolumeBackendAPIException: the destination failed
        """
        backing = self._finder.find(volume)
        if _is_ours(new_volume):
            self._wait_for_import(context, volume, new_volume, backing)
        _check_unchanged(_existing(volume['id']), new_volume)
        if backing:
            # Cinder will delete the disk by the id of the new volume.
            self._upstream.volumeops.set_mark(backing, shadow.MIGRATED_AS,
                                              new_volume['id'])

    def _wait_for_import(self, context: Any, volume: Any, new_volume: Any,
                         backing: Any) -> None:
        digest = ''
        if not self._files.transport.gives_credentials:
            note = self._files.note(volume['id'])
            if (note is None or note.peer != new_volume['id']
                    or note.state != backup_files.READ):
                raise exceptions.MigrationRefused(
                    f'nothing says what was copied of volume {volume["id"]}')
            digest = note.digest
        ops = self._upstream.volumeops
        connector = _connector(**{
            ASKS: digest, ADAPTER: ops.adapter_of(backing)
            if backing and ops.has_disk(backing) else ''})
        calls = volume_rpcapi.VolumeAPI()
        while not calls.initialize_connection(
                context, new_volume, connector)['data'][DONE]:
            LOG.info('Volume %(new)s is still importing the content of '
                     'volume %(volume)s.',
                     {'new': new_volume['id'], 'volume': volume['id']})


class Destination:
    """The side to which a volume is copied."""

    def __init__(self, cinder: upstream.Upstream,
                 admission: admissions.Admission,
                 finder: backing_finder.Finder, restorer: restore.Restore,
                 specs: Callable[[Any], dict[str, str]],
                 files: Files) -> None:
        """:param specs: gives the extra specs of a volume's type"""
        self._upstream = cinder
        self._admission = admission
        self._finder = finder
        self._restore = restorer
        self._specs = specs
        self._files = files
        # Why imports failed whose ERROR line is in this process's log.
        self._failed: dict[str, str] = {}

    @staticmethod
    def check_new(volume: Any) -> None:
        """Check that a volume can become what another is migrated to.

        :raises VolumeRefused: the other is attached
        """
        source = volume_or_none(state.migrates_from(volume))
        if source is not None and source.volume_attachment:
            raise exceptions.VolumeRefused(
                f'volume {source.id} is attached, and Cinder would ask Nova '
                "to swap its disk, which Nova's VMware driver cannot do; "
                'detach the volume first, or, within one vCenter, move it by '
                'a retype to another pool')

    def offer(self, volume: Any, connector: Any) -> dict[str, Any]:
        """Make a file to which the source's host copies; may be repeated.

        :param connector: says how much space is needed
        :raises ConnectorRefused: another driver serves the source
        :raises BackupRefused: there is too little space
        """
        source = volume_or_none(state.migrates_from(volume))
        if source is None or not _is_ours(source):
            raise exceptions.ConnectorRefused(
                f'volume {volume["id"]} cannot be the destination of a '
                'migration from another driver without the '
                "vCenter's password; back the source up, and restore the "
                'backup to a volume of this backend')
        self._admission.check_plain(volume)
        self._restore.check(volume)
        folder = self._files.folder
        with locks.volumes(volume['id']):
            note = folder.note(volume['id'])
            if NEEDS in connector:
                self._files.claim(volume, _needed_bytes(
                    connector, volume['size'] * units.Gi))
            if note is None:
                folder.check_space(0)
                note = self._files.new_note(volume, backup_files.OFFERED,
                                            source['id'])
                folder.save(note)
                folder.offer(volume['id'], volume['size'] * units.Gi)
        if note.state != backup_files.OFFERED:
            raise exceptions.ConnectorRefused(
                f'the copy to volume {volume["id"]} has ended')
        return self._files.info(volume)

    def confirm_credentials(self, volume: Any, connector: Any
                            ) -> dict[str, Any]:
        """Confirm that the content is there: os-brick writes it.

        :raises MigrationRefused: the source copies by a file
        """
        if connector.get(ASKS) != '':
            raise exceptions.MigrationRefused(_NOT_ALIKE.format(
                volume=volume['id']))
        return {'driver_volume_type': 'vmdk',
                'data': {'volume_id': volume['id'], DONE: True}}

    def answer(self, volume: Any, connector: Any,
               put: Callable[[Any], None]) -> dict[str, Any]:
        """Import the file; waits as long as the source's call may last.

        May be repeated, at any service of the backend.

        :param put: imports the file, under the volume's lock
        :raises MigrationRefused: nothing was copied to a file, or it cannot
            be imported; the message says why
        """
        note = self._begun(volume, connector, put)
        until = time.monotonic() + backups.call_seconds()
        while (note.state == backup_files.WRITTEN
               and volume['id'] not in self._failed
               and time.monotonic() < until):
            time.sleep(_LOOK_SECONDS)
            note = self._files.note(volume['id']) or note._replace(
                state=backup_files.FAILED, why='the volume was deleted')
        # Its note may not say so: the folder may be the cause.
        why = self._failed.pop(volume['id'], None)
        if why or note.state == backup_files.FAILED:
            error = exceptions.MigrationRefused(
                f'the content of volume {note.peer} could not be imported: '
                f'{why or note.why}')
            if why:
                refusals.mark_reported(error)
            raise error
        if note.state == backup_files.WRITTEN:
            _check_alive(note)
        return self._files.info(
            volume, **{DONE: note.state == backup_files.IMPORTED})

    def _begun(self, volume: Any, connector: Any,
               put: Callable[[Any], None]) -> backup_files.FileNote:
        with locks.volumes(volume['id']):
            note = self._files.note(volume['id'])
            if (note is None or not connector[ASKS]
                    or note.peer != state.migrates_from(volume)):
                raise exceptions.MigrationRefused(_NOT_ALIKE.format(
                    volume=volume['id']))
            if note.state != backup_files.OFFERED:
                if note.digest != connector[ASKS]:
                    raise exceptions.MigrationRefused(
                        f'something else is on volume {volume["id"]} than '
                        f'was copied of volume {note.peer}')
                return note
            note = note._replace(
                state=backup_files.WRITTEN, digest=connector[ASKS],
                adapter=str(connector.get(ADAPTER) or ''),
                service=self._files.owner.host or '')
            self._files.folder.save(note)
        threading.Thread(
            target=self._import, args=(volume['id'], put),
            name='vmdk-ext-migration', daemon=True).start()
        self._files.release(volume['id'])  # all is written
        return note

    def _import(self, volume_id: str, put: Callable[[Any], None]) -> None:
        try:
            put(_existing(volume_id))
        except Exception as error:
            why = exceptions.first_line(error) or type(error).__name__
            refusals.report('put_migrated', refusals.About(
                'volume', volume_id, None, None), error, None)
            with contextlib.suppress(OSError):
                self._fail(volume_id, why)
            self._failed[volume_id] = why

    def _fail(self, volume_id: str, why: str) -> None:
        note = self._files.note(volume_id)
        if note is not None and note.state == backup_files.WRITTEN:
            self._files.folder.empty(volume_id)
            self._files.folder.save(note._replace(
                state=backup_files.FAILED, why=why))

    def put(self, volume: Any) -> None:
        """Make a volume's file its content; called under its lock.

        :raises MigrationRefused: the file is not what was copied
        """
        folder = self._files.folder
        note = folder.note(volume['id'])
        if note is None or note.state != backup_files.WRITTEN:
            return
        with folder.opened(volume['id']) as descriptor:
            if raw.digest(descriptor,
                          concurrency.cooperative_yield) != note.digest:
                raise exceptions.MigrationRefused(
                    f'{folder.file(volume["id"])} is not what was copied of '
                    f'volume {note.peer}; both hosts must see that folder '
                    'under the same path (vmdk_ext_backup_dir)')
            # Cinder has just made the volume, of zeros.
            if note.digest != raw.NO_DATA:
                self._restore.put(
                    volume, descriptor, True, note.machine,
                    lambda machine: folder.save(note._replace(
                        machine=machine)))
        self._adapt(volume, note.adapter)
        folder.empty(volume['id'])
        folder.save(note._replace(state=backup_files.IMPORTED))

    def _adapt(self, volume: Any, adapter: str) -> None:
        """Give the disk the adapter of the source's, unless its type says."""
        backing = self._finder.existing(volume)
        if backing and adapter:
            self._upstream.volumeops.reconfigure_disk(
                backing, adapter=copy_policy.adapter(self._specs(volume),
                                                     adapter))

    def check_imported(self, volume: Any) -> None:
        """Check that the new volume has the content.

        :raises MigrationRefused: a file of it was not imported
        """
        note = self._files.note(volume['id'])
        if note is not None and note.state != backup_files.IMPORTED:
            raise exceptions.MigrationRefused(
                f'volume {volume["id"]} has not got the content of volume '
                f'{note.peer}')


class GenericMigration:
    """Both sides of one backend, as Cinder's hooks need them."""

    def __init__(self, source: Source, destination: Destination,
                 files: Files) -> None:
        self.source = source
        self.destination = destination
        self.files = files

    def serves(self, volume: Any, connector: Any) -> bool:
        """Whether a connection is one of a generic migration by files.

        A mark that a dead migration left does not hinder a backup, which sets
        the volume's status.
        """
        if not attach.is_os_brick(connector):
            return False
        source = state.migrates_from(volume)
        if ASKS in connector or NEEDS in connector:
            return bool(source)
        if self.files.transport.gives_credentials:
            return False
        if volume.get('migration_status') == 'migrating':
            return self.source.is_at_work(volume)
        return bool(source and volume.get('status') not in _OF_BACKUPS)

    def connect(self, volume: Any, connector: Any,
                put: Callable[[Any], None]) -> dict[str, Any]:
        """The connection info; or what the source asks for.

        :param put: imports a volume's file, under the volume's lock
        :raises ConnectorRefused: the host cannot have a file
        """
        if self.files.transport.gives_credentials:
            return self.destination.confirm_credentials(volume, connector)
        self.files.transport.check(connector)
        if ASKS in connector:
            return self.destination.answer(volume, connector, put)
        if state.migrates_from(volume):
            return self.destination.offer(volume, connector)
        return self.source.connect(volume)

    def disconnect(self, volume: Any) -> None:
        """End a connection; imports nothing."""
        if state.migrates_from(volume):
            self.files.release(volume['id'])  # nothing more is written
        else:
            self.source.disconnect(volume)


def _connector(**asked: Any) -> dict[str, Any]:
    """The connector by which the source asks for something."""
    return {'platform': platform.machine(), 'os_type': sys.platform,
            'host': socket.gethostname(), 'multipath': False, **asked}


def _needed_bytes(connector: Any, size_bytes: int) -> int:
    """How much space a copy takes; others than the source may ask, too."""
    needed = connector[NEEDS]
    if not isinstance(needed, int):
        return size_bytes
    return max(0, min(needed, size_bytes))


def _is_ours(volume: Any) -> bool:
    """Whether a backend of this driver serves a volume.

    Its record does not say so: Cinder copies the source's fields to it.

    :raises MigrationRefused: the backend does not say what it is
    """
    found = volume_rpcapi.VolumeAPI().get_capabilities(
        cinder_context.get_admin_context(), volume.service_topic_queue,
        False)
    if not found:
        raise exceptions.MigrationRefused(
            f'the backend of volume {volume["id"]} ({volume["host"]}) does '
            'not report its capabilities yet; migrate again')
    return str(found.get('location_info') or '').startswith(OURS)


def _check_unchanged(volume: Any, new_volume: Any) -> None:
    """Check that a volume does not change while it is copied.

    :raises MigrationRefused: it is attached, has snapshots, or differs from
        the new volume, whose size and project Cinder will give it
    """
    if (volume.size, volume.project_id) != (new_volume['size'],
                                            new_volume['project_id']):
        raise exceptions.MigrationRefused(
            f'volume {volume["id"]} was extended or transferred meanwhile; '
            'migrate it again')
    if (volume.status not in _COPIED_IN or volume.volume_attachment
            or objects.SnapshotList.get_all_for_volume(
                cinder_context.get_admin_context(), volume['id'])):
        raise exceptions.MigrationRefused(
            f'volume {volume["id"]} is {volume.status}, attached, or has '
            'snapshots; migrate it while it is available and has none')


def _check_alive(note: backup_files.FileNote) -> None:
    """Check that the service that imports a file still runs.

    :raises MigrationRefused: it does not
    """
    found = objects.ServiceList.get_all(
        cinder_context.get_admin_context(),
        {'host': note.service, 'binary': 'cinder-volume'})
    if found and not found[0].is_up:
        raise exceptions.MigrationRefused(
            f'cinder-volume on {note.service}, which imports the content of '
            f'volume {note.peer}, does not run')


def volume_or_none(volume_id: str) -> Any:
    """A volume; None: Cinder has none of that id."""
    found = objects.VolumeList.get_all(
        cinder_context.get_admin_context(), filters={'id': volume_id})
    return found[0] if found else None


def _existing(volume_id: str) -> Any:
    return objects.Volume.get_by_id(cinder_context.get_admin_context(),
                                    volume_id)
