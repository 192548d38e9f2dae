# SPDX-License-Identifier: Apache-2.0
"""Compares Cinder's records, the inventory and the datastores' files.

It uses the values that :mod:`cinder_vmdk_ext.audit.collect` reads, and makes
no calls itself. Kinds of findings:

lost
    the disk of a record was made, but its VM, disk or snapshot, or a file
    that it needs, is missing
at-risk
    a disk is in the folder of an instance, and is deleted with the instance
shared
    a second VM names the disk, and the volume is not attached to that VM
stuck
    a record's operation has not ended for a day, or its deletion has begun
    and failed
unreachable
    the datastore of the disk is in maintenance mode, or not accessible
misplaced
    the record's host names another pool than the one that holds the disk
changed
    the VM, its disk or a snapshot is not as the driver made it
duplicated
    another VM has the volume's identity, beside the VM that the driver uses
leftover
    a temporary VM, snapshot or file of an operation that crashed or failed
orphan
    a VM or disk that Cinder made, and that has no record
quarantined
    a sweep moved it to quarantine; a person deletes it
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from cinder_vmdk_ext import model
from cinder_vmdk_ext import names as patterns

KINDS = ('lost', 'at-risk', 'shared', 'stuck', 'unreachable', 'misplaced',
         'changed', 'duplicated', 'leftover', 'orphan', 'quarantined')
# Where a sweep puts VMs, below the folder OpenStack, and files.
QUARANTINE_FOLDER = 'Quarantine'
QUARANTINE_PATH = 'openstack-quarantine'

NO_TRACE = 'no trace of it'
NOTHING_FOUND = 'nothing of it was found'
_ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_TEMPORARY_SNAPSHOT = re.compile(f'temp-snapshot-({_ID})')
# Name of an instance's snapshot for a group; it contains the group's id.
_MOMENT = re.compile(f'group(?:-snapshot)?-({_ID})')
# Extents that have content.
_CONTENT = re.compile(r'-(flat|delta|sesparse)\.vmdk$')
_GIB = 1 << 30
_EXTENT = re.compile(r'(-flat|-delta|-sesparse|-ctk|-rdm|-rdmp)(?=\.vmdk$)')
# How long an operation may take before its record counts as stuck.
STUCK_SECONDS = 86400.0


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume's record."""

    id: str
    name: str
    pool: str  # as its host names it
    status: str = 'available'
    at_rest: bool = True  # no operation is under way
    backed: bool = True  # its disk has been made
    mine: bool = True  # it belongs to the backend that is audited
    deleting: bool = False  # its deletion has begun
    idle_seconds: float = 0.0  # since its record changed
    attached_to: tuple[str, ...] = ()  # UUIDs of instances
    size_gib: int = 0  # 0: unknown
    adapter: str = ''  # that its type asks for; '': it asks for none
    policy: str = ''  # storage policy that its type asks for
    #: I/O limits that its type asks for, as :attr:`Held.io`; None: any.
    io: tuple[object, ...] = ()
    host: str = ''
    #: Whether a cinder-volume has registered for its host.
    served: bool = True


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot's record."""

    id: str
    name: str
    volume_id: str
    template: bool = False  # a VM of its own; else in the volume's VM
    status: str = 'available'
    backed: bool = True
    mine: bool = True
    path: str = ''  # a template's inventory path


@dataclasses.dataclass(frozen=True)
class Point:
    """A snapshot in a VM's tree."""

    moref: str
    name: str
    age_seconds: float | None = None
    disks: tuple[str, ...] = ()  # '[datastore] path' of all that it needs


@dataclasses.dataclass(frozen=True)
class Held:
    """A disk of a VM, as the VM has it."""

    path: str  # '[datastore] path'
    uuid: str = ''
    size_bytes: int = 0
    adapter: str = ''  # '': an unknown one
    #: Limit, reservation, level and number of shares.
    io: tuple[object, ...] = ()
    key: int = 0  # of the device
    #: Names of the storage policies that it should have and has not.
    policies: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Machine:
    """A VM or template; instances too, since they use files."""

    moref: str
    name: str
    path: str = ''  # in the inventory
    uuid: str = ''
    volume_id: str = ''  # marks in its extra configuration
    snapshot_id: str = ''
    replaced: str = ''
    unmanaged: str = ''
    quarantined: str = ''
    quarantine_record: str = ''
    ours: bool = False  # a Cinder driver made it
    deployment: str = ''  # the mark of the Cinder deployment that made it
    at_home: bool = True  # in a folder of this backend's
    folder: str = ''  # '[datastore] folder' of its own files
    disks: tuple[str, ...] = ()  # '[datastore] path' that it names
    below: tuple[str, ...] = ()  # what these read through
    template: bool = False
    pool: str | None = None
    place: str = ''  # its datastore, for a person
    files: tuple[tuple[str, int], ...] = ()  # '[datastore] path', bytes
    disk_count: int = 1
    points: tuple[Point, ...] = ()
    age_seconds: float | None = None  # since it was made or changed
    held: tuple[Held, ...] = ()  # its disks in order
    powered_on: bool = False

    @property
    def space_bytes(self) -> int:
        """The space that its files use."""
        return sum(size for _path, size in self.files)

    @property
    def set_aside(self) -> bool:
        """Whether a sweep has moved it to quarantine."""
        return bool(self.quarantined) or (
            f'/OpenStack/{QUARANTINE_FOLDER}/' in self.path)


@dataclasses.dataclass(frozen=True)
class File:
    """A file on a datastore."""

    place: str  # the datastore's name
    path: str  # within it
    size_bytes: int = 0
    age_seconds: float | None = None
    datastore: str = ''  # the datastore's moref
    # One name for a storage, even if several datastores show it.
    storage: str = ''

    @property
    def reference(self) -> str:
        """The path as the vCenter writes it."""
        return f'[{self.place}] {self.path}'

    @property
    def key(self) -> str:
        """The path as :attr:`Machine.files` has it."""
        return f'[{self.storage or self.place}] {self.path}'


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The records, VMs and files at one moment."""

    volumes: tuple[Volume, ...]
    snapshots: tuple[Snapshot, ...]
    machines: tuple[Machine, ...]
    files: tuple[File, ...]
    names: patterns.Names = patterns.Names()
    #: The mark of this deployment; '': it is unknown.
    deployment: str = ''
    #: Ids of volumes and snapshots that this Cinder has deleted.
    deleted: frozenset[str] = frozenset()
    #: References that an operator named although they have no mark.
    named: frozenset[str] = frozenset()
    #: Names of the storages whose files were read.
    searched: frozenset[str] = frozenset()
    #: Pools of the backend, each with why it cannot be used; '': it can.
    pools: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A difference between the records, the VMs and the files."""

    kind: str
    thing: str  # volume, snapshot, vm, template, file, vm-snapshot
    name: str
    reference: str  # a moref, a path, or a record's id
    owner: str  # the volume's or snapshot's id, as far as known
    place: str
    space_bytes: int
    age_seconds: float | None
    detail: str
    # Whether a sweep may move it: no record can need it.
    sweepable: bool = False
    machine: str = ''  # of a vm-snapshot: the VM's moref
    datastore: str = ''  # of a file: the datastore's moref
    #: What is to be done, where its kind alone does not say it: a key of
    #: :data:`cinder_vmdk_ext.audit.remedies.OF_CAUSES`.
    cause: str = ''


def compare(evidence: Evidence) -> list[Finding]:
    """All findings, the most serious kind first."""
    return Comparison(evidence).findings()


def unused_disks(evidence: Evidence) -> Iterator[File]:
    """Disk files that no VM names, each with the space of its extents."""
    used = {_descriptor(path) for vm in evidence.machines
            for path in (*(path for path, _size in vm.files), *vm.disks,
                         *vm.below)}
    for file in _disks(evidence.files):
        if _descriptor(file.key) not in used:
            yield file


class Comparison:
    """Compares what exists with what the records say."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._volumes = {each.id: each for each in evidence.volumes}
        self._by_name = {each.name: each.id for each in evidence.volumes}
        self._snapshots = {each.id: each for each in evidence.snapshots}
        # Upstream writes a template's path with a slash before it.
        self._by_path = {each.path.strip('/'): each.id
                         for each in evidence.snapshots if each.template}
        self._holders: dict[str, list[Machine]] = {}
        self._templates: dict[str, list[Machine]] = {}
        self._temporary: list[tuple[str, Machine]] = []
        self._aside: list[Machine] = []
        for machine in evidence.machines:
            self._sort_in(machine)

    def _sort_in(self, vm: Machine) -> None:
        if vm.set_aside:
            if not self._is_foreign(vm):
                self._aside.append(vm)
            return
        named = self._evidence.names
        temporary = named.temporary_of(vm.name)
        if vm.template:
            of = self._snapshot_of(vm)
            if of:
                self._templates.setdefault(of, []).append(vm)
        elif vm.uuid in self._volumes:
            self._holders.setdefault(vm.uuid, []).append(vm)
        elif vm.replaced:
            self._temporary.append((vm.replaced, vm))
        elif temporary and vm.ours:
            self._temporary.append((temporary, vm))
        elif self._is_unfinished_template(vm):
            # It is not marked as a template yet.
            self._templates.setdefault(
                vm.snapshot_id or named.snapshot_id(vm.name),
                []).append(vm)
        else:
            of = (vm.volume_id or self._by_name.get(vm.name)
                  or named.volume_id(vm.name))
            if of and not vm.unmanaged and (vm.ours or vm.volume_id):
                self._holders.setdefault(of, []).append(vm)

    def _snapshot_of(self, template: Machine) -> str:
        """Id of a template's snapshot; a managed one has older marks too."""
        named = self._evidence.names.snapshot_id(template.name)
        for known in (template.uuid, self._by_path.get(template.path), named):
            if known in self._snapshots:
                return known
        return template.snapshot_id or named

    def _is_unfinished_template(self, vm: Machine) -> bool:
        return vm.ours and not vm.volume_id and bool(
            vm.snapshot_id or self._evidence.names.snapshot_id(vm.name))

    # -- Whether a sweep may move it ----------------------------------------

    def _is_foreign(self, vm: Machine) -> bool:
        """Whether another deployment made a VM; no sweep moves it then."""
        return bool(vm.deployment) and (
            vm.deployment != self._evidence.deployment)

    def _why_not(self, vm: Machine, owner: str) -> str | None:
        """Why a sweep must not move a VM; None: it may."""
        if self._is_foreign(vm):
            return 'another deployment made it'
        if not vm.ours:
            return 'Cinder did not make it'
        if not vm.at_home:
            return "it is not in a folder of this backend"
        if vm.pool is None:
            return "it is not on a datastore of this backend"
        if vm.deployment or self._is_known(owner, vm.moref):
            return None
        return ('it has no mark of this deployment; another Cinder may use '
                'it')

    def _is_known(self, owner: str, reference: str) -> bool:
        """Whether this deployment certainly made something without a mark."""
        return (owner in self._volumes or owner in self._snapshots
                or owner in self._evidence.deleted
                or reference in self._evidence.named)

    def findings(self) -> list[Finding]:
        """All findings, the most serious kind first."""
        return sorted(self._found(), key=lambda each: (
            KINDS.index(each.kind), each.name, each.reference))

    def _found(self) -> Iterator[Finding]:
        yield from self._of_volumes()
        yield from self._of_snapshots()
        yield from self._of_temporary()
        yield from self._of_files()
        for vm in self._aside:
            gone = self._gone(vm)
            yield _of_machine('quarantined', vm, vm.quarantined, _and(
                'a sweep moved it here',
                f'its file {gone[0]} is gone' if gone else None))

    # -- Records ------------------------------------------------------------

    def used(self, volume_id: str) -> Machine | None:
        """The VM that the driver uses for a volume.

        The driver finds it by its UUID, or by its name as in old releases. A
        copy of the VM may have the volume's mark too, so that the mark alone
        does not count.
        """
        found = [vm for vm in self._holders.get(volume_id, ())
                 if vm.uuid == volume_id
                 or self._by_name.get(vm.name) == volume_id]
        return min(found, key=lambda vm: (vm.uuid != volume_id,
                                          vm.volume_id != volume_id),
                   default=None)

    def templates(self, snapshot_id: str) -> list[Machine]:
        """The templates that hold a snapshot; there should be one at most."""
        return self._templates.get(snapshot_id, [])

    def is_whole(self, volume_id: str) -> bool:
        """Whether a volume has a VM, whose disk has its files."""
        used = self.used(volume_id)
        return (used is not None and used.disk_count > 0
                and not self._gone(used))

    def _of_volumes(self) -> Iterator[Finding]:
        for volume in self._evidence.volumes:
            used = self.used(volume.id)
            if not volume.mine:
                continue
            yield from self._of_record(volume, used)
            if used is None:
                yield from self._without_vm(volume)
            elif (volume.at_rest and used.pool is not None
                    and used.pool != volume.pool):
                yield dataclasses.replace(_of_machine(
                    'misplaced', used, volume.id,
                    f'its host names {volume.pool}, and its VM is on '
                    f'{used.pool}'), cause='host')
        for volume in self._evidence.volumes:
            if not volume.mine and not volume.served and volume.at_rest:
                yield from self._unserved(volume)
        for volume_id, machines in self._holders.items():
            used = self.used(volume_id)
            if volume_id in self._volumes:
                for vm in machines:
                    if vm is not used:
                        yield self._duplicated(vm, used, volume_id)
                continue
            for vm in machines:
                if self._is_foreign(vm):
                    continue
                why = self._why_not(vm, volume_id)
                if why is None and not vm.volume_id:
                    why = 'it may have been unmanaged'
                yield _of_machine(
                    'orphan', vm, volume_id, _and(
                        'this volume has no record', why),
                    sweepable=why is None)

    def _duplicated(self, vm: Machine, used: Machine | None,
                    volume_id: str) -> Finding:
        """A second VM of a volume; it is swept only if it is named."""
        why = self._free_of(volume_id) or self._why_not(vm, volume_id)
        if used and not {*vm.disks, *vm.below}.isdisjoint(
                {*used.disks, *used.below}):
            why = f'it has files of {used.moref}'
        return _of_machine(
            'duplicated', vm, volume_id, f'{used.moref} is used' if used else
            'it has the mark of the volume, but not its UUID or name, so '
            'that the driver does not use it',
            sweepable=why is None and vm.moref in self._evidence.named)

    def _without_vm(self, volume: Volume) -> Iterator[Finding]:
        """What is wrong with a volume that has no VM."""
        if not volume.at_rest or volume.deleting:
            return
        about = functools.partial(
            Finding, thing='volume', name=volume.name, reference=volume.id,
            owner=volume.id, place=volume.pool, space_bytes=0,
            age_seconds=None)
        pools = self._evidence.pools
        why = pools.get(volume.pool, '')
        if volume.backed and why:
            # The vCenter may not show what is on such a datastore.
            yield about('unreachable', detail=f'no VM is seen, and its '
                        f'datastore {volume.pool} is {why}')
        elif volume.backed:
            traces = self.traces(volume.id)
            yield about('lost', detail=traces,
                        cause='gone' if traces == NOTHING_FOUND else '')
        elif pools and volume.pool not in pools:
            yield about('misplaced', cause='host', detail=(
                f'it has no disk yet, and there is no pool {volume.pool}'))

    def _unserved(self, volume: Volume) -> Iterator[Finding]:
        """A volume of no backend, whose VM is in a folder of this one."""
        vm = self.used(volume.id)
        if (vm is not None and vm.at_home and vm.pool is not None
                and vm.deployment and not self._is_foreign(vm)):
            yield dataclasses.replace(_of_machine(
                'misplaced', vm, volume.id,
                f'no cinder-volume has registered as {volume.host}, and its '
                f'VM is on {vm.pool}'), cause='backend')

    def _of_record(self, volume: Volume,
                   used: Machine | None) -> Iterator[Finding]:
        """What is wrong with a volume's record or with its VM's disk."""
        about = functools.partial(
            Finding, thing='volume', name=volume.name, reference=volume.id,
            owner=volume.id, place=volume.pool, space_bytes=0,
            age_seconds=volume.idle_seconds)
        if not volume.at_rest and volume.idle_seconds >= STUCK_SECONDS:
            yield about('stuck', detail=(
                f'it has been {volume.status} for '
                f'{volume.idle_seconds / 3600:.0f} hours'),
                cause='status')
        elif volume.at_rest and volume.deleting:
            yield about('stuck', detail=(
                'its deletion has begun and failed; repeat the deletion'))
        if used is None or not volume.at_rest:
            return
        why = self._evidence.pools.get(used.pool or '', '')
        if why:
            yield about('unreachable', detail=(
                f'its datastore {used.pool} is {why}'))
            if not used.disk_count:
                return  # the vCenter may not show what is there
        if volume.backed and not used.disk_count:
            traces = self.traces(volume.id)
            yield about('lost', detail=_and(
                f'its VM {used.moref} has no disk', traces),
                cause='gone' if traces == NOTHING_FOUND else '')
        gone = self._gone(used)
        for path in gone:
            traces = self.traces(volume.id)
            yield about('lost', detail=_and(
                f'its VM {used.moref} needs {path}, which is gone', traces),
                cause='gone' if traces == NOTHING_FOUND else '')
        yield from self._of_changes(volume, used)
        for disk in used.disks:
            for kind, detail in self._of_disk(volume, used, disk):
                yield about(kind, detail=detail)

    def _gone(self, vm: Machine) -> list[str]:
        """The files that a VM's disks need and that are not there."""
        needed = {*vm.disks, *vm.below}
        # The content is in the extents; the vCenter says which there are.
        extents = [path for path, _size in vm.files
                   if _CONTENT.search(path) and _descriptor(path) in needed]
        return [path for path in (*vm.disks, *vm.below, *extents)
                if model.split_path(path, self._evidence.searched)
                and path not in self._paths]

    def _of_changes(self, volume: Volume,
                    used: Machine) -> Iterator[Finding]:
        """What of a volume's VM is not as the driver made it."""
        about = functools.partial(
            Finding, 'changed', 'volume', volume.name, volume.id, volume.id,
            used.place, 0, used.age_seconds, machine=used.moref)
        identity = list(_identity(volume, used))
        if self._is_foreign(used):
            yield about(f'its VM {used.moref} has the mark of another '
                        'deployment of Cinder', cause='foreign')
        elif identity:
            yield about(f'its VM {used.moref} ' + ', '.join(identity),
                        cause='identity')
        if not used.at_home:
            yield about(f'its VM {used.moref} is in {used.path}, which is '
                        'in no folder of this backend', cause='folder')
        if used.powered_on:
            yield about(f'its VM {used.moref} is powered on, and locks the '
                        'disk', cause='power')
        own = _own_disk(volume, used)
        if own is None and len(used.held) > 1:
            yield about(f'its VM {used.moref} has {len(used.held)} disks, '
                        "and none has the volume's UUID", cause='disks')
        if own is not None:
            for each in used.held:
                if each is not own:
                    yield dataclasses.replace(about(
                        f'its VM {used.moref} also has {each.path}, which '
                        'would be deleted with the volume',
                        cause='foreign-disk'), kind='at-risk')
            yield from self._of_own_disk(volume, own, about)

    def _of_own_disk(self, volume: Volume, own: Held,
                     about: Callable[..., Finding]) -> Iterator[Finding]:
        size_gib = -(-own.size_bytes // _GIB)
        # The disk of an attached volume is its instance's to resize.
        if volume.size_gib and own.size_bytes and not volume.attached_to and (
                size_gib != volume.size_gib):
            yield about(f'its disk has {size_gib} GiB, and its record '
                        f'{volume.size_gib} GiB', cause=(
                            'small' if size_gib < volume.size_gib
                            else 'large'))
        if volume.adapter and own.adapter not in ('', volume.adapter) and (
                not volume.attached_to):
            yield about(f'its disk has the adapter {own.adapter}, and its '
                        f'type asks for {volume.adapter}', cause='adapter')
        # On an attached disk it is set when the disk is detached.
        if own.policies and not volume.attached_to:
            yield about('its disk does not have the storage policy '
                        + ', '.join(own.policies), cause='policy')
        # A host enforces the limits of the instance's device.
        for disk in self._on_instances(volume) or [own]:
            if any(wanted not in (None, has) for wanted, has in zip(
                    volume.io, disk.io)):
                yield about(f'its disk has the I/O limits {_words(disk.io)}, '
                            'and its type asks for '
                            f'{_words(volume.io)}', cause='io')

    def _on_instances(self, volume: Volume) -> list[Held]:
        """The disk of an attached volume, on its instances."""
        return [disk for uuid in volume.attached_to
                for vm in self._by_uuid.get(uuid, ())
                for disk in vm.held if disk.uuid.lower() == volume.id]

    @functools.cached_property
    def _by_uuid(self) -> dict[str, list[Machine]]:
        found: dict[str, list[Machine]] = {}
        for vm in self._evidence.machines:
            found.setdefault(vm.uuid, []).append(vm)
        return found

    def _of_disk(self, volume: Volume, used: Machine,
                 disk: str) -> Iterator[tuple[str, str]]:
        folder = disk.rpartition('/')[0]
        for vm in self._by_folder.get(folder, ()):
            if vm is not used and not vm.ours and not vm.template:
                yield 'at-risk', (f'{disk} is in the folder of {vm.name} '
                                  f'({vm.moref}), and is deleted with it')
        for vm in self._naming.get(disk, ()):
            if vm is not used and vm.uuid not in volume.attached_to:
                yield 'shared', (f'{vm.name} ({vm.moref}) also names '
                                 f'{disk}')

    @functools.cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(file.key for file in self._evidence.files)

    @functools.cached_property
    def _by_folder(self) -> dict[str, list[Machine]]:
        found: dict[str, list[Machine]] = {}
        for vm in self._evidence.machines:
            found.setdefault(vm.folder, []).append(vm)
        return found

    @functools.cached_property
    def _naming(self) -> dict[str, list[Machine]]:
        """VMs by the files that they name as their disks."""
        found: dict[str, list[Machine]] = {}
        for vm in self._evidence.machines:
            for disk in vm.disks:
                found.setdefault(disk, []).append(vm)
        return found

    def traces(self, volume_id: str) -> str:
        """What still exists of a lost volume, to help the search for it."""
        used = self.used(volume_id)
        machines = [vm for of, vm in self._temporary if of == volume_id]
        machines += self._holders.get(volume_id, [])
        found = [f'{vm.name} ({vm.moref})' for vm in machines
                 if vm is not used]
        found += [f'{vm.name} ({vm.moref}), in quarantine'
                  for vm in self._aside if volume_id in (
                      vm.quarantined, vm.uuid, vm.volume_id)]
        found += [
            f'{vm.name} ({vm.moref}), marked as a template'
            for vm in self._evidence.machines if vm.template and (
                vm.uuid == volume_id
                or self._evidence.names.volume_id(vm.name) == volume_id)]
        found += [f'{disk}, which {vm.name} ({vm.moref}) has'
                  for disk, users in self._naming.items()
                  if self._evidence.names.in_path(disk) == volume_id
                  for vm in users if vm is not used]
        found += [file.reference for file in self._unused()
                  if self._owner_of(file) == volume_id]
        return ('still present: ' + ', '.join(found) if found
                else NOTHING_FOUND)

    def _of_snapshots(self) -> Iterator[Finding]:
        for record in self._evidence.snapshots:
            if (not record.mine or record.status != 'available'
                    or not record.backed):
                continue
            detail = (self._lost_template(record) if record.template
                      else self._lost_in_tree(record))
            if detail is not None:
                cause = '' if detail else 'gone'
                if not detail and not record.template:
                    detail, cause = self._perhaps_renamed(record)
                yield Finding(
                    'lost', 'snapshot', record.name, record.id, record.id,
                    record.path or record.volume_id, 0, None, _and(
                        f'of volume {record.volume_id}',
                        detail or NOTHING_FOUND), cause=cause)
        for snapshot_id, machines in self._templates.items():
            known = self._snapshots.get(snapshot_id)
            for vm in machines:
                if known is None:
                    if snapshot_id in self._volumes or self._is_foreign(vm):
                        continue
                    why = self._why_not(vm, snapshot_id)
                    yield _of_machine(
                        'orphan', vm, snapshot_id,
                        _and('this snapshot has no record', why),
                        sweepable=why is None)
                elif not vm.template and known.status == 'available':
                    yield dataclasses.replace(_of_machine(
                        'duplicated' if len(machines) > 1 else 'misplaced',
                        vm, snapshot_id, 'not marked as a template'),
                        cause='' if len(machines) > 1 else 'template')

    def _lost_template(self, record: Snapshot) -> str | None:
        """What is lost of a snapshot that is a template; None: nothing."""
        details = []
        for vm in self._templates.get(record.id, ()):
            gone = self._gone(vm)
            if vm.disk_count and not gone:
                return None
            details.append(f'its template {vm.moref} ' + (
                f'needs {gone[0]}, which is gone' if gone
                else 'has no disk'))
        return '; '.join(details)

    def _lost_in_tree(self, record: Snapshot) -> str | None:
        """The same of one in the tree of its volume's VM."""
        vm = self.used(record.volume_id)
        points = [point for point in (vm.points if vm else ())
                  if point.name == record.name]
        for point in points:
            for path in point.disks:
                if (model.split_path(path, self._evidence.searched)
                        and path not in self._paths):
                    return f'{point.moref} needs {path}, which is gone'
        return None if points else ''

    def _perhaps_renamed(self, record: Snapshot) -> tuple[str, str]:
        """Detail and cause for a COW snapshot that no VM has by its name."""
        vm = self.used(record.volume_id)
        if vm is None:
            return 'its volume has no VM', ''
        found = [f'{point.name} ({point.moref})' for point in vm.points
                 if self._is_unknown(vm, point)]
        if not found:
            return '', 'gone'
        return (f'{vm.moref} has ' + ', '.join(found)
                + ', which no record names', 'renamed')

    def _is_unknown(self, vm: Machine, point: Point) -> bool:
        """Whether no record names a snapshot in a volume's VM."""
        return not (_id_in(_TEMPORARY_SNAPSHOT, point.name)
                    or _id_in(_MOMENT, point.name)
                    or point.name in self._snapshot_names)

    @functools.cached_property
    def _snapshot_names(self) -> frozenset[str]:
        return frozenset(each.name for each in self._evidence.snapshots)

    # -- Temporary VMs and snapshots ----------------------------------------

    def _free_of(self, owner: str) -> str | None:
        """Why a leftover of a volume must stay; None: it need not."""
        volume = self._volumes.get(owner)
        if volume is None:
            return None
        if not volume.at_rest:
            return f'its volume is {volume.status}'
        if not self.is_whole(owner):
            return 'it may be all that is left of its volume'
        return None

    def _of_temporary(self) -> Iterator[Finding]:
        for owner, vm in self._temporary:
            if self._is_foreign(vm):
                continue
            why = self._free_of(owner) or self._why_not(vm, owner)
            yield _of_machine('leftover', vm, owner,
                              why or 'its volume does not need it',
                              sweepable=why is None)
        for vm in self._evidence.machines:
            for point in vm.points:
                yield from self._of_point(vm, point)

    def _of_point(self, vm: Machine, point: Point) -> Iterator[Finding]:
        found = functools.partial(
            Finding, 'leftover', 'vm-snapshot', point.name, point.moref,
            place=vm.place, space_bytes=0, age_seconds=point.age_seconds,
            machine=vm.moref)
        if self._is_foreign(vm):
            return
        owner = _id_in(_TEMPORARY_SNAPSHOT, point.name)
        if owner:
            # An operation may also work on the volume whose VM holds it.
            busy = any(each in self._volumes
                       and not self._volumes[each].at_rest
                       for each in (owner, vm.uuid))
            why = self._why_not(vm, owner) or (
                'its volume is not at rest' if busy else None)
            yield found(owner=owner, detail=_and(
                f'a snapshot of {vm.name}', why), sweepable=why is None)
        owner = _id_in(_MOMENT, point.name)
        if owner:
            yield found(owner=owner, detail=(
                f'a snapshot of {vm.name} for a group; delete the group '
                'snapshot or group of that id, unless it is being made'))
        elif vm.uuid in self._volumes and self._is_unknown(vm, point):
            # Its removal cannot be undone, so that it must be named.
            why = self._why_not(vm, vm.uuid)
            if not self._volumes[vm.uuid].at_rest:
                why = 'its volume is not at rest'
            named = point.moref in self._evidence.named
            yield dataclasses.replace(
                found(owner=vm.uuid, detail=_and(
                    f'a snapshot of {vm.name} that no record names', why)),
                kind='orphan', cause='point',
                sweepable=why is None and named)

    # -- Files --------------------------------------------------------------

    def _unused(self) -> Iterator[File]:
        return unused_disks(self._evidence)

    def _owner_of(self, file: File) -> str:
        return self._evidence.names.in_path(file.path)

    def _of_files(self) -> Iterator[Finding]:
        foreign = {vm.folder for vm in self._evidence.machines
                   if vm.folder and self._is_foreign(vm)}
        for file in self._unused():
            if file.key.rpartition('/')[0] in foreign:
                continue
            if file.path.startswith(f'{QUARANTINE_PATH}/'):
                yield self._of_file('quarantined', file,
                                    'a sweep moved it here')
            elif file.path.startswith(patterns.TEMPORARY_FOLDER):
                yield from self._of_temporary_image(file)
            elif self._owner_of(file):
                yield self._of_unused_file(file)

    def _of_temporary_image(self, file: File) -> Iterator[Finding]:
        """The finding of a temporary image, which does not name its volume.

        Its folder names the deployment, unless upstream's driver made it.
        """
        of, own = patterns.deployment_of(file.path), self._evidence.deployment
        if of and not (own and of == patterns.digest(own)):
            return
        why = None
        if any(not each.at_rest for each in self._evidence.volumes):
            why = 'an operation under way may need it'
        elif not of and file.reference not in self._evidence.named:
            why = 'it has no mark of a deployment'
        yield self._of_file('leftover', file, _and(
            'a temporary image that no VM uses', why), why is None)

    def _of_unused_file(self, file: File) -> Finding:
        owner = self._owner_of(file)
        if owner in self._volumes:
            why = self._free_of(owner)
            return self._of_file('leftover' if why is None else 'orphan',
                                 file, why or 'its volume does not use it',
                                 why is None)
        if owner in self._snapshots:
            return self._of_file('orphan', file, 'its snapshot has a record')
        why = None if self._is_known(owner, file.reference) else (
            'this Cinder does not know it; another Cinder may use it')
        return self._of_file('orphan', file, _and(
            'it has no VM and no record', why), why is None)

    def _of_file(self, kind: str, file: File, detail: str,
                 sweepable: bool = False) -> Finding:
        return Finding(
            kind, 'file', file.path.rpartition('/')[2], file.reference,
            self._owner_of(file) or file.path.partition('/')[0], file.place,
            file.size_bytes, file.age_seconds, detail, sweepable,
            datastore=file.datastore)


def _own_disk(volume: Volume, vm: Machine) -> Held | None:
    """The volume's disk among those of its VM; None: it is unknown."""
    if len(vm.held) == 1:
        return vm.held[0]
    own = [each for each in vm.held if each.uuid.lower() == volume.id]
    return own[0] if len(own) == 1 else None


def _identity(volume: Volume, vm: Machine) -> Iterator[str]:
    """What of the identity of a volume's VM is not the volume's."""
    if model.plain_name(vm.name) != volume.name:
        yield f'is named {vm.name}'
    if vm.uuid != volume.id:
        yield f'has the instance UUID {vm.uuid}'
    if not vm.volume_id:
        yield 'has lost the mark of its volume'
    elif vm.volume_id != volume.id:
        yield f'has the mark of volume {vm.volume_id}'
    if not vm.ours:
        yield "is not marked as Cinder's"


def _words(io: tuple[object, ...]) -> str:
    """I/O limits for a person; what is not specified is left out."""
    return ', '.join(f'{name} {value}' for name, value in zip(
        ('limit', 'reservation', 'level', 'shares'), io)
        if value is not None)


def _and(detail: str, why: str | None) -> str:
    return f'{detail}; {why}' if why else detail


def _id_in(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.fullmatch(name)
    return match[1] if match else ''


def _descriptor(path: str) -> str:
    return _EXTENT.sub('', path)


def _disks(files: Iterable[File]) -> Iterator[File]:
    """Disk files, each with the space of its extents."""
    sizes: dict[str, int] = {}
    whole: dict[str, File] = {}
    for file in files:
        name = _descriptor(file.key)
        sizes[name] = sizes.get(name, 0) + file.size_bytes
        if name not in whole or name == file.key:
            whole[name] = file
    for name, file in whole.items():
        yield dataclasses.replace(file, size_bytes=sizes[name])


def _of_machine(kind: str, vm: Machine, owner: str, detail: str,
                sweepable: bool = False) -> Finding:
    return Finding(kind, 'template' if vm.template else 'vm', vm.name,
                   vm.moref, owner, vm.place, vm.space_bytes, vm.age_seconds,
                   detail, sweepable)
