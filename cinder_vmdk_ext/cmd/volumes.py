# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext volume list`` and ``volume show``."""

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_utils import units

from cinder.volume import volume_types

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import remedies
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices

_MARKS = (shadow.VOLUME_ID, shadow.SNAPSHOT_ID, shadow.UNMANAGED,
          shadow.REPLACED, shadow.DEPLOYMENT)
_TASK = ('info.descriptionId', 'info.state', 'info.progress')
_COLUMNS = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('id', 'ID'),
    columns.Column('name', 'Name'),
    columns.Column('status', 'Status'),
    columns.Column('size_bytes', 'Size', columns.size),
    columns.Column('pool', 'Pool'),
    columns.Column('backing', 'Backing'),
    columns.Column('vm', 'VM', long=True),
    columns.Column('vm_name', 'VM name', long=True),
    columns.Column('datastore', 'Datastore', telling=True),
    columns.Column('attached_to', 'Attached to', columns.listed, long=True),
    columns.Column('snapshots', 'Snapshots', long=True),
    columns.Column('differences', 'Differences', columns.listed))


class _VolumeSeen(NamedTuple):
    """A volume: its record, its VM and the findings about it."""

    record: Any
    compared: compare.Volume
    vm: compare.Machine | None
    findings: list[compare.Finding]

    @property
    def backing(self) -> str:
        """The state of its disk, in one word or a few."""
        if self.vm is not None:
            return 'present'
        if any(each.kind == 'lost' for each in self.findings):
            return 'lost'
        return 'missing' if self.compared.backed else 'not made yet'


class _OfVolumes(command.OfBackends):
    """A command that reads volumes."""

    def seen(self, opened: Any) -> list[_VolumeSeen]:
        """The volumes of a backend, by name."""
        reader = collect.EvidenceReader(opened)
        evidence = reader.without_files()
        comparison = compare.Comparison(evidence)
        findings: dict[str, list[compare.Finding]] = {}
        for each in comparison.findings():
            findings.setdefault(each.owner, []).append(each)
        return sorted(
            (_VolumeSeen(reader.records[each.id], each,
                         comparison.used(each.id), findings.get(each.id, []))
             for each in evidence.volumes if each.mine),
            key=lambda found: (found.record.display_name or '',
                               found.compared.id))

    def judge(self, seen: Iterable[_VolumeSeen]) -> None:
        """Set the exit status by the findings."""
        kinds = {each.kind for found in seen for each in found.findings}
        self.app.found |= bool(kinds)
        self.app.lost |= 'lost' in kinds


class ListVolume(_OfVolumes, command.Listing):
    """List the volumes of a backend: record, VM, and their differences.

    The differences are kinds of findings of the command audit, which also
    searches the datastores for files. Exits with 3 if there is a difference,
    and with 4 if a volume is lost.
    """

    COLUMNS = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--pool', metavar='NAME',
                            help='only volumes whose host names this pool')
        parser.add_argument('--different', action='store_true',
                            help='only volumes with a difference')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read and compare them."""
        rows = []
        known: set[str] = set()
        for name, opened in self.opened(parsed_args):
            seen = [each for each in self.seen(opened)
                    if parsed_args.pool in (None, each.compared.pool)
                    and (each.findings or not parsed_args.different)]
            if parsed_args.pool is not None:
                known |= _pools(opened, seen)
            self.judge(seen)
            rows += [_row(name, each) for each in seen]
        if parsed_args.pool is not None and parsed_args.pool not in known:
            with self.calling(LookupError):
                raise LookupError(
                    f'there is no pool {parsed_args.pool!r}; the pools are '
                    + exceptions.shortened(sorted(known)))
        return rows


def _pools(opened: Any, seen: Iterable[_VolumeSeen]) -> set[str]:
    """The pools of a backend, and those that volumes still name."""
    return {each.compared.pool for each in seen} | {
        each.name for each in pool_names.listed(opened.inventory(),
                                                opened.settings)}


class ShowVolume(_OfVolumes, command.Showing):
    """Show a volume: record, VM, disk, policy, tasks and differences.

    Whether an operation holds the volume's lock is only right if this machine
    and the services share locks. The exit status is that of volume list.
    """

    COLUMNS = (
        *_COLUMNS[:-1],
        columns.Column('disk', 'Disk'),
        columns.Column('disk_bytes', 'Size of the disk', columns.size),
        columns.Column('provisioning', 'Provisioning'),
        columns.Column('adapter', 'Adapter'),
        columns.Column('chain', 'Chain of files', columns.listed),
        columns.Column('policy', "The type's policy"),
        columns.Column('policy_complies', 'The datastore complies',
                       columns.truth),
        columns.Column('tasks', 'Tasks that run', columns.listed),
        columns.Column('marks', 'Marks', columns.listed),
        columns.Column('locked', 'Locked', columns.truth),
        columns.Column('differences', 'Differences', columns.listed))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('volume', metavar='VOLUME',
                            help='id or name of the volume')
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Find the volume, and read its VM.

        A project may name its volume as it likes, also by another's id.
        """
        wanted = parsed_args.volume
        found: list[tuple[columns.Row, _VolumeSeen]] = []
        for name, opened in self.opened(parsed_args):
            seen = self.seen(opened)
            exact = [each for each in seen
                     if wanted in (each.compared.id, each.compared.name)]
            rows = [(self._whole(name, opened, each), each)
                    for each in exact or seen
                    if exact or wanted == each.record.display_name]
            if exact:
                found = rows
                break
            found += rows
        self.judge(each for _row, each in found)
        with self.calling(exceptions.UnknownObject):
            if len(found) != 1:
                raise exceptions.UnknownObject(
                    f'{len(found)} volumes of these backends have the id or '
                    f'name {wanted!r}; give an id that volume list shows')
        return found[0][0]

    def _whole(self, name: str, opened: Any, seen: _VolumeSeen) -> columns.Row:
        return (*_row(name, seen)[:-1], *_disk(opened, seen),
                *_policy(opened, seen), list(_tasks(opened, seen)),
                _marks(opened, seen), self._is_locked(seen.compared.id),
                [f'{each.kind}: {each.detail} ({remedies.remedy(each)})'
                 for each in seen.findings])

    def _is_locked(self, volume_id: str) -> bool:
        with self.app.backends.locking(), locks.volume_if_free(
                volume_id) as had:
            return not had


def _row(backend: str, seen: _VolumeSeen) -> columns.Row:
    vm = seen.vm
    return (
        backend, seen.compared.id, seen.record.display_name or '',
        seen.compared.status, seen.record.size * units.Gi,
        seen.compared.pool, seen.backing, vm.moref if vm else None,
        vm.name if vm else None, vm.place if vm else None,
        list(seen.compared.attached_to), len(vm.points) if vm else None,
        sorted({each.kind for each in seen.findings}))


def _disk(opened: Any, seen: _VolumeSeen) -> columns.Row:
    """Path, capacity, provisioning, adapter and chain of the disk."""
    if seen.vm is None:
        return (None,) * 5
    devices = opened.volumeops.devices_of(_ref(seen.vm))
    disks = virtual_devices.disks(devices)
    if len(disks) != 1:
        return (f'the VM has {len(disks)} disks', *(None,) * 4)
    disk = disks[0]
    return (disk.path, disk.capacity_bytes, disk.provisioning,
            virtual_devices.adapter_of(disk, devices), list(disk.chain))


def _policy(opened: Any, seen: _VolumeSeen) -> tuple[str, bool | None]:
    """The policy of the type, and whether the VM's datastore complies."""
    type_id = seen.record.volume_type_id
    specs = (volume_types.get_volume_type_extra_specs(type_id)
             if type_id else {})
    policy = specs.get(extra_specs.POLICY) or ''
    if not policy or seen.vm is None:
        return policy, None
    refs = opened.volumeops.properties(
        _ref(seen.vm), 'datastore').get('datastore') or ()
    complying = opened.directory.compliant_datastores(policy)
    return policy, bool(refs) and all(
        ref.value in complying for ref in refs)


def _tasks(opened: Any, seen: _VolumeSeen) -> Iterator[str]:
    if seen.vm is None:
        return
    for task in opened.volumeops.properties(
            _ref(seen.vm), 'recentTask').get('recentTask') or ():
        try:
            facts = opened.volumeops.properties(task, *_TASK)
        except exceptions.VMWARE_ERRORS:
            continue  # the vCenter has removed the task meanwhile
        if facts.get('info.state') in ('queued', 'running'):
            yield (f'{facts.get("info.descriptionId")} ({task.value}): '
                   f'{facts["info.state"]}, '
                   f'{facts.get("info.progress") or 0} %')


def _marks(opened: Any, seen: _VolumeSeen) -> list[str]:
    if seen.vm is None:
        return []
    found = opened.volumeops.properties(_ref(seen.vm), *(
        f'config.extraConfig["{mark}"]' for mark in _MARKS))
    return [f'{mark}={value}' for mark in _MARKS
            for value in [disk_scan.mark_of(found, mark)] if value]


def _ref(vm: compare.Machine) -> references.Ref:
    return references.Ref('VirtualMachine', vm.moref)
