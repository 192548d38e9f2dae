# SPDX-License-Identifier: Apache-2.0
"""Attaches volumes to virtual machines, as Nova does, without Nova.

In a cloud, Nova asks Cinder for an attachment and gets the reference of the
volume's shadow VM. Nova adds its disk to the instance's VM, and completes the
attachment. Here a VM of the simulator is the instance, and pyVmomi does the
work of Nova.
"""
from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from pyVim import task
from pyVmomi import vim

from sandbox import clients
from sandbox import errors
from sandbox import inspection


@dataclasses.dataclass(frozen=True)
class Attachment:
    """A volume's disk in an instance.

    :param id: Cinder's id of the attachment
    :param path: of the disk, as "[datastore] folder/file.vmdk"
    """

    id: str
    volume_id: str
    instance_moref: str
    path: str


class Attacher:
    """Attaches volumes to VMs and detaches them.

    :param inspector: a session that is connected
    """

    def __init__(self, api: clients.Clients,
                 inspector: inspection.Inspector) -> None:
        self._api = api
        self._inspector = inspector

    def instances(self) -> list[inspection.Machine]:
        """VMs that can be the instance: all VMs except those of volumes."""
        volume_ids = {volume.id for volume
                      in self._api.python.volumes.list()}
        return [machine for machine in self._inspector.machines()
                if not machine.is_template
                and machine.instance_uuid not in volume_ids]

    def connect(self, volume_id: str, instance: inspection.Machine
                ) -> tuple[str, dict[str, Any]]:
        """The first half: reserve the volume and let the driver prepare it.

        A volume whose creation is lazy gets its disk here, on a datastore
        that the instance's host can reach.

        :returns: Cinder's id of the attachment, and the connection info
        """
        connector = {'platform': 'x86_64', 'os_type': 'linux',
                     'ip': '127.0.0.1', 'host': 'sandbox',
                     'multipath': False, 'initiator': None,
                     'instance': instance.moref, 'mountpoint': '/dev/sdb'}
        attachment = self._api.python.attachments.create(
            volume_id, connector, instance.instance_uuid, mode='rw')
        # Older clients answer with the bare document.
        if isinstance(attachment, dict):
            return attachment['id'], attachment['connection_info']
        return attachment.id, attachment.connection_info

    def attach(self, volume_id: str, instance: inspection.Machine
               ) -> Attachment:
        """Attach a volume's disk to an instance.

        :raises SandboxError: when the volume has no disk by then
        """
        attachment_id, info = self.connect(volume_id, instance)
        shadow_vm = self._machine(info.get('data', info)['volume'])
        disk = next(_disks(shadow_vm), None)
        if disk is None:
            raise errors.SandboxError('the shadow VM of volume %s has no disk'
                                      % volume_id)
        self._add_disk(self._machine(instance.moref), disk)
        self._api.python.attachments.complete(attachment_id)
        return Attachment(attachment_id, volume_id, instance.moref,
                          disk.backing.fileName)

    def detach(self, attachment: Attachment) -> None:
        """Take the disk out of the instance and end the attachment."""
        machine = self._machine(attachment.instance_moref)
        disk = next(disk for disk in _disks(machine)
                    if disk.backing.fileName == attachment.path)
        self._reconfigure(machine, vim.vm.device.VirtualDeviceSpec(
            operation='remove', device=disk))
        self._api.python.attachments.delete(attachment.id)

    def _machine(self, moref: str) -> Any:
        return vim.VirtualMachine(moref, self._inspector.service._stub)

    def _add_disk(self, machine: Any, disk: Any) -> None:
        devices = machine.config.hardware.device
        controller = next(
            device for device in devices
            if isinstance(device, vim.vm.device.VirtualSCSIController))
        used = {device.unitNumber for device in devices
                if device.controllerKey == controller.key}
        # 7 is the controller itself.
        unit = next(number for number in range(16)
                    if number not in used and number != 7)
        added = vim.vm.device.VirtualDisk(
            key=-1, controllerKey=controller.key, unitNumber=unit,
            capacityInKB=disk.capacityInKB,
            backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName=disk.backing.fileName,
                datastore=disk.backing.datastore,
                diskMode='persistent',
                thinProvisioned=disk.backing.thinProvisioned))
        # No fileOperation: the file is there already.
        self._reconfigure(machine, vim.vm.device.VirtualDeviceSpec(
            operation='add', device=added))

    @staticmethod
    def _reconfigure(machine: Any, change: Any) -> None:
        task.WaitForTask(machine.ReconfigVM_Task(
            vim.vm.ConfigSpec(deviceChange=[change])))


def _disks(machine: Any) -> Iterator[Any]:
    for device in machine.config.hardware.device:
        if isinstance(device, vim.vm.device.VirtualDisk):
            yield device
