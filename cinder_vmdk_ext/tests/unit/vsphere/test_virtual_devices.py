# SPDX-License-Identifier: Apache-2.0
"""A VM's hardware is read, and changed without losing other properties."""

import unittest

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import virtual_devices as devices

DISK = '''<d xsi:type="VirtualDisk"><key>{key}</key>
<backing xsi:type="VirtualDiskFlatVer2BackingInfo">
<fileName>[gold] v/v-1.vmdk</fileName>
<datastore type="Datastore">datastore-1</datastore>
<diskMode>persistent</diskMode><thinProvisioned>true</thinProvisioned>
<uuid>u-1</uuid><parent><fileName>[gold] v/v.vmdk</fileName></parent>
</backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber>
<capacityInKB>{size}</capacityInKB><future>1</future></d>'''
SCSI = ('<d xsi:type="ParaVirtualSCSIController"><key>1000</key>'
        '<busNumber>0</busNumber></d>')
IDE = '<d xsi:type="VirtualIDEController"><key>200</key></d>'


def hardware(*found, size='2048'):
    return devices.parse(vcenters.reply(''.join(found).format(
        key=2000, size=size)))


class ReadTestCase(unittest.TestCase):

    def test_a_disk_is_known_by_its_file_base_size_and_adapter(self):
        found = hardware(IDE, SCSI, DISK)
        [disk] = devices.disks(found)
        self.assertEqual(
            ('[gold] v/v-1.vmdk', '[gold] v', 'datastore-1', 'u-1', 2 << 20,
             'thin', '[gold] v/v.vmdk'),
            (disk.path, disk.folder, disk.datastore, disk.uuid,
             disk.capacity_bytes, disk.provisioning, disk.parent))
        self.assertEqual('paraVirtual', devices.adapter_of(disk, found))

    def test_disks_to_compare_are_the_same_without_their_xml(self):
        array = vcenters.reply((IDE + SCSI + DISK).format(key=2000,
                                                          size='2048'))
        [whole] = devices.disks(devices.parse(array))
        [disk] = devices.disks_in(array)
        self.assertEqual(whole._replace(device=None),
                         disk._replace(device=None))
        self.assertEqual((2000, 0), (disk.device.key,
                                     len(disk.device.element)))
        self.assertEqual([], devices.disks_in(None))

    def test_a_size_that_is_no_number_is_the_vcenters_error(self):
        with self.assertRaisesRegex(exceptions.VimConnectionException,
                                    'VirtualDisk'):
            devices.disks(hardware(DISK, size='x'))


LIMITS = ('<storageIOAllocation><limit>500</limit><shares><shares>2000'
          '</shares><level>high</level></shares><reservation>9</reservation>'
          '</storageIOAllocation>')


class AllocationTestCase(unittest.TestCase):

    def test_what_a_disk_does_not_say_is_the_default(self):
        [disk] = devices.disks(hardware(DISK))
        self.assertEqual(devices.UNLIMITED, disk.limits)
        [disk] = devices.disks(hardware(DISK.replace(
            '<future>', LIMITS + '<future>')))
        self.assertEqual(devices.Allocation(500, 9, 'high', 2000),
                         disk.limits)
        self.assertTrue(devices.has_limits(disk, devices.Allocation(500)))
        self.assertFalse(devices.has_limits(disk, devices.UNLIMITED))

    def test_an_edit_keeps_what_is_not_asked_for_and_the_wsdls_order(self):
        [disk] = devices.disks(hardware(DISK.replace(
            '<future>', LIMITS + '<future>')))
        edited = devices.edited(disk, limits=devices.Allocation(limit=16))
        found = edited.find(soap.tag('storageIOAllocation'))
        self.assertEqual(
            [('limit', '16'), ('shares', None), ('reservation', '9')],
            [(etree.QName(each).localname, each.text) for each in found])
        self.assertEqual(['2000', 'high'], [
            each.text for each in found.find(soap.tag('shares'))])

    def test_the_defaults_of_what_another_specifies(self):
        self.assertEqual(devices.Allocation(-1),
                         devices.Allocation(500).reset())
        self.assertEqual(
            devices.Allocation(level='normal', shares=1000),
            devices.Allocation(level='custom', shares=7).reset())


class ChangeTestCase(unittest.TestCase):

    def test_an_edit_keeps_the_fields_that_are_not_known(self):
        [disk] = devices.disks(hardware(DISK))
        before = etree.tostring(disk.device.element)
        edited = devices.edited(disk, uuid='u-2', capacity_bytes=4 << 20)
        self.assertEqual(before, etree.tostring(disk.device.element))
        self.assertEqual(
            ('u-2', '4096', '1'),
            tuple(edited.findtext(path) for path in (
                f'{soap.tag("backing")}/{soap.tag("uuid")}',
                soap.tag('capacityInKB'), soap.tag('future'))))

    def test_a_field_that_the_disk_lacks_is_put_in_its_place(self):
        [disk] = devices.disks(hardware(DISK.replace('<uuid>u-1</uuid>', '')))
        backing = devices.edited(disk, uuid='u-2').find(soap.tag('backing'))
        names = [etree.QName(each).localname for each in backing]
        self.assertEqual(['uuid', 'parent'], names[-2:])

    def test_an_empty_old_controller_goes_with_the_disk(self):
        found = hardware(IDE, SCSI, DISK)
        [disk] = devices.disks(found)
        before, key, after = devices.to_adapter(disk, found, 'lsiLogic')
        self.assertEqual('VirtualLsiLogicController',
                         before[0].fields['device'].type)
        self.assertEqual((devices.NEW_CONTROLLER, ['remove']), (
            key, [each.fields['operation'] for each in after]))
        self.assertEqual(([], None, []),
                         devices.to_adapter(disk, found, 'paraVirtual'))

    def test_a_new_controller_takes_a_free_bus(self):
        made = devices.new_controller('busLogic', hardware(SCSI))
        self.assertEqual(1, made.fields['busNumber'])


if __name__ == '__main__':
    unittest.main()
