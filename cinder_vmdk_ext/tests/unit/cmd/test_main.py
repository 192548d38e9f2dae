# SPDX-License-Identifier: Apache-2.0
"""The command's formats, errors in one line, and exit statuses."""

import csv
import io
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
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

    def test_wrong_options_are_one_line_and_status_2(self):
        for words, why in (
                (['thing', 'list', '--wrong'], 'unrecognized arguments'),
                (['thing', 'list', '--format', 'xml'], 'invalid choice'),
                (['thing', 'list', '--config-file', ''], 'is empty'),
                (['thing', 'list', '--config-file', 'a\x1b'], 'printed'),
                (['thing', 'list', '--config-file', 'x' * 5000], 'at most'),
                (['-v'], 'there is no command'),
                (['--log-file'], 'expected one argument'),
                (['-v', '-q', 'thing', 'list'], 'not allowed with')):
            with self.subTest(words):
                status, out, err = run(*words)
                self.assertEqual((2, ''), (status, out), err)
                self.assertRegex(err, rf'\AError: [^\n]*{why}[^\n]*\n\Z')

    def test_an_interrupt_is_one_line_and_status_1(self):
        with mock.patch.object(Backends, 'names',
                               side_effect=KeyboardInterrupt):
            status, out, err = run('thing', 'list')
        self.assertEqual((1, ''), (status, out))
        self.assertRegex(err, r'\AError: interrupted;[^\n]*\n\Z')

    # -- The streams --------------------------------------------------------

    def to(self, stdout):
        """Run it with a real stream; its status and its errors."""
        err = io.StringIO()
        with mock.patch.dict(main.COMMANDS, {
                'thing list': f'{__name__}:Things'}):
            status = main.Application(
                Backends(), stdout=stdout, stderr=err,
                stdin=io.StringIO()).run(['thing', 'list'])
        return status, err.getvalue()

    def test_output_that_is_not_read_to_its_end_is_no_failure(self):
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, 'w') as stdout:
            self.assertEqual((0, ''), self.to(stdout))

    def test_a_reader_that_is_gone_before_the_work_is_done_is_a_failure(self):
        with mock.patch.object(Things, 'rows', side_effect=BrokenPipeError):
            self.assertEqual(1, run('thing', 'list')[0])

    def test_a_question_that_cannot_be_asked_is_not_agreed_to(self):
        app = main.Application(Backends(), stdout=io.StringIO(),
                               stderr=mock.Mock(), stdin=io.StringIO('y\n'))
        app.stderr.write.side_effect = BrokenPipeError
        self.assertFalse(app.agreed('Change it?'))
        self.assertTrue(app.failed)

    def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path, link = f'{folder}/file', f'{folder}/link'
        main.Application.write(path, 'a')
        self.assertEqual(0o644, stat.S_IMODE(os.stat(path).st_mode))
        os.chmod(path, 0o600)
        os.symlink(path, link)
        main.Application.write(link, 'b')
        self.assertTrue(os.path.islink(link))
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
        with open(path) as stream:
            self.assertEqual('b', stream.read())
        self.assertEqual(['file', 'link'], sorted(os.listdir(folder)))

    def test_what_is_no_file_is_written_to_and_not_replaced(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        os.mkfifo(f'{folder}/pipe')
        reader = os.open(f'{folder}/pipe', os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        main.Application.write(f'{folder}/pipe', 'a')
        self.assertEqual(b'a', os.read(reader, 9))
        self.assertTrue(stat.S_ISFIFO(os.stat(f'{folder}/pipe').st_mode))

    def test_what_the_shell_has_opened_is_appended_to(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        with open(f'{folder}/file', 'w+') as stream:
            stream.write('before\n')
            stream.flush()
            main.Application.write(f'/dev/fd/{stream.fileno()}', 'now\n')
        with open(f'{folder}/file') as stream:
            self.assertEqual('before\nnow\n', stream.read())
        self.assertEqual(['file'], os.listdir(folder))

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open('/dev/full', 'w') as stdout:
            status, err = self.to(stdout)
        self.assertEqual(1, status)
        self.assertRegex(err, r'\AError: the output could not be written: '
                         r'[^\n]*\n\Z')

    def test_a_letter_that_the_terminal_lacks_is_shown_as_its_escape(self):
        written = io.BytesIO()
        stdout = io.TextIOWrapper(written, encoding='ascii')
        with mock.patch.object(Backends, 'names',
                               return_value=['\N{SNOWMAN}']):
            self.assertEqual((0, ''), self.to(stdout))
        self.assertIn(b'\\u2603', written.getvalue())

    def test_streams_that_the_shell_has_closed_are_empty(self):
        for word, status in ('list', 0), ('change', 1):
            with self.subTest(word), mock.patch.multiple(
                    sys, stdin=None, stdout=None, stderr=None), \
                    mock.patch.object(main, '_BACKENDS', mock.Mock(
                        load=Backends)), mock.patch.dict(main.COMMANDS, {
                            'thing list': f'{__name__}:Things',
                            'thing change': f'{__name__}:Change'}):
                self.assertEqual(status, main.main(['thing', word]))
                for stream in sys.stdin, sys.stdout, sys.stderr:
                    stream.close()

    def test_widths_that_are_no_width_do_not_end_a_command(self):
        for width in '0', '1', '-5':
            with self.subTest(width), mock.patch.dict(
                    os.environ, {'COLUMNS': width}):
                self.assertEqual(0, run('thing', 'list', '--max-width',
                                        width, '--fit-width')[0])

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
