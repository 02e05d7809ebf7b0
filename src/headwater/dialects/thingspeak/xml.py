"""ThingSpeak's answers as XML: the same values as the JSON, in the shape that Ruby on Rails gives them. Pure.

Names have dashes. Whole numbers, times and locations say their type; what is null says so (`nil="true"`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from xml.sax.saxutils import escape

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_TIMES = frozenset({"created-at", "updated-at", "executed-at"})
_DECIMALS = frozenset({"latitude", "longitude", "elevation"})
_UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold, not even escaped."""
_SINGULAR = {"feeds": "feed", "channels": "channel", "tags": "tag", "api-keys": "api-key", "commands": "command"}


def to_xml(root: str, value: Mapping[str, Any] | Collection[Mapping[str, Any]]) -> bytes:
    """A document of what the JSON answer holds."""
    return (_DECLARATION + "\n".join(_lines(root, value, "")) + "\n").encode()


def _lines(key: str, value: Any, indent: str) -> list[str]:
    name = key.replace("_", "-")
    if value is None:
        return [f'{indent}<{name}{_type_of(name, value)} nil="true"/>']
    if isinstance(value, Mapping):
        inner = [line for key, part in value.items() for line in _lines(key, part, indent + "  ")]
        return [f"{indent}<{name}>", *inner, f"{indent}</{name}>"]
    if isinstance(value, list | tuple):
        if not value:
            return [f'{indent}<{name} type="array"/>']
        item = _SINGULAR.get(name, "item")
        inner = [line for part in value for line in _lines(item, part, indent + "  ")]
        return [f'{indent}<{name} type="array">', *inner, f"{indent}</{name}>"]
    return [f"{indent}<{name}{_type_of(name, value)}>{_text(value)}</{name}>"]


def _type_of(name: str, value: object) -> str:
    if isinstance(value, bool):
        return ' type="boolean"'
    if isinstance(value, int) or name in ("id", "position"):
        return ' type="integer"'
    if name in _TIMES:
        return ' type="dateTime"'
    return ' type="decimal"' if name in _DECIMALS else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _UNFIT.sub("\ufffd", escape(str(value)))
