"""What every store promises of records, run on each engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from tests.contracts.test_store import UNKNOWN_ID, Engine, batch_of, opened

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
