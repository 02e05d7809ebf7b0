"""Who a browser is signed in as. Knows cookies' contents, not cookies or pages.

A session lives in the browser: account, epoch and end, signed. The server adds two ways to end it early: the account's
`session_epoch` (a new password ends every session of the account) and a list of sessions that signed out. That list is
in memory only; after a restart a copied cookie of a signed-out session would count again until its end, and a new
password stops it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itsdangerous import BadData, URLSafeSerializer

from headwater.registry.entities import Account

if TYPE_CHECKING:
    from headwater.services.access import Access


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one browser."""

    id: str
    account_id: int
    epoch: int
    ends_at_s: int


class Sessions:
    """Issues sessions and says whether one still counts."""

    def __init__(self, secret: bytes, session_s: int, access: Access, clock: Callable[[], float]) -> None:
        self._serializer = URLSafeSerializer(
            secret,
            salt="headwater.console.session",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        self._session_s = session_s
        self._access = access
        self._clock = clock
        self._signed_out: dict[str, int] = {}

    def open(self, account: Account) -> Session:
        """A new session for somebody who has just proved who they are."""
        ends_at_s = int(self._clock()) + self._session_s
        return Session(secrets.token_urlsafe(18), account.id, account.session_epoch, ends_at_s)

    def seal(self, session: Session) -> str:
        """The cookie text for a session."""
        return str(self._serializer.dumps([session.id, session.account_id, session.epoch, session.ends_at_s]))

    def read(self, sealed: str | None) -> Session | None:
        """The session of a cookie text, or None when it was not sealed by this server."""
        if not sealed:
            return None
        try:
            contents = self._serializer.loads(sealed)
        except BadData:
            return None
        match contents:
            case [str(session_id), int(account_id), int(epoch), int(ends_at_s)]:
                return Session(session_id, account_id, epoch, ends_at_s)
        return None

    def account_of(self, session: Session | None) -> Account | None:
        """Whom a session stands for now, or None when it has ended in any way."""
        if session is None or session.id in self._signed_out or self.remaining_s(session) <= 0:
            return None
        account = self._access.account(session.account_id)
        return account if account is not None and account.session_epoch == session.epoch else None

    def remaining_s(self, session: Session) -> float:
        """Seconds until a session runs out by itself."""
        return session.ends_at_s - self._clock()

    def close(self, session: Session) -> None:
        """End a session now, in whatever browser its cookie is."""
        now_s = self._clock()
        self._signed_out = {key: ends for key, ends in self._signed_out.items() if ends > now_s}
        self._signed_out[session.id] = session.ends_at_s
