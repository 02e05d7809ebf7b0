"""Power that goes at any byte, and damage at any byte: what was acknowledged is there, or the start is refused."""

from __future__ import annotations

import random
import shutil
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import DuckStore, open_duck_store
from headwater.store.duck.files import DATABASE_NAME
from headwater.store.duck.inspection import inspect_store

SERIES = (Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT), Series(2, SeriesKey(1, "m"), "g", ValueType.STRING))
BATCHES = 12
LOG = f"{DATABASE_NAME}.wal"


class Left(NamedTuple):
    """Files as they are when the power goes, and how long the log was after each commit that was acknowledged."""

    directory: Path
    log: bytes
    ends: list[int]

    def acknowledged_within(self, size: int) -> int:
        """How many commits were acknowledged when the log was not longer than this."""
        return sum(end <= size for end in self.ends)


def append(store: DuckStore, number: int) -> None:
    """Of some length or other: floats and texts in one transaction."""
    floats, texts = Columns(ValueType.FLOAT), Columns(ValueType.STRING)
    for at_ns in range(number * 100, number * 100 + 1 + 17 * (number % 5)):
        floats.append(1, at_ns, float(number))
        texts.append(2, at_ns, "x" * number)
    store.append(Batch(list(SERIES) if number == 0 else [], {ValueType.FLOAT: floats, ValueType.STRING: texts}))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    directory = tmp_path_factory.mktemp("left")
    ends = []
    with closing(open_duck_store(directory / "store")) as store:
        for number in range(BATCHES):
            append(store, number)
            ends.append((directory / "store" / LOG).stat().st_size)
        shutil.copytree(directory / "store", directory / "copy")
    return Left(directory / "copy", (directory / "copy" / LOG).read_bytes(), ends)


def commits(left: Left, log: bytes, scratch: Path) -> int:
    """How many commits are there with this log; each is whole. Raises StorageError when the store does not open."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(left.directory, scratch)
    (scratch / LOG).write_bytes(log)
    with closing(open_duck_store(scratch)) as store:
        table = store.rows([1, 2])
        numbers = [at_ns // 100 for at_ns in table.column("at_ns").to_pylist()]
        found = len(set(numbers))
        expected = [n for n in range(found) for _ in range(1 + 17 * (n % 5))]
        assert numbers == expected
        if found:
            assert table.column("1").to_pylist() == [float(n) for n in expected]
            assert table.column("2").to_pylist() == ["x" * n for n in expected]
        append(store, found)  # and it goes on
    with closing(open_duck_store(scratch)) as store:
        assert len({at_ns // 100 for at_ns in store.rows([1, 2]).column("at_ns").to_pylist()}) == found + 1
    return found


def cuts() -> Iterator[int]:
    """Around the end of each commit, and anywhere."""
    chance = random.Random(4)
    yield from range(0, 40, 7)
    yield from (chance.randrange(2**30) for _ in range(25))


def test_a_log_that_ends_at_any_byte_has_all_that_was_acknowledged_by_then(left: Left, tmp_path: Path) -> None:
    places = {place % (len(left.log) + 1) for place in cuts()}
    places |= {end + offset for end in left.ends for offset in (-1, 0, 1) if end + offset <= len(left.log)}
    for place in sorted(places):
        assert commits(left, left.log[:place], tmp_path / "cut") == left.acknowledged_within(place), place


@pytest.mark.parametrize("kind", ["zeros", "garbage"])
def test_blocks_that_were_never_written_cost_nothing_that_was_acknowledged(
    left: Left, tmp_path: Path, kind: str
) -> None:
    """The file has become longer, but what was to be in it did not get to the disk, or not all of it."""
    chance = random.Random(5)
    for begun in range(1, BATCHES):
        acknowledged, end = left.ends[begun - 1], left.ends[begun]
        for written in (acknowledged, chance.randrange(acknowledged, end), chance.randrange(acknowledged, end)):
            missing = end - written if written > acknowledged else 4096
            tail = bytes(missing) if kind == "zeros" else chance.randbytes(missing)
            try:
                found: int | str = commits(left, left.log[:written] + tail, tmp_path / "torn")
            except StorageError as error:
                found = str(error)
            if isinstance(found, int):
                assert found == begun, (begun, written)
            else:  # it cannot be told from damage of what was acknowledged
                assert f"{DATABASE_NAME} cannot be opened, it may be damaged" in found


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "store"
    chance = random.Random(6)
    with closing(open_duck_store(directory, hot_rows=1_000)) as store:
        for number in range(3):
            columns = Columns(ValueType.FLOAT)
            columns.series_ids = array("q", [1]) * 20_000
            columns.at_ns = array("q", range(number * 20_000, (number + 1) * 20_000))
            columns.values = array("d", [chance.random() for _ in range(20_000)])
            store.append(Batch(list(SERIES) if number == 0 else [], {ValueType.FLOAT: columns}))
            while store.maintain():
                pass
    return directory


def points(directory: Path) -> list[object]:
    with closing(open_duck_store(directory, hot_rows=2**40)) as store:
        table = store.rows([1])
        return [*table.column("at_ns").to_pylist(), *table.column("1").to_pylist()]


@settings(deadline=None, max_examples=30)
@given(place=st.integers(0, 2**30), bits=st.integers(1, 255), name=st.sampled_from(["run-1", "run-2", "run-3"]))
def test_a_byte_that_has_changed_in_a_file_of_points_is_found(
    with_runs: Path, tmp_path_factory: pytest.TempPathFactory, place: int, bits: int, name: str
) -> None:
    copy = tmp_path_factory.mktemp("damaged") / "store"
    shutil.copytree(with_runs, copy)
    path = copy / f"{name}.duckdb"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= bits
    path.write_bytes(content)
    refused = check(copy, path)
    if not refused:  # nothing reads that byte
        assert points(copy) == points(with_runs)
    shutil.rmtree(copy)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**30))
def test_a_file_of_points_that_ends_at_any_byte_is_found(
    with_runs: Path, tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    copy = tmp_path_factory.mktemp("cut") / "store"
    shutil.copytree(with_runs, copy)
    path = copy / "run-2.duckdb"
    content = path.read_bytes()
    path.write_bytes(content[: size % len(content)])
    assert check(copy, path)
    shutil.rmtree(copy)


def check(directory: Path, damaged: Path) -> bool:
    """Whether looking into a store finds something wrong. Then it names the file, and reading all of it is refused too:
    at the start, or when it is read."""
    try:
        inspect_store(directory, {})
    except StorageError as error:
        told = str(error)
    else:
        return False
    assert damaged.name in told
    with pytest.raises(StorageError):
        points(directory)
    return True
