"""Queries by filter, on the real stores: groups, windows, rows side by side, the latest points, records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import BadRequest, TooLarge
from headwater.model.record import Record
from headwater.model.series import Series, SeriesKey, Unsigned, Value, ValueType
from headwater.services.catalogue import Catalogue
from headwater.services.grouping import GroupBy
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.latest import latest_points
from headwater.services.query import MAX_SERIES_SIDE_BY_SIDE, Column, Query, RecordColumn
from headwater.services.selecting import SeriesFilter, Tag, equal, one_of, regex
from headwater.settings import QuerySettings
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.cancellation import Cancellation
from headwater.store.duck import open_duck_store
from headwater.store.filling import Filling
from headwater.store.memory import MemoryStore
from headwater.store.windows import Windows

MEAN, COUNT = Aggregate(Function.MEAN), Aggregate(Function.COUNT)


def open_store(kind: str, directory: Path) -> Store:
    return MemoryStore() if kind == "memory" else open_duck_store(directory / "telemetry")


class Kernel:
    """Ingest and query over one store."""

    def __init__(self, store: Store, **limits: int) -> None:
        self.store = store
        self.catalogue = Catalogue(store.catalogue())
        self.ingest = Ingest(store, self.catalogue, IngestLimits(flush_interval_s=0))
        self.query = Query(store, self.catalogue, QuerySettings(**limits))

    async def write(self, at_ns: int, values: dict[str, Value], measurement: str = "air", **tags: str) -> None:
        await self.ingest.write(Record(SeriesKey(1, measurement, tuple(sorted(tags.items()))), at_ns, values)).wait()

    async def close(self) -> None:
        await self.ingest.close()
        self.query.close()


@pytest.fixture(params=["memory", "duck"])
async def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kernel]:
    store = open_store(request.param, tmp_path)
    opened = Kernel(store, max_rows=10)
    for at_ns, room, value in [(1, "attic", 1.0), (3, "attic", 3.0), (12, "attic", 5.0), (2, "hall", 7.0)]:
        await opened.write(at_ns, {"t": value, "n": at_ns}, room=room, floor="1" if room == "hall" else "2")
    yield opened
    await opened.close()
    store.close()


async def test_windows_by_tag(kernel: Kernel) -> None:
    wanted = SeriesFilter(1, equal("air"), equal("t"))
    windows = Windows(0, 20, every_ns=10)
    found = await kernel.query.windows(wanted, [MEAN, COUNT], windows, by=GroupBy(("room",)))
    assert [group.tags for group in found.groups] == [(("room", "attic"),), (("room", "hall"),)]
    assert [tuple(row.values()) for row in found.table.to_pylist()] == [(0, 0, 2.0, 2), (0, 10, 5.0, 1), (1, 0, 7.0, 1)]
    filled = await kernel.query.windows(
        wanted, [MEAN], windows, by=GroupBy(("room",)), filling=Filling.VALUE, fill_value=0.5
    )
    assert [tuple(row.values()) for row in filled.table.to_pylist()][-1] == (1, 10, 0.5)
    nothing = await kernel.query.windows(SeriesFilter(9), [MEAN], windows)
    assert (nothing.groups, nothing.table.num_rows) == ([], 0)
    with pytest.raises(TooLarge):
        await kernel.query.windows(wanted, [MEAN], Windows(0, 20, every_ns=1), filling=Filling.NULL)


async def test_side_by_side(kernel: Kernel) -> None:
    found = await kernel.query.side_by_side(SeriesFilter(1, fields=equal("t")), newest=2)
    assert [dict(series.key.tags)["room"] for series in found.series] == ["attic", "hall"]
    assert [tuple(row.values()) for row in found.table.to_pylist()] == [(3, 3.0, None), (12, 5.0, None)]
    late = SeriesFilter(1, fields=equal("t"), tags=(Tag("room", regex("^h")),))
    found = await kernel.query.side_by_side(late, start_ns=1, end_ns=3)
    assert [tuple(row.values()) for row in found.table.to_pylist()] == [(2, 7.0)]


async def test_too_many_series_side_by_side(kernel: Kernel) -> None:
    await kernel.write(1, {f"f{number}": 1.0 for number in range(MAX_SERIES_SIDE_BY_SIDE + 1)}, "wide")
    with pytest.raises(TooLarge, match="choose fewer"):
        await kernel.query.side_by_side(SeriesFilter(1, equal("wide")))


async def test_the_latest_of_each_series(kernel: Kernel) -> None:
    await kernel.write(10**18, {"t": "off"}, room="hall")
    await kernel.write(-(2**63), {"on": True}, "first")
    await kernel.write(2**63 - 1, {"u": Unsigned(2**64 - 1)}, "last")
    found = await kernel.query.latest(SeriesFilter(1, fields=one_of(["t", "on", "u"])))
    assert [(one.series.field, one.series.type, one.at_ns, one.value) for one in found] == [
        ("t", ValueType.FLOAT, 12, 5.0),
        ("t", ValueType.FLOAT, 2, 7.0),
        ("t", ValueType.STRING, 10**18, "off"),
        ("on", ValueType.BOOLEAN, -(2**63), True),
        ("u", ValueType.UNSIGNED, 2**63 - 1, 2**64 - 1),
    ]
    assert await kernel.query.latest(SeriesFilter(9)) == []


async def test_records(kernel: Kernel) -> None:
    await kernel.write(5, {"t": "off"}, room="hall", floor="1")
    async with kernel.query.records(SeriesFilter(1), start_ns=2, end_ns=12) as records:
        assert [dict(key.tags)["room"] for key in records.keys] == ["hall", "attic"], "sorted: floor comes before room"
        assert records.columns == [
            RecordColumn("n", ValueType.INTEGER),
            RecordColumn("t", ValueType.FLOAT),
            RecordColumn("t", ValueType.STRING),
        ]
        rows = [tuple(row.values()) async for batch in records.batches for row in batch.to_pylist()]
    assert rows == [(0, 2, 2, 7.0, None), (0, 5, None, None, "off"), (1, 3, 3, 3.0, None)]


async def test_an_answer_has_at_most_so_many_rows(kernel: Kernel) -> None:
    key = SeriesKey(1, "many")
    for at_ns in range(10):
        await kernel.write(at_ns, {"f": 1.0}, "many")
    wanted = SeriesFilter(1, equal("many"))
    assert (await kernel.query.side_by_side(wanted)).table.num_rows == 10
    async with kernel.query.records(wanted) as records:
        assert sum([batch.num_rows async for batch in records.batches]) == 10
    await kernel.write(10, {"f": 1.0}, "many")
    async with kernel.query.records(wanted) as records:
        with pytest.raises(TooLarge, match=r"10 rows \(query\.max_rows\)"):
            [batch async for batch in records.batches]
    async with kernel.query.records(wanted, max_rows=11) as records:
        assert sum([batch.num_rows async for batch in records.batches]) == 11
    with pytest.raises(TooLarge, match=r"10 rows \(query\.max_rows\)"):
        await kernel.query.side_by_side(wanted)
    with pytest.raises(TooLarge, match=r"10 rows \(query\.max_rows\)"):
        await kernel.query.rows(key, [Column("f", float)], start_ns=0)
    assert len((await kernel.query.rows(key, [Column("f", float)], newest=10)).at_ns) == 10


async def test_kinds_that_cannot_be_aggregated_together_are_chosen_by_type(kernel: Kernel) -> None:
    await kernel.write(5, {"t": "off"}, room="hall")
    windows = Windows(0, 10, every_ns=10)
    with pytest.raises(BadRequest):
        await kernel.query.windows(SeriesFilter(1, fields=equal("t")), [MEAN], windows)
    numbers = SeriesFilter(1, fields=equal("t"), types=frozenset({ValueType.FLOAT}))
    assert (await kernel.query.windows(numbers, [COUNT], windows)).table.column("count").to_pylist() == [3]


async def test_the_catalogue_is_asked_off_the_loop(kernel: Kernel) -> None:
    values = await kernel.query.ask_catalogue(
        lambda catalogue, stop: catalogue.tag_values(SeriesFilter(1), "room", stop)
    )
    assert values == ["attic", "hall"]


class RestlessStore(MemoryStore):
    """One in which points arrive between two questions."""

    def __init__(self, arrivals: list[tuple[int, int, float]]) -> None:
        super().__init__()
        self._arrivals = arrivals

    def newest_times(self, series_ids):  # type: ignore[no-untyped-def]
        found = super().newest_times(series_ids)
        if self._arrivals:
            series_id, at_ns, value = self._arrivals.pop(0)
            self._points[series_id][at_ns] = value
        return found


spans = st.dictionaries(st.integers(-(10**12), 10**12), st.floats(allow_nan=False), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(spans, min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(-(10**12), 10**12), st.floats(allow_nan=False)), max_size=12),
)
def test_a_latest_point_is_one_that_was_the_latest_at_some_moment(
    points: list[dict[int, float]], arrivals: list[tuple[int, int, float]]
) -> None:
    arrivals = [(n % len(points), at_ns, value) for n, at_ns, value in arrivals]
    store = RestlessStore(arrivals.copy())
    series = [Series(n, SeriesKey(1, f"m{n}"), "f", ValueType.FLOAT) for n in range(len(points))]
    store._series = {one.id: one for one in series}
    store._points = {n: dict(one) for n, one in enumerate(points)}
    was_latest = {(n, max(one), one[max(one)]) for n, one in enumerate(points)}
    for n, at_ns, value in arrivals:
        points[n][at_ns] = value
        was_latest.add((n, max(points[n]), points[n][max(points[n])]))
    found = latest_points(store, series, Cancellation())
    assert [one.series for one in found] == series
    assert {(one.series.id, one.at_ns, one.value) for one in found} <= was_latest
