# SPDX-License-Identifier: Apache-2.0
"""Space promised to volumes without a disk, from Cinder's database.

A lazily created volume has no shadow VM until it is first used. And a volume
that the scheduler has just given a pool waits in a queue until its disk is
being made; a report meanwhile must not give its space away again.
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
from cinder_vmdk_ext import model

# Within this time after an operation Cinder has written down its outcome.
SETTLE_SECONDS = 120.0
# And after this time the database is asked whatever was done: other backends
# on the same datastores promise space as well. Reports are a minute apart.
KEEP_SECONDS = 30.0


class Promises:
    """What is promised, as Cinder's database has it or had it.

    A query costs many times what the rest of a report does. The last answer
    holds while this service has run no operation, for half a minute at most.
    Where several services share a backend, each report asks.
    """

    def __init__(self, read: Callable[[], Sequence[model.Promise]],
                 shared: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param read: from the database
        :param shared: whether other services may change what it gives
        """
        self._read = read
        self._shared = shared
        self._clock = clock
        self._known: tuple[float, Sequence[model.Promise]] | None = None
        self._touched_at = -math.inf

    def touch(self) -> None:
        """An operation begins or has ended: promises may change."""
        self._touched_at = self._clock()

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
    """Promises, summed by pool: of all backends, as they may share datastores.

    Two queries, whose results hold the volumes concerned alone.

    :param host: of this backend, ``host@backend``; None: of any
    :param cluster_name: of this backend, where it is clustered
    :param begun: gives ids of volumes of which the disk is being made, and
        whose space is claimed
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
    yield from objects.VolumeList.get_all(
        cinder_context.get_admin_context(), filters=filters)


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
