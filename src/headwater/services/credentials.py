"""How the credentials of account devices are kept and checked. Knows no account and no connection.

A generated credential carries more than 80 bits, so its SHA-256 is enough to keep it, and checking costs nothing. One
that somebody chose may be weak, so it is kept as a password is: with a slow hash, checked in threads of their own.
What has been found right once is remembered as a digest under a key that dies with the process: when a thousand
devices come back after a power cut, none of them waits for the slow hash a second time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable

from headwater.registry.keys import hash_secret
from headwater.registry.passwords import Passwords, octets_of

MAX_CREDENTIAL_BYTES = 1024
"""Longer than any credential in any spelling: what is longer is not even hashed."""
MAX_REMEMBERED = 50_000
"""Some 250 bytes each."""

_GENERATED = "sha256:"


def hash_generated(credential: str | bytes) -> str:
    """The text under which a generated credential is kept."""
    return _GENERATED + hash_secret(credential).hex()


class CredentialCheck:
    """Tells whether a credential is the one that is kept.

    Args: `passwords` runs the slow hash (its owner closes it); without it, only generated credentials can be right.
    """

    def __init__(self, passwords: Passwords | None, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._passwords = passwords
        self._max_remembered = max_remembered
        self._digest_key = secrets.token_bytes(32)
        self._remembered: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        """By device: the hash that the credential was right for, and the digest of the credential."""

    def check(self, id_: int, credential: bytes, credential_hash: str) -> bool | Awaitable[bool]:
        """Whether this is the credential of the account device `id_`; an awaitable where the slow hash must decide,
        which raises `TooManyRequests` when too many wait for that already."""
        if not credential or len(credential) > MAX_CREDENTIAL_BYTES:
            return False
        if credential_hash.startswith(_GENERATED):
            return hmac.compare_digest(hash_generated(credential), credential_hash)
        try:
            text = credential.decode()
        except UnicodeDecodeError:
            return False  # nobody can have chosen it
        remembered = self._remembered.get(id_)
        if remembered is not None and remembered[0] == credential_hash:
            self._remembered.move_to_end(id_)
            return hmac.compare_digest(self._digest(text), remembered[1])
        return False if self._passwords is None else self._check_slowly(self._passwords, id_, text, credential_hash)

    async def _check_slowly(self, passwords: Passwords, id_: int, text: str, credential_hash: str) -> bool:
        if not await passwords.verify(text, credential_hash):
            return False
        self._remembered[id_] = credential_hash, self._digest(text)
        self._remembered.move_to_end(id_)
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)
        return True

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(octets_of(text), key=self._digest_key, digest_size=32).digest()
