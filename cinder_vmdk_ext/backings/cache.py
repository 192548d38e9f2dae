# SPDX-License-Identifier: Apache-2.0
"""Shadow VMs and instances in memory, to find the backing of each volume.

:mod:`members` says which VMs these are. A VM that is not in memory may exist
all the same; only the vCenter says that it does not.
"""

import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging

from cinder_vmdk_ext.backings import members
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext.inventory import cache
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)

# How long the first reports of VMs may be silent before a reader reads all
# VMs itself.
FILL_SECONDS = 30.0
POLL_SECONDS = 0.02
# How often a reader that waits for them looks if they still come.
LOOK_SECONDS = 1.0
# Publishing so many takes a few milliseconds; then other greenthreads run.
VMS_A_TURN = 200
# Shadow VMs that vanished are sought again after pauses that double, from the
# first to the last one; at most so many at a time.
FIRST_PAUSE_SECONDS = 60.0
LAST_PAUSE_SECONDS = 16 * 3600.0
SOUGHT_AT_ONCE = 20
# How long a caller waits for the first report of instances that it follows.
# It takes as long as the long poll gathers changes, and a round trip.
FOLLOW_SECONDS = 30.0


class _Lost(NamedTuple):
    """A VM that vanished without the driver."""

    volume_id: str  # of a shadow VM
    due_at: float
    pause_seconds: float


class BackingView:
    """Answers for :meth:`volumeops.VolumeOps.read_backings` from memory.

    The long poll keeps it current, after the inventory. Memory is used only
    while it holds all that the vCenter has reported and the vCenter has
    answered recently; otherwise all VMs are read. Memory has the shadow VMs,
    and the instances that are followed. Threads may share it.
    """

    types = frozenset({'VirtualMachine'})
    late = True

    def __init__(self, stream: updates.Stream, ops: volumeops.VolumeOps,
                 on_move: Callable[[], None] = lambda: None,
                 folder: str = 'Volumes') -> None:
        """Prepare, without a call; the first read starts the long poll.

        :param folder: ``vmware_volume_folder``
        :param on_move: called, by the long poll's thread, when a VM or a
            disk of it may have been moved; it must not wait
        """
        self._stream = stream
        self._ops = ops
        self._on_move = on_move
        self._folder = folder
        self._list = members.WatchList(stream.client)
        # Stages whose first filters have been made, by conversation.
        self._opened: dict[updates.Conversation, _BackingStage] = {}
        # By instance UUID.
        self._lost: dict[str, _Lost] = {}
        # The stage that has all VMs; instances that the one before it had.
        self._known: _BackingStage | None = None
        self._followed: list[shadow.Backing] = []
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
        """The datastores (morefs) last reported for a VM; no call."""
        conversation = self._stream.conversation()
        stage = conversation and conversation.sink('VirtualMachine')
        vm = (stage.found.get(moref) if isinstance(stage, _BackingStage)
              else None)
        return vm.datastores if vm else ()

    def deleting(self, moref: str) -> tuple[str, ...]:
        """As :meth:`datastores_of`, of a VM that is about to be deleted."""
        found = self.datastores_of(moref)
        self._list.doom(moref)
        return found

    def not_deleted(self, moref: str) -> None:
        """Note that such a VM may still exist."""
        self._list.spare(moref)

    # -- VMs that vanished --------------------------------------------------

    def _note_lost(self, vms: Iterable[shadow.Backing]) -> None:
        """Note VMs that another client destroyed or unregistered."""
        named, now = config.name_patterns(), self._stream.clock()
        for vm in vms:
            if not vm.uuid:
                continue
            volume_id = vm.volume_id or named.volume_id(vm.name)
            if volume_id:
                self._lost[vm.uuid] = _Lost(
                    volume_id, now + FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS)
            elif not members.is_shadow(vm):
                # Another may have taken its place: a new VM of that UUID.
                self._lost[vm.uuid] = _Lost('', now, FIRST_PAUSE_SECONDS / 2)
                self._on_move()

    def lost_backings(self) -> dict[str, str]:
        """VMs that vanished and are to be sought now; no call.

        An administrator may register a shadow VM in another folder, where no
        filter selects it, and an instance, which then is another VM of the
        same UUID.

        :returns: the volumes' ids by the VMs' instance UUIDs; '' for an
            instance
        """
        now = self._stream.clock()
        due = [uuid for uuid, each in list(self._lost.items())
               if each.due_at <= now][:SOUGHT_AT_ONCE]
        found = {}
        for uuid in due:
            lost = self._lost.pop(uuid)
            if self.moref_of(uuid) is not None:
                continue
            found[uuid] = lost.volume_id
            pause_seconds = 2 * lost.pause_seconds
            if pause_seconds <= LAST_PAUSE_SECONDS:
                self._lost[uuid] = lost._replace(
                    due_at=now + pause_seconds, pause_seconds=pause_seconds)
        return found

    def forget_lost(self, uuids: Iterable[str]) -> None:
        """Seek VMs no longer, by their instance UUIDs."""
        for uuid in uuids:
            self._lost.pop(uuid, None)

    # -- Which VMs are in memory --------------------------------------------

    def follow(self, morefs: Iterable[str], *, wait: bool = True) -> None:
        """Have memory know instances, from now on (ModifyListView).

        :param wait: return when they are in memory, or after half a minute
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        wanted = set(morefs)
        self._list.follow(wanted)
        if not (wait and wanted):
            return
        waiting = object()
        self._stream.waiting.add(waiting)
        self._stream.hurry.set()
        try:
            self._await_report(wanted)
        finally:
            self._stream.waiting.discard(waiting)

    def _await_report(self, morefs: set[str]) -> None:
        deadline = time.monotonic() + FOLLOW_SECONDS
        while morefs and time.monotonic() < deadline:
            conversation = self._stream.conversation()
            if conversation is None or not conversation.live:
                return  # memory is not used
            stage = conversation.sink('VirtualMachine')
            if isinstance(stage, _BackingStage) and stage.whole:
                morefs = {moref for moref in morefs
                          if self._list.follows(moref)
                          and moref not in stage.known()}
            if morefs:
                time.sleep(POLL_SECONDS)

    def unfollow(self, moref: str) -> None:
        """Have memory forget an instance, at some time; makes no call."""
        self._list.unfollow(moref)

    def _whole_stage(self, conversation: updates.Conversation
                     ) -> '_BackingStage | None':
        """The VMs, once all are reported; None: memory cannot be used."""
        while conversation.live:
            stage = conversation.sink('VirtualMachine')
            if isinstance(stage, _BackingStage) and stage.whole:
                return stage
            if conversation.idle_seconds >= FILL_SECONDS:
                break
            if isinstance(stage, _BackingStage):
                stage.filled.wait(LOOK_SECONDS)
            else:
                time.sleep(POLL_SECONDS)
        return None

    # -- As a listener ------------------------------------------------------

    def filters(self, conversation: updates.Conversation,
                content: Any) -> list[soap.Typed]:
        """None at first: what to watch is found out by watching (Listener)."""
        before, self._known = self._known, None
        if before is not None:
            self._followed = [vm for vm in list(before.found.values())
                              if not members.is_shadow(vm)]
        stage = _BackingStage(self._on_move)
        stage.on_lost = self._note_lost
        stage.on_reported = self._ops.reported
        # Several reports follow one another until all is known.
        with conversation.turn():
            self._stream.waiting.add(self)
            self._stream.hurry.set()
        stage.on_complete = lambda: self._complete(stage)
        stage.members = members.Members(
            self._list, self._stream.client, self._folder, conversation,
            content, volumeops.BACKING_PATHS, stage,
            self._ops.check_folders)
        stage.watch_list = self._list
        stage.members.begin()
        self._opened[conversation] = stage
        return []

    def sink(self, conversation: updates.Conversation) -> updates.Sink:
        """An empty view, to be filled (Listener)."""
        return (self._opened.pop(conversation, None)
                or _BackingStage(self._on_move))

    def lost(self) -> None:
        """Note that the list is gone (Listener).

        Readers check if the conversation is live.
        """
        self._list.close()
        self._stream.waiting.discard(self)

    def _complete(self, stage: '_BackingStage') -> None:
        """Note that a conversation has reported all VMs."""
        self._stream.waiting.discard(self)
        self._known = stage
        followed, self._followed = self._followed, []
        # Instances may have been replaced while nothing was heard of them.
        self._note_lost([vm for vm in followed
                         if stage.moref_of(vm.uuid) is None])


class _BackingStage:
    """The VMs of one conversation.

    Only the long poll's thread reports to it (Sink).
    """

    def __init__(self, on_move: Callable[[], None] = lambda: None) -> None:
        self._on_move = on_move
        # What the conversation watches; None: all that is reported is all.
        self.members: members.Members | None = None
        self.watch_list: members.WatchList | None = None
        self.on_complete: Callable[[], None] = lambda: None
        # Called with VMs that are gone though the driver did not delete them.
        self.on_lost: Callable[[Iterable[shadow.Backing]], None] = (
            lambda vms: None)
        # Called after VMs are published, with each as it was and as it is.
        self.on_reported: Callable[[Iterable[tuple[
            shadow.Backing | None, shadow.Backing | None]]], None] = (
            lambda changes: None)
        # What was reported since the last settling, by moref: the VM before,
        # and the fields that changed. None: it left.
        self._pending: dict[str, tuple[
            shadow.Backing, dict[str, Any]] | None] = {}
        # VMs that came and left since then, by moref.
        self._passed: dict[str, shadow.Backing | None] = {}
        # VMs (morefs) that left their folders and will be reported again.
        self._sought: set[str] = set()
        self._lock = threading.Lock()
        self._listed = False
        #: Set when all VMs have been reported.
        self.filled = threading.Event()
        self._index = shadow.BackingIndex(threading.Lock())
        #: The VMs as reported last, by moref. Only this object changes it.
        self.found: dict[str, shadow.Backing] = {}
        self._morefs: dict[str, str] = {}  # by instance UUID
        self._backings = shadow.Backings(index=self._index)
        self._warned: set[str] = set()

    def moref_of(self, uuid: str) -> str | None:
        with self._lock:
            return self._morefs.get(uuid)

    @property
    def whole(self) -> bool:
        """Whether all VMs have been reported."""
        return self.filled.is_set()

    def backings(self) -> shadow.Backings:
        with self._lock:
            if not self._backings.current:
                self._backings = shadow.Backings(index=self._index)
            return self._backings

    def known(self) -> Collection[str]:
        """The morefs of all VMs, templates included."""
        return self.found.keys()

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[updates.Change]) -> None:
        """Take a reported VM (Sink)."""
        moref = ref.value
        if ref.type != 'VirtualMachine':
            return
        if kind == 'leave':
            came = self._pending.get(moref)
            if came is not None and moref not in self.found:
                self._passed[moref] = _changed(came)
            self._pending[moref] = None
            return
        pending = self._pending.get(moref)
        if pending is None or kind == 'enter':
            before = self.found.get(moref) if kind == 'modify' else None
            pending = self._pending[moref] = (
                before or shadow.Backing(moref, '', ()), {})
        for path, value, unreadable in changes:
            field, pending[1][field] = volumeops.backing_field(path, value)
            if unreadable:
                self._warn(moref, unreadable)

    def settle(self) -> None:
        """Publish the VMs as reported so far (Sink)."""
        pending, self._pending = self._pending, {}
        self._seek(pending)
        morefs = list(pending)
        moved = False
        for start in range(0, len(morefs), VMS_A_TURN):
            concurrency.cooperative_yield()
            moved |= self._publish({
                moref: _changed(pending[moref])
                for moref in morefs[start:start + VMS_A_TURN]})
        if moved and self.whole:
            self._on_move()
        if not self._listed:
            self._listed = True
            if self.members is None:
                self.complete()
            else:
                self.members.listed()

    def _seek(self, pending: dict[str, tuple[
            shadow.Backing, dict[str, Any]] | None]) -> None:
        """Go on watching VMs that were moved out of their folders.

        They are reported again with the next reply. Until then memory has
        them as they were reported last.

        :param pending: those that the vCenter still has are removed from it
        """
        self._sought -= pending.keys()
        passed, self._passed = self._passed, {}
        if self.watch_list is None or self.members is None:
            return
        left = {}
        for moref, now in pending.items():
            if now is not None:
                continue
            if vm := self.found.get(moref) or passed.get(moref):
                left[moref] = vm
            else:
                self.watch_list.spare(moref)
        if not left:
            return
        kept, lost = self.watch_list.keep(left)
        self.on_lost([left[moref] for moref in lost])
        for moref in kept:
            del pending[moref]
        self._sought |= kept
        if kept:
            self.members.echo(lambda: self._drop(kept))

    def _drop(self, kept: Iterable[str]) -> None:
        """Remove those that the vCenter has not reported again."""
        gone = self._sought.intersection(kept)
        self._sought -= gone
        self._publish(dict.fromkeys(gone))

    def complete(self) -> None:
        """Note that all VMs that are watched have been reported (Stage)."""
        self.filled.set()
        self.on_complete()

    def _publish(self, changed: dict[str, shadow.Backing | None]) -> bool:
        """:returns: whether a VM or a disk of it may have been moved"""
        with self._lock:
            changes = [(self.found.get(moref), vm)
                       for moref, vm in changed.items()]
            for moref, vm in changed.items():
                self._note(moref, vm)
        self._index.update(changed)
        self.on_reported(changes)
        return any(_may_have_moved(old, vm) for old, vm in changes)

    def _warn(self, moref: str, why: str) -> None:
        """Warn, once for each VM, of what the vCenter does not let us read.

        The VM may belong to a volume. A search by UUID still finds it, and
        reading its properties is then an error.
        """
        if moref not in self._warned:
            self._warned.add(moref)
            LOG.warning('%(vm)s: %(why)s. If it is the VM of a volume, '
                        'the volume cannot be used until the privilege is '
                        'granted.', {'vm': f'VirtualMachine {moref}',
                                     'why': why})

    def _note(self, moref: str, vm: shadow.Backing | None) -> None:
        old = self.found.get(moref)
        if old and self._morefs.get(old.uuid) == moref:
            del self._morefs[old.uuid]
        if vm:
            self.found[moref] = vm
            self._morefs[vm.uuid] = moref
        else:
            self.found.pop(moref, None)
            self._warned.discard(moref)


def _changed(pending: tuple[shadow.Backing, dict[str, Any]] | None
             ) -> shadow.Backing | None:
    if pending is None:
        return None
    before, fields = pending
    if fields.get('volume_id') == fields.get('uuid'):
        # Keep one string for both.
        fields['volume_id'] = fields.get('uuid', before.volume_id)
    return before._replace(**fields)


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
