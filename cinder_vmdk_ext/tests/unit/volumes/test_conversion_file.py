# SPDX-License-Identifier: Apache-2.0
"""Temporary files of images: their space, and their end."""

import errno
import os
import tempfile
import unittest
from unittest import mock

from oslo_config import cfg

from cinder import exception

from cinder_vmdk_ext.volumes import conversion_file
from cinder_vmdk_ext.volumes import host_space


class OpenedTestCase(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.join(folder.name, 'conversion')
        cfg.CONF.set_override('image_conversion_dir', self.folder)
        self.addCleanup(cfg.CONF.clear_override, 'image_conversion_dir')
        cfg.CONF.set_override('lock_path', folder.name, 'oslo_concurrency')
        self.addCleanup(cfg.CONF.clear_override, 'lock_path',
                        'oslo_concurrency')

    def test_its_name_is_not_in_the_folder(self):
        """So it is gone when the process dies, whatever kills it."""
        with conversion_file.opened('image', 10) as file:
            conversion_file.fill(file, [b'ab', b'c'])
            self.assertEqual(b'abc', file.read())
            self.assertEqual([], os.listdir(self.folder))

    def test_too_little_space_is_said_before_anything_is_written(self):
        with self.assertRaisesRegex(exception.ImageTooBig,
                                    f'image .*{self.folder}'):
            with conversion_file.opened('image', 1 << 62):
                self.fail('it was opened')

    def test_space_that_ends_while_it_is_written_is_said(self):
        with self.assertRaisesRegex(exception.ImageTooBig,
                                    'image_conversion_dir'):
            with conversion_file.opened('image', 0):
                raise OSError(errno.ENOSPC, 'No space left on device')

    def test_what_another_one_will_still_write_is_not_free(self):
        with mock.patch.object(host_space, 'free_bytes', return_value=3000):
            with conversion_file.opened('first', 2000):
                with self.assertRaisesRegex(
                        exception.ImageTooBig,
                        'of which other operations of this host will take '):
                    with conversion_file.opened('second', 2000):
                        self.fail('it was opened')
            with conversion_file.opened('second', 2000):
                pass

    def test_other_errors_are_left_as_they_are(self):
        with self.assertRaises(ConnectionResetError):
            with conversion_file.opened('image', 0):
                raise ConnectionResetError


if __name__ == '__main__':
    unittest.main()
