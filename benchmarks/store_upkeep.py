"""Upkeep of a store beside a load or questions, as a server has it, but never broken off. Knows no data."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headwater.priority import step_back
from headwater.store import Store
from headwater.store.duck.upkeep import QUIET_S

_PAUSE_S = 0.1


@contextmanager
def kept_in_order(store: Store) -> Iterator[None]:
    """As `upkeep_beside`; when this ends, nothing is left to do, not even what waits until it has become quiet."""
    with upkeep_beside(store):
        yield
    quiet_at_s = time.monotonic() + QUIET_S + 1
    while store.maintain() or time.monotonic() < quiet_at_s:
        time.sleep(_PAUSE_S)


@contextmanager
def upkeep_beside(store: Store) -> Iterator[None]:
    """A thread that lets others go first puts the store in order meanwhile."""
    stopping = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        step_back()
        try:
            while not stopping.is_set():
                if not store.maintain():
                    stopping.wait(_PAUSE_S)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="upkeep")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if failures:
        raise failures[0]
