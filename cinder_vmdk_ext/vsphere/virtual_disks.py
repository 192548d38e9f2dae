# SPDX-License-Identifier: Apache-2.0
"""Virtual disks by their paths on datastores (VirtualDiskManager)."""

import re
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import references
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
_MOST_IOPS = (1 << 31) - 1
_LEVELS = tuple(virtual_devices.LEVELS)
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


class DiskIo(NamedTuple):
    """A VM's disk and its part of its datastore's I/O."""

    path: str  # '[datastore] folder/name.vmdk'
    level: str  # low, normal, high or custom
    shares: int
    limit: int  # I/O operations a second; -1: no limit
    reservation: int  # I/O operations a second


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
        ref, facts, devices = self._devices(name)
        title = vcenter.plain(facts.get('name') or ref.value)
        return [VirtualDisk(
            vcenter.plain_path(disk.path), disk.capacity_bytes,
            disk.provisioning,
            virtual_devices.adapter_of(disk, devices) or '', [title],
            vcenter.plain_path(disk.parent or ''), disk.uuid)
            for disk in virtual_devices.disks(devices)]

    def _devices(self, name: str) -> tuple[
            references.Ref, dict[str, Any], list[virtual_devices.Device]]:
        ref, facts = self._vcenter.find(
            'VirtualMachine', name, 'config.hardware.device', title='VM')
        return ref, facts, virtual_devices.parse(
            facts.get('config.hardware.device'))

    def io(self, name: str) -> list[DiskIo]:
        """Shares and limits of a VM's disks, in the order of its devices.

        :param name: the VM's name or reference
        :raises UnknownObject: no such object exists, or there are several
        """
        _ref, _facts, devices = self._devices(name)
        return [DiskIo(
            vcenter.plain_path(disk.path), disk.limits.level or '',
            disk.limits.shares or 0, disk.limits.limit or 0,
            disk.limits.reservation or 0)
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
        self._vcenter.refuse_volumes_disk(source)
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

    def set_io(self, name: str, path: str, *, shares: str | int | None = None,
               limit: int | None = None,
               reservation: int | None = None) -> str:
        """Set shares and limits of a VM's disk (ReconfigVM_Task).

        What is None does not change.

        :param name: the VM's name or reference
        :param path: of the disk, as :meth:`of_vm` has it
        :param shares: low, normal or high, or a number from 200 to 4000
        :param limit: I/O operations a second, 16 or more; -1: no limit
        :param reservation: I/O operations a second
        :returns: the disk's path
        :raises UnknownObject: there is no such VM, or it has no such disk
        :raises StorageRefused: the VM has to do with a volume, or a value is
            wrong
        """
        asked = _allocation(shares, limit, reservation)
        ref, _facts, devices = self._devices(name)
        disks = {vcenter.plain_path(disk.path): disk
                 for disk in virtual_devices.disks(devices)}
        if path not in disks:
            raise exceptions.UnknownObject(
                f'{name} has no disk {path!r}; it has '
                + (exceptions.shortened(sorted(disks)) or 'none'))
        target = asked.over(disks[path].limits)
        if target.limit not in (None, -1) and (
                (target.reservation or 0) > (target.limit or 0)):
            raise exceptions.StorageRefused(
                f'the reservation {target.reservation} is above the limit '
                f'{target.limit}')
        self._vcenter.refuse_volumes_vm(ref)
        for privilege in ('EditDevice', 'Resource'):
            self._vcenter.require(f'VirtualMachine.Config.{privilege}', [ref])
        self._vcenter.run('ReconfigVM_Task', ref, spec=soap.Typed('', {
            'deviceChange': [virtual_devices.change(
                'edit', virtual_devices.edited(disks[path], limits=asked))]}))
        return path

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
        self._vcenter.refuse_volumes_disk(at)
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
        self._vcenter.refuse_owned(at)
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


def _allocation(shares: str | int | None, limit: int | None,
                reservation: int | None) -> virtual_devices.Allocation:
    """What is asked of a disk.

    :raises StorageRefused: nothing, or a value that vSphere does not take
    """
    if (shares, limit, reservation) == (None, None, None):
        raise exceptions.StorageRefused(
            'nothing is to be set; give shares, a limit or a reservation')
    level, number = None, None
    if shares is not None:
        level = shares if isinstance(shares, str) else 'custom'
        number = (shares if isinstance(shares, int)
                  else virtual_devices.LEVELS.get(shares, 0))
        if not (virtual_devices.LEAST_SHARES <= number
                <= virtual_devices.MOST_SHARES):
            raise exceptions.StorageRefused(
                f'shares of {shares!r}: give {", ".join(_LEVELS)}, or a '
                f'number from {virtual_devices.LEAST_SHARES} to '
                f'{virtual_devices.MOST_SHARES}')
    if limit is not None and limit != -1 and not (
            virtual_devices.LEAST_LIMIT <= limit <= _MOST_IOPS):
        raise exceptions.StorageRefused(
            f'a limit of {limit}: give {virtual_devices.LEAST_LIMIT} to '
            f'{_MOST_IOPS} I/O operations a second, or -1 for no limit')
    if reservation is not None and not 0 <= reservation <= _MOST_IOPS:
        raise exceptions.StorageRefused(
            f'a reservation of {reservation}: give 0 to {_MOST_IOPS} I/O '
            'operations a second')
    return virtual_devices.Allocation(limit, reservation, level, number)


def _check_size(capacity_bytes: int) -> None:
    if capacity_bytes % _KIB or not 0 < capacity_bytes <= MOST_BYTES:
        raise exceptions.StorageRefused(
            f'{capacity_bytes} bytes is no size of a disk: it is a multiple '
            'of 1 KiB and at most 62 TiB')
