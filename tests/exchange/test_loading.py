"""Blocks of points into a channel: their numbers, and what is there of them however often they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.ipc
import pytest

from headwater.app import open_services
from headwater.control import Reply
from headwater.errors import BadRequest, NotFound, StorageError
from headwater.exchange.block import Block, BlockBuilder
from headwater.exchange.commands import EXPORT
from headwater.exchange.loading import NOTES, SERIES_AT_ONCE, Import, Loader
from headwater.exchange.opening import table_openers
from headwater.exchange.source import Wanted, records_of
from headwater.exchange.streams import answering
from headwater.model.entry import EntryUpdate
from headwater.model.series import Value, ValueType
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services import Services
from headwater.settings import Settings
from headwater.store import Batch
from headwater.store.memory import MemoryStore


class BrokenStore(MemoryStore):
    """Can be told to refuse."""

    is_full = False

    def append(self, batch: Batch) -> None:
        if self.is_full:
            raise StorageError("the disk is full")
        super().append(batch)


class House(NamedTuple):
    services: Services
    store: BrokenStore
    channel: Channel
    data: Path

    def loader(self) -> Loader:
        is_empty = self.services.entries.last_entry_id(self.channel.id) == 0
        return Loader(self.services, self.channel, keeps_numbers=is_empty)

    async def entries(self) -> list[tuple[int, int, dict[int, str]]]:
        found = await self.services.entries.newest(self.channel, None)
        return [(entry.at_ns, entry.entry_id, dict(entry.fields)) for entry in found]

    async def write(self, at_ns: int, text: str) -> int:
        update = EntryUpdate({1: text}, created_at_ns=at_ns)
        entry, receipt = self.services.entries.write(self.channel, update, at_ns)
        await receipt.wait()
        return entry.entry_id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_house(data: Path) -> AsyncIterator[House]:
    store = BrokenStore()
    async with open_services(replace(Settings(), data=data), store) as services:
        account = await services.accounts.add("ada", "a long password", is_admin=False)
        channel = await services.channels.create(account.id, ChannelSettings())
        yield House(services, store, channel, data)


def entries(*rows: tuple[int, int, str], are_entries: bool = True) -> Block:
    """A block of entries: time, number and field 1, as texts that need to be kept."""
    builder = BlockBuilder()
    for at_ns, number, text in rows:
        builder.add("entry", (), "entry_id", at_ns, number)
        builder.add("entry", (), "field1.text", at_ns, text)
    return builder.take(len(rows), are_entries=are_entries)


def points(*rows: tuple[str, int, Value]) -> Block:
    builder = BlockBuilder()
    for name, at_ns, value in rows:
        builder.add("m", (("tag", "x"),), name, at_ns, value)
    return builder.take(len(rows))


def new_import(house: House, loop: asyncio.AbstractEventLoop) -> Import:
    """One that notes how far it is after its first block, and then not any more."""
    clock = chain([0.0], repeat(5.0))
    return Import(house.services, loop, house.data, str(house.channel.id), "file", lambda: next(clock))


def numbers(found: Sequence[tuple[int, int, dict[int, str]]]) -> list[tuple[int, int]]:
    return [(at_ns, number) for at_ns, number, _ in found]


async def test_an_empty_channel_gets_the_numbers_of_the_file(house: House) -> None:
    loader = house.loader()
    await loader.store(entries((10, 5, "a"), (20, 3, "b")))
    await loader.store(entries((30, 4, "c")))
    assert await house.entries() == [(10, 5, {1: "a"}), (20, 3, {1: "b"}), (30, 4, {1: "c"})]
    assert await house.write(40, "d") == 6


async def test_entries_without_numbers_get_some(house: House) -> None:
    for _ in range(2):
        await house.loader().store(entries((10, 0, "a"), (20, 0, "b")))
        assert numbers(await house.entries()) == [(10, 1), (20, 2)]


async def test_another_channel_numbers_on_and_the_second_time_changes_nothing(house: House) -> None:
    for at_ns in (10, 20):
        await house.write(at_ns, "own")
    for _ in range(2):
        loader = house.loader()
        await loader.store(entries((20, 1, "taken"), (21, 1, "b"), (22, 9, "c")))
        await loader.store(entries((30, 2, "d")))
        found = await house.entries()
        assert numbers(found) == [(10, 1), (20, 2), (21, 3), (22, 9), (30, 10)]
        assert [fields[1] for _, _, fields in found] == ["own", "own", "b", "c", "d"]
    assert await house.write(40, "e") == 11


async def test_points_of_any_table_take_the_place_of_those_there(house: House) -> None:
    await house.write(10, "20.50")
    await house.loader().store(entries((10, 7, "2.050e1"), are_entries=False))
    assert await house.entries() == [(10, 1, {1: "2.050e1"})]


async def test_numbers_are_not_given_twice_when_a_device_writes_meanwhile(house: House) -> None:
    loader = house.loader()
    await loader.store(entries((10, 1, "a"), (20, 2, "b")))
    assert await house.write(15, "device") == 3
    await loader.store(entries((30, 3, "c"), (40, 4, "d")))
    assert sorted(number for _, number in numbers(await house.entries())) == [1, 2, 3, 4, 5]
    assert not loader.keeps_numbers


async def test_a_block_is_one_transaction_and_refused_as_a_whole(house: House) -> None:
    loader = house.loader()
    house.store.is_full = True
    with pytest.raises(StorageError, match="full"):
        await loader.store(points(("a", 1, 1.0), ("b", 1, "x"), ("c", 1, True)))
    house.store.is_full = False
    assert not list(house.store.catalogue())
    await loader.store(points(("a", 1, 1.0), ("b", 1, "x"), ("c", 1, True)))
    series = house.services.query.series_of(house.channel.id)
    (batch,) = records_of(house.store, series, Wanted()).batches
    assert batch.drop_columns(["time"]).to_pylist() == [
        {"measurement": "m", "tag:tag": "x", "a:float": 1.0, "b:string": "x", "c:boolean": True}
    ]


async def test_what_is_older_than_the_channel_keeps_is_left_out(house: House) -> None:
    now_ns = house.services.horizons.clock_ns()
    settings = replace(house.channel.settings, retention_s=86_400)
    await house.services.channels.update(house.channel.account_id, house.channel.id, settings)
    loader = house.loader()
    await loader.store(points(("old", 1, 1.0), ("a", now_ns, 1.0), ("a", 2, 2.0), ("b", now_ns, True)))
    assert loader.expired == 2
    found = house.services.query.series_of(house.channel.id)
    assert [(one.field, one.type) for one in found] == [("a", ValueType.FLOAT), ("b", ValueType.BOOLEAN)]
    await loader.store(entries((10, 1, "a"), (now_ns, 2, "b")))
    assert loader.expired == 4
    assert await house.entries() == [(now_ns, 2, {1: "b"})]


async def test_a_channel_that_is_deleted_meanwhile(house: House) -> None:
    loader = house.loader()
    await loader.store(points(("a", 1, 1.0)))
    await house.services.channels.delete(house.channel.account_id, house.channel.id)
    with pytest.raises(NotFound, match="deleted"):
        await loader.store(points(("a", 2, 1.0)))
    assert not list(house.store.catalogue())


async def test_an_import_goes_on_where_it_stopped(house: House) -> None:
    loop = asyncio.get_running_loop()
    now_s = 0.0

    def begin(fingerprint: str | None) -> Import:
        return Import(house.services, loop, house.data, str(house.channel.id), fingerprint, lambda: now_s)

    first = await asyncio.to_thread(begin, "file")
    assert first.resume_row == 0
    await asyncio.to_thread(first.store, entries((10, 5, "a"), (20, 3, "b")))
    now_s = 2.0
    await asyncio.to_thread(first.store, entries((30, 2, "c"), (40, 4, "d"), (50, 1, "e")))
    again = await asyncio.to_thread(begin, "file")
    assert again.resume_row == 3
    await asyncio.to_thread(again.store, entries((60, 6, "f"), (70, 9, "g")))
    assert [number for _, number in numbers(await house.entries())] == [5, 3, 2, 4, 1, 6, 9]
    assert (await asyncio.to_thread(begin, "another file")).resume_row == 0
    assert (await asyncio.to_thread(begin, None)).resume_row == 0
    (note,) = (house.data / NOTES).iterdir()
    note.write_bytes(b"\xff half")
    assert (await asyncio.to_thread(begin, "file")).resume_row == 0
    await asyncio.to_thread(again.finish)
    assert not list((house.data / NOTES).iterdir())


async def test_numbers_are_not_given_twice_when_a_device_writes_between_two_parts(house: House) -> None:
    loop = asyncio.get_running_loop()
    begun = await asyncio.to_thread(new_import, house, loop)
    blocks = [entries((10, 1, "a")), entries((20, 2, "b"), (30, 3, "c"))]
    for number, block in enumerate(blocks, start=1):
        block.end_row = number
        await asyncio.to_thread(begun.store, block)  # of the second one there is no note any more
    assert await house.write(35, "device") == 4
    again = await asyncio.to_thread(new_import, house, loop)
    assert again.resume_row == 1
    await asyncio.to_thread(again.store, blocks[1])
    await asyncio.to_thread(again.store, entries((40, 4, "d"), (50, 5, "e")))
    found = numbers(await house.entries())
    assert found == [(10, 1), (20, 2), (30, 3), (35, 4), (40, 5), (50, 6)]


@pytest.mark.parametrize("rest", [[(30, 3), (40, 4)], [(15, 1), (12, 0)]])
async def test_numbers_are_kept_when_nobody_wrote_between_two_parts(house: House, rest: list[tuple[int, int]]) -> None:
    loop = asyncio.get_running_loop()
    begun = await asyncio.to_thread(new_import, house, loop)
    for block in (entries((10, 101, "a")), entries((20, 102, "b"))):
        await asyncio.to_thread(begun.store, block)
    again = await asyncio.to_thread(new_import, house, loop)
    last = [(at_ns, number + 100) for at_ns, number in rest]
    await asyncio.to_thread(again.store, entries((20, 102, "b"), *((at_ns, number, "c") for at_ns, number in last)))
    assert numbers(await house.entries()) == sorted([(10, 101), (20, 102), *last])


async def test_an_import_begins_anew_when_something_was_deleted_meanwhile(house: House) -> None:
    loop = asyncio.get_running_loop()
    begun = await asyncio.to_thread(new_import, house, loop)
    block = entries((10, 1, "a"))
    await asyncio.to_thread(begun.store, block)
    assert (await asyncio.to_thread(new_import, house, loop)).resume_row == 1
    await house.services.entries.clear(house.channel)
    assert (await asyncio.to_thread(new_import, house, loop)).resume_row == 0


async def test_a_number_behind_which_there_is_no_other_is_refused(house: House) -> None:
    for name in ("entry_id", "last_id"):
        builder = BlockBuilder()
        builder.add("entry" if name == "entry_id" else "entry.numbering", (), name, 10, 2**63 - 1)
        with pytest.raises(BadRequest, match=f"{name} 9223372036854775807 is too high"):
            await house.loader().store(builder.take(1))
    assert await house.write(20, "a") == 1


async def test_what_has_expired_is_not_exported(house: House) -> None:
    now_ns = time.time_ns()
    for ago_s in (7200, 10):
        await house.write(now_ns - ago_s * 10**9, str(ago_s))
    settings = replace(house.channel.settings, retention_s=3600)
    await house.services.channels.update(house.channel.account_id, house.channel.id, settings)
    open_table = table_openers(house.services, house.store, asyncio.get_running_loop())[EXPORT]
    reply = Sent()
    asked = {"channel": str(house.channel.id), "start_ns": None, "end_ns": None, "measurement": "entry"}
    await asyncio.to_thread(answering(open_table), {**asked, "command": EXPORT}, cast("Reply", reply))
    table = pa.ipc.open_stream(b"".join(reply.parts)).read_all()
    assert table.column("field1:float").to_pylist() == [10.0]


class Sent:
    """What a command was sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(bytes(data))


async def test_what_the_channel_does_not_keep_for_so_long_is_left_out_and_counted(house: House) -> None:
    settings = replace(house.channel.settings, retention_s=3600)
    await house.services.channels.update(house.channel.account_id, house.channel.id, settings)
    begun = await asyncio.to_thread(new_import, house, asyncio.get_running_loop())
    now_ns = time.time_ns()
    old, new = now_ns - 7200 * 10**9, now_ns - 10 * 10**9
    await asyncio.to_thread(begun.store, entries((old, 1, "a"), (new, 2, "b")))
    await asyncio.to_thread(begun.store, points(("t", old, 1.0)))
    assert begun.expired == 3
    settings = replace(house.channel.settings, retention_s=None)
    await house.services.channels.update(house.channel.account_id, house.channel.id, settings)
    assert await house.entries() == [(new, 2, {1: "b"})]


async def test_many_new_series_leave_others_the_loop(house: House) -> None:
    builder = BlockBuilder()
    for number in range(4 * SERIES_AT_ONCE):
        builder.add("m", (("n", str(number)),), "f", number, 1.0)
    loading = asyncio.ensure_future(house.loader().store(builder.take(number)))
    seen = set()
    while not loading.done():
        await asyncio.sleep(0)
        seen.add(len(house.services.query.series_of(house.channel.id)))
    await loading
    assert {one * SERIES_AT_ONCE for one in range(1, 5)} <= seen
    assert len(list(house.store.catalogue())) == 4 * SERIES_AT_ONCE
