# SPDX-License-Identifier: Apache-2.0
"""Which datastore takes a disk, decided on plain values.

:func:`ineligibility` is the one rule by which a datastore belongs to the
backend; statistics, placement and the administrator's tools all ask it, so a
datastore that is reported is one that can be used.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from cinder_vmdk_ext import model

TieBreak = Callable[[Sequence[str]], str]

# The value of the custom attribute that drains a datastore.
DRAIN = 'drain'
# Codes of an Ineligibility after which volumes are to leave the datastore.
LEAVING = frozenset({'drain', 'maintenance'})

_MAINTENANCE = {'enteringMaintenance': 'is entering maintenance mode',
                'inMaintenance': 'is in maintenance mode'}


def ineligibility(datastore: model.Datastore, inventory: model.Inventory,
                  settings: model.Settings) -> model.Ineligibility | None:
    """Why this backend does not use the datastore now; None when it does.

    Lasting reasons come first, so that the reason told is the one that an
    operator has to change first.
    """
    # A report asks three times of each datastore.
    known = inventory.verdicts.setdefault(settings, {})
    found = known.get(datastore.moref)
    if found is None or found[0] is not datastore:
        found = known[datastore.moref] = datastore, (
            _foreign(datastore, inventory, settings)
            or _indisposed(datastore, inventory, settings))
    return found[1]


def _foreign(datastore: model.Datastore, inventory: model.Inventory,
             settings: model.Settings) -> model.Ineligibility | None:
    """Reasons that make it no datastore of this backend."""
    def because(code: str, reason: str) -> model.Ineligibility:
        return model.Ineligibility(code, reason, passing=False)

    if datastore.type not in model.SUPPORTED_TYPES:
        return because('type', f'type {datastore.type!r} is not one of '
                       f'{", ".join(sorted(model.SUPPORTED_TYPES))}')
    pattern = settings.datastore_regex
    if pattern is not None and not pattern.match(datastore.name):
        return because('name', 'the name does not match '
                       f'vmware_datastore_regex {pattern.pattern!r}')
    if settings.storage_policies and not any(
            datastore.moref in inventory.compliant.get(name, ())
            for name in settings.storage_policies):
        return because('policy', 'it complies with none of '
                       'vmware_storage_profile: '
                       f'{", ".join(settings.storage_policies)}')
    if not datastore.mounted_hosts:
        return because('unmounted', 'no host mounts it')
    if datastore.mounted_hosts.isdisjoint(inventory.hosts_in_reach(settings)):
        return because('cluster', 'no host of '
                       f'vmware_cluster_name {_names(settings)} mounts it')
    return None


def _indisposed(datastore: model.Datastore, inventory: model.Inventory,
                settings: model.Settings) -> model.Ineligibility | None:
    """Reasons of the moment."""
    def because(code: str, reason: str) -> model.Ineligibility:
        return model.Ineligibility(code, reason, passing=True)

    if not datastore.accessible:
        return because('inaccessible', 'the vCenter reports it inaccessible')
    if datastore.maintenance_mode in _MAINTENANCE:
        return because('maintenance',
                       f'it {_MAINTENANCE[datastore.maintenance_mode]}')
    drained = _drained(datastore, inventory, settings)
    if drained is not None:
        return because('drain', drained)
    if datastore.capacity_bytes <= 0:
        return because('capacity', 'the vCenter reports no capacity for it')
    usable = datastore.usable_hosts & inventory.hosts_in_reach(settings)
    if not usable:
        return because('mount', 'every host that mounts it has it read-only, '
                       'unmounted or inaccessible')
    if usable.isdisjoint(inventory.live_hosts):
        return because('host', 'every host that can use it is disconnected '
                       'or in maintenance mode')
    if datastore.free_bytes <= 0:
        return because('full', 'no space is free')
    floor_bytes = settings.floor_bytes(datastore.capacity_bytes)
    if datastore.free_bytes < floor_bytes:
        return because('floor', f'{_gib(datastore.free_bytes)} are free, '
                       f'below the floor of {_gib(floor_bytes)}')
    return None


def _drained(datastore: model.Datastore, inventory: model.Inventory,
             settings: model.Settings) -> str | None:
    """What takes a datastore out of use that could be used."""
    name = settings.drain_attribute
    if name:
        value = inventory.attribute(datastore, name) or ''
        if value.strip().lower() == DRAIN:
            return f'it is drained: its attribute {name!r} says {value!r}'
    if settings.drain_tag and datastore.moref in inventory.tagged:
        return f'it is drained: it has the tag {settings.drain_tag!r}'
    return None


def unfit(datastore: model.Datastore, requirement: model.Requirement,
          inventory: model.Inventory,
          settings: model.Settings) -> str | None:
    """Why the datastore cannot take this very disk; None when it can."""
    if datastore.moref in requirement.excluded:
        return 'it is excluded for this operation'
    refused = ineligibility(datastore, inventory, settings)
    if refused is not None:
        return refused.reason
    if (requirement.types is not None
            and datastore.type not in requirement.types):
        return (f'type {datastore.type!r} cannot hold such a disk (needs '
                f'{", ".join(sorted(requirement.types))})')
    if (requirement.compliant is not None
            and datastore.moref not in requirement.compliant):
        return f'it does not comply with storage policy {requirement.policy!r}'
    if not _candidate_hosts(datastore, requirement, inventory, settings):
        return _out_of_reach(requirement, inventory)
    if not requirement.thin and datastore.free_bytes < requirement.size_bytes:
        return (f'{_gib(datastore.free_bytes)} are free, '
                f'{_gib(requirement.size_bytes)} are needed')
    return _overcommitted(datastore, requirement, settings)


def _overcommitted(datastore: model.Datastore, requirement: model.Requirement,
                   settings: model.Settings) -> str | None:
    """Why a thin disk would promise more than one of several may promise.

    Of a pool of one datastore the scheduler has reckoned this itself; of a
    pool of several it knows the sums.
    """
    ratio = settings.max_over_subscription_ratio
    if not requirement.thin or ratio is None or len(
            requirement.pinned or ()) < 2:
        return None
    usable = datastore.capacity_bytes * (
        100 - settings.reserved_percentage) / 100
    promised = datastore.provisioned_bytes + requirement.size_bytes
    if promised <= usable * ratio:
        return None
    return (f'{_gib(promised)} would be promised, {ratio:g} times its '
            f'{_gib(int(usable))} may be')


def place(requirement: model.Requirement, inventory: model.Inventory,
          settings: model.Settings, tie_break: TieBreak
          ) -> model.Placement | dict[str, str]:
    """Choose a datastore and a host, or say why each datastore is refused.

    Among those that fit, the one with most mounts wins and then the one that
    is relatively emptiest, as upstream chooses; ``tie_break`` picks among
    equals and among hosts, so that no single one is always taken.

    :returns: a placement, or ``{datastore name: reason}``
    """
    reasons: dict[str, str] = {}
    fitting: list[model.Datastore] = []
    for datastore in _considered(requirement, inventory):
        reason = unfit(datastore, requirement, inventory, settings)
        if reason is None:
            fitting.append(datastore)
        else:
            reasons[_distinct_name(datastore, inventory, reasons)] = reason
    if not fitting:
        return reasons
    best = min(_rank(datastore) for datastore in fitting)
    equals = [d.moref for d in fitting if _rank(d) == best]
    datastore = inventory.datastores[tie_break(sorted(equals))]
    host = inventory.hosts[tie_break(sorted(
        _candidate_hosts(datastore, requirement, inventory, settings)))]
    pool = inventory.clusters[host.parent].resource_pool
    return model.Placement(datastore, host, pool)


def register_on(datastore: model.Datastore, inventory: model.Inventory,
                settings: model.Settings, tie_break: TieBreak
                ) -> model.Placement | None:
    """Where to register a VM whose disk is on a datastore already.

    :returns: None when no host can use the datastore now
    """
    hosts = _candidate_hosts(datastore, model.Requirement(0), inventory,
                             settings)
    if not hosts:
        return None
    host = inventory.hosts[tie_break(sorted(hosts))]
    return model.Placement(datastore, host,
                           inventory.clusters[host.parent].resource_pool)


def _considered(requirement: model.Requirement,
                inventory: model.Inventory) -> Iterable[model.Datastore]:
    if requirement.pinned is None:
        return inventory.datastores.values()
    return [inventory.datastores[moref] for moref in requirement.pinned
            if moref in inventory.datastores]


def _rank(datastore: model.Datastore) -> tuple[int, float]:
    used = 1.0 - datastore.free_bytes / datastore.capacity_bytes
    return -len(datastore.mounted_hosts), used


def _candidate_hosts(datastore: model.Datastore,
                     requirement: model.Requirement,
                     inventory: model.Inventory,
                     settings: model.Settings) -> frozenset[str]:
    # The host of an instance may lie outside the configured clusters: the
    # disk has to be where the instance is, whatever new volumes prefer.
    wanted = requirement.hosts
    if wanted is None:
        wanted = inventory.hosts_in_reach(settings)
    return datastore.usable_hosts & inventory.registering_hosts & wanted


def _out_of_reach(requirement: model.Requirement,
                  inventory: model.Inventory) -> str:
    names = sorted(inventory.hosts[moref].name if moref in inventory.hosts
                   else moref for moref in requirement.hosts or ())
    if len(names) == 1:
        return f'host {names[0]!r} cannot use it'
    return 'no host that may be chosen can use it'


def _distinct_name(datastore: model.Datastore, inventory: model.Inventory,
                   taken: dict[str, str]) -> str:
    if datastore.plain_name not in taken:
        return datastore.plain_name
    return f'{datastore.plain_name} ({datastore.moref})'


def _names(settings: model.Settings) -> str:
    return ', '.join(repr(name) for name in settings.cluster_names)


def _gib(size_bytes: int) -> str:
    return f'{size_bytes / model.GIB:.2f} GiB'
