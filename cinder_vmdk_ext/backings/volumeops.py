# SPDX-License-Identifier: Apache-2.0
"""Operations in the vCenter that upstream lacks or does differently.

Parameters called ``backing``, ``folder`` and the like are oslo.vmware's
references, as in upstream's methods.
"""

import copy
import functools
import operator
import re
import sys
import threading
import uuid as uuids
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple
from typing import Protocol

from lxml import etree
from oslo_log import log as logging
from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder.volume.drivers.vmware import exceptions as vmdk_exceptions
from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import folders
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import model
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import snapshot_tree
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

_UUID = 'config.instanceUuid'
# Device keys: first disk of the first SCSI and of the first IDE controller.
_FIRST_DISKS = ('config.hardware.device[2000]', 'config.hardware.device[3000]')
_DEVICES, _OPTIONS = 'config.hardware.device', 'config.extraConfig'
_VOLUME_ID = 'config.extraConfig["cinder.volume.id"]'
# Storage I/O Control of a datastore, with reservations.
_RESERVING = ('iormConfiguration.enabled',
              'iormConfiguration.reservationEnabled')
BACKING_PATHS = {
    'VirtualMachine': ('name', _UUID, _VOLUME_ID,
                       'config.files.vmPathName', 'config.template',
                       'config.changeVersion', 'datastore')}


# Reading the devices of so many takes a few milliseconds, if each has many.
_VMS_A_TURN = 3
# Putting so many into an index takes a few milliseconds.
_ALL_A_TURN = 100
# Faults by which a vCenter refuses a part of a ConfigSpec.
_INVALID_SPEC = frozenset({
    'InvalidArgument', 'InvalidDeviceBacking', 'InvalidDeviceSpec',
    'InvalidRequest', 'InvalidVmConfig', 'NotSupported'})
# So many VMs that the driver has just made or placed are remembered, until the
# vCenter reports them.
MOST_NEW = 1000
# Nova notes the UUID of a volume's disk under this and the volume's id.
_NOVAS_NOTE = 'volume-'
_KEY = soap.tag('key')
_VALUE = soap.tag('value')


class BackingReader(Protocol):
    """Knows the shadow VMs, and instances that it follows."""

    def read_backings(self) -> shadow.Backings:
        """All shadow VMs, as they are."""

    def filling(self) -> bool:
        """Whether the first report of all VMs is still incomplete."""

    def moref_of(self, uuid: str) -> str | None:
        """The VM that probably has an instance UUID; makes no call."""

    def follow(self, morefs: Iterable[str], *, wait: bool = True) -> None:
        """Know instances, too, from now on."""

    def unfollow(self, moref: str) -> None:
        """Forget an instance, at some time; makes no call."""

    def datastores_of(self, moref: str) -> tuple[str, ...]:
        """The datastores (morefs) last reported for a VM; makes no call."""

    def deleting(self, moref: str) -> tuple[str, ...]:
        """As :meth:`datastores_of`, of a VM that is about to be deleted."""

    def not_deleted(self, moref: str) -> None:
        """Note that such a VM may still exist."""

    def lost_backings(self) -> dict[str, str]:
        """Vanished VMs to be sought: volume ids or '' by instance UUID."""

    def forget_lost(self, uuids: Iterable[str]) -> None:
        """Seek VMs no longer, by their instance UUIDs."""


class _New(NamedTuple):
    """A VM that the driver has just made or placed."""

    uuid: str
    # Morefs, or the path of the VM's files: '[datastore] folder'.
    datastores: tuple[str, ...] | str
    host: str  # moref; '': unknown


class VolumeOps(folders.PlaceOps):
    """Volume operations; calls that differ from upstream's."""

    def __init__(self, session: Any, max_objects: int, extension_key: str,
                 extension_type: str, *, client: soap.Client) -> None:
        super().__init__(session, max_objects, extension_key, extension_type)
        self._client = client
        # Keeps the VMs of volumes in memory; None: each read asks the vCenter.
        self.backing_view: BackingReader | None = None
        # Called with a datastore's moref after something was deleted there.
        self.freed: Callable[[str], None] = lambda moref: None
        # Returns the mark of this deployment; '': unknown.
        self.deployment: Callable[[], str] = lambda: ''
        self._looks_by_name = False
        self._name_regex: Any = None
        # Whether the UUID of a new disk is given in the call that creates it.
        self._new_disks_have_uuids = True
        self._noting = threading.Lock()
        # By moref: those that may not have been reported yet, and their
        # morefs by instance UUID.
        self._new: dict[str, _New] = {}
        self._new_uuids: dict[str, str] = {}
        #: Where the driver moves VMs (morefs), until that is reported.
        self.placed: dict[str, str] = {}
        # New VMs (morefs) with a disk whose UUID is not checked yet.
        self._unchecked: dict[str, None] = {}

    # -- What the vCenter has not reported yet ------------------------------

    def note_new(self, vm: Any, datastores: tuple[str, ...] | str,
                 uuid: str = '', host: str = '') -> None:
        """Note a VM that was just made, or read; makes no call.

        The vCenter may report it only after the next operation on it. The
        note holds until its next report.

        :param datastores: morefs, or a path: '[datastore] folder'
        :param host: moref of a host that mounts the datastore of that path
        """
        if self.backing_view is None:
            return  # each read asks the vCenter
        with self._noting:
            self._new[vm.value] = _New(uuid, datastores, host)
            if uuid:
                self._new_uuids[uuid] = vm.value
            while len(self._new) > MOST_NEW:
                self._take_new(next(iter(self._new)))

    def _take_new(self, moref: str) -> _New | None:
        known = self._new.pop(moref, None)
        if known and self._new_uuids.get(known.uuid) == moref:
            del self._new_uuids[known.uuid]
        return known

    def reported(self, changes: Iterable[tuple[
            shadow.Backing | None, shadow.Backing | None]]) -> None:
        """Note that VMs have been reported, by the long poll's thread.

        Where the driver has moved one away from, the figures are refreshed.

        :param changes: each VM as it was reported before, and now; None: it
            was not known, or is gone
        """
        if not (self._new or self.placed):
            return
        for old, now in changes:
            known = old or now
            if known is None:
                continue
            with self._noting:
                new = self._take_new(known.moref)
            before = (old.datastores if old else
                      self._places_of(new) if new else ())
            left = set(before).difference(now.datastores if now else ())
            if known.moref in self.placed and left:
                del self.placed[known.moref]
                for moref in left if now else ():
                    self.freed(moref)
        while len(self.placed) > MOST_NEW:
            self.placed.pop(next(iter(self.placed)), None)

    def datastores_used(self, vm: Any, deleting: bool = False
                        ) -> tuple[str, ...]:
        """The datastores (morefs) that a VM probably uses; makes no call.

        :param deleting: the VM is about to be deleted; what was noted of it
            is forgotten
        :returns: empty if it is known neither by a report nor by an operation
        """
        view = self.backing_view
        if view is None:
            return ()
        moref = vm.value
        new, placed = self._new.get(moref), self.placed.get(moref)
        if deleting:
            with self._noting:
                self._take_new(moref)
            self.placed.pop(moref, None)
            self._unchecked.pop(moref, None)
        found = dict.fromkeys(view.deleting(moref) if deleting
                              else view.datastores_of(moref))
        if new is not None:
            found |= dict.fromkeys(self._places_of(new))
        if placed is not None:
            found[placed] = None
        return tuple(found)

    def _places_of(self, new: _New) -> Iterable[str]:
        return (self._named(new.datastores, new.host)
                if isinstance(new.datastores, str) else new.datastores)

    def _named(self, path: str, host: str) -> list[str]:
        """The datastore (moref) of '[datastore] folder' on a host."""
        inventory = self.inventory_view and self.inventory_view.known()
        return [datastore.moref for datastore, _path
                in (inventory.located(path) if inventory else ())
                if not host or host in datastore.mounted_hosts]

    # -- Which VM a volume has ----------------------------------------------

    def read_backings(self) -> shadow.Backings:
        """All shadow VMs, as they are.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        if self.backing_view is not None:
            return self.backing_view.read_backings()
        return self.read_all_backings()

    def backings_known(self) -> bool:
        """Whether :meth:`read_backings` returns without a long wait."""
        return self.backing_view is None or not self.backing_view.filling()

    def follow(self, morefs: Iterable[str], *, wait: bool = True) -> None:
        """Have :meth:`read_backings` know instances, from now on.

        :param wait: return when it does, or after half a minute
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        if self.backing_view is not None:
            self.backing_view.follow(morefs, wait=wait)

    def unfollow(self, moref: str) -> None:
        """Forget an instance, at some time; makes no call."""
        if self.backing_view is not None:
            self.backing_view.unfollow(moref)

    def follow_by_uuid(self, uuids: Iterable[str]) -> frozenset[str]:
        """As :meth:`follow`, by instance UUID; one search for each.

        :returns: the UUIDs of which the vCenter has no VM
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        found = {uuid: super(VolumeOps, self).get_backing_by_uuid(uuid)
                 for uuid in uuids}
        self.follow([vm.value for vm in found.values() if vm])
        return frozenset(uuid for uuid, vm in found.items() if not vm)

    def seek_lost(self, exist: Callable[[Iterable[str]], Container[str]],
                  attached: Callable[[Iterable[str]], Container[str]]
                  ) -> None:
        """Seek VMs that vanished, and know those that are found.

        Makes one search for each whose volume exists, and for each instance
        that has attachments, at most 20 at a time.

        :param exist: returns which of these volumes (ids) exist
        :param attached: returns which of these instances (UUIDs in lower
            case) have attachments
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        lost = self.backing_view.lost_backings() if self.backing_view else {}
        if self.backing_view is None or not lost:
            return
        existing = exist({each for each in lost.values() if each})
        in_use = attached({uuid.lower() for uuid, volume_id in lost.items()
                           if not volume_id})
        sought = [uuid for uuid, volume_id in lost.items()
                  if (volume_id in existing if volume_id
                      else uuid.lower() in in_use)]
        self.backing_view.forget_lost(lost.keys() - set(sought))
        gone = self.follow_by_uuid(sought)
        self.backing_view.forget_lost(set(sought) - gone)

    def read_all_backings(self) -> shadow.Backings:
        """All shadow VMs in one bulk read.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        found = collector.read_all(self._session, self._client, BACKING_PATHS)
        return shadow.Backings(
            backing_of(moref, seen) for (_kind, moref), seen
            in concurrency.in_turns(found.items(), _ALL_A_TURN))

    def read_backing(self, moref: str) -> shadow.Backing | None:
        """A shadow VM as the vCenter has it now; None: it is gone."""
        found = self.read_vms([moref], BACKING_PATHS['VirtualMachine'])
        return next((backing_of(moref, seen) for seen in found.values()),
                    None)

    def hosts_of_all(self) -> list[tuple[str, str, str]]:
        """Reference, instance UUID and host of each VM, by one bulk read."""
        found = collector.read_all(
            self._session, self._client,
            {'VirtualMachine': (_UUID, 'runtime.host')})
        return [(moref, seen.get(_UUID) or '', seen['runtime.host'].value)
                for (_kind, moref), seen in found.items()
                if seen.get('runtime.host') is not None]

    def template_named(self, name: str) -> Any:
        """The template of that name in any folder, by one bulk read.

        :returns: its reference; None: no template has the name
        """
        return next(iter(self.templates_named(name)), None)

    def templates_named(self, name: str) -> list[Any]:
        """References of all templates of a name, by one bulk read.

        :param name: as the vCenter stores it, or as an operator writes it
        """
        found = collector.read_all(
            self._session, self._client,
            {'VirtualMachine': ('name', 'config.template')})
        return [references.Ref('VirtualMachine', moref)
                for (_kind, moref), seen in found.items()
                if seen.get('config.template') and name in (
                    seen.get('name'), model.plain_name(seen.get('name', '')))]

    def marked(self, key: str, value: str) -> list[tuple[str, str]]:
        """VMs with that extra configuration, by one bulk read.

        :returns: moref and name of each
        """
        path = f'config.extraConfig["{key}"]'
        return [(moref, seen.get('name') or '')
                for (_kind, moref), seen in collector.read_all(
                    self._session, self._client,
                    {'VirtualMachine': ('name', path)}).items()
                if _option_value(seen.get(path)) == value]

    def build_backing_ref_cache(self, name_regex: Any = None) -> None:
        """Do nothing yet: backings of old releases are read on first need.

        Such VMs can be found only by name, which requires reading all VMs.
        """
        self._name_regex = name_regex
        self._looks_by_name = True

    def get_backing(self, name: str, backing_uuid: str) -> Any:
        """The backing with that UUID, or with that name (old releases).

        :returns: its reference; None: the vCenter has no such backing
        """
        found = super().get_backing(name, backing_uuid)
        if found or not self._looks_by_name or (
                self._name_regex and not self._name_regex.match(name)):
            return found
        found = _of_old_release(self.read_backings().by_name(name))
        if found is None and operation.current().everywhere:
            # Memory may lack a VM outside of the folders of volumes.
            found = _of_old_release(self.read_all_backings().by_name(name))
        return found

    def get_backing_by_uuid(self, uuid: str) -> Any:
        """The VM with that instance UUID, which may be a template.

        :returns: its reference; None: no VM has the UUID
        """
        found = self._prefetched(uuid)
        if found is None:
            return super().get_backing_by_uuid(uuid)
        return references.Ref('VirtualMachine', found)

    def _prefetched(self, uuid: str) -> str | None:
        """The VM that memory has for the UUID, if its own UUID agrees."""
        wanted = operation.current().prefetch
        if wanted is None or self.backing_view is None:
            return None
        found = wanted.found(uuid)
        if found is not None:
            return found
        moref = (self.backing_view.moref_of(uuid)
                 or self._new_uuids.get(uuid))
        if moref is None:
            return None
        found_vms = self.read_vms([moref, *wanted.others],
                                  (_UUID, *wanted.paths))
        seen = found_vms.get(references.Ref('VirtualMachine', moref), {})
        if seen.get(_UUID) != uuid:
            return None
        wanted.keep(uuid, moref, [(vm.value, properties)
                                  for vm, properties in found_vms.items()])
        return moref

    def _take_prefetched(self, vm: Any, *paths: str) -> dict[str, Any] | None:
        wanted = operation.current().prefetch
        if wanted is None:
            return None
        return wanted.take(vm.value, paths)

    # -- Reading ------------------------------------------------------------

    def get_host(self, instance: Any) -> Any:
        """The host that a VM is on."""
        prefetched = self._take_prefetched(instance, 'runtime.host')
        host = prefetched and prefetched.get('runtime.host')
        if not host:
            return super().get_host(instance)
        return host

    def get_datastore(self, backing: Any) -> Any:
        """The datastore of a VM's disk, or of its first file without a disk.

        A VM uses several datastores if its disk, its own files, its snapshots
        or an ISO image are on different ones.
        """
        found = self._take_prefetched(backing, 'datastore')
        datastores = found and found.get('datastore')
        if not datastores:
            datastores = self.properties(backing, 'datastore').get('datastore')
        if not datastores:
            return None
        if len(datastores) > 1:
            for disk in devices.disks(self.devices_of(backing)):
                return references.Ref('Datastore', disk.datastore)
        return datastores[0]

    def properties(self, entity: Any, *paths: str) -> dict[str, Any]:
        """Properties of one managed object; absent ones are left out.

        :raises ManagedObjectNotFoundException: it is gone
        """
        prefetched = self._take_prefetched(entity, *paths)
        if prefetched is not None:
            return prefetched
        # The reference may come from oslo.vmware.
        return collector.properties(
            self._session, self._client,
            references.Ref(entity._type, entity.value), paths)

    def reserving(self, datastores: Iterable[str]) -> frozenset[str]:
        """Those of datastores (morefs) that reserve I/O operations.

        That is, with Storage I/O Control and its reservations enabled
        (Datastore.iormConfiguration).
        """
        found = collector.read_objects(
            self._session, self._client,
            [references.Ref('Datastore', moref) for moref in datastores],
            _RESERVING)
        return frozenset(ref.value for ref, values in found.items()
                         if all(map(values.get, _RESERVING)))

    def read_vms(self, morefs: Iterable[str], paths: tuple[str, ...],
                 value: collector.Value | None = None
                 ) -> collector.Properties:
        """Properties of many VMs, by their moref values, in one read.

        VMs that no longer exist are left out.

        :param value: converts each property when it arrives
        """
        return collector.read_objects(
            self._session, self._client,
            [references.Ref('VirtualMachine', moref) for moref in morefs],
            paths, value)

    def disks_of(self, morefs: Iterable[str]) -> dict[str, list[devices.Disk]]:
        """The disks of many VMs in one call, by the VMs' moref values.

        They can be compared, not edited (:func:`devices.disks_in`). VMs that
        no longer exist are left out.
        """
        found = self.read_vms(
            morefs, (_DEVICES,),
            lambda _kind, _path, element: devices.disks_in(element))
        return {vm.value: seen.get(_DEVICES, []) for vm, seen
                in found.items()}

    def volume_ids_on(self, morefs: Iterable[str]) -> dict[str, set[str]]:
        """Ids of volumes whose disks instances may have, by the VMs' morefs.

        They come from the UUIDs of the disks and from Nova's notes on the
        instances, so some may belong to no volume. Makes one call; VMs that
        no longer exist are left out.
        """
        found = {}
        for vm, seen in concurrency.in_turns(self.read_vms(
                morefs, (_DEVICES, _OPTIONS)).items(), _VMS_A_TURN):
            ids = {disk.uuid for disk in devices.disks_in(seen.get(_DEVICES))}
            options = seen.get(_OPTIONS)
            for option in options if options is not None else ():
                name = option.findtext(_KEY) or ''
                if name.startswith(_NOVAS_NOTE):
                    ids.add(name.removeprefix(_NOVAS_NOTE))
            found[vm.value] = {each.lower() for each in ids
                               if uuidutils.is_uuid_like(each)}
        return found

    def devices_of(self, vm: Any) -> list[devices.Device]:
        """The virtual devices of a VM."""
        return devices.parse(self.properties(
            vm, 'config.hardware.device').get('config.hardware.device'))

    def disk_of(self, backing: Any) -> devices.Disk:
        """The disk of a shadow VM.

        :raises VirtualDiskNotFoundException: it has none
        """
        for disk in devices.disks(self.devices_of(backing)):
            return disk
        raise vmdk_exceptions.VirtualDiskNotFoundException()

    def has_disk(self, backing: Any) -> bool:
        """Whether a VM has a disk; keeps what was prefetched."""
        wanted = operation.current().prefetch
        known = wanted.peek(backing.value) if wanted else {}
        if any(known.get(first) is not None for first in _FIRST_DISKS):
            return True
        path = 'config.hardware.device'
        if path in known:
            return bool(devices.disks(devices.parse(known[path])))
        # Memory does not know the VM, or no operation has read it ahead.
        found = self.properties(backing, path).get(path)
        disks = devices.disks(devices.parse(found))
        if disks:
            self.note_new(backing, tuple(disk.datastore for disk in disks))
        return bool(disks)

    def _read_ahead(self, backing: Any) -> list[devices.Disk]:
        """Disks of a VM from the prefetched properties, which are kept."""
        wanted = operation.current().prefetch
        known = wanted.peek(backing.value) if wanted else {}
        found = map(known.get, _FIRST_DISKS)
        array = etree.Element('devices')
        array.extend(copy.deepcopy(each) for each in found
                     if etree.iselement(each))
        return devices.disks(devices.parse(array))

    def limits_of(self, backing: Any) -> devices.Allocation:
        """What a shadow VM's disk has other than vSphere's defaults.

        Makes no call if the VM's devices were read in advance, and keeps
        them.
        """
        wanted = operation.current().prefetch
        known = (wanted.peek(backing.value) if wanted else {}).get(_DEVICES)
        found = (devices.parse(known) if known is not None
                 else self.devices_of(backing))
        return _chosen(found, None).limits.unusual()

    def missing_file(self, source: Any) -> str | None:
        """The path of a file that a disk needs and that is missing.

        Makes one call for each file of the disk's chain
        (VirtualDiskManager.QueryVirtualDiskUuid), because a VM lists its disk
        even if the files are missing.

        :param source: a shadow VM, a template, or a snapshot in a VM's tree
        :returns: None: the files exist, or the vCenter does not know
        :raises VirtualDiskNotFoundException: it has no disk
        """
        disk = next(iter(self._read_ahead(source)), None) or self.disk_of(
            source)
        for path in disk.chain:
            try:
                self.file_uuid(disk.datastore, path)
            except vmware_exceptions.FileNotFoundException:
                return path
            except vmware_exceptions.VimException as error:
                LOG.debug('Whether %(path)s is there is unknown: %(error)s',
                          {'path': path, 'error': error})
        return None

    def file_uuid(self, datastore: str, path: str) -> str:
        """The UUID of a disk (VirtualDiskManager.QueryVirtualDiskUuid).

        :param datastore: its moref
        :param path: '[datastore] folder/name.vmdk'
        :returns: as a virtual device has it
        :raises FileNotFoundException: there is no such file
        """
        manager = self._session.vim.service_content.virtualDiskManager
        reply = self._call('QueryVirtualDiskUuid', manager, {
            'name': path, 'datacenter': self.get_dc(
                references.Ref('Datastore', datastore))})
        # It comes as '60 00 c2 9e ... -...'.
        return str(uuids.UUID(re.sub('[^0-9a-fA-F]', '', reply[0].text)))

    def most_data_bytes(self, backing: Any, size_bytes: int) -> int:
        """What of a shadow VM's disk is not zeros, at most, in bytes.

        A thin disk's data takes no more than the VM's files do
        (``summary.storage.committed``, after RefreshStorageInfo).

        :param size_bytes: the disk's capacity, which is the most of others
        """
        # The vCenter's own figure of a VM that does not run may be old.
        self._call('RefreshStorageInfo', backing)
        taken = self.properties(backing, 'summary.storage.committed').get(
            'summary.storage.committed')
        return size_bytes if taken is None else min(size_bytes, taken)

    def adapter_of(self, backing: Any) -> str | None:
        """The adapter of a shadow VM's disk; None: an unknown kind.

        :raises VirtualDiskNotFoundException: it has no disk
        """
        hardware = self.devices_of(backing)
        return devices.adapter_of(_chosen(hardware, None), hardware)

    def _create_backing_int(self, folder: Any, resource_pool: Any, host: Any,
                            create_spec: Any) -> Any:
        """Create a VM, whose new disk gets its volume's id as its UUID.

        The API reference does not say what a vCenter does with the UUID of a
        disk that it creates. :meth:`update_backing_disk_uuid` checks it, and
        if the vCenter refuses it, the VM is created without one.
        """
        create = functools.partial(super()._create_backing_int, folder,
                                   resource_pool, host, create_spec)
        disk = _new_disk(create_spec)
        created = (create() if disk is None else
                   self._create_with_uuid(create, disk, create_spec))
        self._note_created(created, create_spec, host)
        return created

    def _note_created(self, created: Any, spec: Any, host: Any) -> None:
        """Note a VM that was made of a ConfigSpec."""
        if _new_disk(spec) is not None:
            self._unchecked[created.value] = None
            while len(self._unchecked) > MOST_NEW:
                self._unchecked.pop(next(iter(self._unchecked)), None)
        if self.backing_view is not None:
            self.note_new(created, spec.files.vmPathName,
                          getattr(spec, 'instanceUuid', None) or '',
                          host.value)

    def _create_with_uuid(self, create: Callable[[], Any], disk: Any,
                          spec: Any) -> Any:
        """Create a VM; give its new disk a UUID, or none if it is refused."""
        if not self._new_disks_have_uuids:
            return create()
        disk.backing.uuid = _volume_id(spec)
        try:
            return create()
        except vmware_exceptions.VimFaultException as error:
            if not _INVALID_SPEC.intersection(error.fault_list):
                raise
            refusal = error
        disk.backing.uuid = None
        created = create()
        self._new_disks_have_uuids = False
        LOG.info('The vCenter gives a new disk no UUID, so it is set '
                 'afterwards: %s', refusal)
        return created

    def update_backing_disk_uuid(self, backing: Any, disk_uuid: str) -> None:
        """Give a shadow VM's disk a UUID, if it has another one.

        Upstream reads all devices first, and always changes the VM
        (ReconfigVM_Task). A new VM has one disk, whose key is nearly always
        the first one of its kind of controller.
        """
        disk = self._first_disk(backing) or self.disk_of(backing)
        if disk.uuid.lower() != disk_uuid.lower():
            self.reconfigure(backing, deviceChange=[devices.change(
                'edit', devices.edited(disk, uuid=disk_uuid))])
        self._unchecked.pop(backing.value, None)

    def is_unchecked(self, backing: Any) -> bool:
        """Whether a VM is new, and the UUID of its disk was not checked."""
        return backing.value in self._unchecked

    def _first_disk(self, backing: Any) -> devices.Disk | None:
        array = etree.Element('devices')
        array.extend(filter(etree.iselement, self.properties(
            backing, *_FIRST_DISKS).values()))
        return next(iter(devices.disks(devices.parse(array))), None)

    def examine(self, backing: Any) -> tuple[devices.Disk, bool]:
        """The disk of a shadow VM, and whether the VM has snapshots.

        :raises VirtualDiskNotFoundException: it has no disk
        """
        seen = self.properties(backing, 'config.hardware.device', 'snapshot')
        return (_chosen(devices.parse(seen.get('config.hardware.device')),
                        None), bool(snapshot_tree.nodes(seen.get('snapshot'))))

    def get_snapshot(self, backing: Any, name: str) -> Any:
        """The snapshot of that name anywhere in the tree; None: no such one.

        After a revert the tree may have several roots.
        """
        return self.snapshots(backing).get(name)

    def snapshots(self, backing: Any) -> dict[str, Any]:
        """References of all snapshots of a VM by name."""
        return {node.name: references.Ref('VirtualMachineSnapshot', node.moref)
                for node in self._snapshot_nodes(backing)}

    def _snapshot_nodes(self, backing: Any) -> list[snapshot_tree.Node]:
        return snapshot_tree.nodes(
            self.properties(backing, 'snapshot').get('snapshot'))

    def snapshot_depth(self, backing: Any) -> int:
        """The number of snapshots from the root to the current state."""
        current = snapshot_tree.current(
            self.properties(backing, 'snapshot').get('snapshot'))
        return current.depth if current is not None else 0

    def snapshot_exists(self, backing: Any) -> bool:
        """Whether a VM has snapshots."""
        return bool(self.snapshots(backing))

    # -- Making and changing ------------------------------------------------

    def delete_snapshot(self, backing: Any, name: str) -> bool:
        """Delete a snapshot by its name; its children stay.

        :returns: whether the snapshot existed
        """
        snapshot = self.get_snapshot(backing, name)
        if snapshot:
            self.remove_snapshot(snapshot)
        return bool(snapshot)

    def remove_snapshot(self, snapshot: Any) -> None:
        """Delete one snapshot of a tree; its children stay."""
        self._task('RemoveSnapshot_Task', snapshot, {'removeChildren': False})

    def consolidate(self, vm: Any) -> None:
        """Merge the deltas that no snapshot needs (ConsolidateVMDisks_Task).

        Deltas that another VM needs stay.
        """
        self._task('ConsolidateVMDisks_Task', vm, {})

    def clone(self, name: str, source: Any, *, folder: Any, datastore: Any,
              host: Any = None, resource_pool: Any = None,
              extra_config: dict[str, str] | None = None,
              snapshot: Any = None, linked: bool = False,
              provisioning: str | None = None,
              profile_id: str | None = None,
              only_disk: str | None = None, template: bool = False,
              bios_uuid: str | None = None) -> Any:
        """Clone a VM as a shadow VM, or as a template (CloneVM_Task).

        The clone takes only one disk and its controller from the source's VM
        (:mod:`cinder_vmdk_ext.backings.copy_policy`).

        :param snapshot: clone from this snapshot of the source
        :param linked: make a delta of the snapshot's disk instead of a copy
        :param provisioning: disk type of the copy; None: as the source's
        :param only_disk: UUID of the disk to take; None: the first
        :returns: the clone's reference
        """
        # At the time of the snapshot the VM may have had other devices.
        seen = self.properties(snapshot or source, _DEVICES, _OPTIONS)
        hardware = devices.parse(seen.get(_DEVICES))
        disk = _chosen(hardware, only_disk)
        config = self._shadow_config(extra_config or {})
        own = {option.fields['key']: '' for option in config['extraConfig']}
        keys = copy_policy.keys_left_behind(filter(None, map(
            operator.methodcaller('findtext', _KEY),
            soap.items(seen.get(_OPTIONS)))), own)
        others = copy_policy.left_behind(hardware, disk)
        config |= {'uuid': bios_uuid, 'annotation': '',
                   'deviceChange': devices.removal(others)}
        config['extraConfig'] += _options(keys)
        location = _location(datastore, host, resource_pool)
        location['diskMoveType'] = (
            'createNewChildDiskBacking' if linked
            else 'moveAllDiskBackingsAndDisallowSharing')
        if not linked and (only_disk or provisioning or profile_id):
            location['disk'] = _locator(disk, datastore, provisioning,
                                        profile_id)
        if profile_id:
            location['profile'] = devices.profile(profile_id)
        made = self._task('CloneVM_Task', source, {
            'folder': folder, 'name': name,
            'spec': soap.Typed('', {
                'location': soap.Typed('', location),
                'template': template,
                'config': soap.Typed('', config),
                'powerOn': False,
                'snapshot': snapshot})
        }).result
        self._note_copy(made, datastore, extra_config)
        return made

    def _note_copy(self, made: Any, datastore: Any,
                   extra_config: dict[str, str] | None) -> None:
        # Without a datastore, a linked clone is where its source is.
        self.note_new(made, (datastore.value,) if datastore else (),
                      (extra_config or {}).get(upstream.BACKING_UUID_KEY, ''))

    def _shadow_config(self, extra_config: dict[str, str]) -> dict[str, Any]:
        """Fields of the ConfigSpec of a shadow VM."""
        extra_config = dict(extra_config)
        deployment = self.deployment()
        if deployment:
            extra_config[shadow.DEPLOYMENT] = deployment
        return {
            'instanceUuid': extra_config.pop(upstream.BACKING_UUID_KEY, None),
            'extraConfig': _options(extra_config),
            'managedBy': soap.Typed('', {
                'extensionKey': self._extension_key,
                'type': self._extension_type})}

    def relocate(self, vm: Any, datastore: Any, *, host: Any = None,
                 resource_pool: Any = None, provisioning: str | None = None,
                 profile_id: str | None = None,
                 only_disk: devices.Disk | None = None,
                 sharing: bool = True) -> None:
        """Move a VM with its disks, or one disk of it (RelocateVM_Task).

        :param provisioning: the disk's type after the move; None: unchanged
        :param only_disk: move this disk of an instance and leave the rest
        :param sharing: share layers with other VMs; False: copy them
        """
        location = _location(None if only_disk else datastore, host,
                             resource_pool)
        location['diskMoveType'] = (
            'moveAllDiskBackingsAndAllowSharing' if sharing
            else 'moveAllDiskBackingsAndDisallowSharing')
        if only_disk is not None:
            location['disk'] = _locator(only_disk, datastore, provisioning,
                                        profile_id)
        elif provisioning or profile_id:
            location['disk'] = _locator(self.disk_of(vm), datastore,
                                        provisioning, profile_id)
        if profile_id and not only_disk:
            location['profile'] = devices.profile(profile_id)
        self._task('RelocateVM_Task', vm, {
            'spec': soap.Typed('', location)})

    def relocate_home(self, backing: Any, datastore: Any) -> None:
        """Move a shadow VM's own files to the datastore of its disk."""
        disk = self.disk_of(backing)
        self._task('RelocateVM_Task', backing, {'spec': soap.Typed('', {
            'datastore': datastore,
            'disk': _locator(disk, datastore, None, None)})})

    def reconfigure_disk(self, backing: Any, *, disk_uuid: str | None = None,
                         adapter: str | None = None,
                         profile_id: str | None = None,
                         limits: devices.Allocation | None = None
                         ) -> devices.Disk:
        """Give a shadow VM's disk a UUID, an adapter, a policy and limits.

        None leaves a value unchanged; an empty ``profile_id`` removes the
        policy. All changes are made by one ReconfigVM_Task, so all of them
        happen or none. No task is started if nothing has to change.

        :returns: the disk as it was
        """
        hardware = self.devices_of(backing)
        disk = _chosen(hardware, None)
        if disk.uuid == disk_uuid:
            disk_uuid = None
        before, key, after = devices.to_adapter(disk, hardware, adapter)
        if limits is not None and (
                limits == disk.limits or devices.has_limits(disk, limits)):
            limits = None
        if (disk_uuid is None and key is None and profile_id is None
                and limits is None):
            return disk
        edit = devices.change('edit', devices.edited(
            disk, uuid=disk_uuid, controller_key=key, limits=limits),
            profile_id=profile_id)
        self.reconfigure(backing, deviceChange=[*before, edit, *after],
                         vmProfile=devices.profile(profile_id))
        return disk

    def set_identity(self, backing: Any, name: str,
                     extra_config: dict[str, str]) -> None:
        """Give a shadow VM the identity of a volume: name, UUID and mark.

        One ReconfigVM_Task sets all three, so no VM ever has half an identity.
        """
        config = self._shadow_config(extra_config)
        self.reconfigure(backing, name=name,
                         instanceUuid=config['instanceUuid'],
                         extraConfig=config['extraConfig'],
                         managedBy=config['managedBy'])

    def clear_identity(self, backing: Any, uuid: str,
                       extra_config: dict[str, str]) -> None:
        """Remove a shadow VM's identity; all else stays as it is.

        :param uuid: its instance UUID from now on
        """
        self.reconfigure(backing, instanceUuid=uuid,
                         extraConfig=_options(extra_config),
                         managedBy=soap.Typed('', {'extensionKey': '',
                                                   'type': ''}))

    def unmark_template(self, vm: Any, resource_pool: str,
                        host: str) -> None:
        """Make a template a VM again (MarkAsVirtualMachine).

        :param resource_pool: its moref; the VM is in it from then on
        :param host: moref of the host that the VM is registered on
        """
        self._call('MarkAsVirtualMachine', vm, {
            'pool': references.Ref('ResourcePool', resource_pool),
            'host': references.Ref('HostSystem', host)})

    def register(self, folder: Any, path: str, resource_pool: str | None,
                 host: str, name: str | None = None) -> str:
        """Put a VM or template into the inventory (RegisterVM_Task).

        :param path: of its .vmx or .vmtx file
        :param resource_pool: its moref; None: it becomes a template
        :param name: None: the name in its file
        :returns: its moref
        """
        task = self._task('RegisterVM_Task', folder, {
            'path': path, 'name': name, 'asTemplate': resource_pool is None,
            'pool': references.Ref('ResourcePool', resource_pool)
            if resource_pool else None,
            'host': references.Ref('HostSystem', host)})
        return str(task.result.value)

    def unregister(self, vm: Any) -> None:
        """Take a VM out of the inventory; its files stay (UnregisterVM)."""
        self._call('UnregisterVM', vm)

    def rename(self, vm: Any, name: str) -> None:
        """Give a VM or a template another name (Rename_Task)."""
        self._task('Rename_Task', vm, {'newName': name})

    def rename_snapshot(self, snapshot: Any, name: str,
                        description: str | None) -> None:
        """Give a snapshot in a VM's tree another name (RenameSnapshot)."""
        self._call('RenameSnapshot', snapshot, {
            'name': name, 'description': description or ''})

    def attach_file(self, backing: Any, path: str, size_bytes: int,
                    adapter: str, profile_id: str | None) -> None:
        """Give a shadow VM without disks a disk whose file already exists.

        :param path: '[datastore] folder/name.vmdk'
        """
        hardware = self.devices_of(backing)
        key = devices.NEW_CONTROLLER
        before: list[soap.Typed] = []
        if adapter == 'ide':
            key = devices.disk_controller(hardware) or 200
        else:
            before = [devices.change('add', devices.new_controller(adapter,
                                                                   hardware))]
        self.reconfigure(backing, deviceChange=[*before, devices.change(
            'add', devices.existing_disk(path, size_bytes, key),
            profile_id=profile_id)])

    def reattach_disk(self, vm: Any, disk: devices.Disk) -> None:
        """Give a VM back a disk that was removed from it."""
        self.reconfigure(vm, deviceChange=[devices.change(
            'add', devices.existing_disk(
                disk.path, disk.capacity_bytes,
                disk.device.controller_key or 0,
                devices.unit_number(disk), disk.limits))])

    def remove_disk(self, vm: Any, disk: devices.Disk) -> None:
        """Remove a disk from a VM; its file stays."""
        self.reconfigure(vm, deviceChange=devices.removal([disk.device]))

    def repoint_disk(self, backing: Any, path: str, size_bytes: int,
                     profile_id: str | None = None) -> None:
        """Make a shadow VM use another file as its disk; changes no file.

        The disk keeps its I/O limits, shares and reservation.

        :param path: '[datastore] folder/name.vmdk'
        :param profile_id: storage policy of the disk; it is not set while a
            running VM holds the disk locked
        """
        try:
            self._repoint(backing, path, size_bytes, profile_id)
        except vmware_exceptions.FileLockedException:
            if not profile_id:
                raise
            self._repoint(backing, path, size_bytes, None)

    def _repoint(self, backing: Any, path: str, size_bytes: int,
                 profile_id: str | None) -> None:
        hardware = self.devices_of(backing)
        old = devices.disks(hardware)
        controller = (old[0].device.controller_key if old
                      else devices.disk_controller(hardware))
        self.reconfigure(backing, deviceChange=[
            *devices.removal(disk.device for disk in old),
            devices.change('add', devices.existing_disk(
                path, size_bytes, controller or 0,
                limits=old[0].limits if old else devices.UNLIMITED),
                profile_id=profile_id)])

    def mark(self, vm: Any, key: str) -> str:
        """The value of a key of a VM's extra configuration; '' if unset."""
        path = f'config.extraConfig["{key}"]'
        return _option_value(self.properties(vm, path).get(path)) or ''

    def set_mark(self, vm: Any, key: str, value: str) -> None:
        """Set a key of a VM's extra configuration; '' removes it."""
        self.reconfigure(vm, extraConfig=_options({key: value}))

    def home_folder(self, vm: Any) -> str:
        """The folder of a VM's own files: '[datastore] folder'."""
        path = self.properties(vm, 'config.files.vmPathName').get(
            'config.files.vmPathName') or ''
        return path.rpartition('/')[0]

    def detach_disk(self, backing: Any) -> None:
        """Remove the disk from a shadow VM for a while; changes no file."""
        self.reconfigure(backing, deviceChange=devices.removal(
            disk.device for disk in devices.disks(self.devices_of(backing))))

    def move_file(self, datacenter: Any, source: str, target: str) -> None:
        """Move one file within a datacenter (MoveDatastoreFile_Task).

        :param source: its datastore path; also of a disk's descriptor, whose
            extent stays where it is
        """
        self._task('MoveDatastoreFile_Task',
                   self._session.vim.service_content.fileManager, {
                       'sourceName': source, 'sourceDatacenter': datacenter,
                       'destinationName': target,
                       'destinationDatacenter': datacenter, 'force': False})

    def set_disk_mode(self, vm: Any, disk: devices.Disk, mode: str) -> None:
        """Set a disk's mode (ReconfigVM_Task)."""
        self.reconfigure(vm, deviceChange=[devices.change(
            'edit', devices.edited(disk, mode=mode))])

    def resize_attached(self, instance: Any, disk: devices.Disk,
                        size_bytes: int) -> None:
        """Make a disk of a running VM larger (ReconfigVM_Task)."""
        self.reconfigure(instance, deviceChange=[devices.change(
            'edit', devices.edited(disk, capacity_bytes=size_bytes))])

    def reconfigure(self, vm: Any, **fields: Any) -> None:
        """ReconfigVM_Task with the given fields of the ConfigSpec."""
        self._task('ReconfigVM_Task', vm, {
            'spec': soap.Typed('', fields)})

    def _task(self, method: str, this: Any, arguments: dict[str, Any]) -> Any:
        """Start a task, wait for it, and return its TaskInfo."""
        reply = self._call(method, this, arguments)
        return self._session.wait_for_task(
            references.Ref('Task', reply[0].text))

    def _call(self, method: str, this: Any,
              arguments: dict[str, Any] | None = None) -> etree._Element:
        return self._session.invoke_api(self._client, 'call', method,
                                        this, arguments)


def _of_old_release(named: shadow.Backing | None) -> Any:
    """A VM that has a volume's name, if it may be the volume's backing."""
    # A VM of another volume may have this name; it is not this backing.
    if named is None or (named.uuid and named.uuid == named.volume_id):
        return None
    return references.Ref('VirtualMachine', named.moref)


def _options(values: dict[str, str]) -> list[soap.Typed]:
    return [soap.Typed('OptionValue', {'key': key,
                                       'value': value})
            for key, value in values.items()]


def _location(datastore: Any, host: Any, resource_pool: Any
              ) -> dict[str, Any]:
    return {'datastore': datastore,
            'pool': resource_pool,
            'host': host}


def _locator(disk: devices.Disk, datastore: Any, provisioning: str | None,
             profile_id: str | None) -> soap.Typed:
    return soap.Typed('', {
        'diskId': disk.device.key, 'datastore': datastore,
        'diskBackingInfo': devices.placed_backing(provisioning)
        if provisioning else None,
        'profile': devices.profile(profile_id) if profile_id else None})


def _chosen(hardware: Iterable[devices.Device],
            uuid: str | None) -> devices.Disk:
    for disk in devices.disks(hardware):
        if uuid is None or disk.uuid.lower() == uuid.lower():
            return disk
    raise vmdk_exceptions.VirtualDiskNotFoundException()


def backing_field(path: str, found: Any) -> tuple[str, Any]:
    """A property of :data:`BACKING_PATHS` as a field of a Backing.

    :param found: the property's value, also as XML; None: it is unset
    :raises VimConnectionException: the value makes no sense
    """
    field, convert = _BACKING_FIELDS[path]
    try:
        return field, convert(soap.value(found)
                              if etree.iselement(found) else found)
    except soap.MALFORMED as error:
        raise soap.malformed('a VM', error) from error


def backing_of(moref: str, seen: dict[str, Any]) -> shadow.Backing:
    """A shadow VM from its properties (:data:`BACKING_PATHS`)."""
    return shadow.Backing(moref, **dict(
        backing_field(path, seen.get(path)) for path in _BACKING_FIELDS))


def _new_disk(spec: Any) -> Any:
    """The disk that a ConfigSpec creates, in the form of suds, if any."""
    return next((change.device for change
                 in getattr(spec, 'deviceChange', None) or ()
                 if change.fileOperation == 'create'), None)


def _volume_id(spec: Any) -> str | None:
    """The volume's id in a ConfigSpec, in the form of suds."""
    return next((option.value for option in spec.extraConfig
                 if option.key == shadow.VOLUME_ID), None)


def _option_value(option: Any) -> str | None:
    if not isinstance(option, etree._Element):
        return option
    return option.findtext(_VALUE)


def _text(found: Any) -> str:
    return found or ''


# The field of each property, and what makes the field's value of it.
_BACKING_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    'name': ('name', _text),
    _UUID: ('uuid', _text),
    _VOLUME_ID: ('volume_id', lambda found: _option_value(found) or ''),
    'config.files.vmPathName': (
        'folder', lambda found: (found or '').rpartition('/')[0]),
    'config.template': ('template', bool),
    'config.changeVersion': ('change_version', _text),
    # Thousands of VMs have the same few datastores.
    'datastore': ('datastores', lambda found: tuple(
        sys.intern(ref.value) for ref in found or ()))}
