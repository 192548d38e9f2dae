# SPDX-License-Identifier: Apache-2.0
"""No request ends the simulator; should it end all the same, it comes back as the same vCenter."""

import os
import pathlib
import re
import signal
import ssl
import time
import unittest

from pyVim.task import WaitForTask
from pyVmomi import vim
from pyVmomi import vmodl
from pyVmomi import VmomiSupport
import requests

from simulator import client as simulator_client
from simulator import control as control_endpoint

_ENVELOPE = ('<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
             '<{method} xmlns="urn:vim25"><_this type="{type}">{value}</_this>{arguments}</{method}>'
             '</soapenv:Body></soapenv:Envelope>')


def eventually(call, timeout_s=30):
    """Repeat a call until it raises no error any more."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class AnyRequestTestCase(unittest.TestCase):

    def setUp(self):
        self.vcenter = simulator_client.Simulator(pod=1).start()
        self.addCleanup(self.vcenter.stop)
        self.client = self.vcenter.connect()
        self.content = self.client.content
        self.datacenter = self.content.rootFolder.childEntity[0]

    def check_alive(self):
        os.kill(self.vcenter.pid, 0)
        self.vcenter.connect().CurrentTime()

    def test_a_machine_in_a_folder_that_is_gone(self):
        folder = self.datacenter.vmFolder.CreateFolder('gone')
        pool = self.datacenter.hostFolder.childEntity[0].resourcePool
        WaitForTask(folder.Destroy())
        spec = vim.vm.ConfigSpec(name='orphan', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]'))
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound):
            WaitForTask(folder.CreateVM_Task(spec, pool))
        self.check_alive()

    def test_a_machine_in_a_folder_that_goes_meanwhile(self):
        folder = self.datacenter.vmFolder.CreateFolder('going')
        pool = self.datacenter.hostFolder.childEntity[0].resourcePool
        control = control_endpoint.Control(self.vcenter.control_url)
        control.fault(method='CreateVM_Task', task_delay_ms=300)
        task = folder.CreateVM_Task(vim.vm.ConfigSpec(name='orphan', files=vim.vm.FileInfo(vmPathName='[LocalDS_0]')), pool)
        WaitForTask(folder.Destroy())
        self.assertRaises(vmodl.fault.ManagedObjectNotFound, WaitForTask, task)
        self.check_alive()

    def test_a_datastore_search_without_a_specification(self):
        browser = self.datacenter.datastore[0].browser
        for search in browser.SearchDatastore_Task, browser.SearchDatastoreSubFolders_Task:
            try:
                WaitForTask(search(datastorePath='[LocalDS_0]'))
            except vim.fault.VimFault:
                pass
        self.check_alive()

    def test_every_method_with_nothing_and_with_nonsense(self):
        for nonsense in False, True:
            for method, kind, value, parameters in list(self.methods()):
                arguments = ''.join(self.nonsense(parameter) for parameter in parameters) if nonsense else ''
                self.post(_ENVELOPE.format(method=method, type=kind, value=value, arguments=arguments))
        self.check_alive()
        for kind, obj in self.known.items():  # none is left locked
            self.post(_ENVELOPE.format(method='Fetch', type=kind, value=obj._moId, arguments='<prop>name</prop>'))

    def test_what_is_no_call_at_all(self):
        for text in '', '<', '<a/>', '\0' * 1000, _ENVELOPE.format(method='NoSuchMethod', type='Folder', value='x', arguments=''):
            self.post(text)
        self.check_alive()

    def post(self, text):
        return requests.post(f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', data=text, timeout=60,
                             headers={'Cookie': self.client._stub.cookie.split(';')[0], 'SOAPAction': 'urn:vim25/8.0'},
                             verify=self.vcenter.cacert)

    def objects(self):
        """One object of each type."""
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, None, True)
        host = next(obj for obj in view.view if isinstance(obj, vim.HostSystem))
        managers = [obj for each in (self.content, host.configManager) for obj in vars(each).values()
                    if isinstance(obj, VmomiSupport.ManagedObject)]
        found = {}
        for obj in [*view.view, *managers, self.client, self.datacenter.datastore[0].browser]:
            found.setdefault(type(obj)._wsdlName, obj)
        return found

    def methods(self):
        self.known = self.objects()
        for kind, obj in sorted(self.known.items()):
            methods = {}
            for base in reversed(type(obj).__mro__):
                methods.update({info.wsdlName: info for info in getattr(base, '_methodInfo', {}).values()})
            for name, info in sorted(methods.items()):
                if not re.match('Log|TerminateSession|WaitForUpdates', name):
                    yield name, kind, obj._moId, info.params

    def nonsense(self, parameter):
        kind = parameter.type
        while issubclass(kind, list):
            kind = kind.Item
        if issubclass(kind, VmomiSupport.ManagedObject):
            obj = self.known.get(kind._wsdlName)
            return f'<{parameter.name} type="{kind._wsdlName}">{obj._moId if obj else "no-such-1"}</{parameter.name}>'
        value = 'true' if issubclass(kind, bool) else '-1' if issubclass(kind, (int, float)) else ''
        return f'<{parameter.name}>{value}</{parameter.name}>'


class SupervisedTestCase(unittest.TestCase):

    def start(self, **flags):
        self.vcenter = simulator_client.Simulator(supervise=True, ds=2, ds_capacity='10GiB', **flags).start()
        self.addCleanup(self.vcenter.stop)
        self.control = control_endpoint.Control(self.vcenter.control_url)
        return self.vcenter.connect()

    def kill_child(self):
        before = self.control.process()
        os.kill(before['pid'], signal.SIGKILL)

        def restarted():
            now = self.control.process()
            assert now['pid'] != before['pid']
            return now
        return eventually(restarted)

    def test_it_comes_back_as_the_same_vcenter(self):
        client = self.start(policy='gold=LocalDS_1')
        with open(self.vcenter.cacert) as file:
            certificate = file.read()
        datacenter = client.content.rootFolder.childEntity[0]
        folder = datacenter.vmFolder.CreateFolder('lasting')
        pool = datacenter.hostFolder.childEntity[0].resourcePool
        spec = vim.vm.ConfigSpec(name='lasting', annotation='as it was', files=vim.vm.FileInfo(vmPathName='[LocalDS_1]'))
        task = folder.CreateVM_Task(spec, pool)
        WaitForTask(task)
        vm = task.info.result
        uuid, instance = vm.config.uuid, client.content.about.instanceUuid
        cookie = client._stub.cookie
        self.assertTrue(self.kill_child()['restored'])

        again = self.vcenter.connect()
        self.assertEqual(certificate, ssl.get_server_certificate((self.vcenter.host, self.vcenter.port)))
        self.assertNotEqual(cookie, again._stub.cookie)
        self.assertEqual(instance, again.content.about.instanceUuid)
        found = vim.VirtualMachine(vm._moId, again._stub)
        self.assertEqual(('lasting', 'as it was', uuid), (found.name, found.config.annotation, found.config.uuid))
        self.assertEqual(folder._moId, found.parent._moId)
        self.assertIn(found, found.parent.childEntity)
        self.assertEqual(['gold'], [policy['name'] for policy in self.control.call('GET', '/policies')])
        WaitForTask(found.Destroy())

    def test_it_comes_back_again_and_again(self):
        self.start(vm=0)
        for number in range(3):
            client = self.vcenter.connect()
            client.content.rootFolder.CreateFolder(f'folder-{number}')
            self.kill_child()
        names = {child.name for child in self.vcenter.connect().content.rootFolder.childEntity}
        self.assertEqual({'DC0', 'folder-0', 'folder-1', 'folder-2'}, names)

    def test_references_are_not_used_twice(self):
        client = self.start(vm=0)
        folder = client.content.rootFolder
        used = {folder.CreateFolder(f'before-{number}')._moId for number in range(3)}
        task = folder.childEntity[0].Rename('DC0 renamed')
        WaitForTask(task)
        self.kill_child()
        folder = self.vcenter.connect().content.rootFolder
        self.assertFalse(used & {folder.CreateFolder(f'after-{number}')._moId for number in range(3)})
        self.assertNotEqual(task._moId, folder.childEntity[0].Rename('DC0')._moId)

    def test_the_signal_ends_both_and_leaves_nothing_behind(self):
        self.start(vm=0)
        child = self.control.process()['pid']
        folders = self.folders_of(child)
        self.assertTrue(folders)
        self.vcenter.stop()
        self.assertRaises(ProcessLookupError, os.kill, child, 0)
        self.assertEqual([], [folder for folder in folders if os.path.exists(folder)])

    def test_a_child_ends_when_its_parent_is_gone(self):
        self.start(vm=0)
        child = self.control.process()['pid']
        folders = self.folders_of(child)
        os.kill(self.vcenter.pid, signal.SIGKILL)

        def gone():
            state = pathlib.Path(f'/proc/{child}/stat')
            assert not state.exists() or state.read_text().rsplit(')', 1)[1].split()[0] == 'Z'
            assert not [folder for folder in folders if os.path.exists(folder)]
        eventually(gone)

    def folders_of(self, pid):
        return [os.readlink(f'/proc/{pid}/cwd'), str(pathlib.Path(os.readlink(f'/proc/{pid}/cwd')).parent.parent)]

    def test_what_cannot_start_is_not_started_again(self):
        with self.assertRaises(simulator_client.SimulatorError) as caught:
            simulator_client.Simulator(supervise=True, ds_capacity='LocalDS_9=1GiB').start()
        self.assertIn('LocalDS_9', str(caught.exception))
