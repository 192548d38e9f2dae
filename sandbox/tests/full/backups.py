# SPDX-License-Identifier: Apache-2.0
"""What cinder-backup does for a member, without the vCenter's password.

cinder-backup is a service of its own, which talks to cinder-volume over
RabbitMQ. Each test compares the content of the disks.
"""

import socket
import unittest

import sqlalchemy

from sandbox.tests.full import messages
from sandbox.tests.full import walk

GIB = 1 << 30
MIB = 1 << 20
# Programs that log in to the vCenter read it in these files of their own.
_PASSWORD_FILES = {'etc/cinder.conf', 'etc/nova/nova.conf', 'sandbox.json',
                   'run/vcenter-sim.stdout'}
# As a member would write one that looks like cinder-backup's.
_CONNECTOR = {'platform': 'x86_64', 'os_type': 'linux', 'multipath': False,
              'host': socket.gethostname(), 'ip': '127.0.0.1',
              'initiator': 'iqn'}


class BackupCase(walk.ServerCase):

    def backup(self, volume, status='available', **how):
        """A new backup, which is deleted after the test.

        :param status: of the volume before and after
        """
        made = self.volumes.create_backup(volume_id=volume.id,
                                          name=self.id(), **how)
        self.addCleanup(self.delete_backup, made.id)
        self.backed_up(made.id)
        self.settled(volume.id, status)
        return made

    def backed_up(self, backup_id):
        """Wait until a backup is at rest."""
        return self.until('available',
                          lambda: self.volumes.get_backup(backup_id))

    def delete_backup(self, backup_id):
        self.volumes.delete_backup(backup_id)
        self.gone(self.volumes.get_backup, backup_id)

    def restore(self, backup, volume):
        self.volumes.restore_backup(backup.id, volume_id=volume.id)
        self.backed_up(backup.id)
        self.settled(volume.id)

    def assert_no_file(self):
        """No file of a backup or restore is left."""
        folders = [path for name in ('vmdk-ext-backup', 'backup-files')
                   for path in self.cloud.folder.rglob(name)]
        self.assertTrue(folders, 'the driver has made no folder for them')
        self.assertEqual([], [path for folder in folders
                              for path in folder.iterdir()])


class RestoreTestCase(BackupCase):
    """Where a backup can be restored to, and that it has the content."""

    def test_full_and_incremental_to_the_same_and_to_a_new_volume(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        full = self.backup(volume)
        self.write(volume.id, self.content[::-1])
        increment = self.backup(volume, is_incremental=True)
        self.assertTrue(self.volumes.get_backup(increment.id).is_incremental)
        before = self.disk_of(volume.id)
        self.write(volume.id, bytes(MIB))
        self.restore(full, volume)
        self.assert_content(volume.id)
        self.assert_where_cinder_says(volume.id)
        after = self.disk_of(volume.id)
        self.assertEqual((before.disk_type, before.size_bytes),
                         (after.disk_type, after.size_bytes))
        # Without a volume's id, Cinder makes the volume.
        self.volumes.restore_backup(increment.id, name='restored')
        made, = self.volumes.volumes(name='restored')
        self.addCleanup(self.delete, made.id)
        self.backed_up(increment.id)
        self.settled(made.id)
        self.assert_content(made.id, self.content[::-1])
        self.assert_where_cinder_says(made.id)
        self.assert_no_file()

    def test_an_attached_volume_to_a_larger_one(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        self.attach(volume.id)
        try:
            backup = self.backup(volume, 'in-use', force=True)
            self.assertIn(self.disk_of(volume.id).path,
                          [disk.path for disk in self.machine().disks])
        finally:
            self.detach(volume.id)
        self.assert_content(volume.id)
        larger = self.volume(size=2)
        self.write(larger.id, self.content[::-1])
        self.restore(backup, larger)
        self.assert_content(larger.id, self.content + bytes(MIB))
        self.assertEqual(2 * GIB, self.disk_of(larger.id).size_bytes)
        # The temporary volume of the backup is gone.
        self.assertEqual([], [
            each.name for each in self.admin.block_storage.volumes(
                all_projects=True)
            if (each.name or '').startswith('backup-vol-')])
        self.assert_no_file()


class SecretTestCase(BackupCase):
    """The vCenter's password stays with those who log in to it."""

    def setUp(self):
        super().setUp()
        if self.cloud.gives_credentials:
            self.skipTest('this cloud was started with '
                          'vmdk_ext_connector_credentials')
        self.password = self.cloud.vcenter.password

    def test_no_message_row_or_file_has_it(self):
        with messages.Trace(self.cloud) as trace:
            volume = self.volume()
            self.write(volume.id, self.content)
            self.attach(volume.id)
            backup = self.backup(volume, 'in-use', force=True)
            attachment, = self.volumes.get_volume(volume.id).attachments
            shown = self.volumes.get(
                f'/attachments/{attachment["attachment_id"]}',
                microversion='3.27')
            self.detach(volume.id)
            self.restore(backup, volume)
            self.assert_content(volume.id)
            bodies = trace.bodies()
        # What Nova works with, as the member may read it.
        self.assertEqual(200, shown.status_code)
        self.assertEqual('vmdk', shown.json()['attachment'][
            'connection_info']['driver_volume_type'])
        self.assertNotIn(self.password, shown.text)
        # The connection info of both: of Nova, and of cinder-backup.
        for word in (volume.id, backup.id, 'device_path', 'profile_id'):
            self.assertTrue(any(word.encode() in body for body in bodies),
                            f'no message has {word}')
        self.assertEqual([], [body for body in bodies
                              if self.password.encode() in body])
        self.assertEqual([], self.rows_with(self.password))
        self.assertTrue(self.rows_with(backup.id))
        self.assertEqual(_PASSWORD_FILES, self.files_with(self.password))
        self.assertIn('log/cinder-backup.log', self.files_with(backup.id))

    def rows_with(self, text):
        """(database.table, column) of all databases in which a text is."""
        url = sqlalchemy.make_url(self.cloud.database_url)
        engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:
            columns = connection.execute(sqlalchemy.text(
                'SELECT table_schema, table_name, column_name '
                'FROM information_schema.columns '
                "WHERE table_schema NOT LIKE '%\\_schema' "
                "AND (data_type LIKE '%char' OR data_type LIKE '%text' "
                "OR data_type LIKE '%blob')")).all()
            return [
                (f'{schema}.{table}', column)
                for schema, table, column in columns
                if connection.execute(
                    sqlalchemy.text(
                        f'SELECT COUNT(*) FROM `{schema}`.`{table}` '
                        f'WHERE `{column}` LIKE :text'),
                    {'text': f'%{text}%'}).scalar_one()]

    def files_with(self, text):
        """The files of the cloud in which a text is: logs, stores, all."""
        found = set()
        for path in self.cloud.folder.rglob('*'):
            try:
                if path.is_file() and _has(path, text.encode()):
                    found.add(str(path.relative_to(self.cloud.folder)))
            except FileNotFoundError:
                pass  # one of a moment
        return found

    def test_a_connector_like_cinder_backups_is_refused(self):
        volume = self.volume()
        answer = self.volumes.post(
            f'/volumes/{volume.id}/action',
            json={'os-initialize_connection': {'connector': _CONNECTOR}})
        self.assertGreaterEqual(answer.status_code, 400)
        self.assertNotIn(self.password, answer.text)


def _has(path, text):
    """Whether a file has a text; read in pieces that overlap."""
    with open(path, 'rb') as stream:
        end = b''
        while piece := stream.read(4 * MIB):
            if text in end + piece:
                return True
            end = piece[-len(text):]
    return False


if __name__ == '__main__':
    unittest.main()
