"""Times and zones as requests write them. Pure; knows no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headwater.errors import BadRequest

# A '+' that was not percent-encoded arrives as a space: "2026-01-02T03:04:05 01:00" means "+01:00".
_LOST_PLUS = re.compile(r"(.*\d\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:?\d\d)")
_SECONDS = re.compile(r"[0-9]{9,10}(?:\.[0-9]{1,9})?", re.ASCII)
"""Since 1970: from 1973 to 2286. Fewer digits are a year or a date."""
_FRACTION = re.compile(r"\d\d[.,](\d+)")
"""Of a second, in a time that could be read."""
_PRECISIONS = {"": 0, "s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        return timezone(timedelta(minutes=round(float(parameters["offset"]) * 60)))
    except (KeyError, ValueError, OverflowError):
        return None


def parse_precision(parameters: Mapping[str, str]) -> int:
    """How many decimals of a second `precision` asks for; none without it. Raises BadRequest."""
    try:
        return _PRECISIONS[parameters.get("precision", "").strip()]
    except KeyError:
        raise BadRequest("precision must be s, ms, us or ns.") from None


def decimals_of(text: str) -> int:
    """How many decimals of a second a time has."""
    found = _FRACTION.search(text)
    return min(len(found[1]), 9) if found else 0


def parse_any_time_ns(text: str, zone: tzinfo) -> int | None:
    """As `parse_time_ns`; whole or broken seconds since 1970 too."""
    if _SECONDS.fullmatch(text.strip()):
        whole, _, fraction = text.strip().partition(".")
        return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
    return parse_time_ns(text, zone)


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
    whole_us = (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds
    found = _FRACTION.search(text)
    # A datetime cuts off what comes behind microseconds.
    return whole_us * 1_000 + (int(found[1][6:9].ljust(3, "0")) if found else 0)


def free_time_ns(at_ns: int, next_free: dict[int, int]) -> int:
    """The first nanosecond from a time on that no entry has yet. `next_free`, which begins empty, keeps those that were
    answered, each with one that may follow it."""
    free_ns, passed = at_ns, [at_ns]
    while free_ns in next_free:
        free_ns = next_free[free_ns]
        passed.append(free_ns)
    for taken_ns in passed:  # who comes next goes straight to the end
        next_free[taken_ns] = free_ns + 1
    return free_ns
