# SPDX-License-Identifier: Apache-2.0
"""Lists what is in quarantine: its origin, its owner, the time and reason.

The extra configuration of a VM holds this. Templates and files cannot hold it,
so the name of their folder in quarantine does; that name also holds a digest
of the deployment's mark.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Iterator

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext import names

_STAMP = '%Y%m%dT%H%M%SZ'
# Written by :meth:`Record.folder_name`.
_FOLDER = re.compile(
    r'(?P<at>\d{8}T\d{6}Z) (?P<kind>[a-z-]+) (?P<digest>[0-9a-f]{12})'
    r' (?P<origin>\S+)')
_PREFIX = 'quarantined-'
OLD = 'an older release moved it and did not record where it was'


@dataclasses.dataclass(frozen=True)
class Record:
    """What a sweep records about a VM, template or file that it moves."""

    kind: str  # of the finding
    detail: str = ''
    at: str = ''  # UTC, as 20261128T075200Z; '': unknown
    origin: str = ''  # the inventory folder's moref; a file's former path
    name: str = ''
    uuid: str = ''  # a VM's instance UUID
    marks: dict[str, str] = dataclasses.field(default_factory=dict)

    def as_text(self) -> str:
        """The record as text for a VM's extra configuration (JSON)."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def folder_name(self, deployment: str) -> str:
        """The name of the folder in quarantine for a template or file.

        A file's former path continues below that folder.
        """
        return ' '.join((self.at, self.kind, names.digest(deployment),
                         self.origin))


def of_text(text: str) -> Record | None:
    """The record in a VM's extra configuration; None: it has no record."""
    try:
        return Record(**json.loads(text))
    except (ValueError, TypeError):
        return None


def stamp(moment: datetime.datetime) -> str:
    """A moment as a record writes it, in UTC."""
    return moment.astimezone(datetime.timezone.utc).strftime(_STAMP)


def aside_name(name: str) -> str:
    """The name of a VM in quarantine, cut to 79 characters."""
    return f'{_PREFIX}{name}'[:79]


def aside_template_name(name: str) -> str:
    """The name of a template in quarantine; it contains the former name.

    A long name stays as it is: the driver finds no template by its name.
    """
    return name if len(_PREFIX + name) > 79 else _PREFIX + name


@dataclasses.dataclass(frozen=True)
class Item:
    """A VM, template or file in quarantine."""

    thing: str  # vm, template, file
    name: str  # its former name
    reference: str  # a moref, or '[datastore] path'
    owner: str  # id of the volume or snapshot, as far as known
    place: str  # the datastore's name
    size_bytes: int
    record: Record | None
    # Whether it has this deployment's mark; if not, it has no mark.
    mine: bool
    # VMs that use one of its files.
    users: tuple[str, ...] = ()
    datastore: str = ''  # of a file: the datastore's moref
    # Why it cannot be restored; '': it can.
    hindrance: str = ''

    @property
    def at(self) -> datetime.datetime | None:
        """When it was moved; None: unknown."""
        if self.record is None or not self.record.at:
            return None
        return datetime.datetime.strptime(self.record.at, _STAMP).replace(
            tzinfo=datetime.timezone.utc)

    def is_called(self, reference: str) -> bool:
        """Whether an operator's reference names this item."""
        return reference in (self.reference, self.name)


def items(evidence: compare.Evidence) -> list[Item]:
    """What is in quarantine, without what has another deployment's mark."""
    found = [*_machines(evidence), *_files(evidence)]
    return sorted(found, key=lambda each: (
        each.record.at if each.record else '', each.name, each.reference))


def _machines(evidence: compare.Evidence) -> Iterator[Item]:
    own = evidence.deployment
    for vm in evidence.machines:
        if not vm.set_aside:
            continue
        record, digested = of_text(vm.quarantine_record), ''
        if vm.template:
            record, digested = _of_folder(vm.path.split('/')[-2:-1])
        marked = vm.deployment or digested
        if marked and (not own or marked not in (own, names.digest(own))):
            continue
        name = (record.name if record and record.name
                else vm.name.removeprefix(_PREFIX))
        yield Item(
            'template' if vm.template else 'vm', name, vm.moref,
            vm.quarantined or vm.snapshot_id, vm.place, vm.space_bytes,
            record, bool(marked), _users(vm, evidence), hindrance=(
                OLD if record is None else _taken(vm, record, evidence)))


def _taken(vm: compare.Machine, record: Record,
           evidence: compare.Evidence) -> str:
    for other in evidence.machines:
        if record.uuid and other.uuid == record.uuid and (
                other.moref != vm.moref):
            return f'{other.name} ({other.moref}) has its instance UUID now'
    return ''


def _users(vm: compare.Machine,
           evidence: compare.Evidence) -> tuple[str, ...]:
    own = {*(path for path, _size in vm.files), *vm.disks}
    return tuple(
        f'{other.name} ({other.moref})' for other in evidence.machines
        if other.moref != vm.moref and not own.isdisjoint(
            {*(path for path, _size in other.files), *other.disks}))


def _files(evidence: compare.Evidence) -> Iterator[Item]:
    own = evidence.deployment
    for file in compare.unused_disks(evidence):
        top, _, rest = file.path.partition('/')
        if top != compare.QUARANTINE_PATH:
            continue
        folder, _, origin = rest.partition('/')
        record, digested = _of_folder([folder])
        if digested and (not own or digested != names.digest(own)):
            continue
        if record is not None:
            record = dataclasses.replace(record, origin=origin)
        yield Item(
            'file', file.path.rpartition('/')[2], file.reference,
            evidence.names.in_path(origin), file.place, file.size_bytes,
            record, bool(digested), datastore=file.datastore,
            hindrance=OLD if record is None else '')


def digest_in(path: str) -> str:
    """Digest of the deployment whose sweep moved a file; '': unknown.

    :param path: within its datastore
    """
    top, _, rest = path.partition('/')
    return ('' if top != compare.QUARANTINE_PATH
            else _of_folder([rest.partition('/')[0]])[1])


def _of_folder(names: list[str]) -> tuple[Record | None, str]:
    """The record and the deployment's digest in a folder's name."""
    found = _FOLDER.fullmatch(names[0]) if names else None
    if found is None:
        return None, ''
    return (Record(found['kind'], at=found['at'], origin=found['origin']),
            found['digest'])
