# SPDX-License-Identifier: Apache-2.0
"""Reads all disks of a vCenter in bulk: those of VMs, and bare files."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from lxml import etree

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import config
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import datastore_browser
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import virtual_devices as devices

_MARKS = (shadow.VOLUME_ID, shadow.SNAPSHOT_ID,
          shadow.UNMANAGED, shadow.FORMERLY,
          shadow.SOURCE_VOLUME, shadow.INSTANCE_ID)

_DEVICES = 'config.hardware.device'
_VM_PATHS = ('name', 'parent', 'config.instanceUuid', 'config.template',
             'config.managedBy', 'runtime.powerState', 'snapshot', _DEVICES,
             *(
                 f'config.extraConfig["{mark}"]' for mark in _MARKS))
_TREE_PATHS = {'VirtualMachine': ('name',), 'Folder': ('name', 'parent'),
               'Datacenter': ('name', 'parent')}
# Virtual hardware is most of what is read. At most this many replies with it
# are in memory at a time.
_VMS_A_CALL = 200
_EXTENSION_KEY = soap.tag('extensionKey')
_BACKING = soap.tag('backing')
_SHARING = soap.tag('sharing')
_DISK_MODE = soap.tag('diskMode')
_KEY_ID = soap.tag('keyId')
_V_DISK_ID = soap.tag('vDiskId')
_NAME = soap.tag('name')
_VALUE = soap.tag('value')


class DiskScan:
    """Scans the whole vCenter for disks, snapshots and templates."""

    def __init__(self, session: Any, client: soap.Client,
                 ops: volumeops.VolumeOps, extension_key: str,
                 inventory: Callable[[], model.Inventory] = model.Inventory
                 ) -> None:
        """:param extension_key: of the extension that manages Cinder's VMs
        :param inventory: returns the datastores, for names with brackets
        """
        self._inventory = inventory
        self._extension_key = extension_key
        self._session = session
        self._client = client
        self._ops = ops
        self._browser = datastore_browser.DatastoreBrowser(
            session, client, ops.properties)

    # -- Disks of VMs -------------------------------------------------------

    def disks(self, morefs: Iterable[str] | None = None
              ) -> list[shadow.ScannedDisk]:
        """The disks of some VMs, or of all VMs with their inventory paths.

        VMs that are deleted during the scan are left out.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        tree: collector.Properties = {}
        if morefs is None:
            tree = collector.read_all(self._session, self._client,
                                      _TREE_PATHS)
            morefs = [ref.value for ref in tree
                      if ref.type == 'VirtualMachine']
        return [disk for moref, seen in self._read(morefs)
                for disk in self._disks(self._machine(moref, seen, tree),
                                        seen)]

    def disks_on(self, datastore: str) -> list[shadow.ScannedDisk]:
        """The disks of all VMs that use a datastore (moref)."""
        vms = self._ops.properties(
            references.Ref('Datastore', datastore), 'vm').get('vm')
        return self.disks(ref.value for ref in vms or ())

    def snapshots(self) -> list[shadow.ScannedSnapshot]:
        """Snapshots of all shadow VMs, in both formats."""
        found = []
        for moref, seen in self._read(ref.value for ref in collector.read_all(
                self._session, self._client, {'VirtualMachine': ('name',)})):
            vm = self._machine(moref, seen, {})
            if not (vm.template or vm.volume_id):
                continue
            disks = self._disks(vm, seen)
            size_bytes = disks[0].size_bytes if disks else 0
            if vm.template:
                source = mark_of(seen, shadow.SOURCE_VOLUME) or vm.volume_id
                if source or vm.snapshot_id:
                    found.append(shadow.ScannedSnapshot(
                        moref, vm.name, vm, size_bytes, source))
                continue
            found += [shadow.ScannedSnapshot(snapshot, name, vm, size_bytes,
                                             vm.volume_id)
                      for snapshot, name, *_ in snapshot_tree.nodes(
                          seen.get('snapshot'))]
        return found

    def template(self, moref: str) -> shadow.ScannedSnapshot | None:
        """The snapshot that a template holds; None: the VM is no template."""
        for _moref, seen in self._read([moref]):
            vm = self._machine(moref, seen, {})
            disks = self._disks(vm, seen)
            if vm.template and len(disks) == 1:
                return shadow.ScannedSnapshot(
                    moref, vm.name, vm, disks[0].size_bytes,
                    mark_of(seen, shadow.SOURCE_VOLUME) or vm.volume_id)
        return None

    def former_ids(self, moref: str) -> set[str]:
        """Ids of the volumes that a shadow VM belonged to."""
        return {each for _moref, seen in self._read([moref])
                for each in self._machine(moref, seen, {}).former_ids}

    def _machine(self, moref: str, seen: dict[str, Any],
                 tree: collector.Properties) -> shadow.ScannedVm:
        disk_count = sum(1 for device in devices.parse(seen.get(_DEVICES))
                         if device.kind == 'VirtualDisk')
        unmanaged = mark_of(seen, shadow.UNMANAGED)
        volume_id = mark_of(seen, shadow.VOLUME_ID)
        former = [volume_id, unmanaged,
                  *mark_of(seen, shadow.FORMERLY).split(',')]
        uuid = (seen.get('config.instanceUuid') or '').lower()
        manager = seen.get('config.managedBy')
        ours = isinstance(manager, etree._Element) and manager.findtext(
            _EXTENSION_KEY) == self._extension_key
        name = seen.get('name') or moref
        above = inventory_path(seen.get('parent'), tree)
        return shadow.ScannedVm(
            moref, name, f'{above}/{name}' if above else None,
            uuid=uuid, volume_id=volume_id,
            snapshot_id=mark_of(seen, shadow.SNAPSHOT_ID),
            instance_id=mark_of(seen, shadow.INSTANCE_ID),
            former_ids=tuple(filter(None, former)), ours=ours,
            # Upstream's driver removes the mark and leaves the name.
            left_behind=bool(unmanaged) or bool(
                ours and not volume_id
                and config.name_patterns().volume_id(name)),
            template=bool(seen.get('config.template')),
            power_state=seen.get('runtime.powerState') or 'unknown',
            has_snapshots=bool(snapshot_tree.nodes(
                seen.get('snapshot'))),
            disk_count=disk_count)

    def _disks(self, vm: shadow.ScannedVm,
               seen: dict[str, Any]) -> list[shadow.ScannedDisk]:
        found = []
        for disk in devices.disks(devices.parse(seen.get(_DEVICES))):
            element = disk.device.element
            backing = element.find(_BACKING)
            sharing = backing.findtext(_SHARING) or 'sharingNone'
            found.append(shadow.ScannedDisk(
                disk.datastore, self._path_of(disk), disk.capacity_bytes,
                vm, disk.uuid.lower(), disk.device.key,
                soap.type_of(backing),
                backing.findtext(_DISK_MODE) or 'persistent',
                disk.provisioning, disk.parent or '',
                shared=sharing != 'sharingNone',
                encrypted=backing.find(_KEY_ID) is not None,
                first_class=element.find(_V_DISK_ID) is not None))
        return found

    def _path_of(self, disk: devices.Disk) -> str:
        """The path of a disk on its datastore."""
        _name, _, path = disk.path.partition('] ')
        if ']' in path:  # in the datastore's name or in the folder's
            return next((
                path for datastore, path
                in self._inventory().located(disk.path)
                if datastore.moref == disk.datastore), path)
        return path

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
              used: Iterable[shadow.ScannedDisk]) -> list[shadow.ScannedDisk]:
        """Disks on datastores that no VM uses, not even in a snapshot.

        :param used: the disks of all VMs
        """
        used = list(used)
        taken = {disk.place for disk in used}
        datastores = list(datastores)
        found = [disk for datastore, file in self._browser.disks(datastores)
                 if (disk := _bare(datastore, file)).place not in taken]
        if not found:
            return []
        below = self._below_snapshots(used, {each.moref: each
                                             for each in datastores})
        return [disk for disk in found if disk.place not in below]

    def file(self, datastore: model.Datastore,
             path: str) -> shadow.ScannedDisk | None:
        """The disk file at that path; None if no such file exists."""
        found = self._browser.disk(datastore, path)
        return _bare(datastore, found) if found is not None else None

    def beside(self, datastore: model.Datastore, path: str) -> list[str]:
        """Paths of the files ``*.vmdk`` in the folder of one."""
        return [found.path for found in self._browser.folder(
            datastore, path.rpartition('/')[0])]

    def is_in_snapshots(self, disk: shadow.ScannedDisk,
                        datastore: model.Datastore) -> bool:
        """Whether a file is part of the snapshots of some VM."""
        return disk.place in self._below_snapshots(
            self.disks_on(datastore.moref), {datastore.moref: datastore})

    def _with_snapshots(self, datastores: Iterable[str]) -> set[str]:
        """Morefs of the VMs on datastores that have snapshots."""
        wanted = set(datastores)
        return {ref.value for ref, seen in collector.read_all(
                    self._session, self._client,
                    {'VirtualMachine': ('snapshot', 'datastore')}).items()
                if seen.get('snapshot') is not None and not wanted.isdisjoint(
                    each.value for each in seen.get('datastore') or ())}

    def _below_snapshots(self, used: list[shadow.ScannedDisk],
                         datastores: dict[str, model.Datastore]
                         ) -> set[tuple[str, str]]:
        """Places of disks that are part of VMs' snapshots.

        A VM without a disk counts too: its snapshots may still have disks.
        """
        known = model.Inventory(datastores=datastores)
        morefs = sorted({disk.machine.moref for disk in used
                         if disk.machine and disk.parent}
                        | self._with_snapshots(datastores))
        found = set()
        for start in range(0, len(morefs), _VMS_A_CALL):
            for seen in self._ops.read_vms(
                    morefs[start:start + _VMS_A_CALL],
                    ('layoutEx.file',)).values():
                for file in soap.items(seen.get('layoutEx.file')):
                    # Any datastore of that name may be meant.
                    found |= {(datastore.moref, path)
                              for datastore, path in known.located(
                                  file.findtext(_NAME) or '')}
        return found


def inventory_path(parent: references.Ref | None,
                   tree: collector.Properties) -> str:
    """An object's inventory path: all names below the root folder."""
    names: list[str] = []
    while isinstance(parent, references.Ref) and parent in tree:
        above = tree[parent]
        if not isinstance(above.get('parent'), references.Ref):
            break  # paths leave out the root folder
        names.insert(0, above.get('name') or '')
        parent = above.get('parent')
    return '/'.join(names)


def _bare(datastore: model.Datastore,
          file: datastore_browser.Found) -> shadow.ScannedDisk:
    return shadow.ScannedDisk(
        datastore.moref, file.path, file.capacity_bytes or 0,
        kind=file.disk_type or shadow.FLAT, encrypted=file.encrypted,
        provisioning='thin' if file.thin else 'thick')


def mark_of(seen: dict[str, Any], mark: str) -> str:
    """The value of a key of a VM's extra configuration; '' if unset."""
    option = seen.get(f'config.extraConfig["{mark}"]')
    if not isinstance(option, etree._Element):
        return ''
    return option.findtext(_VALUE) or ''
