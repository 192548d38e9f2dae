# SPDX-License-Identifier: Apache-2.0
"""The virtual hardware of a VM: reads its disks, and changes them.

Devices are kept as the XML that the vCenter sent. An edit sends the same
element back with a few fields changed, so that no field is lost that a newer
vCenter adds to a device.
"""

import copy
from collections.abc import Callable
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
_ADAPTERS = {kind: adapter for adapter, kind in CONTROLLERS.items()}
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


class Allocation(NamedTuple):
    """A disk's part of its datastore's I/O (StorageIOAllocationInfo).

    None is a value that is not specified.
    """

    limit: int | None = None  # I/O operations a second; -1: no limit
    reservation: int | None = None  # I/O operations a second
    level: str | None = None  # low, normal, high, custom
    shares: int | None = None

    def over(self, other: 'Allocation') -> 'Allocation':
        """Its own values, and another's where it specifies none."""
        shares = other if self.level is None else self
        return Allocation(
            other.limit if self.limit is None else self.limit,
            other.reservation if self.reservation is None
            else self.reservation, shares.level, shares.shares)

    def reset(self) -> 'Allocation':
        """The defaults of what it specifies."""
        return Allocation(
            None if self.limit is None else UNLIMITED.limit,
            None if self.reservation is None else UNLIMITED.reservation,
            None if self.level is None else UNLIMITED.level,
            None if self.level is None else UNLIMITED.shares)

    def unusual(self) -> 'Allocation':
        """What of it is not a disk's default."""
        level, shares = (
            (None, None) if self.level in (None, UNLIMITED.level)
            else (self.level, self.shares))
        return Allocation(
            None if self.limit == UNLIMITED.limit else self.limit,
            None if self.reservation == UNLIMITED.reservation
            else self.reservation, level, shares)


#: The least limit of a disk that vSphere takes, and the range of its shares.
LEAST_LIMIT = 16
LEAST_SHARES, MOST_SHARES = 200, 4000
#: The shares of each level (SharesLevel).
LEVELS = {'low': 500, 'normal': 1000, 'high': 2000}
#: What a disk has if nothing else is asked for.
UNLIMITED = Allocation(-1, 0, 'normal', 1000)


class Disk(NamedTuple):
    """A virtual disk of a VM."""

    device: Device
    path: str  # '[datastore] folder/name.vmdk'
    datastore: str  # the datastore's moref
    uuid: str
    capacity_bytes: int
    thin: bool
    eager: bool
    parent: str | None  # path of the disk below, if this is a delta
    base: str = ''  # path of the disk below all deltas, or its own path
    mode: str = 'persistent'
    chain: tuple[str, ...] = ()  # paths, from the top down to the base
    limits: Allocation = UNLIMITED

    @property
    def deltas(self) -> int:
        """How many files at the top of its chain are deltas of snapshots.

        The delta of a snapshot is in the folder of the file below it; a
        linked clone is not.
        """
        folders = [path.rpartition('/')[0] for path in self.chain]
        return next((count for count, (upper, lower)
                     in enumerate(zip(folders, folders[1:]))
                     if upper != lower), len(folders) - 1)

    @property
    def folder(self) -> str:
        """The folder of the base: '[datastore] folder'."""
        return self.base.rpartition('/')[0]

    @property
    def is_independent(self) -> bool:
        """Whether snapshots of its VM leave out the disk."""
        return self.mode.startswith('independent')

    @property
    def provisioning(self) -> str:
        """The disk type in the words of the extra spec vmware:vmdk_type."""
        if self.thin:
            return 'thin'
        return 'eagerZeroedThick' if self.eager else 'thick'


def parse(array: etree._Element | None) -> list[Device]:
    """The devices of ``config.hardware.device``."""
    return _parse(array, lambda kind: True)


def _parse(array: etree._Element | None,
           wanted: Callable[[str], bool]) -> list[Device]:
    if not isinstance(array, etree._Element):
        return []
    try:
        return [Device(element, kind, _number(element, _KEY) or 0,
                       _number(element, _CONTROLLER_KEY),
                       _number(element, _BUS_NUMBER))
                for element in array if wanted(
                    kind := (element.get(soap.TYPE) or '').rpartition(':')[2])]
    except soap.MALFORMED as error:
        raise soap.malformed('config.hardware.device', error) from error


def disks_in(array: etree._Element | None) -> list[Disk]:
    """The disks of ``config.hardware.device``, to be compared, not edited.

    Reads no other device, and keeps no XML: that of thousands of VMs takes
    much memory, and long to be freed.
    """
    return [disk._replace(device=disk.device._replace(element=_NOT_KEPT))
            for disk in disks(_parse(array, _DISK.__eq__))]


def disks(devices: Iterable[Device]) -> list[Disk]:
    """Those of the devices that are disks in files."""
    found = []
    for device in devices:
        if device.kind != _DISK:
            continue
        backing = device.element.find(_BACKING)
        if backing is None:
            continue
        try:
            size_bytes = (_number(device.element, _SIZE_BYTES)
                          or (_number(device.element, _SIZE_KIB) or 0) * 1024)
            limits = _limits(device.element)
        except soap.MALFORMED as error:
            raise soap.malformed('VirtualDisk', error) from error
        text = backing.findtext
        chain = _chain(backing)
        found.append(Disk(
            device, text(_FILE_NAME) or '', text(_DATASTORE) or '',
            text(_UUID) or '', size_bytes, text(_THIN) == 'true',
            text(_EAGER) == 'true', text(f'{_PARENT}/{_FILE_NAME}'),
            chain[-1], text(_MODE) or 'persistent', tuple(chain), limits))
    return found


class HeldDisk(NamedTuple):
    """What an audit compares of a disk."""

    chain: tuple[str, ...]  # its files, its own first
    uuid: str
    size_bytes: int
    adapter: str  # '': an unknown kind
    limits: Allocation
    key: int  # of the device


def held(array: etree._Element | None) -> tuple[HeldDisk, ...]:
    """The disks of ``config.hardware.device``.

    In a fraction of the time of :func:`disks`, since it leaves the other
    devices unread, and keeps no XML.
    """
    if not isinstance(array, etree._Element):
        return ()
    adapters: dict[str | None, str] = {}
    found = []
    for element in array:
        kind = (element.get(soap.TYPE) or '').rpartition(':')[2]
        if kind == _DISK:
            found += [(element, backing)
                      for backing in element.iterchildren(_BACKING)]
        elif kind in _ADAPTERS:
            adapters[element.findtext(_KEY)] = _ADAPTERS[kind]
    try:
        return tuple([HeldDisk(
            tuple(_chain(backing)), backing.findtext(_UUID) or '',
            _number(element, _SIZE_BYTES)
            or (_number(element, _SIZE_KIB) or 0) * 1024,
            adapters.get(element.findtext(_CONTROLLER_KEY), ''),
            _limits(element), _number(element, _KEY) or 0)
            for element, backing in found])
    except soap.MALFORMED as error:
        raise soap.malformed('VirtualDisk', error) from error


def _chain(backing: etree._Element) -> list[str]:
    """The paths of a disk's files, from the top down to the base."""
    paths = []
    below: etree._Element | None = backing
    while below is not None:
        paths.append(below.findtext(_FILE_NAME) or '')
        below = below.find(_PARENT)
    return paths


def adapter_of(disk: Disk, devices: Iterable[Device]) -> str | None:
    """The disk's adapter, in the words of the spec vmware:adapter_type."""
    for device in devices:
        if device.key == disk.device.controller_key:
            return next((adapter for adapter, kind in CONTROLLERS.items()
                         if kind == device.kind), None)
    return None


def _limits(element: etree._Element) -> Allocation:
    """A disk's part of its datastore's I/O, with defaults for the rest."""
    found = element.find(_ALLOCATION)
    if found is None:
        return UNLIMITED
    return Allocation(
        _number(found, _LIMIT), _number(found, _RESERVATION),
        found.findtext(f'{_SHARES}/{_LEVEL}'),
        _number(found, f'{_SHARES}/{_SHARES}')).over(UNLIMITED)


def has_limits(disk: Disk, limits: Allocation) -> bool:
    """Whether a disk has everything that an allocation specifies."""
    return limits.over(disk.limits) == disk.limits


def unit_number(disk: Disk) -> int:
    """The disk's place on its controller."""
    try:
        return _number(disk.device.element, _UNIT_NUMBER) or 0
    except soap.MALFORMED as error:
        raise soap.malformed('VirtualDisk', error) from error


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
    """The specification of a storage policy; '' specifies no policy."""
    if profile_id is None:
        return None
    if not profile_id:
        return soap.Typed('VirtualMachineEmptyProfileSpec', {})
    return soap.Typed('VirtualMachineDefinedProfileSpec',
                      {'profileId': profile_id})


def removal(devices: Iterable[Device]) -> list[soap.Typed]:
    """Changes that remove devices and leave the files of disks alone."""
    return [change('remove', device) for device in devices]


def edited(disk: Disk, *, uuid: str | None = None,
           capacity_bytes: int | None = None,
           controller_key: int | None = None,
           unit_number: int = 0, mode: str | None = None,
           limits: Allocation | None = None) -> etree._Element:
    """The disk's device with some fields changed."""
    element = copy.deepcopy(disk.device.element)
    if limits is not None:
        _put_limits(element, limits.over(disk.limits))
    if uuid is not None:
        _put(element.find(_BACKING), _UUID, uuid)
    if mode is not None:
        _put(element.find(_BACKING), _MODE, mode)
    if capacity_bytes is not None:
        _put(element, _SIZE_KIB, str(capacity_bytes // 1024))
        if element.find(_SIZE_BYTES) is not None:
            _put(element, _SIZE_BYTES, str(capacity_bytes))
    if controller_key is not None:
        _put(element, _CONTROLLER_KEY, str(controller_key))
        _put(element, _UNIT_NUMBER, str(unit_number))
    return element


def _put(element: etree._Element, tag: str, text: str) -> None:
    found = element.find(tag)
    if found is None:
        found = soap.insert(element, tag)
    found.text = text


def _put_limits(element: etree._Element, limits: Allocation) -> None:
    """Replace a disk's allocation; all four values must be specified."""
    old = element.find(_ALLOCATION)
    if old is not None:
        element.remove(old)
    made = soap.insert(element, _ALLOCATION)
    etree.SubElement(made, _LIMIT).text = str(limits.limit)
    shares = etree.SubElement(made, _SHARES)
    etree.SubElement(shares, _SHARES).text = str(limits.shares)
    etree.SubElement(shares, _LEVEL).text = limits.level
    etree.SubElement(made, _RESERVATION).text = str(limits.reservation)


def to_adapter(disk: Disk, devices: list[Device], adapter: str | None
               ) -> tuple[list[soap.Typed], int | None, list[soap.Typed]]:
    """The changes that put a disk on another kind of adapter.

    :returns: changes to make before the disk's own, the key of the controller
        that the disk goes to (None: it is there already), and changes to make
        after: they remove the old controller if it would be empty
    """
    if adapter is None or adapter_of(disk, devices) == adapter:
        return [], None, []
    kind = CONTROLLERS[adapter]
    before: list[soap.Typed] = []
    key = NEW_CONTROLLER
    if adapter == 'ide':
        # Every VM is created with two IDE controllers, 200 and 201.
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
    """Key of a controller that can take a disk, preferably SCSI."""
    found = sorted((d.kind not in _SCSI, d.key) for d in devices
                   if d.kind in CONTROLLERS.values())
    return found[0][1] if found else None


def new_controller(adapter: str, devices: Iterable[Device]) -> soap.Typed:
    """A SCSI controller with a free bus number."""
    taken = {d.bus_number for d in devices if d.kind in _SCSI}
    bus = next((n for n in SCSI_BUSES if n not in taken), 0)
    return soap.Typed(CONTROLLERS[adapter], {
        'key': NEW_CONTROLLER, 'busNumber': bus, 'sharedBus': 'noSharing'})


def existing_disk(path: str, size_bytes: int, controller_key: int,
                  unit_number: int = 0,
                  limits: Allocation = UNLIMITED) -> soap.Typed:
    """A device for a disk whose file already exists.

    :param limits: all four values must be specified
    """
    # Only unusual ones need the privilege VirtualMachine.Config.Resource.
    unusual = {} if limits == UNLIMITED else {
        'storageIOAllocation': soap.Typed('StorageIOAllocationInfo', {
            'limit': limits.limit,
            'shares': soap.Typed('SharesInfo', {
                'shares': limits.shares, 'level': limits.level}),
            'reservation': limits.reservation})}
    return soap.Typed('VirtualDisk', unusual | {
        'key': NEW_DISK,
        'backing': soap.Typed('VirtualDiskFlatVer2BackingInfo', {
            'fileName': path, 'diskMode': 'persistent'}),
        'controllerKey': controller_key, 'unitNumber': unit_number,
        'capacityInKB': size_bytes // 1024})


def placed_backing(provisioning: str) -> soap.Typed:
    """The layout that a clone or move gives a disk."""
    return soap.Typed('VirtualDiskFlatVer2BackingInfo', {
        'fileName': '', 'diskMode': 'persistent',
        'thinProvisioned': provisioning == 'thin',
        'eagerlyScrub': provisioning == 'eagerZeroedThick'})


def _number(element: etree._Element, tag: str) -> int | None:
    text = element.findtext(tag)
    return int(text) if text else None


_DISK = 'VirtualDisk'
_NOT_KEPT = etree.Element('not-kept')
_KEY = soap.tag('key')
_CONTROLLER_KEY = soap.tag('controllerKey')
_BUS_NUMBER = soap.tag('busNumber')
_UNIT_NUMBER = soap.tag('unitNumber')
_SIZE_KIB = soap.tag('capacityInKB')
_SIZE_BYTES = soap.tag('capacityInBytes')
_BACKING = soap.tag('backing')
_PARENT = soap.tag('parent')
_FILE_NAME = soap.tag('fileName')
_DATASTORE = soap.tag('datastore')
_UUID = soap.tag('uuid')
_THIN = soap.tag('thinProvisioned')
_EAGER = soap.tag('eagerlyScrub')
_MODE = soap.tag('diskMode')
_ALLOCATION = soap.tag('storageIOAllocation')
_LIMIT = soap.tag('limit')
_RESERVATION = soap.tag('reservation')
_SHARES = soap.tag('shares')
_LEVEL = soap.tag('level')
