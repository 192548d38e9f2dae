# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of the operator's pages, in the pages' order.

    make docs-run

The commands are those of `page_commands`. Installations go to a folder in
place of /opt and /usr/local; the others find a real Cinder and a simulated
vCenter. What an operator replaces (names, ids) is replaced by what is there.
It downloads from the package index that pip is configured for.
"""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
import sysconfig
import unittest
import uuid

from pyVim import task
from pyVmomi import vim

from cinder_vmdk_ext.tests.contract import page_commands
from sandbox import configuration
from sandbox.tests import sandbox_case

ROOT = configuration.REPOSITORY
VOLUME = '5f0c9c1e-6f7a-4b0e-9d4f-0d8f6f1f7a11'
SNAPSHOT = '0c4d5a8e-9f3b-4d0e-8a0b-1f2f3a4b5c6d'
#: The status of an audit that has found something, and a lost volume.
FOUND, LOST = 3, 4
#: Exit with 3 where the run has damaged something, or something stays.
FINDING = tuple('cinder-vmdk-ext ' + each for each in (
    'audit', 'volume list', 'repair --dry-run', 'migrate'))
_SECONDS = 600


class Shell:
    """Runs lines as an operator's shell does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {name: value for name, value in os.environ.items()
                          if not name.startswith(('OS_', 'PYTHON'))}
        self.replaced: dict[str, str] = {}

    def run(self, line: str) -> tuple[int, str]:
        """Run a line with everything replaced, and yes to each question.

        :returns: its exit status, and all that it said
        """
        for old, new in self.replaced.items():
            line = line.replace(old, new)
        done = subprocess.run(
            ['bash', '-c', line], cwd=self.folder, env=self.variables,
            input='y\n' * 20, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=_SECONDS)
        return done.returncode, done.stdout

    def program(self, name: str, *words: str) -> None:
        """Make a program that is first in PATH."""
        folder = self.folder / 'programs'
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text('#!/bin/sh\nexec ' + ' '.join(words) + '\n')
        path.chmod(0o755)
        if str(folder) not in self.variables['PATH']:
            self.variables['PATH'] = f'{folder}:{self.variables["PATH"]}'


def of_installation(line: str) -> bool:
    """Whether a line installs, and does not operate, the plugin."""
    return 'pip' in line or '/opt/' in line


class PageCase(unittest.TestCase):
    """A page's commands, each with the status that the page promises."""

    def walk(self, page: str) -> None:
        for line in page_commands.of_page(page):
            why = page_commands.reason(line)
            if why is not None:
                print(f'  not run ({why}): {line}', file=sys.stderr)
                continue
            if not self.is_here(line):
                continue
            self.prepare(line)
            status, said = self.shell.run(line)
            print(f'  [{status}] {line}', file=sys.stderr)
            if status:
                print(said, file=sys.stderr)
            with self.subTest(page=page, line=line):
                self.assertIn(status, self.allowed(page, line), said)
                self.look(line)

    def is_here(self, line: str) -> bool:
        """Whether this class runs a line."""
        return True

    def prepare(self, line: str) -> None:
        """Make so what has to be so before a line."""

    def allowed(self, page: str, line: str) -> tuple[int, ...]:
        """The statuses with which a line may end."""
        return (0,)

    def look(self, line: str) -> None:
        """Look at the effect of a line."""


def with_cinder(path: Path, *without: str) -> Path:
    """A virtual environment in which Cinder is, and the plugin is not.

    :param without: beginnings of names of further modules that it lacks
    :returns: its `python`
    """
    subprocess.run([sys.executable, '-m', 'venv', path], check=True)
    theirs = Path(sysconfig.get_path('purelib'))
    seen = path / 'cinder'
    seen.mkdir()
    for each in theirs.iterdir():
        if not each.name.lstrip('_').startswith(
                ('editable__', 'cinder_vmdk_ext', 'pip', *without)):
            (seen / each.name).symlink_to(each)
    own = next(path.glob('lib/python*/site-packages'))
    (own / 'cinder.pth').write_text(f'{seen}\n')
    return path / 'bin' / 'python'


class InstallTestCase(PageCase):
    """Build, virtual environment, packaged Cinder, without a network."""

    def setUp(self):
        super().setUp()
        self.folder = sandbox_case.new_folder(self.addCleanup)
        source = self.folder / 'source'
        source.mkdir()
        archive = subprocess.run(['git', 'archive', 'HEAD'], cwd=ROOT,
                                 check=True, capture_output=True).stdout
        subprocess.run(['tar', '-x', '-C', source], input=archive, check=True)
        self.shell = Shell(source)
        self.opt = self.folder / 'opt'
        self.local = self.folder / 'local'
        self.site = self.folder / 'site'
        for path in (self.opt, self.local, self.site):
            path.mkdir()
        self.shell.replaced = {
            '/opt/': f'{self.opt}/',
            '/usr/local/bin/': f'{self.local}/',
            "$(python3 -c 'import site; print(site.getsitepackages()[0])')":
                str(self.site)}
        self.shell.program('python3', sys.executable, '"$@"')

    def prepare(self, line):
        if 'opt/cinder/bin' in line:
            # Each time as it was before the plugin.
            subprocess.run(['rm', '-rf', self.opt / 'cinder'], check=True)
            with_cinder(self.opt / 'cinder', *(
                ('cliff', 'prometheus_client')
                if '--no-index' in line else ()))
            if '--no-index' in line:
                self.shell.variables['PIP_INDEX_URL'] = 'http://127.0.0.1:1/'

    def is_here(self, line):
        return of_installation(line)

    def look(self, line):
        """Whether what was installed is there."""
        if 'opt/cinder/bin' in line:
            self.assertIn('cinder-vmdk-ext 0', self.said(
                self.opt / 'cinder/bin/cinder-vmdk-ext', '--version'))
            self.assertIn('True', self.said(
                self.opt / 'cinder/bin/python', '-c',
                'from cinder_vmdk_ext import driver; '
                f'print(driver.__file__.startswith("{self.opt}"))'))
        elif line.startswith('ln -s'):
            self.assertIn('cinder-vmdk-ext 0', self.said(
                sys.executable, '-c',
                f'import site, sys; sys.path = [each for each in sys.path '
                f'if each != ""]; site.addsitedir("{self.site}"); '
                'from importlib import metadata; '
                'print("cinder-vmdk-ext", '
                f'*[each.version for each in metadata.distributions('
                f'name="cinder-vmdk-ext", path=["{self.opt}/'
                'cinder-vmdk-ext"])])'))
            self.assertTrue((self.local / 'cinder-vmdk-ext').exists())

    def said(self, *words):
        return subprocess.run(
            [str(word) for word in words], env=self.shell.variables,
            cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True).stdout

    def test_the_page_installs(self):
        self.walk('docs/install.md')

    def test_a_python_of_the_distribution_refuses_pip(self):
        """PEP 668: what the page says of Debian's Python."""
        python = '/usr/bin/python3'
        if not list(Path('/usr/lib').glob('python3*/EXTERNALLY-MANAGED')):
            self.skipTest('the Python here is not of a distribution')
        self.assertEqual(0, self.shell.run(page_commands.of_page(
            'docs/install.md')[0])[0])
        status, said = self.shell.run(
            f'{python} -m pip install --no-deps --no-index '
            'wheels/cinder_vmdk_ext-*.whl')
        self.assertEqual(1, status, said)
        self.assertIn('error: externally-managed-environment', said)
        line = next(line for line in page_commands.of_page('docs/install.md')
                    if '--target' in line)
        status, said = self.shell.run(line.replace('python3', python, 1))
        self.assertEqual(0, status, said)
        self.assertTrue(
            (self.opt / 'cinder-vmdk-ext/cinder_vmdk_ext').is_dir())


class OperatingTestCase(sandbox_case.SandboxCase, PageCase):
    """The pages for a Cinder that is there."""

    SIMULATOR = ['-ds', '4', '-ds-capacity', '400GiB',
                 '-policy', 'gold=LocalDS_1,LocalDS_2']
    arguments = {'options': {'vmware_lazy_create': False,
                             'vmware_snapshot_format': 'COW'}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = sandbox_case.new_folder(cls.addClassCleanup)
        cls.shell = Shell(folder)
        cls.shell.variables |= {
            'VCENTER_PASSWORD': cls.sandbox.vcenter.password,
            'PYTHONPATH': str(ROOT), 'CLIFF_FIT_WIDTH': '0'}
        for name in 'cinder', 'openstack':
            cls.shell.program(name, str(cls.sandbox.folder / 'bin' / name),
                              '"$@"')
        cls.shell.program(
            'cinder-vmdk-ext', sys.executable, '-W ignore -m',
            'cinder_vmdk_ext.cmd.main', '"$@"', '--config-file',
            str(cls.sandbox.cinder_conf))
        cls.instance = next(
            each for each in cls.inspector.machines()
            if not each.is_template and each.name.startswith('DC0_C0'))
        cls.shell.replaced = {
            '--backend vmdk': '--backend vcenter',
            # What it sweeps here is new.
            '--yes --also': '--minimum-age 0 --yes --also',
            'cinder-1@vmdk': f'{configuration.HOST}@vcenter',
            'gold-1': 'LocalDS_0', 'gold-2': 'LocalDS_2',
            'gold-3': 'LocalDS_3',
            '/var/lib/cinder/': f'{folder}/',
            '/tmp/report.tar.gz': f'{folder}/report.tar.gz',
            f'--instance {VOLUME}': f'--instance {cls.instance.instance_uuid}',
            '--cluster compute': '--cluster DC0_C0',
            'gold compute': 'gold DC0_C0',
            ' web-1 ': f' {cls.instance.name} ',
            'storage@vsphere.local': cls.sandbox.vcenter.user}

    def machine(self, moref):
        return vim.VirtualMachine(moref, self.inspector.service._stub)

    def volume(self, named=VOLUME, vm='vm-1203'):
        """A volume of the thin type, and its VM.

        :param named: what the page calls the volume
        :param vm: what the page calls the VM; '': it does not
        """
        made = self.cinder.volumes.create(1, volume_type='thin')
        self.clients.settled_volume(made.id)
        self.shell.replaced[named] = made.id
        moref = self.inspector.shadow_vms()[made.id].moref
        if vm:
            self.shell.replaced[vm] = moref
        return made, self.machine(moref)

    def prepare(self, line):
        for begin, make in (
                ('cinder-vmdk-ext sweep --act --yes --also', self.copy),
                ('cinder-vmdk-ext repair 5f', self.renamed),
                ('cinder-vmdk-ext volume relink 5f0c9c1e-6f7a-4b0e-9d4f-'
                 '0d8f6f1f7a11 --vm', self.unknown),
                ('cinder-vmdk-ext volume relink 5f0c9c1e-6f7a-4b0e-9d4f-'
                 '0d8f6f1f7a11 --disk', self.moved),
                ('cinder-vmdk-ext snapshot relink', self.snapshot)):
            if line.startswith(begin):
                make()

    def copy(self):
        """A second VM with a volume's marks."""
        _volume, machine = self.volume()
        made = task_result(machine.CloneVM_Task(
            machine.parent, 'copy', vim.vm.CloneSpec(
                location=vim.vm.RelocateSpec(), powerOn=False,
                template=False)))
        self.shell.replaced['vm-1203'] = made._moId

    def renamed(self):
        _volume, machine = self.volume(vm='')
        task_result(machine.Rename_Task('other'))

    def unknown(self):
        """A VM without its name and instance UUID."""
        _volume, machine = self.volume()
        task_result(machine.ReconfigVM_Task(vim.vm.ConfigSpec(
            name='rescued', instanceUuid=str(uuid.uuid4()))))
        self.lost = machine

    def moved(self):
        """The same one's VM is gone, its disk has another path."""
        disk = next(each for each in self.lost.config.hardware.device
                    if isinstance(each, vim.vm.device.VirtualDisk))
        path = disk.backing.fileName
        store = path.partition(']')[0] + ']'
        self.lost.UnregisterVM()
        content = self.inspector.service.RetrieveContent()
        datacenter = content.rootFolder.childEntity[0]
        content.fileManager.MakeDirectory(
            f'{store} rescued', datacenter, True)
        task_result(content.virtualDiskManager.MoveVirtualDisk_Task(
            path, datacenter, f'{store} rescued/data.vmdk', datacenter,
            False))
        self.shell.replaced['[gold] rescued'] = f'{store} rescued'

    def snapshot(self):
        volume, machine = self.volume()
        made = self.cinder.volume_snapshots.create(volume.id)
        self.clients.settled_snapshot(made.id)
        taken = machine.snapshot.rootSnapshotList[0].snapshot
        taken.RenameSnapshot('other', None)
        self.shell.replaced |= {SNAPSHOT: made.id,
                                'snapshot-1307': taken._moId}

    def test_the_pages_in_their_order(self):
        for page in page_commands.PAGES:
            print(page, file=sys.stderr)
            self.walk(page)

    def is_here(self, line):
        if line.startswith('export '):
            name = line.removeprefix('export ').partition('=')[0]
            self.shell.variables[name] = self.sandbox.vcenter.user
            return False
        return not of_installation(line)

    def allowed(self, page, line):
        """An audit finds what the run has damaged: then it is 3 or 4."""
        if line.startswith('cinder-vmdk-ext check'):
            return 0, FOUND  # two of four pools take the type gold
        if page in ('docs/audit.md', 'docs/cli.md') and line.startswith(
                FINDING):
            return 0, FOUND, LOST
        return (0,)


def task_result(one):
    task.WaitForTask(one)
    return one.info.result


if __name__ == '__main__':
    unittest.main()
