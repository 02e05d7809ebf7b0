"""Messages that outlive one redirect: "Channel created." Kept in a signed cookie, never holding a secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

FLASH_COOKIE = "headwater_flash"
_MAX_AGE_S = 60
_MAX_TEXT = 300

FlashKind = Literal["good", "note"]


@dataclass(frozen=True, slots=True)
class Flash:
    """One message for the next page."""

    kind: str
    text: str


class Flashes:
    """Writes a message into an answer and reads it on the next request."""

    def __init__(self, secret: bytes) -> None:
        self._serializer = URLSafeSerializer(
            secret,
            salt="headwater.console.flash",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def put(self, response: Response, text: str, kind: FlashKind = "good", *, is_secure: bool) -> None:
        """Show `text` on the next page this browser opens."""
        response.set_cookie(
            FLASH_COOKIE,
            str(self._serializer.dumps([kind, text[:_MAX_TEXT]])),
            max_age=_MAX_AGE_S,
            httponly=True,
            samesite="lax",
            secure=is_secure,
        )

    def take(self, request: Request) -> Flash | None:
        """The message that waits for this browser; whoever shows it calls `clear`."""
        sealed = request.cookies.get(FLASH_COOKIE)
        if not sealed:
            return None
        try:
            contents = self._serializer.loads(sealed)
        except BadData:
            return None
        match contents:
            case [str(kind), str(text)]:
                return Flash(kind, text)
        return None

    def clear(self, response: Response) -> None:
        """Forget the message."""
        response.delete_cookie(FLASH_COOKIE, httponly=True, samesite="lax")
