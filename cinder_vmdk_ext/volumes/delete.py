# SPDX-License-Identifier: Apache-2.0
"""Deletes volumes; reports lost disks, keeps disks that are not its own."""

import contextlib
from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import manage

LOG = logging.getLogger(__name__)

# The status of a volume that is deleted after managing it failed.
_NOT_MANAGED = 'error_managing_deleting'


class Delete:
    """Deletes a volume's shadow VM with its disk."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 managed: manage.Manage) -> None:
        self._upstream = cinder
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
        if state.is_lent(volume) and self._delete_diskless(volume):
            return
        backing = (self._finder.find(volume) if state.is_deleting(volume)
                   else self._finder.existing(volume))
        if not backing:
            return
        # If the reply is lost, a repeated delete needs to know this.
        state.remember(volume, state.DELETING)
        try:
            self._upstream.volumeops.delete_backing(backing)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._put_back(volume, backing)

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
