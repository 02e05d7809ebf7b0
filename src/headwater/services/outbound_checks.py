"""What a request to somewhere else may look like: its URL, its headers, its body. Pure.

Error texts name the host and what is wrong; never a query, a password or the value of a header.
"""

from __future__ import annotations

import re

import httpx

from headwater.services.outbound import OutboundRefused, OutboundRequest

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
MAX_URL_LENGTH = 4096
MAX_HEADERS = 32
MAX_HEADER_LENGTH = 4096
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HOST_VALUE = re.compile(r"[0-9A-Za-z._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_OURS = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that say where a request ends and how a connection is used: whoever could set them could send more than one
request."""


def parse_url(text: str) -> httpx.URL:
    """Raises OutboundRefused for anything but http:// or https:// with a host and without user name or password."""
    if len(text) > MAX_URL_LENGTH:
        raise OutboundRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise OutboundRefused("the URL holds blanks or control characters: write a blank as %20")
    try:
        url = httpx.URL(text)
        host, port = url.host, url.port
    except (httpx.InvalidURL, ValueError):
        raise OutboundRefused("the URL cannot be read: check its host and port") from None
    if url.scheme not in ("http", "https") or not host or "\\" in text.partition("?")[0]:
        raise OutboundRefused("the URL must begin with http:// or https:// and a host name")
    if url.userinfo:
        raise OutboundRefused("the URL holds a user name: put it and the password into their own fields")
    if port is not None and not 0 < port < 65_536:
        raise OutboundRefused("the port in the URL must be 1 to 65535")
    return url


def check_request(request: OutboundRequest, max_body_bytes: int) -> httpx.URL:
    """The URL of a request that may be sent as far as its looks go. Raises OutboundRefused."""
    if request.method not in METHODS:
        raise OutboundRefused(f"the method must be one of {', '.join(METHODS)}")
    if len(request.body) > max_body_bytes:
        raise OutboundRefused(
            f"the body has {len(request.body)} bytes; hooks.max_request_bytes allows {max_body_bytes}"
        )
    if len(request.headers) > MAX_HEADERS:
        raise OutboundRefused(f"there are more than {MAX_HEADERS} headers")
    for name, value in request.headers:
        check_header(name, value)
    if sum(name.lower() == "host" for name, _ in request.headers) > 1:
        raise OutboundRefused(
            "the header Host is given twice: a server and what stands before it may heed different ones"
        )
    if not request.username.isprintable() or ":" in request.username or not request.password.isprintable():
        raise OutboundRefused("user name and password hold no control characters, and the user name no colon")
    return parse_url(request.url)


def check_header(name: str, value: str) -> None:
    """Raises OutboundRefused for what is no header, or not the caller's to set."""
    if not _TOKEN.fullmatch(name):
        raise OutboundRefused("the name of a header may have letters, digits and hyphens only")
    if name.lower() in _OURS:
        raise OutboundRefused(f"the header {name} is set by Headwater: leave it out")
    if len(value) > MAX_HEADER_LENGTH or not (value.isprintable() or value.replace("\t", " ").isprintable()):
        raise OutboundRefused(f"the value of the header {name} is too long or holds line breaks or control characters")
    if name.lower() == "host" and not _HOST_VALUE.fullmatch(value):
        raise OutboundRefused("the header Host must be a host name, with a port if need be")
