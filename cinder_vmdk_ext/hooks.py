# SPDX-License-Identifier: Apache-2.0
"""Declares each Cinder hook's checks, locks, reads and claims."""

import contextlib
import functools
import inspect
import operator
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import operation
from cinder_vmdk_ext import refusals

LOG = logging.getLogger(__name__)

#: The virtual devices of a VM, for :func:`hook`'s ``reads``.
HARDWARE = 'config.hardware.device'
#: The extra configuration of a VM, for the same.
OPTIONS = 'config.extraConfig'
#: The first disk on the first SCSI controller, which is nearly always a
#: shadow VM's disk: much less data than all devices.
FIRST_DISK = 'config.hardware.device[2000]'


class Hook(NamedTuple):
    """The arguments of :func:`hook`."""

    locks_on: tuple[str, ...]
    reads: tuple[str, ...]
    places: bool
    makes: bool = False
    keeps: bool = False
    message: refusals.Message | None = None


def hook(*, locks_on: tuple[str, ...] = (), reads: tuple[str, ...] = (),
         places: bool = False, makes: bool = False, keeps: bool = False,
         is_part: bool = False,
         message: refusals.Message | None = None
         ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run a method of the driver as one operation.

    The method's class must have a ``backend`` (:class:`backend.Backend`).

    :param locks_on: names of the parameters (volumes, snapshots) to lock,
        because the method changes their VMs, or copies them while they must
        not change. For a snapshot in a VM's tree, its volume is locked; a
        snapshot that is a template needs no lock, for it is a VM of its own.
    :param reads: properties of VMs that are read in the call that finds the
        VMs (:class:`operation.Prefetch`)
    :param places: whether the method selects datastores; the space that it
        claims is then held until it ends
    :param makes: whether the method creates its parameter ``volume``; the
        volume is then checked before anything else
        (:mod:`cinder_vmdk_ext.volumes.admission`)
    :param keeps: whether a volume that the method makes may have content of
        before, so that it must outlast a failure of the last step, in which
        the volume's quality of service is set
    :param is_part: whether another hook calls the method, and logs begin and
        end
    :param message: the user message for a request that is refused or fails,
        if Cinder creates none itself
    """
    declared = Hook(locks_on, reads, places, makes, keeps, message)

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = signature.bind(self, *args, **kwargs).arguments
            try:
                with _logged(method.__name__, {} if is_part else given
                             ) as results, contextlib.ExitStack() as stack:
                    limited = _prepare(stack, self.backend, declared, given,
                                       results)
                    with _explained(self.backend, declared, given):
                        results.append(method(self, *args, **kwargs))
                    if limited:
                        limits = self.backend.limits
                        (limits.apply if keeps else limits.apply_new)(
                            given['volume'])
                    return results[0]
            except Exception as error:
                refusals.report(method.__name__, _about(self.backend, given),
                                error, message)
                if not isinstance(error, refusals.ERRORS):
                    raise
                # The traceback of a refusal does not help to find the cause,
                # and Cinder would log it for each of its own steps.
                raise error.with_traceback(None) from None
        run.hook = declared  # type: ignore[attr-defined]
        return run
    return decorate


@contextlib.contextmanager
def _explained(backend: Any, hook: Hook, given: dict[str, Any]
               ) -> Iterator[None]:
    """If a disk or file is missing, raise an error that names whose."""
    try:
        yield
    except (vmware_exceptions.FileNotFoundException,
            exceptions.DISK_NOT_FOUND):
        for volume in _read_from(hook, given):
            backend.finder.explain_missing_file(volume)
        if given.get('snapshot'):
            backend.snapshots.explain_missing_file(given['snapshot'])
        raise


def _read_from(hook: Hook, given: dict[str, Any]) -> Iterator[Any]:
    """The volumes whose disks an operation reads or changes."""
    if given.get('src_vref'):
        yield given['src_vref']
    # A template needs no file of its volume.
    if given.get('snapshot') and not given['snapshot']['provider_location']:
        yield given['snapshot']['volume']
    if given.get('volume') and not hook.makes:
        yield given['volume']


@contextlib.contextmanager
def _logged(name: str, given: dict[str, Any]) -> Iterator[list[Any]]:
    """Log one line when an operation begins, and one when it ends.

    :returns: a list to which the caller appends the operation's result, whose
        model update may name a new pool
    """
    thing = _thing(given)
    if not _id(thing):
        yield []  # it concerns no single volume or group
        return
    began = time.monotonic()
    results: list[Any] = []
    LOG.info('%s of %s begins, on %s', name, _id(thing), _place(thing))
    outcome = 'failed'
    try:
        yield results
        outcome = 'is done'
    finally:
        LOG.info('%s of %s %s after %.1f s, on %s', name, _id(thing),
                 outcome, time.monotonic() - began,
                 _new_place(results) or _place(thing))


def _thing(given: dict[str, Any]) -> Any:
    """The volume, snapshot or group that an operation is called with."""
    for name in ('volume', 'snapshot', 'group_snapshot', 'group'):
        if given.get(name):
            return given[name]
    return None


def _about(backend: Any, given: dict[str, Any]) -> refusals.About:
    thing = _thing(given)
    if thing is None:
        return refusals.About('backend', _field(
            _field(backend, 'settings'), 'backend_name'), None, None)
    return about(thing)


def about(thing: Any) -> refusals.About:
    """Describe one of Cinder's objects, which may be a dict."""
    return refusals.About(type(thing).__name__.lower(), *(
        _field(thing, name) for name in refusals.About._fields[1:]))


def _field(thing: Any, name: str) -> Any:
    """A field of one of Cinder's objects, which may be a dict; or None."""
    # An operation must not fail because a line about it is incomplete.
    for read in (operator.getitem, getattr):
        with contextlib.suppress(Exception):
            return read(thing, name)
    return None


def _place(thing: Any) -> str:
    """The host (with the pool) of a volume or group, or of a snapshot's."""
    for of in (None, 'volume', 'group'):
        whole = thing if of is None else _field(thing, of)
        host = _field(whole, 'host')
        if host:
            return str(host)
    return 'an unknown pool'


def _new_place(results: list[Any]) -> str:
    """The host that an operation's model update gives the volume."""
    for result in results:
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, dict) and part.get('host'):
                return str(part['host'])
    return ''


def _prepare(stack: contextlib.ExitStack, backend: Any, hook: Hook,
             given: dict[str, Any], results: list[Any]) -> bool:
    """Do the checks, and take the locks, reads and claims, of a hook.

    They are held until the stack unwinds.

    :param results: has the hook's result then, unless it failed
    :returns: whether the QoS specs of a volume have to be set at the end
    """
    claims = backend.reservations.operation(
        volume_id=_id(given.get('volume'))) if hook.places else None
    noting = backend.promised.noting(given, hook.makes, results)
    held = None
    if hook.makes and claims is not None:
        # First, so that the checks and all later steps are one operation.
        held = stack.enter_context(claims)
    if hook.makes:
        # Its space counts while it waits for a lock.
        stack.enter_context(noting)
    limited = (hook.makes and backend.admission.check_new(given['volume'])
               # A disk that replaces another one has it from the beginning.
               and not (hook.keeps and state.is_backed(given['volume'])))
    if hook.locks_on:
        changed = [volume for name in hook.locks_on
                   for volume in _changed(name, given[name])]
        stack.enter_context(locks.volumes(*(
            volume['id'] for volume in changed)))
        read_again(changed)
    if hook.reads:
        stack.enter_context(operation.scope(
            prefetch=_prefetch(hook.reads, given.get('connector'))))
    if claims is not None and held is None:
        stack.enter_context(claims)
    if not hook.makes:
        stack.enter_context(noting)
    else:
        backend.compliance.settle(given['volume'])
        if held is not None:
            held.settled = True
    return limited


def _prefetch(paths: tuple[str, ...], connector: Any) -> operation.Prefetch:
    instance = connector and connector.get('instance')
    return operation.Prefetch(paths, (instance,) if instance else ())


def _id(thing: Any) -> str:
    found = _field(thing, 'id')
    # None, or an object of a test without an id.
    return found if isinstance(found, str) else ''


def _changed(parameter: str, thing: Any) -> list[Any]:
    """The volumes whose VMs an operation on a volume or snapshot changes."""
    if parameter != 'snapshot':
        return [thing]
    # A template is a VM of its own.
    return [] if thing['provider_location'] else [thing['volume']]


def read_again(volumes: list[Any]) -> None:
    """Read records again that may have changed during the wait for a lock.

    The operation that held the lock before may have attached the volume or
    created its disk. A record with unsaved changes is left as it is.
    """
    for volume in volumes:
        if hasattr(volume, 'refresh') and not volume.obj_what_changed():
            volume.refresh()
