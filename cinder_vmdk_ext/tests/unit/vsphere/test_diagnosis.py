# SPDX-License-Identifier: Apache-2.0
"""The checks of the vCenter's clock and certificate."""

import datetime
import unittest

import fixtures
from oslo_vmware import exceptions

from cinder_vmdk_ext.tests.unit import vcenters
from cinder_vmdk_ext.tests import webserver
from cinder_vmdk_ext.vsphere import diagnosis
from cinder_vmdk_ext.vsphere import transport

NOON = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.timezone.utc)


class ClockTestCase(unittest.TestCase):

    def skew(self, answer, *ours):
        """How far the vCenter is ahead, by what our clock says in turn."""
        client = vcenters.Client(CurrentTime=vcenters.reply(
            f'<returnval>{answer}</returnval>'))
        return diagnosis.clock_skew_seconds(
            vcenters.Session(), client, now=iter(ours).__next__)

    def test_a_clock_that_is_ahead_is_positive(self):
        self.assertEqual(90, self.skew('2026-11-28T12:01:30Z', NOON, NOON))

    def test_a_clock_that_is_behind_is_negative(self):
        self.assertEqual(-1, self.skew('2026-11-28T12:59:59+01:00',
                                       NOON, NOON))

    def test_half_of_what_the_call_takes_is_the_way_there(self):
        later = NOON + datetime.timedelta(seconds=20)
        self.assertEqual(0, self.skew('2026-11-28T12:00:10Z', NOON, later))

    def test_a_time_that_cannot_be_read_is_an_error_that_names_the_call(self):
        with self.assertRaisesRegex(exceptions.VimConnectionException,
                                    'CurrentTime'):
            self.skew('noon', NOON, NOON)


class CertificateTestCase(fixtures.TestWithFixtures, unittest.TestCase):

    def test_the_days_until_it_ends(self):
        for valid_from_days, left in ((-1, 1), (-0.5, 1.5)):
            server = self.useFixture(webserver.WebServer(
                valid_from_days=valid_from_days))
            self.assertAlmostEqual(left, diagnosis.certificate_days(
                webserver.HOST, server.port,
                transport.Trust(server.cert_file)), delta=0.1)

    def test_one_that_is_not_verified_has_no_days(self):
        self.assertIsNone(diagnosis.certificate_days(
            webserver.HOST, 1, transport.Trust(insecure=True)))

    def test_no_connection_is_an_error(self):
        server = self.useFixture(webserver.WebServer())
        other = self.useFixture(webserver.WebServer(tls=False))
        with self.assertRaises(OSError):
            diagnosis.certificate_days(webserver.HOST, other.port,
                                       transport.Trust(server.cert_file))


if __name__ == '__main__':
    unittest.main()
