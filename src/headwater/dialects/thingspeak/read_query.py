"""What a read asks for. Pure; knows no channel and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import NamedTuple

from headwater.dialects.thingspeak.aggregation import Aggregation, parse_aggregation, parse_number
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
    least: float | None = None
    """An entry with a number below it, in one of the fields that are shown, is left out."""
    most: float | None = None
    decimals: int | None = None
    """How many decimals numbers are shown with; None: as they were sent."""
    aggregation: Aggregation | None = None
    first_entry_id: int | None = None
    last_entry_id: int | None = None


DEFAULT_RESULTS = 100
MAX_DECIMALS = 15
"""More a number does not have."""


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
        parse_number(parameters.get("min", "")),
        parse_number(parameters.get("max", "")),
        _decimals(parameters.get("round")),
        parse_aggregation(parameters),
        parse_int(parameters.get("start_entry_id")),
        parse_int(parameters.get("end_entry_id")),
    )


def _decimals(text: str | None) -> int | None:
    decimals = parse_int(text)
    return None if decimals is None else max(0, min(decimals, MAX_DECIMALS))


def _window_start(parameters: Mapping[str, str], now_ns: int) -> int | None:
    for name, seconds in (("days", 86_400), ("minutes", 60)):
        count = parse_int(parameters.get(name))
        if count is not None and count > 0:
            return max(now_ns - count * seconds * 1_000_000_000, 0)
    return None
