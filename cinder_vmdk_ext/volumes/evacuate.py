# SPDX-License-Identifier: Apache-2.0
"""Empties a pool: plans the moves, and makes them.

A move runs beside the services of the backend. Two things keep them away from
the volume: the lock under which they change its VM, and its record, which says
that it is being moved, so that Cinder's API begins no operation. After an
interrupted move, the record still says so, and the next run ends the move.
"""

import contextlib
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import units
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context
from cinder import exception
from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

#: The ``migration_status`` of a volume while it is moved.
MOVING = 'vmdk-ext:moving'
_DETACHED = ('RelocateVM_Task',)
_ATTACHED = ('RelocateVM_Task (instance)', 'ReconfigVM_Task',
             'RelocateVM_Task')
_NO_POOL = ('its VM is on a datastore that is no pool of this backend; move '
            'the VM to one in vSphere, or make its datastore a pool')
# They count as at rest, but their next operation does not check the record.
_TAKEN = frozenset({'reserved', 'error_deleting', 'error_managing'})


class Step(NamedTuple):
    """An object that has to leave the pool, or the reason why it stays."""

    thing: str  # volume, promise, record, snapshot; or vm, template, file
    id: str  # of a record; else the reference
    name: str
    status: str = ''
    machine: str = ''  # moref
    attached_to: tuple[str, ...] = ()
    space_bytes: int = 0
    pool: str = ''  # where it goes
    calls: tuple[str, ...] = ()
    free_after_bytes: int | None = None  # of the datastore that it goes to
    why_not: str = ''  # why it stays; '': it can move


class Evacuation:
    """Empties one pool of a backend."""

    def __init__(self, backend: Any, pool: pool_names.Pool,
                 targets: Collection[pool_names.Pool]) -> None:
        """:param backend: a Backend that is connected
        :param targets: pools to move to; empty: all that can take it
        """
        self._backend = backend
        self._pool = pool
        inventory = self._inventory = backend.inventory()
        #: The pool's datastores; several datacenters may show one storage.
        self._here = {each.moref for datastore in pool.datastores
                      for each in inventory.same_storage(datastore)}
        self._storages = frozenset(collect.storage(each, inventory)
                                   for each in pool.datastores)
        wanted = {each.moref for target in targets
                  for each in target.datastores} or set(inventory.datastores)
        self._excluded = tuple(sorted(
            set(inventory.datastores) - wanted | self._here))
        self._names = pool_names.by_datastore(inventory, backend.settings)
        self._free: dict[str, int] = {}
        self._disks: set[str] = set()
        #: Volumes by their ids, as they were when the plan was made.
        self._records: dict[str, Any] = {}

    # -- Planning -----------------------------------------------------------

    def plan(self) -> list[Step]:
        """The moves, in their order, and then what cannot move.

        Changes nothing. First are records that only have to be corrected,
        then detached objects, the largest first, then attached ones.
        """
        reader = collect.EvidenceReader(self._backend)
        evidence = reader.read(self._here)
        self._records = reader.volumes(
            each.id for each in evidence.volumes if each.mine)
        comparison = compare.Comparison(evidence)
        self._disks = {disk for each in evidence.volumes
                       for vm in [comparison.used(each.id)] if vm
                       for disk in vm.disks}
        found = [*self._volumes(evidence, comparison),
                 *self._snapshots(evidence, comparison)]
        handled = {each.machine for each in found}
        with self._backend.reservations.trial():
            moves = [self._placed(each) for each in sorted(
                found, key=lambda each: (
                    bool(each.why_not), each.thing != 'record',
                    bool(each.attached_to), -each.space_bytes, each.name))]
        return moves + list(self._others(evidence, comparison, handled))

    def _volumes(self, evidence: compare.Evidence,
                 comparison: compare.Comparison) -> Iterator[Step]:
        for each in evidence.volumes:
            vm = comparison.used(each.id)
            here = vm is not None and self._is_here(vm)
            if here and not each.mine:
                yield _of_volume(each, vm, why_not='it is a volume of another '
                                 'backend; run the command for that backend')
            elif each.mine and (here or self._is_named(each)
                                or self._records[each.id].migration_status
                                == MOVING):
                yield self._volume(each, vm, here)

    def _is_named(self, volume: compare.Volume) -> bool:
        if volume.pool == self._pool.name:
            return True
        found = pool_names.resolve(volume.pool, self._inventory,
                                   self._backend.settings)
        return found is not None and found.name == self._pool.name

    def _volume(self, found: compare.Volume, vm: compare.Machine | None,
                here: bool) -> Step:
        volume = self._records[found.id]
        why_not = _busy(volume)
        if vm is not None and here:
            return _of_volume(
                found, vm, why_not=why_not, calls=_ATTACHED
                if found.attached_to else _DETACHED)
        if vm is not None:
            # If its datastore is no pool, the record cannot be corrected.
            return _of_volume(found, vm, 'record', pool=vm.pool or '',
                              why_not=why_not or ('' if vm.pool else _NO_POOL))
        if state.is_promised(volume):
            return _of_volume(found, None, 'promise', why_not=why_not)
        if found.backed:
            why_not = 'its disk is lost; see audit'
        elif not why_not:
            # It failed: it has no disk, so any pool is right.
            return _of_volume(found, None, 'promise')
        return _of_volume(found, None, why_not=why_not)

    def _snapshots(self, evidence: compare.Evidence,
                   comparison: compare.Comparison) -> Iterator[Step]:
        for each in evidence.snapshots:
            for vm in comparison.templates(each.id):
                if self._is_here(vm):
                    why_not = ''
                    if not each.mine:
                        why_not = ('it is a snapshot of another backend; run '
                                   'the command for that backend')
                    elif each.status not in ('available', 'error'):
                        why_not = f'it is {each.status}'
                    yield Step('snapshot', each.id, each.name, each.status,
                               vm.moref, space_bytes=vm.space_bytes,
                               calls=_DETACHED, why_not=why_not)

    def _placed(self, step: Step) -> Step:
        """The step with its destination, whose space it claims."""
        if step.why_not or step.pool:
            return step
        try:
            moref = self._destination(step)
        except (vmware_exceptions.VimConnectionException,
                vmware_exceptions.VimFaultException):
            raise  # the cause is not this volume
        except (exceptions.VMWARE_ERRORS, exception.CinderException) as error:
            return step._replace(why_not=str(error), calls=())
        free = self._free.setdefault(
            moref, self._inventory.datastores[moref].free_bytes)
        self._free[moref] = free - step.space_bytes
        return step._replace(pool=self._names[moref],
                             free_after_bytes=self._free[moref])

    def _destination(self, step: Step) -> str:
        if step.thing == 'snapshot':
            snapshot = objects.Snapshot.get_by_id(
                cinder_context.get_admin_context(), step.id)
            with self._selecting(snapshot, None):
                _host, _pool, summary = self._select(snapshot)
            moref, size_gib = summary.datastore.value, snapshot.volume_size
        else:
            volume = self._records[step.id]
            moref = self._backend.migrate.destination(
                volume, (*self._excluded, *self._strayed(step)))
            size_gib = volume.size
        more_bytes = step.space_bytes - size_gib * units.Gi
        if more_bytes > 0:  # it has a chain of files
            self._backend.reservations.claim(moref, more_bytes, False,
                                             self._inventory)
        return str(moref)

    def _strayed(self, step: Step) -> Iterator[str]:
        """The datastore of a volume's VM, if only files of its chain are here.

        Only a move of the VM moves these files as well.
        """
        if step.thing == 'volume':
            moref = self._backend.volumeops.get_datastore(
                references.Ref('VirtualMachine', step.machine)).value
            if moref not in self._here:
                yield moref

    def _selecting(self, snapshot: Any, pool: str | None
                   ) -> contextlib.AbstractContextManager[Any]:
        # The record contains its path, which begins with the datacenter.
        datacenters = {self._inventory.datastores[moref].datacenter
                       for moref in self._here}
        away = [each.moref for each in self._inventory.datastores.values()
                if each.datacenter not in datacenters]
        selection: contextlib.AbstractContextManager[Any] = (
            self._backend.selection.selecting(
                pool, snapshot.volume.volume_type_id,
                (*self._excluded, *away)))
        return selection

    def _select(self, snapshot: Any) -> Any:
        port = self._backend.upstream
        return port.select_datastore_for(
            snapshot.volume_size * units.Gi,
            port.storage_profile(snapshot.volume))

    # -- What stays ---------------------------------------------------------

    def _is_here(self, vm: compare.Machine) -> bool:
        return any(map(self._lies_here, (
            f'{vm.folder}/', *vm.disks, *(path for path, _size in vm.files))))

    def _lies_here(self, path: str) -> bool:
        return bool(model.split_path(path, self._storages))

    def _others(self, evidence: compare.Evidence,
                comparison: compare.Comparison,
                handled: Collection[str]) -> Iterator[Step]:
        known = {each.reference: each for each in comparison.findings()}
        for vm in evidence.machines:
            if vm.moref in handled or not self._is_here(vm):
                continue
            finding = known.get(vm.moref)
            if vm.set_aside:
                why_not = 'it is in quarantine: purge it, or restore it'
            elif finding is not None:
                why_not = f'audit says: {finding.kind} ({finding.detail})'
            elif vm.ours:
                why_not = 'it does not belong to this deployment of Cinder'
            elif not self._lies_here(f'{vm.folder}/') and not any(
                    self._lies_here(disk) and disk not in self._disks
                    for disk in vm.disks):
                continue  # it has volumes of this pool, which move
            else:
                why_not = 'it is no volume; move it in vSphere'
            yield Step('template' if vm.template else 'vm', vm.moref, vm.name,
                       machine=vm.moref, space_bytes=vm.space_bytes,
                       why_not=why_not)
        for file in compare.unused_disks(evidence):
            finding = known.get(file.reference)
            yield Step(
                'file', file.reference, file.path.rpartition('/')[2],
                space_bytes=file.size_bytes, why_not=(
                    f'audit says: {finding.kind} ({finding.detail})'
                    if finding else 'no VM uses this disk, and it is not '
                    "known to be Cinder's"))

    # -- Moving -------------------------------------------------------------

    def carry_out(self, step: Step) -> str:
        """Make one move; it may be repeated.

        :returns: what was done, or why nothing was done
        :raises NoPlacement: the pool cannot take it any more
        :raises VimException: by oslo.vmware; the volume is complete, on its
            former pool or on its new one
        """
        if step.thing == 'snapshot':
            return self._move_template(step)
        with locks.volumes(step.id):
            volume = objects.Volume.get_by_id(
                cinder_context.get_admin_context(), step.id)
            return self._move_volume(volume, step)

    def _move_volume(self, volume: Any, step: Step) -> str:
        why_not = _busy(volume)
        if why_not or not _hold(volume):
            return f'left: {why_not or "an operation has begun"}'
        there = {'host': records.on_pool(volume, step.pool)['host'],
                 'capabilities': {
                     'location_info': self._backend.location_info()}}
        try:
            with self._backend.reservations.operation(volume_id=volume.id):
                moved, found = self._backend.migrate.migrate(
                    volume, there, sharing=False)
        except exceptions.OutcomeUnknown:
            raise  # the move may still be in progress
        except Exception:
            _release(volume, {})
            raise
        _release(volume, {**records.on_pool(volume, step.pool),
                          **(found or {})} if moved else {})
        if not moved:
            return 'left: the pool belongs to another vCenter'
        self._show(step)
        return 'corrected' if step.thing == 'record' else 'moved'

    def _move_template(self, step: Step) -> str:
        with locks.snapshots(step.id):
            snapshot = objects.Snapshot.get_by_id(
                cinder_context.get_admin_context(), step.id)
            if snapshot.status not in ('available', 'error'):
                return f'left: it is {snapshot.status}'
            ops = self._backend.volumeops
            vm = references.Ref('VirtualMachine', step.machine)
            with self._backend.reservations.operation():
                with self._selecting(snapshot, step.pool):
                    host, resource_pool, summary = self._select(snapshot)
                current = ops.properties(vm, 'runtime.host').get(
                    'runtime.host')
                if current is not None and self._backend.selection.is_seen_by(
                        current, lambda: summary.datastore.value):
                    host = resource_pool = None  # it stays with its host
                ops.relocate(vm, summary.datastore, host=host,
                             resource_pool=resource_pool, sharing=False)
        self._show(step)
        return 'moved'

    def _show(self, step: Step) -> None:
        """Refresh the vCenter's figures, which the services then read."""
        if step.thing in ('record', 'promise'):
            return
        pinned = self._backend.selection.pinned(step.pool) or ()
        for moref in {*pinned, *self._here}:
            self._backend.refresh_figures(moref)


def _of_volume(volume: compare.Volume, vm: compare.Machine | None,
               thing: str = 'volume', **more: Any) -> Step:
    return Step(thing, volume.id, volume.name, volume.status,
                vm.moref if vm else '', volume.attached_to,
                vm.space_bytes if vm and thing == 'volume' else 0, **more)


def _busy(volume: Any) -> str:
    """Why a volume must not be moved now; '': it may be."""
    if volume.migration_status == MOVING:
        # By an interrupted run, if its lock is free.
        with locks.volume_if_free(volume.id) as free:
            return '' if free else 'it is being moved'
    if not state.is_at_rest(volume) or volume.status in _TAKEN:
        return f'it is {volume.status}' + (
            f' ({volume.migration_status})' if volume.migration_status
            else '')
    if state.is_deleting(volume):
        return 'its deletion has begun; repeat it'
    return ''


def _hold(volume: Any) -> bool:
    """Write into the record that the volume is being moved.

    A detached volume also gets the status maintenance, as in a migration by
    Cinder; otherwise it could be attached.

    :returns: False: an operation has begun
    """
    if volume.migration_status == MOVING:
        return True
    values = {'migration_status': MOVING}
    if volume.status == 'available':
        values |= {'status': 'maintenance', 'previous_status': 'available'}
    return records.change(volume, values)


def _release(volume: Any, update: dict[str, Any]) -> None:
    """Write that the move has ended, and where the volume is."""
    values = {'migration_status': None, **update}
    if (volume.status, volume.previous_status) == ('maintenance',
                                                   'available'):
        values |= {'status': 'available', 'previous_status': None}
    before = volume.host
    if not records.change(volume, values):
        LOG.warning('The record of volume %(volume)s was changed while it was '
                    'moved; it is left as it is.', {'volume': volume.id})
    elif volume.host != before:
        records.log_move(volume, before)
