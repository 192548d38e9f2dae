# SPDX-License-Identifier: Apache-2.0
"""A vCenter's figures are old, and one storage may be two datastores."""

import time
from unittest import mock

from pyVmomi import vim

from cinder_vmdk_ext.inventory import refresher
from cinder_vmdk_ext.tests.functional import backend_case


class LaggingCase(backend_case.BackendCase):
    """Figures are what they were until a client has them refreshed."""

    VCENTER = backend_case.BackendCase.VCENTER | {
        'figures_refresh': 3600}
    OPTIONS = {'vmware_lazy_create': False}

    @classmethod
    def setUpClass(cls):
        # The driver has none refreshed, however long a test takes.
        cls.enterClassContext(mock.patch.object(
            refresher, 'DELAY_SECONDS', 86400))
        super().setUpClass()

    def provisioned(self, *pools):
        """Of one pool, or of several in one report."""
        found = {each['pool_name']: each['provisioned_capacity_gb'] for each
                 in self.driver.get_volume_stats(refresh=True)['pools']}
        figures = [found[pool] for pool in pools or ('LocalDS_1',)]
        return figures if len(figures) > 1 else figures[0]

    def refresh(self, name='LocalDS_1'):
        self.datastore(name).RefreshDatastoreStorageInfo()

    def until(self, expected, look):
        deadline = time.monotonic() + 60
        while look() != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(expected, look())


class LaggingFiguresTestCase(LaggingCase):

    def test_disks_that_were_made_stay_in_the_report(self):
        for number in (1, 2, 3):
            self.create('LocalDS_1', size_gib=10)
            self.assertGreaterEqual(self.provisioned(), 10 * number)
        self.assertEqual(0, self.datastore('LocalDS_1').summary.uncommitted
                         or 0)
        self.refresh()
        self.until(0, lambda: self.driver.backend.reservations.claimed_bytes(
            self.datastore('LocalDS_1')._moId))
        self.assertTrue(30 <= self.provisioned() < 30.1, self.provisioned())

    def test_a_disk_that_grew_stays_in_the_report(self):
        volume = self.create('LocalDS_2', size_gib=10)
        self.refresh('LocalDS_2')
        self.until(0, lambda: self.driver.backend.reservations.claimed_bytes(
            self.datastore('LocalDS_2')._moId))
        self.driver.extend_volume(volume, 25)
        self.assertTrue(25 <= self.provisioned('LocalDS_2') < 25.1)

    def test_templates_that_were_made_stay_in_the_report(self):
        self.driver = self.make_driver(vmware_snapshot_format='template')
        kind = self.volume_type('thick', vmdk_type='thick')['id']
        volume = self.create('LocalDS_1', 10, kind)
        self.snapshot(volume)
        self.attach(volume)
        self.snapshot(volume)
        self.assertGreaterEqual(self.provisioned(), 30)

    def note_refresh(self, name):
        moref = self.datastore(name)._moId
        self.driver.backend.reservations.refreshed(moref, time.monotonic())
        self.assertNotIn(moref, self.driver.backend.reservations.changed())

    def assert_changed(self, name):
        self.assertIn(self.datastore(name)._moId,
                      self.driver.backend.reservations.changed())

    def test_what_was_changed_is_to_be_refreshed(self):
        volume = self.create('LocalDS_3')
        self.assert_changed('LocalDS_3')
        self.note_refresh('LocalDS_3')
        snapshot = self.snapshot(volume)
        self.driver.delete_snapshot(snapshot)
        self.assert_changed('LocalDS_3')
        self.note_refresh('LocalDS_3')
        self.driver.delete_volume(volume)
        self.assert_changed('LocalDS_3')

    def test_where_a_disk_was_is_to_be_refreshed(self):
        volume = self.create('LocalDS_3')
        self.note_refresh('LocalDS_3')
        self.driver.migrate_volume(self.context, volume,
                                   self.there('LocalDS_2'))
        source = self.datastore('LocalDS_3')._moId
        self.until(True, lambda: source
                   in self.driver.backend.reservations.changed())
        self.assert_changed('LocalDS_2')
        self.note_refresh('LocalDS_2')
        self.driver.delete_volume(volume)
        self.assert_changed('LocalDS_2')

    def test_what_was_not_reported_yet_is_to_be_refreshed(self):
        """Of a disk of its own, and of one that another service made."""
        view, ours = self.driver.volumeops.backing_view, self.driver
        for driver in (ours, self.make_driver()):
            with (mock.patch.object(view, 'moref_of', return_value=None),
                  mock.patch.object(view, 'datastores_of',
                                    return_value=())):
                self.driver = driver
                volume = self.create('LocalDS_3')
                self.driver = ours
                self.note_refresh('LocalDS_3')
                self.driver.delete_volume(volume)
                self.assert_changed('LocalDS_3')

    def test_a_volume_that_waits_to_be_created_is_in_the_report(self):
        self.new_volume('LocalDS_0', size_gib=50)
        self.assertGreaterEqual(self.provisioned('LocalDS_0'), 50)

    def test_while_a_retype_copies_a_disk_both_are_in_the_report(self):
        volume = self.create('LocalDS_3', size_gib=10)
        self.settle('LocalDS_3')
        seen = []

        def clone(*args, **kwargs):
            seen.append(self.provisioned('LocalDS_3'))
            made = original(*args, **kwargs)
            seen.append(self.provisioned('LocalDS_3'))
            return made

        ops = self.driver.volumeops
        original = ops.clone
        with mock.patch.object(ops, 'clone', clone):
            self.assertTrue(self.driver.retype(
                self.context, volume,
                self.volume_type('thick', vmdk_type='thick'), {},
                self.there('LocalDS_3')))
        for figure in seen:
            self.assertGreaterEqual(figure, 20)
        self.settle('LocalDS_3')
        self.assertTrue(10 <= self.provisioned('LocalDS_3') < 10.1)

    def test_what_a_retype_changes_in_place_claims_nothing(self):
        volume = self.create('LocalDS_3', size_gib=10)
        self.settle('LocalDS_3')
        self.assertTrue(self.driver.retype(
            self.context, volume,
            self.volume_type('ide', adapter_type='ide'), {},
            self.there('LocalDS_3')))
        self.assertTrue(10 <= self.provisioned('LocalDS_3') < 10.1)

    def settle(self, name):
        """Have the figures show all that was made."""
        self.refresh_figures()
        self.assertEqual(0, self.driver.backend.reservations.claimed_bytes(
            self.datastore(name)._moId))


class SharedExportTestCase(LaggingCase):
    """One NFS export, mounted in two datacenters."""

    VCENTER = LaggingCase.VCENTER | {
        'dc': 2, 'ds': 1, 'vm': 0, 'nfs': ['shared=20GiB']}

    def test_what_is_made_in_one_counts_in_both(self):
        shared = [each for each in self.all(vim.Datastore)
                  if each.summary.type == 'NFS']
        self.assertEqual(1, len({each.summary.url for each in shared}))
        names = [pool['pool_name'] for pool in self.report()['pools']
                 if pool['datastore_type'] == 'nfs']
        self.assertEqual(2, len(names))
        self.create(names[0], size_gib=5)
        for refreshed in (False, True):
            if refreshed:
                for each in shared:
                    each.RefreshDatastoreStorageInfo()
            one, other = self.provisioned(*names)
            self.assertEqual(one, other)
            self.assertGreaterEqual(one, 5)
