"""Random lives of a down-sampled bucket: whatever happens, queries with results say what the points themselves say."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.model.series import Unsigned
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.memory import MemoryStore
from headwater.store.windows import Windows
from rollup_farm import SECOND_NS, SOURCE, Farm, rule

MINUTE_NS = 60 * SECOND_NS
SPAN_NS = 150 * MINUTE_NS
EXACT = ("count", "sum", "mean", "min", "max", "spread")
VALUES = {
    "f": st.floats(-1e6, 1e6) | st.just(math.nan) | st.sampled_from([1.0, 2.5]),
    "i": st.integers(-1000, 1000),
    "u": st.integers(0, 1000).map(Unsigned),
    "mixed": st.integers(0, 9) | st.floats(0, 9),
}
TIMES = st.integers(-SPAN_NS, SPAN_NS) | st.integers(-150, 150).map(lambda n: n * MINUTE_NS)
SPANS = st.tuples(TIMES, TIMES).map(lambda pair: (min(pair), max(pair) + 1))
WRITES = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just("write"), st.just(name), TIMES, VALUES[name], st.sampled_from(["", "a"]))
)
DELETES = st.tuples(st.just("delete"), st.sampled_from([None, *sorted(VALUES)]), SPANS | st.just((None, None)))
OTHERS = st.sampled_from([("keep",), ("keep",), ("restart",), ("clear",), ("rule",)])
LIVES = st.lists(st.lists(WRITES, max_size=12).map(tuple) | DELETES | OTHERS, max_size=12)
QUERIES = st.tuples(
    SPANS,
    st.sampled_from([1, 5, 7, 15, 60, 60, 180]),
    st.sampled_from([0, 0, 30, 60, 90]),
    st.sampled_from([None, None, "Asia/Kolkata", "Europe/Berlin"]),
)


def assert_same(helped: pa.Table, raw: pa.Table) -> None:
    assert helped.schema == raw.schema
    assert helped.select(["group", "at_ns"]).to_pylist() == raw.select(["group", "at_ns"]).to_pylist()
    for name in raw.column_names[2:]:
        for ours, theirs in zip(helped.column(name).to_pylist(), raw.column(name).to_pylist(), strict=True):
            assert is_same(ours, theirs), f"{name}: {ours} instead of {theirs}"


def is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float):
        return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-6)
    return bool(ours == theirs)


async def live(store: Store, life: list[Any], queries: list[Any]) -> None:
    now_ns = 10 * MINUTE_NS
    rules = [rule(300), rule(3600, id_=2, target=101)]
    farm = Farm(store, lambda: now_ns)
    await farm.rollups.load(rules)
    for step in [*life, ("ask",), ("keep",), ("ask",)]:
        match step:
            case ("delete", field, (start_ns, end_ns)):
                await farm.delete(field, start_ns, end_ns)
            case ("clear",):
                await farm.deleting.clear_bucket(SOURCE)
            case ("keep",):
                await farm.keep()
            case ("rule",):
                rules = [rules[0], rule(900, id_=len(rules) + 10 + rules[-1].id, target=rules[-1].target_bucket_id + 1)]
                await farm.rollups.load(rules)
            case ("restart",):
                await farm.close()
                farm = Farm(store, lambda: now_ns)
                await farm.rollups.load(rules)
            case ("ask",):
                await ask(farm, queries)
            case writes:
                for _, field, at_ns, value, tag in writes:
                    await farm.write(field, at_ns, value, tag)
        await ask(farm, queries[:1])
    await farm.close()


async def ask(farm: Farm, queries: list[Any]) -> None:
    for (start_ns, end_ns), minutes, offset, zone in queries:
        windows = Windows(start_ns, end_ns, minutes * MINUTE_NS, offset_ns=offset * MINUTE_NS, zone=zone)
        aggregates = [Aggregate(Function(name)) for name in EXACT]
        assert_same(*await farm.answers(["f", "i", "u", "mixed"], aggregates, windows))
        assert_same(*await farm.answers(["i", "i"], aggregates, windows))
        for field in ("f", "u"):
            assert_same(*await farm.answers([field], [Aggregate(Function.MEAN), Aggregate(Function.MAX)], windows))


@settings(max_examples=60, deadline=None)
@given(LIVES, st.lists(QUERIES, min_size=1, max_size=3))
def test_results_say_what_points_say(life: list[Any], queries: list[Any]) -> None:
    asyncio.run(live(MemoryStore(), life, queries))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TIMES, VALUES["i"], st.booleans()), max_size=30),
    QUERIES,
)
def test_first_and_last_of_one_series(points: list[tuple[int, int, bool]], query: Any) -> None:
    async def script() -> None:
        farm = Farm(MemoryStore(), lambda: 0)
        await farm.rollups.load([rule(300)])
        for at_ns, value, keeps in points:
            await farm.write("i", at_ns, value)
            if keeps:
                await farm.keep()
        (start_ns, end_ns), minutes, offset, zone = query
        windows = Windows(start_ns, end_ns, minutes * MINUTE_NS, offset_ns=offset * MINUTE_NS, zone=zone)
        assert_same(
            *await farm.answers(["i"], [Aggregate(Function.FIRST), Aggregate(Function.LAST)], windows),
        )
        await farm.close()

    asyncio.run(script())
