# SPDX-License-Identifier: Apache-2.0
"""Corrects Cinder's records after disks were moved outside of Cinder.

After an administrator's migration, a move by Storage DRS, a datastore's
evacuation or its renaming, the volume's host names the wrong pool, and an
attached disk's shadow VM names a file that is gone. A worker thread checks a
limited number of VMs that changed since its last pass, and corrects what is
wrong, several volumes at a time. Reports of statistics do not wait for it.

Every service of a cluster has a worker, and its memory may be older than
another service's change. So before it corrects a volume, it reads the record
and the vCenter again under the volume's lock.

The long poll reports only the instances that have volumes. The worker has it
follow them: those that this service attaches volumes to, those that Cinder's
records of attachments name, and those of other services of the cluster.
"""

import contextlib
import dataclasses
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import locator as backing_locator
from cinder_vmdk_ext.backings import members
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext import volume_rows
from cinder_vmdk_ext.volumes import attachments
from cinder_vmdk_ext.volumes import compliance
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import disk_home
from cinder_vmdk_ext.volumes import migrate as migration
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import retype_messages
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

# How many changed VMs one pass checks; the next pass, which follows at once,
# checks the others.
VMS_A_PASS = 200
PAUSE_SECONDS = 0.2
# Checking so many takes a few milliseconds; then other threads run.
_VMS_A_TURN = 500
_RECORDS_A_TURN = 50
# A vCenter replies with 100 objects to a page in any case.
_VMS_A_READ = 100
# How many volumes a service corrects at a time. For each of them the vCenter
# runs at most one task, such as the relocation of a shadow VM.
AT_ONCE = 4


class _Mark(NamedTuple):
    """State of a VM; an equal one shows that the VM has not changed."""

    pool: str | None
    datastores: tuple[str, ...]
    change_version: str


class _On(NamedTuple):
    """An attachment."""

    instance_uuid: str | None
    connector: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Record:
    """What the start, and the first check, need of a volume's record.

    Reading a field of Cinder's object takes several times as long. Those of
    thousands of attached volumes are kept between the start of the service
    and their check; Cinder's objects are too large, and reading them again
    takes long.
    """

    id: str
    name_id: str
    status: str
    migration_status: str | None
    host: str | None
    cluster_name: str | None
    provider_id: str | None
    provider_location: str | None
    volume_type_id: str | None
    volume_attachment: tuple[_On, ...]

    @classmethod
    def of(cls, volume: Any) -> '_Record':
        return cls(
            volume.id, volume.name_id, volume.status, volume.migration_status,
            volume.host, volume.cluster_name, volume.provider_id,
            volume.provider_location, volume.volume_type_id, tuple([
                _On(each.instance_uuid, {
                    'instance': attachments.moref_in(each.connector)})
                for each in attachments.of(volume)]))

    @property
    def name(self) -> str:
        """The name of the shadow VM, by Cinder's template of names."""
        return config.name_patterns().volume_name(self.name_id)

    def __getitem__(self, field: str) -> Any:
        return getattr(self, field)

    def get(self, field: str) -> Any:
        """A field, as Cinder's object returns it; others are an error."""
        return getattr(self, field)


class Owner(NamedTuple):
    """The backend whose volumes a service manages."""

    host: str | None
    cluster_name: str | None

    def owns(self, volume: Any) -> bool:
        """Whether a volume belongs to this backend."""
        field, name = (('cluster_name', self.cluster_name)
                       if self.cluster_name else ('host', self.host))
        return volume_utils.extract_host(volume[field] or '',
                                         'backend') == name


class Foretold(NamedTuple):
    """What the start of the service writes of a volume."""

    volume: Any
    values: dict[str, Any]  # what its record says then
    # Whether its pool was chosen by free space, so that it may be another.
    chosen: bool = False
    why_not: str = ''  # why nothing is written


class Reconciler:
    """Finds moves made outside of Cinder; corrects records and shadow VMs."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 migrate: migration.Migrate, home: disk_home.DiskHome,
                 places: compliance.Compliance, limits: qos.DiskLimits,
                 owner: Owner,
                 retypes: retype_messages.RetypeMessages) -> None:
        self._upstream = cinder
        self._selection = selection
        self._migrate = migrate
        self._home = home
        self._places = places
        self._limits = limits
        self._retypes = retypes
        # Ids of volumes whose disks still have to be moved into their shadow
        # VMs' folders after a detachment.
        self._detached: set[str] = set()
        # Ids of volumes whose disks are in the folders of their instances.
        self.at_risk: frozenset[str] = frozenset()
        self._owner = owner
        self._locator: backing_locator.Locator | None = None
        self._settled: dict[str, _Mark] = {}
        # The state up to which changes were followed, and VMs (morefs) that
        # must still be checked.
        self._followed: backing_locator.Seen | None = None
        self._unsettled: set[str] = set()
        self._looked_at: backing_locator.Seen | None = None
        # Attached volumes at the start of the service, by id, until they are
        # checked for the first time.
        self._unchecked: dict[str, _Record] = {}
        self._worker: _Worker | None = None
        # Instances (morefs) to be followed with the next pass.
        self._instances: set[str] = set()
        # When this service began to follow each.
        self._followed_at: dict[str, float] = {}
        # UUIDs of instances that the vCenter of this pass does not have.
        self._elsewhere: frozenset[str] = frozenset()
        self._attachments = attachments.Recent()
        # Several threads correct volumes, and detach others.
        self._noting = threading.Lock()
        #: Set it when a disk may have been moved: the next pass then begins
        #: at once.
        self.noticed = threading.Event()

    def connect(self, locator: backing_locator.Locator) -> None:
        """Read VMs and datastores by a new session's locator."""
        self._locator = locator

    @property
    def unchecked(self) -> int:
        """How many volumes of the start have not been checked yet."""
        return len(self._unchecked)

    # -- The worker ---------------------------------------------------------

    def start(self, interval_seconds: float) -> None:
        """Start the worker thread; an interval of 0 starts none.

        It runs a pass after each interval, and after each notice of a move.
        """
        if self._worker is None and interval_seconds:
            self._worker = _Worker(weakref.WeakMethod(self.run),
                                   interval_seconds, self.noticed)

    def stop(self) -> None:
        """Stop the worker thread after the present pass."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def after_detach(self, volume: Any) -> None:
        """Move a detached volume's disk home, now or in a later pass."""
        if self._home.after_detach(volume):
            self._note_risk(volume['id'], False)
        else:
            self._detached.add(volume['id'])

    def _note_risk(self, volume_id: str, at_risk: bool) -> None:
        with self._noting:
            if at_risk:
                self.at_risk |= {volume_id}
            else:
                self.at_risk -= {volume_id}

    def expect(self, volume: Any, connector: Any) -> None:
        """Follow the instance that is getting a volume.

        Also set the volume's I/O limits on it, once the volume is in use.
        """
        instance = attachments.moref_in(connector)
        if instance:
            self._instances.add(instance)
        self._limits.expect(volume)
        if instance or self._limits.expecting:
            self.noticed.set()

    def _settle_detached(self) -> None:
        """Repeat what a detachment could not do."""
        context = cinder_context.get_admin_context()
        before = self.at_risk
        if before:
            gone = before - {volume.id for volume
                             in volume_rows.volumes(before)}
            with self._noting:
                self.at_risk -= gone
        for volume_id in list(self._detached):
            concurrency.cooperative_yield()
            with locks.volume_if_free(volume_id) as alone:
                if not alone:
                    continue
                found = objects.VolumeList.get_all(
                    context, filters={'id': volume_id})
                if not found or self._home.after_detach(found[0], again=True):
                    self._detached.discard(volume_id)
                    self._note_risk(volume_id, False)

    def run(self) -> bool:
        """One pass: check up to ``VMS_A_PASS`` VMs that changed.

        Never raises: the next pass repeats what fails.

        :returns: whether all VMs that changed have been checked
        """
        try:
            if (self._locator is None
                    or not self._upstream.volumeops.backings_known()):
                return True  # they are being read; a later pass checks them
            self._retypes.settle()
            self._settle_detached()
            self._follow_instances()
            self._upstream.volumeops.seek_lost(lambda ids: {
                volume.id for volume in volume_rows.volumes(set(ids))
            }, volume_rows.attached_to)
            self._limits.settle_expected()
            if self._worker is not None:
                self._worker.soon = self._limits.expecting
            seen = self._locator.look()
            if self._unchecked:
                self._look_at_first()
                return False
            if seen is self._looked_at:
                return True
            more, unsettled = self._look_at_changed(seen)
            if not more and not unsettled:
                self._looked_at = seen
            return not more
        except Exception as error:
            LOG.warning('The check for moves made outside of Cinder failed, '
                        'and is repeated: %s', error)
            return True

    def _follow_instances(self) -> None:
        """Have memory know the instances that have got volumes."""
        new = (self._attachments.instances()
               if self._owner.cluster_name else set())
        while self._instances:  # other threads add to it
            new.add(self._instances.pop())
        now = time.monotonic()
        # Older ones mean nothing, and those of instances that are gone stay.
        self._followed_at = {
            moref: at for moref, at in self._followed_at.items()
            if now - at < qos.LONGEST_ATTACH_SECONDS
        } | dict.fromkeys(new, now)
        try:
            self._upstream.volumeops.follow(new)
        except Exception:
            self._instances |= new
            raise

    def _look_at_changed(self, seen: backing_locator.Seen
                         ) -> tuple[bool, set[str]]:
        """Check VMs that changed.

        :returns: whether VMs remain for the next pass, and the morefs of VMs
            that must be checked again
        """
        marks = {vm.moref: _mark(vm, seen)
                 for vm in concurrency.in_turns(self._perhaps_changed(seen),
                                                _VMS_A_TURN)}
        changed = [moref for moref, mark in marks.items()
                   if self._settled.get(moref) != mark]
        vms = [vm for vm in map(seen.backings.get, changed[:VMS_A_PASS])
               if vm is not None]
        later = changed[VMS_A_PASS:]
        self._unsettled = set(changed)  # all, in case of an error below
        self._followed = seen
        unsettled = self._look_at(vms, seen) if vms else set()
        self._unsettled = unsettled | set(later)
        for moref in unsettled:  # it may be a VM that has not changed
            self._settled.pop(moref, None)
        self._settled.update((moref, mark) for moref, mark in marks.items()
                             if moref not in self._unsettled)
        return bool(later), unsettled

    def _look_at_first(self) -> None:
        """Check some of the volumes that were attached at the start.

        Those that are not right or not at rest are left to a later pass.
        """
        assert self._locator is not None
        records_now = list(itertools.islice(self._unchecked.values(),
                                            VMS_A_PASS))
        # The start did not wait until they were reported.
        self._upstream.volumeops.follow(attachments.morefs_of(records_now))
        seen = self._with_instances(records_now, self._locator.look())
        resting = []
        for record in concurrency.in_turns(records_now, _RECORDS_A_TURN):
            vm = seen.backings.of(record)
            if vm is not None and state.is_at_rest(record) and (
                    not self._unknown(record, seen)):
                resting.append((record, vm))
        unsettled = self._check_all(resting, seen)
        marks: dict[str, _Mark] = {}  # an instance has many volumes
        for record, vm in concurrency.in_turns(resting, _RECORDS_A_TURN):
            if vm.moref not in unsettled:
                marks |= {each.moref: _mark(each, seen)
                          for each in (vm, *_instances(record, seen))
                          if each.moref not in marks}
        self._settled |= marks
        for record in records_now:
            del self._unchecked[record.id]

    def _perhaps_changed(self, seen: backing_locator.Seen
                         ) -> list[shadow.Backing]:
        """VMs that may have changed since they were last checked."""
        before = self._followed
        # If the pools have changed, each VM may be on another pool.
        changed = (seen.backings.changed_since(before.backings)
                   if before and before.pool_names is seen.pool_names
                   else None)
        if changed is None:
            found = seen.backings.all
            self._settled = {vm.moref: self._settled[vm.moref]
                             for vm in found if vm.moref in self._settled}
            return found
        found = []
        for moref in changed | self._unsettled:
            vm = seen.backings.get(moref)
            if vm is not None:
                found.append(vm)
            else:
                self._settled.pop(moref, None)
        return found

    def _look_at(self, vms: list[shadow.Backing],
                 seen: backing_locator.Seen) -> set[str]:
        """:returns: morefs of VMs that must be checked again"""
        unsettled = set()
        resting: list[tuple[Any, shadow.Backing]] = []
        volumes = self._volumes_on(vms)
        seen = self._with_instances(volumes, seen)
        for volume in volumes:
            vm = seen.backings.of(volume)
            if vm is None:
                continue
            if state.is_at_rest(volume) and not self._unknown(volume, seen):
                resting.append((volume, vm))
            else:
                unsettled.add(vm.moref)
        return unsettled | self._check_all(resting, seen)

    def _check_all(self, resting: list[tuple[Any, shadow.Backing]],
                   seen: backing_locator.Seen) -> set[str]:
        """:returns: morefs of VMs that must be checked again"""
        unsettled: set[str] = set()
        disks = self._disks_to_see(resting, seen)
        is_right = qos.judge()
        wrong = []
        for volume, vm in resting:
            concurrency.cooperative_yield()
            with _repeating(volume, vm, unsettled):
                # Where a disk at risk is now, is seen under the lock only.
                if volume.id in self.at_risk or not self._seems_right(
                        volume, vm, seen, disks, is_right):
                    wrong.append((volume, vm))

        def correct(found: tuple[Any, shadow.Backing]) -> None:
            with _repeating(*found, unsettled):
                if not self._correct_in_turn(*found, seen):
                    unsettled.add(found[1].moref)
        concurrency.at_once(correct, wrong, AT_ONCE)
        return unsettled

    def _with_instances(self, volumes: list[Any], seen: backing_locator.Seen
                        ) -> backing_locator.Seen:
        """Have memory know all instances of volumes; returns what it has."""
        self._elsewhere = frozenset()
        unknown = {uuid for volume in volumes
                   for uuid in self._unknown(volume, seen)}
        if not unknown:
            return seen
        assert self._locator is not None
        self._elsewhere = self._upstream.volumeops.follow_by_uuid(
            sorted(unknown))
        return self._locator.look()

    def _unknown(self, volume: Any, seen: backing_locator.Seen) -> set[str]:
        """UUIDs of instances that may be in the vCenter but not in memory."""
        return {uuid for uuid in attachments.uuids_of([volume])
                if uuid not in self._elsewhere
                and seen.backings.by_uuid(uuid) is None}

    # -- Finding what changed -----------------------------------------------

    def _volumes_on(self, vms: list[shadow.Backing]) -> list[Any]:
        """Volumes of this backend that have one of these VMs.

        The VM may be the volume's shadow VM or its instance.
        """
        ids = {key for vm in vms for key in (vm.uuid, vm.volume_id) if key}
        named = config.name_patterns()
        ids |= {named.volume_id(vm.name) for vm in vms} - {''}
        instances = [vm for vm in vms
                     if vm.uuid and not members.is_shadow(vm)]
        disks = self._ids_on(instances)
        found = list(volume_rows.volumes(ids.union(*disks.values())))
        known = {volume.id for volume in found}
        # An instance without the disk of a volume may have an attachment that
        # has only begun.
        others = [vm for vm in instances
                  if known.isdisjoint(disks.get(vm.moref, ()))]
        attached = volume_rows.attached_to(vm.uuid for vm in others)
        for vm in others:
            self._forget_if_without(attached.get(vm.uuid.lower(), set()), vm)
        found += volume_rows.volumes(set().union(*attached.values()) - known)
        return [volume for volume in found if self._owner.owns(volume)]

    def _ids_on(self, instances: list[shadow.Backing]
                ) -> dict[str, set[str]]:
        """Ids of volumes that instances may have, by the vCenter."""
        found: dict[str, set[str]] = {}
        for chunk in _chunks([vm.moref for vm in instances], _VMS_A_READ):
            concurrency.cooperative_yield()
            found |= self._upstream.volumeops.volume_ids_on(chunk)
        return found

    def _forget_if_without(self, found: set[str], vm: shadow.Backing) -> None:
        """Follow an instance without volumes no longer."""
        begun = self._followed_at.pop(vm.moref, None)
        if begun and time.monotonic() - begun < qos.LONGEST_ATTACH_SECONDS:
            # Cinder may record the attachment only when it has ended.
            self._followed_at[vm.moref] = begun
        elif not found:
            self._upstream.volumeops.unfollow(vm.moref)

    def _disks_to_see(
            self, volumes: list[tuple[Any, shadow.Backing]],
            seen: backing_locator.Seen) -> dict[str, list[devices.Disk]]:
        """Read the disks of VMs that must be compared, in bulk, by moref.

        These are shadow VMs that use several datastores, and the shadow VMs
        and instances of attached volumes.
        """
        morefs = set()
        for volume, vm in volumes:
            instances = _instances(volume, seen)
            if instances or len(vm.datastores) > 1:
                morefs |= {vm.moref} | {each.moref for each in instances}
        found: dict[str, list[devices.Disk]] = {}
        for chunk in _chunks(sorted(morefs), _VMS_A_READ):
            concurrency.cooperative_yield()
            found |= self._upstream.volumeops.disks_of(chunk)
        return found

    # -- Correcting one volume ----------------------------------------------

    def _seems_right(self, volume: Any, vm: shadow.Backing,
                     seen: backing_locator.Seen,
                     disks: dict[str, list[devices.Disk]],
                     is_right: Callable[[Any, devices.Disk], bool]) -> bool:
        """Whether a volume's place and its I/O limits seem to be right.

        :param is_right: of :func:`qos.judge`
        """
        pool = seen.pool_of(vm)
        disk = self._true_disk(volume, vm, seen, disks)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        strayed = disk is not None and (
            _is_another(disk, disks.get(vm.moref))
            or seen.home_of(vm) != disk.datastore
            or _is_at_risk(disk, _instances(volume, seen))
            or (bool(_instances(volume, seen))
                and not is_right(volume, disk)))
        recorded = (pool is None
                    or not self._selection.settings.datastore_pools
                    or records.says(volume, records.on_pool(volume, pool)))
        return recorded and not strayed

    def _correct_in_turn(self, volume: Any, vm: shadow.Backing,
                         seen: backing_locator.Seen) -> bool:
        """Correct a volume, once no other thread changes its instances.

        The wait for another volume's move may be long. Operations on this
        volume need not wait for it: the volume's lock is free meanwhile.

        :returns: False: an operation is under way; check again later
        """
        try:
            return self._correct_if_free(volume, vm, seen)
        except _InstanceBusy as busy:
            with _changing(busy.morefs, wait=True):
                return self._correct_if_free(volume, vm, seen, busy.morefs)

    def _correct_if_free(self, volume: Any, vm: shadow.Backing,
                         seen: backing_locator.Seen,
                         changing: frozenset[str] = frozenset()) -> bool:
        """:returns: False: an operation is under way; check again later"""
        with locks.volume_if_free(volume.id) as alone:
            return alone and self._correct(volume, vm, seen, changing)

    def _correct(self, volume: Any, vm: shadow.Backing,
                 seen: backing_locator.Seen,
                 changing: frozenset[str]) -> bool:
        """Correct a volume by its present state, under its lock.

        :param changing: instances (morefs) that this thread alone changes
        :raises _InstanceBusy: another thread changes one of its instances
        """
        volume = objects.Volume.get_by_id(
            cinder_context.get_admin_context(), volume.id)
        read = self._upstream.volumeops.read_backing
        now = read(vm.moref)
        if now is None or not state.is_at_rest(volume) or (
                self._unknown(volume, seen)):
            return False
        disks = self._disks_to_see([(volume, now)], seen)
        disk = self._true_disk(volume, now, seen, disks)
        backing = references.Ref('VirtualMachine', vm.moref)
        instances = _instances(volume, seen)
        others = frozenset(each.moref for each in instances) - changing
        safe = True
        # The instance in memory may still have its old folder, so its present
        # folder is read: the disk must not stay there.
        if disk is not None and _is_at_risk(
                disk, [read(each.moref) for each in instances]):
            with _changing(others):
                safe = self._home.bring_to_safety(volume, backing)
            self._note_risk(volume.id, not safe)
            disks = self._disks_to_see([(volume, now)], seen)
            disk = self._true_disk(volume, now, seen, disks)
        elif volume.id not in self._detached:
            self._note_risk(volume.id, False)
        if disk is not None and _is_another(disk, disks.get(vm.moref)):
            LOG.info("Volume %(volume)s: the instance's disk is now "
                     '%(path)s; the shadow VM is changed to name it.',
                     {'volume': volume.id, 'path': disk.path})
            self._migrate.follow_instance(volume, backing)
        elif disk is not None and seen.home_of(now) != disk.datastore:
            # A move was interrupted.
            self._migrate.bring_home(volume, backing, disk)
        pool = seen.pool_of(now)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        if instances and self._limits.may_apply(volume):
            with _changing(others):
                safe = self._limits.enforce(volume) and safe
        return safe and (
            pool is None or not self._selection.settings.datastore_pools
            or self._record(volume, pool))

    def _true_disk(self, volume: Any, vm: shadow.Backing,
                   seen: backing_locator.Seen,
                   disks: dict[str, list[devices.Disk]]
                   ) -> devices.Disk | None:
        """The volume's disk on its instance; if it has none, its shadow VM's.

        Where they differ, the instance is right, and the shadow VM is not yet
        corrected. The disk's UUID may differ from the volume's id (a linked
        clone); Nova notes on the instance which disk is the volume's.
        """
        for instance in _instances(volume, seen):
            found = disks.get(instance.moref, ())
            wanted = volume.id.lower()
            if found and wanted not in {disk.uuid.lower() for disk in found}:
                wanted = (self._upstream.volume_device_uuid(
                    references.Ref('VirtualMachine', instance.moref),
                    volume.id) or '').lower()
            for disk in found:
                if disk.uuid.lower() == wanted:
                    return disk
        return next(iter(disks.get(vm.moref, ())), None)

    @staticmethod
    def _record(volume: Any, pool: str) -> bool:
        """Record the pool, unless an operation has begun meanwhile."""
        before = volume.host
        values = records.on_pool(volume, pool)
        if records.says(volume, values):
            return True
        if not records.change(volume, values):
            return False
        LOG.info('Volume %(volume)s was moved outside of Cinder: its host was '
                 '%(before)s and is %(host)s.',
                 {'volume': volume.id, 'before': before,
                  'host': volume.host})
        return True

    # -- At the start of the service ----------------------------------------

    def locate(self, volume: Any) -> str | None:
        """The pool of a volume that was created before pools were used.

        :returns: the pool of the datastore that holds its disk; None if it
            has no backing, so that its pool is unknown
        """
        settings = self._selection.settings
        if self._locator is None or not settings.datastore_pools:
            return settings.backend_name
        return self._locator.locate([volume]).get(volume['id'])

    def correct_at_start(self, volumes: Any) -> None:
        """Correct the hosts of volumes by the places of their disks.

        The host of a volume that upstream's driver created names the backend
        as its pool. Other disks were moved while the service was down. All
        volumes take one bulk read. Volumes that another service of the
        cluster works on are not changed. Errors are logged.
        """
        if self._locator is None or not volumes:
            return
        # Cinder holds all records now, and drops them soon.
        with concurrency.full_collections_postponed():
            self._correct_at_start(volumes, self._locator)

    def _correct_at_start(self, volumes: Any,
                          locate: backing_locator.Locator) -> None:
        try:
            found = [_Record.of(volume) for volume
                     in concurrency.in_turns(volumes, _RECORDS_A_TURN)]
            self._upstream.volumeops.follow(attachments.morefs_of(found),
                                            wait=False)
            known = locate.locate(found, fresh=True)
            seen = locate.look(backing_locator.KEEP_SECONDS)
        except vmware_exceptions.VMwareDriverException as error:
            LOG.warning('The pools of existing volumes were not checked: %s',
                        error)
            return
        homeless = []
        for volume, record in concurrency.in_turns(
                zip(volumes, found, strict=True), _RECORDS_A_TURN):
            pool = known.get(record.id)
            record, right = self._corrected_at_start(volume, record, pool)
            self._spare_queries(record, pool if right else None, seen)
            if (pool is None and state.is_at_rest(record)
                    and self._is_homeless(record)):
                homeless.append(volume)
        self._rehome(homeless)

    def _corrected_at_start(self, volume: Any, record: _Record,
                            pool: str | None) -> tuple[_Record, bool]:
        """Correct a volume at rest; never fails.

        :param pool: the pool that has its disk; None: unknown
        :returns: the volume's record after that, and whether it is right
        """
        if not state.is_at_rest(record):
            return record, False
        try:
            values = self._values_at_start(record, pool)
            if records.says(record, values):
                return record, True
            records.correct(volume, values)
            record = _Record.of(volume)
        except Exception as error:
            # Deleted by another service, for example.
            LOG.warning('The pool of volume %(volume)s was not checked: '
                        '%(error)s', {'volume': record.id, 'error': error})
            return record, False
        return record, records.says(record, values)

    def _spare_queries(self, record: _Record, right_pool: str | None,
                       seen: backing_locator.Seen) -> None:
        """Note what the start knows, so that a pass need not read it again.

        :param right_pool: the pool that has the disk, which a volume at rest
            names; None: no such pool is known
        """
        vm = seen.backings.of(record)
        if vm is None:
            return
        if record.volume_attachment:
            self._unchecked[record.id] = record
        elif (len(vm.datastores) == 1 and right_pool is not None
                # It may have been moved since.
                and seen.pool_of(vm) == right_pool):
            self._settled[vm.moref] = _mark(vm, seen)

    def foretell(self, volumes: Any) -> list['Foretold']:
        """What :meth:`correct_at_start` would write; changes nothing.

        :raises VimFaultException, VimConnectionException: by oslo.vmware
        """
        assert self._locator is not None
        known = self._locator.locate(volumes, fresh=True)
        with self._places.rehoming() as place:
            return [self._foretold(volume, known.get(volume['id']), place)
                    for volume in volumes]

    def _foretold(self, volume: Any, found: str | None,
                  place: Callable[[Any], str]) -> 'Foretold':
        if not state.is_at_rest(volume):
            return Foretold(volume, {}, why_not=(
                f'it is {volume.status}, and is corrected at a later start'))
        values = self._values_at_start(volume, found)
        if found is None and not values and self._is_homeless(volume):
            try:
                return Foretold(volume, records.on_pool(volume, place(volume)),
                                chosen=True)
            except Exception as error:
                return Foretold(volume, {}, why_not=(
                    'it has no disk yet, and no pool could be found for it: '
                    + exceptions.first_line(error)))
        return Foretold(volume, values)

    def _is_homeless(self, volume: Any) -> bool:
        """Whether a volume without a disk names a pool that does not exist.

        A volume whose disk upstream's driver should have created at first use
        names the backend as its pool. Other volumes without a disk do not
        count: the record of a promised volume has the identity of its pool,
        and a volume that had a disk is lost. Their operations report that.
        """
        pool = self._selection.scheduled_pool(volume)
        return (pool is not None and not volume['provider_id']
                and self._resolved(pool) is None)

    def _rehome(self, homeless: list[Any]) -> None:
        """Choose pools for volumes that have neither a disk nor a pool."""
        if not homeless:
            return
        with self._places.rehoming() as place:
            for volume in homeless:
                try:
                    # Memory may lack a VM that has only the volume's UUID.
                    if not self._upstream.volumeops.get_backing_by_uuid(
                            volume['id']):
                        records.correct(volume, records.on_pool(
                            volume, place(volume)))
                except Exception as error:
                    LOG.warning('Volume %(volume)s has no disk yet, and no '
                                'pool could be found for it: %(error)s',
                                {'volume': volume['id'], 'error': error})

    def _values_at_start(self, volume: Any,
                         found: str | None) -> dict[str, Any]:
        """What a volume's record has to say.

        :param found: the pool that has its disk; None: unknown
        """
        pool = found or self._present_name(volume)
        if not self._selection.settings.datastore_pools:
            # Volumes without a backing too: their pool no longer exists.
            pool = self._selection.settings.backend_name
        values = records.on_pool(volume, pool) if pool is not None else {}
        if found is not None:
            values['provider_id'] = state.BACKED
        return values

    def _present_name(self, volume: Any) -> str | None:
        """The present name of the pool of a volume that has no backing."""
        pool = self._selection.pool_of(volume)
        if pool is None or not state.is_promised(volume):
            return None
        found = self._resolved(pool)
        return found.name if found else None

    def _resolved(self, pool: str) -> pool_names.Pool | None:
        """A pool, by the one bulk read that serves all volumes."""
        assert self._locator is not None
        return pool_names.resolve(
            pool, self._locator.look(backing_locator.KEEP_SECONDS).inventory,
            self._selection.settings)


class _Worker:
    """A thread that runs passes until it is stopped, or its owner ends."""

    def __init__(self, run: Callable[[], Callable[[], bool] | None],
                 interval_seconds: float, noticed: threading.Event) -> None:
        """Start.

        :param run: returns the function that runs a pass; None: the owner has
            ended
        :param noticed: when it is set, a pass begins before the interval ends
        """
        self._run = run
        self._interval_seconds = interval_seconds
        self._noticed = noticed
        #: Whether the next pass follows soon; set by the pass itself.
        self.soon = False
        self._ended = threading.Event()
        threading.Thread(target=self._loop, name='vmdk-ext-reconcile',
                         daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        self._noticed.set()

    def _loop(self) -> None:
        done = True
        while True:
            if done:
                self._noticed.wait(min(
                    self._interval_seconds, qos.EXPECTING_SECONDS)
                    if self.soon else self._interval_seconds)
            # Changes that come shortly after one another share one pass.
            self._ended.wait(PAUSE_SECONDS)
            self._noticed.clear()
            # Looked at last: what `stop` has set may have been cleared.
            if self._ended.is_set():
                return
            run = self._run()
            if run is None:
                return
            done = run()
            del run  # it refers to its owner, which could not end


@contextlib.contextmanager
def _repeating(volume: Any, vm: shadow.Backing,
               unsettled: set[str]) -> Iterator[None]:
    """After an error: log it, and have the VM checked again."""
    try:
        yield
    except Exception as error:
        unsettled.add(vm.moref)
        LOG.warning('The place of volume %(volume)s was not checked '
                    'or corrected; this is repeated: %(error)s',
                    {'volume': volume.id, 'error': error})


class _InstanceBusy(Exception):
    """Another thread changes an instance."""

    def __init__(self, morefs: frozenset[str]) -> None:
        super().__init__(', '.join(sorted(morefs)))
        self.morefs = morefs


@contextlib.contextmanager
def _changing(morefs: frozenset[str], wait: bool = False) -> Iterator[None]:
    """Change instances from one thread of this process at a time.

    A VM that is being changed may refuse another change (TaskInProgress).

    :param morefs: of the instances
    :raises _InstanceBusy: another thread changes one, and ``wait`` is False
    """
    with contextlib.ExitStack() as stack:
        for moref in sorted(morefs):
            try:
                stack.enter_context(lockutils.lock(
                    f'vmdk-ext-instance-{moref}', blocking=wait))
            except lockutils.AcquireLockFailedException:
                raise _InstanceBusy(morefs) from None
        yield


def _mark(vm: shadow.Backing, seen: backing_locator.Seen) -> _Mark:
    return _Mark(seen.pool_of(vm), vm.datastores, vm.change_version)


def _is_another(disk: devices.Disk,
                own: Iterable[devices.Disk] | None) -> bool:
    """Whether a shadow VM does not name the disk that the instance has.

    A snapshot of the instance adds a delta to the disk that the shadow VM
    names. The removal of a snapshot may merge that disk into its parent, and
    the shadow VM's configuration does not show that.
    """
    return not any(each.path in disk.chain for each in own or ())


def _is_at_risk(disk: devices.Disk,
                instances: Iterable[shadow.Backing | None]) -> bool:
    """Whether a disk is in the folder of its volume's instance."""
    return any(disk.folder == instance.folder
               for instance in instances if instance is not None)


def _instances(volume: Any,
               seen: backing_locator.Seen) -> list[shadow.Backing]:
    """The instances of this vCenter that a volume is attached to."""
    found = [seen.backings.by_uuid(attachment.instance_uuid or '')
             for attachment in volume.volume_attachment or ()]
    return [instance for instance in found if instance is not None]


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    for start in range(0, len(items), size):
        yield items[start:start + size]
