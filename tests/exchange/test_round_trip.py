"""What was written in a format reads back as it was, as far as the format can hold it; the rest is counted."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tables import Points, comparable, read, records, written

from headwater.exchange.formats import Format
from headwater.line_protocol import TIME_MAX_NS, TIME_MIN_NS
from headwater.model.series import ValueType

TABLES = (Format.CSV, Format.JSON_LINES, Format.PARQUET, Format.ARROW)


@pytest.mark.parametrize("chosen", TABLES)
@given(points=records())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_tables_hold_everything(chosen: Format, points: Points, tmp_path: Path) -> None:
    losses: Counter[str] = Counter()
    content = written(chosen, points, losses)
    assert comparable(read(chosen, content, tmp_path if chosen is Format.PARQUET else None)) == comparable(points)
    assert not losses


@given(points=records())
@settings(deadline=None)
def test_line_protocol_counts_what_no_line_can_hold(points: Points) -> None:
    losses: Counter[str] = Counter()
    back = read(Format.LINE_PROTOCOL, written(Format.LINE_PROTOCOL, points, losses))
    assert comparable(back).items() <= comparable(points).items()
    assert losses.total() == len(points) - len(back)
    for measurement, tags, name, value_type, at_ns in points.keys() - back.keys():
        names = [measurement, name, *(text for tag in tags for text in tag)]
        value = points[measurement, tags, name, value_type, at_ns]
        assert (
            any(text == "" or text[-1] == "\\" or "\n" in text for text in names)
            or measurement[0] in "#\t\0"
            or not TIME_MIN_NS <= at_ns <= TIME_MAX_NS
            or (isinstance(value, float) and not math.isfinite(value))
        )


@given(points=records())
@settings(deadline=None)
def test_arff_holds_finite_values_and_milliseconds(points: Points) -> None:
    def finite(value: object) -> bool:
        return not isinstance(value, float) or math.isfinite(value)

    in_ms = {(*point[:4], point[4] // 1_000_000 * 1_000_000) for point, value in points.items() if finite(value)}
    if len(in_ms) < sum(map(finite, points.values())) or any(point[4] < -(2**63) for point in in_ms):
        return  # two of one millisecond
    losses: Counter[str] = Counter()
    back = read(Format.ARFF, written(Format.ARFF, points, losses))
    expected = {
        (*point[:4], point[4] // 1_000_000 * 1_000_000): value for point, value in points.items() if finite(value)
    }
    assert comparable(back) == comparable(expected)
    assert losses["values that are NaN or infinite"] == sum(not finite(value) for value in points.values())
    rows = {(point[0], point[1], point[4]) for point in points}
    assert losses["sub-millisecond parts of times"] == sum(at % 1_000_000 != 0 for _, _, at in rows)
    assert all(point[3] in ValueType for point in back)


def test_the_first_and_last_times_in_arff() -> None:
    points: Points = {("m", (), "f", ValueType.FLOAT, at_ns): 1.0 for at_ns in (-(2**63), -1, 0, 2**63 - 1)}
    back = read(Format.ARFF, written(Format.ARFF, points, losses := Counter[str]()))
    in_ms = (-(2**63 // 1_000_000) * 1_000_000, -1_000_000, 0, (2**63 - 1) // 1_000_000 * 1_000_000)
    assert sorted(point[4] for point in back) == sorted(in_ms)
    assert losses.total() == 3
