# SPDX-License-Identifier: Apache-2.0
"""The figures of pools, as Cinder's scheduler reads them.

Every figure is rounded so that the scheduler can only err towards leaving
space: capacities down, what is promised up. Units are GiB, which Cinder's
keys call "gb".
"""

import dataclasses
import decimal
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names

# Cinder's own default, and what it takes where 'auto' has nothing to go by.
DEFAULT_RATIO = 20.0
# With less than this in use, 'auto' would turn one promised disk into an
# absurd ratio.
AUTO_RATIO_MIN_USED_GIB = 10


def report(inventory: model.Inventory, settings: model.Settings,
           promised_gib: Mapping[str, int],
           left: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
    """The ``pools`` list of the driver's statistics.

    Datastores that belong to the backend are listed even while they take no
    volumes (maintenance, full, no host): they then carry figures which
    Cinder's stock CapacityFilter refuses.

    :param promised_gib: by pool name, the size of volumes that are to be
        created on first use and take no space yet
    :param left: volumes on each datastore that is to be emptied, by its moref
    """
    return list(reports(inventory, settings, promised_gib, left or {}))


def reports(inventory: model.Inventory, settings: model.Settings,
            promised_gib: Mapping[str, int], left: Mapping[str, int]
            ) -> Iterator[dict[str, Any]]:
    """As :func:`report`, one after the other."""
    found = pool_names.listed(inventory, settings)
    named = {pool.name: pool for pool in found}
    promised = Counter[str]()
    for name, size_gib in promised_gib.items():
        # Names from before take longer to find, and are few.
        pool = named.get(name) or pool_names.resolve(name, inventory, settings)
        for each in pool.datastores[:1] if pool else ():
            promised[each.moref] += size_gib
    for pool in found:
        states = [(each, _state(each, inventory, settings, left))
                  for each in pool.datastores]
        belonging = {each.moref: (each, why) for each, why in states
                     if why is None or why.passing}
        if belonging:
            promised_here = sum(promised[each.moref]
                                for each in pool.datastores)
            make = _report_pod if pool.pod else _report_datastore
            yield make(pool, list(belonging.values()), inventory, settings,
                       promised_here)


def _state(datastore: model.Datastore, inventory: model.Inventory,
           settings: model.Settings, left: Mapping[str, int]
           ) -> model.Ineligibility | None:
    refused = eligibility.ineligibility(datastore, inventory, settings)
    if (refused is None or refused.code not in eligibility.LEAVING
            or datastore.moref not in left):
        return refused
    count = left[datastore.moref]
    return dataclasses.replace(refused, reason=(
        f'{refused.reason}; {count or "no"} '
        f'{"volume is" if count == 1 else "volumes are"} left on it'))


_States = list[tuple[model.Datastore, model.Ineligibility | None]]


def _report_datastore(pool: pool_names.Pool, states: _States,
                      inventory: model.Inventory, settings: model.Settings,
                      promised_gib: int) -> dict[str, Any]:
    [(datastore, refused)] = states
    return (_figures([datastore], settings, refused is not None, promised_gib)
            | _description(pool.name, datastore, inventory)
            | {'pool_state': refused.code if refused else 'available',
               'pool_state_reason': refused.reason if refused else ''})


def _report_pod(pool: pool_names.Pool, states: _States,
                inventory: model.Inventory, settings: model.Settings,
                promised_gib: int) -> dict[str, Any]:
    """Sums over the members that take volumes now.

    But a disk lies on one of them: what is told as free is the largest gap,
    for the scheduler compares a thick disk with that and nothing else.
    """
    eligible = [each for each, why in states if why is None]
    counted = eligible or [each for each, _why in states]
    largest = _down(max(map(_free_bytes, counted)))
    figures = _figures(counted, settings, not eligible, promised_gib)
    figures['free_capacity_gb'] = min(figures['free_capacity_gb'], largest)
    refusals = {each.plain_name: why for each, why in states if why}
    codes = {why.code for why in refusals.values()}
    state = 'available' if eligible else (
        codes.pop() if len(codes) == 1 else 'unavailable')
    members = [each for each, _why in states]
    return figures | {
        'pool_name': pool.name,
        'datastore_cluster': (model.plain_name(pool.pod.name) if pool.pod
                              else ''),
        'datastore_cluster_moref': pool.pod.moref if pool.pod else '',
        'datastores': [each.plain_name for each in members],
        'datastore_type': ', '.join(sorted({each.type for each in members})),
        'datacenter': model.plain_name(
            pool_names.datacenter_name(members[0], inventory)),
        'datastore_free_gb': _down(sum(map(_free_bytes, counted))),
        'max_contiguous_gb': largest if eligible else 0,
        # Any member may be chosen.
        'storage_profiles': sorted(
            policy for policy, morefs in inventory.compliant.items()
            if all(each.moref in morefs for each in members)),
        'pool_state': state,
        'pool_state_reason': '; '.join(
            f'{name}: {why.reason}' for name, why in refusals.items()),
    }


def report_backend(inventory: model.Inventory, settings: model.Settings,
                   promised_gib: int) -> dict[str, Any]:
    """The figures of the backend as a single pool: sums over its datastores.

    Only datastores that take volumes now are counted. The largest of them
    bounds a single disk; it is told as ``largest_free_gb``.
    """
    eligible = [datastore for datastore in inventory.datastores.values()
                if eligibility.ineligibility(datastore, inventory,
                                             settings) is None]
    figures = _figures(eligible, settings, not eligible, promised_gib)
    figures['largest_free_gb'] = _down(max(
        (_free_bytes(datastore) for datastore in eligible), default=0))
    return figures


def ineligible_names(inventory: model.Inventory,
                     settings: model.Settings) -> dict[str, str]:
    """Why each datastore that is not used is not: ``{pool name: reason}``."""
    refused = {name: eligibility.ineligibility(
                   inventory.datastores[moref], inventory, settings)
               for name, moref in pool_names.names(inventory).items()}
    return {name: why.reason for name, why in refused.items()
            if why is not None}


def _figures(datastores: Iterable[model.Datastore], settings: model.Settings,
             refused: bool, promised_gib: int) -> dict[str, Any]:
    datastores = list(datastores)
    total_gib = _down(sum(d.capacity_bytes for d in datastores))
    # "Unusable" has no word of its own for the stock filters. Zero free
    # without thin support is refused by every one of them and never makes
    # them divide by zero; the true total stays to be seen.
    refused = refused or settings.reserved_percentage >= 100
    return {
        'total_capacity_gb': total_gib,
        'free_capacity_gb': 0 if refused else _down(
            sum(_free_bytes(d) for d in datastores)),
        'provisioned_capacity_gb': promised_gib + _up(
            sum(d.provisioned_bytes for d in datastores)),
        'allocated_capacity_gb': 0,  # the volume manager keeps this one
        'thin_provisioning_support': not refused,
        'thick_provisioning_support': True,
        'max_over_subscription_ratio': _ratio(datastores, settings),
        'reserved_percentage': settings.reserved_percentage,
        'QoS_support': False,
        'multiattach': False,
        'consistent_group_snapshot_enabled': True,
    }


def _description(name: str, datastore: model.Datastore,
                 inventory: model.Inventory) -> dict[str, Any]:
    return {
        'pool_name': name,
        'datastore': datastore.plain_name,
        'datastore_type': datastore.type,
        'datastore_url': datastore.url,
        'datastore_moref': datastore.moref,
        'datacenter': model.plain_name(
            pool_names.datacenter_name(datastore, inventory)),
        # The field as it is now; free_capacity_gb may say 0 on purpose.
        'datastore_free_gb': _down(_free_bytes(datastore)),
        'storage_profiles': sorted(
            policy for policy, morefs in inventory.compliant.items()
            if datastore.moref in morefs),
    }


def _ratio(datastores: Iterable[model.Datastore],
           settings: model.Settings) -> float:
    ratio = settings.max_over_subscription_ratio
    if ratio is None:
        datastores = list(datastores)
        used_gib = sum(d.capacity_bytes - _free_bytes(d)
                       for d in datastores) / model.GIB
        if used_gib < AUTO_RATIO_MIN_USED_GIB:
            return DEFAULT_RATIO
        provisioned_gib = sum(d.provisioned_bytes
                              for d in datastores) / model.GIB
        ratio = 1 + provisioned_gib / (used_gib + 1)
    # Two decimals: the scheduler rounds the product to two, to nearest, and
    # must not be led to round it up. Of the decimal number, or 1.15 would
    # become 1.14.
    return max(1.0, float(decimal.Decimal(str(ratio)).quantize(
        decimal.Decimal('0.01'), decimal.ROUND_DOWN)))


def _free_bytes(datastore: model.Datastore) -> int:
    return max(0, min(datastore.free_bytes, datastore.capacity_bytes))


def _down(size_bytes: int) -> int:
    return size_bytes // model.GIB


def _up(size_bytes: int) -> float:
    return math.ceil(size_bytes * 100 / model.GIB) / 100
