# SPDX-License-Identifier: Apache-2.0
"""A promise of space is kept on the very datastore that it was made for.

A pool is known to Cinder by its name, and a name may be given again: to a
younger datastore, after the first was renamed or removed. So what a promised
volume's space was promised on is written down in its ``provider_location``,
which upstream's driver leaves empty for volumes.
"""

from typing import Any

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import wiring


class Keeping(wiring.WiredDriver):
    """Operations that promise, or move what was promised."""

    def create_volume(self, volume: Any) -> dict[str, Any]:
        """Create a volume, or promise its space (Cinder hook)."""
        return self._noted(volume, super().create_volume(volume))

    def create_volume_from_snapshot(self, volume: Any,
                                    snapshot: Any) -> dict[str, Any]:
        """Create a volume with a snapshot's content (Cinder hook)."""
        return self._noted(volume, super().create_volume_from_snapshot(
            volume, snapshot))

    def create_cloned_volume(self, volume: Any,
                             src_vref: Any) -> dict[str, Any]:
        """Create a volume with another's content (Cinder hook)."""
        return self._noted(volume, super().create_cloned_volume(volume,
                                                                src_vref))

    def migrate_volume(self, context: Any, volume: Any, host: Any
                       ) -> tuple[bool, dict[str, Any] | None]:
        """Move a volume, or a promise, to another pool (Cinder hook)."""
        moved, update = super().migrate_volume(context, volume, host)
        if moved and state.is_promised(volume):
            update = {**(update or {}), **self._place(host)}
        return moved, update

    def retype(self, ctxt: Any, volume: Any, new_type: Any, diff: Any,
               host: Any) -> Any:
        """Change the type of a volume, and perhaps its pool (Cinder hook)."""
        done = super().retype(ctxt, volume, new_type, diff, host)
        if done is True and host and state.is_promised(volume):
            return True, self._place(host)
        return done

    def _noted(self, volume: Any, update: dict[str, Any]) -> dict[str, Any]:
        if update.get('provider_id') != state.PROMISED:
            return update
        return update | self._place(volume)

    def _place(self, record: Any) -> dict[str, Any]:
        """The field that says on what the space of a record's pool is."""
        if not self._settings.datastore_pools:
            return {}
        pool = volume_utils.extract_host(record['host'], 'pool')
        found = (pool_names.resolve(pool, self._inventory(), self._settings)
                 if pool else None)
        return {'provider_location':
                pool_names.identity(found) if found else None}

    def _pool_of(self, volume: Any) -> str | None:
        """The volume's pool, by its present name.

        :raises PromiseLost: that of a promised volume is gone
        """
        pool = super()._pool_of(volume)
        place = wiring.field(volume, 'provider_location')
        if pool is None or not place or not state.is_promised(volume):
            return pool
        found = pool_names.identified(place, self._inventory(), self._settings)
        if found is None:
            raise exceptions.PromiseLost(volume['id'], pool, place)
        return found.name
