# SPDX-License-Identifier: Apache-2.0
"""Deletes volumes: no disk in silence, and none that is not Cinder's."""

from typing import Any

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import manage

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
        if state.field(volume, 'status') == _NOT_MANAGED:
            self._manage.give_back(volume)
            return
        backing = self._finder.existing(volume)
        if backing:
            # For the repeat of a delete whose reply is lost.
            state.remember(volume, state.DELETING)
            self._upstream.volumeops.delete_backing(backing)
