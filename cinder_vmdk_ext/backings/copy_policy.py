# SPDX-License-Identifier: Apache-2.0
"""Decides what a copy of a disk keeps, for every way to copy.

A copy keeps the content and the adapter of its source. Its volume type
decides the provisioning and the storage policy, and also the adapter if it
names one. A copy takes nothing else from the VM that has the source disk.
docs/copies.md shows the result for each way to copy.
"""

from collections.abc import Iterable
from collections.abc import Mapping

from cinder_vmdk_ext.vsphere import virtual_devices as devices

ADAPTER = 'vmware:adapter_type'

# Every VM is created with these devices, and a vCenter does not remove them.
_BUILT_IN = frozenset({
    'VirtualIDEController', 'VirtualPS2Controller', 'VirtualPCIController',
    'VirtualSIOController', 'VirtualKeyboard', 'VirtualPointingDevice',
    'VirtualMachineVideoCard', 'VirtualMachineVMCIDevice'})


def adapter(specs: Mapping[str, str], source: str | None) -> str | None:
    """The adapter of a copy.

    :param specs: the extra specs of its volume type
    :param source: the adapter of the volume that is copied
    :returns: None: the copy keeps the adapter that it has
    """
    return specs.get(ADAPTER) or source


def left_behind(hardware: Iterable[devices.Device],
                disk: devices.Disk) -> list[devices.Device]:
    """The devices of a VM that a copy of one of its disks does not take.

    These are all devices except the disk, its controller and those that
    every VM has. Controllers come last, so that they are empty when removed.
    """
    kept = {disk.device.key, disk.device.controller_key}
    return sorted((device for device in hardware
                   if device.key not in kept
                   and device.kind not in _BUILT_IN),
                  key=lambda device: device.controller_key is None
                  or device.bus_number is not None)


def keys_left_behind(keys: Iterable[str],
                     own: Mapping[str, str]) -> dict[str, str]:
    """Extra configuration of a VM that a copy of it does not take.

    The plugin's own marks are included, since they describe the source.

    :param own: the extra configuration that the copy gets
    :returns: the keys, each with the empty value that removes it
    """
    return dict.fromkeys((key for key in keys if key not in own), '')
