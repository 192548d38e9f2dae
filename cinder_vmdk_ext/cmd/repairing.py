# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext repair``."""

import argparse
import contextlib
import functools
import time
from typing import Any

from cinder import context as cinder_context
from cinder import exception
from cinder import objects

from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import compare
from cinder_vmdk_ext.audit import remedies
from cinder_vmdk_ext.audit import repair
from cinder_vmdk_ext.cmd import auditing
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks

#: How long Cinder may take for what its API has accepted.
WAIT_SECONDS = 600.0
POLL_SECONDS = 1.0
_ERRORS = (exceptions.VMWARE_ERRORS, exception.CinderException, LookupError)


class Repair(command.Listing):
    """Correct what an audit finds wrong with volumes and snapshots.

    Corrects a VM's name, UUID, marks and folder, a foreign disk, a disk's
    size, adapter, policy and I/O limits, a template that became a VM, and the
    pool that a record names. Asks before each. Only if it is named: a
    volume's status, a host that no service has, and the record of what is
    gone for good, which is removed through Cinder's API; the volume is then
    unmanaged. No disk is deleted, and no content is changed. What a sweep or
    relink is for is listed with this remedy. Cinder's API is called in the
    cloud of the environment (OS_CLOUD, or OS_AUTH_URL and so on), as an
    administrator. Exits with 3 if something is left.
    """

    COLUMNS = (
        *auditing.IDENTITY,
        columns.Column('detail', 'Detail'),
        columns.Column('done', 'Done'))

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'named', nargs='*', metavar='REFERENCE', default=[],
            help='id of a volume or snapshot, or reference or name that '
            'audit shows; default: all')
        command.add_confirmation(parser, 'only list what would be done')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read, choose, ask, read again, correct."""
        rows: list[columns.Row] = []
        aside: list[tuple[str, compare.Finding]] = []
        missing = set(parsed_args.named)
        answered: set[str] = set()
        with self.keeping(rows):
            for name, opened in self.opened(parsed_args):
                reader = collect.EvidenceReader(opened)
                evidence = reader.read()
                for each in compare.compare(evidence):
                    known = {each.reference, each.owner, each.name}
                    missing -= known
                    if parsed_args.named and known.isdisjoint(
                            parsed_args.named):
                        continue
                    if each.kind == 'quarantined':
                        aside.append((name, each))
                        continue
                    answered |= known
                    self.listing(rows, _row(name, each), functools.partial(
                        self._done_to, opened, reader, each, evidence,
                        parsed_args))
            self.log_missing('the audit finds nothing about', missing)
        rows += self._in_quarantine(
            aside, set(parsed_args.named) - answered)
        return rows

    def _in_quarantine(self, found: list[tuple[str, compare.Finding]],
                       words: set[str]) -> list[columns.Row]:
        """Rows of what is in quarantine, if a word names nothing else."""
        left = [(name, each) for name, each in found
                if words & {each.reference, each.owner, each.name}]
        self.app.found |= bool(left)
        return [(*_row(name, each), f'left: {remedies.remedy(each)}')
                for name, each in left]

    def _done_to(self, opened: Any, reader: collect.EvidenceReader,
                 finding: compare.Finding, evidence: compare.Evidence,
                 parsed_args: argparse.Namespace) -> str:
        deed = repair.DEEDS.get(finding.cause)
        if deed is None:
            self.app.found = True
            return f'left: {remedies.remedy(finding)}'
        if finding.cause in repair.ONLY_NAMED and not parsed_args.named:
            self.app.found = True
            return f'left: {deed} if it is named'
        if parsed_args.dry_run:
            self.app.found = True
            return f'would be repaired: {deed}'
        if not self.agreed(
                parsed_args,
                f'{finding.thing} {finding.name}: {finding.detail}. '
                f'Go on ({deed})?'):
            self.app.found = True
            return 'left'
        try:
            return self._mend(opened, reader, finding) or f'repaired: {deed}'
        except exceptions.RepairRefused as why:
            self.app.failed = True
            return f'refused: {why}'
        except _ERRORS as error:
            self.app.failed = True
            return f'failed: {exceptions.first_line(error)}'

    def _mend(self, opened: Any, reader: collect.EvidenceReader,
              finding: compare.Finding) -> str:
        """:returns: why it is left; '': it is corrected"""
        by_api = finding.cause in repair.BY_API
        alone = contextlib.nullcontext() if by_api else locks.volumes(
            finding.owner)
        with self.app.backends.locking(), alone:
            # The finding may be out of date: read its evidence again.
            evidence = (reader.read() if finding.cause == 'gone'
                        else reader.again(finding))
            now = [each for each in compare.compare(evidence)
                   if (each.cause, each.owner) == (finding.cause,
                                                   finding.owner)]
            if not now:
                return 'left: it is right now'
            correction = repair.Correction(
                opened, lambda: self.app.backends.volume_api(''))
            correction.mend(now[0], reader.volumes([finding.owner]).get(
                finding.owner), evidence)
        return self._ended(finding) if by_api else ''

    def _ended(self, finding: compare.Finding) -> str:
        """Wait until Cinder has done what its API has accepted.

        :returns: why it is left or failed; '': it is done
        """
        deadline = time.monotonic() + WAIT_SECONDS
        status = _status(finding)
        while status.endswith('ing') and not status.startswith('error'):
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
            status = _status(finding)
        if not status or (finding.cause != 'gone'
                          and status in ('available', 'in-use', 'error')):
            return ''
        self.app.failed = True
        return f'failed: the {finding.thing} is {status}'


def _row(backend: str, finding: compare.Finding) -> columns.Row:
    return (backend, finding.kind, finding.thing, finding.name,
            finding.reference, finding.owner, finding.detail)


def _status(finding: compare.Finding) -> str:
    """The status of a volume or snapshot in its record; '': it has none."""
    kind = objects.Snapshot if finding.thing == 'snapshot' else objects.Volume
    wanted = (finding.reference if finding.thing == 'snapshot'
              else finding.owner)
    try:
        return str(kind.get_by_id(cinder_context.get_admin_context(),
                                  wanted).status)
    except exception.NotFound:
        return ''
