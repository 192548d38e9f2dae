# SPDX-License-Identifier: Apache-2.0
"""Storage DRS: it moves disks, running or not, to where there is more space."""

from typing import Any

from pyVmomi import vim

from simulator.actors import vcenter


class StorageDRS(vcenter.VCenter):
    """:param control: the simulator's control endpoint, simulator.control.Control"""

    def __init__(self, service: Any, control: Any) -> None:
        super().__init__(service)
        self._control = control

    def move_disk(self, vm: Any, disk: Any, datastore: str) -> str:
        """Move one disk of a VM, as Storage DRS itself does (POST /sdrs/move).

        :returns: its new path
        """
        return self._control.call('POST', '/sdrs/move', {
            'vm': vm.name, 'disk': str(disk.key), 'datastore': datastore})['path']

    def apply(self, vm: Any, disk: Any, datastore: str) -> None:
        """A recommendation that an administrator applies: RelocateVM_Task with a locator of one disk."""
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(disk=[vim.vm.RelocateSpec.DiskLocator(
            diskId=disk.key, datastore=self.datastore(datastore))])))

    def evacuate_vm(self, vm: Any, datastore: str) -> None:
        """Maintenance mode of a datastore: the whole VM goes, with all its disks."""
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.datastore(datastore))))
