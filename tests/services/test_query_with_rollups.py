"""Queries by filter over a bucket that is down-sampled."""

from __future__ import annotations

from contextlib import closing

from headwater.services.horizons import Horizons
from headwater.services.query import Query
from headwater.services.selecting import SeriesFilter
from headwater.settings import QuerySettings
from headwater.store.aggregates import Aggregate, Function
from headwater.store.filling import Filling
from headwater.store.memory import MemoryStore
from headwater.store.windows import Windows
from rollup_farm import SECOND_NS, SOURCE, Farm, rule

MINUTE_NS, DAY_S = 60 * SECOND_NS, 86_400
NOW_NS = 100 * DAY_S * SECOND_NS


async def test_results_outlive_what_has_expired_and_fill_as_points_do() -> None:
    farm = Farm(MemoryStore(), lambda: NOW_NS, retention_s=DAY_S)
    await farm.rollups.load([rule()])
    old_ns = NOW_NS - 2 * DAY_S * SECOND_NS
    for at_ns in (old_ns, old_ns + 1, NOW_NS - MINUTE_NS):
        await farm.write("f", at_ns, 2.0)
    horizons = Horizons(lambda _: DAY_S, lambda: NOW_NS)
    wanted = SeriesFilter(SOURCE)
    windows = Windows(old_ns, NOW_NS, 10 * MINUTE_NS)
    with closing(Query(farm.store, farm.catalogue, QuerySettings(), horizons)) as query:
        query.use_rollups(farm.rollups)
        counts = [Aggregate(Function.COUNT)]
        before = await query.windows(wanted, counts, windows)
        assert before.table.column("count").to_pylist() == [1]  # nothing is down-sampled yet
        await farm.keep()
        found = await query.windows(wanted, counts, windows)
        assert found.table.column("count").to_pylist() == [2, 1]
        filled = await query.windows(wanted, counts, windows, filling=Filling.NULL)
        assert filled.table.num_rows == windows.count()
    await farm.close()
