"""Down-sampling: rules of buckets, and what has to happen to their results when a bucket changes. Computes nothing.

Ingest marks what it writes (`rollup_state`), a keeper computes what is marked (`rollup_keeping`), queries use it
(`rollup_reading`). Whoever changes points of a bucket in another way says so with `deleting`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from headwater.errors import BadRequest, NotFound
from headwater.model.record import Record
from headwater.registry.entities import Rollup
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deletion
from headwater.services.ingest import Ingest, Receipt
from headwater.services.rollup_computing import FUNCTIONS, kept_functions
from headwater.services.rollup_state import FILLED, LOST, MARK, SECOND_NS, Marks, RollupState
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.windows import EARLIEST_NS, LATEST_NS, Windows

MINUTE_S, DAY_S = 60, 86_400
MAX_WINDOW_S = 366 * DAY_S
MAX_KEEP_S = 1000 * 366 * DAY_S
MARKED_AT_ONCE = 10_000
"""Windows that a deletion marks one by one; if it touches more, all from its beginning on are computed again."""


class RollupReport(NamedTuple):
    """How far a rule is."""

    rule: Rollup
    is_filled: bool
    """Whether all the history was computed."""
    until_ns: int
    """Up to then everything is computed; 0: nothing yet."""
    points: int
    """How many results there are."""


class Rollups:
    """Every account's rules. Call everything from the event loop's thread.

    Args: `retention_s` answers for how long points of a bucket are kept, None for ever; `now_ns` is the clock.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        ingest: Ingest,
        catalogue: Catalogue,
        store: Store,
        *,
        now_ns: Callable[[], int],
        retention_s: Callable[[int], int | None] = lambda _: None,
        max_rules_per_channel: int = 8,
        marked_at_once: int = MARKED_AT_ONCE,
    ) -> None:
        self._worker = worker
        self._access = access
        self._ingest = ingest
        self._catalogue = catalogue
        self._store = store
        self._retention_s = retention_s
        self._max_rules = max_rules_per_channel
        self._marked_at_once = marked_at_once
        self.now_ns = now_ns
        self.marks = Marks(catalogue)
        self.is_wanted = asyncio.Event()
        """Somebody wants the keeper to look at once."""
        ingest.mark_with(self.marks)

    # -- rules ------------------------------------------------------------------------------------------------

    async def load(self, rules: Iterable[Rollup]) -> None:
        """Take over the rules of the registry in place of those that are known."""
        known = {state.rule.id: state for state in self.marks}
        wanted = {rule.id: rule for rule in rules}
        for rule_id in known.keys() - wanted.keys():
            self._forget(known[rule_id])
        new = [RollupState(wanted[rule_id]) for rule_id in sorted(wanted.keys() - known.keys())]
        await asyncio.to_thread(self.marks.restore, new, self._store)
        for state in new:
            self._put(state)

    def target_ids(self) -> frozenset[int]:
        """The buckets that exist for results."""
        return frozenset(state.rule.target_bucket_id for state in self.marks)

    def of(self, bucket_id: int) -> list[RollupState]:
        """The rules of a bucket, those with narrow windows first."""
        return self.marks.of(bucket_id)

    async def reports(self, account_id: int, bucket_id: int) -> list[RollupReport]:
        """How far the rules of an account's bucket are."""
        return [await self._report(state) for state in await self.owned(account_id, bucket_id)]

    async def _report(self, state: RollupState) -> RollupReport:
        now_ns = self.now_ns()
        until_ns = min([now_ns // state.window_ns * state.window_ns, *state.dirty])
        points = await asyncio.to_thread(self._count, state)
        if not state.is_filled:
            until_ns = min(now_ns, state.filled_ns) if state.filled_ns > 0 else 0
        return RollupReport(state.rule, state.is_filled, until_ns, points)

    def _count(self, state: RollupState) -> int:
        """How many results there are. Blocks."""
        series_ids = [one.id for one in self._catalogue.of_bucket(state.rule.target_bucket_id) if one.key != state.key]
        ever = Windows(EARLIEST_NS, LATEST_NS, LATEST_NS)
        counted = self._store.windows([series_ids], [Aggregate(Function.COUNT)], ever)
        return sum(counted.column("count").to_pylist())

    async def owned(self, account_id: int, bucket_id: int) -> list[RollupState]:
        """The same for an account; another's channel is `NotFound`."""
        channel = self._access.channel(bucket_id)
        if channel is None or channel.account_id != account_id:
            raise NotFound(f"there is no channel {bucket_id}")
        return self.of(bucket_id)

    async def add(
        self, account_id: int, bucket_id: int, *, window_s: int, functions: Collection[Function], keep_s: int | None
    ) -> Rollup:
        """A new rule, which begins with all the history. Raises `BadRequest` for a window, aggregates or time to keep
        that cannot be, `Conflict` at the limit of rules."""
        _check(window_s, functions, keep_s)
        names = [function.value for function in kept_functions(functions)]
        return await self._worker.write(
            lambda registry: registry.add_rollup(
                account_id, bucket_id, window_s=window_s, aggregates=names, keep_s=keep_s, most=self._max_rules
            ),
            lambda rule: self._put(RollupState(rule)),
        )

    async def remove(self, account_id: int, bucket_id: int, rollup_id: int) -> Rollup:
        """Remove a rule of a bucket with its results."""
        if all(state.rule.id != rollup_id for state in await self.owned(account_id, bucket_id)):
            raise NotFound(f"there is no rule {rollup_id}")

        async def forget(rule: Rollup) -> None:
            for state in self.of(rule.bucket_id):
                if state.rule.id == rule.id:
                    await self._drop(state)

        return await self._worker.write(lambda registry: registry.remove_rollup(account_id, rollup_id), forget)

    async def drop_bucket(self, bucket_id: int) -> None:
        """The registry has let go of a bucket and with it of its rules: so does everything else."""
        for state in self.of(bucket_id):
            await self._drop(state)

    # -- what happens to a bucket -----------------------------------------------------------------------------

    def on_deleting(self, deletion: Deletion) -> AbstractAsyncContextManager[None]:
        """What `Deleting` asks before it deletes."""
        if deletion.is_clear:
            return self.clearing(deletion.bucket_id)
        return self.deleting(deletion.bucket_id, deletion.start_ns, deletion.end_ns)

    @asynccontextmanager
    async def deleting(
        self, bucket_id: int, start_ns: int | None = None, end_ns: int | None = None
    ) -> AsyncIterator[None]:
        """Around a deletion of points in [start, end) of a bucket: what it touches is marked, durably, before it, and
        nothing is computed meanwhile. Not for points that have become too old: results outlive them."""
        start = EARLIEST_NS if start_ns is None else start_ns
        end = LATEST_NS if end_ns is None else end_ns
        async with self._holding(bucket_id) as states:
            for state in states:
                if (end - start) // state.window_ns < self._marked_at_once:
                    await self._mark(state, state.begins([*range(start, end, state.window_ns), max(start, end - 1)]))
                else:
                    first_ns = _ceiling(EARLIEST_NS, state.window_ns)
                    begins = max(first_ns, *state.begins([start]), self.frozen_ns(state))
                    await self.fill_until(state, min(state.filled_ns, begins))
            yield
        self.is_wanted.set()

    @asynccontextmanager
    async def clearing(self, bucket_id: int) -> AsyncIterator[None]:
        """Around the deletion of all of a bucket: its results go first."""
        async with self._holding(bucket_id) as states:
            for state in states:
                async with state.turns.writing():
                    await self._delete_results(state)
            yield

    @asynccontextmanager
    async def _holding(self, bucket_id: int) -> AsyncIterator[Sequence[RollupState]]:
        async with AsyncExitStack() as stack:
            states = self.of(bucket_id)
            for state in states:
                await stack.enter_async_context(state.computing)
            yield [state for state in states if not state.is_gone]

    async def _mark(self, state: RollupState, windows: Collection[int]) -> None:
        receipts: dict[int, Receipt] = {}
        mark = self.marks.next()
        for begins in windows:
            await self._ingest.room()
            receipt = self._ingest.write(Record(state.key, begins, {MARK: mark}))
            receipts[id(receipt)] = receipt
            state.dirty[begins] = mark
        for receipt in receipts.values():
            await receipt.wait()

    async def fill_until(self, state: RollupState, filled_ns: int) -> None:
        """Write down until when all windows were computed once."""
        state.filled_ns = min(state.filled_ns, filled_ns)
        at_ns = max(self.now_ns(), state.filled_at_ns + 1)
        await self._ingest.room()
        await self._ingest.write(Record(state.key, at_ns, {FILLED: filled_ns})).wait()
        state.filled_ns, state.filled_at_ns = filled_ns, at_ns

    # -- how old what may be ----------------------------------------------------------------------------------

    def frozen_ns(self, state: RollupState) -> int:
        """Windows before this have lost points to the source's retention: their results stay as they are."""
        keep_s = self._retention_s(state.rule.bucket_id)
        if keep_s is None:
            return state.lost_ns
        return max(state.lost_ns, _ceiling(self.now_ns() - keep_s * SECOND_NS, state.window_ns))

    async def note_lost(self, bucket_ids: Collection[int]) -> None:
        """Write down which windows lose points, before expired points of buckets are removed: what a longer retention
        brings back later are windows without them. Raises StorageError."""
        receipts: dict[Receipt, None] = {}
        for state in (state for bucket_id in bucket_ids for state in self.of(bucket_id)):
            lost_ns = self.frozen_ns(state)
            if lost_ns > state.lost_ns:
                state.lost_ns = lost_ns
                receipts[self._ingest.write(Record(state.key, lost_ns, {LOST: lost_ns}))] = None
        for receipt in receipts:
            await receipt.wait()

    def expires_ns(self, state: RollupState) -> int:
        """Results before this are too old; it moves once a day."""
        keep_s = state.rule.keep_s
        if keep_s is None:
            return EARLIEST_NS
        step_ns = math.lcm(state.rule.window_s, DAY_S) * SECOND_NS
        return (self.now_ns() - keep_s * SECOND_NS) // step_ns * step_ns

    # -- helpers ----------------------------------------------------------------------------------------------

    def _put(self, state: RollupState) -> None:
        state.expired_ns = self.expires_ns(state)
        self.marks.add(state)
        self._watch(state.rule.bucket_id)
        self.is_wanted.set()

    def _forget(self, state: RollupState) -> None:
        state.is_gone = True
        self.marks.remove(state)
        self._watch(state.rule.bucket_id)

    def _watch(self, bucket_id: int) -> None:
        self._ingest.mark_windows(bucket_id, math.gcd(*(state.window_ns for state in self.of(bucket_id))))

    async def _drop(self, state: RollupState) -> None:
        self._forget(state)
        async with state.computing, state.turns.writing():
            await self._delete_results(state)

    async def _delete_results(self, state: RollupState) -> None:
        """Everything in the target. Marks that ingest sets meanwhile get series of their own."""
        target_id = state.rule.target_bucket_id
        series = self._ingest.forget(target_id, list(self._catalogue.of_bucket(target_id)), is_clear=True)
        state.undeleted += [one.id for one in series]
        state.reset()
        series_ids = list(state.undeleted)
        if series_ids:
            await self._ingest.run_between_commits(lambda: self._store.delete(series_ids))
            state.undeleted.clear()


def _check(window_s: int, functions: Collection[Function], keep_s: int | None) -> None:
    divides_day = MINUTE_S <= window_s <= DAY_S and DAY_S % window_s == 0
    if not divides_day and (window_s <= 0 or window_s % DAY_S or window_s > MAX_WINDOW_S):
        raise BadRequest("window: a minute or more that divides a day, or whole days up to a year")
    if not functions or not set(functions) <= set(FUNCTIONS):
        raise BadRequest(f"aggregates: one or more of {', '.join(FUNCTIONS)}")
    if keep_s is not None and not max(DAY_S, window_s) <= keep_s <= MAX_KEEP_S:
        raise BadRequest("keep: a day or more and not less than a window, or for ever")


def _ceiling(at_ns: int, window_ns: int) -> int:
    return -(-at_ns // window_ns) * window_ns
