# SPDX-License-Identifier: Apache-2.0
"""Moves aside what an audit found to be nobody's. Deletes no disk."""

from typing import Any

from oslo_utils import uuidutils
from oslo_vmware import vim_util

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import model as shadow

# The key by which volumeops takes a VM's instance UUID.
_UUID = 'instanceUuid'


def due(findings: list[compare.Finding],
        minimum_age_seconds: float) -> list[compare.Finding]:
    """The findings that a sweep may act on.

    What has no known age counts as made just now.
    """
    return [each for each in findings if each.sweepable
            and (each.age_seconds or 0.0) >= minimum_age_seconds]


class Quarantine:
    """Acts on findings, one at a time."""

    def __init__(self, backend: Any) -> None:
        """:param backend: a Backend that is connected"""
        self._backend = backend
        self._ops = backend.volumeops

    def move(self, finding: compare.Finding) -> None:
        """Move a VM or a file aside, or remove a temporary snapshot.

        A VM goes to the folder ``OpenStack/Quarantine`` of its datacenter, a
        file to ``openstack-quarantine`` on its datastore. A temporary
        snapshot is consolidated (RemoveSnapshot_Task): the VM's content stays
        as it is.

        :raises VimException: as oslo.vmware does
        """
        if finding.thing == 'file':
            self._move_file(finding)
        elif finding.thing == 'vm-snapshot':
            self._ops.delete_snapshot(
                vim_util.get_moref(finding.machine, 'VirtualMachine'),
                finding.name)
        else:
            self._move_machine(finding)

    def _move_machine(self, finding: compare.Finding) -> None:
        vm = vim_util.get_moref(finding.reference, 'VirtualMachine')
        folder = self._ops.create_vm_inventory_folder(
            self._ops.get_dc(vm), ['OpenStack', compare.QUARANTINE_FOLDER])
        if finding.thing != 'template':
            # Nobody is to take it for a volume's again. It remains marked as
            # Cinder's, and with whose it was.
            # Nor by its name, as volumes of old releases are found.
            self._ops.set_identity(vm, _aside(finding.name), {
                _UUID: uuidutils.generate_uuid(),
                shadow.VOLUME_ID: '', shadow.SNAPSHOT_ID: '',
                shadow.REPLACED: '', shadow.QUARANTINED: finding.owner,
                shadow.QUARANTINED_NAME: finding.name})
        else:
            self._ops.rename(vm, _aside(finding.name))
        self._ops.move_backing_to_folder(vm, folder)

    def _move_file(self, finding: compare.Finding) -> None:
        datastore, path = next(
            (datastore, path) for datastore, path
            in self._backend.inventory().located(finding.reference)
            if datastore.moref == finding.datastore)
        datacenter = vim_util.get_moref(datastore.datacenter, 'Datacenter')
        # As the vCenter knows it: %2f for a slash.
        place = datastore.name
        folder = f'{compare.QUARANTINE_PATH}/{uuidutils.generate_uuid()}'
        self._ops.create_datastore_folder(place, compare.QUARANTINE_PATH,
                                          datacenter)
        self._ops.create_datastore_folder(place, folder, datacenter)
        self._ops.move_vmdk_file(
            datacenter, f'[{place}] {path}',
            f'[{place}] {folder}/{path.rpartition("/")[2]}')


def _aside(name: str) -> str:
    """The name of what was moved aside; a VM's has up to 79 characters."""
    return f'quarantined-{name}'[:79]
