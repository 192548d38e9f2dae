# SPDX-License-Identifier: Apache-2.0
"""Corrects what an audit finds wrong with volumes and snapshots.

A disk is never deleted, and its content never changed. Where the vCenter is
right, Cinder's record is corrected through Cinder's API, if it has a call for
that.
"""

from collections.abc import Callable
from typing import Any

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

#: Causes of findings that can be corrected, and what is done.
DEEDS = {
    'gone': 'its record is removed',
    'host': 'its record names the pool of its disk',
    'backend': 'its record names this backend',
    'status': 'its status is set',
    'identity': 'its VM gets its name, instance UUID and marks',
    'folder': "its VM is moved to the folder of the volume's project",
    'foreign-disk': 'the other disks are removed from its VM, and their '
                    'files are kept',
    'small': 'its disk is extended to the size in its record',
    'large': 'it is extended in Cinder to the size of its disk',
    'adapter': 'its disk gets the adapter of its type',
    'policy': 'its disk gets the storage policy of its type',
    'io': 'its disk gets the I/O limits of its type',
    'template': 'its VM is marked as a template',
}
#: Those for which the volume or snapshot must be named: an operator has to
#: know what happened.
ONLY_NAMED = frozenset({'gone', 'backend', 'status'})
#: Those that Cinder carries out, under locks of its own.
BY_API = frozenset({'gone', 'status', 'large'})


class Correction:
    """Corrects one finding at a time."""

    def __init__(self, backend: Any, api: Callable[[], Any]) -> None:
        """:param backend: a Backend that is connected
        :param api: returns Cinder's API (cmd.volume_api.VolumeApi)
        """
        self._backend = backend
        self._ops = backend.volumeops
        self._api = api

    def mend(self, finding: compare.Finding, record: Any,
             evidence: compare.Evidence) -> None:
        """Correct a finding.

        :param record: of the volume; of a snapshot's finding: None
        :param evidence: in which it was found
        :raises RepairRefused: with the reason; nothing was changed
        :raises VolumeApiFailed, VimException: the correction failed; it may
            be repeated
        """
        vm = references.Ref('VirtualMachine',
                            finding.machine or finding.reference)
        act = {
            'gone': self._remove_record, 'host': self._correct_host,
            'backend': self._correct_backend, 'status': self._set_status,
            'identity': self._give_identity, 'folder': self._move,
            'foreign-disk': self._remove_disks, 'small': self._grow,
            'large': self._grow_record, 'adapter': self._set_adapter,
            'policy': self._set_policy, 'io': self._set_io,
            'template': self._mark_template}[finding.cause]
        act(finding, record, vm, evidence)

    def _remove_record(self, finding: compare.Finding, record: Any,
                       _vm: Any, _evidence: compare.Evidence) -> None:
        if finding.thing == 'snapshot':
            # The driver deletes nothing: the snapshot is not there.
            self._api().delete_snapshot(finding.reference)
        else:
            self._api().unmanage(record.id)

    def _correct_host(self, finding: compare.Finding, record: Any,
                      _vm: Any, _evidence: compare.Evidence) -> None:
        before = record.host
        self._backend.reconciler.correct_at_start([record])
        record.refresh()
        if record.host == before:
            raise exceptions.RepairRefused(
                'another operation changes the volume, or no pool was found')

    def _correct_backend(self, finding: compare.Finding, record: Any,
                         _vm: Any, evidence: compare.Evidence) -> None:
        vm = compare.Comparison(evidence).used(record.id)
        owner, pool = self._backend.owner, vm.pool if vm else ''
        values = {'host': f'{owner.host}#{pool}'}
        if owner.cluster_name:
            values['cluster_name'] = f'{owner.cluster_name}#{pool}'
        if not record.conditional_update(values, {
                'host': record.host, 'status': record.status}):
            raise exceptions.RepairRefused(
                "the volume's record has changed meanwhile")

    def _set_status(self, finding: compare.Finding, record: Any,
                    _vm: Any, evidence: compare.Evidence) -> None:
        if record.migration_status not in (None, '', 'success', 'error'):
            raise exceptions.RepairRefused(
                f'its migration is {record.migration_status}; use cinder '
                'reset-state --reset-migration-status')
        whole = compare.Comparison(evidence).is_whole(record.id)
        attached = any(each.instance_uuid
                       for each in record.volume_attachment)
        self._api().reset(record.id, 'in-use' if attached else (
            'available' if whole else 'error'))

    def _give_identity(self, finding: compare.Finding, record: Any,
                       vm: Any, _evidence: compare.Evidence) -> None:
        self._ops.set_identity(vm, record.name,
                               self._backend.upstream.extra_config(record))

    def _move(self, finding: compare.Finding, record: Any,
              vm: Any, _evidence: compare.Evidence) -> None:
        # A folder that was renamed is still remembered by its old path.
        self._ops.forget_folders()
        self._ops.move_backing_to_folder(
            vm, self._backend.upstream.volume_folder(
                self._ops.get_dc(vm), record.project_id))

    def _remove_disks(self, finding: compare.Finding, record: Any,
                      vm: Any, _evidence: compare.Evidence) -> None:
        found = devices.disks(self._ops.devices_of(vm))
        own = [each for each in found if each.uuid.lower() == record.id]
        if len(own) != 1:
            raise exceptions.RepairRefused(
                f'{len(own)} of its {len(found)} disks have its UUID')
        for each in found:
            if each is not own[0]:
                self._ops.remove_disk(vm, each)

    def _grow(self, finding: compare.Finding, record: Any,
              vm: Any, _evidence: compare.Evidence) -> None:
        disk, has_snapshots = self._ops.examine(vm)
        if has_snapshots or disk.parent:
            raise exceptions.RepairRefused(
                'vSphere extends no disk that has snapshots, and no linked '
                'clone; delete its snapshots, or retype the volume')
        self._backend.replacement.grow(vm, record.size)

    def _grow_record(self, finding: compare.Finding, record: Any,
                     vm: Any, _evidence: compare.Evidence) -> None:
        disk = self._ops.disk_of(vm)
        self._api().extend(record.id, model.ceil_gib(disk.capacity_bytes))

    def _set_adapter(self, finding: compare.Finding, record: Any,
                     vm: Any, _evidence: compare.Evidence) -> None:
        self._ops.reconfigure_disk(
            vm, adapter=self._backend.upstream.adapter_type(record))

    def _set_policy(self, finding: compare.Finding, record: Any,
                    vm: Any, _evidence: compare.Evidence) -> None:
        self._ops.reconfigure_disk(
            vm, profile_id=self._backend.upstream.storage_profile_id(record))

    def _set_io(self, finding: compare.Finding, record: Any,
                vm: Any, _evidence: compare.Evidence) -> None:
        if not self._backend.upstream.in_use(record):
            self._backend.limits.apply(record)
        elif not self._backend.limits.enforce(record):
            raise exceptions.RepairRefused(
                'its instance does not take them; -v shows why')

    def _mark_template(self, finding: compare.Finding, record: Any,
                       vm: Any, _evidence: compare.Evidence) -> None:
        self._ops.mark_backing_as_template(vm)
