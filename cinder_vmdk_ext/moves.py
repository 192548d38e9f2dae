# SPDX-License-Identifier: Apache-2.0
"""Operations that may move a volume's disk, or change its form."""

from typing import Any

from cinder.volume import volume_utils

from cinder_vmdk_ext import wiring


class Moves(wiring.WiredDriver):
    """Extend, retype and migrate; the host names the disk's datastore."""

    def _relocate_backing(self, volume: Any, backing: Any,
                          host: Any) -> None:
        with self.selecting(None, lambda: self._volume_specs(volume)):
            super()._relocate_backing(volume, backing, host)
        self._follow_disk(volume, backing)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Extend a volume, moving it when its datastore is full (Cinder)."""
        super().extend_volume(volume, new_size)
        backing = self.volumeops.get_backing(volume['name'], volume['id'])
        if backing:
            self._follow_disk(volume, backing)

    def retype(self, ctxt: Any, volume: Any, new_type: Any, diff: Any,
               host: Any) -> Any:
        """Change a volume's type on the pool that the scheduler chose.

        :param host: its ``host['host']`` names the pool
        """
        self._check_specs(lambda: self._specs(new_type['id']))
        pool = None
        if self._settings.datastore_pools and host:
            pool = volume_utils.extract_host(host['host'], 'pool')
        with self.selecting(pool, lambda: self._specs(new_type['id'])):
            return super().retype(ctxt, volume, new_type, diff, host)
