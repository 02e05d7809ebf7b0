from __future__ import annotations

import random
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store
from headwater.store.duck import recent as recent_module
from headwater.store.duck.answers import side_by_side
from headwater.store.duck.incoming import points_table
from headwater.store.duck.layout import EARLIEST_NS
from headwater.store.duck.recent import MOST_FOUND, Recent

KEY = SeriesKey(1, "m")
TYPES = {1: ValueType.INTEGER, 2: ValueType.INTEGER, 500: ValueType.INTEGER, 3: ValueType.STRING, 4: ValueType.BOOLEAN}
VALUES: dict[int, st.SearchStrategy[Any]] = {
    1: st.integers(0, 9),
    2: st.integers(0, 9),
    500: st.integers(0, 9),
    3: st.text(max_size=200),
    4: st.booleans(),
}
TIMES = st.integers(-5, 15)
POINTS = st.lists(
    st.sampled_from(list(TYPES)).flatmap(lambda one: st.tuples(st.just(one), TIMES, VALUES[one])), max_size=8
)
IDS = st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("append"), POINTS),
        st.tuples(st.just("delete"), IDS, st.none() | TIMES, st.none() | TIMES),
        st.tuples(st.just("begin")),
        st.tuples(st.just("sort")),
        st.tuples(st.just("sort")),
        st.tuples(st.just("ask"), IDS, st.none() | TIMES, st.none() | TIMES, st.none() | st.integers(1, 5)),
        st.tuples(st.just("ask"), IDS, st.none() | TIMES, st.none() | TIMES, st.none() | st.integers(1, 5)),
    ),
    max_size=30,
)


def columns_of(points: list[tuple[int, int, Any]]) -> dict[ValueType, Columns]:
    columns: dict[ValueType, Columns] = {}
    for series_id, at_ns, value in points:
        columns.setdefault(TYPES[series_id], Columns(TYPES[series_id])).append(series_id, at_ns, value)
    return columns


def append(recent: Recent, points: list[tuple[int, int, Any]]) -> None:
    recent.append({value_type: points_table(value_type, one) for value_type, one in columns_of(points).items()})


def empty(most_bytes: int = recent_module.MOST_BYTES) -> Recent:
    return Recent(dict.fromkeys(ValueType, EARLIEST_NS), most_bytes)


def put_in_order(recent: Recent) -> int:
    """Sort what is worth it; how many chunks that were."""
    count = 0
    while found := recent.unsorted():
        value_type, chunk = found
        recent.replace(value_type, chunk, chunk.sorted())
        count += 1
    return count


class Model:
    """A store of dictionaries, which tells of every change."""

    def __init__(self, most_bytes: int) -> None:
        self.recent = empty(most_bytes)
        self.points: dict[int, dict[int, Any]] = {one: {} for one in TYPES}

    def change(self, action: str, *arguments: Any) -> None:
        match action:
            case "append":
                (points,) = arguments
                for series_id, at_ns, value in points:
                    self.points[series_id][at_ns] = value
                append(self.recent, points)
            case "delete":
                ids, start_ns, end_ns = arguments
                for one in ids:
                    kept = self.points[one].items()
                    self.points[one] = {at: value for at, value in kept if not is_within(at, start_ns, end_ns)}
                self.recent.delete({one: TYPES[one] for one in ids}, start_ns, end_ns)
            case "sort":
                put_in_order(self.recent)
            case "begin":
                last_ns = dict.fromkeys(ValueType, EARLIEST_NS)
                for one, points in self.points.items():
                    last_ns[TYPES[one]] = max(last_ns[TYPES[one]], *points, EARLIEST_NS)
                self.recent.begin(last_ns)

    def rows(self, ids: list[int], start: int | None, end: int | None, newest: int | None) -> dict[str, list[Any]]:
        times = sorted({at for one in ids for at in self.points[one] if is_within(at, start, end)})
        times = times if newest is None else times[-newest:]
        return {"at_ns": times} | {str(one): [self.points[one].get(at) for at in times] for one in ids}


def is_within(at_ns: int, start_ns: int | None, end_ns: int | None) -> bool:
    return (start_ns is None or at_ns >= start_ns) and (end_ns is None or at_ns < end_ns)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, most_bytes=st.sampled_from([100, 300, 1_000, 100_000]), at_once=st.sampled_from([1, 65_536]))
def test_what_is_found_is_what_the_store_has(steps: list[tuple[Any, ...]], most_bytes: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_module, "_LOOKED_THROUGH_FIRST", at_once)
        find_after(steps, Model(most_bytes))


def find_after(steps: list[tuple[Any, ...]], model: Model) -> None:
    """Take all steps, and look for points after each."""
    for action, *arguments in steps:
        asked: list[Any] = [([one], 5, None, None) for one in TYPES] + [([one], None, None, 2) for one in TYPES]
        if action == "ask":
            asked = [arguments]
        else:
            model.change(action, *arguments)
        for ids, start_ns, end_ns, newest in asked:
            types = {one: TYPES[one] for one in ids}
            found = model.recent.find(types, start_ns, end_ns, newest)
            if found is not None:
                assert side_by_side(found, types, newest).to_pydict() == model.rows(ids, start_ns, end_ns, newest)


def is_known(recent: Recent, series_id: int, newest: int) -> bool:
    return recent.find({series_id: TYPES[series_id]}, None, None, newest) is not None


def test_all_is_known_of_what_came_after_the_last_time_before() -> None:
    recent = Recent({ValueType.INTEGER: 9, ValueType.STRING: 20})
    append(recent, [(1, at_ns, at_ns) for at_ns in range(5, 15)])
    integer = {1: ValueType.INTEGER}
    assert recent.find(integer, None, None, 5) == {1: {at_ns: at_ns for at_ns in range(10, 15)}}
    assert recent.find(integer, None, None, 6) is None
    assert recent.find(integer, 10, None, None) == {1: {at_ns: at_ns for at_ns in range(10, 15)}}
    assert recent.find(integer, 12, 14, 100) == {1: {12: 12, 13: 13}}
    assert recent.find(integer, 9, None, None) is None
    assert recent.find({2: ValueType.INTEGER}, 10, None, None) == {2: {}}
    append(recent, [(3, 21, "x")])
    both = {1: ValueType.INTEGER, 3: ValueType.STRING}
    assert recent.find(both, 21, None, None) == {1: {}, 3: {21: "x"}}
    assert recent.find(both, 12, None, None) is None, "of the text there may be more"


def test_what_arrived_first_goes_first() -> None:
    recent = empty(most_bytes=1_000)
    for at_ns in range(100):
        append(recent, [(1, at_ns, at_ns)])
    assert is_known(recent, 1, 40)
    assert not is_known(recent, 1, 50)
    append(recent, [(3, 1, "x" * 2_000)])
    assert not is_known(recent, 3, 1)
    assert is_known(recent, 1, 40), "each type has room of its own"
    append(recent, [(1, 200, at_ns) for at_ns in range(100)])
    assert not is_known(recent, 1, 1), "more than can be kept"
    append(recent, [(1, 201, 1)])
    assert is_known(recent, 1, 1)


def test_of_one_time_there_may_be_points_of_others_before() -> None:
    recent = empty(most_bytes=240)  # of which no two chunks are made one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_module, "_LOOKED_THROUGH_FIRST", 1)
        append(recent, [(2, 5, 2)])
        append(recent, [(1, 5, 1)])
        both = {1: ValueType.INTEGER, 2: ValueType.INTEGER}
        assert recent.find(both, None, None, 1) == {1: {5: 1}, 2: {5: 2}}


def test_what_is_let_go_of_for_a_large_batch_is_not_forgotten() -> None:
    recent = empty(most_bytes=1_000)
    append(recent, [(1, 300, 1)])
    append(recent, [(1, 200, at_ns) for at_ns in range(100)])
    append(recent, [(1, 250, 1)])
    assert not is_known(recent, 1, 1)
    append(recent, [(1, 301, 1)])
    assert is_known(recent, 1, 1)


def test_small_batches_are_put_together() -> None:
    recent = empty()
    for at_ns in range(1_000):
        append(recent, [(1, at_ns, at_ns), (2, -at_ns, 7)])
    assert recent.find({1: ValueType.INTEGER}, None, None, 3) is not None
    found = recent.find({1: ValueType.INTEGER, 2: ValueType.INTEGER}, EARLIEST_NS + 1, None, None)
    assert found == {1: {n: n for n in range(1_000)}, 2: {-n: 7 for n in range(1_000)}}


def test_what_is_asked_for_is_sorted() -> None:
    recent = empty(most_bytes=4_000)
    for at_ns in range(100):
        append(recent, [(2, at_ns, -1), (1, at_ns, at_ns), (1, at_ns - 1, 0)])
    assert put_in_order(recent) == 0, "nobody has asked"
    integer = {1: ValueType.INTEGER, 2: ValueType.INTEGER, 7: ValueType.INTEGER}
    before = recent.find(integer, None, None, 20)
    assert before is not None
    assert put_in_order(recent) > 10
    assert put_in_order(recent) == 0
    after = recent.find(integer, None, None, 20)
    assert after is not None
    newest = range(80, 100)
    for points in (before, after):
        assert [points[1][at_ns] for at_ns in newest] == [*[0] * 19, 99], "the later of one time stands"
        assert [points[2][at_ns] for at_ns in newest] == [-1] * 20
        assert points[7] == {}
    value_type, chunk = ValueType.INTEGER, recent._of[ValueType.INTEGER].chunks[0]
    append(recent, [(1, at_ns, 5) for at_ns in range(100, 250)])
    recent.replace(value_type, chunk, chunk._replace(last_ns=10**9))
    assert all(one.last_ns < 10**9 for one in recent._of[ValueType.INTEGER].chunks), "it had gone meanwhile"


def test_room_is_counted_right_however_points_come() -> None:
    recent = empty(most_bytes=3_000)
    for at_ns in range(3_000):
        append(recent, [(4, at_ns, True), (3, at_ns, "x")])
    assert is_known(recent, 4, 120)
    assert is_known(recent, 3, 90)
    assert not is_known(recent, 4, 200)
    assert not is_known(recent, 3, 200)


def test_many_points_are_left_to_the_database() -> None:
    recent = empty()
    append(recent, [(1, at_ns, 1) for at_ns in range(MOST_FOUND + 1)])
    assert recent.find({1: ValueType.INTEGER}, 0, None, None) is None
    assert recent.find({2: ValueType.INTEGER}, 0, None, None) == {2: {}}
    assert put_in_order(recent) == 0, "a chunk that is small"
    append(recent, [(2, 1, 1)])
    assert recent.find({1: ValueType.INTEGER, 2: ValueType.INTEGER}, 0, None, None) is None


def test_what_was_deleted_is_gone_and_all_else_still_known() -> None:
    recent = Recent({ValueType.INTEGER: 9})
    append(recent, [(one, at_ns, at_ns) for one in (1, 2) for at_ns in range(8, 14)])
    both = {1: ValueType.INTEGER, 2: ValueType.INTEGER}
    recent.delete({1: ValueType.INTEGER}, None, 11)
    recent.delete({2: ValueType.INTEGER}, 12, 13)
    expected = {1: {11: 11, 12: 12, 13: 13}, 2: {10: 10, 11: 11, 13: 13}}
    assert recent.find(both, 10, None, None) == expected
    recent.delete(both, None, 10)
    recent.delete(both, 14, 14)
    assert recent.find(both, 10, None, None) == expected
    recent.delete(both, None, None)
    assert recent.find(both, 10, None, None) == {1: {}, 2: {}}


def test_a_far_future_that_was_deleted_does_no_harm() -> None:
    recent = empty(most_bytes=1_000)
    append(recent, [(2, 10**18, 0), (1, 0, 0)])
    append(recent, [(2, 10**18, 1)])
    recent.delete({2: ValueType.INTEGER}, None, None)
    for at_ns in range(100):
        append(recent, [(1, at_ns, at_ns)])
    assert is_known(recent, 1, 40)


def test_whoever_wrote_reads_it_however_many_others_ask(tmp_path: Path) -> None:
    ids = [1, 2, 3]
    done = threading.Event()
    failures: list[object] = []
    with closing(open_duck_store(tmp_path / "store", hot_rows=200, deletions_wait_s=0)) as store:

        def ask(seed: int) -> None:
            source = random.Random(seed)
            while not done.wait(0.001):  # else the others hardly get a turn
                asked = source.sample(ids, source.randint(1, 3))
                try:
                    found = store.rows(asked, newest=source.randint(1, 8)).to_pydict()
                except Exception as error:
                    failures.append(error)
                    return
                marks = [[value for value in found[str(one)] if value is not None][-1:] for one in asked]
                if any(mark != marks[0] for mark in marks):  # a batch gives all series its number
                    failures.append(found)
                    return

        def keep_in_order() -> None:
            while not done.wait(0.001):
                store.maintain()

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(2)]
        threads.append(threading.Thread(target=keep_in_order))
        expected: dict[int, int] = {0: 0}
        store.append(
            Batch([Series(one, KEY, str(one), ValueType.INTEGER) for one in ids], _of_all(ids, expected.items()))
        )
        for thread in threads:
            thread.start()
        try:
            source = random.Random(5)
            for number in range(1, 150):
                if number % 10 == 0:
                    start_ns = max(expected) - 3
                    store.delete(ids, start_ns=start_ns, end_ns=max(expected))
                    expected = {at: v for at, v in expected.items() if at < start_ns or at == max(expected)}
                points = {max(expected) - source.randint(1, 5): number, max(expected) + source.randint(0, 2): number}
                store.append(Batch(columns=_of_all(ids, points.items())))
                expected |= points
                newest = sorted(expected.items())[-5:]
                for asked in (ids, ids[:1]):
                    found = store.rows(asked, newest=5).to_pydict()
                    values = [value for _, value in newest]
                    assert found == {"at_ns": [at for at, _ in newest]} | {str(one): values for one in asked}
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert failures == []


def _of_all(ids: list[int], points: Any) -> dict[ValueType, Columns]:
    columns = Columns(ValueType.INTEGER)
    for at_ns, value in points:
        for one in ids:
            columns.append(one, at_ns, value)
    return {ValueType.INTEGER: columns}
