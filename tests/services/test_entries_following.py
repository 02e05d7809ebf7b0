"""Going through a channel from its beginning: each entry once, whatever the size of the parts."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.model.entry import Entry, EntryUpdate, channel_key
from headwater.model.record import Record
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services.catalogue import Catalogue
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.query import Query
from headwater.store import Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore

AT = datetime(2026, 1, 1, tzinfo=UTC)
CHANNEL = Channel(7, 1, ChannelSettings(), (), AT, AT)
TIMES = st.lists(
    st.integers(-5, 60) | st.integers(-(2**62), 2**62) | st.sampled_from([10**9 * n for n in range(20)]),
    unique=True,
    max_size=40,
)


async def walked(entries: Entries, size: int) -> list[Entry]:
    found: list[Entry] = []
    start_ns: int | None = None
    while True:
        part, start_ns = await entries.following(CHANNEL, size, start_ns)
        assert len(part) <= size
        found += part
        if start_ns is None:
            return found


async def check(store: Store, times: list[int], strangers: list[int], size: int, late: list[int]) -> None:
    catalogue = Catalogue(store.catalogue())
    ingest = Ingest(store, catalogue, IngestLimits(flush_interval_s=0))
    query = Query(store, catalogue)
    entries = Entries(ingest, query, catalogue, Deleting(ingest, catalogue, store))

    async def write(some: list[int]) -> None:
        for at_ns in some:
            await entries.write_dated(CHANNEL, EntryUpdate({1: str(at_ns), 2: "x"}, created_at_ns=at_ns), 0).wait()

    await write(times)
    for at_ns in strangers:  # points of another dialect, which are no entries
        await ingest.write(Record(channel_key(7), at_ns, {"field1": 1.0})).wait()
    await asyncio.to_thread(store.maintain)
    found = await walked(entries, size)
    assert [entry.at_ns for entry in found] == sorted(times)
    assert found == await entries.newest(CHANNEL, 1000)
    # What is newer than the part that was read last is still to come.
    part, next_ns = await entries.following(CHANNEL, size)
    if next_ns is not None:
        more = [at_ns for at_ns in late if at_ns >= next_ns and at_ns not in times and at_ns not in strangers]
        await write(more)
        rest: list[Entry] = []
        while next_ns is not None:
            some, next_ns = await entries.following(CHANNEL, size, next_ns)
            rest += some
        assert [entry.at_ns for entry in part + rest] == sorted({*times, *more})
    await ingest.close()
    query.close()
    store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TIMES, st.lists(st.integers(-5, 60), unique=True, max_size=5), st.integers(1, 12), TIMES)
def test_every_entry_comes_once(times: list[int], strangers: list[int], size: int, late: list[int]) -> None:
    strangers = [at_ns for at_ns in strangers if at_ns not in times]

    async def run() -> None:
        await check(MemoryStore(), times, strangers, size, late)
        with tempfile.TemporaryDirectory() as directory:
            await check(open_duck_store(Path(directory) / "telemetry"), times, strangers, size, late)

    asyncio.run(run())
