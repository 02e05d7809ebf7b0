"""A large store of the first format is being brought up when its process is killed, at one random moment after the
other: nothing that was in it is lost."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from duck_format_1 import FORMAT_1
from headwater.store.duck import open_duck_store
from headwater.store.duck.inspection import inspect_store

from .test_crash import CRASHES

MIGRATIONS = max(2, CRASHES // 20)
KILLS_EACH = 4
ROWS = 300_000
PER_COMMIT = 50_000

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def first_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the points are in the file, half in its log, as a kill has left it."""
    directory = tmp_path_factory.mktemp("format_1")
    with duckdb.connect(directory / "points.duckdb") as old:
        for statement in FORMAT_1:
            old.execute(statement)
        old.execute("SET checkpoint_threshold = '1GB'")
        made_up = f"SELECT 32, 10_000 + range * 7 % {ROWS}, range / 3 FROM range({ROWS})"
        old.execute(f"INSERT INTO hot_float {made_up}; CHECKPOINT")
        for first in range(0, ROWS, PER_COMMIT):  # so few that they are in the log, not in the file already
            some = f"SELECT 32, {ROWS // 2 + first} + range, -range FROM range({PER_COMMIT})"
            old.execute(f"INSERT INTO hot_float {some}")
            old.execute(f"INSERT INTO hot_string {some.replace('32', '33', 1)}")
        left = directory / "left"
        left.mkdir()
        for path in directory.glob("points.duckdb*"):
            shutil.copy(path, left)
    assert (left / "points.duckdb.wal").stat().st_size > 2**20
    return left


def points(directory: Path) -> pa.Table:
    with closing(open_duck_store(directory, hot_rows=2**40)) as store:
        return store.rows([32, 33])


def kill_while_opening(directory: Path, delay_s: float) -> None:
    """Kill a process so long after it began to open the store."""
    arguments = [sys.executable, "-m", "tests.crash.opener", str(directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as opener:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "open\n"
        time.sleep(delay_s)  # any moment will do
        assert opener.poll() is None, "it failed by itself"
        opener.kill()


@pytest.mark.parametrize("number", range(MIGRATIONS))
def test_a_kill_while_a_store_is_brought_up_loses_nothing(first_format: Path, tmp_path: Path, number: int) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(1_000_000)))
    chance = random.Random(seed + number)
    shutil.copytree(first_format, tmp_path / "whole")
    expected = points(tmp_path / "whole")
    assert expected.num_rows > ROWS
    directory = tmp_path / "store"
    shutil.copytree(first_format, directory)
    for _ in range(KILLS_EACH):
        kill_while_opening(directory, chance.choice([0.05, 0.3, 1.0]) * chance.random())
    assert points(directory).equals(expected), f"CRASH_SEED={seed}"
    with closing(open_duck_store(directory, hot_rows=50_000)) as store:
        while store.maintain():
            pass
    inspect_store(directory, {})
    assert points(directory).equals(expected), f"CRASH_SEED={seed}"
