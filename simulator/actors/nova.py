# SPDX-License-Identifier: Apache-2.0
"""A scripted Nova: the calls that Nova 34's driver for vCenter makes for servers and their volumes, in its order.

The sources are the modules ``volumeops``, ``vmops`` and ``driver`` of ``nova.virt.vmwareapi``; each method names its own. Two
things Nova has no call for: that driver extends no volumes (the vCenter shows the instance a disk that Cinder has extended), and
it evacuates nothing (its capability ``supports_evacuate`` is false: vSphere HA starts the VM on another host).
"""

import time
import uuid
from typing import Any

from pyVmomi import vim

from simulator.actors import vcenter

# How long a user tries to attach a disk that is locked.
LOCK_SECONDS = 10

_MOVE_TYPE = 'moveAllDiskBackingsAndAllowSharing'


class NotAttached(Exception):
    """Nova's DiskNotFound: the instance has no disk of the volume."""


class Nova(vcenter.VCenter):
    """Servers by their VMs; a volume by its id."""

    # Servers

    def boot(self, datastore: str, name: str | None = None) -> Any:
        """vmops.spawn: a VM named by its uuid, with a root disk in its own folder, running."""
        identity = str(uuid.uuid4())
        vm = self.create(name or identity, datastore, (8,), instanceUuid=identity, managedBy=vim.ext.ManagedByInfo(
            extensionKey='org.openstack.compute', type='instance'), extraConfig=[
                vim.option.OptionValue(key='nvp.vm-uuid', value=identity),
                vim.option.OptionValue(key='disk.EnableUUID', value='true')])
        self.wait(vm.PowerOnVM_Task())
        return vm

    def delete(self, vm: Any) -> bool:
        """driver.destroy and vmops._destroy_instance.

        If it has volumes, it is powered off and they are detached; then UnregisterVM, and the folder is deleted with all that is in it.

        :returns: whether the folder was deleted; if it was not, Nova warns of it and leaves it
        """
        volumes = self.volumes(vm)
        if volumes:
            self._power_off(vm)
        for volume_id in volumes:
            try:
                self.detach(vm, volume_id)
            except NotAttached:
                pass  # Nova warns of it and goes on
        self._power_off(vm)
        where = vcenter.folder(vm)
        vm.UnregisterVM()
        return self.delete_folder(where)

    def delete_folder(self, where: str) -> bool:
        """ds_util.file_delete, as vmops._destroy_instance calls it: whether it could be done."""
        try:
            self.wait(self.content.fileManager.DeleteDatastoreFile_Task(where, self.datacenter))
        except vim.fault.VimFault:
            return False
        return True

    def rebuild(self, vm: Any) -> Any:
        """The compute manager's rebuild: the volumes are detached, the VM is destroyed and made anew, they are attached again.

        :returns: the new VM, of the same name, uuid and datastore
        """
        volumes = self.volumes(vm)
        datastore = vm.config.files.vmPathName[1:].partition(']')[0]
        name, identity = vm.name, vm.config.instanceUuid
        self.delete(vm)
        fresh = self.boot(datastore, name)
        self.wait(fresh.ReconfigVM_Task(vim.vm.ConfigSpec(instanceUuid=identity)))
        for volume_id in volumes:
            self.attach(fresh, volume_id)
        return fresh

    def live_migrate(self, vm: Any, datastore: str, host: Any = None) -> None:
        """vmops.live_migration: RelocateVM_Task of the whole VM to a host and a datastore."""
        host = host or self._another_host(vm)
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(
            datastore=self.datastore(datastore), host=host, pool=host.parent.resourcePool, diskMoveType=_MOVE_TYPE)))

    def evacuate(self, vm: Any) -> None:
        """What vSphere HA does when a host is lost: the VM stops, and starts on another host, from the same files."""
        host = self._another_host(vm)
        self._power_off(vm)
        self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(host=host, pool=host.parent.resourcePool)))
        self.wait(vm.PowerOnVM_Task())

    def image(self, vm: Any) -> None:
        """vmops.snapshot: a snapshot, a linked clone of it that would be exported, and both are removed again."""
        snapshot = self.wait(vm.CreateSnapshot_Task(
            name=f'{vm.config.instanceUuid}-snapshot', description='Taking Snapshot of the VM', memory=False, quiesce=True))
        try:
            clone = self.wait(vm.CloneVM_Task(
                folder=self.datacenter.vmFolder, name=f'OpenStack_{uuid.uuid4()}', spec=vim.vm.CloneSpec(
                    location=vim.vm.RelocateSpec(diskMoveType='createNewChildDiskBacking'),
                    powerOn=False, snapshot=snapshot, template=True)))
            self.wait(clone.Destroy_Task())
        finally:
            self.wait(snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True))

    # Volumes

    def volumes(self, vm: Any) -> list[str]:
        """The ids of the volumes that Nova has noted on a VM."""
        return sorted(option.key.removeprefix('volume-') for option in vm.config.extraConfig
                      if option.key.startswith('volume-') and option.value)

    def attach(self, vm: Any, volume_id: str) -> None:
        """volumeops._attach_volume_vmdk: the path of the shadow VM's disk is added; then the disk's uuid is noted.

        A disk that was just removed from a running VM stays locked for a moment: the user of Nova then tries again.

        :raises vim.fault.FileNotFound: the shadow VM names a file that is not there
        :raises vim.fault.FileLocked: another running VM still has the disk after LOCK_SECONDS
        """
        disk = self._shadow_disk(volume_id)
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                self._add(vm, disk.backing.fileName, disk)
                break
            except vim.fault.FileLocked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        self._note(vm, volume_id, disk.backing.uuid)

    def detach(self, vm: Any, volume_id: str) -> None:
        """volumeops._detach_volume_vmdk: consolidate where the paths differ, remove the disk, take the note away.

        :raises NotAttached: the VM has no disk with the uuid that was noted
        """
        disk = self.disk_of(vm, volume_id)
        self._consolidate(vm, volume_id, disk)
        self._remove(vm, disk)
        self._note(vm, volume_id, '')

    def disk_of(self, vm: Any, volume_id: str) -> Any:
        """volumeops._get_vmdk_backed_disk_device: by the uuid that was noted when it was attached.

        :raises NotAttached: there is none
        """
        noted = {option.key: option.value for option in vm.config.extraConfig}.get(f'volume-{volume_id}')
        for disk in vcenter.disks(vm):
            if noted and disk.backing.uuid == noted:
                return disk
        raise NotAttached(f'{vm.name} has no disk of volume {volume_id}')

    # -

    def _consolidate(self, vm: Any, volume_id: str, disk: Any) -> None:
        """volumeops._consolidate_vmdk_volume: a shadow VM that names another file is moved to where the disk is, and names it.

        Its old file is deleted, if it is there.
        """
        shadow, old = self._shadow(volume_id), self._shadow_disk(volume_id)
        if old.backing.fileName == disk.backing.fileName:
            return
        host = vm.runtime.host
        where = vim.vm.RelocateSpec(datastore=disk.backing.datastore, host=host, pool=host.parent.resourcePool,
                                    diskMoveType=_MOVE_TYPE)
        try:
            self.wait(shadow.RelocateVM_Task(where))
        except vim.fault.FileNotFound:
            self._remove(shadow, old)
            self.wait(shadow.RelocateVM_Task(where))
        else:
            try:
                self._remove(shadow, old, destroy=True)
            except vim.fault.FileNotFound:
                pass
        self._add(shadow, disk.backing.fileName, disk)

    def _shadow(self, volume_id: str) -> Any:
        """vm_util._get_vm_ref_from_vm_uuid."""
        return self.content.searchIndex.FindByUuid(None, volume_id, True, True)

    def _shadow_disk(self, volume_id: str) -> Any:
        return vcenter.disks(self._shadow(volume_id))[0]

    def _add(self, vm: Any, path: str, like: Any) -> None:
        controller = next(device for device in vm.config.hardware.device
                          if isinstance(device, vim.vm.device.VirtualSCSIController))
        taken = {device.unitNumber for device in vm.config.hardware.device if device.controllerKey == controller.key} | {7}
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.VirtualDisk(
                key=-100, controllerKey=controller.key, unitNumber=min(set(range(16)) - taken), capacityInKB=0,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName=path, diskMode='persistent', thinProvisioned=like.backing.thinProvisioned,
                    eagerlyScrub=like.backing.eagerlyScrub)))])))

    def _remove(self, vm: Any, disk: Any, destroy: bool = False) -> None:
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation='remove', fileOperation='destroy' if destroy else None, device=disk)])))

    def _note(self, vm: Any, volume_id: str, disk_uuid: str) -> None:
        """volumeops._update_volume_details."""
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[
            vim.option.OptionValue(key=f'volume-{volume_id}', value=disk_uuid)])))

    def _power_off(self, vm: Any) -> None:
        if vm.runtime.powerState == 'poweredOn':
            self.wait(vm.PowerOffVM_Task())

    def _another_host(self, vm: Any) -> Any:
        """Another host of the VM's cluster, or its own if that has no other."""
        now = vm.runtime.host
        others = [host for host in now.parent.host if host._moId != now._moId]
        return others[0] if others else now
