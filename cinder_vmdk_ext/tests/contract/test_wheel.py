# SPDX-License-Identifier: Apache-2.0
"""The content of the wheel that an operator installs."""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from urllib import parse
import zipfile

from cinder_vmdk_ext import driver
from cinder_vmdk_ext.tests.contract import seams
from tools import release_notes

ROOT = seams.PACKAGE.parent


def build(folder: str) -> pathlib.Path:
    """Build the wheel into a folder; the tree stays as it is."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', 'setup.py', '-q',
         'egg_info', '--egg-base', folder,
         'build', '--build-base', f'{folder}/build',
         'bdist_wheel', '--bdist-dir', f'{folder}/wheel',
         '--dist-dir', f'{folder}/dist'],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return next(pathlib.Path(folder, 'dist').glob('*.whl'))


class WheelTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix='wheel-')
        cls.addClassCleanup(folder.cleanup)
        cls.wheel = zipfile.ZipFile(build(folder.name))
        cls.addClassCleanup(cls.wheel.close)
        cls.names = cls.wheel.namelist()

    def test_it_holds_every_module_of_the_plugin_and_no_other(self):
        self.assertEqual(self.sources('*.py'), sorted(
            name for name in self.names if name.endswith('.py')))

    def test_it_holds_the_tables_that_modules_read(self):
        self.assertLessEqual(set(self.sources('*.txt')), set(self.names))

    @staticmethod
    def sources(pattern):
        """Files of the plugin without its tests."""
        return sorted(str(path.relative_to(ROOT))
                      for path in seams.PACKAGE.rglob(pattern)
                      if 'tests' not in path.relative_to(ROOT).parts)

    def test_it_holds_nothing_of_the_tests(self):
        self.assertEqual([], [name for name in self.names
                              if 'tests' in name.split('/')])

    def test_it_installs_what_is_in_etc(self):
        # Written by `make genconfig`, for which this file is.
        there = {path.relative_to(ROOT / 'etc') for path
                 in (ROOT / 'etc').rglob('*') if path.is_file()
                 and path.name != 'config-generator.conf'}
        share = '.data/data/share/cinder_vmdk_ext/'
        found = {pathlib.Path(name.partition(share)[2]): name
                 for name in self.names if share in name}
        self.assertEqual(there, set(found))
        for path, name in found.items():
            self.assertEqual((ROOT / 'etc' / path).read_bytes(),
                             self.wheel.read(name), name)

    def metadata(self):
        name = next(name for name in self.names
                    if name.endswith('.dist-info/METADATA'))
        return email.message_from_bytes(self.wheel.read(name))

    def test_it_names_addresses(self):
        found = self.metadata().get_all('Project-URL')
        self.assertTrue(found)
        for each in found:
            self.assertRegex(each, r'^[\w \']+, https://\S+$')

    def test_no_address_is_that_of_a_host_which_is_not_ours(self):
        """The project has none of its own yet: those of what it extends."""
        found = [each for name in ('Project-URL', 'Home-page', 'Download-URL')
                 for each in self.metadata().get_all(name) or ()]
        self.assertEqual({'docs.openstack.org'}, {
            parse.urlsplit(each.rpartition(' ')[2]).hostname
            for each in found})

    def test_one_version_is_everywhere(self):
        version = release_notes.version()
        built = re.sub(r'\.dev\d+$', '', self.metadata()['Version'])
        page = (ROOT / 'docs/cinder-vmdk-ext.8').read_text()
        self.assertEqual({version}, {
            built, driver.VmdkExtDriver.VERSION,
            re.search(r'^\.TH .* "cinder_vmdk_ext (.*)"$', page,
                      re.MULTILINE)[1],
            re.search(r"VERSION_WITHOUT_GIT = '(.*)'",
                      (ROOT / 'setup.py').read_text())[1],
            release_notes.InTree(None, version).versions[0]})
        self.assertIn(f'\n{version}\n', release_notes.text())

    def test_a_packaged_cinder_gets_it_as_the_page_says(self):
        """The commands of docs/install.md, in a folder in place of /opt."""
        page = (ROOT / 'docs/install.md').read_text()
        command = re.search(r'^python3 (-m pip install .*--target.*)$', page,
                            re.MULTILINE)[1]
        folder = pathlib.Path(self.wheel.filename).parent
        subprocess.run(
            [sys.executable, *command.replace(
                '/opt/', f'{folder}/').replace(
                'wheels/cinder_vmdk_ext-*.whl', self.wheel.filename).split(),
             '--quiet', '--no-compile'], check=True)
        target = folder / 'cinder-vmdk-ext'
        said = subprocess.run(
            [target / 'bin/cinder-vmdk-ext', '--version'],
            env={**os.environ, 'PYTHONPATH': str(target)}, cwd=folder,
            capture_output=True, text=True, check=True).stdout
        self.assertEqual(f'cinder-vmdk-ext {self.metadata()["Version"]}\n',
                         said)
        self.assertTrue(
            (target / 'share/cinder_vmdk_ext/cinder.conf.example').exists())

    def test_it_requires_what_requirements_txt_says(self):
        required = self.metadata().get_all('Requires-Dist')
        names = {line.split('>')[0].split('=')[0].strip() for line in
                 (ROOT / 'requirements.txt').read_text().splitlines()
                 if line and not line.startswith('#')}
        self.assertEqual(names, {
            each.split('>')[0].split('=')[0].strip() for each in required
            if 'extra ==' not in each})


if __name__ == '__main__':
    unittest.main()

    def test_an_image_of_kolla_gets_it_as_the_page_says(self):
        """The image's file, whose command is run in a folder in place of /.

        What cannot be tried without a container: that Kolla's image has this
        user, this first `python3`, and Cinder beside it.
        """
        page = (ROOT / 'docs/install.md').read_text()
        steps = [line.split(' ', 1) for line in re.search(
            r'^```dockerfile\n(.*?)^```', page, re.MULTILINE | re.DOTALL
        )[1].splitlines()]
        self.assertEqual(
            ['ARG', 'FROM', 'USER', 'COPY', 'RUN', 'USER'],
            [step for step, _rest in steps])
        rest = [each for _step, each in steps]
        self.assertEqual(('${BASE}', 'root', 'cinder'),
                         (rest[1], rest[2], rest[5]))
        self.assertEqual('BASE', rest[0])
        origin, there = rest[3].split()
        # As the page builds it, and as the image's folder of files has it.
        self.assertIn(f'--wheel-dir {origin.rstrip("/")} .', page)
        with tempfile.TemporaryDirectory(prefix='kolla-') as root:
            wheels = pathlib.Path(root, there.strip('/'))
            wheels.mkdir(parents=True)
            shutil.copy(self.wheel.filename, wheels)
            subprocess.run(
                ['sh', '-ec', rest[4].replace(there.rstrip('/'),
                                              str(wheels))],
                check=True, env={
                    **os.environ, 'PATH': ':'.join((
                        os.path.dirname(sys.executable), os.environ['PATH'])),
                    'PIP_NO_DEPS': '1',
                    'PIP_NO_INDEX': '1', 'PIP_TARGET': f'{root}/venv',
                    'PIP_NO_COMPILE': '1', 'PIP_QUIET': '1'})
            self.assertFalse(wheels.exists())
            self.assertTrue(pathlib.Path(
                root, 'venv/bin/cinder-vmdk-ext').exists())
            # What `docker exec` of the page runs.
            [command] = re.findall(r'^docker exec \w+ (.*)$', page,
                                   re.MULTILINE)
            ran = subprocess.run(
                [f'{root}/venv/bin/{command.split()[0]}',
                 *command.split()[1:], '--help'], env={
                     **os.environ, 'PYTHONPATH': f'{root}/venv'}, cwd=root,
                capture_output=True, text=True)
            self.assertEqual(0, ran.returncode, ran.stderr)
