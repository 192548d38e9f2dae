# SPDX-License-Identifier: Apache-2.0
"""Gives a lost volume a VM or disk that belongs to it.

:mod:`cinder_vmdk_ext.audit.ownership` judges whether it does. The VM is
prepared first; the last step gives it the volume's name, instance UUID and
marks at once. A relink that was interrupted can be repeated.
"""

import dataclasses
import random
from collections.abc import Callable
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.audit import aside
from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import ownership
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import placement
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import manage
from cinder_vmdk_ext.volumes import manageable
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

_IN_PLACE = ('it is its VM',)
_CLEARED = dict.fromkeys((
    shadow.UNMANAGED, shadow.REPLACED, shadow.TAKING, shadow.QUARANTINED,
    shadow.QUARANTINED_NAME, shadow.QUARANTINE_RECORD), '')


@dataclasses.dataclass(frozen=True)
class Plan:
    """The decision of a relink, and its steps."""

    target: str  # the VM or the disk
    shown_by: tuple[str, ...]  # the evidence that it is the volume's
    steps: tuple[str, ...]  # the changes in order; empty: nothing to do
    disk: shadow.ScannedDisk
    machine: compare.Machine | None  # None: the disk gets a VM
    present: compare.Machine | None = None  # the volume's VM, without disk
    attached: bool = False
    grows: bool = False
    record: dict[str, Any] = dataclasses.field(default_factory=dict)


class Relink:
    """Plans and carries out relinks."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 taker: manage.Manage, replacement: replace.Replacement,
                 scan: Callable[[], disk_scan.DiskScan],
                 alone: Callable[[], AbstractContextManager[None]]) -> None:
        """:param scan: returns the reader of the vCenter's disks
        :param alone: returns the lock of manage (:func:`locks.manage`)
        """
        self._upstream = cinder
        self._selection = selection
        self._manage = taker
        self._replacement = replacement
        self._scan = scan
        self.alone = alone

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    # -- Deciding -----------------------------------------------------------

    def plan(self, volume: Any, evidence: compare.Evidence, *,
             vm: str | None = None, disk: str | None = None,
             accepted: Collection[str] = ()) -> Plan:
        """Decide what a relink must do; changes nothing.

        :param evidence: at least the records and all VMs
        :param vm: the VM's moref, name or inventory path
        :param disk: instead of ``vm``: '[datastore] folder/name.vmdk'
        :param accepted: values of doubts that the operator accepts
        :raises RelinkRefused: with the reason and the remedy
        :raises UnknownObject: there is no such VM or disk, or several
        """
        record = next(each for each in evidence.volumes
                      if each.id == volume['id'])
        present = compare.Comparison(evidence).used(record.id)
        machine, found = (
            (_named(vm, evidence), None) if vm is not None
            else self._disk_named(disk or '', evidence, record))
        if machine is None and found is None:
            if present is None or not self._is_whole(present):
                raise exceptions.UnknownObject(
                    f'there is no disk {disk!r}; give a path like '
                    "'[datastore] folder/name.vmdk'")
            # A repeated relink: the volume's VM has the disk already.
            machine = present
        if machine is not None:
            found = self._disk_of(machine)
        assert found is not None
        candidate = self._candidate(found, machine, record, evidence)
        if machine is None or present is None or (
                present.moref != machine.moref):
            self._check_lost(volume, record, present)
        elif not machine.template and not machine.set_aside:
            return self._in_place(volume, found, machine, candidate)
        shown_by = self._check(volume, record, evidence, found, candidate,
                               accepted)
        plan = Plan(candidate.title, shown_by, (), found, machine,
                    present, bool(record.attached_to),
                    found.size_gib < volume['size']
                    and not record.attached_to,
                    self._manage.update_of(volume, found))
        return dataclasses.replace(plan, steps=tuple(_steps(volume, plan)))

    def _in_place(self, volume: Any, found: shadow.ScannedDisk,
                  machine: compare.Machine,
                  candidate: ownership.Candidate) -> Plan:
        """The plan if the VM is the volume's: only its record may be wrong."""
        if self._ops.missing_file(_vm(machine)) is not None:
            raise exceptions.RelinkRefused(
                f'the file {candidate.disk}, which {candidate.title} names, '
                'is gone; relink the volume to a disk that exists')
        update = self._manage.update_of(volume, found)
        plan = Plan(candidate.title, _IN_PLACE, (), found, machine,
                    record=update)
        return plan if records.says(volume, update) else dataclasses.replace(
            plan, steps=(_record_step(volume, update),))

    def _check_lost(self, volume: Any, record: compare.Volume,
                    present: compare.Machine | None) -> None:
        """Refuse a volume that is not lost."""
        if not record.at_rest:
            raise exceptions.RelinkRefused(
                f'the volume is {record.status}; wait for that to end, or '
                'reset its state')
        if state.is_promised(volume):
            raise exceptions.RelinkRefused(
                'the volume never had a disk; its first use creates one. To '
                'use an existing disk, delete the volume and use cinder '
                'manage')
        if present is not None and self._is_whole(present):
            raise exceptions.RelinkRefused(
                f'the volume is not lost: {present.name} ({present.moref}) '
                'is its VM, and has its disk')

    def _is_whole(self, machine: compare.Machine) -> bool:
        return bool(machine.disk_count) and (
            self._ops.missing_file(_vm(machine)) is None)

    def _check(self, volume: Any, record: compare.Volume,
               evidence: compare.Evidence, found: shadow.ScannedDisk,
               candidate: ownership.Candidate,
               accepted: Collection[str]) -> tuple[str, ...]:
        """Refuse what is not the volume's.

        :returns: the evidence that it is
        """
        judged = ownership.judge(evidence, record, volume['size'], candidate)
        if judged.refusal:
            raise exceptions.RelinkRefused(
                f'{candidate.title}: {judged.refusal}')
        why = manageable.obstacle(
            _as_left_behind(found), (), self._selection.inventory(),
            self._selection.settings)
        if why and not (record.attached_to and candidate.machine is None):
            raise exceptions.RelinkRefused(f'{candidate.title}: {why}')
        left = [each for each in judged.doubts if each.value not in accepted]
        if left:
            raise exceptions.RelinkRefused(
                f'{candidate.title}: ' + '; '.join(
                    f'{each.why} (accept it with --accept {each.value!r})'
                    for each in left))
        return judged.shown_by

    # -- Finding the VM or disk ---------------------------------------------

    def _disk_named(self, text: str, evidence: compare.Evidence,
                    record: compare.Volume
                    ) -> tuple[compare.Machine | None,
                               shadow.ScannedDisk | None]:
        """The VM that has a disk; or the disk, if only an instance has it.

        :returns: (None, None): there is no such disk
        """
        seen = self._selection.inventory()
        key = collect.reference(text, seen)
        users = [vm for vm in evidence.machines if key in vm.disks]
        instances = [vm for vm in users if vm.uuid in record.attached_to]
        others = [vm for vm in users if vm not in instances]
        if others:  # the judgement considers all of them
            return others[0], None
        if instances:
            return None, next(
                dataclasses.replace(each, machine=None) for each
                in self._scan().disks([instances[0].moref])
                if self._key(each) == key)
        return None, self._file_named(text, record)

    def _file_named(self, text: str, record: compare.Volume
                    ) -> shadow.ScannedDisk | None:
        """A disk without a VM; None: there is none at this path.

        Datastores of two datacenters may have one name. The volume's is then
        the one whose disk has its UUID.
        """
        seen = self._selection.inventory()
        found: dict[tuple[str, ...], shadow.ScannedDisk] = {}
        for datastore, path in seen.located(text):
            file = self._scan().file(datastore, path) if (
                path.lower().endswith('.vmdk')) else None
            if file is not None:
                shown = (each.moref for each in seen.same_storage(datastore))
                found.setdefault(
                    (path, *sorted(shown)), dataclasses.replace(
                        file, uuid=self._ops.file_uuid(
                            datastore.moref,
                            manageable.full_path(file, seen))))
        own = [each for each in found.values() if each.uuid == record.id]
        if len(found) > 1 and len(own) != 1:
            raise exceptions.UnknownObject(
                f'{len(found)} datastores have a disk {text!r}; rename one of '
                'the datastores, and repeat')
        return next(iter(own or found.values()), None)

    def _disk_of(self, machine: compare.Machine) -> shadow.ScannedDisk:
        found = self._scan().disks([machine.moref])
        if len(found) != 1:
            raise exceptions.RelinkRefused(
                f'VM {machine.name} ({machine.moref}) has {len(found)} disks; '
                "give the volume's disk with --disk")
        return found[0]

    def _key(self, disk: shadow.ScannedDisk) -> str:
        seen = self._selection.inventory()
        return collect.reference(manageable.full_path(disk, seen), seen)

    def _candidate(self, disk: shadow.ScannedDisk,
                   machine: compare.Machine | None, record: compare.Volume,
                   evidence: compare.Evidence) -> ownership.Candidate:
        key = self._key(disk)
        attached_in = frozenset(
            vm.uuid for vm in evidence.machines
            if vm.uuid in record.attached_to and key in vm.disks
            and self._attached_disk(vm, record) == disk.uuid)
        beside = () if machine else tuple(self._scan().beside(
            self._selection.inventory().datastores[disk.datastore],
            disk.path))
        return ownership.Candidate(
            key, disk.path, disk.uuid, disk.size_gib, machine,
            bool(disk.parent), beside, aside.digest_in(disk.path),
            attached_in)

    def _attached_disk(self, instance: compare.Machine,
                       record: compare.Volume) -> str:
        """The UUID of the disk that Nova attached as a volume; '': none.

        Nova's driver sets this key in an instance's extra configuration.
        """
        key = f'volume-{record.id}'
        return disk_scan.mark_of(self._ops.properties(
            _vm(instance), f'config.extraConfig["{key}"]'), key).lower()

    # -- Acting -------------------------------------------------------------

    def carry_out(self, volume: Any, plan: Plan) -> None:
        """Carry out a plan; the caller holds the locks of volume and manage.

        :raises RelinkRefused: the volume's record changed meanwhile
        :raises VimException: by oslo.vmware; the call may be repeated
        """
        if not plan.steps:
            return
        if plan.shown_by != _IN_PLACE:
            self._give(volume, plan)
        if not records.says(volume, plan.record) and not records.change(
                volume, plan.record):
            raise exceptions.RelinkRefused(
                'the disk is in its place, but another operation changed the '
                "volume's record meanwhile; repeat the command")
        LOG.info('Volume %(volume)s was relinked to %(target)s.',
                 {'volume': volume['id'], 'target': plan.target})

    def _give(self, volume: Any, plan: Plan) -> None:
        if plan.present is not None:
            self._replacement.set_aside(volume, _vm(plan.present))
        if plan.machine is None:
            self._manage.take_disk(volume, plan.disk, plan.attached)
        else:
            self._give_machine(volume, plan, plan.machine)
        if plan.grows:
            self._replacement.grow(self._ops.get_backing(
                volume['name'], volume['id']), volume['size'])
        if plan.present is not None and _is_empty(plan.present):
            self._replacement.discard(_vm(plan.present))

    def _give_machine(self, volume: Any, plan: Plan,
                      machine: compare.Machine) -> None:
        vm = _vm(machine)
        if machine.template:
            self._unmark(plan.disk, vm)
        if machine.set_aside or not machine.at_home:
            # First: a VM in the quarantine folder counts as in quarantine.
            self._ops.move_backing_to_folder(
                vm, self._upstream.volume_folder(
                    self._ops.get_dc(vm), volume['project_id']))
        self._manage.take_over(volume, plan.disk, _CLEARED, plan.attached)

    # -- Registering again --------------------------------------------------

    def check_registering(self, volume: Any, evidence: compare.Evidence,
                          path: str) -> None:
        """Refuse to register a VM for a volume that is not lost.

        :param path: '[datastore] folder/name.vmx'
        :raises RelinkRefused: the volume is not lost, or a VM has the file's
            folder
        """
        record = next(each for each in evidence.volumes
                      if each.id == volume['id'])
        self._check_lost(volume, record,
                         compare.Comparison(evidence).used(record.id))
        seen = self._selection.inventory()
        folder = collect.reference(path, seen).rpartition('/')[0]
        for vm in evidence.machines:
            if vm.folder == folder:
                raise exceptions.RelinkRefused(
                    f'{vm.name} ({vm.moref}) is registered from this folder; '
                    'give it with --vm')

    def register(self, volume: Any, path: str) -> str:
        """Put a volume's VM into the inventory again (RegisterVM_Task).

        :param path: '[datastore] folder/name.vmx'
        :returns: the VM's moref
        :raises UnknownObject: there is no such datastore or file
        """
        where, folder = self._register_on(path, volume['project_id'], False)
        return str(self._ops.register(folder, path, where.resource_pool,
                                      where.host.moref))

    def register_template(self, snapshot: Any, path: str) -> str:
        """The same of a snapshot's template, by its .vmtx file."""
        where, folder = self._register_on(
            path, snapshot['volume']['project_id'], True)
        return str(self._ops.register(folder, path, None, where.host.moref,
                                      snapshot['name']))

    def unregister(self, moref: str) -> None:
        """Take a VM out of the inventory, and keep its files."""
        self._ops.unregister(references.Ref('VirtualMachine', moref))

    def _register_on(self, path: str, project_id: str,
                     snapshot: bool) -> tuple[Any, Any]:
        seen = self._selection.inventory()
        found = seen.located(path)
        if not found:
            raise exceptions.UnknownObject(
                f'{path!r} is on no datastore; give a path like '
                "'[datastore] folder/name.vmx'")
        datastore = found[0][0]
        where = placement.register_on(
            datastore, seen, self._selection.settings, random.choice)
        if where is None:
            raise exceptions.NoPlacement('the VM', {
                datastore.plain_name: 'no host that may be chosen can use it'})
        return where, self._upstream.volume_folder(
            references.Ref('Datacenter', datastore.datacenter or ''),
            project_id, snapshot)

    def _unmark(self, disk: shadow.ScannedDisk, vm: Any) -> None:
        seen = self._selection.inventory()
        datastore = seen.datastores[disk.datastore]
        where = placement.register_on(
            datastore, seen, self._selection.settings, random.choice)
        if where is None:
            raise exceptions.NoPlacement('the VM', {
                datastore.plain_name: 'no host that may be chosen can use it'})
        self._ops.unmark_template(vm, where.resource_pool, where.host.moref)


def _named(text: str, evidence: compare.Evidence) -> compare.Machine:
    for names in (lambda vm: (vm.moref,), lambda vm: (vm.path.strip('/'),),
                  lambda vm: (vm.name, model.plain_name(vm.name))):
        found = [vm for vm in evidence.machines
                 if text.strip('/') in names(vm)]
        if len(found) == 1:
            return found[0]
        if found:
            raise exceptions.UnknownObject(
                f'{len(found)} VMs have the name {text!r}; give one of '
                + ', '.join(sorted(vm.moref for vm in found)))
    raise exceptions.UnknownObject(
        f'there is no VM {text!r}; give its reference (vm-12), its name or '
        'its inventory path')


def _as_left_behind(disk: shadow.ScannedDisk) -> shadow.ScannedDisk:
    """The disk as if of a shadow VM without a volume, and no template."""
    return disk if disk.machine is None else dataclasses.replace(
        disk, machine=dataclasses.replace(disk.machine, left_behind=True,
                                          template=False))


def _steps(volume: Any, plan: Plan) -> list[str]:
    found = []
    if plan.present is not None:
        found.append(
            f'{plan.present.name} ({plan.present.moref}) is '
            + ('deleted: it has no disk' if _is_empty(plan.present)
               else 'marked as replaced'))
    vm = plan.machine
    if vm is None:
        found.append('a VM is made for the disk' + (
            '' if plan.attached else ', which is moved into its folder'))
    else:
        if vm.template:
            found.append('it becomes a VM, from a template')
        if vm.set_aside or not vm.at_home:
            found.append("it is moved to the folder of the volume's project")
        found.append('it gets the name, the instance UUID and the marks of '
                     'the volume')
    if plan.grows:
        found.append(f'its disk is extended to {volume["size"]} GiB')
    if not records.says(volume, plan.record):
        found.append(_record_step(volume, plan.record))
    return found


def _record_step(volume: Any, update: dict[str, Any]) -> str:
    return 'its record: ' + ', '.join(
        f'{field} becomes {value}' for field, value in update.items()
        if volume[field] != value)


def _is_empty(machine: compare.Machine) -> bool:
    return not machine.disk_count and not machine.points


def _vm(machine: compare.Machine) -> Any:
    return references.Ref('VirtualMachine', machine.moref)
