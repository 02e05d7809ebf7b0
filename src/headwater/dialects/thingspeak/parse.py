"""ThingSpeak's texts to values, as forgiving as its real clients need. Pure; knows no socket, channel or clock.

What is taken: payload parts may be empty, names bare digits (`&1=20.5`), values not encoded, and numbers that the
channel does not have are passed over; `docs/thingspeak.md`, "What real clients need", has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from urllib.parse import unquote_plus

from headwater.dialects.thingspeak.field_names import STANDARD, FieldNames
from headwater.dialects.thingspeak.parameters import JsonNumber, is_true
from headwater.dialects.thingspeak.times import parse_time_ns, parse_zone
from headwater.errors import BadRequest, TooLarge
from headwater.model.entry import LOCATION, EntryUpdate
from headwater.registry.entities import ChannelSettings
from headwater.services.channels import field_texts
from headwater.services.entry_editing import EntryChange
from headwater.settings import Settings

_OTHERS = {
    "lat": "latitude",
    "latitude": "latitude",
    "long": "longitude",
    "longitude": "longitude",
    "elevation": "elevation",
    "status": "status",
    "created_at": "created_at",
}
OTHER_NAMES = tuple(_OTHERS)
"""Every parameter of an update that is no field."""
_IGNORED_FIELD = re.compile(r"(?:field)?[1-9][0-9]*")

_SETTINGS = {"public_flag": "is_public", "fields_by_name": "takes_names"}
"""What a parameter is called here, where that differs."""
_SETTING_NAMES = {
    *("name", "description", "latitude", "longitude", "elevation"),
    *("public_flag", "url", "github_url", "metadata", "tags", "fields_by_name"),
}


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """Sizes in bytes of UTF-8; the defaults are thingspeak.com's."""

    max_message_bytes: int = 3_000
    max_field_bytes: int = 255


def write_limits(settings: Settings) -> WriteLimits:
    """The limits as this server is set up."""
    return WriteLimits(settings.thingspeak.max_message_bytes, settings.thingspeak.max_field_bytes)


# -- writing ------------------------------------------------------------------------------------------------------


def parse_publish(payload: bytes, limits: WriteLimits, names: FieldNames = STANDARD) -> EntryUpdate:
    """The payload of an MQTT publish to a channel: `field1=21.5&2=60&status=ok`, percent-encoded or not. `names` are
    those of the channel's fields.

    Raises TooLarge, or BadRequest when it is not UTF-8 or holds none of the known parameters.
    """
    text = _decode(payload, limits)
    fields: dict[int, str] = {}
    others: dict[str, str] | None = None
    for part in text.split("&"):
        name, separator, value = part.partition("=")
        number = names.get(name)
        if number is not None and separator:
            fields[number] = unquote_plus(value) if "%" in value or "+" in value else value
        elif name in _OTHERS and separator:
            others = others or {}
            others[_OTHERS[name]] = unquote_plus(value)
        elif separator and _IGNORED_FIELD.fullmatch(name):
            others = others or {}  # a number that the channel does not have: known, and not kept
        elif separator and names is not STANDARD and (number := names.get(unquote_plus(name))) is not None:
            fields[number] = unquote_plus(value)  # a name of a field's own, encoded
    if not fields and others is None:
        own = "" if names is STANDARD else " (or another field of the channel)"
        raise BadRequest(f"the payload has none of field1 to field8{own}, lat, long, elevation, status, created_at")
    if len(payload) > limits.max_field_bytes:
        _check_sizes(fields, others or {}, limits)
    return EntryUpdate(fields) if others is None else _with_others(fields, others, UTC)


def parse_field_publish(number: int, payload: bytes, limits: WriteLimits) -> EntryUpdate:
    """The payload of an MQTT publish to one field: the bare value. Raises as `parse_publish`."""
    fields = {number: _decode(payload, limits)}
    _check_sizes(fields, {}, limits)
    return EntryUpdate(fields)


def parse_update(parameters: Mapping[str, str], limits: WriteLimits, names: FieldNames = STANDARD) -> EntryUpdate:
    """The parameters of `/update`. None of them is required. `names` are those of the channel's fields. Raises
    TooLarge."""
    fields: dict[int, str] = {}
    others: dict[str, str] = {}
    for name, value in parameters.items():
        number = names.get(name)
        if number is not None:
            fields[number] = str(value)
        elif name in _OTHERS:
            others[_OTHERS[name]] = str(value)
    _check_sizes(fields, others, limits)
    return _with_others(fields, others, parse_zone(parameters) or UTC) if others else EntryUpdate(fields)


def parse_entry_change(
    parameters: Mapping[str, str], nulls: Collection[str], limits: WriteLimits, names: FieldNames = STANDARD
) -> EntryChange:
    """The parameters of a change of an entry: those of `/update`; what is null, or named in `remove`, goes. `names` are
    those of the channel's fields.

    Raises TooLarge, and BadRequest for what cannot be changed, and when nothing is named.
    """
    if "created_at" in parameters or "created_at" in nulls:
        raise BadRequest("created_at of an entry cannot change: delete the entry, and send it anew with another time.")
    update = parse_update(parameters, limits, names)
    texts: dict[str, str | None] = {f"field{number}": text for number, text in update.fields.items()}
    texts |= {name: text for name in (*LOCATION, "status") if (text := getattr(update, name)) is not None}
    listed = [name.strip() for name in parameters.get("remove", "").split(",") if name.strip()]
    for name in (*listed, *sorted(nulls)):
        number = names.get(name)
        known = _OTHERS.get(name) if number is None else f"field{number}"
        if known is None or known == "created_at":
            if name in nulls:
                continue  # a parameter that means nothing here
            raise BadRequest(f"{name[:32]} in remove is no value of an entry: name field1, status or latitude.")
        if texts.get(known) is not None:
            raise BadRequest(f"{known} is both given and to be removed: send one of the two.")
        texts[known] = None
    if not texts:
        raise BadRequest(
            "Name what is to change: a field, latitude, longitude, elevation or status, or them in remove."
        )
    return EntryChange(texts)


def json_number_fields(parameters: Mapping[str, str], names: FieldNames = STANDARD) -> frozenset[int]:
    """The fields that came as JSON numbers: the immediate answer echoes them as numbers."""
    kept = {names[name]: value for name, value in parameters.items() if name in names}  # as `parse_update`
    return frozenset(number for number, value in kept.items() if isinstance(value, JsonNumber))


def _decode(payload: bytes, limits: WriteLimits) -> str:
    if len(payload) > limits.max_message_bytes:
        raise TooLarge(f"the message has {len(payload)} bytes; at most {limits.max_message_bytes} are taken")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise BadRequest("the message is not UTF-8 text") from None


def _check_sizes(fields: Mapping[int, str], others: Mapping[str, str], limits: WriteLimits) -> None:
    surely_fits = limits.max_field_bytes // 4  # a character has four bytes at most
    if all(len(value) <= surely_fits for value in (*fields.values(), *others.values())):
        return
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


# -- channels ---------------------------------------------------------------------------------------------------


def parse_channel_settings(parameters: Mapping[str, str]) -> ChannelSettings:
    """The parameters of `POST /channels.json`; what is missing has its default."""
    return ChannelSettings(
        name=parameters.get("name", "").strip(),
        description=parameters.get("description", ""),
        fields=field_texts(parameters, "field", {}),
        latitude=parameters.get("latitude", "").strip() or "0.0",
        longitude=parameters.get("longitude", "").strip() or "0.0",
        elevation=parameters.get("elevation", "").strip(),
        is_public=is_true(parameters.get("public_flag", "")),
        url=parameters.get("url", ""),
        github_url=parameters.get("github_url", ""),
        metadata=parameters.get("metadata", ""),
        tags=tuple(dict.fromkeys(tag.strip() for tag in parameters.get("tags", "").split(",") if tag.strip())),
        units=field_texts(parameters, "unit", {}),
        labels=field_texts(parameters, "label", {}),
        takes_names=is_true(parameters.get("fields_by_name", "")),
    )


def parse_changed_settings(parameters: Mapping[str, str], before: ChannelSettings) -> ChannelSettings:
    """The parameters of `PUT /channels/<id>.json`: what is not named stays as it was; an empty field has no name."""
    given = parse_channel_settings(parameters)
    names = _SETTING_NAMES & parameters.keys()
    changed = {_SETTINGS.get(name, name): getattr(given, _SETTINGS.get(name, name)) for name in names}
    return replace(
        before,
        fields=field_texts(parameters, "field", before.fields),
        units=field_texts(parameters, "unit", before.units),
        labels=field_texts(parameters, "label", before.labels),
        **changed,
    )
