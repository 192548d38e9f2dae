# SPDX-License-Identifier: Apache-2.0
"""vim and pbm are called like oslo.vmware's own services."""

import types
import unittest

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import services
from cinder_vmdk_ext.vsphere import soap

REPLY = ('<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">'
         '<e:Body>{}</e:Body></e:Envelope>')
CONTENT = ('<RetrieveServiceContentResponse xmlns="urn:vim25"><returnval>'
           '<rootFolder type="Folder">group-d1</rootFolder></returnval>'
           '</RetrieveServiceContentResponse>')


class Https:
    """Keeps what is sent, and gives one reply to all of it."""

    url = 'https://vc:443'
    cookie = '"key"'
    session_key = 'key'

    def __init__(self, reply):
        self.reply = REPLY.format(reply).encode()
        self.sent = []

    def request(self, method, path, *, body, **options):
        self.sent.append((path, etree.fromstring(body)))
        return types.SimpleNamespace(status=200, data=self.reply)


class ServicesTestCase(unittest.TestCase):

    def test_what_the_service_consists_of_is_asked_once(self):
        https = Https(CONTENT)
        vim = services.Vim(https)
        self.assertIs(vim.service_content, vim.service_content)
        self.assertEqual('group-d1', vim.service_content.rootFolder.value)
        [(path, sent)] = https.sent
        this = sent.find(f'.//{soap.tag("_this")}')
        self.assertEqual(('/sdk', 'ServiceInstance', 'ServiceInstance'),
                         (path, this.get('type'), this.text))

    def test_calls_for_policies_bear_the_session_without_its_quotes(self):
        https = Https('<PbmRetrieveServiceContentResponse '
                      'xmlns="urn:pbm"/>')
        with self.assertRaises(exceptions.VimConnectionException):
            services.Pbm(https).service_content  # it says nothing
        [(path, sent)] = https.sent
        self.assertEqual(('/pbm', 'key'),
                         (path, sent.findtext('.//vcSessionCookie')))


if __name__ == '__main__':
    unittest.main()
