# SPDX-License-Identifier: Apache-2.0
"""The datastores of existing volumes' disks, in one bulk read."""

import unittest

from cinder_vmdk_ext.backings import locator as backings_locator
from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.vsphere import virtual_devices as devices

ID = 'b6f1a1f0-2c0f-4c50-9b41-9f2a4a1b7c10'


def vm(moref='vm-1', name='', datastores=('datastore-1',), **more):
    home = more.pop('home', '')
    return shadow.Backing(moref, name, datastores,
                          folder=f'[{home}] folder' if home else '', **more)


class Reads:
    """A vCenter with these VMs, which counts how often it is read."""

    def __init__(self, *vms, disk_on=None):
        self.vms = vms
        self.disk_on = disk_on  # the datastore of each one's disk
        self.count = 0
        self.inventory = worlds.inventory(
            worlds.datastore(), worlds.datastore('datastore-2', 'lead'))

    def read_backings(self):
        self.count += 1
        return shadow.Backings(self.vms)

    def disks_of(self, morefs):
        disks = [devices.Disk(None, '', self.disk_on, '', 0, True, False,
                              None)] if self.disk_on else []
        return {moref: disks for moref in morefs}

    def read(self):
        return self.inventory


class LocatorTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.now = 0.0

    def locate(self, *vms, volume_id=ID, name=f'volume-{ID}', **more):
        reads = Reads(*vms, **more)
        found = self.locator(reads).locate([{'id': volume_id, 'name': name}])
        return found.get(volume_id)

    def locator(self, reads):
        return backings_locator.Locator(reads, reads, worlds.settings(),
                                        lambda: self.now)

    def test_by_uuid(self):
        self.assertEqual('gold', self.locate(vm(uuid=ID)))

    def test_by_the_mark_of_older_releases(self):
        self.assertEqual('gold', self.locate(vm(volume_id=ID)))

    def test_by_the_name_of_the_oldest(self):
        self.assertEqual('gold', self.locate(vm(name=f'volume-{ID}')))

    def test_the_uuid_counts_more_than_the_name(self):
        self.assertEqual('lead', self.locate(
            vm(name=f'volume-{ID}'),
            vm('vm-2', uuid=ID, datastores=('datastore-2',))))

    def test_a_snapshots_template_is_no_volume(self):
        """It inherits the mark of the volume."""
        self.assertIsNone(self.locate(vm(volume_id=ID, template=True)))

    def test_a_volume_without_a_vm_has_no_place(self):
        self.assertIsNone(self.locate(vm(uuid='another')))

    def test_of_several_datastores_that_of_the_disk(self):
        """As after a move that was broken off halfway."""
        both = ('datastore-1', 'datastore-2')
        self.assertEqual('gold', self.locate(
            vm(uuid=ID, datastores=both, home='lead'), disk_on='datastore-1'))

    def test_of_several_datastores_without_a_disk_that_of_the_vmx_file(self):
        both = ('datastore-1', 'datastore-2')
        self.assertEqual('lead', self.locate(vm(uuid=ID, datastores=both,
                                                home='lead')))
        self.assertIsNone(self.locate(vm(uuid=ID, datastores=both,
                                         home='gone')))

    def test_a_vm_on_no_datastore_or_an_unknown_one_has_no_place(self):
        for datastores in ((), ('datastore-9',)):
            self.assertIsNone(self.locate(vm(uuid=ID, datastores=datastores)))

    def test_one_read_serves_all_within_a_minute(self):
        reads = Reads(vm(uuid=ID))
        locator = self.locator(reads)
        for _ in range(200):
            self.assertEqual({ID: 'gold'}, locator.locate(
                [{'id': ID, 'name': 'x'}]))
        self.assertEqual(1, reads.count)
        self.now = backings_locator.KEEP_SECONDS
        locator.locate([])
        self.assertEqual(2, reads.count)

    def test_a_fresh_look_can_be_asked_for(self):
        reads = Reads()
        locator = self.locator(reads)
        locator.look()
        locator.look()
        self.assertEqual(2, reads.count)
