# SPDX-License-Identifier: Apache-2.0
"""The shadow VMs of a whole vCenter in one read."""

import types
import unittest
from unittest import mock

from cinder_vmdk_ext.backings import model as shadow
from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.tests.unit import worlds
from cinder_vmdk_ext.vsphere import references

ID = 'b6f1a1f0-2c0f-4c50-9b41-9f2a4a1b7c10'


def vm(moref, **properties):
    return vcenters.managed('VirtualMachine', moref, **{
        name: value if isinstance(value, tuple) else ('xsd:string', value)
        for name, value in properties.items()})


MARK = ('OptionValue', '<key>cinder.volume.id</key>'
        f'<value xsi:type="xsd:string">{ID}</value>')


class ReadBackingsTestCase(unittest.TestCase):

    def read(self, *vms):
        self.client = vcenters.Client(
            RetrievePropertiesEx=vcenters.page(*vms))
        ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                  client=self.client)
        return ops.read_backings()

    def test_a_shadow_vm_is_known_by_uuid_mark_and_name(self):
        found = self.read(
            vm('vm-1', name='volume-1', config__instanceUuid='uuid-1'),
            vm('vm-2', name='volume-2', **{
                'config__extraConfig["cinder__volume__id"]': MARK}))
        self.assertEqual('vm-1', found.find('uuid-1', 'x').moref)
        self.assertEqual('vm-2', found.find(ID, 'x').moref)
        self.assertEqual('vm-2', found.find('x', 'volume-2').moref)
        self.assertIsNone(found.find('x', 'x'))

    def test_where_it_lies(self):
        found = self.read(vm(
            'vm-1', name='v', config__instanceUuid='u',
            config__files__vmPathName='[a b] v/v.vmx',
            datastore=('ArrayOfManagedObjectReference',
                       '<ManagedObjectReference type="Datastore">datastore-1'
                       '</ManagedObjectReference>'))).find('u', '')
        self.assertEqual((('datastore-1',), '[a b] v'),
                         (found.datastores, found.folder))

    def test_a_vm_of_which_nothing_is_known_is_nobodys(self):
        """Such as one that is being created, or that is inaccessible."""
        found = self.read(vm('vm-1'), vm('vm-2', config__instanceUuid='u'))
        self.assertIsNone(found.find(ID, 'volume-x'))
        self.assertEqual('vm-2', found.find('u', '').moref)

    def test_three_calls_however_many_there_are(self):
        self.read(*(vm(f'vm-{number}', config__instanceUuid=str(number))
                    for number in range(500)))
        self.assertEqual(3, len(self.client.calls))


class NewTestCase(unittest.TestCase):
    """What the driver has made is known before it is reported."""

    def setUp(self):
        super().setUp()
        self.ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                       client=vcenters.Client())
        self.ops.backing_view = types.SimpleNamespace(
            datastores_of=lambda moref: ())

    @staticmethod
    def vm(moref):
        return references.Ref('VirtualMachine', moref)

    def note(self, moref, *more):
        self.ops.note_new(self.vm(moref), *more)

    def used(self, moref):
        return self.ops.datastores_used(self.vm(moref))

    def report(self, moref, before, now):
        self.ops.reported([tuple(
            None if each is None else shadow.Backing(moref, '', each)
            for each in (before, now))])

    def test_it_is_known_until_it_is_reported(self):
        self.note('vm-1', ('datastore-1',), 'u-1')
        self.report('vm-2', None, ('datastore-1',))
        self.assertEqual(('datastore-1',), self.used('vm-1'))
        self.report('vm-1', None, ('datastore-1',))
        self.assertEqual((), self.used('vm-1'))
        self.assertEqual({}, self.ops._new_uuids)

    def test_where_a_vm_was_moved_away_from_is_refreshed_once(self):
        freed = []
        self.ops.freed = freed.append
        self.ops.placed['vm-1'] = 'datastore-2'
        self.assertEqual(('datastore-2',), self.used('vm-1'))
        for before, now in (
                (('datastore-1',), ('datastore-1',)),  # another change
                (('datastore-1',), ('datastore-1', 'datastore-2'))):
            self.report('vm-1', before, now)
        self.assertEqual([], freed)
        for _each in range(2):
            self.report('vm-1', ('datastore-1', 'datastore-2'),
                        ('datastore-2',))
        self.assertEqual(['datastore-1'], freed)
        self.assertEqual({}, self.ops.placed)

    def test_one_that_was_moved_before_it_was_reported(self):
        freed = []
        self.ops.freed = freed.append
        self.note('vm-1', ('datastore-1',), 'u-1')
        self.ops.placed['vm-1'] = 'datastore-2'
        self.report('vm-1', None, ('datastore-2',))
        self.assertEqual(['datastore-1'], freed)

    def test_what_is_deleted_is_forgotten(self):
        self.ops.backing_view.deleting = lambda moref: ('datastore-3',)
        self.note('vm-1', ('datastore-1',), 'u-1')
        self.ops.placed['vm-1'] = 'datastore-2'
        self.ops._unchecked['vm-1'] = None
        self.assertEqual(
            {'datastore-1', 'datastore-2', 'datastore-3'},
            set(self.ops.datastores_used(self.vm('vm-1'), deleting=True)))
        self.assertEqual([{}] * 4, [
            self.ops._new, self.ops._new_uuids, self.ops.placed,
            self.ops._unchecked])

    def test_where_it_was_reported_counts_too(self):
        self.ops.backing_view = types.SimpleNamespace(
            datastores_of=lambda moref: ('datastore-1', 'datastore-2'))
        self.note('vm-1', ('datastore-2', 'datastore-3'))
        self.assertEqual(('datastore-1', 'datastore-2', 'datastore-3'),
                         self.used('vm-1'))

    def test_a_path_is_that_of_the_datastore_which_the_host_mounts(self):
        self.ops.inventory_view = types.SimpleNamespace(
            known=lambda: worlds.inventory(
                worlds.datastore(), worlds.datastore(
                    'datastore-2', hosts=('host-2',))))
        self.note('vm-1', '[gold]', '', 'host-2')
        self.assertEqual(('datastore-2',), self.used('vm-1'))
        self.note('vm-1', '[lead]', '', 'host-2')
        self.assertEqual((), self.used('vm-1'))

    def test_few_are_remembered(self):
        for number in range(2 * volumeops.MOST_NEW):
            self.note(f'vm-{number}', (), f'u-{number}')
        self.assertEqual(volumeops.MOST_NEW, len(self.ops._new))
        self.assertEqual(volumeops.MOST_NEW, len(self.ops._new_uuids))
        self.ops.placed |= dict.fromkeys(
            map(str, range(2 * volumeops.MOST_NEW)), 'datastore-1')
        self.ops.reported([])
        self.assertEqual(volumeops.MOST_NEW, len(self.ops.placed))


class SeekTestCase(unittest.TestCase):
    """What vanished is sought while its volume, or an attachment, exists."""

    def test_what_is_found_or_has_no_volume_is_sought_no_longer(self):
        forgotten = []
        ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                  client=vcenters.Client())
        ops.backing_view = types.SimpleNamespace(
            lost_backings=lambda: {
                'u-1': 'v-1', 'u-2': 'v-2', 'u-3': 'v-3', 'I-4': '',
                'i-5': ''},
            forget_lost=forgotten.extend)
        with mock.patch.object(ops, 'follow_by_uuid', return_value=frozenset(
                {'u-2'})) as follow:
            ops.seek_lost(lambda ids: {'v-1', 'v-2'} & set(ids),
                          lambda uuids: {'i-4'} & set(uuids))
        follow.assert_called_once_with(['u-1', 'u-2', 'I-4'])
        self.assertEqual({'u-3', 'i-5'}, set(forgotten[:2]))
        self.assertEqual({'u-1', 'I-4'}, set(forgotten[2:]))

    def test_while_nothing_is_lost_the_database_is_not_asked(self):
        ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                  client=vcenters.Client())
        ops.seek_lost(self.fail, self.fail)
        ops.backing_view = types.SimpleNamespace(lost_backings=dict)
        ops.seek_lost(self.fail, self.fail)


if __name__ == '__main__':
    unittest.main()
