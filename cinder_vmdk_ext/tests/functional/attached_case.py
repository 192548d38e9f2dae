# SPDX-License-Identifier: Apache-2.0
"""Tests with a volume that is attached to an instance, as Nova does it."""

from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import backend_case


class AttachedCase(backend_case.BackendCase):
    """An instance of its own for each test."""

    def setUp(self):
        super().setUp()
        self.instance = self.make_instance()

    def make_instance(self, datastore='LocalDS_0', name='DC0_server'):
        """A running VM as Nova makes it, with a folder of its own."""
        self.assertNotIn(name, [vm.name for vm in self.instances()])
        host = self.all(vim.HostSystem)[0]
        vm = self.wait(self.service.content.rootFolder.childEntity[0].vmFolder
                       .CreateVM_Task(vim.vm.ConfigSpec(
                           name=name, guestId='otherGuest', numCPUs=1,
                           memoryMB=32,
                           files=vim.vm.FileInfo(vmPathName=f'[{datastore}]'),
                           deviceChange=[vim.vm.device.VirtualDeviceSpec(
                               operation='add',
                               device=vim.vm.device.VirtualLsiLogicController(
                                   key=1000, busNumber=0,
                                   sharedBus='noSharing'))]),
                           host.parent.resourcePool, host))
        self.wait(vm.PowerOnVM_Task())
        self.addCleanup(self._remove, vm)
        return vm

    def _remove(self, vm):
        if vm in self.instances():
            if vm.runtime.powerState == 'poweredOn':
                self.wait(vm.PowerOffVM_Task())
            self.wait(vm.Destroy_Task())

    def attached(self, pool='LocalDS_1', **more):
        volume = self.create(pool, content=b'precious' * 64, **more)
        self.attach(volume, self.instance)
        return volume

    def live_migrate(self, name):
        """nova.virt.vmwareapi: RelocateVM of the whole instance."""
        self.wait(self.instance.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.datastore(name),
            diskMoveType='moveAllDiskBackingsAndAllowSharing')))

    def terminate(self, volume):
        """Nova has taken the disk from the VM; then it notifies Cinder."""
        self.detach(volume, self.instance)
        self.driver.terminate_connection(self.fresh(volume), {})

    def folder(self, vm):
        return vm.config.files.vmPathName.rpartition('/')[0]

    def of_volume(self, volume):
        return self.disk_on(self.instance, volume).backing.fileName
