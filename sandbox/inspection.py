# SPDX-License-Identifier: Apache-2.0
"""Reads the vCenter's objects through pyVmomi.

pyVmomi shares no code with the driver (which uses oslo.vmware), so its
results are independent.
"""
from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from pyVim import connect
from pyVim import task
from pyVmomi import vim
from pyVmomi import vmodl

from simulator import client


@dataclasses.dataclass(frozen=True)
class Disk:
    """A virtual disk of a VM.

    :param path: as "[datastore] folder/file.vmdk"
    :param disk_type: "thin", "thick" or "eagerZeroedThick"; empty if unknown
    """

    datastore: str
    path: str
    size_bytes: int
    disk_type: str


@dataclasses.dataclass(frozen=True)
class Machine:
    """A virtual machine, as far as volumes are concerned.

    :param instance_uuid: the volume's id, if this is a volume's shadow VM
    """

    moref: str
    name: str
    instance_uuid: str
    is_template: bool
    disks: tuple[Disk, ...]


class Inspector:
    """A session of pyVmomi, as a context manager; TLS is verified."""

    def __init__(self, where: client.Address) -> None:
        self._where = where
        self.service: Any = None

    def __enter__(self) -> Inspector:
        self.service = client.log_in(self._where)
        return self

    def __exit__(self, *_: object) -> None:
        connect.Disconnect(self.service)

    @property
    def content(self) -> Any:
        """The ServiceContent, for calls that this class does not make."""
        return self.service.RetrieveContent()

    def machines(self) -> list[Machine]:
        """All virtual machines and templates."""
        names = {moref: values['name']
                 for moref, values in self._properties(vim.Datastore,
                                                       ['name'])}
        return [_machine(moref, values, names) for moref, values
                in self._properties(vim.VirtualMachine, [
                    'name', 'config.instanceUuid', 'config.template',
                    'config.hardware.device'])]

    def shadow_vms(self) -> dict[str, Machine]:
        """Volume id -> the VM that holds the volume's disk."""
        # The instanceUuid identifies a volume's VM, and the driver searches by
        # it; other users may change the name.
        return {machine.instance_uuid: machine for machine in self.machines()
                if machine.instance_uuid and not machine.is_template}

    def datastores(self) -> dict[str, Any]:
        """Datastore name -> its DatastoreSummary."""
        return {values['name']: values['summary'] for _, values
                in self._properties(vim.Datastore, ['name', 'summary'])}

    def files(self) -> set[str]:
        """All files on all datastores, as "[datastore] folder/file"."""
        found: set[str] = set()
        view = self._view(vim.Datastore)
        for datastore in view.view:
            searched = datastore.browser.SearchDatastoreSubFolders_Task(
                '[%s]' % datastore.name,
                vim.host.DatastoreBrowser.SearchSpec(matchPattern=['*']))
            task.WaitForTask(searched)
            for folder in searched.info.result:
                separator = '' if folder.folderPath.endswith((']', '/')) \
                    else '/'
                if folder.folderPath.endswith(']'):
                    separator = ' '
                found.update(folder.folderPath + separator + file.path
                             for file in folder.file)
        view.DestroyView()
        return found

    def _view(self, kind: type) -> Any:
        content = self.content
        return content.viewManager.CreateContainerView(
            content.rootFolder, [kind], True)

    def _properties(self, kind: type, paths: list[str]
                    ) -> Iterator[tuple[str, dict[str, Any]]]:
        collector = vmodl.query.PropertyCollector
        view = self._view(kind)
        spec = collector.FilterSpec(
            objectSet=[collector.ObjectSpec(
                obj=view, skip=True, selectSet=[collector.TraversalSpec(
                    name='view', type=vim.view.ContainerView, path='view',
                    skip=False)])],
            propSet=[collector.PropertySpec(type=kind, pathSet=paths)])
        reader = self.content.propertyCollector
        page = reader.RetrievePropertiesEx([spec], collector.RetrieveOptions())
        while page is not None:
            for found in page.objects:
                yield (found.obj._moId,
                       {one.name: one.val for one in found.propSet})
            page = (reader.ContinueRetrievePropertiesEx(page.token)
                    if page.token else None)
        view.DestroyView()


def _machine(moref: str, values: dict[str, Any],
             datastore_names: dict[str, str]) -> Machine:
    devices = values.get('config.hardware.device', [])
    return Machine(
        moref=moref, name=values.get('name', ''),
        instance_uuid=values.get('config.instanceUuid', ''),
        is_template=values.get('config.template', False),
        disks=tuple(_disk(device, datastore_names) for device in devices
                    if isinstance(device, vim.vm.device.VirtualDisk)))


def _disk(device: Any, datastore_names: dict[str, str]) -> Disk:
    backing = device.backing
    named = backing.fileName[1:].partition(']')[0]
    referred = getattr(backing, 'datastore', None)
    datastore = (datastore_names.get(referred._moId, '?')
                 if referred is not None else named)
    if datastore != named:
        # Two statements of one fact; show that they contradict each other.
        datastore = '%s (its path says %s)' % (datastore, named)
    return Disk(datastore=datastore, path=backing.fileName,
                size_bytes=device.capacityInBytes
                or device.capacityInKB * 1024,
                disk_type=_disk_type(backing))


def _disk_type(backing: Any) -> str:
    if not hasattr(backing, 'thinProvisioned'):
        return ''
    if backing.thinProvisioned:
        return 'thin'
    return 'eagerZeroedThick' if backing.eagerlyScrub else 'thick'
