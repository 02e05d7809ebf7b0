"""Conditions of rules: what an entry says about them, and what it does not tell."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.model.entry import Entry
from headwater.services.rules.conditions import EARTH_RADIUS_M, describe, distance_m, is_met, silence_begins_ns
from headwater.services.rules.definitions import Condition, Geofence, Numeric, Silence, Status, Text


def entry(value: str | None = None, **others: str) -> Entry:
    return Entry(1, 0, {} if value is None else {1: value}, **others)


@pytest.mark.parametrize(
    ("operator", "met"),
    [("<", "4"), ("<=", "45"), (">", "6"), (">=", "56"), ("==", "5"), ("!=", "46")],
)
def test_numbers_are_compared(operator: str, met: str) -> None:
    for value in "456":
        assert is_met(Numeric(1, operator, 5.0), entry(value)) is (value in met)  # type: ignore[arg-type]
    assert is_met(Numeric(1, operator, 5.0), entry("5.00")) is ("=" in operator and operator != "!=")  # type: ignore[arg-type]


@given(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.sampled_from(["nan", "inf", "-inf", "on", "", "1e999"]))
def test_what_is_no_number_tells_nothing(operator: str, text: str) -> None:
    assert is_met(Numeric(1, operator, 0.0), entry(text)) is None  # type: ignore[arg-type]
    assert is_met(Numeric(2, operator, 0.0), entry("5")) is None  # type: ignore[arg-type]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_exactly_one_of_less_equal_and_greater_holds(number: float, value: float) -> None:
    found = [is_met(Numeric(1, operator, value), entry(repr(number))) for operator in ("<", "==", ">")]  # type: ignore[arg-type]
    assert sorted(found) == [False, False, True]


@pytest.mark.parametrize(
    ("operator", "text", "expected"),
    [
        ("==", "Door open", True),
        ("==", "door open", False),
        ("!=", "Door open", False),
        ("!=", "", True),
        ("contains", "r o", True),
        ("contains", "xx", False),
        ("starts with", "Door", True),
        ("starts with", "open", False),
        ("ends with", "open", True),
        ("ends with", "Door", False),
    ],
)
def test_texts_are_compared(operator: str, text: str, expected: bool) -> None:
    assert is_met(Text(1, operator, text), entry("Door open")) is expected  # type: ignore[arg-type]
    assert is_met(Status(operator, text), entry(status="Door open")) is expected  # type: ignore[arg-type]
    assert is_met(Text(1, operator, text), entry(status="Door open")) is None  # type: ignore[arg-type]
    assert is_met(Status(operator, text), entry("Door open")) is None  # type: ignore[arg-type]


def test_a_fence_has_an_inside_and_an_outside() -> None:
    inside, outside = (Geofence(52.52, 13.405, 5_000, is_inside) for is_inside in (True, False))
    near, far = {"latitude": "52.53", "longitude": "13.41"}, {"latitude": "48.14", "longitude": "11.58"}
    assert (is_met(inside, entry(**near)), is_met(outside, entry(**near))) == (True, False)
    assert (is_met(inside, entry(**far)), is_met(outside, entry(**far))) == (False, True)
    for lost in ({}, {"latitude": "52.5"}, {"latitude": "nan", "longitude": "1"}, {"latitude": "91", "longitude": "0"}):
        assert is_met(inside, entry(**lost)) is is_met(outside, entry(**lost)) is None


def test_distances_are_those_of_the_globe() -> None:
    assert distance_m(52.52, 13.405, 48.8566, 2.3522) == pytest.approx(878_000, rel=0.005)
    assert distance_m(0, 179.9, 0, -179.9) == pytest.approx(math.radians(0.2) * EARTH_RADIUS_M)
    assert distance_m(90, 0, -90, 77) == pytest.approx(math.pi * EARTH_RADIUS_M)


@given(*[st.floats(-90, 90), st.floats(-180, 180)] * 2)
def test_distance_is_symmetric_and_bounded(lat: float, lon: float, other_lat: float, other_lon: float) -> None:
    there, back = distance_m(lat, lon, other_lat, other_lon), distance_m(other_lat, other_lon, lat, lon)
    assert there == pytest.approx(back)
    assert 0 <= there <= math.pi * EARTH_RADIUS_M + 1


def test_silence_ends_with_a_sign_of_life() -> None:
    assert is_met(Silence(10), entry(status="ok")) is False
    assert is_met(Silence(10, 1), entry("5")) is False
    assert is_met(Silence(10, 1), entry(status="ok")) is None
    assert silence_begins_ns(Silence(10), 7) == 600_000_000_007


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Numeric(1, ">", 30.0), "field1 is “31.2” (> 30)"),
        (Text(2, "==", "on"), "field2 is missing (== “on”)"),
        (Status("contains", "x" * 99), "status is “low” (contains “" + "x" * 79 + "…”)"),
        (Geofence(1.5, 2.0, 100.0, False), "the location is outside 100 m of 1.5, 2.0"),
        (Silence(10), "no data for 10 min"),
        (Silence(10, 3), "no field3 for 10 min"),
    ],
)
def test_reasons_read_well(condition: Condition, text: str) -> None:
    assert describe(condition, entry("31.2", status="low")) == text
