# SPDX-License-Identifier: Apache-2.0
"""Reads and corrects a volume's place in Cinder's records.

Several services may write at once. So a record is changed only if it still
has the values that were read, and no service undoes another's change.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection

LOG = logging.getLogger(__name__)


def on_pool(volume: Any, pool: str) -> dict[str, str]:
    """The values of the fields that name a volume's pool.

    In a cluster these are two fields, host and cluster_name.
    """
    return {field: volume_utils.append_host(
                volume_utils.extract_host(volume[field], 'backend'), pool)
            for field in ('host', 'cluster_name') if volume[field]}


def says(volume: Any, values: dict[str, Any]) -> bool:
    """Whether a record has these values already."""
    return all(volume[field] == value for field, value in values.items())


def change(volume: Any, values: dict[str, Any]) -> bool:
    """Change a volume's record in the database, if it is as it was read.

    :returns: whether it was changed; False: it has changed since, or is gone
    """
    expected = {field: volume[field]
                for field in ('status', 'migration_status', *values)}
    return bool(volume.conditional_update(values, expected))


def correct(volume: Any, values: dict[str, Any]) -> None:
    """As :func:`change`; a new host is logged."""
    before = volume['host']
    if change(volume, values) and before != volume['host']:
        log_move(volume, before)


def log_move(volume: Any, before: str) -> None:
    """Log that a volume's host was corrected."""
    LOG.info('Volume %(volume)s: its host was %(before)s and is %(host)s.',
             {'volume': volume['id'], 'before': before,
              'host': volume['host']})


class HostRecord:
    """Records where an operation has moved a volume's disk."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection) -> None:
        self._upstream = cinder
        self._selection = selection

    def follow_replaced(self, volume: Any, backing: Any) -> None:
        """Record that a volume has another disk now, and where; never fails.

        For operations that have ended but for this: their error would say
        that the volume has its former content. The reconciliation, or the
        next start of the service, records what is not recorded now.
        """
        with self.unfailing(volume):
            self.follow_disk(volume, backing)
        with self.unfailing(volume):
            state.remember(volume, state.BACKED)

    @staticmethod
    @contextlib.contextmanager
    def unfailing(volume: Any) -> Iterator[None]:
        """Log a failure of what follows an operation that has ended."""
        try:
            yield
        except Exception as error:
            LOG.warning('Volume %(volume)s has its new disk, but what follows '
                        'failed, and is done later: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def follow_disk(self, volume: Any, backing: Any) -> None:
        """After a move: record the pool of the datastore that has the disk.

        Only for the operation that moved it: no other operation changes the
        record meanwhile, so this does not compare it with the database.
        """
        if not (self._selection.connected
                and self._selection.settings.datastore_pools):
            return
        moref = self._upstream.volumeops.get_datastore(backing).value
        pool = pool_names.by_datastore(self._selection.inventory(),
                                       self._selection.settings).get(moref)
        if pool is None or says(volume, values := on_pool(volume, pool)):
            return
        before = volume['host']
        volume.update(values)
        volume.save()
        log_move(volume, before)
