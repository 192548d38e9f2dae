# SPDX-License-Identifier: Apache-2.0
"""Ends generic migrations that were broken off, and removes what they left.

Cinder leaves a volume whose cinder-volume was killed in "migrating" for ever,
and the destination's volume beside it. At the start of the service such a
migration is given up, or completed where the new disk is in use already.
"""

import threading
from typing import Any

from oslo_log import log as logging
import oslo_messaging

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import rpcapi as volume_rpcapi

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import generic_migration
from cinder_vmdk_ext.volumes import restore

LOG = logging.getLogger(__name__)

# A volume has one of these while Cinder migrates it.
_UNDER_WAY = ('starting', 'migrating', 'completing')
# How often a completion is asked for that finds no service yet.
_TRIES = 10


class BrokenOff:
    """Finds what migrations by this service have left, and ends it."""

    def __init__(self, files: generic_migration.Files,
                 restorer: restore.Restore) -> None:
        self._files = files
        self._restore = restorer

    # -- At the start -------------------------------------------------------

    def resume(self) -> None:
        """End what this service did when it was killed.

        A failure is logged: it hinders no start.
        """
        if not self._files.is_used:
            return
        for step in (self._fail_imports, self._finish_exchanges,
                     self._repeat_deletions, self._complete_all,
                     self._give_up_all, self._sweep):
            try:
                step()
            except Exception as error:
                LOG.warning('Migrations that were broken off were not '
                            'ended at the start: %s', error)

    def _fail_imports(self) -> None:
        for note in self._files.own_notes():
            if (note.state == backup_files.WRITTEN
                    and note.service == self._files.owner.host):
                volume = generic_migration.volume_or_none(note.volume_id)
                if volume is not None:
                    with locks.volumes(note.volume_id):
                        self._restore.undo(volume, note.machine)
                self._files.folder.empty(note.volume_id)
                self._files.folder.save(note._replace(
                    state=backup_files.FAILED,
                    why='cinder-volume was restarted meanwhile'))

    def _own_volumes(self, migration_status: str) -> list[Any]:
        """Volumes that this service was migrating."""
        owner = self._files.owner
        # Nearly always none; Cinder's own query for its objects takes 15 ms
        # to be prepared, in one piece.
        ids = [row.id for row in volume_rows.volumes(
            migration_status=migration_status) if owner.owns(row)]
        return [volume for volume_id in ids
                for volume in objects.VolumeList.get_all(
                    cinder_context.get_admin_context(), filters={
                        'id': volume_id,
                        'migration_status': migration_status})
                if self._was_mine(volume)]

    def _was_mine(self, volume: Any) -> bool:
        owner = self._files.owner
        if not owner.cluster_name:
            return True  # no other service works for this host
        note = self._files.note(volume.name_id)
        return note is not None and note.service == owner.host

    def _finish_exchanges(self) -> None:
        """Finish what ended between the saving of the two records.

        Cinder has then made the volume that of the new disk, but not the
        other record that of the old one.
        """
        for note in self._files.own_notes():
            if (note.state not in generic_migration.AT_SOURCE
                    or note.service != self._files.owner.host):
                continue
            volume, new = (generic_migration.volume_or_none(each)
                           for each in (note.volume_id, note.peer))
            if (volume is not None and new is not None
                    and not volume.migration_status
                    and (not self._files.owner.owns(volume)
                         or _has_fields_of(volume, new))
                    and state.migrates_from(new) == volume.id):
                new.update({
                    '_name_id': volume.id, 'host': note.host,
                    'cluster_name': self._files.owner.cluster_name,
                    'migration_status': 'deleting', 'status': 'deleting'})
                new.save()

    def _repeat_deletions(self) -> None:
        for volume in self._own_volumes('deleting'):
            _ask_to_delete(volume)

    def _complete_all(self) -> None:
        for volume in self._own_volumes('completing'):
            threading.Thread(target=_complete, args=(volume.id,),
                             name='vmdk-ext-migration', daemon=True).start()

    def _give_up_all(self) -> None:
        for volume in self._own_volumes('migrating'):
            # Nova migrates an attached volume, and ends it.
            if not volume.volume_attachment:
                LOG.warning('The migration of volume %s was broken off; the '
                            'volume stays where it is.', volume.id)
                for new in _destinations(volume):
                    _ask_to_delete(new)
                _fail(volume)
                self._files.folder.remove(volume.id)

    # -- From time to time --------------------------------------------------

    def sweep(self) -> None:
        """Remove the files and notes of migrations that have ended.

        Reports of statistics do so every ten minutes. A failure is logged:
        neither a migration nor a report ends by it.
        """
        try:
            self._sweep()
        except Exception as error:
            LOG.warning('What migrations left was not removed: %s', error)

    def _sweep(self) -> None:
        self._files.release_ended()
        for note in self._files.own_notes():
            if not (self._is_used(note) or self._is_left(note)):
                self._files.folder.remove(note.volume_id)

    def _is_used(self, note: backup_files.FileNote) -> bool:
        """Whether the migration of a note is under way."""
        if note.state not in generic_migration.AT_SOURCE:
            volume = generic_migration.volume_or_none(note.volume_id)
            return volume is not None and bool(
                state.migrates_from(volume))
        volume, new = (generic_migration.volume_or_none(each)
                       for each in (note.volume_id, note.peer))
        return bool(
            volume and volume.migration_status in ('migrating', 'completing')
            or new and new.migration_status == 'deleting')

    def _is_left(self, note: backup_files.FileNote) -> bool:
        """Whether a migration failed at its very end, and left the copy.

        Cinder then keeps both volumes; the copy is deleted here.
        """
        owner = self._files.owner
        volume, new = (generic_migration.volume_or_none(each)
                       for each in (note.peer, note.volume_id))
        if (note.state != backup_files.IMPORTED or volume is None
                or new is None or new.migration_status
                or new.name_id != new.id or not owner.owns(new)):
            return False
        if volume.migration_status in _UNDER_WAY:
            return True  # it is migrated again; until then the copy waits
        # The volume stayed at the source, or another try has brought it here.
        if volume.migration_status != (
                'success' if owner.owns(volume) else 'error'):
            return False
        if new.status == 'available':
            LOG.warning('Volume %(new)s is deleted: the migration of volume '
                        '%(volume)s failed.',
                        {'new': new.id, 'volume': volume.id})
            new.update({'status': 'deleting', 'previous_status': 'available'})
            new.save()
            _ask_to_delete(new)
        return True


def _has_fields_of(volume: Any, new: Any) -> bool:
    """Whether Cinder has exchanged what one of two records says.

    Within one backend, the host alone does not show that: an administrator
    may have reset a migration, and moved the disk.
    """
    return all(volume[field] == new[field]
               for field in ('created_at', 'launched_at', 'host'))


def _destinations(volume: Any) -> list[Any]:
    """The volumes that Cinder made as destinations of a migration."""
    return list(objects.VolumeList.get_all(
        cinder_context.get_admin_context(),
        filters={'migration_status': f'target:{volume.id}'}))


def _ask_to_delete(volume: Any) -> None:
    volume_rpcapi.VolumeAPI().delete_volume(
        cinder_context.get_admin_context(), volume)


def _fail(volume: Any) -> None:
    """Write what Cinder writes of a volume whose migration failed."""
    volume.migration_status = 'error'
    if volume.status in ('retyping', 'maintenance'):
        volume.status = volume.previous_status or 'available'
    volume.save()


def _complete(volume_id: str) -> None:
    """Have this service complete a migration: the new disk may be in use."""
    for _try in range(_TRIES):
        volume = generic_migration.volume_or_none(volume_id)
        if volume is None or volume.migration_status != 'completing':
            return
        try:
            [new] = _destinations(volume)
            LOG.info('The migration of volume %s was broken off, and is '
                     'completed.', volume_id)
            volume_rpcapi.VolumeAPI().migrate_volume_completion(
                cinder_context.get_admin_context(), volume, new, False)
        except oslo_messaging.MessagingTimeout:
            continue  # this service, or the other one, does not answer yet
        except Exception as error:
            LOG.error('The migration of volume %(volume)s was not completed, '
                      'which is tried again at the next start: %(error)s',
                      {'volume': volume_id,
                       'error': exceptions.first_line(error)})
            return
