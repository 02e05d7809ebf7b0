"""Lets some threads of this process wait for the others. Only Linux has priorities of single threads; elsewhere this
does nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKGROUND_NICENESS = 10
"""A thread of this niceness gets about a tenth of a core that another wants for itself, and all of one that is idle."""


def step_back() -> None:
    """From now on the calling thread lets others go first."""
    _step_back(threading.get_native_id())


@contextmanager
def new_threads_step_back() -> Iterator[None]:
    """Threads that are begun meanwhile (by anybody in this process) let others go first."""
    before = _threads()
    try:
        yield
    finally:
        for thread_id in _threads() - before:
            _step_back(thread_id)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()} if sys.platform == "linux" else set()


def _step_back(thread_id: int) -> None:
    if sys.platform == "linux":
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.setpriority(os.PRIO_PROCESS, thread_id, BACKGROUND_NICENESS)
