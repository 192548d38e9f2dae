# SPDX-License-Identifier: Apache-2.0
"""Reads all disks of a vCenter in bulk: those of VMs, and bare files."""

import re
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import model
from cinder_vmdk_ext.volumes import manageable
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import virtual_devices as devices

# Marks in the extra configuration of VMs.
VOLUME_ID = 'cinder.volume.id'
SNAPSHOT_ID = 'cinder.snapshot.id'
# The volume that an unmanaged shadow VM was.
UNMANAGED = 'vmdk-ext.unmanaged-volume'
# Ids of the volumes that a VM was before, with commas.
FORMERLY = 'vmdk-ext.former-volumes'
# The volume that a template was taken of.
SOURCE_VOLUME = 'vmdk-ext.source-volume'
# The instance that a VM of Nova's is.
INSTANCE_ID = 'nvp.vm-uuid'
_MARKS = (VOLUME_ID, SNAPSHOT_ID, UNMANAGED, FORMERLY, SOURCE_VOLUME,
          INSTANCE_ID)

_DEVICES = 'config.hardware.device'
_VM_PATHS = ('name', 'parent', 'config.instanceUuid', 'config.template',
             'config.managedBy', 'runtime.powerState', 'snapshot', _DEVICES,
             *(
                 f'config.extraConfig["{mark}"]' for mark in _MARKS))
_TREE_PATHS = {'VirtualMachine': ('name',), 'Folder': ('name', 'parent'),
               'Datacenter': ('name', 'parent')}
_VOLUME_NAME = re.compile('volume-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
# Virtual hardware is the bulk of what is read; so many replies' worth of it
# is held at a time.
_VMS_A_CALL = 200


class Snapshot(NamedTuple):
    """A snapshot in a VM's tree, or a template that stands for one."""

    moref: str
    name: str
    machine: manageable.Machine
    size_bytes: int
    source_volume_id: str  # empty: nobody knows


class Census:
    """Looks through the whole vCenter."""

    def __init__(self, session: Any, client: soap.Client,
                 ops: volumeops.VolumeOps, extension_key: str) -> None:
        """:param extension_key: whose VMs are Cinder's"""
        self._extension_key = extension_key
        self._session = session
        self._client = client
        self._ops = ops

    # -- Disks of VMs -------------------------------------------------------

    def disks(self, morefs: Iterable[str] | None = None
              ) -> list[manageable.Disk]:
        """The disks of some VMs; or of all, then with inventory paths.

        A VM that has gone meanwhile is left out.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        tree: collector.Properties = {}
        if morefs is None:
            tree = collector.read_all(self._session, self._client,
                                      _TREE_PATHS)
            morefs = [ref.value for ref in tree
                      if ref.type == 'VirtualMachine']
        return [disk for moref, seen in self._read(morefs)
                for disk in _disks(self._machine(moref, seen, tree), seen)]

    def disks_on(self, datastore: str) -> list[manageable.Disk]:
        """The disks of all VMs that use a datastore (moref)."""
        vms = self._ops.properties(
            vim_util.get_moref(datastore, 'Datastore'), 'vm').get('vm')
        return self.disks(ref.value for ref in vms or ())

    def snapshots(self) -> list[Snapshot]:
        """Snapshots of all shadow VMs, in both formats."""
        found = []
        for moref, seen in self._read(ref.value for ref in collector.read_all(
                self._session, self._client, {'VirtualMachine': ('name',)})):
            vm = self._machine(moref, seen, {})
            if not (vm.template or vm.volume_id):
                continue
            disks = _disks(vm, seen)
            size_bytes = disks[0].size_bytes if disks else 0
            if vm.template:
                source = _mark(seen, SOURCE_VOLUME) or vm.volume_id
                if source or vm.snapshot_id:
                    found.append(Snapshot(moref, vm.name, vm, size_bytes,
                                          source))
                continue
            found += [Snapshot(snapshot, name, vm, size_bytes, vm.volume_id)
                      for snapshot, name in tree_of(seen.get('snapshot'))]
        return found

    def template(self, moref: str) -> Snapshot | None:
        """What a template tells of itself; None: it is none."""
        for _moref, seen in self._read([moref]):
            vm = self._machine(moref, seen, {})
            disks = _disks(vm, seen)
            if vm.template and len(disks) == 1:
                return Snapshot(moref, vm.name, vm, disks[0].size_bytes,
                                _mark(seen, SOURCE_VOLUME) or vm.volume_id)
        return None

    def former_ids(self, moref: str) -> set[str]:
        """Ids of the volumes that a shadow VM was."""
        return {each for _moref, seen in self._read([moref])
                for each in self._machine(moref, seen, {}).former_ids}

    def _machine(self, moref: str, seen: dict[str, Any],
                 tree: collector.Properties) -> manageable.Machine:
        disk_count = sum(1 for device in devices.parse(seen.get(_DEVICES))
                         if device.kind == 'VirtualDisk')
        unmanaged = _mark(seen, UNMANAGED)
        volume_id = _mark(seen, VOLUME_ID)
        former = [volume_id, unmanaged, *_mark(seen, FORMERLY).split(',')]
        uuid = (seen.get('config.instanceUuid') or '').lower()
        manager = seen.get('config.managedBy')
        ours = isinstance(manager, etree._Element) and manager.findtext(
            _tag('extensionKey')) == self._extension_key
        name = seen.get('name') or moref
        above = _path(seen.get('parent'), tree)
        return manageable.Machine(
            moref, name, f'{above}/{name}' if above else None,
            uuid=uuid, volume_id=volume_id,
            snapshot_id=_mark(seen, SNAPSHOT_ID),
            instance_id=_mark(seen, INSTANCE_ID),
            former_ids=tuple(filter(None, former)), ours=ours,
            # Upstream's driver leaves the name, and takes the mark away.
            left_behind=bool(unmanaged) or bool(
                ours and not volume_id and _VOLUME_NAME.fullmatch(name)),
            template=bool(seen.get('config.template')),
            power_state=seen.get('runtime.powerState') or 'unknown',
            has_snapshots=bool(tree_of(seen.get('snapshot'))),
            disk_count=disk_count)

    def _read(self, morefs: Iterable[str]
              ) -> Iterator[tuple[str, dict[str, Any]]]:
        morefs = list(morefs)
        for start in range(0, len(morefs), _VMS_A_CALL):
            found = self._ops.read_vms(morefs[start:start + _VMS_A_CALL],
                                       _VM_PATHS)
            for ref, seen in found.items():
                yield ref.value, seen

    # -- Files --------------------------------------------------------------

    def files(self, datastores: Iterable[model.Datastore],
              used: Iterable[manageable.Disk]) -> list[manageable.Disk]:
        """Disks on datastores that no VM uses, not even in a snapshot.

        The datastores are searched at the same time.

        :param used: the disks of all VMs
        """
        used = list(used)
        taken = {disk.place for disk in used}
        found = [disk for disk in self._search(datastores)
                 if disk.place not in taken]
        if not found:
            return []
        below = self._below_snapshots(used, {each.moref: each
                                             for each in datastores})
        return [disk for disk in found if disk.place not in below]

    def file(self, datastore: model.Datastore,
             path: str) -> manageable.Disk | None:
        """The disk file of that path; None when there is none."""
        folder, _, name = path.rpartition('/')
        try:
            found = self._result(datastore, self._start(
                'SearchDatastore_Task', datastore, folder, name))
        except vmware_exceptions.FileNotFoundException:
            return None
        return next((disk for disk in found if disk.path == path), None)

    def is_in_snapshots(self, disk: manageable.Disk,
                        datastore: model.Datastore) -> bool:
        """Whether a file is part of the snapshots of some VM."""
        return disk.place in self._below_snapshots(
            self.disks_on(datastore.moref), {datastore.moref: datastore})

    def _search(self, datastores: Iterable[model.Datastore]
                ) -> list[manageable.Disk]:
        tasks = [(each, self._start('SearchDatastoreSubFolders_Task', each))
                 for each in datastores]
        return [disk for datastore, task in tasks
                for disk in self._result(datastore, task)]

    def _start(self, method: str, datastore: model.Datastore,
               folder: str = '', name: str = '*.vmdk') -> soap.Ref:
        ref = vim_util.get_moref(datastore.moref, 'Datastore')
        browser = self._ops.properties(ref, 'browser')['browser']
        reply = self._session.invoke_api(
            self._client, 'call', method, browser, {
                'datastorePath': f'[{datastore.name}] {folder}'.rstrip(),
                'searchSpec': soap.Typed('', {
                    'query': soap.Typed('VmDiskFileQuery', {
                        'details': soap.Typed('', {
                            'diskType': True, 'capacityKb': True,
                            'hardwareVersion': False, 'thin': True})}),
                    'details': soap.Typed('', {
                        'fileType': True, 'fileSize': False,
                        'modification': False, 'fileOwner': False}),
                    'matchPattern': name})})
        return soap.ref(reply[0])

    def _result(self, datastore: model.Datastore, task: soap.Ref
                ) -> list[manageable.Disk]:
        ref = vim_util.get_moref(task.value, 'Task')
        self._session.wait_for_task(ref)
        result = self._ops.properties(ref, 'info.result').get('info.result')
        if not isinstance(result, etree._Element):
            return []
        # Of one folder it is one result, of a tree an array.
        folders = (result,) if result.find(_tag('folderPath')) is not None \
            else result
        return [disk for each in folders for disk in _files(datastore, each)]

    def _below_snapshots(self, used: list[manageable.Disk],
                         datastores: dict[str, model.Datastore]
                         ) -> set[tuple[str, str]]:
        """Places of disks that are part of VMs' snapshots."""
        names: dict[str, list[str]] = {}
        for moref, datastore in datastores.items():
            names.setdefault(datastore.name, []).append(moref)
        morefs = sorted({disk.machine.moref for disk in used if disk.machine
                         and (disk.machine.has_snapshots or disk.parent)})
        found = set()
        for start in range(0, len(morefs), _VMS_A_CALL):
            for seen in self._ops.read_vms(
                    morefs[start:start + _VMS_A_CALL],
                    ('layoutEx.file',)).values():
                for file in _elements(seen.get('layoutEx.file')):
                    place = manageable.split_path(
                        file.findtext(_tag('name')) or '')
                    if place:
                        # Of namesakes either may be meant.
                        found |= {(moref, place[1])
                                  for moref in names.get(place[0], ())}
        return found


def tree_of(tree: Any) -> list[tuple[str, str]]:
    """Moref and name of all snapshots in a VM's ``snapshot`` property."""
    if not isinstance(tree, etree._Element):
        return []
    return [(node.findtext(_tag('snapshot')) or '',
             node.findtext(_tag('name')) or '')
            for node in tree.iter(_tag('rootSnapshotList'),
                                  _tag('childSnapshotList'))]


def _path(parent: soap.Ref | None, tree: collector.Properties) -> str:
    names: list[str] = []
    while isinstance(parent, soap.Ref) and parent in tree:
        above = tree[parent]
        if not isinstance(above.get('parent'), soap.Ref):
            break  # the root folder is in no path
        names.insert(0, above.get('name') or '')
        parent = above.get('parent')
    return '/'.join(names)


def _disks(vm: manageable.Machine,
           seen: dict[str, Any]) -> list[manageable.Disk]:
    found = []
    for disk in devices.disks(devices.parse(seen.get(_DEVICES))):
        element = disk.device.element
        backing = element.find(_tag('backing'))
        sharing = backing.findtext(_tag('sharing')) or 'sharingNone'
        found.append(manageable.Disk(
            disk.datastore, disk.path.partition('] ')[2], disk.capacity_bytes,
            vm, disk.uuid.lower(), disk.device.key,
            (backing.get(f'{{{soap.XSI}}}type') or '').rpartition(':')[2],
            backing.findtext(_tag('diskMode')) or 'persistent',
            disk.provisioning, disk.parent or '',
            shared=sharing != 'sharingNone',
            encrypted=backing.find(_tag('keyId')) is not None,
            first_class=element.find(_tag('vDiskId')) is not None))
    return found


def _files(datastore: model.Datastore,
           folder: etree._Element) -> Iterator[manageable.Disk]:
    path = (folder.findtext(_tag('folderPath')) or '').partition(']')[2]
    path = path.strip(' /')
    for file in folder.iterfind(_tag('file')):
        size_kib = file.findtext(_tag('capacityKb'))
        if size_kib is None:
            continue  # an extent, or the delta of a missing parent
        name = file.findtext(_tag('path')) or ''
        yield manageable.Disk(
            datastore.moref, f'{path}/{name}' if path else name,
            int(size_kib) * 1024,
            kind=(file.findtext(_tag('diskType')) or manageable.FLAT
                  ).rpartition('.')[2],
            encrypted=file.find(_tag('encryption')) is not None,
            provisioning='thin' if file.findtext(_tag('thin')) == 'true'
            else 'thick')


def _mark(seen: dict[str, Any], mark: str) -> str:
    option = seen.get(f'config.extraConfig["{mark}"]')
    if not isinstance(option, etree._Element):
        return ''
    return option.findtext(_tag('value')) or ''


def _elements(array: Any) -> Iterable[etree._Element]:
    return array if isinstance(array, etree._Element) else ()


def _tag(name: str) -> str:
    return f'{{{soap.VIM}}}{name}'
