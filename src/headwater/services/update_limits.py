"""What becomes of an update that comes too fast for its channel: taken, merged, made to wait for its turn, or refused.

One limit per channel, whichever way updates come. `update_pace.Pace` decides; `ChannelLimit` carries it out;
`UpdateLimits` keeps one for each channel whose owner set a limit. Channels without one never come here. All of it is in
memory: a limit begins anew when the server starts, or when its owner changes it, and then nobody goes on waiting.

An update that waits has the time at which it came, unless it has one of its own, and is acknowledged when it is stored.
Merging is for one moment's values: an update with a time of its own becomes part of an entry of that very time, or an
entry of its own; one without becomes part of the last one that came without.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from headwater.errors import HeadwaterError, NotFound, TooManyRequests
from headwater.model.entry import EntryUpdate
from headwater.model.update_policy import TooFast, UpdatePolicy
from headwater.registry.entities import Channel
from headwater.services.access import Access, AccessChange
from headwater.services.deleting import Deleting, Deletion
from headwater.services.entries import Entries
from headwater.services.entry_merging import EntryWrite, OpenEntry
from headwater.services.ingest import Ingest
from headwater.services.update_pace import Pace, Verdict


class Timer(Protocol):
    """What `CallLater` answers."""

    def cancel(self) -> None: ...


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Timer]
"""Calls something after so many seconds."""


_NEXT_FREE_NS = 1_000_000_000
"""Times of receipt are counted up within this distance; beyond it, the clock was set back."""


class UpdateTooFast(TooManyRequests):
    """An update that was refused for coming too fast."""


@dataclass(slots=True)
class LimitCounts:
    """What became of updates that came too fast, since the server started."""

    merged: int = 0
    queued: int = 0
    refused: int = 0


class QueueLimits(NamedTuple):
    """How many updates may wait for their turn."""

    per_channel: int = 100
    per_account: int = 500
    in_all: int = 2_000


DEFAULT_QUEUE_LIMITS = QueueLimits()


class _Waiting(NamedTuple):
    update: EntryUpdate
    now_ns: int
    write: EntryWrite


class _Open(NamedTuple):
    """An entry that may be added to until some time (of the limit's clock), unless the channel was cleared."""

    entry: OpenEntry
    until_s: float
    era: object


class ChannelLimit:
    """A channel's limit as it is carried out; call everything from the event loop's thread."""

    def __init__(self, shared: UpdateLimits, channel: Channel, policy: UpdatePolicy, counts: LimitCounts) -> None:
        self._shared = shared
        self._channel = channel
        self.policy = policy
        self.counts = counts
        self._pace = Pace(policy, shared.queue_limits.per_channel)
        self._bulk_pace = Pace(policy, 0)
        self._waiting: deque[_Waiting] = deque()
        self._timer: Timer | None = None
        self._received: _Open | None = None
        self._dated: _Open | None = None
        self._left: list[_Open] = []
        """Those before, of which some may still be merging."""
        self._is_released = False
        self._last_ns = 0
        """The last time of receipt."""

    @property
    def waiting(self) -> int:
        """Updates that wait for their turn now."""
        return len(self._waiting)

    def write(self, update: EntryUpdate, now_ns: int) -> EntryWrite:
        """Take an update in, or let it wait. Raises UpdateTooFast, and what `Entries.append` raises."""
        if self._is_released:
            return self._take(update, now_ns)
        if self.policy.action is TooFast.MERGE:
            return self._merge(update, now_ns)
        # Messages of one read share their time. Whoever comes past the limit before they are taken has a later one, and
        # then nobody looks whether theirs is free.
        if 0 <= self._last_ns - now_ns < _NEXT_FREE_NS:
            now_ns = self._last_ns + 1
        self._last_ns = now_ns
        now_s = self._shared.clock_s()
        has_room = self._shared.has_room(self._channel.account_id)
        if not has_room and (self._waiting or self._pace.free_in_s(now_s)):
            verdict = Verdict.REFUSE
        else:
            verdict = self._pace.judge(now_s)
        if verdict is Verdict.TAKE:
            return self._take(update, now_ns)
        if verdict is Verdict.REFUSE:
            self.counts.refused += 1
            self._shared.totals.refused += 1
            raise UpdateTooFast(self._why_refused(), self._pace.free_in_s(now_s))
        write = EntryWrite()
        self._waiting.append(_Waiting(update, now_ns, write))
        self._shared.count_waiting(self._channel.account_id, 1)
        self.counts.queued += 1
        self._shared.totals.queued += 1
        if len(self._waiting) == 1:
            self._next_turn()
        return write

    def admit_bulk(self) -> None:
        """Many at once come. Raises TooManyRequests where refusing is the limit's way, as upstream."""
        if self.policy.action is not TooFast.REJECT or self._is_released:
            return
        now_s = self._shared.clock_s()
        if self._bulk_pace.judge(now_s) is not Verdict.TAKE:
            self.counts.refused += 1
            self._shared.totals.refused += 1
            raise TooManyRequests(f"bulk {self.policy.why_refused}", self._bulk_pace.free_in_s(now_s))

    def release(self) -> None:
        """The limit ends: what waits is taken now."""
        self._is_released = True
        self._cancel_timer()
        while self._waiting:
            self._take_waiting(self._waiting.popleft())

    def drop(self) -> None:
        """The channel is gone, and what waits with it."""
        self._is_released = True
        self._cancel_timer()
        while self._waiting:
            self._shared.count_waiting(self._channel.account_id, -1)
            self._waiting.popleft().write.resolve(NotFound("the channel was deleted meanwhile"))

    def entry_deleted(self, deletion: Deletion) -> None:
        """Nothing more is merged into an entry that is about to be deleted."""
        if deletion.is_clear:  # of the time before, which the entries that are open now may not be
            return
        start_ns, end_ns = deletion.start_ns, deletion.end_ns
        for opened in self._opened():
            at_ns = opened.entry.entry.at_ns
            is_within = (start_ns is None or at_ns >= start_ns) and (end_ns is None or at_ns < end_ns)
            if is_within and not opened.entry.is_own(deletion):
                opened.entry.end()
                self._forget(opened)

    async def close_entry(self, entry_id: int) -> None:
        """An entry is about to be changed by other means: nothing more is merged into it, and what came has been."""
        for opened in self._opened():
            if opened.entry.entry.entry_id == entry_id:
                self._forget(opened)
                await opened.entry.settled()

    def _opened(self) -> list[_Open]:
        return [opened for opened in (self._received, self._dated, *self._left) if opened is not None]

    def _forget(self, opened: _Open) -> None:
        self._received = None if self._received is opened else self._received
        self._dated = None if self._dated is opened else self._dated

    # -- merging ------------------------------------------------------------------------------------------------

    def _merge(self, update: EntryUpdate, now_ns: int) -> EntryWrite:
        now_s = self._shared.clock_s()
        is_dated = update.created_at_ns is not None
        opened = self._dated if is_dated else self._received
        is_open = (
            opened is not None
            and now_s < opened.until_s
            and opened.era is self._shared.entries.era(self._channel.id)
            and (not is_dated or update.created_at_ns == opened.entry.entry.at_ns)
        )
        if opened is not None and is_open:
            self.counts.merged += 1
            self._shared.totals.merged += 1
            return opened.entry.add(update)
        write = self._take(update, now_ns)
        self._open(write, now_s, is_dated=is_dated)
        return write

    def _open(self, write: EntryWrite, now_s: float, *, is_dated: bool) -> None:
        if write.entry is None:  # whether there is an entry of that time, is being looked up

            def found(error: Exception | None) -> None:
                if error is None:
                    self._open(write, now_s, is_dated=is_dated)

            write.add_callback(found)
            return
        shared, channel_id = self._shared, self._channel.id
        era = shared.entries.era(channel_id)
        entry = OpenEntry(
            channel_id, write.entry, shared.ingest, shared.deleting, lambda: shared.entries.era(channel_id) is era
        )
        opened = _Open(entry, now_s + self.policy.interval_s, era)
        self._left = [one for one in self._opened() if one.entry.is_merging]
        if is_dated:
            self._dated = opened
        else:
            self._received = opened

        def settle(error: Exception | None) -> None:
            if error is not None:
                self._forget(opened)

        write.add_callback(settle)

    # -- waiting ------------------------------------------------------------------------------------------------

    def _next_turn(self) -> None:
        """Take the first of those that wait, if it is its turn, or come back then."""
        self._cancel_timer()
        while self._waiting:
            now_s = self._shared.clock_s()
            delay_s = self._pace.free_in_s(now_s)
            if delay_s > 0:
                self._timer = self._shared.call_later(delay_s, self._next_turn)
                return
            if self._shared.ingest.is_full:
                self._shared.ingest.when_room(self._next_turn)
                return
            self._pace.take_turn(now_s)
            self._take_waiting(self._waiting.popleft())

    def _take_waiting(self, waiting: _Waiting) -> None:
        self._shared.count_waiting(self._channel.account_id, -1)
        try:
            write = self._take(waiting.update, waiting.now_ns)
        except HeadwaterError as error:
            waiting.write.resolve(error)
            return

        def settle(error: Exception | None) -> None:
            waiting.write.entry = write.entry
            waiting.write.resolve(error)

        write.add_callback(settle)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _why_refused(self) -> str:
        if self.policy.action is TooFast.QUEUE:
            return f"{self.policy.why_refused}, and as many wait for their turn as may"
        return self.policy.why_refused

    def _take(self, update: EntryUpdate, now_ns: int) -> EntryWrite:
        write = EntryWrite()
        entries = self._shared.entries
        if update.created_at_ns is None:
            write.entry, receipt = entries.write(self._channel, update, now_ns)
            receipt.add_callback(write.resolve)
            return write
        dated = entries.write_dated(self._channel, update, now_ns)
        write.entry = dated.entry

        def settle(error: Exception | None) -> None:
            write.entry = dated.entry
            write.resolve(error)

        dated.add_callback(settle)
        return write


class UpdateLimits:
    """The limits of all channels whose owners set one.

    Args: `policy_of` says which limit applies to a channel; whoever changes that announces it through `access`;
    `clock_s` gives seconds that never go back; `call_later` is the running loop's, unless something else keeps time.
    """

    def __init__(
        self,
        access: Access,
        entries: Entries,
        ingest: Ingest,
        deleting: Deleting,
        policy_of: Callable[[Channel], UpdatePolicy],
        clock_s: Callable[[], float],
        queue_limits: QueueLimits = DEFAULT_QUEUE_LIMITS,
        call_later: CallLater | None = None,
    ) -> None:
        self._access = access
        self.entries = entries
        self.ingest = ingest
        self.deleting = deleting
        self.clock_s = clock_s
        self.queue_limits = queue_limits
        self.call_later = call_later or asyncio.get_running_loop().call_later
        self._policy_of = policy_of
        self._limits: dict[int, ChannelLimit] = {}
        self._counts: dict[int, LimitCounts] = {}
        self._is_closed = False
        self.totals = LimitCounts()
        """Of all channels."""
        self.waiting = 0
        """Updates of all channels that wait for their turn now."""
        self._waiting_by_account: Counter[int] = Counter()
        access.on_change(self._access_changed)
        deleting.on_deleting(self._on_deleting)

    def of(self, channel: Channel) -> ChannelLimit | None:
        """The channel's limit; None for one without. Holds until `Access` announces a change of the channel."""
        limit = self._limits.get(channel.id)
        if limit is None and not self._is_closed:
            policy = self._policy_of(channel)
            if policy.is_limit:
                counts = self._counts.setdefault(channel.id, LimitCounts())
                limit = self._limits[channel.id] = ChannelLimit(self, channel, policy, counts)
        return limit

    def counts_of(self, channel_id: int) -> LimitCounts:
        """What became of a channel's updates that came too fast."""
        return self._counts.get(channel_id, LimitCounts())

    def waiting_of(self, channel_id: int) -> int:
        """Updates of a channel that wait for their turn now."""
        limit = self._limits.get(channel_id)
        return 0 if limit is None else limit.waiting

    def has_room(self, account_id: int) -> bool:
        """Whether one more update of an account may wait."""
        limits = self.queue_limits
        return self.waiting < limits.in_all and self._waiting_by_account[account_id] < limits.per_account

    def count_waiting(self, account_id: int, change: int) -> None:
        """One more update of an account waits, or one less."""
        self.waiting += change
        self._waiting_by_account[account_id] += change
        if not self._waiting_by_account[account_id]:
            del self._waiting_by_account[account_id]

    async def close_entry(self, channel_id: int, entry_id: int) -> None:
        """An entry is about to be changed by other means than an update: see `ChannelLimit.close_entry`."""
        if (limit := self._limits.get(channel_id)) is not None:
            await limit.close_entry(entry_id)

    def close(self) -> None:
        """The server is about to stop: all that waits is taken now, and nothing is made to wait any more."""
        self._is_closed = True
        for limit in self._limits.values():
            limit.release()
        self._limits.clear()

    def _access_changed(self, change: AccessChange) -> None:
        for channel_id in change.bucket_ids:
            channel = self._access.channel(channel_id)
            limit = self._limits.get(channel_id)
            if channel is None:
                self._counts.pop(channel_id, None)
                if limit is not None:
                    del self._limits[channel_id]
                    limit.drop()
            elif limit is not None and limit.policy != self._policy_of(channel):
                del self._limits[channel_id]
                limit.release()

    @asynccontextmanager
    async def _on_deleting(self, deletion: Deletion) -> AsyncIterator[None]:
        """Entries that are deleted are not added to any more."""
        if (limit := self._limits.get(deletion.bucket_id)) is not None:
            limit.entry_deleted(deletion)
        yield
