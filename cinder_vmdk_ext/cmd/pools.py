# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext pool list``, ``show`` and ``explain``."""

import argparse
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg
from oslo_utils import units
from oslo_utils import uuidutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects
from cinder.volume import volume_types
from cinder.volume import volume_utils

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import pool_stats
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.vsphere import references

_NO_POOL = 'no pool'
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
            pools = list(_pools(stats))
            if stats['backend_state'] != 'up' or stats['backend_state_reason']:
                self.app.found = True
                rows.append(_row_of_none(
                    name, stats.get('volume_backend_name') or name,
                    stats['backend_state_reason'], _state(stats)))
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
            pools = list(_pools(opened.upstream.statistics()))
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


class ExplainPool(command.Listing):
    """Show for each pool whether it takes a volume, and if not, why.

    Checks Cinder's own filters in the order of scheduler_default_filters,
    then the driver's placement. With --instance also checks whether that
    instance's host can use the datastore, as an attachment requires. Exits
    with 3 if no pool takes the volume.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend', telling=True),
        columns.Column('pool', 'Pool'),
        columns.Column('takes', 'Takes it', columns.truth),
        columns.Column('scheduler', 'Scheduler'),
        columns.Column('driver', 'Driver'),
        columns.Column('attaching', 'Attaching'),
        columns.Column('datastore', 'Datastore', long=True))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', type=int, metavar='GIB',
                            help="the volume's size in GiB; default: 1")
        parser.add_argument('--type', metavar='TYPE',
                            help='name or id of the volume type; default: '
                            "Cinder's default type")
        parser.add_argument('--availability-zone', metavar='ZONE',
                            help='requested zone; default: any')
        parser.add_argument(
            '--volume', metavar='ID', help='use the size, type and zone of '
            'this volume, for example one that failed')
        parser.add_argument(
            '--instance', metavar='VM', help='instance that the volume is '
            'for: the id of a Nova server, or the reference of a VM (vm-12)')
        parser.add_argument('--pool', metavar='NAME', help='only this pool')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Run the scheduler's filters and the driver's placement."""
        rows = []
        for name, opened in self.opened(parsed_args):
            with self.calling(exception.NotFound, LookupError):
                wanted = _Wanted(parsed_args)
                rows += [(name, *row) for row in self._of(opened, wanted)
                         if parsed_args.pool in (None, row[0])]
        if parsed_args.pool and not rows:
            with self.calling(LookupError):
                raise LookupError(f'there is no pool or datastore '
                                  f'{parsed_args.pool!r}')
        self.app.found = not any(row[2] for row in rows)
        return rows

    def _of(self, opened: Any, wanted: '_Wanted') -> Iterator[columns.Row]:
        stats = opened.upstream.statistics()
        service, why_no_service = _service(opened)
        refused = wanted.refused_by(opened)
        pools = [pool for pool in _pools(stats) if pool.get('pool_state')
                 or not stats['backend_state_reason']]
        if not refused and pools:
            for each in explain.verdicts(
                    stats, service, wanted.request(opened), {
                        pool['pool_name']: opened.selection.pinned(
                            pool['pool_name']) for pool in pools},
                    opened.inventory(), opened.selection.settings,
                    explain.configured()):
                filters = ({'service': why_no_service} if why_no_service
                           else {}) | each.filters
                yield (each.pool, each.takes and not filters,
                       '; '.join(f'{name}: {why}' for name, why
                                 in filters.items()) or 'passes',
                       each.placement or 'places it',
                       each.attaching or (
                           'works' if wanted.instance else ''),
                       each.datastore)
        for pool in pools if refused else ():
            yield pool['pool_name'], False, '', refused, '', ''
        for datastore, why in _others(opened, pools).items():
            yield datastore, False, f'{_NO_POOL}: {why}', '', '', ''
        if stats['backend_state_reason']:
            yield (stats.get('volume_backend_name') or '', False,
                   f'{_state(stats)}: {stats["backend_state_reason"]}', '',
                   '', '')


class _Wanted:
    """The volume for which pools are explained."""

    def __init__(self, parsed_args: argparse.Namespace) -> None:
        """Read the volume and the type from Cinder's database.

        :raises NotFound: one of them does not exist
        """
        context = cinder_context.get_admin_context()
        volume = objects.Volume.get_by_id(
            context, parsed_args.volume) if parsed_args.volume else None
        self.size_gib = parsed_args.size or (volume.size if volume else 1)
        self.zone = parsed_args.availability_zone or (
            volume.availability_zone if volume else '') or ''
        self.instance = parsed_args.instance
        if parsed_args.type:
            found = volume_types.get_by_name_or_id(context, parsed_args.type)
        elif volume is not None:
            found = volume_types.get_volume_type(
                context, volume.volume_type_id
            ) if volume.volume_type_id else {}
        else:
            found = volume_types.get_default_volume_type(context) or {}
        self.type_id = found.get('id')
        self.type_name = found.get('name', '')
        self.specs = dict(found.get('extra_specs') or {})

    def refused_by(self, opened: Any) -> str:
        """Why the driver would refuse it on every pool; '': it would not."""
        try:
            opened.admission.check_size(self.size_gib)
            opened.admission.check_type(self.type_id)
        except exception.Invalid as error:
            return str(error)
        return ''

    def request(self, opened: Any) -> explain.Request:
        """The scheduler's request for this volume, for a backend.

        :raises LookupError: the vCenter has no such instance
        """
        requirement = opened.ds_sel.requirement({
            selector.DatastoreSelector.SIZE_BYTES: self.size_gib * units.Gi,
            selector.DatastoreSelector.PROFILE_NAME: self.specs.get(
                extra_specs.POLICY),
            selector.THIN: extra_specs.is_thin(self.specs)})
        return explain.Request(
            self.size_gib, requirement, self.type_name, self.specs,
            self.zone, self._host(opened) if self.instance else None)

    def _host(self, opened: Any) -> str:
        if uuidutils.is_uuid_like(self.instance):
            vm = opened.volumeops.get_backing_by_uuid(self.instance)
        else:
            vm = references.Ref('VirtualMachine', self.instance)
        if vm is not None:
            try:
                host = opened.volumeops.properties(vm, 'runtime.host').get(
                    'runtime.host')
            except exceptions.VMWARE_ERRORS:
                host = None
            if host is not None:
                return str(host.value)
        raise LookupError(f'the vCenter has no instance {self.instance!r} '
                          'with a host; give the id of a Nova server, or '
                          'vm-12')


def _service(opened: Any) -> tuple[explain.SchedulerService, str]:
    """A backend's service, and why the scheduler does not use it."""
    host, cluster = opened.owner
    found = [each for each in objects.ServiceList.get_all(
        cinder_context.get_admin_context(), {'binary': 'cinder-volume'})
        if each.host == host or (cluster and each.cluster_name == cluster)]
    zone = found[0].availability_zone if found else (
        cfg.CONF.storage_availability_zone)
    why = ''
    if not found:
        why = f'no cinder-volume has registered as {host}'
    elif all(each.disabled for each in found):
        why = 'it is disabled'
    elif not any(each.is_up and not each.disabled for each in found):
        why = 'it is down: its last report is too old'
    return explain.SchedulerService(host, cluster, zone), why


def _pools(stats: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pools of a report; the backend itself if it is the only pool."""
    yield from stats.get('pools') or [{
        'pool_name': stats.get('volume_backend_name')
        or volume_utils.DEFAULT_POOL_NAME, **stats}]


def _others(opened: Any, pools: list[dict[str, Any]]) -> dict[str, str]:
    """The datastores that are not pools, each with the reason."""
    named = {pool['pool_name'] for pool in pools}
    in_pools = {each for pool in pools for each in pool.get('datastores', ())}
    return {name: why for name, why in pool_stats.ineligible_names(
        opened.inventory(), opened.selection.settings).items()
        if name not in named | in_pools}


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


def _state(stats: dict[str, Any]) -> str:
    """The state of a backend that does not work."""
    return _NO_POOL if stats['backend_state'] == 'up' else 'down'


def _row_of_none(backend: str, name: str, why: str,
                 state: str = _NO_POOL) -> columns.Row:
    return (backend, name, state, why, *(
        None for _column in _COLUMNS[4:]))


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * units.Gi)
