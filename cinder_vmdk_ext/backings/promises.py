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
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import model

# Cinder writes the outcome of an operation to its database within this time.
SETTLE_SECONDS = 120.0
# After this time the database is queried even without an operation, because
# other backends on the same datastores promise space too. Reports are a minute
# apart.
KEEP_SECONDS = 30.0
# Cinder's objects of so many volumes take 20 to 70 ms to load.
VOLUMES_A_PAGE = 20


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

    Makes two queries, page by page, for volumes that have a promise only.

    :param host: of this backend, ``host@backend``; None: of any
    :param cluster_name: of this backend, if it is clustered
    :param begun: returns ids of volumes whose disk is being created; their
        space is already claimed
    """
    own = ({'cluster_name': cluster_name} if cluster_name
           else {'host': host} if host else {})
    sums: dict[tuple[str, str, bool], tuple[int, int]] = {}
    for volume in _volumes({'provider_id': state.PROMISED}):
        _add(sums, volume, volume.provider_location or '',
             _is_own(volume, host, cluster_name))
    waiting = list(_volumes({'status': 'creating', **own}))
    claimed = begun()
    for volume in waiting:
        if not volume.provider_id and volume.id not in claimed:
            _add(sums, volume, '', own=True)
    return tuple(model.Promise(pool, size_gib, place, count, own)
                 for (pool, place, own), (size_gib, count)
                 in sorted(sums.items()))


def _volumes(filters: dict[str, Any]) -> Iterator[Any]:
    """Yield volumes; let other greenthreads run between two pages."""
    context = cinder_context.get_admin_context()
    marker = None
    while True:
        page = list(objects.VolumeList.get_all(
            context, marker=marker, limit=VOLUMES_A_PAGE, sort_keys=['id'],
            sort_dirs=['asc'], filters=dict(filters)))
        yield from page
        if len(page) < VOLUMES_A_PAGE:
            return
        marker = page[-1].id
        concurrency.cooperative_yield()


def _add(sums: dict[tuple[str, str, bool], tuple[int, int]], volume: Any,
         place: str, own: bool) -> None:
    pool = volume_utils.extract_host(volume.host or '', 'pool', True) or ''
    size_gib, count = sums.get((pool, place, own), (0, 0))
    sums[pool, place, own] = size_gib + volume.size, count + 1


def _is_own(volume: Any, host: str | None, cluster_name: str | None) -> bool:
    name, field = ((cluster_name, volume.cluster_name) if cluster_name
                   else (host, volume.host))
    return not name or volume_utils.extract_host(field or '',
                                                 'backend') == name
