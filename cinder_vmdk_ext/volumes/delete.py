# SPDX-License-Identifier: Apache-2.0
"""Deletes volumes; reports lost disks, keeps disks that are not its own."""

import contextlib
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context
from cinder import objects

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import manage
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

# The status of a volume that is deleted after managing it failed.
_NOT_MANAGED = 'error_managing_deleting'


class Delete:
    """Deletes a volume's shadow VM with its disk."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 managed: manage.Manage, owns: Callable[[Any], bool],
                 forget: Callable[[Any], None]) -> None:
        """:param owns: whether a volume belongs to this backend
        :param forget: removes the files of a volume's migration
        """
        self._upstream = cinder
        self._owns = owns
        self._forget = forget
        self._finder = finder
        self._manage = managed

    def delete(self, volume: Any) -> None:
        """Delete a volume's disk; may be repeated until it succeeds.

        If managing the volume failed, its disk is given back: to delete such
        a record must leave the disk as it was before ``cinder manage``.

        :raises BackingLost: the disk is gone, and no earlier delete removed
            it; ``cinder unmanage`` removes the record of such a volume
        """
        if volume.get('status') == _NOT_MANAGED:
            self._manage.give_back(volume)
            return
        if volume.get('migration_status'):
            self._forget(volume)
        if state.is_lent(volume) and self._delete_diskless(volume):
            return
        try:
            backing = (self._finder.find(volume) if state.is_deleting(volume)
                       else self._finder.existing(volume))
        except exceptions.BackingLost:
            backing = self._left_by_migration(volume)
            # Cinder copies the source's record to the destination's before
            # there is a disk, and the source has the content.
            if not backing and not state.migrates_from(volume):
                raise
            backing = backing or self._finder.find(volume)
        if not backing and state.is_deleting(volume):
            backing = self._left_by_migration(volume)
        if not backing:
            return
        # If the reply is lost, a repeated delete needs to know this.
        state.remember(volume, state.DELETING)
        try:
            self._upstream.volumeops.delete_backing(backing)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._put_back(volume, backing)

    def _left_by_migration(self, volume: Any) -> Any:
        """The VM that a generic migration left to a volume's record.

        Cinder deletes the source by the id of the volume that it made as the
        destination. If the migration fails at its end, the destination may
        have the source's identity.
        """
        ops = self._upstream.volumeops
        is_source = (volume.get('name_id') or volume['id']) != volume['id']
        for moref, name in ops.marked(
                shadow.MIGRATED_AS if is_source else shadow.MIGRATED_TO,
                volume['id']):
            found = references.Ref('VirtualMachine', moref)
            holder = ops.mark(found, shadow.VOLUME_ID)
            if holder and any(map(self._owns, objects.VolumeList.get_all(
                    cinder_context.get_admin_context(),
                    filters={'id': holder}))):
                LOG.warning('VM %(vm)s is not deleted with volume '
                            '%(volume)s: it holds volume %(holder)s.',
                            {'vm': name, 'volume': volume['id'],
                             'holder': holder})
                continue
            return found
        return None

    def _delete_diskless(self, volume: Any) -> bool:
        """Delete a shadow VM whose disk os-brick has destroyed.

        A restore by os-brick that is broken off leaves such a VM, and perhaps
        the new disk as a file that no VM has.

        :returns: whether the volume had such a VM
        """
        ops = self._upstream.volumeops
        backing = self._finder.find(volume)
        if (not backing or self._upstream.in_use(volume)
                or ops.has_disk(backing)):
            return False
        LOG.info('Volume %s is deleted without its disk, which os-brick has '
                 'destroyed to restore a backup.', volume['id'])
        path = f'{ops.home_folder(backing)}/{volume["name"]}.vmdk'
        with contextlib.suppress(vmware_exceptions.FileNotFoundException):
            ops.delete_vmdk_file(path, ops.get_dc(backing))
        ops.delete_backing(backing)
        return True

    def _put_back(self, volume: Any, backing: Any) -> None:
        """After a failed delete: record that the disk still exists.

        If that is not certain, the record continues to say that the volume is
        being deleted; then a missing disk is an error for every operation but
        a delete.
        """
        try:
            if self._upstream.volumeops.read_backing(
                    backing.value) is not None:
                state.remember(volume, state.BACKED)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('It is unknown whether volume %(volume)s still has '
                        'its disk after a failed delete: %(error)s',
                        {'volume': volume['id'], 'error': error})
