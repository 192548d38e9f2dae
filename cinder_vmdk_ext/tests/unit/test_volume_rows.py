# SPDX-License-Identifier: Apache-2.0
"""Columns of volumes, read from a real database of Cinder."""

import unittest
from unittest import mock

from sqlalchemy import event

from cinder import objects

from cinder_vmdk_ext import volume_rows
from sandbox.embedded import database

HOST = 'cinder-1@vmdk'
INSTANCE = '0000000a-1111-4222-8333-44445555666f'


class RowsCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.database = database.Database()
        self.database.setUp()
        self.addCleanup(self.database.cleanUp)

    def attach(self, volume, uuid=INSTANCE, status='attached', **fields):
        made = objects.VolumeAttachment(
            self.database.context, volume_id=volume.id, instance_uuid=uuid,
            attach_status=status, **fields)
        made.create()
        return made

    def without_columns(self):
        """In this test Cinder's models lack a column."""
        refused = mock.patch.object(volume_rows, 'has_columns', bool)
        refused.start()
        self.addCleanup(refused.stop)

    def pages_of(self, rows):
        for name in ('ROWS_A_PAGE', 'OBJECTS_A_PAGE'):
            small = mock.patch.object(volume_rows, name, rows)
            small.start()
            self.addCleanup(small.stop)


class FactsCase(RowsCase):
    """What holds with the columns, and without them."""

    def test_a_row_has_what_cinders_object_has(self):
        made = self.database.volume(
            3, f'{HOST}#gold', provider_id='x', provider_location='place',
            cluster_name='ha@vmdk#gold', migration_status='success')
        self.attach(made)
        made = objects.Volume.get_by_id(self.database.context, made.id)
        row, = volume_rows.volumes()
        for column in volume_rows.VOLUME:
            field = column.lstrip('_')
            found, wanted = row[field], made[field]
            if field.endswith('_at') and wanted is not None:
                found, wanted = (each.replace(tzinfo=None)
                                 for each in (found, wanted))
            self.assertEqual(wanted, found, field)
        self.assertEqual(made.name, row.name)
        self.assertEqual([INSTANCE], [each.instance_uuid for each
                                      in row.volume_attachment])

    def test_a_migrated_volume_has_the_name_of_its_disk(self):
        made = self.database.volume()
        made.update({'_name_id': INSTANCE})
        made.save()
        row, = volume_rows.volumes()
        self.assertEqual((INSTANCE, f'volume-{INSTANCE}'),
                         (row.name_id, row.name))

    def test_all_pages_are_read_once(self):
        self.pages_of(2)
        made = []
        for _ in range(5):
            made.append(self.database.volume().id)
            self.assertEqual(sorted(made),
                             [each.id for each in volume_rows.volumes()])
        self.assertEqual(sorted(made), [
            each.id for each in volume_rows.volumes({*made, INSTANCE})])

    def test_deleted_volumes_and_attachments_are_left_out(self):
        kept = self.database.volume(status='available')
        self.attach(kept).destroy()
        gone = self.database.volume(provider_id='x')
        gone.destroy()
        row, = volume_rows.volumes()
        self.assertEqual((kept.id, ()), (row.id, row.volume_attachment))
        self.assertEqual([], list(volume_rows.without_disk('x')))
        self.assertEqual({}, volume_rows.attached_to([INSTANCE]))

    def test_no_ids_are_no_volumes(self):
        self.database.volume()
        self.assertEqual([], list(volume_rows.volumes(())))

    def test_volumes_without_a_disk_and_those_that_are_created(self):
        self.pages_of(2)
        wanted = {}
        for size_gib, fields in enumerate((
                {'provider_id': 'x'}, {'status': 'creating'},
                {'provider_id': 'x', 'status': 'creating'},
                {'provider_id': 'x', 'provider_location': 'there'},
                {'provider_id': 'x', 'cluster_name': 'ha@vmdk#gold'}), 1):
            made = self.database.volume(size_gib, f'{HOST}#gold', **fields)
            made = objects.Volume.get_by_id(self.database.context, made.id)
            wanted[made.id] = {name: made[name]
                               for name in volume_rows.DISKLESS}
        self.database.volume(16, provider_id='y', status='available')
        found = list(volume_rows.without_disk('x'))
        self.assertEqual(wanted, {row['id']: row for row in found})
        self.assertEqual(len(wanted), len(found))

    def test_instances_lead_to_their_volumes(self):
        one, two = self.database.volume(), self.database.volume()
        other = INSTANCE.replace('a', 'b')
        self.attach(one)
        self.attach(two)
        self.attach(two, other, 'reserved')
        self.attach(one, other, 'detached')
        self.assertEqual(
            {INSTANCE: {one.id, two.id}, other: {two.id}},
            volume_rows.attached_to([INSTANCE, other, one.id]))


class ObjectsTestCase(FactsCase):
    """The same, where Cinder's models lack a column."""

    def setUp(self):
        super().setUp()
        self.without_columns()


class ColumnsTestCase(FactsCase):

    def test_nothing_but_the_named_columns_is_selected(self):
        self.attach(self.database.volume(provider_id='x'))
        statements = []
        engine = volume_rows.db.get_engine()

        def note(_connection, _cursor, statement, *_more):
            if statement != 'BEGIN':
                statements.append(' '.join(statement.split()))
        event.listen(engine, 'before_cursor_execute', note)
        self.addCleanup(event.remove, engine, 'before_cursor_execute', note)
        list(volume_rows.volumes())
        list(volume_rows.without_disk('x'))
        volume_rows.attached_to([INSTANCE])
        self.assertEqual(4, len(statements), statements)
        for statement in statements:
            selected, _, rest = statement.partition(' FROM ')
            self.assertEqual('SELECT', selected.partition(' ')[0])
            self.assertIn(rest.partition(' ')[0],
                          ('volumes', 'volume_attachment'))
            self.assertNotRegex(selected, r'\.\*|connect|auth|metadata')
        self.assertEqual(
            {f'volumes.{column}' for column in volume_rows.VOLUME},
            {each.strip().partition(' ')[0] for each in statements[0]
             .removeprefix('SELECT ').partition(' FROM ')[0].split(',')})


class LackingTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(volume_rows.has_columns.cache_clear)
        volume_rows.has_columns.cache_clear()

    def test_this_cinder_has_all_columns(self):
        self.assertTrue(volume_rows.has_columns())

    def test_a_column_that_is_lacking_is_named_once(self):
        with mock.patch.object(volume_rows, 'VOLUME', ('id', 'colour')), (
                self.assertLogs('cinder_vmdk_ext', 'WARNING')) as logs:
            self.assertFalse(volume_rows.has_columns())
            self.assertFalse(volume_rows.has_columns())
        line, = logs.output
        self.assertIn('Volume.colour', line)


# It states facts for the two classes that inherit it.
del FactsCase


if __name__ == '__main__':
    unittest.main()
