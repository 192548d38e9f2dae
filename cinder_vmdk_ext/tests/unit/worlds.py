# SPDX-License-Identifier: Apache-2.0
"""Inventories for tests: small written ones, and generated ones."""

import dataclasses
import re

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext import model

GIB = model.GIB

# The same examples on every machine, however slow it is.
hypothesis.settings.register_profile(
    'plugin', deadline=None, derandomize=True, max_examples=150,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile('plugin')


def datastore(moref='datastore-1', name='gold', *, capacity_gib=100,
              free_gib=60, hosts=('host-1',), usable=None, **more):
    """A datastore that is fine but for what a test says."""
    return model.Datastore(
        moref, name, capacity_bytes=int(capacity_gib * GIB),
        free_bytes=int(free_gib * GIB), mounted_hosts=frozenset(hosts),
        usable_hosts=frozenset(hosts if usable is None else usable),
        **{'datacenter': 'datacenter-1', **more})


def host(moref='host-1', cluster='cluster-1', **more):
    return model.Host(moref, f'esx-{moref}', cluster, **more)


def inventory(*datastores, hosts=None, datacenters=None, compliant=None):
    """One cluster called c1 with one host, unless other hosts are given."""
    hosts = (host(),) if hosts is None else hosts
    clusters = {}
    for parent in {each.parent for each in hosts}:
        members = frozenset(h.moref for h in hosts if h.parent == parent)
        number = parent.rpartition('-')[2]
        clusters[parent] = model.Cluster(
            parent, f'c{number}', f'resgroup-{number}', members,
            standalone=parent.startswith('domain'))
    datacenters = {'datacenter-1': 'DC1'} | (datacenters or {})
    return model.Inventory(
        {each.moref: each for each in datastores},
        {each.moref: each for each in hosts}, clusters,
        {moref: model.Datacenter(moref, name)
         for moref, name in datacenters.items()}, compliant or {})


def settings(**more):
    return model.Settings('vmdk', **more)


# What a vCenter may say ----------------------------------------------------

_AWKWARD_NAMES = ('gold', 'gold (DC1)', 'gold (datastore-2)', 'gold#1',
                  'gold%231', 'a@b', 'a.b', '50%', 'a%2fb', ' ', '#', '##',
                  'größe', 'x' * 80)
NAMES = strategies.one_of(
    strategies.sampled_from(_AWKWARD_NAMES),
    strategies.text('ab#@.%/ ()12', min_size=1, max_size=8))
_HOSTS = ('host-1', 'host-2', 'host-3')
# From nothing to a datastore that no array has, at any number of bytes.
_SIZES = strategies.one_of(
    strategies.sampled_from([0, 1, GIB - 1, GIB, 10 * GIB, 64 << 40]),
    strategies.integers(0, 200 * GIB))
_ODD_SIZES = strategies.one_of(
    _SIZES, strategies.integers(-500 * GIB, 0),
    strategies.integers(-(1 << 45), 1 << 62))
_MOSTLY = strategies.sampled_from((True, True, True, False))
_SOME_HOSTS = strategies.frozensets(strategies.sampled_from(_HOSTS))


@strategies.composite
def datastores(draw, moref):
    if draw(_MOSTLY):
        # Sound but for its figures; else hardly any would take a volume.
        size = draw(strategies.integers(GIB // 2, 500 * GIB))
        return dataclasses.replace(
            datastore(moref, draw(NAMES), hosts=_HOSTS), capacity_bytes=size,
            free_bytes=draw(strategies.integers(0, size)),
            uncommitted_bytes=draw(strategies.one_of(
                strategies.just(0), strategies.integers(-size, size))))
    mounted = draw(_SOME_HOSTS)
    capacity = draw(_ODD_SIZES if draw(strategies.integers(0, 9)) == 0
                    else _SIZES)
    free = draw(strategies.one_of(
        strategies.integers(0, max(0, capacity)), _ODD_SIZES))
    return model.Datastore(
        moref, draw(NAMES), url=f'ds:///{moref}/',
        type=draw(strategies.sampled_from(('vmfs', 'nfs', 'vsan', 'other'))),
        capacity_bytes=capacity, free_bytes=free,
        uncommitted_bytes=draw(_ODD_SIZES),
        accessible=draw(strategies.integers(0, 5)) > 0,
        maintenance_mode=draw(strategies.sampled_from(
            ('normal', 'normal', 'normal', 'enteringMaintenance',
             'inMaintenance', 'a mode of the future'))),
        datacenter=draw(strategies.sampled_from(
            ('datacenter-1', 'datacenter-2', 'datacenter-3', None))),
        mounted_hosts=mounted,
        usable_hosts=draw(strategies.sampled_from(
            (mounted, mounted, frozenset(sorted(mounted)[:1]),
             frozenset()))))


@strategies.composite
def inventories(draw, most_datastores=6):
    """Any inventory: tiny, full, absurd, unmounted, namesakes, moved."""
    numbers = draw(strategies.lists(strategies.integers(1, 30), unique=True,
                                    max_size=most_datastores))
    hosts = tuple(
        host(moref, draw(strategies.sampled_from(('cluster-1', 'cluster-2'))),
             connection_state=('connected' if draw(_MOSTLY)
                               else 'disconnected'),
             in_maintenance=not draw(_MOSTLY))
        for moref in _HOSTS)
    known = [draw(datastores(f'datastore-{number}')) for number in numbers]
    # Two datacenters may be called the same, in different folders.
    places = {f'datacenter-{number}': draw(strategies.sampled_from(
        ('DC1', 'DC1', 'DC#2', 'x'))) for number in (1, 2, 3)}
    return inventory(
        *known, hosts=hosts, datacenters=places,
        compliant={'silver': frozenset(each.moref for each in known
                                       if draw(strategies.booleans()))})


_RATIOS = strategies.one_of(
    strategies.sampled_from((None, 1.0, 1.15, 20.0)),
    strategies.floats(1, 50))
_PLAIN_SETTINGS = strategies.builds(
    model.Settings, strategies.just('vmdk'),
    reserved_percentage=strategies.sampled_from((0, 5, 29, 50)),
    max_over_subscription_ratio=_RATIOS)
_ODD_SETTINGS = strategies.builds(
    model.Settings, strategies.just('vmdk'),
    datastore_pools=strategies.booleans(),
    cluster_names=strategies.sampled_from(
        ((), (), ('c1',), ('c1', 'c2'), ('gone',))),
    datastore_regex=strategies.sampled_from(
        (None, None, re.compile('g'), re.compile('nothing is called so'))),
    storage_policies=strategies.sampled_from(((), (), ('silver',))),
    reserved_percentage=strategies.integers(0, 100),
    max_over_subscription_ratio=_RATIOS,
    min_free_gib=strategies.sampled_from((0.0, 0.0, 5.0, 1e6)),
    min_free_percent=strategies.sampled_from((0.0, 2.0, 100.0)))
SETTINGS = _PLAIN_SETTINGS | _ODD_SETTINGS
