# SPDX-License-Identifier: Apache-2.0
"""The shadow VMs of a whole vCenter in one read."""

import unittest

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
