# SPDX-License-Identifier: Apache-2.0
"""What a copy of a disk keeps: the one place that decides it for every copy.

A copy keeps the content and the adapter of its source. Its volume type says
the form and the storage policy, and the adapter where it names one. All else
of the VM that the source is a disk of is left behind.
docs/copies.md shows it for each way to copy.
"""

from collections.abc import Iterable
from collections.abc import Mapping

from cinder_vmdk_ext.vsphere import virtual_devices as devices

ADAPTER = 'vmware:adapter_type'

# Devices that every VM is born with, and that a vCenter does not remove.
_BUILT_IN = frozenset({
    'VirtualIDEController', 'VirtualPS2Controller', 'VirtualPCIController',
    'VirtualSIOController', 'VirtualKeyboard', 'VirtualPointingDevice',
    'VirtualMachineVideoCard', 'VirtualMachineVMCIDevice'})


def adapter(specs: Mapping[str, str], source: str | None) -> str | None:
    """The adapter of a copy.

    :param specs: the extra specs of its volume type
    :param source: the adapter of the volume that it is a copy of
    :returns: None: as the copy has it
    """
    return specs.get(ADAPTER) or source


def left_behind(hardware: Iterable[devices.Device],
                disk: devices.Disk) -> list[devices.Device]:
    """The devices of a VM that a copy of one of its disks comes without.

    All but the disk, its controller and what every VM has. Controllers come
    last, so that they are empty when they go.
    """
    kept = {disk.device.key, disk.device.controller_key}
    return sorted((device for device in hardware
                   if device.key not in kept
                   and device.kind not in _BUILT_IN),
                  key=lambda device: device.controller_key is None
                  or device.bus_number is not None)


def keys_left_behind(keys: Iterable[str],
                     own: Mapping[str, str]) -> dict[str, str]:
    """Extra configuration of a VM that a copy of it comes without.

    Marks of the plugin's as well: they are about the source.

    :param own: what the copy is given
    :returns: the keys, each with the empty value that removes it
    """
    return dict.fromkeys((key for key in keys if key not in own), '')
