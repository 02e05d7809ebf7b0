"""Down-sampling: what is computed when, what outlives the points, and what goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated_store import GatedStore
from headwater.errors import BadRequest, StorageError
from headwater.model.entry import LAST_ID, NUMBERING
from headwater.model.record import Record
from headwater.model.series import SeriesKey, Unsigned, ValueType
from headwater.services.rollup_computing import spans_of
from headwater.services.rollup_reading import _joined
from headwater.services.rollups import _check
from headwater.store import Columns
from headwater.store.aggregates import Aggregate, Function
from headwater.store.duck import open_duck_store
from headwater.store.windows import Windows
from rollup_farm import SECOND_NS, SOURCE, TARGET, Farm, rule

MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS
COUNT_AND_SUM = [Aggregate(Function.COUNT), Aggregate(Function.SUM)]


class Clock:
    def __init__(self) -> None:
        self.at_ns = 100 * DAY_NS

    def __call__(self) -> int:
        return self.at_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def farm(clock: Clock) -> AsyncIterator[Farm]:
    opened = Farm(GatedStore(), clock, retention_s=10 * 86_400)
    await opened.rollups.load([rule()])
    yield opened
    await opened.close()


async def test_results_are_ordinary_points_with_the_type_of_the_values(farm: Farm, clock: Clock) -> None:
    at_ns = clock.at_ns
    for n, value in enumerate([5, 1, 3]):
        await farm.write("i", at_ns + n, value)
        await farm.write("u", at_ns + n, Unsigned(2**63 + value))
    await farm.write("s", at_ns, "text")
    await farm.keep()
    found = {name: farm.results(f"i.{name}")[at_ns] for name in rule().aggregates}
    assert found == {"count": 3, "sum": 9, "mean": 3.0, "min": 1, "max": 5, "first": 5, "last": 3}
    assert farm.results("u.max") == {at_ns: 2**63 + 5}
    assert farm.catalogue.find(SeriesKey(TARGET, "m"), "u.max", Unsigned) is not None
    assert farm.results("u.sum")[at_ns] == pytest.approx(3 * 2**63)  # of integers that do not fit, a float
    assert not [one for one in farm.catalogue.of_bucket(TARGET) if one.field.startswith("s.")]


async def test_what_the_server_notes_for_itself_is_not_summed_up(farm: Farm, clock: Clock) -> None:
    await farm.write("i", clock.at_ns, 1)
    await farm.ingest.write(Record(SeriesKey(SOURCE, NUMBERING), clock.at_ns, {LAST_ID: 7})).wait()
    await farm.keep()
    assert farm.results("i.count") == {clock.at_ns: 1}
    assert NUMBERING not in {one.key.measurement for one in farm.catalogue.of_bucket(TARGET)}


async def test_late_points_and_deletions_are_caught_up_with(farm: Farm, clock: Clock) -> None:
    at_ns = clock.at_ns - DAY_NS
    await farm.write("f", at_ns, 1.0)
    await farm.write("f", at_ns + MINUTE_NS, 2.0)
    await farm.keep()
    await farm.write("f", at_ns + 1, 4.0)
    assert farm.results("f.sum") == {at_ns: 1.0, at_ns + MINUTE_NS: 2.0}
    await farm.keep()
    assert farm.results("f.sum") == {at_ns: 5.0, at_ns + MINUTE_NS: 2.0}
    await farm.delete("f", at_ns + MINUTE_NS, at_ns + 2 * MINUTE_NS)
    await farm.keep()
    assert farm.results("f.sum") == {at_ns: 5.0}
    assert farm.results("f.mean") == {at_ns: 2.5}


async def test_queries_use_results_and_give_a_longer_history(farm: Farm, clock: Clock) -> None:
    at_ns = clock.at_ns - 5 * DAY_NS
    for n in range(10):
        await farm.write("f", at_ns + n * MINUTE_NS, 1.0)
    await farm.keep()
    (series,) = (one for one in farm.catalogue.of_bucket(SOURCE) if one.field == "f")
    farm.store.delete([series.id], end_ns=at_ns + 8 * MINUTE_NS)  # as retention does: nobody is told
    windows = Windows(at_ns, at_ns + 10 * MINUTE_NS, 5 * MINUTE_NS)
    found = await farm.reading.windows([[series]], COUNT_AND_SUM, windows)
    assert found.column("count").to_pylist() == [5, 5]
    clock.at_ns += 8 * DAY_NS
    await farm.write("f", at_ns, 7.0)  # it begins before what the source keeps: it stays as it is
    await farm.keep()
    assert farm.results("f.count")[at_ns] == 1
    found = await farm.reading.windows([[series]], COUNT_AND_SUM, windows)
    assert found.column("count").to_pylist() == [5, 5]


async def test_results_expire(clock: Clock) -> None:
    farm = Farm(GatedStore(), clock)
    await farm.rollups.load([rule(keep_s=3 * 86_400)])
    at_ns = clock.at_ns - DAY_NS
    await farm.write("f", at_ns, 1.0)
    await farm.write("f", at_ns + 2 * DAY_NS, 2.0)
    await farm.keep()
    clock.at_ns += 3 * DAY_NS
    await farm.keep()
    assert farm.results("f.sum") == {at_ns + 2 * DAY_NS: 2.0}
    helped, raw = await farm.answers(["f"], COUNT_AND_SUM, Windows(0, clock.at_ns, DAY_NS))
    assert helped.to_pylist() == raw.to_pylist()
    assert helped.num_rows == 2
    await farm.close()


async def test_one_mark_for_each_window_until_it_is_computed(farm: Farm, clock: Clock) -> None:
    for n in range(20):
        await farm.write("f", clock.at_ns + n, 1.0)
    (state,) = farm.rollups.of(SOURCE)
    assert state.dirty == {clock.at_ns: 1}
    await farm.keep()
    assert state.dirty == {}
    await farm.write("f", clock.at_ns, 1.0)
    assert state.dirty == {clock.at_ns: 2}


async def test_what_is_written_while_a_window_is_computed_is_not_lost(farm: Farm, clock: Clock) -> None:
    store = farm.store
    assert isinstance(store, GatedStore)
    await farm.keep()
    await farm.write("f", clock.at_ns, 1.0)
    store.shut()
    keeping = asyncio.create_task(farm.keep())
    written = asyncio.create_task(farm.write("f", clock.at_ns + 1, 2.0))
    for _ in range(5):
        await asyncio.sleep(0)
    store.open()
    await asyncio.gather(keeping, written)
    await farm.keep()
    assert farm.results("f.sum") == {clock.at_ns: 3.0}


async def test_a_failed_commit_takes_its_mark_with_it(farm: Farm, clock: Clock) -> None:
    store = farm.store
    assert isinstance(store, GatedStore)
    await farm.keep()
    store.failures.append(StorageError("full"))
    with pytest.raises(StorageError):
        await farm.write("f", clock.at_ns, 1.0)
    await farm.write("f", clock.at_ns, 2.0)
    again = Farm(store, clock)
    await again.rollups.load([rule()])
    assert set(again.rollups.of(SOURCE)[0].dirty) == {clock.at_ns}
    await again.close()


async def test_points_that_are_loaded(farm: Farm, clock: Clock) -> None:
    await farm.rollups.load([rule(), rule(120, id_=2, target=TARGET + 1)])
    minutes = [clock.at_ns // (120 * SECOND_NS) * 120 * SECOND_NS - n * 60 * SECOND_NS for n in range(4)]
    for at_ns in minutes:
        await farm.write("f", at_ns, 1.0)
    await farm.keep()
    key = SeriesKey(SOURCE, "m")
    series = [
        (key, "f", ValueType.FLOAT),
        (key, "n", ValueType.INTEGER),
        (key._replace(bucket_id=2), "f", ValueType.FLOAT),
    ]
    floats, integers = Columns(ValueType.FLOAT), Columns(ValueType.INTEGER)
    floats.append(0, minutes[3] + 5, 3.0)
    floats.append(2, minutes[1], 9.0)
    integers.append(1, minutes[2], 7)
    await farm.ingest.load(series, {ValueType.FLOAT: floats, ValueType.INTEGER: integers}).wait()
    narrow, wide = farm.rollups.of(SOURCE)
    assert sorted(narrow.dirty) == [minutes[3], minutes[2]]
    assert sorted(wide.dirty) == [minutes[3] - 60 * SECOND_NS, minutes[2]]
    again = Farm(farm.store, clock)
    await again.rollups.load([rule(), rule(120, id_=2, target=TARGET + 1)])
    assert [sorted(one.dirty) for one in again.rollups.of(SOURCE)] == [sorted(narrow.dirty), sorted(wide.dirty)]
    await again.keep()
    assert again.results("f.sum") == {minutes[3]: 4.0} | dict.fromkeys(minutes[:3], 1.0)
    assert again.results("n.sum", TARGET + 1) == {minutes[2]: 7}
    await again.close()


async def test_a_rule_resumes_with_its_history_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = open_duck_store(tmp_path, memory_limit_mb=256)
    farm = Farm(store, clock)
    for n in range(50):
        await farm.write("f", clock.at_ns - n * DAY_NS, 1.0)
    await farm.rollups.load([rule(3600)])
    await farm.keep()
    assert len(farm.results("f.count")) == 50
    await farm.close()
    farm = Farm(store, clock)
    await farm.rollups.load([rule(3600)])
    (state,) = farm.rollups.of(SOURCE)
    assert (state.is_filled, state.dirty) == (True, {})
    await farm.close()
    store.close()


async def test_rules_that_are_gone_leave_nothing_in_the_way(farm: Farm, clock: Clock) -> None:
    await farm.write("f", clock.at_ns, 1.0)
    await farm.keep()
    await farm.rollups.drop_bucket(SOURCE)
    assert farm.rollups.of(SOURCE) == []
    assert list(farm.catalogue.of_bucket(TARGET)) == []
    assert [one for one in farm.store.catalogue() if one.key.bucket_id == TARGET] == []
    await farm.write("f", clock.at_ns, 2.0)
    assert list(farm.catalogue.of_bucket(TARGET)) == []


@pytest.mark.parametrize(
    ("window_s", "functions", "keep_s"),
    [
        (59, ("mean",), None),
        (7 * 60, ("mean",), None),
        (90_000, ("mean",), None),
        (-86_400, ("mean",), None),
        (400 * 86_400, ("mean",), None),
        (60, (), None),
        (60, ("median",), None),
        (60, ("mean",), 60),
        (2 * 86_400, ("mean",), 86_400),
    ],
)
def test_rules_that_cannot_be(window_s: int, functions: tuple[str, ...], keep_s: int | None) -> None:
    with pytest.raises(BadRequest):
        _check(window_s, [Function(name) for name in functions], keep_s)


@given(st.sets(st.integers(0, 40)), st.integers(1, 5))
def test_spans_are_joined_where_gaps_are_least(numbers: set[int], most: int) -> None:
    spans = spans_of(sorted(numbers), 1)
    assert {n for first, end in spans for n in range(first, end)} == numbers
    joined = _joined(spans, most)
    assert len(joined) == min(most, len(spans))
    assert numbers <= {n for first, end in joined for n in range(first, end)}
