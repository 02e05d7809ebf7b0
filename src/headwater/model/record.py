"""Records: values of several fields at one time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headwater.model.series import SeriesKey, Value


class Record(NamedTuple):
    """Values of several fields at one time in one series key: a ThingSpeak entry, a line of line protocol."""

    key: SeriesKey
    at_ns: int
    """Nanoseconds since the Unix epoch."""
    values: Mapping[str, Value]
    """Field name to value; at least one."""
