# SPDX-License-Identifier: Apache-2.0
"""An exported disk becomes an image of the requested format."""

import io
import random
import tempfile
import unittest

from oslo_config import cfg
from oslo_utils import units

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.volumes import target_image
from cinder_vmdk_ext.volumes.image_formats import qcow2
from cinder_vmdk_ext.volumes.image_formats import stream_vmdk

CONTENT = b'content'.ljust(100_352, b'\0') + b'end'.ljust(512, b'\0')
STREAM = disk_images.stream_optimized(CONTENT)


def setUpModule():
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    for name, group in (('image_conversion_dir', None),
                        ('lock_path', 'oslo_concurrency')):
        cfg.CONF.set_override(name, folder.name, group)
        unittest.addModuleCleanup(cfg.CONF.clear_override, name, group)


def target(disk_format='vmdk', container_format='bare'):
    return target_image.target_of({
        'id': 'image', 'name': 'n', 'disk_format': disk_format,
        'container_format': container_format})


def cut(data, size=30_000):
    return [data[at:at + size] for at in range(0, len(data), size)]


def read(content, size=7_000):
    parts = []
    while part := content.read(size):
        parts.append(part)
    return b''.join(parts)


class TargetTestCase(unittest.TestCase):

    def test_what_is_not_said_is_a_vmdk(self):
        found = target_image.target_of({
            'id': 'image', 'disk_format': None, 'container_format': None})
        self.assertEqual((('vmdk', 'bare'), 'image'), (found.format,
                                                       found.name))

    def test_what_is_not_written_is_refused(self):
        for asked in (('raw', 'ova'), ('vhd', 'bare'), ('vmdk', 'docker'),
                      ('qcow2', 'compressed')):
            with self.assertRaisesRegex(
                    exceptions.UnusableImage, 'disk_format is %s and its '
                    'container_format is %s, but' % asked):
                target(*asked)


class StreamedTestCase(unittest.TestCase):

    def streamed(self, disk_format, data):
        return target_image.streamed(target(disk_format), cut(data),
                                     len(CONTENT))

    def test_a_vmdk_is_sent_as_it_is(self):
        content = self.streamed('vmdk', STREAM)
        self.assertEqual(STREAM, read(content))
        self.assertEqual(len(STREAM), content.count_bytes)
        content.check_read_to_the_end()

    def test_a_raw_image_has_every_byte_of_the_disk(self):
        self.assertEqual(CONTENT, read(self.streamed('raw', STREAM)))

    def test_a_reader_that_stops_is_found_out(self):
        for disk_format in ('vmdk', 'raw'):
            content = self.streamed(disk_format, STREAM)
            content.read(100)
            with self.assertRaisesRegex(exceptions.TransferFailed,
                                        'the first 100 bytes'):
                content.check_read_to_the_end()

    def test_a_disk_that_is_cut_is_no_raw_image(self):
        with self.assertRaisesRegex(exceptions.TransferFailed, 'cut off'):
            read(self.streamed('raw', STREAM[:-512]))


class StoredTestCase(unittest.TestCase):

    def stored(self, *asked, stream=STREAM, size=len(CONTENT)):
        with target_image.stored(target(*asked), 0, size) as image:
            image.fill(cut(stream), size)
            return read(image.content())

    def test_none_takes_more_than_was_asked_for_at_the_beginning(self):
        # Data that cannot be compressed, as scattered as tables can be.
        content = random.Random(1).randbytes(units.Mi)
        content += bytes(31 * units.Mi) + content
        for asked in (('qcow2', 'bare'), ('vmdk', 'ova')):
            image = self.stored(*asked, stream=disk_images.stream_optimized(
                content, units.Gi), size=units.Gi)
            self.assertGreater(len(image), 2 * units.Mi)
            self.assertLess(len(image), target_image.most_bytes(
                2 * units.Mi, units.Gi))

    def test_a_qcow2_image(self):
        found = qcow2.open_qcow2(io.BytesIO(self.stored('qcow2')))
        self.assertEqual(CONTENT, b''.join(stream_vmdk.flat(
            found.pieces, found.capacity_bytes)))

    def test_the_operator_decides_on_compression(self):
        compressed = self.stored('qcow2')
        cfg.CONF.set_override('image_compress_on_upload', False)
        self.addCleanup(cfg.CONF.clear_override, 'image_compress_on_upload')
        self.assertLess(len(compressed), len(self.stored('qcow2')))

    def test_an_ova(self):
        self.assertEqual(STREAM, disk_images.disk_in(
            self.stored('vmdk', 'ova')))

    def test_a_disk_that_is_cut_is_no_image(self):
        for asked in (('qcow2', 'bare'), ('vmdk', 'ova')):
            with target_image.stored(target(*asked), 0, 0) as image:
                with self.assertRaisesRegex(exceptions.TransferFailed,
                                            'cut off'):
                    image.fill(cut(STREAM[:-512]), len(CONTENT))


if __name__ == '__main__':
    unittest.main()
