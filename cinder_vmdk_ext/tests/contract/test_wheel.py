# SPDX-License-Identifier: Apache-2.0
"""The content of the wheel that an operator installs."""

import email
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

from cinder_vmdk_ext.tests.contract import seams

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

    def test_it_installs_the_sample_configuration(self):
        for name in ('cinder.conf.example', 'cinder_vmdk_ext.conf.sample'):
            found = [each for each in self.names if each.endswith(
                f'.data/data/share/cinder_vmdk_ext/{name}')]
            self.assertEqual(1, len(found), name)
            self.assertEqual((ROOT / 'etc' / name).read_bytes(),
                             self.wheel.read(found[0]))

    def test_it_requires_what_requirements_txt_says(self):
        metadata = next(name for name in self.names
                        if name.endswith('.dist-info/METADATA'))
        required = email.message_from_bytes(
            self.wheel.read(metadata)).get_all('Requires-Dist')
        names = {line.split('>')[0].split('=')[0].strip() for line in
                 (ROOT / 'requirements.txt').read_text().splitlines()
                 if line and not line.startswith('#')}
        self.assertEqual(names, {
            each.split('>')[0].split('=')[0].strip() for each in required
            if 'extra ==' not in each})


if __name__ == '__main__':
    unittest.main()
