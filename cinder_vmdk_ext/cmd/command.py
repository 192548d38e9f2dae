# SPDX-License-Identifier: Apache-2.0
"""Common options, output and errors of the commands."""

import argparse
import contextlib
import functools
import re
import unicodedata
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Container
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from cliff import command
from cliff import lister
from cliff import show
from oslo_config import cfg
from oslo_utils import units

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext import exceptions

#: What is listed for a thing that an interrupt or an error ended.
UNFINISHED = 'not finished: repeat the command'
_LONGEST_VALUE = 4096
# Arguments that take any text, and that may be empty.
_FREE = frozenset({'description'})
_MAY_BE_EMPTY = frozenset({'folder', 'prefix'})


class OfBackends(command.Command):
    """A command that uses backends of a cinder.conf."""

    app: Any  # main.Application

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        self.app.refuse_wrong_usage(parser)
        parser.add_argument(
            '--config-file', action='append', default=[], metavar='FILE',
            help='cinder.conf of cinder-volume; may be repeated')
        parser.add_argument(
            '--backend', metavar='NAME',
            help='section of the backend; default: all of this driver')
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Refuse values that nothing can have; do the work (cliff)."""
        with self.calling(ValueError):
            for name, value in sorted(vars(parsed_args).items()):
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, str):
                        _check_value(name, each)
        return super().run(parsed_args)

    def names(self, parsed_args: argparse.Namespace) -> list[str]:
        """The selected backends; an unknown one counts as wrong usage."""
        with self.calling(exceptions.InvalidSettings, cfg.Error):
            self.app.backends.load(parsed_args.config_file)
            names: list[str] = self.app.backends.names(parsed_args.backend)
            return names

    def opened(self, parsed_args: argparse.Namespace,
               only: Container[str] | None = None
               ) -> Iterator[tuple[str, Any]]:
        """Connect each selected backend; yield its name and the backend.

        :param only: of the selected backends, only these
        """
        for name in self.names(parsed_args):
            if only is None or name in only:
                with self.app.backends.opened(name) as opened:
                    yield name, opened

    @contextlib.contextmanager
    def owning(self, parsed_args: argparse.Namespace, volume: Any,
               thing: str) -> Iterator[tuple[str, Any]]:
        """Connect the selected backend that has a volume.

        :param thing: what was asked for, as an error names it
        :returns: the backend's name, and the backend
        :raises UnknownObject: none of the selected ones has it
        """
        for name, opened in self.opened(parsed_args):
            if opened.owner.owns(volume):
                yield name, opened
                return
        with self.calling(exceptions.UnknownObject):
            raise exceptions.UnknownObject(
                f'{thing} belongs to another backend: its host is '
                f'{volume.host}')

    def agreed(self, parsed_args: argparse.Namespace, question: str) -> bool:
        """Whether ``--yes`` is given, or the question is answered with yes.

        Without either, the command exits with 1.
        """
        return bool(parsed_args.yes or self.app.agreed(question))

    def log_missing(self, sentence: str, words: Collection[str]) -> None:
        """Name the arguments that nothing has; the command exits with 1."""
        if words:
            self.app.failed = True
            self.app.LOG.error('%s %s', sentence,
                               exceptions.shortened(sorted(words)))

    @contextlib.contextmanager
    def calling(self, *errors: type[Exception]) -> Iterator[None]:
        """Count these errors as wrong usage (exit status 2)."""
        try:
            yield
        except errors:
            self.app.misused = True
            raise


class _Display(OfBackends):
    """A command whose output has fixed columns."""

    COLUMNS: Sequence[columns.Column] = ()

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--long', action='store_true',
            help='show all columns in tables; other formats always do')
        return parser

    def _check_columns(self, parsed_args: argparse.Namespace) -> None:
        # A wrong column must be found before the work begins.
        with self.calling(ValueError):
            self._chosen(parsed_args, [])

    def _chosen(self, parsed_args: argparse.Namespace,
                rows: list[columns.Row]) -> list[int]:
        wanted, parsed_args.columns = parsed_args.columns, []
        try:
            return columns.chosen(
                self.COLUMNS, wanted, rows, _is_human(parsed_args),
                parsed_args.long)
        finally:
            parsed_args.columns = wanted

    def _titles(self, parsed_args: argparse.Namespace,
                shown: list[int]) -> tuple[str, ...]:
        human = _is_human(parsed_args)
        return tuple(self.COLUMNS[number].title if human
                     else self.COLUMNS[number].key for number in shown)

    def _cells(self, parsed_args: argparse.Namespace, row: columns.Row,
               shown: list[int]) -> columns.Row:
        return tuple(columns.Cell(row[number], self.COLUMNS[number].show,
                                  parsed_args.formatter)
                     for number in shown)


class Listing(_Display, lister.Lister):
    """A command that lists objects."""

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Do the work.

        :returns: for each object a value for each of COLUMNS
        """
        raise NotImplementedError

    @contextlib.contextmanager
    def keeping(self, rows: list[columns.Row]) -> Iterator[None]:
        """List what was done before an error or an interrupt.

        If there are rows, the error is logged, and the command exits with 1.
        Without rows it is raised.
        """
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            if not rows:
                raise
            self.app.failed, self.app.misused = True, False
            self.app.LOG.error(
                '%s', self.app.INTERRUPTED if isinstance(
                    error, KeyboardInterrupt) else error,
                exc_info=self.app.options.debug)

    @staticmethod
    def listing(rows: list[columns.Row], row: columns.Row,
                act: Callable[[], str]) -> None:
        """Do one thing, and list it, also if an interrupt ends it.

        :param row: without its last column, which says what was done
        :param act: returns this
        """
        done = UNFINISHED
        try:
            done = act()
        finally:
            rows.append((*row, done))

    def take_action(self, parsed_args: argparse.Namespace
                    ) -> tuple[tuple[str, ...], list[columns.Row]]:
        """Do the work, and choose what is shown."""
        self._check_columns(parsed_args)
        with self.app.working():
            rows = self.rows(parsed_args)
        shown = self._chosen(parsed_args, rows)
        parsed_args.columns = []  # they have been chosen here
        return (self._titles(parsed_args, shown),
                [self._cells(parsed_args, row, shown) for row in rows])


class Showing(_Display, show.ShowOne):
    """A command that shows one object, with all columns."""

    def _load_formatter_plugins(self) -> Any:
        """All formats but "shell" (cliff).

        It does not quote values for a shell: a project that names a volume
        "$(...)" would run commands as the operator.
        """
        found = super()._load_formatter_plugins()
        found.extensions = [each for each in found.extensions
                            if each.name != 'shell']
        return found

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.set_defaults(long=True)
        return parser

    def row(self, parsed_args: argparse.Namespace) -> columns.Row:
        """Do the work.

        :returns: a value for each of COLUMNS
        """
        raise NotImplementedError

    def take_action(self, parsed_args: argparse.Namespace
                    ) -> tuple[tuple[str, ...], columns.Row]:
        """Do the work, and choose what is shown."""
        self._check_columns(parsed_args)
        with self.app.working():
            row = self.row(parsed_args)
        shown = self._chosen(parsed_args, [row])
        parsed_args.columns = []
        return self._titles(parsed_args, shown), self._cells(parsed_args,
                                                             row, shown)


def add_confirmation(parser: argparse.ArgumentParser, dry_run: str) -> None:
    """Add the options of a command that asks before it changes anything.

    :param dry_run: the help of ``--dry-run``
    """
    parser.add_argument('--yes', action='store_true', help='do not ask')
    parser.add_argument('--dry-run', action='store_true', help=dry_run)


def _check_value(name: str, value: str) -> None:
    """Refuse a value that is empty, too long, or no text of one line.

    Without this, an empty value would count as an option that is not given,
    and the vCenter and the database would refuse others in words of their own.

    :raises ValueError: saying so
    """
    free = name in _FREE
    shown = name.replace('_', '-')
    if not value.strip() and not free and name not in _MAY_BE_EMPTY:
        raise ValueError(f'the value of {shown} is empty')
    if len(value) > _LONGEST_VALUE:
        raise ValueError(f'the value of {shown} has {len(value)} characters; '
                         f'at most {_LONGEST_VALUE} are read')
    if any(unicodedata.category(each) in ('Cc', 'Cs')
           and not (free and each in '\n\t') for each in value):
        raise ValueError(f'the value {value!r} of {shown} has characters '
                         'that cannot be printed')


def _is_human(parsed_args: argparse.Namespace) -> bool:
    return bool(parsed_args.formatter == 'table')


_UNITS = {'KiB': units.Ki, 'MiB': units.Mi, 'GiB': units.Gi,
          'TiB': units.Ti}


def size(text: str) -> int:
    """Parse a size with its unit; return bytes (argparse type)."""
    found = re.fullmatch(r'([0-9]{1,12})([KMGT]iB)', text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a size; give a number with its unit, as 20GiB')
    return int(found[1]) * _UNITS[found[2]]


def number(unit: str, example: str) -> Callable[[str], float]:
    """An argparse type for a number that is not negative."""
    return functools.partial(_number, unit, example)


def count(text: str) -> int:
    """Parse a whole number that is not 0 (argparse type)."""
    if not re.fullmatch('[0-9]{1,12}', text) or not int(text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a whole number from 1 on')
    return int(text)


def _number(unit: str, example: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a number of {unit}; give {example}')
    return value
