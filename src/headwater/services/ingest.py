"""The one way in: records to columns, columns to one transaction, and only then acknowledgements.

Strategy: records are appended to the columns of the open batch on the event loop's thread. When the oldest of them
has waited `flush_interval_s`, or `flush_points` are there, and the writer is idle, the batch is sealed and a writer
thread stores it in one transaction while the next one fills. So a lone message costs one short wait and one fsync,
and under load thousands share one. Everything acknowledged together is stored together.

Knows no protocol and checks no rights: dialects do, before they call `write`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeAlias

from headwater.errors import BadRequest, Overloaded, StorageError
from headwater.logs import Log, Trouble
from headwater.model.record import Record
from headwater.model.series import (
    CLASS_OF,
    INTEGER_MAX,
    INTEGER_MIN,
    TYPE_OF,
    UNSIGNED_MAX,
    Series,
    SeriesKey,
    Unsigned,
    ValueType,
)
from headwater.services.catalogue import Catalogue
from headwater.services.deletion_notices import is_notice
from headwater.services.promise import Promise
from headwater.store import Batch, Columns, Store

log = Log(__name__)

Observer: TypeAlias = Callable[[Record], None]
Appenders: TypeAlias = tuple[Callable[[Any], None], Callable[[int], None], Callable[[int], None]]
"""What appends value, series id and time to a column each: bound once a batch, because it is called for every point."""


HELD_POINTS = 10
"""What a record that waits for a look-up counts as: about what it will be, with what it costs to keep."""
TOLD_AT_ONCE = 100
"""Records that observers hear of in one turn of the loop."""
READ_POINTS = 50_000
"""More than one read of a socket can bring, which is all that a paused connection may still hand over: an edge that
pauses when full is never refused."""
_OUT_OF_RANGE = (
    f"a value or the time is out of range: integers and nanoseconds since 1970 are {INTEGER_MIN} to {INTEGER_MAX}, "
    f"unsigned 0 to {UNSIGNED_MAX}"
)


class Marker(Protocol):
    """Who adds to a batch which windows of time its records touch, so that both are on disk together."""

    def mark(self, batch: Batch, touched: Mapping[int, Collection[int]]) -> None:
        """The batch is sealed. Bucket to beginnings of windows, for buckets of `Ingest.mark_windows`."""

    def forget(self) -> None:
        """The last batch was not stored."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    flush_interval_s: float = 0.002
    flush_points: int = 50_000
    max_pending_points: int = 500_000
    """Points that may wait for the disk before reading from sockets pauses."""


class Receipt(Promise):
    """The promise that a record will be on disk; shared by all records of one transaction."""

    __slots__ = ("batch", "is_urgent", "observed", "opened_at_s", "points", "touched")

    def __init__(self) -> None:
        super().__init__()
        self.batch = Batch()
        self.observed: list[Record] = []
        self.touched: dict[int, set[int]] = {}
        self.points = 0
        self.opened_at_s = 0.0
        self.is_urgent = False
        """Somebody waits for this batch as it is: do not wait for more to share it."""


class Ingest:
    """Takes records in; call everything from the event loop's thread."""

    def __init__(self, store: Store, catalogue: Catalogue, limits: IngestLimits) -> None:
        self._store = store
        self._catalogue = catalogue
        self._limits = limits
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._open = Receipt()
        self._appenders: dict[type, Appenders] = {}
        self._most_points = 2 * limits.max_pending_points + READ_POINTS
        self._committing: Receipt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._observers: dict[int, list[Observer]] = {}
        self._marker: Marker | None = None
        self._marked: dict[int, int] = {}
        self._followed: set[int] = set()
        """Buckets with observers or marked windows: one question for every record, whatever there is."""
        self._room_listeners: deque[Callable[[], None]] = deque()
        self._is_closed = False
        self._held_points = 0
        self._untold: deque[Record] = deque()
        """Records on disk of which the observers have not heard yet; they count as pending, so they are bounded."""
        self.is_full = False
        """Whether producers should pause. Checked by those who can; `write` itself refuses only far above this. Kept up
        to date as points come and go, because it is looked at for every read of every socket."""
        self._full_at_points = limits.max_pending_points
        """Points in the open batch that make it full, beside what waits elsewhere."""
        self.stored_points = 0
        self.commits = 0
        self._trouble = Trouble(log, "storing failed", "points can be stored again")

    @property
    def pending_points(self) -> int:
        committing = self._committing.points if self._committing is not None else 0
        return self._open.points + committing + self._held_points + len(self._untold)

    async def room(self) -> None:
        """Wait until there is room for one record more; in one line with those who use `when_room`."""
        if self.is_full:
            turn = asyncio.Event()
            self.when_room(turn.set)
            await turn.wait()

    def hold_room(self, records: int = 1) -> None:
        """Count records that are not written yet (something has to be looked up first) as waiting."""
        self._held_points += records * HELD_POINTS
        self._recount()

    def free_room(self, records: int = 1) -> None:
        """Let go of what `hold_room` counted."""
        self._held_points -= records * HELD_POINTS
        self._make_room()

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` once there is room again, in the order of asking and while there is room."""
        self._room_listeners.append(callback)

    def write(self, record: Record, is_told: bool = True) -> Receipt:
        """Take one record in. The answer resolves when it is on disk. `is_told`: whether those who `watch` learn of it.

        Raises BadRequest for a value or time that no series can hold, Overloaded when far too much is waiting. Then
        nothing of the record is taken, and no series is made for it.
        """
        receipt = self._open
        ids = self._catalogue.ids(record.key)
        at_ns = record.at_ns
        appenders = self._appenders
        if receipt.points == 0:
            self._begin_batch()
        elif receipt.points >= self._most_points:
            raise Overloaded("the disk cannot keep up with what arrives; try again later")
        written, is_checked = 0, False
        try:
            for field, value in record.values.items():
                value_class = value.__class__
                try:
                    series_id = ids[value_class][field]
                except KeyError:
                    if not is_checked:
                        _check(record)
                        is_checked = True
                    series_id = self._add_series(record.key, field, value_class)
                try:
                    append_value, append_id, append_at = appenders[value_class]
                except KeyError:
                    append_value, append_id, append_at = self._add_columns(value_class)
                append_value(value)
                append_id(series_id)
                append_at(at_ns)
                written += 1
        except OverflowError:
            self._take_back(record, written)
            raise BadRequest(_OUT_OF_RANGE) from None
        except BadRequest:
            self._take_back(record, written)
            raise
        receipt.points += written
        if receipt.points >= self._full_at_points:
            self.is_full = True
        if record.key.bucket_id in self._followed:
            self._follow(receipt, record, is_told)
        if receipt.points >= self._limits.flush_points and self._committing is None:
            self._flush()
        return receipt

    def _follow(self, receipt: Receipt, record: Record, is_told: bool) -> None:
        bucket_id = record.key.bucket_id
        if is_told and bucket_id in self._observers:
            receipt.observed.append(record)
        if width_ns := self._marked.get(bucket_id):
            begins_ns = record.at_ns - record.at_ns % width_ns
            try:
                receipt.touched[bucket_id].add(begins_ns)
            except KeyError:
                receipt.touched[bucket_id] = {begins_ns}

    def _mark_loaded(
        self, receipt: Receipt, series: Sequence[tuple[SeriesKey, str, ValueType]], points: Columns
    ) -> None:
        widths_ns = [self._marked.get(key.bucket_id, 0) for key, _, _ in series]
        for number, at_ns in zip(points.series_ids, points.at_ns, strict=True):
            if width_ns := widths_ns[number]:
                receipt.touched.setdefault(series[number][0].bucket_id, set()).add(at_ns - at_ns % width_ns)

    def load(self, series: Sequence[tuple[SeriesKey, str, ValueType]], columns: Mapping[ValueType, Columns]) -> Receipt:
        """Take in what was recorded elsewhere, in columns whose series ids are indexes of `series`. At least one point;
        all of them are in one transaction. Observers are not told. Raises Overloaded."""
        receipt = self._open
        if receipt.points == 0:
            self._begin_batch()
        elif receipt.points >= self._most_points:
            raise Overloaded("the disk cannot keep up with what arrives; try again later")
        ids = self.introduce(series)
        for value_type, points in columns.items():
            if CLASS_OF[value_type] not in self._appenders:
                self._add_columns(CLASS_OF[value_type])
            gathered = receipt.batch.columns[value_type]
            gathered.series_ids.extend(map(ids.__getitem__, points.series_ids))
            gathered.at_ns.extend(points.at_ns)
            gathered.values.extend(points.values)
            receipt.points += len(points)
            if self._marked:
                self._mark_loaded(receipt, series, points)
        if receipt.points >= self._full_at_points:
            self.is_full = True
        if receipt.points >= self._limits.flush_points and self._committing is None:
            self._flush()
        return receipt

    def forget(self, bucket_id: int, series: list[Series], *, is_clear: bool) -> list[Series]:
        """Let what is written from here on go to new series. Answers what the caller is to delete then: those, and a
        notice of it, which is on disk before anything that is written from here on."""
        self._catalogue.forget(series)
        if not series:
            return []
        notice = self._catalogue.make_notice(bucket_id, series, is_clear=is_clear)
        self._open.batch.new_series.append(notice)
        return [*series, notice]

    def introduce(self, series: Iterable[tuple[SeriesKey, str, ValueType]]) -> list[int]:
        """The numbers of series; those that did not exist are stored with what is written next."""
        ids = []
        for key, field, value_type in series:
            series_id = self._catalogue.find(key, field, CLASS_OF[value_type])
            ids.append(self._add_series(key, field, CLASS_OF[value_type]) if series_id is None else series_id)
        return ids

    def _begin_batch(self) -> None:
        if self._is_closed:
            raise Overloaded("the server is shutting down; try again later")
        loop = asyncio.get_running_loop()
        self._open.opened_at_s = loop.time()
        if self._committing is None and self._timer is None:
            self._timer = loop.call_later(self._limits.flush_interval_s, self._flush)

    def _add_series(self, key: SeriesKey, field: str, value_class: type) -> int:
        series = self._catalogue.create(key, field, TYPE_OF[value_class])
        self._open.batch.new_series.append(series)
        return series.id

    def _add_columns(self, value_class: type) -> Appenders:
        columns = Columns(TYPE_OF[value_class])
        self._open.batch.columns[columns.type] = columns
        appenders = columns.values.append, columns.series_ids.append, columns.at_ns.append
        self._appenders[value_class] = appenders
        return appenders

    def _take_back(self, record: Record, written: int) -> None:
        for columns in self._open.batch.columns.values():  # one that failed at the time has left value and series id
            whole = len(columns.at_ns)
            del columns.values[whole:], columns.series_ids[whole:]
        for value in islice(record.values.values(), written):
            columns = self._open.batch.columns[TYPE_OF[value.__class__]]
            del columns.series_ids[-1], columns.at_ns[-1], columns.values[-1]

    # -- commits ----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Seal the open batch and hand it to the writer thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sealed = self._open
        if self._committing is not None or not (sealed.points or sealed.batch.new_series):
            return
        self._open = Receipt()
        self._appenders = {}
        self._committing = sealed
        if sealed.touched and self._marker is not None:
            self._marker.mark(sealed.batch, sealed.touched)
        self._recount()
        loop = asyncio.get_running_loop()
        future = self._writer.submit(self._store.append, sealed.batch)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._committed, sealed, done))

    def _committed(self, sealed: Receipt, future: Future[None]) -> None:
        self._committing = None
        failure = future.exception()
        error = None if failure is None else _storage_error(failure)
        if error is None:
            self._trouble.end()
            self.stored_points += sealed.points
            self.commits += 1
        else:
            self._trouble.begin(error, points=sealed.points)
            # The series are known in memory by now, so a later batch has to introduce them to the store.
            self._open.batch.new_series[:0] = self._still_needed(sealed.batch.new_series)
            if self._marker is not None:
                self._marker.forget()
        self._schedule_next()
        sealed.resolve(error)
        if error is None and sealed.observed:
            if not self._untold:
                asyncio.get_running_loop().call_soon(self._tell_observers)
            self._untold.extend(sealed.observed)
        self._make_room()

    def _still_needed(self, series: Sequence[Series]) -> list[Series]:
        """Those of some series that were not stored which were not deleted meanwhile, or have points waiting."""
        used = set[int]().union(*(columns.series_ids for columns in self._open.batch.columns.values()))
        find = self._catalogue.find
        return [
            one
            for one in series
            if one.id in used or is_notice(one) or find(one.key, one.field, CLASS_OF[one.type]) == one.id
        ]

    def _schedule_next(self) -> None:
        if not self._open.points and not self._open.is_urgent:
            return
        loop = asyncio.get_running_loop()
        due_s = self._open.opened_at_s + self._limits.flush_interval_s
        if self._open.points >= self._limits.flush_points or due_s <= loop.time() or self._open.is_urgent:
            self._flush()
        else:
            self._timer = loop.call_at(due_s, self._flush)

    def _recount(self) -> None:
        """Something other than the open batch has grown or shrunk."""
        self._full_at_points = self._limits.max_pending_points - (self.pending_points - self._open.points)
        self.is_full = self._open.points >= self._full_at_points

    def _make_room(self) -> None:
        self._recount()
        while self._room_listeners and not self.is_full:
            self._room_listeners.popleft()()

    # -- observers --------------------------------------------------------------------------------------------

    def watch(self, bucket_id: int, observer: Observer) -> Callable[[], None]:
        """Call `observer` with each record of the bucket once it is on disk. Answers the function that ends it."""
        self._observers.setdefault(bucket_id, []).append(observer)
        self._followed.add(bucket_id)

        def unwatch() -> None:
            observers = self._observers.get(bucket_id, [])
            if observer in observers:
                observers.remove(observer)
            if not observers:
                self._observers.pop(bucket_id, None)
                self._refollow(bucket_id)

        return unwatch

    def mark_with(self, marker: Marker) -> None:
        """Let `marker` add to each batch what it touches."""
        self._marker = marker

    def mark_windows(self, bucket_id: int, width_ns: int) -> None:
        """Tell the marker which windows of this width records of the bucket touch; 0: none any more."""
        self._marked[bucket_id] = width_ns
        if not width_ns:
            del self._marked[bucket_id]
        self._refollow(bucket_id)

    def _refollow(self, bucket_id: int) -> None:
        if bucket_id in self._observers or bucket_id in self._marked:
            self._followed.add(bucket_id)
        else:
            self._followed.discard(bucket_id)

    def _tell_observers(self) -> None:
        """Tell of some records, then let others have the loop: a batch can hold tens of thousands."""
        for _ in range(min(TOLD_AT_ONCE, len(self._untold))):
            record = self._untold.popleft()
            for observer in tuple(self._observers.get(record.key.bucket_id, ())):
                try:
                    observer(record)
                except Exception:  # a broken listener must not stop the others
                    log.exception("an observer failed")
        if self._untold:
            asyncio.get_running_loop().call_soon(self._tell_observers)
        self._make_room()

    # -- in step with deletions, and the end ------------------------------------------------------------------

    async def run_between_commits(self, work: Callable[[], None]) -> None:
        """Run `work` on the writer thread, after everything taken in so far. Raises what `work` raises."""
        await self.drain()
        await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def drain(self) -> None:
        """Return when everything taken in so far is on disk (or has failed)."""
        last = self._open if self._open.points or self._open.batch.new_series else self._committing
        if last is None:
            return
        last.is_urgent = True
        self._flush()
        settled = asyncio.Event()
        last.add_callback(lambda _: settled.set())
        await settled.wait()

    async def close(self) -> None:
        """Refuse more, and store what was taken in."""
        self._is_closed = True
        await self.drain()
        self._writer.shutdown(wait=True)


def _check(record: Record) -> None:
    """Raises BadRequest for what no series can hold."""
    if not INTEGER_MIN <= record.at_ns <= INTEGER_MAX:
        raise BadRequest(_OUT_OF_RANGE)
    for value in record.values.values():
        if value.__class__ not in TYPE_OF:
            raise BadRequest(f"no series can hold a {value.__class__.__name__}")
        if isinstance(value, int):
            least, greatest = (0, UNSIGNED_MAX) if isinstance(value, Unsigned) else (INTEGER_MIN, INTEGER_MAX)
            if not least <= value <= greatest:
                raise BadRequest(_OUT_OF_RANGE)


def _storage_error(failure: BaseException) -> Exception:
    if isinstance(failure, StorageError):
        return failure
    log.error("the store failed unexpectedly", exception=repr(failure))
    return StorageError("the store failed unexpectedly; the log says more")
