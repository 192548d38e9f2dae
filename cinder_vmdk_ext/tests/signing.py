# SPDX-License-Identifier: Apache-2.0
"""Signs images, as a user does before an upload."""

import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa


class Signer:
    """A key, and the certificate of it as the key manager would return it."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key()

    def properties(self, content: bytes) -> dict[str, str]:
        """The properties of an image that has this content."""
        signed = self._key.sign(content, padding.PSS(
            padding.MGF1(hashes.SHA256()),
            padding.PSS.MAX_LENGTH), hashes.SHA256())
        return {'img_signature': base64.b64encode(signed).decode(),
                'img_signature_hash_method': 'SHA-256',
                'img_signature_key_type': 'RSA-PSS',
                'img_signature_certificate_uuid': 'certificate'}
