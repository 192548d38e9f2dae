# SPDX-License-Identifier: Apache-2.0
"""What a member and an administrator do with volumes in Horizon.

Each test does one thing in a browser. Its end is looked at by openstacksdk,
by pyVmomi and by the bytes of the disk, and Horizon is to report it: a thing
that fails without a message fails the test too. Each leaves pictures.
"""

import os
from pathlib import Path
import unittest

from sandbox import configuration
from sandbox.tests.full import browser
from sandbox.tests.full import case
from sandbox.tests.full import walk

VOLUMES = 'project/volumes'
SNAPSHOTS = 'project/snapshots'
BACKUPS = 'project/backups'
ADMIN_VOLUMES = 'admin/volumes'


class PanelCase(walk.WalkCase):
    """One browser for all tests of a class, as a user of clouds.yaml."""

    USER = 'member'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = cls.enterClassContext(browser.Browser(
            cls.cloud.dashboard_url, Path(os.environ.get(
                case.PICTURES, configuration.BUILD / 'horizon'))))
        cls.log_in(cls.USER)

    @classmethod
    def log_in(cls, name):
        cls.browser.log_in(name, cls.cloud.login(name)['password'])

    def run(self, result=None):
        # Before the browser goes on: what it shows explains a failure.
        before = len(result.failures) + len(result.errors)
        answer = super().run(result)
        if len(result.failures) + len(result.errors) > before:
            self.browser.picture(f'failed-{self._testMethodName}')
        return answer

    def assert_said(self, text):
        """Horizon has said this, and no warning or error."""
        said = self.browser.messages()
        self.assertTrue(any(text in words for _level, words in said), said)
        self.assertLessEqual({level for level, _words in said},
                             {'info', 'success'}, said)

    def assert_shown(self, table, identifier, *texts):
        """A row of the open page has all of these texts."""
        row = self.browser.row(table, identifier)
        for text in texts:
            self.assertIn(text, row)

    def named(self, name):
        """The only volume of a name; it is deleted after the test."""
        found, = self.volumes.volumes(name=name)
        self.addCleanup(self.delete, found.id)
        return self.settled(found.id)

    def act(self, volume, action, said, picture, **fields):
        """Do one action of a volume's row, with the fields of its form."""
        self.browser.open(VOLUMES)
        self.browser.row_action('volumes', volume.id, action)
        self.browser.fill(**fields)
        self.browser.picture(picture)
        self.browser.submit()
        self.assert_said(said)

    def source(self, **how):
        """A volume with this test's content."""
        volume = self.volume(**how)
        self.write(volume.id, self.content)
        return volume

    def show(self, panel, picture):
        """Open a page and keep a picture of it."""
        self.browser.open(panel)
        self.browser.picture(picture)


class MemberTestCase(PanelCase):

    def create(self, name, picture, **fields):
        """Create a volume by Horizon's form, and wait for it."""
        self.browser.open(VOLUMES)
        self.browser.table_action('volumes', 'create')
        self.browser.fill(**{'name': name, **fields})
        self.browser.picture(picture)
        self.browser.submit()
        self.assert_said(f'Creating volume "{name}"')
        volume = self.named(name)
        self.show(VOLUMES, f'{picture}-done')
        self.assert_shown('volumes', volume.id, 'Available')
        self.assert_where_cinder_says(volume.id)
        return volume

    def snapshot(self, volume, name):
        found, = self.volumes.snapshots(volume_id=volume.id, name=name)
        return self.until('available',
                          lambda: self.volumes.get_snapshot(found.id))

    # -- new volumes -------------------------------------------------------

    def test_create(self):
        volume = self.create('letters', 'create', type='thick', size='2')
        disk = self.disk_of(volume.id)
        self.assertEqual((2 << 30, 'thick'), (disk.size_bytes,
                                              disk.disk_type))

    def test_create_from_an_image(self):
        image = self.image(self.content, 'letters-image')
        volume = self.create(
            'from-image', 'create-from-image', volume_source_type='Image',
            image_source=image.name, type='thin', size='1')
        self.assert_content(volume.id)

    def test_create_from_a_volume(self):
        self.source(name='letters')
        clone = self.create('letters-copy', 'clone',
                            volume_source_type='Volume',
                            volume_source='letters', size='1')
        self.assert_content(clone.id)

    def test_create_a_snapshot_and_a_volume_of_it(self):
        volume = self.source(name='letters')
        self.act(volume, 'snapshots', 'Creating volume snapshot', 'snapshot',
                 name='monday')
        snapshot = self.snapshot(volume, 'monday')
        self.write(volume.id, bytes(len(self.content)))
        self.show(SNAPSHOTS, 'snapshot-done')
        self.assert_shown('volume_snapshots', snapshot.id, 'Available')
        self.browser.row_action('volume_snapshots', snapshot.id,
                                'create_from_snapshot')
        self.browser.fill(name='letters-monday')
        self.browser.picture('create-from-snapshot')
        self.browser.submit()
        self.assert_said('Creating volume "letters-monday"')
        self.assert_content(self.named('letters-monday').id)

    def misspelt_type(self):
        """The name of a volume type that the driver refuses."""
        types = self.admin.block_storage
        wrong = types.create_type(name='misspelt')
        self.addCleanup(types.delete_type, wrong.id)
        types.update_type_extra_specs(wrong.id, **{
            'vmware:vmdk_type': 'thinn'})
        return wrong.name

    def assert_explained(self, volume_id, text, picture):
        """A volume's page has a message with this text."""
        self.browser.open(f'{VOLUMES}/{volume_id}')
        self.browser.tab('Messages', 'volume_messages')
        self.browser.picture(picture)
        # The nearest of Cinder's own texts; the log has the sentence.
        self.assertIn(text, self.browser.text().replace('\n', ' '))

    def test_a_creation_that_fails_is_explained(self):
        self.browser.open(VOLUMES)
        wrong = self.misspelt_type()
        self.browser.table_action('volumes', 'create')
        self.browser.fill(name='in-vain', type=wrong, size='1')
        self.browser.submit()
        volume, = self.volumes.volumes(name='in-vain')
        self.addCleanup(self.delete, volume.id)
        self.until('error', lambda: self.volumes.get_volume(volume.id), ())
        self.assert_explained(volume.id, 'Driver failed to create the volume',
                              'failure')

    def test_a_change_of_type_that_fails_is_explained(self):
        wrong = self.misspelt_type()
        volume = self.source(name='letters')
        self.act(volume, 'retype', f'change the volume type to "{wrong}"',
                 'change-type-in-vain', volume_type=wrong,
                 migration_policy='Never')
        self.until('there', lambda: _Message(self.volumes, volume.id), ())
        self.settled(volume.id)
        self.assertEqual('thin', self.volumes.get_volume(
            volume.id).volume_type)
        self.assert_content(volume.id)
        self.assert_explained(
            volume.id, 'Could not find any available weighted backend',
            'change-type-failure')

    # -- changes -----------------------------------------------------------

    def test_extend(self):
        volume = self.source(name='letters')
        self.act(volume, 'extend', 'Extending volume', 'extend',
                 new_size='3')
        self.assertEqual(3, self.settled(volume.id).size)
        self.assertEqual(3 << 30, self.disk_of(volume.id).size_bytes)
        self.assert_content(volume.id)
        self.show(VOLUMES, 'extend-done')
        self.assert_shown('volumes', volume.id, '3GiB', 'Available')

    def test_change_the_type(self):
        volume = self.source(name='letters')
        self.act(volume, 'retype', 'change the volume type to "thick"',
                 'change-type', volume_type='thick',
                 migration_policy='On Demand')
        self.settled(volume.id)
        self.assertEqual('thick', self.disk_of(volume.id).disk_type)
        self.assert_content(volume.id)
        self.show(VOLUMES, 'change-type-done')
        self.assert_shown('volumes', volume.id, 'thick', 'Available')

    def test_upload_to_an_image(self):
        volume = self.source(name='letters')
        # Raw is what Horizon offers first.
        for disk_format, chosen in (('raw', {}),
                                    ('vmdk', {'disk_format': 'VMDK'})):
            with self.subTest(disk_format):
                self.upload(volume, disk_format, chosen)

    def upload(self, volume, disk_format, chosen):
        name = f'letters-{disk_format}'
        self.act(volume, 'upload_to_image', 'Successfully sent the request',
                 f'upload-{disk_format}', image_name=name, **chosen)
        image = self.member.image.find_image(name, False)
        self.addCleanup(self.member.image.delete_image, image.id)
        image = self.until('active',
                           lambda: self.member.image.get_image(image.id))
        self.assertEqual(disk_format, image.disk_format)
        self.settled(volume.id)
        back = self.volume(image_id=image.id)
        self.assert_content(back.id)

    def test_back_up_and_restore(self):
        volume = self.source(name='letters')
        self.act(volume, 'backups', 'Creating volume backup', 'backup',
                 name='letters-backup')
        backup, = self.volumes.backups(name='letters-backup')
        self.addCleanup(self.volumes.delete_backup, backup.id)
        self.until('available', lambda: self.volumes.get_backup(backup.id))
        self.settled(volume.id)
        self.show(BACKUPS, 'backup-done')
        self.assert_shown('volume_backups', backup.id, 'Available')
        empty = self.volume(name='letters-restored')
        self.browser.open(BACKUPS)
        self.browser.row_action('volume_backups', backup.id, 'restore')
        self.browser.fill(volume_id='letters-restored')
        self.browser.picture('restore')
        self.browser.submit()
        self.assert_said('Request for restoring backup')
        self.until('available', lambda: self.volumes.get_backup(backup.id))
        self.settled(empty.id)
        self.assert_content(empty.id)

    def test_transfer_to_another_project(self):
        volume = self.source(name='letters')
        self.browser.open(VOLUMES)
        self.browser.row_action('volumes', volume.id, 'create_transfer')
        self.browser.fill(name='letters-for-you')
        self.browser.submit(dialog=True)
        self.browser.picture('transfer')
        transfer = [self.browser.value(name) for name in ('id', 'auth_key')]
        self.log_in('other')
        self.addCleanup(self.log_in, self.USER)
        self.browser.open(VOLUMES)
        self.browser.table_action('volumes', 'accept_transfer')
        self.browser.fill(transfer_id=transfer[0], auth_key=transfer[1])
        self.browser.picture('accept')
        self.browser.submit()
        self.assert_said('Successfully accepted volume transfer')
        self.assert_shown('volumes', volume.id, 'letters')
        self.assertIsNone(self.found(self.volumes.get_volume, volume.id))
        theirs = self.cloud.connection('other').block_storage
        self.assert_content(theirs.get_volume(volume.id).id)
        theirs.delete_volume(volume.id)
        self.gone(theirs.get_volume, volume.id)

    def test_delete(self):
        volume = self.volume(name='letters')
        self.browser.open(VOLUMES)
        self.browser.row_action('volumes', volume.id, 'delete')
        self.browser.picture('delete')
        self.browser.submit()
        self.assert_said('Scheduled deletion of Volume: letters')
        self.gone(self.volumes.get_volume, volume.id)
        self.assertNotIn(volume.id, self.inspector.shadow_vms())


class ServerTestCase(PanelCase, walk.ServerCase):

    def test_attach_and_detach(self):
        volume = self.source(name='letters')
        before = len(self.machine().disks)
        self.act(volume, 'attachments', 'Attaching volume', 'attach',
                 instance=self.server.name)
        self.settled(volume.id, 'in-use')
        self.assertIn(self.disk_of(volume.id).path,
                      [disk.path for disk in self.machine().disks])
        self.show(VOLUMES, 'attach-done')
        self.assert_shown('volumes', volume.id, 'In-use', self.server.name)
        attachment, = self.volumes.get_volume(volume.id).attachments
        self.browser.row_action('volumes', volume.id, 'attachments')
        self.browser.row_action('attachments', attachment['attachment_id'],
                                'detach')
        self.browser.picture('detach')
        self.browser.submit()
        self.assert_said('Detaching Volume')
        self.settled(volume.id)
        self.assertEqual(before, len(self.machine().disks))
        self.assert_content(volume.id)


class AdministratorTestCase(PanelCase):

    USER = 'admin'

    def test_migrate(self):
        volume = self.source(name='letters')
        host = self.admin.block_storage.get_volume(volume.id).host
        # Of the same backend, for the volume's type may name it.
        others = {pool.name for pool
                  in self.admin.block_storage.backend_pools()
                  if pool.name.startswith(host.partition('#')[0] + '#')
                  } - {host}
        self.browser.open(ADMIN_VOLUMES)
        self.browser.row_action('volumes', volume.id, 'migrate')
        self.browser.fill(host=sorted(others)[0])
        self.browser.picture('migrate')
        self.browser.submit()
        self.assert_said('Successfully sent the request to migrate')
        self.until('success', lambda: _Status(
            self.admin.block_storage.get_volume(volume.id)))
        self.settled(volume.id)
        self.assertEqual(sorted(others)[0].partition('#')[2],
                         self.pool_of(volume.id))
        self.assert_where_cinder_says(volume.id)
        self.assert_content(volume.id)
        self.show(ADMIN_VOLUMES, 'migrate-done')
        self.assert_shown('volumes', volume.id, self.pool_of(volume.id))

    def test_unmanage_and_manage(self):
        mine = self.admin.block_storage
        volume = mine.create_volume(size=1, volume_type='thin',
                                    name='letters')
        self.until('available', lambda: mine.get_volume(volume.id))
        self.write(volume.id, self.content)
        host = mine.get_volume(volume.id).host
        self.browser.open(ADMIN_VOLUMES)
        self.browser.row_action('volumes', volume.id, 'unmanage')
        self.browser.picture('unmanage')
        self.browser.submit()
        self.assert_said('Successfully sent the request to unmanage')
        self.gone(mine.get_volume, volume.id)
        self.browser.open(ADMIN_VOLUMES)
        self.browser.table_action('volumes', 'manage')
        self.browser.fill(identifier=volume.id, id_type='ID', host=host,
                          name='letters-again', volume_type='thin')
        self.browser.picture('manage')
        self.browser.submit()
        self.assert_said('Successfully sent the request to manage')
        again, = mine.volumes(name='letters-again')
        self.addCleanup(self._delete, again.id)
        self.until('available', lambda: mine.get_volume(again.id))
        self.assert_where_cinder_says(again.id)
        self.assert_content(again.id)
        self.show(ADMIN_VOLUMES, 'manage-done')
        self.assert_shown('volumes', again.id, 'letters-again', 'Available')

    def _delete(self, volume_id):
        self.admin.block_storage.delete_volume(volume_id)
        self.gone(self.admin.block_storage.get_volume, volume_id)


class _Message:
    """Whether a volume has a message, as a status."""

    def __init__(self, volumes, volume_id):
        self.id = volume_id
        self.status = 'there' if volumes.get(
            f'/messages?resource_uuid={volume_id}',
            microversion='3.5').json()['messages'] else 'missing'


class _Status:
    """A volume with the status of its migration in place of its own."""

    def __init__(self, volume):
        self.id = volume.id
        self.status = volume.migration_status or 'none'


if __name__ == '__main__':
    unittest.main()
