# SPDX-License-Identifier: Apache-2.0
"""What is known of a volume's shadow VM without asking the vCenter.

With ``vmware_lazy_create`` a new volume has no shadow VM yet. Its space is
promised all the same, and "never made" must be told apart from "lost" for
certain, by any cinder-volume process; so the volume's ``provider_id``, which
upstream's driver leaves empty, records it in Cinder's database.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

PROMISED = 'vmdk-ext:promised'
BACKED = 'vmdk-ext:backed'
DELETING = 'vmdk-ext:deleting'

# Within this time after an operation Cinder has written down its outcome.
SETTLE_SECONDS = 120.0
# And after this time the database is asked whatever was done.
KEEP_SECONDS = 600.0

# The statuses of a volume in which no operation is under way that creates,
# moves or deletes its disk.
_AT_REST = frozenset({
    'available', 'in-use', 'error', 'reserved', 'maintenance',
    'error_extending', 'error_restoring', 'error_managing',
    'awaiting-transfer'})
_NOT_MIGRATING = (None, '', 'success', 'error')


class PromisedSizes:
    """What a backend has promised, as Cinder's database has it or had it.

    A query costs many times what the rest of a report does. The last answer
    holds while this service has run no operation, for ten minutes at most.
    Where several services share a backend, each report asks.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]], shared: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param read: GiB by pool name, from the database
        :param shared: whether other services may change it
        """
        self._read = read
        self._shared = shared
        self._clock = clock
        self._known: tuple[float, Mapping[str, int]] | None = None
        self._touched_at = -math.inf

    def touch(self) -> None:
        """An operation begins or has ended: promises may change."""
        self._touched_at = self._clock()

    def gib(self) -> Mapping[str, int]:
        """GiB of the volumes that have no backing yet, by pool name."""
        known = self._known
        now = self._clock()
        if known is None or self._shared or not (
                self._touched_at + SETTLE_SECONDS < known[0]
                and now - known[0] < KEEP_SECONDS):
            known = self._known = now, self._read()
        return known[1]


def promised_gib(host: str | None, cluster_name: str | None
                 ) -> Mapping[str, int]:
    """GiB of a backend's volumes that have no backing yet, by pool name.

    One query, whose result holds those volumes alone.
    """
    filters = {'provider_id': PROMISED}
    if cluster_name:
        filters['cluster_name'] = cluster_name
    elif host:
        filters['host'] = host
    sizes: Counter[str] = Counter()
    for volume in objects.VolumeList.get_all(
            cinder_context.get_admin_context(), filters=filters):
        sizes[volume_utils.extract_host(volume.host, 'pool',
                                        True) or ''] += volume.size
    return sizes


def is_promised(volume: Any) -> bool:
    """Whether the volume is known never to have had a backing."""
    return field(volume, 'provider_id') == PROMISED


def is_backed(volume: Any) -> bool:
    """Whether the volume is known to have been given a backing."""
    return field(volume, 'provider_id') == BACKED


def is_at_rest(volume: Any) -> bool:
    """Whether no operation is under way that creates, moves or deletes it."""
    return (volume.status in _AT_REST
            and volume.migration_status in _NOT_MIGRATING)


def remember(volume: Any, state: str) -> None:
    """Write down, at once, what is known of a volume's backing."""
    if hasattr(volume, 'save') and volume['provider_id'] != state:
        volume.provider_id = state
        if state == BACKED:
            # Where its space was promised (volumes/datastore_selection.py).
            volume.provider_location = None
        volume.save()


def field(volume: Any, name: str) -> Any:
    """A field of a volume object, or of what stands for one in a test."""
    try:
        return volume[name]
    except KeyError:
        return None
