# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext pool list`` and ``pool show``."""

import argparse
from typing import Any

from oslo_utils import units

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import facts
from cinder_vmdk_ext import exceptions

_COLUMNS = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('name', 'Name'),
    columns.Column('state', 'State'),
    columns.Column('reason', 'Reason'),
    columns.Column('total_bytes', 'Total', columns.size),
    columns.Column('free_bytes', 'Free', columns.size),
    columns.Column('provisioned_bytes', 'Provisioned', columns.size,
                   long=True),
    columns.Column('volumes', 'Volumes'),
    columns.Column('datastore_free_bytes', 'Really free', columns.size,
                   long=True),
    columns.Column('largest_bytes', 'Largest disk', columns.size, long=True),
    columns.Column('reserved_percentage', 'Reserved %', long=True),
    columns.Column('max_over_subscription_ratio', 'Ratio', long=True),
    columns.Column('thin', 'Thin', columns.truth, long=True),
    columns.Column('type', 'Type', long=True),
    columns.Column('datacenter', 'Datacenter', long=True),
    columns.Column('datastores', 'Datastores', columns.listed, long=True),
    columns.Column('reference', 'Reference', long=True),
    columns.Column('policies', 'Policies', columns.listed, long=True))


class ListPool(command.Listing):
    """List the pools that the driver reports to Cinder's scheduler.

    With --all, also list the datastores that are not pools, with the reason.
    Exits with 3 if a backend has no pool, or its vCenter does not answer.
    """

    COLUMNS = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--all', action='store_true',
            help='also list the datastores that are not pools')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read the statistics that Cinder's volume manager reports."""
        rows = []
        for name, opened in self.opened(parsed_args):
            stats = opened.upstream.statistics()
            pools = list(facts.pools_of(stats))
            if stats['backend_state'] != 'up' or stats['backend_state_reason']:
                self.app.found = True
                rows.append(_row_of_none(
                    name, stats.get('volume_backend_name') or name,
                    stats['backend_state_reason'], facts.state_of(stats)))
            rows += [_row(name, pool) for pool in pools
                     if pool.get('pool_state')
                     or not stats['backend_state_reason']]
            if parsed_args.all:
                rows += [_row_of_none(name, datastore, why) for datastore, why
                         in _others(opened, pools).items()]
        return rows


class ShowPool(command.Showing):
    """Show one pool, as the driver reports it to Cinder's scheduler."""

    COLUMNS = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='name of the pool')
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Find the pool."""
        why = []
        for name, opened in self.opened(parsed_args):
            pools = list(facts.pools_of(opened.upstream.statistics()))
            for pool in pools:
                if pool['pool_name'] == parsed_args.name:
                    return _row(name, pool)
            reason = _others(opened, pools).get(parsed_args.name)
            why += [f'{parsed_args.name} is not a pool: {reason}'
                    if reason else 'the pools are '
                    + exceptions.shortened([pool['pool_name']
                                            for pool in pools])]
        with self.calling(LookupError):
            raise LookupError('; '.join(
                [f'there is no pool {parsed_args.name!r}', *why]))


def _others(opened: Any, pools: list[dict[str, Any]]) -> dict[str, str]:
    return facts.others(opened.inventory(), opened.selection.settings, pools)


def _row(backend: str, pool: dict[str, Any]) -> columns.Row:
    return (
        backend, pool['pool_name'],
        pool.get('pool_state', pool.get('backend_state')),
        pool.get('pool_state_reason', ''),
        *(_bytes(pool.get(key)) for key in (
            'total_capacity_gb', 'free_capacity_gb',
            'provisioned_capacity_gb')),
        pool.get('total_volumes'), _bytes(pool.get('datastore_free_gb')),
        _bytes(pool.get('max_contiguous_gb')),
        pool.get('reserved_percentage'),
        pool.get('max_over_subscription_ratio'),
        pool.get('thin_provisioning_support'), pool.get('datastore_type'),
        pool.get('datacenter'),
        pool.get('datastores') or [
            each for each in [pool.get('datastore')] if each],
        pool.get('datastore_moref') or pool.get('datastore_cluster_moref'),
        pool.get('storage_profiles', []))


def _row_of_none(backend: str, name: str, why: str,
                 state: str = facts.NO_POOL) -> columns.Row:
    return (backend, name, state, why, *(
        None for _column in _COLUMNS[4:]))


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * units.Gi)
