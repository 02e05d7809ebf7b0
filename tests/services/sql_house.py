"""A store with the buckets of two accounts, and queries over those of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.model.series import TYPE_OF, SeriesKey, ValueType
from headwater.services.catalogue import Catalogue
from headwater.services.readers import Readers
from headwater.services.sql import Sql, SqlLimits
from headwater.services.sql_tables import Bucket
from headwater.settings import QuerySettings
from headwater.store import Batch, Columns, Store
from headwater.store.cancellation import Cancellation
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore

NOW = datetime(2026, 1, 10, 12)
NOW_NS = 1_768_046_400_000_000_000
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
SECRET = "cb5a0e27-secret"
MINE = [Bucket(1, ("weather", "channel_1")), Bucket(2, ("plant", "channel_2"))]


class SqlHouse:
    """Buckets 1 (`weather`) and 2 (`plant`) are ours, 3 (`theirs`) is somebody else's."""

    def __init__(self, store: Store, limits: SqlLimits | None = None, query: QuerySettings | None = None) -> None:
        self.store = store
        self.catalogue = Catalogue()
        self.readers = Readers(query or QuerySettings())
        self.sql = Sql(store, self.catalogue, self.readers, lambda: NOW, limits)

    def write(self, key: SeriesKey, at_ns: int, **values: Any) -> None:
        batch = Batch()
        for field, value in values.items():
            value_type: ValueType = TYPE_OF[type(value)]
            series_id = self.catalogue.find(key, field, type(value))
            if series_id is None:
                series = self.catalogue.create(key, field, value_type)
                batch.new_series.append(series)
                series_id = series.id
            batch.columns.setdefault(value_type, Columns(value_type)).append(series_id, at_ns, value)
        self.store.append(batch)

    def table(self, text: str, *, default_bucket: str | None = None, stop: Cancellation | None = None) -> pa.Table:
        plan = self.sql.plan(MINE, text, default_bucket=default_bucket)
        with contextlib.closing(self.sql.batches(plan, stop or Cancellation())) as batches:
            return pa.Table.from_batches(list(batches))

    def rows(self, text: str, **options: Any) -> list[tuple[Any, ...]]:
        """The answer's rows, times as nanoseconds."""
        table = self.table(text, **options)
        columns = [
            column.cast(pa.timestamp("ns")).cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in table.columns
        ]
        return list(zip(*(column.to_pylist() for column in columns), strict=True))

    def fill(self) -> None:
        """Hours of two rooms, a machine, and somebody else's secret."""
        for hour in range(24):
            at_ns = NOW_NS - hour * HOUR_NS
            for room, offset in (("attic", 10.0), ("cellar", 0.0)):
                key = SeriesKey(1, "station", (("room", room),))
                self.write(key, at_ns, temperature=offset + hour, humidity=50 + hour)
        self.write(SeriesKey(2, "entry"), NOW_NS, entry_id=1, field1=1.5, status="ok")
        self.write(SeriesKey(3, "station", (("room", SECRET),)), NOW_NS, temperature=1.0, note=SECRET)
        self.write(SeriesKey(3, SECRET), NOW_NS, value=SECRET)


@contextlib.contextmanager
def open_sql_house(
    engine: str, directory: Path, limits: SqlLimits | None = None, query: QuerySettings | None = None
) -> Iterator[SqlHouse]:
    store = MemoryStore() if engine == "memory" else open_duck_store(directory / "points", memory_limit_mb=256)
    house = SqlHouse(store, limits, query)
    try:
        house.fill()
        yield house
    finally:
        house.readers.close()
        store.close()
