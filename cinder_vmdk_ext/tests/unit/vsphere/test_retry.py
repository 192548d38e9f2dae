# SPDX-License-Identifier: Apache-2.0
"""Which calls may be repeated."""

import http.client
import ssl
import unittest

from oslo_vmware import exceptions
from oslo_vmware import vim_util
import requests
import urllib3

from cinder_vmdk_ext import exceptions as own_exceptions
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import retry
from cinder_vmdk_ext.vsphere import soap

# How Envoy begins when a call did not get through.
UPSTREAM = b'upstream connect error or disconnect/reset before headers. '


def lost(cause):
    """How oslo.vmware reports that a call got no reply."""
    return exceptions.VimConnectionException('requests error', cause)


class RepeatableTestCase(unittest.TestCase):
    """By the name of a method or function."""

    def test_what_makes_moves_or_removes_things_is_not(self):
        for name in (
                'CreateVM_Task', 'CloneVM_Task', 'RelocateVM_Task',
                'ReconfigVM_Task', 'CreateSnapshot_Task', 'Destroy_Task',
                'RemoveSnapshot_Task', 'RevertToSnapshot_Task',
                'CopyVirtualDisk_Task', 'MoveVirtualDisk_Task',
                'DeleteVirtualDisk_Task', 'ExtendVirtualDisk_Task',
                'CreateVirtualDisk_Task', 'DeleteDatastoreFile_Task',
                'CopyDatastoreFile_Task', 'MoveIntoFolder_Task',
                'Rename_Task', 'MarkAsTemplate', 'UnregisterVM',
                'RegisterVM_Task', 'ImportVApp', 'ExportVm',
                'HttpNfcLeaseComplete', 'CreateDisk_Task', 'RegisterDisk',
                'RegisterExtension', 'Login', 'SomethingNew_Task'):
            self.assertFalse(retry.is_repeatable(name), name)

    def test_what_reads_is(self):
        for name in (
                'RetrievePropertiesEx', 'ContinueRetrievePropertiesEx',
                'RetrieveServiceContent', 'FindAllByUuid', 'FindByUuid',
                'QueryConfigOption', 'CurrentTime', 'WaitForUpdatesEx',
                'SearchDatastore_Task', 'PbmQueryProfile',
                'PbmRetrieveContent', 'PbmQueryMatchingHub', 'SessionIsActive',
                'get_object_property', 'get_objects', 'continue_retrieval',
                'read', 'find_extension'):
            self.assertTrue(retry.is_repeatable(name), name)

    def test_what_another_time_does_no_harm_is(self):
        for name in ('CreateFolder', 'MakeDirectory', 'CreateContainerView',
                     'HttpNfcLeaseProgress', 'CancelTask'):
            self.assertTrue(retry.is_repeatable(name), name)


class NeverSentTestCase(unittest.TestCase):
    """By how a call failed."""

    def test_a_connection_that_was_not_made_carried_nothing(self):
        for cause in (
                requests.ConnectionError(urllib3.exceptions.MaxRetryError(
                    None, '/sdk', urllib3.exceptions.NewConnectionError(
                        None, 'refused'))),
                requests.ConnectTimeout(),
                requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(
                    None, '/sdk', urllib3.exceptions.SSLError(
                        ssl.SSLCertVerificationError('untrusted')))),
                http.client.CannotSendRequest()):
            self.assertTrue(retry.never_sent(lost(cause)), cause)

    def status(self, status, body=b''):
        return retry.never_sent(lost(soap.HTTPStatus(
            status, 'https://vc/sdk', body)))

    def test_a_proxy_that_says_so_passed_nothing_on(self):
        for body in (
                b'no healthy upstream',
                UPSTREAM + b'reset reason: connection failure',
                UPSTREAM + b'reset reason: remote connection failure, '
                b'transport failure reason: delayed connect error: 111',
                b'503 Service Unavailable (Failed to connect to endpoint: '
                b'[N7Vmacore4Http20NamedPipeServiceSpecE:0x00007f7c] '
                b'_serverNamespace = /sdk)'):
            self.assertTrue(self.status(503, body), body)
            self.assertFalse(self.status(502, body), body)
        self.assertTrue(self.status(404))

    def test_a_proxy_that_says_anything_else_may_have_passed_it_on(self):
        for body in (
                b'', b'<html>Service Unavailable</html>',
                UPSTREAM + b'reset reason: connection termination',
                UPSTREAM + b'reset reason: overflow',
                UPSTREAM.replace(b'. ', b'. retried and the latest ')
                + b'reset reason: connection failure',
                b'upstream connect error or disconnect/reset before headers. '
                b'retried and the latest reset reason: connection failure',
                b'it said: no healthy upstream'):
            self.assertFalse(self.status(503, body), body)
        for status in (302, 429, 500, 502, 504):
            self.assertFalse(self.status(status), status)

    def test_a_connection_that_broke_may_have_carried_all(self):
        for cause in (
                requests.ReadTimeout(), None,
                requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(
                    None, '/sdk', urllib3.exceptions.SSLError(
                        ssl.SSLEOFError('UNEXPECTED_EOF_WHILE_READING')))),
                requests.ConnectionError(urllib3.exceptions.ProtocolError(
                    'aborted', ConnectionResetError())),
                requests.exceptions.ChunkedEncodingError()):
            self.assertFalse(retry.never_sent(lost(cause)), cause)

    def test_causes_that_turn_in_a_circle_come_to_an_end(self):
        one, other = lost(None), lost(None)
        one.cause, other.cause = other, one
        self.assertFalse(retry.never_sent(one))


class FaultsTestCase(unittest.TestCase):
    """What the vCenter answered."""

    def test_a_guess_from_an_empty_reply_is_no_answer(self):
        guess = exceptions.VimFaultException(['NotAuthenticated'], 'nothing')
        self.assertTrue(retry.is_denial(guess))
        self.assertTrue(retry.is_empty_reply(guess))
        for fault in (soap.Fault(['NotAuthenticated'], 'no'),
                      exceptions.VimFaultException(
                          ['NotAuthenticated'], 'no', cause=Exception())):
            self.assertTrue(retry.is_denial(fault))
            self.assertFalse(retry.is_empty_reply(fault))

    def test_faults_are_of_the_class_that_callers_catch(self):
        found = retry.specific(exceptions.VimFaultException(
            ['DuplicateName'], 'again', details={'name': 'x'}))
        self.assertIsInstance(found, exceptions.DuplicateName)
        self.assertEqual({'name': 'x'}, found.details)
        unknown = exceptions.VimFaultException(['Other'], 'x')
        self.assertIs(unknown, retry.specific(unknown))
        nameless = exceptions.VimFaultException([], 'x')
        self.assertIs(nameless, retry.specific(nameless))

    def test_a_missing_privilege_is_named_with_its_object(self):
        fault = soap.Fault(['NoPermission'], 'CreateFolder: denied.', details={
            'object': 'group-v3', soap.OBJECT_TYPE: 'Folder',
            'privilegeId': 'Folder.Create'})
        error = retry.specific(fault, lambda ref: f'the {ref.type} vm')
        self.assertIsInstance(error, own_exceptions.PrivilegeMissing)
        self.assertIn('the privilege Folder.Create on the Folder vm',
                      str(error))

    def test_the_object_of_a_call_is_told(self):
        moref = vim_util.get_moref('vm-1', 'VirtualMachine')
        self.assertEqual('vm-1', retry.target((moref,)))
        self.assertEqual('vm-2', retry.target(
            ('CloneVM_Task', references.Ref('VirtualMachine', 'vm-2'))))
        self.assertIsNone(retry.target(()))
        self.assertIsNone(retry.target((7,)))


if __name__ == '__main__':
    unittest.main()
