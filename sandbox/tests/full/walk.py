# SPDX-License-Identifier: Apache-2.0
"""What a member of a project does with volumes, in a whole cloud.

Each step is asked of the services by openstacksdk, and its effect is looked at
by pyVmomi and by the bytes of the disks.
"""

import random
import tempfile

import openstack

from sandbox.tests.full import case

GIB = 1 << 30
MIB = 1 << 20


class WalkCase(case.CloudCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.volumes = cls.member.block_storage

    def setUp(self):
        super().setUp()
        self.content = random.Random(self.id()).randbytes(MIB)

    # -- words -------------------------------------------------------------

    def volume(self, **how):
        """A new volume, which is deleted after the test."""
        made = self.volumes.create_volume(
            **{'size': 1, 'volume_type': 'thin', 'name': self.id(), **how})
        self.addCleanup(self.delete, made.id)
        return self.settled(made.id)

    def settled(self, volume_id, wanted='available'):
        return self.until(wanted,
                          lambda: self.volumes.get_volume(volume_id))

    def delete(self, volume_id):
        """Delete a volume, if it is there, and see that its VM goes."""
        if self.found(self.volumes.get_volume, volume_id):
            for snapshot in self.volumes.snapshots(volume_id=volume_id):
                self.volumes.delete_snapshot(snapshot.id)
                self.gone(self.volumes.get_snapshot, snapshot.id)
            self.volumes.delete_volume(volume_id)
            self.gone(self.volumes.get_volume, volume_id)
        self.assertNotIn(volume_id, self.inspector.shadow_vms())

    @staticmethod
    def found(get, identifier):
        try:
            return get(identifier)
        except openstack.exceptions.NotFoundException:
            return None

    def gone(self, get, identifier):
        self.until(None, lambda: self.found(get, identifier))

    def image(self, content, name=None):
        """A new flat image, which is deleted after the test."""
        made = self.member.image.create_image(
            name or self.id(), data=content, disk_format='vmdk',
            container_format='bare', wait=True,
            vmware_disktype='preallocated', vmware_adaptertype='lsiLogic')
        self.addCleanup(self.member.image.delete_image, made.id)
        return made

    def assert_content(self, volume_id, content=None):
        wanted = self.content if content is None else content
        # Not compared by assertEqual, which would print a MiB.
        self.assertTrue(self.read(volume_id, len(wanted)) == wanted,
                        f'the content of {volume_id} is another')

    def assert_where_cinder_says(self, volume_id):
        self.assertEqual(self.pool_of(volume_id),
                         self.disk_of(volume_id).datastore)


class VolumeTestCase(WalkCase):

    def test_a_volume_is_a_disk_on_the_datastore_that_its_host_names(self):
        volume = self.volume()
        self.assert_where_cinder_says(volume.id)
        disk = self.disk_of(volume.id)
        self.assertEqual((GIB, 'thin'), (disk.size_bytes, disk.disk_type))

    def test_a_deleted_volume_leaves_nothing(self):
        volume = self.volume()
        folder = self.disk_of(volume.id).path.rpartition('/')[0]
        self.delete(volume.id)
        self.assertFalse([file for file in self.inspector.files()
                          if file.startswith(folder + '/')])

    def test_a_clone_has_the_content(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        clone = self.volume(source_volume_id=volume.id)
        self.assert_content(clone.id)

    def test_a_volume_of_a_snapshot_has_the_content_of_then(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        snapshot = self.volumes.create_snapshot(volume_id=volume.id)
        self.until('available',
                   lambda: self.volumes.get_snapshot(snapshot.id))
        self.write(volume.id, bytes(MIB))
        back = self.volume(snapshot_id=snapshot.id)
        self.assert_content(back.id)
        self.volumes.delete_snapshot(snapshot.id)
        self.gone(self.volumes.get_snapshot, snapshot.id)
        self.assert_content(volume.id, bytes(MIB))

    def test_an_extended_volume_keeps_its_content(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        self.volumes.extend_volume(volume.id, 2)
        self.assertEqual(2, self.settled(volume.id).size)
        self.assertEqual(2 * GIB, self.disk_of(volume.id).size_bytes)
        self.assert_content(volume.id)

    def test_a_retyped_volume_keeps_its_content(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        self.volumes.retype_volume(volume.id, 'thick', 'on-demand')
        self.settled(volume.id)
        self.assertEqual('thick',
                         self.volumes.get_volume(volume.id).volume_type)
        self.assertEqual('thick', self.disk_of(volume.id).disk_type)
        self.assert_content(volume.id)

    def test_another_member_accepts_a_transfer(self):
        volume = self.volume()
        transfer = self.volumes.create_transfer(volume_id=volume.id)
        other = self.cloud.connection('other')
        other.block_storage.accept_transfer(transfer.id, transfer.auth_key)
        self.assertIsNone(self.found(self.volumes.get_volume, volume.id))
        theirs = other.block_storage.get_volume(volume.id)
        self.assertEqual('available', theirs.status)
        self.assertIn(volume.id, self.inspector.shadow_vms())
        other.block_storage.delete_volume(volume.id)
        self.gone(other.block_storage.get_volume, volume.id)


class ImageTestCase(WalkCase):

    def test_an_image_becomes_a_volume_and_the_volume_an_image(self):
        volume = self.volume(image_id=self.image(self.content).id)
        self.assert_content(volume.id)
        self.assert_where_cinder_says(volume.id)
        answer = self.volumes.upload_volume_to_image(
            volume.id, self.id() + ' back', disk_format='vmdk',
            container_format='bare')
        image_id = answer['image_id']
        self.addCleanup(self.member.image.delete_image, image_id)
        self.settled(volume.id)
        image = self.until('active',
                           lambda: self.member.image.get_image(image_id))
        self.assertEqual('vmdk', image.disk_format)
        with tempfile.TemporaryFile() as data:
            self.member.image.download_image(image, output=data)
            data.seek(0)
            self.assertEqual(b'KDMV', data.read(4))
        again = self.volume(image_id=image_id)
        self.assert_content(again.id)


class ServerCase(WalkCase):
    """A server of the class, which is there for all of its tests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        compute = cls.member.compute
        cls.server = compute.create_server(
            name=cls.__name__, networks='none',
            flavor_id=compute.find_flavor('tiny').id,
            image_id=cls.member.image.find_image('tiny').id)
        cls.addClassCleanup(cls._delete_server)

    @classmethod
    def _delete_server(cls):
        cls.member.compute.delete_server(cls.server.id)
        cls.member.compute.wait_for_delete(cls.server,
                                           wait=case.PATIENCE_SECONDS)

    def setUp(self):
        super().setUp()
        self.until('active', lambda: self.member.compute.get_server(
            self.server.id))

    def machine(self):
        """The server's VM."""
        return self.inspector.shadow_vms()[self.server.id]

    def attach(self, volume_id):
        self.member.compute.create_volume_attachment(
            self.server.id, volume_id=volume_id)
        self.settled(volume_id, 'in-use')

    def detach(self, volume_id):
        self.member.compute.delete_volume_attachment(
            self.server.id, volume_id)
        self.settled(volume_id)


class ServerTestCase(ServerCase):
    """Nova's VMware driver, booting from an image and attaching volumes."""

    def test_an_attached_volume_is_a_disk_of_the_server(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        before = len(self.machine().disks)
        self.attach(volume.id)
        attached = self.machine().disks
        self.assertEqual(before + 1, len(attached))
        self.assertIn(self.disk_of(volume.id).path,
                      [disk.path for disk in attached])
        self.assert_content(volume.id)
        self.detach(volume.id)
        self.assertEqual(before, len(self.machine().disks))
        self.assert_content(volume.id)

    def test_a_snapshot_of_an_attached_volume_has_its_content(self):
        volume = self.volume()
        self.write(volume.id, self.content)
        self.attach(volume.id)
        try:
            snapshot = self.volumes.create_snapshot(volume_id=volume.id,
                                                    is_forced=True)
            self.until('available',
                       lambda: self.volumes.get_snapshot(snapshot.id))
            back = self.volume(snapshot_id=snapshot.id)
            self.assert_content(back.id)
            self.volumes.delete_snapshot(snapshot.id)
            self.gone(self.volumes.get_snapshot, snapshot.id)
        finally:
            self.detach(volume.id)
