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
misplaced
    the record's host names another pool than the one that holds the disk
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
from collections.abc import Iterable
from collections.abc import Iterator

from cinder_vmdk_ext import model
from cinder_vmdk_ext import names as patterns

KINDS = ('lost', 'at-risk', 'shared', 'stuck', 'misplaced', 'duplicated',
         'leftover', 'orphan', 'quarantined')
# Where a sweep puts VMs, below the folder OpenStack, and files.
QUARANTINE_FOLDER = 'Quarantine'
QUARANTINE_PATH = 'openstack-quarantine'

NO_TRACE = 'no trace of it'
_ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_TEMPORARY_SNAPSHOT = re.compile(f'temp-snapshot-({_ID})')
# Name of an instance's snapshot for a group; it contains the group's id.
_MOMENT = re.compile(f'group(?:-snapshot)?-({_ID})')
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
            yield _of_machine('quarantined', vm, vm.quarantined,
                              'a sweep moved it here')

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

    def _is_whole(self, volume_id: str) -> bool:
        used = self.used(volume_id)
        return used is not None and used.disk_count > 0

    def _of_volumes(self) -> Iterator[Finding]:
        for volume in self._evidence.volumes:
            used = self.used(volume.id)
            if not volume.mine:
                continue
            yield from self._of_record(volume, used)
            if used is None:
                if (volume.backed and volume.at_rest
                        and not volume.deleting):
                    yield Finding(
                        'lost', 'volume', volume.name, volume.id, volume.id,
                        volume.pool, 0, None, self.traces(volume.id))
                continue
            if (volume.at_rest and used.pool is not None
                    and used.pool != volume.pool):
                yield _of_machine(
                    'misplaced', used, volume.id,
                    f'its host names {volume.pool}, and its VM is on '
                    f'{used.pool}')
        for volume_id, machines in self._holders.items():
            used = self.used(volume_id)
            if volume_id in self._volumes:
                for vm in machines:
                    if vm is not used:
                        yield _of_machine(
                            'duplicated', vm, volume_id,
                            f'{used.moref} is used' if used else
                            'it has the mark of the volume, but not its UUID '
                            'or name, so that the driver does not use it')
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
                f'{volume.idle_seconds / 3600:.0f} hours'))
        elif volume.at_rest and volume.deleting:
            yield about('stuck', detail=(
                'its deletion has begun and failed; repeat the deletion'))
        if used is None or not volume.at_rest:
            return
        if volume.backed and not used.disk_count:
            yield about('lost', detail=f'its VM {used.moref} has no disk')
        for path in self._gone(used):
            yield about('lost', detail=(
                f'its VM {used.moref} needs {path}, which is gone'))
        for disk in used.disks:
            for kind, detail in self._of_disk(volume, used, disk):
                yield about(kind, detail=detail)

    def _gone(self, vm: Machine) -> list[str]:
        """The files that a VM's disks need and that are not there."""
        return [path for path in (*vm.disks, *vm.below)
                if model.split_path(path, self._evidence.searched)
                and path not in self._paths]

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
        machines = [vm for of, vm in self._temporary if of == volume_id]
        machines += self._holders.get(volume_id, [])
        found = [f'{vm.name} ({vm.moref})' for vm in machines]
        found += [
            f'{vm.name} ({vm.moref}), marked as a template'
            for vm in self._evidence.machines if vm.template and (
                vm.uuid == volume_id
                or self._evidence.names.volume_id(vm.name) == volume_id)]
        found += [file.reference for file in self._unused()
                  if self._owner_of(file) == volume_id]
        return ('still present: ' + ', '.join(found) if found
                else 'nothing of it was found')

    def _of_snapshots(self) -> Iterator[Finding]:
        for record in self._evidence.snapshots:
            if (not record.mine or record.status != 'available'
                    or not record.backed):
                continue
            detail = (self._lost_template(record) if record.template
                      else self._lost_in_tree(record))
            if detail is not None:
                yield Finding(
                    'lost', 'snapshot', record.name, record.id, record.id,
                    record.path or record.volume_id, 0, None, _and(
                        f'of volume {record.volume_id}', detail))
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
                    yield _of_machine(
                        'duplicated' if len(machines) > 1 else 'misplaced',
                        vm, snapshot_id, 'not marked as a template')

    def _lost_template(self, record: Snapshot) -> str | None:
        """What is lost of a snapshot that is a template; None: nothing."""
        details = []
        for vm in self._templates.get(record.id, ()):
            if not vm.template:
                continue
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

    # -- Temporary VMs and snapshots ----------------------------------------

    def _free_of(self, owner: str) -> str | None:
        """Why a leftover of a volume must stay; None: it need not."""
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
