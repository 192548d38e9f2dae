# SPDX-License-Identifier: Apache-2.0
"""Copies a volume's disk to a raw file, and makes a disk of such a file."""

import contextlib
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_utils import units

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.backings import finder as backing_finder
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import backup_files
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import images as image_operations
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes.image_formats import raw
from cinder_vmdk_ext.volumes.image_formats import stream
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk
from cinder_vmdk_ext.volumes.image_formats import vmdk
from cinder_vmdk_ext.vsphere import references

LOG = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
# The free space is looked up after so many bytes.
_A_CHECK_BYTES = 64 * units.Mi


class RestoredContent(NamedTuple):
    """What a restored file holds, as a streamOptimized VMDK."""

    chunks: Iterable[bytes]
    size_bytes: int | None  # None: it is known at the end


class Restore:
    """Moves a disk's content between the vCenter and a file."""

    def __init__(self, cinder: upstream.Upstream,
                 selection: datastore_selection.DatastoreSelection,
                 finder: backing_finder.Finder,
                 replacement: replace.Replacement,
                 images: image_operations.Images,
                 host_record: records.HostRecord) -> None:
        self._upstream = cinder
        self._selection = selection
        self._finder = finder
        self._replacement = replacement
        self._images = images
        self._host_record = host_record

    # -- From the vCenter ---------------------------------------------------

    def most_data_bytes(self, volume: Any) -> int:
        """What a copy of a volume's disk takes at most, without its zeros.

        :raises BackingLost: the disk is gone
        """
        backing = self._finder.with_file(volume)
        if not backing:
            return 0  # it is promised
        return self._upstream.volumeops.most_data_bytes(
            backing, volume['size'] * units.Gi)

    def exported(self, volume: Any, descriptor: int) -> Iterator[int]:
        """Copy a detached volume's disk to an empty file.

        :param descriptor: of the file, open for writing
        :returns: an iterator, which has to be run to its end; it yields how
            many bytes were written each time
        :raises BackingLost: the disk is gone
        :raises TransferFailed: it cannot be read, or not to its end
        """
        size_bytes = volume['size'] * units.Gi
        backing = self._finder.with_file(volume)
        if backing:
            with self._images.exported(volume, backing) as data:
                try:
                    capacity, pieces = stream_vmdk.read(data)
                    yield from raw.write(pieces, descriptor)
                except stream.FormatError as error:
                    raise exceptions.TransferFailed(
                        f'the disk of volume {volume["id"]} arrives damaged '
                        f'({error})', 'repeat the request') from None
            size_bytes = max(size_bytes, capacity)
        # A promised volume has no disk yet: it is empty.
        os.truncate(descriptor, size_bytes)
        os.fsync(descriptor)

    def export_to(self, folder: backup_files.Folder, volume: Any) -> int:
        """Copy a detached volume's disk to its file in a folder.

        The caller holds the volume's lock, and has written its note.

        :returns: how many bytes of data it has
        :raises BackupRefused: there is too little space, also later
        :raises BackingLost, TransferFailed: as :meth:`exported`
        """
        written = 0
        with folder.created(volume['id']) as descriptor, folder.claimed(
                self.most_data_bytes(volume), descriptor):
            for count in self.exported(volume, descriptor):
                if (written // _A_CHECK_BYTES
                        != (written + count) // _A_CHECK_BYTES):
                    folder.check_spare()
                written += count
                concurrency.cooperative_yield()
        return written

    # -- To the vCenter -----------------------------------------------------

    def check(self, volume: Any) -> None:
        """Check that a volume's disk can be replaced.

        :raises BackingLost: the disk is gone
        :raises BackupRefused: it has COW snapshots, which would be lost, or
            it is attached
        :raises UnknownPolicy: the storage policy of its type does not exist
        """
        self._selection.policy_id(self._upstream.storage_profile(volume))
        backing = self._old(volume)
        if not backing:
            return
        if self._upstream.in_use(volume):
            raise exceptions.BackupRefused(
                f'volume {volume["id"]} is attached; detach it first')
        if self._upstream.volumeops.snapshot_exists(backing):
            raise exceptions.BackupRefused(
                f'delete the snapshots of volume {volume["id"]} first, or '
                'restore to another volume: it has COW snapshots, which a '
                'restore would destroy')

    def _old(self, volume: Any) -> Any:
        """The volume's shadow VM, whose disk will be replaced.

        It may have no disk: a restore by os-brick that was broken off leaves
        such a VM, and this restore makes the volume whole again.
        """
        found = self._finder.find(volume)
        if (found and not self._upstream.in_use(volume)
                and not self._upstream.volumeops.has_disk(found)):
            return found
        return self._finder.existing(volume)

    def put(self, volume: Any, descriptor: int, is_raw: bool, left: str,
            begin: Callable[[str], None]) -> None:
        """Make a file the content of a volume.

        The disk type, adapter, UUID and size stay, and the quality of service
        is that of its type. If no datastore of its pool takes the new disk,
        the volume moves to another pool. A failure leaves the volume as it
        was.

        :param descriptor: of the file, open for reading
        :param is_raw: the content is certainly raw; otherwise it may be a
            VMDK, as os-brick's connector hands them to a backup
        :param left: the instance UUID of a VM that an earlier attempt, which
            was broken off, may have left; ''
        :param begin: called with such an UUID before a VM is made
        :raises FormatError: the file does not fit the volume
        :raises BackingLost, BackupRefused: as :meth:`check`
        :raises InvalidQosSpec: as :func:`qos.wanted`
        """
        self.check(volume)
        limits = qos.wanted(volume['volume_type_id'])
        self.discard(left)
        old = self._old(volume)

        made = []

        def make(target: Any) -> Any:
            made.append(target['id'])
            begin(target['id'])
            try:
                return self._imported(volume, target, old, content(
                    descriptor, volume['size'] * units.Gi, is_raw))
            except Exception:
                # The import may have made a VM though it reported an error.
                self._replacement.discard_by_uuid(target['id'])
                raise

        # The target of a migration stays on the pool that was asked for.
        new = self._replacement.beside(
            volume, 'restore', make,
            lambda: not state.migrates_from(volume)) if old else make(volume)
        # Nothing says that an import applies the policy of its spec.
        profile_id = self._upstream.storage_profile_id(volume)
        with self._replacement.discarding(new):
            self._replacement.grow(new, volume['size'])
            if not old:
                self._upstream.volumeops.reconfigure_disk(
                    new, disk_uuid=volume['id'], limits=limits,
                    profile_id=profile_id)
        if old:
            self._replacement.replace(
                volume, old, new, limits=limits, profile_id=profile_id,
                marks={shadow.RESTORED: made[-1]})
        self._follow(volume, new)

    def _follow(self, volume: Any, new: Any) -> None:
        """Do what follows when the content is on the volume; never fails."""
        self._host_record.follow_replaced(volume, new)
        with self._host_record.unfailing(volume):
            self._discard_replaced(volume)

    def finish(self, volume: Any, left: str) -> bool:
        """Finish a :meth:`put` that was broken off at its very end.

        Its content is on the volume then, or newer content.

        :param left: the instance UUID that it has begun a VM with; ''
        :returns: whether it was; False: it has to be done once more
        """
        found = self._finder.find(volume) if left else None
        if not found:
            return False
        if left == volume['id']:
            # It had no VM before, and its record says when it is complete.
            done = state.is_backed(volume)
        else:
            done = self._upstream.volumeops.mark(
                found, shadow.RESTORED) == left
        if done:
            self._follow(volume, found)
        return bool(done)

    def undo(self, volume: Any, left: str) -> None:
        """Delete what a :meth:`put` that was broken off has left.

        :param left: the instance UUID that it has begun a VM with; ''
        """
        with contextlib.suppress(exceptions.BackingLost):
            # It gets its own VM back, if that was set aside already.
            self._old(volume)
        self.discard(left)
        self._discard_replaced(volume)

    def discard(self, left: str) -> None:
        """Delete the VM that an attempt which was broken off may have left.

        :param left: its instance UUID; ''
        """
        if left:
            self._replacement.discard_by_uuid(left)

    def _imported(self, volume: Any, target: Any, old: Any,
                  data: RestoredContent) -> Any:
        ops, cinder = self._upstream.volumeops, self._upstream
        disk = ops.disk_of(old) if old and ops.has_disk(old) else None
        adapter = copy_policy.adapter(self._selection.specs(volume),
                                      ops.adapter_of(old) if disk else None)
        with self._selection.selecting(
                self._selection.pool_of(target),
                volume.get('volume_type_id')):
            return self._images.imported(
                target, concurrency.in_turns(data.chunks, 1),
                data.size_bytes, volume['size'] * units.Gi,
                adapter or cinder.adapter_type(volume),
                disk.provisioning if disk else cinder.disk_type(volume))

    def _discard_replaced(self, volume: Any) -> None:
        """Delete VMs that an import, broken off at its end, replaced."""
        ops = self._upstream.volumeops
        for moref, name in ops.marked(shadow.REPLACED, volume['id']):
            LOG.info('VM %s is deleted: a restore replaced it.', name)
            self._replacement.discard(references.Ref('VirtualMachine', moref))


def content(descriptor: int, size_bytes: int,
            is_raw: bool) -> RestoredContent:
    """The content of a restored file.

    :param descriptor: of the file, open for reading
    :param size_bytes: of the volume
    :param is_raw: it is certainly raw
    :raises FormatError: it does not fit the volume, also while iterating
    """
    length = os.fstat(descriptor).st_size
    if not is_raw and os.pread(descriptor, len(vmdk.MAGIC), 0) == vmdk.MAGIC:
        found = vmdk.open_vmdk(stream.Peekable(_chunks(descriptor)),
                               size_bytes)
        if found.create_type == vmdk.STREAM_OPTIMIZED:
            return RestoredContent(found.chunks, length)
    if length > size_bytes:
        raise stream.FormatError(f'it holds {length} bytes, and the volume '
                                 f'{size_bytes}')
    return RestoredContent(
        stream_vmdk.write(raw.read(descriptor), size_bytes), None)


def _chunks(descriptor: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(descriptor, _READ_BYTES, at):
        yield chunk
        at += len(chunk)
