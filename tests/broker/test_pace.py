"""How fast a client may publish: the reckoning by itself, and a client that is read from more slowly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.broker.pace import BURST_S, Pace
from headwater.mqtt.packets import Publish

from .house import ADA, House, as_account

Build = Callable[..., Any]


def test_a_burst_is_free_and_what_is_beyond_waits() -> None:
    pace = Pace(10, 0)
    assert pace.pause_s(0.0, 10, 0) == 0.0
    assert pace.pause_s(0.0, 15, 0) == 0.5
    assert pace.pause_s(0.5, 15, 0) == 0.0
    assert pace.pause_s(10.0, 25, 0) == 0.0, "whoever was silent may send a burst again, and no more"
    assert pace.pause_s(10.0, 26, 0) == pytest.approx(0.1)


def test_the_stricter_rate_counts() -> None:
    pace = Pace(10, 100)
    assert pace.pause_s(0.0, 10, 300) == 2.0
    assert pace.pause_s(2.0, 40, 300) == 2.0


def test_without_limits_there_is_no_pause() -> None:
    assert Pace(0, 0).pause_s(0.0, 1_000_000, 1_000_000_000) == 0.0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), min_size=1, max_size=30), st.integers(1, 20))
def test_nobody_who_pauses_as_told_is_faster_than_allowed(steps: list[tuple[int, float]], rate: int) -> None:
    pace, now_s, total = Pace(rate, 0), 0.0, 0
    for count, idle_s in steps:
        total += count
        now_s += pace.pause_s(now_s, total, 0) + idle_s
        assert total <= rate * (now_s + BURST_S) + 1e-6


async def test_a_client_that_is_too_fast_is_slowed_down_and_loses_nothing(build: Build) -> None:
    house: House = await build(max_messages_per_second=200, bytes_per_turn=4_096)
    listening = await house.connect(as_account(ADA, "l"))
    await listening.subscribe("t", 0)
    flooding = await house.connect(as_account(ADA, "f"))
    started_s = time.monotonic()
    flooding.send(*(Publish("t", b"%050d" % number) for number in range(300)))
    got = [int((await listening.message()).payload) for _ in range(300)]
    assert got == list(range(300))
    await house.check_others_are_served()
    await flooding.ping()
    assert time.monotonic() - started_s > 0.3, "300 messages at 200 a second, the first second for nothing"


def test_pauses_stay_short_because_only_a_portion_is_taken_in() -> None:
    pace, total_bytes, longest_s, now_s = Pace(10, 0), 10_000 * 8, 0.0, 0.0
    taken_bytes = 0
    while taken_bytes < total_bytes and now_s < 60:
        taken_bytes += min(pace.portion_bytes(now_s), total_bytes - taken_bytes)
        pause_s = pace.pause_s(now_s, taken_bytes // 8, taken_bytes)
        longest_s = max(longest_s, pause_s)
        now_s += pause_s
    assert now_s >= 60, "it is slowed down as much as ever"
    assert longest_s < 1.5


def test_a_long_message_is_taken_in_by_growing_portions() -> None:
    pace, taken_bytes, portions = Pace(1, 0), 0, 0
    while taken_bytes < 1_000_000:
        taken_bytes += pace.portion_bytes(0.0)
        assert pace.pause_s(0.0, 0, taken_bytes) == 0.0
        portions += 1
    assert portions < 30


def test_portions_keep_to_the_rate_of_bytes() -> None:
    pace = Pace(0, 1_000)
    assert pace.portion_bytes(0.0) == 1_100
    assert pace.pause_s(0.0, 1, 1_100) == pytest.approx(0.1)
    assert pace.portion_bytes(0.1) == 100


async def test_a_client_that_is_slowed_down_is_not_taken_for_a_silent_one(build: Build) -> None:
    house: House = await build(max_messages_per_second=20, max_keep_alive_s=0.4)
    client = await house.connect(as_account(ADA, "c"))
    client.send(*(Publish("t", b"x") for _ in range(60)))
    for _ in range(2):  # the second at the latest comes while it is not read from
        await client.ping()
