# SPDX-License-Identifier: Apache-2.0
"""The commands of the operator's pages, and which of them a run cannot run.

`make docs-run` runs them in the pages' order (tests/functional/docs_run.py). A
command that is in neither table fails a test.
"""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import re

from cinder_vmdk_ext.tests.contract import commands

#: In the order in which an operator needs them.
PAGES = ('docs/install.md', 'docs/volume-types.md', 'docs/qos.md',
         'docs/images.md', 'docs/backups.md', 'docs/privileges.md',
         'docs/takeover.md', 'docs/troubleshooting.md', 'docs/audit.md',
         'docs/cli.md', 'README.md')

#: The beginning of a command -> why a run cannot run it.
NOT_HERE = {
    'apt-get install': "changes the machine's packages",
    'docker exec': 'needs a container of Kolla',
    'make demo': 'a run of its own, in the continuous integration',
    'make test': 'a run of its own, in the continuous integration',
    'pip install .': 'the same as in the install page, from the sources',
    'cinder-vmdk-ext snapshot relink 0c4d5a8e-9f3b-4d0e-8a0b-1f2f3a4b5c6d '
    '--vmtx': 'needs a template that was removed from the inventory: '
              'test_relinking',
    'cinder-vmdk-ext volume adopt': 'needs a list of disks: test_adopting',
    'OS_CLOUD=admin cinder-vmdk-ext volume adopt':
        'needs Keystone: test_adopting',
    'OS_CLOUD=admin cinder-vmdk-ext cache clean':
        'needs Keystone: test_caching',
}

#: The beginnings of commands that a run runs.
RUN = (
    'python3 -m pip wheel', 'python3 -m pip install --no-deps --no-index',
    'python3 -m pip download', 'python3 -m pip check',
    '/opt/cinder/bin/python -m pip install', 'echo /opt/cinder-vmdk-ext',
    'ln -s /opt/cinder-vmdk-ext', 'export VCENTER_USERNAME=',
    'cinder get-pools', 'cinder get-capabilities',
    'openstack volume type create', 'openstack volume type set',
    'openstack volume create', 'openstack volume qos create',
    'openstack volume qos associate',
    'cinder-vmdk-ext check', 'cinder-vmdk-ext pool list',
    'cinder-vmdk-ext pool explain', 'cinder-vmdk-ext pool drain',
    'cinder-vmdk-ext migrate plan', 'cinder-vmdk-ext migrate run',
    'cinder-vmdk-ext volume list', 'cinder-vmdk-ext volume relink',
    'cinder-vmdk-ext snapshot relink 0c4d5a8e-9f3b-4d0e-8a0b-1f2f3a4b5c6d '
    '--to', 'cinder-vmdk-ext audit', 'cinder-vmdk-ext sweep',
    'cinder-vmdk-ext repair', 'cinder-vmdk-ext quarantine list',
    'cinder-vmdk-ext quarantine restore', 'cinder-vmdk-ext quarantine purge',
    'cinder-vmdk-ext bundle', 'cinder-vmdk-ext cache list',
    'cinder-vmdk-ext vc datastore create nfs',
    'cinder-vmdk-ext vc datastore reachable',
    'cinder-vmdk-ext vc disk create', 'cinder-vmdk-ext vc snapshot create',
)

_BLOCK = re.compile(
    r'^```(\w*)\n(.*?)^```|^(?:#[^\n]*)?\n((?: {4}[^\n]*\n|\n)+)',
    re.MULTILINE | re.DOTALL)
_SHELL = ('sh', 'bash', 'console')


def lines(text: str) -> Iterator[str]:
    """The commands of a page in its order.

    In a block of a shell each line is one; elsewhere those of the programs
    that `commands` knows.
    """
    for language, fenced, indented in _BLOCK.findall(text):
        if language and language not in _SHELL:
            continue
        for line in (fenced or indented).splitlines():
            line = line.strip().removeprefix('$ ').partition('    #')[0]
            if line and not line.startswith('#') and (
                    language or line.startswith('export ')
                    or commands.program(line) is not None):
                yield line


def of_page(page: str) -> list[str]:
    """The commands of a page by its path from the root."""
    root = pathlib.Path(__file__).parents[3]
    return list(lines((root / page).read_text('utf-8')))


def reason(line: str) -> str | None:
    """Why a run cannot run it; None: it can, or there is no rule."""
    return next((why for begin, why in NOT_HERE.items()
                 if line.startswith(begin)), None)


def has_rule(line: str) -> bool:
    return reason(line) is not None or line.startswith(RUN)
