# SPDX-License-Identifier: Apache-2.0
"""The vCenter's VMs in memory, as far as they tell which is whose backing."""

import threading
from collections.abc import Iterable
from typing import Any

from cinder_vmdk_ext import liveview
from cinder_vmdk_ext import soap
from cinder_vmdk_ext import updates
from cinder_vmdk_ext import volumeops


class BackingView:
    """Answers for :meth:`volumeops.VolumeOps.read_backings` from memory.

    Kept by the one long poll, after the inventory. Memory is used only while
    it holds all that the vCenter has told and the vCenter has been heard of
    lately; else all VMs are read. Safe to share between threads.
    """

    types = frozenset({'VirtualMachine'})
    late = True

    def __init__(self, stream: updates.Stream,
                 ops: volumeops.VolumeOps) -> None:
        """Prepare, without a call; the first read starts the long poll."""
        self._stream = stream
        self._ops = ops
        stream.listeners.append(self)

    def read_backings(self) -> volumeops.Backings:
        """All shadow VMs; the same object as long as nothing has changed.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        conversation = self._stream.conversation()
        if conversation is not None:
            conversation.await_decision(liveview.SYNC_SECONDS)
            stage = conversation.sink('VirtualMachine')
            if (isinstance(stage, _Stage) and stage.await_all(conversation)
                    and conversation.live):
                return stage.backings()
        return self._ops.read_all_backings()

    # -- As a listener ------------------------------------------------------

    def filters(self, conversation: updates.Conversation,
                content: Any) -> list[soap.Typed]:
        """One, over a view of all VMs (Listener)."""
        reply = self._stream.client.call(
            'CreateContainerView', soap.from_suds(content.viewManager), {
                'container': soap.from_suds(content.rootFolder),
                'type': list(volumeops.BACKING_PATHS), 'recursive': True})
        view = soap.ref(reply[0])
        conversation.own('DestroyView', view)
        return [soap.view_filter(view, volumeops.BACKING_PATHS)]

    def sink(self) -> updates.Sink:
        """An empty view, to be filled (Listener)."""
        return _Stage()

    def lost(self) -> None:
        """Nothing to do: whoever reads looks whether it is live (Listener)."""


class _Stage:
    """The VMs of one conversation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whole = threading.Event()
        self._seen: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()
        self._known: dict[str, volumeops.Backing] = {}
        self._backings: volumeops.Backings | None = None

    def await_all(self, conversation: updates.Conversation) -> bool:
        """Whether all VMs are known; waits a little for it at the start."""
        left = (conversation.started_at + liveview.SYNC_SECONDS
                - conversation.now())
        return self._whole.is_set() or (left > 0 and self._whole.wait(left))

    def backings(self) -> volumeops.Backings:
        with self._lock:
            if self._backings is None:
                self._backings = volumeops.Backings(self._known.values())
            return self._backings

    # -- As a sink ----------------------------------------------------------

    def update(self, kind: str, ref: soap.Ref,
               changes: Iterable[updates.Change]) -> None:
        self._changed.add(ref.value)
        if kind == 'leave':
            self._seen.pop(ref.value, None)
            return
        seen = self._seen.setdefault(ref.value, {})
        for path, value in changes:
            if value is None:
                seen.pop(path, None)
            else:
                seen[path] = volumeops.backing_value(path, value)

    def settle(self) -> None:
        if self._changed:
            made = {moref: volumeops.backing_of(moref, self._seen[moref])
                    for moref in self._changed if moref in self._seen}
            with self._lock:
                for moref in self._changed:
                    self._known.pop(moref, None)
                self._known.update(made)
                self._backings = None
            self._changed.clear()
        self._whole.set()
