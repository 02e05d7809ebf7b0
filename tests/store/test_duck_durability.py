"""What was appended is on disk: after a kill at any moment, a torn log, a failed transaction."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store
from headwater.store.duck.files import DATABASE_NAME

KEY = SeriesKey(1, "m")

WRITER = """
import sys
from pathlib import Path
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store

store = open_duck_store(Path(sys.argv[1]), wal_limit_mb=1)  # so that checkpoints happen too
first = int(sys.argv[2])
rows_per_batch = int(sys.argv[3])
for number in range(first, first + 1_000_000):
    batch = Batch()
    if number == 0:
        batch.new_series = [
            Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT), Series(2, SeriesKey(1, "m"), "g", ValueType.STRING)
        ]
    floats, texts = Columns(ValueType.FLOAT), Columns(ValueType.STRING)
    for row in range(rows_per_batch):
        floats.append(1, number * rows_per_batch + row, float(number))
        texts.append(2, number * rows_per_batch + row, str(number))
    batch.columns = {ValueType.FLOAT: floats, ValueType.STRING: texts}
    store.append(batch)
    print(number, flush=True)
"""

FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
"""


@pytest.mark.parametrize("rows_per_batch", [1, 3000])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, rows_per_batch: int) -> None:
    directory = tmp_path / "store"
    acknowledged = -1
    for acknowledgements in (1, 5, 17, 60):
        arguments = [str(directory), str(acknowledged + 1), str(rows_per_batch)]
        with subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(acknowledgements):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:  # written before the kill came through
                acknowledged = int(line)
        with closing(open_duck_store(directory)) as store:
            rows = store.rows([1, 2])
        expected = range(rows.num_rows)
        assert rows.column("at_ns").to_pylist() == list(expected)
        assert rows.column("1").to_pylist() == [float(at_ns // rows_per_batch) for at_ns in expected]
        assert rows.column("2").to_pylist() == [str(at_ns // rows_per_batch) for at_ns in expected]
        whole, torn = divmod(rows.num_rows, rows_per_batch)
        assert torn == 0
        # One batch may have reached the disk without its acknowledgement having been printed.
        assert whole - 1 in (acknowledged, acknowledged + 1)
        acknowledged = whole - 1


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes there")
@pytest.mark.parametrize("rows_per_batch", [2000, 10_000])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, rows_per_batch: int) -> None:
    directory = tmp_path / "store"
    writer = subprocess.run(
        [sys.executable, "-c", FULL_DISK + WRITER, str(directory), "0", str(rows_per_batch)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "StorageError: The telemetry store has stopped, most likely because its disk is full" in writer.stderr
    acknowledged = len(writer.stdout.splitlines())
    assert acknowledged > 1
    with closing(open_duck_store(directory)) as store:
        assert store.rows([1, 2]).num_rows in (acknowledged * rows_per_batch, (acknowledged + 1) * rows_per_batch)
        append(store, -1, new_series=[Series(3, KEY, "h", ValueType.INTEGER)], series_id=3)
        assert store.rows([3]).num_rows == 1


def append(store: DuckStore, at_ns: int, *, new_series: list[Series] | None = None, series_id: int = 1) -> None:
    columns = Columns(ValueType.INTEGER)
    columns.append(series_id, at_ns, at_ns)
    store.append(Batch(new_series or [], {ValueType.INTEGER: columns}))


def as_left_by_a_crash(store_directory: Path, batches: int, copy: Path) -> Path:
    """Append batches of one point and copy the files before the store is closed. Returns the copy of the log."""
    with closing(open_duck_store(store_directory)) as store:
        for at_ns in range(batches):
            append(store, at_ns, new_series=[] if at_ns else [Series(1, KEY, "f", ValueType.INTEGER)])
        shutil.copytree(store_directory, copy)
    return copy / f"{DATABASE_NAME}.wal"


def times(directory: Path) -> list[int]:
    with closing(open_duck_store(directory)) as store:
        at_ns: list[int] = store.rows([1]).column("at_ns").to_pylist()
        return at_ns


@pytest.mark.parametrize("torn_bytes", [1, 20, 60])
def test_a_torn_end_of_the_log_costs_only_what_was_torn(tmp_path: Path, torn_bytes: int) -> None:
    log = as_left_by_a_crash(tmp_path / "store", 5, tmp_path / "copy")
    log.write_bytes(log.read_bytes()[:-torn_bytes])
    assert times(log.parent) == [0, 1, 2, 3]
    with closing(open_duck_store(log.parent)) as store:
        append(store, 9)
    assert times(log.parent) == [0, 1, 2, 3, 9]


def test_a_damaged_log_is_noticed(tmp_path: Path) -> None:
    log = as_left_by_a_crash(tmp_path / "store", 50, tmp_path / "copy")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(StorageError, match="may be damaged"):
        open_duck_store(log.parent)


def test_a_transaction_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    # DuckDB finds the tag that comes twice only after the points were inserted.
    bad = Series(2, SeriesKey(1, "m", (("a", "1"), ("a", "2"))), "f", ValueType.INTEGER)
    with closing(open_duck_store(directory)) as store:
        append(store, 0, new_series=[Series(1, KEY, "f", ValueType.INTEGER)])
        with pytest.raises(StorageError):
            append(store, 1, new_series=[bad])
        assert store.rows([1, 2]).to_pydict() == {"at_ns": [0], "1": [0], "2": [None]}
        append(store, 2)
    assert times(directory) == [0, 2]
