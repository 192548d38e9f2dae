# SPDX-License-Identifier: Apache-2.0
"""The command's formats, errors in one line, and exit statuses."""

import csv
import io
import json
import logging
import unittest
from unittest import mock

import yaml

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext.cmd import main
from cinder_vmdk_ext import exceptions

LOG = logging.getLogger('cinder.volume.drivers.vmware')


class Backends:
    """No backend at all: there is one, called 'vmdk'."""

    def load(self, files):
        pass

    def names(self, wanted):
        if wanted not in (None, 'vmdk'):
            raise exceptions.InvalidSettings('--backend', 'wrong', 'no')
        return ['vmdk']


class Things(command.Listing):
    """List things."""

    COLUMNS = (columns.Column('name', 'Name'),
               columns.Column('size_bytes', 'Size', columns.size),
               columns.Column('why', 'Why'))

    def rows(self, parsed_args):
        LOG.debug('debugging')
        LOG.warning('a warning')
        names = self.names(parsed_args)
        if parsed_args.backend == 'vmdk':
            raise OSError('it broke\nand here are 100 lines more')
        return [(names[0], 3 << 29, 'because ' * 20)]


class Change(command.OfBackends):
    """Change two things, and ask before each."""

    def take_action(self, parsed_args):
        for name in 'ab':
            if self.app.agreed(f'Change {name}?'):
                self.app.stdout.write(f'changed {name}\n')


def run(*words, answers=''):
    """A run of the command: its status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(main.COMMANDS, {
            'thing list': f'{__name__}:Things',
            'thing change': f'{__name__}:Change'}):
        status = main.Application(
            Backends(), stdout=out, stderr=err,
            stdin=io.StringIO(answers)).run(list(words))
    return status, out.getvalue(), err.getvalue()


class MainTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        root = logging.getLogger()
        self.addCleanup(root.setLevel, root.level)
        self.addCleanup(setattr, root, 'handlers', list(root.handlers))
        root.handlers = []

    def test_a_table_fits_the_width(self):
        status, out, err = run('thing', 'list', '--max-width', '80')
        self.assertEqual((0, ''), (status, err))
        self.assertLessEqual(max(map(len, out.splitlines())), 80)
        self.assertIn('1.5 GiB', out)

    def test_programs_get_keys_and_units_that_are_their_own(self):
        wanted = {'name': 'vmdk', 'size_bytes': 3 << 29,
                  'why': 'because ' * 20}
        read = {'json': json.loads, 'yaml': yaml.safe_load,
                'csv': lambda text: list(csv.DictReader(io.StringIO(text)))}
        for form, parse in read.items():
            with self.subTest(form):
                status, out, _err = run('thing', 'list', '-f', form)
                [found] = parse(out)
                found['size_bytes'] = int(found['size_bytes'])
                self.assertEqual((0, wanted), (status, found))
        self.assertEqual((0, f'{3 << 29}\n', ''), run(
            'thing', 'list', '-f', 'value', '-c', 'size_bytes'))

    def test_a_failure_is_one_line_and_status_1(self):
        self.assertEqual((1, '', 'Error: it broke\n'),
                         run('thing', 'list', '--backend', 'vmdk'))

    def test_what_was_not_agreed_to_is_status_1(self):
        for answers, changed, failed in (
                ('y\nyes\n', 2, 0), ('y\nn\n', 1, 1), ('\n\n', 0, 1)):
            with self.subTest(answers):
                status, out, err = run('thing', 'change', answers=answers)
                self.assertEqual((failed, changed, 2), (
                    status, out.count('changed'), err.count('[y/N]')))
                self.assertNotIn('Error', err)

    def test_without_any_answer_the_option_that_answers_is_named_once(self):
        status, out, err = run('thing', 'change')
        self.assertEqual((1, '', 1), (status, out, err.count('--yes')))

    def test_a_wrong_call_is_status_2(self):
        for words in (['thing', 'list', '--backend', 'x'],
                      ['thing', 'list', '-c', 'colour'], ['thin', 'lost']):
            with self.subTest(words):
                status, out, err = run(*words)
                self.assertEqual((2, ''), (status, out))
                self.assertRegex(err, r'\AError: [^\n]*\n\Z')

    def test_libraries_are_heard_only_when_asked_for(self):
        spoken = io.StringIO()
        with mock.patch('logging.lastResort', logging.StreamHandler(spoken)):
            self.assertEqual('', run('thing', 'list')[2])
        self.assertEqual('', spoken.getvalue())
        self.assertEqual('Warning: a warning\n',
                         run('-v', 'thing', 'list')[2])
        self.assertIn('Debug: debugging', run('-vvv', 'thing', 'list')[2])

    def test_help_of_each_command_names_its_purpose(self):
        for name in main.COMMANDS:
            with self.subTest(name):
                status, out, _err = run(*name.split(), '--help')
                self.assertEqual(0, status)
                self.assertIn('usage: cinder-vmdk-ext ' + name, out)
