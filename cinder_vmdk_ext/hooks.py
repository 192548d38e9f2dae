# SPDX-License-Identifier: Apache-2.0
"""Declares at each hook of Cinder its locks, prefetched reads and claims."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from cinder_vmdk_ext import locks
from cinder_vmdk_ext import operation

#: The virtual devices of a VM, for :func:`hook`'s ``reads``.
HARDWARE = 'config.hardware.device'
#: The disk on the first SCSI controller, where that of a shadow VM nearly
#: always is: much less to read than all devices.
FIRST_DISK = 'config.hardware.device[2000]'


class Hook(NamedTuple):
    """The arguments of :func:`hook`."""

    locks_on: tuple[str, ...]
    reads: tuple[str, ...]
    places: bool


def hook(*, locks_on: tuple[str, ...] = (), reads: tuple[str, ...] = (),
         places: bool = False
         ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a method of the driver as one operation.

    For a class with a ``backend`` (:class:`backend.Backend`).

    :param locks_on: the method's parameters, volumes and snapshots, whose VMs
        it changes, or copies while they must not change. A snapshot in a VM's
        tree stands for its volume, a template for no other VM.
    :param reads: properties of the VMs that it looks up, to be read with them
        (:class:`operation.Prefetch`)
    :param places: whether it selects datastores; space that it claims is held
        until it ends
    """
    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = signature.bind(self, *args, **kwargs).arguments
            with contextlib.ExitStack() as stack:
                self.backend.promised.touch()
                stack.callback(self.backend.promised.touch)
                if locks_on:
                    changed = [volume for name in locks_on for volume
                               in _changed(name, given[name])]
                    stack.enter_context(locks.volumes(*(
                        volume['id'] for volume in changed)))
                    read_again(changed)
                if reads:
                    stack.enter_context(operation.scope(
                        prefetch=_prefetch(reads, given.get('connector'))))
                if places:
                    stack.enter_context(self.backend.reservations.operation(
                        volume_id=_id(given.get('volume'))))
                return method(self, *args, **kwargs)
        run.hook = Hook(locks_on, reads, places)  # type: ignore[attr-defined]
        return run
    return decorate


def _prefetch(paths: tuple[str, ...], connector: Any) -> operation.Prefetch:
    instance = connector and connector.get('instance')
    return operation.Prefetch(paths, (instance,) if instance else ())


def _id(volume: Any) -> str:
    try:
        return volume['id']
    except (KeyError, TypeError):
        return ''  # none, or what stands for one in a test


def _changed(parameter: str, thing: Any) -> list[Any]:
    """The volumes whose VM an operation on a thing changes."""
    if parameter != 'snapshot':
        return [thing]
    # A template is a VM of its own.
    return [] if thing['provider_location'] else [thing['volume']]


def read_again(volumes: list[Any]) -> None:
    """Read records that may have changed during the wait for their lock.

    A volume may have been attached, or given its disk, by the operation that
    held the lock.
    """
    for volume in volumes:
        if hasattr(volume, 'refresh') and not volume.obj_what_changed():
            volume.refresh()
