# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext migrate plan`` and ``migrate run``."""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from cinder import exception

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.volumes import evacuate

_COLUMNS = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('thing', 'Thing'),
    columns.Column('id', 'ID'),
    columns.Column('name', 'Name', long=True),
    columns.Column('status', 'Status'),
    columns.Column('attached_to', 'Attached to', columns.listed, long=True),
    columns.Column('machine', 'VM', long=True),
    columns.Column('space_bytes', 'Space', columns.size),
    columns.Column('pool', 'To'),
    columns.Column('free_after_bytes', 'Free there after', columns.size),
    columns.Column('calls', 'Calls', columns.listed, long=True),
    columns.Column('stays', 'Stays because'))


class PlanMigrate(command.Listing):
    """Plan how to empty a pool: the moves in their order, space, calls.

    Lists volumes with their chains of files, attached or not; promises of
    space; templates that hold snapshots; and records that name the pool
    although the disk is elsewhere. Then it lists what cannot move, or needs
    another command, with the reason. Changes nothing. Exits with 3 if
    something stays.
    """

    COLUMNS: Sequence[columns.Column] = _COLUMNS

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('pool', metavar='POOL',
                            help='pool to empty')
        parser.add_argument(
            '--to', action='append', default=[], metavar='POOL',
            help='pool to move to; may be repeated; default: all')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Plan."""
        return [_row(name, step) for name, _evacuation, steps
                in self.planned(parsed_args) for step in steps]

    def planned(self, parsed_args: argparse.Namespace
                ) -> Iterator[tuple[str, evacuate.Evacuation,
                                    list[evacuate.Step]]]:
        """The plan of each backend that has the pool."""
        # All are checked before the content of the first one is moved.
        for name, opened in self.opened(parsed_args,
                                        self._having(parsed_args)):
            pools = _pools(opened, parsed_args)
            if not pools:
                continue  # gone meanwhile
            self.check(opened, pools)
            evacuation = evacuate.Evacuation(opened, pools[0], pools[1:])
            with self.app.backends.locking():
                # The locks show which moves were interrupted.
                steps = evacuation.plan()
            self.app.found |= any(step.why_not for step in steps)
            yield name, evacuation, steps

    def _having(self, parsed_args: argparse.Namespace) -> list[str]:
        """The backends that have the pools; each is checked."""
        found: list[str] = []
        known: list[str] = []
        for name, opened in self.opened(parsed_args):
            pools = _pools(opened, parsed_args)
            if pools:
                self.check(opened, pools)
                found.append(name)
            else:
                known += [each.name for each in pool_names.listed(
                    opened.inventory(), opened.settings)]
        if not found:
            wanted = [parsed_args.pool, *parsed_args.to]
            with self.calling(LookupError):
                raise LookupError(
                    'no backend has all of the pools '
                    f'{exceptions.shortened(wanted)}; the pools are '
                    f'{exceptions.shortened(known)}')
        return found

    def check(self, opened: Any, pools: list[Any]) -> None:
        """Refuse to move the content of a pool to the same pool."""
        if pools[0].name in {each.name for each in pools[1:]}:
            with self.calling(ValueError):
                raise ValueError(
                    f'{pools[0].name} cannot be emptied to itself')


class RunMigrate(PlanMigrate):
    """Empty a pool: make the moves that migrate plan lists.

    The pool must be drained, or in maintenance mode. The command runs beside
    the service: while a volume is moved, its record has the migration_status
    vmdk-ext:moving, and a detached volume has the status maintenance. No data
    passes through this host. An interrupt ends the run after the current
    move, a second one at once. The command can be repeated; it then also ends
    interrupted moves. Exits with 3 if something stays, and with 1 if a move
    failed.
    """

    COLUMNS = (*_COLUMNS, columns.Column('done', 'Done'))
    _ended = False  # by an interrupt

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        command.add_confirmation(parser, 'as migrate plan')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Plan, ask, and move."""
        rows: list[columns.Row] = []
        with self.keeping(rows):
            for name, evacuation, steps in self.planned(parsed_args):
                self._empty(rows, name, evacuation, steps, parsed_args)
                if self._ended:
                    break
        return rows

    def _empty(self, rows: list[columns.Row], name: str,
               evacuation: evacuate.Evacuation, steps: list[evacuate.Step],
               parsed_args: argparse.Namespace) -> None:
        """Make the moves of a backend, and list them."""
        moves = [step for step in steps if not step.why_not]
        space = columns.size(sum(step.space_bytes for step in moves))
        done: dict[int, str] = {}
        if parsed_args.dry_run:
            done = dict.fromkeys(range(len(moves)), 'would be moved')
        elif moves and (self.agreed(
                parsed_args, f'{len(moves)} objects ({space}) leave '
                f'{parsed_args.pool}, {len(steps) - len(moves)} stay. '
                'Continue?')):
            done = self._carried_out(evacuation, moves)
        rows += [(*_row(name, step), done.get(number, 'left'))
                 for number, step in enumerate(moves)]
        rows += [(*_row(name, step), 'stays') for step in steps
                 if step.why_not]

    def check(self, opened: Any, pools: list[Any]) -> None:
        """Refuse a pool that still takes new volumes."""
        super().check(opened, pools)
        inventory = opened.inventory()
        for datastore in pool_names.with_twins(pools[0], inventory):
            why = eligibility.ineligibility(datastore, inventory,
                                            opened.settings)
            if why is not None and not why.passing and (
                    datastore not in pools[0].datastores):
                continue  # the same storage, but no pool of this backend
            if why is None or why.code not in eligibility.LEAVING:
                with self.calling(ValueError):
                    raise ValueError(
                        f'{datastore.plain_name} takes new volumes; drain it '
                        f'first (pool drain {pools[0].name})')

    def _carried_out(self, evacuation: evacuate.Evacuation,
                     moves: list[evacuate.Step]) -> dict[int, str]:
        done = {}
        with self.app.backends.locking(), ending() as ended:
            for number, step in enumerate(moves):
                if ended:
                    self._ended = self.app.failed = True
                    self.app.LOG.error('interrupted; %s of %s are left, '
                                       'repeat the command',
                                       len(moves) - number, len(moves))
                    break
                self._show(number, len(moves), step)
                done[number] = self._tried(evacuation, step)
        return done

    def _tried(self, evacuation: evacuate.Evacuation,
               step: evacuate.Step) -> str:
        try:
            done = evacuation.carry_out(step)
        except (exceptions.VMWARE_ERRORS, exception.CinderException) as error:
            self.app.failed = True
            return f'failed: {exceptions.first_line(error)}'
        self.app.found |= done.startswith('left')
        return done

    def _show(self, number: int, count: int, step: evacuate.Step) -> None:
        if self.app.stderr.isatty():
            self.app.stderr.write(
                f'[{number + 1}/{count}] {step.thing} {step.id} '
                f'({columns.size(step.space_bytes)}) to {step.pool}\n')
            self.app.stderr.flush()


@contextlib.contextmanager
def ending() -> Iterator[list[int]]:
    """Note the first interrupt in this block; the second one ends it."""
    ended: list[int] = []

    def note(number: int, frame: Any) -> None:
        if ended:
            raise KeyboardInterrupt
        ended.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, before)


def _pools(opened: Any,
           parsed_args: argparse.Namespace) -> list[pool_names.Pool]:
    """The pool to empty, and those to move to; empty: one is missing."""
    named = [pool_names.resolve(each, opened.inventory(), opened.settings)
             for each in (parsed_args.pool, *parsed_args.to)]
    found = [each for each in named if each is not None]
    return found if len(found) == len(named) else []


def _row(backend: str, step: evacuate.Step) -> columns.Row:
    return (backend, step.thing, step.id, step.name, step.status,
            list(step.attached_to), step.machine, step.space_bytes, step.pool,
            step.free_after_bytes, list(step.calls), step.why_not)
