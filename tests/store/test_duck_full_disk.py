"""A disk that fills up, and has room again later: on a small file system where that can be made, else by a figure."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store

SERIES = Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT)
PER_BATCH = 2_000
_MB = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB. Needs the rights of root."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this root may not mount file systems")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def append(store: DuckStore, number: int) -> None:
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", [1]) * PER_BATCH
    columns.at_ns = array("q", range(number * PER_BATCH, (number + 1) * PER_BATCH))
    columns.values = array("d", [random.random() for _ in range(PER_BATCH)])
    store.append(Batch([], {ValueType.FLOAT: columns}))


def append_until_refused(store: DuckStore, first: int) -> tuple[int, StorageError]:
    """How many batches are in the store then, and why no more."""
    number = first
    while True:
        try:
            append(store, number)
        except StorageError as error:
            return number, error
        number += 1
        assert number < 1_000, "the disk never became full"


def times(store: DuckStore) -> int:
    return int(store.rows([1]).num_rows)


def test_writes_are_refused_in_time_and_go_on_when_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(6 * _MB))
    with closing(open_duck_store(small_disk / "store", hot_rows=20_000, min_free_mb=12)) as store:
        store.append(Batch([SERIES]))
        count, error = append_until_refused(store, 0)
        assert "full but for 12 MB" in str(error)
        assert count > 0
        with pytest.raises(StorageError, match="full but for 12 MB"):
            store.maintain()  # there is something to sort, but no room
        assert times(store) == count * PER_BATCH
        store.delete([1], start_ns=0, end_ns=10)  # deleting is what makes room
        assert times(store) == count * PER_BATCH - 10
        filler.unlink()
        append(store, count)
        assert times(store) == (count + 1) * PER_BATCH - 10


def test_an_engine_that_gave_up_is_opened_again(small_disk: Path) -> None:
    """Others have filled the disk to the last byte."""
    now_s = 0.0
    with closing(open_duck_store(small_disk / "store", wal_limit_mb=4, now_s=lambda: now_s)) as store:
        store.append(Batch([SERIES]))
        append(store, 0)
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            file.write(bytes(24 * _MB))
        count, error = append_until_refused(store, 1)
        assert "has stopped" in str(error)
        with pytest.raises(StorageError, match="opened again in a few seconds"):
            times(store)
        filler.unlink()
        now_s += 10
        found = times(store)
        assert found in (count * PER_BATCH, (count + 1) * PER_BATCH)  # the last was not acknowledged
        append(store, count)
        assert times(store) == (count + 1) * PER_BATCH
    with closing(open_duck_store(small_disk / "store")) as store:
        assert times(store) == (count + 1) * PER_BATCH
