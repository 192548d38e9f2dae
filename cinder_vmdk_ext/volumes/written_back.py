# SPDX-License-Identifier: Apache-2.0
"""Makes a disk that os-brick has written back the volume's own again.

os-brick's vmdk connector (backups, host-assisted migration) destroys the
volume's disk as it disconnects, and copies another to its path: of the size
and disk type of what was written, with a UUID of its own and without a
storage policy. The content is what the caller meant it to be.
"""

from typing import Any

from oslo_log import log as logging

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)


class WrittenBack:
    """What a connection leaves to do that had the vCenter's credentials."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement) -> None:
        self._upstream = cinder
        self._finder = finder
        self._replacement = replacement

    def settle(self, volume: Any) -> None:
        """Give a disk that was exchanged the volume's UUID, size and form.

        :raises BackingLost: the disk is gone
        :raises VimException: its size or UUID cannot be set, so that the
            volume is not what Cinder says of it
        """
        backing = self._finder.existing(volume)
        if not backing or self._upstream.in_use(volume):
            return
        disk, has_snapshots = self._upstream.volumeops.examine(backing)
        if (disk.uuid.lower() == volume['id'] or disk.parent
                or has_snapshots):
            return  # os-brick exchanges no such disk
        LOG.info('The disk of volume %s was exchanged from outside; it gets '
                 "the volume's UUID, size and disk type.", volume['id'])
        if disk.provisioning == self._upstream.disk_type(volume) or (
                not self._converted(volume, backing, disk)):
            self._in_place(volume, backing)

    def _converted(self, volume: Any, backing: Any,
                   disk: devices.Disk) -> bool:
        """Whether it was copied to the disk type of the volume's type."""
        try:
            self._replacement.remake(volume, backing, volume['size'],
                                     'restore')
        except (exceptions.NoPlacement, exceptions.VMWARE_ERRORS) as error:
            LOG.warning(
                'The disk of volume %(volume)s stays %(form)s, which its type '
                'does not ask for: %(error)s',
                {'volume': volume['id'], 'form': disk.provisioning,
                 'error': error})
            return False
        return True

    def _in_place(self, volume: Any, backing: Any) -> None:
        self._upstream.volumeops.reconfigure_disk(
            backing, disk_uuid=volume['id'],
            profile_id=self._upstream.storage_profile_id(volume))
        self._replacement.grow(backing, volume['size'])
