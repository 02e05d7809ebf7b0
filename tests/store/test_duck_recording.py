"""Records are read in portions that need little memory, however many keys there are and however long one is."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store

MOST = 1_000
KEY = SeriesKey(1, "m")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    with closing(open_duck_store(tmp_path, hot_rows=20_000, deletions_wait_s=0, portion_points=MOST)) as store:
        yield store


def put(store: DuckStore, first_id: int, series: int, times: list[int]) -> None:
    """Points of some new series at each of the times, whose values are the times."""
    new = [Series(first_id + n, KEY, str(n), ValueType.INTEGER) for n in range(series)]
    columns = Columns(ValueType.INTEGER)
    columns.series_ids = array("q", [one.id for one in new for _ in times])
    columns.at_ns = array("q", times * series)
    columns.values = array("q", times * series)
    store.append(Batch(new, {ValueType.INTEGER: columns}))
    while store.maintain():
        pass


def sizes(store: DuckStore, keys: list[dict[str, int]], expected: list[tuple[int, int]]) -> list[int]:
    """How many records the batches have that are not empty; all of them have to be the expected `(key, at_ns)`."""
    batches = [batch for batch in store.records(keys) if batch.num_rows]
    found = [
        (row["key"], row["at_ns"]) for batch in batches for row in batch.to_pylist() if row["value"] == row["at_ns"]
    ]
    assert found == expected
    return [batch.num_rows for batch in batches]


def test_short_keys_are_read_together(store: DuckStore) -> None:
    put(store, 1, 3_000, [5, 7])
    found = sizes(store, [{"value": 3_000 - n} for n in range(3_000)], [(n, at) for n in range(3_000) for at in (5, 7)])
    assert found == [MOST] * 6


def test_a_long_key_is_cut(store: DuckStore) -> None:
    times = list(range(0, 30_000_000, 1_000))
    put(store, 1, 1, times)
    put(store, 2, 2, [3, 4])
    keys = [{"value": 2}, {"value": 1}, {"value": 3}]
    found = sizes(store, keys, [(0, 3), (0, 4), *((1, at) for at in times), (2, 3), (2, 4)])
    assert max(found) <= MOST
    assert len(found) <= 2 + 2 * len(times) / MOST


def test_a_long_key_whose_times_are_close_together_and_far_apart(store: DuckStore) -> None:
    times = [-(2**63), *range(-4_000, 4_000), *range(2**62, 2**62 + 3_000), 2**63 - 1]
    put(store, 1, 1, times)
    found = sizes(store, [{"value": 1}], [(0, at) for at in times])
    assert max(found) <= MOST
    assert len(found) <= 3 + 2 * len(times) / MOST


def test_long_texts_make_short_portions(store: DuckStore) -> None:
    texts = Columns(ValueType.STRING)
    for at_ns in range(1_000):
        texts.append(1, at_ns, "x" * 320)
    store.append(Batch([Series(1, KEY, "s", ValueType.STRING)], {ValueType.STRING: texts}))
    found = [batch.num_rows for batch in store.records([{"text": 1}])][1:]
    assert sum(found) == 1_000
    assert max(found) <= MOST // 10


def test_many_columns_make_short_batches(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path)) as store:
        put(store, 1, 400, list(range(20)))
        found = [batch.num_rows for batch in store.records([{str(n): 1 + n} for n in range(400)])][1:]
        assert sum(found) == 8_000
        assert max(found) <= 2_500


def test_what_is_stored_meanwhile_makes_no_portion_longer(store: DuckStore) -> None:
    put(store, 1, 1, list(range(3_000)))
    batches = store.records([{"value": 1}])
    next(batches)
    first = next(batches)
    put(store, 2, 1, list(range(9_000)))
    more = Columns(ValueType.INTEGER)
    for at_ns in range(3_000, 9_000):
        more.append(1, at_ns, at_ns)
    store.append(Batch([], {ValueType.INTEGER: more}))
    assert [first.num_rows + sum(rest := [batch.num_rows for batch in batches]), max(rest) <= MOST] == [3_000, True]
