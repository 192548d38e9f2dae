# SPDX-License-Identifier: Apache-2.0
"""Decides which datastores belong to a backend and take volumes.

:func:`ineligibility` is the only rule for this. Statistics, placement and the
operator's commands all use it, so each datastore that is reported as usable
can be used. Works on plain values only.
"""

import re
from collections.abc import Iterable

from cinder_vmdk_ext import model

# The value of the custom attribute that drains a datastore; 'drain: REASON'
# drains it as well.
DRAIN = 'drain'
#: Whether a value of the custom attribute drains a datastore.
is_drain = re.compile(rf'\s*{DRAIN}\s*(:|$)', re.IGNORECASE).match
# Codes of an Ineligibility that mean: move the volumes off the datastore.
LEAVING = frozenset({'drain', 'maintenance'})
_MAINTENANCE = {'enteringMaintenance': 'is entering maintenance mode',
                'inMaintenance': 'is in maintenance mode'}


def ineligibility(datastore: model.Datastore, inventory: model.Inventory,
                  settings: model.Settings) -> model.Ineligibility | None:
    """Why this backend does not use the datastore now; None: it does.

    Lasting reasons come before temporary ones, so that the reason returned
    is the one that an operator has to remove first.
    """
    return _verdict(datastore, inventory, settings,
                    inventory.verdicts.setdefault(settings, {}))


def alter(refused: dict[str, model.Ineligibility], changed: Iterable[str],
          inventory: model.Inventory, settings: model.Settings) -> bool:
    """Update the result of :func:`refusals` for datastores that changed.

    :param changed: morefs of the datastores, also of those that are gone
    :returns: whether any verdict changed
    """
    altered = False
    for moref in changed:
        datastore = inventory.datastores.get(moref)
        why = (ineligibility(datastore, inventory, settings)
               if datastore else None)
        if why == refused.get(moref):
            continue
        altered = True
        if why is None:
            del refused[moref]
        else:
            refused[moref] = why
    return altered


def refusals(inventory: model.Inventory, settings: model.Settings
             ) -> dict[str, model.Ineligibility]:
    """Why datastores are not used now, by their morefs."""
    known = inventory.verdicts.setdefault(settings, {})
    return {moref: why for moref, datastore in inventory.datastores.items()
            if (why := _verdict(datastore, inventory, settings, known))}


def _verdict(datastore: model.Datastore, inventory: model.Inventory,
             settings: model.Settings,
             known: dict[str, tuple[model.Datastore,
                                    model.Ineligibility | None]]
             ) -> model.Ineligibility | None:
    """:param known: datastores and the verdicts on them, by their morefs;
        a verdict holds as long as the datastore is the same object
    """
    found = known.get(datastore.moref)
    if found is None or found[0] is not datastore:
        found = known[datastore.moref] = datastore, (
            _foreign(datastore, inventory, settings)
            or _indisposed(datastore, inventory, settings))
    return found[1]


def drain_value(reason: str) -> str:
    """The value of the custom attribute that drains, with this reason."""
    return f'{DRAIN}: {reason}'


def _foreign(datastore: model.Datastore, inventory: model.Inventory,
             settings: model.Settings) -> model.Ineligibility | None:
    """Why the datastore does not belong to this backend; None: it does."""
    def because(code: str, reason: str) -> model.Ineligibility:
        return model.Ineligibility(code, reason, passing=False)

    if denied := _unreadable(datastore, ('name',)):
        return because('permission', denied)
    if (datastore.type not in model.SUPPORTED_TYPES
            and not _unreadable(datastore, ('summary.type',))):
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
    if _unreadable(datastore, ('host',)):
        return None
    if not datastore.mounted_hosts:
        return because('unmounted', 'no host mounts it')
    # To look for a common one among all hosts would take longer.
    if not any(host in inventory.hosts for host in datastore.mounted_hosts):
        return because('permission', 'the vCenter shows this user no host '
                       'that mounts it')
    if datastore.mounted_hosts.isdisjoint(inventory.hosts_in_reach(settings)):
        hidden = sorted({_unreadable(cluster, ('name', 'host')) for cluster
                         in inventory.hidden_clusters} - {''})
        return because('cluster', '; '.join([
            f'no host of vmware_cluster_name {_names(settings)} mounts it',
            *hidden]))
    return None


def _indisposed(datastore: model.Datastore, inventory: model.Inventory,
                settings: model.Settings) -> model.Ineligibility | None:
    """Why a datastore of this backend takes no volumes now; None: it does."""
    def because(code: str, reason: str) -> model.Ineligibility:
        return model.Ineligibility(code, reason, passing=True)

    # The pool stays in the report, because it still has its volumes.
    if denied := _unreadable(datastore, (
            ('customValue',) if settings.drain_attribute else ()) + _DECIDE):
        return because('permission', denied)
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
    if usable.isdisjoint(inventory.registering_hosts):
        return _unregistering(usable, inventory)
    if datastore.free_bytes <= 0:
        return because('full', 'no space is free')
    floor_bytes = settings.floor_bytes(datastore.capacity_bytes)
    if datastore.free_bytes < floor_bytes:
        return because(
            'floor', f'{model.format_gib(datastore.free_bytes)} are free, '
            f'below the floor of {model.format_gib(floor_bytes)}')
    return None


# Properties that the decision on a datastore needs.
_DECIDE = ('host', 'summary.accessible', 'summary.capacity',
           'summary.freeSpace', 'summary.uncommitted',
           'summary.maintenanceMode', 'summary.type')


def _unreadable(thing: model.Datastore | model.Host | model.Cluster,
                paths: Iterable[str] | None = None) -> str:
    """Why some properties cannot be read; empty: all can be read."""
    alike: dict[str, list[str]] = {}
    for path, why in thing.unreadable:
        if paths is None or path in paths:
            alike.setdefault(why, []).append(path)
    return '; '.join(f'{", ".join(found)} {why}'
                     for why, found in alike.items())


def _unregistering(hosts: Iterable[str],
                   inventory: model.Inventory) -> model.Ineligibility:
    """Why none of these hosts can register a VM."""
    denied = set()
    for host in (inventory.hosts[moref] for moref in hosts
                 if moref in inventory.hosts):
        cluster = inventory.clusters.get(host.parent)
        denied |= {_unreadable(host),
                   _unreadable(cluster) if cluster else ''}
    if denied > {''}:
        return model.Ineligibility(
            'permission', '; '.join(sorted(denied - {''})), passing=True)
    if not inventory.live_hosts.isdisjoint(hosts):
        return model.Ineligibility(
            'host', 'no resource pool of the hosts that can use it is known',
            passing=True)
    return model.Ineligibility(
        'host', 'every host that can use it is disconnected or in '
        'maintenance mode', passing=True)


def _drained(datastore: model.Datastore, inventory: model.Inventory,
             settings: model.Settings) -> str | None:
    """Which mark of the administrator drains the datastore; None: none."""
    name = settings.drain_attribute
    if name:
        value = inventory.attribute(datastore, name) or ''
        if is_drain(value):
            return f'it is drained: its attribute {name!r} says {value!r}'
    if settings.drain_tag and datastore.moref in inventory.tagged:
        return f'it is drained: it has the tag {settings.drain_tag!r}'
    return None


def _names(settings: model.Settings) -> str:
    return ', '.join(repr(name) for name in settings.cluster_names)
