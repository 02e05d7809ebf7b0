"""Entries as charts want them: one column of times and one of numbers for each field. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headwater.model.entry import Entry, parse_number

_LAST_TEXT_MAX = 255


def seconds_of(at_ns: int) -> float:
    """Seconds since the epoch, to the millisecond."""
    return at_ns // 1_000_000 / 1000


def columns_of(entries: Sequence[Entry], fields: Iterable[int]) -> dict[str, Any]:
    """The columns of the given fields, oldest first.

    Each field has its own times, since an entry that leaves a field out says nothing about it, whereas a text that is
    no number (null here) interrupts the line.
    """
    columns: dict[str, Any] = {}
    for number in fields:
        at_s: list[float] = []
        numbers: list[float | None] = []
        last: dict[str, Any] | None = None
        for entry in entries:
            text = entry.fields.get(number)
            if text is None:
                continue
            at_s.append(seconds_of(entry.at_ns))
            numbers.append(parse_number(text))
            last = {"text": text[:_LAST_TEXT_MAX], "at_s": at_s[-1]}
        columns[str(number)] = {"at_s": at_s, "numbers": numbers, "last": last}
    return columns


def live_entry_of(entry: Entry) -> dict[str, Any]:
    """One committed entry for a live chart."""
    return {
        "entry_id": entry.entry_id,
        "at_s": seconds_of(entry.at_ns),
        "fields": {
            str(number): {"text": text[:_LAST_TEXT_MAX], "number": parse_number(text)}
            for number, text in entry.fields.items()
        },
    }


def sparkline_of(entries: Sequence[Entry], fields: Iterable[int], width: int, height: int) -> str:
    """The points of an SVG polyline of the first field that has at least two numbers, or nothing."""
    for number in fields:
        points = [
            (entry.at_ns, value)
            for entry in entries
            if (value := parse_number(entry.fields.get(number, ""))) is not None
        ]
        if len(points) >= 2:
            return _polyline(points, width, height)
    return ""


def _polyline(points: Sequence[tuple[int, float]], width: int, height: int) -> str:
    first_ns, last_ns = points[0][0], points[-1][0]
    low = min(value for _, value in points)
    high = max(value for _, value in points)
    span_ns = (last_ns - first_ns) or 1
    # halves, because the range of two huge doubles may be infinite
    span = (high / 2 - low / 2) or 1.0
    return " ".join(
        f"{(at_ns - first_ns) / span_ns * width:.1f},"
        f"{height - (value / 2 - low / 2) / span * height if high > low else height / 2:.1f}"
        for at_ns, value in points
    )
