# SPDX-License-Identifier: Apache-2.0
"""Calls fail on demand, as they fail at a vCenter."""

import http.client
import threading
import time
import unittest

from oslo_vmware import api
from oslo_vmware import exceptions as oslo_exceptions
from oslo_vmware import vim_util
from pyVim.task import WaitForTask
from pyVmomi import vim
from pyVmomi import vmodl
import requests

from simulator import client as simulator_client
from simulator.conformance import wsdl_once
from simulator import control as control_endpoint


class FaultsTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.vcenter = simulator_client.Simulator(ds=2, ds_capacity='10GiB').start()
        cls.addClassCleanup(cls.vcenter.stop)
        cls.control = control_endpoint.Control(cls.vcenter.control_url)

    def setUp(self):
        self.control.reset_faults()
        self.client = self.vcenter.connect()
        self.datacenter = self.client.content.rootFolder.childEntity[0]
        self.vm = next(vm for vm in self.datacenter.vmFolder.childEntity if isinstance(vm, vim.VirtualMachine))
        self.addCleanup(self.control.reset_faults)

    def now(self):
        return self.client.CurrentTime()

    # Which calls

    def test_a_rule_is_for_its_method_only_and_counts_its_hits(self):
        self.control.fault(method='CurrentTime', fault={'type': 'NotSupported'})
        self.assertRaises(vmodl.fault.NotSupported, self.now)
        self.assertTrue(self.client.content.about.name)
        self.assertEqual([(1, 1)], [(rule['matched'], rule['hits']) for rule in self.control.faults()])

    def test_count_and_skip(self):
        self.control.fault(method='CurrentTime', skip=1, count=2, fault={'type': 'NotSupported'})
        outcomes = [self.fails(self.now) for _ in range(5)]
        self.assertEqual([False, True, True, False, False], outcomes)

    def test_a_seeded_probability_gives_the_same_calls_again(self):
        def outcomes():
            rule = self.control.fault(method='CurrentTime', probability=0.5, seed=7, fault={'type': 'NotSupported'})
            found = [self.fails(self.now) for _ in range(40)]
            self.control.remove_fault(rule)
            return found
        first = outcomes()
        self.assertEqual(first, outcomes())
        self.assertTrue(8 < sum(first) < 32, first)

    def fails(self, call):
        try:
            call()
        except vmodl.MethodFault:
            return True
        return False

    def test_object_by_type_moref_name_argument_and_user(self):
        other = next(vm for vm in self.datacenter.vmFolder.childEntity if vm != self.vm)
        for match, hits in [({'type': 'VirtualMachine'}, 2), ({'type': 'Datastore'}, 0), ({'moref': self.vm._moId}, 1),
                            ({'name': self.vm.name + '$'}, 1), ({'argument': '^new-'}, 2), ({'user': 'nobody'}, 0),
                            ({'user': self.vcenter.user}, 2)]:
            with self.subTest(match):
                rule = self.control.fault(method='Rename_Task', fault={'type': 'NoPermission'}, **match)
                for vm in self.vm, other:
                    old = vm.name
                    try:
                        WaitForTask(vm.Rename('new-' + old))
                        WaitForTask(vm.Rename(old))
                    except vim.fault.NoPermission:
                        pass
                    else:
                        continue
                self.assertEqual(hits, self.control.remove_fault(rule)['hits'])

    def test_the_first_rule_that_is_not_used_up_applies(self):
        self.control.fault(method='CurrentTime', count=1, fault={'type': 'NotSupported'})
        self.control.fault(method='Current.*', count=1, fault={'type': 'InvalidState'})
        self.assertRaises(vmodl.fault.NotSupported, self.now)
        self.assertRaises(vim.fault.InvalidState, self.now)
        self.now()

    # Faults

    def test_a_soap_fault_with_fields_and_words(self):
        self.control.fault(method='CurrentTime', fault={
            'type': 'NoDiskSpace', 'fields': {'datastore': 'LocalDS_1', 'file': '[LocalDS_1] a.vmdk'}, 'message': 'Full!'})
        with self.assertRaises(vim.fault.NoDiskSpace) as caught:
            self.now()
        fault = caught.exception
        self.assertEqual(('LocalDS_1', '[LocalDS_1] a.vmdk', 'Full!'), (fault.datastore, fault.file, fault.msg))

    def test_a_fault_with_an_object_in_it(self):
        self.control.fault(method='CurrentTime', fault={
            'type': 'ManagedObjectNotFound', 'fields': {'obj': {'type': 'VirtualMachine', 'value': 'vm-99'}}})
        with self.assertRaises(vmodl.fault.ManagedObjectNotFound) as caught:
            self.now()
        self.assertEqual('vm-99', caught.exception.obj._moId)

    def test_oslo_vmware_sees_the_fault_by_its_name(self):
        self.control.fault(method='CurrentTime', count=1, fault={'type': 'NoPermission'})
        self.enterContext(wsdl_once.shared())
        session = api.VMwareAPISession(
            self.vcenter.host, self.vcenter.user, self.vcenter.password, 1, 0.1, port=self.vcenter.port,
            cacert=self.vcenter.cacert)
        self.addCleanup(session.logout)
        self.assertRaises(oslo_exceptions.NoPermissionException, session.invoke_api, session.vim, 'CurrentTime',
                          vim_util.get_moref('ServiceInstance', 'ServiceInstance'))

    def test_a_fault_inside_the_task_without_the_work(self):
        self.control.fault(method='Rename_Task', task_fault={'type': 'NoDiskSpace', 'fields': {'datastore': 'LocalDS_0'}})
        before = self.vm.name
        task = self.vm.Rename('never')
        with self.assertRaises(vim.fault.NoDiskSpace):
            WaitForTask(task)
        self.assertEqual('LocalDS_0', task.info.error.datastore)
        self.assertIn('space', task.info.error.msg)
        self.assertEqual(self.vm, task.info.entity)
        self.assertEqual(before, self.vm.name)

    def test_a_fault_inside_the_task_after_the_work(self):
        self.control.fault(method='Rename_Task', task_fault={'type': 'SystemError', 'message': 'Lost.'}, after_work=True)
        task = self.vm.Rename('renamed-all-the-same')
        with self.assertRaises(vmodl.fault.SystemError):
            WaitForTask(task)
        self.assertEqual('Lost.', task.info.error.msg)
        self.assertEqual('renamed-all-the-same', self.vm.name)

    # Time

    def test_a_call_is_delayed(self):
        self.control.fault(method='CurrentTime', delay_ms=300)
        begin = time.monotonic()
        self.now()
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)

    def test_a_task_is_delayed_and_its_call_is_not(self):
        self.control.fault(method='Rename_Task', task_delay_ms=500)
        begin = time.monotonic()
        task = self.vm.Rename('later')
        self.assertEqual('running', task.info.state)
        WaitForTask(task)
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)
        self.assertEqual('later', self.vm.name)

    def test_a_task_hangs_until_it_is_released(self):
        rule = self.control.fault(method='Rename_Task', task_hang=True)
        task = self.vm.Rename('at last')
        time.sleep(0.3)
        self.assertEqual('running', task.info.state)
        self.control.release(rule)
        WaitForTask(task)
        self.assertEqual('at last', self.vm.name)

    def test_a_task_that_hangs_can_be_cancelled(self):
        self.control.fault(method='Rename_Task', task_hang=True)
        task = self.vm.Rename('cancelled')
        task.CancelTask()
        with self.assertRaises(vmodl.fault.RequestCanceled):
            WaitForTask(task)

    # Connections

    def test_connection_cut_before_the_call_is_executed(self):
        self.control.fault(method='CreateFolder', count=1, cut='before')
        self.assertRaises((http.client.HTTPException, OSError), self.datacenter.vmFolder.CreateFolder, 'cut-before')
        names = [child.name for child in self.datacenter.vmFolder.childEntity]
        self.assertNotIn('cut-before', names)

    def test_connection_cut_after_the_call_is_executed(self):
        self.control.fault(method='CreateFolder', count=1, cut='after')
        self.assertRaises((http.client.HTTPException, OSError), self.datacenter.vmFolder.CreateFolder, 'cut-after')
        names = [child.name for child in self.datacenter.vmFolder.childEntity]
        self.assertIn('cut-after', names)

    # Envoy, which stands in front of a vCenter (its headers: pyvmomi's recording of an 8.0.3, basic_connection.yaml)

    def folders(self):
        return [child.name for child in self.datacenter.vmFolder.childEntity]

    def create_folder(self, name):
        """:returns: the reply to CreateFolder, of which pyVmomi would show less"""
        return requests.post(
            f'https://{self.vcenter.host}:{self.vcenter.port}/sdk', verify=self.vcenter.cacert, timeout=60,
            headers={'Cookie': self.client._stub.cookie.split(';')[0], 'Content-Type': 'text/xml; charset=utf-8'},
            data=f'''<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><CreateFolder xmlns="urn:vim25">
                <_this type="Folder">{self.datacenter.vmFolder._moId}</_this><name>{name}</name>
                </CreateFolder></Body></Envelope>''')

    def test_envoy_answers_503_before_the_call_is_executed(self):
        self.control.fault(method='CreateFolder', count=1, status=503)
        reply = self.create_folder('not-passed-on')
        self.assertEqual((503, 'text/plain', 'no healthy upstream'),
                         (reply.status_code, reply.headers['Content-Type'], reply.text))
        self.assertNotIn('not-passed-on', self.folders())

    def test_envoy_answers_503_after_the_call_is_executed(self):
        self.control.fault(method='CreateFolder', count=1, status=503, after_work=True)
        reply = self.create_folder('passed-on')
        self.assertEqual(503, reply.status_code)
        self.assertEqual('upstream connect error or disconnect/reset before headers. reset reason: connection termination',
                         reply.text)
        self.assertNotIn('X-Envoy-Upstream-Service-Time', reply.headers)
        self.assertIn('passed-on', self.folders())

    def test_envoy_answers_503_and_the_task_runs_on(self):
        self.control.fault(method='CreateSnapshot_Task', count=1, status=503, after_work=True, task_delay_ms=300)
        self.assertRaises(http.client.HTTPException, self.vm.CreateSnapshot_Task, 'unheard', '', False, False)
        self.assertIsNone(self.vm.snapshot)
        deadline = time.monotonic() + 60
        while self.vm.snapshot is None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual('unheard', self.vm.snapshot.rootSnapshotList[0].name)

    def test_envoy_marks_the_answers_that_it_passes_on(self):
        reply = self.create_folder('marked')
        self.assertEqual(200, reply.status_code)
        self.assertTrue(reply.headers['X-Envoy-Upstream-Service-Time'].isdigit())
        self.assertEqual('no-cache', reply.headers['Cache-Control'])
        self.assertEqual('text/xml; charset=utf-8', reply.headers['Content-Type'])

    # Sessions

    def test_the_callers_session_is_killed(self):
        other = self.vcenter.connect()
        self.control.fault(method='CurrentTime', count=1, kill_sessions='caller')
        self.assertRaises(vim.fault.NotAuthenticated, self.now)
        self.assertRaises(vim.fault.NotAuthenticated, self.now)
        other.CurrentTime()

    def test_all_sessions_are_killed(self):
        other = self.vcenter.connect()
        self.control.fault(method='CurrentTime', count=1, kill_sessions='all')
        self.assertRaises(vim.fault.NotAuthenticated, self.now)
        self.assertRaises(vim.fault.NotAuthenticated, other.CurrentTime)

    def test_a_retrieval_tells_the_killed_session_in_its_missing_set(self):
        self.control.fault(method='RetrievePropertiesEx', count=1, kill_sessions='caller')
        found = self.retrieve()
        self.assertEqual([], found.objects[0].propSet)
        self.assertEqual(['name'], [missing.path for missing in found.objects[0].missingSet])
        self.assertIsInstance(found.objects[0].missingSet[0].fault, vim.fault.NotAuthenticated)

    def test_a_retrieval_is_answered_with_nothing(self):
        self.control.fault(count=1, empty=True)
        self.now()
        self.assertIsNone(self.retrieve())
        self.assertEqual(1, len(self.retrieve().objects))

    def test_a_killed_session_is_told_by_nothing(self):
        self.control.fault(method='RetrievePropertiesEx', count=1, kill_sessions='caller', empty=True)
        self.assertIsNone(self.retrieve())
        self.assertRaises(vim.fault.NotAuthenticated, self.now)

    def retrieve(self):
        collector = vmodl.query.PropertyCollector
        return self.client.content.propertyCollector.RetrievePropertiesEx(
            [collector.FilterSpec(objectSet=[collector.ObjectSpec(obj=self.vm)],
                                  propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=['name'])])],
            collector.RetrieveOptions())

    def test_a_users_sessions_are_killed(self):
        self.control.fault(method='CurrentTime', count=1, kill_sessions='user:somebody else')
        self.now()
        self.control.reset_faults()
        self.control.fault(method='CurrentTime', count=1, kill_sessions=f'user:{self.vcenter.user}')
        self.assertRaises(vim.fault.NotAuthenticated, self.now)

    # Transfers

    def url(self, name):
        return (f'https://{self.vcenter.host}:{self.vcenter.port}/folder/{name}'
                f'?dcPath={self.datacenter.name}&dsName=LocalDS_0')

    def transfer(self, method, name, data=None):
        cookie = self.client._stub.cookie.split(';')[0]
        return requests.request(method, self.url(name), data=data, headers={'Cookie': cookie}, timeout=60,
                                verify=self.vcenter.cacert)

    def test_an_http_status_on_uploads(self):
        self.control.fault(path='^/folder/', method='PUT', status=503)
        self.assertEqual(503, self.transfer('PUT', 'refused.bin', b'x' * 1000).status_code)
        self.assertEqual(404, self.transfer('GET', 'refused.bin').status_code)

    def test_an_http_status_on_downloads_of_one_file(self):
        for name in 'a.bin', 'b.bin':
            self.assertLess(self.transfer('PUT', name, b'x').status_code, 300)
        self.control.fault(path='^/folder/a.bin$', method='GET', status=500)
        self.assertEqual([500, 200], [self.transfer('GET', name).status_code for name in ('a.bin', 'b.bin')])

    def test_a_transfer_is_cut_in_the_middle(self):
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/sdk/vimService.wsdl'
        length = len(requests.get(url, verify=self.vcenter.cacert, timeout=60).content)
        self.control.fault(path='vimService.wsdl$', method='GET', count=1, cut='during', after_bytes=length // 2)
        self.assertRaises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError), requests.get, url,
                          verify=self.vcenter.cacert, timeout=60)
        self.assertEqual(length, len(requests.get(url, verify=self.vcenter.cacert, timeout=60).content))

    # Rules

    def test_rules_are_listed_removed_and_reset(self):
        first = self.control.fault(method='A', fault={'type': 'NotSupported'})
        second = self.control.fault(method='B', fault={'type': 'NotSupported'})
        self.control.remove_fault(first)
        self.assertEqual([second['id']], [rule['id'] for rule in self.control.faults()])
        self.control.reset_faults()
        self.assertEqual([], self.control.faults())

    def test_a_bad_rule_is_refused_with_the_reason(self):
        for rule, words in [
                ({}, 'nothing happens'),
                ({'method': 'A'}, 'nothing happens'),
                ({'methd': 'A', 'delay_ms': 1}, 'methd'),
                ({'method': '(', 'delay_ms': 1}, 'method: "(" is no regular expression'),
                ({'delay_ms': -1}, 'negative'),
                ({'delay_ms': 'long'}, 'delay_ms'),
                ({'probability': 2, 'delay_ms': 1}, 'probability'),
                ({'fault': {'type': 'NoSuchFault'}}, 'NoSuchFault'),
                ({'fault': {'type': 'VirtualMachineConfigSpec'}}, 'no fault'),
                ({'fault': {'type': 'NoDiskSpace', 'fields': {'disk': 1}}}, 'disk'),
                ({'cut': 'sometimes'}, 'sometimes'),
                ({'cut': 'before', 'fault': {'type': 'NotSupported'}}, 'one of'),
                ({'status': 200}, '200'),
                ({'delay_ms': 1, 'after_work': True}, 'status'),
                ({'path': '/folder', 'status': 503, 'after_work': True}, 'calls'),
                ({'path': '/folder', 'status': 200}, '200'),
                ({'path': '/folder', 'fault': {'type': 'NotSupported'}}, 'transfers'),
                ({'kill_sessions': 'user'}, 'user:NAME'),
                ({'id': 'x', 'delay_ms': 1}, 'id')]:
            with self.subTest(rule), self.assertRaisesRegex(control_endpoint.ControlError, words.replace('(', r'\(')):
                self.control.fault(**rule)
        self.assertEqual([], self.control.faults())

    def test_a_rule_that_is_not_there(self):
        self.assertRaisesRegex(control_endpoint.ControlError, 'rule-99', self.control.remove_fault, {'id': 'rule-99'})
        self.assertRaisesRegex(control_endpoint.ControlError, 'rule-99', self.control.release, {'id': 'rule-99'})

    def test_rules_hold_under_parallel_calls(self):
        self.control.fault(method='CurrentTime', count=30, fault={'type': 'NotSupported'})
        clients = [self.vcenter.connect() for _ in range(5)]
        failures = []

        def calls(client):
            failures.extend(1 for _ in range(20) if self.fails(client.CurrentTime))
        threads = [threading.Thread(target=calls, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(30, len(failures))
