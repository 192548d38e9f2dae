# SPDX-License-Identifier: Apache-2.0
"""The vCenter's VMs in memory, to find the backing of each volume."""

import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext.inventory import cache
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)

# How long a reader waits for the first report of all VMs before it reads
# them itself.
FILL_SECONDS = 30.0
POLL_SECONDS = 0.05


class BackingView:
    """Answers for :meth:`volumeops.VolumeOps.read_backings` from memory.

    The long poll keeps it current, after the inventory. Memory is used only
    while it holds all that the vCenter has reported and the vCenter has
    answered recently; otherwise all VMs are read. Threads may share it.
    """

    types = frozenset({'VirtualMachine'})
    late = True

    def __init__(self, stream: updates.Stream, ops: volumeops.VolumeOps,
                 on_move: Callable[[], None] = lambda: None) -> None:
        """Prepare, without a call; the first read starts the long poll.

        :param on_move: called, by the long poll's thread, when a VM or a
            disk of it may have been moved; it must not wait
        """
        self._stream = stream
        self._ops = ops
        self._on_move = on_move
        stream.listeners.append(self)

    def read_backings(self) -> shadow.Backings:
        """All shadow VMs; the same object as long as nothing has changed.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        conversation = self._stream.conversation()
        if conversation is not None:
            conversation.await_decision(cache.SYNC_SECONDS)
            stage = self._whole_stage(conversation)
            if stage is not None:
                return stage.backings()
        # A bulk read from a vCenter that has frozen waits for minutes.
        self._stream.probe()
        return self._ops.read_all_backings()

    def filling(self) -> bool:
        """Whether the first report of all VMs is still incomplete."""
        conversation = self._stream.conversation()
        if conversation is None or not conversation.live:
            return False
        stage = conversation.sink('VirtualMachine')
        return not (isinstance(stage, _BackingStage) and stage.whole)

    def moref_of(self, uuid: str) -> str | None:
        """The VM (moref) last reported with that instance UUID; no call."""
        conversation = self._stream.conversation()
        stage = conversation and conversation.sink('VirtualMachine')
        if not isinstance(stage, _BackingStage):
            return None
        return stage.moref_of(uuid)

    def datastores_of(self, moref: str) -> tuple[str, ...]:
        """The datastores (morefs) last reported for a VM; makes no call."""
        conversation = self._stream.conversation()
        stage = conversation and conversation.sink('VirtualMachine')
        return (stage.datastores_of(moref)
                if isinstance(stage, _BackingStage) else ())

    def _whole_stage(self, conversation: updates.Conversation
                     ) -> '_BackingStage | None':
        """The VMs, once all are reported; None: memory cannot be used."""
        deadline = time.monotonic() + FILL_SECONDS
        while conversation.live and time.monotonic() < deadline:
            stage = conversation.sink('VirtualMachine')
            if isinstance(stage, _BackingStage) and stage.whole:
                return stage
            time.sleep(POLL_SECONDS)
        return None

    # -- As a listener ------------------------------------------------------

    def filters(self, conversation: updates.Conversation,
                content: Any) -> list[soap.Typed]:
        """One filter, over a view of all VMs (Listener)."""
        view = collector.container_view(self._stream.client, content,
                                        volumeops.BACKING_PATHS)
        conversation.own('DestroyView', view)
        # The view itself is reported too: otherwise a vCenter without VMs
        # would report nothing, and the reader would wait for more.
        return [collector.view_filter(view, volumeops.BACKING_PATHS,
                                      {view: ('type',)})]

    def sink(self) -> updates.Sink:
        """An empty view, to be filled (Listener)."""
        return _BackingStage(self._on_move)

    def lost(self) -> None:
        """Do nothing: readers check if the conversation is live (Listener)."""


class _BackingStage(updates.Told):
    """The VMs of one conversation."""

    def __init__(self, on_move: Callable[[], None] = lambda: None) -> None:
        self._on_move = on_move
        super().__init__(lambda ref, path, value: volumeops.backing_value(
            path, value))
        self._lock = threading.Lock()
        self._whole = False
        self._index = shadow.BackingIndex(threading.Lock())
        self._known: dict[str, shadow.Backing] = {}
        self._morefs: dict[str, str] = {}  # by instance UUID
        self._backings = shadow.Backings(index=self._index)
        self._warned: set[references.Ref] = set()

    def moref_of(self, uuid: str) -> str | None:
        with self._lock:
            return self._morefs.get(uuid)

    def datastores_of(self, moref: str) -> tuple[str, ...]:
        with self._lock:
            known = self._known.get(moref)
            return known.datastores if known else ()

    @property
    def whole(self) -> bool:
        """Whether all VMs have been reported."""
        return self._whole

    def backings(self) -> shadow.Backings:
        with self._lock:
            if not self._backings.current:
                self._backings = shadow.Backings(index=self._index)
            return self._backings

    def settle(self) -> None:
        """Publish the VMs as reported so far (Sink)."""
        told = self.take_changed()
        self._warn_of_unreadable(told)
        changed = {
            ref.value: None if seen is None
            else volumeops.backing_of(ref.value, seen)
            for ref, seen in told.items()}
        if changed:
            with self._lock:
                moved = any(_may_have_moved(self._known.get(moref), vm)
                            for moref, vm in changed.items())
                for moref, vm in changed.items():
                    self._note(moref, vm)
            self._index.update(changed)
            if moved and self._whole:
                self._on_move()
        self._whole = True

    def _warn_of_unreadable(self, told: dict[references.Ref, Any]) -> None:
        """Warn, once for each VM, of what the vCenter does not let us read.

        The VM may belong to a volume. A search by UUID still finds it, and
        reading its properties is then an error.
        """
        for ref, seen in told.items():
            hidden = (seen or {}).get(collector.UNREADABLE)
            if hidden and ref not in self._warned:
                self._warned.add(ref)
                LOG.warning('%(vm)s: %(why)s. If it is the VM of a volume, '
                            'the volume cannot be used until the privilege is '
                            'granted.', {'vm': f'{ref.type} {ref.value}',
                                         'why': sorted(hidden.values())[0]})

    def _note(self, moref: str, vm: shadow.Backing | None) -> None:
        old = self._known.pop(moref, None)
        if old and self._morefs.get(old.uuid) == moref:
            del self._morefs[old.uuid]
        if vm:
            self._known[moref] = vm
            self._morefs[vm.uuid] = moref


def _may_have_moved(old: shadow.Backing | None,
                    new: shadow.Backing | None) -> bool:
    """Whether a VM's files, or the disk of one of its volumes, were moved.

    A disk may move between two datastores that its VM uses anyway. Then only
    the version of the VM's configuration shows that something changed.
    """
    if old is None or new is None or old == new:
        return False
    return ((old.datastores, old.folder) != (new.datastores, new.folder)
            or (len(new.datastores) > 1
                and old.change_version != new.change_version))
