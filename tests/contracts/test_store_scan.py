"""What every store promises of scans: the records, in any order, whatever is done to the store meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from tests.contracts.test_store import UNKNOWN_ID, Engine, batch_of, opened

from headwater.errors import Cancelled, StorageError
from headwater.model.series import ValueType
from headwater.store import Store
from headwater.store.cancellation import Cancellation

TYPES = {1: ValueType.FLOAT, 2: ValueType.STRING, 3: ValueType.FLOAT, 4: ValueType.INTEGER}
POINTS = [(1, 20, 1.5), (1, 10, 0.5), (2, 20, "on"), (3, 10, 3.0), (4, 30, 7), (1, 20, 2.5), (3, 40, 4.0), (2, 50, "x")]


@pytest.fixture(params=["memory", "duck"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        engine.store.append(batch_of(POINTS, TYPES, {}))
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    return engine.store


def scanned(store: Store, keys: Sequence[Mapping[str, int]], **query: Any) -> list[dict[str, Any]]:
    rows = [row for batch in store.scan(keys, **query) for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: (row["key"], row["at_ns"]))


@pytest.mark.parametrize(
    "keys",
    [
        [{"a": 1}],
        [{"a": 1}, {"a": 3}],
        [{"a": 1, "b": 2}, {"a": 3, "c": 4}],
        [{"a": 4}, {}, {"b": 2}],
        [{"a": UNKNOWN_ID}, {"b": 2}],
    ],
)
@pytest.mark.parametrize("span", [{}, {"start_ns": 20, "end_ns": 40}, {"end_ns": 20}, {"start_ns": 60}])
@pytest.mark.parametrize("is_whole", [False, True])
def test_a_scan_has_the_records(
    engine: Engine, keys: list[dict[str, int]], span: dict[str, int], is_whole: bool
) -> None:
    engine.maintain(is_whole)
    engine.store.delete([1], start_ns=10, end_ns=11)
    expected = [row for batch in engine.store.records(keys, **span) for row in batch.to_pylist()]
    for row in expected:
        if keys == [{"a": UNKNOWN_ID}, {"b": 2}]:
            del row["a"]  # a scan leaves it out
    assert scanned(engine.store, keys, **span) == expected


@pytest.mark.parametrize("keys", [[], [{}], [{"a": UNKNOWN_ID}]])
def test_a_scan_of_nothing_is_empty(store: Store, keys: list[dict[str, int]]) -> None:
    assert scanned(store, keys) == []


def test_a_scan_is_of_one_moment(engine: Engine) -> None:
    store = engine.store
    batches = store.scan([{"a": 1}, {"a": 3}])
    rows = next(batches).num_rows
    store.append(batch_of([(1, at_ns, 9.0) for at_ns in range(100, 150)], {}, TYPES))
    engine.maintain(is_whole=True)
    store.delete([1, 3])
    engine.maintain(is_whole=True)
    assert rows + sum(batch.num_rows for batch in batches) == 4


def test_a_scan_can_be_left_early_and_broken_off(store: Store) -> None:
    batches = store.scan([{"a": 1}, {"a": 3}])
    next(batches)
    del batches
    stop = Cancellation()
    stop.cancel("nobody waits")
    with pytest.raises(Cancelled, match="nobody waits"):
        list(store.scan([{"a": 1}], stop=stop))


def test_a_closed_store_has_no_scans(store: Store) -> None:
    store.close()
    with pytest.raises(StorageError):
        list(store.scan([{"a": 1}]))
