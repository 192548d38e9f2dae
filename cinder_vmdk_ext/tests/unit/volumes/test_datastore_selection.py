# SPDX-License-Identifier: Apache-2.0
"""An operation reads a volume type once from Cinder's database."""

import unittest

from cinder import exception
from cinder.volume import qos_specs as cinder_qos
from cinder.volume import volume_types

from cinder_vmdk_ext import operation
from cinder_vmdk_ext.volumes import datastore_selection
from sandbox.embedded import database


class TypesTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)
        self.type_id = self.database.volume_type('a', vmdk_type='thin').id

    def read(self):
        return (datastore_selection.DatastoreSelection.specs_of(self.type_id),
                datastore_selection.read_qos_specs(self.type_id))

    def associate(self):
        context = self.database.context
        made = cinder_qos.create(context, 'q', {
            'consumer': 'back-end', 'disk_io_limit': '100'})
        cinder_qos.associate_qos_with_type(context, made.id, self.type_id)

    def test_they_are_as_cinder_has_them(self):
        self.assertEqual(({'vmware:vmdk_type': 'thin'}, None),
                         self.read())
        self.associate()
        self.assertEqual(
            volume_types.get_volume_type_qos_specs(self.type_id)['qos_specs'],
            self.read()[1])

    def test_an_operation_reads_a_type_once(self):
        with operation.scope():
            with database.statements() as found:
                first, second = self.read(), self.read()
            volume_types.update(self.database.context, self.type_id, 'b',
                                'changed')
            self.associate()
            self.assertEqual([first] * 2, [second, self.read()])
        self.assertEqual(1, len(found), found)

    def test_an_operation_reads_qos_specs_once(self):
        self.associate()
        with operation.scope():
            first = self.read()
            with database.statements() as found, (
                    operation.scope(selection=None)):
                self.assertEqual(first, self.read())
        self.assertEqual([], found)

    def test_without_an_operation_it_is_read_each_time(self):
        before = self.read()
        self.associate()
        self.assertNotEqual(before, self.read())

    def test_an_unknown_type_is_an_error(self):
        with self.assertRaises(exception.VolumeTypeNotFound):
            datastore_selection.read_type('another')


if __name__ == '__main__':
    unittest.main()
