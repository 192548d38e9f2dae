# SPDX-License-Identifier: Apache-2.0
"""Finds and destroys views whose creation got no reply.

A view lives as long as its session, and the vCenter keeps it up to date all
that time. If the reply to its creation is lost, its reference is unknown. But
``ViewManager.viewList`` lists all views of the session; those that are not
known here were lost. A request whose connection broke may still be executed
some time later, so the list is read repeatedly for some time after a loss.
"""

import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

# A request that was sent is executed within this time, or never.
SETTLE_SECONDS = 60.0
# How often the list is read in that time.
LOOK_SECONDS = 3.0

Listed = Callable[[], Iterable[references.Ref]]


class Views:
    """The views of one login. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: set[references.Ref] = set()
        self._being_made = 0
        self._begun = 0
        # When the last view was lost, and when to search for it next.
        self._lost_at: float | None = None
        self._look_at = 0.0

    def make(self, client: soap.Client, manager: references.Ref, method: str,
             arguments: dict[str, Any], listed: Listed) -> references.Ref:
        """Create a view, after destroying those that were lost before.

        :param method: CreateContainerView or CreateListView
        :param listed: reads ViewManager.viewList
        :raises VimFaultException, VimConnectionException: as
            :meth:`soap.Client.call`
        """
        self.destroy_lost(client, listed)
        with self._lock:
            self._being_made += 1
            self._begun += 1
        try:
            reply = client.call(method, manager, arguments)
            view = _made(method, reply)
        except exceptions.VimConnectionException:
            self._lose()
            raise
        else:
            with self._lock:
                self._known.add(view)
            return view
        finally:
            with self._lock:
                self._being_made -= 1

    def forget(self, view: references.Ref, lost: bool = False) -> None:
        """Note that a view is no longer used.

        :param lost: the view may still exist, and has to be destroyed
        """
        with self._lock:
            self._known.discard(view)
        if lost:
            self._lose()

    def _lose(self) -> None:
        with self._lock:
            self._lost_at = self._look_at = self._clock()

    def destroy_lost(self, client: soap.Client, listed: Listed) -> None:
        """Destroy the session's views that are not known; never fails.

        Makes a call only for some time after a loss, and none while a view is
        being created, which may be on the list before it is known here.

        :param listed: reads ViewManager.viewList
        """
        with self._lock:
            begun, now = self._begun, self._clock()
            if (self._lost_at is None or now < self._look_at
                    or self._being_made):
                return
        try:
            found = set(listed())
        except exceptions.VMwareDriverException as error:
            LOG.debug('Views were not listed: %s', error)
            return
        with self._lock:
            if self._being_made or self._begun != begun:
                return
            found -= self._known
            self._look_at = max(self._look_at, now + LOOK_SECONDS)
            if (self._lost_at is not None
                    and now - self._lost_at >= SETTLE_SECONDS):
                self._lost_at = None
        for view in found:
            self._destroy(client, view)

    def _destroy(self, client: soap.Client, view: references.Ref) -> None:
        try:
            client.call('DestroyView', view)
        except exceptions.VMwareDriverException as error:
            LOG.debug('View %s was not destroyed: %s', view.value, error)
            if isinstance(error, exceptions.VimConnectionException):
                self._lose()


def _made(method: str, reply: Any) -> references.Ref:
    try:
        return soap.ref(reply[0])
    except soap.MALFORMED as error:
        raise soap.malformed(method, error) from error


_of_clients: 'weakref.WeakKeyDictionary[Any, Views]' = (
    weakref.WeakKeyDictionary())
_making = threading.Lock()


def of(client: soap.Client) -> Views:
    """The views of the login that a client uses."""
    with _making:
        return _of_clients.setdefault(client.https, Views())
