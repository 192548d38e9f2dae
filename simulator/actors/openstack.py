# SPDX-License-Identifier: Apache-2.0
"""A second OpenStack on the same vCenter: shadow VMs of another deployment, as Cinder's own driver makes them."""

import uuid
from typing import Any

from pyVmomi import vim

from simulator.actors import stranger
from simulator.actors import vcenter

_EXTENSION = 'org.openstack.storage'


class OpenStack(stranger.Stranger):
    """What it owns is a stranger's to us, and looks like ours."""

    def volume(self, datastore: str) -> Any:
        """cinder.volume.drivers.vmware: create_backing, in the folder OpenStack/Project (...)/Volumes of another project.

        :returns: the shadow VM
        """
        identity = str(uuid.uuid4())
        vm = self.settle(datastore, f'volume-{identity}', instanceUuid=identity, extraConfig=[
            vim.option.OptionValue(key='cinder.volume.id', value=identity)], managedBy=vim.ext.ManagedByInfo(
                extensionKey=_EXTENSION, type='volume'))
        self.wait(self._volumes().MoveIntoFolder_Task([vm]))
        disk = vcenter.disks(vm)[0]
        disk.backing.uuid = identity
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation='edit', device=disk)])))
        return vm

    def _volumes(self) -> Any:
        here = self.datacenter.vmFolder
        for name in ('OpenStack', 'Project (another)', 'Volumes'):
            here = next((child for child in here.childEntity if isinstance(child, vim.Folder) and child.name == name),
                        None) or here.CreateFolder(name)
        return here
