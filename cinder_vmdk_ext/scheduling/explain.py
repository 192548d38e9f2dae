# SPDX-License-Identifier: Apache-2.0
"""Explains which pools take a volume: the scheduler, then the driver.

For the scheduler's part it runs Cinder's own filters, in the order and with
the options of the configuration file. For the driver's part it runs
:mod:`placement`, as the driver does. Only the operator's command uses it.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from oslo_config import cfg
from oslo_serialization import jsonutils
from oslo_utils import timeutils

from cinder.scheduler import filters as cinder_filters

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import placement

_LOGGER = 'cinder.scheduler.filters'
# Log lines that filters write before they decide begin with these.
_BEGINNINGS = ('Checking ', 'Storage Capacity factors', 'Space information')


class SchedulerService(NamedTuple):
    """The cinder-volume service of a backend, as the scheduler sees it."""

    host: str
    cluster: str | None = None
    availability_zone: str = ''


@dataclasses.dataclass(frozen=True)
class Request:
    """A volume that is to be created."""

    size_gib: int
    #: The driver's requirement of a datastore, in any pool.
    requirement: model.Requirement
    type_name: str = ''
    specs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    availability_zone: str = ''
    #: The host (moref) of the instance that the volume is for; None: any.
    instance_host: str | None = None


class Verdict(NamedTuple):
    """Whether one pool takes a request, and why not."""

    pool: str
    filters: dict[str, str]  # reasons, by the filters that refuse it
    placement: str  # why the driver refuses it; '': it does not
    attaching: str  # why the instance's host cannot use it; '': it can
    datastore: str  # where the disk would go: one of the best

    @property
    def takes(self) -> bool:
        """Whether the pool would take the volume, and the host attach it."""
        return not (self.filters or self.placement or self.attaching)


def verdicts(stats: Mapping[str, Any], service: SchedulerService,
             request: Request,
             pinned: Mapping[str, Collection[str] | None],
             inventory: model.Inventory, settings: model.Settings,
             filter_names: Sequence[str]) -> list[Verdict]:
    """Decide on a request for each pool that is reported.

    :param stats: the driver's statistics, as Cinder's manager gets them
    :param pinned: the datastores (morefs) of each pool; None: any
    :raises LookupError: a filter is not installed
    """
    reasons = {pool['pool_name']: pool.get('pool_state_reason', '')
               for pool in stats.get('pools', ())}
    refused = _refusals(stats, service, request, filter_names, reasons)
    found = []
    for pool in refused:
        wanted = dataclasses.replace(
            request.requirement, pinned=None if pinned[pool] is None
            else frozenset(pinned[pool] or ()))
        why, datastore = _placed(wanted, inventory, settings)
        attaching = ''
        if request.instance_host is not None and not why:
            attaching, there = _placed(dataclasses.replace(
                wanted, hosts=frozenset({request.instance_host})),
                inventory, settings)
            datastore = there or datastore
        found.append(Verdict(pool, refused[pool], why, attaching, datastore))
    return found


def _placed(wanted: model.Requirement, inventory: model.Inventory,
            settings: model.Settings) -> tuple[str, str]:
    """Why a disk is refused, and its datastore; one of them is empty."""
    chosen = placement.place(wanted, inventory, settings, min)
    if isinstance(chosen, model.Placement):
        return '', chosen.datastore.plain_name
    if len(chosen) == 1:
        return next(iter(chosen.values())), ''
    return '; '.join(f'{name}: {why}' for name, why
                     in chosen.items()) or 'it has no datastore', ''


def configured() -> list[str]:
    """The filters that scheduler_default_filters names."""
    cfg.CONF.import_opt('scheduler_default_filters',
                        'cinder.scheduler.host_manager')
    names: list[str] = cfg.CONF.scheduler_default_filters
    return names


def installed(filter_names: Iterable[str]) -> list[type]:
    """The scheduler's filters of these names.

    :raises LookupError: one is not installed
    """
    known = {each.__name__: each for each
             in cinder_filters.BackendFilterHandler(
                 'cinder.scheduler.filters').get_all_classes()}
    for name in filter_names:
        if name not in known:
            raise LookupError(f'scheduler_default_filters names {name!r}, '
                              'which is not installed here')
    return [known[name] for name in filter_names]


def properties(request: Request) -> dict[str, Any]:
    """A request in the form in which Cinder's filters take it."""
    volume_type = {'name': request.type_name,
                   'extra_specs': dict(request.specs)}
    zone = request.availability_zone
    of_volume = {'size': request.size_gib, 'availability_zone': zone or None}
    return {
        'size': request.size_gib, 'availability_zone': zone or None,
        'volume_type': volume_type, 'resource_type': volume_type,
        'config_options': {}, 'metadata': {}, 'qos_specs': None,
        'request_spec': {
            'volume_id': '', 'volume_type': volume_type,
            'volume_properties': of_volume, 'resource_properties': of_volume,
            'availability_zones': [zone] if zone else None}}


def states(stats: Mapping[str, Any],
           service: SchedulerService) -> dict[str, Any]:
    """The scheduler's view of each pool after it has read the report."""
    # It cannot be imported before Cinder's objects are registered.
    from cinder.scheduler import host_manager
    state = host_manager.BackendState(service.host, service.cluster)
    # A report reaches the scheduler as JSON.
    read = jsonutils.loads(jsonutils.dumps(stats))
    read['timestamp'] = timeutils.utcnow()
    state.update_from_volume_capability(read, service={
        'availability_zone': service.availability_zone,
        'host': service.host, 'disabled': False})
    return dict(state.pools)


def _refusals(stats: Mapping[str, Any], service: SchedulerService,
              request: Request, filter_names: Sequence[str],
              reasons: Mapping[str, str]
              ) -> dict[str, dict[str, str]]:
    """Which filters refuse each pool, and why.

    Each filter runs on all pools, whatever the other filters decided.
    """
    kinds = installed(filter_names)
    wanted = properties(request)
    found: dict[str, dict[str, str]] = {}
    for pool, state in states(stats, service).items():
        found[pool] = {}
        for kind in kinds:
            with _overheard() as said:
                passed = list(kind().filter_all([state], wanted))
            if not passed:
                # A pool that gives a reason reports figures of a full pool,
                # so the filter's own words would mislead.
                found[pool][kind.__name__] = reasons.get(pool) or (
                    _why(said) or _other(kind.__name__, service, request))
    return found


def _other(name: str, service: SchedulerService, request: Request) -> str:
    if name == 'AvailabilityZoneFilter':
        return (f'the service is in zone {service.availability_zone!r}, '
                f'{request.availability_zone!r} is asked for')
    return 'it gives no reason'


class _Ears(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record)


@contextlib.contextmanager
def _overheard() -> Iterator[list[logging.LogRecord]]:
    """Collect the filters' log records of this block, instead of logging."""
    ears = _Ears()
    loggers = [logging.getLogger(name)
               for name in logging.root.manager.loggerDict
               if name.startswith(_LOGGER)]
    before = [(each, each.level, each.propagate) for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.DEBUG)
            each.propagate = False
            each.addHandler(ears)
        yield ears.heard
    finally:
        for each, level, propagate in before:
            each.removeHandler(ears)
            each.setLevel(level)
            each.propagate = propagate


def _why(said: Iterable[logging.LogRecord]) -> str:
    texts = [each.getMessage().strip() for each in sorted(
        said, key=lambda each: each.levelno < logging.WARNING)]
    return next((text for text in texts if text
                 and not text.startswith(_BEGINNINGS)), '')
