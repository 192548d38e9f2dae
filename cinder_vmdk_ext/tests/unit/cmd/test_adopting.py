# SPDX-License-Identifier: Apache-2.0
"""The list of disks to adopt, and errors in it."""

import unittest

from cinder_vmdk_ext.cmd import adopting

PATH = '[ds, 1] a/b.vmdk@DC/vm/a'


class ListTestCase(unittest.TestCase):

    def test_csv_and_json_say_the_same(self):
        rows = adopting.read(
            'source-name,name,bootable,project\r\n'
            f'"{PATH}",web,yes,shop\r\n[ds] c.vmdk\r\n')
        self.assertEqual([
            adopting.Wanted(1, PATH, name='web', bootable=True,
                            project='shop'),
            adopting.Wanted(2, '[ds] c.vmdk')], rows)
        self.assertEqual(rows, adopting.read(
            f'[{{"source_name": "{PATH}", "name": "web", "bootable": true,'
            ' "project": "shop"}, {"source-name": "[ds] c.vmdk",'
            ' "name": null}]'))

    def test_a_disk_is_named_as_cinder_manage_takes_it(self):
        self.assertEqual(
            [{'source-name': 'a'}, {'source-id': 'b'}],
            [each.reference for each in adopting.read(
                '[{"source_name": "a"}, {"source_id": "b"}]')])

    def test_a_long_name_is_marked_by_its_digest(self):
        for letters in (255, 256):
            mark = adopting.Wanted(1, 'x' * letters).mark
            self.assertLessEqual(len(mark), 255)
            self.assertEqual(letters == 256, mark.startswith('sha256:'))

    def test_a_wrong_list_is_refused_with_its_row(self):
        for text, why in (
                ('', 'no rows'), ('source_name\n', 'no rows'),
                ('[1]', 'list of objects'), ('[{]', 'not JSON'),
                ('source_name,colour\na,b', "row 1 has the field 'colour'"),
                ('source_name\na\nb,c', 'row 2 has more values'),
                ('name\na', 'row 1 has to give either'),
                ('source_name,source_id\na,b', 'row 1 has to give either'),
                ('source_name,bootable\na,perhaps', 'row 1: bootable'),
                ('source_name\na\nb\na', 'rows 1 and 3 both name'),
                ('source_name,source-name\na,b',
                 "row 1 has the field 'source_name' twice"),
                ('source_name,name\na,b\n,\n', 'row 2 is empty'),
                ('source_name,name\na,b\n,c\n', 'row 2 has to give either'),
                ('[{"source_name": "a", "source_name": "b"}]', 'twice'),
                ('[' * 100000, 'nested too deep'),
                ('[{"source_name": ["a"]}]', 'neither a text nor a number'),
                ('[{"source_name": "a\\ud800"}]', 'cannot be printed'),
                ('source_name\n"a\x1b[2J"', 'cannot be printed'),
                ('source_name,name\na,' + 'b' * 256, '256 characters'),
                ('source_name\n"a', 'not CSV'),
                ('source_name\n' + 'a' * 200000, 'not CSV'),
                ('source_name\n' + '\n'.join(map(str, range(10001))),
                 'has 10001 rows')):
            with self.subTest(text[:80]), self.assertRaisesRegex(
                    ValueError, why):
                adopting.read(text)

    def test_only_utf8_of_a_bounded_length_is_a_list(self):
        text = 'source_name\n[ds] \u00e4.vmdk\n'
        for encoding in ('utf-8', 'utf-8-sig'):
            self.assertEqual(text, adopting.decoded(text.encode(encoding)))
        for data, why in ((text.encode('utf-16'), 'UTF-16'),
                          (text.encode('latin-1'), 'line 2 .* not UTF-8'),
                          (b'a' * (adopting.MOST_BYTES + 1), '16.0 MiB')):
            with self.subTest(why), self.assertRaisesRegex(ValueError, why):
                adopting.decoded(data)
