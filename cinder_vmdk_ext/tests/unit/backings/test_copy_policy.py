# SPDX-License-Identifier: Apache-2.0
"""The properties that a copy of a disk keeps, on plain values."""

import unittest

from cinder_vmdk_ext.backings import copy_policy
from cinder_vmdk_ext.vsphere import virtual_devices as devices


def device(kind, key, controller=None, bus=None):
    return devices.Device(None, kind, key, controller, bus)


DISK = devices.Disk(device('VirtualDisk', 2000, 1000), '', '', '', 0, True,
                    False, None)


class CopyPolicyTestCase(unittest.TestCase):

    def test_the_adapter_changes_only_when_the_type_names_one(self):
        for specs, source, expected in (
                ({}, 'ide', 'ide'), ({}, None, None),
                ({'vmware:vmdk_type': 'thin'}, 'busLogic', 'busLogic'),
                ({'vmware:adapter_type': 'lsiLogic'}, 'ide', 'lsiLogic')):
            self.assertEqual(expected, copy_policy.adapter(specs, source))

    def test_the_disk_its_controller_and_what_every_vm_has_come_along(self):
        kept = [device('VirtualIDEController', 200, None, 0),
                device('VirtualSIOController', 400, None, 0),
                device('VirtualMachineVMCIDevice', 12000, 100),
                device('ParaVirtualSCSIController', 1000, 100, 0), DISK.device]
        left = [device('VirtualLsiLogicController', 1001, 100, 1),
                device('VirtualDisk', 2001, 1000),
                device('VirtualDisk', 2016, 1001),
                device('VirtualCdrom', 3000, 200),
                device('VirtualVmxnet3', 4000, 100),
                device('VirtualSerialPort', 9000, 400),
                device('VirtualTPM', 11000),
                device('VirtualDeviceOfTheFuture', 99)]
        found = copy_policy.left_behind([*left, *kept], DISK)
        self.assertEqual({each.key for each in left},
                         {each.key for each in found})

    def test_a_controller_goes_after_what_is_on_it(self):
        found = copy_policy.left_behind([
            device('VirtualNVMEController', 31000, 100, 0),
            device('VirtualDisk', 32000, 31000)], DISK)
        self.assertEqual([32000, 31000], [each.key for each in found])

    def test_every_key_is_left_behind_but_what_the_copy_is_given(self):
        self.assertEqual(
            {'guestinfo.userdata': '', 'vmdk-ext.former-volumes': ''},
            copy_policy.keys_left_behind(
                ['guestinfo.userdata', 'cinder.volume.id',
                 'vmdk-ext.former-volumes'], {'cinder.volume.id': 'x'}))
