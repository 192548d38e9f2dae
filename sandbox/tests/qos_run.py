# SPDX-License-Identifier: Apache-2.0
"""QoS specs of volume types, by real services of Cinder.

    make qos-run

Types and QoS specs are made by the `cinder` and `openstack` programs. Volumes
are created, copied, attached as Nova does it, detached and retyped by
Cinder's API, on a backend with lazy creation and on one without. pyVmomi
reads what their disks have. Of five datastores two reserve I/O operations,
which Cinder's stock scheduler does not know.
"""

from concurrent import futures
import unittest

from cinderclient import exceptions as api_errors
from pyVim import task
from pyVmomi import vim

import sandbox
from sandbox import attachments
from sandbox.tests import qos_case
from sandbox.tests import sandbox_case

DEFAULT = qos_case.DEFAULT
RESERVING = {'LocalDS_1', 'LocalDS_3'}
AT_ONCE = 20
# Specs that are wrong, and what the one error line says about them.
WRONG = (
    ({'disk_io_burst': '3'}, 'perhaps disk_io_limit is meant'),
    ({'read_iops_sec': '100'}, 'vSphere has no read_iops_sec for a disk'),
    ({'total_iops_sec': '15'}, 'set it to a whole number from 16 to'),
    ({'total_iops_sec': '-2'}, 'or -1 for none'),
    ({'disk_io_limit': '1e3'}, "disk_io_limit has the value '1e3'"),
    ({'disk_io_limit': ''}, "disk_io_limit has the value ''"),
    ({'disk_io_limit': '100', 'total_iops_sec': '200'}, 'remove one'),
    ({'disk_io_reservation': '200', 'disk_io_limit': '100'},
     'is above the limit 100'),
    ({'disk_io_shares_level': 'highest'}, 'set it to one of low, normal'),
    ({'disk_io_shares_level': 'low', 'disk_io_shares_share': '700'},
     'has no effect with disk_io_shares_level low'),
    ({'disk_io_shares_share': '100'}, 'whole number from 200 to 4000'))


class QosTestCase(qos_case.QosCase, sandbox_case.SandboxCase):

    SIMULATOR = ['-ds', '5', '-ds-capacity', '400GiB']
    arguments = {'extra_backends': [sandbox.Backend(
        'lazy', options={'vmware_lazy_create': True})]}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.attacher = attachments.Attacher(cls.clients, cls.inspector)

    def setUp(self):
        super().setUp()
        self.made = []
        self.addCleanup(self.delete_made)

    def keep(self, collection, resource):
        self.made.append((collection, resource))
        return resource

    def delete_made(self):
        for collection, resource in reversed(self.made):
            resource.delete()
            self.clients.wait_until_gone(collection, resource.id)

    def create(self, volume_type, status='available', **more):
        return self.settled(self.keep(
            self.cinder.volumes, self.cinder.volumes.create(
                1, volume_type=volume_type, **more)), status)

    def attach(self, volume, number=0):
        found = self.attacher.attach(volume.id,
                                     self.attacher.instances()[number])
        self.settled(volume, 'in-use')
        return found

    def detach(self, attachment, volume):
        self.attacher.detach(attachment)
        return self.settled(volume, 'available')

    def retype(self, volume, name, policy='never'):
        before = volume.status
        self.clients.cinder('retype', '--migration-policy', policy,
                            volume.id, name)
        return self.settled(volume, before)

    @staticmethod
    def pool(volume):
        return getattr(volume, 'os-vol-host-attr:host').partition('#')[2]

    # -- Made, attached, retyped --------------------------------------------

    def test_each_consumer(self):
        for consumer, wanted in (('back-end', (300, 'custom', 700, 0)),
                                 ('both', (300, 'custom', 700, 0)),
                                 ('front-end', DEFAULT)):
            with self.subTest(consumer):
                name = self.qos_type(consumer, disk_io_limit=300,
                                     disk_io_shares_share=700)
                volumes = [self.create(name) for _ in range(2)]
                for volume in volumes:
                    self.assertEqual(wanted, self.of_shadow(volume))
                attached = self.attach(volumes[0])
                self.wait_for(wanted, attached)
                self.assertEqual(
                    int(consumer == 'front-end'),
                    len(self.lines(' WARNING ', f'QoS specs {name} ',
                                   'have no effect')))
                volume = self.detach(attached, volumes[0])
                self.assertEqual(wanted, self.of_shadow(volume))

    def test_specs_of_the_openstack_program_without_a_consumer(self):
        # Its own default is "both".
        self.clients.openstack('volume', 'qos', 'create', '--property',
                               'total_iops_sec=80', 'plain')
        name = self.qos_type()
        self.clients.openstack('volume', 'qos', 'associate', 'plain', name)
        self.assertEqual('both', self.cinder.qos_specs.find(
            name='plain').consumer)
        self.assertEqual(80, self.of_shadow(self.create(name))[0])

    def test_copies(self):
        gold, plain = self.qos_type(total_iops_sec=500), self.qos_type()
        source = self.create(gold)
        snapshot = self.keep(self.cinder.volume_snapshots,
                             self.cinder.volume_snapshots.create(source.id))
        self.clients.settled_snapshot(snapshot.id)
        for limit, name, more in (
                (500, gold, {'snapshot_id': snapshot.id}),
                (500, gold, {'source_volid': source.id}),
                (-1, plain, {'source_volid': source.id})):
            self.assertEqual(limit, self.of_shadow(
                self.create(name, **more))[0])

    def test_a_lazy_volume(self):
        volume = self.create(self.qos_type(backend='lazy', disk_io_limit=250))
        self.assertNotIn(volume.id, self.inspector.shadow_vms())
        attached = self.attach(volume)
        self.wait_for((250, 'normal', 1000, 0), attached)
        self.assertEqual(250, self.of_shadow(volume)[0])
        self.detach(attached, volume)

    def test_a_retype_in_use_and_at_rest(self):
        silver = self.qos_type(disk_io_limit=300)
        gold = self.qos_type(disk_io_shares_level='high')
        both = self.qos_type('both', disk_io_limit=200)
        plain = self.qos_type()
        volume = self.create(silver)
        attached = self.attach(volume)
        self.wait_for((300, 'normal', 1000, 0), attached)
        volume = self.cinder.volumes.get(volume.id)
        for name, wanted in ((gold, (-1, 'high', 2000, 0)),
                             (plain, DEFAULT),
                             (silver, (300, 'normal', 1000, 0))):
            volume = self.retype(volume, name)
            self.assertEqual(name, volume.volume_type)
            self.assertEqual(wanted, self.on_instance(attached))
            self.assertEqual(wanted, self.of_shadow(volume))
        with self.assertRaisesRegex(api_errors.BadRequest,
                                    'front-end qos specs cannot change'):
            self.cinder.volumes.retype(volume, both, 'never')
        volume = self.detach(attached, volume)
        volume = self.retype(volume, both)
        self.assertEqual(200, self.of_shadow(volume)[0])

    def test_specs_that_change(self):
        name, plain = self.qos_type(disk_io_limit=300), self.qos_type()
        volume = self.create(name)
        attached = self.attach(volume)
        self.wait_for((300, 'normal', 1000, 0), attached)
        specs = self.specs_id(name)
        self.clients.cinder('qos-key', specs, 'set', 'disk_io_limit=200')
        self.assertEqual(300, self.on_instance(attached)[0])
        volume = self.detach(attached, volume)
        attached = self.attach(volume)
        self.wait_for((200, 'normal', 1000, 0), attached)
        # Without the association an attached volume keeps it. Cinder changes
        # a type to an equal one without the driver. A retype to another type
        # resets what is gone.
        self.clients.cinder('qos-disassociate', specs,
                            self.cinder.volume_types.find(name=name).id)
        self.assertEqual(200, self.on_instance(attached)[0])
        volume = self.retype(self.cinder.volumes.get(volume.id), plain)
        self.assertEqual(plain, volume.volume_type)
        self.assertEqual(200, self.on_instance(attached)[0])
        self.retype(volume, self.qos_type(disk_io_shares_level='high'))
        self.assertEqual((-1, 'high', 2000, 0), self.on_instance(attached))
        self.detach(attached, volume)

    # -- Wrong specs ----------------------------------------------------------

    def test_wrong_specs_are_one_line_and_one_message_each(self):
        for specs, words in WRONG:
            with self.subTest(specs):
                volume = self.create(self.qos_type(**specs), 'error')
                line, = self.lines(' ERROR ', volume.id)
                self.assertIn('create_volume', line)
                self.assertIn(words, line)
                self.assertEqual(
                    1, len(self.lines('create_volume', volume.id, 'begins')))
                self.assertEqual(
                    ['create volume from backend storage:Driver failed to '
                     'create the volume.'], self.messages(volume))

    def test_a_volume_whose_specs_became_wrong(self):
        name, plain = self.qos_type(disk_io_limit=300), self.qos_type()
        volumes = [self.create(name) for _ in range(2)]
        attached = self.attach(volumes[0])
        self.wait_for((300, 'normal', 1000, 0), attached)
        self.clients.cinder('qos-key', self.specs_id(name), 'set',
                            'disk_io_limit=5')
        # What is attached works on; it can be extended and detached.
        self.cinder.volumes.extend(volumes[0], 2)
        self.settled(volumes[0], 'in-use')
        self.assertEqual(300, self.on_instance(attached)[0])
        self.detach(attached, volumes[0])
        # The caller has the sentence at once, and the tenant a message.
        with self.assertRaisesRegex(
                api_errors.ClientException, "disk_io_limit has the value '5'"):
            self.attacher.attach(volumes[1].id, self.attacher.instances()[0])
        self.assertEqual(['attach volume:Failed to attach volume.'],
                         self.messages(volumes[1]))
        for each in self.cinder.attachments.list(
                search_opts={'volume_id': volumes[1].id}):
            self.cinder.attachments.delete(each.id)  # as Nova does
        volume = self.retype(self.settled(volumes[1], 'available'), plain)
        self.assertEqual(plain, volume.volume_type)
        # To a type with wrong specs a volume is not retyped.
        volume = self.retype(volume, name)
        self.assertEqual(plain, volume.volume_type)
        self.assertEqual(1, len(self.lines(' ERROR ', 'retype', volume.id)))
        self.assertEqual(2, len(self.messages(volume)))

    # -- Reservations ---------------------------------------------------------

    def reserve(self, enabled):
        content = self.inspector.content
        view = self.inspector._view(vim.Datastore)
        for datastore in view.view:
            if datastore.name in RESERVING:
                task.WaitForTask(
                    content.storageResourceManager.ConfigureDatastoreIORM_Task(
                        datastore, vim.StorageResourceManager.IORMConfigSpec(
                            enabled=enabled, reservationEnabled=enabled)))
        view.DestroyView()

    def reserving(self):
        self.reserve(True)
        self.addCleanup(self.reserve, False)

    def test_no_datastore_reserves(self):
        volume = self.create(self.qos_type(disk_io_reservation=100), 'error')
        line, = self.lines(' ERROR ', volume.id)
        self.assertIn('no datastore of this backend can have 100 reserved '
                      'I/O operations a second', line)
        self.assertEqual(1, len(self.messages(volume)))

    def made_at_once(self, name):
        with futures.ThreadPoolExecutor(10) as executor:
            made = list(executor.map(
                lambda number: self.cinder.volumes.create(
                    1, volume_type=name), range(AT_ONCE)))
        for volume in made:
            self.keep(self.cinder.volumes, volume)
        return [self.settled(volume, 'available') for volume in made]

    def test_two_of_five_datastores_reserve(self):
        self.reserving()
        made = self.made_at_once(self.qos_type(disk_io_reservation=100))
        self.assertEqual(RESERVING, set(map(self.pool, made)))
        machines = self.inspector.shadow_vms()
        for volume in made:
            self.assertEqual([self.pool(volume)], [
                disk.datastore for disk in machines[volume.id].disks])
            self.assertEqual(
                100, self.allocation(machines[volume.id].moref)[3])

    def test_two_of_five_datastores_reserve_lazily(self):
        self.reserving()
        made = self.made_at_once(self.qos_type(backend='lazy',
                                               disk_io_reservation=100))
        self.assertEqual(RESERVING, set(map(self.pool, made)))
        for number, volume in enumerate(made[:4]):
            attached = self.attach(volume, number % 4)
            self.wait_for((-1, 'normal', 1000, 100), attached)
            volume = self.detach(attached, volume)
            self.assertIn(self.pool(volume), RESERVING)

    def test_a_retype_to_a_reservation(self):
        self.reserving()
        plain = self.qos_type()
        name = self.qos_type(disk_io_reservation=100)
        volumes = [self.create(plain) for _ in range(5)]
        self.assertLess(RESERVING, set(map(self.pool, volumes)))
        for volume in volumes:
            volume = self.retype(volume, name)
            self.assertEqual(name, volume.volume_type)
            self.assertIn(self.pool(volume), RESERVING)
            disk, = self.inspector.shadow_vms()[volume.id].disks
            self.assertEqual(self.pool(volume), disk.datastore)
            self.assertEqual(100, self.of_shadow(volume)[3])


if __name__ == '__main__':
    unittest.main()
