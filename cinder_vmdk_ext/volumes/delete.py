# SPDX-License-Identifier: Apache-2.0
"""Deletes volumes: reports lost disks, and spares those of others."""

from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils

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

        The disk of a volume whose managing failed is given back: deleting
        such a record is to leave the disk as it was before ``cinder manage``.

        :raises BackingLost: it is gone, and not by an earlier delete;
            ``cinder unmanage`` forgets such a volume
        """
        if volume.get('status') == _NOT_MANAGED:
            self._manage.give_back(volume)
            return
        backing = (self._finder.find(volume) if state.is_deleting(volume)
                   else self._finder.existing(volume))
        if not backing:
            return
        # For the repeat of a delete whose reply is lost.
        state.remember(volume, state.DELETING)
        try:
            self._upstream.volumeops.delete_backing(backing)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._put_back(volume, backing)

    def _put_back(self, volume: Any, backing: Any) -> None:
        """After a failed delete: note that the disk is there still.

        Where that is not certain, the volume stays one that is being
        deleted, of which a missing disk is an error to all but a delete.
        """
        try:
            if self._upstream.volumeops.read_backing(
                    backing.value) is not None:
                state.remember(volume, state.BACKED)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('Whether volume %(volume)s has its disk after a '
                        'failed delete is unknown: %(error)s',
                        {'volume': volume['id'], 'error': error})
