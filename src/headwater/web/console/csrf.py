"""Proof that a form was sent from the console's own page. Knows headers and tokens, not sessions.

Two guards, and a request must pass both: what the browser says about where the request comes from (`Sec-Fetch-Site`,
`Origin`), and a token in the form that only a page of this server could have put there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from headwater.errors import NotAuthorized

FORM_FIELD = "csrf"
_OWN_SITES = frozenset({"same-origin", "none"})
_REFUSED = (
    "This form did not come from a page of this server, or the page is too old. Go back, reload it and try again."
)


class Csrf:
    """Makes and checks the tokens of one server."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"headwater.console.csrf", hashlib.sha256)

    def token(self, binding: str) -> str:
        """The token for one binding: a session id, or the visitor cookie before sign-in."""
        return hmac.digest(self._key, binding.encode(), hashlib.sha256).hex()

    def check(self, headers: Mapping[str, str], binding: str, token: str) -> None:
        """Raise NotAuthorized unless both guards are passed."""
        if not is_own_origin(headers):
            raise NotAuthorized(_REFUSED)
        if not binding or not hmac.compare_digest(self.token(binding).encode(), token.encode()):
            raise NotAuthorized(_REFUSED)


def is_own_origin(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that this server's own page sent the request.

    Only host and port of `Origin` are compared: behind a proxy that ends TLS, the scheme seen here is not the
    browser's. Clients that send neither header are no browsers and are left to the token.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False
