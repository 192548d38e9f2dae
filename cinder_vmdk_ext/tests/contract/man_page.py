# SPDX-License-Identifier: Apache-2.0
"""The manual page of the operator's command, made from its help.

    make man-page    writes docs/cinder-vmdk-ext.8 anew
"""

import inspect
import sys
from collections.abc import Iterator

from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.tests.contract import cli_page
from tools import release_notes
from tools import structure

PAGE = structure.ROOT / 'docs' / 'cinder-vmdk-ext.8'
_HEAD = r'''.\" SPDX-License-Identifier: Apache-2.0
.\" Made by make man-page.
.TH CINDER\-VMDK\-EXT 8 "" "cinder_vmdk_ext {version}"
.SH NAME
cinder\-vmdk\-ext \- looks after the volumes of the cinder_vmdk_ext driver
.SH SYNOPSIS
.B cinder\-vmdk\-ext
.RI [ option ...]
.I command
.RI [ argument ...]
.SH DESCRIPTION
Reads the cinder.conf of cinder\-volume, connects to its vCenter with the same
user, and can run beside the service. Commands under vc log in as the user in
VCENTER_USERNAME and VCENTER_PASSWORD, or ask.
.SH OPTIONS
'''
_STATUS = r'''.SH EXIT STATUS
.TP
.B 0
Done, and nothing was found.
.TP
.B 1
It failed, or a question was not answered with yes.
.TP
.B 2
It was called wrongly.
.TP
.B 3
It found something.
.TP
.B 4
It found that something is lost.
'''
_SEE = r'''.SH FILES
.I /etc/cinder/cinder.conf
.SH SEE ALSO
.BR cinder\-volume (1),
.BR cinder\-manage (1)
'''


def text() -> str:
    """The page."""
    application = main.Application()
    head = _HEAD.replace('{version}', release_notes.version())
    return head + '\n'.join([
        *_rows(cli_page.options(application.parser)),
        '.SH COMMANDS', *_commands(application)]) + '\n' + _STATUS + _SEE


def _commands(application: main.Application) -> Iterator[str]:
    shared = cli_page.shared(application)
    yield '.SS "Options of most commands"'
    yield from _rows(shared.items())
    for name, kind, parser in cli_page.parsers(application):
        yield f'.SS "{_escaped(name)}"'
        for part in (inspect.getdoc(kind) or '').split('\n\n'):
            yield '.PP'
            yield from map(_escaped, part.splitlines())
        yield from _rows((option, purpose) for option, purpose
                         in cli_page.options(parser)
                         if option not in shared)


def _rows(options: object) -> Iterator[str]:
    for option, purpose in options:  # type: ignore[attr-defined]
        yield '.TP'
        yield f'.B {_escaped(option)}'
        yield _escaped(purpose or ' ')


def _escaped(line: str) -> str:
    line = line.replace('\\', r'\e').replace('-', r'\-')
    return rf'\&{line}' if line[:1] in '.\'' else line


def run() -> int:
    """Write the page."""
    PAGE.write_text(text(), 'utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(run())
