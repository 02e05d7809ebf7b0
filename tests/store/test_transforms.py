"""Transforms against their definitions in exact fractions, and what they do at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest, TooLarge
from headwater.store.transforms import (
    Curve,
    cumulative_sum,
    derivative,
    difference,
    elapsed,
    integral,
    moving_average,
    transform,
)
from headwater.store.windows import Windows

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.lists(st.integers(-(10**6), 10**6), max_size=12, unique=True).map(sorted)
UNITS = st.integers(1, 10**7)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    at_ns = draw(TIMES)
    value_type, values = draw(
        st.sampled_from(
            [
                (pa.float64(), st.floats(-1e6, 1e6)),
                (pa.int64(), INTEGERS),
                (pa.uint64(), st.integers(0, 2**64 - 1)),
            ]
        )
    )
    return Curve(at_ns, draw(st.lists(values, min_size=len(at_ns), max_size=len(at_ns))), value_type)


def exact(curve: Curve) -> list[Fraction]:
    return [Fraction(value) for value in curve.values]


def assert_near(found: list[Any], expected: list[Fraction], scale: Fraction) -> None:
    """Equal but for rounding, which is relative to the greatest number that occurs in the calculation."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert abs(Fraction(one) - other) <= scale * Fraction(1, 10**12)


def check_integers(
    made: Callable[[], Curve], at_ns: list[int], expected: list[Fraction], least: int, greatest: int
) -> None:
    if all(least <= value <= greatest for value in expected):
        assert made()[:2] == (at_ns, expected)
    else:
        with pytest.raises(BadRequest, match="64 bits"):
            made()


@given(curves(), st.booleans())
def test_difference(curve: Curve, non_negative: bool) -> None:
    numbers = exact(curve)
    steps = [(curve.at_ns[n], numbers[n] - numbers[n - 1]) for n in range(1, len(numbers))]
    kept = [(at_ns, step) for at_ns, step in steps if step >= 0 or not non_negative]
    at_ns, expected = [at for at, _ in kept], [step for _, step in kept]

    def made() -> Curve:
        return difference(curve, non_negative=non_negative)

    if curve.type == pa.float64():
        assert made().at_ns == at_ns
        assert_near(made().values, expected, Fraction(10**6))
        assert made().type == pa.float64()
    else:
        check_integers(made, at_ns, expected, -(2**63), 2**63 - 1)


@given(curves(), UNITS, st.booleans())
def test_derivative(curve: Curve, unit_ns: int, non_negative: bool) -> None:
    numbers = exact(curve)
    slopes = [
        (curve.at_ns[n], (numbers[n] - numbers[n - 1]) * unit_ns / (curve.at_ns[n] - curve.at_ns[n - 1]))
        for n in range(1, len(numbers))
    ]
    kept = [(at_ns, slope) for at_ns, slope in slopes if slope >= 0 or not non_negative]
    found = derivative(curve, unit_ns, non_negative=non_negative)
    assert found.at_ns == [at_ns for at_ns, _ in kept]
    assert_near(found.values, [slope for _, slope in kept], max(map(abs, numbers), default=Fraction(0)) * 2 * unit_ns)
    assert found.type == pa.float64()


@given(curves())
def test_cumulative_sum(curve: Curve) -> None:
    numbers = exact(curve)
    sums = [sum(numbers[: n + 1], Fraction(0)) for n in range(len(numbers))]
    if curve.type == pa.float64():
        assert cumulative_sum(curve).at_ns == curve.at_ns
        assert_near(cumulative_sum(curve).values, sums, Fraction(12 * 10**6))
    else:
        least, greatest = (0, 2**64 - 1) if curve.type == pa.uint64() else (-(2**63), 2**63 - 1)
        check_integers(lambda: cumulative_sum(curve), curve.at_ns, sums, least, greatest)


@given(curves(), st.integers(1, 14))
def test_moving_average(curve: Curve, count: int) -> None:
    numbers = exact(curve)
    expected = [sum(numbers[n - count : n], Fraction(0)) / count for n in range(count, len(numbers) + 1)]
    found = moving_average(curve, count)
    assert found.at_ns == curve.at_ns[count - 1 :]
    assert_near(found.values, expected, max(map(abs, numbers), default=Fraction(0)))


def test_what_is_not_finite_leaves_a_moving_average_without_a_trace() -> None:
    values = [1.0, math.inf, math.nan, 1e300, 1.0, 2.0, 3.0]
    found = moving_average(Curve(list(range(7)), values, pa.float64()), 2).values
    assert found[0] == math.inf
    assert math.isnan(found[1])
    assert math.isnan(found[2])
    assert found[3:] == [5e299, 1.5, 2.5]


@given(curves(), UNITS)
def test_elapsed(curve: Curve, unit_ns: int) -> None:
    passed = [(curve.at_ns[n] - curve.at_ns[n - 1]) // unit_ns for n in range(1, len(curve.at_ns))]
    assert elapsed(curve, unit_ns) == (curve.at_ns[1:], passed, pa.int64())


def area(at_ns: list[int], numbers: list[Fraction], first_ns: int, last_ns: int) -> Fraction:
    """Below the lines between points, within bounds."""
    total = Fraction(0)
    for n in range(1, len(at_ns)):
        left, right = max(at_ns[n - 1], first_ns), min(at_ns[n], last_ns)
        if left < right:
            slope = (numbers[n] - numbers[n - 1]) / (at_ns[n] - at_ns[n - 1])
            heights = [numbers[n - 1] + slope * (one - at_ns[n - 1]) for one in (left, right)]
            total += sum(heights, Fraction(0)) / 2 * (right - left)
    return total


@given(curves(), UNITS)
def test_integral(curve: Curve, unit_ns: int) -> None:
    numbers = exact(curve)
    found = integral(curve, unit_ns)
    assert found.at_ns == curve.at_ns[:1]
    expected = [area(curve.at_ns, numbers, -(10**6), 10**6) / unit_ns] if numbers else []
    assert_near(found.values, expected, max(map(abs, numbers), default=Fraction(0)) * 2 * 10**6 / unit_ns)


@given(curves(), UNITS, st.integers(10**4, 10**6), st.integers(-(10**6), 10**6))
def test_integral_of_windows(curve: Curve, unit_ns: int, every_ns: int, offset_ns: int) -> None:
    numbers = exact(curve)
    found = integral(curve, unit_ns, Windows(0, 1, every_ns=every_ns, offset_ns=offset_ns))
    starts = []
    if numbers:
        first = (curve.at_ns[0] - offset_ns) // every_ns * every_ns + offset_ns
        starts = list(range(first, curve.at_ns[-1] + 1, every_ns))
    assert found.at_ns == starts
    expected = [area(curve.at_ns, numbers, start, start + every_ns) / unit_ns for start in starts]
    assert_near(found.values, expected, max(map(abs, numbers), default=Fraction(0)) * 2 * 10**6 / unit_ns)


def test_windows_of_an_integral_follow_the_calendar() -> None:
    hour_ns = 3_600 * 10**9
    noon_ns = 1_711_796_400 * 10**9  # 2024-03-30 12:00 in Berlin, the day before the clock is put forward
    curve = Curve([noon_ns, noon_ns + 47 * hour_ns], [1.0, 1.0], pa.float64())
    days = Windows(0, 1, every_ns=24 * hour_ns, zone="Europe/Berlin")
    assert integral(curve, hour_ns, days).values == [12.0, 23.0, 12.0]


def test_too_many_windows_of_an_integral() -> None:
    curve = Curve([0, 10**15], [1.0, 2.0], pa.float64())
    with pytest.raises(TooLarge):
        integral(curve, 1, Windows(0, 1, every_ns=1))


@pytest.mark.parametrize("unit_ns", [0, -1])
def test_a_unit_is_longer_than_nothing(unit_ns: int) -> None:
    for made in (derivative, elapsed, integral):
        with pytest.raises(BadRequest, match="unit of time"):
            made(Curve([], [], pa.float64()), unit_ns)  # type: ignore[operator]
    with pytest.raises(BadRequest, match="at least one"):
        moving_average(Curve([], [], pa.float64()), unit_ns)


def answer(values: list[Any], value_type: pa.DataType) -> pa.Table:
    groups = pa.array([0, 0, 0, 2, 2, 5][: len(values)], pa.int64())
    times = pa.array([10, 20, 30, 10, 40, 10][: len(values)], pa.int64())
    return pa.table({"group": groups, "at_ns": times, "last": pa.array(values, value_type)})


def test_each_group_is_transformed_by_itself_and_nulls_are_left_out() -> None:
    found = transform(answer([1, None, 4, 7, 5, 1], pa.int64()), "last", difference)
    assert found.schema == pa.schema([("group", pa.int64()), ("at_ns", pa.int64()), ("last", pa.int64())])
    assert [tuple(row.values()) for row in found.to_pylist()] == [(0, 30, 3), (2, 40, -2)]
    slopes = transform(answer([1, None, 4, 7, 5, 1], pa.int64()), "last", lambda curve: derivative(curve, 10))
    assert [tuple(row.values()) for row in slopes.to_pylist()] == [(0, 30, 1.5), (2, 40, pytest.approx(-2 / 3))]


def test_the_type_of_a_result_does_not_depend_on_there_being_one() -> None:
    for values in ([], [None, None], [1.5, 2.5]):
        found = transform(answer(values, pa.float64()), "last", lambda curve: elapsed(curve, 10))
        assert found.schema.field("last").type == pa.int64()


@pytest.mark.parametrize(("values", "value_type"), [(["a"], pa.string()), ([True], pa.bool_())])
def test_only_numbers_are_transformed(values: list[Any], value_type: pa.DataType) -> None:
    with pytest.raises(BadRequest, match="not of numbers"):
        transform(answer(values, value_type), "last", difference)
