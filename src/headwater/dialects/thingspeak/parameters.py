"""The parameters and the key of a request, from wherever real clients put them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

from headwater.errors import BadRequest, NotUtf8

MAX_PARAMETERS = 1_000
"""Room for name, unit and display name of as many fields as a channel may have. Far above anything else a client sends;
keeps a hostile query from costing more than its bytes."""


class JsonNumber(str):
    """The characters of a JSON number: kept as text like every value, echoed as a number."""

    __slots__ = ()


def parse_parameters(query: bytes, content_type: str, body: bytes) -> dict[str, str]:
    """Parameters of a request from its query string and its body, the body winning: some clients POST
    everything in the query with an empty body.

    The body is JSON when it says so or begins like an object, else a form, whatever its content type says:
    clients send forms with unrelated ones. Raises BadRequest.
    """
    parameters = parse_form(query)
    if _is_json(content_type, body):
        parameters.update(_parse_json(body))
    elif body:
        parameters.update(parse_form(body))
    return parameters


def is_form(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Whether a body is a form rather than JSON. Header names are in lower case."""
    for name, value in headers:
        if name == b"content-type" and b"json" in value:
            return False
    return not _is_json("", body)


def _is_json(content_type: str, body: bytes) -> bool:
    return "json" in content_type or body.lstrip()[:1] == b"{"


def parse_form(form: bytes) -> dict[str, str]:
    """A query or a form. Raises BadRequest, which is NotUtf8 for bytes that are no text."""
    if form.count(b"&") >= MAX_PARAMETERS:
        raise BadRequest(f"there are more than {MAX_PARAMETERS} parameters")
    parameters: dict[str, str] = {}
    try:
        for part in form.decode().split("&"):
            if part:
                name, _, value = part.partition("=")
                parameters[_decoded(name)] = _decoded(value)
    except UnicodeDecodeError:
        raise NotUtf8("the parameters are not UTF-8 text") from None
    return parameters


def _decoded(text: str) -> str:
    """Most texts have nothing to decode, and this is called for every value of every update."""
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def _parse_json(body: bytes) -> dict[str, str]:
    if not body.strip():
        return {}
    try:
        members = json.loads(body, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=str)
    except UnicodeDecodeError:
        raise NotUtf8("the body is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(members, dict):
        raise BadRequest("the JSON body is not an object")
    parameters: dict[str, str] = {}
    for name, value in members.items():
        if isinstance(value, bool):
            parameters[name] = "true" if value else "false"
        elif isinstance(value, str):
            if not is_encodable(value):
                raise NotUtf8("the JSON body holds a lone surrogate")
            parameters[name] = value
    return parameters


def null_names(body: bytes) -> frozenset[str]:
    """The members of a JSON body that are null, which among parameters are as if not sent. Of a body that was read by
    `parse_parameters` already."""
    if body.lstrip()[:1] != b"{":
        return frozenset()
    members = json.loads(body, parse_int=str)  # of thousands of digits Python makes no number
    return frozenset(name for name, value in members.items() if value is None)


def is_encodable(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_key(parameters: Mapping[str, str], headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key of a request, from any place where real clients put it, without the spaces that some send after it."""
    for name in ("api_key", "key", "apikey"):
        if parameters.get(name, "").strip():
            return parameters[name].strip()
    for header, value in headers:
        if header.lower() in (b"thingspeakapikey", b"x-thingspeakapikey", b"thingspeak-alerts-api-key"):
            return value.decode("latin-1").strip()
    return None


def is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes", "on")


def parse_int(text: str | None) -> int | None:
    """A whole number, or None for anything else."""
    if text is None or len(text) > 12:
        return None
    try:
        return int(text)
    except ValueError:
        return None
