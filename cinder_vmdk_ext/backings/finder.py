# SPDX-License-Identifier: Apache-2.0
"""Finds a volume's shadow VM, and its disk on an instance."""

from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import operation
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class Finder:
    """Finds a volume's VM and disk, and reports when they are lost."""

    def __init__(self, cinder: upstream.Upstream) -> None:
        self._upstream = cinder

    def find(self, volume: Any) -> Any:
        """The volume's shadow VM; None: the vCenter has none."""
        ops = self._upstream.volumeops
        if not state.is_unknown(volume):
            return ops.get_backing(volume['name'], volume['id'])
        # A new, empty disk must not take the place of an old one.
        with operation.scope(everywhere=True):
            return ops.get_backing(volume['name'], volume['id'])

    def existing(self, volume: Any) -> Any:
        """The volume's shadow VM; None: the volume never had one.

        :raises BackingLost: the volume had one, but the vCenter has none; or
            the VM has lost its disk and no instance has the disk
        """
        backing = self.find(volume)
        if not state.is_backed(volume) or self._is_whole(volume, backing):
            return backing
        # Another operation may be replacing the backing at this moment.
        with locks.volumes(volume['id']):
            backing = self.find(volume) or self._half_replaced(volume)
        if not backing:
            raise exceptions.BackingLost('volume', volume['id'],
                                         volume.get('host'))
        if not self._is_whole(volume, backing):
            raise exceptions.BackingLost(
                'the disk of the shadow VM '
                f'{backing.value} of volume',
                volume['id'], volume.get('host'))
        return backing

    def with_file(self, volume: Any) -> Any:
        """The volume's shadow VM, after a check that its disk's file exists.

        For operations that would succeed without touching the disk. Makes one
        call more than :meth:`existing`, except for an attached volume, whose
        instance has the file open.

        :raises BackingLost: as :meth:`existing`, or the file does not exist
        """
        backing = self.existing(volume)
        if backing and not self._upstream.in_use(volume):
            self._check_file(volume, backing)
        return backing

    def explain_missing_file(self, volume: Any) -> None:
        """After a FileNotFound: check whether the volume's disk is missing.

        :raises BackingLost: the disk's file does not exist
        """
        backing = self.find(volume)
        if backing and self._upstream.volumeops.has_disk(backing):
            self._check_file(volume, backing)

    def _check_file(self, volume: Any, backing: Any) -> None:
        path = self._upstream.volumeops.missing_file(backing)
        if path is not None:
            raise exceptions.BackingLost(f'the file {path} of volume',
                                         volume['id'], volume.get('host'))

    def _is_whole(self, volume: Any, backing: Any) -> bool:
        """Whether a shadow VM exists and has its disk.

        If the volume is attached, its disk is searched for on the instance.
        """
        return bool(backing) and (
            self._upstream.in_use(volume)
            or self._upstream.volumeops.has_disk(backing))

    def _half_replaced(self, volume: Any) -> Any:
        """Undo a replacement of a backing that was interrupted halfway.

        After such an interruption the old backing is marked as replaced and
        the new one still has its temporary name. An old backing without a
        new one may be left from an earlier replacement and hold old content;
        the volume is then lost.

        :returns: the old backing, with its identity restored; None: no
            replacement was interrupted
        """
        ops = self._upstream.volumeops
        beginning = f'{volume["name"]}-'
        # From memory: Cinder may ask for a lost volume often.
        if not any(vm.name.startswith(beginning)
                   for vm in ops.read_backings().all):
            return None
        old = ops.marked(shadow.REPLACED, volume['id'])
        names = [name for _moref, name in old]
        if len(old) != 1 or not any(
                vm.name.startswith(beginning)
                and vm.name not in names
                for vm in ops.read_all_backings().all):
            return None
        backing = references.Ref('VirtualMachine', old[0][0])
        LOG.warning('Volume %(volume)s gets its backing %(vm)s back: it was '
                    'to be replaced, and the replacement was broken off.',
                    {'volume': volume['id'], 'vm': old[0][0]})
        self.restore_identity(volume, backing)
        return backing

    def restore_identity(self, volume: Any, backing: Any) -> None:
        """Give the volume back the backing that was being replaced."""
        self._upstream.volumeops.set_identity(
            backing, volume['name'],
            self._upstream.extra_config(volume)
            | {shadow.REPLACED: ''})

    def attached_disk(self, volume: Any) -> tuple[Any, devices.Disk]:
        """The instance that a volume is attached to, and its disk there.

        :raises BackingLost: the vCenter has no such instance or disk
        """
        ops = self._upstream.volumeops
        uuid = volume['volume_attachment'][0]['instance_uuid']
        instance = uuid and ops.get_backing_by_uuid(uuid)
        if instance:
            disk_uuid = (self._upstream.volume_device_uuid(
                instance, volume['id']) or volume['id'])
            for disk in devices.disks(ops.devices_of(instance)):
                if disk.uuid.lower() == disk_uuid.lower():
                    return instance, disk
        raise exceptions.BackingLost(
            'the disk on instance', f'{uuid} of volume {volume["id"]}',
            volume.get('host'))
