# SPDX-License-Identifier: Apache-2.0
"""What an operation reads of a VM in the very call that finds it.

Memory tells where the VM of a volume probably is. One call asks that VM
whether it is the volume's, and for all that the operation wants to know of
it; so the answer is the vCenter's, of this moment, and takes no second call.
It is used once, and forgotten when the operation waits for a task: a change
of its own makes it out of date.
"""

import contextvars
import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any


class Ahead:
    """What one operation wants to know, and what it has been told."""

    def __init__(self, paths: tuple[str, ...],
                 others: tuple[str, ...] = ()) -> None:
        """:param paths: properties to read of each VM that is looked up
        :param others: morefs of VMs to read with the first
        """
        self.paths = paths
        self.others = others
        self._told: dict[str, dict[str, Any]] = {}
        self._found: dict[str, str] = {}

    def keep(self, uuid: str, moref: str,
             told: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Note the VM of a UUID, and properties of VMs by their morefs."""
        self._found[uuid] = moref
        for each, properties in told:
            self._told[each] = {path: properties.get(path)
                                for path in self.paths}
        self.others = ()

    def found(self, uuid: str) -> str | None:
        """The VM of a UUID, if it was found and not asked for since."""
        return self._found.pop(uuid, None)

    def take(self, moref: str,
             paths: tuple[str, ...]) -> dict[str, Any] | None:
        """Properties of a VM, once; absent ones are left out.

        :returns: None: not all of them were read
        """
        told = self._told.get(moref, {})
        if not set(paths) <= told.keys():
            return None
        taken = {path: told.pop(path) for path in paths}
        return {path: value for path, value in taken.items()
                if value is not None}

    def forget(self) -> None:
        """Something has changed."""
        self._told.clear()
        self._found.clear()


_CURRENT: contextvars.ContextVar[Ahead | None] = contextvars.ContextVar(
    'vmdk_ext_ahead', default=None)


def current() -> Ahead | None:
    """That of the operation of this thread, native or green."""
    return _CURRENT.get()


def forget() -> None:
    """Something has changed that the operation may have read."""
    ahead = _CURRENT.get()
    if ahead is not None:
        ahead.forget()


def reading(hooks: dict[str, tuple[str, ...]]) -> Callable[[type], type]:
    """Have methods of a class read ahead.

    :param hooks: name of a method -> the properties it will want of the VMs
        that it looks up
    """
    def decorate(cls: type) -> type:
        for name, paths in hooks.items():
            setattr(cls, name, _reading(getattr(cls, name), paths))
        return cls
    return decorate


def _reading(method: Callable[..., Any],
             paths: tuple[str, ...]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def reads(*args: Any, **kwargs: Any) -> Any:
        connector = signature.bind(*args, **kwargs).arguments.get('connector')
        instance = connector and connector.get('instance')
        token = _CURRENT.set(Ahead(paths, (instance,) if instance else ()))
        try:
            return method(*args, **kwargs)
        finally:
            _CURRENT.reset(token)
    return reads
