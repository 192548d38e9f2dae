# SPDX-License-Identifier: Apache-2.0
"""The page of the operator's command agrees with its help."""

import unittest

from cinder_vmdk_ext.tests.contract import cli_page


class CliPageTestCase(unittest.TestCase):

    def test_the_page_is_current(self):
        page = cli_page.PAGE.read_text('utf-8')
        self.assertEqual(cli_page.text(page), page, 'run make cli-page')
