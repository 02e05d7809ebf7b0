"""Read-only SQL over an account's own buckets: checked, planned, and run over nothing but their points.

Knows no dialect and checks no credentials; whose buckets a query may read, its caller says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import pyarrow as pa

from headwater.model.entry import NUMBERING
from headwater.model.series import SeriesKey
from headwater.registry.entities import Rollup
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.horizons import Horizons
from headwater.services.readers import Readers, Stream, Turns
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
    """What queries in SQL have beside the limits of all queries."""

    memory_mb: int = 256
    """Of the engine of one query."""
    threads: int = 2
    """Of the engine of one query."""
    at_once: int = 2
    """Engines that there are at the same time: as long as an answer is being sent, its engine keeps its memory."""
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
    """Queries in text. `answer` belongs on the event loop's thread; `plan` and `batches` block: they walk through all
    series of buckets, and read."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        readers: Readers,
        utc_now: Callable[[], datetime],
        limits: SqlLimits | None = None,
        horizons: Horizons | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._readers = readers
        self._horizons = horizons or Horizons()
        self._utc_now = utc_now
        self._limits = limits or SqlLimits()
        self._engines = Turns(self._limits.at_once, readers.limits)

    def plan(self, buckets: Sequence[Bucket], text: str, *, default_bucket: str | None = None) -> Plan[Table]:
        """A query over these buckets and nothing else. Raises BadRequest and TooLarge."""
        tables = Tables(buckets, self._catalogue.of_bucket, default_bucket)
        return plan_query(parse_query(text, self._limits.text), tables.find, self._utc_now())

    def batches(self, plan: Plan[Table], stop: Cancellation) -> Generator[pa.RecordBatch, None, None]:
        """The answer: at least one batch. Closing the iterator ends the query. Raises BadRequest, TooLarge, Cancelled
        and StorageError."""
        with open_sandbox(memory_mb=self._limits.memory_mb, threads=self._limits.threads) as sandbox:
            for scan in plan.scans:
                sandbox.add(self._source(scan, sandbox, stop))
            yield from sandbox.batches(plan.sql, max_rows=self._readers.limits.max_rows, stop=stop)

    @asynccontextmanager
    async def answer(
        self, buckets: Sequence[Bucket], text: str, *, default_bucket: str | None = None
    ) -> AsyncIterator[Stream[pa.RecordBatch]]:
        """Plan a query and stream its answer: at least one batch, which tells the columns. Leaving the block ends the
        query. Raises BadRequest, TooLarge, Cancelled when the time is up, Overloaded when too many wait, and
        StorageError."""
        start = partial(self._answer, buckets, text, default_bucket)
        async with self._engines.turn(), self._readers.stream(start) as stream:
            yield stream

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
