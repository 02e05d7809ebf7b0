from __future__ import annotations

import logging
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.services.connect_limits import (
    CONNECT_RATE,
    FAILURES,
    FAILURES_OF_ADDRESS,
    MAX_BLOCKS_TOLD,
    ConnectLimits,
    SignInBlock,
    SignInBlocks,
    claimed_by_certificate,
    claimed_client,
)

HOME, OFFICE, LOCAL = "192.0.2.1", "192.0.2.2", "127.0.0.1"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(limits: ConnectLimits, address: str, client_id: str) -> str | None:
    """One sign-in with a wrong password; answers the limit that kept it from being tried."""
    limit = limits.check(address, client_id)
    if limit is None:
        limits.failed(address, client_id)
    return limit


# Connections


def test_a_burst_of_a_second_s_worth_and_then_an_even_rate(clock):
    limits = ConnectLimits(clock, max_connects_per_second_per_address=4)
    assert [limits.admit(HOME) for _ in range(6)] == [None] * 4 + [CONNECT_RATE] * 2
    assert limits.admit(OFFICE) is None
    clock.now_s += 0.25
    assert [limits.admit(HOME) for _ in range(2)] == [None, CONNECT_RATE]
    clock.now_s += 0.2
    assert limits.admit(HOME) == CONNECT_RATE
    clock.now_s += 3600
    assert [limits.admit(HOME) for _ in range(5)] == [None] * 4 + [CONNECT_RATE]
    assert limits.refused == {CONNECT_RATE: 5}


@pytest.mark.parametrize("rate", [1, 3, 7, 1000])
def test_who_keeps_to_the_rate_is_never_refused(clock, rate):
    limits = ConnectLimits(clock, max_connects_per_second_per_address=rate)
    for _ in range(3 * rate):
        assert limits.admit(HOME) is None
        clock.now_s += 1 / rate


def test_without_a_rate_everybody_is_admitted(clock):
    limits = ConnectLimits(clock)
    assert {limits.admit(HOME) for _ in range(1000)} == {None}


def test_a_host_s_ipv6_addresses_count_together(clock):
    limits = ConnectLimits(clock, max_connects_per_second_per_address=2, max_failures_per_minute_per_address=2)
    assert [limits.admit(f"2001:db8::{n}") for n in range(3)] == [None, None, CONNECT_RATE]
    assert limits.admit("2001:db8:0:1::1") is None
    assert [fail(limits, f"2001:db8::{n}", f"c{n}") for n in range(3)] == [None, None, FAILURES_OF_ADDRESS]
    assert fail(limits, "2001:db8:0:1::1", "c") is None


# Failed sign-ins


def test_one_client_that_fails_too_often_is_blocked_and_nobody_else(clock):
    limits = ConnectLimits(clock)
    assert [fail(limits, HOME, "pump") for _ in range(12)] == [None] * 10 + [FAILURES] * 2
    assert limits.check(HOME, "fan") is None
    assert limits.check(OFFICE, "pump") is None
    clock.now_s += 299
    assert limits.check(HOME, "pump") == FAILURES
    clock.now_s += 1
    assert limits.check(HOME, "pump") is None


def test_failures_of_many_clients_count_for_their_address(clock):
    limits = ConnectLimits(clock)
    assert {fail(limits, HOME, f"c{n}") for n in range(100)} == {None}
    assert fail(limits, HOME, "another") == FAILURES_OF_ADDRESS
    assert fail(limits, OFFICE, "another") is None
    clock.now_s += 300
    assert fail(limits, HOME, "another") is None


@pytest.mark.parametrize("address", [LOCAL, "::1", "::ffff:127.0.0.1"])
def test_a_proxy_on_the_same_machine_shuts_nobody_out(clock, address):
    limits = ConnectLimits(clock)
    assert {fail(limits, address, f"c{n}") for n in range(1000)} == {None}
    for _ in range(10):
        fail(limits, address, "pump")
    assert limits.check(address, "pump") == FAILURES


def test_clients_without_an_id_count_for_their_address_only(clock):
    limits = ConnectLimits(clock)
    assert [fail(limits, HOME, "") for _ in range(101)] == [None] * 100 + [FAILURES_OF_ADDRESS]


def test_slow_failures_are_forgotten(clock):
    limits = ConnectLimits(clock)
    for _ in range(100):
        assert fail(limits, HOME, "pump") is None
        clock.now_s += 6.7


def test_success_costs_nothing_and_takes_nothing_back(clock):
    limits = ConnectLimits(clock)
    for _ in range(9):
        fail(limits, HOME, "pump")
    for _ in range(1000):
        assert limits.check(HOME, "pump") is None
        limits.succeeded(HOME, "pump")
    assert fail(limits, HOME, "pump") is None
    assert limits.check(HOME, "pump") == FAILURES


def test_many_attempts_at_once_gain_nothing(clock):
    limits = ConnectLimits(clock)
    assert [limits.check(HOME, "pump") for _ in range(11)] == [None] * 10 + [FAILURES]
    limits.abandoned(HOME, "pump")
    assert [limits.check(HOME, "pump") for _ in range(2)] == [None, FAILURES]
    clock.now_s += 60  # attempts whose end nobody told
    assert limits.check(HOME, "pump") is None


def test_a_refused_attempt_counts_for_nobody(clock):
    limits = ConnectLimits(clock, max_failures_per_minute_per_address=11)
    assert [fail(limits, HOME, "pump") for _ in range(100)] == [None] * 10 + [FAILURES] * 90
    assert fail(limits, HOME, "fan") is None


def test_limits_of_zero_are_off(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=0, max_failures_per_minute_per_address=0)
    assert {fail(limits, HOME, "pump") for _ in range(1000)} == {None}


# What is told, and what is kept


def test_one_line_an_episode_and_a_counter(clock, caplog):
    caplog.set_level(logging.WARNING)
    limits = ConnectLimits(clock, max_connects_per_second_per_address=1)
    for _ in range(50):
        fail(limits, HOME, "pump")
        limits.admit(HOME)
    assert [record.fields for record in caplog.records] == [
        {"limit": CONNECT_RATE, "address": HOME},
        {"limit": FAILURES, "address": HOME, "client_id": "pump"},
    ]
    assert limits.refused == {FAILURES: 40, CONNECT_RATE: 49}
    clock.now_s += 61
    fail(limits, HOME, "pump")
    assert len(caplog.records) == 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "check", "failed", "succeeded", "abandoned"]),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        max_size=200,
    )
)
def test_memory_is_bounded_whatever_is_called_in_any_order(calls):
    clock = Clock()
    limits = ConnectLimits(
        clock,
        max_connects_per_second_per_address=1,
        max_failures_per_minute=2,
        max_failures_per_minute_per_address=3,
        max_keys=4,
    )
    for what, host, client in calls:
        clock.now_s += 0.1
        if what == "admit":
            limits.admit(f"192.0.2.{host}")
        else:
            getattr(limits, what)(f"192.0.2.{host}", f"c{client}")
    assert len(limits._next_connect_at_s) <= 4
    assert len(limits._refused_at_s) <= 4
    assert len(limits._of_client._records) <= 4
    assert len(limits._of_address._records) <= 4


def test_long_names_of_strangers_take_no_memory(clock):
    limits = ConnectLimits(clock)
    tracemalloc.start()
    try:
        for number in range(2000):
            name = f"{number}\N{GRINNING FACE}" + "u" * 64_000  # 256 KB in memory, each
            assert fail(limits, f"10.0.{number >> 8}.{number & 255}", claimed_client(name, name)) is None
        assert tracemalloc.get_traced_memory()[0] < 4e6
    finally:
        tracemalloc.stop()


def test_a_long_name_is_logged_in_part(clock, caplog):
    limits = ConnectLimits(clock, max_failures_per_minute=1)
    fail(limits, HOME, "u" * 64_000)
    fail(limits, HOME, "u" * 64_000)
    (record,) = caplog.records
    assert record.fields["client_id"] == "u" * 128


def test_what_is_over_is_forgotten(clock):
    limits = ConnectLimits(clock, max_connects_per_second_per_address=1, block_s=100)
    kept = (limits._next_connect_at_s, limits._refused_at_s, limits._of_client._records, limits._of_address._records)
    for host in range(200):
        for _ in range(11):
            limits.admit(f"192.0.2.{host}")
            fail(limits, f"192.0.2.{host}", "pump")
    limits.forget_old()
    assert [len(each) for each in kept] == [200, 400, 200, 200]
    clock.now_s += 61
    limits.forget_old()
    assert [len(each) for each in kept] == [0, 0, 200, 0]
    assert limits.check(HOME, "pump") == FAILURES
    clock.now_s += 100
    limits.forget_old()
    assert [len(each) for each in kept] == [0, 0, 0, 0]


# Blocks as people are told of them


def told(*blocks: SignInBlock) -> SignInBlocks:
    return SignInBlocks(list(blocks), 0)


def test_a_block_is_told_with_what_was_refused_since(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=3, block_s=100)
    assert limits.blocks_of("pump") == told()
    for _ in range(3):
        assert limits.blocks_of("pump") == told()
        fail(limits, HOME, "pump")
    assert limits.blocks_of("pump") == told(SignInBlock(HOME, 3, 100.0, 0))
    clock.now_s += 40
    assert [limits.check(HOME, "pump") for _ in range(5)] == [FAILURES] * 5
    assert limits.blocks_of("pump") == told(SignInBlock(HOME, 3, 60.0, 5))
    assert limits.blocks_of("fan") == told()
    clock.now_s += 60
    assert limits.blocks_of("pump") == told()
    for _ in range(3):
        fail(limits, HOME, "pump")
    assert limits.blocks_of("pump") == told(SignInBlock(HOME, 3, 100.0, 0))


def test_each_network_is_blocked_for_itself(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=1)
    for address in (HOME, OFFICE, "2001:db8::1"):
        fail(limits, address, "pump")
    assert [block.network for block in limits.blocks_of("pump").last] == [HOME, OFFICE, "2001:db8::/64"]


def test_of_many_blocks_those_are_told_that_end_last(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=1)
    for host in range(150):
        fail(limits, f"192.0.2.{host}", "pump")
        clock.now_s += 0.1
    last, more = limits.blocks_of("pump")
    assert [block.network for block in last] == ["192.0.2.149", "192.0.2.148", "192.0.2.147"]
    assert more == 150 - MAX_BLOCKS_TOLD
    limits.lift("pump")
    assert limits.blocks_of("pump") == told()


def test_lifting_a_block_is_for_one_client_at_every_address(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=2)
    for address, client in ((HOME, "pump"), (OFFICE, "pump"), (HOME, "fan")):
        fail(limits, address, client)
        fail(limits, address, client)
    limits.lift("pump")
    assert limits.blocks_of("pump") == told()
    assert [fail(limits, HOME, "pump") for _ in range(3)] == [None, None, FAILURES]
    assert limits.check(OFFICE, "pump") is None
    assert limits.check(HOME, "fan") == FAILURES


def test_lifting_while_an_attempt_is_under_way(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=2)
    assert limits.check(HOME, "pump") is None
    limits.lift("pump")
    limits.failed(HOME, "pump")
    assert limits.check(HOME, "pump") is None


def test_without_a_limit_nothing_is_blocked(clock):
    limits = ConnectLimits(clock, max_failures_per_minute=0)
    fail(limits, HOME, "pump")
    limits.lift("pump")
    assert limits.blocks_of("pump") == told()


def test_a_client_is_known_by_user_name_and_client_id():
    assert claimed_client("ada", "pump") != claimed_client("bob", "pump")
    assert claimed_client(None, "pump") == claimed_client("", "pump")
    assert claimed_client("ada", "") == ""


def test_a_certificate_stands_for_the_device_that_it_names():
    assert claimed_by_certificate("ada/porch") == claimed_client("ada", "porch")
    assert claimed_by_certificate("device1") == claimed_client("device1", "device1")
    assert claimed_by_certificate("porch") != claimed_by_certificate("ada/porch") != claimed_by_certificate("bob/porch")
