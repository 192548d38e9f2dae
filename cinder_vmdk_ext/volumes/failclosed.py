# SPDX-License-Identifier: Apache-2.0
"""A disk that is lost is never made anew, and never deleted in silence.

Upstream takes a backing that it does not find for one that was never made.
The volume's ``provider_id`` knows better
(:mod:`cinder_vmdk_ext.backings.state`).
"""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.volumes import create

LOG = logging.getLogger(__name__)


class FailClosed(create.Creation):
    """Operations in which upstream makes an empty disk, or says "done"."""

    def delete_volume(self, volume: Any) -> None:
        """Delete a volume's disk; may be repeated until it succeeds (Cinder).

        :raises BackingLost: it is gone, and not by an earlier delete;
            ``cinder unmanage`` forgets such a volume
        """
        backing = self._existing_backing(volume)
        if backing:
            # For the repeat of a delete whose end nobody heard of.
            state.remember(volume, state.DELETING)
            self.volumeops.delete_backing(backing)

    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Connection info for an attachment (Cinder hook).

        A promised volume gets its disk now; of several first attachments at
        once only one makes it.

        :raises BackingLost: the volume's disk is gone
        """
        return self._with_backing(volume, lambda: super(
            FailClosed, self).initialize_connection(volume, connector))

    def copy_volume_to_image(self, context: Any, volume: Any,
                             image_service: Any, image_meta: Any) -> Any:
        """Upload a volume as an image (Cinder hook).

        :raises BackingLost: the volume's disk is gone
        """
        return self._with_backing(volume, lambda: super(
            FailClosed, self).copy_volume_to_image(
                context, volume, image_service, image_meta))

    def _with_backing(self, volume: Any, act: Callable[[], Any]) -> Any:
        """Act on a volume that is known to have a backing, or may get one.

        One that may get it is acted on by one thread, of one service, at a
        time.
        """
        if state.is_backed(volume):
            self._existing_backing(volume)
            return act()
        with locks.volumes(volume['id']):
            if state.is_promised(volume):
                volume.refresh()  # another may have made it meanwhile
            if state.is_backed(volume):
                self._existing_backing(volume)
            done = act()
            if state.is_promised(volume):
                self._complete(volume)
        return done

    def _complete(self, volume: Any) -> None:
        """Finish what a service made, and died before it wrote that down."""
        self.volumeops.shape(self._existing_backing(volume),
                             disk_uuid=volume['id'])
        state.remember(volume, state.BACKED)

    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool = False) -> None:
        """Write an image to a volume (Cinder hook).

        A volume that has a disk keeps it until the image's stands (reimage).
        """
        old = (self._existing_backing(volume)
               if state.is_backed(volume) else None)
        target = _Aside(volume) if old else volume
        super().copy_image_to_volume(context, target, image_service, image_id,
                                     disable_sparse)
        if old:
            new = self.volumeops.get_backing(target['name'], target['id'])
            self._replace(volume, old, new)
        state.remember(volume, state.BACKED)


class _Aside:
    """A volume under another name, to be built beside the volume itself."""

    def __init__(self, volume: Any) -> None:
        identity = uuidutils.generate_uuid()
        self._volume = volume
        self._own = {'id': identity,
                     'name': f'{volume["name"]}-reimage-{identity}'}

    def __getitem__(self, field: str) -> Any:
        return self._own[field] if field in self._own else self._volume[field]

    def __getattr__(self, field: str) -> Any:
        return (self._own[field] if field in self._own
                else getattr(self._volume, field))
