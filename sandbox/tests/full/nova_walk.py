# SPDX-License-Identifier: Apache-2.0
"""What Nova does with servers that have volumes, by its VMware driver.

Each test compares the content of the volume, and where its disk is. What
Nova's driver cannot do, it is to refuse without a change to the volume.
"""

import time
import unittest

from sandbox.services import nova
from sandbox.tests.full import case
from sandbox.tests.full import walk

GIB = 1 << 30


class NovaCase(walk.ServerCase):
    """A server of the class, and words for what is done with it."""

    def server_status(self, wanted, server_id=None, failed=('error',)):
        """Wait until the server has a status."""
        return self.until(wanted, lambda: self.member.compute.get_server(
            server_id or self.server.id), failed)

    def attached(self):
        """A volume with this test's content, attached to the server."""
        volume = self.volume()
        self.write(volume.id, self.content)
        self.attach(volume.id)
        return volume

    def assert_attached(self, volume_id):
        """The server has the disk of this volume, with its content."""
        self.settled(volume_id, 'in-use')
        self.assertIn(self.disk_of(volume_id).path,
                      [disk.path for disk in self.machine().disks])
        self.assert_content(volume_id)

    def assert_detachable(self, volume_id):
        """The volume comes back with its content."""
        self.detach(volume_id)
        self.assertNotIn(self.disk_of(volume_id).path,
                         [disk.path for disk in self.machine().disks])
        self.assert_content(volume_id)

    def eventually(self, holds, what):
        """Wait until something holds."""
        deadline = time.monotonic() + case.PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                self.fail(f'not within {case.PATIENCE_SECONDS} s: {what}')
            time.sleep(1)


class LifeTestCase(NovaCase):

    def test_a_rebuilt_server_keeps_its_volume(self):
        volume = self.attached()
        before = self.machine().moref
        self.member.compute.rebuild_server(
            self.server.id, image=self.member.image.find_image('tiny').id)
        self.eventually(lambda: self.rebuilt(before), 'another VM')
        self.server_status('active')
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)

    def rebuilt(self, before):
        machine = self.inspector.shadow_vms().get(self.server.id)
        return machine is not None and machine.moref != before

    def test_a_resized_server_keeps_its_volume(self):
        volume = self.attached()
        self.resize()
        self.member.compute.confirm_server_resize(self.server.id)
        self.server_status('active')
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)

    def test_a_resize_that_is_reverted_keeps_the_volume(self):
        volume = self.attached()
        self.resize()
        self.member.compute.revert_server_resize(self.server.id)
        self.server_status('active')
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)

    def resize(self):
        """Give the server the flavor that it does not have."""
        compute = self.member.compute
        flavor = compute.get_server(self.server.id).flavor.name
        other = next(name for name, *_ in nova.FLAVORS if name != flavor)
        compute.resize_server(self.server.id, compute.find_flavor(other).id)
        self.server_status('verify_resize')

    def test_a_shelved_server_has_its_volume_again(self):
        volume = self.attached()
        compute = self.member.compute
        compute.shelve_server(self.server.id)
        self.server_status('shelved_offloaded')
        self.assertNotIn(self.server.id, self.inspector.shadow_vms())
        self.assert_content(volume.id)
        self.addCleanup(self.delete_shelved, f'{self.server.name}-shelved')
        compute.unshelve_server(self.server.id)
        self.server_status('active')
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)

    def delete_shelved(self, name):
        # Nova deletes it too, once the server is there again.
        for image in self.member.image.images(name=name):
            self.member.image.delete_image(image.id, ignore_missing=True)


class VolumeTestCase(NovaCase):

    def test_a_server_boots_from_a_volume_that_outlives_it(self):
        volume = self.volume(image_id=self.image(self.content).id)
        compute = self.member.compute
        server = compute.create_server(
            name='from-volume', networks='none',
            flavor_id=compute.find_flavor('tiny').id,
            block_device_mapping_v2=[{
                'boot_index': 0, 'uuid': volume.id, 'source_type': 'volume',
                'destination_type': 'volume',
                'delete_on_termination': False}])
        self.addCleanup(self.delete_server, server)
        self.server_status('active', server.id)
        self.settled(volume.id, 'in-use')
        machine = self.inspector.shadow_vms()[server.id]
        self.assertEqual([self.disk_of(volume.id).path],
                         [disk.path for disk in machine.disks])
        self.assert_content(volume.id)
        self.delete_server(server)
        self.settled(volume.id)
        self.assert_content(volume.id)
        self.eventually(lambda: self.pool_of(volume.id) == self.disk_of(
            volume.id).datastore, "the volume's host is its datastore")

    def delete_server(self, server):
        compute = self.member.compute
        compute.delete_server(server.id, ignore_missing=True)
        compute.wait_for_delete(server, wait=case.PATIENCE_SECONDS)

    def test_a_deleted_server_leaves_the_volume(self):
        compute = self.member.compute
        server = compute.create_server(
            name='deleted', networks='none',
            flavor_id=compute.find_flavor('tiny').id,
            image_id=self.member.image.find_image('tiny').id)
        self.addCleanup(self.delete_server, server)
        self.server_status('active', server.id)
        volume = self.volume()
        self.write(volume.id, self.content)
        compute.create_volume_attachment(server.id, volume_id=volume.id)
        self.settled(volume.id, 'in-use')
        self.delete_server(server)
        self.settled(volume.id)
        self.assert_content(volume.id)
        self.assert_where_cinder_says(volume.id)

    def test_an_extension_that_nova_cannot_follow_is_no_error_of_ours(self):
        # Nova's driver says ExtendVolumeNotSupported.
        volume = self.attached()
        with self.no_new_error():
            self.volumes.extend_volume(volume.id, 2)
            self.eventually(
                lambda: self.volumes.get_volume(volume.id).size == 2,
                'the size is 2')
            self.eventually(lambda: self.results('extend_volume'),
                            'Nova has tried')
            self.assertEqual({'Error'}, self.results('extend_volume'))
            self.assert_attached(volume.id)
        self.assertEqual(
            {2 * GIB}, {disk.size_bytes for disk in [
                self.disk_of(volume.id), *self.machine().disks]
                if disk.path == self.disk_of(volume.id).path})
        self.assertEqual([], list(self.volumes.get(
            f'/messages?resource_uuid={volume.id}').json()['messages']))
        self.assert_detachable(volume.id)

    def results(self, action):
        """The results of an action of the server, once it has ended."""
        where = f'/servers/{self.server.id}/os-instance-actions'
        found = [self.admin.compute.get(
            f'{where}/{each["request_id"]}').json()['instanceAction']
            for each in self.admin.compute.get(
                where).json()['instanceActions'] if each['action'] == action]
        return {event['result'] for each in found
                for event in each['events']
                if event['finish_time']}

    def no_new_error(self):
        """What runs within leaves no error in the log of cinder-volume."""
        return _NoNewError(
            self, self.cloud.folder / 'log' / 'cinder-volume-1.log')

    def test_a_migration_that_needs_a_swap_changes_nothing(self):
        volume = self.attached()
        admin = self.admin.block_storage
        host = admin.get_volume(volume.id).host
        path = self.disk_of(volume.id).path
        admin.migrate_volume(volume.id, host=self.other_pool(host))
        copies = set()

        def failed():
            copies.update(self.copies(volume.id))
            return admin.get_volume(volume.id).migration_status == 'error'

        self.eventually(failed, 'the migration fails')
        self.server_status('active')
        self.assert_attached(volume.id)
        self.assertEqual((host, path), (admin.get_volume(volume.id).host,
                                        self.disk_of(volume.id).path))
        self.eventually(lambda: not self.copies(volume.id),
                        'no volume is left that it would have moved to')
        self.assertEqual(set(), copies & set(self.inspector.shadow_vms()))
        self.assert_detachable(volume.id)

    def copies(self, volume_id):
        """The volumes that Cinder has made for a migration of this one."""
        return {each.id for each in self.admin.block_storage.volumes(
            all_projects=True)
            if each.migration_status == f'target:{volume_id}'}

    def other_pool(self, host):
        """A pool of the same backend."""
        return next(pool.name for pool
                    in self.admin.block_storage.backend_pools()
                    if pool.name != host and pool.name.startswith(
                        host.partition('#')[0] + '#'))


class _NoNewError:

    def __init__(self, test, log):
        self._test, self._log = test, log

    def __enter__(self):
        self._begin = self._log.stat().st_size

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        with open(self._log) as log:
            log.seek(self._begin)
            self._test.assertEqual(
                [], [line for line in log if ' ERROR ' in line])


class OtherClusterTestCase(NovaCase):
    """A second nova-compute, on the vCenter's second cluster."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        services = {each.host: each for each
                    in cls.admin.compute.services(binary='nova-compute')}
        first, second = (services[host] for host in nova.HOSTS)
        cls.first = first
        cls.admin.compute.enable_service(second)
        cls.addClassCleanup(cls.admin.compute.disable_service, second)

    def host(self):
        return self.admin.compute.get_server(self.server.id).compute_host

    def test_a_server_migrates_live_with_its_volume(self):
        volume = self.attached()
        target = next(host for host in nova.HOSTS if host != self.host())
        self.admin.compute.live_migrate_server(
            self.server.id, host=target, force=False, block_migration='auto')
        self.eventually(lambda: self.host() == target, 'the other host')
        self.server_status('active')
        # The vCenter takes the disk along; the driver takes it out again of
        # the folder that is deleted with the server.
        self.eventually(lambda: self.folder(self.disk_of(
            volume.id)) != self.folder(self.machine().disks[0]),
            "the disk is not among the server's files")
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)
        self.eventually(lambda: self.pool_of(volume.id) == self.disk_of(
            volume.id).datastore, "the volume's host is its datastore")

    @staticmethod
    def folder(disk):
        return disk.path.rpartition('/')[0]

    def test_an_evacuation_is_refused_and_changes_nothing(self):
        volume = self.attached()
        compute = self.admin.compute
        service = next(each for each in compute.services(
            binary='nova-compute') if each.host == self.host())
        path = self.disk_of(volume.id).path
        compute.update_service_forced_down(service, forced=True)
        try:
            compute.evacuate_server(self.server.id)
            self.server_status('error', failed=())
        finally:
            compute.update_service_forced_down(service, forced=False)
        self.addCleanup(compute.reset_server_state, self.server.id, 'active')
        self.assertEqual(path, self.disk_of(volume.id).path)
        compute.reset_server_state(self.server.id, 'active')
        self.assert_attached(volume.id)
        self.assert_detachable(volume.id)


if __name__ == '__main__':
    unittest.main()
