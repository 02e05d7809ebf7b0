"""Ingest: one commit for many, receipts that tell the truth, back-pressure, and refusals that leave nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_store import GatedStore, Point, until
from headwater.errors import BadRequest, Overloaded, StorageError
from headwater.model.record import Record
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, TYPE_OF, UNSIGNED_MAX, SeriesKey, Unsigned, Value
from headwater.services.catalogue import Catalogue
from headwater.services.ingest import HELD_POINTS, READ_POINTS, TOLD_AT_ONCE, Ingest, IngestLimits, Receipt

KEY = SeriesKey(1, "entry")
NEVER_S = 3_600.0
"""A flush interval that does not end while a test runs."""


class Plant(Ingest):
    """Ingest over a gated store, and short ways to use it."""

    def __init__(self, limits: IngestLimits) -> None:
        self.store = GatedStore()
        self.catalogue = Catalogue()
        super().__init__(self.store, self.catalogue, limits)

    def put(self, at_ns: int, *, bucket_id: int = 1, **values: Value) -> Receipt:
        return self.write(Record(SeriesKey(bucket_id, "entry"), at_ns, values or {"field1": float(at_ns)}))

    def series_id(self, field: str = "field1", value_class: type = float) -> int:
        series_id = self.catalogue.find(KEY, field, value_class)
        assert series_id is not None
        return series_id

    @property
    def stored_times(self) -> list[int]:
        """Of every series that the store knows."""
        series_ids = [series.id for series in self.store.catalogue()]
        times: list[int] = self.store.rows(series_ids).column("at_ns").to_pylist()
        return times


@asynccontextmanager
async def open_plant(**limits: Any) -> AsyncIterator[Plant]:
    plant = Plant(IngestLimits(**limits))
    try:
        yield plant
    finally:
        plant.store.open()
        await plant.close()
    for appended in plant.store.appended:
        assert all(ids == times == values for ids, times, values in appended.lengths), "columns of unequal length"


def outcome_of(receipt: Receipt) -> list[Exception | None]:
    outcomes: list[Exception | None] = []
    receipt.add_callback(outcomes.append)
    return outcomes


# -- group commit ---------------------------------------------------------------------------------------------------


async def test_one_commit_for_many_records() -> None:
    async with open_plant(flush_interval_s=0.005) as plant:
        receipts = [plant.put(at_ns) for at_ns in range(1_000)]
        assert len(set(map(id, receipts))) == 1
        await receipts[0].wait()
        assert len(plant.store.appended) == 1
        assert plant.stored_times == list(range(1_000))
        assert (plant.stored_points, plant.commits, plant.pending_points) == (1_000, 1, 0)


async def test_a_lone_record_is_committed_after_the_interval_without_further_ado() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        await plant.put(1).wait()
        await plant.put(2).wait()
        assert [len(appended.points) for appended in plant.store.appended] == [1, 1]


async def test_a_receipt_resolves_only_after_the_append_has_returned() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        plant.store.shut()
        outcome = outcome_of(plant.put(1))
        await until(lambda: plant.store.appended)
        for _ in range(20):
            await asyncio.sleep(0)
        assert outcome == []
        assert plant.store.commits == 0
        plant.store.open()
        await until(lambda: outcome)
        assert outcome == [None]
        assert plant.store.commits == 1


async def test_the_next_batch_fills_while_one_is_committed() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        plant.store.shut()
        first = plant.put(1)
        await until(lambda: plant.store.appended)
        later = [plant.put(at_ns) for at_ns in (2, 3, 4)]
        assert set(later) == {later[0]}
        assert later[0] is not first
        plant.store.open()
        await later[0].wait()
        assert [[point.at_ns for point in appended.points] for appended in plant.store.appended] == [[1], [2, 3, 4]]


async def test_enough_points_are_committed_without_waiting() -> None:
    async with open_plant(flush_interval_s=NEVER_S, flush_points=10) as plant:
        receipts = [plant.put(at_ns) for at_ns in range(10)]
        await receipts[-1].wait()
        assert [len(appended.points) for appended in plant.store.appended] == [10]


async def test_every_type_has_its_column() -> None:
    async with open_plant() as plant:
        values: dict[str, Value] = {"f": 1.5, "i": -1, "u": Unsigned(UNSIGNED_MAX), "b": True, "s": "é"}
        await plant.put(7, **values).wait()
        rows = {
            field: plant.store.rows([plant.series_id(field, type(value))]).to_pylist()
            for field, value in values.items()
        }
        assert rows == {
            field: [{"at_ns": 7, str(plant.series_id(field, type(value))): value}] for field, value in values.items()
        }


async def test_a_field_of_two_types_is_two_series() -> None:
    async with open_plant() as plant:
        await plant.put(1, field1=1.0).wait()
        await plant.put(1, field1="one").wait()
        assert plant.series_id("field1", float) != plant.series_id("field1", str)
        assert [len(appended.new_series) for appended in plant.store.appended] == [1, 1]


async def test_a_series_is_introduced_once() -> None:
    async with open_plant() as plant:
        await plant.put(1).wait()
        await plant.put(2).wait()
        assert [[s.id for s in appended.new_series] for appended in plant.store.appended] == [[plant.series_id()], []]


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [StorageError("the disk is full"), RuntimeError("odd"), MemoryError()])
async def test_a_failing_commit_fails_exactly_its_receipts(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        before = plant.put(1)
        await before.wait()
        plant.store.failures = [failure]
        plant.store.shut()
        failing = plant.put(2, field1=2.0, fresh=2.0)
        await until(lambda: len(plant.store.appended) == 2)
        after = plant.put(3, field1=3.0, fresh=3.0, fresher="yes")
        plant.store.open()
        with pytest.raises(StorageError):
            await failing.wait()
        await after.wait()
        await before.wait()
        assert plant.stored_times == [1, 3]
        assert (plant.stored_points, plant.commits) == (4, 2)
        assert "storing failed" in caplog.text
        await plant.put(4, fresh=4.0).wait()
        introduced = [[series.field for series in appended.new_series] for appended in plant.store.appended]
        assert introduced == [["field1"], ["fresh"], ["fresh", "fresher"], []]


async def test_series_of_several_failed_commits_are_introduced_again() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        plant.store.failures = [StorageError("one"), StorageError("two")]
        for at_ns, field in ((1, "a"), (2, "b")):
            with pytest.raises(StorageError):
                await plant.put(at_ns, **{field: 1.0}).wait()
        await plant.put(3, a=1.0, b=2.0).wait()
        assert [series.field for series in plant.store.catalogue()] == ["a", "b"]
        assert plant.pending_points == 0


# -- refusals leave nothing -----------------------------------------------------------------------------------------

IMPOSSIBLE: list[tuple[str, int, dict[str, Any]]] = [
    ("integer too great", 5, {"a": 1.0, "i": INTEGER_MAX + 1}),
    ("integer too small", 5, {"i": INTEGER_MIN - 1, "a": 1.0}),
    ("unsigned too great", 5, {"a": 1.0, "u": Unsigned(UNSIGNED_MAX + 1)}),
    ("unsigned below zero", 5, {"u": Unsigned(-1)}),
    ("time too late", INTEGER_MAX + 1, {"a": 1.0, "i": 1, "s": "x"}),
    ("time too early", INTEGER_MIN - 1, {"s": "x", "a": 1.0}),
    ("no value", 5, {"a": 1.0, "n": None}),
    ("a list", 5, {"a": 1.0, "n": [1]}),
    ("bytes", 5, {"n": b"x"}),
]


@pytest.mark.parametrize(("name", "at_ns", "values"), IMPOSSIBLE)
@pytest.mark.parametrize("are_known", [False, True])
async def test_what_no_series_can_hold_leaves_nothing_behind(
    name: str, at_ns: int, values: dict[str, Any], *, are_known: bool
) -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        if are_known:
            plant.put(1, a=0.0, i=0, u=Unsigned(0), s="")
            await plant.drain()
        plant.put(2, a=2.0, i=2, s="two")
        known = sorted(plant.catalogue.of_bucket(1))
        with pytest.raises(BadRequest):
            plant.write(Record(KEY, at_ns, values))
        assert sorted(plant.catalogue.of_bucket(1)) == known, "no series was made"
        plant.put(3, a=3.0, i=3, s="three")
        await plant.drain()
        appended = plant.store.appended[-1]
        expected = [
            Point(plant.series_id(field, value_class), at, value)
            for field, value_class, both in (("a", float, (2.0, 3.0)), ("i", int, (2, 3)), ("s", str, ("two", "three")))
            for at, value in zip((2, 3), both, strict=True)
        ]
        assert sorted(appended.points) == sorted(expected)
        assert plant.stored_points == (10 if are_known else 6)


async def test_a_batch_of_nothing_but_refused_records_is_no_obstacle() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        with pytest.raises(BadRequest):
            plant.put(1, i=INTEGER_MAX + 1)
        await asyncio.sleep(0)
        await plant.drain()
        assert plant.pending_points == 0
        await plant.put(2).wait()
        assert plant.stored_times == [2]


async def test_numbers_that_are_none_are_stored() -> None:
    async with open_plant() as plant:
        await plant.put(1, f=math.nan, g=math.inf).wait()
        stored = plant.store.rows([plant.series_id("f"), plant.series_id("g")]).to_pylist()[0]
        assert math.isnan(stored[str(plant.series_id("f"))])
        assert stored[str(plant.series_id("g"))] == math.inf


_VALUES = st.one_of(
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.integers(INTEGER_MIN - 2, INTEGER_MIN + 2),
    st.integers(INTEGER_MAX - 2, INTEGER_MAX + 2),
    st.integers(UNSIGNED_MAX - 2, UNSIGNED_MAX + 2).map(Unsigned),
    st.integers(-2, 2).map(Unsigned),
)
_RECORDS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 50), st.sampled_from([INTEGER_MAX, INTEGER_MAX + 1, INTEGER_MIN, INTEGER_MIN - 1])),
        st.dictionaries(st.sampled_from("abc"), _VALUES, min_size=1),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(_RECORDS)
def test_any_mix_of_good_and_bad_records_stores_exactly_the_good_ones(
    records: list[tuple[int, dict[str, Any]]],
) -> None:
    async def run() -> None:
        async with open_plant(flush_interval_s=NEVER_S) as plant:
            expected: dict[tuple[str, type, int], Any] = {}
            for at_ns, values in records:
                if is_possible(at_ns, values):
                    plant.put(at_ns, **values)
                    expected |= {(field, type(value), at_ns): value for field, value in values.items()}
                else:
                    with pytest.raises(BadRequest):
                        plant.put(at_ns, **values)
            await plant.drain()
            stored = {
                (series.field, value_class, row["at_ns"]): row[str(series.id)]
                for value_class, value_type in TYPE_OF.items()
                for series in plant.store.catalogue()
                if series.type is value_type
                for row in plant.store.rows([series.id]).to_pylist()
            }
            assert stored == expected
            assert {(s.field, s.type) for s in plant.store.catalogue()} == {(f, TYPE_OF[c]) for f, c, _ in expected}

    asyncio.run(run())


def is_possible(at_ns: int, values: dict[str, Any]) -> bool:
    limits = {int: (INTEGER_MIN, INTEGER_MAX), Unsigned: (0, UNSIGNED_MAX)}
    ranges = [(value, limits[type(value)]) for value in values.values() if type(value) in limits]
    return INTEGER_MIN <= at_ns <= INTEGER_MAX and all(least <= value <= most for value, (least, most) in ranges)


# -- back-pressure --------------------------------------------------------------------------------------------------


async def test_full_until_enough_is_on_disk() -> None:
    async with open_plant(flush_interval_s=0.0, flush_points=5, max_pending_points=10) as plant:
        plant.store.shut()
        for at_ns in range(9):
            plant.put(at_ns)
        assert not plant.is_full
        await plant.room()
        plant.put(9)
        assert plant.is_full
        called: list[bool] = []
        plant.when_room(lambda: called.append(plant.is_full))
        waiting = asyncio.create_task(plant.room())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert called == []
        plant.store.open()
        await waiting
        assert called == [False]
        assert not plant.is_full


async def test_those_who_wait_are_called_only_while_there_is_room() -> None:
    """Whoever resumes may bring more at once: the next one then waits on, in the order of asking."""
    async with open_plant(flush_interval_s=0.0, flush_points=1, max_pending_points=4) as plant:
        called: list[int] = []

        def resume(number: int) -> Callable[[], None]:
            def bring_much() -> None:
                assert not plant.is_full
                called.append(number)
                for at_ns in range(10 * number, 10 * number + 6):
                    plant.put(at_ns)

            return bring_much

        plant.store.shut()
        for at_ns in range(5):
            plant.put(at_ns)
        for number in (1, 2, 3):
            plant.when_room(resume(number))
        plant.store.open()
        most = 0
        while len(called) < 3:
            most = max(most, plant.pending_points)
            await asyncio.sleep(0)
        assert called == [1, 2, 3]
        assert most <= 4 + 6
        await plant.drain()
        assert plant.stored_points == 5 + 3 * 6


async def test_a_flood_beyond_all_measure_is_refused_and_what_was_taken_is_kept() -> None:
    async with open_plant(flush_interval_s=0.0, flush_points=100, max_pending_points=1_000) as plant:
        plant.store.shut()
        receipts: list[Receipt] = []

        def flood() -> None:
            for at_ns in range(3_000 + READ_POINTS):
                receipts.append(plant.put(at_ns))

        with pytest.raises(Overloaded):
            flood()
        taken = len(receipts)
        assert taken >= 2_000 + READ_POINTS
        plant.store.open()
        await receipts[-1].wait()
        await plant.put(-1).wait()
        assert plant.stored_points == taken + 1


async def test_records_that_wait_for_a_look_up_count_as_waiting() -> None:
    async with open_plant(max_pending_points=5 * HELD_POINTS) as plant:
        plant.hold_room(4)
        assert not plant.is_full
        plant.hold_room()
        assert plant.is_full
        waiting = asyncio.create_task(plant.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        plant.free_room(2)
        await waiting
        assert not plant.is_full
        plant.free_room(3)
        assert plant.pending_points == 0


# -- observers ------------------------------------------------------------------------------------------------------


async def test_observers_are_told_after_the_commit_and_in_order() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        seen: list[int] = []
        plant.watch(1, lambda record: seen.append(record.at_ns))
        plant.store.shut()
        receipt = plant.put(3)
        plant.put(1)
        plant.put(2, bucket_id=2)
        await until(lambda: plant.store.appended)
        assert seen == []
        plant.store.open()
        await receipt.wait()
        await until(lambda: seen)
        assert seen == [3, 1]


async def test_observers_of_a_large_batch_leave_others_the_loop_and_are_waited_for() -> None:
    count = 10 * TOLD_AT_ONCE
    async with open_plant(flush_interval_s=0.0, max_pending_points=count) as plant:
        seen: list[int] = []
        plant.watch(1, lambda record: seen.append(record.at_ns))
        for at_ns in range(count):
            receipt = plant.put(at_ns)
        await receipt.wait()
        assert len(seen) < count
        assert plant.pending_points >= count - len(seen) - TOLD_AT_ONCE, "records nobody has heard of yet are bounded"
        steps = 0
        while len(seen) < count:
            steps += 1
            await asyncio.sleep(0)
        assert steps >= 5
        assert seen == list(range(count))
        assert plant.pending_points == 0


async def test_observers_are_not_told_of_what_failed() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        seen: list[int] = []
        plant.watch(1, lambda record: seen.append(record.at_ns))
        plant.store.failures = [StorageError("the disk is full")]
        with pytest.raises(StorageError):
            await plant.put(1).wait()
        with pytest.raises(BadRequest):
            plant.put(2, i=INTEGER_MAX + 1)
        await plant.put(3).wait()
        await until(lambda: seen)
        assert seen == [3]


async def test_observers_come_and_go() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        seen: list[tuple[str, int]] = []
        unwatch_first = plant.watch(1, lambda record: seen.append(("first", record.at_ns)))

        def last_once(record: Record) -> None:
            seen.append(("last", record.at_ns))
            unwatch_last()

        unwatch_last = plant.watch(1, last_once)
        await plant.put(1).wait()
        await until(lambda: len(seen) == 2)
        unwatch_first()
        unwatch_first()
        await plant.put(2).wait()
        await plant.put(3).wait()
        assert seen == [("first", 1), ("last", 1)]
        assert plant._observers == {}


async def test_a_broken_observer_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        seen: list[int] = []

        def fail(record: Record) -> None:
            raise RuntimeError("a broken listener")

        plant.watch(1, fail)
        plant.watch(1, lambda record: seen.append(record.at_ns))
        await plant.put(1).wait()
        await until(lambda: seen)
        assert "an observer failed" in caplog.text


# -- in step with deletions, and the end ----------------------------------------------------------------------------


async def test_drain_waits_for_everything_taken_in() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        await plant.drain()
        plant.put(1)
        plant.put(2)
        await plant.drain()
        assert plant.stored_times == [1, 2]
        plant.store.failures = [StorageError("the disk is full")]
        plant.put(3)
        await plant.drain()
        assert plant.pending_points == 0


async def test_drain_behind_a_running_commit() -> None:
    async with open_plant(flush_interval_s=NEVER_S, flush_points=1) as plant:
        plant.store.shut()
        plant.put(1)
        plant._limits = IngestLimits(NEVER_S, 100)
        plant.put(2)
        draining = asyncio.create_task(plant.drain())
        await until(lambda: plant.store.appended)
        assert not draining.done()
        plant.store.open()
        await draining
        assert plant.stored_times == [1, 2]


async def test_drain_ends_under_continuous_load() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        stopped = asyncio.Event()

        async def load() -> None:
            at_ns = 0
            while not stopped.is_set():
                at_ns += 1
                plant.put(at_ns)
                await asyncio.sleep(0)

        loading = asyncio.create_task(load())
        await until(lambda: plant.commits > 3)
        newest = plant.stored_points + plant.pending_points
        await asyncio.wait_for(plant.drain(), 5)
        assert plant.stored_points >= newest
        assert not loading.done()
        stopped.set()
        await loading


async def test_work_between_commits_runs_after_what_was_taken_in_and_before_what_follows() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        plant.put(1)
        seen: list[int] = []

        def delete() -> None:
            seen.append(len(plant.store.appended))
            plant.store.delete([plant.series_id()], start_ns=0, end_ns=2)

        working = asyncio.create_task(plant.run_between_commits(delete))
        await until(lambda: plant.store.appended)
        plant.put(2)
        await working
        assert seen == [1]
        await plant.drain()
        assert plant.stored_times == [2]


async def test_work_between_commits_never_runs_beside_a_commit() -> None:
    async with open_plant(flush_interval_s=0.0) as plant:
        running = 0

        def work() -> None:
            nonlocal running
            running += 1
            assert len(plant.store.appended) == plant.store.commits, "a commit is under way"
            running -= 1

        for at_ns in range(50):
            plant.put(at_ns)
            await plant.run_between_commits(work)
        assert running == 0


async def test_what_fails_between_commits_is_told() -> None:
    async with open_plant() as plant:

        def fail() -> None:
            raise StorageError("cannot delete")

        with pytest.raises(StorageError, match="cannot delete"):
            await plant.run_between_commits(fail)


async def test_close_stores_what_was_taken_in_and_refuses_more() -> None:
    async with open_plant(flush_interval_s=NEVER_S, flush_points=2) as plant:
        plant.store.shut()
        receipts = [plant.put(at_ns) for at_ns in (1, 2, 3)]
        closing = asyncio.create_task(plant.close())
        await until(lambda: plant.store.appended)
        assert not closing.done()
        plant.store.open()
        await closing
        for receipt in receipts:
            await receipt.wait()
        assert plant.stored_times == [1, 2, 3]
        with pytest.raises(Overloaded, match="shutting down"):
            plant.put(4)
        await plant.close()


async def test_close_with_nothing_to_do() -> None:
    async with open_plant() as plant:
        await plant.close()
        assert plant.store.appended == []
