# SPDX-License-Identifier: Apache-2.0
"""Virtual disks by their paths on datastores (VirtualDiskManager)."""

import re
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import vcenter
from cinder_vmdk_ext.vsphere import virtual_devices

#: Value of the extra spec vmware:vmdk_type -> VirtualDiskType.
TYPES = {'thin': 'thin', 'thick': 'preallocated',
         'eagerZeroedThick': 'eagerZeroedThick'}
#: Adapter -> its value in a disk's file (VirtualDiskAdapterType). Newer kinds
#: have the value of the kind that they derive from.
ADAPTERS = {'lsiLogic': 'lsiLogic', 'busLogic': 'busLogic', 'ide': 'ide',
            'lsiLogicsas': 'lsiLogic', 'paraVirtual': 'lsiLogic'}
MOST_BYTES = 62 << 40
_PRIVILEGE = 'Datastore.FileManagement'
_EXTENT = re.compile(r'-(flat|delta|sesparse|ctk|rdm|rdmp|s\d{3})\.vmdk$')
_KIB = 1024


class VirtualDisk(NamedTuple):
    """A virtual disk, with or without a VM."""

    path: str  # '[datastore] folder/name.vmdk'
    capacity_bytes: int
    provisioning: str  # thin, thick, eagerZeroedThick
    adapter: str  # only for a VM's disk
    vms: list[str]  # VMs that use the disk
    parent: str  # path of the disk below, if this is a delta; else empty
    uuid: str  # only for a VM's disk


class VirtualDisks:
    """The virtual disks of a vCenter."""

    def __init__(self, of: vcenter.Vcenter) -> None:
        """Make no call."""
        self._vcenter = of

    # -- Reading ------------------------------------------------------------

    def of_vm(self, name: str) -> list[VirtualDisk]:
        """The disks of a VM, in the order of its devices.

        :param name: its name or reference
        :raises UnknownObject: no such object exists, or there are several
        """
        ref, facts = self._vcenter.find(
            'VirtualMachine', name, 'config.hardware.device', title='VM')
        devices = virtual_devices.parse(facts.get('config.hardware.device'))
        title = vcenter.plain(facts.get('name') or ref.value)
        return [VirtualDisk(
            vcenter.plain_path(disk.path), disk.capacity_bytes,
            disk.provisioning,
            virtual_devices.adapter_of(disk, devices) or '', [title],
            vcenter.plain_path(disk.parent or ''), disk.uuid)
            for disk in virtual_devices.disks(devices)]

    def of_datastore(self, name: str) -> list[VirtualDisk]:
        """The disks on a datastore, by path, with the VMs that use them.

        :param name: the datastore's name or reference
        :raises UnknownObject: no such object exists, or there are several
        """
        ref, facts = self._vcenter.find('Datastore', name, 'name')
        place = vcenter.Searched(ref.value, facts['name'])
        machines, names = self._vcenter.machines_on(ref)
        found = []
        for _place, disk in self._vcenter.browser.disks([place]):
            texts = {f'[{each}] {disk.path}' for each in names}
            users = [each for each in machines if texts & each.files]
            chains = [each.chain for vm in users for each in vm.disks
                      if vcenter.plain_path(each.path) in texts]
            parents = [chain[1] for chain in chains if len(chain) > 1]
            found.append(VirtualDisk(
                f'[{vcenter.plain(place.name)}] {disk.path}',
                disk.capacity_bytes or 0,
                'thin' if disk.thin else 'thick', '',
                sorted(each.name for each in users),
                vcenter.plain_path(parents[0]) if parents else '', ''))
        return sorted(found)

    # -- Changing -----------------------------------------------------------

    def create(self, path: str, capacity_bytes: int, *,
               provisioning: str = 'thin', adapter: str = 'lsiLogic') -> str:
        """Make an empty disk (CreateVirtualDisk_Task).

        A missing folder is created.

        :param path: '[datastore] folder/name.vmdk'
        :param provisioning: one of :data:`TYPES`
        :param adapter: one of :data:`ADAPTERS`
        :returns: the path
        :raises StorageRefused: the path is wrong or taken, or the size is
            wrong
        """
        at = self._new(path)
        _check_size(capacity_bytes)
        self._vcenter.require(_PRIVILEGE, [at.datastore])
        self._make_folder(at)
        self._run('CreateVirtualDisk_Task', at, spec=soap.Typed(
            'FileBackedVirtualDiskSpec', {
                'diskType': TYPES[provisioning],
                'adapterType': ADAPTERS[adapter],
                'capacityKb': capacity_bytes // _KIB}))
        return at.text

    def delete(self, path: str) -> str:
        """Delete a disk with its files (DeleteVirtualDisk_Task).

        :returns: the path
        :raises StorageRefused: it is in use, has children, or belongs to a
            volume
        """
        at, _disk = self._free(path)
        self._run('DeleteVirtualDisk_Task', at)
        return at.text

    def copy(self, path: str, to: str, *, provisioning: str | None = None,
             adapter: str = 'lsiLogic') -> str:
        """Copy a disk (CopyVirtualDisk_Task).

        :param provisioning: of the copy; None: the same as the disk's
        :returns: the copy's path
        :raises StorageRefused: a running VM uses it, or the path is taken
        """
        source, disk = self._existing(path)
        self._vcenter.refuse_use(source, reading=True)
        target = self._new(to)
        self._vcenter.require(_PRIVILEGE,
                              [source.datastore, target.datastore])
        if provisioning is None:
            provisioning = 'thin' if disk.thin else 'thick'
        self._make_folder(target)
        self._run_between(
            'CopyVirtualDisk_Task', source, target, destSpec=soap.Typed('', {
                'diskType': TYPES[provisioning],
                'adapterType': ADAPTERS[adapter]}))
        return target.text

    def move(self, path: str, to: str) -> str:
        """Move or rename a disk (MoveVirtualDisk_Task).

        :returns: its new path
        :raises StorageRefused: as :meth:`delete`, or the path is taken
        """
        source, _disk = self._free(path)
        target = self._new(to)
        self._vcenter.require(_PRIVILEGE, [target.datastore])
        self._make_folder(target)
        self._run_between('MoveVirtualDisk_Task', source, target)
        return target.text

    def extend(self, path: str, capacity_bytes: int, *,
               eager_zero: bool = False) -> str:
        """Make a disk larger (ExtendVirtualDisk_Task).

        :param capacity_bytes: its capacity afterwards
        :returns: the path
        :raises StorageRefused: as :meth:`delete`, or it is already that large
        """
        _check_size(capacity_bytes)
        at, disk = self._free(path)
        if (disk.capacity_bytes or 0) >= capacity_bytes:
            raise exceptions.StorageRefused(
                f'{at.text} has {disk.capacity_bytes} bytes already; it can '
                'only become larger')
        self._run('ExtendVirtualDisk_Task', at,
                  newCapacityKb=capacity_bytes // _KIB, eagerZero=eager_zero)
        return at.text

    def inflate(self, path: str) -> str:
        """Give a thin disk all its space (InflateVirtualDisk_Task).

        :returns: the path
        :raises StorageRefused: as :meth:`delete`, or it is not thin
        """
        at, disk = self._free(path)
        if not disk.thin:
            raise exceptions.StorageRefused(
                f'{at.text} is not thin: it has all its space')
        self._run('InflateVirtualDisk_Task', at)
        return at.text

    def eager_zero(self, path: str) -> str:
        """Write zeros to unwritten blocks (EagerZeroVirtualDisk_Task).

        :returns: the path
        :raises StorageRefused: as :meth:`delete`, or it is thin
        """
        at, disk = self._free(path)
        if disk.thin:
            raise exceptions.StorageRefused(
                f'{at.text} is thin; inflate it, which writes zeros too')
        self._run('EagerZeroVirtualDisk_Task', at)
        return at.text

    def _run(self, method: str, at: vcenter.Located, **more: Any) -> None:
        self._vcenter.run(method, self._vcenter.content.virtualDiskManager,
                          name=at.wire, datacenter=at.datacenter, **more)

    def _run_between(self, method: str, source: vcenter.Located,
                     target: vcenter.Located, **more: Any) -> None:
        self._vcenter.run(
            method, self._vcenter.content.virtualDiskManager,
            sourceName=source.wire, sourceDatacenter=source.datacenter,
            destName=target.wire, destDatacenter=target.datacenter,
            force=False, **more)

    # -- Checks -------------------------------------------------------------

    def _located(self, path: str) -> vcenter.Located:
        at = self._vcenter.located(path)
        if not at.path.endswith('.vmdk') or _EXTENT.search(at.path):
            raise exceptions.StorageRefused(
                f'{at.text} is no disk: name its descriptor, which ends in '
                '.vmdk and not in -flat.vmdk or the like')
        return at

    def _existing(self, path: str
                  ) -> tuple[vcenter.Located, datastore_browser.Found]:
        at = self._located(path)
        disk = self._vcenter.browser.disk(at.place, at.path)
        if disk is None:
            raise exceptions.UnknownObject(f'there is no disk {at.text}')
        return at, disk

    def _free(self, path: str
              ) -> tuple[vcenter.Located, datastore_browser.Found]:
        """A disk that is not in use, so that it may be changed."""
        at, disk = self._existing(path)
        self._vcenter.refuse_use(at)
        children = list(self._children(at))
        if children:
            raise exceptions.StorageRefused(
                f'{at.text} has children '
                f'({exceptions.shortened(children)}); delete them first')
        self._vcenter.require(_PRIVILEGE, [at.datastore])
        return at, disk

    def _children(self, at: vcenter.Located) -> Iterator[str]:
        """Deltas of a disk in its folder; perhaps no VM uses them."""
        folder, _, name = at.path.rpartition('/')
        delta = re.compile(re.escape(name.removesuffix('.vmdk'))
                           + r'-\d{6}\.vmdk')
        for found in self._vcenter.browser.folder(at.place, folder):
            if delta.fullmatch(found.path.rpartition('/')[2]):
                yield found.path

    def _new(self, path: str) -> vcenter.Located:
        """A free path for a new disk."""
        at = self._located(path)
        owner = self._vcenter.owner_of(at.path)
        if owner:
            raise exceptions.StorageRefused(
                f'{at.text} is the place of {owner}; take another')
        folder = at.path.rpartition('/')[0]
        if any(found.path == at.path for found
               in self._vcenter.browser.folder(at.place, folder)):
            raise exceptions.StorageRefused(f'there is a file {at.text}')
        return at

    def _make_folder(self, at: vcenter.Located) -> None:
        folder = at.path.rpartition('/')[0]
        if not folder:
            return
        try:
            self._vcenter.change(
                'MakeDirectory', self._vcenter.content.fileManager,
                name=f'[{at.stored_name}] {folder}',
                datacenter=at.datacenter, createParentDirectories=True)
        except vmware_exceptions.FileAlreadyExistsException:
            pass


def _check_size(capacity_bytes: int) -> None:
    if capacity_bytes % _KIB or not 0 < capacity_bytes <= MOST_BYTES:
        raise exceptions.StorageRefused(
            f'{capacity_bytes} bytes is no size of a disk: it is a multiple '
            'of 1 KiB and at most 62 TiB')
