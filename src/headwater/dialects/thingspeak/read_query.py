"""What a read asks for. Pure; knows no channel and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import NamedTuple

from headwater.dialects.thingspeak.parameters import is_true, parse_int
from headwater.dialects.thingspeak.times import parse_time_ns, parse_zone


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
    results = parse_int(parameters.get("results"))
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
        count = parse_int(parameters.get(name))
        if count is not None and count > 0:
            return max(now_ns - count * seconds * 1_000_000_000, 0)
    return None
