# SPDX-License-Identifier: Apache-2.0
"""A simulated vCenter for the tests of a class, with pyVmomi as the client, and words for what such tests do."""

import json
import time
import unittest
import urllib.error
import urllib.request

from pyVmomi import vim
from pyVmomi import vmodl

from simulator import client

GIB = 1 << 30
MIB = 1 << 20


def until(condition, timeout_s=60, message='it did not come true'):
    """Wait until a condition holds, for what a vCenter does some time after it has answered."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(0.02)


class VCenterCase(unittest.TestCase):
    """The attribute flags of a subclass is what its simulator starts with, lenient the rules that it does not hold."""

    lenient = ()
    flags = {'ds': 3, 'vm': 0, 'ds_capacity': '100GiB', 'ds_mount_all': True}

    @classmethod
    def setUpClass(cls):
        cls.vcenter = client.Simulator(**{'lenient': cls.lenient, **cls.flags})
        cls.addClassCleanup(cls.vcenter.stop)
        cls.vcenter.start()
        cls.client = cls.vcenter.connect()
        cls.content = cls.client.content

    # What is there

    def all(self, kind):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        try:
            return sorted(view.view, key=lambda each: each.name)
        finally:
            view.Destroy()

    def named(self, kind, name):
        found = [each for each in self.all(kind) if each.name == name]
        self.assertTrue(found, f'there is no {kind.__name__} {name}')
        return found[0]

    def datastore(self, name='LocalDS_0'):
        return self.named(vim.Datastore, name)

    def refreshed(self, name='LocalDS_0'):
        """:returns: a datastore that has been asked to say what is free, since its summary lags"""
        datastore = self.datastore(name)
        datastore.RefreshDatastoreStorageInfo()
        return datastore

    @property
    def datacenter(self):
        return self.all(vim.Datacenter)[0]

    @property
    def pool(self):
        return self.all(vim.ClusterComputeResource)[0].resourcePool

    # What is done

    def wait(self, task, timeout_s=120):
        """Wait until a task succeeds.

        :returns: TaskInfo.result
        """
        info = self._ended(task, timeout_s)
        if info.state != 'success':
            self.fail(f'{info.name}: {info.error.msg}')
        return info.result

    def fault_of(self, task, timeout_s=120):
        """Wait until a task fails.

        :returns: TaskInfo.error, a fault
        """
        info = self._ended(task, timeout_s)
        self.assertEqual('error', info.state, f'{info.name} succeeded')
        return info.error

    def _ended(self, task, timeout_s):
        self.until(lambda: task.info.state in ('success', 'error'), timeout_s, f'{task} runs on')
        return task.info

    def until(self, condition, timeout_s=60, message='it did not come true'):
        """See until() of this module."""
        until(condition, timeout_s, message)

    def control(self, method, path, body=None):
        """Ask the simulator's control endpoint.

        :returns: what the JSON of the answer says, or None
        """
        request = urllib.request.Request(self.vcenter.control_url + path, method=method,
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def refused_by_control(self, method, path, body=None):
        """:returns: the error that the control endpoint answers with status 400"""
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.control(method, path, body)
        self.assertEqual(400, caught.exception.code)
        return json.loads(caught.exception.read())['error']

    def make_vm(self, name, datastore='LocalDS_0', disks_mib=(), **config):
        """Create a virtual machine, with thin disks of the sizes given.

        :returns: the vim.VirtualMachine
        """
        changes = [vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus='noSharing'))]
        changes += [self.new_disk(size_mib, unit, controller=-1) for unit, size_mib in enumerate(disks_mib)]
        spec = vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', numCPUs=1, memoryMB=4, deviceChange=changes,
            files=vim.vm.FileInfo(vmPathName=f'[{datastore}]'), **config)
        return self.wait(self.datacenter.vmFolder.CreateVM_Task(spec, self.pool))

    @staticmethod
    def new_disk(size_mib, unit, controller=1000, **backing):
        return vim.vm.device.VirtualDeviceSpec(
            operation='add', fileOperation='create', device=vim.vm.device.VirtualDisk(
                key=-100 - unit, unitNumber=unit, controllerKey=controller, capacityInKB=size_mib << 10,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    **{'fileName': '', 'diskMode': 'persistent', 'thinProvisioned': True, **backing})))

    def destroy(self, vm):
        if vm.runtime.powerState == 'poweredOn':
            self.wait(vm.PowerOff())
        self.wait(vm.Destroy_Task())

    @staticmethod
    def disks(vm):
        return [device for device in vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)]

    def watch(self, obj, *paths):
        """Watch properties with PropertyCollector.WaitForUpdatesEx.

        :returns: a Watch, which knows their present values
        """
        return Watch(self, obj, paths)


class Watch:
    """Properties of one object, as WaitForUpdatesEx reports them: seen holds each value that was reported, by path."""

    def __init__(self, case, obj, paths):
        collector = vmodl.query.PropertyCollector
        self._case = case
        self._collector = case.content.propertyCollector.CreatePropertyCollector()
        case.addCleanup(self._collector.Destroy)
        self._collector.CreateFilter(collector.FilterSpec(
            objectSet=[collector.ObjectSpec(obj=obj)],
            propSet=[collector.PropertySpec(type=type(obj), pathSet=list(paths))]), False)
        self._version = None
        self.seen = {path: [] for path in paths}
        self.take()

    def take(self, wait_s=0):
        """Take the next updates into seen."""
        updates = self._collector.WaitForUpdatesEx(
            self._version, vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=wait_s))
        if updates is None:
            return
        self._version = updates.version
        for each in updates.filterSet:
            for update in each.objectSet:
                for change in update.changeSet:
                    self.seen.setdefault(change.name, []).append(change.val)

    def until(self, path, value, timeout_s=60):
        """Wait until a property was reported to have a value."""
        deadline = time.monotonic() + timeout_s
        while value not in self.seen[path]:
            self._case.assertLess(time.monotonic(), deadline, f'{path} was {self.seen[path]}, never {value!r}')
            self.take(1)
