# SPDX-License-Identifier: Apache-2.0
"""What all actors ask of a vCenter."""

from typing import Any

from pyVim import task as vim_task
from pyVmomi import vim


class VCenter:
    """A login, as one actor uses it.

    :param service: a ServiceInstance of pyVmomi
    """

    def __init__(self, service: Any) -> None:
        self.content = service.content

    @property
    def datacenter(self) -> Any:
        return self.content.rootFolder.childEntity[0]

    @staticmethod
    def wait(task: Any) -> Any:
        """:returns: TaskInfo.result

        :raises vmodl.MethodFault: TaskInfo.error
        """
        vim_task.WaitForTask(task)
        return task.info.result

    def all(self, kind: Any) -> list[Any]:
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.Destroy()

    def datastore(self, name: str) -> Any:
        return next(each for each in self.all(vim.Datastore) if each.name == name)

    def hosts(self) -> list[Any]:
        return self.all(vim.HostSystem)

    def create(self, name: str, datastore: str, disks_mib: tuple[int, ...] = (), thin: bool = True, **config: Any) -> Any:
        """Create a VM with a folder of its own, off, with disks in it.

        :raises vim.fault.NoDiskSpace: it does not fit
        """
        changes = [vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.VirtualLsiLogicController(
            key=-1, busNumber=0, sharedBus='noSharing'))]
        changes += [vim.vm.device.VirtualDeviceSpec(
            operation='add', fileOperation='create', device=vim.vm.device.VirtualDisk(
                key=-100 - unit, controllerKey=-1, unitNumber=unit, capacityInKB=size << 10,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName='', diskMode='persistent', thinProvisioned=thin)))
                    for unit, size in enumerate(disks_mib)]
        host = self.hosts()[0]
        return self.wait(self.datacenter.vmFolder.CreateVM_Task(vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', numCPUs=1, memoryMB=32, deviceChange=changes,
            files=vim.vm.FileInfo(vmPathName=f'[{datastore}]'), **config), host.parent.resourcePool))

    def destroy(self, vm: Any) -> None:
        if vm.runtime.powerState == 'poweredOn':
            self.wait(vm.PowerOffVM_Task())
        self.wait(vm.Destroy_Task())


def disks(vm: Any) -> list[Any]:
    """A VM's disks, in the order of their keys."""
    return sorted((device for device in vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)),
                  key=lambda device: device.key)


def folder(vm: Any) -> str:
    """The folder of a VM's own files, as "[datastore] folder"."""
    return vm.config.files.vmPathName.rpartition('/')[0]


def chain(backing: Any) -> list[str]:
    """The files of a disk, from the one that is written to down to its base."""
    paths = []
    while backing is not None:
        paths.append(backing.fileName)
        backing = backing.parent
    return paths
