"""What every store promises of records, run on each engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contracts.test_store import (
    BOUND,
    IDS,
    POINTS,
    TIMES,
    TYPES,
    UNKNOWN_ID,
    VALUES,
    Engine,
    Oracle,
    batch_of,
    opened,
)

from headwater.errors import BadRequest, Cancelled
from headwater.model.series import ValueType
from headwater.store import Store
from headwater.store.cancellation import Cancellation


@pytest.fixture(params=["memory", "duck"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    types = {1: ValueType.FLOAT, 2: ValueType.STRING, 3: ValueType.FLOAT, 4: ValueType.INTEGER}
    points = [(1, 20, 1.5), (1, 10, 0.5), (2, 20, "on"), (3, 10, 3.0), (4, 30, 7), (1, 20, 2.5)]
    engine.store.append(batch_of(points, types, {}))
    return engine.store


def records(store: Store, keys: Sequence[Mapping[str, int]], **query: Any) -> pa.Table:
    return pa.Table.from_batches(store.records(keys, **query))


def test_records_ascend_by_key_and_time_with_a_column_for_each_name(store: Store) -> None:
    found = records(store, [{"a": 3}, {"a": 1, "b": 2, "c": UNKNOWN_ID}, {"d": 4}])
    assert found.schema == pa.schema(
        [
            ("key", pa.int64()),
            ("at_ns", pa.int64()),
            ("a", pa.float64()),
            ("b", pa.string()),
            ("c", pa.null()),
            ("d", pa.int64()),
        ]
    )
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (0, 10, 3.0, None, None, None),
        (1, 10, 0.5, None, None, None),
        (1, 20, 2.5, "on", None, None),
        (2, 30, None, None, None, 7),
    ]


def test_records_of_a_span(store: Store) -> None:
    found = records(store, [{"a": 1}, {"d": 4}], start_ns=20, end_ns=30)
    assert found.column("at_ns").to_pylist() == [20]


@pytest.mark.parametrize("keys", [[], [{}], [{"a": UNKNOWN_ID}]])
def test_without_points_there_is_one_empty_batch(store: Store, keys: list[dict[str, int]]) -> None:
    (batch,) = store.records(keys)
    assert batch.num_rows == 0
    assert batch.schema.names == ["key", "at_ns", *(name for key in keys for name in key)]


def test_a_column_has_one_type(store: Store) -> None:
    with pytest.raises(BadRequest, match="a has values of several types"):
        records(store, [{"a": 1}, {"a": 4}])


def test_a_query_that_was_cancelled_says_why(store: Store) -> None:
    stop = Cancellation()
    stop.cancel("nobody waits")
    with pytest.raises(Cancelled, match="nobody waits"):
        records(store, [{"a": 1}], stop=stop)
    with pytest.raises(Cancelled, match="nobody waits"):
        store.rows([1], stop=stop)


# -- against rows, which are held against an oracle elsewhere -----------------------------------------------------


@st.composite
def some_keys(draw: st.DrawFn) -> list[dict[str, int]]:
    """Keys that share out some of the series, in any order; a column has series of one type."""
    keys: list[dict[str, int]] = [{} for _ in range(draw(st.integers(1, 4)))]
    for series_id in draw(st.permutations([*TYPES, UNKNOWN_ID])):
        place = draw(st.none() | st.sampled_from(keys))
        if place is not None:
            name = TYPES[series_id].name if series_id in TYPES else "unknown"
            place[name if name not in place else f"{name} {series_id}"] = series_id
    return keys


FAR_TIMES = st.sampled_from([-(2**63), -(2**62) - 1, -1, 0, 1 << 53, 2**63 - 1])
FAR_POINTS = st.lists(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda series_id: st.tuples(st.just(series_id), TIMES | FAR_TIMES, VALUES[TYPES[series_id]])
    ),
    max_size=40,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), POINTS | FAR_POINTS),
        st.tuples(st.just("append"), POINTS | FAR_POINTS),
        st.tuples(st.just("records"), some_keys(), BOUND | FAR_TIMES, BOUND | FAR_TIMES),
        st.tuples(st.just("delete"), IDS, BOUND, BOUND),
        st.tuples(st.just("maintain"), st.booleans()),
    ),
    max_size=8,
)


@pytest.mark.parametrize("name", ["memory", "duck"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, keys=some_keys())
def test_records_are_the_rows_of_each_key(name: str, steps: list[tuple[Any, ...]], keys: list[dict[str, int]]) -> None:
    oracle = Oracle()
    with opened(name) as engine:
        for action, *arguments in [*steps, ("records", keys, None, None)]:
            match action:
                case "append":
                    engine.store.append(oracle.append(*arguments))
                case "records":
                    keys, start, end = arguments
                    found = records(engine.store, keys, start_ns=start, end_ns=end)
                    assert repr(found.to_pylist()) == repr(expected_records(engine.store, keys, start, end))
                case "delete":
                    ids, start, end = arguments
                    engine.store.delete(ids, start_ns=start, end_ns=end)
                    oracle.delete(*arguments)
                case "maintain":
                    engine.maintain(*arguments)


def expected_records(
    store: Store, keys: list[dict[str, int]], start: int | None, end: int | None
) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for key in keys for name in key))
    return [
        {"key": number, "at_ns": row["at_ns"]} | {name: row[str(key[name])] if name in key else None for name in names}
        for number, key in enumerate(keys)
        for row in store.rows(list(key.values()), start_ns=start, end_ns=end).to_pylist()
    ]
