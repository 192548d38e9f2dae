# SPDX-License-Identifier: Apache-2.0
"""Tests with disks that were created without Cinder, to be managed."""

from pyVmomi import vim

from cinder_vmdk_ext.tests.functional import backend_case

GIB_KIB = 1 << 20
# The simulator reads all of a disk to sum it up.
SMALL_GIB = 1 / 64
LISTED = {'marker': None, 'limit': 1000, 'offset': 0,
          'sort_keys': ['reference'], 'sort_dirs': ['asc']}


class ManageCase(backend_case.BackendCase):
    """VMs and files that somebody made without Cinder."""

    OPTIONS = {'vmware_snapshot_format': 'COW'}

    def make_vm(self, name, datastore='LocalDS_1', *, sizes_gib=(SMALL_GIB,),
                folder=None, mode='persistent', thin=True):
        """A VM that is switched off, with disks of its own."""
        changes = [vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                key=1000, busNumber=0, sharedBus='noSharing'))]
        for unit, size_gib in enumerate(sizes_gib):
            backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName=f'[{datastore}]', diskMode=mode, thinProvisioned=thin)
            changes.append(vim.vm.device.VirtualDeviceSpec(
                operation='add', fileOperation='create',
                device=vim.vm.device.VirtualDisk(
                    key=-1 - unit, controllerKey=1000, unitNumber=unit,
                    capacityInKB=int(size_gib * GIB_KIB), backing=backing)))
        datacenter = self.service.content.rootFolder.childEntity[0]
        cluster = datacenter.hostFolder.childEntity[0]
        return self.wait((folder or datacenter.vmFolder).CreateVM_Task(
            vim.vm.ConfigSpec(
                name=name, memoryMB=64, numCPUs=1, guestId='otherGuest',
                files=vim.vm.FileInfo(vmPathName=f'[{datastore}]'),
                deviceChange=changes), cluster.resourcePool))

    @staticmethod
    def disks(vm):
        return [device for device in vm.config.hardware.device
                if isinstance(device, vim.vm.device.VirtualDisk)]

    def path(self, vm):
        return self.disks(vm)[0].backing.fileName

    def reference(self, vm):
        return {'source-name': f'{self.path(vm)}@DC0/vm/{vm.name}'}

    def fill(self, path, seed):
        self._disk_request('PUT', '', path, backend_case.content(seed))
        return self.checksum_of(path)

    def leave_file(self, name, datastore='LocalDS_1'):
        """A disk on a datastore that no VM uses."""
        vm = self.make_vm('gone', datastore)
        path = self.path(vm)
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=self.disks(vm)[0])])))
        self.wait(vm.Destroy_Task())
        wanted = f'[{datastore}] {name}.vmdk'
        datacenter = self.service.content.rootFolder.childEntity[0]
        if '/' in name:
            self.service.content.fileManager.MakeDirectory(
                wanted.rpartition('/')[0], datacenter, True)
        self.wait(self.service.content.virtualDiskManager
                  .MoveVirtualDisk_Task(path, datacenter, wanted, datacenter,
                                        True))
        self.addCleanup(self.remove_file, wanted)
        return wanted

    def remove_file(self, path):
        datacenter = self.service.content.rootFolder.childEntity[0]
        try:
            self.wait(self.service.content.virtualDiskManager
                      .DeleteVirtualDisk_Task(path, datacenter))
        except vim.fault.FileFault:
            pass

    def manage(self, reference, pool='LocalDS_3', type_id=None):
        """As the manager does; the scheduler thought of some pool."""
        volume = self.new_volume(pool, 0, type_id)
        size_gib = self.driver.manage_existing_get_size(volume, reference)
        update = self.driver.manage_existing(volume, reference)
        return self.made(volume, (update or {}) | {'size': size_gib})

    def listed(self, volumes=(), **query):
        return self.driver.get_manageable_volumes(list(volumes),
                                                  **(LISTED | query))

    def entry(self, path, volumes=()):
        return next(each for each in self.listed(volumes)
                    if str(each['reference'].get('source-name')
                           ).startswith(path))
