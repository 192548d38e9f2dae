# SPDX-License-Identifier: Apache-2.0
"""Decides which of the vCenter's disks Cinder can manage, and why not.

It decides by the values that :mod:`cinder_vmdk_ext.backings.disk_scan` reads,
and makes no calls itself.
"""

import dataclasses
import re
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility

# Reasons against new disks on a datastore that do not matter here: a managed
# disk stays on its datastore and needs no more space.
_NO_HINDRANCE = frozenset({'full', 'floor', 'drain'})
# Folders of Nova's image cache, upstream's temporary images, first class disks
# and content libraries: their files have owners though no VM uses them.
_FOREIGN_FOLDERS = (
    (re.compile(r'[^/]*_base/'), "it is in Nova's image cache"),
    (re.compile(r'cinder_temp/'), 'it is a temporary image of Cinder'),
    (re.compile(r'fcd/'), 'it is a first class disk'),
    (re.compile(r'contentlib-'), 'it belongs to a content library'),
    (re.compile(r'\.'), 'it is in a folder of the vCenter itself'),
)


def obstacle(disk: shadow.ScannedDisk, users: Iterable[shadow.ScannedDisk],
             inventory: model.Inventory,
             settings: model.Settings) -> str | None:
    """Why a disk cannot be managed as it is; None if it can.

    :param users: the same disk in each VM that has it
    """
    return (_claimed(disk.machine) or _of_place(disk, inventory, settings)
            or _of_disk(disk, users)
            or (_of_machine(disk.machine) if disk.machine
                else _of_folder(disk.path)))


def _claimed(vm: shadow.ScannedVm | None) -> str | None:
    if vm is None or vm.left_behind:
        return None
    if vm.ours or vm.volume_id or vm.snapshot_id:
        return (f'VM {vm.name!r} belongs to a volume or snapshot of another '
                'Cinder, or to one that is lost or being created')
    return None


def _of_place(disk: shadow.ScannedDisk, inventory: model.Inventory,
              settings: model.Settings) -> str | None:
    datastore = inventory.datastores.get(disk.datastore)
    if datastore is None:
        return 'its datastore is unknown'
    refused = eligibility.ineligibility(datastore, inventory, settings)
    if refused is None or refused.code in _NO_HINDRANCE:
        return None
    return (f'its datastore {datastore.plain_name!r} is not usable: '
            f'{refused.reason}')


def _of_disk(disk: shadow.ScannedDisk,
             users: Iterable[shadow.ScannedDisk]) -> str | None:
    others = sorted(user.machine.name for user in users
                    if user.machine and disk.machine
                    and user.machine.moref != disk.machine.moref)
    if others:
        return f'it is also a disk of VM {others[0]!r}'
    if disk.first_class:
        return 'it is a first class disk'
    if disk.kind != shadow.FLAT:
        return ('it is a raw device' if 'RawDisk' in disk.kind
                else f'its format is {disk.kind}')
    if disk.shared:
        return 'it is shared by several writers'
    if disk.encrypted:
        return 'it is encrypted'
    if disk.mode != 'persistent':
        return f'its mode is {disk.mode}; make it dependent'
    left_behind = disk.machine is not None and disk.machine.left_behind
    if disk.parent and not left_behind:
        return ('it is the delta of another disk (a linked clone, or on a '
                'snapshot)')
    return None


def _of_machine(vm: shadow.ScannedVm) -> str | None:
    if vm.template:
        return f'VM {vm.name!r} is a template'
    if vm.power_state != 'poweredOff':
        return (f'VM {vm.name!r} is {vm.power_state}; power it off, or detach '
                'the disk')
    if vm.left_behind:
        return None if vm.disk_count == 1 else (
            f'VM {vm.name!r} has {vm.disk_count} disks')
    if vm.has_snapshots:
        return f'VM {vm.name!r} has snapshots; delete them'
    return None


def _of_folder(path: str) -> str | None:
    return next((why for pattern, why in _FOREIGN_FOLDERS
                 if pattern.match(path)), None)


@dataclasses.dataclass(frozen=True)
class KnownToCinder:
    """What Cinder manages, by the ids and names that the vCenter shows."""

    ids: Mapping[str, str]  # volume id by any id that the vCenter may show
    names: Mapping[str, str]  # volume id by name in the vCenter

    def owner(self, disk: shadow.ScannedDisk) -> str | None:
        """Id of the volume that a disk belongs to; None: to no volume."""
        vm = disk.machine
        if vm is not None:
            found = (self.ids.get(vm.uuid) or self.ids.get(vm.volume_id)
                     or self.names.get(vm.name))
            if found:
                return found
        # An instance's disk that is an attached volume has its id as UUID.
        return self.ids.get(disk.uuid.lower())


def volumes(disks: Iterable[shadow.ScannedDisk], known: KnownToCinder,
            inventory: model.Inventory,
            settings: model.Settings) -> list[dict[str, Any]]:
    """The list of manageable volumes (Cinder: manageable-list).

    It names each file once, even if several VMs use it.
    """
    by_place: dict[tuple[str, str], list[shadow.ScannedDisk]] = {}
    for disk in disks:
        by_place.setdefault(disk.place, []).append(disk)
    twins = _twin_datastores(inventory)
    entries = []
    for users in by_place.values():
        owned = [(each, owner) for each in users
                 if (owner := known.owner(each))]
        disk, owner = owned[0] if owned else (users[0], None)
        reason = ('it is managed already' if owner
                  else _why_not(disk, users, twins, inventory, settings))
        entries.append({
            'reference': reference(disk, inventory),
            'size': disk.size_gib, 'safe_to_manage': reason is None,
            'reason_not_safe': reason, 'cinder_id': owner,
            'extra_info': _information(disk, inventory)})
    return entries


def _why_not(disk: shadow.ScannedDisk, users: list[shadow.ScannedDisk],
             twins: frozenset[str], inventory: model.Inventory,
             settings: model.Settings) -> str | None:
    vm = disk.machine
    why = obstacle(disk, users, inventory, settings)
    if why is None and vm is not None and vm.instance_id:
        return f'VM {vm.name!r} is Nova instance {vm.instance_id}'
    if why is None and vm is not None and vm.disk_count > 1:
        return (f'VM {vm.name!r} has {vm.disk_count} disks, which may belong '
                'together; if this one does not, manage it by this reference')
    if why is None and vm is None and disk.datastore in twins:
        return 'another datastore has the same name'
    return why


def _twin_datastores(inventory: model.Inventory) -> frozenset[str]:
    by_name: dict[str, list[str]] = {}
    for moref, datastore in inventory.datastores.items():
        by_name.setdefault(datastore.name, []).append(moref)
    return frozenset(moref for morefs in by_name.values()
                     if len(morefs) > 1 for moref in morefs)


def reference(disk: shadow.ScannedDisk,
              inventory: model.Inventory) -> dict[str, str]:
    """The reference by which manage_existing finds this disk."""
    vm = disk.machine
    if vm is not None and vm.inventory_path is None:
        return {'source-id': disk.uuid}
    path = full_path(disk, inventory)
    return {'source-name': f'{path}@{vm.inventory_path}' if vm else path}


def full_path(disk: shadow.ScannedDisk, inventory: model.Inventory) -> str:
    """A disk's path as the vCenter writes it: '[datastore] folder/name'."""
    datastore = inventory.datastores.get(disk.datastore)
    return f'[{datastore.name if datastore else ""}] {disk.path}'


def _information(disk: shadow.ScannedDisk,
                 inventory: model.Inventory) -> dict[str, str]:
    datastore = inventory.datastores.get(disk.datastore)
    known = {'datastore': datastore.plain_name if datastore else '',
             'disk_type': disk.provisioning, 'disk_uuid': disk.uuid,
             'vm': disk.machine.name if disk.machine else ''}
    return {name: text for name, text in known.items() if text}


# -- References -------------------------------------------------------------

def splits(text: str) -> list[tuple[str, str]]:
    """All ways to read a reference as 'vmdk_path@vm_inventory_path'.

    Each part may contain an '@', so that only the vCenter can decide which
    way is right.
    """
    return [(text[:at], text[at + 1:])
            for at, letter in enumerate(text)
            if letter == '@' and text[at + 1:].strip('/')
            and shadow.split_path(text[:at]) is not None]


def inventory_paths(text: str) -> list[str]:
    """Ways to write an inventory path for the vCenter, the likeliest first.

    The vCenter writes a per cent sign in a name as %25; people may write it
    as they see it.
    """
    path = text.strip('/')
    escaped = re.sub('%(?!25|2f|5c)', '%25', path, flags=re.IGNORECASE)
    return list(dict.fromkeys((path, escaped, path.replace('%', '%25'))))
