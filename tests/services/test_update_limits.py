"""Limits on updates: the decision alone, and how it is carried out over a store in memory and a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_entries import NOW_NS, Kernel, channel

from gated_store import GatedStore
from headwater.errors import Conflict, NotFound, StorageError, TooManyRequests
from headwater.model.entry import Entry, EntryUpdate, channel_key
from headwater.model.update_policy import NO_LIMIT, TooFast, UpdatePolicy
from headwater.registry.entities import Channel
from headwater.services.access import Access, AccessChange
from headwater.services.entry_editing import EntryChange, EntryEditing
from headwater.services.entry_merging import EntryWrite, merged
from headwater.services.horizons import Horizons
from headwater.services.query import Column
from headwater.services.update_limits import ChannelLimit, QueueLimits, UpdateLimits, UpdateTooFast
from headwater.services.update_pace import Pace, Verdict
from headwater.store.memory import MemoryStore

INTERVAL_S = 15
MERGE, QUEUE, REJECT = (UpdatePolicy(action, INTERVAL_S) for action in (TooFast.MERGE, TooFast.QUEUE, TooFast.REJECT))
TIMES = st.lists(st.floats(0, 20, width=32), max_size=30)
"""Seconds between arrivals."""
ROUNDING_S = 1e-9
"""Of sums of floats."""


class TestPace:
    @given(TIMES)
    def test_never_two_within_the_interval_and_none_is_refused_without_need(self, gaps_s: list[float]) -> None:
        pace, now_s, taken_s = Pace(REJECT, 0), 0.0, list[float]()
        for gap_s in gaps_s:
            now_s += gap_s
            if pace.judge(now_s) is Verdict.TAKE:
                assert not taken_s or now_s - taken_s[-1] >= INTERVAL_S - ROUNDING_S
                taken_s.append(now_s)
            else:
                assert 0 < pace.free_in_s(now_s) <= INTERVAL_S + ROUNDING_S
                assert now_s - taken_s[-1] < INTERVAL_S + ROUNDING_S

    @given(TIMES, st.integers(0, 4))
    def test_those_that_wait_are_taken_one_an_interval(self, gaps_s: list[float], queue_length: int) -> None:
        pace, now_s, taken_s, judged = Pace(QUEUE, queue_length), 0.0, list[float](), 0
        for gap_s in gaps_s:
            now_s += gap_s
            while pace.waiting and taken_s[-1] + INTERVAL_S <= now_s:  # the timer is exact
                turn_s = taken_s[-1] + INTERVAL_S
                assert not pace.take_turn(turn_s - 0.5)
                assert pace.take_turn(turn_s)
                taken_s.append(turn_s)
            waiting = pace.waiting
            match pace.judge(now_s):
                case Verdict.TAKE:
                    assert waiting == 0
                    taken_s.append(now_s)
                case Verdict.WAIT:
                    assert pace.waiting == waiting + 1 <= queue_length
                    judged += 1
                case Verdict.REFUSE:
                    assert pace.waiting == waiting == queue_length
                case Verdict.MERGE:
                    pytest.fail("nobody asked for that")
        assert all(later - earlier >= INTERVAL_S - ROUNDING_S for earlier, later in pairwise(taken_s))
        assert pace.waiting <= judged

    def test_merging_begins_with_an_entry(self) -> None:
        pace = Pace(MERGE, 0)
        verdicts = [pace.judge(now_s) for now_s in (0, 0, 14.9, 15, 29, 31)]
        take, merge = Verdict.TAKE, Verdict.MERGE
        assert verdicts == [take, merge, merge, take, merge, take]


class Timers:
    """A clock, and what it is to call, that go on when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timers.Handle:
        due = (self.now_s + delay_s, callback)
        self._due.append(due)
        return Timers.Handle(self, due)

    def go_to(self, now_s: float) -> None:
        while self._due and min(at_s for at_s, _ in self._due) <= now_s:
            due = min(self._due, key=lambda one: one[0])
            self._due.remove(due)
            self.now_s = due[0]
            due[1]()
        self.now_s = now_s

    @dataclass
    class Handle:
        timers: Timers
        due: tuple[float, Callable[[], None]]

        def cancel(self) -> None:
            if self.due in self.timers._due:
                self.timers._due.remove(self.due)


@dataclass
class World:
    """One kernel with a limit on channel 7 (and any other)."""

    policy: UpdatePolicy
    queue_limits: QueueLimits = field(default_factory=lambda: QueueLimits(3, 4, 5))
    kernel: Kernel = field(default_factory=lambda: Kernel(MemoryStore()))
    timers: Timers = field(default_factory=Timers)
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        kernel = self.kernel
        self.limits = UpdateLimits(
            self.access,
            kernel.entries,
            kernel.ingest,
            kernel.entries._deleting,
            lambda _: self.policy,
            self.timers,
            self.queue_limits,
            self.timers.call_later,
        )
        self.access.put_channel(self.channel())

    def channel(self, channel_id: int = 7) -> Channel:
        return channel(channel_id)

    def limit(self, channel_id: int = 7) -> ChannelLimit:
        limit = self.limits.of(self.channel(channel_id))
        assert limit is not None
        return limit

    def send(self, text: str, channel_id: int = 7, **more: Any) -> EntryWrite:
        update = EntryUpdate({1: text})._replace(**more)
        return self.limit(channel_id).write(update, NOW_NS + round(self.timers.now_s * 1e9))

    async def entries(self) -> list[Entry]:
        await self.kernel.ingest.drain()
        return await self.kernel.entries.newest(channel(), 100)

    async def texts(self) -> list[str]:
        return [entry.fields[1] for entry in await self.entries()]


@pytest.fixture
async def world() -> AsyncIterator[Callable[..., World]]:
    opened: list[World] = []

    def build(policy: UpdatePolicy, **more: Any) -> World:
        opened.append(World(policy, **more))
        return opened[-1]

    yield build
    for one in opened:
        await one.kernel.close()


Build = Callable[..., World]


async def test_without_a_limit_there_is_nothing_to_ask(world: Build) -> None:
    assert world(NO_LIMIT).limits.of(channel()) is None


async def test_reject(world: Build) -> None:
    house = world(REJECT)
    await house.send("1").wait()
    for now_s in (0, 5, 14.99):
        house.timers.go_to(now_s)
        with pytest.raises(UpdateTooFast, match="faster than every 15 s"):
            house.send("2")
    house.send("other channel", 8)
    house.timers.go_to(15)
    assert (await entry_of(house.send("3"))).entry_id == 2
    assert await house.texts() == ["1", "3"]
    assert house.limits.counts_of(7).refused == house.limits.totals.refused == 3
    assert house.limits.counts_of(8).refused == 0


async def entry_of(write: EntryWrite) -> Entry:
    await write.wait()
    assert write.entry is not None
    return write.entry


async def test_bulk_updates_are_refused_where_updates_are(world: Build) -> None:
    house = world(REJECT)
    house.send("1")
    house.limit().admit_bulk()
    with pytest.raises(TooManyRequests):
        house.limit().admit_bulk()
    house.timers.go_to(15)
    house.limit().admit_bulk()
    for policy in (MERGE, QUEUE):
        other = world(policy)
        for _ in range(3):
            other.limit().admit_bulk()


async def test_queue_in_order_one_an_interval(world: Build) -> None:
    house = world(QUEUE)
    writes = []
    for number in range(4):
        house.timers.go_to(number)
        writes.append(house.send(str(number)))
    with pytest.raises(UpdateTooFast, match="as many wait"):
        house.send("no room")
    assert house.limits.waiting_of(7) == house.limits.waiting == 3
    for turn, now_s in enumerate((14.9, 15, 29.9, 30, 45)):
        house.timers.go_to(now_s)
        assert len(await house.texts()) == [1, 2, 2, 3, 4][turn]
    assert [(await entry_of(write)).entry_id for write in writes] == [1, 2, 3, 4]
    entries = await house.entries()
    assert [entry.fields[1] for entry in entries] == ["0", "1", "2", "3"]
    assert [entry.at_ns - NOW_NS for entry in entries] == [n * 1_000_000_000 for n in range(4)]  # when they came
    counts = house.limits.counts_of(7)
    assert (counts.queued, counts.refused, house.limits.waiting) == (3, 1, 0)
    house.timers.go_to(59)
    assert house.send("within the last turn's interval")._is_done is False


async def test_those_of_one_moment_are_all_kept_whatever_comes_past_the_limit(world: Build) -> None:
    """Messages of one read share their time, and a device that fetches a command is not held up by the limit."""
    house = world(QUEUE)
    writes = [house.send(text) for text in ("1", "2", "3")]
    house.kernel.entries.write(channel(), EntryUpdate({1: "past"}), NOW_NS + 5_000_000_000)
    for now_s in (15, 30):
        house.timers.go_to(now_s)
    assert [(await entry_of(write)).fields[1] for write in writes] == ["1", "2", "3"]
    assert await house.texts() == ["1", "2", "3", "past"]


async def test_all_that_wait_are_bounded_too(world: Build) -> None:
    house = world(QUEUE)
    for channel_id in (7, 8):
        for number in range(3):
            house.send(str(number), channel_id)
    with pytest.raises(UpdateTooFast):
        house.send("one too many", 8)
    house.send("the first of its channel", 9)
    with pytest.raises(UpdateTooFast):
        house.send("one too many", 9)
    house.timers.go_to(15)
    house.send("there is room again", 9)


def fill(limit: ChannelLimit) -> int:
    """How many updates at once are taken or may wait."""
    for count in range(100):
        try:
            limit.write(EntryUpdate({1: "1"}), NOW_NS)
        except UpdateTooFast:
            return count
    pytest.fail("there is no end")


async def test_one_account_does_not_take_all_the_room(world: Build) -> None:
    house = world(QUEUE)
    other = replace(channel(9), account_id=2)
    for channel_id in (7, 8, 9):
        limit = house.limits.of(other if channel_id == 9 else channel(channel_id))
        assert limit is not None
        assert fill(limit) == {7: 4, 8: 2, 9: 2}[channel_id]  # with the first, which waits for nothing
    assert house.limits.waiting == 5
    house.limits.close()
    assert house.limits.waiting == 0
    assert house.limits.has_room(1)
    assert not house.limits._waiting_by_account


async def test_a_turn_waits_for_the_disk(world: Build) -> None:
    house = world(QUEUE)
    ingest = house.kernel.ingest
    for number in range(3):
        house.send(str(number))
    ingest.hold_room(100_000)
    assert ingest.is_full
    house.timers.go_to(20)
    assert await house.texts() == ["0"]
    ingest.free_room(100_000)
    assert await house.texts() == ["0", "1"]
    house.timers.go_to(34.9)
    assert await house.texts() == ["0", "1"], "an interval after it was taken"
    house.timers.go_to(35)
    assert await house.texts() == ["0", "1", "2"]


async def test_a_time_of_its_own_that_is_taken(world: Build) -> None:
    house = world(QUEUE)
    await house.send("1", created_at_ns=NOW_NS).wait()
    late = house.send("2", created_at_ns=NOW_NS)
    house.timers.go_to(15)
    with pytest.raises(Conflict):
        await late.wait()
    assert await house.texts() == ["1"]


async def test_nobody_waits_any_more_when_the_limit_ends(world: Build) -> None:
    for end in (
        lambda house: house.limits.close(),
        lambda house: (
            setattr(house, "policy", replace_interval(house.policy)),
            house.access.announce(AccessChange(bucket_ids=frozenset({7}))),
        ),
    ):
        house = world(QUEUE)
        old = house.limit()
        writes = [house.send(str(number)) for number in range(3)]
        end(house)
        for write in writes:
            await write.wait()
        assert await house.texts() == ["0", "1", "2"]
        assert (house.limits.waiting, old.waiting) == (0, 0)
        await old.write(EntryUpdate({1: "held by a connection"}), NOW_NS).wait()
        house.timers.go_to(100)
        assert len(await house.texts()) == 4


def replace_interval(policy: UpdatePolicy) -> UpdatePolicy:
    return policy._replace(interval_s=99)


async def test_a_change_of_something_else_leaves_the_queue_alone(world: Build) -> None:
    house = world(QUEUE)
    house.send("0"), house.send("1")
    renamed = replace(channel(), settings=replace(channel().settings, name="new"))
    house.access.put_channel(renamed)
    assert house.limits.waiting_of(7) == 1
    assert await house.texts() == ["0"]


async def test_what_waits_goes_with_its_channel(world: Build) -> None:
    house = world(QUEUE)
    house.send("0")
    waiting = house.send("1")
    house.access.drop_channel(7)
    with pytest.raises(NotFound, match="deleted"):
        await waiting.wait()
    assert house.limits.waiting == 0
    assert house.limits.counts_of(7).queued == 0
    house.timers.go_to(100)
    assert await house.texts() == ["0"]


async def test_merge(world: Build) -> None:
    house = world(MERGE)
    told: list[Entry] = []
    house.kernel.entries.watch(7, told.append)
    first = await entry_of(house.send("1", status="a"))
    house.timers.go_to(14.9)
    second = await entry_of(house.send("2", fields={2: "x"}, latitude="1.5"))
    assert second == Entry(1, first.at_ns, {1: "1", 2: "x"}, "1.5", None, None, "a")
    house.timers.go_to(15)
    third = await entry_of(house.send("3"))
    assert (third.entry_id, third.fields) == (2, {1: "3"})
    assert await house.entries() == [second, third]
    assert told == [first, second, third]
    assert house.limits.counts_of(7).merged == 1


async def test_nothing_is_merged_into_what_could_not_be_stored(world: Build) -> None:
    store = GatedStore()
    house = world(MERGE, kernel=Kernel(store))
    for more in ({}, {"created_at_ns": 5}):
        store.failures.append(StorageError("the disk is full"))
        with pytest.raises(StorageError):
            await house.send("lost", **more).wait()
        entry = await entry_of(house.send("new", fields={2: "new"}, **more))
        assert entry.fields == {2: "new"}
    assert [entry.fields for entry in await house.entries()] == [{2: "new"}] * 2


async def test_what_could_not_be_merged_in_is_told_and_the_next_may_be(world: Build) -> None:
    store = GatedStore()
    house = world(MERGE, kernel=Kernel(store))
    await house.send("1").wait()
    store.failures.append(StorageError("the disk is full"))
    with pytest.raises(StorageError):
        await house.send("on").wait()
    assert await house.texts() == ["1"]
    await house.send("off").wait()
    assert await house.texts() == ["off"], "the number that was not deleted then is deleted now"


async def test_merging_and_times_of_their_own(world: Build) -> None:
    house = world(MERGE)
    received = await entry_of(house.send("now"))
    dated = await entry_of(house.send("then", created_at_ns=5))
    same = await entry_of(house.send("y", fields={2: "y"}, created_at_ns=5))
    other = await entry_of(house.send("z", created_at_ns=6))
    again = await entry_of(house.send("b", fields={2: "b"}))
    assert [entry.entry_id for entry in (received, dated, same, other, again)] == [1, 2, 2, 3, 1]
    assert same.fields == {1: "then", 2: "y"}
    assert await house.entries() == [same, other, again]


async def test_nothing_is_merged_into_what_is_gone(world: Build) -> None:
    house = world(MERGE)
    await house.send("1").wait()
    await house.kernel.entries.clear(channel())
    assert (await entry_of(house.send("2", fields={2: "2"}))).entry_id == 1
    assert [entry.fields for entry in await house.entries()] == [{2: "2"}]
    entry = (await house.entries())[0]
    await house.kernel.entries._deleting.delete_record(house.kernel.entries._numbering[7].key, entry.at_ns)
    assert (await entry_of(house.send("3"))).entry_id == 2
    await house.limits.close_entry(7, 1)  # another
    assert (await entry_of(house.send("4"))).entry_id == 2
    await house.limits.close_entry(7, 2)
    assert (await entry_of(house.send("5"))).entry_id == 3


async def test_nothing_is_merged_into_what_is_being_cleared(world: Build) -> None:
    house = world(MERGE)
    await house.send("1").wait()
    clearing = asyncio.create_task(house.kernel.entries.clear(channel()))
    await asyncio.sleep(0)  # it has begun
    new = await entry_of(house.send("2", fields={2: "2"}))
    await clearing
    assert (new.entry_id, new.fields) == (1, {2: "2"})
    assert await house.entries() == [new]


async def test_a_number_behind_a_text_behind_a_number_is_a_number(world: Build) -> None:
    """What comes while a number is being deleted for a text waits for that."""
    house = world(MERGE)
    for write in [house.send(text) for text in ("1", "on", "5")]:
        await write.wait()
    number = Column("field1", float)
    found = await house.kernel.query.rows(channel_key(7), (number,), newest=5)
    assert found.columns[number] == [5.0]
    assert await house.texts() == ["5"]
    assert not house.kernel.ingest.pending_points


async def test_what_waits_to_be_merged_in_does_not_bring_back_what_is_cleared(world: Build) -> None:
    house = world(MERGE)
    await house.send("1").wait()
    writes = [house.send("on"), house.send("2", fields={2: "waits"})]
    await house.kernel.entries.clear(channel())
    outcomes = await asyncio.gather(*(write.wait() for write in writes), return_exceptions=True)
    assert isinstance(outcomes[1], NotFound)
    assert await house.entries() == []
    assert (await entry_of(house.send("3"))).entry_id == 1
    again = Kernel(house.kernel.ingest._store)  # type: ignore[arg-type]
    await again.entries.recover()
    assert again.entries.last_entry_id(7) == 1
    await again.close()


async def test_an_entry_that_is_deleted_while_a_number_of_it_is_replaced_stays_away(world: Build) -> None:
    house = world(MERGE)
    first = await entry_of(house.send("1"))
    writes = [house.send("on"), house.send("2", fields={2: "waits"})]
    deleting = house.kernel.entries._deleting
    await deleting.delete_record(channel_key(7), first.at_ns)
    writes.append(house.send("3"))
    outcomes = await asyncio.gather(*(write.wait() for write in writes), return_exceptions=True)
    assert [isinstance(outcome, NotFound) for outcome in outcomes] == [False, True, False]
    assert [(entry.entry_id, entry.fields) for entry in await house.entries()] == [(2, {1: "3"})]


def editing_in(house: World) -> EntryEditing:
    kernel = house.kernel
    catalogue, deleting = kernel.query._catalogue, kernel.entries._deleting
    return EntryEditing(kernel.entries, kernel.ingest, catalogue, deleting, Horizons(), house.limits.close_entry)


async def test_an_entry_that_is_not_the_last_any_more_is_edited_once_what_came_is_merged_in(world: Build) -> None:
    house = world(MERGE)
    await house.send("1", created_at_ns=5).wait()
    writes = [house.send("on", created_at_ns=5), house.send("2", created_at_ns=6)]
    edited = await editing_in(house).edit(channel(), 1, EntryChange({"field1": "7"}))
    assert [(await entry_of(write)).entry_id for write in writes] == [1, 2]
    assert (await house.entries())[0] == edited
    number = Column("field1", float)
    assert (await house.kernel.query.rows(channel_key(7), (number,), newest=5)).columns[number] == [7.0, 2.0]


async def test_what_is_written_right_after_a_clear_is_merged_into(world: Build) -> None:
    house = world(MERGE)
    await house.send("1").wait()
    clearing = asyncio.create_task(house.kernel.entries.clear(channel()))
    await asyncio.sleep(0)  # it has begun
    writes = [house.send(text) for text in ("2", "on", "3")]
    await clearing
    assert [(await entry_of(write)).entry_id for write in writes] == [1, 1, 1]
    assert await house.texts() == ["3"]


async def test_an_entry_is_edited_once_what_came_is_merged_in(world: Build) -> None:
    house = world(MERGE)
    kernel, editing = house.kernel, editing_in(house)
    await house.send("1").wait()
    writes = [house.send("on"), house.send("off", fields={2: "waits"})]
    edited = await editing.edit(channel(), 1, EntryChange({"field1": "7"}))
    assert [(await entry_of(write)).entry_id for write in writes] == [1, 1]
    assert edited.fields == {1: "7", 2: "waits"}
    assert await house.entries() == [edited]
    number = Column("field1", float)
    assert (await kernel.query.rows(channel_key(7), (number,), newest=5)).columns[number] == [7.0]
    assert (await entry_of(house.send("8"))).entry_id == 2


TEXTS = st.sampled_from(["1", "1.0", "20.5", "20.50", "nan", "", "on", "1e3", "1000", "-0", "0"])
UPDATES = st.lists(
    st.builds(
        EntryUpdate,
        st.dictionaries(st.integers(1, 3), TEXTS, max_size=3),
        latitude=st.none() | TEXTS,
        longitude=st.none(),
        elevation=st.none(),
        status=st.none() | TEXTS,
        created_at_ns=st.none(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(UPDATES, st.booleans())
def test_what_is_merged_reads_as_if_it_had_come_at_once(updates: list[EntryUpdate], is_pipelined: bool) -> None:
    async def check() -> None:
        house = World(MERGE)
        try:
            writes = []
            for update in updates:
                writes.append(house.limit().write(update, NOW_NS))
                if not is_pipelined:
                    await writes[-1].wait()
            for write in writes:
                await write.wait()
            expected = Entry(1, NOW_NS, {})
            for update in updates:
                expected = merged(expected, update)
            assert await house.entries() == [expected]
            again = Kernel(house.kernel.ingest._store)  # type: ignore[arg-type]
            assert await again.entries.newest(channel(), 5) == [expected]
            await again.close()
        finally:
            await house.kernel.close()

    asyncio.run(check())
