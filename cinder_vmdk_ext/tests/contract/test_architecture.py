# SPDX-License-Identifier: Apache-2.0
"""The picture of the packages agrees with their imports."""

import unittest

from cinder_vmdk_ext.tests.contract import test_directions
from tools import picture
from tools import structure

parsed, importing = test_directions.parsed, test_directions.importing


class PictureTestCase(unittest.TestCase):

    def test_it_is_up_to_date(self):
        drawn = picture.draw(structure.read(structure.ROOT))
        self.assertEqual(
            drawn, picture.PICTURE.read_text('utf-8'),
            'the imports have changed: run `make architecture` and commit '
            'docs/architecture.svg')

    def test_the_same_sources_give_the_same_picture(self):
        modules = structure.read(structure.ROOT)
        again = dict(reversed(modules.items()))
        self.assertEqual(picture.draw(modules), picture.draw(again))

    def test_an_import_more_changes_it(self):
        self.assertNotEqual(
            picture.draw(parsed(volumes__a='', vsphere__b='')),
            picture.draw(parsed(volumes__a=importing('vsphere.b'),
                                vsphere__b='')))

    def test_each_import_between_packages_is_a_line_with_words(self):
        self.assertIn(
            'volumes imports vsphere, in 2 places',
            picture.draw(parsed(volumes__a=importing('vsphere.c'),
                                volumes__b=importing('vsphere.c'),
                                vsphere__c='')))

    def test_a_package_without_a_floor_is_named(self):
        with self.assertRaisesRegex(ValueError, 'cellar'):
            picture.draw(parsed(cellar__wine=''))


class FiguresTestCase(unittest.TestCase):
    """What tools/structure.py counts."""

    def test_classes_of_the_driver_through_modules(self):
        self.assertEqual(
            ['driver.VmdkExtDriver', 'volumes.groups.Groups',
             'volumes.snapshots.Snapshots'],
            structure.classes_of_driver(parsed(
                driver=importing('volumes.groups')
                + 'class VmdkExtDriver(groups.Groups): pass\n',
                volumes__groups=importing('volumes.snapshots')
                + 'class Groups(snapshots.Snapshots): pass\n',
                volumes__snapshots='class Snapshots(vmdk.Driver): pass\n')))

    def test_floors_of_a_chain(self):
        self.assertEqual({'a': 2, 'b': 1, 'c': 0}, structure.floors(
            {'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}))

    def test_the_table_has_a_column_for_each_record(self):
        table = structure.table({
            'before': {'modules': 56, 'walks': {'create': {
                'entered': 27, 'returns': 262, 'above': 80, 'frames': 17,
                'bands': 9}}},
            'now': {'modules': 77}})
        self.assertIn('| | before | now |', table)
        self.assertIn('| modules | 56 | 77 |', table)
        self.assertIn('| create: returns to a module left | 262 |  |', table)


if __name__ == '__main__':
    unittest.main()
