# SPDX-License-Identifier: Apache-2.0
"""Finds views again whose making was not heard of.

A view lives as long as its session, and the vCenter keeps it up to date all
that time. Where the reply to its making is lost, its reference is unknown;
``ViewManager.viewList`` lists all views of the session, and what is not known
of them was lost.
"""

import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)


class Views:
    """The views of one login. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[references.Ref] = set()
        self._being_made = 0
        self._begun = 0
        self._lost = False

    def make(self, client: soap.Client, manager: references.Ref, method: str,
             arguments: dict[str, Any],
             listed: Callable[[], Iterable[references.Ref]]) -> references.Ref:
        """Make a view, once those that were lost before are destroyed.

        :param method: CreateContainerView or CreateListView
        :param listed: reads ViewManager.viewList
        :raises VimFaultException, VimConnectionException: as
            :meth:`soap.Client.call`
        """
        self._destroy_lost(client, listed)
        with self._lock:
            self._being_made += 1
            self._begun += 1
        try:
            reply = client.call(method, manager, arguments)
            view = _made(method, reply)
        except exceptions.VimConnectionException:
            with self._lock:
                self._lost = True
            raise
        else:
            with self._lock:
                self._known.add(view)
            return view
        finally:
            with self._lock:
                self._being_made -= 1

    def forget(self, view: references.Ref, lost: bool = False) -> None:
        """A view is no longer used.

        :param lost: it may be there all the same, and is to be destroyed
        """
        with self._lock:
            self._known.discard(view)
            self._lost = self._lost or lost

    def _destroy_lost(self, client: soap.Client,
                      listed: Callable[[], Iterable[references.Ref]]) -> None:
        """Destroy what is on the session's list and not known.

        Nothing while a view is being made: it may be on the list before it
        is known.
        """
        with self._lock:
            begun = self._begun
            if not self._lost or self._being_made:
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
            self._lost = False
        for view in found:
            try:
                client.call('DestroyView', view)
            except exceptions.VMwareDriverException as error:
                LOG.debug('View %s was not destroyed: %s', view.value, error)
                self.forget(view, lost=True)


def _made(method: str, reply: Any) -> references.Ref:
    try:
        return soap.ref(reply[0])
    except soap.MALFORMED as error:
        raise soap.malformed(method, error) from error


_of_clients: 'weakref.WeakKeyDictionary[Any, Views]' = (
    weakref.WeakKeyDictionary())
_making = threading.Lock()


def of(client: soap.Client) -> Views:
    """The views of the login that a client goes by."""
    with _making:
        return _of_clients.setdefault(client.https, Views())
