# SPDX-License-Identifier: Apache-2.0
"""The storage policies that volume types ask for."""

import threading
import time
from collections.abc import Callable

from oslo_log import log as logging

from cinder import context as cinder_context
from cinder.volume import volume_types

from cinder_vmdk_ext.scheduling import extra_specs

LOG = logging.getLogger(__name__)


def read() -> tuple[str, ...]:
    """Names of the policies of all volume types, sorted, from the database."""
    types = volume_types.get_all_types(cinder_context.get_admin_context())
    asked = (found['extra_specs'].get(extra_specs.POLICY)
             for found in types.values())
    return tuple(sorted({name for name in asked if name}))


class TypePolicies:
    """The policies of volume types, as they are or were not long ago.

    Safe to share between threads.
    """

    def __init__(self, lifetime_seconds: float,
                 read: Callable[[], tuple[str, ...]] = read,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_seconds = lifetime_seconds
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._read_at: float | None = None

    def __call__(self) -> tuple[str, ...]:
        """Their names, sorted.

        While the database does not answer, those known before: what the
        vCenter says of datastores does not depend on it.
        """
        now = self._clock()
        with self._lock:
            names, since = self._names, self._read_at
        if since is not None and now - since < self._lifetime_seconds:
            return names
        try:
            names = self._read()
        except Exception as error:  # whatever the database's driver raises
            LOG.warning('The storage policies of volume types cannot be '
                        'read; those known stand: %s', error)
        with self._lock:
            self._names, self._read_at = names, now
        return names
