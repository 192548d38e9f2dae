# SPDX-License-Identifier: Apache-2.0
"""Configuration in the documents works, and the tests they name exist."""

import ast
import json
import pathlib
import re
import subprocess
import sys
import textwrap
import unittest

from cinder.message import message_field
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import config
from cinder_vmdk_ext import driver
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.contract import commands
from cinder_vmdk_ext.tests.contract import messages
from cinder_vmdk_ext.tests.contract import page_commands
from cinder_vmdk_ext.tests.contract import test_seams
from cinder_vmdk_ext.tests.contract import test_tree
from tools import structure

ROOT = test_tree.ROOT
FENCED = re.compile(r'^```ini\n(.*?)^```', re.MULTILINE | re.DOTALL)
TOCTREE = re.compile(r'^```\{toctree\}\n(.*?)^```', re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r'^\n((?: {4}.*\n|\n)+)', re.MULTILINE)
OPTION = re.compile(r'\b(?:vmdk_ext|vmware)_[a-z_]+\b')
# Properties of images in Glance.
NO_OPTIONS = {'vmware_adaptertype', 'vmware_disktype', 'vmware_image_version'}
TEST = re.compile(r'`(?:tests/)?([\w./]*\btest_\w+(?:\.\w+)*)`')


def documents():
    return [path for path in test_tree.files() if path.suffix == '.md']


def blocks(text):
    """The pieces of a configuration in a document."""
    yield from FENCED.findall(text)
    for found in INDENTED.findall(text):
        block = textwrap.dedent(found).strip('\n')
        if re.match(r'\[\w+\]$', block.partition('\n')[0]):
            yield block + '\n'


def run(given):
    """What is wrong with each block."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m',
         'cinder_vmdk_ext.tests.contract.config_blocks'],
        input=json.dumps(given), capture_output=True, text=True, check=True,
        cwd=ROOT)
    return json.loads(done.stdout)


class ConfigurationTestCase(unittest.TestCase):
    """E12: oslo.config keeps a comment behind a value."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.found = [(path.name, block) for path in documents()
                     for block in blocks(path.read_text('utf-8'))]
        example = (ROOT / 'etc/cinder.conf.example').read_text()
        sample = (ROOT / 'etc/cinder_vmdk_ext.conf.sample').read_text()
        cls.found += [
            (f'{name}, with all that is commented out', uncommented(text))
            for name, text in (('cinder.conf.example', example),
                               ('conf.sample', sample))]
        cls.wrong = [
            '[vmdk]\nvmware_host_ip = a  # the vCenter\n',
            '[vmdk]\nvmdk_ext_pods = true\n', '[DEFAULT]\nclustr = a\n',
            '[vmdk]\nvmware_host_port = https\n', 'x = 1\n',
            '[vmdk]\nvmware_host_ip = https://vcenter/sdk\n',
            '[vmdk]\nvmware_datastore_regex = cinder-(\n',
            '[coordination]\nbackend_url = a ; b\n']
        told = run([*(block for _name, block in cls.found), *cls.wrong])
        cls.told = told[:len(cls.found)]
        cls.told_of_wrong = told[len(cls.found):]

    def test_every_block_in_the_documents_loads_as_it_stands(self):
        self.assertEqual([], [
            (name, each) for (name, _block), problems
            in zip(self.found, self.told, strict=True) for each in problems])
        self.assertLessEqual(
            {'README.md', 'active-active.md', 'images.md', 'outages.md'},
            {name for name, _block in self.found})

    def test_blocks_with_mistakes_are_noticed(self):
        for block, problems in zip(self.wrong, self.told_of_wrong,
                                   strict=True):
            self.assertEqual(1, len(problems), block)

    def test_options_named_in_documents_exist(self):
        known = NO_OPTIONS | {
            option.dest for option in [*vmdk.vmdk_opts, *config.vmdk_ext_opts]}
        self.assertEqual([], [
            f'{path.name}: {name}' for path in documents()
            for name in sorted(set(OPTION.findall(path.read_text('utf-8'))))
            if name not in known and not name.endswith('_')])


def uncommented(text):
    """A sample with every option that it shows switched on."""
    return re.sub(r'^#(\w+ = )', r'\1', text, flags=re.MULTILINE)


# Tests of other projects, which a page may name.
OTHERS_TESTS = ('tempest.', 'cinder_tempest_plugin.')


class NamedTestsTestCase(unittest.TestCase):
    """A claim that names its test is as good as that test."""

    def test_the_tests_that_documents_name_exist(self):
        there = all_tests()
        self.assertEqual([], [
            f'{path.name}: {name}' for path in documents()
            for name in TEST.findall(path.read_text('utf-8'))
            if 'NAME' not in name and not name.startswith(OTHERS_TESTS)
            and not exists(name, there)])

    def test_each_claim_of_the_security_page_names_one(self):
        text = (ROOT / 'docs/security.md').read_text('utf-8')
        without = [line for line in claims(text) if not TEST.search(line)
                   and 'no test' not in line]
        self.assertEqual([], without)
        self.assertLess(20, len(claims(text)))


class LeniencyTestCase(unittest.TestCase):
    """The simulator's README names each file that turns a rule off."""

    def test_the_readme_names_who_asks_for_a_leniency(self):
        readme = (ROOT / 'simulator/README.md').read_text('utf-8')
        named = {path.rpartition('/')[2] for path in re.findall(
            r'`([\w/]+\.py)`', readme.partition('Rules are turned off in')[2]
            .partition('\n## ')[0])}
        own = {'client.py', 'vcenter_case.py', 'test_documents.py'}
        asking = {
            path.name for path in test_tree.files()
            if path.suffix == '.py' and path.name not in own
            and re.search(r"""\blenient(=|'?:| =) *[^()\s]""",
                          path.read_text('utf-8'))}
        own_tests = {
            path.name for path in test_tree.files()
            if path.parent.name == 'conformance'
            and 'Lenient' in path.read_text('utf-8')}
        self.assertEqual(named, asking - own_tests)


class TroubleshootingTestCase(unittest.TestCase):
    """docs/troubleshooting.md has what the code says, and all of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rows = [
            re.split(r' *\| ', line[2:]) for line
            in (ROOT / 'docs/troubleshooting.md').read_text().splitlines()
            if line.startswith('| ')]
        cls.listed = [found for row in cls.rows
                      for found in re.findall('`([^`]+)`', row[0])]

    def test_each_message_listed_is_in_the_code(self):
        texts = messages.texts()
        users = {text for kind in (message_field.Action, message_field.Detail)
                 for _id, text in kind.ALL}
        self.assertEqual([], [
            each for each in self.listed
            if not any(messages.is_of(each, text) for text in texts)
            and not set(each.split(':', 1)) <= users])
        self.assertLess(100, len(self.listed))

    def test_a_message_that_is_not_in_the_code_is_noticed(self):
        self.assertTrue(messages.is_of('disk ... of ...', 'the disk ... of x'))
        self.assertFalse(messages.is_of('disk ... of', 'of the disk ...'))

    def test_each_class_of_errors_is_listed(self):
        ours = {name for name, kind in vars(exceptions).items()
                if isinstance(kind, type)
                and kind.__module__ == exceptions.__name__}
        self.assertEqual(set(), ours - {
            row[1] for row in self.rows if len(row) > 3})

    def test_each_warning_and_error_of_the_log_is_listed(self):
        starts = tuple(each.rstrip('. ;:') for each in self.listed)
        self.assertEqual([], [
            text for text in messages.logged()
            if text.strip('. ') and not text.startswith(starts)])


class IndexTestCase(unittest.TestCase):

    def test_each_page_is_in_a_list_of_pages(self):
        """Sphinx warns of any other, and a warning fails `make test`."""
        docs = ROOT / 'docs'
        pages = {path.relative_to(docs).with_suffix('') for path
                 in docs.rglob('*.md')}
        listed = {pathlib.Path('index')}
        for page in pages:
            text = (docs / page).with_suffix('.md').read_text('utf-8')
            for block in TOCTREE.findall(text):
                listed |= {page.parent / re.sub(r'.*<(.*)>', r'\1', line)
                           for line in block.split('\n')
                           if line and not line.startswith(':')}
        self.assertEqual(pages, listed)


class SupportMatrixTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.releases, _title, cls.functions = (
            (ROOT / 'docs/support-matrix.md').read_text().partition(
                '## Functions'))

    def test_its_releases_are_those_of_the_package_and_the_seams(self):
        rows = dict(re.findall(r'^\| ([\w.]+) \| ([^|]+?) \|',
                               self.releases, re.MULTILINE))
        setup = (ROOT / 'setup.cfg').read_text()
        self.assertEqual(
            re.findall(r'Python :: (3\.\d+)', setup),
            rows['Python'].split(', '))
        self.assertEqual(
            [each.removeprefix('cinder ') for each in test_seams.SUPPORTED
             if each.startswith('cinder ')], rows['Cinder'].split(', '))

    def test_it_names_what_the_driver_declares(self):
        has = driver.VmdkExtDriver.SUPPORTS_ACTIVE_ACTIVE
        self.assertIn(f'| active-active | {"yes" if has else "no"} |',
                      self.functions)


class CommandsTestCase(unittest.TestCase):
    """The commands in code blocks are understood by their programs."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.found = [
            (path.name, line) for path in documents()
            for line in commands.lines(path.read_text('utf-8'))]
        cls.wrong = ['cinder-vmdk-ext pool lst',
                     'cinder-vmdk-ext sweep --minimum-age old',
                     'openstack volume qos create --consumer disk x',
                     'cinder get-pool', 'make nothing',
                     'python3 -m pip install --no-such-option x']
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m',
             'cinder_vmdk_ext.tests.contract.commands'],
            input=json.dumps([line for _name, line in cls.found]
                             + cls.wrong),
            capture_output=True, text=True, check=True, cwd=ROOT)
        cls.problems = json.loads(done.stdout)

    def test_each_command_is_understood(self):
        self.assertEqual([], [
            (name, line, problem) for (name, line), problem
            in zip(self.found, self.problems, strict=False) if problem])
        self.assertLess(50, len(self.found))

    def test_commands_with_mistakes_are_noticed(self):
        for line, problem in zip(self.wrong,
                                 self.problems[len(self.found):],
                                 strict=True):
            self.assertTrue(problem, line)


class PageCommandsTestCase(unittest.TestCase):
    """`make docs-run` runs the commands of the operator's pages."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.found = [line for page in page_commands.PAGES
                     for line in page_commands.of_page(page)]

    def test_each_command_is_run_or_has_a_reason(self):
        self.assertEqual([], [line for line in self.found
                              if not page_commands.has_rule(line)])
        self.assertLess(50, len(self.found))

    def test_each_rule_is_of_a_command(self):
        self.assertEqual([], [
            begin for begin in (*page_commands.RUN, *page_commands.NOT_HERE)
            if not any(line.startswith(begin) for line in self.found)])

    def test_a_command_without_a_rule_is_noticed(self):
        found = list(page_commands.lines(
            '```sh\nsystemctl restart cinder\n```\n\n'
            '    cinder-vmdk-ext metrics\n    no command\n'))
        self.assertEqual(
            ['systemctl restart cinder', 'cinder-vmdk-ext metrics'], found)
        self.assertFalse(any(map(page_commands.has_rule, found)))


def claims(text):
    """The rows of the tables of who can do what."""
    found, inside = [], False
    for line in text.splitlines():
        inside = line.startswith('| claim') or inside and line.startswith('|')
        if inside and not re.match(r'\| (claim|-)|\|-', line):
            found.append(line)
    return found


def all_tests():
    """Every test by its module, class and name, as dotted parts."""
    found = set()
    for path in test_tree.files():
        if path.suffix != '.py' or not path.name.startswith('test_'):
            continue
        parts = path.relative_to(ROOT).with_suffix('').parts
        found.add(parts)
        for node in structure.parsed(path).body:
            if isinstance(node, ast.ClassDef):
                found.add((*parts, node.name))
                found |= {(*parts, node.name, each.name) for each in node.body
                          if isinstance(each, ast.FunctionDef)}
    return found


def exists(name, there):
    """Whether some test, class or module ends in these parts."""
    wanted = tuple(name.removesuffix('.py').replace('/', '.').split('.'))
    if wanted[-1].startswith('test_') and len(wanted) == 1:
        return any(wanted[0] == parts[-1] for parts in there)
    return any(parts[-len(wanted):] == wanted for parts in there)


if __name__ == '__main__':
    unittest.main()
