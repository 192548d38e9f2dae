# SPDX-License-Identifier: Apache-2.0
"""The one long poll, through which the vCenter reports changes.

The plugin's own PropertyCollector holds the filters of all listeners. A thread
asks it again and again for changes (WaitForUpdatesEx). The thread starts with
the first question of a caller, so it belongs to the process that serves, not
to the parent process. Under eventlet's monkey patching the thread is green
and its waits are cooperative.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from typing import NamedTuple
from typing import Protocol

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import denied
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

# How long the vCenter holds a call while nothing changes. A shorter time
# detects a broken network sooner; a longer time makes fewer idle calls.
WAIT_SECONDS = 20
# How much longer than that a reply may take before it counts as lost.
GRACE_SECONDS = 10
# The first reply holds the whole inventory, which may take the vCenter long.
FIRST_ANSWER_SECONDS = 120
# How long a vCenter may take to answer a probe after it was silent.
PROBE_SECONDS = 5
# While no caller waits for a task, all changes within this time take one call.
GATHER_SECONDS = 0.2
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0, 30.0)


class Change(NamedTuple):
    """One property of an object; without a value it is unset."""

    path: str
    value: etree._Element | None
    # Why the vCenter does not return it, if it refuses.
    unreadable: str | None = None


class Sink(Protocol):
    """Takes all reports since the filters were made.

    One with a method ``skips`` is asked first about each ObjectUpdate, as it
    was sent; if it returns true, it is not told of it by ``update``.
    """

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[Change]) -> None:
        """Take a changed object; ``kind``: enter, modify or leave.

        These are the kinds of ObjectUpdate.
        """

    def settle(self) -> None:
        """Note that the vCenter has reported all changes up to now."""


class ReportedObjects:
    """Objects as reported, for a :class:`Sink`.

    Only the thread of one conversation calls it, so it needs no lock.
    """

    def __init__(self, value: Callable[
            [references.Ref, str, etree._Element], Any]) -> None:
        """:param value: converts a property to the value to keep"""
        self._value = value
        self._seen: dict[references.Ref, dict[str, Any]] = {}
        self._changed: set[references.Ref] = set()

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[Change]) -> None:
        """Take a reported object (Sink)."""
        self._changed.add(ref)
        if kind == 'leave':
            self._seen.pop(ref, None)
            return
        seen = self._seen.setdefault(ref, {})
        hidden = seen.pop(property_collector.UNREADABLE, {})
        for path, value, unreadable in changes:
            if hidden:
                hidden.pop(path, None)
            if value is not None:
                seen[path] = self._value(ref, path, value)
                continue
            seen.pop(path, None)
            if unreadable:
                hidden[path] = unreadable
        if hidden:
            seen[property_collector.UNREADABLE] = hidden

    def take_changed(self) -> dict[references.Ref, dict[str, Any] | None]:
        """Objects changed since the last such call; None: it is gone."""
        changed, self._changed = self._changed, set()
        return {ref: self._seen.get(ref) for ref in changed}


class Listener(Protocol):
    """Receives the changes that its filters select."""

    # The managed types by which its sink is found (Conversation.sink).
    types: frozenset[str]
    # Whether its first report comes only after those of the others.
    late: bool

    def filters(self, conversation: 'Conversation',
                content: Any) -> list[soap.Typed]:
        """PropertyFilterSpecs; may call the vCenter.

        The sink may add others later (:meth:`Conversation.watch`).

        :param conversation: to be given the objects to destroy at its end
        :param content: the ServiceContent
        """

    def sink(self, conversation: 'Conversation') -> Sink:
        """A new sink for the reports of these filters from the beginning.

        For a time two conversations may begin, of which one was replaced.
        """

    def lost(self) -> None:
        """Note that reports stop; another sink follows later.

        It must not wait, and is not called for a conversation that another
        one has replaced.
        """


class Replaced(Exception):
    """Another conversation has begun, or the stream was stopped."""


class Granted(Exception):
    """The user may read what was denied before."""


class Stream:
    """Keeps a conversation with the vCenter in the current session."""

    def __init__(self, session: Any, client: soap.Client,
                 listeners: Iterable[Listener] = (),
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare, without a call.

        :param session: oslo.vmware's session; it is renewed when it is lost
        :param client: uses the cookie of that session
        """
        self.session = session
        self.client = client
        self.clock = clock
        self.listeners = list(listeners)
        # Held while a conversation begins, and while one changes what the
        # listeners know; it is never held during a call.
        self._lock = threading.Lock()
        self._conversation: Conversation | None = None
        self._stopped = False
        # While one waits, the poll reports each change at once and does not
        # gather several. A caller adds itself before it waits, then sets
        # `hurry`, which ends a gathering that has begun; afterwards it
        # removes itself. Sets and events are safe in native and green
        # threads.
        self.waiting: set[object] = set()
        self.hurry = threading.Event()

    def conversation(self) -> 'Conversation | None':
        """The running one; starts one if none runs in the current session.

        :returns: None after :meth:`stop`, and if no thread can be started
        """
        identity = self.session.cookie
        with self._lock:
            if self._stopped:
                return None
            old = self._conversation
            if old is not None and not old.outdated(identity):
                return old
            if old is not None:
                old.abandon()
            new = self._conversation = Conversation(self)
        if old is not None:
            # Its collector ended with its session.
            LOG.info('The session changed; the vCenter is asked anew for all '
                     'that is watched.')
        try:
            new.start()
        except RuntimeError as error:
            # The next caller tries again.
            new.abandon()
            with self._lock:
                if self._conversation is new:
                    self._conversation = None
            LOG.warning('The vCenter reports no changes, so it is read each '
                        'time: %s', error)
            return None
        return new

    @contextlib.contextmanager
    def turn_of(self, conversation: 'Conversation') -> Iterator[None]:
        """Let a conversation change what the listeners know.

        Otherwise one that has been replaced, and is still busy with a call,
        could undo what its successor has begun.

        :raises Replaced: it was replaced or stopped
        """
        with self._lock:
            if conversation.ended:
                raise Replaced
            yield

    def probe(self) -> None:
        """Check that the vCenter answers at all (RetrieveServiceContent).

        :raises VimConnectionException: it does not, within PROBE_SECONDS
        """
        try:
            self.client.call('RetrieveServiceContent', _SERVICE_INSTANCE,
                             read_seconds=PROBE_SECONDS)
        except exceptions.VimFaultException:
            pass  # the vCenter answers

    def stop(self, timeout_seconds: float = 3.0) -> None:
        """End the conversation and destroy its collector. May be repeated."""
        with self._lock:
            self._stopped = True
            conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.stop(timeout_seconds)


class Conversation:
    """One thread, one PropertyCollector, one version after the other."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._client = stream.client
        self._clock = stream.clock
        self._thread = threading.Thread(
            target=self._run, name='vmdk-ext-updates', daemon=True)
        self._ended = False
        self._wake = threading.Event()
        # Set when the first reply has arrived or failed.
        self.decided = threading.Event()
        # When something of the first reports arrived last.
        self._advanced_at = self._clock()
        self._checking = threading.Lock()
        # The error of the last probe, if it failed, and when it ended.
        self._unanswered: tuple[float, Exception] | None = None
        self._heard_at = 0.0
        self._synced = False
        self._identity: str | None = None
        self._collector: references.Ref | None = None
        self._version = ''
        self._sinks: dict[str, Sink] = {}
        self._routes: dict[str, Sink] = {}  # by the filter's reference
        self._begun: set[Sink] = set()
        self._belongings: list[tuple[str, references.Ref]] = []
        self._denied = denied.Denied(self._clock)

    # -- For callers --------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether the reports are complete and recent enough for use."""
        return (self._synced and not self._ended and
                self.silent_seconds < WAIT_SECONDS + GRACE_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether it was replaced or stopped."""
        return self._ended

    @property
    def silent_seconds(self) -> float:
        """Seconds since the vCenter's last reply."""
        return self._clock() - self._heard_at

    def sink(self, kind: str) -> Sink | None:
        """The sink for objects of a managed type."""
        return self._sinks.get(kind)

    def outdated(self, identity: str | None) -> bool:
        """Whether the conversation belongs to a session that has ended.

        A vCenter does not end a waiting call when the call's session ends.
        """
        return self._identity is not None and self._identity != identity

    @property
    def idle_seconds(self) -> float:
        """Seconds since the vCenter reported something."""
        return self._clock() - self._advanced_at

    def await_decision(self, seconds: float) -> None:
        """Wait until the first reports are complete, or have failed.

        A large inventory, or a slow vCenter, takes long. To read it by other
        calls meanwhile would only make it take longer.

        :param seconds: after a silence so long, and after each further one,
            one of the waiting threads asks whether the vCenter answers at all
        :raises VimConnectionException: it does not
        """
        begun = self._clock()
        while not self.decided.is_set():
            left = seconds - self.idle_seconds
            if left > 0:
                self.decided.wait(left)
            else:
                self._check_answer(begun, seconds)

    def _check_answer(self, begun: float, seconds: float) -> None:
        """Probe the vCenter, unless another thread has just done so.

        :param begun: when this thread began to wait
        """
        with self._checking:
            if self.decided.is_set() or self.idle_seconds < seconds:
                return
            if self._unanswered is not None and self._unanswered[0] >= begun:
                raise self._unanswered[1]
            try:
                self._stream.probe()
            except exceptions.VimConnectionException as error:
                self._unanswered = self._clock(), error
                raise
            self._advanced_at = self._clock()

    def nudge(self) -> None:
        """Retry at once: another call has just reached the vCenter."""
        self._wake.set()

    def own(self, destroy: str, made: references.Ref) -> None:
        """Destroy an object, by that method, together with the collector."""
        self._belongings.append((destroy, made))

    def release(self, destroy: str, made: references.Ref) -> None:
        """Destroy such an object now."""
        self._belongings.remove((destroy, made))
        if not self._quietly(destroy, made):
            self.own(destroy, made)

    # -- For listeners and sinks, in the thread -----------------------------

    def turn(self) -> AbstractContextManager[None]:
        """As :meth:`Stream.turn_of`."""
        return self._stream.turn_of(self)

    def watch(self, spec: soap.Typed, sink: Sink) -> references.Ref:
        """Have a sink take the reports of a new filter (CreateFilter).

        :param spec: a PropertyFilterSpec
        :raises VimFaultException, VimConnectionException: as
            :meth:`soap.Client.call`
        """
        assert self._collector is not None
        made = soap.ref(self._client.call('CreateFilter', self._collector, {
            'spec': spec, 'partialUpdates': False})[0])
        self._routes[made.value] = sink
        return made

    def unwatch(self, made: references.Ref) -> None:
        """End a filter (DestroyPropertyFilter); reports nothing of it.

        :raises VimFaultException, VimConnectionException: as
            :meth:`soap.Client.call`
        """
        self._begun.discard(self._routes.pop(made.value))
        self._client.call('DestroyPropertyFilter', made)

    # -- Beginning and end --------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def abandon(self) -> None:
        """End the thread when its call returns; ignore that reply."""
        self._ended = True
        self._wake.set()
        self.decided.set()

    def stop(self, timeout_seconds: float) -> None:
        self.abandon()
        self._destroy()
        # One that another thread is about to start ends at once.
        if (self._thread is not threading.current_thread()
                and self._thread.is_alive()):
            self._thread.join(timeout_seconds)

    # -- The thread ---------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._ended:
            try:
                self._open()
                while not self._synced and not self._ended:
                    self._follow()
                self._listen(late=True)
                while not self._ended:
                    self._follow()
                    failures = 0
                    self._look_after()
                    self._gather()
            except Exception as error:
                # Any error: without this thread every read would go to the
                # vCenter for ever.
                if self._abandoned():
                    break
                self._fail(error, failures)
                failures += 1
        self._synced = False
        # If the session changed meanwhile, it was opened in the new one.
        self._destroy()

    def _look_after(self) -> None:
        """Look for what the vCenter does not report by itself.

        :raises Granted: what was denied has to be reported anew
        """
        content = self._stream.session.vim.service_content
        property_collector.destroy_lost_views(self._client, content)
        if self._denied.any_granted(self._client, content):
            raise Granted('the user was granted a privilege')

    def _gather(self) -> None:
        """Let changes add up, unless a caller waits for a report."""
        self._stream.hurry.clear()
        # One that adds itself after this look sets the event afterwards.
        if not self._stream.waiting:
            self._stream.hurry.wait(GATHER_SECONDS)

    def _open(self) -> None:
        self._identity = self._stream.session.cookie
        content = self._stream.session.vim.service_content
        collector = soap.ref(self._client.call(
            'CreatePropertyCollector', content.propertyCollector)[0])
        self._destroy()  # objects that an earlier attempt could not reach
        self._collector = collector
        self.own('DestroyPropertyCollector', collector)
        self._version = ''
        self._sinks = {}
        self._routes = {}
        self._begun = set()
        self._denied.clear()
        self._listen(late=False)

    def _listen(self, late: bool) -> None:
        content = self._stream.session.vim.service_content
        sinks = dict(self._sinks)
        for listener in self._stream.listeners:
            if listener.late == late:
                specs = listener.filters(self, content)
                sink = listener.sink(self)
                for spec in specs:
                    self.watch(spec, sink)
                sinks.update((kind, sink) for kind in listener.types)
        self._sinks = sinks

    def _follow(self) -> None:
        """Make one call of WaitForUpdatesEx."""
        assert self._collector is not None
        truncated = False
        answered = False
        version = self._version
        begun = self._clock()
        found = None  # the PropertyFilterUpdate, and who takes its reports
        sink: Sink | None = None
        skips: Callable[[etree._Element], bool] | None = None
        for part in self._client.stream(
                'WaitForUpdatesEx', self._collector,
                {'version': self._version,
                 'options': soap.Typed('', {'maxWaitSeconds': WAIT_SECONDS})},
                ('version', 'truncated', 'objectSet'),
                WAIT_SECONDS + GRACE_SECONDS if self._version
                else FIRST_ANSWER_SECONDS):
            if self._abandoned():
                return
            self._advanced_at = self._clock()
            tag = part.tag
            if tag == _OBJECT_SET:
                answered = True
                if part.getparent() is not found:
                    found = part.getparent()
                    sink = self._sink_of(found)
                    skips = getattr(sink, 'skips', None)
                if sink is not None and not (
                        skips and not self._denied and skips(part)):
                    _pass_on(part, sink, self._denied)
            elif part.getparent().tag == _RETURNED:
                answered = True
                if tag == _VERSION:
                    version = part.text or ''
                else:
                    truncated = part.text == 'true'
        if (not answered and self._synced
                and self._clock() - begun < WAIT_SECONDS / 2):
            # A vCenter may reply like this after the session has ended.
            raise soap.empty_reply('WaitForUpdatesEx', ())
        self._version = version
        self._heard_at = self._clock()
        if answered or not self._synced:
            self._settle(truncated)
        if not truncated and not self._synced and not self._ended:
            self._synced = True
            self.decided.set()

    def _settle(self, truncated: bool) -> None:
        """Settle the sinks; a sink's first report only when complete."""
        for sink in set(self._routes.values()):
            if not truncated or sink in self._begun:
                sink.settle()
                self._begun.add(sink)
        self._begun.intersection_update(self._routes.values())

    def _abandoned(self) -> bool:
        return self._ended  # by another thread, perhaps just now

    def _sink_of(self, found: etree._Element) -> Sink | None:
        """Who takes the reports of a filter; it is named before them."""
        named = found[0]
        return (self._routes.get(named.text or '')
                if named.tag == _FILTER else None)

    def _fail(self, error: Exception, failures: int) -> None:
        """Discard the reports, and wait a little."""
        self._synced = False
        self._collector = None
        self._wake.clear()
        self.decided.set()
        try:
            with self.turn():
                for listener in self._stream.listeners:
                    listener.lost()
        except Replaced:
            return
        log = LOG.warning if failures == 1 else LOG.debug
        log('The vCenter reports no changes, so it is read each time: %s',
            error)
        self._identity = None
        lost_session = (
            isinstance(error, exceptions.VimFaultException)
            and any(map(soap.is_lost_session, error.fault_list)))
        if lost_session:
            self._log_in()
        # They end with a lost session, but an empty reply does not prove that
        # it is lost.
        if not lost_session or isinstance(error, soap.EmptyReply):
            self._destroy()
        else:
            self._forget_belongings()
        if not lost_session or failures:
            self._wake.wait(RETRY_SECONDS[min(failures,
                                              len(RETRY_SECONDS) - 1)])

    def _log_in(self) -> None:
        try:
            # The vCenter has just answered, so this does not wait for ever.
            self._stream.session.ensure_logged_in()
        except Exception as error:
            LOG.warning('Cannot log in to the vCenter again: %s', error)

    def _destroy(self) -> None:
        """Destroy the created objects; keep unreached ones for later.

        The vCenter would otherwise serve them as long as the session lives.
        """
        belongings, self._belongings = self._belongings, []
        while belongings and self._quietly(*belongings[0]):
            belongings.pop(0)
        self._belongings = belongings + self._belongings

    def _forget_belongings(self) -> None:
        belongings, self._belongings = self._belongings, []
        for method, this in belongings:
            if method == 'DestroyView':
                property_collector.forget_view(self._client, this)

    def _quietly(self, method: str, this: references.Ref) -> bool:
        """:returns: whether the vCenter answered"""
        if method == 'DestroyView':
            return property_collector.destroy_view(self._client, this,
                                                   GRACE_SECONDS)
        try:
            self._client.call(method, this, read_seconds=GRACE_SECONDS)
        except exceptions.VimConnectionException as error:
            LOG.debug('%s: %s', method, error)
            return False
        except exceptions.VMwareDriverException as error:
            LOG.debug('%s: %s', method, error)
        return True


def _pass_on(update: etree._Element, sink: Sink,
             hidden: denied.Denied) -> None:
    """Have a sink take an ObjectUpdate."""
    kind, obj, *parts = update
    ref = soap.ref(obj)
    changes = []
    refused = []
    for part in parts:
        if part.tag == _CHANGE_SET:
            changes.append(_change(part))
        elif part.tag == _MISSING_SET:
            lacking = property_collector.missing(part)
            if lacking.fault == property_collector.GONE:
                # It was deleted while it was being reported.
                sink.update('leave', ref, ())
                hidden.note('leave', ref, (), ())
                return
            if lacking.fault == denied.FAULT:
                refused.append(lacking.path)
            changes.append(Change(lacking.path, None, str(lacking)))
    sink.update(kind.text or '', ref, changes)
    hidden.note(kind.text or '', ref, [each.path for each in changes],
                refused)


def _change(entry: etree._Element) -> Change:
    """A PropertyChange; its elements are in the schema's order."""
    path, operation, *value = entry
    return Change(path.text or '', value[0] if value and operation.text
                  not in _REMOVALS else None)


_REMOVALS = ('remove', 'indirectRemove')
_SERVICE_INSTANCE = references.Ref('ServiceInstance', 'ServiceInstance')
_OBJECT_SET = f'{{{soap.VIM}}}objectSet'
_VERSION = f'{{{soap.VIM}}}version'
_RETURNED = f'{{{soap.VIM}}}returnval'
_FILTER = f'{{{soap.VIM}}}filter'
_CHANGE_SET = f'{{{soap.VIM}}}changeSet'
_MISSING_SET = f'{{{soap.VIM}}}missingSet'
