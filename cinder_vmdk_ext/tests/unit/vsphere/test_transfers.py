# SPDX-License-Identifier: Apache-2.0
"""Leases, downloads and URLs, without a server."""

import io
import unittest
from unittest import mock

from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util
import urllib3

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import transfers

LEASE = vim_util.get_moref('lease-1', 'HttpNfcLease')
UNKNOWN = exceptions.OutcomeUnknown('HttpNfcLeaseComplete', 'lease-1',
                                    Exception())


class Session:
    """Notes the calls; raises what is prepared."""

    vim = 'vim'

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []

    def invoke_api(self, module, method, *args, **kwargs):
        name = args[-1] if method == 'get_object_property' else method
        self.calls.append((name, kwargs))
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer


class LeaseTestCase(unittest.TestCase):
    """An HttpNfcLease."""

    def make(self, **answers):
        self.now = 0.0
        self.session = Session(**answers)
        return transfers._Lease(self.session, lambda: self.now, LEASE)

    def test_it_is_kept_alive_once_a_minute(self):
        lease = self.make()
        for chunk in lease.reporting([b'x' * 10] * 10, 100):
            self.now += 30
            self.assertEqual(10, len(chunk))
        reported = [each['percent'] for name, each in self.session.calls]
        self.assertEqual([20, 40, 60, 80, 100], reported)
        self.assertIs(int, type(reported[0]))

    def test_more_than_announced_is_no_more_than_all(self):
        lease = self.make()
        self.now = 61
        lease.report(300, 100)
        self.assertEqual(100, self.session.calls[0][1]['percent'])

    def test_an_end_whose_reply_is_lost_is_looked_after(self):
        self.make(HttpNfcLeaseComplete=UNKNOWN, state='done').complete()
        self.make(HttpNfcLeaseComplete=UNKNOWN,
                  state=vmware_exceptions.ManagedObjectNotFoundException()
                  ).complete()
        with self.assertRaises(exceptions.OutcomeUnknown):
            self.make(HttpNfcLeaseComplete=UNKNOWN, state='ready').complete()

    def test_an_abort_that_fails_raises_nothing(self):
        self.make(HttpNfcLeaseAbort=vmware_exceptions.VimException('x')
                  ).abort()


class DownloadTestCase(unittest.TestCase):
    """A disk on its way out."""

    def make(self, data):
        self.reported = []
        return transfers.Download(io.BytesIO(data), 'a disk',
                                  self.reported.append)

    def test_it_is_read_to_the_end(self):
        data = b'x' * 1000 + bytes(512)
        made = self.make(data)
        self.assertEqual(data, b''.join(made))
        made.check_read_to_the_end()
        self.assertEqual(len(data), self.reported[-1])

    def test_one_that_ends_before_its_end_is_an_error(self):
        made = self.make(b'x' * 1000 + bytes(511))
        with self.assertRaisesRegex(exceptions.TransferFailed, 'before'):
            list(made)

    def test_an_empty_one_is_an_error(self):
        with self.assertRaises(exceptions.TransferFailed):
            self.make(b'').read()

    def test_a_reader_that_stops_is_told(self):
        made = self.make(b'x' * 1000 + bytes(512))
        made.read(10)
        with self.assertRaisesRegex(exceptions.TransferFailed, 'only'):
            made.check_read_to_the_end()

    def test_a_connection_that_breaks_is_told(self):
        made = self.make(b'')
        made._reply = mock.Mock()
        made._reply.read.side_effect = urllib3.exceptions.IncompleteRead(1, 2)
        with self.assertRaisesRegex(exceptions.TransferFailed, 'broke off'):
            made.read()


class UrlTestCase(unittest.TestCase):
    """Where transfers go."""

    def make(self, host='vc'):
        made = transfers.Transfers(Session(), host, 443)
        made._path_of = lambda datacenter: 'Folder/a%2fb c'
        return made

    def test_names_are_quoted(self):
        self.assertEqual(
            'https://vc:443/folder/a%20b%3F/c%23d%25e.vmdk'
            '?dcPath=Folder%2Fa%252fb%20c&dsName=x%26y%3Dz%20%C3%A9',
            self.make().file_url('dc', 'x&y=z é', 'a b?/c#d%e.vmdk'))

    def test_an_address_of_ipv6_is_bracketed(self):
        self.assertTrue(self.make('fd00::1').file_url('dc', 'ds', 'x')
                        .startswith('https://[fd00::1]:443/'))

    def test_a_path_does_not_leave_its_folder(self):
        for path in ('../x', 'a/../../x', 'a/..'):
            with self.assertRaises(ValueError):
                self.make().file_url('dc', 'ds', path)
        self.make().file_url('dc', 'ds', 'a..b/x..')

    def test_a_ticket_is_not_told(self):
        self.assertEqual('https://esx/nfc/.../disk-0.vmdk', transfers._bare(
            'https://esx/nfc/52ab-secret/disk-0.vmdk?ticket=1'))

    def test_nothing_goes_without_tls(self):
        with self.assertRaisesRegex(exceptions.TransferFailed, 'no HTTPS'):
            self.make()._put('PUT', 'http://esx/nfc/x/y', [b''], 0)


if __name__ == '__main__':
    unittest.main()
