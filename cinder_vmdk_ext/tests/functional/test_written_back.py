# SPDX-License-Identifier: Apache-2.0
"""A volume's disk is corrected after os-brick has replaced it."""

import tempfile

from os_brick.initiator.connectors import vmware as os_brick_vmware
from oslo_utils import uuidutils
from oslo_vmware import exceptions as vmware_exceptions
from pyVmomi import vim

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import test_secrets

OS_BRICK, NOVA = test_secrets.OS_BRICK, test_secrets.NOVA
CREATED = state.BACKED
CONTENT = backend_case.content('restored')


class WrittenBackTestCase(backend_case.BackendCase):
    """D14: os-brick exchanges the disk as it disconnects."""

    VCENTER = backend_case.BackendCase.VCENTER | {'ds': 2}
    OPTIONS = {'vmdk_ext_connector_credentials': True}

    def restored(self):
        """A volume of 2 GiB that os-brick put a backup of 1 GiB on."""
        volume = self.create(size_gib=2)
        data = self.driver.initialize_connection(volume, OS_BRICK)['data']
        # To add the disk again, os-brick sets its I/O shares as well
        # (VirtualMachine.Config.Resource), which the driver does not need.
        data['config'] |= {'vmware_host_username': self.vcenter.user,
                           'vmware_host_password': self.vcenter.password}
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(disk_images.stream_optimized(CONTENT))
        os_brick_vmware.VmdkConnector(None).disconnect_volume(
            data, {'path': file.name, 'last_modified': 0})
        truth = self.truth(volume)
        self.assertNotEqual(volume.id, truth.disk.backing.uuid)
        self.assertLess(truth.size_gib, 2)
        self.assertEqual('thick', truth.provisioning)
        return volume

    def assert_put_right(self, volume, form):
        truth = self.truth(volume)
        self.assertEqual(
            (volume.id, 2, form),
            (truth.disk.backing.uuid, truth.size_gib, truth.provisioning))
        self.assertEqual(CONTENT, self.read(volume, len(CONTENT)))
        self.assertEqual([volume.name], list(self.shadow_vms()))
        self.assert_home(volume)

    def test_what_it_restored_gets_the_volumes_uuid_size_and_form(self):
        volume = self.restored()
        self.driver.terminate_connection(volume, OS_BRICK)
        self.assert_put_right(volume, 'thin')

    def test_where_it_cannot_be_copied_the_size_is_right_at_least(self):
        volume = self.create(content=CONTENT)
        truth = self.truth(volume)
        truth.disk.backing.uuid = uuidutils.generate_uuid()
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit',
                                            device=truth.disk)])))
        volume.size = 2
        volume.volume_type_id = self.volume_type('thick', vmdk_type='thick')[
            'id']
        volume.save()
        self.control.fault(method='CloneVM_Task',
                           task_fault={'type': 'NoDiskSpace'})
        self.driver.terminate_connection(self.fresh(volume), OS_BRICK)
        self.assert_put_right(volume, 'thin')

    def broken_off(self):
        """A volume whose disk os-brick has destroyed, and not replaced."""
        volume = self.create(size_gib=2, content=CONTENT)
        data = self.driver.initialize_connection(volume, OS_BRICK)['data']
        data['config'] |= {'vmware_host_username': self.vcenter.user,
                           'vmware_host_password': self.vcenter.password}
        self.control.fault(method='CopyVirtualDisk_Task',
                           fault={'type': 'FileFault'})
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(disk_images.stream_optimized(CONTENT))
        self.assertRaises(
            vmware_exceptions.FileFaultException,
            os_brick_vmware.VmdkConnector(None).disconnect_volume,
            data, {'path': file.name, 'last_modified': 0})
        vm = self.shadow_vms()[volume.name]
        self.assertEqual([], [
            device for device in vm.config.hardware.device
            if isinstance(device, vim.vm.device.VirtualDisk)])
        return self.fresh(volume)

    def test_a_volume_without_its_disk_can_be_deleted(self):
        volume = self.broken_off()
        self.driver.delete_volume(volume)
        self.assertEqual({}, self.shadow_vms())

    def test_a_volume_without_its_disk_can_be_restored_again(self):
        volume = self.broken_off()
        data = self.driver.initialize_connection(volume, OS_BRICK)['data']
        self.assertEqual(self.truth(volume).vm._moId, data['volume'])
        self.assertEqual((volume.id, 2), (
            self.truth(volume).disk.backing.uuid,
            self.truth(volume).size_gib))
        self.assertEqual([volume.name], list(self.shadow_vms()))
        self.driver.terminate_connection(volume, OS_BRICK)
        self.assertEqual(CREATED, self.fresh(volume).provider_id)

    def test_a_volume_that_lost_its_disk_otherwise_is_still_an_error(self):
        volume = self.create()
        truth = self.truth(volume)
        self.wait(truth.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(
                operation='remove', fileOperation='destroy',
                device=truth.disk)])))
        self.assertRaises(exceptions.BackingLost, self.driver.delete_volume,
                          self.fresh(volume))

    def test_nothing_is_done_where_nothing_was_written(self):
        volume = self.create()
        self.driver.initialize_connection(volume, OS_BRICK)
        version = self.truth(volume).vm.config.changeVersion
        for connector in OS_BRICK, NOVA, None:
            self.driver.terminate_connection(volume, connector)
        self.assertEqual(version, self.truth(volume).vm.config.changeVersion)
