"""Sorted runs: which are merged, what is on disk afterwards, and that work broken off or overtaken does no harm."""

from __future__ import annotations

import threading
import time
from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store
from headwater.store.duck.files import open_database
from headwater.store.duck.layout import Run, runs_to_merge
from headwater.store.duck.recording import PORTION_POINTS
from headwater.store.duck.runs import Written, write_run
from headwater.store.duck.store import DuckStore
from headwater.store.duck.tables import Tables
from headwater.store.duck.upkeep import Upkeep

KEY = SeriesKey(1, "m")


def run(number: int, rows: int) -> Run:
    return Run(number, ValueType.FLOAT, number, number, rows, 0, 0, 1, 0)


def sizes(rows: list[int], **limits: int) -> list[int]:
    return [one.rows for one in runs_to_merge([run(n, size) for n, size in enumerate(rows)], **limits)]


@pytest.mark.parametrize(
    ("rows", "merged"),
    [
        ([], []),
        ([1] * 7, []),
        ([1] * 8, [1] * 8),
        ([8] + [1] * 7, []),
        ([8] + [1] * 8, [1] * 8),
        ([8] * 8, [8] * 8),
        ([100, *[1] * 8, 3], [1] * 8),
        ([8, 8, 1, 8, 8, 8, 8, 8, 8], [8, 1, 8, 8, 8, 8, 8, 8]),
        ([8] * 7 + [1], []),
    ],
)
def test_runs_of_one_size_are_merged(rows: list[int], merged: list[int]) -> None:
    assert sizes(rows) == merged


def test_a_long_history_has_few_runs() -> None:
    """Each point is rewritten once for each power of eight, and the number of runs grows with the logarithm."""
    runs: list[Run] = []
    rewritten = 0
    for number in range(1_000):
        runs.append(run(number, 1))
        while chosen := runs_to_merge(runs, max_rows=100):
            total = sum(one.rows for one in chosen)
            rewritten += total
            first = runs.index(chosen[0])
            runs[first : first + len(chosen)] = [run(number, total)]
        assert len(runs) <= 7 * 2 + number // 64 + 1
    assert rewritten <= 2 * 1_000


def points(series_id: int, times: range, value: float) -> dict[ValueType, Columns]:
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", [series_id]) * len(times)
    columns.at_ns = array("q", times)
    columns.values = array("d", [value]) * len(times)
    return {ValueType.FLOAT: columns}


def put_in_order(store: DuckStore) -> None:
    while store.maintain():
        pass


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("run-*"))


SERIES = [Series(one, KEY, str(one), ValueType.FLOAT) for one in (1, 2)]


def test_files_hold_sorted_points_that_duckdb_alone_can_read(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(2, range(0, 50_000, 1_000), 2.0)))
        store.append(Batch([], points(1, range(0, 50_000, 1_000), 1.0)))
        store.append(Batch([], points(2, range(0, 5_000, 1_000), 3.0)))
        put_in_order(store)
    assert files(tmp_path) == ["run-1.duckdb"]
    with duckdb.connect(tmp_path / "run-1.duckdb", read_only=True) as file:
        rows = file.execute("SELECT series_id, time, value FROM points").fetchall()
    assert rows == [(1, n, 1.0) for n in range(50)] + [(2, n, 3.0 if n < 5 else 2.0) for n in range(50)]


def test_deleted_points_leave_the_files(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        store.append(Batch([], points(2, range(100), 2.0)))
        put_in_order(store)
        store.delete([1], start_ns=10, end_ns=20)
        store.append(Batch([], points(1, range(12, 13), 5.0)))
        assert store.rows([1], start_ns=9, end_ns=21).to_pydict() == {"at_ns": [9, 12, 20], "1": [1.0, 5.0, 1.0]}
        put_in_order(store)
        assert store.rows([1], start_ns=9, end_ns=21).to_pydict() == {"at_ns": [9, 12, 20], "1": [1.0, 5.0, 1.0]}
        [name] = files(tmp_path)
        store.delete([1, 2])
        put_in_order(store)
    assert files(tmp_path) == []
    assert name != "run-1.duckdb"


def test_what_arrived_is_sorted_when_it_has_become_quiet(tmp_path: Path) -> None:
    now_s = 100.0
    with closing(open_duck_store(tmp_path, hot_rows=1_000, now_s=lambda: now_s)) as store:
        store.append(Batch(SERIES, points(1, range(99), 1.0)))
        for second in (100, 109, 119):
            now_s = float(second)
            put_in_order(store)
        assert files(tmp_path) == [], "too few to be worth a file"
        for second in (120, 129, 138):
            now_s = float(second)
            store.append(Batch([], points(2, [second], 1.0)))
            put_in_order(store)
        assert files(tmp_path) == [], "it was not quiet for long enough"
        now_s = 147.0
        put_in_order(store)
        assert files(tmp_path) == []
        now_s = 148.0
        put_in_order(store)
        assert files(tmp_path) == ["run-1.duckdb"]
        assert store.rows([1, 2]).num_rows == 102


def test_the_backlog_is_what_should_not_wait(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=1_000)) as store:
        store.append(Batch(SERIES, points(1, range(1_000), 1.0)))
        assert store.backlog() == 0
        store.append(Batch([], points(1, range(1_000, 1_500), 1.0)))
        assert store.backlog() == 500
        put_in_order(store)
        assert store.backlog() == 0


def test_files_are_rewritten_when_nothing_was_deleted_for_a_while(tmp_path: Path) -> None:
    now_s = 100.0
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=60, now_s=lambda: now_s)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        put_in_order(store)
        for second in (0, 50, 109):
            now_s = 100.0 + second
            store.delete([1], start_ns=second, end_ns=second + 1)
            put_in_order(store)
            assert files(tmp_path) == ["run-1.duckdb"]
        now_s += 60
        put_in_order(store)
        assert files(tmp_path) == ["run-2.duckdb"]
        assert store.rows([1]).num_rows == 98


def test_a_file_of_which_everything_is_deleted_goes_without_room_for_a_new_one(tmp_path: Path) -> None:
    room = 2**40
    tables = Tables(lambda: open_database(tmp_path, {}), tmp_path, room_of=lambda _: room)
    with closing(DuckStore(tables, Upkeep(tables, 10, 0, time.monotonic), time.monotonic, PORTION_POINTS)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        put_in_order(store)
        store.append(Batch([], points(1, range(100, 200), 1.0)))
        put_in_order(store)
        assert files(tmp_path) == ["run-1.duckdb", "run-2.duckdb"]
        room = 0
        store.delete([1], end_ns=100)
        put_in_order(store)
        assert files(tmp_path) == ["run-2.duckdb"]
        store.delete([1], end_ns=150)
        with pytest.raises(StorageError, match="is full"):
            put_in_order(store)
        assert store.rows([1]).num_rows == 50


def test_the_room_of_large_batches_is_used_again(tmp_path: Path) -> None:
    """DuckDB writes batches of more than a row group beside its log, which then never reaches its limit."""
    count, batches = 130_000, 10
    with closing(open_duck_store(tmp_path, hot_rows=count, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES))
        sizes = []
        for number in range(batches):
            store.append(Batch([], points(1, range(number * count, (number + 1) * count), 1.0)))
            put_in_order(store)
            sizes.append((tmp_path / "points.duckdb").stat().st_size)
        assert store.rows([1], newest=1).to_pydict() == {"at_ns": [count * batches - 1], "1": [1.0]}
    assert max(sizes[3:]) <= max(sizes[:3])


def test_leftovers_of_an_interruption_are_removed(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        put_in_order(store)
    kept = files(tmp_path)
    for name in ("run-7.new", "run-7.new.wal", "run-8.duckdb"):
        (tmp_path / name).write_bytes(b"half")
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        assert store.rows([1]).num_rows == 100
        assert files(tmp_path) == kept


def test_a_missing_file_is_no_empty_store(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        put_in_order(store)
    (tmp_path / "run-1.duckdb").unlink()
    with pytest.raises(StorageError, match=r"run-1\.duckdb"):
        open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)


def test_reads_writes_and_deletions_beside_upkeep(tmp_path: Path) -> None:
    """Readers see every acknowledged point once, while parts are moved and merged under them."""
    wrong: list[object] = []
    done = threading.Event()
    written = 0
    with closing(open_duck_store(tmp_path, hot_rows=50, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(1), 0.0)))

        def maintain() -> None:
            while not done.is_set():
                store.maintain()

        def read() -> None:
            while not done.is_set():
                least = written
                times = store.rows([1]).column("at_ns").to_pylist()
                if times != list(range(len(times))) or len(times) < least:
                    wrong.append((least, len(times)))
                newest = store.rows([1], newest=3).column("at_ns").to_pylist()
                if newest != list(range(max(0, newest[-1] - 2), newest[-1] + 1)):
                    wrong.append(newest)

        threads = [threading.Thread(target=work, daemon=True) for work in (maintain, read, read)]
        for thread in threads:
            thread.start()
        for number in range(150):
            # Each batch repeats some points of the one before, and those of series 2 are deleted at once.
            start = max(0, number * 20 - 5)
            store.append(Batch([], points(1, range(start, number * 20 + 20), float(number))))
            written = number * 20 + 20
            store.append(Batch([], points(2, range(20), 1.0)))
            store.delete([2], start_ns=0, end_ns=20)
        done.set()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        put_in_order(store)
        table = store.rows([1, 2])
        assert table.num_rows == 3_000
        assert table.column("2").null_count == 3_000
        assert table.column("1").to_pylist()[:20] == [0.0] * 15 + [1.0] * 5


class WatchedCursor:
    """Somebody looks at the file as soon as it is there, and for a while after it was let go of."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._cursor, self._other = connection.cursor(), connection.cursor()

    def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        answer = self._cursor.execute(sql)
        if sql.startswith("CREATE TABLE building_1.points"):
            self._other.execute("BEGIN; SELECT count(*) FROM building_1.points").fetchall()
        elif sql.startswith("DETACH"):
            threading.Timer(0.1, self._other.rollback).start()
        return answer


def test_a_file_is_whole_although_somebody_looks_at_it(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        made_up = "SELECT 1 AS series_id, range * 1000 AS at_ns, 2.0::DOUBLE AS value FROM range(1000)"
        cursor: Any = WatchedCursor(connection)
        assert write_run(cursor, tmp_path, 1, made_up, unit_ns=1_000, most_rows=1_000) == Written(
            1_000, 0, 999_000, 1_000
        )
        (tmp_path / "copy.duckdb").write_bytes((tmp_path / "run-1.duckdb").read_bytes())
        with duckdb.connect(tmp_path / "copy.duckdb", read_only=True) as copy:
            assert copy.execute("SELECT count(*) FROM points").fetchall() == [(1_000,)]


def test_a_file_with_fewer_points_than_were_written_takes_nobody_s_place(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(100), 1.0)))
        put_in_order(store)
    with duckdb.connect(tmp_path / "run-1.duckdb") as file:
        file.execute("DELETE FROM points WHERE time = 7")
    with pytest.raises(StorageError, match=r"run-1\.duckdb cannot be read, it may be damaged"):
        open_duck_store(tmp_path, hot_rows=10)


def test_upkeep_can_be_broken_off(tmp_path: Path) -> None:
    with closing(open_duck_store(tmp_path, hot_rows=10, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES, points(1, range(3_000_000), 1.0)))
        failures: list[Exception] = []
        stopped = threading.Event()

        def maintain() -> None:
            try:
                put_in_order(store)
            except StorageError as error:
                failures.append(error)
            stopped.set()

        thread = threading.Thread(target=maintain, daemon=True)
        thread.start()
        while not stopped.wait(0.001):
            store.interrupt_maintenance()
        thread.join(60)
        assert store.rows([1]).num_rows == 3_000_000
        put_in_order(store)
        assert store.rows([1], newest=1).to_pydict() == {"at_ns": [2_999_999], "1": [1.0]}
    assert len(files(tmp_path)) == 1
