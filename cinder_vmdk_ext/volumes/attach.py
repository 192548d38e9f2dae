# SPDX-License-Identifier: Apache-2.0
"""Attaches volumes, without handing out the vCenter's credentials.

Nova attaches a disk by the vCenter's reference of the shadow VM. os-brick's
vmdk connector logs in to the vCenter itself. For it, upstream's driver gives
the user and the password to every connector that names a platform, and any
member of a project can name one through Cinder's API. See docs/security.md.
"""

from collections.abc import Callable
from typing import Any

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission as admissions
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import written_back

# Keys that os-brick's connectors have and Nova's have not.
_OS_BRICK = ('platform', 'os_type')


class Attach:
    """Gives connection info, and makes the disk that it refers to."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 host_record: records.HostRecord,
                 admission: admissions.Admission,
                 written: written_back.WrittenBack) -> None:
        """:param written: corrects disks that os-brick has replaced"""
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._host_record = host_record
        self._admission = admission
        self._written = written

    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Return the connection info of an attachment (Cinder's hook).

        A promised volume gets its disk now. When several first attachments
        come at once, only one of them creates the disk.

        :raises BackingLost: the volume's disk is gone
        :raises VolumeRefused: Cinder records the volume as encrypted
        """
        self._admission.check_plain(volume)
        lent = is_os_brick(connector) and self._gives_credentials()
        if lent:
            self._written.make_whole(volume)
        found = self.with_backing(
            volume, lambda: self._upstream.original.initialize_connection(
                volume, connector))
        if lent:
            state.remember(volume, state.LENT)
        return found

    def with_backing(self, volume: Any, act: Callable[[], Any]) -> Any:
        """Call ``act``, which uses a volume's backing or creates it.

        Where it may create it, one thread of one service calls it at a time.
        """
        if state.is_backed(volume):
            self._finder.with_file(volume)
            return act()
        with locks.volumes(volume['id']):
            if state.is_promised(volume):
                volume.refresh()  # another thread may have created it
            if state.is_backed(volume):
                self._finder.with_file(volume)
            done = act()
            if state.is_promised(volume):
                self._complete(volume)
        return done

    def _complete(self, volume: Any) -> None:
        """Finish a backing whose service died before it recorded it."""
        self._upstream.volumeops.reconfigure_disk(
            self._finder.existing(volume), disk_uuid=volume['id'])
        state.remember(volume, state.BACKED)

    # -- Moving the disk within reach of the instance -----------------------

    def relocate_backing(self, volume: Any, backing: Any, host: Any) -> None:
        """Move a disk that the instance's host cannot use (upstream's seam).

        A disk stays where it is if it only does not comply with its storage
        policy: an attachment must not copy hundreds of gibibytes.
        """
        def datastore() -> str:
            return self._upstream.volumeops.get_datastore(backing).value

        if self._selection.is_seen_by(host, datastore):
            return
        with locks.volumes(volume['id']):
            if self._selection.is_seen_by(host, datastore):
                return  # another attachment has moved it meanwhile
            self._selection.near(
                volume, lambda: self._upstream.original.relocate_backing(
                    volume, backing, host))
            with self._host_record.unfailing(volume):
                self._host_record.follow_disk(volume, backing)

    # -- Credentials --------------------------------------------------------

    def validate_connector(self, connector: Any) -> None:
        """Refuse a connector that lacks what attaching needs."""
        self._upstream.original.validate_connector(connector)

    def terminate_connection(self, volume: Any, connector: Any) -> None:
        """Correct the disk that os-brick left when it disconnected.

        :raises VimException: the disk does not get the volume's size or UUID
        """
        if (is_os_brick(connector)
                and self._gives_credentials()):
            self._written.settle(volume)
            if state.is_lent(volume):
                state.remember(volume, state.BACKED)

    def connection_info(self, volume: Any, backing: Any,
                        connector: Any) -> dict[str, Any]:
        """Return the connection info (upstream's seam).

        It holds the vCenter's credentials only if
        ``vmdk_ext_connector_credentials`` is set.
        """
        if not self._gives_credentials():
            connector = {name: value for name, value in connector.items()
                         if name not in _OS_BRICK}
        return self._upstream.original.connection_info(volume, backing,
                                                       connector)

    def _gives_credentials(self) -> bool:
        return bool(self._upstream.configuration.safe_get(
            'vmdk_ext_connector_credentials'))


def is_os_brick(connector: Any) -> bool:
    """Whether a connector is that of a host which is no hypervisor."""
    return bool(connector) and 'instance' not in connector and all(
        name in connector for name in _OS_BRICK)
