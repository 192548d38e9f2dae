# SPDX-License-Identifier: Apache-2.0
"""The journal counts every call, with its bytes."""

import http.client
import threading
import unittest

from oslo_vmware import api
from oslo_vmware import pbm
from pyVmomi import vim
import requests

from simulator import client
from simulator.conformance import vcenter_case
from simulator.conformance import wsdl_once
from simulator import control as control_endpoint


class JournalTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.vcenter = client.Simulator(lenient='quoted-policy-cookie', journal=50).start()
        cls.addClassCleanup(cls.vcenter.stop)
        cls.control = control_endpoint.Control(cls.vcenter.control_url)

    def setUp(self):
        self.client = self.vcenter.connect()
        self.control.reset_faults()
        self.control.reset_journal()

    def test_calls_are_counted_by_method(self):
        for _ in range(3):
            self.client.CurrentTime()
        journal = self.control.journal()
        self.assertEqual(3, journal['methods']['CurrentTime']['calls'])
        self.assertEqual(3, journal['calls'])
        self.assertEqual(0, journal['faults'])

    def test_bytes_are_those_on_the_wire(self):
        url = f'https://{self.vcenter.host}:{self.vcenter.port}/sdk'
        body = ('<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
                '<RetrieveServiceContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this>'
                '</RetrieveServiceContent></soapenv:Body></soapenv:Envelope>').encode()
        reply = requests.post(url, data=body, headers={'SOAPAction': 'urn:vim25/8.0'}, verify=self.vcenter.cacert, timeout=60)
        totals = self.control.journal()['methods']['RetrieveServiceContent']
        self.assertEqual((len(body), len(reply.content)), (totals['request_bytes'], totals['response_bytes']))

    def test_single_calls_name_object_session_and_outcome(self):
        folder = self.client.content.rootFolder.childEntity[0].vmFolder
        folder.CreateFolder('journal')
        self.assertRaises(vim.fault.DuplicateName, folder.CreateFolder, 'journal')
        calls = [call for call in self.control.calls() if call['method'] == 'CreateFolder']
        self.assertEqual(['ok', 'DuplicateName'], [call['outcome'] for call in calls])
        self.assertEqual({f'Folder:{folder._moId}'}, {call['object'] for call in calls})
        sessions = {session['id'] for session in self.control.sessions()}
        self.assertTrue({call['session'] for call in calls} <= sessions)
        self.assertGreater(calls[1]['number'], calls[0]['number'])
        self.assertTrue(all(call['seconds'] > 0 and call['time'] for call in calls))
        self.assertEqual(1, self.control.journal()['methods']['CreateFolder']['faults'])

    def test_no_session_key_is_shown(self):
        self.client.CurrentTime()
        key = self.client._stub.cookie.split(';')[0].split('=')[1].strip('"')
        self.assertNotIn(key, str(self.control.calls()) + str(self.control.sessions()))

    def test_only_the_last_calls_are_kept(self):
        for _ in range(60):
            self.client.CurrentTime()
        self.assertEqual(50, len(self.control.calls(last=1000)))
        self.assertEqual(5, len(self.control.calls(last=5)))
        self.assertEqual(60, self.control.journal()['calls'])
        self.assertRaisesRegex(control_endpoint.ControlError, 'last=', self.control.calls, 'many')

    def test_reset_forgets(self):
        self.client.CurrentTime()
        self.assertEqual(1, self.control.reset_journal()['calls'])
        journal = self.control.journal()
        self.assertEqual((0, {}, []), (journal['calls'], journal['methods'], self.control.calls()))

    def test_transfers_are_counted(self):
        data = b'z' * 12345
        requests.put(f'https://{self.vcenter.host}:{self.vcenter.port}/folder/journal.bin?dcPath=DC0&dsName=LocalDS_0', data=data,
                     headers={'Cookie': self.client._stub.cookie.split(';')[0]}, verify=self.vcenter.cacert, timeout=60)
        totals = self.control.journal()['methods']['PUT /folder']
        self.assertEqual((1, len(data)), (totals['calls'], totals['request_bytes']))

    def test_calls_of_the_storage_policy_api_are_counted(self):
        self.enterContext(wsdl_once.shared())
        session = api.VMwareAPISession(
            self.vcenter.host, self.vcenter.user, self.vcenter.password, 1, 0.1, port=self.vcenter.port,
            cacert=self.vcenter.cacert, pbm_wsdl_loc=pbm.get_pbm_wsdl_location('8.0'))
        self.addCleanup(session.logout)
        pbm.get_all_profiles(session)
        methods = self.control.journal()['methods']
        self.assertEqual(1, methods['PbmQueryProfile']['calls'])
        query = next(call for call in self.control.calls() if call['method'] == 'PbmQueryProfile')
        self.assertEqual('PbmProfileProfileManager', query['object'].split(':')[0])
        self.assertIn(query['session'], {one['id'] for one in self.control.sessions()})

    def test_a_cut_call_is_counted_as_such(self):
        self.control.fault(method='CurrentTime', count=1, cut='before')
        self.assertRaises((http.client.HTTPException, OSError), self.client.CurrentTime)
        self.assertIn('cut', [call['outcome'] for call in self.control.calls()])

    def test_a_call_in_progress_is_listed(self):
        self.control.fault(method='CurrentTime', count=1, delay_ms=2000)
        thread = threading.Thread(target=self.client.CurrentTime)
        thread.start()
        vcenter_case.until(lambda: self.control.journal()['running'] == {'CurrentTime': 1})
        thread.join()
        self.assertEqual({}, self.control.journal()['running'])
