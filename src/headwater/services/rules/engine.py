"""Follows rules: judges what is stored, notices silence, keeps to schedules, and has rules run. Knows no dialect.

Only channels that a rule watches are watched. A rule on each entry is told of it once it is on disk. One on silence has
one timer, which is moved when it is due and not with each entry. All decisions are made on the event loop's thread,
without waiting; only newest entries are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from headwater.errors import HeadwaterError
from headwater.logs import Log, Trouble
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services.access import Access
from headwater.services.entries import Entries
from headwater.services.rules.conditions import describe, is_met, is_sign_of_life, silence_begins_ns
from headwater.services.rules.definitions import Once, Rule, Silence, Timed, Watch
from headwater.services.rules.following import MINUTE_NS, S_NS, Followed
from headwater.services.rules.journal import RunJournal
from headwater.services.rules.running import Cause
from headwater.services.rules.schedules import fire_at_ns, next_after
from headwater.services.rules.timers import Timers

log = Log(__name__)

GRACE_S = 120
"""After a start, devices get so long to come back (or the silence that the rule allows, if that is shorter)."""
RETRY_S = 60
"""Until silence is looked at again when its rule could not run."""
READ_AT_ONCE = 4


class _Watched:
    """A channel with its rules."""

    def __init__(self, unwatch: Callable[[], None]) -> None:
        self.unwatch = unwatch
        self.rules: dict[int, Followed] = {}


class Engine:
    """All rules that are enabled.

    Args: `journal` keeps their states; `start` begins a run and answers whether there was room for it; `missed` is told
    of a one-time rule whose time passed while no server ran; `draw` answers a whole number between two.
    """

    def __init__(
        self,
        access: Access,
        entries: Entries,
        timers: Timers,
        journal: RunJournal,
        start: Callable[[Rule, Cause], bool],
        missed: Callable[[Rule, int], None],
        *,
        runs_per_minute: int,
        now_ns: Callable[[], int],
        draw: Callable[[int, int], int],
    ) -> None:
        self._access = access
        self._entries = entries
        self._timers = timers
        self._journal = journal
        self._start = start
        self._missed = missed
        self._runs_per_minute = runs_per_minute
        self._now_ns = now_ns
        self._draw = draw
        self._started_ns = now_ns()
        self._followed: dict[int, Followed] = {}
        self._watched: dict[int, _Watched] = {}
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble = Trouble(log, "rules cannot read entries", "rules can read entries again")

    def find(self, rule_id: int) -> Followed | None:
        return self._followed.get(rule_id)

    # -- which rules ------------------------------------------------------------------------------------------

    def follow(self, rule: Rule, *, is_anew: bool = False) -> None:
        """Follow a rule, in place of what it was before. `is_anew`: it was made, changed or enabled just now, so that
        it forgets whether its condition was met, and times that have passed."""
        self.let_go(rule.id)
        followed = Followed(rule, self._journal)
        self._followed[rule.id] = followed
        if is_anew:
            followed.note(is_met=False, last_due_ns=self._now_ns())
        if isinstance(rule.trigger, Timed):
            self._follow_schedule(followed, rule.trigger)
        elif self._channel_of(rule) is not None:
            self._follow_channel(followed, rule.trigger)

    def let_go(self, rule_id: int) -> None:
        """Follow a rule no more."""
        followed = self._followed.pop(rule_id, None)
        if followed is None:
            return
        followed.is_gone = True
        if followed.timer is not None:
            followed.timer.cancel()
        bucket_id = followed.rule.bucket_id
        watched = None if bucket_id is None else self._watched.get(bucket_id)
        if bucket_id is not None and watched is not None:
            watched.rules.pop(rule_id, None)
            if not watched.rules:
                watched.unwatch()
                del self._watched[bucket_id]

    async def close(self) -> None:
        """Let go of all."""
        for rule_id in list(self._followed):
            self.let_go(rule_id)
        for task in tuple(self._tasks):
            task.cancel()
        await self.settle()

    async def settle(self) -> None:
        """Wait for the entries that are being read."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- what is stored ---------------------------------------------------------------------------------------

    def _follow_channel(self, followed: Followed, watch: Watch) -> None:
        bucket_id = followed.rule.bucket_id
        assert bucket_id is not None
        watched = self._watched.get(bucket_id)
        if watched is None:
            watched = self._watched[bucket_id] = self._watch(bucket_id)
        watched.rules[followed.rule.id] = followed
        if isinstance(watch.condition, Silence):
            self._spawn(self._learn_last(followed, watch.condition))
        elif watch.every_min:
            self._tick_later(followed, watch)

    def _watch(self, bucket_id: int) -> _Watched:
        unwatch_entries = self._entries.watch(bucket_id, lambda entry: self._stored(bucket_id, (entry,)))
        unwatch_bulks = self._entries.watch_bulks(bucket_id, lambda entries: self._stored(bucket_id, entries))

        def unwatch() -> None:
            unwatch_entries()
            unwatch_bulks()

        return _Watched(unwatch)

    def _stored(self, bucket_id: int, entries: Sequence[Entry]) -> None:
        """These came together, as one call: a rule runs for them once at most."""
        watched = self._watched.get(bucket_id)
        for followed in tuple(watched.rules.values()) if watched is not None else ():
            watch = followed.rule.trigger
            assert isinstance(watch, Watch)
            if isinstance(watch.condition, Silence):
                if any(is_sign_of_life(watch.condition.field, entry) for entry in entries):
                    self._received(followed, watch.condition)
            elif not watch.every_min:
                self._judge(followed, watch, entries)

    def _judge(self, followed: Followed, watch: Watch, entries: Sequence[Entry]) -> None:
        has_run = False
        is_met_now = followed.state.is_met
        for entry in entries:
            met = is_met(watch.condition, entry)
            if met is None:
                continue
            if met and not has_run and not (watch.is_first_only and is_met_now):
                has_run = self._fire(followed, Cause(describe(watch.condition, entry), entry))
                # Left out: the next entry that meets the condition is the first one again.
                met = has_run
            is_met_now = met
        followed.note(is_met=is_met_now)

    # -- the newest entry, now and then -----------------------------------------------------------------------

    def _tick_later(self, followed: Followed, watch: Watch) -> None:
        step_ns = watch.every_min * MINUTE_NS
        shift_ns = followed.rule.id * S_NS % step_ns  # not all at the full hour
        at_ns = (self._now_ns() - shift_ns) // step_ns * step_ns + step_ns + shift_ns
        followed.timer = self._timers.call_at(at_ns, lambda: self._tick(followed, watch))

    def _tick(self, followed: Followed, watch: Watch) -> None:
        self._tick_later(followed, watch)
        self._spawn(self._look_at_newest(followed, watch))

    async def _look_at_newest(self, followed: Followed, watch: Watch) -> None:
        newest = await self._newest(followed, None)
        if newest and not followed.is_gone:
            self._judge(followed, watch, newest)

    async def _newest(self, followed: Followed, field: int | None) -> list[Entry] | None:
        """The newest entry, with this field if one is named; none if there is none, None if it cannot be read now."""
        channel = self._channel_of(followed.rule)
        if channel is None:
            return []
        async with self._reading:
            try:
                read = self._entries.newest(channel, 1) if field is None else self._entries.newest_with(channel, field)
                newest = await read
            except HeadwaterError as error:
                self._trouble.begin(error)
                followed.leave_out("the newest entry could not be read")
                return None
        self._trouble.end()
        return newest

    # -- silence ----------------------------------------------------------------------------------------------

    async def _learn_last(self, followed: Followed, silence: Silence) -> None:
        newest = None if followed.is_gone else await self._newest(followed, silence.field)
        if followed.is_gone or followed.timer is not None:  # an entry came meanwhile
            return
        now_ns = self._now_ns()
        if newest is None:
            again_ns = now_ns + RETRY_S * S_NS
            self._timers.call_at(again_ns, lambda: self._spawn(self._learn_last(followed, silence)))
            return
        created_ns = int(followed.rule.created_at.timestamp()) * S_NS
        followed.last_received_ns = min(now_ns, newest[0].at_ns if newest else created_ns)
        if now_ns < silence_begins_ns(silence, followed.last_received_ns):
            followed.note(is_met=False)
        self._expect(followed, silence)

    def _received(self, followed: Followed, silence: Silence) -> None:
        followed.last_received_ns = self._now_ns()
        followed.note(is_met=False)
        if followed.timer is None:
            self._expect(followed, silence)

    def _expect(self, followed: Followed, silence: Silence) -> None:
        """Look again when silence is met, if nothing comes."""
        watch = followed.rule.trigger
        assert isinstance(watch, Watch)
        if followed.state.is_met and watch.is_first_only:
            followed.timer = None  # said already
            return
        grace_ns = min(GRACE_S * S_NS, silence.minutes * MINUTE_NS)
        at_ns = max(silence_begins_ns(silence, followed.last_received_ns), self._started_ns + grace_ns)
        followed.timer = self._timers.call_at(at_ns, lambda: self._silence_due(followed, silence))

    def _silence_due(self, followed: Followed, silence: Silence) -> None:
        now_ns = self._now_ns()
        if now_ns < silence_begins_ns(silence, followed.last_received_ns):
            self._expect(followed, silence)
            return
        watch = followed.rule.trigger
        assert isinstance(watch, Watch)
        followed.timer = None
        if self._fire(followed, Cause(describe(silence, None))):
            followed.note(is_met=True)
            if watch.is_first_only:
                return
            again_ns = now_ns + silence.minutes * MINUTE_NS
        else:
            again_ns = max(now_ns + RETRY_S * S_NS, followed.state.last_run_ns + watch.pause_s * S_NS)
        if not followed.is_gone:
            followed.timer = self._timers.call_at(again_ns, lambda: self._silence_due(followed, silence))

    # -- schedules --------------------------------------------------------------------------------------------

    def _follow_schedule(self, followed: Followed, timed: Timed) -> None:
        now_ns, state = self._now_ns(), followed.state
        # What was due while no server ran is not made up for; what may still come, being fuzzy, is.
        fuzzy_ns = timed.fuzzy_min * MINUTE_NS
        if isinstance(timed.schedule, Once):
            due_ns = next_after(timed.schedule, state.last_due_ns)
            if due_ns is not None and due_ns + fuzzy_ns < now_ns:
                followed.note(last_due_ns=due_ns)
                self._missed(followed.rule, due_ns)
        self._await_next(followed, timed, max(followed.state.last_due_ns, now_ns - fuzzy_ns))

    def _await_next(self, followed: Followed, timed: Timed, after_ns: int) -> None:
        due_ns = next_after(timed.schedule, after_ns)
        followed.timer = None
        if due_ns is not None:
            at_ns = fire_at_ns(timed, due_ns, self._now_ns(), self._draw)
            followed.timer = self._timers.call_at(at_ns, lambda: self._time_has_come(followed, timed, due_ns))

    def _time_has_come(self, followed: Followed, timed: Timed, due_ns: int) -> None:
        followed.note(last_due_ns=due_ns)
        self._fire(followed, Cause("its time had come"))
        if followed.is_gone:
            return
        self._await_next(followed, timed, max(due_ns, self._now_ns() - timed.fuzzy_min * MINUTE_NS))

    # -- running ----------------------------------------------------------------------------------------------

    def _fire(self, followed: Followed, cause: Cause) -> bool:
        """Have a rule run. Answers whether it does; else it is counted why not."""
        rule, now_ns = followed.rule, self._now_ns()
        if self._access.account(rule.account_id) is None:
            self.let_go(rule.id)
            return False
        why_not = followed.why_not_now(now_ns, self._runs_per_minute)
        if not why_not and not self._start(rule, cause):
            why_not = "too many runs were under way"
        if why_not:
            followed.leave_out(why_not)
            return False
        followed.ran(now_ns)
        return True

    def _channel_of(self, rule: Rule) -> Channel | None:
        channel = None if rule.bucket_id is None else self._access.channel(rule.bucket_id)
        return channel if channel is not None and channel.account_id == rule.account_id else None

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
