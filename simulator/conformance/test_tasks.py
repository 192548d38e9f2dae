# SPDX-License-Identifier: Apache-2.0
"""Smaller things that a vCenter's tasks do: events, annotations, deltas' uuids, moves to another datacenter, and time."""

import re
import ssl
import time
import urllib.request

from pyVmomi import vim

from simulator.conformance import storage_case
from simulator.conformance.storage_case import MIB
from simulator.conformance.storage_case import noise


class TaskCase(storage_case.StorageCase):

    flags = {'ds': 2, 'vm': 0, 'ds_capacity': '10GiB', 'ds_mount_all': True, 'dc': 2, 'cluster': 1, 'host': 2, 'standalone_host': 0}

    def events(self, vm):
        return [type(each).__name__.rsplit('.', 1)[-1] for each in self.content.eventManager.QueryEvents(
            vim.event.EventFilterSpec(entity=vim.event.EventFilterSpec.ByEntity(entity=vm, recursion='self')))]


class EventsTestCase(TaskCase):

    def test_a_clone_and_moves_are_told(self):
        """VmClonedEvent, VmMigratedEvent ("a virtual machine migration"), VmRelocatedEvent ("the completion of a virtual machine
        relocation").
        """
        vm, _ = self.vm_with_disk()
        clone, _ = self.clone(vm, 'clone')
        self.assertIn('VmClonedEvent', self.events(clone))
        other = next(host for host in self.all(vim.ClusterComputeResource)[0].host if host != vm.runtime.host)
        self.wait(vm.Relocate(vim.vm.RelocateSpec(host=other, pool=self.pool)))
        self.assertIn('VmMigratedEvent', self.events(vm))
        self.wait(vm.Relocate(vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))))
        self.assertIn('VmRelocatedEvent', self.events(vm))


class ReconfigureTestCase(TaskCase):

    def test_an_empty_annotation_clears_it_and_none_leaves_it(self):
        """VirtualMachineConfigSpec.annotation, "user-provided description of the virtual machine"; unset properties of a
        specification leave things as they are.
        """
        vm, _ = self.vm_with_disk()
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(annotation='words')))
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(memoryMB=8)))
        self.assertEqual('words', vm.config.annotation)
        self.wait(vm.Reconfigure(vim.vm.ConfigSpec(annotation='')))
        self.assertEqual(('', ''), (vm.config.annotation or '', vm.summary.config.annotation or ''))

    def test_the_uuid_of_a_delta_is_not_changed(self):
        """A delta shows the uuid of its base, and a host sets it in a base only: seen, but said on no page of the reference."""
        vm, _ = self.vm_with_disk()
        self.snapshot(vm)
        disk = self.disks(vm)[0]
        before = disk.backing.uuid
        disk.backing.uuid = '6000C29a-1111-2222-3333-444455556666'
        fault = self.fault_of(vm.Reconfigure(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='edit', device=disk)])))
        self.assertIsInstance(fault, vim.fault.InvalidDeviceOperation)
        self.assertEqual(before, self.disks(vm)[0].backing.uuid)


class DatacentersTestCase(TaskCase):
    """VirtualMachine.datastore: "the subset of datastore objects in the datacenter that is used by this virtual machine"."""

    def test_a_move_to_another_datacenter_leaves_nothing_of_the_old_one(self):
        """VirtualMachineRelocateSpec.folder: "if not specified, the root VM folder of the destination datacenter will be used"."""
        vm, _ = self.vm_with_disk()
        there = self.all(vim.Datacenter)[1]
        target = next(ds for ds in there.datastore if ds.name == 'LocalDS_0')
        pool = there.hostFolder.childEntity[0].resourcePool
        old = list(vm.datastore)
        self.wait(vm.Relocate(vim.vm.RelocateSpec(datastore=target, pool=pool)))
        self.assertEqual(([target], there.vmFolder), (list(vm.datastore), vm.parent))
        self.assertIn(vm, target.vm)
        self.assertNotIn(vm, old[0].vm)
        self.assertEqual(target, self.disks(vm)[0].backing.datastore)


class DiskInfoTestCase(TaskCase):

    def test_QueryVirtualDiskInfo_Task_tells_the_type_and_the_parents(self):
        """The internal method that govmomi's "govc datastore.disk.info" calls; pyVmomi does not know it."""
        vm, base = self.vm_with_disk()
        self.snapshot(vm)
        request = f'''<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>
<QueryVirtualDiskInfo_Task xmlns="urn:internalvim25"><_this type="VirtualDiskManager">{self.content.virtualDiskManager._moId}</_this>
<name>{self.path_of(vm)}</name><datacenter type="Datacenter">{self.datacenter._moId}</datacenter><includeParents>true</includeParents>
</QueryVirtualDiskInfo_Task></soapenv:Body></soapenv:Envelope>'''
        with urllib.request.urlopen(urllib.request.Request(
                f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', data=request.encode(), headers={
                    'Cookie': self.client._stub.cookie.split(';')[0], 'Content-Type': 'text/xml'}),
                timeout=30, context=ssl.create_default_context(cafile=self.vcenter.cacert)) as reply:
            moref = re.search(r'task-\d+', reply.read().decode()).group(0)
        read = f'''<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>
<RetrievePropertiesEx xmlns="urn:vim25"><_this type="PropertyCollector">{self.content.propertyCollector._moId}</_this><specSet>
<propSet><type>Task</type><pathSet>info</pathSet></propSet><objectSet><obj type="Task">{moref}</obj></objectSet></specSet>
<options/></RetrievePropertiesEx></soapenv:Body></soapenv:Envelope>'''

        def info():
            with urllib.request.urlopen(urllib.request.Request(
                    f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', data=read.encode(), headers={
                        'Cookie': self.client._stub.cookie.split(';')[0], 'Content-Type': 'text/xml'}),
                    timeout=30, context=ssl.create_default_context(cafile=self.vcenter.cacert)) as reply:
                return reply.read().decode()

        self.until(lambda: '<state>success</state>' in info(), message=info)
        text = info()
        self.assertEqual([self.path_of(vm), base], re.findall(r'<unit><name>([^<]*)', text))
        self.assertEqual(['delta', 'thin'], re.findall(r'<diskType>([^<]*)', text))


class TimeTestCase(storage_case.StorageCase):
    """By -copy-rate what a vCenter copies, moves and zeroes takes its time, and the rest does not."""

    flags = {'ds': 2, 'vm': 0, 'ds_capacity': '10GiB', 'cluster': 1, 'host': 1, 'standalone_host': 0, 'copy_rate': 8}

    def seconds(self, start, *args):
        began = time.monotonic()  # before the call: on a busy machine its reply comes late
        self.wait(start(*args))
        return time.monotonic() - began

    def test_a_clone_a_move_and_zeroing_take_time_in_proportion(self):
        vm, _ = self.vm_with_disk(data=noise(4 * MIB))
        self.assertGreater(self.seconds(vm.Clone, self.datacenter.vmFolder, 'slow', vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool))), 0.5)
        self.addCleanup(self.gone, self.named(vim.VirtualMachine, 'slow'))
        self.assertGreater(self.seconds(vm.Relocate, vim.vm.RelocateSpec(datastore=self.datastore('LocalDS_1'))), 0.5)
        self.assertGreater(self.seconds(vm.Reconfigure, vim.vm.ConfigSpec(deviceChange=[
            self.new_disk(8, 1, thinProvisioned=False, eagerlyScrub=True)])), 1)
