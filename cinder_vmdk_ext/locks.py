# SPDX-License-Identifier: Apache-2.0
"""Locks that every cinder-volume service of a backend heeds.

They are Cinder's own, of its coordination (tooz): whatever ``[coordination]
backend_url`` names holds them, so services of one cluster must name the same.
Cinder's manager has locks by itself for two pairs that are left to it:
deleting a volume or snapshot, and making a volume of it.

Who holds a lock may take it again further down. They are taken in one order,
so that no two wait for each other: that of adoption, or Cinder's own, then
those of volumes, several of them at once, then that of a folder.
"""

import contextlib
import contextvars
import functools
import hashlib
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging
from tooz import coordination as tooz

from cinder import coordination

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.volumes import ahead

LOG = logging.getLogger(__name__)

# What the operation of this thread, native or green, holds.
_HELD: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar(
    'vmdk_ext_locks', default=frozenset())


@contextlib.contextmanager
def volumes(*ids: str) -> Iterator[None]:
    """Be the only one who changes these volumes' VMs in this block.

    :raises LockUnavailable: the coordination service does not answer
    """
    with _all(map(_of_volume, ids)):
        yield


@contextlib.contextmanager
def volume_if_free(volume_id: str) -> Iterator[bool]:
    """As :func:`volumes`, without waiting for who holds it.

    Yields whether the block is alone with the volume.
    """
    with _one(_of_volume(volume_id), blocking=False) as had:
        yield had


@contextlib.contextmanager
def snapshots(*ids: str) -> Iterator[None]:
    """Let nobody delete these snapshots, or use them if they are deleted.

    The lock is that of Cinder's manager, which takes it where a snapshot is
    asked for by itself, and not where a group is.
    """
    with _all(f'{each}-delete_snapshot' for each in ids):
        yield


@contextlib.contextmanager
def folder(vcenter: str, path: str) -> Iterator[None]:
    """Be the only one who makes a folder at a path of a vCenter."""
    # Of a length that every kind of lock can bear; a path may be longer.
    digest = hashlib.sha256(f'{vcenter}/{path}'.encode()).hexdigest()[:32]
    with _one(f'vmdk-ext-folder-{digest}'):
        yield


@contextlib.contextmanager
def adoption(vcenter: str) -> Iterator[None]:
    """Be the only one who takes disks of a vCenter under Cinder's care."""
    with _one(f'vmdk-ext-adopt-{vcenter}'):
        yield


def forget_volume(volume_id: str) -> None:
    """Remove what a lock leaves on disk, once its volume is no more."""
    coordination.synchronized_remove(_of_volume(volume_id))


def _of_volume(volume_id: str) -> str:
    return f'vmdk-ext-volume-{volume_id}'


# -- Taking and giving back -------------------------------------------------

@contextlib.contextmanager
def _all(names: Iterable[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(_one(name))
        yield


@contextlib.contextmanager
def _one(name: str, blocking: bool = True) -> Iterator[bool]:
    if name in _HELD.get():
        yield True
        return
    lock = _taken(name, blocking)
    if lock is None:
        yield False
        return
    token = _HELD.set(_HELD.get() | {name})
    try:
        ahead.forget()  # who held it may have changed that
        yield True
    finally:
        _HELD.reset(token)
        _give_back(lock, name)


def _taken(name: str, blocking: bool) -> Any:
    try:
        lock = coordination.COORDINATOR.get_lock(name)
        if lock.acquire(blocking=blocking):
            return lock
    except (tooz.ToozError, OSError) as error:
        raise exceptions.LockUnavailable(name, error) from error
    if blocking:
        raise exceptions.LockUnavailable(name, None)
    return None


def _give_back(lock: Any, name: str) -> None:
    try:
        lock.release()
    except (tooz.ToozError, OSError) as error:
        # What was done under it is done; the lock ends by its time limit.
        LOG.warning('Lock %(name)s was not released: %(error)s',
                    {'name': name, 'error': error})


# -- Whole operations -------------------------------------------------------

def holding(hooks: dict[str, tuple[str, ...]]) -> Callable[[type], type]:
    """Have methods of a class be alone with the volumes that they change.

    :param hooks: name of a method -> of its parameters, volumes and
        snapshots; a snapshot stands for the volume whose VM holds it
    """
    def decorate(cls: type) -> type:
        for name, parameters in hooks.items():
            setattr(cls, name, _alone(getattr(cls, name), parameters))
        return cls
    return decorate


def _alone(method: Callable[..., Any],
           parameters: tuple[str, ...]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def alone(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        with volumes(*(each for name in parameters
                       for each in _changed(name, given[name]))):
            return method(*args, **kwargs)
    return alone


def _changed(parameter: str, thing: Any) -> list[str]:
    """Ids of the volumes whose VM an operation on a thing changes."""
    if parameter != 'snapshot':
        return [thing['id']]
    # A template is a VM of its own.
    return [] if thing['provider_location'] else [thing['volume']['id']]
