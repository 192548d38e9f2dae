# SPDX-License-Identifier: Apache-2.0
"""Records a session of the operator's command line in docs/session.md.

Each line after a "$" is a command that is run here, with its real output. Only
what differs from one recording to the next is replaced: paths, times, ports,
and ids that a table does not wrap. ``make session``
"""
from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid

from pyVim import task
from pyVmomi import vim

from sandbox import clients
from sandbox import cloud
from sandbox import configuration
from sandbox import errors
from sandbox import inspection
from sandbox import servers

PAGE = configuration.BUILD.parent / 'docs' / 'session.md'
_HEAD = '''\
# A session of the command line

Made by `make session`: a real Cinder with a simulated vCenter (`sandbox/`),
and each command with its true output. Only paths, times, ports, and ids that a
table does not wrap are replaced, so that two recordings differ in little. The
last line is the exit status, if it is not 0. Where there is nothing to list,
nothing is printed.
[The command line](cli.md) explains the commands.
'''
_UUID = re.compile(r'\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b')
_TIME = re.compile(r'\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?)?')
_MARKS = ('cinder.volume.id', 'vmdk-ext.')
_PORT = re.compile(r'(?<=127\.0\.0\.1:)\d+')


class Recording:
    """The text of the page, as it grows."""

    def __init__(self, sandbox: cloud.Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._ids: dict[str, str] = {}
        self._lines = [_HEAD]

    @property
    def text(self) -> str:
        """The page."""
        return '\n'.join(self._lines)

    def title(self, text: str, about: str = '') -> None:
        """Begin a part of the session."""
        print(text, flush=True)
        self._lines += [f'\n## {text}', *([about] if about else [])]

    def run(self, *words: str, most_lines: int = 40) -> str:
        """Run cinder-vmdk-ext, and record it.

        :param most_lines: later lines of its output are left out
        :returns: its output
        """
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m',
             'cinder_vmdk_ext.cmd.main', *words, '--config-file',
             str(self._sandbox.cinder_conf)],
            capture_output=True, text=True, cwd=self._folder,
            stdin=subprocess.DEVNULL, env=os.environ | {
                'CLIFF_MAX_TERM_WIDTH': '110', 'CLIFF_FIT_WIDTH': '1',
                'PYTHONPATH': str(configuration.BUILD.parent),
                'VCENTER_USERNAME': self._sandbox.vcenter.user,
                'VCENTER_PASSWORD': self._sandbox.vcenter.password})
        shown = (done.stderr + done.stdout).splitlines()
        left = len(shown) - most_lines
        if left > 0:
            shown = [*shown[:most_lines], f'... {left} more lines']
        if done.returncode:
            shown.append(f'[exit status {done.returncode}]')
        self._lines += ['\n```console', '$ ' + self._stable(shlex.join(
            ['cinder-vmdk-ext', *words])),
            *(self._stable(line).rstrip() for line in shown), '```']
        return done.stdout

    def _stable(self, text: str) -> str:
        for path in (self._folder, self._sandbox.folder):
            text = text.replace(str(path), '/tmp')
        text = _UUID.sub(self._id, text)
        text = _TIME.sub(lambda found: '2026-01-01T00:00:00.000000'[
            :len(found[0])], text)
        return _PORT.sub(lambda found: '0' * len(found[0]), text)

    def _id(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(
            found[0], '00000000-0000-4000-8000-%012d' % (len(self._ids) + 1))


def record(sandbox: cloud.Sandbox, folder: Path) -> str:
    """The page: a session from `check` to `audit`."""
    made = Recording(sandbox, folder)
    asked = clients.Clients(sandbox.endpoint)
    with inspection.Inspector(sandbox.vcenter) as inspector:
        _before(made)
        volumes = dict(_create(asked))
        _look(made, volumes)
        _fail(made, asked)
        _empty(made, asked, inspector, volumes)
        _lose_and_mend(made, inspector, volumes)
        _set_aside_and_bring_back(made, inspector, volumes)
        _report(made)
        _vcenters_storage(made)
    return made.text


def _before(made: Recording) -> None:
    made.title('Before the service starts, and after a change')
    made.run('check')
    made.title('What the scheduler is told, and why it chooses')
    made.run('pool', 'list')
    made.run('pool', 'explain', '--size', '20', '--type', 'thin')
    made.run('pool', 'explain', '--size', '2000', '--type', 'thin')


def _create(asked: clients.Clients) -> Iterator[tuple[str, str]]:
    for name in ('web', 'db', 'mail', 'old'):
        volume = asked.python.volumes.create(1, name=name,
                                             volume_type='thin')
        asked.settled_volume(volume.id)
        yield name, volume.id


def _look(made: Recording, volumes: dict[str, str]) -> None:
    made.title('Volumes and their disks')
    made.run('volume', 'list')
    made.run('volume', 'show', 'web')
    made.run('volume', 'list', '--format', 'json', '-c', 'id', '-c', 'pool',
             '-c', 'size_bytes')
    made.title('The answer of that moment, kept for later')
    made.run('inventory', 'save', 'night.json')
    made.run('pool', 'explain', '--inventory', 'night.json', '--size', '20')


def _fail(made: Recording, asked: clients.Clients) -> None:
    """A volume that ends in "No valid backend was found"."""
    made.title('"No valid backend was found"', 'A user asked for a volume of '
               '5,000 GiB, and then for one of a type whose pools are all of '
               'another name.')
    kind = asked.python.volume_types.create('gold')
    kind.set_keys(asked.python.volume_types.find(name='thin').get_keys()
                  | {'pool_name': '<in> gold'})
    for size, name, type_name in ((5000, 'archive', 'thin'),
                                  (1, 'ledger', 'gold')):
        volume = asked.python.volumes.create(size, name=name,
                                             volume_type=type_name)
        with contextlib.suppress(errors.SandboxError):
            asked.settled_volume(volume.id)
        made.run('pool', 'explain', '--volume', volume.id)
        made.run('pool', 'explain', '--volume', volume.id, '--type', 'thin',
                 '--size', '20')
        volume.delete()
        asked.wait_until_gone(asked.python.volumes, volume.id)


def _empty(made: Recording, asked: clients.Clients,
           inspector: inspection.Inspector,
           volumes: dict[str, str]) -> None:
    """The pool of most volumes, one of which has a snapshot."""
    pools = {name: inspector.shadow_vms()[each].disks[0].datastore
             for name, each in volumes.items()}
    pool = pools['db']
    snapshot = asked.python.volume_snapshots.create(volumes['db'],
                                                    name='nightly')
    asked.settled_snapshot(snapshot.id)
    made.title('Emptying a datastore', 'Its array is replaced. `db` is there, '
               'with a snapshot.')
    made.run('pool', 'drain', pool, '--reason', 'array is replaced', '--yes')
    made.run('pool', 'explain', '--size', '20', '--pool', pool)
    made.run('migrate', 'plan', pool)
    made.run('migrate', 'run', pool, '--yes')
    made.run('migrate', 'plan', pool)
    made.run('volume', 'list', '--pool', pool)
    made.run('pool', 'undrain', pool, '--yes')


def _lose_and_mend(made: Recording, inspector: inspection.Inspector,
                   volumes: dict[str, str]) -> None:
    made.title('A lost volume', 'An administrator has given the VM of `db` '
               'another name and another UUID.')
    moref = inspector.shadow_vms()[volumes['db']].moref
    machine = vim.VirtualMachine(moref, inspector.service._stub)
    task.WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(
        name='rescued', instanceUuid=str(uuid.uuid4()))))
    made.run('audit')
    made.run('volume', 'relink', 'db', '--vm', 'rescued', '--dry-run')
    made.run('volume', 'relink', 'db', '--vm', 'rescued', '--yes')


def _set_aside_and_bring_back(made: Recording,
                              inspector: inspection.Inspector,
                              volumes: dict[str, str]) -> None:
    """A copy of a volume's VM goes to quarantine, and comes back."""
    made.title('Quarantine', 'Somebody has cloned the VM of `mail` in the '
               'folder of volumes, with its marks.')
    found = inspector.shadow_vms()[volumes['mail']]
    machine = vim.VirtualMachine(found.moref, inspector.service._stub)
    configured = machine.config
    assert configured is not None
    cloned = machine.CloneVM_Task(
        folder=machine.parent, name='mail-copy', spec=vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(), template=False, powerOn=False,
            config=vim.vm.ConfigSpec(extraConfig=[
                each for each in configured.extraConfig
                if each.key.startswith(_MARKS)])))
    task.WaitForTask(cloned)
    copy = cloned.info.result._moId
    made.run('audit')
    made.run('sweep', '--minimum-age', '0', '--also', copy, '--act', '--yes')
    made.run('quarantine', 'list')
    made.run('quarantine', 'restore', copy, '--yes')
    made.run('audit')
    made.run('sweep', '--minimum-age', '0', '--also', copy, '--act', '--yes')
    made.run('quarantine', 'purge', '--older-than', '0', '--yes')


def _report(made: Recording) -> None:
    made.title('Figures, and what a report of a fault needs')
    made.run('metrics', most_lines=12)
    made.run('status')
    made.run('bundle', 'report.tar.gz')


def _vcenters_storage(made: Recording) -> None:
    made.title("The vCenter's storage")
    made.run('vc', 'cluster', 'list')
    made.run('vc', 'datastore', 'list')
    made.run('vc', 'disk', 'create', '[LocalDS_1] tools/scratch.vmdk',
             '--size', '1GiB', '--yes')
    made.run('vc', 'disk', 'delete', '[LocalDS_1] tools/scratch.vmdk',
             '--yes')
    made.run('vc', 'disk', 'delete', '[LocalDS_1] tools/none.vmdk', '--yes')
    made.run('vc', 'disk', 'list', '--datastore', 'LocalDS_1')
    made.run('vc', 'datastore', 'io', 'show', 'LocalDS_1')
    made.run('vc', 'datastore', 'rename', 'LocalDS_1', 'gold', '--yes')
    made.run('vc', 'snapshot', 'create', 'DC0_H0_VM0', 'before', '--yes')
    made.run('vc', 'snapshot', 'tree', 'DC0_H0_VM0')
    made.run('vc', 'snapshot', 'delete', 'DC0_H0_VM0', 'before', '--yes')
    made.title('Nothing is left to mend')
    made.run('audit')


def main() -> int:
    """Record, and write the page."""
    configuration.BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix='session-'))
    try:
        with cloud.Sandbox(
                folder / 'sandbox', options={
                    'vmware_lazy_create': False,
                    'vmdk_ext_status_port': servers.free_ports(1)[0]},
                simulator_arguments=('-ds', '3', '-ds-capacity', '100GiB'),
                progress=print) as sandbox:
            text = record(sandbox, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    PAGE.write_text(text + '\n', 'utf-8')
    print('written:', PAGE)
    return 0


if __name__ == '__main__':
    sys.exit(main())
