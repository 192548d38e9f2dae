# SPDX-License-Identifier: Apache-2.0
"""Reads what an audit compares: records, inventory and files, in bulk."""

import datetime
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from lxml import etree
from oslo_utils import timeutils

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import soap

# What a sweep leaves on a VM that it has moved aside: whose it was.
QUARANTINED = 'vmdk-ext.quarantined'
_MARKS = (shadow.VOLUME_ID, shadow.SNAPSHOT_ID, shadow.UNMANAGED,
          shadow.REPLACED, QUARANTINED)
_PATHS = {
    'VirtualMachine': (
        'name', 'parent', 'config.instanceUuid', 'config.template',
        'config.managedBy', 'config.modified', 'config.files.vmPathName',
        'datastore', 'snapshot', 'layoutEx.file',
        *(f'config.extraConfig["{mark}"]' for mark in _MARKS)),
    'Folder': ('name', 'parent'),
    'Datacenter': ('name', 'parent')}
# The vCenter says "never" with the first moment of its calendar.
_NEVER = datetime.datetime(1980, 1, 1, tzinfo=datetime.timezone.utc)


class EvidenceReader:
    """Looks at a backend from three sides."""

    def __init__(self, backend: Any) -> None:
        """:param backend: a Backend that is connected"""
        self._backend = backend
        self._ops = backend.volumeops
        self._client = backend.client

    def read(self) -> compare.Evidence:
        """All there is now.

        The records come last: what is made meanwhile has a record before it
        has a VM.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        inventory = self._backend.inventory()
        names = pool_names.by_datastore(inventory, self._backend.settings)
        files = tuple(self._files(
            [each for each in inventory.datastores.values()
             if each.moref in names and each.accessible]))
        machines = tuple(self._machines(inventory, names))
        volumes, snapshots = self._records()
        return compare.Evidence(volumes, snapshots, machines, files)

    # -- Cinder's database --------------------------------------------------

    def _records(self) -> tuple[tuple[compare.Volume, ...],
                                tuple[compare.Snapshot, ...]]:
        context = cinder_context.get_admin_context()
        # Of all backends: a VM may be that of another.
        volumes = tuple(self._volume(each) for each
                        in objects.VolumeList.get_all(context))
        mine = {each.id for each in volumes if each.mine}
        return volumes, tuple(
            compare.Snapshot(
                each.id, each.name, each.volume_id,
                template=bool(each.provider_location),
                status=each.status,
                backed=each.provider_id == state.BACKED
                or bool(each.provider_location),
                mine=each.volume_id in mine,
                path=each.provider_location or '')
            for each in objects.SnapshotList.get_all(context, {}))

    def _volume(self, volume: Any) -> compare.Volume:
        return compare.Volume(
            volume.id, volume.name,
            volume_utils.extract_host(volume.host or '', 'pool') or '',
            volume.status or '',
            moving=volume.migration_status not in (None, '', 'success',
                                                   'error'),
            backed=state.is_backed(volume),
            mine=self._backend.owner.owns(volume))

    # -- Inventory ----------------------------------------------------------

    def _machines(self, inventory: model.Inventory,
                  names: dict[str, str]) -> Iterator[compare.Machine]:
        found = collector.read_all(self._backend.session, self._client, _PATHS)
        for ref, seen in found.items():
            if ref.type == 'VirtualMachine':
                yield self._machine(ref.value, seen, found, inventory, names)

    def _machine(self, moref: str, seen: dict[str, Any],
                 tree: collector.Properties, inventory: model.Inventory,
                 names: dict[str, str]) -> compare.Machine:
        name = seen.get('name') or moref
        volume_id, snapshot_id, unmanaged, replaced, quarantined = (
            disk_scan.mark_of(seen, mark) for mark in _MARKS)
        home = self._home(seen, inventory)
        datastore = inventory.datastores.get(home)
        manager = seen.get('config.managedBy')
        files = list(soap.items(seen.get('layoutEx.file')))
        folder = disk_scan.inventory_path(seen.get('parent'), tree)
        return compare.Machine(
            moref, name, f'{folder}/{name}',
            (seen.get('config.instanceUuid') or '').lower(),
            volume_id=volume_id, snapshot_id=snapshot_id,
            unmanaged=unmanaged, replaced=replaced, quarantined=quarantined,
            ours=isinstance(manager, etree._Element) and manager.findtext(
                soap.tag('extensionKey')) == upstream.EXTENSION_KEY,
            template=bool(seen.get('config.template')),
            pool=names.get(home),
            place=datastore.plain_name if datastore else '',
            files=tuple((_reference(file.findtext(soap.tag('name')) or '',
                                    inventory),
                         int(file.findtext(soap.tag('size')) or 0))
                        for file in files),
            disk_count=sum(1 for file in files if file.findtext(
                soap.tag('type')) == 'diskDescriptor'),
            points=tuple(
                compare.Point(node.moref, node.name, _age(node.created_at))
                for node in snapshot_tree.nodes(seen.get('snapshot'))),
            age_seconds=_age(seen.get('config.modified')))

    @staticmethod
    def _home(seen: dict[str, Any], inventory: model.Inventory) -> str:
        """The datastore of its own files; that of its disk may differ."""
        morefs = [ref.value for ref in seen.get('datastore') or ()]
        path = seen.get('config.files.vmPathName') or ''
        for datastore, _within in inventory.located(path):
            if datastore.moref in morefs:
                return datastore.moref
        return morefs[0] if len(morefs) == 1 else ''

    # -- Files --------------------------------------------------------------

    def _files(self, datastores: Iterable[model.Datastore]
               ) -> Iterator[compare.File]:
        browser = datastore_browser.DatastoreBrowser(
            self._backend.session, self._client, self._ops.properties)
        for datastore, file in browser.files(datastores):
            yield compare.File(datastore.plain_name, file.path,
                               file.size_bytes, _age(file.modified_at))


def _reference(path: str, inventory: model.Inventory) -> str:
    """A file's path with its datastore's name as :class:`compare.File` has it.

    The vCenter writes the name as it stores it.
    """
    return next((f'[{datastore.plain_name}] {within}'
                 for datastore, within in inventory.located(path)), path)


def _age(moment: datetime.datetime | None) -> float | None:
    """Seconds since a moment that the vCenter told; None: it did not."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    if moment < _NEVER:
        return None
    return (timeutils.utcnow(with_timezone=True) - moment).total_seconds()
