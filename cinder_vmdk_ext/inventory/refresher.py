# SPDX-License-Identifier: Apache-2.0
"""Asks the vCenter to refresh the figures of datastores that we changed.

A vCenter refreshes free and uncommitted space by itself every few minutes.
RefreshDatastoreStorageInfo refreshes them at once, but costs the vCenter much.
So it is called for one datastore at a time, each time after a pause.
"""

import math
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Protocol

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

# Wait after a change, so that one refresh covers a burst of changes.
DELAY_SECONDS = 30.0
# The pause between two calls for one datastore.
INTERVAL_SECONDS = 120.0
_METHOD = 'RefreshDatastoreStorageInfo'


class Books(Protocol):
    """Knows which datastores were changed."""

    def changed(self) -> Mapping[str, float]:
        """When each datastore (moref) was changed last."""

    def refreshed(self, moref: str, begun_at: float) -> None:
        """Note that the figures contain all changes before that time."""


class Refresher:
    """Refreshes changed datastores, in a thread that ends after the last one.

    If the vCenter refuses (the user needs System.Read on the datastore), it
    is asked again only after the interval. Until it agrees, the figures are
    those that it refreshes by itself.
    """

    def __init__(self, client: soap.Client, books: Books,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: the same clock as the books use"""
        self._client = client
        self._books = books
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._asked_at: dict[str, float] = {}
        self._complaint = ''

    def wake(self) -> None:
        """Note a change: its datastore is refreshed when the pause ends."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run, name='vmdk-ext-refresh', daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:
                    # What changed the datastore was done; the next change
                    # starts the thread.
                    self._thread = None
                    LOG.warning('Figures of datastores are refreshed later: '
                                '%s', error)

    def stop(self) -> None:
        """Make no further call to the vCenter. May be repeated."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                due = self._due()
                if not due:
                    self._thread = None
                    return
            at, moref = min(due)
            left = at - self._clock()
            if left > 0:
                # Another one that changes meanwhile is due no sooner.
                self._stopped.wait(min(left, DELAY_SECONDS))
            else:
                self.refresh(moref)

    def _due(self) -> list[tuple[float, str]]:
        """The time at which to refresh each changed datastore."""
        changed = self._books.changed()
        self._asked_at = {moref: at for moref, at in self._asked_at.items()
                          if moref in changed
                          or self._clock() - at < INTERVAL_SECONDS}
        return [(max(at + DELAY_SECONDS, self._asked_at.get(
                    moref, -math.inf) + INTERVAL_SECONDS), moref)
                for moref, at in changed.items()]

    def refresh(self, moref: str) -> None:
        """Have a datastore refreshed now (RefreshDatastoreStorageInfo)."""
        begun_at = self._asked_at[moref] = self._clock()
        complaint = ''
        try:
            self._client.call(_METHOD, references.Ref('Datastore', moref))
        except vmware_exceptions.VimFaultException as error:
            if 'ManagedObjectNotFound' not in error.fault_list:
                complaint = exceptions.first_line(error)
        except Exception as error:
            complaint = exceptions.first_line(error)
        if not complaint:
            self._books.refreshed(moref, begun_at)
        elif complaint != self._complaint:
            LOG.info('Figures of datastore %(datastore)s were not refreshed: '
                     '%(why)s',
                     {'datastore': moref, 'why': complaint})
        self._complaint = complaint
