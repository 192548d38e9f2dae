# SPDX-License-Identifier: Apache-2.0
"""Reads what an audit compares: records, inventory and files, in bulk."""

import datetime
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from lxml import etree
from oslo_utils import timeutils
from oslo_vmware import vim_util

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import soap

# What a sweep leaves on a VM that it has moved aside: whose it was.
QUARANTINED = 'vmdk-ext.quarantined'
_MARKS = (disk_scan.VOLUME_ID, disk_scan.SNAPSHOT_ID, disk_scan.UNMANAGED,
          finder.REPLACED, QUARANTINED)
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


class Reader:
    """Looks at a backend from three sides."""

    def __init__(self, driver: Any) -> None:
        """:param driver: a VmdkExtDriver that is set up"""
        self._driver = driver
        self._ops = driver.volumeops
        self._client = driver._client

    def read(self) -> compare.Evidence:
        """All there is now.

        The records come last: what is made meanwhile has a record before it
        has a VM.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        inventory = self._driver._inventory()
        names = pool_names.by_datastore(inventory, self._driver._settings)
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
            mine=self._driver._is_ours(volume))

    # -- Inventory ----------------------------------------------------------

    def _machines(self, inventory: model.Inventory,
                  names: dict[str, str]) -> Iterator[compare.Machine]:
        found = collector.read_all(self._driver.session, self._client, _PATHS)
        for ref, seen in found.items():
            if ref.type == 'VirtualMachine':
                yield self._machine(ref.value, seen, found, inventory, names)

    def _machine(self, moref: str, seen: dict[str, Any],
                 tree: collector.Properties, inventory: model.Inventory,
                 names: dict[str, str]) -> compare.Machine:
        name = seen.get('name') or moref
        volume_id, snapshot_id, unmanaged, replaced, quarantined = (
            disk_scan._mark(seen, mark) for mark in _MARKS)
        home = self._home(seen, inventory)
        datastore = inventory.datastores.get(home)
        manager = seen.get('config.managedBy')
        files = list(disk_scan._elements(seen.get('layoutEx.file')))
        return compare.Machine(
            moref, name, f'{disk_scan._path(seen.get("parent"), tree)}/{name}',
            (seen.get('config.instanceUuid') or '').lower(),
            volume_id=volume_id, snapshot_id=snapshot_id,
            unmanaged=unmanaged, replaced=replaced, quarantined=quarantined,
            ours=isinstance(manager, etree._Element) and manager.findtext(
                disk_scan._tag('extensionKey')) == self._ops._extension_key,
            template=bool(seen.get('config.template')),
            pool=names.get(home),
            place=datastore.plain_name if datastore else '',
            files=tuple((file.findtext(disk_scan._tag('name')) or '',
                         int(file.findtext(disk_scan._tag('size')) or 0))
                        for file in files),
            disk_count=sum(1 for file in files if file.findtext(
                disk_scan._tag('type')) == 'diskDescriptor'),
            points=tuple(_points(seen.get('snapshot'))),
            age_seconds=_age(seen.get('config.modified')))

    @staticmethod
    def _home(seen: dict[str, Any], inventory: model.Inventory) -> str:
        """The datastore of its own files; that of its disk may differ."""
        morefs = [ref.value for ref in seen.get('datastore') or ()]
        path = seen.get('config.files.vmPathName') or ''
        for moref in morefs:
            datastore = inventory.datastores.get(moref)
            if datastore and path.startswith(f'[{datastore.plain_name}]'):
                return moref
        return morefs[0] if len(morefs) == 1 else ''

    # -- Files --------------------------------------------------------------

    def _files(self, datastores: Iterable[model.Datastore]
               ) -> Iterator[compare.File]:
        tasks = [(each, self._search(each)) for each in datastores]
        for datastore, task in tasks:
            self._driver.session.wait_for_task(task)
            result = self._ops.properties(task, 'info.result').get(
                'info.result')
            for folder in disk_scan._elements(result):
                yield from _files_in(folder, datastore.plain_name)

    def _search(self, datastore: model.Datastore) -> Any:
        browser = self._ops.properties(vim_util.get_moref(
            datastore.moref, 'Datastore'), 'browser')['browser']
        reply = self._driver.session.invoke_api(
            self._client, 'call', 'SearchDatastoreSubFolders_Task', browser, {
                'datastorePath': f'[{datastore.name}]',
                'searchSpec': soap.Typed('', {
                    'details': soap.Typed('', {
                        'fileType': False, 'fileSize': True,
                        'modification': True, 'fileOwner': False}),
                    'matchPattern': '*.vmdk'})})
        return vim_util.get_moref(soap.ref(reply[0]).value, 'Task')


def _files_in(folder: etree._Element, place: str) -> Iterator[compare.File]:
    path = (folder.findtext(disk_scan._tag('folderPath')) or '').partition(
        ']')[2].strip(' /')
    for file in folder.iterfind(disk_scan._tag('file')):
        name = file.findtext(disk_scan._tag('path')) or ''
        yield compare.File(
            place, f'{path}/{name}' if path else name,
            int(file.findtext(disk_scan._tag('fileSize')) or 0),
            _age(file.findtext(disk_scan._tag('modification'))))


def _points(tree: Any) -> Iterator[compare.Point]:
    if isinstance(tree, etree._Element):
        for node in tree.iter(disk_scan._tag('rootSnapshotList'),
                              disk_scan._tag('childSnapshotList')):
            yield compare.Point(
                node.findtext(disk_scan._tag('snapshot')) or '',
                node.findtext(disk_scan._tag('name')) or '',
                _age(node.findtext(disk_scan._tag('createTime'))))


def _age(moment: Any) -> float | None:
    """Seconds since a moment that the vCenter told; None: it did not."""
    if not moment:
        return None
    if not isinstance(moment, datetime.datetime):
        moment = timeutils.parse_isotime(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    if moment < _NEVER:
        return None
    return (timeutils.utcnow(with_timezone=True) - moment).total_seconds()
