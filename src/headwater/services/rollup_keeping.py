"""Keeps down-sampled buckets up to date: computes what is dirty, fills what is new, lets go of what is too old.

A window is computed from what was on disk after it had been claimed: what touches it from then on gives it another
mark, so it stays dirty. Results are written first and said to be done afterwards; a crash in between has them computed
again. All is done in pieces of bounded size, each a read and a commit or two, between which others have their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from headwater.errors import HeadwaterError
from headwater.logs import Log, Trouble
from headwater.model.record import Record
from headwater.priority import step_back
from headwater.services.catalogue import Catalogue
from headwater.services.ingest import Ingest, Receipt
from headwater.services.rollup_computing import Computed, Field, Span, compute, fields_of, spans_of
from headwater.services.rollup_state import DONE, FILLED, LOST, RollupState
from headwater.services.rollups import Rollups
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.windows import EARLIEST_NS, LATEST_NS, Windows

log = Log(__name__)
T = TypeVar("T")

CELLS_AT_ONCE = 20_000
"""Results in one piece of work: some 10 MB while they are made, and some 30 ms of the event loop's time, shared out."""
FIELDS_AT_ONCE = 2_000
WINDOWS_AT_ONCE = 10_000
FILL_S = 5.0
"""For so long history is computed for one rule before the others have their turn."""
RECORDS_IN_A_TURN = 200
"""Records that are handed to ingest before others have the event loop."""


class RollupKeeper:
    """Looks at every rule again and again. Call everything from the event loop's thread."""

    def __init__(
        self, rollups: Rollups, ingest: Ingest, catalogue: Catalogue, store: Store, *, interval_s: float
    ) -> None:
        self._rollups = rollups
        self._ingest = ingest
        self._catalogue = catalogue
        self._store = store
        self._interval_s = interval_s
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="rollup-reader", initializer=step_back)
        self._trouble = Trouble(log, "down-sampling failed", "down-sampling works again")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._rollups.is_wanted.clear()
            while await self.keep_all():
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._rollups.is_wanted.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        self._reader.shutdown(wait=True)

    async def keep_all(self) -> bool:
        """Bring every rule up to date, or nearer to it: a long history is computed in several rounds. Answers whether
        there is more to do. A rule that fails keeps none of the others from it, and is tried again."""
        failure: Exception | None = None
        is_more_left = False
        for state in list(self._rollups.marks):
            try:
                await self._expire(state)
                await self._compute_dirty(state)
                is_more_left |= not await self._fill(state)
            except HeadwaterError as error:
                failure = error
            except Exception as error:  # a fault of ours in one rule must not stop the others
                log.exception("down-sampling a bucket failed unexpectedly")
                failure = error
        if failure is None:
            self._trouble.end()
        else:
            self._trouble.begin(failure)
        return is_more_left and failure is None

    # -- what is dirty ----------------------------------------------------------------------------------------

    async def _compute_dirty(self, state: RollupState) -> None:
        now_ns = self._rollups.now_ns()
        least_ns = max(self._rollups.frozen_ns(state), state.expired_ns)
        state.drop([begins for begins in state.dirty if begins < least_ns])
        dirty = sorted(state.dirty)
        if not dirty:
            return
        fields = await self._fields(state)
        closed = [begins for begins in dirty if begins + state.window_ns <= now_ns]
        for windows in (closed, dirty[len(closed) :]):
            while windows:
                async with state.computing:
                    if state.is_gone:
                        return
                    piece, windows = _split(windows, _windows_at_once(state, fields))
                    marks = state.claim(piece)
                    fields = await self._fields(state)  # later than the claim: what is not among them marks anew
                    await self._compute(state, fields, spans_of(sorted(marks), state.window_ns), marks)

    # -- what was never computed ------------------------------------------------------------------------------

    async def _fill(self, state: RollupState) -> bool:
        """Compute windows from where that ended, for some time, or until somebody moves it back. Answers whether all
        are computed."""
        if state.is_filled:
            return True
        clock_s = asyncio.get_running_loop().time
        until_s = clock_s() + FILL_S
        expected_ns = state.filled_ns  # a deletion that moves it back, even before the first piece, ends this
        is_first = state.filled_ns == EARLIEST_NS
        begin_ns = max(state.filled_ns, state.expired_ns)
        if not is_first:
            begin_ns = max(begin_ns, self._rollups.frozen_ns(state))
        await self._ingest.drain()  # what comes later is marked
        fields = await self._fields(state)
        piece_ns = _windows_at_once(state, fields) * state.window_ns
        source_ids = [series_id for one in fields for series_id in one.source_ids]
        pieces = await self._read(lambda: _windows_with_points(self._store, source_ids, begin_ns, piece_ns))
        for piece in [*pieces, LATEST_NS]:
            async with state.computing:
                if state.filled_ns != expected_ns or state.is_gone or clock_s() > until_s:
                    return state.is_gone
                start_ns, end_ns = max(piece, begin_ns), min(piece + piece_ns, LATEST_NS)
                if not is_first and begin_ns < start_ns:
                    results = await self._read(lambda: self._results(state))
                    await self._delete(state, {(begin_ns, start_ns): results})
                if piece < LATEST_NS:
                    await self._ingest.drain()
                    await self._compute(state, await self._fields(state), [(start_ns, end_ns)], {})
                await self._rollups.fill_until(state, end_ns)
                begin_ns = expected_ns = end_ns
        return state.is_filled

    # -- what is too old --------------------------------------------------------------------------------------

    async def _expire(self, state: RollupState) -> None:
        expires_ns = self._rollups.expires_ns(state)
        if expires_ns <= state.expired_ns:
            return
        async with state.computing:
            if state.is_gone:
                return
            state.expired_ns = expires_ns
            series_ids = await self._read(lambda: self._all_series(state))
            if series_ids:
                await self._delete(state, {(EARLIEST_NS, expires_ns): series_ids})
                await self._rollups.fill_until(state, state.filled_ns)  # so that this stays younger than results

    # -- pieces of work ---------------------------------------------------------------------------------------

    async def _compute(
        self, state: RollupState, fields: Sequence[Field], spans: Sequence[Span], marks: dict[int, int]
    ) -> None:
        """Compute windows and write what comes out, with the marks that they had."""
        await self._ingest.drain()
        functions = [Function(name) for name in state.rule.aggregates]
        for first in range(0, len(fields), FIELDS_AT_ONCE):
            together = fields[first : first + FIELDS_AT_ONCE]
            found = await self._read(
                lambda together=together: compute(self._store, together, functions, state.window_ns, spans)  # type: ignore[misc]
            )
            await self._write(state, found)
        await self._write_all([Record(state.key, begins, {DONE: mark}) for begins, mark in marks.items()])
        state.settle(marks)

    async def _write(self, state: RollupState, found: Computed) -> None:
        async with state.turns.writing():
            for (start_ns, end_ns), series_ids in found.gone.items():
                await self._delete_points(series_ids, start_ns, end_ns)
            await self._write_all(found.records)

    async def _write_all(self, records: Sequence[Record]) -> None:
        """Hand records to ingest, and return when all are on disk."""
        receipts: dict[int, Receipt] = {}
        for number, record in enumerate(records, start=1):
            await self._ingest.room()
            receipt = self._ingest.write(record)
            receipts[id(receipt)] = receipt
            if number % RECORDS_IN_A_TURN == 0:
                await asyncio.sleep(0)
        for receipt in receipts.values():
            await receipt.wait()

    async def _delete(self, state: RollupState, spans: dict[Span, list[int]]) -> None:
        await self._write(state, Computed(gone=spans))

    async def _delete_points(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> None:
        if series_ids:
            await self._ingest.run_between_commits(
                lambda: self._store.delete(series_ids, start_ns=start_ns, end_ns=end_ns)
            )

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, read)

    async def _fields(self, state: RollupState) -> list[Field]:
        """Off the loop: 100,000 series take a second."""
        rule = state.rule
        functions = [Function(name) for name in rule.aggregates]
        return await self._read(lambda: fields_of(self._catalogue, rule.bucket_id, rule.target_bucket_id, functions))

    def _results(self, state: RollupState) -> list[int]:
        return [one.id for one in self._catalogue.of_bucket(state.rule.target_bucket_id) if one.key != state.key]

    def _all_series(self, state: RollupState) -> list[int]:
        """But for those that say what was computed and what was lost."""
        series = self._catalogue.of_bucket(state.rule.target_bucket_id)
        return [one.id for one in series if one.field not in (FILLED, LOST)]


def _windows_at_once(state: RollupState, fields: Sequence[Field]) -> int:
    cells = min(len(fields), FIELDS_AT_ONCE) * len(state.rule.aggregates)
    return max(1, min(WINDOWS_AT_ONCE, CELLS_AT_ONCE // max(1, cells)))


def _split(windows: list[int], most: int) -> tuple[list[int], list[int]]:
    return windows[:most], windows[most:]


def _windows_with_points(store: Store, series_ids: Sequence[int], start_ns: int, width_ns: int) -> list[int]:
    """The beginnings of those windows in which any of some series of numbers has points."""
    counts = store.windows([series_ids], [Aggregate(Function.COUNT)], Windows(start_ns, LATEST_NS, width_ns))
    begins: list[int] = counts.column("at_ns").to_pylist()
    return begins
