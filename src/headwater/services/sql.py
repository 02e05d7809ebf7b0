"""Read-only SQL over an account's own buckets: checked, planned, and run over nothing but their points.

Knows no dialect and checks no credentials; whose buckets a query may read, its caller says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import pyarrow as pa

from headwater.errors import Overloaded
from headwater.model.series import SeriesKey
from headwater.registry.entities import Rollup
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.entries import NUMBERING
from headwater.services.horizons import Horizons
from headwater.services.rollup_state import MEASUREMENT as MARKS
from headwater.services.sql_tables import Bucket, Table, Tables
from headwater.sql.checking import TextLimits, parse_query
from headwater.sql.planning import Plan, Scan, plan_query
from headwater.store import ARROW_TYPES, Store
from headwater.store.cancellation import Cancellation
from headwater.store.sandbox import Sandbox, Source, open_sandbox

V = TypeVar("V")

_SLACK_NS = 1_000_000_000
"""Bounds of time are taken a little wider than they are written: a comparison may round to microseconds."""


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """How much one query may take, and how many may run beside each other and wait."""

    timeout_s: float = 30.0
    max_rows: int = 1_000_000
    memory_mb: int = 256
    threads: int = 2
    at_once: int = 2
    max_waiting: int = 16
    text: TextLimits = field(default_factory=TextLimits)


def buckets_of(
    access: Access, account_id: int, rules_of: Callable[[int], Iterable[Rollup]] = lambda _: ()
) -> list[Bucket]:
    """What an account may read: a channel by its name and as `channel_<id>`, and what its rules for down-sampling
    (`rules_of` its id) made of it as the same with `_<window>`."""
    buckets = []
    for channel in access.channels_of(account_id):
        by_id = f"channel_{channel.id}"
        names = tuple(dict.fromkeys((channel.settings.name or by_id, by_id)))
        buckets.append(Bucket(channel.id, names, frozenset({NUMBERING})))
        for rule in rules_of(channel.id):
            of_window = tuple(f"{name}_{rule.window_name}" for name in names)
            buckets.append(Bucket(rule.target_bucket_id, of_window, frozenset({MARKS})))
    return buckets


class Sql:
    """Queries in text. `run` belongs on the event loop's thread; `plan` and `batches` block: they walk through all
    series of buckets, and read."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        utc_now: Callable[[], datetime],
        limits: SqlLimits | None = None,
        horizons: Horizons | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._horizons = horizons or Horizons()
        self._utc_now = utc_now
        self.limits = limits or SqlLimits()
        self._workers = ThreadPoolExecutor(self.limits.at_once, thread_name_prefix="sql")
        self._room = asyncio.Semaphore(self.limits.at_once)
        self._asked = 0

    def plan(self, buckets: Sequence[Bucket], text: str, *, default_bucket: str | None = None) -> Plan[Table]:
        """A query over these buckets and nothing else. Raises BadRequest and TooLarge."""
        tables = Tables(buckets, self._catalogue.of_bucket, default_bucket)
        return plan_query(parse_query(text, self.limits.text), tables.find, self._utc_now())

    def batches(self, plan: Plan[Table], stop: Cancellation) -> Generator[pa.RecordBatch, None, None]:
        """The answer: at least one batch. Closing the iterator ends the query. Raises BadRequest, TooLarge, Cancelled
        and StorageError."""
        with open_sandbox(memory_mb=self.limits.memory_mb, threads=self.limits.threads) as sandbox:
            for scan in plan.scans:
                sandbox.add(self._source(scan, sandbox, stop))
            yield from sandbox.batches(plan.sql, max_rows=self.limits.max_rows, stop=stop)

    async def run(
        self, buckets: Sequence[Bucket], text: str, *, default_bucket: str | None = None
    ) -> AsyncIterator[pa.RecordBatch]:
        """Plan a query and stream its answer: at least one batch, which tells the columns.

        Raises BadRequest, TooLarge, Cancelled when the time is up, Overloaded when too many wait, and StorageError.
        Whoever leaves early closes the iterator (`contextlib.aclosing`), and the query ends.
        """
        if self._asked >= self.limits.at_once + self.limits.max_waiting:
            raise Overloaded("too many queries are waiting: try again later")
        loop, stop = asyncio.get_running_loop(), Cancellation()
        self._asked += 1
        try:
            async with self._room:
                timer = loop.call_later(self.limits.timeout_s, stop.cancel, time_is_up(self.limits.timeout_s))
                found = self._answer(buckets, text, default_bucket, stop)
                step: asyncio.Future[pa.RecordBatch | None] | None = None
                try:
                    while True:
                        step = loop.run_in_executor(self._workers, next, found, None)
                        if (batch := await asyncio.shield(step)) is None:
                            return
                        yield batch
                finally:
                    timer.cancel()
                    stop.cancel("nobody waits for the answer any more")
                    if step is not None:
                        await asyncio.wait([step])
                    await loop.run_in_executor(self._workers, found.close)
        finally:
            self._asked -= 1

    def _answer(
        self, buckets: Sequence[Bucket], text: str, default_bucket: str | None, stop: Cancellation
    ) -> Generator[pa.RecordBatch, None, None]:
        yield from self.batches(self.plan(buckets, text, default_bucket=default_bucket), stop)

    def _source(self, scan: Scan[Table], sandbox: Sandbox, stop: Cancellation) -> Source:
        table = scan.table
        keys = _keys_with(table, scan.conditions.values)
        fields = _named(table.fields, scan.columns) or table.fields
        column_of = {
            one: f"value_{number}" for number, one in enumerate(one for of_types in fields.values() for one in of_types)
        }
        columns = [
            {column_of[one]: series_id for one, series_id in table.keys[key].items() if one in column_of}
            for key in keys
        ]
        types = [(name, ARROW_TYPES[value_type]) for (_, value_type), name in column_of.items()]
        tags = _named(table.tags, scan.columns)
        start_ns, end_ns = _bounds(scan, sandbox)
        for key in keys[:1]:  # all are of one bucket
            start_ns = self._horizons.start_ns(key.bucket_id, start_ns)
        return Source(
            pa.schema([("key", pa.int64()), ("at_ns", pa.int64()), *types]),
            partial(self._store.scan, columns, start_ns=start_ns, end_ns=end_ns, stop=stop),
            {name: [column_of[one] for one in of_types] for name, of_types in fields.items()},
            _tags(keys, tags) if tags else None,
        )

    def close(self) -> None:
        """Let running queries end."""
        self._workers.shutdown(wait=True)


def time_is_up(timeout_s: float) -> str:
    return (
        f"the query took longer than {timeout_s:g} s: ask for a shorter time (WHERE time >= ...), fewer columns or "
        "fewer tables"
    )


def _named(columns: Mapping[str, V], names: Collection[str] | None) -> Mapping[str, V]:
    """Those of the columns that a query names."""
    return {name: of for name, of in columns.items() if names is None or name.lower() in names}


def _keys_with(table: Table, values: Mapping[str, Collection[str]]) -> list[SeriesKey]:
    """The keys that have the tags asked for."""
    wanted = {tag: values[name.lower()] for name, tag in table.tags.items() if name.lower() in values}
    return [key for key in table.keys if all(dict(key.tags).get(tag) in of for tag, of in wanted.items())]


def _tags(keys: Sequence[SeriesKey], tags: Mapping[str, str]) -> pa.Table:
    by_key = [dict(key.tags) for key in keys]
    columns = {name: pa.array([one.get(tag) for one in by_key], pa.string()) for name, tag in tags.items()}
    return pa.table([pa.array(range(len(keys)), pa.int64()), *columns.values()], names=["key", *columns])


def _bounds(scan: Scan[Table], sandbox: Sandbox) -> tuple[int | None, int | None]:
    """From when to when a scan reads."""
    starts = [ns for one in scan.conditions.not_before if (ns := sandbox.time_ns(one)) is not None]
    ends = [ns for one in scan.conditions.not_after if (ns := sandbox.time_ns(one)) is not None]
    return max(starts) - _SLACK_NS if starts else None, min(ends) + _SLACK_NS if ends else None
