"""A file system that becomes read-only under the store, as Linux makes it after errors of a disk, and one that is so
from the start.

Linux refuses to remount a file system read-only while files of it are open for writing, so an error is made to happen
on a small one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store
from headwater.store.duck.inspection import inspect_store

SERIES = Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT)
PER_BATCH = 2_000


@dataclass
class Disk:
    """A file system of 64 MB in a file, mounted."""

    image: Path
    path: Path

    def fail(self) -> None:
        """Have the kernel find an error: nothing more can be written."""
        found = subprocess.run(["findmnt", "-no", "SOURCE", self.path], check=True, capture_output=True, text=True)
        device = Path(found.stdout.strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def mend(self) -> None:
        """As an operator does: it has to be mounted anew."""
        subprocess.run(["umount", self.path], check=True)
        subprocess.run(["fsck.ext4", "-y", self.image], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)


def mounted(*command: str | Path) -> None:
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this root may not mount such file systems")


def skip_unless_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount file systems")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    skip_unless_root()
    one = Disk(tmp_path / "image", tmp_path / "disk")
    one.path.mkdir()
    with one.image.open("wb") as file:
        file.truncate(64 * 2**20)
    mounted("mkfs.ext4", "-q", "-F", one.image)
    mounted("mount", "-o", "loop,errors=remount-ro", one.image, one.path)
    try:
        yield one
    finally:
        subprocess.run(["umount", "--lazy", one.path], check=True)


def append(store: DuckStore, number: int) -> None:
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", [1]) * PER_BATCH
    columns.at_ns = array("q", range(number * PER_BATCH, (number + 1) * PER_BATCH))
    columns.values = array("d", [float(number)]) * PER_BATCH
    store.append(Batch([], {ValueType.FLOAT: columns}))


def rows(store: DuckStore) -> int:
    return int(store.rows([1]).num_rows)


def fill(store: DuckStore) -> None:
    """Points in files, and arrivals of which the log alone knows."""
    store.append(Batch([SERIES]))
    for number in range(6):
        append(store, number)
    while store.maintain():
        pass
    append(store, 6)


def test_writes_are_refused_and_reads_go_on(disk: Disk) -> None:
    with closing(open_duck_store(disk.path / "store", hot_rows=10_000, deletions_wait_s=0)) as store:
        fill(store)
        disk.fail()
        for _ in range(2):
            with pytest.raises(StorageError, match="has become read-only"):
                append(store, 7)
            with pytest.raises(StorageError, match="has become read-only"):
                store.delete([1], end_ns=10)
            assert rows(store) == 7 * PER_BATCH
            assert store.rows([1], newest=1).column("at_ns").to_pylist() == [7 * PER_BATCH - 1]
    with pytest.raises(ConfigurationError, match="Read-only file system"):
        open_duck_store(disk.path / "store")
    disk.mend()
    inspect_store(disk.path / "store", {})
    with closing(open_duck_store(disk.path / "store")) as store:
        assert rows(store) == 7 * PER_BATCH
        append(store, 7)
        assert rows(store) == 8 * PER_BATCH


def test_storing_goes_on_when_the_files_can_be_written_again(disk: Disk) -> None:
    """Files that may not be changed are refused like those of a read-only disk, but stay open for writing."""
    directory = disk.path / "store"

    def let_write(sign: str) -> None:
        subprocess.run(["chattr", f"{sign}i", *directory.glob("points.duckdb*")], check=True)

    with closing(open_duck_store(directory, hot_rows=10_000, deletions_wait_s=0)) as store:
        fill(store)
        let_write("+")
        for _ in range(3):
            with pytest.raises(StorageError):
                append(store, 7)
            assert rows(store) == 7 * PER_BATCH
        let_write("-")
        append(store, 7)
        assert rows(store) == 8 * PER_BATCH
    with closing(open_duck_store(directory)) as store:
        assert rows(store) == 8 * PER_BATCH


def test_a_directory_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    skip_unless_root()
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", directory)
    try:
        with closing(open_duck_store(directory / "store", hot_rows=10_000)) as store:
            fill(store)
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        for name in ("store", "new"):
            with pytest.raises(ConfigurationError, match="Read-only file system"):
                open_duck_store(directory / name)
        inspect_store(directory / "store", {})
        subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
        with closing(open_duck_store(directory / "store")) as store:
            assert rows(store) == 7 * PER_BATCH
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
