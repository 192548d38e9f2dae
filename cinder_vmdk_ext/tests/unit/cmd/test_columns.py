# SPDX-License-Identifier: Apache-2.0
"""Columns for a person and for a program."""

import unittest

from cinder_vmdk_ext.cmd import columns

COLUMNS = (columns.Column('backend', 'Backend', telling=True),
           columns.Column('name', 'Name'),
           columns.Column('size_bytes', 'Size', columns.size),
           columns.Column('reference', 'Reference', long=True))
ROWS = [('a', 'x', 1, 'vm-1'), ('a', 'y', 2, 'vm-2')]


class ColumnsTestCase(unittest.TestCase):

    def chosen(self, wanted=(), rows=ROWS, human=True, long=False):
        return [COLUMNS[number].key for number in columns.chosen(
            COLUMNS, wanted, rows, human, long)]

    def test_a_program_gets_every_column(self):
        self.assertEqual(['backend', 'name', 'size_bytes', 'reference'],
                         self.chosen(human=False))

    def test_a_table_leaves_out_what_is_long_and_what_all_rows_share(self):
        self.assertEqual(['name', 'size_bytes'], self.chosen())
        self.assertEqual(
            ['backend', 'name', 'size_bytes'],
            self.chosen(rows=[*ROWS, ('b', 'z', 3, 'vm-3')]))

    def test_long_shows_every_column_in_a_table(self):
        self.assertEqual(4, len(self.chosen(long=True)))

    def test_a_column_is_named_by_key_or_title_in_any_format(self):
        for human in (True, False):
            self.assertEqual(['size_bytes', 'name'], self.chosen(
                ['Size', 'name'], human=human))

    def test_a_wrong_column_is_an_error_that_names_those_there_are(self):
        with self.assertRaisesRegex(ValueError, "'colour'.*size_bytes"):
            self.chosen(['colour'])

    def test_a_person_reads_units_that_fit(self):
        self.assertEqual(
            ['', '0 B', '1023 B', '1.0 KiB', '1.5 GiB', '2.0 TiB'],
            [columns.size(each) for each in (
                None, 0, 1023, 1024, 3 << 29, 2 << 40)])
        self.assertEqual(
            ['', '0 s', '1.5 min', '2.0 h', '3.0 d'],
            [columns.duration(each) for each in (
                None, 0, 90, 7200, 3 * 86400)])

    def test_a_name_cannot_command_the_terminal(self):
        cell = columns.Cell('Größe\u3000\x1b]0;x\x07\r\n\u202eb\udcff',
                            columns.plain)
        self.assertEqual(
            'Größe\u3000\\x1b]0;x\\x07\\r\\n\\u202eb\\udcff',
            cell.human_readable())

    def test_a_name_stays_on_one_line_of_csv_and_of_plain_values(self):
        for form in columns.LINES:
            self.assertEqual('a\\nb\\x1b', columns.Cell(
                'a\nb\x1b', columns.plain, form).machine_readable())
        for form in 'json', 'yaml':
            self.assertEqual('a\nb\x1b', columns.Cell(
                'a\nb\x1b', columns.plain, form).machine_readable())

    def test_a_name_is_no_formula_of_a_spreadsheet(self):
        for name in '=1+1', '+1', '-1', '@x':
            self.assertEqual(f"'{name}", columns.Cell(
                name, columns.plain, 'csv').machine_readable())
        self.assertEqual(-1, columns.Cell(
            -1, columns.plain, 'csv').machine_readable())

    def test_cells_sort_by_value_and_not_by_what_is_shown(self):
        cells = [columns.Cell(each, columns.size)
                 for each in (2 << 30, None, 3 << 20)]
        self.assertEqual(
            [None, 3 << 20, 2 << 30],
            [each.machine_readable() for each in sorted(cells)])
