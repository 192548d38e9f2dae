# SPDX-License-Identifier: Apache-2.0
"""An image is opened before anything is created from it."""

import io
import tempfile
import types
import unittest
from unittest import mock

from oslo_config import cfg

from cinder import exception
from cinder.image import image_utils

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.tests import disk_images
from cinder_vmdk_ext.tests import signing
from cinder_vmdk_ext.volumes import image_signature
from cinder_vmdk_ext.volumes import image_stream
from cinder_vmdk_ext.volumes import source_image

CONTENT = b'content'.ljust(1 << 20, b'\0')
CONTEXT = types.SimpleNamespace(user_id='user')
LIMITS = image_stream.Limits(60, 30)
URL = 'vsphere://vcenter/folder/x.vmdk?dcPath=dc&dsName=ds'


class Service:
    """Cinder's image service, with one image."""

    temp_images = None

    def __init__(self, data, url=None, **record):
        self.data, self.url = data, url
        self.record = {'id': 'image', 'size': len(data), 'disk_format':
                       'vmdk', 'container_format': 'bare', 'properties': {
                           'os_type': 'linux'}} | record

    def show(self, _context, _image_id):
        return self.record

    def get_location(self, _context, _image_id):
        return self.url, None

    def download(self, _context, _image_id):
        yield self.data


def setUpModule():
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    cfg.CONF.set_override('image_conversion_dir', folder.name)
    unittest.addModuleCleanup(cfg.CONF.clear_override,
                              'image_conversion_dir')


def opened(service, most_bytes=1 << 30):
    return source_image.opened(CONTEXT, service, 'image', LIMITS, most_bytes)


class SourceImageTestCase(unittest.TestCase):

    def test_the_record_is_that_of_the_disk(self):
        disk = disk_images.stream_optimized(CONTENT)
        service = Service(disk_images.ova(disk), container_format='ova')
        with opened(service) as source:
            record = source.show(None, 'image')
            self.assertEqual((len(disk), 'bare'), (
                record['size'], record['container_format']))
            self.assertEqual({'os_type': 'linux', 'vmware_disktype':
                              'streamOptimized'}, record['properties'])
            self.assertEqual(disk, b''.join(source.take()))
        self.assertEqual({'os_type': 'linux'}, service.record['properties'])

    def test_the_data_can_be_had_once(self):
        with opened(Service(CONTENT)) as source:
            next(source.take())
            self.assertRaises(exceptions.TransferFailed, next, source.take())

    def test_upstream_is_told_of_no_location(self):
        with opened(Service(CONTENT, URL)) as source:
            self.assertEqual((None, None), source.get_location(None, 'image'))
            self.assertEqual(URL, source.vsphere_url)

    def test_a_location_is_used_for_the_same_bytes_alone(self):
        stream = disk_images.stream_optimized(CONTENT)
        for service in (
                Service(CONTENT, 'file:///x'), Service(CONTENT),
                Service(CONTENT + bytes(512), URL), Service(stream, URL),
                Service(disk_images.ova(stream), URL,
                        container_format='ova')):
            with opened(service) as source:
                self.assertIsNone(source.vsphere_url)

    def test_records_that_cannot_be_are_refused_unread(self):
        for record in ({'disk_format': 'vhd'}, {'disk_format': None},
                       {'container_format': 'docker'},
                       {'disk_format': 'raw', 'container_format': 'ova'},
                       {'properties': {'vmware_disktype': 'x'}},
                       {'properties': {'vmware_adaptertype': 'x'}}):
            service = Service(CONTENT, **record)
            service.download = None
            with self.assertRaisesRegex(exceptions.UnusableImage,
                                        'Image image .*this backend accepts'):
                opened(service).__enter__()

    def test_a_converted_image_is_a_vmdk_to_upstream(self):
        for disk_format, data in (('raw', CONTENT), ('iso', CONTENT),
                                  ('qcow2', disk_images.qcow2(CONTENT))):
            service = Service(data, URL, disk_format=disk_format,
                              properties={'vmware_disktype': 'sparse'})
            with opened(service) as source:
                record = source.show(None, 'image')
                self.assertEqual(
                    ('vmdk', 'streamOptimized'),
                    (record['disk_format'],
                     record['properties']['vmware_disktype']))
                self.assertIsNone(source.vsphere_url)
                self.assertEqual(len(data), source.size_bytes)
                self.assertEqual(
                    dict(disk_images.grains_of(CONTENT)),
                    disk_images.read_stream(b''.join(source.take())))

    def test_a_qcow2_image_that_cannot_be_is_refused_before_its_end(self):
        data = disk_images.qcow2(CONTENT, backing=b'/etc/passwd')
        service = Service(data, disk_format='qcow2', size=1 << 30)
        with self.assertRaisesRegex(exceptions.UnusableImage,
                                    'backing file.*; convert it'):
            opened(service).__enter__()

    def test_a_qcow2_file_that_cinder_has_is_read_where_it_is(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(disk_images.qcow2(CONTENT))
            file.flush()
            service = Service(b'', disk_format='qcow2', size=1)
            service.download = None
            images = image_utils.TemporaryImages(service)
            images.temporary_images['user'] = {'image': file.name}
            with opened(service) as source:
                self.assertEqual(
                    dict(disk_images.grains_of(CONTENT)),
                    disk_images.read_stream(b''.join(source.take())))

    def test_no_conversion_without_the_operators_leave(self):
        cfg.CONF.set_override('image_conversion_disable', True)
        self.addCleanup(cfg.CONF.clear_override, 'image_conversion_disable')
        with opened(Service(CONTENT)):
            pass
        for disk_format in ('raw', 'qcow2'):
            with self.assertRaises(exception.ImageConversionNotAllowed):
                opened(Service(CONTENT, disk_format=disk_format)).__enter__()

    def test_cinder_downloads_without_a_thread_pool(self):
        class Pool:
            """A proxy whose calls never return."""

            def __init__(self, file):
                self._obj = file

        class Cinders(Service):
            def download(self, context, image_id, data=None):
                if data is None:
                    return [self.data]
                data.write(self.data)

        service = Cinders(CONTENT)
        source_image.download_directly(service)
        for wrap in (Pool, lambda file: file):
            file = io.BytesIO()
            service.download(CONTEXT, 'image', wrap(file))
            self.assertEqual(CONTENT, file.getvalue())
        self.assertEqual([CONTENT], service.download(CONTEXT, 'image'))

    def test_what_is_signed_is_not_copied_unseen(self):
        signer = signing.Signer()
        service = Service(CONTENT, URL,
                          properties=signer.properties(CONTENT))
        with mock.patch.object(image_signature.signature_utils,
                               'get_certificate', lambda *_: signer):
            with opened(service) as source:
                self.assertIsNone(source.vsphere_url)
                self.assertEqual(CONTENT, b''.join(source.take()))
            service.data = bytes(len(CONTENT))
            with opened(service) as source:
                with self.assertRaises(
                        exception.ImageSignatureVerificationException):
                    list(source.take())

    def test_a_copy_that_differs_is_refused(self):
        with opened(Service(CONTENT, URL)) as source:
            source.check_copy(len(CONTENT), iter([CONTENT]))
            for data in (CONTENT[:-1024], disk_images.monolithic_sparse(
                    CONTENT), b''):
                with self.assertRaises(exceptions.UnusableImage):
                    source.check_copy(len(data), iter([data]))


if __name__ == '__main__':
    unittest.main()
