# SPDX-License-Identifier: Apache-2.0
"""Shadow VMs and disks as plain values, and the marks on VMs."""

import contextlib
import dataclasses
import itertools
import re
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import model

# Marks: keys of the extra configuration of VMs.
#: The volume that a shadow VM holds.
VOLUME_ID = 'cinder.volume.id'
#: The snapshot that a template holds.
SNAPSHOT_ID = 'cinder.snapshot.id'
#: The volume that an unmanaged shadow VM belonged to.
UNMANAGED = 'vmdk-ext.unmanaged-volume'
#: Ids of the volumes that a VM belonged to before, separated by commas.
FORMERLY = 'vmdk-ext.former-volumes'
#: The volume whose copy a template is.
SOURCE_VOLUME = 'vmdk-ext.source-volume'
#: The volume whose shadow VM another one has replaced.
REPLACED = 'vmdk-ext.replaced-volume'
#: The temporary instance UUID under which a backup was put on a new VM.
RESTORED = 'vmdk-ext.restored-as'
#: The volume as which Cinder is taking over a disk (manage).
TAKING = 'vmdk-ext.taking-for-volume'
#: The volume as which Cinder will delete a migrated disk (its source).
MIGRATED_AS = 'vmdk-ext.migrated-as-volume'
#: The volume that Cinder made as the destination of a migration.
MIGRATED_TO = 'vmdk-ext.migrated-to-volume'
#: The path that a disk is being moved to within its datastore.
MOVING_TO = 'vmdk-ext.moving-disk-to'
#: The deployment of Cinder that created a VM.
DEPLOYMENT = 'vmdk-ext.deployment'
#: The volume or snapshot of a VM that a sweep moved aside.
QUARANTINED = 'vmdk-ext.quarantined'
#: The name of a VM before a sweep moved it aside.
QUARANTINED_NAME = 'vmdk-ext.quarantined-name'
#: When, why and from where a sweep moved a VM aside.
QUARANTINE_RECORD = 'vmdk-ext.quarantine-record'
#: The Nova instance of a VM.
INSTANCE_ID = 'nvp.vm-uuid'

# For the last changes, up to this number, the changed VMs are known.
MOST_CHANGES = 10000

#: The backing of an ordinary VMDK.
FLAT = 'VirtualDiskFlatVer2BackingInfo'


class Backing(NamedTuple):
    """A shadow VM, as a bulk read returns it."""

    moref: str
    name: str
    datastores: tuple[str, ...]
    template: bool = False
    uuid: str = ''
    volume_id: str = ''  # from the mark of its volume
    # Changes with every change of the configuration, also of a disk's path.
    change_version: str = ''
    folder: str = ''  # of its .vmx file: '[datastore] folder'


class _Index:
    """VMs by a key that several may share; finds the one known longest.

    While a VM's entry is replaced it can always be found, by its old or its
    new key.
    """

    def __init__(self) -> None:
        self._first: dict[str, Backing] = {}
        self._others: dict[str, dict[str, Backing]] = {}

    def get(self, key: str) -> Backing | None:
        return self._first.get(key)

    def put(self, key: str, vm: Backing) -> None:
        """Add or replace a VM; one with an empty key is not added."""
        if not key:
            return
        first = self._first.setdefault(key, vm)
        if first.moref == vm.moref:
            self._first[key] = vm
        else:
            self._others.setdefault(key, {})[vm.moref] = vm

    def drop(self, key: str, moref: str) -> None:
        others = self._others.get(key, {})
        others.pop(moref, None)
        first = self._first.get(key)
        if first is not None and first.moref == moref:
            if others:
                self._first[key] = others.pop(next(iter(others)))
            else:
                del self._first[key]
        if not others:
            self._others.pop(key, None)


class BackingIndex:
    """The VMs of the vCenter by volume, updated with each change.

    A change costs the same, however many VMs the vCenter has.
    """

    def __init__(self, lock: contextlib.AbstractContextManager[Any] =
                 contextlib.nullcontext()) -> None:
        """:param lock: needed if threads share the index"""
        self._lock = lock
        self.by_moref: dict[str, Backing] = {}
        # Since upstream's release 2.0 the UUID is the volume's id. Older
        # shadow VMs have the id in a mark, or only in the name.
        self.by_uuid = _Index()
        self.by_mark = _Index()
        self.by_name = _Index()
        # Morefs of changed VMs; the last one is change number `count`.
        self._journal: deque[str] = deque(maxlen=MOST_CHANGES)
        self.count = 0

    def update(self, changed: Mapping[str, Backing | None]) -> None:
        """Apply changed VMs, by their morefs; None: the VM was deleted."""
        with self._lock:
            for moref, vm in changed.items():
                # A snapshot's template inherits the mark of the volume's VM.
                self._replace(moref, vm if vm and not vm.template else None)

    def _replace(self, moref: str, vm: Backing | None) -> None:
        old = self.by_moref.get(moref)
        if old == vm:
            return
        if vm is not None:
            self.by_moref[moref] = vm
        else:
            del self.by_moref[moref]
        for index, key in ((self.by_uuid, 'uuid'), (self.by_mark, 'volume_id'),
                           (self.by_name, 'name')):
            now = getattr(vm, key) if vm else ''
            if vm is not None:
                index.put(now, vm)
            if old is not None and getattr(old, key) != now:
                index.drop(getattr(old, key), moref)
        self._journal.append(moref)
        self.count += 1

    def all(self) -> list[Backing]:
        """All VMs that are not templates."""
        with self._lock:
            return list(self.by_moref.values())

    def changed_since(self, count: int) -> frozenset[str] | None:
        """Morefs of the VMs that changed after change number ``count``.

        :returns: None if that change is too old to be known
        """
        with self._lock:
            new = self.count - count
            if new > len(self._journal):
                return None
            return frozenset(itertools.islice(
                reversed(self._journal), new))


class Backings:
    """The shadow VMs of the vCenter, by volume, as last reported."""

    def __init__(self, vms: Iterable[Backing] = (),
                 index: BackingIndex | None = None) -> None:
        """:param index: holds the VMs, and keeps following their changes"""
        self._index = index or BackingIndex()
        if index is None:
            for vm in vms:  # one by one: they may come in turns
                self._index.update({vm.moref: vm})
        self._count = self._index.count

    @property
    def current(self) -> bool:
        """Whether no VM has changed since this object was made."""
        return self._index.count == self._count

    def changed_since(self, before: 'Backings') -> frozenset[str] | None:
        """Morefs of the VMs that changed after ``before`` was made.

        :returns: None if unknown; the caller then has to look at all VMs
        """
        if before._index is not self._index:
            return None
        return self._index.changed_since(before._count)

    @property
    def all(self) -> list[Backing]:
        """All VMs that are not templates, with or without a volume."""
        return self._index.all()

    def get(self, moref: str) -> Backing | None:
        """The VM of that reference, unless it is a template."""
        return self._index.by_moref.get(moref)

    def by_uuid(self, uuid: str) -> Backing | None:
        """The VM of that instance UUID."""
        return self._index.by_uuid.get(uuid)

    def by_name(self, name: str) -> Backing | None:
        """A VM of that name that is not a template."""
        return self._index.by_name.get(name)

    def find(self, volume_id: str, name: str) -> Backing | None:
        """The volume's shadow VM by UUID, or by name (old releases)."""
        return (self._index.by_uuid.get(volume_id)
                or self._index.by_mark.get(volume_id)
                or self._index.by_name.get(name))

    def of(self, volume: Any) -> Backing | None:
        """As :meth:`find`, for a volume; its name is asked for only if needed.

        Making a name takes longer than the search.
        """
        volume_id = volume['id']
        return (self._index.by_uuid.get(volume_id)
                or self._index.by_mark.get(volume_id)
                or self._index.by_name.get(volume['name']))


@dataclasses.dataclass(frozen=True)
class ScannedVm:
    """The facts about a VM that decide what may be done with its disks."""

    moref: str
    name: str
    # None for a VM in a vApp, which has no path.
    inventory_path: str | None = None
    uuid: str = ''  # the instance UUID
    volume_id: str = ''  # the mark of a shadow VM
    snapshot_id: str = ''  # the mark of a snapshot's template
    instance_id: str = ''  # the mark of an instance of Nova's
    ours: bool = False  # made by a driver of Cinder's
    # The volumes that it belongs or belonged to, the present one included.
    former_ids: tuple[str, ...] = ()
    # Unmanaged: a shadow VM without a volume; Cinder takes it over whole.
    left_behind: bool = False
    template: bool = False
    power_state: str = 'poweredOff'
    has_snapshots: bool = False
    disk_count: int = 1


@dataclasses.dataclass(frozen=True)
class ScannedDisk:
    """A disk of a VM, or a disk file that no VM uses."""

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
        """The datastore and path, which identify the disk."""
        return self.datastore, self.path

    @property
    def size_gib(self) -> int:
        """The size in GiB, rounded up as Cinder requires."""
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

    :returns: None if the text is not such a path
    """
    # A datastore's name may contain brackets, so take the last fitting one.
    found = re.fullmatch(r'\[(.+)\] ?(\S.*\.vmdk)', text,
                         re.DOTALL | re.IGNORECASE)
    return (found[1], found[2]) if found else None
