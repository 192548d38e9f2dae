# SPDX-License-Identifier: Apache-2.0
"""Shadow VMs and disks as plain values, and the marks on VMs."""

import dataclasses
import re
from collections.abc import Iterable
from typing import NamedTuple

from cinder_vmdk_ext import model

# Marks: keys of the extra configuration of VMs.
#: The volume that a shadow VM holds.
VOLUME_ID = 'cinder.volume.id'
#: The snapshot that a template holds.
SNAPSHOT_ID = 'cinder.snapshot.id'
#: The volume that an unmanaged shadow VM was.
UNMANAGED = 'vmdk-ext.unmanaged-volume'
#: Ids of the volumes that a VM was before, with commas.
FORMERLY = 'vmdk-ext.former-volumes'
#: The volume that a template was taken of.
SOURCE_VOLUME = 'vmdk-ext.source-volume'
#: The volume whose shadow VM another one has replaced.
REPLACED = 'vmdk-ext.replaced-volume'
#: The volume that a disk is being managed as.
TAKING = 'vmdk-ext.taking-for-volume'
#: Where a disk is being moved to within its datastore.
MOVING_TO = 'vmdk-ext.moving-disk-to'
#: The deployment of Cinder that made a VM.
DEPLOYMENT = 'vmdk-ext.deployment'
#: The volume or snapshot of what a sweep has moved aside.
QUARANTINED = 'vmdk-ext.quarantined'
#: The name of a VM before a sweep moved it aside.
QUARANTINED_NAME = 'vmdk-ext.quarantined-name'
#: When, why and from where a sweep moved a VM aside.
QUARANTINE_RECORD = 'vmdk-ext.quarantine-record'
#: The instance that a VM of Nova's is.
INSTANCE_ID = 'nvp.vm-uuid'

#: The backing of an ordinary VMDK.
FLAT = 'VirtualDiskFlatVer2BackingInfo'


class Backing(NamedTuple):
    """A shadow VM, as a bulk read returns it."""

    moref: str
    name: str
    datastores: tuple[str, ...]
    datastore_name: str  # of its .vmx file
    template: bool = False
    uuid: str = ''
    volume_id: str = ''  # the mark that its volume left
    # Changes with every change of the configuration, also of a disk's path.
    change_version: str = ''
    folder: str = ''  # of its .vmx file: '[datastore] folder'


class Backings:
    """The shadow VMs of the vCenter at one moment, by volume."""

    def __init__(self, vms: Iterable[Backing]) -> None:
        self._by_moref: dict[str, Backing] = {}
        self._by_uuid: dict[str, Backing] = {}
        self._by_mark: dict[str, Backing] = {}
        self._by_name: dict[str, Backing] = {}
        for vm in vms:
            # A snapshot's template inherits the mark of the volume's VM.
            if not vm.template:
                self._by_moref[vm.moref] = vm
                self._by_name.setdefault(vm.name, vm)
                # The UUID is the volume's id since upstream's release 2.0;
                # older shadow VMs bear the id as a mark, or in the name only.
                self._by_uuid.setdefault(vm.uuid, vm)
                self._by_mark.setdefault(vm.volume_id, vm)

    @property
    def all(self) -> list[Backing]:
        """Every VM that is no template, also those that hold no volume."""
        return list(self._by_moref.values())

    def by_uuid(self, uuid: str) -> Backing | None:
        """The VM of that instance UUID."""
        return self._by_uuid.get(uuid)

    def by_name(self, name: str) -> Backing | None:
        """A VM of that name that is no template."""
        return self._by_name.get(name)

    def find(self, volume_id: str, name: str) -> Backing | None:
        """The volume's shadow VM: by UUID, or by name as in old releases."""
        return (self._by_uuid.get(volume_id) or self._by_mark.get(volume_id)
                or self._by_name.get(name))


@dataclasses.dataclass(frozen=True)
class ScannedVm:
    """A VM, as far as its disks' fate depends on it."""

    moref: str
    name: str
    # None in a vApp: such a VM has no path.
    inventory_path: str | None = None
    uuid: str = ''  # the instance UUID
    volume_id: str = ''  # the mark of a shadow VM
    snapshot_id: str = ''  # the mark of a snapshot's template
    instance_id: str = ''  # the mark of an instance of Nova's
    ours: bool = False  # made by a driver of Cinder's
    # The volumes that it is or was, the present one among them.
    former_ids: tuple[str, ...] = ()
    # Unmanaged: a shadow VM without a volume, to be taken as a whole.
    left_behind: bool = False
    template: bool = False
    power_state: str = 'poweredOff'
    has_snapshots: bool = False
    disk_count: int = 1


@dataclasses.dataclass(frozen=True)
class ScannedDisk:
    """A disk: one of a VM, or a file that no VM uses."""

    datastore: str  # moref
    path: str  # within the datastore: 'folder/name.vmdk'
    size_bytes: int = 0
    machine: ScannedVm | None = None
    uuid: str = ''
    key: int = 0  # the device's
    kind: str = FLAT
    mode: str = 'persistent'
    provisioning: str = 'thin'
    parent: str = ''
    shared: bool = False
    encrypted: bool = False
    first_class: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """What identifies the disk among all others."""
        return self.datastore, self.path

    @property
    def size_gib(self) -> int:
        """Rounded up, as Cinder wants it."""
        return model.ceil_gib(self.size_bytes)


class ScannedSnapshot(NamedTuple):
    """A snapshot in a VM's tree, or a template that stands for one."""

    moref: str
    name: str
    machine: ScannedVm
    size_bytes: int
    source_volume_id: str  # empty: unknown


def split_path(text: str) -> tuple[str, str] | None:
    """Datastore name and path of '[datastore] folder/name.vmdk'.

    :returns: None when the text is no such path
    """
    # A datastore's name may hold a bracket: the last one that fits ends it.
    found = re.fullmatch(r'\[(.+)\] ?(\S.*\.vmdk)', text,
                         re.DOTALL | re.IGNORECASE)
    return (found[1], found[2]) if found else None
