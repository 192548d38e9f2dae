# SPDX-License-Identifier: Apache-2.0
"""Rules for all files of the project."""

import configparser
import pathlib
import re
import sys
import unittest

from cinder_vmdk_ext.tests.contract import seams
from tools import structure
from tools import uv_install

ROOT = seams.PACKAGE.parent
PARTS = ('benchmarks', 'cinder_vmdk_ext', 'docs', 'etc', 'sandbox',
         'simulator', 'tools')
SOURCES = frozenset({'.py', '.go', '.sh'})
IMPORTED_AS = {'openstacksdk': 'openstack', 'suds-community': 'suds',
               'prometheus-client': 'prometheus_client'}
LINK = re.compile(r'\]\((?!https?:)([^)#\s]+)')
SOURCE = re.compile(r'`([\w/.-]+/)?([\w-]+\.(?:py|go|sh))`')
MAKE = re.compile(r'`make ([a-z-]+)')


def files() -> list[pathlib.Path]:
    """The files of the tree; what is generated stays in build/."""
    found = [path for path in ROOT.glob('*') if path.is_file()]
    for part in PARTS:
        found += (path for path in (ROOT / part).rglob('*')
                  if path.is_file() and '__pycache__' not in path.parts)
    return sorted(found)


class TreeTestCase(unittest.TestCase):

    def test_every_source_names_its_licence(self):
        without = [
            str(path) for path in files() if path.suffix in SOURCES
            and 'SPDX-License-Identifier: Apache-2.0'
            not in path.read_text(encoding='utf-8')[:300]]
        self.assertEqual([], without)

    def test_no_file_holds_the_marks_of_a_merge(self):
        begin = re.compile('^(<{7} |>{7} )', re.MULTILINE)
        self.assertEqual([], [
            str(path) for path in files()
            if begin.search(path.read_bytes().decode(errors='replace'))])

    def test_links_between_documents_lead_somewhere(self):
        broken = []
        for path in files():
            if path.suffix == '.md':
                broken += [
                    f'{path}: {target}'
                    for target in LINK.findall(path.read_text('utf-8'))
                    if not (path.parent / target).exists()]
        self.assertEqual([], broken)

    def test_sources_named_in_documents_exist(self):
        there = {path.name for path in files()}
        gone = {f'{path.name}: {name}' for path in files()
                if path.suffix == '.md'
                for folder, name in SOURCE.findall(path.read_text('utf-8'))
                if name not in there and 'NAME' not in name
                and not folder.startswith('cinder/')}
        self.assertEqual(set(), gone)

    def test_every_make_target_told_of_exists(self):
        targets = set(re.findall(
            r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
        named = {name for path in files() if path.suffix == '.md'
                 for name in MAKE.findall(path.read_text('utf-8'))}
        self.assertEqual(set(), named - targets)

    def test_what_the_plugin_imports_is_required(self):
        lines = (ROOT / 'requirements.txt').read_text().splitlines()
        extras = configparser.ConfigParser()
        extras.read(ROOT / 'setup.cfg')
        for needed in extras['extras'].values():
            lines += needed.split('\n')
        required = {
            re.split(r'[<>=!~ ]', line)[0].lower().replace('.', '_')
            for line in lines if line and not line.startswith('#')}
        required |= {IMPORTED_AS.get(name, name) for name in required}
        imported = set()
        for tree in seams.our_modules().values():
            imported |= {name.partition('.')[0]
                         for name in structure.imports(tree)}
        ours = {seams.PACKAGE.name, '', *sys.stdlib_module_names}
        self.assertEqual(set(), imported - ours - required)


if __name__ == '__main__':
    unittest.main()


class InstallTestCase(unittest.TestCase):
    """uv knows where pip finds packages, or pip installs them."""

    def test_where_pip_looks_is_where_uv_looks(self):
        found = uv_install.variables(
            ":env:.find-links='/no/such/folder https://links.example/'\n"
            ":env:.index-url='https://first.example/simple'\n"
            "global.cert='/etc/ssl/own.crt'\n"
            "global.extra-index-url='\\nhttps://a.example\\nhttps://b.example'"
            "\n"
            "global.index-url='https://second.example/simple'\n")

        self.assertEqual({
            'UV_INDEX_STRATEGY': 'unsafe-best-match',
            'UV_DEFAULT_INDEX': 'https://first.example/simple',
            'UV_INDEX': 'https://a.example https://b.example',
            'UV_FIND_LINKS': 'https://links.example/',
            'SSL_CERT_FILE': '/etc/ssl/own.crt'}, found)

    def test_a_timeout_alone_changes_nothing_but_the_timeout(self):
        self.assertEqual(
            {'UV_INDEX_STRATEGY': 'unsafe-best-match',
             'UV_HTTP_TIMEOUT': '180'},
            uv_install.variables("global.timeout='180'\n"
                                 "global.disable-pip-version-check='1'\n"))

    def test_an_option_that_is_not_known_leaves_it_to_pip(self):
        self.assertIsNone(uv_install.variables(
            "global.index-url='https://first.example'\n"
            "install.constraint='others.txt'\n"))
