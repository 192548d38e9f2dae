# SPDX-License-Identifier: Apache-2.0
"""Passes the context of one operation along the driver's call chain.

Upstream calls back into the plugin deep inside its flows, without the volume
or its pool as an argument. So one context variable holds an operation's
locks, its claims of space, the properties that it read in advance, the
volume's needs for the selection of a datastore, and the volume types that it
has read. Each thread, native or green,
has its own value.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any


class Prefetch:
    """Properties of VMs that are read in the same call that finds the VMs.

    The cache says which VM is probably the volume's. One call reads this VM's
    instance UUID, to verify that, and all properties that the operation
    needs. So the values are the vCenter's current ones, without a second
    call.
    Each property is used once. All are dropped when the operation waits for a
    task or a lock, because they may be out of date then.
    """

    def __init__(self, paths: tuple[str, ...],
                 others: tuple[str, ...] = ()) -> None:
        """:param paths: properties to read of each VM that is looked up
        :param others: morefs of VMs to read in the first call
        """
        self.paths = paths
        self.others = others
        self._properties: dict[str, dict[str, Any]] = {}
        self._found: dict[str, str] = {}

    def keep(self, uuid: str, moref: str,
             read: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Note the VM of a UUID, and properties of VMs by their morefs."""
        self._found[uuid] = moref
        for each, properties in read:
            self._properties[each] = {path: properties.get(path)
                                      for path in self.paths}
        self.others = ()

    def found(self, uuid: str) -> str | None:
        """The moref of a UUID's VM, once; None: it was not found before."""
        return self._found.pop(uuid, None)

    def peek(self, moref: str) -> dict[str, Any]:
        """The properties of a VM that were read; they stay available.

        A property that the VM does not have is None.
        """
        return dict(self._properties.get(moref, {}))

    def take(self, moref: str,
             paths: tuple[str, ...]) -> dict[str, Any] | None:
        """Return properties of a VM, and drop them.

        :returns: without properties that the VM does not have; None: not all
            of them were read
        """
        known = self._properties.get(moref, {})
        if not set(paths) <= known.keys():
            return None
        taken = {path: known.pop(path) for path in paths}
        return {path: value for path, value in taken.items()
                if value is not None}

    def forget(self) -> None:
        """Drop all values, because something may have changed."""
        self._properties.clear()
        self._found.clear()


@dataclasses.dataclass(frozen=True)
class Selection:
    """The needs of the volume that a datastore is selected for.

    Set by a caller of upstream's flow.
    """

    pool: str | None  # None: any datastore is suitable
    type_id: str | None  # the volume's type
    excluded: tuple[str, ...] = ()  # morefs of datastores
    # Whether the pool is another backend's, so our options do not apply.
    elsewhere: bool = False
    # Whether the over-subscription ratio counts in the place of the scheduler.
    within_ratio: bool = False


@dataclasses.dataclass(frozen=True)
class Operation:
    """The state of a thread's operation within one block of its code."""

    locks: frozenset[str] = frozenset()  # names of the locks that it holds
    prefetch: Prefetch | None = None
    claims: Any = None  # of scheduling.reservations
    selection: Selection | None = None
    # Whether a shadow VM that has only a volume's name may be in any folder.
    everywhere: bool = False
    # The volume types that it has read, by their ids.
    types: dict[str, Any] | None = None


_CURRENT: contextvars.ContextVar[Operation] = contextvars.ContextVar(
    'vmdk_ext_operation', default=Operation())


#: Returns the operation of this thread; outside of any, an empty one.
current = _CURRENT.get


@contextlib.contextmanager
def scope(**changes: Any) -> Iterator[Operation]:
    """Run a block in the operation of this thread, with fields changed.

    The outermost block begins an operation, which reads a volume type once.
    """
    outer = _CURRENT.get()
    if outer.types is None:
        changes['types'] = {}
    inner = dataclasses.replace(outer, **changes)
    token = _CURRENT.set(inner)
    try:
        yield inner
    finally:
        _CURRENT.reset(token)


def forget_prefetched() -> None:
    """Drop the properties that this operation read in advance."""
    prefetch = _CURRENT.get().prefetch
    if prefetch is not None:
        prefetch.forget()
