# SPDX-License-Identifier: Apache-2.0
"""What a guest wrote is there after every copy, conversion, export and import; compared by checksum."""

import os
import shutil
import ssl
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

SIZE = 8 * MIB
# Data, a hole, and data that ends within a grain.
CONTENT = noise(MIB) + bytes(2 * MIB) + noise(MIB + 1000, 2)
CHECKSUM = sha256(CONTENT, SIZE)


class BytesCase(storage_case.StorageCase):

    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '10GiB', 'ds_mount_all': True}

    def http(self, method, url, data=None, session=True):
        """:returns: the status and the body"""
        request = urllib.request.Request(url, method=method, data=data)
        if session:
            cookie = self.client._stub.cookie.split(';')[0]
            request.add_header('Cookie', cookie)
        try:
            with urllib.request.urlopen(
                    request, timeout=60, context=ssl.create_default_context(cafile=self.vcenter.cacert)) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def folder_url(self, path, dc='DC0'):
        datastore, file = path[1:].split('] ')
        query = urllib.parse.urlencode({'dcPath': dc, 'dsName': datastore})
        return f'https://{self.vcenter.host}:{self.vcenter.port}/folder/{urllib.parse.quote(file)}?{query}'

    def disk_with_content(self, path='[LocalDS_0] source.vmdk', disk_type='thin'):
        manager = self.content.virtualDiskManager
        self.wait(manager.CreateVirtualDisk_Task(
            name=path, datacenter=self.datacenter, spec=vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType=disk_type, adapterType='lsiLogic', capacityKb=SIZE >> 10)))
        self.addCleanup(self.delete_disk, path)
        self.assertEqual(204, self.guest_writes(path, CONTENT))
        return path

    def delete_disk(self, path):
        if self.there(path):
            self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(name=path, datacenter=self.datacenter))

    def copy_disk(self, source, target, disk_type=None):
        spec = disk_type and vim.VirtualDiskManager.VirtualDiskSpec(diskType=disk_type, adapterType='lsiLogic')
        self.wait(self.content.virtualDiskManager.CopyVirtualDisk_Task(
            sourceName=source, sourceDatacenter=self.datacenter, destName=target, destDatacenter=self.datacenter,
            destSpec=spec))
        self.addCleanup(self.delete_disk, target)


class DiskManagerTestCase(BytesCase):
    """VirtualDiskManager."""

    def test_a_guest_reads_what_it_wrote(self):
        path = self.disk_with_content()
        self.assertEqual(CONTENT, self.guest_reads(path, len(CONTENT)))
        self.assertEqual(CHECKSUM, self.checksum(path))

    def test_copy_converts_and_keeps_the_content(self):
        for kind in 'thin', 'preallocated', 'eagerZeroedThick':
            source = self.disk_with_content(f'[LocalDS_0] from-{kind}.vmdk', kind)
            for other in None, 'thin', 'preallocated', 'eagerZeroedThick':
                with self.subTest(f'{kind} to {other}'):
                    self.copy_disk(source, '[LocalDS_1] copy.vmdk', other)
                    self.assertEqual(CHECKSUM, self.checksum('[LocalDS_1] copy.vmdk'))
                    info = self.disk_info('[LocalDS_1] copy.vmdk')
                    self.assertEqual(((other or kind) == 'thin', (other or kind) == 'eagerZeroedThick'),
                                     (info['thin'], info['eager']))
                    self.assertNotEqual(self.disk_info(source)['uuid'], info['uuid'])
                    self.check_space()
                    self.delete_disk('[LocalDS_1] copy.vmdk')

    def test_copy_onto_a_disk_that_exists_fails_unless_forced(self):
        source = self.disk_with_content()
        self.copy_disk(source, '[LocalDS_1] there.vmdk')
        again = {'sourceName': source, 'sourceDatacenter': self.datacenter, 'destName': '[LocalDS_1] there.vmdk',
                 'destDatacenter': self.datacenter}
        fault = self.fault_of(self.content.virtualDiskManager.CopyVirtualDisk_Task(**again))
        self.assertIsInstance(fault, vim.fault.FileAlreadyExists)
        self.wait(self.content.virtualDiskManager.CopyVirtualDisk_Task(force=True, **again))
        self.assertEqual(CHECKSUM, self.checksum('[LocalDS_1] there.vmdk'))

    def test_move_keeps_content_and_uuid_and_leaves_nothing(self):
        source = self.disk_with_content()
        uuid = self.disk_info(source)['uuid']
        self.wait(self.content.virtualDiskManager.MoveVirtualDisk_Task(
            sourceName=source, sourceDatacenter=self.datacenter, destName='[LocalDS_1] folder/moved.vmdk',
            destDatacenter=self.datacenter))
        self.addCleanup(self.delete_disk, '[LocalDS_1] folder/moved.vmdk')
        self.assertEqual(CHECKSUM, self.checksum('[LocalDS_1] folder/moved.vmdk'))
        self.assertEqual(uuid, self.disk_info('[LocalDS_1] folder/moved.vmdk')['uuid'])
        self.assertFalse(self.there(source))

    def test_the_uuid_that_is_set_lasts(self):
        source = self.disk_with_content()
        uuid = '60 00 C2 93 7b a0 3a 03-9f 22 56 c5 29 93 b7 27'
        manager = self.content.virtualDiskManager
        manager.SetVirtualDiskUuid(name=source, datacenter=self.datacenter, uuid=uuid)
        self.assertEqual(uuid.lower(), manager.QueryVirtualDiskUuid(name=source, datacenter=self.datacenter).lower())
        self.wait(manager.MoveVirtualDisk_Task(sourceName=source, sourceDatacenter=self.datacenter,
                                               destName='[LocalDS_0] with-uuid.vmdk', destDatacenter=self.datacenter))
        self.addCleanup(self.delete_disk, '[LocalDS_0] with-uuid.vmdk')
        self.assertEqual(uuid.lower(), manager.QueryVirtualDiskUuid(
            name='[LocalDS_0] with-uuid.vmdk', datacenter=self.datacenter).lower())

    def test_attaching_a_disk_reads_capacity_uuid_and_type_from_its_descriptor(self):
        source = self.disk_with_content(disk_type='preallocated')
        vm = self.make_vm('attach')
        self.addCleanup(self.gone, vm)
        change = self.new_disk(1, 0, fileName=source, thinProvisioned=None)
        change.fileOperation = None
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
        disk = self.disks(vm)[0]
        self.assertEqual((SIZE, self.disk_info(source)['uuid'], False),
                         (disk.capacityInBytes, disk.backing.uuid, disk.backing.thinProvisioned))
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=disk)])))
        self.assertEqual(CHECKSUM, self.checksum(source), 'a disk that is detached stays')

    def test_a_disk_of_a_running_machine_is_locked_against_extend_delete_move_and_copy(self):
        vm, path = self.vm_with_disk(data=CONTENT)
        self.wait(vm.PowerOn())
        manager = self.content.virtualDiskManager
        dc = self.datacenter
        for task in (
                manager.ExtendVirtualDisk_Task(name=path, datacenter=dc, newCapacityKb=1 << 20, eagerZero=False),
                manager.DeleteVirtualDisk_Task(name=path, datacenter=dc),
                manager.MoveVirtualDisk_Task(sourceName=path, sourceDatacenter=dc, destName='[LocalDS_0] m.vmdk',
                                             destDatacenter=dc),
                manager.CopyVirtualDisk_Task(sourceName=path, sourceDatacenter=dc, destName='[LocalDS_0] c.vmdk',
                                             destDatacenter=dc),
                self.content.fileManager.DeleteDatastoreFile_Task(name=path, datacenter=dc),
                self.content.fileManager.DeleteDatastoreFile_Task(name=path.rsplit('/', 1)[0], datacenter=dc)):
            self.assertIsInstance(self.fault_of(task), vim.fault.FileLocked)
        self.wait(vm.PowerOff())
        self.wait(manager.ExtendVirtualDisk_Task(name=path, datacenter=dc, newCapacityKb=20 << 10, eagerZero=False))

    def test_a_disk_that_one_running_machine_has_is_no_other_machines_to_delete_or_start_with(self):
        vm, path = self.vm_with_disk(data=CONTENT)
        other = self.make_vm('other')
        self.addCleanup(self.gone, other)
        change = self.new_disk(1, 0, fileName=path)
        change.fileOperation = None
        self.wait(other.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
        self.wait(other.PowerOn())
        self.assertIsInstance(self.fault_of(vm.Destroy_Task()), vim.fault.FileLocked)
        self.assertIsInstance(self.fault_of(vm.PowerOn()), vim.fault.FileLocked)
        self.wait(other.PowerOff())
        self.wait(other.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove', device=self.disks(other)[0])])))


class FolderTestCase(BytesCase):
    """https://vcenter/folder/..., as vSphere's datastore file access."""

    def test_a_session_is_needed(self):
        url = self.folder_url('[LocalDS_0] x.bin')
        for method in 'GET', 'PUT', 'HEAD', 'DELETE':
            self.assertEqual(401, self.http(method, url, session=False)[0])

    def test_a_file_comes_back_as_it_went_and_takes_its_size(self):
        before = self.free()
        url = self.folder_url('[LocalDS_0] a folder/f #1 @x.bin')
        self.assertEqual(201, self.http('PUT', url, CONTENT)[0])
        self.assertEqual(before - len(CONTENT), self.free())
        self.assertEqual((200, CONTENT), self.http('GET', url))
        self.assertEqual((200, b''), self.http('HEAD', url))
        self.check_space()
        self.wait(self.content.fileManager.DeleteDatastoreFile_Task(name='[LocalDS_0] a folder', datacenter=self.datacenter))
        self.assertEqual(before, self.free())
        self.assertEqual(404, self.http('GET', url)[0])

    def test_what_does_not_fit_is_refused_and_leaves_nothing(self):
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(
            name='[LocalDS_2] large.vmdk', datacenter=self.datacenter, spec=vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='lsiLogic', capacityKb=(10 << 20) - (4 << 10))))
        self.addCleanup(self.delete_disk, '[LocalDS_2] large.vmdk')
        url = self.folder_url('[LocalDS_2] x.bin')
        self.assertEqual(507, self.http('PUT', url, noise(6 * MIB))[0])
        self.assertEqual(404, self.http('GET', url)[0])

    def test_a_flat_extent_is_the_disk(self):
        path = self.disk_with_content(disk_type='preallocated')
        flat = path.replace('.vmdk', '-flat.vmdk')
        status, body = self.http('GET', self.folder_url(flat))
        self.assertEqual((200, CHECKSUM), (status, sha256(body)))
        self.wait(self.content.fileManager.DeleteDatastoreFile_Task(name=flat, datacenter=self.datacenter))
        fresh = noise(SIZE, 5)
        self.assertEqual(201, self.http('PUT', self.folder_url(flat), fresh)[0])
        self.check_space()
        self.assertEqual(sha256(fresh), self.checksum(path))

    def test_no_path_leads_out_of_the_datastore(self):
        url = self.folder_url('[LocalDS_0] x').replace('/x?', '/..%2f..%2f..%2fetc%2fpasswd?')
        self.assertIn(self.http('GET', url)[0], (400, 404))

    def test_another_datacenters_name_finds_nothing(self):
        self.assertEqual(404, self.http('GET', self.folder_url('[LocalDS_0] x', dc='Nowhere'))[0])


@unittest.skipUnless(shutil.which('qemu-img'), 'qemu-img is not installed (Debian: qemu-utils)')
class FormatsTestCase(BytesCase):
    """Formats as another program writes and reads them."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.raw = os.path.join(folder.name, 'raw')
        with open(self.raw, 'wb') as out:
            out.write(CONTENT)
            out.truncate(SIZE)
        self.other = os.path.join(folder.name, 'other')

    def convert(self, source, target, source_format, target_format, *options):
        subprocess.run(['qemu-img', 'convert', '-f', source_format, '-O', target_format, *options, source, target], check=True)

    def vmdk(self, subformat):
        self.convert(self.raw, self.other, 'raw', 'vmdk', '-o', f'subformat={subformat}')
        with open(self.other, 'rb') as file:
            return file.read()

    def test_sparse_formats_are_copied_into_flat_disks(self):
        for subformat in 'monolithicSparse', 'streamOptimized':
            with self.subTest(subformat):
                path = f'[LocalDS_0] {subformat}.vmdk'
                self.http('PUT', self.folder_url(path), self.vmdk(subformat))
                self.addCleanup(self.delete_disk, path)
                self.assertEqual(CHECKSUM, self.checksum(path))
                self.copy_disk(path, f'[LocalDS_1] {subformat}.vmdk', 'preallocated')
                self.assertEqual(CHECKSUM, self.checksum(f'[LocalDS_1] {subformat}.vmdk'))
                self.check_space()

    def lease(self, lease):
        self.until(lambda: lease.state in ('ready', 'error'))
        if lease.state == 'error':
            self.fail(lease.error.msg)
        return lease.info.deviceUrl[0].url

    def import_vm(self, name, thin=True):
        spec = vim.vm.VmImportSpec(configSpec=vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'), deviceChange=[
                vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.ParaVirtualSCSIController(
                    key=-1, busNumber=0, sharedBus='noSharing')),
                self.new_disk(0, 0, controller=-1, thinProvisioned=thin)]))
        return self.pool.ImportVApp(spec=spec, folder=self.datacenter.vmFolder)

    def test_import_and_export_carry_the_bytes(self):
        for thin in True, False:
            lease = self.import_vm('imported', thin)
            url = self.lease(lease)
            self.assertEqual(201, self.http('PUT', url, self.vmdk('streamOptimized'), session=False)[0])
            vm = lease.info.entity
            self.addCleanup(self.gone, vm)
            lease.HttpNfcLeaseComplete()
            self.assertEqual((SIZE, CHECKSUM), (self.disks(vm)[0].capacityInBytes, self.checksum(self.path_of(vm))))
            self.check_space()

            export = vm.ExportVm()
            status, stream = self.http('GET', self.lease(export), session=False)
            export.HttpNfcLeaseComplete()
            self.assertEqual(200, status)
            with open(self.other, 'wb') as file:
                file.write(stream)
            self.convert(self.other, self.raw, 'vmdk', 'raw')
            with open(self.raw, 'rb') as file:
                self.assertEqual(CHECKSUM, sha256(file.read()))
            subprocess.run(['qemu-img', 'check', '-f', 'vmdk', self.other], check=True, stdout=subprocess.DEVNULL)
            self.destroy(vm)

    def test_an_upload_that_is_no_stream_fails_and_the_lease_says_so(self):
        lease = self.import_vm('refused')
        self.assertEqual(500, self.http('PUT', self.lease(lease), CONTENT)[0])
        self.assertEqual('error', lease.state)
        lease.HttpNfcLeaseAbort()
        self.assertEqual([], self.all(vim.VirtualMachine))

    def test_an_upload_that_does_not_fit_fails_with_no_disk_space(self):
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'vmdk', '-o', 'subformat=streamOptimized', self.other, '20G'],
                       check=True)
        with open(self.other, 'rb') as file:
            stream = file.read()
        lease = self.import_vm('too-large', thin=False)
        self.assertEqual(500, self.http('PUT', self.lease(lease), stream)[0])
        self.assertIsInstance(lease.error, vim.fault.NoDiskSpace)
        lease.HttpNfcLeaseAbort()
        self.assertEqual([], self.all(vim.VirtualMachine))
