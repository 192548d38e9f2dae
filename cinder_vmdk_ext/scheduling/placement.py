# SPDX-License-Identifier: Apache-2.0
"""Chooses the datastore and the host for a disk, from plain values."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility

TieBreak = Callable[[Sequence[str]], str]


def unfit(datastore: model.Datastore, requirement: model.Requirement,
          inventory: model.Inventory, settings: model.Settings,
          reach: frozenset[str] | None = None) -> str | None:
    """Why the datastore cannot take this disk; None: it can.

    :param reach: hosts (morefs) that may register the disk's VM; None: find
        them
    """
    if datastore.moref in requirement.excluded:
        return 'it is excluded for this operation'
    refused = eligibility.ineligibility(datastore, inventory, settings)
    if refused is not None:
        return refused.reason
    if (requirement.types is not None
            and datastore.type not in requirement.types):
        return (f'type {datastore.type!r} cannot hold such a disk (needs '
                f'{", ".join(sorted(requirement.types))})')
    if (requirement.compliant is not None
            and datastore.moref not in requirement.compliant):
        return f'it does not comply with storage policy {requirement.policy!r}'
    if (requirement.reservation is not None
            and datastore.moref not in requirement.reservation.datastores):
        return 'Storage I/O Control with reservations is not enabled'
    if reach is None:
        reach = _reach(requirement, inventory, settings)
    if not datastore.usable_hosts & reach:
        return _out_of_reach(requirement, inventory)
    if not requirement.thin and datastore.free_bytes < requirement.size_bytes:
        return (f'{model.format_gib(datastore.free_bytes)} are free, '
                f'{model.format_gib(requirement.size_bytes)} are needed')
    return _overcommitted(datastore, requirement, settings)


def _overcommitted(datastore: model.Datastore, requirement: model.Requirement,
                   settings: model.Settings) -> str | None:
    """Why a thin disk would provision too much on a datastore.

    Checked in pools of several datastores, of which the scheduler knows the
    sums alone, and where the driver chooses the pool for a new volume or a
    new type. For a pool of one datastore the scheduler has checked this. A
    disk that has to leave its datastore goes to where it is possible.
    """
    ratio = settings.max_over_subscription_ratio
    if not requirement.thin or ratio is None or not (
            requirement.within_ratio or len(requirement.pinned or ()) > 1):
        return None
    usable = datastore.capacity_bytes * (
        100 - settings.reserved_percentage) / 100
    promised = datastore.provisioned_bytes + requirement.size_bytes
    if promised <= usable * ratio:
        return None
    return (f'{model.format_gib(promised)} would be provisioned, the limit is '
            f'{ratio:g} times its {model.format_gib(int(usable))}')


def place(requirement: model.Requirement, inventory: model.Inventory,
          settings: model.Settings, tie_break: TieBreak
          ) -> model.Placement | dict[str, str]:
    """Choose a datastore and a host, or say why each datastore is refused.

    Of the datastores that fit, it takes the one that most hosts mount, and
    of several the one with the largest free part of its capacity, as upstream
    does. ``tie_break`` chooses among equal datastores, and among hosts, so
    that the load is spread.

    :returns: a placement, or ``{datastore name: reason}``
    """
    reach = _reach(requirement, inventory, settings)
    considered = _considered(requirement, inventory)
    equals: list[str] = []
    best: tuple[int, float] | None = None
    unfit_for: dict[str, str] = {}
    # The first that fits is the best one, so most are not looked at.
    for datastore in sorted(considered, key=_rank):
        if best is not None and _rank(datastore) != best:
            break
        reason = unfit(datastore, requirement, inventory, settings, reach)
        if reason is None:
            best = _rank(datastore)
            equals.append(datastore.moref)
        else:
            unfit_for[datastore.moref] = reason
    if not equals:
        return _by_name(considered, unfit_for)
    datastore = inventory.datastores[tie_break(sorted(equals))]
    host = inventory.hosts[tie_break(sorted(datastore.usable_hosts & reach))]
    pool = inventory.clusters[host.parent].resource_pool
    return model.Placement(datastore, host, pool)


def register_on(datastore: model.Datastore, inventory: model.Inventory,
                settings: model.Settings, tie_break: TieBreak
                ) -> model.Placement | None:
    """Choose where to register a VM whose disk is already on a datastore.

    :returns: None: no host can use the datastore now
    """
    hosts = datastore.usable_hosts & _reach(model.Requirement(0), inventory,
                                            settings)
    if not hosts:
        return None
    host = inventory.hosts[tie_break(sorted(hosts))]
    return model.Placement(datastore, host,
                           inventory.clusters[host.parent].resource_pool)


def _considered(requirement: model.Requirement,
                inventory: model.Inventory) -> Collection[model.Datastore]:
    if requirement.pinned is None:
        return inventory.datastores.values()
    return [inventory.datastores[moref] for moref in requirement.pinned
            if moref in inventory.datastores]


def _rank(datastore: model.Datastore) -> tuple[int, float]:
    # Without a capacity it is ineligible.
    used = (1.0 - datastore.free_bytes / datastore.capacity_bytes
            if datastore.capacity_bytes else 1.0)
    return -len(datastore.mounted_hosts), used


def _reach(requirement: model.Requirement, inventory: model.Inventory,
           settings: model.Settings) -> frozenset[str]:
    """The hosts (morefs) that may register the disk's VM."""
    # An instance's host may be outside the configured clusters: the disk must
    # be where the instance is, whatever clusters new volumes use.
    if requirement.hosts is None:
        return inventory.registering_in_reach(settings)
    return inventory.registering_hosts & requirement.hosts


def _out_of_reach(requirement: model.Requirement,
                  inventory: model.Inventory) -> str:
    names = sorted(inventory.hosts[moref].name if moref in inventory.hosts
                   else moref for moref in requirement.hosts or ())
    if len(names) == 1:
        return f'host {names[0]!r} cannot use it'
    return 'no host that may be chosen can use it'


def _by_name(datastores: Iterable[model.Datastore],
             reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons by names of datastores, in this order.

    :param reasons: by morefs
    """
    found: dict[str, str] = {}
    for each in datastores:
        name = (each.plain_name if each.plain_name not in found
                else f'{each.plain_name} ({each.moref})')
        found[name] = reasons[each.moref]
    return found
