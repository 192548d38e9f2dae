# SPDX-License-Identifier: Apache-2.0
"""Where things are in the inventory tree: datacenters and VM folders."""

from typing import Any
from typing import Protocol

from oslo_vmware import exceptions

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext import locks
from cinder_vmdk_ext import model
from cinder_vmdk_ext.vsphere import references


class InventoryView(Protocol):
    """What of the inventory is in memory."""

    def known(self) -> model.Inventory | None:
        """The inventory; None: memory is not to be trusted now."""


class PlaceOps(upstream.VMwareVolumeOps):
    """Finds places in memory, and makes each folder once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder_cache: dict[str, Any] = {}
        self.inventory_view: InventoryView | None = None

    def get_dc(self, child: Any) -> Any:
        """The datacenter of an object.

        Upstream asks for the parent of each parent; a datastore's is known,
        and VMs of a datacenter use only its own datastores.
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
                       inventory: model.Inventory) -> list[str]:
        """Some datastores in the datacenter of an object."""
        kind = child._type
        moref = child.value
        if kind == 'Datastore':
            return [moref]
        if kind == 'VirtualMachine':
            # The one thing that memory may not know yet.
            home = self.get_datastore(child)
            return [home.value] if home else []
        for cluster in inventory.clusters.values():
            if moref in (cluster.moref, cluster.resource_pool):
                return [each.moref for each in inventory.datastores.values()
                        if not each.mounted_hosts.isdisjoint(cluster.hosts)]
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
        """The child folder of that name, made if there is none."""
        try:
            return self._session.invoke_api(
                self._session.vim, 'CreateFolder', parent_folder,
                name=child_folder_name)
        except exceptions.DuplicateName as error:
            # Upstream reads each child's name; the fault names the folder.
            existing = (error.details or {}).get('object')
            if existing:
                return references.Ref('Folder', existing)
        return self._get_child_folder(parent_folder, child_folder_name)

    def create_vm_inventory_folder(self, datacenter: Any,
                                   path_comp: list[str]) -> Any:
        """The VM folder at a path, made where it is missing.

        Threads and services that want the same path at once make it once.
        """
        path = '/'.join(['', datacenter.value,
                         *path_comp])
        known = self._folder_cache.get(path)
        if known:
            return known
        vcenter = self._session.vim.service_content.about.instanceUuid
        with locks.folder(vcenter, path):
            return super().create_vm_inventory_folder(datacenter, path_comp)

    def forget_folders(self) -> bool:
        """Find folders anew: one that was known may be gone.

        :returns: whether any were known
        """
        known = bool(self._folder_cache)
        self._folder_cache = {}
        return known
