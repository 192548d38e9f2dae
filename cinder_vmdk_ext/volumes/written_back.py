# SPDX-License-Identifier: Apache-2.0
"""Corrects a volume's disk after os-brick has replaced it.

When os-brick's vmdk connector (backups, host-assisted migration) disconnects,
it destroys the volume's disk and copies another disk to its path. The new disk
has the size and disk type of the file that was written, another UUID and no
storage policy. Only its content is right.
"""

from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class WrittenBack:
    """Corrects disks after a connection with the vCenter's credentials."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement) -> None:
        self._upstream = cinder
        self._finder = finder
        self._replacement = replacement

    def make_whole(self, volume: Any) -> None:
        """Give a volume whose disk os-brick has destroyed an empty one.

        A restore that was broken off leaves a shadow VM without a disk, to
        which os-brick cannot restore again.

        :raises VimException: the disk cannot be made
        """
        if not state.is_lent(volume):
            return
        with locks.volumes(volume['id']):
            backing = self._finder.find(volume)
            if (not backing or self._upstream.in_use(volume)
                    or self._upstream.volumeops.has_disk(backing)):
                return
            LOG.info('Volume %s gets an empty disk: a restore by os-brick, '
                     'which has destroyed its disk, was broken off.',
                     volume['id'])
            self._replacement.replace(
                volume, backing, self._upstream.create_backing(
                    replace.Aside(volume, 'restore')))

    def settle(self, volume: Any) -> None:
        """Give a replaced disk the volume's UUID, size and disk type.

        A disk that was not replaced is not changed. If the disk type cannot
        be changed, a warning is logged.

        :raises BackingLost: the disk is gone
        :raises VimException: its size or UUID cannot be set, so that it does
            not fit Cinder's record of the volume
        """
        backing = self._finder.existing(volume)
        if not backing or self._upstream.in_use(volume):
            return
        disk, has_snapshots = self._upstream.volumeops.examine(backing)
        if (disk.uuid.lower() == volume['id'] or disk.parent
                or has_snapshots):
            return  # os-brick has not replaced such a disk
        LOG.info('The disk of volume %s was replaced by os-brick; it gets '
                 "the volume's UUID, size and disk type.", volume['id'])
        if disk.provisioning == self._upstream.disk_type(volume) or (
                not self._converted(volume, backing, disk)):
            self._in_place(volume, backing)

    def _converted(self, volume: Any, backing: Any,
                   disk: devices.Disk) -> bool:
        """Copy the disk to the type's disk type; return whether it worked."""
        try:
            self._replacement.remake(volume, backing, volume['size'],
                                     'restore')
        except (exceptions.NoPlacement, exceptions.VMWARE_ERRORS) as error:
            LOG.warning(
                'The disk of volume %(volume)s stays %(form)s, which is not '
                'the disk type of its volume type: %(error)s',
                {'volume': volume['id'], 'form': disk.provisioning,
                 'error': error})
            return False
        return True

    def _in_place(self, volume: Any, backing: Any) -> None:
        self._upstream.volumeops.reconfigure_disk(
            backing, disk_uuid=volume['id'],
            profile_id=self._upstream.storage_profile_id(volume))
        self._replacement.grow(backing, volume['size'])
