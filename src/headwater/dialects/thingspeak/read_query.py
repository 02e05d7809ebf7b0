"""What a read asks for. Pure; knows no channel and no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import NamedTuple

from headwater.dialects.thingspeak.aggregation import Aggregation, parse_aggregation, parse_number
from headwater.dialects.thingspeak.parameters import is_true, parse_int
from headwater.dialects.thingspeak.times import decimals_of, parse_precision, parse_time_ns, parse_zone
from headwater.errors import BadRequest
from headwater.model.series import INTEGER_MAX, INTEGER_MIN


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
    precision: int = 0
    """How many decimals of a second times are shown with."""


_CURSOR = re.compile(r"t-?[0-9]{1,19}", re.ASCII)
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
        # The whole second that `end` names is included, or millisecond, whatever it names.
        end_ns = None if last_ns is None else last_ns + 10 ** (9 - decimals_of(parameters["end"]))
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
        parse_precision(parameters),
    )


def parse_part_query(parameters: Mapping[str, str], now_ns: int, max_results: int) -> ReadQuery:
    """The parameters of a read that goes through a whole channel part by part: `start_ns` is where `cursor` says that
    this part begins. Raises BadRequest for a cursor that none of our answers had, and for what goes against it."""
    query = parse_read_query(parameters, now_ns, max_results)
    if query.aggregation or query.first_entry_id is not None or query.last_entry_id is not None:
        raise BadRequest(
            "cursor gives entries one by one, in the order of their times: leave out timescale, sum, average and "
            "median, and start_entry_id and end_entry_id."
        )
    results = parse_int(parameters.get("results"))
    query = query._replace(results=max_results if results is None else max(1, min(results, max_results)))
    text = parameters.get("cursor", "").strip()
    if not text:
        return query
    if not _CURSOR.fullmatch(text) or not INTEGER_MIN <= int(text[1:]) <= INTEGER_MAX:
        raise BadRequest("This cursor is none: send the one of the answer before, or an empty one to begin.")
    at_ns = int(text[1:])
    return query._replace(start_ns=at_ns if query.start_ns is None else max(at_ns, query.start_ns))


def render_cursor(at_ns: int) -> str:
    """What stands for the part of a channel from a time on."""
    return f"t{at_ns:d}"


def _decimals(text: str | None) -> int | None:
    decimals = parse_int(text)
    return None if decimals is None else max(0, min(decimals, MAX_DECIMALS))


def _window_start(parameters: Mapping[str, str], now_ns: int) -> int | None:
    for name, seconds in (("days", 86_400), ("minutes", 60)):
        count = parse_int(parameters.get(name))
        if count is not None and count > 0:
            return max(now_ns - count * seconds * 1_000_000_000, 0)
    return None
