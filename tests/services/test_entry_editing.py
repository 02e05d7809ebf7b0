"""Changing and deleting single entries: any history reads as a plain dictionary would, after a restart too."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gated_store import GatedStore, until
from headwater.errors import NotFound, StorageError
from headwater.model.entry import FIELD_NUMBERS, Entry, EntryUpdate
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.entry_editing import EntryChange, EntryEditing, text_of, value_names
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.query import Query
from headwater.store import Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore
from rollup_farm import SECOND_NS, SOURCE, Farm, rule

NOW_NS = 1_767_323_045_000_000_000
AT = datetime(2026, 1, 1, tzinfo=UTC)
CHANNEL = Channel(7, 1, ChannelSettings(), (), AT, AT)


class Kernel:
    """The services around one store."""

    def __init__(self, store: Store, horizons: Horizons | None = None) -> None:
        horizons = horizons or Horizons()
        catalogue = Catalogue(store.catalogue())
        self.store = store
        self.ingest = Ingest(store, catalogue, IngestLimits(flush_interval_s=0))
        self.query = Query(store, catalogue, horizons=horizons)
        self.deleting = Deleting(self.ingest, catalogue, store)
        self.entries = Entries(self.ingest, self.query, catalogue, self.deleting, horizons)
        self.editing = EntryEditing(self.entries, self.ingest, catalogue, self.deleting, horizons)

    async def write(self, update: EntryUpdate, now_ns: int = NOW_NS) -> Entry:
        entry, receipt = self.entries.write(CHANNEL, update, now_ns)
        await receipt.wait()
        return entry

    async def edit(self, entry_id: int, **texts: str | None) -> Entry:
        return await self.editing.edit(CHANNEL, entry_id, EntryChange(texts))

    async def delete(self, entry_id: int) -> Entry:
        return await self.editing.delete(CHANNEL, entry_id)

    async def stored(self) -> list[Entry]:
        return await self.entries.newest(CHANNEL, 1000)

    async def close(self) -> None:
        await self.deleting.close()
        await self.ingest.close()
        self.query.close()


async def opened(store: Store) -> Kernel:
    kernel = Kernel(store)
    await kernel.entries.recover()
    return kernel


def on_both_stores(work: Callable[[Store, Callable[[Store], Store]], Awaitable[None]]) -> None:
    """Do it in memory and on disk; the second argument opens a store again."""

    async def run() -> None:
        memory = MemoryStore()
        await work(memory, lambda store: store)
        memory.close()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "telemetry"

            def again(store: Store) -> Store:
                store.close()
                return open_duck_store(path)

            await work(open_duck_store(path), again)

    asyncio.run(run())


SPELLED = ["1", "1.50", "1.5", "-0", "1e3", "1000", "nan", "on", "", "2,5", "0.1", "+3", " 4"]
TEXTS = st.sampled_from(SPELLED) | st.text(max_size=6, alphabet=st.characters(codec="utf-8"))
NAMES = st.sampled_from(["field1", "field2", "latitude", "status"])
CHANGES = st.dictionaries(NAMES, TEXTS | st.none(), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.dictionaries(NAMES, TEXTS, max_size=3)),
        st.tuples(st.just("edit"), st.integers(1, 6), CHANGES),
        st.tuples(st.just("delete"), st.integers(1, 6)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("tidy")),
    ),
    max_size=14,
)


def update_of(texts: dict[str, str]) -> EntryUpdate:
    fields = {int(name[5:]): text for name, text in texts.items() if name.startswith("field")}
    return EntryUpdate(fields, latitude=texts.get("latitude"), status=texts.get("status"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_any_history_reads_as_a_dictionary_would(steps: list[tuple[Any, ...]]) -> None:
    async def work(store: Store, again: Callable[[Store], Store]) -> None:
        kernel = await opened(store)
        model: dict[int, dict[str, str]] = {}
        last_id = 0
        for number, (step, *arguments) in enumerate(steps):
            if step == "write":
                last_id += 1
                entry = await kernel.write(update_of(arguments[0]), NOW_NS + number)
                assert entry.entry_id == last_id, "no number is given twice"
                model[last_id] = dict(arguments[0])
            elif step == "restart":
                await kernel.close()
                kernel = await opened(again(kernel.store))
                assert kernel.entries.last_entry_id(CHANNEL.id) == last_id
            elif step == "tidy":
                while await asyncio.to_thread(kernel.store.maintain):
                    pass
            elif arguments[0] not in model:
                with pytest.raises(NotFound):
                    await (kernel.edit(arguments[0], field1="1") if step == "edit" else kernel.delete(arguments[0]))
            elif step == "edit":
                changed = await kernel.edit(arguments[0], **arguments[1])
                merged = model[arguments[0]] | arguments[1]
                model[arguments[0]] = {name: text for name, text in merged.items() if text is not None}
                assert shown(changed) == model[arguments[0]]
            else:
                gone = await kernel.delete(arguments[0])
                assert shown(gone) == model.pop(arguments[0])
            assert {entry.entry_id: shown(entry) for entry in await kernel.stored()} == model, step
        await kernel.close()
        kernel.store.close()

    on_both_stores(work)


def shown(entry: Entry) -> dict[str, str]:
    return {name: text for name in value_names(FIELD_NUMBERS) if (text := text_of(entry, name)) is not None}


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


async def test_an_edited_entry_keeps_its_number_and_time_and_what_is_not_named() -> None:
    kernel = await opened(MemoryStore())
    before = await kernel.write(EntryUpdate({1: "21.50", 2: "on"}, "1", "2", "3", "fine"))
    after = await kernel.edit(1, field1="off", field2="7", elevation=None, status="")
    assert after == before._replace(fields={1: "off", 2: "7"}, elevation=None, status="")
    assert await kernel.stored() == [after]
    await kernel.close()


async def test_the_number_of_a_deleted_entry_is_not_given_again_after_a_restart() -> None:
    store = MemoryStore()
    kernel = await opened(store)
    for text in ("1", "2"):
        await kernel.write(EntryUpdate({1: text}))
    await kernel.delete(2)
    await kernel.close()
    again = await opened(store)
    assert (await again.write(EntryUpdate({1: "3"}))).entry_id == 3
    await again.delete(1)
    await again.delete(3)
    await again.close()
    empty = await opened(store)
    assert (await empty.write(EntryUpdate({1: "4"}))).entry_id == 4
    await empty.close()


@pytest.mark.parametrize("texts", [("20.50", "20.5", "20.500"), ("1", "1.0", "1"), ("on", "1", "on", "1.0", "1")])
async def test_another_spelling_of_the_same_number(texts: tuple[str, ...]) -> None:
    kernel = await opened(MemoryStore())
    await kernel.write(EntryUpdate({1: texts[0]}, latitude=texts[0]))
    for text in texts[1:]:
        after = await kernel.edit(1, field1=text, latitude=text)
        assert await kernel.stored() == [after]
        assert (after.fields, after.latitude) == ({1: text}, text)
    await kernel.close()


async def test_a_change_that_cannot_be_stored_changes_nothing(store: GatedStore) -> None:
    kernel = await opened(store)
    before = await kernel.write(EntryUpdate({1: "1", 2: "on"}))
    for change in ({"field1": "2"}, {"field1": "off"}, {"field2": "3"}, {"field2": None, "field1": "4"}):
        store.failures.append(StorageError("the disk is full"))
        with pytest.raises(StorageError):
            await kernel.edit(1, **change)
        assert await kernel.stored() == [before]
    store.failures.append(StorageError("the disk is full"))
    with pytest.raises(StorageError):
        await kernel.delete(1)
    assert await kernel.stored() == [before]
    await kernel.delete(1)
    assert await kernel.stored() == []
    await kernel.close()


async def test_a_channel_that_is_cleared_while_an_entry_changes(store: GatedStore) -> None:
    kernel = await opened(store)
    await kernel.write(EntryUpdate({1: "1"}))
    store.shut()
    editing = asyncio.create_task(kernel.edit(1, field1="text"))
    await until(lambda: kernel.ingest.pending_points)
    clearing = asyncio.create_task(kernel.entries.clear(CHANNEL))
    await asyncio.sleep(0)
    store.open()
    await clearing
    with pytest.raises(NotFound):
        await editing
    entry = await kernel.write(EntryUpdate({1: "5"}))
    assert await kernel.stored() == [entry], "nothing of the old entry is left, and the new one is whole"
    assert entry.entry_id == 1
    await kernel.close()


async def test_changes_of_one_channel_follow_each_other() -> None:
    kernel = await opened(MemoryStore())
    await kernel.write(EntryUpdate({1: "0"}))
    texts = ["1", "on", "2.50", "", "3", "x"] * 5
    await asyncio.gather(*(kernel.edit(1, field1=text, field2=text) for text in texts))
    (entry,) = await kernel.stored()
    assert entry.fields == {1: "x", 2: "x"}
    outcomes = await asyncio.gather(*(kernel.delete(1) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 2
    await kernel.close()


async def test_new_entries_arrive_while_others_change_and_go() -> None:
    kernel = await opened(MemoryStore())
    for number in range(20):
        await kernel.write(EntryUpdate({1: str(number)}, created_at_ns=NOW_NS + number))
    changes = [kernel.edit(n, field1="text") for n in range(1, 11)]
    deletions = [kernel.delete(n) for n in range(11, 21)]
    same_times = [
        kernel.entries.write_dated(CHANNEL, EntryUpdate({1: "new"}, created_at_ns=NOW_NS + n), NOW_NS).wait()
        for n in range(20)
    ]
    outcomes = await asyncio.gather(*changes, *deletions, *same_times, return_exceptions=True)
    again = [outcome is None for outcome in outcomes[20:]]
    entries = await kernel.stored()
    assert [entry.fields[1] for entry in entries][:10] == ["text"] * 10
    assert not any(again[:10]), "the time of an entry that changes is taken"
    assert len(entries) == 10 + sum(again), "who was told that an entry is stored finds it"
    await kernel.close()


async def test_an_entry_that_has_expired_is_not_there() -> None:
    now_ns = NOW_NS
    kernel = Kernel(MemoryStore(), Horizons(lambda _: 3600, lambda: now_ns))
    await kernel.entries.recover()
    await kernel.write(EntryUpdate({1: "1"}))
    now_ns += 3601 * 1_000_000_000
    with pytest.raises(NotFound):
        await kernel.edit(1, field1="2")
    with pytest.raises(NotFound):
        await kernel.delete(1)
    await kernel.close()


async def test_what_is_down_sampled_follows() -> None:
    farm = Farm(MemoryStore(), lambda: NOW_NS + 3600 * SECOND_NS)
    await farm.rollups.load([rule()])
    query, channel = Query(farm.store, farm.catalogue), Channel(SOURCE, 1, ChannelSettings(), (), AT, AT)
    entries = Entries(farm.ingest, query, farm.catalogue, farm.deleting)
    editing = EntryEditing(entries, farm.ingest, farm.catalogue, farm.deleting, Horizons())
    begin_ns = NOW_NS - NOW_NS % (60 * SECOND_NS)
    for number in range(4):
        update = EntryUpdate({1: str(10 + number)}, created_at_ns=begin_ns + number)
        await entries.write_dated(channel, update, NOW_NS).wait()
    await farm.keep()
    assert farm.results("field1.sum") == {begin_ns: 46.0}
    await editing.edit(channel, 1, EntryChange({"field1": "20"}))
    await editing.edit(channel, 2, EntryChange({"field1": "broken"}))
    await editing.delete(channel, 3)
    await farm.keep()
    assert farm.results("field1.sum") == {begin_ns: 20.0 + 13.0}
    assert farm.results("field1.count") == {begin_ns: 2}
    query.close()
    await farm.close()
