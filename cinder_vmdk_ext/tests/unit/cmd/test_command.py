# SPDX-License-Identifier: Apache-2.0
"""The work that each command does with its arguments."""

import argparse
import contextlib
import io
import types
import unittest
from unittest import mock

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions


class Backends:
    """Two backends that open; a record of those that are open."""

    def __init__(self):
        self.loaded, self.open = [], []

    def load(self, files):
        self.loaded += files

    def names(self, wanted):
        if wanted is None:
            return ['first', 'second']
        if wanted not in ('first', 'second'):
            raise exceptions.InvalidSettings('--backend', wanted, 'wrong')
        return [wanted]

    @contextlib.contextmanager
    def opened(self, name):
        self.open.append(name)
        yield f'backend {name}'
        self.open.remove(name)


class Thing(command.Showing):
    """Show a thing."""

    COLUMNS = (columns.Column('name', 'Name'),
               columns.Column('size_bytes', 'Size', columns.size))

    worked = False

    def row(self, parsed_args):
        self.worked = True
        return 'disk', 1 << 30


class CommandTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.backends = Backends()
        self.app = types.SimpleNamespace(backends=self.backends,
                                         misused=False,
                                         working=contextlib.nullcontext,
                                         refuse_wrong_usage=lambda each: None)
        self.thing = Thing(self.app, None)

    def parsed(self, *words):
        return self.thing.get_parser('thing').parse_args(list(words))

    def test_every_configuration_file_is_read(self):
        self.thing.names(self.parsed('--config-file', 'a', '--config-file',
                                     'b'))
        self.assertEqual(['a', 'b'], self.backends.loaded)

    def test_each_backend_is_open_only_while_it_is_looked_at(self):
        seen = [(*each, list(self.backends.open))
                for each in self.thing.opened(self.parsed())]
        self.assertEqual([('first', 'backend first', ['first']),
                          ('second', 'backend second', ['second'])], seen)
        self.assertEqual([], self.backends.open)

    def test_the_backend_that_was_asked_for_is_the_only_one(self):
        self.assertEqual(['second'], self.thing.names(
            self.parsed('--backend', 'second')))

    def test_an_unknown_backend_is_a_wrong_call(self):
        with self.assertRaises(exceptions.InvalidSettings):
            self.thing.names(self.parsed('--backend', 'third'))
        self.assertTrue(self.app.misused)

    def test_other_errors_are_no_wrong_call(self):
        with self.assertRaises(OSError), self.thing.calling(ValueError):
            raise OSError
        self.assertFalse(self.app.misused)

    def test_an_error_leaves_the_rows_of_what_was_done_before(self):
        listing = command.Listing(mock.MagicMock(failed=False), None)
        rows = []
        with self.assertRaises(OSError), listing.keeping(rows):
            raise OSError
        with listing.keeping(rows):
            listing.listing(rows, ('first',), lambda: 'moved')
            raise OSError('the second backend does not answer')
        self.assertEqual([('first', 'moved')], rows)
        self.assertTrue(listing.app.failed)
        listing.app.LOG.error.assert_called_once()

    def test_a_wrong_column_is_refused_before_the_work(self):
        with self.assertRaises(ValueError):
            self.thing.take_action(self.parsed('-c', 'colour'))
        self.assertTrue(self.app.misused)
        self.assertFalse(self.thing.worked)

    def test_no_format_leaves_a_name_unquoted_to_a_shell(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertRaises(SystemExit, self.parsed, '--format', 'shell')

    def test_a_table_has_titles_and_a_program_has_keys(self):
        for form, wanted in (('table', ('Name', 'Size')),
                             ('json', ('name', 'size_bytes'))):
            titles, cells = self.thing.take_action(self.parsed('-f', form))
            self.assertEqual(wanted, titles)
            self.assertEqual(2, len(cells))


class NumberTestCase(unittest.TestCase):

    def test_a_number_that_is_not_negative(self):
        read = command.number('days', '30')
        self.assertEqual([0, 0.5, 30], [read(text) for text
                                        in ('0', '0.5', '30')])

    def test_anything_else_is_refused_with_an_example(self):
        for text in ('-1', 'inf', 'nan', 'many', ''):
            with self.subTest(text), self.assertRaisesRegex(
                    argparse.ArgumentTypeError,
                    'not a number of days; give 30'):
                command.number('days', '30')(text)


class CountTestCase(unittest.TestCase):

    def test_a_whole_number_from_one_on(self):
        self.assertEqual([1, 62000], [command.count(text) for text
                                      in ('1', '62000')])

    def test_anything_else_is_refused(self):
        for text in ('0', '-1', '1.5', '1e3', 'nan', '', '9' * 13,
                     '\N{ARABIC-INDIC DIGIT THREE}'):
            with self.subTest(text), self.assertRaisesRegex(
                    argparse.ArgumentTypeError, 'a whole number from 1 on'):
                command.count(text)


class SizeTestCase(unittest.TestCase):

    def test_a_size_has_a_number_and_a_unit(self):
        self.assertEqual([1024, 20 << 30, 3 << 40], [
            command.size(text) for text in ('1KiB', '20GiB', '3TiB')])

    def test_what_has_not_is_refused(self):
        for text in ('', '20', '0GiB', '-1GiB', '1.5GiB', '1GB', 'GiB',
                     '\N{ARABIC-INDIC DIGIT THREE}GiB', '9' * 13 + 'GiB'):
            with self.subTest(text), self.assertRaisesRegex(
                    argparse.ArgumentTypeError, 'as 20GiB'):
                command.size(text)


if __name__ == '__main__':
    unittest.main()
