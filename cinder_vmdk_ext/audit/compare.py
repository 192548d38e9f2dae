# SPDX-License-Identifier: Apache-2.0
"""Compares Cinder's records, the inventory and the datastores' files.

Decided on plain values, as :mod:`cinder_vmdk_ext.audit.collect` reads them.
Kinds of findings:

lost
    a record whose disk was made, and whose VM or snapshot is not there
misplaced
    the record's host names another pool than the one that holds the disk
duplicated
    another VM that passes for a volume's, beside the one that is used
leftover
    what an operation made for a while, and a crash or failure left behind
orphan
    a VM or disk of Cinder's making of which no record knows
quarantined
    what a sweep moved aside; a person deletes it
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from collections.abc import Iterator

KINDS = ('lost', 'misplaced', 'duplicated', 'leftover', 'orphan',
         'quarantined')
# Where a sweep puts VMs, below the folder OpenStack, and files.
QUARANTINE_FOLDER = 'Quarantine'
QUARANTINE_PATH = 'openstack-quarantine'

_ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_VOLUME = re.compile(f'volume-({_ID})')
_SNAPSHOT = re.compile(f'snapshot-({_ID})')
# What operations call VMs that are to become the volume's, or were it.
_TEMPORARY = re.compile(f'volume-({_ID})-[a-z]+(?:-{_ID})?')
_TEMPORARY_SNAPSHOT = re.compile(f'temp-snapshot-({_ID})')
# By what an instance is held still for a group, of which this is the id.
_MOMENT = re.compile(f'group(?:-snapshot)?-({_ID})')
_FILE_OF = re.compile(f'(?:^|/)(volume|snapshot)-({_ID})')
_TEMPORARY_PATH = 'cinder_temp/'
# Folders of a VM, in which vCenter numbers namesakes: volume-..._1/.
_EXTENT = re.compile(r'(-flat|-delta|-sesparse|-ctk|-rdm|-rdmp)(?=\.vmdk$)')
# Of records in other states an operation is under way.
_AT_REST = frozenset({
    'available', 'in-use', 'error', 'reserved', 'maintenance',
    'error_extending', 'error_restoring', 'error_managing',
    'error_deleting'})


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume's record."""

    id: str
    name: str
    pool: str  # as its host names it
    status: str = 'available'
    moving: bool = False  # a migration of Cinder's is under way
    backed: bool = True  # known to have been given a disk
    mine: bool = True  # of the backend that is looked at

    @property
    def at_rest(self) -> bool:
        """Whether nothing is being done to it."""
        return self.status in _AT_REST and not self.moving


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
    ours: bool = False  # made by a driver of Cinder's
    template: bool = False
    pool: str | None = None
    place: str = ''  # its datastore, for a person
    files: tuple[tuple[str, int], ...] = ()  # '[datastore] path', bytes
    disk_count: int = 1
    points: tuple[Point, ...] = ()
    age_seconds: float | None = None  # since its configuration changed

    @property
    def space_bytes(self) -> int:
        """What its files take."""
        return sum(size for _path, size in self.files)

    @property
    def set_aside(self) -> bool:
        """Whether a sweep has moved it."""
        return bool(self.quarantined) or (
            f'/OpenStack/{QUARANTINE_FOLDER}/' in self.path)


@dataclasses.dataclass(frozen=True)
class File:
    """A file on a datastore."""

    place: str  # the datastore's name
    path: str  # within it
    size_bytes: int = 0
    age_seconds: float | None = None

    @property
    def reference(self) -> str:
        """The path as the vCenter writes it."""
        return f'[{self.place}] {self.path}'


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All there is, at one moment."""

    volumes: tuple[Volume, ...]
    snapshots: tuple[Snapshot, ...]
    machines: tuple[Machine, ...]
    files: tuple[File, ...]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    thing: str  # volume, snapshot, vm, template, file, vm-snapshot
    name: str
    reference: str  # a moref, a path, or a record's id
    owner: str  # the volume's or snapshot's id, as far as known
    place: str
    space_bytes: int
    age_seconds: float | None
    detail: str
    # Whether a sweep may act: nothing that a record may need is concerned.
    sweepable: bool = False
    machine: str = ''  # of a vm-snapshot: the VM's moref


def compare(evidence: Evidence) -> list[Finding]:
    """All findings, the gravest kind first."""
    found = list(_Comparison(evidence).findings())
    return sorted(found, key=lambda each: (KINDS.index(each.kind),
                                           each.name, each.reference))


class _Comparison:

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._volumes = {each.id: each for each in evidence.volumes}
        self._by_name = {each.name: each.id for each in evidence.volumes}
        self._snapshots = {each.id: each for each in evidence.snapshots}
        # Upstream writes it with a slash before it.
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
            self._aside.append(vm)
            return
        temporary = _TEMPORARY.fullmatch(vm.name)
        if vm.template:
            of = self._snapshot_of(vm)
            if of:
                self._templates.setdefault(of, []).append(vm)
        elif vm.uuid in self._volumes:
            self._holders.setdefault(vm.uuid, []).append(vm)
        elif vm.replaced:
            self._temporary.append((vm.replaced, vm))
        elif temporary and vm.ours:
            self._temporary.append((temporary[1], vm))
        elif _is_unfinished_template(vm):
            # Not marked as a template yet.
            self._templates.setdefault(vm.snapshot_id or _id_in(
                _SNAPSHOT, vm.name), []).append(vm)
        else:
            of = (vm.volume_id or self._by_name.get(vm.name)
                  or _id_in(_VOLUME, vm.name))
            if of and not vm.unmanaged and (vm.ours or vm.volume_id):
                self._holders.setdefault(of, []).append(vm)

    def _snapshot_of(self, template: Machine) -> str:
        """Whose a template is: one that was managed has older marks too."""
        named = _id_in(_SNAPSHOT, template.name)
        for known in (template.uuid, self._by_path.get(template.path), named):
            if known in self._snapshots:
                return known
        return template.snapshot_id or named

    def findings(self) -> Iterator[Finding]:
        yield from self._of_volumes()
        yield from self._of_snapshots()
        yield from self._of_temporary()
        yield from self._of_files()
        for vm in self._aside:
            yield _of_machine('quarantined', vm, vm.quarantined,
                              'moved aside by a sweep')

    # -- Records ------------------------------------------------------------

    def _used(self, volume_id: str) -> Machine | None:
        """The VM that the driver takes for a volume's.

        It goes by the UUID, or by the name as in old releases. A mark alone
        may be that of somebody's copy.
        """
        found = [vm for vm in self._holders.get(volume_id, ())
                 if vm.uuid == volume_id
                 or self._by_name.get(vm.name) == volume_id]
        return min(found, key=lambda vm: (vm.uuid != volume_id,
                                          vm.volume_id != volume_id),
                   default=None)

    def _is_whole(self, volume_id: str) -> bool:
        used = self._used(volume_id)
        return used is not None and used.disk_count > 0

    def _of_volumes(self) -> Iterator[Finding]:
        for volume in self._evidence.volumes:
            used = self._used(volume.id)
            if not volume.mine:
                continue
            if used is None:
                if volume.backed and volume.at_rest:
                    yield Finding(
                        'lost', 'volume', volume.name, volume.id, volume.id,
                        volume.pool, 0, None, self._traces(volume.id))
                continue
            if (volume.at_rest and used.pool is not None
                    and used.pool != volume.pool):
                yield _of_machine(
                    'misplaced', used, volume.id,
                    f'its host names {volume.pool}, and its VM is on '
                    f'{used.pool}')
        for volume_id, machines in self._holders.items():
            used = self._used(volume_id)
            if volume_id in self._volumes:
                for vm in machines:
                    if vm is not used:
                        yield _of_machine(
                            'duplicated', vm, volume_id,
                            f'{used.moref} is used' if used else
                            'bears its mark, and neither its UUID nor its '
                            'name, so that none is used')
                continue
            for vm in machines:
                yield _of_machine(
                    'orphan', vm, volume_id, 'no record of this volume',
                    # Without its mark it may have been unmanaged.
                    sweepable=vm.ours and bool(vm.volume_id))

    def _traces(self, volume_id: str) -> str:
        """What there is of a lost volume, for whoever looks for it."""
        machines = [vm for of, vm in self._temporary if of == volume_id]
        machines += self._holders.get(volume_id, [])
        found = [f'{vm.name} ({vm.moref})' for vm in machines]
        found += [file.reference for file in self._unused()
                  if _owner_of(file) == volume_id]
        return ('there is still: ' + ', '.join(found) if found
                else 'no trace of it')

    def _of_snapshots(self) -> Iterator[Finding]:
        for record in self._evidence.snapshots:
            if (not record.mine or record.status != 'available'
                    or not record.backed):
                continue
            if record.template:
                there = any(vm.template for vm
                            in self._templates.get(record.id, ()))
            else:
                vm = self._used(record.volume_id)
                there = vm is not None and record.name in {
                    point.name for point in vm.points}
            if not there:
                yield Finding('lost', 'snapshot', record.name, record.id,
                              record.id, record.path or record.volume_id, 0,
                              None, f'of volume {record.volume_id}')
        for snapshot_id, machines in self._templates.items():
            known = self._snapshots.get(snapshot_id)
            for vm in machines:
                if known is None:
                    yield _of_machine('orphan', vm, snapshot_id,
                                      'no record of this snapshot',
                                      sweepable=vm.ours)
                elif not vm.template and known.status == 'available':
                    yield _of_machine(
                        'duplicated' if len(machines) > 1 else 'misplaced',
                        vm, snapshot_id, 'not marked as a template')

    # -- Temporary things ---------------------------------------------------

    def _free_of(self, owner: str) -> str | None:
        """Why a volume's leftover must stay; None if it need not."""
        volume = self._volumes.get(owner)
        if volume is None:
            return None
        if not volume.at_rest:
            return f'its volume is {volume.status}'
        if not self._is_whole(owner):
            return 'it may be all that is left of its volume'
        return None

    def _of_temporary(self) -> Iterator[Finding]:
        for owner, vm in self._temporary:
            why = self._free_of(owner)
            yield _of_machine('leftover', vm, owner,
                              why or 'its volume does not need it',
                              sweepable=why is None and vm.ours)
        for vm in self._evidence.machines:
            for point in vm.points:
                yield from self._of_point(vm, point)

    def _of_point(self, vm: Machine, point: Point) -> Iterator[Finding]:
        found = functools.partial(
            Finding, 'leftover', 'vm-snapshot', point.name, point.moref,
            place=vm.place, space_bytes=0, age_seconds=point.age_seconds,
            machine=vm.moref)
        owner = _id_in(_TEMPORARY_SNAPSHOT, point.name)
        if owner:
            volume = self._volumes.get(owner)
            busy = volume is not None and not volume.at_rest
            yield found(owner=owner, detail=f'in the tree of {vm.name}',
                        sweepable=not busy and vm.ours)
        owner = _id_in(_MOMENT, point.name)
        if owner:
            yield found(owner=owner, detail=(
                f'holds the disks of {vm.name} still; delete the group '
                'snapshot or group of that id, unless it is being made'))

    # -- Files --------------------------------------------------------------

    def _unused(self) -> Iterator[File]:
        used = {_descriptor(path) for vm in self._evidence.machines
                for path, _size in vm.files}
        for file in _disks(self._evidence.files):
            if _descriptor(file.reference) not in used:
                yield file

    def _of_files(self) -> Iterator[Finding]:
        for file in self._unused():
            if file.path.startswith(f'{QUARANTINE_PATH}/'):
                yield _of_file('quarantined', file, 'moved aside by a sweep')
            elif file.path.startswith(_TEMPORARY_PATH):
                yield _of_file('leftover', file,
                               'a temporary image that no VM uses', True)
            elif _owner_of(file) is not None:
                yield self._of_nobodys_file(file)

    def _of_nobodys_file(self, file: File) -> Finding:
        owner = _owner_of(file) or ''
        if owner in self._volumes:
            why = self._free_of(owner)
            return _of_file('leftover' if why is None else 'orphan', file,
                            why or 'its volume does not use it', why is None)
        if owner in self._snapshots:
            return _of_file('orphan', file, 'its snapshot has a record')
        return _of_file('orphan', file, 'neither a VM nor a record', True)


def _is_unfinished_template(vm: Machine) -> bool:
    return vm.ours and not vm.volume_id and bool(
        vm.snapshot_id or _id_in(_SNAPSHOT, vm.name))


def _id_in(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.fullmatch(name)
    return match[1] if match else ''


def _owner_of(file: File) -> str | None:
    match = _FILE_OF.search(file.path)
    return match[2] if match else None


def _descriptor(path: str) -> str:
    return _EXTENT.sub('', path)


def _disks(files: Iterable[File]) -> Iterator[File]:
    """Disk files, each with the space of its extents."""
    sizes: dict[str, int] = {}
    whole: dict[str, File] = {}
    for file in files:
        name = _descriptor(file.reference)
        sizes[name] = sizes.get(name, 0) + file.size_bytes
        if name not in whole or name == file.reference:
            whole[name] = file
    for name, file in whole.items():
        yield dataclasses.replace(file, size_bytes=sizes[name])


def _of_machine(kind: str, vm: Machine, owner: str, detail: str,
                sweepable: bool = False) -> Finding:
    return Finding(kind, 'template' if vm.template else 'vm', vm.name,
                   vm.moref, owner, vm.place, vm.space_bytes, vm.age_seconds,
                   detail, sweepable)


def _of_file(kind: str, file: File, detail: str,
             sweepable: bool = False) -> Finding:
    return Finding(kind, 'file', file.path.rpartition('/')[2], file.reference,
                   _owner_of(file) or file.path.partition('/')[0], file.place,
                   file.size_bytes, file.age_seconds, detail, sweepable)
