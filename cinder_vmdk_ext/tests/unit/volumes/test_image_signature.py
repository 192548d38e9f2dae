# SPDX-License-Identifier: Apache-2.0
"""The signature of an image is verified while its data passes."""

import unittest
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import rsa
from oslo_config import cfg

from cinder import exception

from cinder_vmdk_ext.tests import signing
from cinder_vmdk_ext.volumes import image_signature

DATA = [b'some', b'data', b'of an image']


class SignatureTestCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.signer = signing.Signer()

    def setUp(self):
        patch = mock.patch.object(image_signature.signature_utils,
                                  'get_certificate',
                                  lambda context, uuid: self.signer)
        patch.start()
        self.addCleanup(patch.stop)
        self.record = {'id': 'image', 'properties': self.signer.properties(
            b''.join(DATA))}

    def passed(self, data, taken=None):
        """What a receiver gets that takes a part of the data."""
        signature = image_signature.Signature(None, self.record)
        passing = signature.passing(data)
        received = []
        chunks = signature.checked(
            (chunk for chunk, _ in zip(passing, range(taken or 99))), passing)
        try:
            received.extend(chunks)
        except exception.ImageSignatureVerificationException as error:
            return received, str(error)
        return received, None

    def test_the_content_that_was_signed_passes(self):
        self.assertEqual((DATA, None), self.passed(DATA))

    def test_another_content_ends_before_the_last_chunk(self):
        received, said = self.passed(DATA[:2] + [b'of anothers'])
        self.assertEqual(DATA[:2], received)
        self.assertIn('image image has another content', said)

    def test_all_bytes_count_also_those_that_are_not_needed(self):
        """A disk in an OVA is only a part of the image."""
        self.assertEqual((DATA[:1], None), self.passed(DATA, taken=1))
        self.assertEqual([], self.passed(DATA + [b'x'], taken=1)[0])

    def test_an_image_without_a_signature_passes(self):
        self.record['properties'] = {'os_type': 'linux'}
        self.assertEqual((DATA, None), self.passed(DATA))
        self.assertFalse(image_signature.Signature(
            None, self.record).is_checked)

    def test_an_operator_can_turn_it_off(self):
        cfg.CONF.set_override('verify_glance_signatures', 'disabled')
        self.addCleanup(cfg.CONF.clear_override, 'verify_glance_signatures')
        self.assertEqual(([b'x'], None), self.passed([b'x']))

    def test_a_record_with_a_part_of_the_properties_is_refused(self):
        del self.record['properties']['img_signature_key_type']
        self.assertRaises(exception.InvalidSignatureImage,
                          image_signature.Signature, None, self.record)

    def test_a_certificate_of_another_kind_of_key_is_refused(self):
        self.record['properties']['img_signature_key_type'] = 'DSA'
        with self.assertRaisesRegex(
                exception.ImageSignatureVerificationException,
                'image image has no usable certificate'):
            image_signature.Signature(None, self.record)

    def test_a_key_of_another_is_refused(self):
        self.signer = signing.Signer()
        self.assertIsInstance(self.signer.public_key(), rsa.RSAPublicKey)
        self.assertIn('another content', self.passed(DATA)[1])


if __name__ == '__main__':
    unittest.main()
