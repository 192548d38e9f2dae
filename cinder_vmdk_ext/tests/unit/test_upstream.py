# SPDX-License-Identifier: Apache-2.0
"""The port calls the driver's methods, or upstream's own."""

import unittest
from unittest import mock

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import upstream


class Driver(vmdk.VMwareVcVmdkDriver):
    """Overrides a seam, as the plugin's driver does."""

    def __init__(self):
        self.ours = []

    def _create_backing(self, *args):
        self.ours.append(('create', *args))

    def _select_datastore(self, *args):
        self.ours.append(('select', *args))


class UpstreamTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        self.driver = Driver()
        self.port = upstream.Upstream(self.driver)

    def test_a_seam_is_called_as_the_driver_overrides_it(self):
        self.port.create_backing('volume')
        self.port.select_datastore_for(5, 'gold', 'host')
        (create, *_), (select, request, host) = self.driver.ours
        self.assertEqual(('create', 'select', 'host'),
                         (create, select, host))
        self.assertEqual([5, 'gold'], list(request.values()))

    def test_the_original_is_upstreams_own(self):
        with mock.patch.object(vmdk.VMwareVcVmdkDriver, '_create_backing',
                               autospec=True) as own:
            self.port.original.create_backing('volume', None, {})
        own.assert_called_once_with(self.driver, 'volume', None, {})
        self.assertEqual([], self.driver.ours)


if __name__ == '__main__':
    unittest.main()
