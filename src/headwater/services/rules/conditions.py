"""Whether a condition is met: by an entry, or by silence. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from headwater.model.entry import Entry, parse_number
from headwater.services.rules.definitions import Condition, Geofence, Numeric, Silence, Status, Text

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius: distances are right to half a percent anywhere."""
MINUTE_NS = 60_000_000_000

_NUMBER_TESTS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "contains": operator.contains,
    "starts with": str.startswith,
    "ends with": str.endswith,
}


def is_met(condition: Condition, entry: Entry) -> bool | None:
    """Whether an entry meets a condition; None when it does not tell: the field, status or location is missing, or what
    should be a number is none (`nan`, `inf`, a text), for `!=` too. A broken sensor is neither hot nor cold."""
    match condition:
        case Numeric(field, test, value):
            number = _number(entry.fields.get(field))
            return None if number is None else _NUMBER_TESTS[test](number, value)
        case Text(field, test, text):
            return _compare(entry.fields.get(field), test, text)
        case Status(test, text):
            return _compare(entry.status, test, text)
        case Geofence():
            return _is_in_place(condition, entry)
        case Silence(_, field):
            return False if is_sign_of_life(field, entry) else None


def is_sign_of_life(field: int | None, entry: Entry) -> bool:
    """Whether an entry ends a silence."""
    return field is None or field in entry.fields


def silence_begins_ns(condition: Silence, last_received_ns: int) -> int:
    """When silence is met, if nothing more comes."""
    return last_received_ns + condition.minutes * MINUTE_NS


def describe(condition: Condition, entry: Entry | None) -> str:
    """In a few words why a condition is met."""
    match condition:
        case Numeric(field, test, value):
            return f"field{field} is {_shown(entry and entry.fields.get(field))} ({test} {value:.15g})"
        case Text(field, test, text):
            return f"field{field} is {_shown(entry and entry.fields.get(field))} ({test} “{_short(text)}”)"
        case Status(test, text):
            return f"status is {_shown(entry and entry.status)} ({test} “{_short(text)}”)"
        case Geofence():
            side = "inside" if condition.is_inside else "outside"
            return f"the location is {side} {condition.radius_m:.15g} m of {condition.latitude}, {condition.longitude}"
        case Silence(minutes, field):
            return f"no {'data' if field is None else f'field{field}'} for {minutes} min"


def distance_m(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Along the great circle."""
    one, other = math.radians(latitude), math.radians(other_latitude)
    half = math.sin((other - one) / 2) ** 2
    half += math.cos(one) * math.cos(other) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, half)))


def _is_in_place(fence: Geofence, entry: Entry) -> bool | None:
    latitude, longitude = _number(entry.latitude), _number(entry.longitude)
    if latitude is None or longitude is None or abs(latitude) > 90:
        return None
    is_inside = distance_m(fence.latitude, fence.longitude, latitude, longitude) <= fence.radius_m
    return is_inside is fence.is_inside


def _compare(found: str | None, test: str, text: str) -> bool | None:
    return None if found is None else _TEXT_TESTS[test](found, text)


def _number(text: str | None) -> float | None:
    return None if text is None else parse_number(text)


def _shown(text: str | None) -> str:
    return "missing" if text is None else f"“{_short(text)}”"


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
