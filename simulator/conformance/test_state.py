# SPDX-License-Identifier: Apache-2.0
"""A simulator that starts from a saved state is the same vCenter."""

import hashlib
import json
import os
import pathlib
import tempfile
import unittest

from pyVim.task import WaitForTask
from pyVmomi import vim
import requests

from simulator import client as simulator_client
from simulator.conformance import test_supervision
from simulator import control as control_endpoint

MIB = 1 << 20


class Before:
    """A vCenter with one of each thing, saved and ended."""

    def __init__(self, directory):
        with simulator_client.Simulator(ds=3, ds_capacity='100GiB', policy='gold=LocalDS_1', state_save=directory) as vcenter:
            self.client = vcenter.connect()
            self.content = self.client.content
            self.datacenter = self.content.rootFolder.childEntity[0]
            self.control = control_endpoint.Control(vcenter.control_url)
            self.make()
            self.picture = picture(self.client)
            self.space = self.control.call('GET', '/space')

    def make(self):
        folder = self.datacenter.vmFolder.CreateFolder('volumes').CreateFolder('deep')
        pool = self.datacenter.hostFolder.childEntity[0].resourcePool
        controller = vim.vm.device.VirtualDeviceSpec(
            operation='add', device=vim.vm.device.VirtualLsiLogicController(key=-1, busNumber=0, sharedBus='noSharing'))
        disk = vim.vm.device.VirtualDeviceSpec(
            operation='add', fileOperation='create', device=vim.vm.device.VirtualDisk(
                key=-2, controllerKey=-1, unitNumber=0, capacityInKB=8192,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName='', diskMode='persistent', thinProvisioned=True)))
        spec = vim.vm.ConfigSpec(
            name='volume', annotation='an annotation', files=vim.vm.FileInfo(vmPathName='[LocalDS_1]'),
            extraConfig=[vim.option.OptionValue(key='cinder.volume.id', value='4711')], deviceChange=[controller, disk])
        task = folder.CreateVM_Task(spec, pool)
        WaitForTask(task)
        self.vm = task.info.result
        self.disk = next(device for device in self.vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk))
        self.bytes_before = os.urandom(4 * MIB)
        self.write(self.bytes_before)
        WaitForTask(self.vm.CreateSnapshot('snapshot', 'with content', False, False))
        self.bytes_after = os.urandom(4 * MIB)
        self.write(self.bytes_after)
        fields = self.content.customFieldsManager
        self.field = fields.AddCustomFieldDef('colour', vim.VirtualMachine)
        fields.SetField(self.vm, self.field.key, 'green')
        self.content.extensionManager.RegisterExtension(vim.Extension(
            key='org.example.plugin', version='1', description=vim.Description(label='plugin', summary='a plugin'),
            lastHeartbeatTime=self.client.CurrentTime()))

    def write(self, data):
        self.control.call('PUT', '/disk', data, **place(self.vm))


def place(vm):
    """Where a machine's disk is, as the control endpoint wants to know it."""
    disk = next(device for device in vm.config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk))
    datastore, path = disk.backing.fileName[1:].split('] ')
    return {'datastore': datastore, 'path': path}


def picture(client):
    """What a client sees, by reference."""
    content = client.content
    view = content.viewManager.CreateContainerView(content.rootFolder, None, True)
    found = {'': (content.about.instanceUuid, content.about.apiVersion)}
    for obj in view.view:
        seen = [type(obj).__name__, obj.name, obj.parent._moId]
        if isinstance(obj, vim.VirtualMachine):
            seen += [obj.config.uuid, obj.config.instanceUuid, obj.config.annotation, obj.config.files.vmPathName,
                     obj.runtime.powerState, obj.runtime.host._moId, obj.resourcePool._moId,
                     sorted(datastore._moId for datastore in obj.datastore),
                     [(option.key, option.value) for option in obj.config.extraConfig],
                     [(device.key, getattr(device.backing, 'fileName', None), getattr(device.backing, 'uuid', None))
                      for device in obj.config.hardware.device]]
        elif isinstance(obj, vim.Datastore):
            seen += [obj.summary.url, obj.summary.capacity, obj.summary.freeSpace, obj.summary.uncommitted,
                     sorted(mount.key._moId for mount in obj.host), sorted(vm._moId for vm in obj.vm)]
        elif isinstance(obj, vim.HostSystem):
            seen += [obj.summary.hardware.uuid, sorted(vm._moId for vm in obj.vm), sorted(ds._moId for ds in obj.datastore)]
        elif isinstance(obj, vim.Folder):
            seen += [sorted(child._moId for child in obj.childEntity)]
        found[obj._moId] = seen
    return found


class LoadedTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.directory = os.path.join(folder.name, 'state')
        cls.before = Before(cls.directory)
        cls.vcenter = simulator_client.Simulator(state_load=cls.directory).start()
        cls.addClassCleanup(cls.vcenter.stop)
        cls.control = control_endpoint.Control(cls.vcenter.control_url)
        cls.client = cls.vcenter.connect()
        cls.content = cls.client.content
        cls.vm = vim.VirtualMachine(cls.before.vm._moId, cls.client._stub)


class SameTestCase(LoadedTestCase):

    def test_references_names_uuids_places_and_figures(self):
        self.maxDiff = None
        self.assertEqual(self.before.picture, picture(self.client))

    def test_space(self):
        self.assertEqual(self.before.space, self.control.call('GET', '/space'))

    def test_custom_fields(self):
        self.assertEqual([(self.before.field.key, 'colour')],
                         [(field.key, field.name) for field in self.content.customFieldsManager.field])
        self.assertEqual([(self.before.field.key, 'green')], [(value.key, value.value) for value in self.vm.customValue])
        other = self.content.customFieldsManager.AddCustomFieldDef('size', vim.VirtualMachine)
        self.assertNotEqual(self.before.field.key, other.key)
        self.content.customFieldsManager.RemoveCustomFieldDef(other.key)

    def test_extensions(self):
        extension = self.content.extensionManager.FindExtension('org.example.plugin')
        self.assertEqual(('a plugin', '1'), (extension.description.summary, extension.version))

    def test_policies(self):
        self.assertEqual([('gold', ['LocalDS_1'])],
                         [(policy['name'], policy['datastores']) for policy in self.control.call('GET', '/policies')])

    def test_it_is_found_by_its_uuid(self):
        found = self.content.searchIndex.FindByUuid(None, self.before.picture[self.vm._moId][4], True, True)
        self.assertEqual(self.vm, found)


class ContentTestCase(LoadedTestCase):

    def test_content_and_snapshots(self):
        tree = self.vm.snapshot.rootSnapshotList
        self.assertEqual(['snapshot'], [snapshot.name for snapshot in tree])
        self.assertEqual(digest(self.before.bytes_after), digest(self.read()))
        WaitForTask(tree[0].snapshot.Revert())
        self.assertEqual(digest(self.before.bytes_before), digest(self.read()))
        task = self.vm.CreateSnapshot('another', '', False, False)
        WaitForTask(task)
        self.assertNotEqual(tree[0].snapshot, task.info.result)
        self.assertNotEqual(tree[0].id, self.vm.snapshot.rootSnapshotList[0].childSnapshotList[0].id)

    def read(self):
        reply = requests.get(self.vcenter.control_url + '/disk', timeout=60, params={**place(self.vm), 'length': 4 * MIB})
        reply.raise_for_status()
        return reply.content


def digest(data):
    return hashlib.sha256(data).hexdigest()


class SaveTestCase(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, **flags):
        vcenter = simulator_client.Simulator(vm=1, **flags).start()
        self.addCleanup(vcenter.stop)
        return vcenter, control_endpoint.Control(vcenter.control_url)

    def names(self, vcenter):
        return {child.name for child in vcenter.connect().content.rootFolder.childEntity}

    def test_hosts_that_were_added_later(self):
        vcenter, control = self.start()
        client = vcenter.connect()
        cluster = next(child for child in client.content.rootFolder.childEntity[0].hostFolder.childEntity
                       if isinstance(child, vim.ClusterComputeResource))
        for name in ('first.example', 'second.example'):
            WaitForTask(cluster.AddHost_Task(
                vim.host.ConnectSpec(hostName=name, userName='root', password='secret', force=True), True))
        added = cluster.host[-1]
        WaitForTask(added.EnterMaintenanceMode_Task(0))
        before = picture(client)
        control.save_state(self.folder / 'state')
        vcenter.stop()
        loaded, _control = self.start(state_load=self.folder / 'state')
        client = loaded.connect()
        self.assertEqual(before, picture(client))
        host = vim.HostSystem(added._moId, client._stub)
        self.assertTrue(host.runtime.inMaintenanceMode)
        WaitForTask(host.ExitMaintenanceMode_Task(0))

    def test_saved_while_it_runs_and_loaded_twice(self):
        vcenter, control = self.start()
        vcenter.connect().content.rootFolder.CreateFolder('saved')
        control.save_state(self.folder / 'state')
        vcenter.connect().content.rootFolder.CreateFolder('too late')
        for _ in range(2):
            again, _ = self.start(state_load=self.folder / 'state')
            self.assertEqual({'DC0', 'saved'}, self.names(again))

    def test_a_saved_state_is_replaced(self):
        vcenter, control = self.start()
        control.save_state(self.folder / 'state')
        vcenter.connect().content.rootFolder.CreateFolder('second')
        control.save_state(self.folder / 'state')
        again, _ = self.start(state_load=self.folder / 'state')
        self.assertEqual({'DC0', 'second'}, self.names(again))

    def test_what_is_gone_stays_gone(self):
        vcenter, control = self.start()
        client = vcenter.connect()
        vm = client.content.rootFolder.childEntity[0].vmFolder.childEntity[0]
        if vm.runtime.powerState == 'poweredOn':
            WaitForTask(vm.PowerOff())
        WaitForTask(vm.Destroy())
        control.save_state(self.folder / 'state')
        again, _ = self.start(state_load=self.folder / 'state')
        left = again.connect().content.rootFolder.childEntity[0].vmFolder.childEntity
        self.assertNotIn(vm._moId, [one._moId for one in left])

    def test_a_supervised_simulator_loads_while_it_runs(self):
        vcenter, control = self.start(supervise=True)
        vcenter.connect().content.rootFolder.CreateFolder('saved')
        control.save_state(self.folder / 'state')
        vcenter.connect().content.rootFolder.CreateFolder('later')
        before = control.process()
        control.load_state(self.folder / 'state')

        def loaded():
            assert control.process()['pid'] != before['pid']
        test_supervision.eventually(loaded)
        self.assertEqual({'DC0', 'saved'}, self.names(vcenter))

    def test_a_state_of_another_version_is_refused_with_what_to_do(self):
        """Another version may number the hosts of the same flags otherwise."""
        vcenter, control = self.start()
        control.save_state(self.folder / 'state')
        (host, *_) = (self.folder / 'state' / 'objects').glob('HostSystem-host-*.json')
        record = json.loads(host.read_text())
        host.with_name('HostSystem-host-9999.json').write_text(json.dumps(record | {'value': 'host-9999'}))
        with self.assertRaisesRegex(simulator_client.SimulatorError,
                                    r'host-9999 .* without -state-load, and save the state anew'):
            self.start(state_load=self.folder / 'state')

    def test_bad_folders_are_refused(self):
        vcenter, control = self.start()
        self.assertRaisesRegex(control_endpoint.ControlError, 'absolute', control.save_state, 'relative')
        self.assertRaisesRegex(control_endpoint.ControlError, 'folder', control.call, 'POST', '/state', {'folder': '/x'})
        (self.folder / 'other').mkdir()
        (self.folder / 'other' / 'file').write_text('something else')
        self.assertRaisesRegex(control_endpoint.ControlError, 'something else', control.save_state, self.folder / 'other')
        self.assertRaisesRegex(control_endpoint.ControlError, 'no saved state', control.load_state, self.folder / 'other')
        control.save_state(self.folder / 'state')
        self.assertRaisesRegex(control_endpoint.ControlError, '-supervise', control.load_state, self.folder / 'state')
        with self.assertRaisesRegex(simulator_client.SimulatorError, 'no saved state'):
            self.start(state_load=self.folder / 'other')
        with self.assertRaisesRegex(simulator_client.SimulatorError, 'something else'):
            self.start(state_save=self.folder / 'other')
