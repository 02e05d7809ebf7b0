"""What every store promises of window aggregates, run on each engine."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contracts.test_store import UNKNOWN_ID, Engine, batch_of, opened, put, series_of

from headwater.errors import BadRequest, TooLarge
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, ValueType
from headwater.store import Batch, Store
from headwater.store.aggregates import OF_ALL_TYPES, Aggregate, Function
from headwater.store.windows import Windows

ALL = [Aggregate(one) for one in Function if one is not Function.PERCENTILE]
EVERYWHERE = Windows(INTEGER_MIN, INTEGER_MAX, every_ns=INTEGER_MAX)


@pytest.fixture(params=["memory", "duck"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    return engine.store


def of(*names: str) -> list[Aggregate]:
    return [Aggregate(Function(name)) for name in names]


def aggregated(store: Store, value_type: ValueType, values: list[Any], *aggregates: Aggregate) -> list[Any]:
    """Aggregates of values of one series within one window."""
    put(store, value_type, [(1, at_ns, value) for at_ns, value in enumerate(values)])
    (row,) = store.windows([[1]], aggregates, Windows(0, 1000, every_ns=1000)).to_pylist()
    assert (row.pop("group"), row.pop("at_ns")) == (0, 0)
    return list(row.values())


def test_each_window_with_points_is_a_row(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in (-11, -10, -1, 0, 9, 35, 40)])
    table = store.windows([[1]], of("count", "sum", "mean"), Windows(-11, 40, every_ns=10))
    assert table.schema == pa.schema(
        [
            ("group", pa.int64()),
            ("at_ns", pa.int64()),
            ("count", pa.int64()),
            ("sum", pa.int64()),
            ("mean", pa.float64()),
        ]
    )
    assert table.to_pydict() == {
        "group": [0, 0, 0, 0],
        "at_ns": [-20, -10, 0, 30],
        "count": [1, 2, 2, 1],
        "sum": [-11, -11, 9, 35],
        "mean": [-11.0, -5.5, 4.5, 35.0],
    }


def test_points_outside_the_span_do_not_count(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in range(30)])
    found = store.windows([[1]], of("count", "first"), Windows(7, 23, every_ns=10)).to_pydict()
    assert found == {"group": [0, 0, 0], "at_ns": [0, 10, 20], "count": [3, 10, 3], "first": [7, 10, 20]}
    assert store.windows([[1]], of("count"), Windows(7, 7, every_ns=10)).num_rows == 0
    assert store.windows([[1]], of("count"), Windows(9, 7, every_ns=10)).num_rows == 0


def test_a_group_takes_its_series_together(store: Store) -> None:
    types = dict.fromkeys([1, 2, 3, 4], ValueType.INTEGER)
    store.append(batch_of([(1, 0, 5), (2, 0, 7), (3, 0, 100), (1, 15, 1), (3, 15, 2)], types, {}))
    groups = [[2, 1, 2], [], [UNKNOWN_ID, 3], [4], [1, 3]]
    found = store.windows(groups, of("sum", "first", "last"), Windows(0, 100, every_ns=10)).to_pydict()
    assert found == {
        "group": [0, 0, 2, 2, 4, 4],
        "at_ns": [0, 10, 0, 10, 0, 10],
        "sum": [12, 1, 100, 2, 105, 3],
        "first": [5, 1, 100, 2, 5, 1],  # of equal times, that of the least series
        "last": [7, 1, 100, 2, 100, 2],
    }


def test_some_of_many_series_are_enough(store: Store) -> None:
    put(store, ValueType.INTEGER, [(series_id, 0, series_id) for series_id in range(50)])
    found = store.windows([[3], [4, 5]], of("sum"), Windows(0, 100, every_ns=10)).to_pydict()
    assert found == {"group": [0, 1], "at_ns": [0, 0], "sum": [3, 9]}


def test_every_aggregate_of_numbers(store: Store) -> None:
    found = aggregated(store, ValueType.FLOAT, [4.0, 1.0, 2.5, 1.0], *ALL)
    expected = [4, 8.5, 2.125, 1.75, 1.0, math.sqrt(6.1875 / 3), 3.0, 1.0, 4.0, 4.0, 1.0]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value_type", "values"), [(ValueType.STRING, ["b", "", "b", "ü"]), (ValueType.BOOLEAN, [True, False, True, True])]
)
def test_every_aggregate_of_others(store: Store, value_type: ValueType, values: list[Any]) -> None:
    aggregates = of("count", "mode", "first", "last")
    assert aggregated(store, value_type, values, *aggregates) == [4, values[0], values[0], values[-1]]
    for aggregate in [*ALL, Aggregate(Function.PERCENTILE, 50)]:
        if aggregate.function not in OF_ALL_TYPES:
            with pytest.raises(BadRequest, match=f"{aggregate.function} is of numbers"):
                store.windows([[1]], [aggregate], EVERYWHERE)


def test_a_single_point_has_no_deviation(store: Store) -> None:
    assert aggregated(store, ValueType.FLOAT, [1.5], *of("stddev", "spread", "median")) == [None, 0.0, 1.5]


@pytest.mark.parametrize("value_type", [ValueType.FLOAT, ValueType.INTEGER])
@pytest.mark.parametrize(
    ("percent", "expected"),
    [(0, 1), (0.5, 1), (1, 1), (1.000001, 2), (7, 7), (29, 29), (50, 50), (56.99, 57), (99.9, 100), (100, 100)],
)
def test_percentiles_are_of_the_nearest_rank(
    store: Store, value_type: ValueType, percent: float, expected: int
) -> None:
    values = [float(value) if value_type is ValueType.FLOAT else value for value in range(100, 0, -1)]
    assert aggregated(store, value_type, values, Aggregate(Function.PERCENTILE, percent)) == [expected]


def test_columns_are_named_by_their_aggregates(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, 0, 5)])
    aggregates = [
        Aggregate(Function.PERCENTILE, percent) for percent in (5, 99.9, 99.9999, 99.99999, 100, 5.000_000_01)
    ]
    names = store.windows([[1]], aggregates, EVERYWHERE).column_names[2:]
    assert names == ["percentile_5", "percentile_99.9", "percentile_99.9999", "percentile_99.99999", "percentile_100"]


def test_a_percentile_needs_its_number() -> None:
    with pytest.raises(BadRequest, match="needs a number"):
        Aggregate(Function.PERCENTILE)
    with pytest.raises(BadRequest, match="no other"):
        Aggregate(Function.MEAN, 50)
    for percent in (-0.1, 100.1, math.nan):
        with pytest.raises(BadRequest, match="from 0 to 100"):
            Aggregate(Function.PERCENTILE, percent)


def test_of_values_equally_often_the_least_is_the_mode(store: Store) -> None:
    assert aggregated(store, ValueType.STRING, ["c", "b", "a", "c", "b"], *of("mode")) == ["b"]


def test_integers_stay_exact(store: Store) -> None:
    values = [INTEGER_MAX, INTEGER_MIN, INTEGER_MAX, INTEGER_MIN + 1]
    aggregates = of("sum", "min", "max", "first", "last", "mode")
    assert aggregated(store, ValueType.INTEGER, values, *aggregates) == [
        0 - 1 + 0 + 0, INTEGER_MIN, INTEGER_MAX, INTEGER_MAX, INTEGER_MIN + 1, INTEGER_MAX
    ]  # fmt: skip


def test_means_and_medians_of_integers_are_floats(store: Store) -> None:
    found = aggregated(store, ValueType.INTEGER, [INTEGER_MAX], *of("mean", "median"))
    assert repr(found) == repr([2.0**63, 2.0**63])


def test_unsigned_integers_stay_exact(store: Store) -> None:
    values = [UNSIGNED_MAX - 1, 1]
    found = aggregated(store, ValueType.UNSIGNED, values, *of("sum", "spread", "min", "max", "mean", "median"))
    assert found == [UNSIGNED_MAX, UNSIGNED_MAX - 2, 1, UNSIGNED_MAX - 1, 2.0**63, 2.0**63]


@pytest.mark.parametrize(
    ("value_type", "values", "name"),
    [
        (ValueType.INTEGER, [INTEGER_MAX, 1], "sum"),
        (ValueType.INTEGER, [INTEGER_MIN, -1], "sum"),
        (ValueType.INTEGER, [INTEGER_MAX, -1], "spread"),
        (ValueType.UNSIGNED, [UNSIGNED_MAX, 1], "sum"),
    ],
)
def test_an_integer_that_does_not_fit_is_an_error(
    store: Store, value_type: ValueType, values: list[int], name: str
) -> None:
    put(store, value_type, [(1, at_ns, value) for at_ns, value in enumerate(values)])
    with pytest.raises(BadRequest, match=f"the {name} of some window does not fit"):
        store.windows([[1]], of(name), EVERYWHERE)
    mean = sum(values) / 2
    assert store.windows([[1]], of("mean"), Windows(0, 9, every_ns=9)).column("mean").to_pylist() == [
        pytest.approx(mean)
    ]


def test_numbers_of_different_types_are_floats(store: Store) -> None:
    types = {1: ValueType.FLOAT, 2: ValueType.INTEGER, 3: ValueType.UNSIGNED, 4: ValueType.STRING, 5: ValueType.BOOLEAN}
    store.append(batch_of([(1, 0, 0.5), (2, 0, INTEGER_MAX), (3, 1, 7), (4, 0, "x"), (5, 0, True)], types, {}))
    found = store.windows([[1, 3], [2]], of("sum", "max", "last"), Windows(0, 9, every_ns=9))
    assert found.to_pydict() == {
        "group": [0, 1],
        "at_ns": [0, 0],
        "sum": [7.5, 2.0**63],
        "max": [7.0, 2.0**63],
        "last": [7.0, 2.0**63],
    }
    for others in ([1, 4], [4, 5], [2, 5]):
        with pytest.raises(BadRequest, match="together"):
            store.windows([others], of("count"), EVERYWHERE)


def test_nan_is_greater_than_all_other_values(store: Store) -> None:
    values = [math.nan, math.inf, 1.0, math.nan, -math.inf]
    found = aggregated(
        store, ValueType.FLOAT, values, *of("min", "max", "median", "mode", "sum", "mean", "stddev", "spread")
    )
    assert repr(found) == repr([-math.inf, math.nan, math.inf, math.nan, *[math.nan] * 4])


def test_infinities_are_summed_as_ieee_754_says(store: Store) -> None:
    found = aggregated(store, ValueType.FLOAT, [math.inf, 1.0], *of("sum", "mean", "median", "stddev", "spread", "min"))
    assert repr(found) == repr([math.inf, math.inf, math.inf, math.nan, math.inf, 1.0])


def test_nothing_gives_an_empty_table(store: Store) -> None:
    put(store, ValueType.UNSIGNED, [(1, 0, 5)])
    store.append(Batch([series_of(2, ValueType.STRING)]))
    for groups in ([], [[]], [[UNKNOWN_ID]]):
        table = store.windows(groups, of("max"), EVERYWHERE)
        assert (table.num_rows, table.schema.field("max").type) == (0, pa.float64())
    for groups, arrow_type in (([[2]], pa.string()), ([[1]], pa.uint64())):
        table = store.windows(groups, of("last"), Windows(100, 200, every_ns=1))
        assert (table.num_rows, table.schema.field("last").type) == (0, arrow_type)
    assert store.windows([[1]], [], EVERYWHERE).to_pydict() == {"group": [0], "at_ns": [0]}


def test_windows_reach_over_all_times(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, INTEGER_MIN, 1), (1, -1, 2), (1, 0, 3), (1, INTEGER_MAX, 4)])
    week = 7 * 86400 * 10**9
    for zone in (None, "Europe/Berlin"):
        windows = Windows(-(10**30), 10**30, every_ns=week, zone=zone)
        found = store.windows([[1]], of("count"), windows)
        assert found.column("count").to_pylist() == [1, 2, 1] if zone else [1, 1, 1, 1]
        assert set(found.column("at_ns").to_pylist()) <= set(windows.starts())
    months = store.windows([[1]], of("count"), Windows(-(10**30), 10**30, every_months=1, zone="Europe/Berlin"))
    assert months.column("count").to_pylist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("width", "zone", "first", "days", "step_h"),
    [
        ({"every_ns": 24 * 3600 * 10**9}, "Europe/Berlin", "2024-10-24T22:00Z", 5, 1),
        ({"every_ns": 6 * 3600 * 10**9, "offset_ns": 3600 * 10**9}, "America/Sao_Paulo", "2018-11-02T00:00Z", 5, 1),
        ({"every_ns": 3600 * 10**9}, "Australia/Lord_Howe", "2024-04-05T00:00Z", 3, 0.5),
        ({"every_ns": 7 * 24 * 3600 * 10**9, "offset_ns": 4 * 24 * 3600 * 10**9}, None, "2024-02-20T00:00Z", 20, 12),
        ({"every_months": 1, "offset_ns": -3600 * 10**9}, "Europe/Berlin", "2023-12-20T00:00Z", 100, 12),
        # So many changes and months that comparing with each would take too long.
        ({"every_ns": 24 * 3600 * 10**9}, "Europe/Berlin", "1890-01-01T00:00Z", 365 * 300, 24 * 55.7),
        ({"every_months": 1}, "America/Sao_Paulo", "1890-01-01T00:00Z", 365 * 300, 24 * 55.7),
    ],
)
def test_a_point_is_in_the_window_that_began_last(
    store: Store, width: dict[str, int], zone: str | None, first: str, days: int, step_h: float
) -> None:
    start_ns, step_ns = int(datetime.fromisoformat(first).timestamp()) * 10**9, round(step_h * 3600) * 10**9
    end_ns = start_ns + days * 24 * 3600 * 10**9
    times = [at_ns + odd for at_ns in range(start_ns + 1, end_ns - 1, step_ns) for odd in (-1, 0)]
    put(store, ValueType.INTEGER, [(1, at_ns, 1) for at_ns in times])
    windows = Windows(start_ns, end_ns, zone=zone, **width)
    starts = list(windows.starts())
    expected = Counter(starts[bisect_right(starts, at_ns) - 1] for at_ns in times)
    found = store.windows([[1]], of("count"), windows)
    assert dict(zip(*found.select(["at_ns", "count"]).to_pydict().values(), strict=True)) == expected


def test_an_answer_has_a_limit(store: Store) -> None:
    put(store, ValueType.INTEGER, [(series_id, at_ns, 1) for series_id in (1, 2) for at_ns in range(0, 100, 10)])
    windows = Windows(0, 100, every_ns=1)
    assert store.windows([[1], [2]], of("count"), windows, max_rows=20).num_rows == 20
    with pytest.raises(TooLarge, match="more than 19 windows"):
        store.windows([[1], [2]], of("count"), windows, max_rows=19)


# -- against a brute-force oracle ---------------------------------------------------------------------------------

TYPES = {1: ValueType.FLOAT, 2: ValueType.FLOAT, 3: ValueType.INTEGER, 4: ValueType.UNSIGNED, 5: ValueType.STRING}
NUMBERS = [1, 2, 3, 4]
HOUR = 3600 * 10**9
BEGINNING = int(datetime(2018, 1, 1, tzinfo=UTC).timestamp()) * 10**9
"""For two years from here on."""
HOURS = 2 * 365 * 24
VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.FLOAT: st.sampled_from([0.1, -7.25, 1e6, 3.0, 0.0]),
    ValueType.INTEGER: st.integers(-3, 3) | st.just(2**60),
    ValueType.UNSIGNED: st.integers(0, 3) | st.just(2**61),
    ValueType.STRING: st.sampled_from(["", "a", "b", "ü"]),
}
CHANGES = [
    int(datetime.fromisoformat(text).timestamp()) * 10**9
    for text in (
        "2018-03-25T01:00Z",  # Berlin
        "2018-10-28T01:00Z",
        "2018-11-04T03:00Z",  # São Paulo
        "2019-02-17T02:00Z",
        "2018-03-31T15:00Z",  # Lord Howe
        "2018-10-06T15:30Z",
    )
]
TIMES = st.one_of(
    st.integers(0, 4 * HOURS).map(lambda quarter: BEGINNING + quarter * HOUR // 4),
    st.integers(-20, 20).map(lambda quarter: BEGINNING + 8 * HOUR + quarter * HOUR // 4 - quarter % 3),
    st.tuples(st.sampled_from(CHANGES), st.integers(-12, 12)).map(lambda both: both[0] + both[1] * HOUR // 4),
)
"""Anywhere, close together (some just before a full quarter of an hour), and around changes of clocks."""
POINTS = st.lists(
    st.sampled_from(sorted(TYPES)).flatmap(lambda n: st.tuples(st.just(n), TIMES, VALUES[TYPES[n]])), max_size=40
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("delete"), st.lists(st.sampled_from(sorted(TYPES)), max_size=2), TIMES, TIMES),
        st.tuples(st.just("maintain"), st.booleans()),
        st.tuples(st.just("reopen")),
    ),
    max_size=8,
)
MINUTES = st.sampled_from([15, 30, 60, 120, 360, 1440, 7 * 1440])
"""Widths whose marks fall on quarters of an hour on any day."""
WIDTHS = MINUTES.map(lambda minutes: {"every_ns": minutes * 60 * 10**9}) | st.sampled_from([1, 3, 12]).map(
    lambda months: {"every_months": months}
)
ZONES = st.sampled_from([None, "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"])
AGGREGATES = [*ALL, Aggregate(Function.PERCENTILE, 30), Aggregate(Function.PERCENTILE, 100)]
GROUPS = st.lists(st.lists(st.sampled_from([*NUMBERS, UNKNOWN_ID]), max_size=4), max_size=3)


def clock(at_ns: int, zone: str | None) -> datetime:
    """What a local clock shows."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at_ns // 10**9)
    return at.astimezone(ZoneInfo(zone or "UTC"))


def label(at_ns: int, windows: Windows) -> Any:
    """What the clock says is one window: the mark that it showed last. Repeated hours are told apart where they are
    windows of their own."""
    at = clock(at_ns, windows.zone)
    if windows.every_months:
        return ((at.year - 1970) * 12 + at.month - 1) // windows.every_months
    shown = at.replace(tzinfo=UTC).timestamp() // 60
    mark = int(shown // (windows.every_ns // 60 // 10**9))
    before, after = at.replace(fold=0).utcoffset(), at.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    is_apart = windows.every_ns <= (before - after) / timedelta(seconds=1) * 10**9
    return mark, at.fold if is_apart else 0


def expected_of(aggregate: Aggregate, points: list[tuple[int, int, Any]]) -> Any:
    """One aggregate of (time, series, value), worked out the slow way with exact fractions."""
    values = [value for _, _, value in sorted(points)]
    ascending = sorted(values)
    match aggregate.function:
        case Function.COUNT:
            return len(values)
        case Function.FIRST:
            return values[0]
        case Function.LAST:
            return values[-1]
        case Function.MODE:
            return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))[0][0]
        case Function.MIN:
            return ascending[0]
        case Function.MAX:
            return ascending[-1]
        case Function.PERCENTILE:
            assert aggregate.percent is not None
            for value in ascending:
                if 100 * sum(other <= value for other in values) >= aggregate.percent * len(values):
                    return value
    exact = [Fraction(value) for value in ascending]
    mean = sum(exact) / len(exact)
    match aggregate.function:
        case Function.SUM:
            return sum(values) if isinstance(values[0], int) else float(sum(exact))
        case Function.MEAN:
            return float(mean)
        case Function.MEDIAN:
            return float((exact[(len(exact) - 1) // 2] + exact[len(exact) // 2]) / 2)
        case Function.SPREAD:
            return ascending[-1] - ascending[0]
        case Function.STDDEV:
            if len(exact) == 1:
                return None
            return math.sqrt(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))
    raise AssertionError(aggregate)


def is_same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-6)
    return type(found) is type(expected) and bool(found == expected)


@pytest.mark.parametrize("name", ["memory", "duck"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    groups=GROUPS,
    width=WIDTHS,
    zone=ZONES,
    span=st.tuples(TIMES, TIMES) | st.just((INTEGER_MIN, INTEGER_MAX)),
)
def test_any_history_is_aggregated_as_the_oracle_says(
    name: str,
    steps: list[tuple[Any, ...]],
    groups: list[list[int]],
    width: dict[str, int],
    zone: str | None,
    span: tuple[int, int],
) -> None:
    points: dict[tuple[int, int], Any] = {}
    with opened(name) as engine:
        engine.store.append(Batch([series_of(series_id, value_type) for series_id, value_type in TYPES.items()]))
        for action, *arguments in steps:
            match action:
                case "append":
                    (new,) = arguments
                    engine.store.append(batch_of(new, {}, TYPES))
                    points.update({(series_id, at_ns): value for series_id, at_ns, value in new})
                case "delete":
                    ids, start_ns, end_ns = arguments
                    engine.store.delete(ids, start_ns=start_ns, end_ns=end_ns)
                    for series_id, at_ns in list(points):
                        if series_id in ids and start_ns <= at_ns < end_ns:
                            del points[series_id, at_ns]
                case "maintain":
                    engine.maintain(*arguments)
                case "reopen":
                    engine.reopen()
        windows = Windows(*span, zone=zone, **width)
        for wanted, aggregates in ((groups, AGGREGATES), ([[5]], of("count", "mode", "first", "last"))):
            types = {TYPES[n] for ids in wanted for n in ids if n in TYPES}
            as_floats = len(types) > 1
            expected: dict[tuple[int, Any], list[tuple[int, int, Any]]] = {}
            for (series_id, at_ns), value in points.items():
                for number, ids in enumerate(wanted):
                    if series_id in ids and span[0] <= at_ns < span[1]:
                        one = (at_ns, series_id, float(value) if as_floats else value)
                        expected.setdefault((number, label(at_ns, windows)), []).append(one)
            found = engine.store.windows(wanted, aggregates, windows).to_pylist()
            assert len(found) == len(expected)
            order = [(row["group"], row["at_ns"]) for row in found]
            assert order == sorted(order)
            in_order = sorted(expected.items(), key=lambda item: (item[0][0], min(item[1])[0]))
            for row, ((number, of_window), of_points) in zip(found, in_order, strict=True):
                assert row["group"] == number
                assert row["at_ns"] <= min(of_points)[0]
                # It begins on the mark, or where the clock passed over it.
                assert label(row["at_ns"], windows) == of_window
                assert label(row["at_ns"] - 1, windows) != of_window
                for aggregate in aggregates:
                    assert is_same(row[aggregate.name], expected_of(aggregate, of_points)), aggregate
