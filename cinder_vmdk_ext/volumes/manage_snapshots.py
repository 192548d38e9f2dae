# SPDX-License-Identifier: Apache-2.0
"""Takes existing snapshots under Cinder's management, and releases them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from oslo_utils import uuidutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import config
from cinder_vmdk_ext import model
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import manage
from cinder_vmdk_ext.volumes import manageable
from cinder_vmdk_ext.volumes import snapshots
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import snapshot_tree


class ManageSnapshots:
    """Lists and manages snapshots, in both formats (COW and template)."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 scan: Callable[[], disk_scan.DiskScan],
                 alone: Callable[[], AbstractContextManager[None]]) -> None:
        """:param scan: returns the reader of the vCenter's disks
        :param alone: returns the lock of manage (:func:`locks.manage`)
        """
        self._upstream = cinder
        self._finder = finder
        self._scan = scan
        self._alone = alone

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    def list_manageable(
            self, cinder_snapshots: Any, marker: Any, limit: int, offset: int,
            sort_keys: list[str], sort_dirs: list[str]
            ) -> list[dict[str, Any]]:
        """List snapshots of volumes, in both formats (Cinder's hook)."""
        known = {each.name: each.id for each in cinder_snapshots}
        ids = {each.id: each.id for each in cinder_snapshots}
        found = self._scan().snapshots()
        entries = []
        named = config.name_patterns()
        for each in found:
            owner = known.get(each.name) or (
                ids.get(each.machine.uuid) if each.machine.template else None)
            reason = 'it is managed already' if owner else (
                None if each.source_volume_id
                else 'it does not name the volume that it was taken from')
            entries.append({
                'reference': {'source-id': each.moref},
                'size': model.ceil_gib(each.size_bytes),
                'safe_to_manage': reason is None, 'reason_not_safe': reason,
                'cinder_id': owner, 'source_reference': {
                    'source-name': named.volume_name(
                        each.source_volume_id)},
                'extra_info': {
                    'name': each.name, 'format': 'template'
                    if each.machine.template else 'COW'}})
        return volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs)

    def get_size(self, snapshot: Any, existing_ref: dict[str, str]) -> int:
        """Size of a snapshot's disk, in GiB, rounded up (Cinder's hook)."""
        return model.ceil_gib(
            self._referenced_snapshot(snapshot, existing_ref).size_bytes)

    def manage(self, snapshot: Any,
               existing_ref: dict[str, str]) -> dict[str, Any]:
        """Rename a snapshot in the vCenter as Cinder's (Cinder's hook).

        :param existing_ref: ``source-name``: the name of a snapshot in the
            volume's tree, or a template's name or inventory path;
            ``source-id``: the reference of either in the vCenter
            (``snapshot-12``, ``vm-34``), or a template's instance UUID
        :raises ManageExistingInvalidReference: with the reason
        :raises ManageExistingAlreadyManaged: Cinder has a record of it
        """
        with self._alone():
            found = self._referenced_snapshot(snapshot, existing_ref)
            owner = volume_utils.extract_id_from_snapshot_name(found.name)
            for each in (owner, found.machine.uuid):
                if each and each != snapshot['id'] and objects.Snapshot.exists(
                        cinder_context.get_admin_context(), each):
                    raise exception.ManageExistingAlreadyManaged(
                        volume_ref=each)
            if found.machine.template:
                self._check_files(existing_ref, references.Ref(
                    'VirtualMachine', found.moref))
                return self._take_template(snapshot, found)
            ref = references.Ref('VirtualMachineSnapshot', found.moref)
            self._check_files(existing_ref, ref)
            self._ops.rename_snapshot(
                ref, snapshot['name'],
                snapshots.sendable(snapshot['display_description']))
        return {'provider_id': state.BACKED}

    def _check_files(self, existing_ref: dict[str, str],
                     holder: Any) -> None:
        path = self._ops.missing_file(holder)
        if path is not None:
            raise manage.invalid(
                existing_ref, f'its file {path} is gone; put the file back, '
                f'or delete {holder.value} in the vCenter')

    def _take_template(self, snapshot: Any,
                       found: shadow.ScannedSnapshot) -> dict[str, Any]:
        template = references.Ref('VirtualMachine', found.moref)
        self._ops.rename(template, snapshot['name'])
        return {'provider_location':
                self._ops.get_inventory_path(template),
                'provider_id': state.BACKED}

    def _referenced_snapshot(self, snapshot: Any,
                             existing_ref: dict[str, str]
                             ) -> shadow.ScannedSnapshot:
        name = existing_ref.get('source-name')
        identifier = existing_ref.get('source-id')
        if bool(name) == bool(identifier):
            raise manage.invalid(
                existing_ref, 'it must hold either source-name, the name of '
                'a snapshot, the name or inventory path of a template, or '
                'source-id, its reference or UUID')
        volume = snapshot['volume']
        backing = self._finder.existing(volume)
        found = (self._in_tree(volume, backing, name, identifier)
                 if backing else [])
        found += self._templates_meant(name, identifier)
        if not found:
            raise manage.invalid(
                existing_ref, f'volume {volume["id"]} has no such snapshot, '
                'and no template has that name')
        if len(found) > 1:
            several = ', '.join(sorted(each.moref for each in found))
            raise manage.invalid(
                existing_ref, f'it may name any of {several}; give one of '
                'these as source-id')
        if found[0].machine.template:
            self._check_source(existing_ref, found[0], volume, backing)
        return found[0]

    def _in_tree(self, volume: Any, backing: Any, name: str | None,
                 identifier: str | None) -> list[shadow.ScannedSnapshot]:
        tree = self._ops.properties(backing, 'snapshot').get('snapshot')
        size_bytes = self._ops.disk_of(backing).capacity_bytes
        vm = shadow.ScannedVm(backing.value,
                              volume['name'])
        return [shadow.ScannedSnapshot(node.moref, node.name, vm, size_bytes,
                                       volume['id'])
                for node in snapshot_tree.nodes(tree)
                if node.name == name or node.moref == identifier]

    def _templates_meant(self, name: str | None, identifier: str | None
                         ) -> list[shadow.ScannedSnapshot]:
        vm = None
        if name:
            for path in manageable.inventory_paths(name):
                vm = vm or self._ops.get_entity_by_inventory_path(path)
            if not vm:
                return [template for each in self._ops.templates_named(name)
                        for template in self._templates(each)]
        elif uuidutils.is_uuid_like(identifier):
            vm = self._ops.get_backing_by_uuid(identifier)
        elif identifier and identifier.startswith('vm-'):
            vm = references.Ref('VirtualMachine', identifier)
        return (self._templates(vm) if vm and vm._type == 'VirtualMachine'
                else [])

    def _templates(self, vm: Any) -> list[shadow.ScannedSnapshot]:
        template = self._scan().template(vm.value)
        return [template] if template is not None else []

    def _check_source(self, existing_ref: dict[str, str],
                      found: shadow.ScannedSnapshot, volume: Any,
                      backing: Any) -> None:
        """Refuse a template that is a copy of another volume."""
        ids = {volume['id']}
        if backing:
            ids |= self._scan().former_ids(backing.value)
        if found.source_volume_id not in ids:
            whose = found.source_volume_id or 'an unknown volume'
            raise manage.invalid(
                existing_ref, f'it is a copy of {whose}, not of volume '
                f'{volume["id"]}')
