"""Deleting, on the real stores and beside writing: what was asked for goes, durably, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gated_store import GatedStore, until
from headwater.errors import StorageError
from headwater.model.record import Record
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.services.catalogue import BLOCK, Catalogue
from headwater.services.deleting import Deleting, Deletion
from headwater.services.ingest import Ingest, IngestLimits, Receipt
from headwater.services.selecting import SeriesFilter, Tag, equal, regex
from headwater.store import Batch, Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore

EVERYTHING = SeriesFilter(1)


class Kernel:
    """Ingest and deleting over one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.catalogue = Catalogue(store.catalogue())
        self.ingest = Ingest(store, self.catalogue, IngestLimits(flush_interval_s=0))
        self.deleting = Deleting(self.ingest, self.catalogue, store)

    def write(self, at_ns: int, room: str = "attic", bucket_id: int = 1, **values: float) -> Receipt:
        return self.ingest.write(Record(SeriesKey(bucket_id, "air", (("room", room),)), at_ns, values))

    async def stored(self, *rooms: str) -> None:
        for room in rooms:
            for at_ns in range(4):
                await self.write(at_ns, room, t=float(at_ns), h=float(at_ns)).wait()

    def left(self, wanted: SeriesFilter = EVERYTHING) -> dict[str, list[int]]:
        """Times by room and field."""
        found = {}
        for series in self.catalogue.select(wanted):
            times = self.store.rows([series.id]).column("at_ns").to_pylist()
            found[f"{series.key.tags[0][1]}.{series.field}"] = times
        return found

    async def close(self) -> None:
        await self.deleting.close()
        await self.ingest.close()


@pytest.fixture(params=["memory", "duck"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else open_duck_store(tmp_path / "telemetry")


@pytest.fixture
async def kernel(store: Store) -> AsyncIterator[Kernel]:
    opened = Kernel(store)
    await opened.stored("attic", "hall")
    yield opened
    await opened.close()
    again = Catalogue(store.catalogue())
    assert sorted(again.select(EVERYTHING)) == sorted(opened.catalogue.select(EVERYTHING)), "the same after a restart"
    store.close()


async def test_a_time_of_some_series(kernel: Kernel) -> None:
    wanted = SeriesFilter(1, equal("air"), equal("t"), (Tag("room", regex("^at")),))
    await kernel.deleting.delete(wanted, start_ns=1, end_ns=3)
    whole = list(range(4))
    assert kernel.left() == {"attic.t": [0, 3], "attic.h": whole, "hall.t": whole, "hall.h": whole}
    await kernel.deleting.delete(SeriesFilter(1), end_ns=3)
    assert kernel.left() == {"attic.t": [3], "attic.h": [3], "hall.t": [3], "hall.h": [3]}
    await kernel.deleting.delete(SeriesFilter(1), start_ns=-(2**63))
    assert kernel.left() == {"attic.t": [], "attic.h": [], "hall.t": [], "hall.h": []}


async def test_series_as_a_whole(kernel: Kernel) -> None:
    await kernel.deleting.delete(SeriesFilter(1, fields=equal("t")))
    await kernel.deleting.delete(SeriesFilter(1, tags=(Tag("room", equal("hall")),)))
    assert kernel.left() == {"attic.h": list(range(4))}
    await kernel.write(9, t=9.0).wait()
    assert kernel.left() == {"attic.h": list(range(4)), "attic.t": [9]}


async def test_one_record(kernel: Kernel) -> None:
    await kernel.deleting.delete_record(SeriesKey(1, "air", (("room", "hall"),)), 2)
    whole = list(range(4))
    assert kernel.left() == {"attic.t": whole, "attic.h": whole, "hall.t": [0, 1, 3], "hall.h": [0, 1, 3]}
    await kernel.write(2**63 - 1, t=1.0).wait()
    await kernel.deleting.delete_record(SeriesKey(1, "air", (("room", "attic"),)), 2**63 - 1)
    assert kernel.left()["attic.t"] == whole
    await kernel.deleting.delete_record(SeriesKey(1, "water"), 2)


async def test_a_bucket(kernel: Kernel) -> None:
    await kernel.write(1, bucket_id=2, t=1.0).wait()
    await kernel.deleting.clear_bucket(1)
    assert kernel.left() == {}
    assert kernel.catalogue.bucket_ids() == [2]
    assert kernel.left(SeriesFilter(2)) == {"attic.t": [1]}
    await kernel.deleting.clear_bucket(9)


async def test_what_was_not_yet_on_disk_goes_too(kernel: Kernel) -> None:
    receipts = [kernel.write(7, t=7.0), kernel.write(7, "cellar", t=7.0)]
    await kernel.deleting.delete(SeriesFilter(1), start_ns=7, end_ns=8)
    for receipt in receipts:
        await receipt.wait()
    assert kernel.left()["attic.t"] == list(range(4))
    assert kernel.left()["cellar.t"] == []


async def test_what_is_written_while_series_go_is_kept() -> None:
    store = GatedStore()
    kernel = Kernel(store)
    await kernel.stored("attic")
    store.shut()
    before = kernel.write(5, t=5.0)
    await until(lambda: len(store.appended) == 5)
    deleting = asyncio.ensure_future(kernel.deleting.delete(SeriesFilter(1)))
    await asyncio.sleep(0)
    after = [kernel.write(6, t=6.0)]
    store.open()
    while not deleting.done():
        after.append(kernel.write(6 + len(after), t=1.0))
        await asyncio.sleep(0)
    await before.wait()
    for receipt in after:
        await receipt.wait()
    assert kernel.left() == {"attic.t": list(range(6, 6 + len(after)))}
    await kernel.close()
    assert Kernel(store).left() == {"attic.t": list(range(6, 6 + len(after)))}


async def test_what_is_written_while_a_time_is_deleted_goes_or_stays_as_a_whole(kernel: Kernel) -> None:
    deleting = asyncio.ensure_future(kernel.deleting.delete(SeriesFilter(1), start_ns=0, end_ns=10_000))
    receipts = []
    while not deleting.done():
        receipts.append(kernel.write(20_000 + len(receipts), t=1.0))
        await asyncio.sleep(0)
    receipts.append(kernel.write(50, t=1.0))
    for receipt in receipts:
        await receipt.wait()
    kept = [50, *range(20_000, 20_000 + len(receipts) - 1)]
    assert kernel.left() == {"attic.t": kept, "attic.h": [], "hall.t": [], "hall.h": []}


class FailingStore(MemoryStore):
    """One that refuses some deletions."""

    failures = 0

    def delete(self, series_ids, *, start_ns=None, end_ns=None):  # type: ignore[no-untyped-def]
        if self.failures:
            self.failures -= 1
            raise StorageError("the disk does not answer")
        super().delete(series_ids, start_ns=start_ns, end_ns=end_ns)


async def test_a_deletion_that_failed_is_made_up_for_by_the_next_one() -> None:
    store = FailingStore()
    kernel = Kernel(store)
    await kernel.stored("attic")
    store.failures = 2
    with pytest.raises(StorageError, match="does not answer"):
        await kernel.deleting.clear_bucket(1)
    with pytest.raises(StorageError, match="does not answer"):
        await kernel.deleting.clear_bucket(1)
    await kernel.deleting.clear_bucket(1)
    assert list(store.catalogue()) == []
    await kernel.close()


async def test_series_that_were_replaced_when_the_process_ended_are_deleted_at_the_next_start() -> None:
    store = MemoryStore()
    key = SeriesKey(1, "air", (("room", "attic"),))
    old, new = (Series(number, key, "t", ValueType.FLOAT) for number in (BLOCK, 2 * BLOCK))
    store.append(Batch([old, new]))
    kernel = Kernel(store)
    await kernel.deleting.finish_interrupted()
    assert list(store.catalogue()) == [new]
    assert kernel.catalogue.unfinished == {}
    await kernel.close()


@pytest.mark.parametrize("is_clear", [True, False])
async def test_a_deletion_in_the_middle_of_which_the_process_ends_goes_on_at_the_next_start(is_clear: bool) -> None:
    store = GatedStore()
    kernel = Kernel(store)
    await kernel.stored("attic", "hall")
    keeper = Keeper(store)
    keeper.may_enter.clear()
    kernel.deleting.on_deleting(keeper)
    of_attic = SeriesFilter(1, tags=(Tag("room", equal("attic")),))
    deletion = kernel.deleting.clear_bucket(1) if is_clear else kernel.deleting.delete(of_attic)
    deleting = asyncio.ensure_future(deletion)
    await asyncio.sleep(0)
    await kernel.write(50, t=5.0).wait()  # acknowledged, and then the process ends
    again = Kernel(store)
    hook = Keeper(store)
    again.deleting.on_deleting(hook)
    kept = {} if is_clear else {"hall.t": list(range(4)), "hall.h": list(range(4))}
    assert again.left() == {"attic.t": [50]} | kept, "also before it goes on"
    await again.deleting.finish_interrupted()
    assert [(one.bucket_id, one.is_clear) for one in hook.told] == [(1, is_clear)]
    assert sorted(again.left()) == sorted({"attic.t": [50]} | kept)
    assert sorted(store.catalogue()) == sorted(again.catalogue.select(EVERYTHING))
    await again.close()
    keeper.may_enter.set()
    await deleting
    await kernel.close()


async def test_a_series_that_was_deleted_before_it_could_be_stored_is_not_stored_later() -> None:
    store = GatedStore()
    kernel = Kernel(store)
    store.failures = [StorageError("full")] * 2
    with pytest.raises(StorageError, match="full"):
        await kernel.write(1, t=1.0).wait()
    await kernel.deleting.clear_bucket(1)
    await kernel.write(2, "hall", h=1.0).wait()
    assert [one.field for one in Kernel(store).catalogue.of_bucket(1)] == ["h"]
    await kernel.close()


async def test_clearing_while_a_commit_goes_on_and_nothing_else_waits() -> None:
    store = GatedStore()
    kernel = Kernel(store)
    store.shut()
    receipt = kernel.write(1, t=1.0)
    await until(lambda: store.appended)
    deleting = asyncio.ensure_future(kernel.deleting.clear_bucket(1))
    await asyncio.sleep(0.01)
    store.open()
    await asyncio.wait_for(deleting, 5)
    await receipt.wait()
    assert list(store.catalogue()) == []
    await kernel.close()


class Keeper:
    """A hook that writes down when it was told what."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[Deletion] = []
        self.points_at: list[tuple[str, int]] = []
        self.may_enter = asyncio.Event()
        self.may_enter.set()

    @asynccontextmanager
    async def __call__(self, deletion: Deletion) -> AsyncIterator[None]:
        await self.may_enter.wait()
        self.told.append(deletion)
        ids = [series.id for series in deletion.series]
        self.points_at.append(("before", self.store.rows(ids).num_rows))
        try:
            yield
        finally:
            self.points_at.append(("after", self.store.rows(ids).num_rows))


async def test_hooks_are_entered_before_and_left_after(kernel: Kernel) -> None:
    keeper = Keeper(kernel.store)
    kernel.deleting.on_deleting(keeper)
    series = sorted(kernel.catalogue.select(EVERYTHING))
    await kernel.deleting.delete(EVERYTHING, start_ns=1, end_ns=3)
    await kernel.deleting.clear_bucket(1)
    told = [(one.bucket_id, sorted(set(one.series) & {*series}), one.start_ns, one.end_ns) for one in keeper.told]
    assert told == [
        (1, series, 1, 3),
        (1, series, None, None),
    ]
    assert keeper.points_at == [("before", 4), ("after", 2), ("before", 2), ("after", 0)]


async def test_deletions_come_one_after_another(kernel: Kernel) -> None:
    keeper = Keeper(kernel.store)
    kernel.deleting.on_deleting(keeper)
    await asyncio.gather(*(kernel.deleting.delete(EVERYTHING, start_ns=n, end_ns=n + 1) for n in range(4)))
    assert [when for when, _ in keeper.points_at] == ["before", "after"] * 4


async def test_a_hook_that_cannot_be_entered_stops_the_deletion(kernel: Kernel) -> None:
    @asynccontextmanager
    async def refuse(deletion: Deletion) -> AsyncIterator[None]:
        raise StorageError("no mark could be written")
        yield

    kernel.deleting.on_deleting(refuse)
    with pytest.raises(StorageError, match="no mark"):
        await kernel.deleting.delete(EVERYTHING, start_ns=0)
    assert kernel.left()["attic.t"] == list(range(4))


async def test_a_deletion_goes_on_when_whoever_asked_has_gone(kernel: Kernel) -> None:
    keeper = Keeper(kernel.store)
    keeper.may_enter.clear()
    kernel.deleting.on_deleting(keeper)
    task = asyncio.ensure_future(kernel.deleting.delete(EVERYTHING, start_ns=0))
    await until(lambda: kernel.deleting._tasks)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    keeper.may_enter.set()
    await kernel.deleting.close()
    assert keeper.points_at == [("before", 4), ("after", 0)]
