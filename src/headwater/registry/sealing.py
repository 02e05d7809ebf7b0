"""What is kept so that the registry's file alone does not tell it: sealed with a key that lies beside it.

Knows no table. Sealed is what Headwater has to show to others again (a password for another server), so that no hash of
it would do.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from headwater.errors import Conflict

KEY_FILE = "secrets.key"
"""In the data directory."""
_FORMAT = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealBroken(Conflict):
    """Sealed with another key, or changed since."""


class Seal:
    """AES-256-GCM under a key made from `secret`, which has at least 32 random bytes."""

    def __init__(self, secret: bytes) -> None:
        key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"headwater registry seal").derive(secret)
        self._cipher = AESGCM(key)

    def close(self, content: bytes, label: str) -> bytes:
        """Seal it. Whoever opens it has to give the same `label`: what is sealed for one account opens for no other."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, content, label.encode())

    def open(self, sealed: bytes, label: str) -> bytes:
        """Raises SealBroken."""
        nonce, encrypted = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT or len(nonce) < _NONCE_BYTES:
                raise InvalidTag
            return self._cipher.decrypt(nonce, encrypted, label.encode())
        except InvalidTag:
            raise SealBroken(
                f"this was sealed with another {KEY_FILE} than the one in the data directory: restore that file from "
                "the backup that the registry is from, or enter this anew"
            ) from None
