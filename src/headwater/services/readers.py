"""Threads for queries, with limits: how many at once, how many may wait, for how long. Knows no store.

A query is broken off when its time is up, when the task that waits for it is cancelled (the client has gone away), and
at the end of the process. It is told again until it has ended: an engine may hear nothing just before it begins.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Generic, TypeVar

from headwater.errors import Cancelled, Overloaded
from headwater.settings import QuerySettings
from headwater.store.cancellation import Cancellation

T = TypeVar("T")

_AGAIN_S = 0.05
_NOBODY_WAITS = "nobody waits for the answer of this query any more"
_CLOSING = "the server is shutting down; ask again later"


class Readers:
    """Runs queries; to be used from the event loop's thread."""

    def __init__(self, limits: QuerySettings) -> None:
        self.limits = limits
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="store-reader")
        self._lock = threading.Lock()
        self._unfinished: dict[Future[Any], Cancellation] = {}
        self._streams = 0
        self._is_closed = False

    async def run(
        self, work: Callable[[Cancellation], T], *, stop: Cancellation | None = None, seconds: float | None = None
    ) -> T:
        """What `work` returns, in a thread of its own. Raises Overloaded when too many queries wait already, Cancelled
        when its time (`seconds`, or what the settings say) is up, and what `work` raises."""
        stop = stop or Cancellation()
        future = self._submit(work, stop)
        timer = asyncio.get_running_loop().call_later(
            self.limits.timeout_s if seconds is None else seconds,
            self._break_off,
            future,
            stop,
            _time_is_up(self.limits),
        )
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._break_off(future, stop, _NOBODY_WAITS)
            raise
        finally:
            timer.cancel()

    @asynccontextmanager
    async def stream(self, start: Callable[[Cancellation], Generator[T, None, None]]) -> AsyncIterator[Stream[T]]:
        """Pieces that are made one at a time in a thread, each when it is asked for. Leaving the block ends that,
        wherever it is, and lets go of what they are made of. Raises Overloaded when there are too many streams."""
        if self._streams >= self.limits.max_streams:
            raise Overloaded(
                f"{self.limits.max_streams} answers are being sent in pieces (query.max_streams); try again later"
            )
        self._streams += 1
        stream = Stream(self, start, self.limits.timeout_s)
        try:
            yield stream
        finally:
            self._streams -= 1
            stream.stop.cancel(_NOBODY_WAITS)
            # In no thread of ours: they may all be busy, and what a stream holds is let go of now.
            await asyncio.shield(asyncio.to_thread(stream.close))

    def close(self) -> None:
        """Break off what goes on, and wait for it to end."""
        self._is_closed = True
        while unfinished := self._still_unfinished():
            for stop in unfinished.values():
                stop.cancel(_CLOSING)
            wait(unfinished, _AGAIN_S)
        self._threads.shutdown(wait=True)

    def _submit(self, work: Callable[[Cancellation], T], stop: Cancellation) -> Future[T]:
        limits = self.limits
        if self._is_closed:
            raise Overloaded(_CLOSING)

        def read() -> T:
            stop.check()
            return work(stop)

        with self._lock:
            if len(self._unfinished) >= limits.at_once + limits.max_waiting:
                raise _too_many_waiting(limits)
            future = self._threads.submit(read)
            self._unfinished[future] = stop
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Future[Any]) -> None:
        with self._lock:
            del self._unfinished[future]

    def _still_unfinished(self) -> dict[Future[Any], Cancellation]:
        with self._lock:
            return self._unfinished.copy()

    def _break_off(self, future: Future[Any], stop: Cancellation, reason: str) -> None:
        if not future.done():
            stop.cancel(reason)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._break_off, future, stop, reason)


class Turns:
    """So many at a time of what takes more than a thread, within the limits of queries for who waits. To be used from
    the event loop's thread."""

    def __init__(self, at_once: int, limits: QuerySettings) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises Overloaded when too many wait already, Cancelled when the time of a query is up before its turn."""
        if self._free.locked() and self._waiting >= self._limits.max_waiting:
            raise _too_many_waiting(self._limits)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise Cancelled(_time_is_up(self._limits)) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


def _time_is_up(limits: QuerySettings) -> str:
    return (
        f"the query took longer than {limits.timeout_s:g} s (query.timeout_s) and was broken off: ask for less at a "
        "time, or raise the setting"
    )


def _too_many_waiting(limits: QuerySettings) -> Overloaded:
    return Overloaded(f"{limits.max_waiting} queries are waiting for their turn (query.max_waiting); try again later")


class Stream(Generic[T]):
    """Pieces of one answer. Made by `Readers.stream`; to be iterated over once, by one task."""

    def __init__(
        self, readers: Readers, start: Callable[[Cancellation], Generator[T, None, None]], seconds: float
    ) -> None:
        self.stop = Cancellation()
        self._readers = readers
        self._start = start
        self._seconds_left = seconds
        self._pulling = threading.Lock()
        self._pieces: Generator[T, None, None] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        began_s = time.monotonic()
        try:
            found = await self._readers.run(self._pull, stop=self.stop, seconds=max(0.0, self._seconds_left))
        finally:
            self._seconds_left -= time.monotonic() - began_s
        if not found:
            raise StopAsyncIteration
        return found[0]

    def close(self) -> None:
        """Let go of what the pieces are made of, once none is being made."""
        with self._pulling:
            if self._pieces is not None:
                self._pieces.close()

    def _pull(self, stop: Cancellation) -> list[T]:
        """The next piece, or nothing."""
        with self._pulling:
            if self._pieces is None:
                self._pieces = self._start(stop)
            return list(islice(self._pieces, 1))
