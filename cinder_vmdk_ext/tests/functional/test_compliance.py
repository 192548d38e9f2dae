# SPDX-License-Identifier: Apache-2.0
"""Whatever pool the scheduler takes, a volume's disk has its type's policy."""

from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions

from cinder.volume import volume_types

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_images
from cinder_vmdk_ext.tests.functional import test_transfers
from simulator import observer

HOST = backend_case.HOST


def by_name(stats):
    return {pool['pool_name']: pool for pool in stats['pools']}


class PolicyTestCase(backend_case.BackendCase):
    """Whatever pool the scheduler takes, the disk has its type's policy."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'policy': ['gold=LocalDS_1,LocalDS_2', 'silver=LocalDS_3']}
    GOLD = {'LocalDS_1', 'LocalDS_2'}

    def setUp(self):
        super().setUp()
        self.gold = self.volume_type('gold', storage_profile='gold')['id']

    def assert_complies(self, volume):
        place = self.truth(volume).datastore
        self.assertIn(place, self.GOLD)
        self.assert_on(place, volume)
        self.assertEqual(['gold'], self.policies(volume))

    def policies(self, volume):
        service = observer.policy_service(self.vcenter, self.service)
        truth = self.truth(volume)
        return observer.policies_of_disk(service, truth.vm, truth.disk)

    def test_pools_name_the_policies_of_types_that_they_comply_with(self):
        self.volume_type('silver', storage_profile='silver')
        self.volume_type('unknown', storage_profile='no such policy')
        driver = self.make_driver()
        self.assertEqual(
            {'LocalDS_0': [], 'LocalDS_1': ['gold'], 'LocalDS_2': ['gold'],
             'LocalDS_3': ['silver']},
            {name: pool['storage_profiles'] for name, pool
             in by_name(driver.get_volume_stats(refresh=True)).items()})

    def test_a_volume_of_each_pool_lands_on_one_that_complies(self):
        with self.assertLogs('cinder_vmdk_ext.volumes.compliance',
                             'WARNING') as logged:
            volumes = [self.create(f'LocalDS_{number}', type_id=self.gold)
                       for number in range(4)]
        for volume in volumes:
            self.assert_complies(volume)
        for number in (1, 2):  # these pools comply themselves
            self.assert_on(f'LocalDS_{number}', volumes[number])
        self.assertEqual(2, len(logged.output), logged.output)
        for word in ("'gold'", 'LocalDS_0',
                     volumes[0].host.partition('#')[2]):
            self.assertIn(word, logged.output[0])

    def retyped(self, volume, pool, type_id):
        """As Cinder's manager has a type changed on a pool."""
        host = {'host': f'{HOST}#{pool}', 'capabilities': self.pool_of(pool)}
        done = self.driver.retype(
            self.context, self.fresh(volume),
            volume_types.get_volume_type(self.context, type_id), {}, host)
        more = done[1] if isinstance(done, tuple) else {}
        self.assertIn(done, (True, (True, more)))
        volume = self.fresh(volume)
        volume.update({'volume_type_id': type_id, 'host': host['host'],
                       **more})
        volume.save()
        return volume

    def pool_of(self, name):
        return by_name(self.report())[name]

    def test_a_type_with_a_policy_that_the_pool_lacks_is_taken(self):
        volume = self.create('LocalDS_0', content=b'kept' * 128)
        before = self.checksum(volume)
        self.assert_complies(self.retyped(volume, 'LocalDS_0', self.gold))
        self.assertEqual(before, self.checksum(volume))

    def test_the_disk_of_an_attached_volume_gets_the_policy_where_it_may(self):
        volume = self.create('LocalDS_3')
        instance = self.attach(volume)
        volume = self.retyped(volume, 'LocalDS_3', self.gold)
        place = self.truth(volume).datastore
        self.assertIn(place, self.GOLD)
        self.assert_on(place, volume)
        service = observer.policy_service(self.vcenter, self.service)
        self.assertEqual(['gold'], observer.policies_of_disk(
            service, instance, self.disk_on(instance, volume)))

    def test_a_disk_is_moved_within_the_over_subscription_ratio(self):
        self.driver = self.make_driver(max_over_subscription_ratio=1)
        volume = self.create('LocalDS_0', 20)
        attached = self.create('LocalDS_0', 20)
        instance = self.attach(attached)
        for pool in sorted(self.GOLD):
            self.create(pool, 90)
        for each in (volume, attached):
            with self.assertRaisesRegex(exceptions.NoPlacement,
                                        'would be provisioned'):
                self.retyped(each, 'LocalDS_0', self.gold)
        self.assert_on('LocalDS_0', volume)
        self.assertEqual('LocalDS_0', self.disk_on(
            instance, attached).backing.datastore.name)

    def test_a_pool_that_the_new_type_forbids_is_not_moved_to(self):
        volume = self.create('LocalDS_2')
        self.retyped(volume, 'LocalDS_0', self.gold)
        self.assert_on('LocalDS_2', volume)
        self.assert_complies(volume)

    def test_a_policy_is_looked_up_once_and_then_known(self):
        self.driver.backend.directory.forget()
        for most in (1, 0, 0):
            self.control.reset_journal()
            self.create('LocalDS_1', type_id=self.gold)
            asked = {name: each['calls'] for name, each
                     in self.control.journal()['methods'].items()
                     if name.startswith('Pbm')}
            self.assertEqual(most, max(asked.values(), default=0), asked)

    def test_what_is_promised_is_promised_where_it_will_be(self):
        driver = self.make_driver(vmware_lazy_create=True)
        connector = {'instance': self.instances()[0]._moId,
                     'ip': '127.0.0.1', 'host': 'compute',
                     'initiator': 'iqn'}
        volumes = [self.new_volume(f'LocalDS_{number}', 7, self.gold)
                   for number in (0, 3)]
        for volume in volumes:
            self.made(volume, driver.create_volume(volume))
        promised = [self.fresh(volume).host for volume in volumes]
        # Each counts the other's promise, so that they are spread.
        self.assertEqual({f'{HOST}#{name}' for name in self.GOLD},
                         set(promised))
        pools = by_name(driver.get_volume_stats(refresh=True))
        for name in self.GOLD:
            self.assertGreaterEqual(pools[name]['provisioned_capacity_gb'], 7)
        for volume in volumes:
            driver.initialize_connection(volume, connector)
            self.assert_complies(volume)
        self.assertEqual(promised, [self.fresh(volume).host
                                    for volume in volumes])

    def test_a_promise_whose_type_changed_moves_when_it_is_attached(self):
        driver = self.make_driver(vmware_lazy_create=True)
        volume = self.new_volume('LocalDS_0')
        self.made(volume, driver.create_volume(volume))
        self.assertEqual(f'{HOST}#LocalDS_0', self.fresh(volume).host)
        volume.volume_type_id = self.gold
        volume.save()
        volume = self.fresh(volume)
        driver.initialize_connection(volume, {
            'instance': self.instances()[0]._moId, 'ip': '127.0.0.1',
            'host': 'compute', 'initiator': 'iqn'})
        self.assert_complies(volume)

    def test_a_promise_is_retyped_to_where_its_disk_may_be(self):
        driver = self.make_driver(vmware_lazy_create=True)
        volume = self.new_volume('LocalDS_0')
        self.made(volume, driver.create_volume(volume))
        self.driver = driver
        volume = self.retyped(volume, 'LocalDS_0', self.gold)
        pool = volume.host.partition('#')[2]
        self.assertIn(pool, self.GOLD)
        driver.initialize_connection(volume, {
            'instance': self.instances()[0]._moId, 'ip': '127.0.0.1',
            'host': 'compute', 'initiator': 'iqn'})
        self.assert_complies(volume)
        self.assert_on(pool, volume)

    def test_no_promise_is_retyped_to_what_no_datastore_meets(self):
        driver = self.make_driver(vmware_lazy_create=True,
                                  vmware_datastore_regex='LocalDS_[0-2]')
        volume = self.new_volume('LocalDS_0')
        self.made(volume, driver.create_volume(volume))
        kind = self.volume_type('silver', storage_profile='silver')
        self.assertRaises(exceptions.NoneComplies, driver.retype,
                          self.context, volume, kind, {},
                          self.there('LocalDS_0'))

    def test_with_one_pool_a_retype_moves_the_disk_to_one_that_complies(self):
        volume = self.create('LocalDS_0', content=b'kept' * 128)
        before = self.checksum(volume)
        driver = self.make_driver(vmdk_ext_datastore_pools=False)
        kind = volume_types.get_volume_type(self.context, self.gold)
        self.assertIs(True, driver.retype(
            self.context, volume, kind, {}, self.there('vmdk')))
        self.assertIn(self.truth(volume).datastore, self.GOLD)
        self.assertEqual(['gold'], self.policies(volume))
        self.assertEqual(before, self.checksum(volume))

    def test_copies_land_on_a_pool_that_complies(self):
        source = self.create('LocalDS_0', content=b'copied')
        snapshot = self.snapshot(source)
        clone = self.new_volume('LocalDS_0', type_id=self.gold)
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        restored = self.new_volume('LocalDS_3', type_id=self.gold)
        self.made(restored, self.driver.create_volume_from_snapshot(
            restored, snapshot))
        for volume in clone, restored:
            self.assert_complies(volume)

    def test_a_reimaged_disk_goes_to_a_pool_that_complies(self):
        volume = self.create('LocalDS_3', content=b'old')
        volume.volume_type_id = self.gold
        volume.save()
        image = test_transfers.ImageService(disk_images.stream_optimized(
            test_images.CONTENT))
        self.driver.copy_image_to_volume(
            self.context, volume, image, image.metadata['id'])
        self.assert_complies(volume)
        self.assertEqual(test_images.CONTENT[:8], self.read(volume, 8))
        self.assertEqual([volume.name], list(self.shadow_vms()))

    def test_a_pool_that_is_recorded_later_fails_nothing(self):
        reimaged = self.create('LocalDS_3', content=b'old')
        reimaged.volume_type_id = self.gold
        reimaged.save()
        retyped = self.create('LocalDS_0', content=b'kept')
        image = test_transfers.ImageService(disk_images.stream_optimized(
            test_images.CONTENT))
        with mock.patch.object(
                self.driver.backend.host_record, 'follow_disk',
                side_effect=vmware_exceptions.VimConnectionException('lost')
                ), self.assertLogs('cinder_vmdk_ext', 'WARNING') as logs:
            self.driver.copy_image_to_volume(
                self.context, reimaged, image, image.metadata['id'])
            done, update = self.driver.retype(
                self.context, retyped, volume_types.get_volume_type(
                    self.context, self.gold), {}, self.there('LocalDS_0'))
        self.assertTrue(done)
        self.assertIn('is done later: lost', '\n'.join(logs.output))
        retyped.update({'volume_type_id': self.gold} | update)
        retyped.save()
        self.reconcile()
        for volume, content in ((reimaged, test_images.CONTENT[:8]),
                                (retyped, b'kept')):
            volume.refresh()
            self.assert_complies(volume)
            self.assertEqual(content, self.read(volume, len(content)))

    def test_a_full_pool_that_complies_is_left_to_cinders_retry(self):
        kind = self.volume_type('thick', vmdk_type='thick',
                                storage_profile='gold')['id']
        volume = self.new_volume('LocalDS_1', 500, kind)
        self.assertRaises(exceptions.NoPlacement,
                          self.driver.create_volume, volume)
        self.assertEqual(f'{HOST}#LocalDS_1', self.fresh(volume).host)

    def test_a_pool_that_complies_is_not_over_subscribed(self):
        driver = self.make_driver(max_over_subscription_ratio='1.0')
        large = self.new_volume('LocalDS_0', 150, self.gold)
        caught = self.assertRaises(exceptions.NoPlacement,
                                   driver.create_volume, large)
        self.assertIn('would be provisioned', str(caught))
        self.assertEqual(f'{HOST}#LocalDS_0', self.fresh(large).host)
        self.assertIsNone(self.truth(large))

    def test_the_target_of_a_migration_stays_where_it_was_asked_for(self):
        volume = self.new_volume('LocalDS_0', type_id=self.gold,
                                 migration_status='target:0')
        self.assertRaises(exceptions.NoPlacement,
                          self.driver.create_volume, volume)
        self.assertEqual(f'{HOST}#LocalDS_0', self.fresh(volume).host)

    def test_where_no_datastore_complies_cinder_tries_no_other_pool(self):
        driver = self.make_driver(vmware_datastore_regex='LocalDS_[0-2]')
        kind = self.volume_type('silver', storage_profile='silver')['id']
        volume = self.new_volume('LocalDS_0', type_id=kind)
        with self.assertRaises(exceptions.Final) as caught:
            driver.create_volume(volume)
        self.assertIn("'silver'", str(caught.exception))
        self.assertIsNone(self.truth(volume))
