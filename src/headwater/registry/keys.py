"""Secrets that Headwater makes for its users, and the hash under which they are kept. Knows no table.

Every generated secret carries more than 80 bits from the operating system's generator, so a plain SHA-256 is
enough to keep it: there is no dictionary to try. Passwords that people choose go through `passwords.py`
instead.
"""

from __future__ import annotations

import hashlib
import secrets
import string

API_KEY_LENGTH = 16
CLIENT_ID_LENGTH = 23  # the longest client id that every MQTT 3.1.1 server must take [MQTT-3.1.3-5]
DEVICE_PASSWORD_LENGTH = 24
ACCOUNT_TOKEN_BYTES = 32  # 43 characters

_UPPER = string.digits + string.ascii_uppercase
_MIXED = string.digits + string.ascii_letters


def generate_api_key() -> str:
    """ThingSpeak's form of every key: 16 characters of 0-9A-Z."""
    return _pick(_UPPER, API_KEY_LENGTH)


def generate_client_id() -> str:
    """Client id and user name of an MQTT device: 23 letters and digits."""
    return _pick(_MIXED, CLIENT_ID_LENGTH)


def generate_device_password() -> str:
    """Password of an MQTT device: 24 letters and digits."""
    return _pick(_MIXED, DEVICE_PASSWORD_LENGTH)


def generate_account_token() -> str:
    """A token with all rights of an account: 43 characters that are safe in URLs and headers."""
    return secrets.token_urlsafe(ACCOUNT_TOKEN_BYTES)


def hash_secret(secret: str | bytes) -> bytes:
    """SHA-256 of a secret. Takes any text, also what is no valid Unicode: that simply matches nothing."""
    octets = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    return hashlib.sha256(octets).digest()


def _pick(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
