# SPDX-License-Identifier: Apache-2.0
"""Verifies the signature of an image while its data passes.

Cinder verifies it only where it downloads an image to a file first, which
this driver avoids. The properties and errors are those of
cinder.image.image_utils.verify_glance_image_signature.
"""

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from cursive import exception as cursive_exception
from cursive import signature_utils
from cryptography import exceptions as cryptography_exceptions
from oslo_config import cfg
from oslo_log import log as logging

from cinder import exception

LOG = logging.getLogger(__name__)
CONF = cfg.CONF
CONF.import_opt('verify_glance_signatures', 'cinder.image.glance')

_PROPERTIES = ('img_signature', 'img_signature_hash_method',
               'img_signature_certificate_uuid', 'img_signature_key_type')


def is_to_be_verified(record: dict[str, Any]) -> bool:
    """Whether an image has a signature, and the operator wants it verified.

    :param record: the image's
    """
    return CONF.verify_glance_signatures != 'disabled' and bool(
        _given(record))


def _given(record: dict[str, Any]) -> dict[str, Any]:
    properties = record.get('properties') or {}
    return {name: properties[name] for name in _PROPERTIES
            if properties.get(name) is not None}


class Signature:
    """The check of one image's signature, if it has one."""

    def __init__(self, context: Any, record: dict[str, Any]) -> None:
        """Fetch the certificate from the key manager.

        :param record: the image's
        :raises InvalidSignatureImage: the record has only a part of the
            properties
        :raises ImageSignatureVerificationException: the certificate cannot be
            used
        """
        self._image_id = record['id']
        self._verifier: Any = None
        if not is_to_be_verified(record):
            return
        given = _given(record)
        if len(given) < len(_PROPERTIES):
            raise exception.InvalidSignatureImage(image_id=self._image_id)
        try:
            self._verifier = signature_utils.get_verifier(context, **given)
        except cursive_exception.SignatureVerificationError as error:
            raise exception.ImageSignatureVerificationException(
                reason=f'image {self._image_id} has no usable certificate '
                f'({error})') from error

    @property
    def is_checked(self) -> bool:
        """Whether the image has a signature that is to be verified."""
        return self._verifier is not None

    def passing(self, chunks: Iterable[bytes]
                ) -> Generator[bytes, None, None]:
        """Pass on all bytes of the image, and count them in."""
        for chunk in chunks:
            if self._verifier is not None:
                self._verifier.update(chunk)
            yield chunk

    def checked(self, data: Iterable[bytes],
                rest: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on data; the last chunk follows the check of the signature.

        :param data: what a receiver needs of the image
        :param rest: what :meth:`passing` returned; it is read to its end
        :raises ImageSignatureVerificationException: the image has another
            content than the one that was signed
        """
        if self._verifier is None:
            yield from data
            return
        last = None
        for chunk in data:
            if last is not None:
                yield last
            last = chunk
        for _chunk in rest:
            pass
        self._verify()
        if last is not None:
            yield last

    def _verify(self) -> None:
        try:
            self._verifier.verify()
        except cryptography_exceptions.InvalidSignature as error:
            raise exception.ImageSignatureVerificationException(
                reason=f'image {self._image_id} has another content than the '
                'one that was signed') from error
        LOG.info('The signature of image %s was verified.', self._image_id)
