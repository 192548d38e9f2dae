# SPDX-License-Identifier: Apache-2.0
"""Has the programs themselves parse the commands of the documents.

    python -m cinder_vmdk_ext.tests.contract.commands <lines.json

Nothing is run, and no server is asked. It is a separate process, because the
clients change global state when they are imported.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from tools import structure

_FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r'^(?:#.*)?\n((?: {4}.*\n|\n)+)', re.MULTILINE)
_VARIABLE = re.compile(r'[A-Z_]+=\S*$')
# What a line may begin with before the program.
_BEFORE = re.compile(r'^(?:\$ |\(cd \S+ && )')

# The services of the commands in our documents.
_GROUPS = ('openstack.common', 'openstack.volume.v3', 'openstack.compute.v2',
           'openstack.image.v2')


def lines(text: str) -> Iterator[str]:
    """The commands in a document's blocks that this module can check."""
    fenced = [body for language, body in _FENCED.findall(text)
              if language in ('', 'sh', 'bash', 'console')]
    indented = _INDENTED.findall(_FENCED.sub('', text))
    for block in (*fenced, *indented):
        for line in block.splitlines():
            line = _BEFORE.sub('', line.strip())
            if program(line) is not None:
                yield line


def program(line: str) -> str | None:
    """Which program a command runs, if it is one of ours to check."""
    try:
        words = _words(line)
    except ValueError:
        return None
    name = os.path.basename(words[0]) if words else ''
    if name in ('python', 'python3') and words[1:3] == ['-m', 'pip']:
        return 'pip'
    return name if name in PROGRAMS else None


def problem(line: str) -> str:
    """What the program does not understand; '': it does."""
    words = _words(line)
    name = program(line)
    assert name is not None
    words = words[3:] if name == 'pip' and words[0] != 'pip' else words[1:]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(
                io.StringIO()):
            PROGRAMS[name](words)
    except SystemExit as stopped:
        return '' if not stopped.code else (
            said.getvalue().strip() or str(stopped)).splitlines()[-1]
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return ''


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars='|&;<>')
    lexer.whitespace_split = True
    lexer.commenters = '#'
    words = []
    for word in lexer:
        if set(word) <= set('|&;<>'):
            break
        words.append(word)
    while words and (_VARIABLE.match(words[0])
                     or words[:3] == ['docker', 'exec', 'cinder_volume']):
        del words[:3 if words[0] == 'docker' else 1]
    return words


def _ours(words: list[str]) -> None:
    application, known = _our_parsers()
    _options, rest = application.parser.parse_known_args(words)
    _kind, name, arguments = application.command_manager.find_command(rest)
    known[name].parse_args(arguments)


@functools.cache
def _our_parsers() -> tuple[Any, dict[str, argparse.ArgumentParser]]:
    from cinder_vmdk_ext.cmd import main
    from cinder_vmdk_ext.tests.contract import cli_page

    application = main.Application()
    return application, {found: parser for found, _kind, parser
                         in cli_page.parsers(application)}


def _openstack(words: list[str]) -> None:
    kind, name, arguments = _openstack_commands().find_command(words)
    kind(None, None).get_parser(name).parse_args(arguments)


@functools.cache
def _openstack_commands() -> Any:
    from osc_lib.command import commandmanager

    found = commandmanager.CommandManager('openstack.cli')
    for group in _GROUPS:
        found.add_command_group(group)
    return found


def _cinder(words: list[str]) -> None:
    from cinderclient import api_versions
    from cinderclient import shell

    client = shell.OpenStackCinderShell()
    parser = client.get_subcommand_parser(api_versions.APIVersion('3.71'),
                                          input_args=words)
    parser.parse_args(words)


def _make(words: list[str]) -> None:
    targets = re.findall(r'^([a-z-]+):', (structure.ROOT / 'Makefile')
                         .read_text(), re.MULTILINE)
    for word in words:
        if '=' not in word and word not in targets:
            raise SystemExit(f'there is no target {word}')


def _pip(words: list[str]) -> None:
    from pip._internal import commands

    commands.create_command(words[0]).parse_args(words[1:])


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    'cinder-vmdk-ext': _ours, 'openstack': _openstack, 'cinder': _cinder,
    'make': _make, 'pip': _pip,
}


if __name__ == '__main__':
    json.dump([problem(line) for line in json.load(sys.stdin)], sys.stdout)
