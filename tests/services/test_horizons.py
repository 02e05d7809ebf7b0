"""From when on points count, asked at moments that a test chooses."""

from __future__ import annotations

import pytest

from headwater.errors import BadRequest
from headwater.services.horizons import Horizons

HOUR_NS = 3600 * 10**9
NOW_NS = 500_000 * HOUR_NS


def test_what_is_older_than_the_retention_does_not_count() -> None:
    horizons = Horizons({1: 3600}.get, lambda: NOW_NS)
    assert horizons.horizon_ns(1) == NOW_NS - HOUR_NS
    assert horizons.horizon_ns(2) is None


@pytest.mark.parametrize(
    ("asked_ns", "begins_ns"),
    [(None, NOW_NS - HOUR_NS), (0, NOW_NS - HOUR_NS), (NOW_NS - HOUR_NS + 1, NOW_NS - HOUR_NS + 1)],
)
def test_a_query_begins_at_the_horizon_at_the_earliest(asked_ns: int | None, begins_ns: int) -> None:
    horizons = Horizons({1: 3600}.get, lambda: NOW_NS)
    assert horizons.start_ns(1, asked_ns) == begins_ns
    assert horizons.start_ns(2, asked_ns) == asked_ns


def test_times_that_have_expired_are_refused() -> None:
    horizons = Horizons({1: 3600}.get, lambda: NOW_NS)
    horizons.check(1, NOW_NS - HOUR_NS)
    horizons.check(2, 0)
    with pytest.raises(BadRequest, match="longer ago than entries are kept here"):
        horizons.check(1, NOW_NS - HOUR_NS - 1)


def test_a_horizon_can_be_held() -> None:
    now_ns = NOW_NS
    horizons = Horizons({1: 3600}.get, lambda: now_ns)
    with horizons.held(1) as horizon_ns:
        now_ns += 5
        assert horizons.horizon_ns(1) == horizon_ns == NOW_NS - HOUR_NS
    assert horizons.horizon_ns(1) == NOW_NS + 5 - HOUR_NS
