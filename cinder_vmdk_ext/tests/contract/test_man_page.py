# SPDX-License-Identifier: Apache-2.0
"""The manual page agrees with the help, and the examples can be used."""

import configparser
import re
import shlex
import shutil
import subprocess
import unittest

from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext.tests.contract import cli_page
from cinder_vmdk_ext.tests.contract import man_page
from tools import structure

ETC = structure.ROOT / 'etc'


class ManPageTestCase(unittest.TestCase):

    def test_the_page_is_current(self):
        self.assertEqual(man_page.text(),
                         man_page.PAGE.read_text('utf-8'),
                         'run make man-page')

    def test_man_reads_it_without_a_warning(self):
        groff = shutil.which('groff')
        if groff is None:
            self.skipTest('there is no groff')
        done = subprocess.run(
            [groff, '-man', '-Tutf8', '-ww', '-z', man_page.PAGE],
            capture_output=True, text=True)
        self.assertEqual((0, ''), (done.returncode, done.stderr))


class ExamplesTestCase(unittest.TestCase):

    def parsed(self, line):
        """What a command of an example means."""
        words = shlex.split(line)
        self.assertEqual(main.Application.NAME, words.pop(0))
        application = main.Application()
        options, rest = application.parser.parse_known_args(words)
        kind, name, arguments = application.command_manager.find_command(rest)
        known = {found: parser for found, _kind, parser
                 in cli_page.parsers(application)}
        return known[name].parse_args(arguments)

    def test_the_units_of_systemd_run_commands_that_there_are(self):
        units = sorted((ETC / 'systemd').iterdir())
        self.assertEqual({'.service', '.timer'},
                         {each.suffix for each in units})
        for path in units:
            unit = configparser.ConfigParser(strict=True)
            unit.optionxform = str
            unit.read(path)
            self.assertTrue(unit['Unit']['Description'])
            if path.suffix == '.service':
                self.assertTrue(self.parsed(
                    unit['Service']['ExecStart']).audit)
            else:
                self.assertTrue(path.with_suffix('.service').exists())
                self.assertEqual('timers.target',
                                 unit['Install']['WantedBy'])

    def test_cron_runs_commands_that_there_are(self):
        lines = [line for line
                 in (ETC / 'cron.example').read_text().splitlines()
                 if not line.startswith('#')]
        self.assertTrue(lines)
        for line in lines:
            found = re.fullmatch(r'(?:[\d*/]+ ){5}cinder (.*)', line)
            self.parsed(found[1])
