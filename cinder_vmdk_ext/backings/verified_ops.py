# SPDX-License-Identifier: Apache-2.0
"""Checks the effect of a call whose reply was lost, before it fails.

If the effect is found, the operation continues as if the reply had come. An
effect that is not found may still appear, so the call fails with
:class:`exceptions.OutcomeUnknown`, which callers never treat as "not done".
"""

import time
from collections.abc import Callable
from typing import Any
from typing import TypeVar

from oslo_log import log as logging
from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import operation
from cinder_vmdk_ext.vsphere import property_collector as collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import tasks
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

# After these errors of a call that adds an object, the object is searched
# for. A call that sets a state is verified after any error: the state is
# either as requested or not.
_UNKNOWN = exceptions.OutcomeUnknown
_STATE, _ENTITY = 'info.state', 'info.entity'


_T = TypeVar('_T')
# How long a disk may stay locked after it was detached.
LOCK_SECONDS = 5.0
LOCK_POLL_SECONDS = 0.25


def _once_unlocked(act: Callable[[], _T]) -> _T:
    """Act on a disk that may stay locked for some seconds.

    A call that fails because of a lock has changed nothing, so it is repeated.

    :raises FileLockedException: the disk stays locked
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return act()
        except vmware_exceptions.FileLockedException:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOCK_POLL_SECONDS)


class VerifiedOps(volumeops.VolumeOps):
    """Volume operations that verify their effect after a lost reply.

    Each call that creates a VM gives it a new BIOS UUID. A VM with that UUID
    comes from that call, not from an earlier call with the same name.
    """

    # -- Making -------------------------------------------------------------

    def _create_backing_int(self, folder: Any, resource_pool: Any, host: Any,
                            create_spec: Any) -> Any:
        create_spec.uuid = attempt = uuidutils.generate_uuid()
        make = super()._create_backing_int

        def find() -> Any:
            found = self._made(attempt)
            if found:
                self._note_created(found, create_spec, host)
            return found
        return self._verify(
            folder, lambda: make(folder, resource_pool, host, create_spec),
            find)

    def clone(self, name: str, source: Any, **options: Any) -> Any:
        """As :meth:`volumeops.VolumeOps.clone` (CloneVM_Task)."""
        attempt = uuidutils.generate_uuid()
        clone = super().clone

        def find() -> Any:
            found = self._made(attempt)
            if found:
                self._note_copy(found, options['datastore'],
                                options.get('extra_config'))
            return found
        return self._verify(
            source,
            lambda: clone(name, source, bios_uuid=attempt, **options), find)

    def clone_backing(self, name: str, backing: Any, snapshot: Any,
                      clone_type: str, datastore: Any, *args: Any,
                      extra_config: dict[str, str] | None = None,
                      **options: Any) -> Any:
        """As upstream's method, which converts the disk of an image."""
        clone = super().clone_backing
        # Upstream's method takes the UUID out of the configuration.
        uuid = ((extra_config or {}).get(upstream.BACKING_UUID_KEY, '')
                if self.backing_view is not None else '')
        made = self._verify(
            backing, lambda: clone(name, backing, snapshot, clone_type,
                                   datastore, *args,
                                   extra_config=extra_config, **options),
            # The clone's instance UUID is also the volume's id.
            lambda: self.get_backing_by_uuid(
                (extra_config or {}).get(shadow.VOLUME_ID, '')))
        # A linked clone stays where its source is.
        if datastore and self.backing_view is not None:
            self.note_new(made, (datastore.value,), uuid)
        return made

    def _made(self, attempt: str) -> Any:
        found = self._session.invoke_api(
            self._session.vim, 'FindAllByUuid',
            self._session.vim.service_content.searchIndex, uuid=attempt,
            vmSearch=True, instanceUuid=False)
        return found[0] if found else None

    def create_snapshot(self, backing: Any, name: str,
                        description: str | None,
                        quiesce: bool = False) -> Any:
        """Take a snapshot of a VM (CreateSnapshot_Task).

        The name and the description together identify it.

        :returns: its reference
        """
        create = super().create_snapshot
        return self._verify(
            backing, lambda: create(backing, name, description, quiesce),
            lambda: self._described(backing, name, description or ''))

    def _described(self, backing: Any, name: str, description: str) -> Any:
        for node in self._snapshot_nodes(backing):
            if (node.name, node.description) == (name, description):
                return references.Ref('VirtualMachineSnapshot', node.moref)
        return None

    def mark_backing_as_template(self, backing: Any) -> None:
        """Make a VM a template (MarkAsTemplate)."""
        mark = super().mark_backing_as_template
        self._verify_step(
            backing, lambda: mark(backing),
            lambda: bool(self.properties(backing, 'config.template').get(
                'config.template')))

    def set_identity(self, backing: Any, name: str,
                     extra_config: dict[str, str]) -> None:
        """As :meth:`volumeops.VolumeOps.set_identity` (ReconfigVM_Task)."""
        identify = super().set_identity
        uuid = extra_config.get(upstream.BACKING_UUID_KEY)

        def is_done() -> bool:
            seen = self.properties(backing, 'name', 'config.instanceUuid')
            return (seen.get('name') == name
                    and uuid in (None, seen.get('config.instanceUuid')))
        self._verify_step(
            backing, lambda: identify(backing, name, extra_config), is_done,
            exceptions.VMWARE_ERRORS)

    def rename(self, vm: Any, name: str) -> None:
        """Give a VM or a template another name (Rename_Task)."""
        rename = super().rename
        self._verify_step(
            vm, lambda: rename(vm, name),
            lambda: self.properties(vm, 'name').get('name') == name,
            exceptions.VMWARE_ERRORS)

    def rename_snapshot(self, snapshot: Any, name: str,
                        description: str | None) -> None:
        """Give a snapshot in a VM's tree another name (RenameSnapshot)."""
        rename = super().rename_snapshot
        self._verify_step(
            snapshot, lambda: rename(snapshot, name, description),
            lambda: self._is_called(snapshot, name),
            exceptions.VMWARE_ERRORS)

    def _is_called(self, snapshot: Any, name: str) -> bool:
        machine = self._machine_of(snapshot)
        found = self.snapshots(machine).get(name) if machine else None
        return found is not None and found.value == snapshot.value

    def remove_disk(self, vm: Any, disk: devices.Disk) -> None:
        """Remove a disk from a VM; its file stays (ReconfigVM_Task)."""
        take = super().remove_disk
        self._verify_step(
            vm, lambda: take(vm, disk),
            lambda: all(each.path != disk.path for each
                        in devices.disks(self.devices_of(vm))),
            exceptions.VMWARE_ERRORS)

    # -- Moving -------------------------------------------------------------

    def relocate(self, vm: Any, datastore: Any, **options: Any) -> None:
        """As :meth:`volumeops.VolumeOps.relocate` (RelocateVM_Task)."""
        relocate = super().relocate
        disk = options.get('only_disk')
        if disk is None and self.backing_view is not None:
            self.placed[vm.value] = datastore.value
        self._verify_step(
            vm, lambda: relocate(vm, datastore, **options),
            lambda: self._is_on(vm, datastore, disk and disk.uuid))
        if disk is not None and disk.datastore != datastore.value:
            self.freed(disk.datastore)

    def relocate_backing(self, backing: Any, datastore: Any,
                         resource_pool: Any, host: Any,
                         disk_type: str | None = None) -> None:
        """Move a shadow VM with its disk (RelocateVM_Task)."""
        relocate = super().relocate_backing
        if self.backing_view is not None:
            self.placed[backing.value] = datastore.value
        self._verify_step(
            backing, lambda: relocate(backing, datastore, resource_pool,
                                      host, disk_type),
            lambda: self._is_on(backing, datastore, None))

    def _is_on(self, vm: Any, datastore: Any, disk_uuid: str | None) -> bool:
        """Whether a VM's disks, or the one of that UUID, are on a datastore.

        Verifies a move from another datastore, which is a single task and is
        done completely or not at all.
        """
        wanted = datastore.value
        moved = [disk.datastore == wanted
                 for disk in devices.disks(self.devices_of(vm))
                 if disk_uuid in (None, disk.uuid)]
        return bool(moved) and all(moved)

    # -- Of a disk that an instance may just have given back ----------------

    def move_vmdk_file(self, *args: Any, **kwargs: Any) -> None:
        """Move a detached disk (MoveVirtualDisk_Task)."""
        move = super().move_vmdk_file
        _once_unlocked(lambda: move(*args, **kwargs))

    def extend_virtual_disk(self, *args: Any, **kwargs: Any) -> None:
        """Extend a detached disk to a size (ExtendVirtualDisk_Task)."""
        extend = super().extend_virtual_disk
        _once_unlocked(lambda: extend(*args, **kwargs))

    def repoint_disk(self, *args: Any, **kwargs: Any) -> None:
        """Make a shadow VM use another file as its disk."""
        repoint = super().repoint_disk
        _once_unlocked(lambda: repoint(*args, **kwargs))

    def set_policy(self, backing: Any, profile_id: str) -> None:
        """Give a detached disk a storage policy (ReconfigVM_Task)."""
        _once_unlocked(lambda: self.reconfigure_disk(
            backing, profile_id=profile_id))

    def consolidate(self, vm: Any) -> None:
        """Merge the deltas that no snapshot needs (ConsolidateVMDisks_Task).

        Deltas that another VM needs stay.
        """
        consolidate = super().consolidate
        _once_unlocked(lambda: consolidate(vm))

    # -- Deleting -----------------------------------------------------------

    def delete_backing(self, backing: Any) -> None:
        """Delete a VM with its disks (Destroy_Task)."""
        delete = super().delete_backing
        view = self.backing_view
        datastores = self.datastores_used(backing, deleting=True)
        try:
            self._verify_step(
                backing, lambda: delete(backing), lambda: self.read_backing(
                    backing.value) is None)
        except Exception:
            if view:
                view.not_deleted(backing.value)
            raise
        for datastore in datastores:
            self.freed(datastore)

    def delete_snapshot(self, backing: Any, name: str) -> bool:
        """As :meth:`volumeops.VolumeOps.delete_snapshot`."""
        deleted = super().delete_snapshot(backing, name)
        if deleted:
            for datastore in self.datastores_used(backing):
                self.freed(datastore)
        return deleted

    def remove_snapshot(self, snapshot: Any) -> None:
        """Delete one snapshot of a tree (RemoveSnapshot_Task)."""
        remove = super().remove_snapshot
        self._verify_step(snapshot, lambda: remove(snapshot),
                          lambda: self._machine_of(snapshot) is None)

    def _machine_of(self, snapshot: Any) -> Any:
        """The VM that has the snapshot; None: the snapshot is gone."""
        try:
            return self.properties(snapshot, 'vm').get('vm')
        except vmware_exceptions.ManagedObjectNotFoundException:
            return None

    # -- Looking ------------------------------------------------------------

    def _verify_step(self, target: Any, act: Callable[[], Any],
                     is_done: Callable[[], bool],
                     errors: type[Exception] = _UNKNOWN) -> None:
        self._verify(target, act, lambda: is_done() or None, errors)

    def _verify(self, target: Any, act: Callable[[], Any],
                find: Callable[[], Any],
                errors: type[Exception] = _UNKNOWN) -> Any:
        """Do something; after an error, verify whether it was done.

        :param target: the object of its task
        :param find: returns the result if it was done, otherwise None
        :param errors: the errors after which the effect is verified
        :raises OutcomeUnknown: the effect is not there (yet)
        """
        try:
            return _once_unlocked(act)
        except errors as error:
            found = self._look(target, find, error)
            if found is None:
                raise
            LOG.info('It was done all the same, after: %s', error)
            return found

    def _look(self, target: Any, find: Callable[[], Any],
              failure: Exception) -> Any:
        operation.forget_prefetched()
        try:
            if target._type == 'VirtualMachineSnapshot':
                target = self._machine_of(target)
            for task in self._running_on(target) if target else ():
                self._await(task)
            return find()
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('What was done cannot be seen: %(error)s (after: '
                        '%(failure)s)', {'error': error, 'failure': failure})
            return None

    def _await(self, task: references.Ref) -> None:
        try:
            self._session.wait_for_task(task)
        except exceptions.OutcomeUnknown:
            raise
        except exceptions.VMWARE_ERRORS as error:
            # The task may belong to another call; the effect decides.
            LOG.debug('Task %(task)s failed: %(error)s',
                      {'task': task.value, 'error': error})

    def _running_on(self, target: Any) -> list[references.Ref]:
        """The tasks on an object that have not ended (recentTask)."""
        found = collector.read_selected(
            self._session, self._client,
            self._session.vim.service_content.taskManager,
            ('maxCollector',), tasks.RECENT, 'Task', (_STATE, _ENTITY))
        moref = target.value
        return [task for task, seen in found.items()
                if seen.get(_STATE) in ('queued', 'running')
                and getattr(seen.get(_ENTITY), 'value', None) == moref]
