"""Queries: named series to rows, over the memory store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from headwater.errors import StorageError
from headwater.model.series import TYPE_OF, SeriesKey, Value
from headwater.services.catalogue import Catalogue
from headwater.services.query import Column, Query
from headwater.store import Batch, Columns
from headwater.store.memory import MemoryStore

KEY = SeriesKey(1, "entry")
TEMPERATURE, NUMBER, TEXT = Column("field1", float), Column("entry_id", int), Column("field1", str)


class Archive:
    """A store with its catalogue, and a query over both."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.catalogue = Catalogue()
        self.query = Query(self.store, self.catalogue)

    def put(self, key: SeriesKey, field: str, points: dict[int, Value]) -> int:
        value_type = TYPE_OF[type(next(iter(points.values())))]
        series = self.catalogue.create(key, field, value_type)
        columns = Columns(value_type)
        for at_ns, value in points.items():
            columns.append(series.id, at_ns, value)
        self.store.append(Batch([series], {value_type: columns}))
        return series.id


@pytest.fixture
def archive() -> Iterator[Archive]:
    opened = Archive()
    with closing(opened.query):
        yield opened


async def test_rows_are_the_times_at_which_any_column_has_a_value(archive: Archive) -> None:
    archive.put(KEY, "field1", {10: 1.5, 30: 2.5})
    archive.put(KEY, "entry_id", {10: 1, 20: 2})
    rows = await archive.query.rows(KEY, [TEMPERATURE, NUMBER])
    assert rows.at_ns == [10, 20, 30]
    assert rows.columns == {TEMPERATURE: [1.5, None, 2.5], NUMBER: [1, 2, None]}


async def test_series_of_one_name_and_several_types_are_columns_of_their_own(archive: Archive) -> None:
    archive.put(KEY, "field1", {10: 1.5})
    archive.put(KEY, "field1", {10: "1.50", 20: "on"})
    rows = await archive.query.rows(KEY, [TEXT, TEMPERATURE])
    assert rows.columns == {TEXT: ["1.50", "on"], TEMPERATURE: [1.5, None]}


async def test_a_column_that_was_never_written_is_empty(archive: Archive) -> None:
    archive.put(KEY, "entry_id", {10: 1, 20: 2})
    rows = await archive.query.rows(KEY, [TEMPERATURE, NUMBER, TEXT])
    assert rows.columns == {TEMPERATURE: [None, None], NUMBER: [1, 2], TEXT: [None, None]}


async def test_a_key_that_was_never_written_has_no_rows(archive: Archive) -> None:
    rows = await archive.query.rows(SeriesKey(9, "entry"), [TEMPERATURE, NUMBER])
    assert rows == ([], {TEMPERATURE: [], NUMBER: []})
    assert list(archive.catalogue.of_bucket(9)) == [], "asking makes no series"


async def test_other_keys_do_not_shine_through(archive: Archive) -> None:
    archive.put(KEY, "field1", {10: 1.5})
    archive.put(SeriesKey(1, "entry", (("room", "attic"),)), "field1", {10: 9.0, 20: 9.0})
    archive.put(SeriesKey(2, "entry"), "field1", {10: 9.0, 30: 9.0})
    assert await archive.query.rows(KEY, [TEMPERATURE]) == ([10], {TEMPERATURE: [1.5]})


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({}, [10, 20, 30]),
        ({"start_ns": 20}, [20, 30]),
        ({"end_ns": 30}, [10, 20]),
        ({"start_ns": 11, "end_ns": 30}, [20]),
        ({"start_ns": 40}, []),
        ({"newest": 2}, [20, 30]),
        ({"newest": 5}, [10, 20, 30]),
        ({"newest": 0}, []),
        ({"newest": 1, "end_ns": 30}, [20]),
    ],
)
async def test_windows(archive: Archive, window: dict[str, int], expected: list[int]) -> None:
    archive.put(KEY, "field1", {10: 1.0, 20: 2.0, 30: 3.0})
    rows = await archive.query.rows(KEY, [TEMPERATURE], **window)
    assert rows.at_ns == expected
    assert rows.columns == {TEMPERATURE: [at_ns / 10 for at_ns in expected]}


async def test_maxima(archive: Archive) -> None:
    ids = [archive.put(KEY, "a", {10: 5, 20: 3}), archive.put(KEY, "b", {10: -7}), 999]
    assert await archive.query.maxima(ids) == {ids[0]: 5, ids[1]: -7}


async def test_a_store_that_cannot_read_is_a_storage_error(archive: Archive) -> None:
    archive.put(KEY, "field1", {10: 1.0})
    archive.store.close()
    with pytest.raises(StorageError):
        await archive.query.rows(KEY, [TEMPERATURE])
