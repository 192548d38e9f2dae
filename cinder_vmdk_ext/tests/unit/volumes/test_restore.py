# SPDX-License-Identifier: Apache-2.0
"""A restored file is raw, or a VMDK that os-brick has backed up."""

import os
import tempfile
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes import restore
from cinder_vmdk_ext.volumes.image_formats import stream

GIB = 1 << 30
DISK = b'content'.ljust(1 << 20, b'\0')
VMDK = disk_images.stream_optimized(DISK)


class ContentTestCase(unittest.TestCase):

    def content(self, data, is_raw=False, size_bytes=GIB):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            found = restore.content(file.fileno(), size_bytes, is_raw)
            chunks = b''.join(found.chunks)
            if found.size_bytes is not None:
                self.assertEqual(found.size_bytes, len(chunks))
            return dict(disk_images.read_stream(chunks)), found.size_bytes

    def test_raw_content(self):
        grains = dict(disk_images.grains_of(DISK))
        self.assertEqual((grains, None), self.content(DISK))
        self.assertEqual((grains, None), self.content(DISK, True))
        self.assertEqual(({}, None), self.content(b''))

    def test_a_vmdk_is_taken_as_a_disk(self):
        self.assertEqual((dict(disk_images.grains_of(DISK)), len(VMDK)),
                         self.content(VMDK))

    def test_a_vmdk_in_a_backup_that_is_raw_is_taken_as_bytes(self):
        self.assertEqual((dict(disk_images.grains_of(VMDK)), None),
                         self.content(VMDK, True))

    def test_what_does_not_fit_is_refused(self):
        for data, is_raw in ((VMDK[:-2000], False),
                             (b'KDMV' + bytes(1000), False),
                             (DISK + b'more', True)):
            self.assertRaises(stream.FormatError, self.content, data, is_raw,
                              len(DISK))
        large = disk_images.stream_optimized(DISK, 2 * GIB)
        self.assertRaises(stream.FormatError, self.content, large)

    def test_the_file_is_not_changed(self):
        with tempfile.TemporaryFile() as file:
            file.write(DISK)
            file.flush()
            b''.join(restore.content(file.fileno(), GIB, True).chunks)
            self.assertEqual(DISK, os.pread(file.fileno(), GIB, 0))
