"""The process killed at random moments while it down-samples: brought up to date, results are what the points say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import SystemRandom

import pytest

from headwater.model.series import SeriesKey
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.duck import DuckStore
from headwater.store.windows import Windows
from rollup_farm import ALL, SECOND_NS, SOURCE, Farm

from .keeping import FIELDS, HOURS_NS, RULES, now_ns, open_store

CRASHES = int(os.environ.get("CRASHES", "4"))
CRASHES_PER_STORE = 10


def run_until_killed(directory: Path, delay_s: float) -> None:
    arguments = [sys.executable, "-m", "tests.crash.keeping", str(directory)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay_s)  # any moment will do
        process.kill()
    assert process.returncode == -signal.SIGKILL


async def bring_up_to_date(store: DuckStore) -> int:
    """Answers how many results there are of a field."""
    farm = Farm(store, now_ns)
    await farm.rollups.load(RULES)
    await farm.deleting.finish_interrupted()
    assert {one.key.bucket_id for one in store.catalogue()} <= {SOURCE, *(rule.target_bucket_id for rule in RULES)}
    await farm.keep()
    for rule in RULES:
        assert_right(farm, store, rule.window_s * SECOND_NS, rule.target_bucket_id)
    count = len(farm.results("f.count"))
    await farm.close()
    return count


def assert_right(farm: Farm, store: Store, window_ns: int, target_id: int) -> None:
    aggregates = [Aggregate(Function(name)) for name in ALL]
    for field, value_class in zip(FIELDS, (float, int), strict=True):
        series_id = farm.catalogue.find(SeriesKey(SOURCE, "m"), field, value_class)
        table = store.windows(
            [[] if series_id is None else [series_id]], aggregates, Windows(0, 2 * HOURS_NS, window_ns)
        )
        for name in ALL:
            expected = dict(zip(table.column("at_ns").to_pylist(), table.column(name).to_pylist(), strict=True))
            assert farm.results(f"{field}.{name}", target_id) == pytest.approx(expected)


@pytest.mark.parametrize("first", range(0, CRASHES, CRASHES_PER_STORE))
def test_after_a_kill_at_any_moment_results_become_right(tmp_path: Path, first: int) -> None:
    count = 0
    for _ in range(first, min(first + CRASHES_PER_STORE, CRASHES)):
        run_until_killed(tmp_path, SystemRandom().uniform(0.0, 1.5))
        with closing(open_store(tmp_path)) as store:
            count += asyncio.run(bring_up_to_date(store))
    assert count, "no process did anything before it was killed"
