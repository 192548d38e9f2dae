# SPDX-License-Identifier: Apache-2.0
"""A volume's life through the real API, in both of Cinder's runtimes.

The results of the API are checked in the vCenter with pyVmomi.
"""
from concurrent import futures

from sandbox.tests import sandbox_case
import sandbox
from sandbox import attachments


class _Lifecycle:
    """The tests; the classes below say in which runtime."""

    arguments = {'extra_backends': [sandbox.Backend(
        'lazy', options={'vmware_lazy_create': True})]}

    def setUp(self):
        super().setUp()
        self.machines_before = {machine.moref: machine.name for machine
                                in self.inspector.machines()}
        self.files_before = self.inspector.files()
        # Cleanups run in the reverse order: this check after the deletions.
        self.addCleanup(self.assert_nothing_left)

    def assert_nothing_left(self):
        machines = {machine.moref: machine.name for machine
                    in self.inspector.machines()}
        self.assertEqual(self.machines_before, machines)
        self.assertEqual(self.files_before, self.inspector.files())

    def delete(self, collection, resource):
        resource.delete()
        self.clients.wait_until_gone(collection, resource.id)

    def create(self, **arguments):
        volume = self.cinder.volumes.create(**arguments)
        self.addCleanup(self.delete, self.cinder.volumes, volume)
        return self.clients.settled_volume(volume.id)

    def disk(self, volume):
        """The volume's disk, which must be where Cinder says it is."""
        machine = self.inspector.shadow_vms()[volume.id]
        self.assertEqual(1, len(machine.disks), machine)
        self.assertEqual(self.pool(volume), machine.disks[0].datastore)
        return machine.disks[0]

    @staticmethod
    def pool(volume):
        return getattr(volume, 'os-vol-host-attr:host').partition('#')[2]

    def test_pools_are_the_datastores_with_their_capacity(self):
        datastores = self.inspector.datastores()

        pools = {pool.name: pool for pool
                 in self.cinder.pools.list(detailed=True)}

        self.assertEqual(
            {'sandbox@%s#%s' % (backend, name) for name in datastores
             for backend in ('vcenter', 'lazy')}, set(pools))
        for name, summary in datastores.items():
            pool = pools['sandbox@vcenter#%s' % name]
            self.assertEqual(summary.capacity // sandbox_case.BYTES_PER_GIB,
                             pool.total_capacity_gb)

    def test_each_disk_type_is_made_on_the_datastore_of_its_host(self):
        volumes = {name: self.create(size=1, volume_type=name)
                   for name in ('thin', 'thick', 'eagerZeroedThick')}

        disks = {name: self.disk(volume) for name, volume in volumes.items()}

        self.assertEqual({name: name for name in disks},
                         {name: disk.disk_type
                          for name, disk in disks.items()})
        self.assertEqual({sandbox_case.BYTES_PER_GIB},
                         {disk.size_bytes for disk in disks.values()})

    def test_many_volumes_at_once_are_each_where_their_host_says(self):
        def create(number):
            volume = self.cinder.volumes.create(
                1, volume_type=('thin', 'thick')[number % 2])
            self.addCleanup(self.clients.wait_until_gone,
                            self.cinder.volumes, volume.id)
            return volume

        with futures.ThreadPoolExecutor(10) as executor:
            created = list(executor.map(create, range(20)))
        for volume in created:
            self.addCleanup(volume.delete)  # all, before any wait

        disks = [self.disk(self.clients.settled_volume(volume.id))
                 for volume in created]

        # The datastores are equal, and the scheduler takes the emptiest.
        self.assertGreater(len({disk.datastore for disk in disks}), 1)

    def test_copies_are_made_on_the_datastore_of_their_host(self):
        source = self.create(size=1, volume_type='thin')
        snapshot = self.cinder.volume_snapshots.create(source.id)
        self.addCleanup(self.delete, self.cinder.volume_snapshots, snapshot)
        self.clients.settled_snapshot(snapshot.id)

        copies = [self.create(size=1, snapshot_id=snapshot.id),
                  self.create(size=1, source_volid=source.id)]

        for volume in copies:
            self.disk(volume)

    def test_changed_volumes_stay_on_the_datastore_of_their_host(self):
        volume = self.create(size=1, volume_type='thick')

        self.cinder.volumes.extend(volume, 2)
        volume = self.clients.settled_volume(volume.id)
        self.assertEqual(2, volume.size)
        self.disk(volume)
        self.cinder.volumes.retype(volume, 'thin', 'never')
        volume = self.clients.settled_volume(volume.id)
        self.assertEqual('thin', volume.volume_type)
        self.disk(volume)

    def test_a_lazy_volume_gets_its_disk_when_it_is_attached(self):
        volume = self.create(size=1, volume_type='lazy')
        self.assertNotIn(volume.id, self.inspector.shadow_vms())
        attacher = attachments.Attacher(self.clients, self.inspector)

        attachment = attacher.attach(volume.id, attacher.instances()[0])
        self.addCleanup(self.cinder.volumes.reset_state, volume, 'available',
                        attach_status='detached')

        volume = self.clients.settled_volume(volume.id)
        self.assertEqual('in-use', volume.status)
        self.assertEqual(attachment.path, self.disk(volume).path)
        instance = next(machine for machine in self.inspector.machines()
                        if machine.moref == attachment.instance_moref)
        self.assertIn(attachment.path, [disk.path for disk in instance.disks])
        attacher.detach(attachment)
        volume = self.clients.settled_volume(volume.id)
        self.assertEqual('available', volume.status)
        self.disk(volume)

    def test_cinder_goes_on_after_a_crash(self):
        before = self.create(size=1, volume_type='thin')

        self.sandbox.restart_cinder(crash=True)

        self.disk(self.cinder.volumes.get(before.id))
        self.disk(self.create(size=1, volume_type='thin'))

    def test_the_password_is_in_no_log(self):
        password = self.sandbox.vcenter.password

        logs = list((self.sandbox.folder / 'log').iterdir())

        self.assertIn(self.sandbox.cinder_log, logs)
        for log in logs:
            self.assertNotIn(password, log.read_text(), log)


class EventletTestCase(_Lifecycle, sandbox_case.SandboxCase):

    runtime = 'eventlet'


class ThreadsTestCase(_Lifecycle, sandbox_case.SandboxCase):

    runtime = 'threads'

    def test_a_retype_that_needs_a_forbidden_migration_ends_silently(self):
        # docs/troubleshooting.md says so: the scheduler calls no driver.
        volume = self.create(size=1, volume_type='thin')
        self.cinder.volumes.retype(volume, 'lazy', 'never')
        volume = self.clients.settled_volume(volume.id)
        self.assertEqual(('available', 'thin'),
                         (volume.status, volume.volume_type))
        self.assertEqual([], [
            each for each in self.clients.openstack_json(
                'volume', 'message', 'list')
            if each['Resource UUID'] == volume.id])
        lines = self.sandbox.cinder_log.read_text().splitlines()
        self.assertTrue(any('Failed to schedule_retype: No valid backend was '
                            'found' in line for line in lines))
        self.assertFalse(any(volume.id in line and 'retype of' in line
                             for line in lines))

    def test_the_openstack_client_shows_the_datastore(self):
        created = self.clients.openstack_json(
            'volume', 'create', '--type', 'thin', '--size', '1', 'shown')
        volume = self.cinder.volumes.get(created['id'])
        self.addCleanup(self.delete, self.cinder.volumes, volume)
        self.clients.settled_volume(volume.id)

        shown = self.clients.openstack_json('volume', 'show', 'shown')

        disk, = self.inspector.shadow_vms()[volume.id].disks
        self.assertEqual('sandbox@vcenter#%s' % disk.datastore,
                         shown['os-vol-host-attr:host'])
