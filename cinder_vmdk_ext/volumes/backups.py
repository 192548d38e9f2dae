# SPDX-License-Identifier: Apache-2.0
"""Gives cinder-backup a volume's content as a file, and takes one back.

cinder-backup opens a local device. Cinder's calls to cinder-volume limit when
the driver can copy to and from the vCenter (docs/backups.md):

- ``get_backup_device`` is a message without a reply, so it may last: it
  exports the disk to a raw file.
- ``initialize_connection`` must be answered in ``rpc_response_timeout``: it
  names the file, with os-brick's connector ``local``.
- ``terminate_connection`` must be answered in that time too. After a restore
  the content is imported in a thread, and the answer waits for it as long as
  it may; if the import lasts longer, the volume's status says so.

A restore changes nothing before its file is complete: then a second disk is
made of it and exchanged for the volume's, as for a reimage.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import units

from cinder.backup import rpcapi as backup_rpcapi
from cinder import context as cinder_context
from cinder.message import api as message_api
from cinder.message import message_field
from cinder import objects
from cinder.objects import fields
from cinder.volume import volume_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import refusals
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import attach
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import host_space
from cinder_vmdk_ext.volumes import restore
from cinder_vmdk_ext.volumes.image_formats import stream

LOG = logging.getLogger(__name__)

#: Key of a backup's metadata; its value says what the backup contains.
CONTENT, RAW = 'vmdk-ext-content', 'raw'
# The part of rpc_response_timeout for which a call waits for an import.
_PART = 0.7
_RPC_SECONDS = 60
# A volume has one of these while a backup is restored to it.
_RESTORED_IN = ('restoring-backup', 'creating')
# How often, and how long, the status is awaited that cinder-backup sets.
_LOOK_SECONDS, _LOOKS = 1.0, 600
# How the name of a temporary copy begins, before the id of its volume.
_TEMPORARY = 'backup-vol-'
# How often, at most, reports of statistics remove what is left.
_SWEEP_SECONDS = 600.0


class Backups:
    """Exports volumes to files, offers files to write, and imports them."""

    def __init__(self, cinder: upstream.Upstream,
                 admission: admissions.Admission,
                 restorer: restore.Restore, owner: Any) -> None:
        """:param owner: the backend (:class:`reconcile.Owner`)"""
        self._upstream = cinder
        self._admission = admission
        self._restore = restorer
        self._owner = owner
        self._swept_at = time.monotonic()
        #: Removes what others than backups have left in the folder.
        self.sweep_others: Callable[[], None] = lambda: None
        # Volumes whose connection was refused. cinder-backup ends it too.
        self._refused: set[str] = set()
        # Space that cinder-backup may still write to, by volumes' ids.
        self._claims: dict[str, host_space.SpaceClaim] = {}
        # Why volumes were not copied, where no note could be written.
        self._unnoted: dict[str, str] = {}
        # The notes of imports that have ended, by volumes' ids, until they
        # and their files are removed.
        self._ended: dict[str, backup_files.FileNote] = {}

    # -- Which connectors ---------------------------------------------------

    def serves(self, connector: Any) -> bool:
        """Whether a connector gets a file.

        It is that of a service of Cinder (os-brick's), and the operator does
        not want it to get the vCenter's credentials.
        """
        return attach.is_os_brick(connector) and not self.gives_credentials

    def check(self, connector: Any) -> None:
        """Check whether a host can use a file in our folder.

        :raises ConnectorRefused: it cannot; the message names the remedy
        """
        if not self.path:
            raise exceptions.ConnectorRefused(
                "os-brick's vmdk connector would need the vCenter's password, "
                'which this backend does not give out, and '
                'vmdk_ext_backup_dir is empty, so that a backup cannot use a '
                'file either; set that option')
        host = connector.get('host')
        if not self.is_shared and host != socket.gethostname():
            raise exceptions.ConnectorRefused(
                f'host {host} is not this one ({socket.gethostname()}), so '
                'that it cannot open files in vmdk_ext_backup_dir '
                f'({self.path}); run the service that asks (cinder-backup, or '
                'the cinder-volume from which a volume is migrated) here, or '
                'mount a shared file system there on both hosts and set '
                'vmdk_ext_backup_dir_shared')

    @property
    def gives_credentials(self) -> bool:
        """Whether os-brick gets the vCenter's credentials."""
        return bool(self._upstream.configuration.safe_get(
            'vmdk_ext_connector_credentials'))

    @property
    def path(self) -> str:
        """The folder for files; '': there is none."""
        return self._upstream.configuration.safe_get(
            'vmdk_ext_backup_dir') or ''

    @property
    def is_shared(self) -> bool:
        """Whether other hosts see the folder."""
        return bool(self._upstream.configuration.safe_get(
            'vmdk_ext_backup_dir_shared'))

    @property
    def folder(self) -> backup_files.Folder:
        """The folder for files of backups."""
        return backup_files.Folder(self.path)

    # -- Backup -------------------------------------------------------------

    def export(self, context: Any, backup: Any,
               find_device: Callable[[], tuple[Any, bool]]
               ) -> tuple[Any, bool]:
        """Copy the volume of a backup to a file.

        Cinder leaves a backup in "creating" for ever when this hook fails. So
        a failure is noted, and the connection that follows is refused with
        its reason: then cinder-backup sets all statuses and deletes its
        temporary volume.

        A snapshot may be backed up while its volume is backed up or restored.
        So the volume's own file and note are left alone then.

        :param find_device: Cinder's own choice: the volume, or a temporary
            copy of it or of its snapshot
        :returns: what find_device returned
        :raises Exception: no temporary copy of a snapshot was made; the
            backup has ended
        """
        if self.gives_credentials or not self.path:
            return find_device()
        self.sweep()
        device, is_snapshot = objects.Volume.get_by_id(
            context, backup.volume_id), False
        try:
            self._check_parent(context, backup)
            # To find this backup again if the service ends meanwhile.
            self.folder.save(self._note(
                device, backup_files.EXPORTING, backup)._replace(
                    volume_id=backup.id, source=device.id))
            device, is_snapshot = find_device()
            self._export(device, backup)
        except Exception as error:
            why = exceptions.first_line(error) or type(error).__name__
            if backup.snapshot_id and device.id == backup.volume_id:
                _end(backup, why)
                with contextlib.suppress(OSError):
                    self.folder.remove(backup.id)
                raise
            # The refusal of the connection is the ERROR line.
            LOG.warning('Volume %(volume)s was not copied for backup '
                        '%(backup)s: %(why)s',
                        {'volume': device.id, 'backup': backup.id,
                         'why': why},
                        exc_info=not isinstance(
                            error, exceptions.BackupRefused))
            self._note_failure(device, backup, why)
        return device, is_snapshot

    def _note_failure(self, volume: Any, backup: Any, why: str) -> None:
        """Keep why a volume was not copied, for the connection to say so."""
        try:
            self.folder.remove(backup.id)
            if self._is_imported(volume):
                self._unnoted[volume.id] = why
                return
            self.folder.remove(volume.id)
            self.folder.save(self._note(volume, backup_files.FAILED, backup,
                                        why=why))
        except OSError as error:
            # The folder itself may be the cause.
            self._unnoted[volume.id] = why
            LOG.warning('That backup %(backup)s failed is noted nowhere but '
                        'in the memory of this service: %(error)s',
                        {'backup': backup.id, 'error': error})

    def _note(self, volume: Any, state: str, backup: Any,
              **more: Any) -> backup_files.FileNote:
        return backup_files.FileNote(
            volume.id, state, self.owned_by, self._owner.host or '',
            backup.id, **more)

    @property
    def owned_by(self) -> str:
        """The cluster or host whose files are ours."""
        return self._owner.cluster_name or self._owner.host or ''

    def _check_parent(self, context: Any, backup: Any) -> None:
        """:raises BackupRefused: an increment would not fit its parent"""
        if not backup.parent_id:
            return
        parent = objects.Backup.get_by_id(context, backup.parent_id)
        if not is_raw(parent):
            # Cinder keeps 255 characters of the reason.
            raise exceptions.BackupRefused(
                'a full backup is needed: the parent does not say that it is '
                f'raw ({CONTENT} in its metadata), and one by os-brick holds '
                f'a VMDK ({parent.id})')

    def _export(self, volume: Any, backup: Any) -> None:
        self._admission.check_plain(volume)
        # cinder-backup may say too early that a restore has ended.
        self.check_settled(volume)
        if self._owner.cluster_name and not self.is_shared:
            raise exceptions.BackupRefused(
                'share vmdk_ext_backup_dir among the services of the '
                'cluster, and set vmdk_ext_backup_dir_shared')
        folder, began = self.folder, time.monotonic()
        folder.save(self._note(volume, backup_files.EXPORTING, backup))
        folder.remove(backup.id)
        LOG.info('The copy of volume %(volume)s for backup %(backup)s begins.',
                 {'volume': volume.id, 'backup': backup.id})
        with locks.volumes(volume.id):
            written = self._restore.export_to(folder, volume)
        backup.metadata = dict(backup.metadata or {}) | {CONTENT: RAW}
        backup.save()
        folder.save(self._note(volume, backup_files.EXPORTED, backup))
        LOG.info('Volume %(volume)s was copied for backup %(backup)s: '
                 '%(size)d bytes of data in %(seconds).1f s.',
                 {'volume': volume.id, 'backup': backup.id, 'size': written,
                  'seconds': time.monotonic() - began})

    # -- Connections --------------------------------------------------------

    def connect(self, volume: Any, connector: Any,
                check_restored: Callable[[Any], None]) -> dict[str, Any]:
        """Return the connection info of a host that backs up or restores.

        :param check_restored: refuses a restore to a volume
        :raises ConnectorRefused: no backup or restore of the volume is under
            way, or another host does it
        :raises BackupRefused: the volume cannot be backed up or restored
        """
        try:
            info = self._connect(volume, connector, check_restored)
        except Exception:
            self._refused.add(volume['id'])
            raise
        self._refused.discard(volume['id'])
        return info

    def _connect(self, volume: Any, connector: Any,
                 check_restored: Callable[[Any], None]) -> dict[str, Any]:
        self.check(connector)
        why = self._unnoted.pop(volume['id'], None)
        if why and _restored_to(volume['id']) is None:
            raise exceptions.BackupRefused(why)
        self.check_settled(volume)
        folder = self.folder
        note = folder.note(volume['id'])
        if (note is None or not _is_running(note)
                or (volume['status'] in _RESTORED_IN
                    and note.state != backup_files.OFFERED)):
            check_restored(volume)
            note = self._offer(volume)
        elif note.state == backup_files.FAILED:
            raise exceptions.BackupRefused(note.why)
        elif note.state == backup_files.EXPORTING:
            raise exceptions.BackupRefused(
                f'volume {volume["id"]} is still being copied for backup '
                f'{note.backup_id}')
        host = connector.get('host') or ''
        if note.host not in ('', host):
            raise exceptions.ConnectorRefused(
                f'volume {volume["id"]} is being backed up or restored by '
                'another host')
        if note.host != host:
            folder.save(note._replace(host=host))
        return {'driver_volume_type': 'local',
                'data': {'volume_id': volume['id'],
                         'device_path': folder.file(volume['id'])}}

    def _offer(self, volume: Any) -> backup_files.FileNote:
        """Make a file to which a backup can be restored."""
        found = _restored_to(volume['id'])
        if found is None:
            raise exceptions.ConnectorRefused(
                f'no backup and no restore of volume {volume["id"]} is under '
                'way; a host that is no hypervisor can attach it for '
                'nothing else (vmdk_ext_connector_credentials)')
        self._admission.check_plain(volume)
        self._restore.check(volume)
        self.sweep()
        folder = self.folder
        note = self._note(volume, backup_files.OFFERED, found,
                          raw=is_raw(found),
                          messages=tuple(_failures(found.id)))
        folder.save(note)
        try:
            self._claim(volume['id'], found)
            note = note._replace(changed_ns=folder.offer(
                volume['id'], volume['size'] * units.Gi))
            folder.save(note)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._remove(volume['id'])
        return note

    def _claim(self, volume_id: str, backup: Any) -> None:
        """Claim the space that a restore may take in the folder.

        :raises BackupRefused: the folder has not so much
        """
        # Into a volume that exists, cinder-backup writes the zeros too.
        found = self.folder.claim_offered(volume_id, backup.size * units.Gi)
        if found is not None:
            self._claims[volume_id] = found

    def _remove(self, volume_id: str) -> None:
        """Remove a volume's file, and give up its space."""
        self._end_claim(volume_id)
        self.folder.remove(volume_id)

    def _end_claim(self, volume_id: str) -> None:
        found = self._claims.pop(volume_id, None)
        if found is not None:
            found.end()

    def disconnect(self, volume: Any, connector: Any,
                   put: Callable[[Any], None]) -> None:
        """End a backup or restore: import what was restored.

        Waits for the import as long as Cinder's call may last. If it lasts
        longer, the volume is "restoring-backup" until it has ended.

        :param put: imports a volume's file, under the volume's lock
        :raises BackupRefused: nothing was restored, although Cinder says so
        :raises Exception: the content cannot be put on the volume, which
            stays as it was
        """
        folder = self.folder
        try:
            note = folder.note(volume['id'])
        except OSError:
            if self._was_refused(volume):
                return  # with this reason
            raise
        if note is None:
            self._check_not_lost(volume, connector)
            return
        if note.state == backup_files.WRITTEN:
            return
        host = connector.get('host') or ''
        if note.host not in ('', host):
            LOG.warning('Host %(host)s does not end the connection of volume '
                        '%(volume)s, which is another host\'s.',
                        {'host': host, 'volume': volume['id']})
            return
        self._end_claim(volume['id'])  # all is written
        if note.state != backup_files.OFFERED:
            folder.remove(volume['id'])
            return
        if not self._is_restored(volume, note):
            folder.remove(volume['id'])
            return
        folder.save(note._replace(state=backup_files.WRITTEN))
        begun = self._begin(volume, put)
        if begun.ended.wait(call_seconds()) or not begun.show_by_status():
            if begun.error is not None:
                raise begun.error
            return
        LOG.info('The restored content of volume %s is still being imported; '
                 'its status will show the end.', volume['id'])

    def _was_refused(self, volume: Any) -> bool:
        """Whether the connection that ends was refused; forgets that."""
        found = volume['id'] in self._refused
        self._refused.discard(volume['id'])
        return found

    def _check_not_lost(self, volume: Any, connector: Any) -> None:
        """Refuse to end a restore whose file somebody has removed.

        :raises BackupRefused: nothing was restored, although Cinder says so
        """
        if self._was_refused(volume):
            return
        with contextlib.suppress(exceptions.ConnectorRefused):
            self.check(connector)
            if _restored_to(volume['id']) is not None:
                raise self._lost(volume)

    def _lost(self, volume: Any) -> exceptions.BackupRefused:
        return exceptions.BackupRefused(
            f'{self.folder.file(volume["id"])}, to which a backup was '
            f'restored, is gone; volume {volume["id"]} keeps its content: '
            'repeat the restore, and leave the files in vmdk_ext_backup_dir '
            'alone')

    def _is_restored(self, volume: Any, note: backup_files.FileNote) -> bool:
        """Whether cinder-backup wrote a whole backup to the file.

        :raises BackupRefused: it reports no failure, but wrote nothing, or
            the restore was cancelled
        """
        if set(_failures(note.backup_id)) - set(note.messages):
            LOG.warning('Backup %(backup)s is not put on volume %(volume)s, '
                        'which keeps its content: cinder-backup reported a '
                        'failure.',
                        {'backup': note.backup_id, 'volume': volume['id']})
            return False
        found = _restored_to(volume['id'])
        if found is None or found.id != note.backup_id:
            # The whole backup may have been written before. Then
            # cinder-backup would say that it was restored.
            self.folder.remove(volume['id'])
            raise exceptions.BackupRefused(
                f'the restore of backup {note.backup_id} to volume '
                f'{volume["id"]} was cancelled; the volume keeps its content')
        if not self.folder.is_changed(volume['id'], note.changed_ns):
            self.folder.remove(volume['id'])
            raise exceptions.BackupRefused(
                'cinder-backup has not written to '
                f'{self.folder.file(volume["id"])}; it must see that folder '
                'under the same path (vmdk_ext_backup_dir)')
        return True

    # -- Import -------------------------------------------------------------

    def _begin(self, volume: Any, put: Callable[[Any], None],
               by_status: bool = False) -> '_Import':
        """:param by_status: whether no call waits for the end"""
        folder = self.folder

        def done() -> None:
            # What fails once would fail again, and the backup still exists.
            try:
                folder.remove(volume['id'])
            except OSError as error:
                LOG.warning('The file of volume %(volume)s, whose import has '
                            'ended, is removed later: %(error)s',
                            {'volume': volume['id'], 'error': error})
            else:
                self._ended.pop(volume['id'], None)
        begun = _Import(volume['id'], put, done)
        if by_status:
            begun.show_by_status()
        begun.start()
        return begun

    def put(self, volume: Any) -> None:
        """Make a volume's file its content; called under its lock.

        :raises BackupRefused: the file is no content of this volume, or
            somebody has removed it
        """
        folder = self.folder
        note = folder.note(volume['id'])
        if note is None or note.state != backup_files.WRITTEN:
            raise self._lost(volume)
        saved = [note]

        def begin(machine: str) -> None:
            saved.append(saved[-1]._replace(machine=machine))
            folder.save(saved[-1])
        try:
            self._put(volume, note, begin)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._ended[volume['id']] = saved[-1]
        self._ended[volume['id']] = saved[-1]

    def _put(self, volume: Any, note: backup_files.FileNote,
             begin: Callable[[str], None]) -> None:
        if self._restore.finish(volume, note.machine):
            return  # also if its file is gone already
        try:
            with self.folder.opened(volume['id']) as descriptor:
                self._restore.put(volume, descriptor, note.raw, note.machine,
                                  begin)
        except stream.FormatError as error:
            raise exceptions.BackupRefused(
                f'backup {note.backup_id} cannot be put on volume '
                f'{volume["id"]}: {error}') from None

    def check_settled(self, volume: Any) -> None:
        """Check that no restored content waits for its import.

        :raises BackupRefused: it does
        """
        if not self.path:
            return
        try:
            waits = self._is_imported(volume)
        except OSError as error:
            if _was_restored_to(volume['id']):
                raise exceptions.BackupRefused(
                    'it is unknown whether a backup is still being restored '
                    f'to volume {volume["id"]}: {error}') from error
            LOG.warning('No backup was ever restored to volume %(volume)s, '
                        'so that it is not looked for: %(error)s',
                        {'volume': volume['id'], 'error': error})
            return
        if waits:
            raise exceptions.BackupRefused(
                f'wait until volume {volume["id"]} is available: a backup is '
                'being restored to it')

    def _is_imported(self, volume: Any) -> bool:
        """Whether restored content of a volume waits for its import."""
        note = self.folder.note(volume['id'])
        return (note is not None and note.state == backup_files.WRITTEN
                and note != self._ended.get(volume['id']))

    # -- What broken-off backups leave --------------------------------------

    def resume(self, put: Callable[[Any], None],
               delete: Callable[[Any], None]) -> None:
        """At the start of the service: finish imports, remove files.

        :param put: as of :meth:`disconnect`
        :param delete: deletes a volume's disk
        """
        if self.gives_credentials or not self.path:
            return
        try:
            own = [note for note in self._own_notes()
                   if note.service == self._owner.host]
        except OSError as error:
            LOG.warning('What backups and restores have begun is not '
                        'continued; restart cinder-volume when the folder '
                        'answers: %s', error)
            return
        given_up = [note for note in own if _is_running(note)
                    and note.state == backup_files.EXPORTING]
        self._delete_temporary(delete, {each.source or each.volume_id
                                        for each in given_up})
        ended = set()
        # For a moment a backup has two notes; that of the copy comes first.
        for note in sorted(own, key=lambda each: bool(each.source)):
            try:
                if note.state == backup_files.WRITTEN:
                    if not self._is_over(note):
                        self._resume_import(note, put)
                elif note in given_up and note.backup_id not in ended:
                    ended.add(note.backup_id)
                    self._give_up(note)
                elif note.state == backup_files.OFFERED:
                    self._claim_again(note)
            except Exception as error:
                # No backup may hinder the start of the service.
                LOG.warning('What backup %(backup)s of volume %(volume)s has '
                            'begun was not continued at the start: %(error)s',
                            {'backup': note.backup_id,
                             'volume': note.volume_id, 'error': error})
        self.sweep()

    def _resume_import(self, note: backup_files.FileNote,
                       put: Callable[[Any], None]) -> None:
        found = objects.VolumeList.get_all(
            cinder_context.get_admin_context(),
            filters={'id': note.volume_id})
        if not found:
            self.folder.remove(note.volume_id)
            return
        LOG.info('The import of backup %(backup)s to volume %(volume)s was '
                 'broken off and begins again.',
                 {'backup': note.backup_id, 'volume': note.volume_id})
        self._begin(found[0], put, by_status=True)

    def _claim_again(self, note: backup_files.FileNote) -> None:
        """Claim space for a restore that cinder-backup is at work on."""
        found = _restored_to(note.volume_id)
        if found is not None and found.id == note.backup_id:
            with contextlib.suppress(exceptions.BackupRefused):
                # It cannot be stopped; others are refused anyway.
                self._claim(note.volume_id, found)

    def _give_up(self, note: backup_files.FileNote) -> None:
        """Let cinder-backup end a backup whose copy was broken off.

        It still waits for the reply to get_backup_device, and would for ever.
        """
        backup = objects.Backup.get_by_id(
            cinder_context.get_admin_context(), note.backup_id)
        volume_id = note.volume_id
        if note.source:
            volume_id = backup.temp_volume_id or note.source
        why = ('repeat the backup: cinder-volume was restarted while it '
               f'copied volume {volume_id}')
        if backup.snapshot_id and volume_id == backup.volume_id:
            self.folder.remove(backup.id)
            _end(backup, why)
            return
        self.folder.save(note._replace(
            volume_id=volume_id, source='', state=backup_files.FAILED,
            why=why))
        self.folder.remove(backup.id)
        context = _context_of(backup)
        backup_rpcapi.BackupAPI().continue_backup(
            context, backup, objects.BackupDeviceInfo.from_primitive(
                {'backup_device': _volume(volume_id),
                 'secure_enabled': False, 'is_snapshot': False}, context))

    def _delete_temporary(self, delete: Callable[[Any], None],
                          given_up: set[str]) -> None:
        """Delete temporary volumes that no backup uses any more.

        Cinder notes one in the backup's record when it is complete, and
        forgets it when it asks for its deletion. If the service ends before
        the one or after the other, or if the deletion fails, Cinder leaves
        the volume for ever.

        :param given_up: ids of volumes of which this service was making one
        """
        for status in 'creating', 'backing-up', 'error_deleting':
            # Few have such a name; Cinder's objects of all would take long.
            for row in volume_rows.volumes(status=status):
                source = (row.display_name or '').partition(_TEMPORARY)[2]
                if source and self._owner.owns(row) and (
                        status != 'creating' or source in given_up):
                    self._delete_if_temporary(row.id, status, delete)

    @staticmethod
    def _delete_if_temporary(volume_id: str, status: str,
                             delete: Callable[[Any], None]) -> None:
        context = cinder_context.get_admin_context()
        for volume in objects.VolumeList.get_all(context, filters={
                'id': volume_id, 'status': status, 'use_quota': False}):
            if status == 'creating' or not objects.BackupList.get_all(
                    context, filters={'temp_volume_id': volume.id,
                                      'status': 'creating'}):
                _delete(volume, delete)

    def sweep_at_times(self) -> None:
        """As :meth:`sweep`, but not more often than every ten minutes."""
        now = time.monotonic()
        if (now - self._swept_at > _SWEEP_SECONDS
                and not self.gives_credentials and self.path):
            self._swept_at = now
            self.sweep()
            self.sweep_others()

    def sweep(self) -> None:
        """Remove the files of backups and restores that have ended.

        A failure is logged: neither a start, a backup nor a report ends by
        it.
        """
        try:
            self._sweep()
        except Exception as error:
            LOG.warning('What backups left was not removed: %s', error)

    def _sweep(self) -> None:
        claimed = set(self._claims)  # each has a note, written before
        noted = self._own_notes()
        for volume_id in claimed - {each.volume_id for each in noted}:
            # Another service of the cluster has ended it.
            self._end_claim(volume_id)
        for note in noted:
            # The second look: it may have been written since the first one.
            if (self._is_over(note)
                    and self.folder.note(note.volume_id) == note):
                LOG.info('The file of volume %(volume)s is removed: backup '
                         '%(backup)s does not use it any more.',
                         {'volume': note.volume_id,
                          'backup': note.backup_id})
                try:
                    self._remove(note.volume_id)
                    self._ended.pop(note.volume_id, None)
                except OSError as error:
                    # The others may be removable.
                    LOG.warning('The file of volume %(volume)s was not '
                                'removed: %(error)s',
                                {'volume': note.volume_id, 'error': error})

    def _is_over(self, note: backup_files.FileNote) -> bool:
        """Whether nothing needs the file of a note any more."""
        if note.state == backup_files.WRITTEN:
            return note == self._ended.get(note.volume_id)
        return not _is_running(note)

    def _own_notes(self) -> list[backup_files.FileNote]:
        return [note for note in self.folder.notes()
                if note.owner == self.owned_by]


def call_seconds() -> float:
    """For how long a call of another service may wait for an import."""
    return float(_PART * getattr(cfg.CONF, 'rpc_response_timeout',
                                 _RPC_SECONDS))


class _Import:
    """A thread that imports a volume's file, and how it ended."""

    def __init__(self, volume_id: str, put: Callable[[Any], None],
                 done: Callable[[], None]) -> None:
        """:param done: is called at the end, when the volume's status shows
            it; not if the service ends before
        """
        self._volume_id = volume_id
        self._put = put
        self._done = done
        self._by_status = False
        self._ending = threading.Lock()
        self.ended = threading.Event()
        self.error: Exception | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name='vmdk-ext-restore',
                         daemon=True).start()

    def _run(self) -> None:
        try:
            self._put(_volume(self._volume_id))
        except Exception as error:
            self.error = error
            refusals.report('put_restored', refusals.About(
                'volume', self._volume_id, None, None), error, None)
        with self._ending:
            try:
                if not self._by_status:
                    self._done()
            finally:
                self.ended.set()

    def show_by_status(self) -> bool:
        """Have the volume's status show the end, for no call waits for it.

        :returns: False: it has ended already
        """
        with self._ending:
            if self.ended.is_set():
                return False
            self._by_status = True
        threading.Thread(target=self._follow, name='vmdk-ext-restore-status',
                         daemon=True).start()
        return True

    def _follow(self) -> None:
        try:
            self._repeated(self._await_status)
            if not self.ended.is_set():
                self._set_status('restoring-backup', 'available')
            self.ended.wait()
            if self.error is None:
                self._set_status('available', 'restoring-backup',
                                 'error_restoring')
            else:
                self._set_status('error_restoring', 'restoring-backup',
                                 'available')
            self._done()
        except Exception:
            LOG.exception('The status of volume %s may not show how its '
                          'restore ended.', self._volume_id)

    def _await_status(self) -> None:
        for _look in range(_LOOKS):
            # cinder-backup, whose calls have returned, sets one of these, and
            # then that of the backup. Before a restart it may have done so.
            if not _restores(self._volume_id) or _volume(
                    self._volume_id).status in (
                        'available', 'error', 'error_restoring'):
                return
            time.sleep(_LOOK_SECONDS)

    def _set_status(self, status: str, *before: str) -> None:
        self._repeated(lambda: _volume(self._volume_id).conditional_update(
            {'status': status}, {'status': before}))

    @staticmethod
    def _repeated(act: Callable[[], object]) -> None:
        """Do something; again while the database does not answer."""
        for look in range(_LOOKS):
            try:
                act()
                return
            except volume_rows.DATABASE_ERRORS:
                if look + 1 == _LOOKS:
                    raise
                time.sleep(_LOOK_SECONDS)


def _context_of(backup: Any) -> Any:
    """A context with which Cinder creates a backup's user messages."""
    return cinder_context.RequestContext(
        user_id=backup.user_id, project_id=backup.project_id,
        is_admin=True, overwrite=False, message_resource_id=backup.id,
        message_resource_type=message_field.Resource.VOLUME_BACKUP,
        message_action=message_field.Action.BACKUP_CREATE)


def _end(backup: Any, why: str) -> None:
    """End the backup of a snapshot with an error, as cinder-backup does."""
    context = _context_of(backup)
    message_api.API().create_from_request_context(
        context, detail=message_field.Detail.BACKUP_CREATE_DEVICE_ERROR)
    snapshot = objects.Snapshot.get_by_id(context, backup.snapshot_id)
    snapshot.status = fields.SnapshotStatus.AVAILABLE
    snapshot.save()
    volume_utils.update_backup_error(backup, why)


def is_raw(backup: Any) -> bool:
    """Whether a backup says that it holds raw content, and no VMDK."""
    return (backup.metadata or {}).get(CONTENT) == RAW


def _volume(volume_id: str) -> Any:
    return objects.Volume.get_by_id(cinder_context.get_admin_context(),
                                    volume_id)


def _restored_to(volume_id: str) -> Any:
    """The backup that is being restored to a volume; None: none is.

    :raises BackupRefused: several are, so that it is unknown which one
    """
    found = _restores(volume_id)
    if len(found) > 1:
        raise exceptions.BackupRefused(
            f'backups {" and ".join(sorted(each.id for each in found))} are '
            'being restored at once; reset the status of those that are not')
    return found[0] if found else None


def _restores(volume_id: str) -> Any:
    """The backups that are being restored to a volume."""
    return objects.BackupList.get_all(
        cinder_context.get_admin_context(), filters={
            'restore_volume_id': volume_id, 'status': 'restoring'})


def _was_restored_to(volume_id: str) -> bool:
    """Whether a backup was ever restored to a volume, or still is."""
    return bool(objects.BackupList.get_all(
        cinder_context.get_admin_context(read_deleted='yes'),
        filters={'restore_volume_id': volume_id}, limit=1))


def _failures(backup_id: str) -> list[str]:
    """The user messages about failed restores of a backup.

    cinder-backup creates one before it ends the connection.
    """
    return [message['id'] for message in message_api.API().get_all(
        cinder_context.get_admin_context(), filters={
            'resource_uuid': backup_id,
            'detail_id': message_field.Detail.BACKUP_RESTORE_ERROR[0]})]


def _is_running(note: backup_files.FileNote) -> bool:
    """Whether the backup of a file that is not written is under way."""
    status = ('restoring' if note.state == backup_files.OFFERED
              else 'creating')
    return bool(objects.BackupList.get_all(
        cinder_context.get_admin_context(),
        filters={'id': note.backup_id, 'status': status}))


def _delete(volume: Any, delete: Callable[[Any], None]) -> None:
    """Delete a temporary volume and its record, or log why not."""
    try:
        with contextlib.suppress(exceptions.BackingLost):
            delete(volume)
        volume.destroy()
    except Exception as error:
        # It is tried again at the next start.
        LOG.warning('Temporary volume %(volume)s of a backup was not '
                    'deleted at the start: %(error)s',
                    {'volume': volume.id, 'error': error})
