# SPDX-License-Identifier: Apache-2.0
"""Which of the vCenter's VMs the long poll watches.

A vCenter may have tens of thousands of VMs that have nothing to do with
volumes. A change of such a VM costs nothing, because no filter selects it: one
ListView names what is watched. These are the folders in which drivers of
Cinder keep shadow VMs and templates, the instances that have volumes, and
shadow VMs in other places.

A survey of all VMs, once in each conversation, finds shadow VMs in other
places. A shadow VM that leaves a watched folder later is added to the list, as
long as the vCenter still has it.
"""

import contextlib
import re
import threading
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from typing import Protocol

from lxml import etree
from oslo_log import log as logging

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import config
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates

LOG = logging.getLogger(__name__)

_VM = 'VirtualMachine'
_MARK = f'config.extraConfig["{shadow.VOLUME_ID}"]'
SURVEY_PATHS = {_VM: ('name', _MARK)}
FOLDER_PATHS = {'Folder': ('name', 'parent')}

# So many VMs that the driver is deleting are remembered.
MOST_DOOMED = 1000

# Upstream's driver and Nova's have a folder of each project in this one.
_TOP = 'OpenStack'
_PROJECT = re.compile(r'Project \(.*\)', re.DOTALL)
# In them Nova keeps instances and its copies of images.
_NOVAS = frozenset({'Instances', 'Images'})


def volume_folders(folders: Mapping[str, tuple[str, str]],
                   own: str) -> set[str]:
    """The folders (morefs) that have shadow VMs, theirs excluded.

    Upstream's driver makes ``OpenStack/Project (id)/vmware_volume_folder``;
    other backends may have another name for the last one.

    :param folders: name and parent (moref) of each folder, by moref
    :param own: ``vmware_volume_folder`` of this backend
    """
    names = {moref: model.plain_name(name)
             for moref, (name, _parent) in folders.items()}
    projects = {moref for moref, (_name, parent) in folders.items()
                if names.get(parent) == _TOP
                and _PROJECT.fullmatch(names[moref])}
    return {moref for moref, (_name, parent) in folders.items()
            if parent in projects
            and (names[moref] == own or names[moref] not in _NOVAS)}


def is_shadow(vm: shadow.Backing) -> bool:
    """Whether a VM seems to be a shadow VM, or a template of a snapshot."""
    named = config.name_patterns()
    return bool(vm.volume_id or vm.template or named.is_volumes(vm.name))


class WatchList:
    """The ListView of all that is watched. Threads may share it."""

    def __init__(self, client: soap.Client) -> None:
        """Prepare, without a call."""
        self._client = client
        self._lock = threading.Lock()
        # The ListView of the conversation, once it has one.
        self._view: references.Ref | None = None
        # Morefs of the instances that are to be on it.
        self._instances: set[str] = set()
        # Those to be taken off it with the next call, and whether that call
        # has to be made although nothing is added.
        self._dropped: set[str] = set()
        self._overdue = False
        # Morefs of VMs that the driver is deleting. The vCenter reports none
        # that it deletes before it has reported it.
        self._doomed: dict[str, None] = {}

    def open(self, view: references.Ref, folders: Iterable[str],
             turn: AbstractContextManager[None] = contextlib.nullcontext()
             ) -> None:
        """Fill a new ListView with the folders and the instances.

        :param turn: of the conversation that has made the ListView
        """
        with turn, self._lock:
            self._view = view
            self._dropped.clear()
            self._doomed.clear()
            instances = set(self._instances)
        lost = self.add([*_refs('Folder', folders), *_refs(_VM, instances)])
        self._forget({each.value for each in lost})

    def close(self) -> None:
        """Note that the ListView is gone."""
        with self._lock:
            self._view = None

    def add(self, refs: Collection[references.Ref]) -> set[references.Ref]:
        """Add objects, if there is a ListView (ModifyListView).

        :returns: those that the vCenter does not have
        :raises VimFaultException, VimConnectionException: as
            :meth:`soap.Client.call`
        """
        with self._lock:
            view = self._view
            dropped, self._dropped = self._dropped, set()
            self._overdue = False
        if view is None or not (refs or dropped):
            return set()
        try:
            reply = self._client.call('ModifyListView', view, {
                'add': list(refs), 'remove': _refs(
                    _VM, dropped - {each.value for each in refs})})
        except Exception:
            with self._lock:
                # Those that are followed again meanwhile stay on the list.
                self._dropped |= dropped - self._instances
            raise
        return {soap.ref(element) for element in reply}

    def follow(self, morefs: Iterable[str]) -> set[str]:
        """Watch instances from now on, also in later conversations.

        Also takes off the list what is on it for too long.

        :returns: those that were not watched before and exist
        :raises VimFaultException, VimConnectionException: as :meth:`add`
        """
        with self._lock:
            new = set(morefs) - self._instances
            self._instances |= new
            overdue = self._overdue
        if not new:
            if overdue:
                self.add(())
            return new
        try:
            lost = {each.value for each in self.add(_refs(_VM, new))}
        except Exception:
            self._forget(new)
            raise
        self._forget(lost)
        return new - lost

    def unfollow(self, moref: str) -> None:
        """Watch an instance no longer, from the next change of the list.

        If it changes once more before that, :meth:`follow` changes the list.
        """
        with self._lock:
            if moref in self._instances:
                self._instances.discard(moref)
                self._dropped.add(moref)
            else:
                self._overdue |= moref in self._dropped

    def follows(self, moref: str) -> bool:
        """Whether an instance is to be watched."""
        return moref in self._instances

    def doom(self, moref: str) -> None:
        """Note that the driver deletes a VM, so it need not be sought."""
        with self._lock:
            self._doomed[moref] = None
            if len(self._doomed) > MOST_DOOMED:
                del self._doomed[next(iter(self._doomed))]

    def spare(self, moref: str) -> None:
        """Note that a VM was not deleted."""
        with self._lock:
            self._doomed.pop(moref, None)

    def keep(self, left: Mapping[str, shadow.Backing]
             ) -> tuple[set[str], set[str]]:
        """Go on watching VMs that left their folders but still exist.

        :param left: as they were reported last, by moref
        :returns: the morefs of those that the vCenter still has, and of those
            that it has no longer and that the driver does not delete
        """
        with self._lock:
            doomed = self._doomed.keys() & left.keys()
            for moref in doomed:
                del self._doomed[moref]
            if self._view is None:
                return set(), set()
        sought = [moref for moref, vm in left.items() if moref not in doomed
                  and (is_shadow(vm) or self.follows(moref))]
        if not sought:
            return set(), set()
        lost = {each.value for each in self.add(_refs(_VM, sought))}
        self._forget(lost)
        return set(sought) - lost, lost

    def _forget(self, morefs: set[str]) -> None:
        with self._lock:
            self._instances -= morefs


class Stage(updates.Sink, Protocol):
    """Takes the reports of the VMs that one conversation watches."""

    def known(self) -> Collection[str]:
        """The morefs of the VMs that were reported."""

    def complete(self) -> None:
        """Note that all VMs that are watched have been reported."""


class Members:
    """Finds what one conversation has to watch; only its thread calls it.

    First it watches the names of folders, and surveys all VMs. Then it makes
    the ListView; at last it adds the shadow VMs that no watched folder has.
    """

    def __init__(self, watch_list: WatchList, client: soap.Client,
                 own_folder: str, conversation: updates.Conversation,
                 content: Any, paths: Mapping[str, tuple[str, ...]],
                 stage: Stage,
                 on_folders: Callable[[Mapping[str, tuple[str, str]],
                                       Collection[str], Collection[str]],
                                      None]
                 = lambda folders, changed, gone: None) -> None:
        """Prepare, without a call.

        :param own_folder: ``vmware_volume_folder`` of this backend
        :param content: the ServiceContent
        :param paths: property paths to report of the VMs, by managed type
        :param stage: takes the reports of the VMs
        :param on_folders: called after a folder has changed, with name and
            parent (moref) of each folder by moref, with the morefs of those
            that changed, and of those that are or were gone; it must not wait
        """
        self._on_folders = on_folders
        self._paths = paths
        self._list = watch_list
        self._client = client
        self._own_folder = own_folder
        self._conversation = conversation
        self._content = content
        self._stage = stage
        self._folders = _Folders(self._found_folders)
        self._survey: _Survey | None = _Survey(self._open)
        self._views: dict[str, references.Ref] = {}
        self._survey_filter: references.Ref | None = None
        self._watched: set[str] = set()  # folders, once there is a list
        self._strays: set[str] = set()

    def begin(self) -> None:
        """Make the first filters."""
        assert self._survey is not None
        self._watch_view('Folder', FOLDER_PATHS, self._folders)
        self._survey_filter = self._watch_view(_VM, SURVEY_PATHS, self._survey)

    def _watch_view(self, kind: str, paths: Mapping[str, tuple[str, ...]],
                    sink: updates.Sink) -> references.Ref:
        view = self._views[kind] = collector.container_view(
            self._client, self._content, (kind,))
        self._conversation.own('DestroyView', view)
        # The view itself is reported too: otherwise a vCenter without such
        # objects would report nothing, and the reader would wait for more.
        return self._conversation.watch(
            collector.view_filter(view, paths, {view: ('type',)}), sink)

    def _found_folders(self) -> None:
        changed, gone = self._folders.take_changed()
        self._on_folders(self._folders.found, changed, gone)
        # The user may have lost the right to see a folder, and get it back:
        # then it is no longer on the list.
        self._watched -= gone
        if self._survey is not None:
            self._open()
            return
        # A folder stays when it is renamed, since it has the same VMs.
        new = volume_folders(self._folders.around(changed),
                             self._own_folder) - self._watched
        if new:
            self._watched |= new
            self._list.add(_refs('Folder', new))

    def _open(self) -> None:
        """Make the list, once the folders are known and the survey done."""
        survey = self._survey
        if survey is None or not (survey.done and self._folders.done):
            return
        assert self._survey_filter is not None
        self._survey = None
        self._strays = survey.shadows
        self._conversation.unwatch(self._survey_filter)
        self._conversation.release('DestroyView', self._views[_VM])
        view = collector.list_view(self._client, self._content)
        self._conversation.own('DestroyView', view)
        self._watched = volume_folders(self._folders.found, self._own_folder)
        self._list.open(view, self._watched, self._conversation.turn())
        self._conversation.watch(collector.list_filter(
            view, self._paths,
            {self._views['Folder']: ('type',)}), self._stage)

    def listed(self) -> None:
        """Note that all on the list has been reported for the first time."""
        strays = self._strays - set(self._stage.known())
        if strays:
            lost = self._list.add(_refs(_VM, strays))
            LOG.info('%d shadow VMs are in no folder of volumes.',
                     len(strays) - len(lost))
            self.echo(self._stage.complete)
        else:
            self._stage.complete()
        self._strays = set()

    def echo(self, then: Callable[[], None]) -> None:
        """Call a function after the next complete report.

        A new filter is always reported, with all that has changed before.
        """
        view = self._views['Folder']

        def settled() -> None:
            self._conversation.unwatch(made)
            self._stage.settle()
            then()
        made = self._conversation.watch(
            collector.view_filter(view, {}, {view: ('type',)}),
            _Echo(settled))


class _Folders:
    """Names and parents of all folders."""

    def __init__(self, settled: Callable[[], None]) -> None:
        self._settled = settled
        self.done = False
        self.found: dict[str, tuple[str, str]] = {}
        # Folders (morefs) by their parents' morefs; none is empty.
        self._inside: dict[str, set[str]] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[updates.Change]) -> None:
        """Take a reported object (Sink)."""
        if ref.type not in ('Folder', 'StoragePod'):
            return
        self._changed.add(ref.value)
        if kind == 'leave':
            self._put(ref.value, None)
            self._gone.add(ref.value)
            return
        name, parent = self.found.get(ref.value, ('', ''))
        for path, value, _unreadable in changes:
            text = '' if value is None else value.text or ''
            if path == 'name':
                name = text
            elif path == 'parent':
                parent = text
        self._put(ref.value, (name, parent))

    def _put(self, moref: str, now: tuple[str, str] | None) -> None:
        """:param now: name and parent; None: the folder is gone"""
        before = self.found.pop(moref, None)
        if before is not None:
            inside = self._inside[before[1]]
            inside.remove(moref)
            if not inside:
                del self._inside[before[1]]
        if now is not None:
            self.found[moref] = now
            self._inside.setdefault(now[1], set()).add(moref)

    def take_changed(self) -> tuple[set[str], set[str]]:
        """What changed since the last such call (morefs).

        :returns: folders that are new, changed or gone, and those of them
            that are or were gone
        """
        taken = self._changed, self._gone
        self._changed, self._gone = set(), set()
        return taken

    def around(self, changed: Iterable[str]) -> dict[str, tuple[str, str]]:
        """All folders for which :func:`volume_folders` may differ.

        These are folders that changed, and two levels below; and what
        decides on them, two levels above.
        """
        known = set(changed)
        for _level in range(2):
            known.update(*[self._inside.get(moref, ()) for moref in known])
        for _level in range(2):
            known.update([self.found[moref][1] for moref in known
                          if moref in self.found])
        return {moref: self.found[moref] for moref in known
                if moref in self.found}

    def settle(self) -> None:
        """Note that all has been reported (Sink)."""
        if self._changed or not self.done:
            self.done = True
            self._settled()


class _Survey:
    """Finds the shadow VMs among all VMs; keeps no others."""

    def __init__(self, settled: Callable[[], None]) -> None:
        self._settled = settled
        self._named = config.name_patterns()
        self.done = False
        self.shadows: set[str] = set()

    def skips(self, update: etree._Element) -> bool:
        """Whether an ObjectUpdate has nothing but the name of another VM.

        Almost all of them are such.
        """
        if len(update) != _NAME_ALONE:
            return False
        entry = update[-1]
        return (entry.tag == _CHANGE_SET and entry[0].text == 'name'
                and not self._named.is_volumes(entry[-1].text or ''))

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[updates.Change]) -> None:
        """Take a reported object (Sink)."""
        if ref.type == _VM:
            for change in changes:
                if self._is_of_shadow(change):
                    self.shadows.add(ref.value)

    def _is_of_shadow(self, change: updates.Change) -> bool:
        """Whether a VM with that property may be a shadow VM."""
        path, value, unreadable = change
        if value is None:
            return bool(unreadable)
        if path == 'name':
            return self._named.is_volumes(value.text or '')
        return bool(value.findtext(_VALUE))

    def settle(self) -> None:
        """Note that all has been reported (Sink)."""
        self.done = True
        self._settled()


class _Echo:
    """Notes that a report is complete."""

    def __init__(self, settled: Callable[[], None]) -> None:
        self.settle = settled

    def update(self, kind: str, ref: references.Ref,
               changes: Iterable[updates.Change]) -> None:
        """Do nothing."""


def _refs(kind: str, morefs: Iterable[str]) -> list[references.Ref]:
    return [references.Ref(kind, moref) for moref in sorted(morefs)]


_VALUE = soap.tag('value')
_CHANGE_SET = soap.tag('changeSet')
# The elements of an ObjectUpdate with one property: kind, object, property.
_NAME_ALONE = 3
