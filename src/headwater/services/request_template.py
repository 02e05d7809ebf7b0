"""A stored request with places to be filled: `%%channel_7_field_1%%` in URL, headers and body. Pure.

A value comes from whoever may write to the channel, so it is written in the manner of the place that it goes to: it can
change what is said there, but not to whom, and begin nothing new.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from headwater.errors import BadRequest
from headwater.services.checks import check_text
from headwater.services.outbound import OutboundFailed, OutboundRequest
from headwater.services.outbound_checks import MAX_URL_LENGTH, check_request
from headwater.services.parse_string import check_parse_string

METHODS = ("GET", "POST", "PUT", "DELETE")
HTTP_VERSIONS = ("1.0", "1.1")
MAX_HEADERS = 16
MAX_TEXT_LENGTH = 1000
MAX_BODY_LENGTH = 16_384
MAX_PLACES = 20
_PLACE = re.compile(r"%%([A-Za-z][A-Za-z0-9_]{0,63})%%")
_OF_CHANNEL = re.compile(r"channel_([0-9]{1,10})_field_?([0-9]{1,3})")
_FORM_LIKE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*=")
_BEFORE_PATH = re.compile(r"[^/?#]*//[^/?#]*|[^/?#]*")


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What somebody entered. Only `url` must be there."""

    url: str = field(repr=False)
    method: str = "GET"
    http_version: str = "1.1"
    """Kept because ThingHTTP has it; requests are sent as 1.1, which every 1.0 server understands."""
    username: str = ""
    password: str = field(default="", repr=False)
    content_type: str = ""
    host: str = ""
    """Sent as the header `Host` in place of the URL's."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: str = field(default="", repr=False)
    parse_string: str = ""

    def places(self) -> set[str]:
        """The names of the places to be filled."""
        texts: Iterable[str] = (self.url, self.body, *(value for _, value in self.headers))
        return {name for text in texts for name in _PLACE.findall(text)}

    def fields(self) -> dict[str, tuple[int, int]]:
        """Those that stand for the last value of a field: channel id and number of the field."""
        matches = {name: _OF_CHANNEL.fullmatch(name) for name in self.places()}
        return {name: (int(match[1]), int(match[2])) for name, match in matches.items() if match}


def check_template(template: RequestTemplate, max_body_bytes: int = MAX_BODY_LENGTH) -> None:
    """Raises BadRequest for what could never be sent. Whether its target may be called is seen when it is."""
    if template.method not in METHODS:
        raise BadRequest(f"the method must be one of {', '.join(METHODS)}")
    if template.http_version not in HTTP_VERSIONS:
        raise BadRequest(f"the HTTP version must be one of {', '.join(HTTP_VERSIONS)}")
    check_text("the URL", template.url, MAX_URL_LENGTH)
    for what, text in (
        ("the user name", template.username),
        ("the password", template.password),
        ("the content type", template.content_type),
        ("the host", template.host),
    ):
        check_text(what, text, MAX_TEXT_LENGTH)
    check_text("the body", template.body, MAX_BODY_LENGTH, lines=True)
    if len(template.headers) > MAX_HEADERS:
        raise BadRequest(f"a request may have at most {MAX_HEADERS} headers")
    if len(template.places()) > MAX_PLACES:
        raise BadRequest(f"a request may have at most {MAX_PLACES} different places to be filled")
    authority = _BEFORE_PATH.match(template.url)
    if authority is not None and "%%" in authority[0]:
        raise BadRequest("values can be filled in behind the host only: in the path and the query of the URL")
    check_parse_string(template.parse_string)
    try:
        check_request(fill(template, dict.fromkeys(template.places(), "0")), max_body_bytes)
    except OutboundFailed as error:
        raise BadRequest(str(error)) from None


def fill(template: RequestTemplate, values: Mapping[str, str]) -> OutboundRequest:
    """The request with these values; a place that has none stays as it is."""
    headers = [(name, _filled(value, values, _for_header)) for name, value in template.headers]
    if template.content_type:
        headers.append(("Content-Type", template.content_type))
    if template.host:
        headers.append(("Host", template.host))
    content_type = template.content_type or next((v for n, v in headers if n.lower() == "content-type"), "")
    url, hash_sign, fragment = template.url.partition("#")
    return OutboundRequest(
        method=template.method,
        url=_filled(url, values, _for_url) + hash_sign + fragment,
        headers=tuple(headers),
        body=_filled(template.body, values, _for_body(content_type.lower() or _type_like(template.body))).encode(),
        username=template.username,
        password=template.password,
    )


def _filled(text: str, values: Mapping[str, str], write: Callable[[str], str]) -> str:
    return _PLACE.sub(lambda place: write(values[place[1]]) if place[1] in values else place[0], text)


def _for_url(value: str) -> str:
    """One part of a path, or one value of a query. Dots alone would lead to another path."""
    return "" if not value.strip(".") else quote(value, safe="")


def _for_header(value: str) -> str:
    """One line, of what a header may hold."""
    return "".join(character if character.isprintable() else " " for character in value)


def _type_like(body: str) -> str:
    """What a body is whose type nobody told, by how it begins."""
    if body.lstrip()[:1] in ("{", "["):
        return "json"
    return "x-www-form-urlencoded" if _FORM_LIKE.match(body) else ""


def _for_body(content_type: str) -> Callable[[str], str]:
    """How a value is written into a body of this type."""
    if "json" in content_type:
        return lambda value: json.dumps(value, ensure_ascii=False)[1:-1]
    if "x-www-form-urlencoded" in content_type:
        return quote_plus
    if "xml" in content_type or "html" in content_type:
        return html.escape
    return str
