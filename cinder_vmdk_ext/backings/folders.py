# SPDX-License-Identifier: Apache-2.0
"""Finds datacenters and VM folders in the inventory tree."""

import threading
from collections.abc import Collection
from collections.abc import Container
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


class KnownFolders(dict[str, Any]):
    """VM folders by their paths. Threads may share it.

    A path is ``/datacenter/folder/...``, with the datacenter's moref. It is
    put in while it is missing, by upstream, and removed by :meth:`check`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        # Of the paths that were checked: the folders' morefs; paths by these,
        # and by the path above. No set is empty.
        self._checked: dict[str, str] = {}
        self._paths: dict[str, set[str]] = {}
        self._below: dict[str, set[str]] = {}

    def _take_new(self) -> list[str]:
        """Paths that were never checked; from now on they are.

        What is reported of a folder may come before its path is known.
        """
        new = []
        for path in reversed(list(self)):  # the last ones
            if path in self._checked:
                break
            moref = self._checked[path] = self[path].value
            self._paths.setdefault(moref, set()).add(path)
            self._below.setdefault(_above(path), set()).add(path)
            new.append(path)
        return new

    def _remove(self, path: str) -> None:
        del self[path]
        _remove_from(self._paths, self._checked.pop(path), path)
        _remove_from(self._below, _above(path), path)

    def check(self, folders: Mapping[str, tuple[str, str]],
              changed: Iterable[str], gone: Container[str]) -> set[str]:
        """Remove paths that are wrong, with all paths below them.

        Looks at the paths of folders that changed, at new paths, and at
        those in them; the others were right and are.

        :param folders, changed, gone: as of :meth:`PlaceOps.check_folders`
        :returns: the paths that were removed
        """
        wrong: set[str] = set()
        with self._lock:
            new = self._take_new()
            paths = set(new).union(
                *[self._below.get(path, ()) for path in new],
                *[self._paths.get(moref, ()) for moref in changed])
            for path in sorted(paths):
                if path not in wrong and self._is_wrong(path, folders, gone):
                    wrong |= self._with_all_below(path)
            for path in wrong:
                self._remove(path)
        return wrong

    def _is_wrong(self, path: str, folders: Mapping[str, tuple[str, str]],
                  gone: Container[str]) -> bool:
        above, _, name = path.rpartition('/')
        if not above:
            return False  # the root of a datacenter's VM folders
        folder, parent = self[path], self.get(above)
        if folder.value in gone or folder.value != self._checked[path]:
            return True  # another thread has put in another folder
        seen = folders.get(folder.value)
        return seen is not None and (
            model.plain_name(seen[0]) != model.plain_name(name)
            or parent is not None and parent.value != seen[1])

    def _with_all_below(self, path: str) -> set[str]:
        found, left = set(), [path]
        while left:
            path = left.pop()
            found.add(path)
            left += self._below.get(path, ())
        return found


def _remove_from(index: dict[str, set[str]], key: str, path: str) -> None:
    index[key].remove(path)
    if not index[key]:
        del index[key]


def _above(path: str) -> str:
    return path.rpartition('/')[0]


class PlaceOps(upstream.VMwareVolumeOps):
    """Finds datacenters and folders in memory; creates each folder once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder_cache = KnownFolders()
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
                      changed: Collection[str],
                      gone: Collection[str]) -> None:
        """Forget known folders that were renamed, moved or removed.

        A known folder that was not reported yet stays known.

        :param folders: name and parent (moref) of each folder by moref, as
            the vCenter has reported them
        :param changed: morefs of folders that are new, changed or gone since
            the last such call
        :param gone: those of them that are or were gone
        """
        wrong = self._folder_cache.check(folders, changed, gone)
        if wrong:
            LOG.info('Folders that were renamed, moved or removed are looked '
                     'up again: %s', ', '.join(sorted(wrong)))

    def forget_folders(self) -> bool:
        """Forget all known folders, since one may have been deleted.

        :returns: whether any folder was known
        """
        known = bool(self._folder_cache)
        self._folder_cache = KnownFolders()
        return known
