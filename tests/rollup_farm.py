"""Down-sampling over a store, without a server: what tests of it share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pyarrow as pa

from headwater.model.record import Record
from headwater.model.series import SeriesKey, Value
from headwater.registry.entities import Rollup
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.rollup_keeping import RollupKeeper
from headwater.services.rollup_reading import RollupReading
from headwater.services.rollups import Rollups
from headwater.services.selecting import SeriesFilter, equal
from headwater.store import Store
from headwater.store.aggregates import Aggregate
from headwater.store.cancellation import Cancellation
from headwater.store.windows import Windows

T = TypeVar("T")
SOURCE, TARGET = 1, 100
SECOND_NS = 1_000_000_000
ALL = ("count", "sum", "mean", "min", "max", "first", "last")


def rule(
    window_s: int = 60, aggregates: Sequence[str] = ALL, keep_s: int | None = None, id_: int = 1, target: int = TARGET
) -> Rollup:
    return Rollup(id_, 1, SOURCE, target, window_s, tuple(aggregates), keep_s, datetime(2026, 1, 1, tzinfo=UTC))


def run_in_thread(work: Callable[[Cancellation], T]) -> Awaitable[T]:
    return asyncio.to_thread(work, Cancellation())


class Farm:
    """A store with one bucket that is down-sampled. To be made and used within an event loop."""

    def __init__(self, store: Store, now_ns: Callable[[], int], retention_s: int | None = None) -> None:
        self.store = store
        self.retention_s = retention_s
        self.catalogue = Catalogue(list(store.catalogue()))
        self.ingest = Ingest(store, self.catalogue, IngestLimits(flush_interval_s=0))
        self.rollups = Rollups(
            cast("RegistryWorker", None),
            Access(),
            self.ingest,
            self.catalogue,
            store,
            now_ns=now_ns,
            retention_s=lambda _: self.retention_s,
            marked_at_once=20,
        )
        self.deleting = Deleting(self.ingest, self.catalogue, store)
        self.deleting.on_deleting(self.rollups.on_deleting)
        self.keeper = RollupKeeper(self.rollups, self.ingest, self.catalogue, store, interval_s=3600)
        self.reading = RollupReading(self.rollups, self.catalogue, store, run_in_thread)

    async def write(self, field: str, at_ns: int, value: Value, tag: str = "") -> None:
        key = SeriesKey(SOURCE, "m", (("t", tag),) if tag else ())
        await self.ingest.write(Record(key, at_ns, {field: value})).wait()

    async def keep(self) -> None:
        while await self.keeper.keep_all():
            pass

    async def delete(self, field: str | None, start_ns: int | None, end_ns: int | None) -> None:
        fields = None if field is None else equal(field)
        await self.deleting.delete(SeriesFilter(SOURCE, fields=fields), start_ns=start_ns, end_ns=end_ns)

    async def answers(
        self, fields: Sequence[str], aggregates: Sequence[Aggregate], windows: Windows
    ) -> tuple[pa.Table, pa.Table]:
        """With the help of results, and without: one group for each of these fields, of all its series."""
        groups = [[one for one in self.catalogue.of_bucket(SOURCE) if one.field == field] for field in fields]
        helped = await self.reading.windows(groups, aggregates, windows)
        ids = [[one.id for one in group] for group in groups]
        return helped, self.store.windows(ids, aggregates, windows)

    def results(self, field: str, target: int = TARGET) -> dict[int, Any]:
        """The points of one field of the target."""
        found: dict[int, Any] = {}
        for one in self.catalogue.of_bucket(target):
            if one.field == field:
                rows = self.store.rows([one.id])
                found |= dict(zip(rows.column("at_ns").to_pylist(), rows.column(str(one.id)).to_pylist(), strict=True))
        return found

    async def close(self) -> None:
        await self.ingest.close()
        self.keeper.close()
