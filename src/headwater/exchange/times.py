"""Times as texts and numbers, many at once. Texts are ISO 8601; one without a zone is UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from headwater.exchange.columns import TIME_TYPE
from headwater.model.series import INTEGER_MAX, INTEGER_MIN

_NUMBER = r"^-?[0-9]+$"
_TEXT = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\d*\s*(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_DAY_NS = 86_400_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY, _LAST_DAY = (date(1, 1, 1) - _EPOCH.date()).days, (date(9999, 12, 31) - _EPOCH.date()).days
_PER_DAY: Mapping[str, int] = MappingProxyType(
    {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
)


def render_times(times: pa.Array) -> pa.Array:
    """As texts with the decimals of their unit (nanoseconds: nine) and a Z, of one length: they sort as they are. A day
    is a text without a time of day; what is in no calendar is `infinity` or `-infinity`."""
    has_calendar = in_calendar(times)
    known = pc.if_else(has_calendar, times, None)
    if pa.types.is_date(times.type):
        texts = known.cast(pa.string())
    else:
        texts = pc.strftime(known.cast(pa.timestamp(times.type.unit, "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    if pc.all(has_calendar).as_py() is not False:
        return texts
    beyond = pc.if_else(pc.greater(_numbers(times), 0), "infinity", "-infinity")
    return pc.if_else(has_calendar, texts, beyond)


def in_calendar(times: pa.Array) -> pa.Array:
    """Which of these times and days are of the years 1 to 9999; others have no text, and stand for the infinite."""
    per_day = 1 if pa.types.is_date32(times.type) else _PER_DAY[times.type.unit]
    numbers = _numbers(times)
    first, last = max(_FIRST_DAY * per_day, INTEGER_MIN), min((_LAST_DAY + 1) * per_day - 1, INTEGER_MAX)
    return pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))


def _numbers(times: pa.Array) -> pa.Array:
    return times.cast(pa.int32() if pa.types.is_date32(times.type) else pa.int64()).cast(pa.int64())


def parse_times(texts: pa.Array, unit_ns: int) -> pa.Array:
    """Nanoseconds since the epoch, null for what is no time; whole numbers count in `unit_ns`."""
    for target in (TIME_TYPE, pa.timestamp("ns")):
        try:
            return texts.cast(target).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    try:
        return pc.multiply_checked(texts.cast(pa.int64()), unit_ns)
    except pa.ArrowInvalid:  # different kinds, or something that Arrow does not read
        return pa.array([None if text is None else parse_time(text, unit_ns) for text in texts.to_pylist()], pa.int64())


def parse_time(text: str, unit_ns: int) -> int | None:
    """One time in nanoseconds since the epoch, or None."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text, re.ASCII):
        at_ns = int(text) * unit_ns if len(text) < 30 else INTEGER_MAX + 1
        return at_ns if INTEGER_MIN <= at_ns <= INTEGER_MAX else None
    found = _TEXT.fullmatch(text)
    try:
        if found is None:
            at, fraction = datetime.fromisoformat(text), ""
        else:
            zone = "+00:00" if found[3] in ("Z", "UTC", None) else found[3]
            at, fraction = datetime.fromisoformat(found[1] + zone), found[2] or ""
        since = at.replace(tzinfo=at.tzinfo or UTC) - _EPOCH
    except (ValueError, OverflowError):
        return None
    whole_ns = since.days * _DAY_NS + since.seconds * 1_000_000_000 + since.microseconds * 1_000
    at_ns = whole_ns + int(fraction.ljust(9, "0"))
    return at_ns if INTEGER_MIN <= at_ns <= INTEGER_MAX else None
