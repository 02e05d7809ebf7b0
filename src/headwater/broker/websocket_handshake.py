"""Which HTTP requests ask for MQTT over WebSocket, and what they are answered. Does no I/O.

The rules are those of RFC 6455 section 4.2, kept by `websockets`, and of MQTT 5.0 section 6; what is decided here is
which paths, subprotocols and origins are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, NegotiationError
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from headwater.setting_kinds import ANY_ORIGIN, parse_origin

PATHS = ("/mqtt", "/ws")
"""Nothing else is there."""
SHARED_PATH = "/"
"""Here only a request that offers the subprotocol is meant for us."""
SUBPROTOCOLS = (Subprotocol("mqtt"), Subprotocol("mqttv3.1"))
"""Best first. [MQTT-6.0.0-3, MQTT-6.0.0-4]; the second is what clients of MQTT 3.1 offered, and many offer still."""

_READ_HEADERS = frozenset({"host", "origin", "connection", "upgrade"})
_READ_PREFIX = "sec-websocket-"

RawHeaders = Iterable[tuple[bytes, bytes]]


def is_for_mqtt(path: str, raw_headers: RawHeaders) -> bool:
    """Whether a request for an upgrade to WebSocket is meant for MQTT."""
    if path in PATHS:
        return True
    if path != SHARED_PATH:
        return False
    try:
        return not set(SUBPROTOCOLS).isdisjoint(_offered(_headers(raw_headers)))
    except InvalidHandshake:
        return False


def answer_handshake(path: str, http_version: str, raw_headers: RawHeaders, origins: Collection[str]) -> Response:
    """The answer to such a request: status 101, or one that says why not.

    Args: `origins` are those that `setting_kinds.parse_origin` gives.
    """
    handshake = ServerProtocol(subprotocols=SUBPROTOCOLS, select_subprotocol=_select_subprotocol)
    try:
        headers = _headers(raw_headers)
    except InvalidHandshake:
        return handshake.reject(HTTPStatus.BAD_REQUEST, "A header of the request is malformed.\n")
    if not _may_come_from(headers, origins):
        return handshake.reject(HTTPStatus.FORBIDDEN, "Pages of this origin may not connect here.\n")
    return handshake.accept(Request(path, headers, "GET", f"HTTP/{http_version}"))


def _headers(raw_headers: RawHeaders) -> Headers:
    """Those that matter here. Raises InvalidHandshake for a value that no header may have."""
    headers = Headers()
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("latin-1").lower()
        if name in _READ_HEADERS or name.startswith(_READ_PREFIX):
            headers[name] = raw_value.decode("latin-1")
    return headers


def _offered(headers: Headers) -> list[Subprotocol]:
    values = headers.get_all("Sec-WebSocket-Protocol")
    return [subprotocol for value in values for subprotocol in parse_subprotocol(value)]


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:  # the standard wants it offered; many small clients do not, and mean nothing else
        return None
    for subprotocol in SUBPROTOCOLS:
        if subprotocol in offered:
            return subprotocol
    raise NegotiationError("offer the subprotocol mqtt")


def _may_come_from(headers: Headers, origins: Collection[str]) -> bool:
    """Browsers always say which page connects; other clients need not, and can say what they like."""
    given = headers.get_all("Origin")
    if not given or ANY_ORIGIN in origins:
        return True
    try:
        origin = parse_origin(given[0])
    except ValueError:
        return False
    if len(given) > 1 or origin == ANY_ORIGIN:
        return False
    return origin in origins or _is_own(origin, headers.get_all("Host"))


def _is_own(origin: str, hosts: Sequence[str]) -> bool:
    """Whether the page came from where it connects to."""
    parts = urlsplit(origin)
    try:
        return len(hosts) == 1 and origin == parse_origin(f"{parts.scheme}://{hosts[0]}")
    except ValueError:
        return False
