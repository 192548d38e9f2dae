# SPDX-License-Identifier: Apache-2.0
"""Completes the copy of a disk, and replaces a volume's disk with it."""

import contextlib
import secrets
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

_Made = TypeVar('_Made')


class Replacement:
    """The steps that all operations that make a copy share."""

    def __init__(self, cinder: upstream.Upstream,
                 finder: backing_finder.Finder) -> None:
        self._upstream = cinder
        self._finder = finder

    def finish(self, volume: Any, backing: Any, adapter: str | None,
               linked: bool = False) -> None:
        """Give a new copy the volume's UUID, size and storage policy.

        Of its source's I/O limits it keeps none.
        On failure the copy is deleted: it belongs to no volume yet.

        :param adapter: the adapter type; None: unchanged
        :param linked: the copy is a linked clone
        :raises VimException: by oslo.vmware
        """
        with self.discarding(backing):
            # A vCenter cannot change the UUID of a delta disk.
            disk = self._upstream.volumeops.reconfigure_disk(
                backing, disk_uuid=None if linked else volume['id'],
                adapter=adapter,
                profile_id=self._upstream.storage_profile_id(volume)
                if linked else None, limits=devices.UNLIMITED)
            if not linked and disk.capacity_bytes < volume['size'] * units.Gi:
                self._upstream.extend_backing(backing, volume['size'],
                                              disk.provisioning)

    def finish_image(self, volume: Any, backing: Any) -> None:
        """Give the disk of an image the volume's storage policy.

        Upstream's conversion to a disk type makes a clone without a policy.
        On failure the disk is deleted: it belongs to no volume yet.
        """
        profile_id = self._upstream.storage_profile_id(volume)
        if not profile_id:
            return
        with self.discarding(backing):
            self._upstream.volumeops.reconfigure_disk(backing,
                                                      profile_id=profile_id)

    def remake(self, volume: Any, backing: Any, size_gib: int,
               purpose: str) -> None:
        """Replace a volume's backing with a full copy of it.

        The copy has the disk type and the storage policy of the volume's
        type. A failure leaves the volume as it was.

        :param size_gib: the least size of the copy
        :param purpose: part of the copy's temporary name
        """
        cinder = self._upstream
        (host, pool, folder, summary) = cinder.select_ds_for_volume(volume)
        profile_id = cinder.storage_profile_id(volume)
        new = cinder.volumeops.clone(
            temporary_name(volume, purpose), backing, folder=folder,
            datastore=summary.datastore, host=host, resource_pool=pool,
            provisioning=cinder.disk_type(volume), profile_id=profile_id)
        with self.discarding(new):
            self.grow(new, size_gib)
        self.replace(volume, backing, new, profile_id=profile_id)

    def grow(self, backing: Any, size_gib: int) -> None:
        """Extend a backing's disk if it is smaller than this."""
        disk = self._upstream.volumeops.disk_of(backing)
        if disk.capacity_bytes < size_gib * units.Gi:
            self._upstream.extend_backing(backing, size_gib,
                                          disk.provisioning)

    @contextlib.contextmanager
    def discarding(self, backing: Any) -> Iterator[None]:
        """If the block fails, delete a VM that belongs to no volume yet."""
        try:
            yield
        except Exception:
            self.discard(backing)
            raise

    def discard(self, backing: Any) -> None:
        """Delete a VM that belongs to no volume.

        A failure is logged; ``cinder-vmdk-ext sweep`` finds what is left.
        """
        try:
            self._upstream.volumeops.delete_backing(backing)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('VM %(vm)s is left over in the vCenter: '
                        '%(error)s', {'vm': backing.value,
                                      'error': error})

    @staticmethod
    def beside(volume: Any, purpose: str,
               make: Callable[['Aside'], _Made],
               can_repeat: Callable[[], bool] = lambda: True) -> _Made:
        """Make a second disk for a volume, on its pool if possible.

        If no datastore of its pool takes the disk, which may be drained or
        no longer comply with its storage policy, any other of the backend is
        tried.

        :param make: makes the disk where the pool of its argument is
        :param can_repeat: whether ``make`` can be called once more
        :returns: what ``make`` returns
        :raises NoPlacement: with the reason for each datastore considered
        """
        try:
            return make(Aside(volume, purpose))
        except exceptions.NoPlacement as error:
            if not can_repeat():
                raise
            LOG.info('Volume %(volume)s: the disk that replaces its own may '
                     'go to another pool: %(error)s',
                     {'volume': volume['id'], 'error': error})
            return make(Aside(volume, purpose, host=''))  # any pool

    def discard_by_uuid(self, uuid: str) -> None:
        """Delete a VM that belongs to no volume, if it exists.

        :param uuid: its instance UUID
        """
        try:
            left = self._upstream.volumeops.get_backing_by_uuid(uuid)
        except exceptions.VMWARE_ERRORS as error:
            LOG.warning('VM %(uuid)s may remain in the vCenter: %(error)s',
                        {'uuid': uuid, 'error': error})
            return
        if left:
            self.discard(left)

    def replace(self, volume: Any, old: Any, new: Any,
                adapter: str | None = None,
                profile_id: str | None = None,
                limits: devices.Allocation | None = None,
                marks: Mapping[str, str] | None = None) -> None:
        """Make ``new`` the volume's backing, and delete ``old``.

        The old backing stays complete until the last step. On failure it gets
        its identity back, and the new one is deleted.

        :param adapter: adapter type of the new one; None: unchanged
        :param profile_id: storage policy of the new one; None: unchanged
        :param limits: quality of service of the new one; None: unchanged
        :param marks: of the new one, from the moment that it is the volume's
        :raises VimException: by oslo.vmware
        """
        ops = self._upstream.volumeops
        with self.discarding(new):
            former = ops.mark(old, shadow.FORMERLY)
            kept = {shadow.FORMERLY: former} if former else {}
            ops.reconfigure_disk(new, disk_uuid=volume['id'], adapter=adapter,
                                 profile_id=profile_id, limits=limits)
        try:
            self.set_aside(volume, old)
            # The new VM keeps the volume's former ids.
            ops.set_identity(new, volume['name'],
                             self._upstream.extra_config(volume) | kept
                             | dict(marks or {}))
        except Exception:
            # Perhaps the call succeeded and only its reply was lost. If this
            # fails too, both VMs stay, and the next operation finds them.
            self._finder.restore_identity(volume, old)
            self.discard(new)
            raise
        self.discard(old)

    def set_aside(self, volume: Any, backing: Any) -> None:
        """Mark a VM as replaced; it is no longer the volume's VM."""
        self._upstream.volumeops.set_identity(
            # Its name must be new: a failed replacement may have left a VM.
            backing, temporary_name(volume, 'replaced'), {
                upstream.BACKING_UUID_KEY: uuidutils.generate_uuid(),
                upstream.VOLUME_ID_KEY: '',
                shadow.REPLACED: volume['id']})


class Aside:
    """A volume under another id and name, to make a second disk for it."""

    def __init__(self, volume: Any, purpose: str, **fields: Any) -> None:
        """:param purpose: part of the temporary name
        :param fields: what else differs
        """
        self._volume = volume
        self._own = {'id': uuidutils.generate_uuid(),
                     'name': temporary_name(volume, purpose), **fields}

    def __getitem__(self, field: str) -> Any:
        return self._own[field] if field in self._own else self._volume[field]

    def get(self, field: str, default: Any = None) -> Any:
        """As :meth:`dict.get`."""
        return (self._own[field] if field in self._own
                else self._volume.get(field, default))

    def __getattr__(self, field: str) -> Any:
        return (self._own[field] if field in self._own
                else getattr(self._volume, field))


def temporary_name(volume: Any, purpose: str) -> str:
    """A name for a VM until it gets its final name; it names the volume.

    vSphere allows 80 characters.
    """
    return f'{volume["name"]}-{purpose}-{secrets.token_hex(4)}'
