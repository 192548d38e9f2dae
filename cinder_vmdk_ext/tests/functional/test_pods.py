# SPDX-License-Identifier: Apache-2.0
"""A datastore cluster as one pool, while Storage DRS moves disks in it."""

from pyVmomi import vim

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests.functional import backend_case
from simulator import observer

MEMBERS = ('LocalDS_0', 'LocalDS_1')


class PodTestCase(backend_case.BackendCase):

    VCENTER = backend_case.BackendCase.VCENTER | {
        'datastore_cluster': 'tier=LocalDS_0,LocalDS_1:automated',
        'policy': ['gold=LocalDS_0']}
    OPTIONS = {'vmdk_ext_storage_pods': True, 'vmware_snapshot_format': 'COW'}

    def setUp(self):
        super().setUp()
        self.pod = next(pod for pod in self.all(vim.StoragePod)
                        if pod.name == 'tier')
        self.addCleanup(self.configure, 'automated')

    def configure(self, behavior):
        manager = self.service.content.storageResourceManager
        self.wait(manager.ConfigureStorageDrsForPod_Task(
            self.pod, vim.storageDrs.ConfigSpec(
                podConfigSpec=vim.storageDrs.PodConfigSpec(
                    defaultVmBehavior=behavior)), True))

    def pools(self):
        return {pool['pool_name']: pool for pool in self.report()['pools']}

    def assert_in_pod(self, volume):
        self.assertEqual(f'{backend_case.HOST}#tier', self.fresh(volume).host)
        self.assertIn(self.truth(volume).datastore, MEMBERS)

    def other_member(self, volume):
        [other] = set(MEMBERS) - {self.truth(volume).datastore}
        return other

    def move(self, volume):
        """As Storage DRS does, without asking anybody."""
        target = self.other_member(volume)
        self.control.call('POST', '/sdrs/move', {
            'VM': self.truth(volume).vm.name, 'Datastore': target})
        self.assertEqual(target, self.truth(volume).datastore)

    def test_it_is_reported_as_one_pool(self):
        pools = self.pools()
        self.assertEqual({'tier', 'LocalDS_2', 'LocalDS_3'}, set(pools))
        members = [self.datastore(name).summary for name in MEMBERS]
        self.assertEqual(sum(each.capacity >> 30 for each in members),
                         pools['tier']['total_capacity_gb'])
        self.assertEqual(max(each.freeSpace >> 30 for each in members),
                         pools['tier']['max_contiguous_gb'])

    def test_what_storage_drs_moves_is_on_the_same_pool_and_works(self):
        volume = self.create('tier', content=backend_case.content(1))
        self.assert_in_pod(volume)
        snapshot = self.snapshot(volume)
        before = self.checksum(volume)
        self.move(volume)
        self.report()
        self.assert_in_pod(volume)
        self.write(volume, b'something else')
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.assertEqual(before, self.checksum(volume))
        self.driver.delete_snapshot(snapshot)
        copy = self.new_volume('tier')
        self.made(copy, self.driver.create_cloned_volume(copy, volume))
        self.assert_in_pod(copy)
        self.assertEqual(before, self.checksum(copy))
        self.driver.extend_volume(volume, 2)
        self.assertEqual(2, self.truth(volume).size_gib)
        self.driver.delete_volume(volume)

    def test_a_policy_that_one_member_meets(self):
        def outside():
            volume = self.create('tier')
            if self.truth(volume).datastore == 'LocalDS_0':
                self.move(volume)
                self.report()
            return volume
        source = outside()
        kind = self.volume_type('linked', storage_profile='gold',
                                clone_type='linked')
        clone = self.new_volume('tier', type_id=kind['id'])
        self.made(clone, self.driver.create_cloned_volume(clone, source))
        self.assertIs(True, self.driver.retype(
            self.context, source, kind, {}, self.there('tier')))
        service = observer.policy_service(self.vcenter, self.service)
        for volume in clone, source:
            truth = self.truth(volume)
            self.assertEqual(
                ('LocalDS_0', ['gold']),
                (truth.datastore, observer.policies_of_disk(
                    service, truth.vm, truth.disk)))
            self.assert_in_pod(volume)

    def test_in_and_out_of_it(self):
        volume = self.create('LocalDS_2', content=backend_case.content(2))
        before = self.checksum(volume)
        for pool in ('tier', 'LocalDS_3'):
            self.assertEqual((True, None), self.driver.migrate_volume(
                self.context, volume, self.there(pool)))
            self.report()
            self.assertEqual(f'{backend_case.HOST}#{pool}',
                             self.fresh(volume).host)
            volume = self.fresh(volume)
        self.assertEqual(before, self.checksum(volume))

    def test_a_volume_that_names_a_member_works_and_follows(self):
        plain = self.make_driver(vmdk_ext_storage_pods=False)
        volume = self.new_volume('LocalDS_1')
        self.made(volume, plain.create_volume(volume))
        self.assert_on('LocalDS_1', volume)
        self.driver.extend_volume(volume, 2)
        copy = self.new_volume('LocalDS_1')
        self.made(copy, self.driver.create_cloned_volume(copy, volume))
        self.assertIn(self.truth(copy).datastore, MEMBERS)
        self.report()
        self.assert_in_pod(volume)
        self.assert_in_pod(copy)

    def test_promised_volumes_follow_when_the_service_starts(self):
        lazy = self.make_driver(vmware_lazy_create=True,
                                vmdk_ext_storage_pods=False)
        volume = self.new_volume('LocalDS_1', 3)
        self.made(volume, lazy.create_volume(volume))
        self.driver = self.make_driver()
        before = self.pools()['tier']['provisioned_capacity_gb']
        self.driver.update_provider_info([volume], [])
        self.assertEqual(f'{backend_case.HOST}#tier', self.fresh(volume).host)
        self.assertEqual(before,
                         self.pools()['tier']['provisioned_capacity_gb'])

    def test_set_to_manual_its_members_are_pools_and_hosts_follow(self):
        volume = self.create('tier')
        self.configure('manual')
        self.assertLessEqual(set(MEMBERS), set(self.pools()))
        self.assertNotIn('tier', self.pools())
        self.assert_on(self.truth(volume).datastore, volume)

    def test_a_thick_disk_that_no_member_holds_is_refused(self):
        thick = self.volume_type('thick', vmdk_type='thick')
        largest = self.pools()['tier']['max_contiguous_gb']
        error = self.assertRaises(exceptions.NoPlacement, self.create, 'tier',
                                  largest + 1, type_id=thick['id'])
        self.assertEqual(set(MEMBERS), set(error.reasons))

    def test_what_is_too_large_for_a_member_is_extended_on_the_other(self):
        thick = self.volume_type('thick', vmdk_type='thick')
        first = self.create('tier', 60, type_id=thick['id'])
        second = self.new_volume('tier', 20, type_id=thick['id'])
        second.host = f'{backend_case.HOST}#{self.truth(first).datastore}'
        other = self.make_driver(vmdk_ext_storage_pods=False)
        self.made(second, other.create_volume(second))
        self.assertEqual(self.truth(first).datastore,
                         self.truth(second).datastore)
        self.report()
        second = self.fresh(second)
        self.driver.extend_volume(second, 70)
        self.assertNotEqual(self.truth(first).datastore,
                            self.truth(second).datastore)
        self.assert_in_pod(second)

    def test_a_drained_member_takes_nothing_more(self):
        manager = self.service.content.customFieldsManager
        field = manager.AddCustomFieldDef('cinder_state', vim.Datastore)
        self.addCleanup(manager.RemoveCustomFieldDef, field.key)
        manager.SetField(self.datastore('LocalDS_0'), field.key, 'drain')
        pool = self.pools()['tier']
        self.assertEqual('available', pool['pool_state'])
        self.assertIn('LocalDS_0: it is drained', pool['pool_state_reason'])
        for _number in range(3):
            self.assertEqual('LocalDS_1', self.truth(
                self.create('tier')).datastore)

    def test_what_is_managed_is_on_the_pool_of_its_member(self):
        volume = self.create('tier')
        path = self.truth(volume).path
        self.driver.unmanage(volume)
        volume.destroy()
        again = self.new_volume('LocalDS_2')
        self.made(again, self.driver.manage_existing(
            again, {'source-name': path}))
        self.assert_in_pod(again)
