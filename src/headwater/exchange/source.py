"""What is exported: the records of a channel as a table, batch by batch, and the server's answer to the command.

Any schema with an iterator of record batches can be exported the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from headwater.control import Reply
from headwater.errors import BadRequest, NotFound
from headwater.exchange.columns import TIME_TYPE, Column, Role, canonical_label, table_schema
from headwater.exchange.writing import OutputFile
from headwater.logs import Log
from headwater.model.series import Series, SeriesKey
from headwater.registry.entities import Channel, Rollup
from headwater.services import Services
from headwater.services.entries import NUMBERING
from headwater.services.horizons import Horizons
from headwater.services.rollup_state import MEASUREMENT as MARKS
from headwater.store import Store

log = Log(__name__)

COMMAND = "export"
MAX_COLUMNS = 2_000


class Records(NamedTuple):
    """A table that is read while it is written."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Wanted(NamedTuple):
    """Which records of a channel."""

    start_ns: int | None = None
    end_ns: int | None = None
    measurement: str | None = None
    window: str | None = None
    """Not the records themselves, but what a rule for down-sampling with this window made of them."""

    def shown(self, channel: Channel, horizons: Horizons) -> Wanted:
        """The same without what has expired; results of down-sampling expire by the time of their rule."""
        if self.window is not None:
            return self
        return self._replace(start_ns=horizons.start_ns(channel.id, self.start_ns))


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


def exported(series: Iterable[Series], wanted: Wanted) -> list[Series]:
    """Without what the server keeps for itself."""
    hidden = NUMBERING if wanted.window is None else MARKS
    return [one for one in series if one.key.measurement != hidden]


def records_of(store: Store, series: Iterable[Series], wanted: Wanted) -> Records:
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
    return Records(schema, _batches(store, keys, ids, columns, schema, wanted))


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


class Exports:
    """The server's part: sends tables as streams of Arrow. To be made on the event loop's thread."""

    def __init__(self, services: Services, store: Store) -> None:
        self._services = services
        self._store = store
        self._loop = asyncio.get_running_loop()

    def answer(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Send the records of a channel. Raises HeadwaterError, and OSError when nobody takes it."""
        wanted = Wanted(request["start_ns"], request["end_ns"], request["measurement"], request.get("window"))
        channel, bucket_id = run_on(self._loop, lambda: self._find(str(request["channel"]), wanted))
        series = exported(self._services.query.series_of(bucket_id), wanted)
        records = records_of(self._store, series, wanted.shown(channel, self._services.horizons))
        rows = 0
        with pa.ipc.new_stream(pa.PythonFile(OutputFile(reply), mode="w"), records.schema) as stream:
            for batch in records.batches:
                stream.write_batch(batch)
                rows += batch.num_rows
        log.info("exported a channel", channel=channel.id, records=rows)

    def _find(self, text: str, wanted: Wanted) -> tuple[Channel, int]:
        """The channel, and the bucket that has what is wanted of it."""
        channel = find_channel(self._services.access.channels(), text)
        if wanted.window is None:
            return channel, channel.id
        rules = (state.rule for state in self._services.rollups.of(channel.id))
        return channel, find_rule(rules, wanted.window).target_bucket_id


def run_on(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> Any:
    """Do short work on the event loop's thread, from another."""

    async def run() -> Any:
        return work()

    return asyncio.run_coroutine_threadsafe(run(), loop).result()
