"""Deleting points of a bucket that is down-sampled: results follow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gated_store import until
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


async def test_a_clear_in_the_middle_of_which_the_process_ends_leaves_no_old_results(farm: Farm) -> None:
    (state,) = farm.rollups.of(SOURCE)
    async with state.computing:  # so far a clear comes while a rule is at work
        clearing = asyncio.ensure_future(farm.deleting.clear_bucket(SOURCE))
        await asyncio.sleep(0)
        await farm.write("f", NOW_NS + HOUR_NS, 7.0)
        again = Farm(farm.store, lambda: NOW_NS)
        await again.rollups.load([rule()])
        await again.deleting.finish_interrupted()
        await again.keep()
        assert again.results("f.sum") == {NOW_NS + HOUR_NS: 7.0}
        assert again.results("g.sum") == {}
        await again.close()
    await clearing


async def test_results_that_were_about_to_go_when_the_process_ended_are_gone(farm: Farm) -> None:
    store = farm.store
    assert isinstance(store, MemoryStore)
    delete, may_delete = store.delete, threading.Event()
    store.delete = lambda *a, **k: (may_delete.wait(10), delete(*a, **k))[1]  # type: ignore[method-assign]
    clearing = asyncio.ensure_future(farm.deleting.clear_bucket(SOURCE))
    await until(lambda: farm.catalogue.series_ids(TARGET) == [])
    store.delete = delete  # type: ignore[method-assign]
    await asyncio.sleep(0.01)
    again = Farm(store, lambda: NOW_NS)
    await again.rollups.load([rule()])
    await again.deleting.finish_interrupted()
    await again.write("f", NOW_NS + HOUR_NS, 7.0)
    await again.keep()
    assert again.results("f.sum") == {NOW_NS + HOUR_NS: 7.0}
    assert again.results("g.sum") == {}
    await again.close()
    may_delete.set()
    await clearing


async def test_a_deletion_while_the_keeper_looks_for_what_is_to_be_computed(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await farm.deleting.delete(SeriesFilter(SOURCE), start_ns=NOW_NS - HOUR_NS)
    windows, looks, may_look = farm.store.windows, threading.Event(), threading.Event()

    def look(*arguments: Any, **options: Any) -> Any:
        looks.set()
        assert may_look.wait(10)
        return windows(*arguments, **options)

    monkeypatch.setattr(farm.store, "windows", look)
    keeping = asyncio.ensure_future(farm.keep())
    await until(looks.is_set)
    await farm.deleting.delete(SeriesFilter(SOURCE), start_ns=NOW_NS - 3 * HOUR_NS)
    may_look.set()
    await keeping
    await farm.keep()
    assert farm.results("f.sum") == {NOW_NS - 4 * HOUR_NS: 1.0}


async def test_results_outlive_their_points_also_when_the_retention_becomes_longer(farm: Farm) -> None:
    farm.retention_s = 2 * 3600 + 1800
    await farm.rollups.note_lost([SOURCE])
    horizon_ns = NOW_NS - farm.retention_s * SECOND_NS
    await farm.ingest.run_between_commits(
        lambda: farm.store.delete(farm.catalogue.series_ids(SOURCE), end_ns=horizon_ns)
    )
    farm.retention_s = None
    again = Farm(farm.store, lambda: NOW_NS)
    await again.rollups.load([rule()])
    for one in (farm, again):
        await one.deleting.delete(SeriesFilter(SOURCE), start_ns=NOW_NS - 4 * HOUR_NS, end_ns=NOW_NS - HOUR_NS)
        await one.write("f", NOW_NS - 4 * HOUR_NS + 1, 9.0)
        await one.keep()
        assert sorted(one.results("f.sum")) == [NOW_NS - n * HOUR_NS for n in (4, 3, 1, 0)]
        assert set(one.results("f.sum").values()) == {1.0}
    await again.close()
