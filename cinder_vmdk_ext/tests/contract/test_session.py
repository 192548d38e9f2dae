# SPDX-License-Identifier: Apache-2.0
"""The recorded session of the command line is one of today's commands."""

import re
import shlex
import unittest

from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.tests.contract import cli_page
from tools import structure

PAGE = structure.ROOT / 'docs' / 'session.md'
_RUN = re.compile(r'```console\n\$ (.*?)\n(.*?)```', re.DOTALL)


def header(output):
    """The cells of the first row of a table; a cell may wrap."""
    lines = output.splitlines()
    ruled = [number for number, line in enumerate(lines)
             if line.startswith('+-')]
    if len(ruled) < 2:
        return []
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in lines[ruled[0] + 1:ruled[1]]]
    return [' '.join(filter(None, cells)) for cells in zip(*rows)]


class SessionTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.page = PAGE.read_text('utf-8')
        self.runs = [(shlex.split(words)[1:], output)
                     for words, output in _RUN.findall(self.page)]
        self.application = main.Application()

    def command(self, words):
        kind, name, rest = self.application.command_manager.find_command(
            list(words))
        return kind, kind(self.application, None, name).get_parser(
            name).parse_args(rest)

    def test_it_goes_from_check_to_audit(self):
        words = [' '.join(each) for each, _out in self.runs]
        self.assertEqual(('check', 'audit'), (words[0], words[-1]))
        self.assertEqual(len(self.runs), self.page.count('\n$ '))
        for purpose in ('pool explain', 'volume list', 'migrate run',
                        'volume relink', 'vc datastore list', 'bundle'):
            self.assertTrue([each for each in words
                             if each.startswith(purpose)], purpose)

    def test_its_commands_and_columns_are_those_of_now(self):
        for words, output in self.runs:
            with self.subTest(' '.join(words)):
                kind, _parsed = self.command(words)
                titles = [each.title for each in getattr(kind, 'COLUMNS', ())]
                cells = header(output)
                if cells == ['Field', 'Value']:
                    cells = [line.split('|')[1].strip()
                             for line in output.splitlines()[3:]
                             if line.startswith('| ')]
                    cells = list(filter(None, cells))
                self.assertEqual(
                    [], [each for each in cells
                         if not any(self.same(each, title)
                                    for title in titles)])

    @staticmethod
    def same(cell, title):
        """Whether a cell is a title, which a narrow column cuts anywhere."""
        return cell.replace(' ', '') == title.replace(' ', '') or (
            title.startswith(cell))

    def test_it_names_nothing_of_where_it_was_recorded(self):
        self.assertNotRegex(self.page, r'/(work|root|home|dev/shm)/')
        self.assertNotRegex(self.page, r'(?i)traceback|password: \S')
        self.assertIn(f'({PAGE.name})', cli_page.PAGE.read_text('utf-8'))
        self.assertIn(f'(docs/{PAGE.name})',
                      (structure.ROOT / 'README.md').read_text('utf-8'))


if __name__ == '__main__':
    unittest.main()
