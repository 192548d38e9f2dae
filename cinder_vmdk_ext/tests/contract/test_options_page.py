# SPDX-License-Identifier: Apache-2.0
"""The page of the options agrees with their definitions."""

import unittest

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext.tests.contract import options_page


class OptionsPageTestCase(unittest.TestCase):

    def test_the_page_is_current(self):
        page = options_page.PAGE.read_text('utf-8')
        self.assertEqual(options_page.text(page), page,
                         'run make options-page')

    def test_each_option_of_upstream_has_its_effect(self):
        self.assertEqual({option.name for option in vmdk.vmdk_opts},
                         set(options_page.OF_UPSTREAM))
