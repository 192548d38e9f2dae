# SPDX-License-Identifier: Apache-2.0
"""Provides the locks that all cinder-volume services of a backend share.

They are locks of Cinder's coordination (tooz): ``[coordination] backend_url``
names the service that holds them, so it must be the same for all services of
one cluster. Cinder's manager itself locks two pairs of operations: deleting a
volume, or a snapshot, and creating a volume from it.

An operation that holds a lock may acquire it again further down its calls.
To avoid deadlocks, locks are always acquired in this order: that of manage
(or Cinder's own), then those of volumes, sorted, then that of a folder.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging
from tooz import coordination as tooz

from cinder import coordination

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import operation

LOG = logging.getLogger(__name__)

# The locks that this process holds, and since when.
_HELD: dict[str, float] = {}


@contextlib.contextmanager
def volumes(*ids: str) -> Iterator[None]:
    """Hold the locks of volumes; only their holder may change their VMs.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _all(map(_of_volume, ids)):
        yield


@contextlib.contextmanager
def volume_if_free(volume_id: str) -> Iterator[bool]:
    """Hold a volume's lock, if no other operation holds it.

    Yields whether the lock is held now.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _one(_of_volume(volume_id), blocking=False) as had:
        yield had


@contextlib.contextmanager
def snapshots(*ids: str) -> Iterator[None]:
    """Hold the locks that prevent the deletion of these snapshots.

    They are the locks of Cinder's manager, which acquires them for operations
    on one snapshot, but not for operations on a group.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _all(f'{each}-delete_snapshot' for each in ids):
        yield


@contextlib.contextmanager
def folder(vcenter: str, path: str) -> Iterator[None]:
    """Hold the lock of a VM folder while it is looked up and created.

    :raises LockUnavailable: the coordination service does not answer
    """
    # A path may be too long for some kinds of locks.
    digest = hashlib.sha256(f'{vcenter}/{path}'.encode()).hexdigest()[:32]
    with _one(f'vmdk-ext-folder-{digest}'):
        yield


@contextlib.contextmanager
def manage(vcenter: str) -> Iterator[None]:
    """Hold the lock of manage: one disk of a vCenter is managed at a time.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _one(_of_manage(vcenter)):
        yield


@contextlib.contextmanager
def manage_if_free(vcenter: str) -> Iterator[bool]:
    """Hold the lock of manage, if no disk is being managed.

    Yields whether the lock is held now.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _one(_of_manage(vcenter), blocking=False) as had:
        yield had


def held() -> list[tuple[str, float]]:
    """The locks that this process holds, and for how many seconds each."""
    now = time.monotonic()
    return [(name, now - since)
            for name, since in sorted(_HELD.copy().items())]


def forget_volume(volume_id: str) -> None:
    """Remove the lock file of a deleted volume."""
    coordination.synchronized_remove(_of_volume(volume_id))


def _of_volume(volume_id: str) -> str:
    return f'vmdk-ext-volume-{volume_id}'


def _of_manage(vcenter: str) -> str:
    return f'vmdk-ext-adopt-{vcenter}'


# -- Acquiring and releasing -------------------------------------------------

@contextlib.contextmanager
def _all(names: Iterable[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(_one(name))
        yield


@contextlib.contextmanager
def _one(name: str, blocking: bool = True) -> Iterator[bool]:
    held = operation.current().locks
    if name in held:
        yield True
        return
    lock = _acquired(name, blocking)
    if lock is None:
        yield False
        return
    _HELD[name] = time.monotonic()
    with operation.scope(locks=held | {name}):
        try:
            # The former holder may have changed the properties since.
            operation.forget_prefetched()
            yield True
        finally:
            _HELD.pop(name, None)
            _release(lock, name)


def _acquired(name: str, blocking: bool) -> Any:
    try:
        lock = coordination.COORDINATOR.get_lock(name)
        if lock.acquire(blocking=blocking):
            return lock
    except (tooz.ToozError, OSError) as error:
        raise exceptions.LockUnavailable(name, error) from error
    if blocking:
        raise exceptions.LockUnavailable(name, None)
    return None


def _release(lock: Any, name: str) -> None:
    try:
        lock.release()
    except (tooz.ToozError, OSError) as error:
        # The operation is complete; the lock expires by itself.
        LOG.warning('Lock %(name)s was not released: %(error)s',
                    {'name': name, 'error': error})
