# SPDX-License-Identifier: Apache-2.0
"""Finds the actual datastores of existing volumes' disks, in bulk."""

import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext import model
from cinder_vmdk_ext import names
from cinder_vmdk_ext.scheduling import pool_names

# Cinder asks volume by volume while it starts; one bulk read serves them all.
KEEP_SECONDS = 60.0
# This takes a few milliseconds.
VMS_A_TURN = 500


class Seen(NamedTuple):
    """Shadow VMs and datastores at one moment."""

    backings: shadow.Backings
    inventory: model.Inventory
    pool_names: dict[str, str]  # by the datastore's moref
    read_at: float

    def home_of(self, vm: shadow.Backing) -> str | None:
        """The datastore (moref) of a VM's own files; None: unknown.

        After an interrupted move the disk may be on another datastore.
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
        self._counting = threading.Lock()
        self._count = _Count()

    def locate(self, volumes: Iterable[Any],
               fresh: bool = False) -> dict[str, str]:
        """Pool name by volume id, for the volumes that have a backing.

        Makes one bulk read of the vCenter, and a second one if VMs use
        several datastores. The result is kept for a minute.

        :param fresh: read now, whatever was read within the last minute
        :raises VimFaultException, VimConnectionException: as oslo.vmware does
        """
        seen = self.look(0.0 if fresh else KEEP_SECONDS)
        backings = {volume['id']: seen.backings.of(volume)
                    for volume in concurrency.in_turns(volumes, VMS_A_TURN)}
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

    def volumes_by_datastore(self) -> Mapping[str, tuple[str, ...]] | None:
        """Ids of the volumes with files on each datastore, by its moref.

        Volumes of other backends are included, since with them a datastore is
        not empty either. None until all VMs are reported. If nothing has
        changed, the same mapping is returned; likewise the same tuple for
        each datastore without a change.
        """
        if not self._ops.backings_known():
            return None
        backings = self._ops.read_backings()
        with self._counting:
            changed = (None if self._count.of is None else
                       backings.changed_since(self._count.of))
            if changed is None:
                self._count = _Count()
                self._count.follow(
                    backings, concurrency.in_turns(backings.all, VMS_A_TURN))
            elif backings is not self._count.of:
                self._count.follow(backings, [
                    backings.get(moref) or moref for moref in changed])
            return self._count.found

    def look(self, max_age_seconds: float = 0.0) -> Seen:
        """VMs and datastores, at most ``max_age_seconds`` old.

        The same object is returned as long as nothing has changed.

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


class _Count:
    """Volumes by datastore; each update processes only changed VMs."""

    def __init__(self) -> None:
        self.of: shadow.Backings | None = None
        self.found = model.VolumesByDatastore()
        self._volumes: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._machines: dict[str, dict[str, str]] = {}

    def follow(self, backings: shadow.Backings,
               changed: Iterable[shadow.Backing | str]) -> None:
        """Apply changed VMs; a moref without a VM means it was deleted."""
        patterns = config.name_patterns()
        touched: set[str] = set()
        for vm in changed:
            moref = vm if isinstance(vm, str) else vm.moref
            volume = (None if isinstance(vm, str)
                      else _volume_on(vm, patterns))
            old = self._volumes.pop(moref, None)
            if volume is not None:
                self._volumes[moref] = volume
            if old == volume:
                continue
            for datastore in old[1] if old else ():
                self._machines[datastore].pop(moref, None)
                touched.add(datastore)
            volume_id, datastores = volume or ('', ())
            for datastore in datastores:
                self._machines.setdefault(datastore, {})[moref] = volume_id
                touched.add(datastore)
        if touched:
            found = dict(self.found)
            for datastore in touched:
                found[datastore] = tuple(self._machines[datastore].values())
                if not found[datastore]:
                    del found[datastore]
            self.found = model.VolumesByDatastore(found, self.found, touched)
        self.of = backings


def _volume_on(vm: shadow.Backing, patterns: names.Names
               ) -> tuple[str, tuple[str, ...]] | None:
    """A VM's volume and the datastores of its files; None: no volume."""
    volume_id = vm.volume_id or (
        vm.uuid if patterns.volume_id(vm.name) == vm.uuid else '')
    return (volume_id, vm.datastores) if volume_id else None


def _home(backing: shadow.Backing, known: model.Inventory) -> str | None:
    """A shadow VM's datastore; if it uses several, that of its .vmx."""
    if len(backing.datastores) == 1:
        return backing.datastores[0]
    for moref in backing.datastores:
        datastore = known.datastores.get(moref)
        if datastore and model.split_path(
                f'{backing.folder}/', {datastore.name, datastore.plain_name}):
            return moref
    return None
