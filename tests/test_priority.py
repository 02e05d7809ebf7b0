"""Threads that let others go first."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from headwater.priority import BACKGROUND_NICENESS, new_threads_step_back, step_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of single threads")


def niceness(thread_id: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread_id)


def test_one_thread_steps_back_alone() -> None:
    found: list[int] = []

    def work() -> None:
        step_back()
        found.append(niceness(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert found == [BACKGROUND_NICENESS]
    assert niceness(threading.get_native_id()) < BACKGROUND_NICENESS


def test_threads_that_others_begin_step_back() -> None:
    stop = threading.Event()
    early, late = (threading.Thread(target=stop.wait, args=(10,)) for _ in range(2))
    early.start()
    with new_threads_step_back():
        late.start()
    assert (early.native_id, late.native_id) != (None, None)
    try:
        assert niceness(early.native_id or 0) < BACKGROUND_NICENESS
        assert niceness(late.native_id or 0) == BACKGROUND_NICENESS
    finally:
        stop.set()
        early.join(10)
        late.join(10)
