"""Fills what an entry says into the texts of actions: `%%field1%%`, `%%status%%`. Pure.

What a device sent is data wherever it goes: it cannot end a JSON text, add a parameter to a URL or a header to a
request.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import msgspec

from headwater.model.entry import FIELD_NUMBERS, Entry

NAMES = (
    *(f"field{number}" for number in FIELD_NUMBERS),
    *("status", "latitude", "longitude", "elevation", "entry_id", "created_at"),
    *("channel_id", "channel_name", "rule_name"),
)
"""Those that every channel has; one that has more fields has theirs too."""
MARK = "%%"
_PLACEHOLDER = re.compile("%%(" + "|".join(NAMES) + "|field[1-9][0-9]{0,2})%%")
_FORM_LIKE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*=")

Escape = Callable[[str], str]


class Occasion(NamedTuple):
    """What a rule runs for."""

    rule_name: str
    entry: Entry | None = None
    """None: a time, or silence in a channel that never had an entry."""
    channel_id: int | None = None
    channel_name: str = ""


def fill(template: str, occasion: Occasion, escape: Escape = str) -> str:
    """The template with values for the placeholders, each escaped; nothing where there is no value. What is no
    placeholder stays as it is."""
    return _PLACEHOLDER.sub(lambda found: escape(_value(found[1], occasion)), template)


def fill_url(template: str, occasion: Occasion) -> str:
    """A URL with values in its path and its query."""
    path, mark, query = template.partition("?")
    return fill(path, occasion, path_escape) + mark + fill(query, occasion, url_escape)


def url_escape(value: str) -> str:
    return quote(value, safe="")


def path_escape(value: str) -> str:
    """For one part of a path. Dots alone would lead out of it."""
    return url_escape(value) if value.strip(".") else ""


def form_escape(value: str) -> str:
    return quote_plus(value)


def json_escape(value: str) -> str:
    """For the inside of a JSON text, and as it is for a number."""
    return msgspec.json.encode(value).decode()[1:-1]


def line_escape(value: str) -> str:
    """For one line of what can be printed: headers, subjects, commands. No-break and other odd blanks become plain."""
    return value if value.isprintable() else "".join(one if one.isprintable() else " " for one in value)


def escape_for(content_type: str) -> Escape:
    """What a body of this type needs."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return json_escape
    if kind.endswith(("/xml", "+xml", "/html")):
        return html.escape
    return form_escape if kind == "application/x-www-form-urlencoded" else str


def escape_like(template: str) -> Escape:
    """What a payload needs whose type nobody tells: by how its template begins, JSON, a form (`field1=…`), or plain."""
    if template.lstrip()[:1] in ("{", "["):
        return json_escape
    return form_escape if _FORM_LIKE.match(template) else str


def _value(name: str, occasion: Occasion) -> str:
    entry = occasion.entry
    if name == "rule_name":
        return occasion.rule_name
    if name == "channel_id":
        return "" if occasion.channel_id is None else str(occasion.channel_id)
    if name == "channel_name":
        return occasion.channel_name
    if entry is None:
        return ""
    if name == "entry_id":
        return str(entry.entry_id)
    if name == "created_at":
        return datetime.fromtimestamp(entry.at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if name.startswith("field"):
        return entry.fields.get(int(name.removeprefix("field")), "")
    return getattr(entry, name) or ""
