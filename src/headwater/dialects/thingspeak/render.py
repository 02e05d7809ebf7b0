"""Values to ThingSpeak's answers: compact JSON with keys in production order. Pure; knows no socket and no key.

The official Arduino library finds values by searching for bytes such as `"status":"`: so no space after a colon, and
field and location values are JSON strings or null. Ids are numbers; times have whole seconds and `Z`, or a numeric
offset when a zone was asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec

from headwater.dialects.thingspeak.read_query import ReadQuery
from headwater.model.entry import FIELD_NUMBERS, Entry
from headwater.registry.entities import Account, Channel, ChannelSettings

Json = dict[str, Any]
_SECONDS_END = len("2026-01-02T03:04:05")


def to_json(value: object) -> bytes:
    return msgspec.json.encode(value)


def render_time(at_ns: int, zone: tzinfo | None = None, precision: int = 0) -> str:
    """Nanoseconds since the epoch as ThingSpeak writes times; with so many decimals of the second."""
    text = render_datetime(datetime.fromtimestamp(at_ns // 1_000_000_000, UTC), zone)
    return f"{text[:_SECONDS_END]}{render_fraction(at_ns, precision)}{text[_SECONDS_END:]}" if precision else text


def render_fraction(at_ns: int, precision: int) -> str:
    """The decimals of the second, with their point; cut off, not rounded: no time is shown that is not yet."""
    return f".{at_ns % 1_000_000_000:09d}"[: precision + 1] if precision else ""


def render_datetime(at: datetime, zone: tzinfo | None = None) -> str:
    """As `render_time`."""
    if zone is None:
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return at.astimezone(zone).isoformat(timespec="seconds")


# -- entries ------------------------------------------------------------------------------------------------------


def render_update(
    channel_id: int,
    entry: Entry,
    zone: tzinfo | None = None,
    numbers: Collection[int] = frozenset(),
    shown: Iterable[int] = FIELD_NUMBERS,
    precision: int = 0,
) -> Json:
    """The entry as `/update.json` answers it and as MQTT subscribers get it.

    `numbers` are the fields that came as JSON numbers and are echoed as such; `shown` are those that the channel has.
    """
    fields = {f"field{n}": _echo(entry.fields.get(n), n in numbers) for n in shown}
    return {
        "channel_id": channel_id,
        "created_at": render_time(entry.at_ns, zone, precision),
        "entry_id": entry.entry_id,
        **fields,
        **_location(entry),
        "status": entry.status,
    }


def _echo(text: str | None, is_number: bool) -> str | msgspec.Raw | None:
    return msgspec.Raw(text.encode()) if is_number and text is not None else text


def _location(entry: Entry) -> Json:
    return {"latitude": entry.latitude, "longitude": entry.longitude, "elevation": entry.elevation}


def render_feed_channel(channel: Channel, last_entry_id: int, query: ReadQuery) -> Json:
    """The channel as the head of a feed: empty parts are left out, except the location."""
    settings = channel.settings
    head: Json = {"id": channel.id, "name": settings.name}
    if settings.description:
        head["description"] = settings.description
    head |= {"latitude": settings.latitude, "longitude": settings.longitude}
    head |= _field_names(settings.fields)
    head |= {
        "created_at": render_datetime(channel.created_at, query.zone),
        "updated_at": render_datetime(channel.updated_at, query.zone),
    }
    if settings.elevation:
        head["elevation"] = settings.elevation
    if query.with_metadata:
        head |= ({"metadata": settings.metadata} if settings.metadata else {}) | _units_and_labels(settings)
    head["last_entry_id"] = last_entry_id or None
    return head


def _field_names(fields: Mapping[int, str]) -> Json:
    return {f"field{number}": fields[number] for number in sorted(fields)}


def _units_and_labels(settings: ChannelSettings) -> Json:
    """What no ThingSpeak client knows: shown only where the owner set it."""
    extras = {"units": _field_names(settings.units), "labels": _field_names(settings.labels)}
    return {name: texts for name, texts in extras.items() if texts}


# -- channels -----------------------------------------------------------------------------------------------------


def render_channel(channel: Channel, last_entry_id: int, *, with_keys: bool, username: str | None = None) -> Json:
    """The channel's settings, in the order of thingspeak.com; keys, units and labels for its owner only, and whose it
    is where channels of several people are listed."""
    settings = channel.settings
    rendered: Json = {
        "id": channel.id,
        "name": settings.name or None,
        "description": settings.description or None,
        "latitude": settings.latitude or None,
        "longitude": settings.longitude or None,
        "created_at": render_datetime(channel.created_at),
        "elevation": settings.elevation or None,
        "last_entry_id": last_entry_id or None,
        "public_flag": settings.is_public,
        "url": settings.url or None,
        "ranking": _ranking(channel),
        **({} if username is None else {"username": username}),
        "metadata": settings.metadata or None,
        "license_id": 0,
        "github_url": settings.github_url or None,
        "tags": [{"id": zlib.crc32(tag.encode()) & 0x7FFFFFFF, "name": tag} for tag in settings.tags],
    }
    if with_keys:
        rendered |= _units_and_labels(settings) | ({"fields_by_name": True} if settings.takes_names else {})
        rendered["api_keys"] = [{"api_key": key.key, "write_flag": key.allows_write} for key in channel.api_keys]
    return rendered


def render_user(account: Account, *, is_themselves: bool) -> Json:
    """A person as others see them, and the e-mail address to them alone. A web site and a biography are not kept."""
    rendered: Json = {"id": account.id, "login": account.name, "created_at": render_datetime(account.created_at)}
    if is_themselves:
        rendered |= {"email": account.email or None, "website": None, "bio": None}
    return rendered


def _ranking(channel: Channel) -> int:
    """How completely a channel is described; the weights are those of ThingSpeak's open-source server."""
    settings = channel.settings
    has_location = settings.latitude not in ("", "0.0") and settings.longitude not in ("", "0.0")
    weights = (
        (settings.name, 15),
        (settings.description, 20),
        (has_location, 15),
        (settings.url, 15),
        (settings.tags, 20),
    )
    return sum(weight for present, weight in weights if present)
