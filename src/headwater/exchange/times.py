"""Times as texts and numbers, many at once. Texts are ISO 8601; one without a zone is UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from headwater.exchange.columns import TIME_TYPE
from headwater.model.series import INTEGER_MAX, INTEGER_MIN

_NUMBER = r"^-?[0-9]+$"
_TEXT = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\d*\s*(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_DAY_NS = 86_400_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def render_times(times: pa.Array) -> pa.Array:
    """As texts with nine decimals and a Z, all of one length: they sort as they are."""
    return pc.strftime(times.cast(TIME_TYPE), format="%Y-%m-%dT%H:%M:%SZ")


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
