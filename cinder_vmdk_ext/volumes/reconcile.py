# SPDX-License-Identifier: Apache-2.0
"""Cinder's records follow disks that others have moved.

An administrator's migration, Storage DRS, a datastore's evacuation or a new
name all leave the volume's host naming the wrong pool, and an attached disk's
shadow VM naming a file that is gone. A worker of its own looks at the VMs
that changed since it last looked, so many at a time, and corrects what is
wrong; no report of statistics waits for it.

Every service of a cluster has a worker, so what seems wrong is looked at once
more under the volume's lock, in the record and in the vCenter: memory may be
older than a change by another service.
"""

import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils

from cinder_vmdk_ext.backings import locator as backing_locator
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import compliance
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import disk_home
from cinder_vmdk_ext.volumes import migrate as migration
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

# The budget of a pass: so many changed VMs are looked at, the others in the
# next pass, which follows at once.
VMS_A_PASS = 200
PAUSE_SECONDS = 0.2
# A few milliseconds' work.
_VMS_A_TURN = 500
_IDS_A_QUERY = 500


class _Mark(NamedTuple):
    """What shows that a VM has not changed since it was last checked."""

    pool: str | None
    datastores: tuple[str, ...]
    change_version: str


class Owner(NamedTuple):
    """Whose volumes a backend looks after."""

    host: str | None
    cluster_name: str | None

    def owns(self, volume: Any) -> bool:
        """Whether a volume is one of this backend's."""
        field, name = (('cluster_name', self.cluster_name)
                       if self.cluster_name else ('host', self.host))
        return volume_utils.extract_host(volume[field] or '',
                                         'backend') == name


class Reconciler:
    """Notices moves from outside, and corrects records and shadow VMs."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 migrate: migration.Migrate, home: disk_home.DiskHome,
                 places: compliance.Compliance, owner: Owner) -> None:
        self._upstream = cinder
        self._selection = selection
        self._migrate = migrate
        self._home = home
        self._places = places
        # Volumes whose disks wait to be brought home after a detachment.
        self._detached: set[str] = set()
        # Volumes whose disks lie in the folders of their instances.
        self.at_risk: frozenset[str] = frozenset()
        self._owner = owner
        self._locator: backing_locator.Locator | None = None
        self._settled: dict[str, _Mark] = {}
        # Up to where changes were followed, and VMs (morefs) that are still
        # to be looked at.
        self._followed: backing_locator.Seen | None = None
        self._unsettled: set[str] = set()
        self._looked_at: backing_locator.Seen | None = None
        self._worker: _Worker | None = None
        #: To be set when something may have been moved: the next pass then
        #: begins at once.
        self.noticed = threading.Event()

    def connect(self, locator: backing_locator.Locator) -> None:
        """Use the VMs and datastores of a new session."""
        self._locator = locator

    # -- The worker ---------------------------------------------------------

    def start(self, interval_seconds: float) -> None:
        """Run passes from now on, in a thread; 0: do not.

        A pass follows each interval, and each notice of a move.
        """
        if self._worker is None and interval_seconds:
            self._worker = _Worker(weakref.WeakMethod(self.run),
                                   interval_seconds, self.noticed)

    def stop(self) -> None:
        """Run no further pass."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def after_detach(self, volume: Any) -> None:
        """Bring a detached volume's disk home, now or in a later pass."""
        if self._home.after_detach(volume):
            self.at_risk -= {volume['id']}
        else:
            self._detached.add(volume['id'])

    def _settle_detached(self) -> None:
        """Try again what a detachment left to do."""
        context = cinder_context.get_admin_context()
        if self.at_risk:
            self.at_risk &= {volume.id for volume
                             in objects.VolumeList.get_all(
                                 context, filters={'id': list(self.at_risk)})}
        for volume_id in list(self._detached):
            concurrency.cooperative_yield()
            with locks.volume_if_free(volume_id) as alone:
                if not alone:
                    continue
                found = objects.VolumeList.get_all(
                    context, filters={'id': volume_id})
                if not found or self._home.after_detach(found[0]):
                    self._detached.discard(volume_id)

    def run(self) -> bool:
        """One pass: look at VMs that changed, within the budget.

        Never raises: what fails is tried again in the next pass.

        :returns: whether everything that changed has been looked at
        """
        if (self._locator is None
                or not self._upstream.volumeops.backings_known()):
            return True  # they are being read; a later pass looks
        try:
            self._settle_detached()
            seen = self._locator.look()
            if seen is self._looked_at:
                return True
            more, unsettled = self._look_at_changed(seen)
            if not more and not unsettled:
                self._looked_at = seen
            return not more
        except Exception as error:
            LOG.warning('Moves from outside were not looked for: %s', error)
            return True

    def _look_at_changed(self, seen: backing_locator.Seen
                         ) -> tuple[bool, set[str]]:
        """:returns: whether there is more to look at, and the VMs that are
            to be looked at again
        """
        marks = {vm.moref: _Mark(seen.pool_of(vm), vm.datastores,
                                 vm.change_version)
                 for vm in concurrency.in_turns(self._perhaps_changed(seen),
                                                _VMS_A_TURN)}
        changed = [moref for moref, mark in marks.items()
                   if self._settled.get(moref) != mark]
        vms = [vm for vm in map(seen.backings.get, changed[:VMS_A_PASS])
               if vm is not None]
        later = changed[VMS_A_PASS:]
        self._unsettled = set(changed)  # all of them, should it be broken off
        self._followed = seen
        unsettled = self._look_at(vms, seen) if vms else set()
        self._unsettled = unsettled | set(later)
        for moref in unsettled:  # perhaps of one that has not changed
            self._settled.pop(moref, None)
        self._settled.update((moref, mark) for moref, mark in marks.items()
                             if moref not in self._unsettled)
        return bool(later), unsettled

    def _perhaps_changed(self, seen: backing_locator.Seen
                         ) -> list[shadow.Backing]:
        """VMs that may not be as they were when they were last checked."""
        before = self._followed
        # Another arrangement of pools may concern any of them.
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
        """:returns: morefs of VMs that are to be looked at again"""
        unsettled = set()
        resting: list[tuple[Any, shadow.Backing]] = []
        for volume in self._volumes_on(vms):
            vm = seen.backings.find(volume.id, volume.name)
            if vm is None:
                continue
            if state.is_at_rest(volume):
                resting.append((volume, vm))
            else:
                unsettled.add(vm.moref)
        disks = self._disks_to_see(resting, seen)
        for volume, vm in resting:
            concurrency.cooperative_yield()
            try:
                if not self._check(volume, vm, seen, disks):
                    unsettled.add(vm.moref)
            except Exception as error:
                unsettled.add(vm.moref)
                LOG.warning('Volume %(volume)s was not followed to where it '
                            'is: %(error)s',
                            {'volume': volume.id, 'error': error})
        return unsettled

    # -- Finding what changed -----------------------------------------------

    def _volumes_on(self, vms: list[shadow.Backing]) -> list[Any]:
        """This backend's volumes whose shadow VM or instance is among VMs."""
        context = cinder_context.get_admin_context()
        ids = {key for vm in vms for key in (vm.uuid, vm.volume_id) if key}
        named = config.name_patterns()
        ids |= {named.volume_id(vm.name) for vm in vms} - {''}
        for vm in vms:
            if vm.uuid:
                concurrency.cooperative_yield()
                ids |= {each.volume_id for each in
                        objects.VolumeAttachmentList.get_all_by_instance_uuid(
                            context, vm.uuid)}
        found = []
        for chunk in _chunks(sorted(ids), _IDS_A_QUERY):
            concurrency.cooperative_yield()
            found += [volume for volume in objects.VolumeList.get_all(
                context, filters={'id': chunk}) if self._owner.owns(volume)]
        return found

    def _disks_to_see(
            self, volumes: list[tuple[Any, shadow.Backing]],
            seen: backing_locator.Seen) -> dict[str, list[devices.Disk]]:
        """Disks in bulk: of shadow VMs that are spread over datastores, and
        of attached volumes' shadow VMs and instances.
        """
        morefs = set()
        for volume, vm in volumes:
            instances = _instances(volume, seen)
            if instances or len(vm.datastores) > 1:
                morefs |= {vm.moref} | {each.moref for each in instances}
        found: dict[str, list[devices.Disk]] = {}
        for chunk in _chunks(sorted(morefs), _IDS_A_QUERY):
            found |= self._upstream.volumeops.disks_of(chunk)
        return found

    # -- Correcting one volume ----------------------------------------------

    def _check(self, volume: Any, vm: shadow.Backing,
               seen: backing_locator.Seen,
               disks: dict[str, list[devices.Disk]]) -> bool:
        """Correct a volume, if something seems wrong.

        :returns: False: an operation is under way; look again later
        """
        pool = seen.pool_of(vm)
        disk = self._true_disk(volume, vm, seen, disks)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        strayed = disk is not None and (
            _is_another(disk, disks.get(vm.moref))
            or seen.home_of(vm) != disk.datastore
            or _is_at_risk(disk, _instances(volume, seen)))
        recorded = (pool is None
                    or not self._selection.settings.datastore_pools
                    or records.says(volume, records.on_pool(volume, pool)))
        if recorded and not strayed:
            return True
        with locks.volume_if_free(volume.id) as alone:
            return alone and self._correct(volume, vm, seen)

    def _correct(self, volume: Any, vm: shadow.Backing,
                 seen: backing_locator.Seen) -> bool:
        """Correct a volume by what is so now, under its lock."""
        volume.refresh()
        read = self._upstream.volumeops.read_backing
        now = read(vm.moref)
        if now is None or not state.is_at_rest(volume):
            return False
        disks = self._disks_to_see([(volume, now)], seen)
        disk = self._true_disk(volume, now, seen, disks)
        backing = references.Ref('VirtualMachine', vm.moref)
        safe = True
        # An instance in memory may not have its new folder yet, and its disk
        # would be followed to where it must not stay.
        if disk is not None and _is_at_risk(
                disk, [read(each.moref) for each in _instances(volume, seen)]):
            safe = self._home.bring_to_safety(volume, backing)
            self.at_risk = (self.at_risk - {volume.id} if safe
                            else self.at_risk | {volume.id})
            disks = self._disks_to_see([(volume, now)], seen)
            disk = self._true_disk(volume, now, seen, disks)
        if disk is not None and _is_another(disk, disks.get(vm.moref)):
            LOG.info("Volume %(volume)s: the instance's disk is now "
                     '%(path)s; the shadow VM follows.',
                     {'volume': volume.id, 'path': disk.path})
            self._migrate.follow_instance(volume, backing)
        elif disk is not None and seen.home_of(now) != disk.datastore:
            # A move was broken off halfway.
            self._migrate.bring_home(volume, backing, disk)
        pool = seen.pool_of(now)
        if disk is not None:
            pool = seen.pool_names.get(disk.datastore, pool)
        return safe and (
            pool is None or not self._selection.settings.datastore_pools
            or self._record(volume, pool))

    def _true_disk(self, volume: Any, vm: shadow.Backing,
                   seen: backing_locator.Seen,
                   disks: dict[str, list[devices.Disk]]
                   ) -> devices.Disk | None:
        """The volume's disk on its instance, else on its shadow VM.

        The instance is right where they differ; the shadow VM may be behind.
        Nova notes on the instance which disk is the volume's, whose UUID may
        differ from the volume's id (a linked clone).
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
        """Write the pool, unless an operation has begun meanwhile."""
        before = volume.host
        values = records.on_pool(volume, pool)
        if records.says(volume, values):
            return True
        if not records.change(volume, values):
            return False
        LOG.info('Volume %(volume)s was moved from outside: its host was '
                 '%(before)s and is %(host)s.',
                 {'volume': volume.id, 'before': before,
                  'host': volume.host})
        return True

    # -- At the start of the service ----------------------------------------

    def locate(self, volume: Any) -> str | None:
        """The pool of a volume from before pools.

        :returns: the pool of the datastore that holds its disk; None when it
            has no backing, whose pool cannot be known
        """
        settings = self._selection.settings
        if self._locator is None or not settings.datastore_pools:
            return settings.backend_name
        return self._locator.locate([volume]).get(volume['id'])

    def correct_at_start(self, volumes: Any) -> None:
        """Correct the hosts of volumes by where their disks are.

        That of a volume which upstream's driver created names the backend as
        its pool; others were moved while the service was down. All volumes
        take one bulk read. Those that another service of the cluster is busy
        with are left alone.
        """
        if self._locator is None or not volumes:
            return
        try:
            known = self._locator.locate(volumes, fresh=True)
        except vmware_exceptions.VMwareDriverException as error:
            LOG.warning('The pools of existing volumes were not checked: %s',
                        error)
            return
        for volume in filter(state.is_at_rest, volumes):
            try:
                self._correct_at_start(volume, known.get(volume['id']))
            except Exception as error:
                # Deleted by another service, for example.
                LOG.warning('The pool of volume %(volume)s was not checked: '
                            '%(error)s', {'volume': volume['id'],
                                          'error': error})
        self._rehome([volume for volume in filter(state.is_at_rest, volumes)
                      if volume['id'] not in known
                      and self._is_homeless(volume)])

    def _is_homeless(self, volume: Any) -> bool:
        """Whether a volume without a disk names what is no pool.

        So do those that upstream's driver was to make on first use: they
        name the backend. One that is promised has a place on record, and one
        that had a disk is lost: both say so themselves.
        """
        pool = self._selection.scheduled_pool(volume)
        return (pool is not None and not volume['provider_id']
                and not self._selection.has_datastores(pool))

    def _rehome(self, homeless: list[Any]) -> None:
        """Give pools to volumes that have neither a disk nor a pool."""
        if not homeless:
            return
        with self._places.rehoming() as place:
            for volume in homeless:
                try:
                    records.correct(volume,
                                    records.on_pool(volume, place(volume)))
                except Exception as error:
                    LOG.warning('Volume %(volume)s has no disk yet, and no '
                                'pool could be found for it: %(error)s',
                                {'volume': volume['id'], 'error': error})

    def _correct_at_start(self, volume: Any, found: str | None) -> None:
        pool = found or self._present_name(volume)
        if not self._selection.settings.datastore_pools:
            # Also of volumes that have no backing: their pool is gone.
            pool = self._selection.settings.backend_name
        values = records.on_pool(volume, pool) if pool is not None else {}
        if found is not None:
            values['provider_id'] = state.BACKED
        if not records.says(volume, values):
            records.correct(volume, values)

    def _present_name(self, volume: Any) -> str | None:
        """The present name of the pool of a volume that has no backing."""
        pool = self._selection.pool_of(volume)
        if pool is None or not state.is_promised(volume):
            return None
        found = pool_names.resolve(pool, self._selection.inventory(),
                                   self._selection.settings)
        return found.name if found else None


class _Worker:
    """A thread that runs passes until it is stopped, or their owner ends."""

    def __init__(self, run: Callable[[], Callable[[], bool] | None],
                 interval_seconds: float, noticed: threading.Event) -> None:
        """Start.

        :param run: gives what runs a pass; None: the owner has ended
        :param noticed: set when a pass is not to wait for its time
        """
        self._run = run
        self._interval_seconds = interval_seconds
        self._noticed = noticed
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
                self._noticed.wait(self._interval_seconds)
            # Changes that come shortly after one another share one run.
            if self._ended.wait(PAUSE_SECONDS):
                return
            self._noticed.clear()
            run = self._run()
            if run is None:
                return
            done = run()
            del run  # so that its owner can end


def _is_another(disk: devices.Disk,
                own: Iterable[devices.Disk] | None) -> bool:
    """Whether a shadow VM does not name the disk that the instance has.

    A snapshot of the instance puts a delta above the disk that the shadow VM
    names; the end of a snapshot may merge that disk into the one below it,
    of which the shadow VM's own configuration says nothing.
    """
    return not any(each.path in disk.chain for each in own or ())


def _is_at_risk(disk: devices.Disk,
                instances: Iterable[shadow.Backing | None]) -> bool:
    """Whether a disk lies in the folder of its volume's instance."""
    return any(disk.folder == instance.folder
               for instance in instances if instance is not None)


def _instances(volume: Any,
               seen: backing_locator.Seen) -> list[shadow.Backing]:
    """The instances that a volume is attached to, as far as they are here."""
    found = [seen.backings.by_uuid(attachment.instance_uuid or '')
             for attachment in volume.volume_attachment or ()]
    return [instance for instance in found if instance is not None]


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    for start in range(0, len(items), size):
        yield items[start:start + size]
