# SPDX-License-Identifier: Apache-2.0
"""A bundle shows no secret, however it is written in a file or a log."""

import base64
import html
import json
import re
import tempfile
import unittest
import urllib.parse
from unittest import mock

from cinder_vmdk_ext.cmd import bundle

CONF = '''
[DEFAULT]
enabled_backends = vmdk
transport_url = rabbit://one:rab-1@a:5672,two:rab-2%2F@b:5672//
[database]
connection = mysql+pymysql://cinder:my@sql/7,pw@db/cinder?charset=utf8
[vmdk]
vmware_host_password = do$$llar "quoted" <x>&\\n
[keystone_authtoken]
memcache_secret_key = aaaa-1111, bbbb-2222
rabbit_pwd = "pwd-in-quotes"
[oslo_messaging_notifications]
transport_url = rabbit://three:rab-3@c/
'''
VCENTER = 'do$llar "quoted" <x>&\\n'
SECRETS = (VCENTER, 'do$$llar', 'rab-1', 'rab-2/', 'rab-3', 'my@sql/7,pw',
           'aaaa-1111', 'bbbb-2222', 'pwd-in-quotes', 'env-pw-9')
WRITTEN = {
    'plain': str, 'of Python': repr, 'JSON': json.dumps,
    'XML': html.escape, 'a URL': urllib.parse.quote_plus,
    'a URL in lower case': lambda text: re.sub(
        '%..', lambda found: found[0].lower(),
        urllib.parse.quote(text, safe='')),
    'hexadecimal': lambda text: text.encode().hex(),
    'base64': lambda text: base64.b64encode(text.encode()).decode(),
    'base64 after a user': lambda text: base64.b64encode(
        f'user:{text}'.encode()).decode(),
    'base64 within': lambda text: base64.b64encode(
        f'a=b&password={text}&c=d'.encode()).decode()}


class SecretsTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write(CONF)
            file.flush()
            self.sections = bundle.read([file.name])
        self.secrets = bundle.Secrets(self.sections, {
            'OS_PASSWORD': 'env-pw-9', 'PWD': '/var/lib/cinder'})

    def test_no_form_of_a_secret_is_shown(self):
        for secret in SECRETS:
            for title, write in WRITTEN.items():
                with self.subTest(secret=secret, written=title):
                    line = f'ERROR it was {write(secret)}, said the server'
                    shown = self.secrets.masked(line)
                    self.assertIn(bundle.MASK, shown)
                    self.assertNotIn(write(secret), shown)
                    for length in range(9, len(secret) + 1):
                        self.assertNotIn(secret[:length], shown)

    def test_a_log_is_masked_before_it_is_cut(self):
        def written(text):
            with tempfile.NamedTemporaryFile('w') as log:
                log.write(text)
                log.flush()
                (_name, found, _problem), = bundle._logs(
                    [log.name], self.secrets)
            return found
        line = 'ERROR ' + '.' * (bundle._LONGEST_LINE - 9)
        self.assertNotIn('my@', written(f'{line}my@sql/7,pw'))
        with mock.patch.object(bundle, '_LOG_BYTES', 60):
            found = written('ERROR my@sql/7,pw ERROR ' + '.' * 46
                            + '\nERROR: the last\n')
        self.assertEqual('ERROR: the last\n', found)

    def test_urls_with_users_show_no_user_and_no_password(self):
        for url in (self.sections['database']['connection'][0],
                    self.sections['DEFAULT']['transport_url'][0],
                    'http://me:other@proxy:3128',
                    'rabbit://a:x1@h1,b:x2@h2,c:x3@h3/'):
            shown = self.secrets.masked(f'ERROR at {url} again')
            for secret in ('rab-', 'sql/7', 'other', 'x1', 'x2', 'x3'):
                self.assertNotIn(secret, shown)

    def test_what_no_option_holds_is_masked_by_its_look(self):
        for line in (
                'Authorization: Basic dXNlcjpzZXNhbWUtMQ==',
                'Authorization: Bearer abcdefghij.klmn',
                'X-Auth-Token: gAAAAABnQk3xkQ1kZmVyZGVyZGVyZGVy_-x=',
                'token eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSM',
                'Cookie: vmware_soap_session="52a1f-aa-bb-cc"',
                "{'password': 'sesame-77'}", '<password>sesame-77</password>',
                'auth_token=sesame-77 for it',
                '-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQ\n'):
            with self.subTest(line):
                shown = self.secrets.masked(line)
                for secret in ('dXNlcjpz', 'abcdefghij', 'kQ1kZm', 'eyJzdW',
                               '52a1f', 'sesame', 'MIIEpA'):
                    self.assertNotIn(secret, shown)

    def test_what_is_no_secret_is_shown(self):
        for text in ('cinder-1@vmdk#LocalDS_0', '/var/lib/cinder/x',
                     'http://keystone:5000/v3 is down', 'a, b and c',
                     'volume 3f0c9c1e-6f7a-4b0e-9d4f-0d8f6f1f7a11 is lost'):
            self.assertEqual(text, self.secrets.masked(text))


if __name__ == '__main__':
    unittest.main()
