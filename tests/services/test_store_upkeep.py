from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from headwater.priority import BACKGROUND_NICENESS
from headwater.services.upkeep import StoreUpkeep
from headwater.store.memory import MemoryStore


class BusyStore(MemoryStore):
    """Has always something to do, and notes the niceness of whoever does it."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = 0
        self.by: list[int] = []
        self._turn = threading.Lock()

    def backlog(self) -> int:
        return self.behind

    def maintain(self) -> bool:
        with self._turn:
            self.by.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            time.sleep(0.001)
        return True


@pytest.fixture
def store() -> Iterator[BusyStore]:
    store = BusyStore()
    with closing(StoreUpkeep(store, most_backlog=100)):
        yield store


def done_by(store: BusyStore, niceness: int) -> bool:
    """Whether upkeep is soon done by threads of this niceness alone."""
    for _ in range(500):
        store.by.clear()
        time.sleep(0.02)
        if store.by and set(store.by) == {niceness}:
            return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_others_go_first_until_arrivals_pile_up(store: BusyStore) -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    store.behind = 100
    assert done_by(store, max(usual, BACKGROUND_NICENESS))
    store.behind = 101
    assert done_by(store, usual)
    store.behind = 0
    assert done_by(store, max(usual, BACKGROUND_NICENESS))
