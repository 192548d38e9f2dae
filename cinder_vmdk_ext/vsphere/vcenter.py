# SPDX-License-Identifier: Apache-2.0
"""The base of the storage API's parts: names, calls, tasks, users of files.

Reading makes the same number of calls for any number of objects. Each change
is checked first; a refusal raises StorageRefused before anything is changed.
"""

import re
import time
import unicodedata
import uuid as uuids
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from urllib import parse

from lxml import etree

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import privilege_check
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import tasks
from cinder_vmdk_ext.vsphere import virtual_devices

#: The extension that marks the VMs of volumes (VirtualMachine.managedBy).
CINDER = 'org.openstack.storage'
#: By type: the property that leads from an object up to its datacenter. A
#: datastore cluster is a Folder, and a cluster of hosts a ComputeResource.
ABOVE = {'Folder': ('name', 'parent'),
         'ComputeResource': ('name', 'parent', 'host', 'datastore',
                             'configurationEx'),
         'Datacenter': ('name', 'parent', 'hostFolder')}
_VM = ('name', 'runtime.powerState', 'config.managedBy', 'config.template',
       'config.hardware.device', 'layoutEx.file', 'datastore')
#: The folder in which vSphere makes first class disks (VStorageObject).
FCD_FOLDER = 'fcd'
_FCD = 'a first class disk by its folder'
_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_EXTENSION_KEY = soap.tag('extensionKey')
_NAME = soap.tag('name')
_VOLUME_KEY = re.compile('volume-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')


class Progress(NamedTuple):
    """The progress of a task."""

    what: str
    percent: int


class VmFiles(NamedTuple):
    """A VM or template, with the facts that its files need."""

    ref: references.Ref
    name: str
    running: bool
    template: bool
    managed_by: str  # an extension's key, or empty
    disks: tuple[virtual_devices.Disk, ...]
    files: frozenset[str]  # '[datastore] path' as :func:`plain` returns it
    datastores: tuple[references.Ref, ...]

    @property
    def title(self) -> str:
        """Its description for use in a sentence."""
        return f'{"template" if self.template else "VM"} {self.name!r}'


class Searched(NamedTuple):
    """The facts about a datastore that a search needs."""

    moref: str
    name: str  # as the vCenter stores it


class Located(NamedTuple):
    """A path on a datastore."""

    datastore: references.Ref
    name: str  # the datastore's, as an operator reads it
    stored_name: str  # as the vCenter stores it
    path: str  # within the datastore
    datacenter: references.Ref

    @property
    def text(self) -> str:
        """'[datastore] folder/name', as an operator reads it."""
        return f'[{self.name}] {self.path}'

    @property
    def wire(self) -> str:
        """The same as the vCenter stores it."""
        return f'[{self.stored_name}] {self.path}'

    @property
    def place(self) -> Searched:
        """The datastore, for a search."""
        return Searched(self.datastore.value, self.stored_name)


class Vcenter:
    """One vCenter, with its own session."""

    def __init__(self, session: Any, client: soap.Client, *,
                 owner_of: Callable[[str], str] = lambda path: '',
                 owner_of_uuid: Callable[[str], str] = lambda uuid: '',
                 observe: Callable[[Progress], None] = lambda progress: None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare, without a call.

        :param owner_of: returns the owner of a path within a datastore, such
            as 'volume 1234'; '': no known owner
        :param owner_of_uuid: the same for the UUID of a disk
        :param observe: called with the progress of a long task
        """
        self.session = session
        self.client = client
        self.owner_of = owner_of
        self.owner_of_uuid = owner_of_uuid
        self._observe = observe
        self._sleep = sleep
        #: Make all checks, and change nothing.
        self.dry_run = False
        session.task_waiter = self._wait
        self.browser = datastore_browser.DatastoreBrowser(
            session, client, self.properties)

    @property
    def content(self) -> Any:
        """The ServiceContent."""
        return self.session.vim.service_content

    # -- Calls --------------------------------------------------------------

    def call(self, method: str, this: references.Ref,
             **arguments: Any) -> etree._Element:
        """Call a method that reads."""
        reply: etree._Element = self.session.invoke_api(
            self.client, 'call', method, this, arguments)
        return reply

    def change(self, method: str, this: references.Ref,
               **arguments: Any) -> etree._Element | None:
        """Call a method that changes something, unless this is a dry run.

        :raises OutcomeUnknown: no reply came, so it may have been executed
        :raises VimException: the vCenter refuses it
        """
        return None if self.dry_run else self.call(method, this, **arguments)

    def make(self, method: str, this: references.Ref,
             **arguments: Any) -> str:
        """Call a method that makes an object.

        :returns: the object's reference; '' in a dry run
        """
        reply = self.change(method, this, **arguments)
        return '' if reply is None else soap.ref(reply[0]).value

    def run(self, method: str, this: references.Ref,
            **arguments: Any) -> None:
        """Call a method that starts a task, and wait for its end.

        :raises TaskLeft: the wait was interrupted
        """
        reply = self.change(method, this, **arguments)
        if reply is not None:
            self.session.wait_for_task(_task(reply[0]))

    def _wait(self, task: Any) -> tasks.TaskInfo:
        ref = references.Ref('Task', task.value)
        pause = _SHORTEST_PAUSE_SECONDS
        facts: dict[str, Any] = {}
        try:
            while True:
                facts = self.properties(ref, 'info.state', 'info.error',
                                        'info.progress', 'info.descriptionId')
                state = facts.get('info.state')
                if state == 'success':
                    return tasks.TaskInfo(
                        ref.value, facts, lambda: self.properties(
                            ref, 'info.result').get('info.result'))
                if state == 'error':
                    raise tasks.failure(tasks.fault_of(facts['info.error']),
                                        self.session.name_of)
                self._observe(Progress(facts.get('info.descriptionId') or '',
                                       facts.get('info.progress') or 0))
                self._sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        except KeyboardInterrupt:
            raise exceptions.TaskLeft(
                facts.get('info.descriptionId') or 'a task', ref.value,
                facts.get('info.progress')) from None

    # -- Reading ------------------------------------------------------------

    def properties(self, ref: references.Ref, *paths: str) -> dict[str, Any]:
        """Properties of one object."""
        return collector.properties(self.session, self.client, ref, paths)

    def objects(self, refs: Iterable[references.Ref],
                *paths: str) -> collector.Properties:
        """Properties of several objects; those that are gone are left out."""
        return collector.read_objects(self.session, self.client, refs, paths)

    def all(self, **paths: Sequence[str]) -> collector.Properties:
        """Properties of all objects of some types and of their ancestors."""
        return collector.read_all(
            self.session, self.client,
            ABOVE | {kind: tuple(names) for kind, names in paths.items()},
            keep_unreadable=True)

    def find(self, kind: str, name: str, *paths: str, title: str = ''
             ) -> tuple[references.Ref, dict[str, Any]]:
        """One object by its name or its reference (vm-12).

        :raises UnknownObject: no such object exists, or there are several
        """
        found = self.all(**{kind: ('name',)})
        ref = chosen(kind, name, found, title)
        # Of the one alone: the disks of all VMs may be hundreds of MB.
        return ref, found[ref] | (self.properties(ref, *paths)
                                  if paths else {})

    def located(self, text: str) -> Located:
        """The datastore and the path that '[datastore] path' names.

        :raises UnknownObject: no such datastore exists
        :raises StorageRefused: the text is not a path within a datastore
        """
        found = self.all(Datastore=('name', 'parent'))
        names = {ref: plain(facts['name']) for ref, facts in found.items()
                 if ref.type == 'Datastore' and 'name' in facts}
        meant = sorted((name for name in set(names.values())
                        if text.startswith(f'[{name}]')), key=len)
        if not text.startswith('[') or not meant:
            raise exceptions.UnknownObject(
                f'{text!r} names no datastore: write "[datastore] '
                'folder/name.vmdk"; the datastores are '
                + exceptions.shortened(sorted(set(names.values()))))
        name = meant[-1]
        path = text[len(name) + 2:].removeprefix(' ')
        check_path(path)
        ref = chosen('Datastore', name, found)
        return Located(ref, name, found[ref]['name'], path,
                       datacenter(ref, found))

    # -- Who uses what ------------------------------------------------------

    def machines_on(self, datastore: references.Ref
                    ) -> tuple[list[VmFiles], frozenset[str]]:
        """The VMs that have a file on a datastore, and all names of it.

        The same storage may be a datastore in several datacenters.
        """
        found = self.all(Datastore=('name', 'summary.url', 'vm'))
        url = found.get(datastore, {}).get('summary.url')
        same = [ref for ref, facts in found.items()
                if ref.type == 'Datastore' and (
                    ref == datastore
                    or (url and facts.get('summary.url') == url))]
        refs = {vm for ref in same for vm in found[ref].get('vm') or ()}
        return (self.machines(sorted(refs)),
                frozenset(name_of(ref, found) for ref in same))

    def machines(self, refs: Iterable[references.Ref]) -> list[VmFiles]:
        """VMs with their files."""
        return [machine(ref, facts) for ref, facts
                in self.objects(refs, *_VM).items()]

    def refuse_volumes_vm(self, ref: references.Ref) -> VmFiles:
        """Refuse to change a VM that a volume depends on.

        :raises StorageRefused: the VM belongs to a volume, or a volume is
            attached to it
        """
        found, = self.machines([ref]) or (None,)
        if found is None:
            raise exceptions.UnknownObject(f'{ref.value} is gone')
        if found.managed_by == CINDER:
            raise exceptions.StorageRefused(
                f'{found.title} belongs to a volume of Cinder; use Cinder')
        config = self.properties(ref, 'config.extraConfig').get(
            'config.extraConfig')
        volumes = sorted(
            key for option in soap.items(config)
            for key in [option.findtext(soap.tag('key')) or '']
            if _VOLUME_KEY.fullmatch(key)
            and option.findtext(soap.tag('value')))
        if volumes:
            raise exceptions.StorageRefused(
                f'{found.title} has volumes of Cinder attached '
                f'({exceptions.shortened(volumes)}); use Nova, or detach '
                'them')
        return found

    def refuse_use(self, at: Located, *, reading: bool = False) -> None:
        """Refuse to change a disk that is in use.

        :param reading: the disk is only read, so VMs that use it and are off
            do not matter
        :raises StorageRefused: it belongs to a volume, a VM uses it, or it
            has children
        """
        self.refuse_owned(at)
        machines, names = self.machines_on(at.datastore)
        # Some storage does not distinguish upper from lower case.
        texts = {f'[{name}] {at.path}'.casefold() for name in names}
        for found in machines:
            if texts.isdisjoint(map(str.casefold, found.files)):
                continue
            if found.managed_by == CINDER:
                raise exceptions.StorageRefused(
                    f'{at.text} belongs to a volume of Cinder '
                    f'({found.title}); use Cinder')
            if not reading:
                children = any(texts.intersection(
                    plain_path(each).casefold() for each in disk.chain[1:])
                    for disk in found.disks)
                raise exceptions.StorageRefused(
                    f'{at.text} is in use by {found.title}'
                    + (', whose snapshots or clones build on it'
                       if children else '') + '; detach it first')
            if found.running:
                raise exceptions.StorageRefused(
                    f'{at.text} is in use by {found.title}, which runs; '
                    'stop it first')

    def refuse_owned(self, at: Located) -> None:
        """Refuse a path that belongs to a volume or a first class disk.

        :raises StorageRefused: naming the owner
        """
        folder = at.path.partition('/')[0].casefold()
        owner = (self.owner_of(at.path) or self.owner_of(at.path.casefold())
                 or (_FCD if folder == FCD_FOLDER else ''))
        if owner:
            raise exceptions.StorageRefused(
                f'{at.text} belongs to {owner}; use '
                + ('what made it' if owner == _FCD else 'Cinder'))

    def refuse_volumes_disk(self, at: Located) -> None:
        """Refuse the disk of a volume whose path was changed.

        Its VM still has the old path, or is no longer in the inventory; but
        the disk keeps its UUID (VirtualDiskManager.QueryVirtualDiskUuid).

        :raises StorageRefused: naming the VM, or the volume
        """
        reply = self.call('QueryVirtualDiskUuid',
                          self.content.virtualDiskManager, name=at.wire,
                          datacenter=at.datacenter)
        uuid = _uuid(reply[0].text if len(reply) else '')
        for found in self.machines_on(at.datastore)[0]:
            if found.managed_by == CINDER and uuid and uuid in {
                    _uuid(disk.uuid) for disk in found.disks}:
                raise exceptions.StorageRefused(
                    f'{at.text} has the UUID of the disk of {found.title}, '
                    'which belongs to a volume of Cinder; see '
                    'cinder-vmdk-ext audit')
        owner = self.owner_of_uuid(str(uuids.UUID(uuid))) if uuid else ''
        if owner:
            raise exceptions.StorageRefused(
                f'{at.text} has the UUID of {owner}, which may have no other '
                'disk; if the volume is lost, cinder-vmdk-ext volume relink '
                'gives it this disk again')

    # -- Privileges ---------------------------------------------------------

    def require(self, privilege: str, refs: Iterable[references.Ref]) -> None:
        """Refuse an operation before it starts if a privilege is missing.

        Makes one call (HasUserPrivilegeOnEntities).

        :raises PrivilegeMissing: naming the privilege and the object
        """
        refs = list(dict.fromkeys(refs))
        granted = privilege_check.granted(self.session, self.client, refs,
                                          [privilege])
        lacking = [ref for ref in refs if privilege not in granted[ref]]
        if lacking:
            raise exceptions.PrivilegeMissing(
                f'{self.session.user_name} may not do that', privilege,
                self.session.name_of(lacking[0]))


def _uuid(text: str | None) -> str:
    """A disk's UUID, which is spelt in two ways."""
    return re.sub('[^0-9a-f]', '', (text or '').lower())


# -- Values -----------------------------------------------------------------

def plain(name: str) -> str:
    """A name as an operator sees it; the vCenter stores %2f for a slash."""
    return parse.unquote(name)


def plain_path(path: str) -> str:
    """'[datastore] path' with the datastore's name as an operator sees it."""
    name, bracket, within = path.partition('] ')
    return f'{plain(name)}{bracket}{within}'


def check_name(name: str, of: str, longest: int) -> None:
    """Refuse a name that no object of a kind can have.

    :param of: the kind, as 'a snapshot'
    :raises StorageRefused: it is empty, too long, or not printable
    """
    if not name.strip() or len(name) > longest or not _printable(name):
        raise exceptions.StorageRefused(
            f'{name!r} is no name of {of}: it has 1 to {longest} characters, '
            'all of them printable')


def _printable(text: str) -> bool:
    """Whether a text has no control characters and no half characters."""
    return not any(unicodedata.category(each) in ('Cc', 'Cs')
                   for each in text)


def check_path(path: str) -> None:
    """Refuse a path that leads out of a datastore, or nowhere.

    :raises StorageRefused: saying why
    """
    parts = path.split('/')
    if not path.strip() or path.startswith('/') or '..' in parts or (
            '.' in parts or '' in parts or '\\' in path
            or path != path.strip() or not _printable(path)):
        raise exceptions.StorageRefused(
            f'{path!r} is no path within a datastore: write folder/name, '
            'without "..", empty parts, backslashes, or spaces around it')


def chosen(kind: str, name: str, found: collector.Properties,
           title: str = '') -> references.Ref:
    """The one object of a kind with that name or reference.

    :raises UnknownObject: no such object exists, or there are several
    """
    title = title or kind.lower()
    named = {ref: plain(facts.get('name') or '')
             for ref, facts in found.items() if ref.type == kind}
    for ref in named:
        if ref.value == name:
            return ref
    same = [ref for ref in named if named[ref] == name]
    if len(same) == 1:
        return same[0]
    if same:
        raise exceptions.UnknownObject(
            f'{len(same)} {title}s are called {name!r}; give the reference: '
            + exceptions.shortened(sorted(ref.value for ref in same)))
    raise exceptions.UnknownObject(
        f'there is no {title} {name!r}; there are '
        + (exceptions.shortened(sorted(set(named.values()))) or 'none'))


def datacenter(ref: references.Ref, found: collector.Properties
               ) -> references.Ref:
    """The datacenter that an object is in.

    :raises StorageRefused: the user may not see it
    """
    at: references.Ref | None = ref
    while at is not None and at.type != 'Datacenter':
        at = found.get(at, {}).get('parent')
    if at is None:
        raise exceptions.StorageRefused(
            f'the datacenter of {ref.value} cannot be read; give the user a '
            'role there')
    return at


def name_of(ref: Any, found: Mapping[references.Ref, dict[str, Any]]) -> str:
    """An object's name, or its reference if the name cannot be read."""
    if ref is None:
        return ''
    return plain(found.get(ref, {}).get('name') or ref.value)


def machine(ref: references.Ref, facts: dict[str, Any]) -> VmFiles:
    """A VM from its properties."""
    manager = facts.get('config.managedBy')
    disks = tuple(virtual_devices.disks(virtual_devices.parse(
        facts.get('config.hardware.device'))))
    files = {each.findtext(_NAME) or ''
             for each in soap.items(facts.get('layoutEx.file'))}
    files |= {path for disk in disks for path in disk.chain}
    return VmFiles(
        ref, plain(facts.get('name') or ref.value),
        facts.get('runtime.powerState') not in ('poweredOff', None),
        bool(facts.get('config.template')),
        (manager.findtext(_EXTENSION_KEY) or '')
        if isinstance(manager, etree._Element) else '',
        disks, frozenset(map(plain_path, files)),
        tuple(facts.get('datastore') or ()))


def _task(element: etree._Element) -> references.Ref:
    if element.get('type'):
        return soap.ref(element)
    # DatastoreEnterMaintenanceMode returns a StoragePlacementResult.
    found = element.find(soap.tag('task'))
    if found is None:
        raise soap.malformed('StoragePlacementResult',
                             ValueError('it names no task'))
    return soap.ref(found)
