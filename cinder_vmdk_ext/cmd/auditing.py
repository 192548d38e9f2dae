# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext audit`` and ``cinder-vmdk-ext sweep``."""

import argparse
import dataclasses
import functools
from typing import Any

from oslo_utils import timeutils
from oslo_utils import uuidutils

from cinder import exception

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.audit import remedies
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import reports
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks

#: Which finding it is.
IDENTITY = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('kind', 'Kind'),
    columns.Column('thing', 'Thing'),
    columns.Column('name', 'Name'),
    columns.Column('reference', 'Reference', long=True),
    columns.Column('owner', 'Owner', long=True))
_COLUMNS = (
    *IDENTITY,
    columns.Column('place', 'Place'),
    columns.Column('size_bytes', 'Size', columns.size),
    columns.Column('age_seconds', 'Age', columns.duration),
    columns.Column('detail', 'Detail'),
    columns.Column('remedy', 'Remedy', long=True))


_KEYS = tuple(each.key for each in _COLUMNS)


class Audit(command.Listing):
    """Compare Cinder's records, the vCenter's VMs and the datastores' files.

    Changes nothing. The list includes what a sweep has moved to quarantine,
    which does not count for the exit status. With --since, the column change
    says of each finding whether it is new, or as before; findings of the
    report that are gone are listed last, and do not count either.
    """

    COLUMNS = (*_COLUMNS, columns.Column('change', 'Change', telling=True))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--save', metavar='FILE',
                            help='write a report, which is replaced at once')
        parser.add_argument('--since', metavar='FILE',
                            help='a report that was saved before, to compare '
                            'with')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read and compare, and list the findings."""
        before = self._before(parsed_args.since)
        found, names = [], []
        for name, opened in self.opened(parsed_args):
            names.append(name)
            seen = compare.compare(collect.EvidenceReader(opened).read())
            found += [_row(name, each) for each in seen]
            kinds = {each.kind for each in seen} - {'quarantined'}
            self.app.found |= bool(kinds)
            self.app.lost |= 'lost' in kinds
        findings = [dict(zip(_KEYS, row)) for row in found]
        if parsed_args.save:
            with self.calling(OSError):
                self.app.write(parsed_args.save, reports.dump(
                    names, findings, timeutils.utcnow(with_timezone=True)))
        if before is None:
            return [(*row, '') for row in found]
        changes, gone = reports.compared(findings, before, names)
        return [(*row, change) for row, change in zip(found, changes)] + [
            (*(each[key] for key in _KEYS), reports.GONE) for each in gone]

    def _before(self, name: str | None) -> list[dict[str, Any]] | None:
        if name is None:
            return None
        with self.calling(OSError, ValueError), open(
                name, encoding='utf-8') as file:
            return reports.load(file.read(reports.MOST_BYTES + 1), _KEYS)[1]


class Sweep(command.Listing):
    """Move to quarantine what belongs to no volume and is old enough.

    Without --act it only lists what it would move. VMs go to the folder
    OpenStack/Quarantine, files to openstack-quarantine on their datastore. No
    disk is deleted, and nothing that a record may need is moved. Exits with 3
    if something that --also names, or that is needed by now, is left.
    """

    COLUMNS = (*_COLUMNS[:-2],
               dataclasses.replace(_COLUMNS[-2], long=True),
               columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--act', action='store_true',
                            help='move the findings, and ask before each')
        parser.add_argument('--yes', action='store_true',
                            help='with --act: do not ask')
        parser.add_argument(
            '--minimum-age', default=24.0, metavar='HOURS',
            type=command.number('hours', '24, or 0 for any age'),
            help='move only what has not changed for so long (default: 24)')
        parser.add_argument(
            '--also', action='append', default=[], metavar='REFERENCE',
            help='also move this finding, although it has no mark of this '
                 'Cinder; may be repeated')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read and compare, and list or move the findings."""
        rows: list[columns.Row] = []
        chosen: list[compare.Finding] = []
        named: list[tuple[str, compare.Finding]] = []
        missing = set(parsed_args.also)
        with self.keeping(rows):
            for name, opened in self.opened(parsed_args):
                reader = collect.EvidenceReader(opened, parsed_args.also)
                found = compare.compare(reader.read())
                missing -= {each.reference for each in found}
                due = quarantine.due(found, parsed_args.minimum_age * 3600)
                chosen += due
                named += [(name, each) for each in found
                          if each.reference in parsed_args.also]
                self._sweep(rows, name, opened, reader, due, parsed_args)
            self.log_missing('the audit finds nothing about', missing)
        rows += self._left(named, {each.reference for each in chosen},
                           parsed_args)
        return rows

    def _sweep(self, rows: list[columns.Row], name: str, opened: Any,
               reader: collect.EvidenceReader, due: list[compare.Finding],
               parsed_args: argparse.Namespace) -> None:
        if not parsed_args.act:
            rows += [(*_row(name, each)[:-1], 'would be moved')
                     for each in due]
            return
        with self.app.backends.locking():
            for each in due:
                self.listing(rows, _row(name, each)[:-1], functools.partial(
                    self._tried, opened, reader, each, parsed_args))

    def _tried(self, opened: Any, reader: collect.EvidenceReader,
               finding: compare.Finding,
               parsed_args: argparse.Namespace) -> str:
        try:
            return self._move(opened, reader, finding, parsed_args)
        except (exceptions.VMWARE_ERRORS, exception.CinderException,
                LookupError) as error:
            self.app.failed = True
            return f'failed: {exceptions.first_line(error)}'

    def _left(self, named: list[tuple[str, compare.Finding]],
              chosen: set[str],
              parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Rows of the named findings that are not moved, with the reason."""
        left = [(name, each) for name, each in named
                if each.reference not in chosen]
        self.app.found |= bool(left)
        return [(*_row(name, each)[:-1], 'left: ' + quarantine.why_not(
            each, parsed_args.minimum_age * 3600)) for name, each in left]

    def _move(self, opened: Any, reader: collect.EvidenceReader,
              finding: compare.Finding,
              parsed_args: argparse.Namespace) -> str:
        if not self.agreed(
                parsed_args,
                f'Move {finding.kind} {finding.thing} {finding.name} '
                f'({finding.reference}: {finding.detail}) to quarantine?'):
            return 'left'
        owner = [finding.owner] if uuidutils.is_uuid_like(
            finding.owner) else []
        with locks.volumes(*owner):
            # The finding may be out of date: read its evidence again.
            still = quarantine.due(compare.compare(reader.again(finding)),
                                   parsed_args.minimum_age * 3600)
            if finding.reference not in {each.reference for each in still}:
                self.app.found = True
                return 'left: it is needed now'
            quarantine.Quarantine(opened).move(finding)
        return 'moved'


def _row(backend_name: str, finding: compare.Finding) -> columns.Row:
    return (backend_name, finding.kind, finding.thing, finding.name,
            finding.reference, finding.owner, finding.place,
            finding.space_bytes, finding.age_seconds, finding.detail,
            remedies.remedy(finding))
