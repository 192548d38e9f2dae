# SPDX-License-Identifier: Apache-2.0
"""The virtual hardware of a VM: reading its disks, and changing them.

Devices stay the XML that the vCenter sent. What is sent back for an edit is
that very element with a few fields changed, so that nothing which a newer
vCenter adds to a device gets lost on the way.
"""

import copy
from collections.abc import Iterable
from typing import NamedTuple

from lxml import etree

from cinder_vmdk_ext.vsphere import soap

CONTROLLERS = {
    'lsiLogic': 'VirtualLsiLogicController',
    'busLogic': 'VirtualBusLogicController',
    'lsiLogicsas': 'VirtualLsiLogicSASController',
    'paraVirtual': 'ParaVirtualSCSIController',
    'ide': 'VirtualIDEController',
}
_SCSI = frozenset(CONTROLLERS.values()) - {CONTROLLERS['ide']}
SCSI_BUSES = range(4)
NEW_CONTROLLER = -100
NEW_DISK = -101


class Device(NamedTuple):
    """One virtual device."""

    element: etree._Element
    kind: str
    key: int
    controller_key: int | None
    bus_number: int | None


class Disk(NamedTuple):
    """A virtual disk of a VM."""

    device: Device
    path: str  # '[datastore] folder/name.vmdk'
    datastore: str  # the datastore's moref
    uuid: str
    capacity_bytes: int
    thin: bool
    eager: bool
    parent: str | None  # path of the disk that it is a delta of
    base: str = ''  # path of the disk below all deltas; its own without any
    mode: str = 'persistent'
    chain: tuple[str, ...] = ()  # paths, from the top down to the base

    @property
    def deltas(self) -> int:
        """How many files of its chain, from the top, snapshots have made.

        Their deltas lie beside what they are deltas of; a linked clone does
        not.
        """
        folders = [path.rpartition('/')[0] for path in self.chain]
        return next((count for count, (upper, lower)
                     in enumerate(zip(folders, folders[1:]))
                     if upper != lower), len(folders) - 1)

    @property
    def folder(self) -> str:
        """Where the base lies: '[datastore] folder'."""
        return self.base.rpartition('/')[0]

    @property
    def is_independent(self) -> bool:
        """Whether snapshots of its VM leave it out."""
        return self.mode.startswith('independent')

    @property
    def provisioning(self) -> str:
        """As the extra spec vmware:vmdk_type says it."""
        if self.thin:
            return 'thin'
        return 'eagerZeroedThick' if self.eager else 'thick'


def parse(array: etree._Element | None) -> list[Device]:
    """The devices of ``config.hardware.device``."""
    found = []
    with soap.understood('config.hardware.device'):
        for element in array if isinstance(array, etree._Element) else ():
            found.append(Device(
                element, soap.type_of(element),
                int(_text(element, 'key') or 0),
                _number(element, 'controllerKey'),
                _number(element, 'busNumber')))
    return found


def disks(devices: Iterable[Device]) -> list[Disk]:
    """The disks among devices that lie in files."""
    found = []
    for device in devices:
        backing = device.element.find(soap.tag('backing'))
        if device.kind != 'VirtualDisk' or backing is None:
            continue
        with soap.understood('VirtualDisk'):
            size_kib = _number(device.element, 'capacityInKB') or 0
            size_bytes = _number(device.element, 'capacityInBytes')
        chain = _chain(backing)
        found.append(Disk(
            device, _text(backing, 'fileName') or '',
            _text(backing, 'datastore') or '', _text(backing, 'uuid') or '',
            size_bytes or size_kib * 1024,
            _text(backing, 'thinProvisioned') == 'true',
            _text(backing, 'eagerlyScrub') == 'true',
            _text(backing, 'parent/fileName'), chain[-1],
            _text(backing, 'diskMode') or 'persistent', tuple(chain)))
    return found


def _chain(backing: etree._Element) -> list[str]:
    """The paths of a disk's files, from the top down to the base."""
    paths = []
    below: etree._Element | None = backing
    while below is not None:
        paths.append(_text(below, 'fileName') or '')
        below = below.find(soap.tag('parent'))
    return paths


def adapter_of(disk: Disk, devices: Iterable[Device]) -> str | None:
    """The disk's adapter, as the extra spec vmware:adapter_type says it."""
    for device in devices:
        if device.key == disk.device.controller_key:
            return next((adapter for adapter, kind in CONTROLLERS.items()
                         if kind == device.kind), None)
    return None


def unit_number(disk: Disk) -> int:
    """The disk's place on its controller."""
    with soap.understood('VirtualDisk'):
        return _number(disk.device.element, 'unitNumber') or 0


def change(operation: str, device: object, *, profile_id: str | None = None,
           file_operation: str | None = None) -> soap.Typed:
    """A VirtualDeviceConfigSpec."""
    if isinstance(device, Device):
        device = device.element
    return soap.Typed('VirtualDeviceConfigSpec', {
        'operation': operation, 'fileOperation': file_operation,
        'device': device,
        'profile': profile(profile_id)})


def profile(profile_id: str | None) -> soap.Typed | None:
    """The specification of a storage policy; of none when it is empty."""
    if profile_id is None:
        return None
    if not profile_id:
        return soap.Typed('VirtualMachineEmptyProfileSpec', {})
    return soap.Typed('VirtualMachineDefinedProfileSpec',
                      {'profileId': profile_id})


def removal(devices: Iterable[Device]) -> list[soap.Typed]:
    """Changes that take devices away and leave disks' files alone."""
    return [change('remove', device) for device in devices]


def edited(disk: Disk, *, uuid: str | None = None,
           capacity_bytes: int | None = None,
           controller_key: int | None = None,
           unit_number: int = 0, mode: str | None = None) -> etree._Element:
    """The disk's device with some fields set anew."""
    element = copy.deepcopy(disk.device.element)
    if uuid is not None:
        backing = element.find(soap.tag('backing'))
        soap.put(backing, 'uuid', uuid)
    if mode is not None:
        soap.put(element.find(soap.tag('backing')), 'diskMode', mode)
    if capacity_bytes is not None:
        soap.put(element, 'capacityInKB', str(capacity_bytes // 1024))
        if element.find(soap.tag('capacityInBytes')) is not None:
            soap.put(element, 'capacityInBytes', str(capacity_bytes))
    if controller_key is not None:
        soap.put(element, 'controllerKey', str(controller_key))
        soap.put(element, 'unitNumber', str(unit_number))
    return element


def to_adapter(disk: Disk, devices: list[Device], adapter: str | None
               ) -> tuple[list[soap.Typed], int | None, list[soap.Typed]]:
    """What puts a disk on another kind of adapter.

    :returns: changes to make before the disk's own, the key of the controller
        that the disk goes to (None: it is there already), and changes to make
        after: the old controller goes when it would be left empty
    """
    if adapter is None or adapter_of(disk, devices) == adapter:
        return [], None, []
    kind = CONTROLLERS[adapter]
    before: list[soap.Typed] = []
    key = NEW_CONTROLLER
    if adapter == 'ide':
        # Every VM is born with two IDE controllers, 200 and 201.
        key = next((d.key for d in devices if d.kind == kind), 200)
    else:
        before = [change('add', new_controller(adapter, devices))]
    others = [d for d in devices
              if d.controller_key == disk.device.controller_key
              and d.key != disk.device.key]
    after = removal(d for d in devices
                    if d.key == disk.device.controller_key
                    and d.kind in _SCSI and not others)
    return before, key, after


def disk_controller(devices: Iterable[Device]) -> int | None:
    """Key of a controller that a disk can be put on; SCSI is preferred."""
    found = sorted((d.kind not in _SCSI, d.key) for d in devices
                   if d.kind in CONTROLLERS.values())
    return found[0][1] if found else None


def new_controller(adapter: str, devices: Iterable[Device]) -> soap.Typed:
    """A SCSI controller on a bus number that is free."""
    taken = {d.bus_number for d in devices if d.kind in _SCSI}
    bus = next((n for n in SCSI_BUSES if n not in taken), 0)
    return soap.Typed(CONTROLLERS[adapter], {
        'key': NEW_CONTROLLER, 'busNumber': bus, 'sharedBus': 'noSharing'})


def existing_disk(path: str, size_bytes: int, controller_key: int,
                  unit_number: int = 0) -> soap.Typed:
    """A device for a disk whose file is there already."""
    return soap.Typed('VirtualDisk', {
        'key': NEW_DISK,
        'backing': soap.Typed('VirtualDiskFlatVer2BackingInfo', {
            'fileName': path, 'diskMode': 'persistent'}),
        'controllerKey': controller_key, 'unitNumber': unit_number,
        'capacityInKB': size_bytes // 1024})


def placed_backing(provisioning: str) -> soap.Typed:
    """How a disk is to be laid out where a clone or move puts it."""
    return soap.Typed('VirtualDiskFlatVer2BackingInfo', {
        'fileName': '', 'diskMode': 'persistent',
        'thinProvisioned': provisioning == 'thin',
        'eagerlyScrub': provisioning == 'eagerZeroedThick'})


def _text(element: etree._Element, path: str) -> str | None:
    return element.findtext('/'.join(map(soap.tag, path.split('/'))))


def _number(element: etree._Element, name: str) -> int | None:
    text = _text(element, name)
    return int(text) if text else None
