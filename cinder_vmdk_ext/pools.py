# SPDX-License-Identifier: Apache-2.0
"""From an inventory to the pools that Cinder's scheduler reads, and back.

Every figure is rounded so that the scheduler can only err towards leaving
space: capacities down, what is promised up. Units are GiB, which Cinder's
keys call "gb".
"""

import decimal
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from urllib import parse

from cinder_vmdk_ext import model
from cinder_vmdk_ext import placement

# Cinder's own default, and what it takes where 'auto' has nothing to go by.
DEFAULT_RATIO = 20.0
# With less than this in use, 'auto' would turn one promised disk into an
# absurd ratio.
AUTO_RATIO_MIN_USED_GIB = 10


def names(inventory: model.Inventory) -> dict[str, str]:
    """Pool name of every datastore: ``{pool name: datastore moref}``.

    A pool is called by its datastore's name, as the vCenter stores it. Names
    are unique within a datacenter only: the datastore that is known longest
    keeps the plain name, so that a namesake that appears later renames no
    pool; the others get their datacenter's name added, or their reference
    where that name would not tell them apart.
    A ``#`` would end the backend's part of a Cinder host and is written
    ``%23``, as the vCenter writes ``%2f`` for a slash.
    """
    named: dict[str, str] = {}
    for datastore in sorted(inventory.datastores.values(),
                            key=lambda d: _age(d.moref)):
        plain, placed, unique = _possible_names(datastore, inventory)
        name = plain
        if name in named and placed and (
                _datacenter_name(datastore, inventory)
                not in inventory.shared_datacenter_names):
            name = placed
        if name in named:
            name = unique
        while name in named:  # a datastore is called like another's pool
            name += f' ({datastore.moref})'
        named[name] = datastore.moref
    return named


def find(pool: str, inventory: model.Inventory) -> model.Datastore | None:
    """The datastore that a pool name stands for; None when there is none.

    Names with the datacenter or the reference added go on to be understood
    once a namesake is gone and the plain name would do.
    """
    moref = names(inventory).get(pool)
    if moref is not None:
        return inventory.datastores[moref]
    matching = [datastore for datastore in inventory.datastores.values()
                if pool in _possible_names(datastore, inventory)]
    return matching[0] if len(matching) == 1 else None


def name_of(datastore: model.Datastore, inventory: model.Inventory) -> str:
    """The pool name of a datastore of this inventory."""
    return next(name for name, moref in names(inventory).items()
                if moref == datastore.moref)


def _possible_names(datastore: model.Datastore,
                    inventory: model.Inventory) -> tuple[str, str, str]:
    """Plain, with its datacenter if that is known, and with its reference."""
    name = datastore.name.replace('#', '%23')
    place = _datacenter_name(datastore, inventory).replace('#', '%23')
    return (name, f'{name} ({place})' if place else '',
            f'{name} ({datastore.moref})')


def _datacenter_name(datastore: model.Datastore,
                     inventory: model.Inventory) -> str:
    datacenter = inventory.datacenters.get(datastore.datacenter or '')
    return datacenter.name if datacenter else ''


def _age(moref: str) -> tuple[int, str]:
    """Order of creation: a vCenter numbers its references as it makes them."""
    digits = moref.rpartition('-')[2]
    return (int(digits) if digits.isdecimal() else 0), moref


def report(inventory: model.Inventory, settings: model.Settings,
           promised_gib: Mapping[str, int]) -> list[dict[str, Any]]:
    """The ``pools`` list of the driver's statistics, one per datastore.

    Datastores that belong to the backend are listed even while they take no
    volumes (maintenance, full, no host): they then carry figures which
    Cinder's stock CapacityFilter refuses.

    :param promised_gib: by pool name, the size of volumes that are to be
        created on first use and take no space yet
    """
    named = names(inventory)
    promised = Counter[str]()
    for pool, size_gib in promised_gib.items():
        moref = named.get(pool, '')
        if not moref and (datastore := find(pool, inventory)):
            moref = datastore.moref  # it was called so before
        promised[moref] += size_gib
    pools = []
    for name, moref in named.items():
        datastore = inventory.datastores[moref]
        refused = placement.ineligibility(datastore, inventory, settings)
        if refused is not None and not refused.passing:
            continue
        state = {'pool_state': refused.code if refused else 'available',
                 'pool_state_reason': refused.reason if refused else ''}
        pools.append(_figures([datastore], settings, refused is not None,
                              promised[moref])
                     | _description(name, datastore, inventory) | state)
    return pools


def report_backend(inventory: model.Inventory, settings: model.Settings,
                   promised_gib: int) -> dict[str, Any]:
    """The figures of the backend as a single pool: sums over its datastores.

    Only datastores that take volumes now are counted. The largest of them
    bounds a single disk; it is told as ``largest_free_gb``.
    """
    eligible = [datastore for datastore in inventory.datastores.values()
                if placement.ineligibility(datastore, inventory,
                                           settings) is None]
    figures = _figures(eligible, settings, not eligible, promised_gib)
    figures['largest_free_gb'] = _down(max(
        (_free_bytes(datastore) for datastore in eligible), default=0))
    return figures


def ineligible_names(inventory: model.Inventory,
                     settings: model.Settings) -> dict[str, str]:
    """Why each datastore that is not used is not: ``{pool name: reason}``."""
    refused = {name: placement.ineligibility(inventory.datastores[moref],
                                             inventory, settings)
               for name, moref in names(inventory).items()}
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
    }


def _description(name: str, datastore: model.Datastore,
                 inventory: model.Inventory) -> dict[str, Any]:
    return {
        'pool_name': name,
        'datastore': datastore.plain_name,
        'datastore_type': datastore.type,
        'datastore_url': datastore.url,
        'datastore_moref': datastore.moref,
        'datacenter': parse.unquote(_datacenter_name(datastore, inventory)),
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
