"""Retention: what is shown at any moment, and what is left in the store; against an oracle that knows every point."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_store import GatedStore
from headwater.errors import BadRequest, StorageError
from headwater.model.entry import EntryUpdate
from headwater.model.record import Record
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.query import Column, Query
from headwater.services.retention import PAUSE_S, SERIES_AT_ONCE, Retention, due_until_ns, step_s
from headwater.store import Batch, Columns, Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore

HOUR_S, DAY_S = 3600, 86_400
S_NS = 10**9
START_NS = 20_000 * DAY_S * S_NS
KEYS = {bucket_id: SeriesKey(bucket_id, "m") for bucket_id in (1, 2)}
VALUE = Column("f", float)


class World:
    """What survives a restart: the store, the retentions that were committed, the time of day."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.retentions: dict[int, int] = {}
        self.now_ns = START_NS

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Kernel]:
        kernel = Kernel(self)
        await kernel.entries.recover()
        try:
            yield kernel
        finally:
            await kernel.close()


class Kernel:
    """The services around the store, of one run of the server."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.catalogue = Catalogue(world.store.catalogue())
        self.horizons = Horizons(world.retentions.get, lambda: world.now_ns)
        self.query = Query(world.store, self.catalogue, horizons=self.horizons)
        self.ingest = Ingest(world.store, self.catalogue, IngestLimits(flush_interval_s=0))
        deleting = Deleting(self.ingest, self.catalogue, world.store)
        self.entries = Entries(self.ingest, self.query, self.catalogue, deleting, self.horizons)
        self.retention = Retention(
            self.ingest,
            self.catalogue,
            world.store,
            self.horizons,
            lambda: dict(world.retentions),
            self.entries.note_last_ids,
        )

    async def write(self, bucket_id: int, at_ns: int, value: float) -> None:
        """As a dialect does whose clients choose the time."""
        self.horizons.check(bucket_id, at_ns)
        await self.ingest.write(Record(KEYS[bucket_id], at_ns, {"f": value})).wait()

    async def shown(self, bucket_id: int) -> dict[int, object]:
        rows = await self.query.rows(KEYS[bucket_id], [VALUE])
        return dict(zip(rows.at_ns, rows.columns[VALUE], strict=True))

    async def keep(self, bucket_id: int, retention_s: int | None, *, fails: bool = False) -> None:
        async def commit() -> None:
            self._world.now_ns += S_NS  # time goes on meanwhile
            if fails:
                raise StorageError("the registry is broken")
            if retention_s is None:
                self._world.retentions.pop(bucket_id, None)
            else:
                self._world.retentions[bucket_id] = retention_s

        await self.retention.change(bucket_id, retention_s, commit)

    def stored(self, bucket_id: int) -> list[int]:
        """The times that are still in the store."""
        series_ids = [series.id for series in self.catalogue.of_bucket(bucket_id) if series.field == "f"]
        times: list[int] = self._world.store.rows(series_ids).column("at_ns").to_pylist()
        return times

    async def close(self) -> None:
        await self.retention.close()
        await self.ingest.close()
        self.query.close()


class Oracle:
    """Every point that was taken in and has not expired: what must be shown, neither more nor less."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.points: dict[int, dict[int, float]] = {1: {}, 2: {}}

    def expire(self, at_ns: int | None = None) -> None:
        """Let go of what has expired by a moment, for good."""
        for bucket_id, retention_s in self._world.retentions.items():
            horizon_ns = (self._world.now_ns if at_ns is None else at_ns) - retention_s * S_NS
            kept = {at: value for at, value in self.points[bucket_id].items() if at >= horizon_ns}
            self.points[bucket_id] = kept


BUCKETS = st.sampled_from([1, 2])
AGES_S = st.one_of(st.integers(0, 4 * HOUR_S), st.integers(0, 30 * DAY_S), st.sampled_from([HOUR_S, DAY_S]))
RETENTIONS = st.one_of(st.none(), st.sampled_from([HOUR_S, 2 * HOUR_S, DAY_S, 7 * DAY_S, 15 * DAY_S]))
Step: TypeAlias = tuple[str, int, int | None]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), BUCKETS, AGES_S),
        st.tuples(st.just("keep"), BUCKETS, RETENTIONS),
        st.tuples(st.just("keep, but fail"), BUCKETS, RETENTIONS),
        st.tuples(st.just("wait"), st.just(0), AGES_S),
        st.tuples(st.sampled_from(["remove", "restart"]), st.just(0), st.none()),
    ),
    max_size=40,
)


async def take(steps: list[Step]) -> None:
    world = World(MemoryStore())
    oracle = Oracle(world)
    remaining = list(enumerate(steps))
    while remaining:
        async with world.running() as kernel:
            while remaining:
                number, (what, bucket_id, figure) = remaining.pop(0)
                if what == "restart":
                    break
                await take_step(world, oracle, kernel, number, what, bucket_id, figure)
                oracle.expire()
                for one in KEYS:
                    assert await kernel.shown(one) == oracle.points[one]


async def take_step(
    world: World, oracle: Oracle, kernel: Kernel, number: int, what: str, bucket_id: int, figure: int | None
) -> None:
    if what == "write":
        at_ns = world.now_ns - (figure or 0) * S_NS
        retention_s = world.retentions.get(bucket_id)
        if retention_s is not None and at_ns < world.now_ns - retention_s * S_NS:
            with pytest.raises(BadRequest):
                await kernel.write(bucket_id, at_ns, float(number))
        else:
            await kernel.write(bucket_id, at_ns, float(number))
            oracle.points[bucket_id][at_ns] = float(number)
    elif what == "keep":
        await kernel.keep(bucket_id, figure)
    elif what == "keep, but fail":
        with pytest.raises(StorageError):
            await kernel.keep(bucket_id, figure, fails=True)
    elif what == "wait":
        world.now_ns += (figure or 0) * S_NS
    else:
        await kernel.retention.remove_due()
        for one, retention_s in world.retentions.items():
            most_late_ns = (retention_s + step_s(retention_s)) * S_NS
            assert all(at_ns > world.now_ns - most_late_ns for at_ns in kernel.stored(one))


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_what_is_shown_is_what_was_written_and_has_not_expired(steps: list[Step]) -> None:
    asyncio.run(take(steps))


@pytest.mark.parametrize(
    ("retention_s", "step"),
    [(HOUR_S, HOUR_S), (20 * HOUR_S, HOUR_S), (DAY_S, 2 * HOUR_S), (30 * DAY_S, 64 * HOUR_S)],
)
def test_a_bucket_is_due_when_enough_of_it_has_expired(retention_s: int, step: int) -> None:
    assert step_s(retention_s) == step
    assert max(HOUR_S, retention_s / 20) <= step <= max(HOUR_S, retention_s / 10)
    due = {due_until_ns(retention_s, START_NS + hour * HOUR_S * S_NS) for hour in range(256)}
    assert len(due) == pytest.approx(256 * HOUR_S / step, abs=1)
    assert START_NS - (retention_s + step) * S_NS < min(due) <= START_NS - retention_s * S_NS


class CountingStore(GatedStore):
    """Counts deletions, and fails when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.deletions: list[int] = []
        """Of how many series."""

    def delete(self, series_ids: object, **span: int | None) -> None:
        if self.failures:
            raise self.failures.pop(0)
        assert isinstance(series_ids, list)
        self.deletions.append(len(series_ids))
        super().delete(series_ids, **span)


async def test_buckets_go_together_and_seldom() -> None:
    store = CountingStore()
    world = World(store)
    world.retentions = {1: 20 * DAY_S, 2: 20 * DAY_S}
    async with world.running() as kernel:
        for bucket_id in KEYS:
            await kernel.write(bucket_id, world.now_ns, 1.0)
        for _ in range(20 * 24 * 6):
            await kernel.retention.remove_due()
            world.now_ns += 600 * S_NS
    assert set(store.deletions) == {2}
    assert len(store.deletions) <= 20


async def test_a_hundred_thousand_series_are_removed_in_portions() -> None:
    store = CountingStore()
    store.append(Batch([Series(n, SeriesKey(1, "m", (("n", str(n)),)), "f", ValueType.FLOAT) for n in range(100_000)]))
    world = World(store)
    world.retentions[1] = DAY_S
    async with world.running() as kernel:
        await kernel.retention.remove_due()
    assert max(store.deletions) == SERIES_AT_ONCE
    assert sum(store.deletions) == 100_000


async def test_what_could_not_be_removed_is_removed_later() -> None:
    store = CountingStore()
    world = World(store)
    world.retentions[1] = DAY_S
    async with world.running() as kernel:
        await kernel.write(1, world.now_ns, 1.0)
        world.now_ns += 3 * DAY_S * S_NS
        store.failures.append(StorageError("full"))
        with pytest.raises(StorageError):
            await kernel.retention.remove_due()
        assert await kernel.shown(1) == {}
        assert kernel.stored(1)
        await kernel.retention.remove_due()
        assert not kernel.stored(1)


async def test_the_loop_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    store = CountingStore()
    world = World(store)
    world.retentions[1] = DAY_S
    pauses = 0

    async def sleep(delay_s: float) -> None:
        nonlocal pauses
        assert delay_s == PAUSE_S
        pauses += 1
        if pauses > 3:
            raise asyncio.CancelledError

    async with world.running() as kernel:
        await kernel.write(1, world.now_ns, 1.0)
        world.now_ns += 3 * DAY_S * S_NS
        store.failures.append(StorageError("full"))
        monkeypatch.setattr("headwater.services.retention.asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await kernel.retention.run()
        assert not kernel.stored(1)


async def test_a_change_goes_on_when_nobody_waits_for_it() -> None:
    store = GatedStore()
    world = World(store)
    world.retentions[1] = DAY_S
    async with world.running() as kernel:
        await kernel.write(1, world.now_ns, 1.0)
        asked = asyncio.get_running_loop().create_task(kernel.keep(1, None))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert world.retentions == {}


def channel() -> Channel:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Channel(1, 1, ChannelSettings(), (), at, at)


async def test_entry_ids_are_not_given_out_again_when_all_entries_have_expired() -> None:
    world = World(MemoryStore())
    world.retentions[1] = DAY_S
    for round_number in range(3):
        async with world.running() as kernel:
            assert kernel.entries.last_entry_id(1) == 2 * round_number
            for number in (1, 2):
                entry, receipt = kernel.entries.write(channel(), EntryUpdate({1: "20"}), world.now_ns)
                await receipt.wait()
                assert entry.entry_id == 2 * round_number + number
            for _ in range(5):
                world.now_ns += DAY_S * S_NS
                await kernel.retention.remove_due()
            assert await kernel.entries.newest(channel(), None) == []
            assert world.store.maxima([series.id for series in kernel.catalogue.of_bucket(1)]) != {}
    async with world.running() as kernel:
        await kernel.entries.clear(channel())
        assert kernel.entries.last_entry_id(1) == 0
    async with world.running() as kernel:
        assert kernel.entries.last_entry_id(1) == 0


async def test_entries_of_a_time_that_has_expired_are_refused() -> None:
    world = World(MemoryStore())
    world.retentions[1] = DAY_S
    async with world.running() as kernel:
        old = EntryUpdate({1: "20"}, created_at_ns=world.now_ns - DAY_S * S_NS - 1)
        with pytest.raises(BadRequest, match="longer ago"):
            kernel.entries.append(channel(), old, world.now_ns)
        with pytest.raises(BadRequest, match="longer ago"):
            await kernel.entries.write_dated(channel(), old, world.now_ns).wait()
        assert kernel.entries.last_entry_id(1) == 0
    world.retentions.clear()
    async with world.running() as kernel:
        await kernel.entries.write_dated(channel(), old, world.now_ns).wait()
        world.retentions[1] = DAY_S
        with pytest.raises(BadRequest, match="longer ago"):  # and not Conflict: it is not shown that there is one
            await kernel.entries.write_dated(channel(), old, world.now_ns).wait()
    world.retentions[1] = DAY_S
    async with world.running() as kernel:
        kept = old._replace(created_at_ns=world.now_ns - DAY_S * S_NS)
        await kernel.entries.write_dated(channel(), kept, world.now_ns).wait()
        assert [entry.entry_id for entry in await kernel.entries.newest(channel(), None)] == [2]


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


async def test_the_room_of_expired_points_is_free_again(tmp_path: Path) -> None:
    """One file in which everything expires, one in which a part does, and arrivals that are not in a file yet."""
    random_value = random.Random(0).random
    per_day = 40_000

    def append(store: Store, first_ns: int) -> None:
        columns = Columns(ValueType.FLOAT)
        for series_id in (32, 64):
            columns.series_ids += array("q", [series_id]) * (per_day // 2)
            columns.at_ns += array("q", (first_ns + n * S_NS for n in range(per_day // 2)))
            columns.values += array("d", [random_value() for _ in range(per_day // 2)])
        store.append(Batch([], {ValueType.FLOAT: columns}))

    with closing(open_duck_store(tmp_path, hot_rows=2 * per_day, deletions_wait_s=0)) as store:
        world = World(store)
        store.append(Batch([Series(32 * n, KEYS[n], "f", ValueType.FLOAT) for n in KEYS]))
        for day in range(9):
            append(store, START_NS + day * DAY_S * S_NS)
            while store.maintain():
                pass
        world.now_ns = START_NS + 9 * DAY_S * S_NS
        before = size_of(tmp_path)
        assert len(list(tmp_path.glob("run-*"))) == 4
        async with world.running() as kernel:
            world.retentions |= {1: 2 * DAY_S, 2: 2 * DAY_S}
            kept = await kernel.shown(1)
            await kernel.retention.remove_due()
            while store.maintain():
                pass
            assert await kernel.shown(1) == kept
            assert kernel.stored(1)[0] >= world.now_ns - (2 * DAY_S + step_s(2 * DAY_S)) * S_NS
            assert size_of(tmp_path) < before / 2
            world.now_ns += 3 * DAY_S * S_NS
            await kernel.retention.remove_due()
            while store.maintain():
                pass
            assert kernel.stored(1) == []
        assert list(tmp_path.glob("run-*")) == []
