# SPDX-License-Identifier: Apache-2.0
"""Where the disks of existing volumes really are, found in bulk."""

import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import config
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import pool_names

# Cinder asks volume by volume while it starts; one bulk read serves them all.
KEEP_SECONDS = 60.0


class Seen(NamedTuple):
    """Shadow VMs and datastores at one moment."""

    backings: shadow.Backings
    inventory: model.Inventory
    pool_names: dict[str, str]  # by the datastore's moref
    read_at: float

    def home_of(self, vm: shadow.Backing) -> str | None:
        """The datastore (moref) of a VM's own files; None: unknown.

        That of its disk differs where a move was broken off halfway.
        """
        return _home(vm, self.inventory)

    def pool_of(self, vm: shadow.Backing) -> str | None:
        """The pool that holds a VM; None: unknown."""
        return self.pool_names.get(self.home_of(vm) or '')


class Locator:
    """Finds the pool of volumes by their backings."""

    def __init__(self, ops: volumeops.VolumeOps,
                 reader: inventory_reader.InventorySource,
                 settings: model.Settings,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._ops = ops
        self._reader = reader
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        # By datastore, and the VMs that they were found in.
        self._volumes: tuple[shadow.Backings, dict[str, list[str]]] | None = (
            None)

    def locate(self, volumes: Iterable[Any],
               fresh: bool = False) -> dict[str, str]:
        """Pool name by volume id, of those volumes that have a backing.

        Takes one bulk read of the vCenter, and none within the next minute;
        and another one if VMs are spread over datastores.

        :param fresh: read now, even if it was read within this minute
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        seen = self.look(0.0 if fresh else KEEP_SECONDS)
        backings = {volume['id']: seen.backings.find(volume['id'],
                                                     volume['name'])
                    for volume in volumes}
        spread = [vm.moref for vm in backings.values()
                  if vm is not None and len(vm.datastores) > 1]
        disks = self._ops.disks_of(spread) if spread else {}
        found = {}
        for volume_id, vm in backings.items():
            pool = vm and seen.pool_of(vm)
            if vm is not None and disks.get(vm.moref):
                pool = seen.pool_names.get(disks[vm.moref][0].datastore, pool)
            if pool:
                found[volume_id] = pool
        return found

    def volumes_by_datastore(self) -> dict[str, list[str]] | None:
        """Ids of the volumes with files on each datastore, by its moref.

        Also those of other backends: they keep a datastore from being empty
        just the same. None until all VMs are reported.
        """
        if not self._ops.backings_known():
            return None
        backings = self._ops.read_backings()
        before = self._volumes
        if before is not None and before[0] is backings:
            return before[1]
        found: dict[str, list[str]] = {}
        names = config.name_patterns()
        for vm in backings.all:
            volume_id = vm.volume_id or (
                vm.uuid if names.volume_id(vm.name) == vm.uuid else '')
            for moref in vm.datastores if volume_id else ():
                found.setdefault(moref, []).append(volume_id)
        self._volumes = backings, found
        return found

    def look(self, max_age_seconds: float = 0.0) -> Seen:
        """All VMs and datastores, as they are or were not long ago.

        The same object as long as nothing has changed.

        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        with self._lock:
            seen = self._seen
        now = self._clock()
        if seen is None or now - seen.read_at >= max_age_seconds:
            known = self._reader.read()
            backings = self._ops.read_backings()
            if seen is not None and (seen.backings is backings
                                     and seen.inventory is known):
                return seen
            seen = Seen(backings, known,
                        pool_names.by_datastore(known, self._settings), now)
            with self._lock:
                self._seen = seen
        return seen


def _home(backing: shadow.Backing, known: model.Inventory) -> str | None:
    """The datastore of a shadow VM: of its .vmx, should it use several."""
    if len(backing.datastores) == 1:
        return backing.datastores[0]
    for moref in backing.datastores:
        datastore = known.datastores.get(moref)
        if datastore and backing.datastore_name in (datastore.name,
                                                    datastore.plain_name):
            return moref
    return None
