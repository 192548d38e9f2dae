# SPDX-License-Identifier: Apache-2.0
"""Which disks Cinder can manage, why not, and their references."""

import dataclasses
import unittest

import hypothesis
from hypothesis import strategies

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.volumes import manageable

GIB = worlds.GIB
SEEN = worlds.inventory(worlds.datastore())
SETTINGS = worlds.settings()
NOTHING = manageable.KnownToCinder({}, {})


def machine(**more):
    return shadow.ScannedVm(**{'moref': 'vm-1', 'name': 'server',
                               'inventory_path': 'DC1/vm/server'} | more)


def disk(vm=None, **more):
    return shadow.ScannedDisk(**{
        'datastore': 'datastore-1', 'path': 'server/server.vmdk',
        'size_bytes': GIB, 'machine': vm, 'uuid': 'a-uuid'} | more)


def why(one, users=(), seen=SEEN, settings=SETTINGS):
    return manageable.obstacle(one, users, seen, settings)


class ObstacleTestCase(unittest.TestCase):

    def test_nothing_hinders(self):
        self.assertIsNone(why(disk(machine())))
        self.assertIsNone(why(disk()))

    def test_what_a_disk_is(self):
        for text, one in (
                ('raw device', {'kind':
                                'VirtualDiskRawDiskMappingVer1BackingInfo'}),
                ('format', {'kind': 'VirtualDiskSparseVer2BackingInfo'}),
                ('shared', {'shared': True}),
                ('encrypted', {'encrypted': True}),
                ('first class', {'first_class': True}),
                ('independent_nonpersistent',
                 {'mode': 'independent_nonpersistent'}),
                ('delta', {'parent': '[gold] base.vmdk'})):
            self.assertIn(text, why(disk(machine(), **one)))

    def test_what_its_vm_is(self):
        for text, vm in (
                ('template', {'template': True}),
                ('suspended', {'power_state': 'suspended'}),
                ('poweredOn', {'power_state': 'poweredOn'}),
                ('has snapshots', {'has_snapshots': True}),
                ('another Cinder', {'ours': True}),
                ('another Cinder', {'volume_id': 'x'}),
                ('another Cinder', {'snapshot_id': 'x'}),
                ('2 disks', {'ours': True, 'left_behind': True,
                             'disk_count': 2})):
            self.assertIn(text, why(disk(machine(**vm))))

    def test_a_shadow_vm_that_was_left_comes_with_its_snapshots(self):
        left = machine(ours=True, left_behind=True, has_snapshots=True)
        self.assertIsNone(why(disk(left, parent='[gold] base.vmdk')))

    def test_another_vm_has_it_too(self):
        other = disk(machine(moref='vm-2', name='twin'))
        self.assertIn("'twin'", why(disk(machine()), [disk(machine()), other]))
        self.assertIsNone(why(disk(machine()), [disk(machine(
            inventory_path=None))]))

    def test_where_it_lies(self):
        def on(**more):
            return worlds.inventory(worlds.datastore(**more))
        for text, seen in (
                ('unknown', worlds.inventory()),
                ('inaccessible', on(accessible=False)),
                ('maintenance', on(maintenance_mode='inMaintenance')),
                ('read-only', on(usable=())), ('type', on(type='other'))):
            self.assertIn(text, why(disk(), seen=seen))
        for seen, settings in (
                (on(free_gib=0), SETTINGS),
                (on(free_gib=1), worlds.settings(min_free_gib=5)),
                (dataclasses.replace(on(custom_values=((1, 'drain'),)),
                                     attributes={1: 'state'}),
                 worlds.settings(drain_attribute='state'))):
            self.assertIsNone(why(disk(), seen=seen, settings=settings))

    def test_whose_folder_a_file_is_in(self):
        for text, path in (('Nova', 'vmware_base/x/x.vmdk'),
                           ('temporary', 'cinder_temp/x.vmdk'),
                           ('first class', 'fcd/x.vmdk'),
                           ('library', 'contentlib-1/x.vmdk'),
                           ('vCenter itself', '.naa/x.vmdk')):
            self.assertIn(text, why(disk(path=path)))
        self.assertIsNone(why(disk(path='database/x.vmdk')))


class ListTestCase(unittest.TestCase):

    def entries(self, *disks, known=NOTHING):
        return manageable.volumes(disks, known, SEEN, SETTINGS)

    def test_a_file_is_listed_once_and_its_owner_told(self):
        known = manageable.KnownToCinder({'an-id': 'an-id'}, {})
        [entry] = self.entries(disk(machine()),
                               disk(machine(moref='vm-2', uuid='an-id')),
                               known=known)
        self.assertEqual((False, 'an-id'), (entry['safe_to_manage'],
                                            entry['cinder_id']))

    def test_an_owner_is_known_by_any_of_its_marks(self):
        known = manageable.KnownToCinder({'an-id': 'an-id'},
                                         {'volume-x': 'an-id'})
        for one in (disk(machine(uuid='an-id')),
                    disk(machine(volume_id='an-id')),
                    disk(machine(name='volume-x')),
                    disk(machine(), uuid='AN-ID'), disk(uuid='an-id')):
            [entry] = self.entries(one, known=known)
            self.assertEqual('an-id', entry['cinder_id'])

    def test_a_vm_in_a_vapp_has_no_path(self):
        [entry] = self.entries(disk(machine(inventory_path=None)))
        self.assertEqual({'source-id': 'a-uuid'}, entry['reference'])

    def test_an_instance_of_novas_is_left_alone(self):
        [entry] = self.entries(disk(machine(instance_id='i-1')))
        self.assertIn('instance i-1', entry['reason_not_safe'])

    def test_a_file_is_told_by_datastore_unless_two_are_called_so(self):
        seen = worlds.inventory(
            worlds.datastore(), worlds.datastore('datastore-2'))
        [entry] = manageable.volumes([disk()], NOTHING, seen, SETTINGS)
        self.assertIn('same name', entry['reason_not_safe'])


TEXT = strategies.text('ab@#%/[] .é机', min_size=1, max_size=12)


class ReferencesTestCase(unittest.TestCase):

    @hypothesis.given(TEXT, TEXT, TEXT)
    def test_every_reference_is_among_its_readings(self, datastore, path, vm):
        hypothesis.assume(path.strip() == path and vm.strip('/'))
        name = f'[{datastore}] {path}.vmdk'
        self.assertIn((name, vm), manageable.splits(f'{name}@{vm}'))

    @hypothesis.given(TEXT)
    def test_a_path_is_taken_apart(self, path):
        hypothesis.assume(path.strip() == path and ']' not in path)
        self.assertEqual(('gold', f'{path}.vmdk'),
                         shadow.split_path(f'[gold] {path}.vmdk'))

    def test_what_is_no_path(self):
        for text in ('', 'x.vmdk', '[gold] x', '[] x.vmdk', '[gold]', '@'):
            self.assertIsNone(shadow.split_path(text))

    def test_names_are_looked_for_as_the_vcenter_writes_them(self):
        self.assertEqual(['DC/vm/a%2fb', 'DC/vm/a%252fb'],
                         manageable.inventory_paths('/DC/vm/a%2fb'))
        self.assertEqual(['DC/vm/50%', 'DC/vm/50%25'],
                         manageable.inventory_paths('DC/vm/50%'))

    def test_sizes_are_rounded_up(self):
        for size, gib in ((0, 0), (1, 1), (GIB, 1), (GIB + 1, 2)):
            self.assertEqual(gib, disk(size_bytes=size).size_gib)


if __name__ == '__main__':
    unittest.main()
