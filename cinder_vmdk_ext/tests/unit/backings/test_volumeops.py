# SPDX-License-Identifier: Apache-2.0
"""The shadow VMs of a whole vCenter in one read."""

import types
import unittest
from unittest import mock

from cinder_vmdk_ext.backings import volumeops
from cinder_vmdk_ext.tests.unit import vcenters

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


class SeekTestCase(unittest.TestCase):
    """Shadow VMs that vanished are sought while their volumes exist."""

    def test_what_is_found_or_has_no_volume_is_sought_no_longer(self):
        forgotten = []
        ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                  client=vcenters.Client())
        ops.backing_view = types.SimpleNamespace(
            lost_backings=lambda: {'u-1': 'v-1', 'u-2': 'v-2', 'u-3': 'v-3'},
            forget_lost=forgotten.extend)
        with mock.patch.object(ops, 'follow_by_uuid',
                               return_value=frozenset({'u-2'})) as follow:
            ops.seek_lost(lambda ids: {'v-1', 'v-2'} & set(ids))
        follow.assert_called_once_with(['u-1', 'u-2'])
        self.assertEqual(['u-3', 'u-1'], forgotten)

    def test_while_nothing_is_lost_the_database_is_not_asked(self):
        ops = volumeops.VolumeOps(vcenters.Session(), 100, 'key', 'type',
                                  client=vcenters.Client())
        ops.seek_lost(self.fail)
        ops.backing_view = types.SimpleNamespace(lost_backings=dict)
        ops.seek_lost(self.fail)


if __name__ == '__main__':
    unittest.main()
