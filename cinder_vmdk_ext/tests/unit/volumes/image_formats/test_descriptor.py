# SPDX-License-Identifier: Apache-2.0
"""Descriptors of common tools, and faulty ones."""

import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import descriptor
from cinder_vmdk_ext.volumes.image_formats import stream

GOOD = disk_images.by_vsphere(2048)


class GoodTestCase(unittest.TestCase):

    def accept(self, data):
        found = descriptor.parse(data)
        descriptor.check_stands_alone(found)
        found.ascii.decode('ascii')
        self.assertEqual('streamOptimized', found.create_type)
        self.assertEqual(2048, found.extents[0].sectors)
        return found

    def test_those_of_all_writers(self):
        for describe in disk_images.WRITERS:
            with self.subTest(describe.__name__):
                self.accept(describe(2048))

    def test_in_all_encodings_that_have_ascii_in_them(self):
        for name in ('UTF-8', 'utf8', 'windows-1252', 'ISO-8859-1', 'GBK',
                     'GB18030', 'Shift_JIS', 'windows-932', 'Big5', 'EUC-KR',
                     'x-unknown', 'UTF-16', 'base64', 'idna', ''):
            with self.subTest(name):
                self.accept(GOOD + f'encoding="{name}"\n'.encode()
                            + b'ddb.comment = "\x8e\x71\xc3\xa9\xff\x5c"\n')

    def test_with_spaces_where_they_may_be(self):
        for ends in (b'\n', b'\r\n'):
            text = GOOD.replace(b'=', b' \t= ').replace(
                b' SPARSE', b'\t  SPARSE').replace(b'\n', b'  ' + ends)
            self.accept(text)

    def test_without_quotes_and_in_other_letters(self):
        self.accept(GOOD.replace(b'"streamOptimized"', b'streamOptimized'))
        found = descriptor.parse(GOOD.replace(b'createType', b'CREATETYPE'))
        self.assertEqual('streamOptimized', found.create_type)

    def test_the_same_said_twice(self):
        self.accept(GOOD + b'createType="streamOptimized"\n')

    def test_what_stands_behind_a_nul_is_not_read(self):
        self.accept(GOOD + b'\0\0garbage\n')

    def test_the_ascii_is_never_longer(self):
        for describe in disk_images.WRITERS:
            text = describe(1)
            self.assertLessEqual(len(descriptor.parse(text).ascii),
                                 len(text))


class RefusedTestCase(unittest.TestCase):

    def refuse(self, data, words):
        with self.assertRaisesRegex(stream.FormatError, words):
            descriptor.check_stands_alone(descriptor.parse(data))

    def test_a_line_that_means_nothing(self):
        self.refuse(GOOD + b'hello\n', 'unknown line')
        self.refuse(GOOD + b'x' * 100000, r'unknown line.*x\.\.\.')

    def test_a_disk_that_needs_another(self):
        self.refuse(GOOD.replace(b'ffffffff', b'12345678', 1), 'changes')
        self.refuse(GOOD + b'parentFileNameHint = "x.vmdk"\n', 'changes')

    def test_a_file_for_changed_blocks(self):
        self.refuse(GOOD + b'changeTrackPath="x-ctk.vmdk"\n',
                    'changetrackpath')

    def test_two_different_answers_to_one_question(self):
        self.refuse(GOOD + b'createType="vmfs"\n', 'two values of')
        self.refuse(GOOD + b'PARENTCID=12345678\n', 'two values of')

    def test_no_extent_and_more_than_one(self):
        self.refuse(GOOD.replace(b'RDONLY', b'# RDONLY'), '0 extents')
        self.refuse(GOOD + b'RW 8 ZERO\n', '2 extents')

    def test_an_extent_that_is_elsewhere(self):
        for line in (b'RW 2048 FLAT "/etc/passwd" 0', b'RW 2048 ZERO',
                     b'RW 2048 SPARSE "../x.vmdk"',
                     b'RW 2048 VMFS "x-flat.vmdk"'):
            self.refuse(GOOD.replace(
                b'RDONLY 2048 SPARSE "generated-stream.vmdk"', line),
                'another extent than')


if __name__ == '__main__':
    unittest.main()
