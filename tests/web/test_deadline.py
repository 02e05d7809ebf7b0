"""A deadline over a loop whose time the test drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from headwater.web.deadline import Deadline


class Timer:
    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s = at_s
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(at_s, callback)
        self.timers.append(timer)
        return timer

    @property
    def open_timers(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def run_until(self, until_s: float) -> None:
        while due := [timer for timer in self.open_timers if timer.at_s <= until_s]:
            first = min(due, key=lambda timer: timer.at_s)
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.at_s)
            first.callback()
        self.now_s = until_s


@given(st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(1, 30))), max_size=30))
def test_it_comes_when_it_was_last_set_to(steps: list[tuple[int, int | None]]) -> None:
    loop, fired = Loop(), list[float]()
    deadline = Deadline(cast(Any, loop), lambda: fired.append(loop.now_s))
    expected: list[float] = []
    due_s: float | None = None
    for pause_s, timeout_s in [*steps, (100, None)]:
        until_s = loop.now_s + pause_s
        if due_s is not None and due_s <= until_s:
            expected.append(due_s)
            due_s = None
        loop.run_until(until_s)
        if timeout_s is None:
            deadline.lift()
            due_s = None
        else:
            deadline.set(timeout_s)
            due_s = loop.now_s + timeout_s
    assert fired == expected


def test_later_ones_cost_no_timer() -> None:
    loop = Loop()
    deadline = Deadline(cast(Any, loop), lambda: None)
    for _ in range(100):
        deadline.set(10)
        deadline.lift()
        loop.now_s += 0.01
    assert len(loop.timers) == 1


def test_after_the_end_none_comes() -> None:
    loop, fired = Loop(), list[float]()
    deadline = Deadline(cast(Any, loop), lambda: fired.append(loop.now_s))
    deadline.set(10)
    deadline.close()
    loop.run_until(100)
    assert fired == []
    assert loop.open_timers == []
