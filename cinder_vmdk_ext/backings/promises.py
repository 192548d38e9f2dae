# SPDX-License-Identifier: Apache-2.0
"""Space promised to volumes without a disk, from Cinder's database.

A lazily created volume has no shadow VM until its first use. A volume that
the scheduler has just placed in a pool waits in a queue until its disk is
created. A report must not offer the space of either to another volume.
"""

import math
import time
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Sequence

from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import model
from cinder_vmdk_ext import volume_rows

# Cinder writes the outcome of an operation to its database within this time.
SETTLE_SECONDS = 120.0
# After this time the database is queried even without an operation, because
# other backends on the same datastores promise space too. Reports are a minute
# apart.
KEEP_SECONDS = 30.0


class Promises:
    """The promised space according to Cinder's database, with a cache.

    A query costs many times as much as the rest of a report. So the last
    answer is used again until this service runs an operation, for half a
    minute at most. If several services share a backend, each report queries.
    """

    def __init__(self, read: Callable[[], Sequence[model.Promise]],
                 shared: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param read: reads the promises from the database
        :param shared: whether other services may change the promises
        """
        self._read = read
        self._shared = shared
        self._clock = clock
        self._known: tuple[float, Sequence[model.Promise]] | None = None
        self._touched_at = -math.inf

    def touch(self) -> None:
        """Note that an operation begins or ends: promises may change."""
        self._touched_at = self._clock()

    def latest(self) -> Sequence[model.Promise]:
        """The promises as they were read last, without a query."""
        return self._known[1] if self._known else ()

    def all(self) -> Sequence[model.Promise]:
        """All promises that may concern this backend's datastores."""
        known = self._known
        now = self._clock()
        if known is None or self._shared or not (
                self._touched_at + SETTLE_SECONDS < known[0]
                and now - known[0] < KEEP_SECONDS):
            known = self._known = now, self._read()
        return known[1]


def read(host: str | None, cluster_name: str | None,
         begun: Callable[[], Container[str]] = frozenset
         ) -> Sequence[model.Promise]:
    """Promises of all backends, which may share datastores, summed by pool.

    Makes two queries. The database sums what is promised, so that their cost
    does not grow with the number of promises.

    :param host: of this backend, ``host@backend``; None: of any
    :param cluster_name: of this backend, if it is clustered
    :param begun: returns ids of volumes whose disk is being created; their
        space is already claimed
    """
    sums: dict[tuple[str, str, bool], tuple[int, int]] = {}
    # First those that wait: one that becomes a promise between the two
    # queries is then counted twice for a moment, and never left out.
    waiting = list(volume_rows.volumes(status='creating'))
    claimed = begun()
    for volume in waiting:
        if not volume.provider_id and volume.id not in claimed and _is_own(
                volume.host, volume.cluster_name, host, cluster_name):
            _add(sums, volume.host, '', True, volume.size, 1)
    for found in volume_rows.space(provider_id=state.PROMISED):
        _add(sums, found.host, found.provider_location or '',
             _is_own(found.host, found.cluster_name, host, cluster_name),
             found.size_gib, found.number)
    return tuple(model.Promise(pool, size_gib, place, count, own)
                 for (pool, place, own), (size_gib, count)
                 in sorted(sums.items()))


def _add(sums: dict[tuple[str, str, bool], tuple[int, int]],
         host: str | None, place: str, own: bool, more_gib: int,
         more: int) -> None:
    pool = volume_utils.extract_host(host or '', 'pool', True) or ''
    size_gib, count = sums.get((pool, place, own), (0, 0))
    sums[pool, place, own] = size_gib + more_gib, count + more


def _is_own(volume_host: str | None, volume_cluster: str | None,
            host: str | None, cluster_name: str | None) -> bool:
    name, field = ((cluster_name, volume_cluster) if cluster_name
                   else (host, volume_host))
    return not name or volume_utils.extract_host(field or '',
                                                 'backend') == name
