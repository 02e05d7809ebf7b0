"""All entries of a channel in pieces. Knows no wire format and checks no rights: dialects do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.entry import MEASUREMENT, Entry, channel_key
from headwater.model.series import INTEGER_MAX, TYPE_OF, Value
from headwater.registry.entities import Channel
from headwater.services.entries import entry_columns, read_entries
from headwater.services.query import Column, Query, RecordColumn, Records, Rows
from headwater.services.selecting import SeriesFilter, equal

Piece: TypeAlias = Callable[[], list[Entry]]
"""Answers some thousand entries, which takes a while: work for a thread."""


@asynccontextmanager
async def entry_stream(
    query: Query, channel: Channel, start_ns: int | None, end_ns: int | None
) -> AsyncIterator[AsyncGenerator[Piece, None]]:
    """The entries in [start, end), oldest first. A piece is read when it is asked for, so a slow consumer needs no
    memory; leaving the block lets go of everything. Raises Overloaded when there are too many streams."""
    wanted = SeriesFilter(channel.id, equal(MEASUREMENT))
    async with query.records(wanted, start_ns=start_ns, end_ns=end_ns, max_rows=INTEGER_MAX) as records:

        async def pieces() -> AsyncGenerator[Piece, None]:
            async for batch in records.batches:
                yield partial(_entries_of, channel, records, batch)

        yield pieces()


def _entries_of(channel: Channel, records: Records, batch: pa.RecordBatch) -> list[Entry]:
    key = channel_key(channel.id)
    if key not in records.keys:
        return []
    if len(records.keys) > 1:  # other dialects' points, which are no entries
        batch = batch.filter(pc.equal(batch.column(0), records.keys.index(key)))
    nothing: list[Value | None] = [None] * batch.num_rows
    places = {column: number for number, column in enumerate(records.columns, 2)}

    def values(column: Column) -> list[Value | None]:
        place = places.get(RecordColumn(column.field, TYPE_OF[column.value_class]))
        return nothing if place is None else batch.column(place).to_pylist()

    numbers = channel.settings.numbers
    columns = {column: values(column) for column in entry_columns(numbers)}
    return read_entries(Rows(batch.column(1).to_pylist(), columns), numbers)
