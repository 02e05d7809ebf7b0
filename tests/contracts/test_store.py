"""What every store promises, run on each engine."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import StorageError
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, Series, SeriesKey, ValueType
from headwater.store import ARROW_TYPES, Batch, Columns, Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore
from headwater.store.windows import Windows

KEY = SeriesKey(7, "weather", (("room", "attic"), ("site", "")))
UNKNOWN_ID = 999
HOT_ROWS = 5
"""Few, so that a short history makes many runs."""
PORTION_POINTS = 4
"""Few, so that records of a few points are read in many portions."""


class Engine:
    """One engine's store, which can be closed and opened again where it keeps points."""

    store: Store

    def reopen(self) -> None:
        """Close and open again, if the engine outlives its process."""

    def maintain(self, is_whole: bool) -> None:
        """Put the store in order, wholly or one step."""
        while self.store.maintain() and is_whole:
            pass


class MemoryEngine(Engine):
    def __init__(self) -> None:
        self.store = MemoryStore()


class DuckEngine(Engine):
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.store = self._open()

    def reopen(self) -> None:
        self.store.close()
        self.store = self._open()

    def _open(self) -> Store:
        return open_duck_store(
            self._directory,
            memory_limit_mb=256,
            hot_rows=HOT_ROWS,
            deletions_wait_s=0,
            portion_points=PORTION_POINTS,
        )


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        engine = MemoryEngine() if name == "memory" else DuckEngine(Path(directory) / "points")
        try:
            yield engine
        finally:
            engine.store.close()


@pytest.fixture(params=["memory", "duck"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    return engine.store


def series_of(series_id: int, value_type: ValueType) -> Series:
    return Series(series_id, KEY, f"field{series_id}", value_type)


def batch_of(points: list[tuple[int, int, Any]], new: dict[int, ValueType], known: dict[int, ValueType]) -> Batch:
    """A batch of (series id, time, value), with the types of new and of known series."""
    batch = Batch([series_of(series_id, value_type) for series_id, value_type in new.items()])
    for series_id, at_ns, value in points:
        value_type = (known | new)[series_id]
        batch.columns.setdefault(value_type, Columns(value_type)).append(series_id, at_ns, value)
    return batch


def put(store: Store, value_type: ValueType, points: list[tuple[int, int, Any]], *, new: bool = True) -> None:
    """Append points of one type, with their series if they are new."""
    types = dict.fromkeys((series_id for series_id, _, _ in points), value_type)
    store.append(batch_of(points, types if new else {}, types))


def pairs(store: Store, series_id: int, **query: Any) -> list[tuple[int, Any]]:
    table = store.rows([series_id], **query)
    return list(zip(table.column("at_ns").to_pylist(), table.column(str(series_id)).to_pylist(), strict=True))


def test_a_new_store_is_empty(store: Store) -> None:
    assert list(store.catalogue()) == []
    assert store.maxima([1]) == {}
    table = store.rows([1])
    assert table.schema == pa.schema([("at_ns", pa.int64()), ("1", pa.null())])
    assert table.num_rows == 0
    store.delete([1])


@pytest.mark.parametrize(
    ("value_type", "values"),
    [
        (ValueType.FLOAT, [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf, math.nan]),
        (ValueType.INTEGER, [0, INTEGER_MIN, INTEGER_MAX]),
        (ValueType.UNSIGNED, [0, UNSIGNED_MAX]),
        (ValueType.BOOLEAN, [True, False]),
        (ValueType.STRING, ["", "grün", "a\0b", "'; DROP TABLE meta", "x" * 70_000, "\U0001f327"]),
    ],
)
def test_values_come_back_as_they_were(engine: Engine, value_type: ValueType, values: list[Any]) -> None:
    put(engine.store, value_type, [(1, at_ns, value) for at_ns, value in enumerate(values)])
    for _ in range(2):
        table = engine.store.rows([1])
        assert table.schema == pa.schema([("at_ns", pa.int64()), ("1", ARROW_TYPES[value_type])])
        assert repr(table.column("1").to_pylist()) == repr(values)
        engine.reopen()


def test_times_reach_over_the_whole_range(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, INTEGER_MAX, 3), (1, INTEGER_MIN, 1), (1, -1, 2)])
    assert pairs(store, 1) == [(INTEGER_MIN, 1), (-1, 2), (INTEGER_MAX, 3)]
    assert pairs(store, 1, start_ns=INTEGER_MIN, end_ns=INTEGER_MAX) == [(INTEGER_MIN, 1), (-1, 2)]
    assert pairs(store, 1, start_ns=-(10**40), end_ns=10**40) == pairs(store, 1)
    assert pairs(store, 1, start_ns=10**40) == []
    assert pairs(store, 1, end_ns=-(10**40)) == []


def test_rows_unite_series_of_all_types_by_time(store: Store) -> None:
    types = dict(enumerate(ValueType, start=1))
    points = [(1, 10, 1.5), (5, 10, "on"), (2, 20, 3), (3, 20, 4), (4, 30, 1), (1, 30, 2.5)]
    store.append(batch_of(points, types, {}))
    table = store.rows([5, 1, UNKNOWN_ID, 4, 3, 2, 1])
    assert table.column_names == ["at_ns", "5", "1", str(UNKNOWN_ID), "4", "3", "2"]
    assert table.to_pydict() == {
        "at_ns": [10, 20, 30],
        "5": ["on", None, None],
        "1": [1.5, None, 2.5],
        str(UNKNOWN_ID): [None, None, None],
        "4": [None, None, True],
        "3": [None, 4, None],
        "2": [None, 3, None],
    }


def test_a_series_without_points_has_a_column_of_its_type(store: Store) -> None:
    store.append(Batch([series_of(1, ValueType.STRING), series_of(2, ValueType.UNSIGNED)]))
    for newest in (None, 0, 5):
        table = store.rows([1, 2], newest=newest)
        assert table.schema == pa.schema([("at_ns", pa.int64()), ("1", pa.string()), ("2", pa.uint64())])


def test_no_series_give_no_rows(store: Store) -> None:
    put(store, ValueType.FLOAT, [(1, 0, 1.0)])
    assert store.rows([]).to_pydict() == {"at_ns": []}


def test_bounds_include_the_start_and_exclude_the_end(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in range(10)])
    assert pairs(store, 1, start_ns=3, end_ns=5) == [(3, 3), (4, 4)]
    assert pairs(store, 1, start_ns=8) == [(8, 8), (9, 9)]
    assert pairs(store, 1, end_ns=1) == [(0, 0)]
    assert pairs(store, 1, start_ns=5, end_ns=5) == []


def test_newest_keeps_the_latest_rows_within_the_bounds(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in reversed(range(10))])
    assert pairs(store, 1, newest=0) == []
    assert pairs(store, 1, newest=2) == [(8, 8), (9, 9)]
    assert pairs(store, 1, newest=2, start_ns=9) == [(9, 9)]
    assert pairs(store, 1, newest=2, end_ns=4) == [(2, 2), (3, 3)]
    assert len(pairs(store, 1, newest=1000)) == 10


def test_oldest_keeps_the_earliest_rows_within_the_bounds(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in reversed(range(10))])
    assert pairs(store, 1, oldest=0) == []
    assert pairs(store, 1, oldest=2) == [(0, 0), (1, 1)]
    assert pairs(store, 1, oldest=2, start_ns=9) == [(9, 9)]
    assert pairs(store, 1, oldest=2, start_ns=4, end_ns=5) == [(4, 4)]
    assert len(pairs(store, 1, oldest=1000)) == 10


def test_newest_counts_rows_however_often_their_points_were_replaced(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, at_ns, 0) for at_ns in range(5)])
    put(store, ValueType.INTEGER, [(1, 4, number) for number in range(1000)], new=False)
    put(store, ValueType.STRING, [(2, at_ns, "x") for at_ns in range(-100, 3)])
    table = store.rows([1, 2], newest=3)
    assert table.to_pydict() == {"at_ns": [2, 3, 4], "1": [0, 0, 999], "2": ["x", None, None]}


def test_the_newer_value_of_one_time_wins(engine: Engine) -> None:
    put(engine.store, ValueType.FLOAT, [(1, 5, 1.0), (1, 5, 2.0), (1, 6, 9.0)])
    assert pairs(engine.store, 1) == [(5, 2.0), (6, 9.0)]
    engine.reopen()
    put(engine.store, ValueType.FLOAT, [(1, 5, 0.5)], new=False)
    assert pairs(engine.store, 1) == [(5, 0.5), (6, 9.0)]


def test_the_catalogue_lists_series_by_id(engine: Engine) -> None:
    series = [
        Series(3, SeriesKey(1, "m"), "f", ValueType.FLOAT),
        Series(1, SeriesKey(2, "", (("a", ""), ("b", "ü='\"{}"))), "", ValueType.STRING),
        Series(2, SeriesKey(INTEGER_MAX, "m" * 1000, (("A", "1"), ("a", "2"))), "f", ValueType.BOOLEAN),
    ]
    engine.store.append(Batch(series[:2]))
    engine.store.append(Batch(series[2:]))
    for _ in range(2):
        assert list(engine.store.catalogue()) == sorted(series)
        engine.reopen()


def test_a_number_given_to_two_series_is_refused(store: Store) -> None:
    put(store, ValueType.INTEGER, [(1, 0, 1)])
    with pytest.raises(StorageError):
        store.append(batch_of([(1, 0, 2)], {1: ValueType.INTEGER}, {}))
    with pytest.raises(StorageError):
        store.append(Batch([series_of(2, ValueType.FLOAT), series_of(2, ValueType.FLOAT)]))
    assert list(store.catalogue()) == [series_of(1, ValueType.INTEGER)]
    assert pairs(store, 1) == [(0, 1)]


def test_a_batch_that_is_refused_leaves_nothing(engine: Engine) -> None:
    put(engine.store, ValueType.INTEGER, [(1, 0, 1)])
    batch = batch_of([(1, 0, 2), (2, 0, "\ud800")], {2: ValueType.STRING}, {1: ValueType.INTEGER})
    with pytest.raises(StorageError):
        engine.store.append(batch)
    for _ in range(2):
        assert pairs(engine.store, 1) == [(0, 1)]
        assert list(engine.store.catalogue()) == [series_of(1, ValueType.INTEGER)]
        engine.reopen()
    put(engine.store, ValueType.STRING, [(2, 0, "fine")])
    assert pairs(engine.store, 2) == [(0, "fine")]


def test_a_batch_may_be_used_again_after_it_was_stored(store: Store) -> None:
    batch = batch_of([(1, 0, 1.0)], {1: ValueType.FLOAT}, {})
    store.append(batch)
    batch.new_series.clear()
    batch.columns[ValueType.FLOAT].append(1, 1, 2.0)
    store.append(batch)
    assert pairs(store, 1) == [(0, 1.0), (1, 2.0)]


def test_an_empty_batch_is_nothing(store: Store) -> None:
    store.append(Batch())
    store.append(Batch(columns={ValueType.FLOAT: Columns(ValueType.FLOAT)}))
    assert list(store.catalogue()) == []


def test_maxima_are_of_the_values_that_stand(store: Store) -> None:
    types = {1: ValueType.INTEGER, 2: ValueType.UNSIGNED, 3: ValueType.FLOAT, 4: ValueType.INTEGER}
    points = [(1, 0, -5), (1, 1, 70), (1, 2, -9), (2, 0, UNSIGNED_MAX), (2, 1, 1), (3, 0, 1e9)]
    store.append(batch_of(points, types, {}))
    assert store.maxima([1, 2, 3, 4, UNKNOWN_ID]) == {1: 70, 2: UNSIGNED_MAX}
    put(store, ValueType.INTEGER, [(1, 1, -6)], new=False)
    store.delete([2], end_ns=1)
    assert store.maxima([1, 2]) == {1: -5, 2: 1}


def test_times_are_found_again(store: Store) -> None:
    types = {1: ValueType.INTEGER, 2: ValueType.STRING, 3: ValueType.FLOAT}
    store.append(batch_of([(1, -5, 1), (1, 70, 2), (2, 9, "x")], types, {}))
    put(store, ValueType.INTEGER, [(1, 70, 3)], new=False)
    assert store.newest_times([1, 2, 3, UNKNOWN_ID]) == {1: 70, 2: 9}
    assert store.times(1, {-5, 9, 70}) == {-5, 70}
    assert store.times(2, [9, 10]) == {9}
    assert store.times(3, {9}) == set()
    assert store.times(UNKNOWN_ID, {9}) == set()
    assert store.times(1, ()) == set()
    store.delete([1], start_ns=0)
    assert store.newest_times([1]) == {1: -5}
    assert store.times(1, {-5, 70}) == {-5}


def test_points_are_found_by_their_values(engine: Engine) -> None:
    types = {1: ValueType.INTEGER, 2: ValueType.INTEGER}
    engine.store.append(batch_of([*((1, 10 * n, n) for n in range(50)), (2, 5, 7), (1, 1_000, 7)], types, {}))
    put(engine.store, ValueType.INTEGER, [(1, 80, 9), (1, -3, 10)], new=False)
    engine.store.delete([1], start_ns=110, end_ns=120)
    for _ in range(2):
        find = engine.store.times_of
        assert find(1, 7, 7, 10) == [70, 1_000]
        assert find(1, 7, 7, 1) == [1_000]
        assert find(1, 8, 12, 100) == [-3, 80, 90, 100, 120], "of points that were replaced, none"
        assert find(1, 8, 12, 2) == [100, 120]
        assert find(1, 8, 12, 0) == find(1, 90, 99, 5) == find(UNKNOWN_ID, 1, 2, 3) == []
        assert find(2, 0, 100, 5) == [5]
        engine.reopen()
        engine.maintain(is_whole=True)


def test_delete_of_a_span_keeps_the_series(engine: Engine) -> None:
    put(engine.store, ValueType.INTEGER, [(1, at_ns, at_ns) for at_ns in range(6)])
    put(engine.store, ValueType.STRING, [(2, at_ns, "x") for at_ns in range(6)])
    engine.store.delete([1, UNKNOWN_ID, 2], start_ns=2, end_ns=4)
    engine.store.delete([2], start_ns=5)
    for _ in range(2):
        assert [at_ns for at_ns, _ in pairs(engine.store, 1)] == [0, 1, 4, 5]
        assert [at_ns for at_ns, _ in pairs(engine.store, 2)] == [0, 1, 4]
        assert len(list(engine.store.catalogue())) == 2
        engine.reopen()
    engine.store.delete([1], start_ns=-1000)
    assert pairs(engine.store, 1) == []
    assert len(list(engine.store.catalogue())) == 2


def test_delete_without_bounds_forgets_the_series(engine: Engine) -> None:
    put(engine.store, ValueType.INTEGER, [(1, 0, 1), (2, 0, 2)])
    engine.store.delete([1])
    for _ in range(2):
        assert list(engine.store.catalogue()) == [series_of(2, ValueType.INTEGER)]
        assert engine.store.rows([1, 2]).to_pydict() == {"at_ns": [0], "1": [None], "2": [2]}
        engine.reopen()
    put(engine.store, ValueType.STRING, [(1, 3, "anew")])
    assert pairs(engine.store, 1) == [(3, "anew")]


def test_reads_see_all_or_nothing_of_a_batch(store: Store) -> None:
    batches = 60
    types = {1: ValueType.INTEGER, 2: ValueType.STRING}
    store.append(batch_of([(1, 0, 0), (2, 0, "0")], types, {}))
    torn: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            last = store.rows([1, 2], newest=1).to_pylist()[0]
            count = store.rows([1, 2]).num_rows
            if str(last["1"]) != last["2"] or count % 10 != 1:
                torn.append((last, count))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(batches):
        times = range(number * 10 + 1, number * 10 + 11)
        points = [point for at_ns in times for point in ((1, at_ns, at_ns), (2, at_ns, str(at_ns)))]
        store.append(batch_of(points, {}, types))
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert store.rows([1, 2]).num_rows == batches * 10 + 1


def test_a_closed_store_refuses_everything(store: Store) -> None:
    put(store, ValueType.FLOAT, [(1, 0, 1.0)])
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.append(Batch()),
        lambda: list(store.catalogue()),
        lambda: store.rows([1]),
        lambda: store.rows([]),
        lambda: store.windows([[1]], [Aggregate(Function.COUNT)], Windows(0, 1, every_ns=1)),
        lambda: store.windows([], [], Windows(0, 1, every_ns=1)),
        lambda: store.maxima([1]),
        lambda: store.newest_times([1]),
        lambda: store.times(1, [1]),
        lambda: store.maxima([]),
        lambda: store.delete([UNKNOWN_ID]),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="closed"):
            call()


def test_a_point_that_does_not_fit_its_column_changes_nothing() -> None:
    columns = Columns(ValueType.INTEGER)
    columns.append(1, 1, 1)
    for series_id, at_ns, value in [
        (1, 2, 2**63),
        (1, 2**63, 2),
        (2**63, 2, 2),
        (1, 2, "x"),
        (1, "x", 2),
        (None, 2, 2),
    ]:
        with pytest.raises((OverflowError, TypeError)):
            columns.append(series_id, at_ns, value)  # type: ignore[arg-type]
    assert (list(columns.series_ids), list(columns.at_ns), list(columns.values)) == ([1], [1], [1])


# -- against a brute-force oracle ---------------------------------------------------------------------------------

TYPES = {
    1: ValueType.FLOAT,
    2: ValueType.FLOAT,
    3: ValueType.INTEGER,
    4: ValueType.UNSIGNED,
    5: ValueType.BOOLEAN,
    6: ValueType.STRING,
    7: ValueType.STRING,
}
VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.FLOAT: st.floats(allow_nan=False),
    ValueType.INTEGER: st.integers(INTEGER_MIN, INTEGER_MAX),
    ValueType.UNSIGNED: st.integers(0, UNSIGNED_MAX),
    ValueType.BOOLEAN: st.booleans(),
    ValueType.STRING: st.text(max_size=5),
}
TIMES = st.integers(-3, 8)
IDS = st.lists(st.sampled_from([*TYPES, UNKNOWN_ID]), min_size=1, max_size=5)
BOUND = st.none() | TIMES
POINTS = st.lists(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda series_id: st.tuples(st.just(series_id), TIMES, VALUES[TYPES[series_id]])
    ),
    max_size=40,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("rows"), IDS, BOUND, BOUND, st.none() | st.integers(0, 6)),
        st.tuples(st.just("rows"), IDS, BOUND, BOUND, st.none() | st.integers(0, 6)),
        st.tuples(st.just("maxima"), IDS),
        st.tuples(st.just("delete"), IDS, BOUND, BOUND),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("maintain"), st.booleans()),
    ),
    max_size=14,
)


class Oracle:
    """What a store must answer, worked out the slow way."""

    def __init__(self) -> None:
        self.series: set[int] = set()
        self.points: dict[tuple[int, int], Any] = {}

    def append(self, points: list[tuple[int, int, Any]]) -> Batch:
        new = {series_id: TYPES[series_id] for series_id, _, _ in points if series_id not in self.series}
        self.series |= new.keys()
        self.points.update({(series_id, at_ns): value for series_id, at_ns, value in points})
        return batch_of(points, new, TYPES)

    def rows(self, ids: list[int], start: int | None, end: int | None, newest: int | None) -> dict[str, list[Any]]:
        times = sorted({at for series_id, at in self.points if series_id in ids and within(at, start, end)})
        if newest is not None:
            times = times[len(times) - min(newest, len(times)) :]
        return self._rows_at(times, ids)

    def oldest_rows(self, ids: list[int], start: int | None, end: int | None, oldest: int) -> dict[str, list[Any]]:
        times = sorted({at for series_id, at in self.points if series_id in ids and within(at, start, end)})
        return self._rows_at(times[:oldest], ids)

    def _rows_at(self, times: list[int], ids: list[int]) -> dict[str, list[Any]]:
        return {"at_ns": times} | {str(one): [self.points.get((one, at)) for at in times] for one in ids}

    def maxima(self, ids: list[int]) -> dict[int, int]:
        values: dict[int, list[int]] = {}
        for (series_id, _), value in self.points.items():
            if series_id in ids and TYPES[series_id] in (ValueType.INTEGER, ValueType.UNSIGNED):
                values.setdefault(series_id, []).append(value)
        return {series_id: max(of_series) for series_id, of_series in values.items()}

    def delete(self, ids: list[int], start: int | None, end: int | None) -> None:
        if start is None and end is None:
            self.series -= set(ids)
        for series_id, at in list(self.points):
            if series_id in ids and within(at, start, end):
                del self.points[series_id, at]


def within(at: int, start: int | None, end: int | None) -> bool:
    return (start is None or start <= at) and (end is None or at < end)


@pytest.mark.parametrize("name", ["memory", "duck"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_history_reads_as_the_oracle_says(name: str, steps: list[tuple[Any, ...]]) -> None:
    oracle = Oracle()
    with opened(name) as engine:
        for action, *arguments in [*steps, ("rows", list(TYPES), None, None, None), ("maxima", list(TYPES))]:
            match action:
                case "append":
                    engine.store.append(oracle.append(*arguments))
                case "rows":
                    ids, start, end, newest = arguments
                    table = engine.store.rows(ids, start_ns=start, end_ns=end, newest=newest)
                    # repr, because 0.0 == -0.0 and True == 1
                    assert repr(table.to_pydict()) == repr(oracle.rows(*arguments))
                    if newest is not None:
                        table = engine.store.rows(ids, start_ns=start, end_ns=end, oldest=newest)
                        assert repr(table.to_pydict()) == repr(oracle.oldest_rows(ids, start, end, newest))
                case "maxima":
                    assert engine.store.maxima(*arguments) == oracle.maxima(*arguments)
                case "delete":
                    ids, start, end = arguments
                    engine.store.delete(ids, start_ns=start, end_ns=end)
                    oracle.delete(*arguments)
                case "reopen":
                    engine.reopen()
                case "maintain":
                    engine.maintain(*arguments)
        assert {series.id: series.type for series in engine.store.catalogue()} == {
            series_id: TYPES[series_id] for series_id in sorted(oracle.series)
        }
