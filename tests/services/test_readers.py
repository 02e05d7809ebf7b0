"""Threads for queries: their limits, and that nothing goes on for nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gated_store import DEADLINE_S, until
from headwater.errors import Cancelled, Overloaded
from headwater.services.readers import Readers
from headwater.settings import QuerySettings
from headwater.store.cancellation import Cancellation


class Work:
    """A query that runs until it is broken off, or a test lets it end."""

    def __init__(self, deaf_interrupts: int = 0) -> None:
        self.is_running = threading.Event()
        self.has_ended = threading.Event()
        self._end = threading.Event()
        self._deaf_interrupts = deaf_interrupts
        """So many interrupts come too early."""

    def end(self) -> None:
        self._end.set()

    def _interrupt(self) -> None:
        self._deaf_interrupts -= 1
        if self._deaf_interrupts < 0:
            self._end.set()

    def __call__(self, stop: Cancellation) -> str:
        self.is_running.set()
        try:
            with stop.interrupting(self._interrupt):
                assert self._end.wait(DEADLINE_S)
                stop.check()
            return "done"
        finally:
            self.has_ended.set()


@asynccontextmanager
async def open_readers(**limits: Any) -> AsyncIterator[Readers]:
    readers = Readers(QuerySettings(**limits))
    try:
        yield readers
    finally:
        readers.close()


async def test_a_query_that_takes_too_long_is_broken_off_and_says_why() -> None:
    async with open_readers(timeout_s=0.01) as readers:
        with pytest.raises(Cancelled, match=r"0\.01 s \(query.timeout_s\)"):
            await readers.run(Work(deaf_interrupts=2))


async def test_a_query_that_nobody_waits_for_is_broken_off() -> None:
    async with open_readers() as readers:
        work = Work(deaf_interrupts=2)
        task = asyncio.ensure_future(readers.run(work))
        await until(work.is_running.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(work.has_ended.is_set)


async def test_what_waits_for_its_turn_is_limited_and_has_its_turn() -> None:
    async with open_readers(at_once=1, max_waiting=1) as readers:
        first, second = Work(), Work()
        tasks = [asyncio.ensure_future(readers.run(work)) for work in (first, second)]
        await until(first.is_running.is_set)
        with pytest.raises(Overloaded, match="1 queries are waiting"):
            await readers.run(Work())
        assert not second.is_running.is_set()
        first.end()
        second.end()
        assert await asyncio.gather(*tasks) == ["done", "done"]
        again = Work()
        again.end()
        assert await readers.run(again) == "done"


async def test_one_that_goes_away_while_it_waits_makes_room() -> None:
    async with open_readers(at_once=1, max_waiting=1) as readers:
        first, second, third = Work(), Work(), Work()
        running = asyncio.ensure_future(readers.run(first))
        await until(first.is_running.is_set)
        waiting = asyncio.ensure_future(readers.run(second))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        third.end()
        later = asyncio.ensure_future(readers.run(third))
        await asyncio.sleep(0)
        first.end()
        assert await asyncio.gather(running, later) == ["done", "done"]
        assert not second.is_running.is_set()


async def test_closing_breaks_off_what_goes_on() -> None:
    async with open_readers() as readers:
        work = Work(deaf_interrupts=1)
        task = asyncio.ensure_future(readers.run(work))
        await until(work.is_running.is_set)
        await asyncio.to_thread(readers.close)
        with pytest.raises(Cancelled, match="shutting down"):
            await task
        with pytest.raises(Overloaded, match="shutting down"):
            await readers.run(work)


class Pieces:
    """An endless answer that notes how much of it was made, and its end."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.made = 0
        self.most = most
        self.has_ended = threading.Event()

    def __call__(self, stop: Cancellation) -> Generator[int, None, None]:
        try:
            while self.made < self.most:
                stop.check()
                self.made += 1
                yield self.made
        finally:
            self.has_ended.set()


async def test_a_stream_makes_a_piece_when_it_is_asked_for() -> None:
    async with open_readers() as readers:
        pieces = Pieces(3)
        async with readers.stream(pieces) as stream:
            assert pieces.made == 0
            seen = []
            async for piece in stream:
                assert pieces.made == piece
                seen.append(piece)
        assert seen == [1, 2, 3]


async def test_a_stream_that_is_left_early_is_ended() -> None:
    async with open_readers() as readers:
        pieces = Pieces()
        async with readers.stream(pieces) as stream:
            async for piece in stream:
                if piece == 5:
                    break
        await until(pieces.has_ended.is_set)
        assert pieces.made == 5


async def test_a_stream_whose_consumer_is_cancelled_in_the_middle_of_a_piece_is_ended() -> None:
    async with open_readers() as readers:
        work, ended = Work(deaf_interrupts=1), threading.Event()

        def pieces(stop: Cancellation) -> Generator[str, None, None]:
            try:
                yield work(stop)
            finally:
                ended.set()

        task = asyncio.ensure_future(_consume(readers, pieces))
        await until(work.is_running.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(ended.is_set)


async def test_streams_are_limited_and_a_stream_that_ended_makes_room() -> None:
    async with open_readers(max_streams=1) as readers:
        for _ in range(2):
            async with readers.stream(Pieces()):
                with pytest.raises(Overloaded, match=r"query\.max_streams"):
                    async with readers.stream(Pieces()):
                        pass


async def test_the_time_of_a_stream_is_what_its_pieces_take_together() -> None:
    async with open_readers(timeout_s=0.02) as readers:
        pieces = Pieces()
        with pytest.raises(Cancelled, match=r"query\.timeout_s"):
            await _consume(readers, pieces)
        await until(pieces.has_ended.is_set)


async def test_a_consumer_that_takes_its_time_is_not_broken_off() -> None:
    seen = []
    async with open_readers(timeout_s=0.5) as readers, readers.stream(Pieces(3)) as stream:
        async for piece in stream:
            await asyncio.sleep(0.3)
            seen.append(piece)
    assert seen == [1, 2, 3]


async def _consume(readers: Readers, pieces: Callable[[Cancellation], Generator[Any, None, None]]) -> None:
    async with readers.stream(pieces) as stream:
        async for _ in stream:
            pass
