# SPDX-License-Identifier: Apache-2.0
"""Finding a volume's backing, and putting another in its place."""

from typing import Any

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils
from oslo_vmware import vim_util

from cinder.volume.drivers.vmware import vmdk
from cinder.volume.drivers.vmware import volumeops as upstream

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.vsphere import virtual_devices as devices
from cinder_vmdk_ext import wiring

LOG = logging.getLogger(__name__)

# Extra configuration of a shadow VM that another one has replaced.
REPLACED = 'vmdk-ext.replaced-volume'


class Exchange(wiring.WiredDriver):
    """What operations on existing volumes have in common."""

    def _existing_backing(self, volume: Any) -> Any:
        """The volume's shadow VM; None when it never had one.

        :raises BackingLost: it had one
        """
        backing = self.volumeops.get_backing(volume['name'], volume['id'])
        if not backing and state.is_backed(volume):
            # Unless one is being put in its place by another operation.
            with locks.volumes(volume['id']):
                backing = (self.volumeops.get_backing(volume['name'],
                                                      volume['id'])
                           or self._half_replaced(volume))
        if not backing and state.is_backed(volume):
            raise exceptions.BackingLost('volume', volume['id'],
                                         wiring.field(volume, 'host'))
        return backing

    def _half_replaced(self, volume: Any) -> Any:
        """Undo an exchange of backings that was broken off halfway.

        Then the old one is marked as replaced, and the new one still has its
        temporary name. The old one alone may be the forgotten rest of an
        earlier exchange, whose content is old: the volume is lost then.

        :returns: the old backing, with its identity; None: it was not so
        """
        old = self.volumeops.marked(REPLACED, volume['id'])
        names = [name for _moref, name in old]
        if len(old) != 1 or not any(
                vm.name.startswith(f'{volume["name"]}-')
                and vm.name not in names
                for vm in self.volumeops.read_all_backings().all):
            return None
        backing = vim_util.get_moref(old[0][0], 'VirtualMachine')
        LOG.warning('Volume %(volume)s gets its backing %(vm)s back: the one '
                    'that was to replace it never did.',
                    {'volume': volume['id'], 'vm': old[0][0]})
        self._restore_identity(volume, backing)
        return backing

    def _restore_identity(self, volume: Any, old: Any) -> None:
        self.volumeops.identify(old, volume['name'],
                                self._get_extra_config(volume)
                                | {REPLACED: ''})

    def _attached_disk(self, volume: Any) -> tuple[Any, devices.Disk]:
        """The instance that a volume is attached to, and its disk there.

        :raises BackingLost: the vCenter has no such instance or disk
        """
        uuid = volume['volume_attachment'][0]['instance_uuid']
        instance = uuid and self.volumeops.get_backing_by_uuid(uuid)
        if instance:
            disk_uuid = (self._get_volume_device_uuid(instance, volume['id'])
                         or volume['id'])
            for disk in devices.disks(self.volumeops.devices_of(instance)):
                if disk.uuid.lower() == disk_uuid.lower():
                    return instance, disk
        raise exceptions.BackingLost(
            'the disk on instance', f'{uuid} of volume {volume["id"]}',
            wiring.field(volume, 'host'))

    def _profile_id(self, volume: Any) -> str | None:
        return self._get_storage_profile_id(volume)

    def _finish(self, volume: Any, backing: Any, linked: bool = False) -> None:
        """Make a fresh copy the volume's disk: UUID, adapter and size.

        On failure the copy is deleted: it is nobody's yet.
        """
        try:
            # vCenter lets nobody change the UUID of a delta disk.
            disk = self.volumeops.shape(
                backing, disk_uuid=None if linked else volume['id'],
                adapter=self._get_adapter_type(volume))
            if not linked and disk.capacity_bytes < volume['size'] * units.Gi:
                self._extend_backing(backing, volume['size'],
                                     disk.provisioning)
        except Exception:
            self._discard(backing)
            raise

    def _grow(self, backing: Any, volume: Any, size_gib: int) -> None:
        """Extend a backing's disk that is smaller than asked."""
        disk = self.volumeops.disk_of(backing)
        if disk.capacity_bytes < size_gib * units.Gi:
            self._extend_backing(backing, size_gib, disk.provisioning)

    def _discard(self, backing: Any) -> None:
        """Delete a VM that is nobody's; a failure leaves it to the sweep."""
        try:
            self.volumeops.delete_backing(backing)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('A leftover VM %(vm)s stays in the vCenter: '
                        '%(error)s', {'vm': vim_util.get_moref_value(backing),
                                      'error': error})

    def _replace(self, volume: Any, old: Any, new: Any,
                 adapter: str | None = None) -> None:
        """Make ``new`` the volume's backing, and delete ``old``.

        Until the last step the old backing is whole; a failure gives it its
        identity back and deletes the new one.

        :param adapter: that the new one is to have; None: as it is
        """
        try:
            self.volumeops.shape(new, disk_uuid=volume['id'],
                                 adapter=adapter)
        except Exception:
            self._discard(new)
            raise
        # A name of its own: one that was left behind may have been so too.
        identity = uuidutils.generate_uuid()
        try:
            self.volumeops.identify(
                old, f'{volume["name"]}-replaced-{identity}', {
                    upstream.BACKING_UUID_KEY: identity,
                    vmdk.EXTRA_CONFIG_VOLUME_ID_KEY: '',
                    REPLACED: volume['id']})
            self.volumeops.identify(new, volume['name'],
                                    self._get_extra_config(volume))
        except Exception:
            # It may have been done and only its reply be lost. Should this
            # fail too, both stay, and the next operation finds them so.
            self._restore_identity(volume, old)
            self._discard(new)
            raise
        self._discard(old)
