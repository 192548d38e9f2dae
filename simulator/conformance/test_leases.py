# SPDX-License-Identifier: Apache-2.0
"""Leases of imports and exports: what their streams look like, how their files are named, and when they end."""

import http.client
import re
import ssl
import struct
import time
import urllib.error
import urllib.parse
import urllib.request

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise
from simulator.conformance.storage_case import sha256

CONTENT = noise(MIB + 1000)
SIZE = 8 * MIB
CHECKSUM = sha256(CONTENT, SIZE)

OVF = '''<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="system.vmdk" ovf:id="file1"/><File ovf:href="data.vmdk" ovf:id="file2"/>
    <File ovf:href="tools.iso" ovf:id="file3"/>
  </References>
  <DiskSection><Info/>
    <Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="disk1" ovf:fileRef="file1"/>
    <Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="disk2" ovf:fileRef="file2"/>
  </DiskSection>
  <VirtualSystem ovf:id="appliance"><Info/>
    <VirtualHardwareSection><Info/>
      <System><vssd:ElementName/><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-14</vssd:VirtualSystemType>
      </System>%s
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>'''


def item(number, resource_type, parent=None, subtype=None, host_resource=None):
    """An item of an OVF's hardware."""
    parts = [('ElementName', f'device {number}')]
    if host_resource:
        parts.append(('HostResource', host_resource))
    parts.append(('InstanceID', number))
    if parent:
        parts.append(('Parent', parent))
    if subtype:
        parts.append(('ResourceSubType', subtype))
    parts.append(('ResourceType', resource_type))
    return '<Item>' + ''.join(f'<rasd:{name}>{value}</rasd:{name}>' for name, value in parts) + '</Item>'


APPLIANCE = OVF % ''.join((
    item(1, 6, subtype='lsilogic'), item(2, 6, subtype='VirtualSCSI'), item(3, 5),
    item(4, 17, 1, host_resource='ovf:/disk/disk1'), item(5, 17, 2, host_resource='ovf:/disk/disk2'),
    item(6, 15, 3, host_resource='ovf:/file/file3')))


class LeaseCase(storage_case.StorageCase):

    flags = {'ds': 1, 'vm': 0, 'ds_capacity': '10GiB', 'cluster': 1, 'host': 1, 'standalone_host': 0}

    def send(self, method, url, data=None):
        """:returns: the status and the body"""
        request = urllib.request.Request(url, method=method, data=data)
        try:
            with urllib.request.urlopen(
                    request, timeout=60, context=ssl.create_default_context(cafile=self.vcenter.cacert)) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ready(self, lease):
        self.until(lambda: lease.state != 'initializing')
        self.assertEqual('ready', lease.state, lease.error)
        return lease

    def import_vm(self, name, pool=None):
        """:returns: the lease of an import of one disk"""
        spec = vim.vm.VmImportSpec(configSpec=vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'), deviceChange=[
                vim.vm.device.VirtualDeviceSpec(operation='add', device=vim.vm.device.VirtualBusLogicController(
                    key=-1, busNumber=0, sharedBus='noSharing')),
                self.new_disk(0, 0, controller=-1)]))
        return self.ready((pool or self.pool).ImportVApp(spec=spec, folder=self.datacenter.vmFolder))

    def export(self, vm):
        lease = self.ready(vm.ExportVm())
        status, stream = self.send('GET', lease.info.deviceUrl[0].url)
        self.assertEqual(200, status)
        lease.HttpNfcLeaseComplete()
        return stream

    def machines(self):
        return [vm.name for vm in self.all(vim.VirtualMachine)]


class StreamTestCase(LeaseCase):
    """After the recordings disk-0.vmdk (vSphere's export) and plain-vm.vmdk (a content library's), which Go's
    TestAnExportIsWrittenAsAVCenterWritesIt compares byte by byte.
    """

    def setUp(self):
        super().setUp()
        self.vm, path = self.vm_with_disk(size_mib=8, data=CONTENT)
        self.stream = self.export(self.vm)

    def test_an_export_is_read_only_and_names_no_file(self):
        magic, version, features, capacity, grain, offset, length = struct.unpack_from('<4sIIQQQQ', self.stream)
        self.assertEqual((b'KDMV', 3, 0x30001, SIZE // 512, 128), (magic, version, features, capacity, grain))
        text = self.stream[offset * 512:(offset + length) * 512].rstrip(b'\0').decode()
        self.assertRegex(text, re.compile(
            r'^# Disk DescriptorFile\nversion=1 \nCID=[0-9a-f]{8} \nparentCID=ffffffff \ncreateType="streamOptimized" \n\n'
            rf'# Extent description\nRDONLY {capacity} SPARSE "generated-stream.vmdk"\n\n# The Disk Data Base \n#DDB\n\n'
            r'ddb.adapterType = "lsilogic"\nddb.geometry.cylinders = "8"\nddb.geometry.heads = "64"\n'
            r'ddb.geometry.sectors = "32"\nddb.longContentID = "[0-9a-f]{32}"\nddb.virtualHWVersion = "\d+"\n$'))
        self.assertEqual(1, length, 'the sectors of the descriptor')
        # The footer is the header with the place of the directory, and a marker ends the stream.
        self.assertEqual(b'KDMV', self.stream[-1024:-1020])
        self.assertEqual(bytes(512), self.stream[-512:])

    def imported(self, stream):
        lease = self.import_vm('imported')
        self.assertEqual(201, self.send('PUT', lease.info.deviceUrl[0].url, stream)[0])
        lease.HttpNfcLeaseComplete()
        vm = lease.info.entity
        self.addCleanup(self.gone, vm)
        return vm

    def test_what_the_exporters_write_is_imported(self):
        writable = self.stream.replace(b'RDONLY', b'RW', 1).replace(b'generated-stream.vmdk', b'disk-1.vmdk' + b' ' * 14, 1)
        self.assertEqual(len(self.stream), len(writable))
        plain = self.stream[:1024].replace(b'ddb.', b'').ljust(1024, b'\0') + self.stream[1024:]
        for stream in self.stream, writable, plain:
            vm = self.imported(stream)
            disk = self.disks(vm)[0]
            self.assertEqual((SIZE, CHECKSUM), (disk.capacityInBytes, self.checksum(disk.backing.fileName)))
            self.destroy(vm)

    def test_the_adapter_is_the_one_of_the_disks_controller(self):
        """disk-0.vmdk says "buslogic"; the three kinds are those of VirtualDiskAdapterType."""
        self.assertEqual('lsilogic', self.disk_info(self.path_of(self.vm))['adapter_type'])
        vm = self.imported(self.stream)
        self.assertIn(b'ddb.adapterType = "buslogic"\n', self.export(vm)[512:1024])


class FilesTestCase(LeaseCase):

    def test_the_import_keys_are_the_device_ids_of_the_specification(self):
        """HttpNfcLeaseDeviceUrl.importKey "identifies the device based on the names in an ImportSpec"; govmomi's
        nfc.Lease and Terraform's provider upload a file only where it equals OvfFileItem.deviceId.
        """
        result = self.content.ovfManager.CreateImportSpec(
            APPLIANCE, self.pool, self.datastore(), vim.OvfManager.CreateImportSpecParams(
                locale='', deploymentOption='', entityName='appliance', diskProvisioning='thin'))
        self.assertFalse(result.error)
        items = {file.deviceId: file.path for file in result.fileItem}
        self.assertEqual({'/appliance/VirtualLsiLogicController0:0': 'system.vmdk',
                          '/appliance/ParaVirtualSCSIController1:0': 'data.vmdk',
                          '/appliance/VirtualIDEController0:0': 'tools.iso'}, items)
        lease = self.ready(self.pool.ImportVApp(result.importSpec, self.datacenter.vmFolder))
        vm = lease.info.entity
        self.addCleanup(self.gone, vm)
        urls = {device.importKey: device for device in lease.info.deviceUrl}
        self.assertEqual(set(items), set(urls))
        source, _ = self.vm_with_disk(size_mib=8, data=CONTENT)
        stream = self.export(source)
        for key, path in items.items():
            device = urls[key]
            self.assertEqual((path.endswith('.vmdk'), f'/{vm._moId}/' + key.split('/')[-1]), (device.disk, device.key))
            self.assertEqual(201, self.send('PUT', device.url, stream if device.disk else CONTENT)[0])
        lease.HttpNfcLeaseComplete()
        self.assertEqual([CHECKSUM, CHECKSUM], [self.checksum(self.path_of(vm, i)) for i in (0, 1)])
        drive = next(each for each in vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualCdrom))
        query = urllib.parse.urlencode({'dcPath': 'DC0', 'dsName': 'LocalDS_0'})
        request = urllib.request.Request(
            f'https://{self.vcenter.host}:{self.vcenter.port}/folder/{drive.backing.fileName.split("] ")[1]}?{query}',
            headers={'Cookie': self.client._stub.cookie.split(';')[0]})
        with urllib.request.urlopen(
                request, timeout=60, context=ssl.create_default_context(cafile=self.vcenter.cacert)) as reply:
            self.assertEqual(CONTENT, reply.read())

    def test_an_export_has_the_same_keys_and_no_import_keys(self):
        """HttpNfcLeaseDeviceUrl.importKey "is only set for import leases"; key "would match the id if an ExportLease is later
        created".
        """
        lease = self.import_vm('same-keys')
        keys = [device.key for device in lease.info.deviceUrl]
        self.assertEqual(['/same-keys/VirtualBusLogicController0:0'], [device.importKey for device in lease.info.deviceUrl])
        lease.HttpNfcLeaseComplete()
        vm = lease.info.entity
        self.addCleanup(self.gone, vm)
        export = self.ready(vm.ExportVm())
        self.assertEqual((keys, ['']), ([device.key for device in export.info.deviceUrl],
                                        [device.importKey for device in export.info.deviceUrl]))
        export.HttpNfcLeaseComplete()


class SessionTestCase(LeaseCase):
    """HttpNfcLease: an import's objects are removed when its lease is aborted or gets no progress in time. The page says nothing of
    the end of the session, so that this removes nothing.
    """

    def test_what_is_imported_stays_when_the_session_ends(self):
        session = self.vcenter.connect()
        self.import_vm('orphaned', vim.ResourcePool(self.pool._moId, session._stub))
        self.content.sessionManager.TerminateSession([session.content.sessionManager.currentSession.key])
        self.destroy(self.named(vim.VirtualMachine, 'orphaned'))


class TimeoutTestCase(LeaseCase):
    """HttpNfcLeaseInfo.leaseTimeout: "the client extends the lease by calling HttpNfcLeaseProgress before the timeout has
    expired"; all methods of the lease document the fault Timedout. The default is 300 s, as a vCenter's.
    """

    flags = {**LeaseCase.flags, 'lease_timeout': 1}

    def test_without_progress_a_lease_ends_and_what_was_imported_goes(self):
        lease = self.import_vm('forgotten')
        self.assertEqual(1, lease.info.leaseTimeout)
        self.assertEqual(['forgotten'], self.machines())
        self.until(lambda: lease.state == 'error')
        self.assertIsInstance(lease.error, vim.fault.Timedout)
        for method in (lambda: lease.HttpNfcLeaseProgress(50), lease.HttpNfcLeaseComplete, lease.HttpNfcLeaseAbort):
            with self.assertRaises(vim.fault.Timedout):
                method()
        self.until(lambda: self.machines() == [])
        self.assertEqual(404, self.send('PUT', lease.info.deviceUrl[0].url, b'too late')[0])

    def test_progress_keeps_an_export_and_its_end_ends_the_url_only(self):
        vm, _ = self.vm_with_disk(size_mib=8, data=CONTENT)
        lease = self.ready(vm.ExportVm())
        for percent in range(5):
            time.sleep(0.4)
            lease.HttpNfcLeaseProgress(percent)
        self.assertEqual('ready', lease.state)
        self.until(lambda: lease.state == 'error')
        self.assertIsInstance(lease.error, vim.fault.Timedout)
        self.assertIn(vm.name, self.machines())

    def test_bytes_that_flow_do_not_keep_a_lease(self):
        vm, _ = self.vm_with_disk(size_mib=8, data=CONTENT)
        stream = self.export(vm)
        lease = self.import_vm('slow')
        url = urllib.parse.urlsplit(lease.info.deviceUrl[0].url)
        connection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=30, context=ssl.create_default_context(cafile=self.vcenter.cacert))
        self.addCleanup(connection.close)
        connection.putrequest('PUT', url.path)
        connection.putheader('Content-Length', str(len(stream)))
        connection.endheaders()
        began, sent = time.monotonic(), 0
        with self.assertRaises(OSError):
            while sent < len(stream):
                connection.send(stream[sent:sent + 4096])
                sent += 4096
                time.sleep(0.05)
        self.assertLess(time.monotonic() - began, 10)
        self.assertIsInstance(lease.error, vim.fault.Timedout)
        self.until(lambda: 'slow' not in self.machines())
