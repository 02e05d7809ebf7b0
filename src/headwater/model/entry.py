"""An entry: a record seen the ThingSpeak way, as a numbered row of texts: eight, and more where the channel's owner
names more. Pure; knows no wire format.

How it lies in the store: one record of measurement `entry`. `entry_id` is an integer series. A field that reads as a
finite number is a float series (`field1`), so that every dialect can compute with it. The text itself is kept beside
it (`field1.text`) only where the number alone would not give the same characters back (`"20.50"`, `"nan"`, `"on"`), so
a row of plain numbers costs nothing extra. When another dialect overwrites the number, the kept text no longer spells
it and is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from headwater.model.series import SeriesKey

MEASUREMENT = "entry"
ENTRY_ID = "entry_id"
NUMBERING, LAST_ID = "entry.numbering", "last_id"
"""Measurement and field of the last number that was given out, written before entries expire or are deleted: numbers
are not given out again when no entry is left."""
FIELD_NUMBERS = range(1, 9)
"""The fields that every channel has."""
MAX_FIELDS = 256
"""The highest number that a field may have, whatever the settings say."""
LOCATION = ("latitude", "longitude", "elevation")

# A number that `render_number` gives back character by character: 15 digits always survive a double, and below 0.0001
# it writes exponents.
_CANONICAL = re.compile(r"-?(?!0\.0000)(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)


def channel_key(channel_id: int) -> SeriesKey:
    """Where the entries of a channel lie."""
    return SeriesKey(channel_id, MEASUREMENT)


class EntryUpdate(NamedTuple):
    """What a device sends: texts as they came."""

    fields: Mapping[int, str]
    """Field number to text; a number that is missing was not sent."""
    latitude: str | None = None
    longitude: str | None = None
    elevation: str | None = None
    status: str | None = None
    created_at_ns: int | None = None
    """The time the device gives, or None for the time of receipt."""


class Entry(NamedTuple):
    """One numbered row of a channel."""

    entry_id: int
    at_ns: int
    fields: Mapping[int, str]
    latitude: str | None = None
    longitude: str | None = None
    elevation: str | None = None
    status: str | None = None


def parse_number(text: str) -> float | None:
    """The finite number that a text spells, or None. Spaces around it are allowed, as `float` allows them."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def render_number(number: float) -> str:
    """The shortest text that reads as this number; whole numbers without a decimal point."""
    text = repr(number)
    return text[:-2] if text.endswith(".0") else text


def spell(text: str) -> tuple[float | None, bool]:
    """A text's number, and whether the text must be kept because the number alone would read differently."""
    number = parse_number(text)
    if number is None:
        return None, True
    if len(text) <= 15 and _CANONICAL.fullmatch(text) and text != "-0":
        return number, False
    return number, render_number(number) != text
