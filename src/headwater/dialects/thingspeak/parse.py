"""ThingSpeak's texts to values, as forgiving as its real clients need. Pure; knows no socket, channel or clock.

What is taken: payload parts may be empty, names bare digits (`&1=20.5`), values not encoded, and numbers above 8 are
passed over; `docs/thingspeak.md`, "What real clients need", has the reasons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headwater.errors import BadRequest, TooLarge
from headwater.model.entry import FIELD_NUMBERS, EntryUpdate
from headwater.registry.entities import ChannelSettings
from headwater.settings import Settings

_FIELD_OF = {f"field{n}": n for n in FIELD_NUMBERS} | {str(n): n for n in FIELD_NUMBERS}
_OTHERS = {
    "lat": "latitude",
    "latitude": "latitude",
    "long": "longitude",
    "longitude": "longitude",
    "elevation": "elevation",
    "status": "status",
    "created_at": "created_at",
}
_IGNORED_FIELD = re.compile(r"(?:field)?[1-9][0-9]*")
MAX_PARAMETERS = 200
"""Far above anything a client sends; keeps a hostile query from costing more than its bytes."""

# A '+' that was not percent-encoded arrives as a space: "2026-01-02T03:04:05 01:00" means "+01:00".
_LOST_PLUS = re.compile(r"(.*\d\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:?\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """Sizes in bytes of UTF-8; the defaults are thingspeak.com's."""

    max_message_bytes: int = 3_000
    max_field_bytes: int = 255


def write_limits(settings: Settings) -> WriteLimits:
    """The limits as this server is set up."""
    return WriteLimits(settings.thingspeak.max_message_bytes, settings.thingspeak.max_field_bytes)


class JsonNumber(str):
    """The characters of a JSON number: kept as text like every value, echoed as a number."""

    __slots__ = ()


# -- writing ------------------------------------------------------------------------------------------------------


def parse_publish(payload: bytes, limits: WriteLimits) -> EntryUpdate:
    """The payload of an MQTT publish to a channel: `field1=21.5&2=60&status=ok`, percent-encoded or not.

    Raises TooLarge, or BadRequest when it is not UTF-8 or holds none of the known parameters.
    """
    text = _decode(payload, limits)
    fields: dict[int, str] = {}
    others: dict[str, str] | None = None
    for part in text.split("&"):
        name, separator, value = part.partition("=")
        number = _FIELD_OF.get(name)
        if number is not None and separator:
            fields[number] = unquote_plus(value) if "%" in value or "+" in value else value
        elif name in _OTHERS and separator:
            others = others or {}
            others[_OTHERS[name]] = unquote_plus(value)
        elif separator and _IGNORED_FIELD.fullmatch(name):
            others = others or {}  # field9 and above: known, and not kept
    if not fields and others is None:
        raise BadRequest("the payload has none of field1 to field8, lat, long, elevation, status, created_at")
    if len(payload) > limits.max_field_bytes:
        _check_sizes(fields, others or {}, limits)
    return EntryUpdate(fields) if others is None else _with_others(fields, others, UTC)


def parse_field_publish(number: int, payload: bytes, limits: WriteLimits) -> EntryUpdate:
    """The payload of an MQTT publish to one field: the bare value. Raises as `parse_publish`."""
    fields = {number: _decode(payload, limits)}
    _check_sizes(fields, {}, limits)
    return EntryUpdate(fields)


def parse_update(parameters: Mapping[str, str], limits: WriteLimits) -> EntryUpdate:
    """The parameters of `/update`. None of them is required. Raises TooLarge."""
    fields = {_FIELD_OF[name]: str(value) for name, value in parameters.items() if name in _FIELD_OF}
    others = {_OTHERS[name]: str(value) for name, value in parameters.items() if name in _OTHERS}
    _check_sizes(fields, others, limits)
    return _with_others(fields, others, parse_zone(parameters) or UTC)


def json_number_fields(parameters: Mapping[str, str]) -> frozenset[int]:
    """The fields that came as JSON numbers: the immediate answer echoes them as numbers."""
    return frozenset(
        _FIELD_OF[name] for name, value in parameters.items() if name in _FIELD_OF and isinstance(value, JsonNumber)
    )


def _decode(payload: bytes, limits: WriteLimits) -> str:
    if len(payload) > limits.max_message_bytes:
        raise TooLarge(f"the message has {len(payload)} bytes; at most {limits.max_message_bytes} are taken")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise BadRequest("the message is not UTF-8 text") from None


def _check_sizes(fields: Mapping[int, str], others: Mapping[str, str], limits: WriteLimits) -> None:
    named = [(f"field{number}", value) for number, value in fields.items()]
    for name, value in (*named, *others.items()):
        if len(value) * 4 > limits.max_field_bytes and len(value.encode()) > limits.max_field_bytes:
            raise TooLarge(f"{name} has more than {limits.max_field_bytes} bytes")


def _with_others(fields: Mapping[int, str], others: Mapping[str, str], zone: tzinfo) -> EntryUpdate:
    created_at = others.get("created_at")
    return EntryUpdate(
        fields,
        others.get("latitude"),
        others.get("longitude"),
        others.get("elevation"),
        others.get("status"),
        None if created_at is None else parse_time_ns(created_at, zone),
    )


# -- parameters and keys --------------------------------------------------------------------------------------------


def parse_parameters(query: bytes, content_type: str, body: bytes) -> dict[str, str]:
    """Parameters of a request from its query string and its body, the body winning: some clients POST
    everything in the query with an empty body.

    The body is JSON when it says so or begins like an object, else a form, whatever its content type says:
    clients send forms with unrelated ones. Raises BadRequest.
    """
    parameters = _parse_form(query)
    if "json" in content_type or body.lstrip()[:1] == b"{":
        parameters.update(_parse_json(body))
    elif body:
        parameters.update(_parse_form(body))
    return parameters


def _parse_form(form: bytes) -> dict[str, str]:
    try:
        text = form.decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise BadRequest("the parameters are not UTF-8 text") from None
    except ValueError:
        raise BadRequest(f"there are more than {MAX_PARAMETERS} parameters") from None
    return dict(pairs)


def _parse_json(body: bytes) -> dict[str, str]:
    if not body.strip():
        return {}
    try:
        members = json.loads(body, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=str)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(members, dict):
        raise BadRequest("the JSON body is not an object")
    parameters: dict[str, str] = {}
    for name, value in members.items():
        if isinstance(value, bool):
            parameters[name] = "true" if value else "false"
        elif isinstance(value, str):
            if not _is_encodable(value):
                raise BadRequest("the JSON body holds a lone surrogate")
            parameters[name] = value
    return parameters


def _is_encodable(text: str) -> bool:
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
        if header.lower() in (b"thingspeakapikey", b"x-thingspeakapikey"):
            return value.decode("latin-1").strip()
    return None


def parse_channel_settings(parameters: Mapping[str, str]) -> ChannelSettings:
    """The parameters of `POST /channels.json`; what is missing has its default."""
    return ChannelSettings(
        name=parameters.get("name", "").strip(),
        description=parameters.get("description", ""),
        fields={n: parameters[f"field{n}"].strip() for n in FIELD_NUMBERS if parameters.get(f"field{n}", "").strip()},
        latitude=parameters.get("latitude", "").strip() or "0.0",
        longitude=parameters.get("longitude", "").strip() or "0.0",
        elevation=parameters.get("elevation", "").strip(),
        is_public=is_true(parameters.get("public_flag", "")),
        url=parameters.get("url", ""),
        github_url=parameters.get("github_url", ""),
        metadata=parameters.get("metadata", ""),
        tags=tuple(dict.fromkeys(tag.strip() for tag in parameters.get("tags", "").split(",") if tag.strip())),
    )


def is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes", "on")


# -- times and windows --------------------------------------------------------------------------------------------


def parse_zone(parameters: Mapping[str, str]) -> tzinfo | None:
    """The zone that `timezone` or `offset` asks for, or None without either. An unknown name means UTC."""
    name = parameters.get("timezone", "").strip()
    if name:
        try:
            return ZoneInfo(name)
        except (
            ZoneInfoNotFoundError,
            ValueError,
            OSError,
        ):  # OSError: names that are folders of the database
            return UTC
    try:
        return timezone(timedelta(hours=float(parameters["offset"])))
    except (KeyError, ValueError, OverflowError):
        return None


def parse_time_ns(text: str, zone: tzinfo) -> int | None:
    """An ISO 8601 or `YYYY-MM-DD HH:MM:SS` time in nanoseconds since the epoch, or None when it cannot be read."""
    text = text.strip()
    lost_plus = _LOST_PLUS.fullmatch(text)
    if lost_plus:
        text = f"{lost_plus[1]}+{lost_plus[2]}"
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=zone)
        since_epoch = at - _EPOCH
    except (ValueError, OverflowError):
        return None
    return ((since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds) * 1_000


class ReadQuery(NamedTuple):
    """What a read asks for."""

    results: int
    start_ns: int | None
    end_ns: int | None
    zone: tzinfo | None
    with_status: bool
    with_location: bool
    with_metadata: bool


DEFAULT_RESULTS = 100


def parse_read_query(parameters: Mapping[str, str], now_ns: int, max_results: int) -> ReadQuery:
    """The parameters of a read. What cannot be read counts as not given, as upstream."""
    zone = parse_zone(parameters)
    start_ns = _window_start(parameters, now_ns)
    end_ns = None
    if "start" in parameters:
        start_ns = parse_time_ns(parameters["start"], zone or UTC)
    if "end" in parameters:
        last_ns = parse_time_ns(parameters["end"], zone or UTC)
        end_ns = None if last_ns is None else last_ns + 1_000_000_000  # the whole second `end` names is included
    default = DEFAULT_RESULTS if start_ns is None and end_ns is None else max_results
    results = _parse_int(parameters.get("results"))
    return ReadQuery(
        default if results is None else max(0, min(results, max_results)),
        start_ns,
        end_ns,
        zone,
        is_true(parameters.get("status", "")),
        is_true(parameters.get("location", "")),
        is_true(parameters.get("metadata", "")),
    )


def _window_start(parameters: Mapping[str, str], now_ns: int) -> int | None:
    for name, seconds in (("days", 86_400), ("minutes", 60)):
        count = _parse_int(parameters.get(name))
        if count is not None and count > 0:
            return max(now_ns - count * seconds * 1_000_000_000, 0)
    return None


def _parse_int(text: str | None) -> int | None:
    if text is None or len(text) > 12:
        return None
    try:
        return int(text)
    except ValueError:
        return None


def parse_field_number(text: str) -> int | None:
    """`1` or `field1` to 1; None for anything that is no field."""
    return _FIELD_OF.get(text)
