# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext snapshot relink``."""

import argparse
from typing import Any

from oslo_utils import timeutils

from cinder import context as cinder_context
from cinder import exception
from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks
from cinder_vmdk_ext.vsphere import references


class RelinkSnapshot(command.Showing):
    """Give a lost snapshot its snapshot or template in the vCenter again.

    --to: a snapshot in the VM of its volume, which was renamed; it gets its
    name again. --vmtx: the configuration file of its template, which was
    removed from the inventory; it is registered again. Refused before
    anything changes: a snapshot that is not lost, a snapshot in the vCenter
    that another record names, and a file of another snapshot.
    """

    COLUMNS = (
        columns.Column('backend', 'Backend'),
        columns.Column('id', 'ID'),
        columns.Column('volume', 'Volume'),
        columns.Column('target', 'Snapshot or template'),
        columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('snapshot', metavar='SNAPSHOT',
                            help='id of the snapshot')
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument('--to', metavar='REFERENCE',
                            help='reference (snapshot-12) of the snapshot '
                            'that audit names')
        target.add_argument('--vmtx', metavar='PATH',
                            help="'[datastore] folder/name.vmtx' of its "
                            'template')
        command.add_confirmation(parser, 'only show what would be done')
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Check, ask, check again, relink."""
        self.names(parsed_args)
        record = self._record(parsed_args.snapshot)
        with self.owning(parsed_args, record.volume,
                         f'snapshot {record.id}') as (name, opened):
            target, done = self._done_to(opened, record, parsed_args)
            return name, record.id, record.volume_id, target, done

    def _record(self, wanted: str) -> Any:
        with self.calling(exceptions.UnknownObject):
            try:
                return objects.Snapshot.get_by_id(
                    cinder_context.get_admin_context(), wanted)
            except exception.SnapshotNotFound:
                raise exceptions.UnknownObject(
                    f'there is no snapshot {wanted!r}; give its id'
                ) from None

    def _done_to(self, opened: Any, record: Any,
                 parsed_args: argparse.Namespace) -> tuple[str, str]:
        target, question = self._checked(opened, record, parsed_args)
        if parsed_args.dry_run:
            return target, 'would be relinked'
        if not self.agreed(parsed_args, question):
            return target, 'left'
        with self.app.backends.locking(), locks.volumes(record.volume_id):
            # The question may have taken time: check again.
            self._checked(opened, record, parsed_args)
            if parsed_args.to:
                opened.volumeops.rename_snapshot(
                    references.Ref('VirtualMachineSnapshot', parsed_args.to),
                    record.name, record.display_description)
            else:
                opened.relink.register_template(record, parsed_args.vmtx)
        return target, 'relinked'

    def _checked(self, opened: Any, record: Any,
                 parsed_args: argparse.Namespace) -> tuple[str, str]:
        """:returns: what it gets, and the question about it"""
        evidence = collect.EvidenceReader(opened).without_files()
        lost = [each for each in compare.compare(evidence)
                if each.reference == record.id and each.kind == 'lost']
        if not lost:
            raise exceptions.RelinkRefused(
                f'snapshot {record.id} is not lost')
        if parsed_args.vmtx:
            found = evidence.names.in_path(parsed_args.vmtx.partition(
                '] ')[2])
            if found != record.id or not record.provider_location:
                raise exceptions.RelinkRefused(
                    f'{parsed_args.vmtx} is not a template of snapshot '
                    f'{record.id}, by its path')
            return parsed_args.vmtx, (
                f'Register {parsed_args.vmtx} as the template of snapshot '
                f'{record.id}?')
        vm = compare.Comparison(evidence).used(record.volume_id)
        names = {each.name for each in evidence.snapshots}
        for point in vm.points if vm else ():
            if point.moref == parsed_args.to:
                if point.name in names:
                    raise exceptions.RelinkRefused(
                        f'{point.moref} is {point.name}, which has a record')
                return f'{point.name} ({point.moref})', (
                    f'Rename {point.name} ({point.moref}), which was taken '
                    f'{columns.duration(point.age_seconds)} ago, to '
                    f'{record.name}, which was taken '
                    f'{columns.duration(_age(record))} ago?')
        with self.calling(exceptions.UnknownObject):
            raise exceptions.UnknownObject(
                f'the VM of volume {record.volume_id} has no snapshot '
                f'{parsed_args.to!r}')


def _age(record: Any) -> float:
    return (timeutils.utcnow(with_timezone=True)
            - record.created_at).total_seconds()
