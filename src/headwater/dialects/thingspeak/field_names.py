"""What a field may be called: `field3`, `3`, and its own name where nothing else has it. Pure.

A channel that has eight fields and takes no names is what almost all are: it has `STANDARD`, and nothing is worked out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import quote, unquote

from headwater.model.entry import FIELD_NUMBERS
from headwater.registry.entities import ChannelSettings

FieldNames: TypeAlias = Mapping[str, int]
"""What a parameter of an update may be called, to the number of the field that it then is."""

_NUMBERED = re.compile(r"(?:field)?[0-9]+")
_LEVEL = re.compile(r"field[1-9][0-9]{0,2}", re.ASCII)
_UNTOUCHED_BY_SCRIPTS = "!'()*"
"""What JavaScript's `encodeURIComponent` leaves as it is, and Python's `quote` does not."""
RESERVED = frozenset(
    {
        *("lat", "latitude", "long", "longitude", "elevation", "status", "created_at", "delta_t"),
        *("api_key", "key", "apikey", "write_api_key", "talkback_key"),
        *("timezone", "offset", "precision", "remove", "headers", "callback", "twitter", "tweet"),
    }
)
"""Parameters that mean something already, so that no field is meant by them whatever its name."""


def _spellings(numbers: Iterable[int]) -> dict[str, int]:
    return {name: number for number in numbers for name in (f"field{number}", str(number))}


STANDARD: FieldNames = _spellings(FIELD_NUMBERS)


def names_of(settings: ChannelSettings) -> FieldNames:
    """What updates of a channel may call its fields; `STANDARD` itself for most channels."""
    numbers = settings.numbers
    if numbers is FIELD_NUMBERS and not settings.takes_names:
        return STANDARD
    names = _spellings(numbers)
    if settings.takes_names:
        names |= {name: number for name, number in _own_names(settings).items() if name not in RESERVED}
    return names


def find_field(settings: ChannelSettings, text: str) -> int | None:
    """The field that a path or a topic means, by number (`field3`, `3`) or by its own name, which may be
    percent-encoded once more; None when the channel has no such field."""
    number = STANDARD.get(text)
    if number is not None:
        return number
    if _NUMBERED.fullmatch(text):
        return _spellings(settings.numbers).get(text)
    own = _own_names(settings)
    return own.get(text, own.get(unquote(text)))


def is_topic_level(text: str) -> bool:
    """Whether a level of a topic could name a field of some channel; bare numbers do not."""
    if _LEVEL.fullmatch(text):
        return True
    return text != "" and not _NUMBERED.fullmatch(text) and "+" not in text and "#" not in text


def is_usual_spelling(level: str, name: str) -> bool:
    """Whether a level is a field's name as it is, or as programs encode it: of all others there are too many, and every
    subscription has its own messages made."""
    return level in (name, quote(name, safe=""), quote(name, safe=_UNTOUCHED_BY_SCRIPTS))


def is_own_name(level: str) -> bool:
    """Whether a level that may name a field does so by the field's own name."""
    return not _NUMBERED.fullmatch(level)


def _own_names(settings: ChannelSettings) -> dict[str, int]:
    """The names that one field alone has and that no number is spelled like."""
    count = Counter(settings.fields.values())
    return {
        name: number for number, name in settings.fields.items() if count[name] == 1 and not _NUMBERED.fullmatch(name)
    }
