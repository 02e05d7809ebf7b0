"""So many within a span of time."""

from __future__ import annotations

from headwater.services.quotas import Quota


def test_what_was_taken_counts_for_as_long_as_the_window() -> None:
    now_s = 100.0
    quota = Quota(2, 60.0, lambda: now_s)
    assert quota.take("a") == 0
    now_s = 110.0
    assert quota.take("a") == 0
    now_s = 120.0
    assert quota.take("a") == 40.0
    assert quota.take("b") == 0
    now_s = 160.0
    assert quota.take("a") == 0
    assert quota.take("a") == 10.0


def test_what_was_refused_does_not_count() -> None:
    now_s = 0.0
    quota = Quota(1, 60.0, lambda: now_s)
    assert quota.take("a") == 0
    for second in range(1, 60):
        now_s = second
        assert quota.take("a") == 60 - second
    now_s = 60.0
    assert quota.take("a") == 0


def test_no_limit() -> None:
    quota = Quota(0, 60.0, lambda: 0.0)
    assert not any(quota.take("a") for _ in range(1000))


def test_keys_of_which_nothing_counts_are_forgotten() -> None:
    now_s = 0.0
    quota = Quota(5, 60.0, lambda: now_s)
    for key in range(100):
        quota.take(key)
    now_s = 60.0
    quota.take("new")
    assert list(quota._taken_at_s) == ["new"]
