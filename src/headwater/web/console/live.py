"""Live entries for an open page, as server-sent events. Knows queues and streams, not charts.

Each open page has a bounded `EntryFeed`. A browser too slow for its channel loses the oldest waiting entries and is
told so; the page then fetches what it shows afresh. A stream that a browser opens again starts with what it has missed
since the entry it names (`Last-Event-ID`). A stream ends as soon as its owner may no longer see the channel.

Events: `start` (id = the newest entry's, so that the browser has one to name), `entry` (id = its own), `resync`
(entries are missing: load the data again), `end` (do not come back).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headwater.errors import TooManyRequests
from headwater.model.entry import Entry
from headwater.web.console.chart_data import live_entry_of

if TYPE_CHECKING:
    from headwater.services.access import AccessChange

RETRY_MS = 2000
"""What the browser waits before it opens a broken stream again."""
HEARTBEAT = b": still here\n\n"


class EntryFeed:
    """Entries that wait for one browser; the oldest go when there are too many."""

    def __init__(self, session_id: str, holder: int | str, bucket_id: int, limit: int) -> None:
        """`holder`: the account that watches, or the network of somebody who is not signed in; they have no session,
        and an empty `session_id`."""
        self.session_id = session_id
        self.holder = holder
        self.bucket_id = bucket_id
        self.is_closed = False
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._dropped = 0
        self._signal = asyncio.Event()

    def put(self, entry: Entry) -> None:
        """Add an entry; never blocks."""
        if len(self._entries) == self._entries.maxlen:
            self._dropped += 1
        self._entries.append(entry)
        self._signal.set()

    def wake(self) -> None:
        """Make a waiting `take` return, so that its caller looks again whether the stream may go on."""
        self._signal.set()

    def close(self) -> None:
        """The browser has gone."""
        self.is_closed = True
        self._signal.set()

    async def take(self, timeout_s: float) -> tuple[list[Entry], int]:
        """What has arrived and how many were dropped before it; waits until something happens or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(timeout_s, 0)):
                await self._signal.wait()
        self._signal.clear()
        entries, dropped = list(self._entries), self._dropped
        self._entries.clear()
        self._dropped = 0
        return entries, dropped


class LiveStreams:
    """The open feeds, so that they can be woken when a session or a right ends."""

    def __init__(self, limit_per_account: int, limit_per_address: int) -> None:
        self._limit_per_account = limit_per_account
        self._limit_per_address = limit_per_address
        self._feeds: set[EntryFeed] = set()

    def __len__(self) -> int:
        return len(self._feeds)

    def check_room(self, holder: int | str) -> None:
        """Raise TooManyRequests when an account, or a network, has as many feeds as it may."""
        limit = self._limit_per_account if isinstance(holder, int) else self._limit_per_address
        if sum(feed.holder == holder for feed in self._feeds) >= limit:
            raise TooManyRequests("too many live pages are open; close some of them", RETRY_MS / 1000)

    def add(self, feed: EntryFeed) -> None:
        self._feeds.add(feed)

    def discard(self, feed: EntryFeed) -> None:
        self._feeds.discard(feed)

    def wake_session(self, session_id: str) -> None:
        """A session has ended."""
        for feed in self._feeds:
            if feed.session_id == session_id:
                feed.wake()

    def wake_changed(self, change: AccessChange) -> None:
        """Rights have changed."""
        for feed in self._feeds:
            if feed.holder in change.account_ids or feed.bucket_id in change.bucket_ids:
                feed.wake()


class LiveResponse(Response):
    """A stream of server-sent events; leaves nothing behind however it ends.

    Args: `first_id` is told in `start`, unless it is None; `watch` starts putting entries into the feed and returns
    what stops it; `missed` gives the entries since the page's last one, and whether the page can go on from them;
    `remaining_s` is 0 once the stream must end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        feed: EntryFeed,
        streams: LiveStreams,
        watch: Callable[[Callable[[Entry], None]], Callable[[], None]],
        first_id: int | None,
        missed: Callable[[], Awaitable[tuple[list[Entry], bool]]],
        remaining_s: Callable[[], float],
        heartbeat_s: float,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._streams = streams
        self._watch = watch
        self._first_id = first_id
        self._missed = missed
        self._remaining_s = remaining_s
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await Response(headers=dict(self.headers))(scope, receive, send)
            return
        self._streams.add(self._feed)
        unwatch = self._watch(self._feed.put)
        listener = asyncio.create_task(self._close_on_disconnect(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            unwatch()
            self._streams.discard(self._feed)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _close_on_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._feed.close()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        yield b"retry: %d\n\n" % RETRY_MS
        if self._first_id is not None:
            yield b"id: %d\n" % self._first_id + render_event("start", {})
        missed, can_go_on = await self._missed()
        # What is watched while the missed entries are fetched may be among them; one that was added to is not.
        sent = {(entry.entry_id, entry.at_ns): entry for entry in missed}
        if not can_go_on:
            yield render_event("resync", {"dropped": 0})
        elif missed:
            yield render_entries(missed)
        while not self._feed.is_closed:
            remaining_s = self._remaining_s()
            if remaining_s <= 0:
                yield render_event("end", {})
                return
            entries, dropped = await self._feed.take(min(self._heartbeat_s, remaining_s))
            if self._feed.is_closed or self._remaining_s() <= 0:
                continue
            if dropped:
                yield render_event("resync", {"dropped": dropped})
            entries = [entry for entry in entries if sent.get((entry.entry_id, entry.at_ns)) != entry]
            yield render_entries(entries) if entries else HEARTBEAT


def render_entries(entries: list[Entry]) -> bytes:
    """Entries as events, in one piece."""
    return b"".join(b"id: %d\n" % entry.entry_id + render_event("entry", live_entry_of(entry)) for entry in entries)


def render_event(name: str, data: object) -> bytes:
    """One event; JSON has no raw line ends, so one data line does."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
