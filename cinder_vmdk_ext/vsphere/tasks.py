# SPDX-License-Identifier: Apache-2.0
"""Waits for many of the vCenter's tasks at once, by notices of their end.

The long poll that keeps the inventory current also watches a ListView of the
awaited tasks, so the end of a task is reported within one round trip. One call
adds a task to the list, and removes the tasks that have ended. The list is
needed because vSphere promises no notices for ``TaskManager.recentTask``. A
task that is not reported is read.
"""

import collections
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import retry
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)

# A task is reported as soon as it is on the list.
UNSEEN_SECONDS = 1.0
# How often a long task is read, to log its progress, and in case a notice was
# lost.
PROGRESS_SECONDS = 15.0
# Hosts continue a task while the vCenter restarts, which takes minutes.
PATIENCE_SECONDS = 900.0
# At most this many ended tasks are kept whose wait has ended another way.
REMEMBERED = 2000
# How long the call that lists a task may take before the task is read instead.
_LIST_SECONDS = 10.0

_TOLD = ('info.state', 'info.error', 'info.result', 'info.descriptionId')
_READ = (*_TOLD, 'info.progress', 'info.entityName')

Facts = dict[str, Any]


class TaskInfo:
    """The fields of a successful TaskInfo that upstream's callers use."""

    def __init__(self, key: str, facts: Facts,
                 read: Callable[[], Any]) -> None:
        """:param read: reads the result if the notice did not contain it"""
        self.key = key
        self.state = 'success'
        self._facts = facts
        self._read = read

    @property
    def result(self) -> Any:
        """The task's result.

        Another call reads it if it is a data object or was not reported.
        """
        if 'info.result' not in self._facts:
            self._facts['info.result'] = self._read()
        return self._facts['info.result']


class Ended(NamedTuple):
    """How many tasks of a kind ended alike, and how long they were awaited."""

    number: int
    seconds: float


class TaskWaiter:
    """Waits for tasks by the notices of one stream.

    It is set as :attr:`session.Session.task_waiter`. Threads may share it,
    native or green.
    """

    types = frozenset({'Task'})
    late = False

    def __init__(self, stream: updates.Stream, *,
                 poll_seconds: float = 2.0,
                 patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare, without a call; the first wait starts the long poll.

        :param poll_seconds: time between reads while the vCenter sends no
            notices
        :param patience_seconds: how long to go on while the vCenter does not
            answer and a task's state cannot be read
        """
        self._stream = stream
        self._session = stream.session
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        # By kind and result.
        self._counted: dict[tuple[str, str], Ended] = {}
        self._reported: collections.OrderedDict[str, Facts] = (
            collections.OrderedDict())
        self._waits: dict[str, list[_Wait]] = {}
        # The ListView of the conversation, and its pending changes.
        self._view: references.Ref | None = None
        self._changing = threading.Lock()
        self._to_add: list[_Wait] = []
        self._ended: list[str] = []
        # Whether a call that changes the list failed, so that the vCenter may
        # have tasks on it that have ended. The next one names all anew.
        self._uncertain = False
        stream.listeners.append(self)

    def __call__(self, task: Any) -> TaskInfo:
        """Wait for a task to end, however long that takes.

        :param task: its reference
        :returns: when it has succeeded
        :raises OutcomeUnknown: its state can no longer be read
        :raises VimException: why it failed, as oslo.vmware translates it
        """
        key = task.value
        wait = _Wait(key)
        with self._lock:
            self._waits.setdefault(key, []).append(wait)
            self._stream.waiting.add(self)
            self._stream.hurry.set()
        facts: Facts = {}
        try:
            facts = self._until_ended(wait)
        finally:
            with self._lock:
                self._count(wait, facts)
                self._waits[key].remove(wait)
                if not self._waits[key]:
                    del self._waits[key]
                    if wait.view is not None and wait.view == self._view:
                        self._ended.append(key)
                if not self._waits:
                    self._stream.waiting.discard(self)
        if facts['info.state'] == 'error':
            raise failure(facts['info.error'], self._session.name_of)
        return TaskInfo(key, facts, lambda: self._result(task))

    def in_flight(self) -> list[tuple[str, float]]:
        """The tasks that are awaited, and for how many seconds each."""
        now = self._stream.clock()
        with self._lock:
            return [(key, now - waits[0].started_at)
                    for key, waits in self._waits.items() if waits]

    def ended(self) -> dict[tuple[str, str], Ended]:
        """The tasks that ended, by kind and result.

        The kind is ``info.descriptionId`` of TaskInfo; the result is success,
        error, or unknown.
        """
        with self._lock:
            return dict(self._counted)

    def _count(self, wait: '_Wait', facts: Facts) -> None:
        kind = str(facts.get('info.descriptionId') or 'unknown')
        result = str(facts.get('info.state') or 'unknown')
        before = self._counted.get((kind, result), Ended(0, 0.0))
        self._counted[kind, result] = Ended(
            before.number + 1, before.seconds
            + self._stream.clock() - wait.started_at)

    # -- Waiting ------------------------------------------------------------

    def _until_ended(self, wait: '_Wait') -> Facts:
        facts: Facts = {}
        while not _has_ended(facts):
            conversation = self._stream.conversation()
            listed = self._list(wait)
            facts = self._facts(wait.key)
            if _has_ended(facts):
                break
            woken = listed and wait.event.wait(
                self._quiet_seconds(facts, conversation, wait))
            wait.event.clear()
            facts = self._facts(wait.key) if woken else self._read(wait)
        return facts

    def _quiet_seconds(self, facts: Facts,
                       conversation: updates.Conversation | None,
                       wait: '_Wait') -> float:
        """How long to wait for a notice before the task is read."""
        if facts and conversation is not None and conversation.live:
            return PROGRESS_SECONDS
        # The conversation may be about to start, or to report the task.
        return self._poll_seconds if wait.reads else UNSEEN_SECONDS

    def _list(self, wait: '_Wait') -> bool:
        """Put a task on the conversation's list (ModifyListView).

        Tasks that other threads add during the call share the next call.
        After a call that failed, ResetListView names all awaited tasks.

        :returns: False: the vCenter refuses the task
        """
        with self._lock:
            if self._view is None or wait.view == self._view:
                return True  # it is on the list, or will be on a new one
            wait.refused = False
            self._to_add.append(wait)
        with self._changing:
            self._change_list()
        return not wait.refused

    def _change_list(self) -> None:
        with self._lock:
            view = self._view
            waits, self._to_add = self._to_add, []
            for wait in waits:
                wait.view = view
            if view is None or not waits:
                return
            ended, self._ended = self._ended, []
            # Until the reply is there.
            uncertain, self._uncertain = self._uncertain, True
            known = [key for key, each in self._waits.items()
                     if any(wait.view == view for wait in each)]
        add = dict.fromkeys(wait.key for wait in waits)
        refused: set[str] | None = None
        try:
            refused = (
                self._change('ResetListView', view, obj=known) if uncertain
                else self._change('ModifyListView', view, add=add, remove=[
                    key for key in ended if key not in add]))
        except vmware_exceptions.VMwareDriverException as error:
            LOG.debug('Tasks are read at intervals: %s', error)
        else:
            with self._lock:
                if view == self._view:
                    self._uncertain = False
        for wait in waits:
            wait.refused = refused is None or wait.key in refused

    def _change(self, method: str, view: references.Ref,
                **keys: Iterable[str]) -> set[str]:
        """:returns: the tasks that the vCenter does not know"""
        reply = self._stream.client.call(method, view, {
            name: [references.Ref('Task', key) for key in each]
            for name, each in keys.items()}, read_seconds=_LIST_SECONDS)
        return {element.text or '' for element in reply}

    def _facts(self, key: str) -> Facts:
        with self._lock:
            return dict(self._reported.get(key, {}))

    def _read(self, wait: '_Wait') -> Facts:
        """Read the task itself."""
        wait.reads += 1
        try:
            facts = self._session.invoke_api(self, 'read', wait.key)
        except vmware_exceptions.ManagedObjectNotFoundException as error:
            # A vCenter forgets its tasks when it restarts.
            raise exceptions.OutcomeUnknown('Task', wait.key,
                                            error) from error
        except (vmware_exceptions.VimConnectionException,
                vmware_exceptions.VimSessionOverLoadException) as error:
            if not wait.bear(self._stream.clock(), self._patience_seconds):
                raise exceptions.OutcomeUnknown('Task', wait.key,
                                                error) from error
            return {}
        wait.unread_since = None
        if not _has_ended(facts):
            self._log_progress(wait, facts)
        return facts

    def read(self, key: str) -> Facts:
        """A task's state, result and error by property path; one call.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        content = self._session.vim.service_content
        task = references.Ref('Task', key)
        found = collector.Retrieval(
            self._stream.client, content.propertyCollector,
            _filter(task, _READ), (task,)).read()
        facts: Facts = {}
        for path, value in found[task].items():
            _note(facts, path, value)
        return facts

    def _log_progress(self, wait: '_Wait', facts: Facts) -> None:
        now = self._stream.clock()
        if now - wait.logged_at < PROGRESS_SECONDS:
            return
        wait.logged_at = now
        LOG.info('%(what)s of %(entity)s (%(task)s): %(state)s, '
                 '%(progress)s %% after %(seconds)d s',
                 {'what': facts.get('info.descriptionId') or 'A task',
                  'entity': facts.get('info.entityName') or 'the vCenter',
                  'task': wait.key, 'state': facts.get('info.state'),
                  'progress': facts.get('info.progress', 0),
                  'seconds': now - wait.started_at})

    def _result(self, task: Any) -> Any:
        info = self._session.invoke_api(
            vim_util, 'get_object_property', self._session.vim, task, 'info')
        return getattr(info, 'result', None)

    # -- As a listener ------------------------------------------------------

    def filters(self, conversation: updates.Conversation,
                content: Any) -> list[soap.Typed]:
        """One filter, over a list of the awaited tasks (Listener)."""
        view = collector.list_view(self._stream.client, content)
        conversation.own('DestroyView', view)
        with conversation.turn(), self._lock:
            self._view = view
            self._ended.clear()
            self._uncertain = False
            self._to_add += [wait for waits in self._waits.values()
                             for wait in waits if wait not in self._to_add]
        with self._changing:
            self._change_list()
        return [collector.view_filter(view, {'Task': _TOLD})]

    def sink(self, conversation: updates.Conversation) -> 'TaskWaiter':
        """The waiter itself: an ended task stays ended (Listener)."""
        self._lose()
        return self

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[updates.Change]) -> None:
        """Take a report of a task (Sink)."""
        key = ref.value
        changed: Facts = {}
        for path, value, _unreadable in changes:
            if value is not None:
                _note(changed, path, soap.value(value))
        with self._lock:
            if kind == 'leave':
                # A task that has not ended will not be reported again.
                if not _has_ended(self._reported.get(key, {})):
                    self._reported.pop(key, None)
                    self._wake(key)
                return
            facts = self._reported.setdefault(key, {})
            facts.update(changed)
            self._reported.move_to_end(key)
            if _has_ended(facts):
                self._wake(key)
            while len(self._reported) > REMEMBERED:
                self._reported.popitem(last=False)

    def settle(self) -> None:
        """Do nothing: each task is handled when it is reported (Sink)."""

    def lost(self) -> None:
        """Note that no more reports come (Listener)."""
        with self._lock:
            self._view = None
        self._lose()

    def _lose(self) -> None:
        """Forget running tasks, since their end may have been missed."""
        with self._lock:
            for key in [key for key, facts in self._reported.items()
                        if not _has_ended(facts)]:
                del self._reported[key]
            for key in self._waits:
                self._wake(key)

    def _wake(self, key: str) -> None:
        for wait in self._waits.get(key, ()):
            wait.event.set()


class _Wait:
    """One thread's wait for one task."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.event = threading.Event()
        self.reads = 0
        self.started_at = self.logged_at = time.monotonic()
        self.unread_since: float | None = None
        # The list that has the task, unless the vCenter has refused it.
        self.view: references.Ref | None = None
        self.refused = False

    def bear(self, now: float, patience_seconds: float) -> bool:
        """Whether to go on waiting although the state cannot be read."""
        if self.unread_since is None:
            self.unread_since = now
        return now - self.unread_since < patience_seconds


def _filter(task: references.Ref, paths: tuple[str, ...]) -> soap.Typed:
    return soap.Typed('', {
        'propSet': collector.property_spec('Task', paths),
        'objectSet': soap.Typed('', {'obj': task, 'skip': False})})


# Leads from the TaskManager to its recent tasks.
RECENT = soap.Typed('TraversalSpec', {
    'name': 'recent', 'type': 'TaskManager', 'path': 'recentTask',
    'skip': False})


def _has_ended(facts: Facts) -> bool:
    state = facts.get('info.state')
    return state == 'success' or (state == 'error'
                                  and 'info.error' in facts)


def _note(facts: Facts, path: str, value: Any) -> None:
    """Keep a property; the notice's XML is freed after it was read."""
    if isinstance(value, etree._Element):
        if path != 'info.error':
            return  # a data object, which callers want in the form of suds
        value = fault_of(value)
    facts[path] = value


class TaskFault(NamedTuple):
    """Why a task failed (LocalizedMethodFault)."""

    name: str
    message: str
    details: dict[str, str] = {}


class _LocalizedMethodFault:
    """A fault in the form that oslo.vmware's translation expects."""

    def __init__(self, name: str, message: str) -> None:
        self.fault = type(name, (), {})()
        self.localizedMessage = message


def fault_of(error: etree._Element) -> TaskFault:
    """The content of a LocalizedMethodFault."""
    fault = error.find(f'{{{soap.VIM}}}fault')
    name = ('' if fault is None else fault.get(soap.TYPE) or '')
    return TaskFault(
        name.rpartition(':')[2] or 'MethodFault',
        error.findtext(f'{{{soap.VIM}}}localizedMessage') or name,
        {} if fault is None else soap.fault_details(fault))


def failure(error: TaskFault, name_of: Callable[[references.Ref], str] = str
            ) -> Exception:
    """The exception that oslo.vmware raises for a failed task.

    :param name_of: returns an object's name for an operator
    """
    if error.name == vmware_exceptions.NO_PERMISSION:
        return retry.specific(soap.Fault(
            [error.name], error.message, details=error.details), name_of)
    return vmware_exceptions.translate_fault(
        _LocalizedMethodFault(error.name, error.message))
