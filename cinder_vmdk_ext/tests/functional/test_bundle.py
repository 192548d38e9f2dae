# SPDX-License-Identifier: Apache-2.0
"""`bundle`: all that a report needs is in it, and no secret is."""

import io
import json
import os
import tarfile
import tempfile

from cinder_vmdk_ext.cmd import bundle
from cinder_vmdk_ext.tests.functional import command_case

PASSWORD = 'sesame "open"\\1'
SECRETS = ('dbpw-5e1f', 'rabbit-9/7c', 'redis-77aa', 'nova-secret-3',
           'unknown-key-1', PASSWORD, 'glance-pw-8')
CONF = f'''
[DEFAULT]
enabled_backends = vmdk
transport_url = rabbit://openstack:rabbit-9%2F7c@mq:5672//
host = node-1
[database]
connection = mysql+pymysql://cinder:dbpw-5e1f@db/cinder
[coordination]
backend_url = redis://:redis-77aa@cache:6379
[nova]
password = nova-secret-3
[vmdk]
volume_driver = cinder_vmdk_ext.driver.VmdkExtDriver
vmware_host_password = {PASSWORD}
vmware_host_username = cinder
vmdk_ext_min_free_percent = 3
some_access_key = unknown-key-1
[other]
proxy = http://me:glance-pw-8@proxy:3128
'''
LOG = (f'2026 1 ERROR cinder login with {PASSWORD} refused\n'
       '2026 1 INFO cinder all is well\n'
       '2026 1 WARNING cinder mysql+pymysql://cinder:dbpw-5e1f@db\n')


class BundleTestCase(command_case.CommandCase):

    VCENTER = command_case.CommandCase.VCENTER | {'password': 'vcpw-31ab9'}

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for name, content in (('cinder.conf', CONF), ('c.log', LOG)):
            with open(f'{self.folder}/{name}', 'w') as stream:
                stream.write(content)

    def bundle(self, name='b.tar.gz', status=0, **options):
        rows = self.listed(
            'bundle', f'{self.folder}/{name}', '--config-file',
            f'{self.folder}/cinder.conf', '--service-log',
            f'{self.folder}/c.log', status=status, **options)
        with tarfile.open(f'{self.folder}/{name}') as archive:
            found = {entry.name.partition('/')[2]:
                     archive.extractfile(entry).read().decode()
                     for entry in archive}
        self.assertEqual({each['name']: each['size_bytes']
                          for each in rows},
                         {key: len(value.encode())
                          for key, value in found.items()})
        return found

    def test_what_a_report_needs_is_in_it_and_no_secret(self):
        lost = self.create()
        self.destroy(self.truth(lost).vm)
        found = self.bundle()
        whole = '\n'.join(found.values())
        for secret in (*SECRETS, self.vcenter.password, 'rabbit-9%2F7c',
                       json.dumps(PASSWORD)[1:-1]):
            self.assertNotIn(secret, whole)
        options = json.loads(found['options.json'])
        self.assertEqual(['3'], options['vmdk']['vmdk_ext_min_free_percent'])
        self.assertEqual(['node-1'], options['DEFAULT']['host'])
        self.assertEqual(['***'], options['nova']['password'])
        self.assertIn('cinder', json.loads(found['versions.json']))
        self.assertIn('LocalDS_1', found['vmdk/inventory.json'])
        self.assertEqual([('lost', lost.id)], [
            (each['kind'], each['owner']) for each
            in json.loads(found['vmdk/audit.json'])['findings']])
        self.assertEqual(
            ['2026 1 ERROR cinder login with *** refused',
             '2026 1 WARNING cinder mysql+pymysql://***@db'],
            found['log-0.txt'].splitlines())
        path = f'{self.folder}/b.tar.gz'
        self.assertEqual(0o600, os.stat(path).st_mode & 0o777)
        status, _out, err = self.command('bundle', path, '--config-file',
                                         f'{self.folder}/cinder.conf')
        self.assertEqual(2, status)
        self.assertIn('exists', err)

    def test_it_is_bounded(self):
        data = bundle._data('x' * (bundle.MOST_BYTES * 2))
        self.assertLess(len(data), bundle.MOST_BYTES + 100)
        with open(f'{self.folder}/c.log', 'w') as stream:
            for number in range(5000):
                stream.write(f'ERROR {number} {"x" * 3000}\n')
        archive = io.StringIO(dict(
            (name, text) for name, text, _problem
            in bundle._logs([f'{self.folder}/c.log'],
                            bundle.Secrets({})))['log-0.txt'])
        lines = archive.read().splitlines()
        self.assertIn('ERROR 4999', lines[-1])
        self.assertLessEqual(max(map(len, lines)), 2000)
        self.assertLessEqual(len(lines), 2000)
