"""The DuckDB store at sizes where its tables have several row groups, are checkpointed and vacuumed."""

from __future__ import annotations

from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import TooLarge
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store, tables
from headwater.store.duck.reading import Selection, selection

ROW_GROUP = 122_880
KEY = SeriesKey(1, "m")


def columns_of(series_ids: list[int], at_ns: list[int], values: list[int]) -> dict[ValueType, Columns]:
    columns = Columns(ValueType.INTEGER)
    columns.series_ids, columns.at_ns, columns.values = array("q", series_ids), array("q", at_ns), array("q", values)
    return {ValueType.INTEGER: columns}


def test_order_of_arrival_decides_also_within_a_huge_batch(tmp_path: Path) -> None:
    count = 5 * ROW_GROUP
    with closing(open_duck_store(tmp_path / "store", threads=4)) as store:
        times = [number % 1000 for number in range(count)]
        store.append(
            Batch([Series(1, KEY, "f", ValueType.INTEGER)], columns_of([1] * count, times, list(range(count))))
        )
        values = dict(zip(*store.rows([1]).select(["at_ns", "1"]).to_pydict().values(), strict=True))
        assert values == dict(zip(times, range(count), strict=True))
        newest = store.rows([1], newest=10).to_pydict()
        assert newest["at_ns"] == list(range(990, 1000))
        assert newest["1"] == [values[at_ns] for at_ns in newest["at_ns"]]


def test_order_of_arrival_decides_among_few_points_of_many_parts(tmp_path: Path) -> None:
    count, every = 3 * ROW_GROUP, 500
    expected: dict[int, int] = {}
    with closing(open_duck_store(tmp_path / "store", threads=4, hot_rows=count)) as store:
        for generation in range(4):
            new = [Series(one, KEY, str(one), ValueType.INTEGER) for one in (1, 2)] if generation == 0 else []
            ids = [1 if number % every == 0 else 2 for number in range(count)]
            times = [number // every % (50 + generation) if n == 1 else number for number, n in enumerate(ids)]
            values = [generation * count + number for number in range(count)]
            store.append(Batch(new, columns_of(ids, times, values)))
            expected |= {time: value for n, time, value in zip(ids, times, values, strict=True) if n == 1}
            if generation < 3:  # runs and arrivals, which all overlap
                assert store.maintain()
        for newest in (1, 20, 100):
            found = store.rows([1], newest=newest)
            pairs = zip(found.column("at_ns").to_pylist(), found.column("1").to_pylist(), strict=True)
            assert list(pairs) == sorted(expected.items())[-newest:]


def test_order_of_arrival_survives_vacuum(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    count = 3 * ROW_GROUP
    expected = {}
    for generation in range(3):
        with closing(open_duck_store(directory)) as store:
            new = [Series(one, KEY, str(one), ValueType.INTEGER) for one in (1, 2)] if generation == 0 else []
            # Series 2 fills whole row groups, which its deletion empties; series 1 is replaced each time.
            ids = [2] * count + [1] * 1000
            times = [*range(count), *range(1000)]
            store.append(Batch(new, columns_of(ids, times, [generation] * (count + 1000))))
            expected = dict.fromkeys(range(1000), generation)
            store.delete([2], start_ns=0)
        with closing(open_duck_store(directory)) as store:
            rows = store.rows([1, 2])
            assert dict(zip(rows.column("at_ns").to_pylist(), rows.column("1").to_pylist(), strict=True)) == expected
            assert rows.column("2").null_count == 1000


def test_newest_of_several_types_with_late_and_replaced_points(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path / "store")) as store:
        integers = columns_of([1] * 500 + [1] * 400, [*range(500), *[499, 498] * 200], list(range(900)))
        strings = Columns(ValueType.STRING)
        for at_ns in [495, *range(-300, 0), 499, 499]:
            strings.append(2, at_ns, f"{at_ns}")
        series = [Series(1, KEY, "f", ValueType.INTEGER), Series(2, KEY, "g", ValueType.STRING)]
        store.append(Batch(series, integers | {ValueType.STRING: strings}))
        assert store.rows([1, 2], newest=6).to_pydict() == {
            "at_ns": [494, 495, 496, 497, 498, 499],
            "1": [494, 495, 496, 497, 899, 898],
            "2": [None, "495", None, None, None, "499"],
        }
        assert store.rows([2, 1], newest=502).column("at_ns").to_pylist() == [-2, -1, *range(500)]


@pytest.mark.parametrize("max_spill_mb", [0, 16])
def test_a_query_that_needs_too_much_memory_is_refused(tmp_path: Path, max_spill_mb: int) -> None:
    count = 100_000
    with closing(open_duck_store(tmp_path / "store", memory_limit_mb=64, max_spill_mb=max_spill_mb)) as store:
        series = [Series(one, KEY, str(one), ValueType.INTEGER) for one in range(1, 201)]
        store.append(Batch(series, columns_of([1] * count, list(range(count)), list(range(count)))))
        with pytest.raises(TooLarge, match=r"store\.memory_limit_mb and store\.max_spill_mb.*: ask for less"):
            store.rows(range(1, 201))
        assert store.rows([1], newest=1).to_pydict() == {"at_ns": [count - 1], "1": [count - 1]}
        store.append(Batch([], columns_of([2], [0], [5])))


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "span"),
    [
        (None, None, (-(2**63), 2**63)),
        (-5, None, (-5, 2**63)),
        (1, 2, (1, 2)),
        (-(10**30), 10**30, (-(2**63), 2**63)),
        (10**30, None, (2**63, 2**63)),
    ],
)
def test_bounds_beyond_every_time(start_ns: int | None, end_ns: int | None, span: tuple[int, int]) -> None:
    chosen = selection(ValueType.FLOAT, [], [1], start_ns, end_ns, has_deletions=False)
    assert (chosen.start_ns, chosen.end_ns) == span


def test_a_batch_that_is_sorted_while_a_reader_looks_for_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {1: ValueType.INTEGER, 2: ValueType.FLOAT}

    def batch(times: list[int], new_series: list[Series]) -> Batch:
        columns = {value_type: Columns(value_type) for value_type in types.values()}
        for at_ns in times:
            for series_id, value_type in types.items():
                columns[value_type].append(series_id, at_ns, at_ns)
        return Batch(new_series, columns)

    with closing(open_duck_store(tmp_path / "store", hot_rows=2)) as store:
        store.append(batch([0, 9], [Series(one, KEY, str(one), value_type) for one, value_type in types.items()]))
        while store.maintain():
            pass
    with closing(open_duck_store(tmp_path / "store", hot_rows=2)) as store:  # which remembers no arrivals
        waiting = [batch([5, 6], [])]

        def select(*arguments: Any, **named: Any) -> Selection:
            """A batch is stored, and put into files, when the parts of the first type have been looked up."""
            found = selection(*arguments, **named)
            if waiting:
                store.append(waiting.pop())
                while store.maintain():
                    pass
            return found

        monkeypatch.setattr(tables, "selection", select)
        found = store.rows([1, 2], start_ns=0, end_ns=9).to_pydict()
        assert found["1"] == found["2"]
