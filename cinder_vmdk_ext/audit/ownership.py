# SPDX-License-Identifier: Apache-2.0
"""Decides whether a VM or a disk belongs to a volume.

It uses values that were read before, and makes no calls. Evidence for it is an
instance UUID, a disk's UUID, a name, or the record of a sweep. Evidence
against it cannot be overridden: another deployment's mark, another volume's
record, another VM that has the disk. To accept a doubt, an operator must give
the doubtful value, and so has seen it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext import names

# The delta after a snapshot: 'disk-000001.vmdk' of 'disk.vmdk'.
_DELTA = re.compile(r'-\d{6}(?=\.vmdk$)')


class Candidate(NamedTuple):
    """A VM with its disk, or a disk that no VM has."""

    disk: str  # '[datastore] path', as compare.Machine.disks has it
    path: str  # within the datastore
    disk_uuid: str
    size_gib: int  # rounded up
    machine: compare.Machine | None = None
    is_delta: bool = False
    beside: tuple[str, ...] = ()  # files in the folder of a disk without VM
    of_deployment: str = ''  # digest of the deployment, if in quarantine
    # Instances (UUIDs) in which Nova marked this disk as the volume's.
    attached_in: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """A name for it in messages."""
        vm = self.machine
        return f'VM {vm.name} ({vm.moref})' if vm else self.disk


class Doubt(NamedTuple):
    """A doubt, which an operator can accept by its value."""

    why: str
    value: str


class Judgement(NamedTuple):
    """The evidence for a candidate and against it."""

    shown_by: tuple[str, ...]
    refusal: str  # why it cannot be the volume's; '': it can be
    doubts: tuple[Doubt, ...]


def judge(evidence: compare.Evidence, volume: compare.Volume, size_gib: int,
          candidate: Candidate) -> Judgement:
    """Judge whether a candidate belongs to a volume.

    :param size_gib: the volume's size
    """
    judge_it = _Judge(evidence, volume, candidate)
    shown_by, weak = judge_it.shown_by()
    doubts = []
    about = candidate.disk_uuid or candidate.disk
    if weak and not shown_by:
        doubts.append(Doubt(weak, about))
    elif not shown_by:
        doubts.append(Doubt(
            'neither its name nor a UUID or mark shows that it is this '
            "volume's", about))
    if candidate.size_gib != size_gib:
        doubts.append(Doubt(
            f'its disk has {candidate.size_gib} GiB and the volume '
            f'{size_gib} GiB' + (
                '; it is extended' if candidate.size_gib < size_gib
                else '; it stays larger'), f'{candidate.size_gib}GiB'))
    return Judgement(shown_by or ((weak,) if weak else ()),
                     next(judge_it.refusals(), ''), tuple(doubts))


class _Judge:
    """Compares one candidate with all the evidence."""

    def __init__(self, evidence: compare.Evidence, volume: compare.Volume,
                 candidate: Candidate) -> None:
        self._evidence = evidence
        self._volume = volume
        self._candidate = candidate
        # The name of a volume that was migrated contains another id.
        self._own = {volume.id, evidence.names.volume_id(volume.name)} - {''}
        self._records = {each.id for each in evidence.volumes} | {
            evidence.names.volume_id(each.name) for each in evidence.volumes
            } | {each.id for each in evidence.snapshots}

    def _signs(self) -> Iterator[tuple[str, str]]:
        """Properties that name a volume or snapshot, each with the id."""
        named, vm = self._evidence.names, self._candidate.machine
        if vm is not None:
            yield 'its instance UUID', vm.uuid
            yield 'its name', named.volume_id(vm.name)
            yield 'the record of a sweep', vm.quarantined
        if not self._candidate.is_delta:
            # A delta has the UUID of its parent.
            yield "its disk's UUID", self._candidate.disk_uuid
        yield "its disk's path", named.in_path(self._candidate.path)

    def shown_by(self) -> tuple[tuple[str, ...], str]:
        """What shows that it is the volume's, and what may be misleading."""
        found = tuple(what for what, of in self._signs() if of in self._own)
        vm = self._candidate.machine
        if vm is None:
            return found, ''
        if vm.replaced in self._own:
            return (), ('an operation replaced it by another VM, so that its '
                        'content may be older')
        if self._evidence.names.temporary_of(vm.name) in self._own:
            return (), ('an operation made it that did not end, so that its '
                        'content may be incomplete')
        if found:
            return found, ''
        return (), ('it has the mark of the volume, which a copy of its VM '
                    'has too' if vm.volume_id in self._own else '')

    def refusals(self) -> Iterator[str]:
        """Why it cannot be the volume's, each with the remedy."""
        yield from self._of_owner()
        vm = self._candidate.machine
        for other in self._evidence.machines:
            uses = self._candidate.disk in other.disks or (
                vm is None and self._candidate.disk in {
                    path for path, _size in other.files})
            if not uses or other.moref == (vm and vm.moref):
                continue
            if other.uuid not in self._volume.attached_to:
                yield (f'{other.name} ({other.moref}) also uses its disk; '
                       'remove the disk from that VM and keep the file')
            elif not self._is_attached_in(other):
                yield (f'{other.name} ({other.moref}), to which the volume '
                       'is attached, uses it, but Nova did not attach it '
                       'there as this volume: it may be a disk of the '
                       "instance's own")
        path = _DELTA.sub('', self._candidate.path)
        if vm is None and (path != self._candidate.path or any(
                each != path and _DELTA.sub('', each) == path
                for each in self._candidate.beside)):
            yield ('it is part of a chain of snapshot files; register its VM '
                   'again from the .vmx file in its folder, and relink the '
                   'volume to that VM')

    def _is_attached_in(self, instance: compare.Machine) -> bool:
        """Whether an instance has the disk as this volume."""
        return instance.uuid in self._candidate.attached_in or (
            not self._candidate.is_delta
            and self._candidate.disk_uuid in self._own)

    def _of_owner(self) -> Iterator[str]:
        vm, own = self._candidate.machine, self._evidence.deployment
        digest = names.digest(own) if own else ''
        if (vm and vm.deployment and vm.deployment != own) or (
                self._candidate.of_deployment not in ('', digest)):
            yield 'another deployment of Cinder made it; relink it there'
        if vm is not None and vm.snapshot_id:
            yield (f'it holds the snapshot {vm.snapshot_id}; create a volume '
                   'from that snapshot')
        if vm is not None and not (
                vm.ours or self._own & {
                    vm.uuid, vm.volume_id,
                    self._evidence.names.volume_id(vm.name)}):
            yield ("it is not a volume's VM; remove the disk from it, keep "
                   'the file, and relink the volume to the file')
        for what, of in self._signs():
            if of in self._records - self._own:
                yield (f'{what} is that of {of}, which has a record in '
                       'Cinder; check both before you use either')
        if vm is not None and vm.volume_id and vm.volume_id not in self._own:
            yield (f'it has the mark of volume {vm.volume_id}; if that volume '
                   'no longer exists, remove cinder.volume.id from the extra '
                   'configuration of the VM')
