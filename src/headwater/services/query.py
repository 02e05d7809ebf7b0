"""The one way out: named series to rows. Knows no dialect and checks no rights: dialects do, before they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, overload

from headwater.model.series import SeriesKey, Value
from headwater.services.catalogue import Catalogue
from headwater.services.horizons import Horizons
from headwater.store import Store

T = TypeVar("T")


class Column(NamedTuple):
    """A field asked for, with the Python class of the values wanted."""

    field: str
    value_class: type


class Rows(NamedTuple):
    """Answer of a query: times ascending, and one list of equal length per column asked for, None where empty."""

    at_ns: list[int]
    columns: dict[Column, list[Value | None]]


class Query:
    """Reads beside each other and beside ingest, off the event loop's thread. What has expired is never shown."""

    def __init__(
        self, store: Store, catalogue: Catalogue, horizons: Horizons | None = None, *, readers: int = 2
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._horizons = horizons or Horizons()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="store-reader")

    @overload
    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
    ) -> Rows: ...

    @overload
    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        convert: Callable[[Rows], T],
    ) -> T: ...

    async def rows(
        self,
        key: SeriesKey,
        columns: Sequence[Column],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        convert: Callable[[Rows], Any] = lambda rows: rows,
    ) -> Any:
        """Values of several fields of one series key, one row for each time at which any of them has a value.

        `start_ns` inclusive, `end_ns` exclusive; `newest` keeps only that many latest rows; `convert` makes the answer
        of them, in the reader's thread: thousands of rows would hold up the event loop. Raises StorageError.
        """
        ids = {column: self._catalogue.find(key, *column) for column in columns}
        known = {column: series_id for column, series_id in ids.items() if series_id is not None}
        if not known or newest == 0:
            return convert(Rows([], {column: [] for column in columns}))
        start_ns = self._horizons.start_ns(key.bucket_id, start_ns)

        def read() -> Any:
            table = self._store.rows(list(known.values()), start_ns=start_ns, end_ns=end_ns, newest=newest)
            missing: list[Value | None] = [None] * table.num_rows
            values = {
                column: missing if series_id is None else table.column(str(series_id)).to_pylist()
                for column, series_id in ids.items()
            }
            return convert(Rows(table.column("at_ns").to_pylist(), values))

        return await self._run(read)

    async def run(self, work: Callable[[], T]) -> T:
        """Do other long work on what was read, off the event loop: rendering a big answer."""
        return await self._run(work)

    async def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The latest time of each given series that has points. Raises StorageError."""
        return await self._run(lambda: self._store.newest_times(series_ids))

    async def times(self, key: SeriesKey, column: Column, at_ns: Collection[int]) -> set[int]:
        """Those of the given times at which a field has a value. Raises StorageError."""
        series_id = self._catalogue.find(key, *column)
        return set() if series_id is None else await self._run(lambda: self._store.times(series_id, at_ns))

    async def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The greatest value of each given integer series that has points. Raises StorageError."""
        return await self._run(lambda: self._store.maxima(series_ids))

    async def _run(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def close(self) -> None:
        """Let running reads end."""
        self._readers.shutdown(wait=True)
