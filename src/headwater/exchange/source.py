"""What is exported: the records of a channel as a table, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadRequest, NotFound
from headwater.exchange.columns import TIME_TYPE, Column, Role, canonical_label, table_schema
from headwater.exchange.streams import TableStream
from headwater.model.series import Series, SeriesKey
from headwater.registry.entities import Channel, Rollup
from headwater.store import Store

MAX_COLUMNS = 2_000


class Wanted(NamedTuple):
    """Which records of a channel."""

    start_ns: int | None = None
    end_ns: int | None = None
    measurement: str | None = None
    window: str | None = None
    """Not the records themselves, but what a rule for down-sampling with this window made of them."""


def find_channel(channels: Iterable[Channel], text: str) -> Channel:
    """The channel of this id, or else of this name. Raises NotFound."""
    known = list(channels)
    found = [channel for channel in known if str(channel.id) == text]
    found = found or [channel for channel in known if channel.settings.name == text]
    if len(found) > 1:
        ids = ", ".join(str(channel.id) for channel in found[:10])
        raise NotFound(f"{len(found)} channels are called {text!r}: name one by its id ({ids})")
    if not found:
        raise NotFound(f"there is no channel {text!r}: its page in the console shows its id")
    return found[0]


def find_rule(rules: Iterable[Rollup], window: str) -> Rollup:
    """The rule for down-sampling of one channel that has this window. Raises NotFound."""
    known = {rule.window_name: rule for rule in rules}
    if window not in known:
        told = f"there are: {', '.join(known)}" if known else "the channel has none yet"
        raise NotFound(f"no rule for down-sampling has the window {window!r}; {told}")
    return known[window]


def records_of(store: Store, series: Iterable[Series], wanted: Wanted) -> TableStream:
    """The records of these series, one row for each time and series key. Raises BadRequest for too many columns."""
    ids: dict[SeriesKey, dict[str, int]] = {}
    fields: dict[Column, None] = {}
    for one in series:
        if wanted.measurement in (None, one.key.measurement):
            column = Column(Role.FIELD, one.field, one.type)
            fields[column] = None
            ids.setdefault(one.key, {})[canonical_label(column)] = one.id
    keys = sorted(ids)
    tags = sorted({name for key in keys for name, _ in key.tags})
    columns = [Column(Role.TIME), Column(Role.MEASUREMENT), *(Column(Role.TAG, name) for name in tags)]
    columns += sorted(fields, key=lambda column: (column.name, column.type))
    if len(columns) > MAX_COLUMNS:
        raise BadRequest(f"this has {len(columns)} columns, more than {MAX_COLUMNS}: name one --measurement")
    schema = table_schema(columns)
    return TableStream(schema, _batches(store, keys, ids, columns, schema, wanted))


def _batches(
    store: Store,
    keys: list[SeriesKey],
    ids: Mapping[SeriesKey, Mapping[str, int]],
    columns: list[Column],
    schema: pa.Schema,
    wanted: Wanted,
) -> Iterator[pa.RecordBatch]:
    texts = {Column(Role.MEASUREMENT): pa.array([key.measurement for key in keys], pa.string())}
    for column in columns:
        if column.role is Role.TAG:
            texts[column] = pa.array([dict(key.tags).get(column.name) for key in keys], pa.string())
    for batch in store.records([ids[key] for key in keys], start_ns=wanted.start_ns, end_ns=wanted.end_ns):
        if batch.num_rows == 0:
            continue
        found = []
        for column in columns:
            if column.role is Role.TIME:
                found.append(batch.column("at_ns").cast(TIME_TYPE))
            elif column in texts:
                found.append(pc.take(texts[column], batch.column("key")))
            else:
                found.append(batch.column(canonical_label(column)).cast(column.arrow_type))
        yield pa.RecordBatch.from_arrays(found, schema=schema)
