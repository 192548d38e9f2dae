# SPDX-License-Identifier: Apache-2.0
"""Sets a volume type's quality of service on disks, as storageIOAllocation.

vSphere keeps a disk's limit, shares and reservation in the virtual device,
not in the file. A host enforces those of the instance's device. Those of the
shadow VM, which never runs, are a record, and copies of the VM have them too.
Nova adds the device without any, so the driver sets them once the volume is
in use. Earlier, Nova still changes the instance's VM, and a change by the
driver could make that fail. docs/decisions/12-quality-of-service.md has the
reasons.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_utils import excutils
from oslo_vmware import exceptions as vmware_exceptions

from cinder import context as cinder_context
from cinder import objects

from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.scheduling import qos_specs
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.vsphere import virtual_devices as devices

LOG = logging.getLogger(__name__)

#: How often volumes that are being attached are checked, and for how long.
#: After that, a change of its instance's VM leads to the volume.
EXPECTING_SECONDS = 2.0
LONGEST_ATTACH_SECONDS = 600.0


def wanted(type_id: str | None) -> devices.Allocation | None:
    """What the QoS specs of a volume type ask for; None: nothing.

    :raises InvalidQosSpec: they ask for what vSphere does not have
    """
    return qos_specs.of_type(datastore_selection.read_qos_specs(type_id))


def _wanted_once(type_id: str | None) -> devices.Allocation | None:
    """What a type asked for that a volume leaves; it may be wrong by now."""
    try:
        return wanted(type_id)
    except exceptions.InvalidQosSpec:
        return None


def judge() -> Callable[[Any, devices.Disk], bool]:
    """A check of attached volumes' disks against the volumes' types.

    :returns: a function of a volume and its disk on the instance: whether the
        disk has what the type specifies; it reads each type once
    """
    @functools.cache
    def asked_by(type_id: str | None) -> devices.Allocation | None:
        try:
            return wanted(type_id)
        except exceptions.InvalidQosSpec:
            return None  # operations refuse it with the reason

    def is_right(volume: Any, disk: devices.Disk) -> bool:
        asked = asked_by(volume.volume_type_id)
        return asked is None or devices.has_limits(disk, asked)
    return is_right


class DiskLimits:
    """Limits, shares and reservations of volumes' disks."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        # Volumes that are being attached, and the end of the wait for each.
        self._expected: dict[str, float] = {}
        self._warned: set[str] = set()

    # -- Volumes that are made, and types that change -----------------------

    def apply_new(self, volume: Any) -> None:
        """Set a new volume's allocation; if that fails, delete its VM.

        Cinder may repeat the request on another pool. A shadow VM that stayed
        here would then be a second one of the volume.

        :raises VimException: by oslo.vmware; the shadow VM is deleted
        """
        try:
            self.apply(volume)
        except exceptions.VMWARE_ERRORS:
            with excutils.save_and_reraise_exception():
                self._replacement.discard_by_uuid(volume['id'])

    def note(self, volume: Any) -> None:
        """As :meth:`apply`, but a failure is logged: a warning.

        It is the record alone; an instance gets its own. So a failure hinders
        neither the first use, in which a disk is made, nor does it say that a
        volume was not reverted.
        """
        try:
            self.apply(volume)
        except Exception as error:
            LOG.warning('The I/O limits of volume %(volume)s were not noted '
                        'on its shadow VM: %(error)s',
                        {'volume': volume['id'], 'error': error})

    def apply(self, volume: Any) -> None:
        """Set a volume's allocation on its shadow VM's disk, if it has one."""
        asked = wanted(volume.get('volume_type_id'))
        if asked is None:
            return
        backing = self._finder.find(volume)
        if backing:
            self._upstream.volumeops.reconfigure_disk(backing, limits=asked)

    def change(self, volume: Any, backing: Any, type_id: str | None,
               new_type_id: str | None) -> bool:
        """Change a volume's allocation from one type's to another's.

        A value that only the old type specifies gets its default, and so does
        one that it specified when the disk got it. A value that neither
        specifies stays, because an administrator may have set it.

        :returns: whether the types differ in it
        """
        ops = self._upstream.volumeops
        none = devices.Allocation()
        # The specs may have changed since; the shadow VM's disk is a record.
        before = (_wanted_once(type_id) or none).over(ops.limits_of(backing))
        after = wanted(new_type_id) or none
        if before == after:
            return False
        target = after.over(before.reset())
        if self._upstream.in_use(volume):
            self._set_attached(volume, target)
        try:
            ops.reconfigure_disk(backing, limits=target)
        except vmware_exceptions.FileLockedException as error:
            # The instance locks the disk, and its own device counts.
            if not self._upstream.in_use(volume):
                raise
            LOG.debug('Volume %(volume)s: the I/O limits of its shadow VM '
                      'stay as they are: %(error)s',
                      {'volume': volume['id'], 'error': error})
        return True

    # -- Attached volumes ---------------------------------------------------

    def expect(self, volume: Any) -> None:
        """Set the allocation on the instance once the volume is attached."""
        if wanted(volume.get('volume_type_id')) is not None:
            self._expected[volume['id']] = (
                time.monotonic() + LONGEST_ATTACH_SECONDS)

    @property
    def expecting(self) -> bool:
        """Whether a volume with an allocation is being attached."""
        return bool(self._expected)

    def settle_expected(self) -> None:
        """Set the allocations of those that are attached by now.

        What takes too long is left to the check of the instance's VM.
        """
        for volume_id, until in list(self._expected.items()):
            with locks.volume_if_free(volume_id) as alone:
                if (alone and self._is_settled(volume_id)
                        or time.monotonic() > until):
                    self._expected.pop(volume_id, None)

    def _is_settled(self, volume_id: str) -> bool:
        """Set the allocation of a volume if it is attached by now.

        :returns: whether that is done, or the volume is gone
        """
        found = objects.VolumeList.get_all(
            cinder_context.get_admin_context(), filters={'id': volume_id})
        return not found or (
            found[0].status == 'in-use' and state.is_at_rest(found[0])
            and self.enforce(found[0]))

    def may_apply(self, volume: Any) -> bool:
        """Whether :meth:`enforce` may have to change a volume's instance."""
        try:
            return wanted(volume.volume_type_id) is not None
        except Exception:
            return True  # enforce says why

    def enforce(self, volume: Any) -> bool:
        """Set an attached volume's allocation; the caller holds its lock.

        Never fails; warns once for each volume.

        :returns: False if it has to be repeated
        """
        try:
            asked = wanted(volume.volume_type_id)
            if asked is not None:
                self._set_attached(volume, asked)
        except Exception as error:
            if volume.id not in self._warned:
                self._warned.add(volume.id)
                LOG.warning(
                    'The I/O limits of volume %(volume)s were not set on its '
                    'instance; this is repeated: %(error)s',
                    {'volume': volume.id, 'error': error})
            return False
        self._warned.discard(volume.id)
        return True

    def _set_attached(self, volume: Any, asked: devices.Allocation) -> None:
        instance, disk = self._finder.attached_disk(volume)
        if devices.has_limits(disk, asked):
            return
        self._upstream.volumeops.reconfigure(instance, deviceChange=[
            devices.change('edit', devices.edited(disk, limits=asked))])
        LOG.info('Volume %(volume)s: the disk of its instance has %(limits)s.',
                 {'volume': volume['id'], 'limits': asked})
