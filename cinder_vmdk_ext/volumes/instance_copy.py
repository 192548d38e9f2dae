# SPDX-License-Identifier: Apache-2.0
"""Copies an attached disk, but not the instance that has it.

CloneVM_Task copies a whole VM, and the hardware version, memory, firmware and
disk limits of a clone cannot be changed. So the clone only serves to copy the
disk: the disk moves to a new shadow VM, and the clone is deleted.
"""

from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import uuidutils

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class AttachedDisk(NamedTuple):
    """The disk of an attached volume that is to be copied."""

    instance: Any
    uuid: str
    adapter: str | None  # of the volume's shadow VM
    moment: Any = None  # a snapshot of the instance


class Target(NamedTuple):
    """The place of the copy, and its properties."""

    name: str  # of its shadow VM
    folder: Any
    datastore: Any
    extra_config: dict[str, str]  # with its instance UUID
    host: Any = None  # None: that of the instance
    resource_pool: Any = None
    adapter: str | None = None  # None: that of the source
    provisioning: str | None = None  # None: that of the source
    profile_id: str | None = None


class InstanceCopy:
    """Makes shadow VMs with a copy of an instance's disk."""

    def __init__(self, cinder: upstream.Upstream,
                 replacement: replace.Replacement) -> None:
        self._upstream = cinder
        self._replacement = replacement

    @property
    def _ops(self) -> Any:
        return self._upstream.volumeops

    def make(self, source: AttachedDisk, target: Target) -> Any:
        """Copy a disk to a new shadow VM (CloneVM_Task).

        On failure the VMs are deleted, and the error is raised.

        :returns: the shadow VM's reference
        :raises VimException: by oslo.vmware
        """
        made_in = uuidutils.generate_uuid()
        try:
            clone = self._clone(source, target, made_in)
            shell = self._make_shell(clone, target)
            self._hand_over(clone, shell, source, target)
        except Exception:
            # A call may have made a VM though its reply was an error.
            with excutils.save_and_reraise_exception():
                self._replacement.discard_by_uuid(
                    target.extra_config[upstream.BACKING_UUID_KEY])
                self._replacement.discard_by_uuid(made_in)
        self._replacement.discard(clone)
        return shell

    def _clone(self, source: AttachedDisk, target: Target, uuid: str) -> Any:
        return self._ops.clone(
            replace.temporary_name({'name': target.name}, 'copy'),
            source.instance, folder=target.folder,
            datastore=target.datastore, host=target.host,
            resource_pool=target.resource_pool, snapshot=source.moment,
            only_disk=source.uuid, provisioning=target.provisioning,
            profile_id=target.profile_id, extra_config={
                upstream.BACKING_UUID_KEY: uuid,
                upstream.VOLUME_ID_KEY: '', shadow.SNAPSHOT_ID: ''})

    def _make_shell(self, clone: Any, target: Target) -> Any:
        where = self._ops.properties(clone, 'resourcePool', 'runtime.host')
        place = self._ops.properties(target.datastore, 'name')
        return self._ops.create_backing_disk_less(
            target.name, target.folder, where['resourcePool'],
            where['runtime.host'], place['name'],
            profileId=target.profile_id,
            extra_config=dict(target.extra_config))

    def _hand_over(self, clone: Any, shell: Any, source: AttachedDisk,
                   target: Target) -> None:
        hardware = self._ops.devices_of(clone)
        disk = devices.disks(hardware)[0]
        adapter = (target.adapter or source.adapter
                   or devices.adapter_of(disk, hardware)
                   or self._upstream.adapter_type_of(None))
        path = f'{self._ops.home_folder(shell)}/{target.name}.vmdk'
        self._ops.remove_disk(clone, disk)
        datacenter = self._ops.get_dc(target.datastore)
        try:
            self._ops.move_vmdk_file(datacenter, disk.path, path)
            self._ops.attach_file(shell, path, disk.capacity_bytes, adapter,
                                  target.profile_id)
        except Exception:
            for left in (disk.path, path):
                self._delete_file(left, datacenter, shell)
            raise

    def _delete_file(self, path: str, datacenter: Any, shell: Any) -> None:
        """Delete a disk that no VM has; a sweep finds what remains."""
        try:
            if all(disk.path != path for disk
                   in devices.disks(self._ops.devices_of(shell))):
                self._ops.delete_vmdk_file(path, datacenter)
        except exceptions.VMWARE_ERRORS as error:
            LOG.debug('%(path)s was not deleted: %(error)s',
                      {'path': path, 'error': error})
