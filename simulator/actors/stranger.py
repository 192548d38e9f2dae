# SPDX-License-Identifier: Apache-2.0
"""VMs and files of others on the same datastores: what may never be touched, and how to see that it was."""

import urllib.parse
from typing import Any

from pyVmomi import vim
import requests

from simulator.actors import vcenter


class Stranger(vcenter.VCenter):
    """:param control: the simulator's control endpoint, for the disks' checksums"""

    def __init__(self, service: Any, control: Any) -> None:
        super().__init__(service)
        self._control = control
        self.vms: list[Any] = []
        self._files: list[tuple[Any, str]] = []  # datastores may be renamed

    def settle(self, datastore: str, name: str, **config: Any) -> Any:
        """A VM that is off, with one disk with content."""
        vm = self.create(name, datastore, (4,), **config)
        self.vms.append(vm)
        path = vcenter.disks(vm)[0].backing.fileName
        self._control.call('PUT', '/disk?' + _query(path), name.encode() * 64)
        return vm

    def leave_disk(self, datastore: str, path: str) -> str:
        """A disk that no VM names, as an administrator keeps one.

        :returns: "[datastore] path"
        """
        full = f'[{datastore}] {path}'
        try:
            self.content.fileManager.MakeDirectory(full.rpartition('/')[0], self.datacenter, True)
        except vim.fault.FileAlreadyExists:
            pass
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            full, self.datacenter, vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='thin', adapterType='lsiLogic', capacityKb=4096)))
        self._files.append((self.datastore(datastore), path))
        return full

    def fingerprint(self) -> dict[str, Any]:
        """What changes when somebody touches what is ours: names, files, versions, uuids and content.

        A datastore counts by its reference: that it is renamed touches nothing of ours.
        """
        references = {datastore.name: datastore._moId for datastore in self.all(vim.Datastore)}

        def place(path: str) -> str:
            datastore, _, file = path[1:].partition('] ')
            return f'[{references.get(datastore, datastore)}] {file}'

        seen: dict[str, Any] = {}
        for vm in self.vms:
            paths = [path for disk in vcenter.disks(vm) for path in vcenter.chain(disk.backing)]
            seen[vm._moId] = (
                vm.name, vm.config.uuid, vm.config.instanceUuid, vm.config.changeVersion, vm.config.annotation,
                vm.parent._moId, place(vm.config.files.vmPathName), [disk.backing.uuid for disk in vcenter.disks(vm)],
                sorted(place(each.name) for each in vm.layoutEx.file if not each.name.endswith('.log')),
                sorted((option.key, option.value) for option in vm.config.extraConfig),
                [(place(path), self._checksum(path)) for path in paths])
        for datastore, path in self._files:
            seen[f'[{datastore._moId}] {path}'] = self._checksum(f'[{datastore.name}] {path}')
        return seen

    def leave(self) -> None:
        """Remove everything of ours."""
        while self.vms:
            self.destroy(self.vms.pop())
        while self._files:
            datastore, path = self._files.pop()
            self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(f'[{datastore.name}] {path}', self.datacenter))

    def _checksum(self, path: str) -> str:
        reply = requests.get(f'{self._control.url}/disk/checksum?{_query(path)}&grains=1', timeout=60)
        return reply.json()['sha256'] if reply.ok else f'{reply.status_code}'


def _query(path: str) -> str:
    datastore, _, file = path[1:].partition('] ')
    return urllib.parse.urlencode({'datastore': datastore, 'path': file})
