"""Deleting points of a bucket that is down-sampled: results follow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headwater.services.selecting import SeriesFilter
from headwater.store.memory import MemoryStore
from headwater.store.windows import EARLIEST_NS
from rollup_farm import SECOND_NS, SOURCE, TARGET, Farm, rule

HOUR_NS = 3600 * SECOND_NS
NOW_NS = 1000 * HOUR_NS


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    opened = Farm(MemoryStore(), lambda: NOW_NS)
    await opened.rollups.load([rule()])
    for n in range(5):
        await opened.write("f", NOW_NS - n * HOUR_NS, 1.0)
        await opened.write("g", NOW_NS - n * HOUR_NS, 2.0)
    await opened.keep()
    assert len(opened.results("f.sum")) == len(opened.results("g.sum")) == 5
    yield opened
    await opened.close()


async def test_a_span(farm: Farm) -> None:
    await farm.deleting.delete(SeriesFilter(SOURCE), start_ns=NOW_NS - HOUR_NS, end_ns=NOW_NS)
    await farm.keep()
    assert sorted(farm.results("f.sum")) == [NOW_NS - n * HOUR_NS for n in (4, 3, 2, 0)]


async def test_all_from_a_time_on(farm: Farm) -> None:
    await farm.deleting.delete(SeriesFilter(SOURCE), start_ns=NOW_NS - 2 * HOUR_NS)
    (state,) = farm.rollups.of(SOURCE)
    assert state.filled_ns == NOW_NS - 2 * HOUR_NS
    await farm.keep()
    assert sorted(farm.results("f.sum")) == [NOW_NS - n * HOUR_NS for n in (4, 3)]


async def test_the_whole_bucket_takes_all_results_along_at_once(farm: Farm) -> None:
    await farm.deleting.clear_bucket(SOURCE)
    assert farm.catalogue.series_ids(TARGET) == []
    assert list(farm.store.catalogue()) == []
    (state,) = farm.rollups.of(SOURCE)
    assert state.filled_ns == EARLIEST_NS
    await farm.write("f", NOW_NS, 3.0)
    await farm.keep()
    assert farm.results("f.sum") == {NOW_NS: 3.0}
    assert farm.results("g.sum") == {}
