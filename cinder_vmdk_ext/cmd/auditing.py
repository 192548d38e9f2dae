# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext audit`` and ``cinder-vmdk-ext sweep``."""

import argparse
import sys
from typing import Any

from cliff import lister
from oslo_utils import units
from oslo_utils import uuidutils

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.cmd import backend
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks

_COLUMNS = ('Backend', 'Kind', 'Thing', 'Name', 'Reference', 'Owner',
            'Place', 'MiB', 'Age (h)', 'Detail')
Row = tuple[Any, ...]


class _OfBackends(lister.Lister):
    """What both commands have in common."""

    app: Any  # main.Application

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--config-file', action='append', default=[], metavar='FILE',
            help='cinder.conf of cinder-volume; may be repeated')
        parser.add_argument(
            '--backend', metavar='NAME',
            help='section of the backend; default: all of this driver')
        return parser

    def names(self, parsed_args: argparse.Namespace) -> list[str]:
        """The backends that are meant; a wrong one is a wrong call."""
        try:
            return backend.names(parsed_args.backend)
        except exceptions.InvalidSettings:
            self.app.misused = True
            raise


class Audit(_OfBackends):
    """Compare Cinder's records, the vCenter's VMs and the datastores' files.

    Changes nothing. Exits with 3 when it finds something (but for what a
    sweep has moved to quarantine), with 4 when something is lost, else with
    0; with 1 when it failed, with 2 when it was called wrongly.
    """

    def take_action(self, parsed_args: argparse.Namespace
                    ) -> tuple[Row, list[Row]]:
        """Look, and list the findings."""
        backend.load(parsed_args.config_file)
        rows = []
        for name in self.names(parsed_args):
            with backend.opened(name) as opened:
                found = compare.compare(collect.EvidenceReader(opened).read())
            rows += [_row(name, each) for each in found]
            kinds = {each.kind for each in found} - {'quarantined'}
            self.app.found |= bool(kinds)
            self.app.lost |= 'lost' in kinds
        return _COLUMNS, rows


class Sweep(_OfBackends):
    """Move to quarantine what is nobody's and old enough.

    Without --act it only lists what it would move. VMs go to the folder
    OpenStack/Quarantine, files to openstack-quarantine on their datastore;
    no disk is deleted, and nothing is touched that a record may need.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--act', action='store_true',
                            help='move them, and ask before each')
        parser.add_argument('--yes', action='store_true',
                            help='with --act: do not ask')
        parser.add_argument(
            '--minimum-age', type=_hours, default=24.0, metavar='HOURS',
            help='leave what was changed later (default: 24)')
        parser.add_argument(
            '--also', action='append', default=[], metavar='REFERENCE',
            help='also move this finding, which bears no mark of this '
                 'Cinder; may be repeated')
        return parser

    def take_action(self, parsed_args: argparse.Namespace
                    ) -> tuple[Row, list[Row]]:
        """Look, and list or move."""
        backend.load(parsed_args.config_file)
        rows = []
        for name in self.names(parsed_args):
            with backend.opened(name) as opened:
                reader = collect.EvidenceReader(opened, parsed_args.also)
                due = quarantine.due(compare.compare(reader.read()),
                                     parsed_args.minimum_age * 3600)
                if parsed_args.act:
                    with backend.locking():
                        done = [self._move(opened, reader, each, parsed_args)
                                for each in due]
                else:
                    done = ['would be moved'] * len(due)
            rows += [(*_row(name, each), how)
                     for each, how in zip(due, done)]
        return (*_COLUMNS, 'Done'), rows

    def _move(self, opened: Any, reader: collect.EvidenceReader,
              finding: compare.Finding,
              parsed_args: argparse.Namespace) -> str:
        if not parsed_args.yes and not _agreed(finding):
            return 'left'
        owner = [finding.owner] if uuidutils.is_uuid_like(
            finding.owner) else []
        with locks.volumes(*owner):
            # Time has passed since it was found, perhaps at the question.
            still = quarantine.due(compare.compare(reader.again(finding)),
                                   parsed_args.minimum_age * 3600)
            if finding.reference not in {each.reference for each in still}:
                return 'left: it is needed by now'
            try:
                quarantine.Quarantine(opened).move(finding)
            except exceptions.VMWARE_ERRORS as error:
                self.app.failed = True
                return f'failed: {error}'
        return 'moved'


def _agreed(finding: compare.Finding) -> bool:
    print(f'Move {finding.kind} {finding.thing} {finding.name} '
          f'({finding.reference}: {finding.detail}) aside? [y/N] ',
          end='', file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ('y', 'yes')


def _row(backend_name: str, finding: compare.Finding) -> Row:
    age = finding.age_seconds
    return (backend_name, finding.kind, finding.thing, finding.name,
            finding.reference, finding.owner, finding.place,
            round(finding.space_bytes / units.Mi, 1),
            None if age is None else round(age / 3600, 1), finding.detail)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours < float('inf'):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no number of hours; give 24, or 0 for any age')
    return hours
