"""A snapshot is a store of its own, as the other was at one moment, whatever writers and upkeep do meanwhile."""

from __future__ import annotations

import shutil
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store
from headwater.store.memory import MemoryStore

HOT_ROWS = 100
SERIES = Series(1, SeriesKey(1, "m", (("place", "roof"),)), "field1", ValueType.FLOAT)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    with closing(open_duck_store(tmp_path / "telemetry", hot_rows=HOT_ROWS, deletions_wait_s=0)) as opened:
        opened.append(Batch([SERIES]))
        yield opened


def write(store: DuckStore, values: dict[int, float]) -> None:
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", [1]) * len(values)
    columns.at_ns, columns.values = array("q", values.keys()), array("d", values.values())
    store.append(Batch([], {ValueType.FLOAT: columns}))


def points(store: DuckStore) -> dict[int, float]:
    rows = store.rows([1])
    return dict(zip(rows.column("at_ns").to_pylist(), rows.column("1").to_pylist(), strict=True))


def copy(store: DuckStore, directory: Path) -> Path:
    directory.mkdir()
    for name, file in store.snapshot().items():
        with file, (directory / name).open("wb") as target:
            shutil.copyfileobj(file, target)
    return directory


def test_a_snapshot_opens_as_the_store_was(store: DuckStore, tmp_path: Path) -> None:
    for _ in range(2):  # into a run, then into the table of arrivals
        write(store, {n: n / 2 for n in range(HOT_ROWS)})
        write(store, dict.fromkeys(range(0, HOT_ROWS, 3), 7.0))  # a later value of the same points
        if not list((tmp_path / "telemetry").glob("run-*")):
            while store.maintain():
                pass
    store.delete([1], start_ns=10, end_ns=20)
    before = points(store)
    directory = copy(store, tmp_path / "copy")
    write(store, {HOT_ROWS: 1.0})
    assert len(list(directory.glob("run-*.duckdb"))) == 1
    assert not list((tmp_path / "telemetry").glob("snapshot*"))
    with closing(open_duck_store(directory)) as copied:
        assert points(copied) == before
        assert list(copied.catalogue()) == [SERIES]
        write(copied, {HOT_ROWS + 1: 1.0})


def test_snapshots_are_whole_beside_writing_and_merging(store: DuckStore, tmp_path: Path) -> None:
    """Batches come in order and nothing is deleted: a snapshot has all up to some batch, and that no earlier one than
    the last that was stored before."""
    stopping = threading.Event()
    stored = 0

    def keep_writing() -> None:
        nonlocal stored
        while not stopping.is_set():
            write(store, {stored * 50 + n: float(n) for n in range(50)})
            stored += 1

    def keep_in_order() -> None:
        while not stopping.is_set():
            with suppress(StorageError):
                store.maintain()

    threads = [threading.Thread(target=work) for work in (keep_writing, keep_in_order)]
    for thread in threads:
        thread.start()
    try:
        for n in range(8):
            before = stored
            directory = copy(store, tmp_path / f"copy-{n}")
            with closing(open_duck_store(directory)) as copied:
                found = points(copied)
            assert sorted(found) == list(range(len(found)))
            assert len(found) % 50 == 0
            assert len(found) >= before * 50
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert list((tmp_path / "telemetry").glob("run-*.duckdb"))


def test_what_an_interrupted_snapshot_left_is_removed_at_the_start(store: DuckStore, tmp_path: Path) -> None:
    store.close()
    left = [tmp_path / "telemetry" / name for name in ("snapshot.new", "snapshot.new.wal")]
    for path in left:
        path.write_bytes(b"half")
    with closing(open_duck_store(tmp_path / "telemetry")):
        assert not any(path.exists() for path in left)


def test_a_store_in_memory_has_no_files() -> None:
    with pytest.raises(StorageError, match="in memory"):
        MemoryStore().snapshot()
