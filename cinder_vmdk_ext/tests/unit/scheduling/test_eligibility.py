# SPDX-License-Identifier: Apache-2.0
"""Which datastores belong to a backend and take volumes."""

import dataclasses
import re
import unittest

import hypothesis

from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.tests.unit import worlds


def why_not(datastore=None, settings=None, hosts=None, compliant=None):
    """Code of the datastore's ineligibility; '' when it is eligible."""
    datastore = datastore or worlds.datastore()
    inventory = worlds.inventory(datastore, hosts=hosts, compliant=compliant)
    found = eligibility.ineligibility(datastore, inventory,
                                      settings or worlds.settings())
    return found.code if found else ''


class Unlisted(dict):
    """A mapping in which one may look, but whose keys nobody lists."""

    def __iter__(self):
        raise AssertionError('all hosts were listed')


class CostTestCase(unittest.TestCase):

    def test_a_verdict_looks_at_no_host_that_does_not_mount(self):
        known = worlds.datastore()
        seen = worlds.inventory(known)

        def verdict():
            return eligibility.ineligibility(known, seen, worlds.settings())
        self.assertIsNone(verdict())  # makes what all datastores share
        seen.verdicts.clear()
        object.__setattr__(seen, 'hosts', Unlisted(seen.hosts))
        self.assertIsNone(verdict())


class PermissionTestCase(unittest.TestCase):
    """What the vCenter refuses to show is never taken for unset."""

    def denied(self, path, kind='Datastore'):
        return ((path, 'cannot be read: NoPermission, the privilege '
                 f'System.Read is missing on {kind} x-1'),)

    def why(self, datastore=None, settings=None, host=None, cluster=None):
        known = worlds.datastore(**(datastore or {}))
        seen = worlds.inventory(known, hosts=[worlds.host(**(host or {}))])
        seen = seen.evolved(clusters={
            moref: dataclasses.replace(each, **(cluster or {}))
            for moref, each in seen.clusters.items()})
        return eligibility.ineligibility(
            known, seen, settings or worlds.settings())

    def assertDenied(self, passing, found, path):
        self.assertEqual(('permission', passing), (found.code, found.passing))
        self.assertIn(f'{path} cannot be read', found.reason)
        self.assertIn('System.Read is missing on', found.reason)

    def test_mounts_that_cannot_be_read_are_not_no_mounts(self):
        self.assertDenied(True, self.why({
            'hosts': (), 'unreadable': self.denied('host')}), 'host')

    def test_a_type_that_cannot_be_read_is_not_an_unsupported_one(self):
        self.assertDenied(True, self.why({
            'type': 'unknown', 'unreadable': self.denied('summary.type')}),
            'summary.type')

    def test_what_has_no_name_is_no_pool(self):
        self.assertDenied(False, self.why(
            {'unreadable': self.denied('name')}), 'name')

    def test_properties_that_are_denied_alike_are_named_together(self):
        found = self.why({'hosts': (), 'unreadable': (
            self.denied('host') + self.denied('summary.freeSpace'))})
        self.assertTrue(found.reason.startswith(
            'host, summary.freeSpace cannot be read: '), found.reason)

    def test_every_property_that_decides(self):
        for path in ('summary.accessible', 'summary.capacity',
                     'summary.freeSpace', 'summary.uncommitted',
                     'summary.maintenanceMode'):
            self.assertDenied(True, self.why(
                {'unreadable': self.denied(path)}), path)

    def test_custom_attributes_matter_where_they_drain(self):
        datastore = {'unreadable': self.denied('customValue')}
        self.assertIsNone(self.why(datastore))
        self.assertDenied(True, self.why(datastore, worlds.settings(
            drain_attribute='cinder_state')), 'customValue')

    def test_a_host_whose_state_cannot_be_read_is_not_disconnected(self):
        path = 'runtime.connectionState'
        self.assertDenied(True, self.why(host={
            'connection_state': 'unknown',
            'unreadable': self.denied(path, 'HostSystem')}), path)

    def test_a_resource_pool_that_cannot_be_read_takes_no_vm(self):
        self.assertDenied(True, self.why(cluster={
            'resource_pool': '',
            'unreadable': self.denied('resourcePool', 'ComputeResource')}),
            'resourcePool')

    def test_a_resource_pool_that_is_missing_takes_no_vm(self):
        found = self.why(cluster={'resource_pool': ''})
        self.assertIn('no resource pool', found.reason)

    def test_hosts_that_are_not_shown_are_named_as_the_reason(self):
        found = self.why({'hosts': ('host-9',)})
        self.assertEqual('permission', found.code)
        self.assertIn('shows this user no host', found.reason)

    def test_a_cluster_that_cannot_be_read_is_named_beside_those_wanted(self):
        found = self.why(settings=worlds.settings(cluster_names=('c9',)),
                         cluster={'unreadable': self.denied(
                             'name', 'ClusterComputeResource')})
        self.assertEqual('cluster', found.code)
        self.assertIn('name cannot be read', found.reason)


class EligibilityTestCase(unittest.TestCase):
    """The one rule by which a datastore belongs to the backend."""

    def test_every_reason_and_whether_it_passes(self):
        down = worlds.host(connection_state='disconnected')
        in_maintenance = worlds.host(in_maintenance=True)
        elsewhere = worlds.host('host-9', 'cluster-9')
        for code, passing, inputs in (
                ('type', False, {'datastore': {'type': 'tape'}}),
                ('name', False, {'datastore_regex': re.compile('lead')}),
                ('policy', False, {'storage_policies': ('silver',)}),
                ('unmounted', False, {'datastore': {'hosts': ()}}),
                ('cluster', False, {'cluster_names': ('c9',),
                                    'hosts': (worlds.host(), elsewhere)}),
                ('inaccessible', True, {'datastore': {'accessible': False}}),
                ('maintenance', True, {'datastore': {
                    'maintenance_mode': 'inMaintenance'}}),
                ('maintenance', True, {'datastore': {
                    'maintenance_mode': 'enteringMaintenance'}}),
                ('capacity', True, {'datastore': {'capacity_gib': 0}}),
                ('mount', True, {'datastore': {'usable': ()}}),
                ('host', True, {'hosts': (down,)}),
                ('host', True, {'hosts': (in_maintenance,)}),
                ('full', True, {'datastore': {'free_gib': 0}}),
                ('floor', True, {'min_free_gib': 60.5}),
                ('floor', True, {'min_free_percent': 60.5})):
            with self.subTest(code=code, **inputs):
                datastore = worlds.datastore(**inputs.pop('datastore', {}))
                inventory = worlds.inventory(datastore,
                                             hosts=inputs.pop('hosts', None))
                found = eligibility.ineligibility(
                    datastore, inventory, worlds.settings(**inputs))
                self.assertIsNotNone(found)
                self.assertEqual((code, passing), (found.code, found.passing))
                self.assertTrue(found.reason)
                self.assertNotIn('\n', found.reason)

    def test_a_sound_datastore_is_eligible(self):
        self.assertEqual('', why_not())

    def test_all_supported_types_are_eligible(self):
        for kind in ('vmfs', 'nfs', 'nfs41', 'vsan', 'vvol'):
            self.assertEqual('', why_not(worlds.datastore(type=kind)))

    def test_a_maintenance_mode_of_the_future_does_not_matter(self):
        self.assertEqual('', why_not(worlds.datastore(
            maintenance_mode='aNewMode')))

    def test_one_live_host_is_enough(self):
        hosts = (worlds.host(connection_state='notResponding'),
                 worlds.host('host-2'))
        self.assertEqual('', why_not(worlds.datastore(
            hosts=('host-1', 'host-2')), hosts=hosts))

    def test_a_read_only_mount_on_the_one_live_host_is_no_use(self):
        hosts = (worlds.host(connection_state='disconnected'),
                 worlds.host('host-2'))
        self.assertEqual('host', why_not(worlds.datastore(
            hosts=('host-1', 'host-2'), usable=('host-1',)), hosts=hosts))

    def test_one_of_several_clusters_is_enough(self):
        self.assertEqual('', why_not(settings=worlds.settings(
            cluster_names=('elsewhere', 'c1'))))

    def test_a_mount_in_a_cluster_that_is_not_configured_does_not_help(self):
        hosts = (worlds.host(in_maintenance=True),
                 worlds.host('host-2', 'cluster-2'))
        self.assertEqual('host', why_not(
            worlds.datastore(hosts=('host-1', 'host-2')),
            worlds.settings(cluster_names=('c1',)), hosts))

    def test_a_standalone_host_is_in_no_cluster(self):
        hosts = (worlds.host('host-1', 'domain-1'),)
        self.assertEqual('cluster', why_not(
            settings=worlds.settings(cluster_names=('c1',)), hosts=hosts))

    def test_a_standalone_host_will_do_where_no_cluster_is_configured(self):
        self.assertEqual('', why_not(
            hosts=(worlds.host('host-1', 'domain-1'),)))

    def test_the_regex_is_matched_from_the_start(self):
        """As upstream does."""
        self.assertEqual('name', why_not(settings=worlds.settings(
            datastore_regex=re.compile('old'))))
        self.assertEqual('', why_not(settings=worlds.settings(
            datastore_regex=re.compile('g'))))

    def test_one_of_several_policies_is_enough(self):
        self.assertEqual('', why_not(
            settings=worlds.settings(storage_policies=('gold', 'silver')),
            compliant={'gold': frozenset(), 'silver': {'datastore-1'}}))

    def test_the_floor_itself_is_enough(self):
        self.assertEqual('', why_not(settings=worlds.settings(
            min_free_gib=60)))

    def test_a_lasting_reason_is_told_before_one_of_the_moment(self):
        self.assertEqual('type', why_not(worlds.datastore(
            type='tape', accessible=False)))

    @hypothesis.given(worlds.inventories(), worlds.SETTINGS)
    def test_any_datastore_gets_an_answer(self, inventory, settings):
        for datastore in inventory.datastores.values():
            eligibility.ineligibility(datastore, inventory, settings)


if __name__ == '__main__':
    unittest.main()
