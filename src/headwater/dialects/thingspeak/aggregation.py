"""Entries summed up in buckets of time, as ThingSpeak's open-source server does it (`feed_helper`). Pure.

A bucket begins at a multiple of its width since 1970-01-01 00:00 UTC. Every bucket from the first to the last is there,
those without entries with fields that are null. Only numbers count: an optional sign, digits, optional decimals; a
comma is a decimal point too, and then one in the answer. A mean divides by the number of entries in the bucket, so that
an entry without the field counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from statistics import median
from typing import NamedTuple

from headwater.dialects.thingspeak.parameters import parse_int
from headwater.model.entry import Entry

MINUTE_NS = 60_000_000_000
_MINUTES = (10, 15, 20, 30, 60, 240, 720, 1440)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?", re.ASCII)


class Method(StrEnum):
    """In the order in which they win when several are asked for."""

    TIMESCALE = "timescale"
    SUM = "sum"
    AVERAGE = "average"
    MEDIAN = "median"


class Aggregation(NamedTuple):
    """What to make of each bucket."""

    method: Method
    width_ns: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """The entries of one bucket as one, which has no number."""

    at_ns: int
    fields: Mapping[int, str]


def parse_aggregation(parameters: Mapping[str, str]) -> Aggregation | None:
    """The one of `timescale`, `sum`, `average` and `median` that applies; other widths than ThingSpeak's are none."""
    for method in Method:
        text = parameters.get(method, "").strip()
        minutes = 1440 if text == "daily" else parse_int(text)
        if minutes in _MINUTES:
            return Aggregation(method, minutes * MINUTE_NS)
    return None


def aggregate(
    entries: Sequence[Entry],
    aggregation: Aggregation,
    numbers: Collection[int],
    decimals: int | None,
    most: int,
) -> list[Bucket]:
    """The buckets of entries in the order of their times, for some fields; the newest so many of them."""
    method, width_ns = aggregation
    found = {
        begin_ns: list(together)
        for begin_ns, together in groupby(entries, key=lambda entry: entry.at_ns // width_ns * width_ns)
    }
    if not found:
        return []
    last_ns = max(found)
    first_ns = max(min(found), last_ns - (most - 1) * width_ns)
    buckets = []
    for begin_ns in range(first_ns, last_ns + 1, width_ns):
        together = found.get(begin_ns, [])
        if method is Method.TIMESCALE:
            fields = {n: round_text(text, decimals) for n, text in (together[0].fields if together else {}).items()}
        else:
            fields = {}
            for number in numbers:
                texts = [entry.fields.get(number) for entry in together]
                if (text := _summed_up(method, texts, decimals)) is not None:
                    fields[number] = text
        buckets.append(Bucket(begin_ns, fields))
    return buckets


def _summed_up(method: Method, texts: Sequence[str | None], decimals: int | None) -> str | None:
    """One field of a bucket, of which some entries may have none."""
    found = [text.strip() for text in texts if text is not None and _NUMBER.fullmatch(text.strip())]
    if not found:
        return None
    values = [_to_float(text) for text in found]
    of_values: dict[Method, Callable[[], float]] = {
        Method.SUM: lambda: sum(values),
        Method.AVERAGE: lambda: sum(values) / len(texts),
        Method.MEDIAN: lambda: median(values),
    }
    has_comma = any("," in text for text in found)
    return _to_text(of_values[method](), decimals, has_comma)


def parse_number(text: str) -> float | None:
    """A number as ThingSpeak understands it, or None."""
    return _to_float(text.strip()) if _NUMBER.fullmatch(text.strip()) else None


def round_text(text: str, decimals: int | None) -> str:
    """A number with so many decimals; anything else, or without `decimals`, as it is."""
    if decimals is None or not _NUMBER.fullmatch(text.strip()):
        return text
    return _to_text(_to_float(text.strip()), decimals, "," in text)


def _to_float(text: str) -> float:
    return float(text.replace(",", "."))


def _to_text(value: float, decimals: int | None, has_comma: bool) -> str:
    text = repr(float(value)) if decimals is None else f"{value:.{decimals}f}"
    return text.replace(".", ",") if has_comma else text
