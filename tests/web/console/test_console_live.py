"""Live entries: the bounded queue, and the stream on a real connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from console_site import WAIT_S, Browser, Site, until

from headwater.errors import TooManyRequests
from headwater.model.entry import Entry, EntryUpdate
from headwater.registry.entities import Account
from headwater.web.console.live import EntryFeed, LiveStreams, render_entries


@dataclass
class Stream:
    """The events of one live stream."""

    lines: AsyncIterator[str]

    async def next(self) -> tuple[str, Any, str]:
        """Name, data and id of the next event; heartbeats are passed over."""
        event: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            async for line in self.lines:
                if line == "" and "event" in event:
                    return event["event"], json.loads(event["data"]), event.get("id", "")
                name, _, value = line.partition(": ")
                event[name] = value
        raise AssertionError("the stream has ended")

    async def comment(self) -> None:
        async with asyncio.timeout(WAIT_S):
            async for line in self.lines:
                if line.startswith(":"):
                    return

    async def end(self) -> None:
        async with asyncio.timeout(WAIT_S):
            async for _ in self.lines:
                pass


@asynccontextmanager
async def live(browser: Browser, channel_id: int, after: int | None = None) -> AsyncIterator[Stream]:
    """A stream opened for the first time, or again by a browser that saw the entry `after` last."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with browser.client.stream("GET", f"/channels/{channel_id}/live", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        stream = Stream(lines)
        if after is None:
            assert (await stream.next())[0] == "start"
        yield stream


def _entry(number: int) -> Entry:
    return Entry(number, number, {1: str(number)})


async def test_a_full_feed_drops_the_oldest_and_says_so() -> None:
    feed = EntryFeed("s", 1, 2, limit=3)
    for number in range(1, 6):
        feed.put(_entry(number))
    entries, dropped = await feed.take(0)
    assert [entry.entry_id for entry in entries] == [3, 4, 5]
    assert dropped == 2
    assert await feed.take(0) == ([], 0)


async def test_a_feed_wakes_its_reader() -> None:
    feed = EntryFeed("s", 1, 2, limit=3)
    taking = asyncio.create_task(feed.take(WAIT_S))
    feed.put(_entry(1))
    assert await taking == ([_entry(1)], 0)
    taking = asyncio.create_task(feed.take(WAIT_S))
    feed.close()
    assert await taking == ([], 0)


def test_an_account_has_only_so_many_streams() -> None:
    streams = LiveStreams(2, 1)
    feeds = [EntryFeed("s", account_id, 1, 1) for account_id in (1, 1, 2)]
    for feed in feeds:
        streams.add(feed)
    with pytest.raises(TooManyRequests):
        streams.check_room(1)
    streams.check_room(2)
    streams.discard(feeds[0])
    streams.check_room(1)
    streams.add(EntryFeed("", "192.0.2.1", 1, 1))
    with pytest.raises(TooManyRequests):
        streams.check_room("192.0.2.1")
    streams.check_room("192.0.2.2")


def test_entries_cannot_break_out_of_their_event() -> None:
    text = render_entries([Entry(1, 0, {1: "a\n\nevent: end\ndata: {}"})])
    assert text.count(b"\n\n") == 1
    assert text.count(b"\nevent:") == 1


async def test_entries_arrive_as_they_are_written(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        for number in (1, 2):
            entry = await site.write(channel, field1=f"2{number}.50", field2="on")
            name, data, event_id = await stream.next()
            assert (name, event_id) == ("entry", str(number))
            assert data["entry_id"] == number
            assert data["at_s"] == pytest.approx(entry.at_ns / 1e9, abs=0.001)
            assert data["fields"] == {
                "1": {"text": f"2{number}.50", "number": 20.5 + number},
                "2": {"text": "on", "number": None},
            }
        await stream.comment()


async def test_what_was_missed_comes_first(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    for number in range(1, 6):
        await site.write(channel, field1=str(number))
    async with live(ada, channel.id, after=3) as stream:
        assert [(await stream.next())[1]["entry_id"] for _ in range(2)] == [4, 5]
        await site.write(channel, field1="6")
        assert (await stream.next())[1]["entry_id"] == 6


async def test_a_first_stream_names_the_newest_entry(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    await site.write(channel, field1="1")
    async with ada.client.stream("GET", f"/channels/{channel.id}/live") as response:
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == ["retry: 2000", "", "id: 1", "event: start"]


async def test_who_missed_too_much_is_told_to_load_again(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    await site.write(channel, field1="1")
    async with live(ada, channel.id, after=9) as stream:  # cleared meanwhile: ids began anew
        assert (await stream.next())[0] == "resync"
        await site.write(channel, field1="2")
        assert (await stream.next())[1]["entry_id"] == 2


async def test_a_missed_entry_that_is_older_makes_the_page_load_again(
    site: Site, ada: Browser, ada_account: Account
) -> None:
    channel = await site.channel(ada_account)
    first = await site.write(channel, field1="1")
    backfill = EntryUpdate({1: "old"}, created_at_ns=first.at_ns - 10**12)
    await site.services.entries.write_dated(channel, backfill, time.time_ns()).wait()
    async with live(ada, channel.id, after=1) as stream:
        assert (await stream.next())[0] == "resync"


async def test_a_slow_browser_is_told_what_it_lost(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        await stream.comment()
        # one commit tells of all of them at once, and 8 may wait
        for number in range(20):
            _, receipt = site.services.entries.write(channel, EntryUpdate({1: str(number)}), time.time_ns())
        await receipt.wait()
        assert (await stream.next())[:2] == ("resync", {"dropped": 12})
        assert [(await stream.next())[1]["entry_id"] for _ in range(8)] == list(range(13, 21))


async def test_signing_out_ends_the_stream(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        await ada.post("/sign-out")
        assert (await stream.next())[0] == "end"
        await stream.end()


async def test_a_new_password_ends_the_stream(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        await site.services.accounts.set_password("ada", "another password")
        assert (await stream.next())[0] == "end"


async def test_the_end_of_the_session_ends_the_stream(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        site.clock.shift_s = 14 * 24 * 3600
        assert (await stream.next())[0] == "end"


async def test_deleting_the_channel_ends_the_stream(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id) as stream:
        await site.services.channels.delete(ada_account.id, channel.id)
        assert (await stream.next())[0] == "end"


async def test_a_browser_that_leaves_leaves_nothing_behind(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    observers = site.services.ingest._observers
    for _ in range(5):  # more than may be open at once
        async with live(ada, channel.id):
            assert observers[channel.id]
        await until(lambda: not observers.get(channel.id))


async def test_too_many_streams(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    async with live(ada, channel.id), live(ada, channel.id), live(ada, channel.id):
        response = await ada.get(f"/channels/{channel.id}/live")
        assert response.status_code == 429
        assert "retry-after" in response.headers


@pytest.mark.parametrize("after", ["x", "-1", "9" * 5000])
async def test_a_senseless_start(site: Site, ada: Browser, ada_account: Account, after: str) -> None:
    channel = await site.channel(ada_account)
    response = await ada.get(f"/channels/{channel.id}/live", headers={"Last-Event-ID": after})
    assert response.status_code == 400


async def test_head_does_not_stream(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account)
    response: httpx.Response = await ada.client.head(f"/channels/{channel.id}/live")
    assert response.status_code == 200
