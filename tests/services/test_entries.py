"""Entries over ingest, query and a store in memory: numbering, texts, times, clearing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gated_store import GatedStore
from headwater.errors import BadRequest, Conflict, NotFound, StorageError, TooLarge
from headwater.model.entry import Entry, EntryUpdate, channel_key, parse_number, render_number, spell
from headwater.model.record import Record
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.entries import DatedWrite, Entries
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.query import Query
from headwater.store.memory import MemoryStore

NOW_NS = 1_767_323_045_000_000_000


def channel(channel_id: int = 7) -> Channel:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Channel(channel_id, 1, ChannelSettings(), (), at, at)


class Kernel:
    """The services around one store; opened again, they must know what they knew."""

    def __init__(self, store: MemoryStore) -> None:
        catalogue = Catalogue(store.catalogue())
        self.ingest = Ingest(store, catalogue, IngestLimits(flush_interval_s=0))
        self.query = Query(store, catalogue)
        self.entries = Entries(self.ingest, self.query, catalogue, Deleting(self.ingest, catalogue, store))

    async def close(self) -> None:
        await self.ingest.close()
        self.query.close()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def kernel(store: MemoryStore) -> AsyncIterator[Kernel]:
    opened = Kernel(store)
    await opened.entries.recover()
    yield opened
    await opened.close()


async def write(kernel: Kernel, update: EntryUpdate, now_ns: int = NOW_NS, channel_id: int = 7) -> Entry:
    entry, receipt = kernel.entries.write(channel(channel_id), update, now_ns)
    await receipt.wait()
    return entry


async def test_entries_come_back_whole(kernel: Kernel) -> None:
    update = EntryUpdate({1: "21.50", 2: "60", 8: "on"}, "48.10", "x", "519", "fine")
    entry = await write(kernel, update)
    assert entry == Entry(1, NOW_NS, {1: "21.50", 2: "60", 8: "on"}, "48.10", "x", "519", "fine")
    assert await kernel.entries.newest(channel(), 10) == [entry]


async def test_more_than_eight_fields(kernel: Kernel) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    wide = Channel(7, 1, ChannelSettings(fields={9: "a", 256: "b"}), (), at, at)
    seen: list[Entry] = []
    kernel.entries.watch(7, seen.append)
    entry, receipt = kernel.entries.write(wide, EntryUpdate({1: "1", 256: "on", 9: "2.50"}), NOW_NS)
    await receipt.wait()
    assert await kernel.entries.newest(wide, 10) == [entry]
    assert await kernel.entries.newest_with(wide, 256) == [entry]
    assert await kernel.entries.numbered(wide, 1, 1, 1) == [entry]
    assert seen == [entry]
    assert list(seen[0].fields) == [1, 9, 256]
    assert (await kernel.entries.newest(channel(), 10))[0].fields == {1: "1"}  # its owner took the names away


async def test_the_store_is_asked_for_the_fields_that_a_channel_may_have(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    rows = kernel.query.rows

    async def count(key: object, columns: list[object], **options: object) -> object:
        asked.append(len(columns))
        return await rows(key, columns, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(kernel.query, "rows", count)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for settings in (ChannelSettings(), ChannelSettings(fields={64: "x"})):
        await kernel.entries.newest(Channel(7, 1, settings, (), at, at), 1)
    assert asked == [2 + 2 * (8 + 3), 2 + 2 * (9 + 3)]


async def test_numbers_grow_per_channel_and_times_are_unique(kernel: Kernel) -> None:
    for _ in range(3):
        await write(kernel, EntryUpdate({1: "1"}))
    await write(kernel, EntryUpdate({1: "1"}), channel_id=8)
    entries = await kernel.entries.newest(channel(), 10)
    assert [(entry.entry_id, entry.at_ns - NOW_NS) for entry in entries] == [(1, 0), (2, 1), (3, 2)]
    assert (kernel.entries.last_entry_id(7), kernel.entries.last_entry_id(8)) == (3, 1)
    assert kernel.entries.last_entry_id(9) == 0


async def test_numbers_go_on_after_a_restart(kernel: Kernel, store: MemoryStore) -> None:
    for n in range(5):
        await write(kernel, EntryUpdate({1: str(n)}, created_at_ns=NOW_NS - n * 1_000))
    again = Kernel(store)
    await again.entries.recover()
    assert again.entries.last_entry_id(7) == 5
    entry = await write(again, EntryUpdate({1: "x"}), NOW_NS + 1_000)
    assert entry.entry_id == 6
    await again.close()


async def test_a_taken_time_is_found_out_also_after_a_restart(kernel: Kernel, store: MemoryStore) -> None:
    await write(kernel, EntryUpdate({1: "a"}, created_at_ns=NOW_NS))
    for opened in (kernel, again := Kernel(store)):
        if opened is again:
            await again.entries.recover()
        assert not opened.entries.is_newest(channel(), NOW_NS)
        assert opened.entries.is_newest(channel(), NOW_NS + 1)
        with pytest.raises(Conflict):
            await opened.entries.write_dated(channel(), EntryUpdate({1: "b"}, created_at_ns=NOW_NS), NOW_NS).wait()
    await again.entries.write_dated(channel(), EntryUpdate({1: "c"}, created_at_ns=NOW_NS - 1), NOW_NS).wait()
    assert [entry.fields[1] for entry in await again.entries.newest(channel(), 10)] == ["c", "a"]
    await again.close()


async def test_of_two_entries_with_one_time_the_first_wins(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "new"}, created_at_ns=NOW_NS + 10))
    for base_ns in (NOW_NS, NOW_NS + 20):  # older than the newest entry, and newer
        updates = [EntryUpdate({1: str(n)}, created_at_ns=base_ns + n % 3) for n in range(30)]
        writes = [kernel.entries.write_dated(channel(), update, NOW_NS) for update in updates]
        outcomes = await asyncio.gather(*(write.wait() for write in writes), return_exceptions=True)
        assert [outcome is None for outcome in outcomes] == [True] * 3 + [False] * 27
        assert all(isinstance(outcome, Conflict) for outcome in outcomes[3:])
    entries = await kernel.entries.newest(channel(), 100)
    assert [entry.fields[1] for entry in entries] == ["0", "1", "2", "new", "0", "1", "2"]


async def test_a_backlog_in_any_order_is_stored_whole_and_at_once(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "new"}, created_at_ns=NOW_NS))
    commits = kernel.ingest.commits
    times = [NOW_NS - 1_000 * n for n in range(1, 3_001)]
    updates = [EntryUpdate({1: "x"}, created_at_ns=at_ns) for at_ns in times]
    await asyncio.gather(*(kernel.entries.write_dated(channel(), u, NOW_NS).wait() for u in updates))
    entries = await kernel.entries.newest(channel(), 10_000)
    assert [entry.at_ns for entry in entries] == sorted([*times, NOW_NS])
    assert sorted(entry.entry_id for entry in entries) == list(range(1, 3_002))
    assert kernel.ingest.commits - commits < 10, "they share look-ups and commits"
    assert not kernel.ingest.is_full
    assert kernel.ingest.pending_points == 0


async def test_a_time_that_cannot_be_stored(kernel: Kernel) -> None:
    with pytest.raises(BadRequest):
        await kernel.entries.write_dated(channel(), EntryUpdate({}, created_at_ns=2**63), NOW_NS).wait()


async def test_entries_that_wait_while_their_channel_is_cleared_are_not_written(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "a"}, created_at_ns=NOW_NS))
    waiting = kernel.entries.write_dated(channel(), EntryUpdate({1: "b"}, created_at_ns=NOW_NS - 1), NOW_NS)
    await kernel.entries.clear(channel())
    with pytest.raises(NotFound):
        await waiting.wait()
    assert await kernel.entries.newest(channel(), 10) == []


async def burst(kernel: Kernel, count: int = 100) -> None:
    """Messages of one read: they share their time of receipt."""
    receipts = [kernel.entries.append(channel(), EntryUpdate({1: str(n)}), NOW_NS) for n in range(count)]
    for receipt in receipts:
        await receipt.wait()


async def test_a_burst_after_a_restart_is_stored_whole(kernel: Kernel, store: MemoryStore) -> None:
    await burst(kernel)
    again = Kernel(store)
    await again.entries.recover()
    receipts = [again.entries.append(channel(), EntryUpdate({1: str(n)}), NOW_NS + 10**10) for n in range(100)]
    for receipt in receipts:
        await receipt.wait()
    assert [entry.entry_id for entry in await again.entries.newest(channel(), 1_000)] == list(range(1, 201))
    await again.close()


async def test_a_burst_after_an_entry_in_the_future_is_stored_whole(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "future"}, created_at_ns=NOW_NS + 10**15))
    await burst(kernel)
    assert len(await kernel.entries.newest(channel(), 1_000)) == 101


async def test_a_burst_after_the_clock_was_set_back_is_stored_whole(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "later"}), NOW_NS + 10**12)
    await burst(kernel)
    entries = await kernel.entries.newest(channel(), 1_000)
    assert len(entries) == 101
    assert entries[0].at_ns == NOW_NS, "times follow the clock, not the newest entry"


async def test_what_is_stored_for_unknown_channels_is_deleted(kernel: Kernel, store: MemoryStore) -> None:
    await write(kernel, EntryUpdate({1: "a"}))
    await write(kernel, EntryUpdate({1: "b"}), channel_id=8)
    await kernel.entries.forget_unknown({8})
    assert {series.key.bucket_id for series in store.catalogue()} == {8}
    assert len(await kernel.entries.newest(channel(8), 10)) == 1


async def test_an_entry_in_the_future_does_not_drag_others_along(kernel: Kernel) -> None:
    await write(kernel, EntryUpdate({1: "a"}, created_at_ns=NOW_NS + 10**15))
    assert (await write(kernel, EntryUpdate({1: "b"}))).at_ns == NOW_NS


async def test_clearing_starts_anew(kernel: Kernel, store: MemoryStore) -> None:
    await write(kernel, EntryUpdate({1: "a"}))
    await write(kernel, EntryUpdate({1: "b"}), channel_id=8)
    await kernel.entries.clear(channel())
    assert await kernel.entries.newest(channel(), 10) == []
    assert (await write(kernel, EntryUpdate({1: "c"}))).entry_id == 1
    assert [entry.fields for entry in await kernel.entries.newest(channel(), 10)] == [{1: "c"}]
    assert len(await kernel.entries.newest(channel(8), 10)) == 1
    again = Kernel(store)
    await again.entries.recover()
    assert [entry.fields for entry in await again.entries.newest(channel(), 10)] == [{1: "c"}]
    await again.close()


async def test_watchers_hear_of_entries_that_are_stored(kernel: Kernel) -> None:
    heard: list[Entry] = []
    unwatch = kernel.entries.watch(7, heard.append)
    written = await write(kernel, EntryUpdate({1: "1.50"}, status="s"))
    await write(kernel, EntryUpdate({1: "2"}), channel_id=8)
    unwatch()
    await write(kernel, EntryUpdate({1: "3"}))
    assert heard == [written]


async def test_numbers_with_many_others_between_their_times(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.services.entries._MOST_BETWEEN", 2)
    for seconds in (0, 40, 20, *range(1, 20), *range(21, 40)):  # numbers 1 to 3 are far from each other
        await write(kernel, EntryUpdate({1: str(seconds)}, created_at_ns=NOW_NS + seconds * 1_000_000_000))
    found = await kernel.entries.numbered(channel(), 1, 3, 10)
    assert [entry.entry_id for entry in found] == [1, 3, 2]
    assert [entry.entry_id for entry in await kernel.entries.numbered(channel(), 1, 3, 2)] == [3, 2]
    assert len(await kernel.entries.numbered(channel(), None, None, 100)) == 41
    monkeypatch.setattr("headwater.services.entries._MOST_READS", 2)
    with pytest.raises(TooLarge):
        await kernel.entries.numbered(channel(), 1, 3, 10)


async def test_a_number_from_elsewhere_replaces_the_text(kernel: Kernel) -> None:
    """Another dialect overwrites the number of an entry: the text that spelled the old one is out."""
    entry = await write(kernel, EntryUpdate({1: "21.50"}))
    await kernel.ingest.write(Record(channel_key(7), entry.at_ns, {"field1": 3.0})).wait()
    assert (await kernel.entries.newest(channel(), 1))[0].fields == {1: "3"}


async def test_points_that_are_no_entries_are_not_shown(kernel: Kernel) -> None:
    await kernel.ingest.write(Record(channel_key(7), NOW_NS, {"field1": 3.0})).wait()
    assert await kernel.entries.newest(channel(), 10) == []


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1,5", "0x10", "1_000", "", "1e999", "٣", "--1", "1.2.3"])
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back(number: float) -> None:
    read = parse_number(render_number(number))
    assert read == number
    assert math.copysign(1, read) == math.copysign(1, number)


@given(
    st.one_of(
        st.text(max_size=30),
        st.floats().map(str),
        st.integers().map(str),
        st.decimals(allow_nan=False, places=2).map(str),
        st.from_regex(r"[+-]?[0-9]{0,20}\.?[0-9]{0,20}", fullmatch=True),
    )
)
@example("-0")
@example("-0.0")
@example("0.1")
@example("123456789012345678")
@example("0.00001")
def test_every_text_comes_back(text: str) -> None:
    number, keep_text = spell(text)
    assert keep_text or (number is not None and render_number(number) == text)


async def test_who_watches_bulks_is_told_of_what_is_on_disk_alone() -> None:
    store = GatedStore()
    kernel = Kernel(store)
    told: list[list[Entry]] = []
    unwatch = kernel.entries.watch_bulks(7, lambda entries: told.append(list(entries)))

    async def bulk(*times: int) -> list[DatedWrite]:
        updates = [EntryUpdate({1: str(at_ns)}, created_at_ns=at_ns) for at_ns in times]
        writes = [kernel.entries.write_dated(channel(), update, NOW_NS, is_told=False) for update in updates]
        kernel.entries.tell_bulk(7, writes)
        await asyncio.gather(*(write.wait() for write in writes), return_exceptions=True)
        return writes

    store.failures.append(StorageError("the disk is full"))
    await bulk(10, 20)
    assert told == []
    stored = await bulk(20, 30, 15)
    (entries,) = told
    assert sorted(entries, key=lambda entry: entry.entry_id) == sorted(
        (write.entry for write in stored if write.entry is not None), key=lambda entry: entry.entry_id
    )
    assert len(entries) == 3
    told.clear()
    await bulk(30, 15)
    assert told == [], "all of them were known"
    unwatch()
    await bulk(40)
    assert told == []
    await kernel.close()
