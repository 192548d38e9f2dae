# SPDX-License-Identifier: Apache-2.0
"""Pools of a vCenter as Cinder sees them, and volumes on them."""

import time
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext.backings import cache
from cinder_vmdk_ext.backings import state as backings_state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.monitoring import figures
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.unit import scheduler
from cinder_vmdk_ext.vsphere import updates
from sandbox.embedded import section

HOST = backend_case.HOST
GIB = 1 << 30


def by_name(stats):
    return {pool['pool_name']: pool for pool in stats['pools']}


class PoolsTestCase(backend_case.BackendCase):
    """One honest pool per datastore, of any vCenter's figures."""

    # Sizes, free space and mounts that differ (simulator/README.md).
    VCENTER = {'ds': 5, 'dc': 1, 'cluster': 2, 'host': 2, 'vm': 0,
               'standalone_host': 0}

    def test_figures_are_the_vcenters_own(self):
        pools = by_name(self.report())
        for each in self.all(vim.Datastore):
            pool, summary = pools.pop(each.name), each.summary
            self.assertEqual(
                (summary.capacity // GIB, summary.freeSpace // GIB,
                 each.name, 'vmfs', summary.url, each._moId, 'DC0',
                 'available'),
                (pool['total_capacity_gb'], pool['datastore_free_gb'],
                 pool['datastore'],
                 pool['datastore_type'], pool['datastore_url'],
                 pool['datastore_moref'], pool['datacenter'],
                 pool['pool_state']))
            provisioned = (summary.capacity - summary.freeSpace
                           + (summary.uncommitted or 0)) / GIB
            self.assertTrue(provisioned <= pool['provisioned_capacity_gb']
                            < provisioned + 0.02, pool)
        self.assertEqual({}, pools)

    def test_a_datastore_that_goes_down_stays_listed_and_takes_nothing(self):
        datastore = self.datastore('LocalDS_1')
        self.wait(datastore.DatastoreEnterMaintenanceMode().task)
        # The next test's driver has heard of the end, too.
        self.addCleanup(self.catch_up)
        self.addCleanup(lambda: self.wait(
            datastore.DatastoreExitMaintenanceMode_Task()))
        pool = self.until_pool('LocalDS_1', 'maintenance')
        self.assertEqual(0, pool['free_capacity_gb'])
        found = scheduler.pool_states(self.driver._stats)
        for thick in (False, True):
            self.assertFalse(scheduler.passes(
                found['LocalDS_1'], scheduler.request(1, thick=thick)))
            self.assertTrue(scheduler.passes(
                found['LocalDS_0'], scheduler.request(1, thick=thick)))

    def until_pool(self, name, state, seconds=60):
        """Notices of change arrive a moment after the change."""
        deadline = time.monotonic() + seconds
        while True:
            pool = by_name(self.report())[name]
            if pool['pool_state'] == state:
                return pool
            self.assertLess(time.monotonic(), deadline, pool)
            time.sleep(0.1)

    def test_clusters_and_regex_and_policy_choose_the_pools(self):
        one = self.make_driver(vmware_cluster_name='DC0_C0',
                               vmware_datastore_regex='LocalDS_[1-4]',
                               vmware_storage_profile='VM Encryption Policy')
        hosts = {host._moId for cluster in self.all(
            vim.ClusterComputeResource) if cluster.name == 'DC0_C0'
            for host in cluster.host}
        expected = {
            each.name for each in self.all(vim.Datastore)
            if each.name != 'LocalDS_0'
            and hosts & {mount.key._moId for mount in each.host}}
        self.assertLess(expected, {each.name for each
                                   in self.all(vim.Datastore)})
        self.assertEqual(expected, set(by_name(
            one.get_volume_stats(refresh=True))))

    def test_a_regex_that_no_datastore_fits_is_the_reason(self):
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as logged:
            stats = self.make_driver(vmware_datastore_regex='^gold-').\
                get_volume_stats(refresh=True)
        for text in stats['backend_state_reason'], '\n'.join(logged.output):
            self.assertIn('^gold-', text)
        self.assertIn('LocalDS_0', '\n'.join(logged.output))


class VolumesTestCase(backend_case.BackendCase):
    """Volumes are where the scheduler said, or an error says why not."""

    def restarted(self):
        """The driver as it is when it has not asked the vCenter yet."""
        self.driver.backend.use(self.driver._session)
        return self.driver

    def refusal(self, call, *args):
        with self.assertRaises(exceptions.NoPlacement) as caught:
            call(*args)
        message = str(caught.exception)
        self.assertEqual(1, len(message.splitlines()), message)
        self.assertEqual({}, self.shadow_vms())
        return message

    def test_a_pool_that_is_gone(self):
        volume = self.new_volume('LocalDS_9')
        message = self.refusal(self.driver.create_volume, volume)
        for word in ("'LocalDS_9'", 'removed', 'LocalDS_0: there',
                     'LocalDS_3: there'):
            self.assertIn(word, message)

    def test_a_pool_that_is_full(self):
        thick = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.new_volume('LocalDS_1', 500, thick)
        message = self.refusal(self.driver.create_volume, volume)
        self.assertIn('a thick disk of 500 GiB', message)
        self.assertRegex(message, r'LocalDS_1: [0-9.]+ GiB are free, '
                         r'500\.00 GiB are needed')
        self.assertNotIn('LocalDS_2', message)

    def test_a_pool_in_maintenance(self):
        datastore = self.datastore('LocalDS_1')
        self.wait(datastore.DatastoreEnterMaintenanceMode().task)
        # The next test's driver has heard of the end, too.
        self.addCleanup(self.catch_up)
        self.addCleanup(lambda: self.wait(
            datastore.DatastoreExitMaintenanceMode_Task()))
        volume = self.new_volume('LocalDS_1')
        deadline = time.monotonic() + 60
        while self.driver.backend.inventory().datastores[
                datastore._moId].maintenance_mode == 'normal':
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertIn('LocalDS_1: it is in maintenance mode',
                      self.refusal(self.driver.create_volume, volume))

    def test_a_datastore_that_is_called_like_the_backend(self):
        datastore = self.datastore('LocalDS_3')
        self.wait(datastore.Rename_Task(section.NAME))
        self.addCleanup(self.catch_up)
        self.addCleanup(lambda: self.wait(datastore.Rename_Task('LocalDS_3')))
        deadline = time.monotonic() + 60
        while section.NAME not in by_name(self.report()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        for _ in range(3):  # as good as surely not by chance
            volume = self.create(section.NAME)
            self.assertEqual(section.NAME, self.truth(volume).datastore)

    def test_a_volume_of_upstreams_single_pool_goes_anywhere(self):
        volume = self.create(section.NAME)
        self.assertIsNotNone(self.truth(volume))

    def test_a_name_that_cinder_cannot_hold(self):
        datastore = self.datastore('LocalDS_2')
        self.wait(datastore.Rename_Task('a#b@c.d 50%'))
        self.addCleanup(lambda: self.wait(datastore.Rename_Task('LocalDS_2')))
        deadline = time.monotonic() + 60
        while True:
            names = {pool['datastore_moref']: name for name, pool
                     in by_name(self.report()).items()}
            name = names[datastore._moId]
            if name != 'LocalDS_2':
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertNotIn('#', name)
        volume = self.create(name)
        self.assertEqual(datastore._moId,
                         self.truth(volume).disk.backing.datastore._moId)

    # -- Statistics outlive sessions and the vCenter's silence ---------------

    def test_a_session_that_ends_between_reports_is_replaced(self):
        before = sorted(by_name(self.report()))
        for session in self.control.sessions():
            if 'pyvmomi' not in session['user_agent'].lower():
                self.control.kill_session(session)
        begun = time.monotonic()
        stats = self.report()
        took = time.monotonic() - begun
        self.assertEqual('up', stats['backend_state'])
        self.assertLessEqual(stats['stats_age_seconds'], took)
        self.assertEqual(before, sorted(by_name(stats)))
        self.assertLess(took, updates.WAIT_SECONDS)

    def test_a_vcenter_that_refuses_everything_leaves_the_last_good_list(
            self):
        made = self.restarted()
        self.addCleanup(self.restarted)
        before = by_name(made.get_volume_stats(refresh=True))
        made.backend.stream.stop()  # or the report would be made from memory
        self.control.fault(method='RetrievePropertiesEx|CreateContainerView',
                           fault={'type': 'SystemError'})
        stats = made.get_volume_stats(refresh=True)
        self.assertEqual('down', stats['backend_state'])
        self.assertGreaterEqual(stats['stats_age_seconds'], 0)
        after = by_name(stats)
        self.assertEqual(set(before), set(after))
        self.assertEqual({'down'}, {pool['backend_state']
                                    for pool in after.values()})
        self.control.reset_faults()
        self.assertEqual('up', made.get_volume_stats(refresh=True)[
            'backend_state'])

    def test_a_vcenter_that_freezes_ages_and_then_is_down(self):
        """E10: it takes requests, and answers none."""
        with mock.patch.multiple(updates, WAIT_SECONDS=1, GRACE_SECONDS=1,
                                 PROBE_SECONDS=1):
            made = self.restarted()
            self.addCleanup(self.restarted)
            before = set(by_name(self.until_state(made, 'up')))
            self.control.fault(method='.*', delay_ms=60000)
            ages, stats = [], self.until_state(made, 'down')
            while len(ages) < 2:
                ages.append(stats['stats_age_seconds'])
                stats = self.until_state(made, 'down')
            self.assertGreater(ages[0], 0)
            self.assertEqual(sorted(ages), ages)
            self.assertEqual(before, set(by_name(stats)))
            self.assertEqual({'down'}, {
                pool['backend_state'] for pool in stats['pools']})
            # Nor is anything read in bulk, which would wait for minutes.
            began = time.monotonic()
            self.assertRaises(vmware_exceptions.VimConnectionException,
                              made.volumeops.read_backings)
            self.assertLess(time.monotonic() - began, 60)
            self.control.reset_faults()
            self.until_state(made, 'up')

    def until_state(self, made, wanted):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            stats = made.get_volume_stats(refresh=True)
            if stats['backend_state'] == wanted:
                return stats
            time.sleep(0.1)
        self.fail(f'the backend is never {wanted}')

    # -- Volumes from before the plugin, and after it ------------------------

    def legacy(self, pool, host=HOST):
        """A volume with a disk on a pool, which its host does not name."""
        volume = self.create(pool)
        volume.update({'host': host, 'provider_id': None})
        volume.save()
        return volume

    def test_get_pool_names_the_datastore_of_the_disk(self):
        volumes = [self.legacy('LocalDS_0'), self.legacy('LocalDS_2')]
        unmade = self.new_volume()
        driver = self.restarted()
        self.assertEqual(['LocalDS_0', 'LocalDS_2', None], [
            driver.get_pool(volume) for volume in [*volumes, unmade]])

    def test_one_bulk_read_serves_one_volume_and_two_hundred(self):
        volumes = [self.legacy('LocalDS_0'), self.legacy('LocalDS_1')]
        counts = []
        for asked in (volumes[:1], (volumes * 100)):
            driver = self.restarted()
            driver.get_volume_stats(refresh=True)
            driver.volumeops.read_backings()  # waits until all are reported
            self.control.reset_journal()
            for volume in asked:
                self.assertEqual(self.truth_of(volume),
                                 driver.get_pool(volume))
            counts.append(self.calls_of(driver))
        self.assertEqual(counts[0], counts[1])

    def truth_of(self, volume):
        if not hasattr(self, '_known'):
            self._known = {}
        if volume.id not in self._known:
            self._known[volume.id] = self.truth(volume).datastore
        return self._known[volume.id]

    def calls_of(self, driver):
        return {name: each['calls'] for name, each
                in self.control.journal()['methods'].items()
                if name in ('RetrievePropertiesEx', 'CreateContainerView',
                            'DestroyView', 'ContinueRetrievePropertiesEx')}

    def test_hosts_are_put_right_as_the_service_starts(self):
        legacy = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
        moved = self.legacy('LocalDS_2', f'{HOST}#LocalDS_1')
        right = self.create('LocalDS_1')
        unmade = self.new_volume('LocalDS_3')
        volumes = [legacy, moved, right, unmade]
        driver = self.restarted()
        self.assertEqual((None, None),
                         driver.update_provider_info(volumes, []))
        volumes = [self.fresh(volume) for volume in volumes]
        self.assertEqual([True, True, True, False],
                         [backings_state.is_backed(each) for each in volumes])
        self.assertEqual(
            [f'{HOST}#LocalDS_{number}' for number in (0, 2, 1, 3)],
            [volume.host for volume in volumes])

    def test_upstreams_lazy_volumes_get_pools(self):
        """Extended and copied by this driver without an attachment first."""
        volumes = [self.new_volume(section.NAME, status='available')
                   for _ in range(4)]
        lost = self.new_volume(section.NAME, status='available',
                               provider_id=backings_state.BACKED)
        self.restarted().update_provider_info([*volumes, lost], [])
        self.assertEqual(f'{HOST}#{section.NAME}', self.fresh(lost).host)
        volumes = [self.fresh(volume) for volume in volumes]
        pools = {volume.host.partition('#')[2] for volume in volumes}
        self.assertLessEqual(pools, set(by_name(self.report())))
        self.assertGreater(len(pools), 1, pools)  # they are spread
        for volume in volumes:
            self.assertNotIn(volume.name, self.shadow_vms())
        self.driver.extend_volume(volumes[0], 2)
        copy = self.new_volume(volumes[1].host.partition('#')[2])
        self.made(copy, self.driver.create_cloned_volume(copy, volumes[1]))
        snapshot = self.snapshot(volumes[2])
        self.driver.delete_snapshot(snapshot)
        self.attach(volumes[3])
        self.assert_on(self.fresh(volumes[3]).host.partition('#')[2],
                       volumes[3])

    def test_what_another_service_is_busy_with_is_left_to_it(self):
        busy = {}
        for status in ('creating', 'deleting', 'retyping', 'extending'):
            volume = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
            volume.status = status
            volume.save()
            busy[status] = volume
        migrating = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
        migrating.migration_status = 'migrating'
        migrating.save()
        begun = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
        # By another service, since the records were read.
        self.fresh(begun).conditional_update({'status': 'deleting'},
                                             {'status': 'available'})
        volumes = [*busy.values(), migrating, begun]
        self.restarted().update_provider_info(volumes, [])
        for volume in map(self.fresh, volumes):
            self.assertEqual((f'{HOST}#{section.NAME}', None),
                             (volume.host, volume.provider_id),
                             volume.status)

    def test_a_volume_that_goes_meanwhile_keeps_no_other_back(self):
        going = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
        staying = self.legacy('LocalDS_1', f'{HOST}#{section.NAME}')
        self.fresh(going).destroy()
        self.restarted().update_provider_info([going, staying], [])
        self.assertEqual(f'{HOST}#LocalDS_1', self.fresh(staying).host)

    def test_without_an_answer_hosts_stay_as_they_are(self):
        volume = self.legacy('LocalDS_0', f'{HOST}#{section.NAME}')
        driver = self.restarted()
        driver.backend.stream.stop()
        self.control.fault(method='RetrievePropertiesEx|CreateContainerView',
                           fault={'type': 'SystemError'})
        self.addCleanup(self.restarted)
        found = driver.update_provider_info([volume], [])
        self.control.reset_faults()
        self.assertEqual((None, None), found)
        self.assertEqual(f'{HOST}#{section.NAME}', self.fresh(volume).host)

    def test_the_off_switch_is_one_pool_and_takes_hosts_back(self):
        pooled = self.create('LocalDS_1')
        unmade = self.made(self.new_volume('LocalDS_2'), {})
        driver = self.make_driver(vmdk_ext_datastore_pools=False)
        stats = driver.get_volume_stats(refresh=True)
        self.assertNotIn('pools', stats)
        self.assertEqual(400, stats['total_capacity_gb'])
        driver.update_provider_info([pooled, unmade], [])
        self.assertEqual([f'{HOST}#{section.NAME}'] * 2, [
            self.fresh(volume).host for volume in (pooled, unmade)])
        volume = self.new_volume(section.NAME)
        driver.create_volume(volume)
        self.assertIsNotNone(self.truth(volume))
        self.assertEqual(section.NAME, driver.get_pool(volume))


class NamesakesTestCase(backend_case.BackendCase):
    """Two datacenters, each with datastores of the same names."""

    VCENTER = {'ds': 2, 'dc': 2, 'cluster': 1, 'host': 1, 'vm': 0,
               'standalone_host': 0, 'ds_capacity': '100GiB'}

    def test_each_has_a_pool_and_a_volume_lands_on_the_very_one(self):
        pools = by_name(self.report())
        self.assertEqual(4, len(pools))
        self.assertEqual(2, len({pool['datacenter']
                                 for pool in pools.values()}))
        for name, pool in pools.items():
            volume = self.create(name)
            disk = self.truth(volume).disk
            self.assertEqual(pool['datastore_moref'],
                             disk.backing.datastore._moId, name)
            self.assertEqual(f'{HOST}#{name}', self.fresh(volume).host)

    def test_that_there_is_no_vm_is_known_without_waiting_for_one(self):
        self.driver.get_volume_stats(refresh=True)  # starts the long poll
        begun = time.monotonic()
        self.catch_up()  # with the end of another test's VMs
        self.assertEqual([], self.driver.volumeops.read_backings().all)
        self.assertLess(time.monotonic() - begun,
                        cache.FILL_SECONDS / 2)

    def test_they_are_told_apart_by_their_datacenter(self):
        self.assertEqual(
            [('LocalDS_0', 'LocalDS_0'), ('LocalDS_1', 'LocalDS_1')],
            sorted((name.partition(' (')[0], pool['datastore'])
                   for name, pool in by_name(self.report()).items()
                   if name.endswith(f' ({pool["datacenter"]})')))


class LazyTestCase(backend_case.BackendCase):
    """Volumes that are made at first use, at the host of the instance."""

    VCENTER = {'ds': 4, 'cluster': 2, 'host': 1, 'vm': 1,
               'standalone_host': 0, 'ds_capacity': '100GiB'}
    OPTIONS = {'vmware_lazy_create': True}

    def connector(self, instance):
        return {'instance': instance._moId, 'ip': '127.0.0.1',
                'host': 'compute', 'initiator': 'iqn'}

    def test_nothing_is_made_before_and_the_space_is_promised(self):
        volume = self.create('LocalDS_1', 7)
        self.assertIsNone(self.truth(volume))
        self.assertTrue(backings_state.is_promised(self.fresh(volume)))
        pool = by_name(self.report())['LocalDS_1']
        self.assertEqual(7, pool['provisioned_capacity_gb'])
        self.assertEqual([{'pool': 'LocalDS_1', 'size_bytes': 7 << 30,
                           'volumes': 1}],
                         figures.of(self.driver.backend)['promised'])

    def test_what_another_backend_promised_on_the_datastore_counts(self):
        volume = self.create('LocalDS_2', 9)
        volume.host = 'cinder-1@other#LocalDS_2'
        volume.save()
        pool = by_name(self.make_driver().get_volume_stats(refresh=True))[
            'LocalDS_2']
        self.assertGreaterEqual(pool['provisioned_capacity_gb'], 9)

    def test_a_service_that_serves_counts_its_own_and_others_promises(self):
        driver = self.make_driver()
        driver.backend.promised.start()
        self.addCleanup(driver.backend.promised.stop)

        def provisioned():
            return by_name(driver.get_volume_stats(refresh=True))[
                'LocalDS_3']['provisioned_capacity_gb']
        before = provisioned()
        volume = self.new_volume('LocalDS_3', 7)
        update = driver.create_volume(volume)
        self.assertEqual(before + 7, provisioned())
        self.made(volume, update)
        other = self.create('LocalDS_3', 9)
        other.host = 'cinder-1@other#LocalDS_3'
        other.save()
        driver.delete_volume(volume)
        volume.destroy()
        until = time.monotonic() + 60
        while provisioned() != before + 9:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def test_a_volume_of_upstreams_default_backend_name_is_attached(self):
        instance = self.instances()[0]
        volume = self.new_volume('VMwareVcVmdkDriver')
        volume.status = 'available'
        volume.save()
        self.driver.initialize_connection(volume, self.connector(instance))
        self.report()
        self.assert_on(self.truth(volume).datastore, volume)

    def test_at_attach_it_lands_on_its_pool_and_is_promised_no_more(self):
        instance = self.instances()[0]
        volume = self.create('LocalDS_0', 7)
        self.driver.create_export(self.context, volume,
                                  self.connector(instance))
        found = self.driver.initialize_connection(volume,
                                                  self.connector(instance))
        self.assertEqual(self.truth(volume).vm._moId,
                         found['data']['volume'])
        self.assert_on('LocalDS_0', volume)
        self.assertTrue(backings_state.is_backed(self.fresh(volume)))

    def test_a_promise_moves_to_what_the_instances_host_sees(self):
        """Of two clusters each sees a datastore that the other does not."""
        instance = self.instances()[0]
        host = instance.runtime.host
        unseen = next(each.name for each in self.all(vim.Datastore)
                      if host not in [mount.key for mount in each.host])
        volume = self.create(unseen)
        connector = self.connector(instance)
        self.driver.initialize_connection(volume, connector)
        landed = self.truth(volume).disk.backing.datastore
        self.assertIn(host, [mount.key for mount in landed.host])
        self.assert_on(landed.name, volume)
