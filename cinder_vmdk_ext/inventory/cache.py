# SPDX-License-Identifier: Apache-2.0
"""The inventory in memory, kept current by the vCenter's notices."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)

# Takes an inventory, and whether a notice of the vCenter brought it.
Observe = Callable[[model.Inventory, bool], None]
# How long the first view may be silent before a reader makes sure that the
# vCenter answers at all.
SYNC_SECONDS = 10.0
# Building so many takes a few milliseconds; then other greenthreads run.
OBJECTS_A_TURN = 200


class LiveView:
    """An :class:`inventory.InventoryReader` that reads memory if it can.

    Memory is used only while it holds all that the vCenter has reported and
    the vCenter has answered recently; otherwise the reader is asked. Threads
    may share it.
    """

    types = frozenset({*inventory_reader.PATHS, 'ClusterComputeResource',
                       'CustomFieldsManager'})
    late = False

    def __init__(self, stream: updates.Stream,
                 reader: inventory_reader.InventoryReader,
                 watched: inventory_reader.WatchedPolicies | None = None,
                 observe: Observe | None = None
                 ) -> None:
        """Prepare, without a call; the first read starts the long poll.

        :param reader: asked while memory may be out of date; it watches
            the same policies
        :param observe: called with each inventory, without policies, as soon
            as it is known
        """
        self._observe = observe or (lambda known, prompt: None)
        self._stream = stream
        self._reader = reader
        self._watched = watched or inventory_reader.WatchedPolicies()
        # What was reported, and the same with policies.
        self._completed = inventory_reader.Completed()
        stream.listeners.append(self)

    def read(self) -> model.Inventory:
        """The inventory as it is now; no call while the view is live.

        The same object is returned as long as nothing has changed.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        known = self.known()
        if known is not None:
            return self._complete(known)
        # A large inventory takes long; a vCenter that hangs uses up the wait.
        self._stream.probe()
        found = self._reader.read()
        self._observe(found, False)
        conversation = self._stream.conversation()
        if conversation is not None:
            conversation.nudge()
        return found

    def age_seconds(self) -> float:
        """Seconds since the vCenter last confirmed what memory holds.

        The age grows while the long poll waits for a reply. It is 0 if each
        read asks the vCenter.
        """
        conversation = self._stream.conversation()
        if conversation is None or not conversation.live:
            return 0.0
        return conversation.silent_seconds

    def known(self) -> model.Inventory | None:
        """The inventory in memory, without policies; None: out of date.

        The first call waits until the vCenter has reported everything, as
        long as it answers.

        :raises VimConnectionException: it does not answer
        """
        conversation = self._stream.conversation()
        if conversation is None:
            return None
        conversation.await_decision(SYNC_SECONDS)
        stage = conversation.sink('Datastore')
        if not isinstance(stage, _InventoryStage) or not conversation.live:
            return None
        return stage.published

    def _complete(self, known: model.Inventory) -> model.Inventory:
        compliant = self._watched.compliance()
        if compliant is None:
            return known
        return self._completed.of(known, compliant=compliant)

    # -- As a listener ------------------------------------------------------

    def filters(self, conversation: updates.Conversation,
                content: Any) -> list[soap.Typed]:
        """One filter, over a view of all relevant objects (Listener)."""
        view = collector.container_view(self._stream.client, content,
                                        inventory_reader.PATHS)
        conversation.own('DestroyView', view)
        return [collector.view_filter(
            view, inventory_reader.PATHS,
            collector.named(content, inventory_reader.MANAGERS))]

    def sink(self, conversation: updates.Conversation) -> updates.Sink:
        """An empty view, to be filled (Listener)."""
        return _InventoryStage(self._observe)

    def lost(self) -> None:
        """Do nothing: readers check if the conversation is live (Listener)."""


class _InventoryStage(updates.ReportedObjects):
    """Collects reported changes, and publishes them when complete.

    An inventory that was published never changes.
    """

    def __init__(self, observe: Observe) -> None:
        super().__init__(inventory_reader.reported)
        self._observe = observe
        self.published: model.Inventory | None = None
        self._assembly = inventory_reader.Assembly()

    def settle(self) -> None:
        """Publish what was reported so far (Sink)."""
        changed = self.take_changed()
        if not changed and self.published is not None:
            return
        # Otherwise each datastore would be made twice.
        ordered = sorted(changed.items(),
                         key=lambda each: each[0].type != 'Datacenter')
        for ref, seen in concurrency.in_turns(ordered, OBJECTS_A_TURN):
            if seen is None:
                self._assembly.drop(ref)
            else:
                self._assembly.put(ref, seen)
        found = self._assembly.inventory()
        prompt = self.published is not None
        if self.published is not None:
            found.follow(self.published, self._assembly.changed)
        self._assembly.changed = set()
        self.published = found
        self._observe(found, prompt)
