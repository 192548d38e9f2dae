# SPDX-License-Identifier: Apache-2.0
"""Data that is no raw disk is recognized by its beginning."""

import gzip
import lzma
import struct
import unittest

from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes.image_formats import foreign

VDI = bytes(64) + struct.pack('<I', 0xbeda107f) + bytes(4000)


class NameTestCase(unittest.TestCase):

    def test_files_of_other_kinds(self):
        for data, name in (
                (b'QFI\xfb\0\0\0\3' + bytes(4000), 'qcow2'),
                (b'conectix' + bytes(4000), 'vhd'),
                (b'vhdxfile' + bytes(4000), 'vhdx'), (VDI, 'vdi'),
                (b'KDMV' + bytes(4000), 'VMDK'),
                (b'COWD' + bytes(4000), 'VMDK'),
                (disk_images.by_vsphere(1), 'descriptor'),
                (disk_images.ova(b'x' * 5000), 'tar'),
                (gzip.compress(bytes(9000)), 'gzip'),
                (lzma.compress(bytes(9000)), 'xz'),
                (b'PK\x03\x04' + bytes(4000), 'zip'),
                (b'<?xml version="1.0"?>', 'XML')):
            with self.subTest(name):
                self.assertIn(name, foreign.name_of(
                    data[:foreign.HEAD_BYTES]) or '')

    def test_what_may_be_a_raw_disk(self):
        boot = bytes(446) + bytes(64) + b'\x55\xaa'
        for data in (b'', b'\0', bytes(4096), boot + bytes(3584),
                     b'LUKS\xba\xbe\0\1' + bytes(4000), b'\xeb\x63\x90' * 99,
                     boot + b'EFI PART' + bytes(3000)):
            self.assertIsNone(foreign.name_of(data))


if __name__ == '__main__':
    unittest.main()
