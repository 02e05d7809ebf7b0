from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import NotAuthenticated, StorageError, TooManyRequests
from headwater.services.throttle import Throttle


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def build(clock: Clock, **changes: int) -> Throttle:
    return Throttle(**{"max_failures": 3, "window_s": 60, "block_s": 300, **changes}, clock=clock)


def fail(throttle: Throttle, *keys: str, error: type[Exception] = NotAuthenticated) -> None:
    with pytest.raises(error, match="wrong"), throttle.attempt(keys):
        raise error("wrong")


def test_too_many_failures_block_for_a_while():
    throttle = build(clock := Clock())
    for _ in range(3):
        fail(throttle, "a")
    with pytest.raises(TooManyRequests) as caught, throttle.attempt(["a"]):
        pytest.fail("was let in")
    assert caught.value.retry_after_s == 300
    clock.now_s = 299.9
    with pytest.raises(TooManyRequests) as caught, throttle.attempt(["a"]):
        pytest.fail("was let in")
    assert caught.value.retry_after_s == pytest.approx(0.1)
    clock.now_s = 300
    for _ in range(3):  # and from then on as if nothing had been
        fail(throttle, "a")


def test_failures_are_forgotten_after_the_window():
    throttle = build(clock := Clock())
    for _ in range(20):
        fail(throttle, "a")
        clock.now_s += 30


def test_success_takes_nothing_back_and_costs_nothing():
    throttle = build(Clock())
    for _ in range(2):
        fail(throttle, "a")
    for _ in range(10):
        with throttle.attempt(["a"]):
            pass
    fail(throttle, "a")
    with pytest.raises(TooManyRequests), throttle.attempt(["a"]):
        pytest.fail("was let in")


def test_one_blocked_key_is_enough_and_the_others_do_not_count():
    throttle = build(Clock())
    for _ in range(3):
        fail(throttle, "a", "b")
    for number in range(5):
        with pytest.raises(TooManyRequests), throttle.attempt(["a", f"c{number}"]):
            pytest.fail("was let in")
        with pytest.raises(TooManyRequests), throttle.attempt(["c", "b"]):
            pytest.fail("was let in")
    fail(throttle, "c")


@pytest.mark.parametrize("error", [StorageError, lambda text: TooManyRequests(text, 1.0)])
def test_our_own_trouble_is_nobody_s_failure(error):
    throttle = build(Clock())
    for _ in range(10):
        with pytest.raises((StorageError, TooManyRequests), match="wrong"), throttle.attempt(["a"]):
            raise error("wrong")


def test_many_at_once_gain_nothing():
    throttle = build(Clock())
    with throttle.attempt(["a"]), throttle.attempt(["a"]), throttle.attempt(["a"]):
        with pytest.raises(TooManyRequests) as caught, throttle.attempt(["a"]):
            pytest.fail("was let in")
        assert caught.value.retry_after_s == 1  # not blocked, only full
    fail(throttle, "a")


def test_keys_are_forgotten_when_nothing_of_them_counts_any_more():
    throttle = build(clock := Clock())
    for number in range(1000):
        fail(throttle, f"k{number}")
    for _ in range(3):
        fail(throttle, "blocked")
    throttle.begin("under way")
    clock.now_s = 59.9
    throttle.forget_old()
    assert len(throttle.known()) == 1002
    clock.now_s = 60
    throttle.forget_old()
    assert throttle.known() == ["blocked"]
    clock.now_s = 300
    throttle.forget_old()
    assert throttle.known() == []


def test_who_fails_makes_room_for_itself():
    """Also where nobody calls `forget_old`."""
    throttle = build(clock := Clock())
    for number in range(1000):
        fail(throttle, f"k{number}")
    clock.now_s = 60
    fail(throttle, "another")
    assert throttle.known() == ["another"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=100))
def test_memory_is_bounded_and_a_success_leaves_nothing(attempts):
    throttle = build(Clock(), max_keys=3, max_failures=1000)
    for key, succeeds in attempts:
        if succeeds:
            with throttle.attempt([key]):
                pass
        else:
            fail(throttle, key)
    assert len(throttle._records) <= 3
    assert set(throttle._records) <= {key for key, succeeds in attempts if not succeeds}
