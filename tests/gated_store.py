"""A store whose commits wait for a test's word, fail when it says so, and are written down."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from headwater.model.series import Series, Value
from headwater.store import Batch
from headwater.store.memory import MemoryStore

DEADLINE_S = 10.0


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Return as soon as something is true; fail when it does not become so."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S} s for {what}"
        await asyncio.sleep(0.001)


class Point(NamedTuple):
    series_id: int
    at_ns: int
    value: Value


class Appended(NamedTuple):
    """One call of `append`."""

    new_series: list[Series]
    points: list[Point]
    lengths: list[tuple[int, int, int]]
    """Of series ids, times and values, for each value type."""


class GatedStore(MemoryStore):
    """A memory store behind a gate; open until a test shuts it."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Appended] = []
        self.failures: list[BaseException] = []
        """What the next commits raise, one each."""
        self.commits = 0
        self._gate = threading.Event()
        self._gate.set()

    def shut(self) -> None:
        """Let every commit from here on wait."""
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def append(self, batch: Batch) -> None:
        columns = list(batch.columns.values())
        points = [
            Point(*point)
            for column in columns
            for point in zip(column.series_ids, column.at_ns, column.values, strict=True)
        ]
        lengths = [(len(column.series_ids), len(column.at_ns), len(column.values)) for column in columns]
        self.appended.append(Appended(list(batch.new_series), points, lengths))
        assert self._gate.wait(DEADLINE_S), "the test never opened the gate"
        if self.failures:
            raise self.failures.pop(0)
        super().append(batch)
        self.commits += 1
