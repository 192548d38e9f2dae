# SPDX-License-Identifier: Apache-2.0
"""The page of the operator's command, made from its help.

    make cli-page    writes docs/cli.md anew

The text above the mark in that page is written by hand, and is kept.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import main
from tools import structure

PAGE = structure.ROOT / 'docs' / 'cli.md'
MARK = '<!-- below: make cli-page -->\n'


def text(before: str) -> str:
    """The page.

    :param before: the page as it is, of which what is above the mark is kept
    """
    top = before.partition(MARK)[0]
    return top + MARK + '\n' + '\n'.join(_commands())


def _commands() -> Iterator[str]:
    application = main.Application()
    known = shared(application)
    for name, kind, parser in parsers(application):
        yield f'## {name}'
        yield inspect.getdoc(kind) or ''
        yield ''
        own = [(option, purpose) for option, purpose in options(parser)
               if option not in known]
        if own:
            yield '| option | |\n|---|---|'
            yield from (f'| `{option}` | {purpose} |'
                        for option, purpose in own)
            yield ''
        columns = getattr(kind, 'COLUMNS', ())
        if columns:
            yield 'Columns: ' + ', '.join(
                f'`{each.key}`' for each in columns) + '.\n'


def shared(application: main.Application) -> dict[str, str]:
    """The options that commands share, and the help of each."""
    return {option: purpose for kind in (command.Listing, command.Showing)
            for option, purpose in options(_parser(kind, application, ''))}


def parsers(application: main.Application
            ) -> Iterator[tuple[str, Any, argparse.ArgumentParser]]:
    """Each command: its name, class and parser."""
    for name in sorted(main.COMMANDS):
        kind = application.command_manager.find_command(name.split())[0]
        yield name, kind, _parser(kind, application,
                                  f'{main.Application.NAME} {name}')


def _parser(kind: Any, application: Any,
            name: str) -> argparse.ArgumentParser:
    # Those that all commands share leave their work open.
    made: Any = type(kind.__name__, (kind,), {'__doc__': kind.__doc__})
    made.__abstractmethods__ = frozenset()
    parser: argparse.ArgumentParser = made(application, None).get_parser(name)
    return parser


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each argument as it is written, and its help."""
    for action in parser._actions:
        value = action.metavar or (action.dest.upper()
                                   if action.nargs != 0 else '')
        if isinstance(value, tuple):
            value = ' '.join(value)
        written = ', '.join(action.option_strings)
        if written:
            value = f'{written} {value}' if action.nargs != 0 else written
        yield value, re.sub(r'\s+', ' ', action.help or '').replace('|', '\\|')


def run() -> int:
    """Write the page."""
    PAGE.write_text(text(PAGE.read_text('utf-8')), 'utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(run())
