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
from headwater.store.duck.tails import Filling, Tails

KEY = SeriesKey(1, "m")
TYPES = {1: ValueType.INTEGER, 2: ValueType.INTEGER, 3: ValueType.STRING, 4: ValueType.BOOLEAN}
VALUES: dict[int, st.SearchStrategy[Any]] = {
    1: st.integers(0, 9),
    2: st.integers(0, 9),
    3: st.text(max_size=200),
    4: st.booleans(),
}
TIMES = st.integers(-5, 15)
POINTS = st.lists(
    st.sampled_from(list(TYPES)).flatmap(lambda one: st.tuples(st.just(one), TIMES, VALUES[one])), max_size=8
)
IDS = st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=4, unique=True)
CHANGES = st.one_of(
    st.tuples(st.just("append"), POINTS),
    st.tuples(st.just("append"), POINTS),
    st.tuples(st.just("delete"), IDS, TIMES),
    st.tuples(st.just("clear")),
)
STEPS = st.lists(
    st.one_of(
        CHANGES,
        st.tuples(st.just("fill"), IDS, TIMES, st.lists(CHANGES, max_size=2), st.lists(CHANGES, max_size=2)),
        st.tuples(st.just("fill"), IDS, TIMES, st.just([]), st.just([])),
        st.tuples(st.just("ask"), IDS, st.none() | TIMES, st.none() | TIMES, st.none() | st.integers(1, 5)),
        st.tuples(st.just("ask"), IDS, st.none() | TIMES, st.none() | TIMES, st.none() | st.integers(1, 5)),
    ),
    max_size=30,
)


def columns_of(points: list[tuple[int, int, Any]], repeat: int = 1) -> dict[ValueType, Columns]:
    columns: dict[ValueType, Columns] = {}
    for _ in range(repeat):
        for series_id, at_ns, value in points:
            columns.setdefault(TYPES[series_id], Columns(TYPES[series_id])).append(series_id, at_ns, value)
    return columns


class Model:
    """A store of dictionaries, which tells its tails of every change."""

    def __init__(self, most_points: int) -> None:
        self.tails = Tails(most_points)
        self.points: dict[int, dict[int, Any]] = {one: {} for one in TYPES}

    def change(self, action: str, *arguments: Any) -> None:
        match action:
            case "append":
                (points,) = arguments
                for series_id, at_ns, value in points:
                    self.points[series_id][at_ns] = value
                self.tails.append(columns_of(points).values())
            case "delete":
                ids, start_ns = arguments
                for one in ids:
                    self.points[one] = {at: value for at, value in self.points[one].items() if at < start_ns}
                self.tails.drop(ids)
            case "clear":
                self.tails.clear()

    def fill(self, ids: list[int], from_ns: int, before: list[Any], after: list[Any]) -> None:
        with self.tails.filling(ids) as filling:
            for change in before:
                self.change(*change)
            for one in ids:
                filling.put(one, from_ns, {at: v for at, v in self.points[one].items() if at >= from_ns}, 3)
            for change in after:
                self.change(*change)

    def rows(self, ids: list[int], start: int | None, end: int | None, newest: int | None) -> dict[str, list[Any]]:
        times = sorted(
            {
                at
                for one in ids
                for at in self.points[one]
                if (start is None or at >= start) and (end is None or at < end)
            }
        )
        times = times if newest is None else times[-newest:]
        return {"at_ns": times} | {str(one): [self.points[one].get(at) for at in times] for one in ids}


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, most_points=st.sampled_from([6, 20, 1000]))
def test_what_is_kept_is_what_the_store_has(steps: list[tuple[Any, ...]], most_points: int) -> None:
    model = Model(most_points)
    for action, *arguments in steps:
        asked: list[Any] = [([one], 5, None, None) for one in TYPES]
        if action == "fill":
            model.fill(*arguments)
        elif action == "ask":
            asked = [arguments]
        else:
            model.change(action, *arguments)
        for ids, start_ns, end_ns, newest in asked:
            found = model.tails.rows({one: TYPES[one] for one in ids}, start_ns, end_ns, newest)
            if found is not None:
                assert found.to_pydict() == model.rows(ids, start_ns, end_ns, newest)


def kept(tails: Tails, series_id: int, newest: int) -> bool:
    return tails.rows({series_id: TYPES[series_id]}, None, None, newest) is not None


def fill(tails: Tails, series_id: int, count: int) -> Filling:
    with tails.filling([series_id]) as filling:
        filling.put(
            series_id, 0, {at: "" if TYPES[series_id] is ValueType.STRING else at for at in range(count)}, count
        )
    return filling


def test_what_was_filled_is_answered_and_brought_up_to_date() -> None:
    tails = Tails()
    fill(tails, 1, 10)
    for batch in ([(1, 10, 7), (1, 9, 8), (1, -1, 9)], [(2, at, 0) for at in range(1000)] + [(1, 11, 6)]):
        tails.append(columns_of(batch).values())
    found = tails.rows({1: ValueType.INTEGER}, None, None, 4)
    assert found is not None
    assert found.to_pydict() == {"at_ns": [8, 9, 10, 11], "1": [8, 8, 7, 6]}
    assert kept(tails, 1, 12)
    assert not kept(tails, 1, 13)
    assert tails.rows({1: ValueType.INTEGER}, 3, None, None) is not None
    assert tails.rows({1: ValueType.INTEGER}, -1, None, None) is None


@pytest.mark.parametrize("change", ["append", "drop", "clear"])
def test_what_changes_while_it_is_read_is_not_kept(change: str) -> None:
    tails = Tails()
    with tails.filling([1]) as filling:
        filling.put(1, 0, {0: 0}, 1)
        match change:
            case "append":
                tails.append(columns_of([(1, 1, 1)]).values())
            case "drop":
                tails.drop([1])
            case "clear":
                tails.clear()
    assert not kept(tails, 1, 1)
    with tails.filling([1]) as filling:
        filling.put(1, 0, {0: 0}, 1)
        tails.append(columns_of([(2, 1, 1)]).values())
        tails.drop([2])
    assert kept(tails, 1, 1)


def test_what_is_read_while_it_changes_is_not_put_beside_what_has_not_changed() -> None:
    tails = Tails()
    fill(tails, 1, 1)
    with tails.changing():
        fill(tails, 2, 2)  # has what is just being stored
        fill(tails, 3, 1)
        assert not kept(tails, 2, 1)
        tails.append(columns_of([(1, 1, 1), (2, 1, 1)]).values())
    assert kept(tails, 1, 2)
    assert not kept(tails, 2, 1)
    assert kept(tails, 3, 1)
    with pytest.raises(OSError, match="full"), tails.changing():
        raise OSError("full")
    assert not kept(tails, 1, 1)


def test_what_nobody_asks_for_is_let_go() -> None:
    tails = Tails()
    fill(tails, 1, 10)
    for at_ns in range(400):
        tails.append(columns_of([(1, at_ns, 1)]).values())
    assert kept(tails, 1, 10)
    for at_ns in range(501):
        tails.append(columns_of([(1, at_ns, 1)]).values())
    assert not kept(tails, 1, 10)


def test_a_batch_with_points_of_very_many_series_lets_some_go() -> None:
    tails = Tails()
    fill(tails, 1, 10)
    fill(tails, 2, 10)
    tails.append(columns_of([(1, 10, 1), *((2, at_ns, 1) for at_ns in range(1000))]).values())
    assert kept(tails, 1, 11)
    assert not kept(tails, 2, 1)
    with tails.filling([2]) as filling:
        filling.put(2, 0, {0: 0}, 1)
        tails.append(columns_of([*((1, at_ns, 1) for at_ns in range(1000)), (2, 0, 1)]).values())
    assert not kept(tails, 2, 1)


def test_what_was_not_asked_for_longest_makes_room() -> None:
    tails = Tails(most_points=25)
    fill(tails, 1, 10)
    fill(tails, 2, 10)
    assert kept(tails, 1, 10)
    fill(tails, 3, 4)
    assert kept(tails, 1, 10)
    assert not kept(tails, 2, 10)
    tails.append(columns_of([(3, 4, "x" * 10_000)]).values())  # which counts as many points
    assert kept(tails, 1, 10)
    assert not kept(tails, 3, 4)


def test_whoever_wrote_reads_it_however_many_others_ask(tmp_path: Path) -> None:
    ids = [1, 2, 3]
    done = threading.Event()
    failures: list[object] = []
    with closing(open_duck_store(tmp_path / "store", hot_rows=200, deletions_wait_s=0)) as store:

        def ask(seed: int) -> None:
            source = random.Random(seed)
            while not done.is_set():
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
            while not done.is_set():
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
