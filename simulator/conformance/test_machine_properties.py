# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine says about itself, in the cases in which a vCenter says something other than one expects."""

import datetime
import json
import pathlib
import re
import tempfile
import unittest

from pyVmomi import vim

from simulator import client
from simulator.conformance import storage_case

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
RECORDED = pathlib.Path(__file__).parents[3] / 'shared' / 'fixtures' / 'soap' / 'vminfo.json'


class MachineCase(storage_case.StorageCase):

    flags = {'ds': 4, 'vm': 1, 'ds_capacity': '10GiB', 'ds_mount_all': True, 'cluster': 1, 'host': 1, 'standalone_host': 0}

    def reconfigure(self, vm, **spec):
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(**spec)))


class ConfigTestCase(MachineCase):

    def test_modified_is_1970_and_create_date_is_not(self):
        """After the recording vminfo.json of govmomi: a machine of a vCenter 8, never modified and created in 2022."""
        for vm in self.all(vim.VirtualMachine):
            self.assertEqual(EPOCH, vm.config.modified)
            self.assertLess(abs((vm.config.createDate - self.client.CurrentTime()).total_seconds()), 600)
        vm, _ = self.vm_with_disk()
        self.reconfigure(vm, annotation='changed')
        self.assertEqual(EPOCH, vm.config.modified)

    def test_the_change_version_is_written_as_recorded(self):
        """After the recording vminfo.json: "2022-12-12T11:48:35.473645Z"."""
        pattern = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z'
        if RECORDED.exists():
            self.assertRegex(json.loads(RECORDED.read_text())['changeVersion'], f'^{pattern}$')
        for vm in self.all(vim.VirtualMachine):
            self.assertTrue(re.fullmatch(pattern, vm.config.changeVersion), vm.config.changeVersion)

    def test_snapshots_change_the_change_version(self):
        """VirtualMachineConfigInfo.changeVersion: "a unique identifier for a given version of the configuration. Each change to
        the configuration updates this value." A snapshot gives the disks other files.
        """
        vm, _ = self.vm_with_disk()
        seen = [vm.config.changeVersion]

        def changed(what):
            self.assertNotIn(vm.config.changeVersion, seen, what)
            seen.append(vm.config.changeVersion)

        snapshot = self.snapshot(vm)
        changed('CreateSnapshot')
        self.wait(snapshot.RevertToSnapshot_Task())
        changed('RevertToSnapshot')
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        changed('RemoveSnapshot')

    def test_a_move_changes_the_change_version_and_a_read_does_not(self):
        """The same property: a move gives the configuration another path."""
        vm, _ = self.vm_with_disk()
        before = vm.config.changeVersion
        self.assertEqual(before, vm.config.changeVersion)
        self.wait(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))))
        self.assertNotEqual(before, vm.config.changeVersion)

    def test_scsi_controllers_say_their_own_unit(self):
        """VirtualSCSIController.scsiCtlrUnitNumber: "the SCSI controller sits on its own bus, so that this field defines which
        slot the controller is using"; 7 in the recording vminfo.json.
        """
        for vm in self.all(vim.VirtualMachine):
            controllers = [each for each in vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualSCSIController)]
            self.assertEqual([7], [each.scsiCtlrUnitNumber for each in controllers], vm.name)
        vm, _ = self.vm_with_disk()
        clone, _ = self.clone(vm, 'with-controller')
        self.assertIn(7, [getattr(each, 'scsiCtlrUnitNumber', None) for each in clone.config.hardware.device])


class DatastoresTestCase(MachineCase):
    """VirtualMachine.datastore: "the subset of datastore objects in the datacenter that is used by this virtual machine"."""

    def cdrom(self, path):
        return vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.VirtualCdrom(
            key=-1, controllerKey=200, unitNumber=0, connectable=vim.vm.device.VirtualDevice.ConnectInfo(
                startConnected=True, allowGuestControl=True, connected=False),
            backing=vim.vm.device.VirtualCdrom.IsoBackingInfo(fileName=path)))

    def names(self, vm):
        return {each.name for each in vm.datastore}

    def test_the_datastore_of_an_iso_image_counts_until_it_is_taken_out(self):
        """After vmware-archive/rvc pull request 86: a datastore cannot be detached before its images are taken out of all drives."""
        vm, _ = self.vm_with_disk()
        away = self.datastore('LocalDS_1')
        self.reconfigure(vm, deviceChange=[self.cdrom('[LocalDS_1] iso/install.iso')])
        self.assertEqual({'LocalDS_0', 'LocalDS_1'}, self.names(vm))
        self.assertIn(vm, away.vm)
        self.assertEqual([0], [usage.committed for usage in vm.storage.perDatastoreUsage if usage.datastore == away])
        drive = next(each for each in vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualCdrom))
        drive.backing = vim.vm.device.VirtualCdrom.RemotePassthroughBackingInfo(deviceName='', exclusive=False)
        self.reconfigure(vm, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation='edit', device=drive)])
        self.assertEqual({'LocalDS_0'}, self.names(vm))
        self.assertNotIn(vm, away.vm)

    def test_the_datastores_of_snapshots_count_until_these_are_removed(self):
        """A snapshot's disk, on a datastore on which the machine has nothing any more."""
        vm, _ = self.vm_with_disk()
        self.reconfigure(vm, deviceChange=[self.new_disk(1, 1, fileName='[LocalDS_2]')])
        self.reconfigure(vm, deviceChange=[self.cdrom('[LocalDS_3] old.iso')])
        snapshot = self.snapshot(vm)
        drive = next(each for each in vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualCdrom))
        self.reconfigure(vm, deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=self.disks(vm)[1]),
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=drive)])
        self.assertEqual({'LocalDS_0', 'LocalDS_2', 'LocalDS_3'}, self.names(vm))
        self.assertIn(vm, self.datastore('LocalDS_2').vm)
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False))
        self.assertEqual({'LocalDS_0'}, self.names(vm))


class IdentityTestCase(unittest.TestCase):
    """AboutInfo.instanceUuid: "a globally unique identifier associated with this service instance"."""

    def test_each_vcenter_has_its_own_uuid_and_keeps_it_in_its_state(self):
        """Each of the recordings of pyvmomi's tests names another one."""
        flags = {'ds': 1, 'vm': 0, 'cluster': 0, 'standalone_host': 1}

        def uuid_of(**more):
            with client.Simulator(**flags, **more) as vcenter:
                return vcenter.connect().content.about.instanceUuid

        given = '4c4c4544-0036-4a10-8044-b7c04f4d3333'
        self.assertEqual(given, uuid_of(instance_uuid=given))
        folder = self.enterContext(tempfile.TemporaryDirectory()) + '/state'
        first = uuid_of(state_save=folder)
        self.assertRegex(first, '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
        self.assertNotEqual(first, uuid_of())
        self.assertEqual(first, uuid_of(state_load=folder))
