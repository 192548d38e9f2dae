# SPDX-License-Identifier: Apache-2.0
"""Claims of space on this host, within a process and between processes."""

import errno
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from oslo_config import cfg
from oslo_utils import units

from cinder_vmdk_ext.volumes import host_space

# Claims a mebibyte of a folder, and waits for its end.
_OTHER = '''\
import sys
from oslo_config import cfg
from cinder_vmdk_ext.volumes import host_space
cfg.CONF([], project='cinder')
cfg.CONF.set_override('lock_path', sys.argv[1], 'oslo_concurrency')
place = host_space.HostFolder(sys.argv[1], 'an_option')
claim = host_space.claim(place, 1 << 20, sys.argv[1] + '/none')
print(claim is not None, flush=True)
sys.stdin.read()
'''


class ClaimTestCase(unittest.TestCase):

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = folder.name
        self.place = host_space.HostFolder(self.path, 'an_option', 4096)
        self.share(self.path)

    def share(self, path):
        """Where the processes of this host have their claims."""
        cfg.CONF.set_override('lock_path', path, 'oslo_concurrency')
        self.addCleanup(cfg.CONF.clear_override, 'lock_path',
                        'oslo_concurrency')

    def claimed(self):
        """What is claimed of the folder's file system."""
        return host_space._claimed(host_space._folder(),
                                   os.stat(self.path).st_dev)

    def test_a_claim_lasts_until_its_end(self):
        first = host_space.claim(self.place, 1000, f'{self.path}/a')
        second = host_space.claim(self.place, 200, f'{self.path}/b')
        self.assertEqual(1200, self.claimed())
        for _twice in range(2):
            first.end()
            self.assertEqual(200, self.claimed())
        second.end()
        self.assertEqual([], [
            name for name in os.listdir(host_space._folder())
            if name.endswith('.claim')])

    def test_what_a_file_takes_is_claimed_no_more(self):
        with open(os.path.join(self.path, 'raw'), 'wb') as file, \
                tempfile.TemporaryFile(dir=self.path) as nameless:
            claim = host_space.claim(self.place, units.Mi, file.name)
            self.addCleanup(claim.end)
            with host_space.claimed(self.place, units.Mi, nameless.fileno()):
                # A hole takes nothing.
                os.truncate(file.fileno(), units.Gi)
                self.assertEqual(2 * units.Mi, self.claimed())
                for each in file, nameless:
                    os.pwrite(each.fileno(), os.urandom(units.Mi // 2), 0)
                    os.fsync(each.fileno())
                self.assertEqual(units.Mi, self.claimed())
                os.pwrite(file.fileno(), os.urandom(2 * units.Mi), 0)
                os.fsync(file.fileno())
                self.assertEqual(units.Mi // 2, self.claimed())

    def test_a_file_system_that_others_write_to_is_full_for_all(self):
        with tempfile.TemporaryFile(dir=self.path) as file, \
                mock.patch.object(host_space, 'free_bytes',
                                  return_value=3 * units.Gi), \
                host_space.claimed(self.place, 2 * units.Gi,
                                   file.fileno()), \
                self.assertRaises(host_space.TooLittleSpace) as caught:
            host_space.claim(self.place, 2 * units.Gi, '/none')
        self.assertEqual(
            f'{self.path} (an_option) has too little space: 2.00 GiB needed, '
            '3.00 GiB free, of which other operations of this host will take '
            '2.00 GiB; make space there, or set an_option to a larger folder',
            str(caught.exception))

    def test_that_of_another_process_counts_as_long_as_it_lives(self):
        with subprocess.Popen(
                [sys.executable, '-W', 'ignore', '-c', _OTHER, self.path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True) as other:
            self.assertEqual('True\n', other.stdout.readline())
            self.assertEqual(units.Mi, self.claimed())
            other.kill()
        self.assertEqual(0, self.claimed())

    def test_claims_that_cannot_be_shared_stop_nothing(self):
        self.share(os.devnull)
        with self.assertLogs('cinder_vmdk_ext', 'WARNING') as log:
            self.assertIsNone(host_space.claim(self.place, 1, '/none'))
        self.assertIn('not noted', log.output[0])
        self.assertRaises(host_space.TooLittleSpace, host_space.claim,
                          self.place, 1 << 60, '/none')

    def test_the_spare_space_of_the_host(self):
        host_space.check_spare(self.place)
        self.assertRaises(host_space.TooLittleSpace, host_space.check_spare,
                          self.place._replace(spare_bytes=1 << 60))

    def test_only_a_full_file_system_is_explained(self):
        for code in host_space.FULL:
            with self.assertRaisesRegex(
                    host_space.TooLittleSpace,
                    r'\(an_option\) became full: .* needed, .* free; make'):
                with host_space.explained(self.place, 1):
                    raise OSError(code, 'full')
        with self.assertRaises(ConnectionResetError):
            with host_space.explained(self.place, 1):
                raise ConnectionResetError(errno.ECONNRESET, 'reset')


if __name__ == '__main__':
    unittest.main()
