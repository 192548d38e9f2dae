# SPDX-License-Identifier: Apache-2.0
"""Finds datacenters and VM folders in the inventory tree."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext import locks
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)


class InventoryView(Protocol):
    """The inventory in memory."""

    def known(self) -> model.Inventory | None:
        """The inventory; None: memory may be out of date."""


class PlaceOps(upstream.VMwareVolumeOps):
    """Finds datacenters and folders in memory; creates each folder once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder_cache: dict[str, Any] = {}
        self.inventory_view: InventoryView | None = None

    def get_dc(self, child: Any) -> Any:
        """The datacenter of an object.

        Upstream reads one parent after another. Memory knows the datacenter
        of each datastore, and a VM uses only datastores of its datacenter.
        """
        inventory = self.inventory_view and self.inventory_view.known()
        if child and inventory:
            datastores = self._datastores_of(child, inventory)
            for moref in datastores:
                datastore = inventory.datastores.get(moref)
                if datastore is not None and datastore.datacenter:
                    return references.Ref('Datacenter', datastore.datacenter)
        return super().get_dc(child)

    def _datastores_of(self, child: Any,
                       inventory: model.Inventory) -> Iterable[str]:
        """Datastores in the datacenter of an object, as they are found."""
        kind = child._type
        moref = child.value
        if kind == 'Datastore':
            return [moref]
        if kind == 'VirtualMachine':
            # Memory may not know a new VM yet.
            home = self.get_datastore(child)
            return [home.value] if home else []
        for cluster in inventory.clusters.values():
            if moref in (cluster.moref, cluster.resource_pool):
                # The first one is nearly always enough.
                return (each.moref for each in inventory.datastores.values()
                        if not each.mounted_hosts.isdisjoint(cluster.hosts))
        return []

    def get_vmfolder(self, datacenter: Any) -> Any:
        """The root of a datacenter's VM folders."""
        inventory = self.inventory_view and self.inventory_view.known()
        known = inventory and inventory.datacenters.get(
            datacenter.value)
        if known and known.vm_folder:
            return references.Ref('Folder', known.vm_folder)
        return super().get_vmfolder(datacenter)

    def create_folder(self, parent_folder: Any,
                      child_folder_name: str) -> Any:
        """The child folder of that name; it is created if it is missing."""
        try:
            return self._session.invoke_api(
                self._session.vim, 'CreateFolder', parent_folder,
                name=child_folder_name)
        except exceptions.DuplicateName as error:
            # The fault names the folder; upstream reads every child's name.
            existing = (error.details or {}).get('object')
            if existing:
                return references.Ref('Folder', existing)
        return self._get_child_folder(parent_folder, child_folder_name)

    def create_vm_inventory_folder(self, datacenter: Any,
                                   path_comp: list[str]) -> Any:
        """The VM folder at a path; missing folders are created.

        If threads or services ask for the same path at the same time, only
        one of them creates it.
        """
        path = '/'.join(['', datacenter.value,
                         *path_comp])
        known = self._folder_cache.get(path)
        if known:
            return known
        vcenter = self._session.vim.service_content.about.instanceUuid
        with locks.folder(vcenter, path):
            return super().create_vm_inventory_folder(datacenter, path_comp)

    def check_folders(self, folders: Mapping[str, tuple[str, str]],
                      gone: Collection[str]) -> None:
        """Forget known folders that were renamed, moved or removed.

        A known folder that was not reported yet stays known.

        :param folders: name and parent (moref) of each folder by moref, as
            the vCenter has reported them
        :param gone: morefs of folders that were removed
        """
        known = dict(self._folder_cache)
        wrong: set[str] = set()
        for path, folder in sorted(known.items()):
            above, _, name = path.rpartition('/')
            if not above:
                continue  # the root of a datacenter's VM folders
            parent = known.get(above)
            seen = folders.get(folder.value)
            if above in wrong or folder.value in gone or seen is not None and (
                    model.plain_name(seen[0]) != model.plain_name(name)
                    or parent is not None and parent.value != seen[1]):
                wrong.add(path)
                self._folder_cache.pop(path, None)
        if wrong:
            LOG.info('Folders that were renamed, moved or removed are looked '
                     'up again: %s', ', '.join(sorted(wrong)))

    def forget_folders(self) -> bool:
        """Forget all known folders, since one may have been deleted.

        :returns: whether any folder was known
        """
        known = bool(self._folder_cache)
        self._folder_cache = {}
        return known
