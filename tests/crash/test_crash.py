"""The store's process killed at random moments, again and again on one directory.

`make crash` does it more often: the environment variable CRASHES says how many times in all.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from headwater.store.duck import open_duck_store
from headwater.store.duck.inspection import inspect_store

from .operations import Points, operation

CRASHES = int(os.environ.get("CRASHES", "6"))
CRASHES_PER_STORE = 20

pytestmark = pytest.mark.timeout(600)


def run_until_killed(directory: Path, first: int, delay_s: float) -> tuple[int, bool]:
    """Start the writer and kill it so long after its first operation. Answers the number of operations that it said
    were done, and whether another was begun."""
    arguments = [sys.executable, "-m", "tests.crash.writer", str(directory), str(first)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        assert lines[0], "the store did not open"
        time.sleep(delay_s)  # any moment will do
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    done = sum(line.startswith("did") for line in lines)
    return first + done, len(lines) > 2 * done


def read(directory: Path) -> Points:
    with closing(open_duck_store(directory, hot_rows=400, deletions_wait_s=0)) as store:
        rows = store.rows([1, 2])
        times = rows.column("at_ns").to_pylist()
        assert store.rows([1, 2], newest=50).column("at_ns").to_pylist() == times[-50:]
        return {
            (series_id, at_ns): value
            for series_id in (1, 2)
            for at_ns, value in zip(times, rows.column(str(series_id)).to_pylist(), strict=True)
            if value is not None
        }


@pytest.mark.parametrize("first", range(0, CRASHES, CRASHES_PER_STORE))
def test_a_kill_at_any_moment_loses_nothing_and_brings_nothing_back(tmp_path: Path, first: int) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(1_000_000)))
    chance = random.Random(seed)
    expected: Points = {}
    number = 0
    for crash in range(first, min(first + CRASHES_PER_STORE, CRASHES)):
        done, is_another_begun = run_until_killed(tmp_path, number, chance.uniform(0.0, 0.4))
        for n in range(number, done):
            operation(n).apply(expected)
        number = done
        found = read(tmp_path)
        if is_another_begun and found != expected:  # it was not acknowledged: all of it is there, or nothing
            operation(number).apply(expected)
            number += 1
        inspect_store(tmp_path, {})
        assert found == expected, f"after kill {crash} (CRASH_SEED={seed})"
    with closing(open_duck_store(tmp_path, hot_rows=1, deletions_wait_s=0)) as store:
        while store.maintain():  # whatever the kills have left half done
            pass
    assert read(tmp_path) == expected, f"after sorting (CRASH_SEED={seed})"
