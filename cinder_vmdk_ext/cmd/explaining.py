# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext pool explain``, and ``inventory save`` for it."""

import argparse
from collections.abc import Iterator

from oslo_utils import timeutils
from oslo_utils import units

from cinder import exception

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import facts
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import explain
from cinder_vmdk_ext.scheduling import extra_specs
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.volumes import admission


# In what a file may end that has values of other types than were saved.
_NOT_AS_SAVED = (TypeError, AttributeError, KeyError, IndexError,
                 ArithmeticError, RecursionError)


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
        parser.add_argument('--size', type=command.count, metavar='GIB',
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
        parser.add_argument(
            '--inventory', metavar='FILE', help='a file that inventory save '
            'wrote: answer from it, without the vCenter and the database')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Run the scheduler's filters and the driver's placement."""
        try:
            return self._rows(parsed_args)
        except _NOT_AS_SAVED as error:
            if parsed_args.inventory is None:
                raise
            with self.calling(ValueError):
                raise ValueError(
                    'the file was changed since "inventory save" wrote it: '
                    f'{type(error).__name__}: {error}') from error
            raise

    def _rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        rows = []
        for name, known in self._known(parsed_args):
            with self.calling(exception.NotFound, LookupError):
                wanted = _Wanted(known, parsed_args)
                rows += [(name, *row) for row in _verdicts(known, wanted)
                         if parsed_args.pool in (None, row[0])]
        if parsed_args.pool and not rows:
            with self.calling(LookupError):
                raise LookupError(f'there is no pool or datastore '
                                  f'{parsed_args.pool!r}')
        self.app.found = not any(row[2] for row in rows)
        return rows

    def _known(self, parsed_args: argparse.Namespace
               ) -> Iterator[tuple[str, facts.Facts]]:
        if parsed_args.inventory is None:
            for name, opened in self.opened(parsed_args):
                yield name, facts.LiveFacts(opened)
            return
        # The scheduler's filters have options of their own.
        self.app.backends.load(parsed_args.config_file)
        with self.calling(OSError, ValueError):
            with open(parsed_args.inventory, encoding='utf-8') as file:
                saved = facts.load(file.read(facts.MOST_BYTES + 1))
            if parsed_args.backend not in (None, *saved):
                raise ValueError(f'the file has no backend '
                                 f'{parsed_args.backend!r}; it has '
                                 f'{", ".join(saved)}')
        for name, known in saved.items():
            if parsed_args.backend in (None, name):
                yield name, known


class SaveInventory(command.Listing):
    """Save what pool explain needs, for another machine or another day.

    The file has the pools as the scheduler knows them, datastores, hosts,
    clusters, policies, volume types, VMs with their hosts, and the volumes in
    status error; no user, password or address. An existing file is replaced.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend'),
        columns.Column('pools', 'Pools'),
        columns.Column('datastores', 'Datastores'),
        columns.Column('file', 'File'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE', help='to write')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read each backend, and write the file."""
        rows, backends = [], {}
        for name, opened in self.opened(parsed_args):
            known = facts.LiveFacts(opened)
            backends[name] = known.saved()
            rows.append((name, len(list(facts.pools_of(known.stats))),
                         len(known.inventory.datastores), parsed_args.file))
        text = facts.dump(backends, timeutils.utcnow(with_timezone=True))
        with self.calling(OSError):
            self.app.write(parsed_args.file, text)
        return rows


class _Wanted:
    """The volume for which pools are explained."""

    def __init__(self, known: facts.Facts,
                 parsed_args: argparse.Namespace) -> None:
        """Find the volume, the type and the instance that are named.

        :raises NotFound, LookupError: one of them does not exist
        """
        volume = (known.volume(parsed_args.volume) if parsed_args.volume
                  else None)
        self.size_gib = parsed_args.size or (volume.size_gib if volume else 1)
        self.zone = parsed_args.availability_zone or (
            volume.zone if volume else '')
        if volume is not None and not parsed_args.type:
            self.type = (known.type(volume.type_id) if volume.type_id
                         else facts.NO_TYPE)
        else:
            self.type = known.type(parsed_args.type)
        self.host = (known.host_of(parsed_args.instance)
                     if parsed_args.instance else None)

    def refused(self) -> str:
        """Why the driver would refuse it on every pool; '': it would not."""
        try:
            admission.Admission.check_size(self.size_gib)
        except exception.Invalid as error:
            return str(error)
        return self.type.refused

    def request(self) -> explain.Request:
        """The scheduler's request for this volume."""
        requirement = model.Requirement(
            self.size_gib * units.Gi, extra_specs.is_thin(self.type.specs),
            policy=self.type.specs.get(extra_specs.POLICY),
            compliant=self.type.compliant, reservation=self.type.reservation)
        return explain.Request(self.size_gib, requirement, self.type.name,
                               self.type.specs, self.zone, self.host)


def _verdicts(known: facts.Facts, wanted: _Wanted) -> Iterator[columns.Row]:
    """What each pool, and each datastore that is none, makes of a volume."""
    stats, why_no_service = known.stats, known.why_no_service
    refused = wanted.refused()
    pools = [pool for pool in facts.pools_of(stats) if pool.get('pool_state')
             or not stats['backend_state_reason']]
    if not refused and pools:
        for each in explain.verdicts(
                stats, known.service, wanted.request(), {
                    pool['pool_name']: selector.pinned(
                        pool['pool_name'], known.inventory, known.settings)
                    for pool in pools},
                known.inventory, known.settings, known.filter_names):
            filters = ({'service': why_no_service} if why_no_service
                       else {}) | each.filters
            yield (each.pool, each.takes and not filters,
                   '; '.join(f'{name}: {why}' for name, why
                             in filters.items()) or 'passes',
                   each.placement or 'places it',
                   each.attaching or ('works' if wanted.host else ''),
                   each.datastore)
    for pool in pools if refused else ():
        yield pool['pool_name'], False, '', refused, '', ''
    for datastore, why in facts.others(known.inventory, known.settings,
                                       pools).items():
        yield datastore, False, f'{facts.NO_POOL}: {why}', '', '', ''
    if stats['backend_state_reason']:
        yield (stats.get('volume_backend_name') or '', False,
               f'{facts.state_of(stats)}: {stats["backend_state_reason"]}',
               '', '', '')
