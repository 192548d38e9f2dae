# SPDX-License-Identifier: Apache-2.0
"""Volumes that exist in Cinder only, until they are first used.

With ``vmware_lazy_create`` a new volume has no shadow VM yet. Its space is
promised all the same, and "never made" must be told apart from "lost" for
certain, by any cinder-volume process; so the volume's ``provider_id``, which
upstream's driver leaves empty, records it in Cinder's database.
"""

import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
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
# Cinder's hooks that promise, or act on what may be promised.
HOOKS = (
    'create_volume', 'create_volume_from_snapshot', 'create_cloned_volume',
    'clone_image', 'copy_image_to_volume', 'copy_volume_to_image',
    'create_snapshot', 'revert_to_snapshot', 'delete_volume',
    'extend_volume', 'retype', 'migrate_volume', 'update_migrated_volume',
    'initialize_connection', 'manage_existing', 'unmanage',
    'accept_transfer', 'create_group_from_src', 'delete_group',
    'update_provider_info')


class Sizes:
    """What a backend has promised, as Cinder's database has it or had it.

    A query costs many times what the rest of a report does. The last answer
    holds while this service has had nothing to do with promised volumes, for
    ten minutes at most: others change them by its hooks only. Where several
    services share a backend, each report asks.
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
        """Something promised is about to change, or has just changed."""
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


def noting(*hooks: str) -> Callable[[type], type]:
    """Have methods of a class tell its :class:`Sizes` what they may change.

    For a class with one at ``_promised``.
    """
    def decorate(cls: type) -> type:
        for name in hooks:
            setattr(cls, name, _noted(getattr(cls, name)))
        return cls
    return decorate


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        concerned = _mentioned(given)
        result = None
        if concerned:
            self._promised.touch()
        try:
            result = method(self, *args, **kwargs)
            return result
        finally:
            if concerned or _mentioned([result, *given]):
                self._promised.touch()
    return noted


def _mentioned(things: Iterable[Any]) -> bool:
    """Whether something promised is among things, or in lists among them."""
    for thing in things:
        if isinstance(thing, (list, tuple)):
            if _mentioned(thing):
                return True
        elif PROMISED in (getattr(thing, 'provider_id', None), (
                thing.get('provider_id') if isinstance(thing, dict)
                else None)):
            return True
    return False


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
    return _get(volume, 'provider_id') == PROMISED


def is_backed(volume: Any) -> bool:
    """Whether the volume is known to have been given a backing."""
    return _get(volume, 'provider_id') == BACKED


def remember(volume: Any, state: str) -> None:
    """Write down, at once, what is known of a volume's backing."""
    if hasattr(volume, 'save') and volume['provider_id'] != state:
        volume.provider_id = state
        if state == BACKED:
            volume.provider_location = None  # of the promise (keeping.py)
        volume.save()


def _get(volume: Any, field: str) -> Any:
    try:
        return volume[field]
    except KeyError:
        return None
