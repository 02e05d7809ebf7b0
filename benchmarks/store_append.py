"""Durable appends to the telemetry store, beside SQLite (WAL, synchronous=FULL) with the same rows in the same run.

Both commit every batch to disk before the next begins. SQLite gets the layout that suits it best: a plain table without
any index, rows by `executemany`. Engines take turns, so that both see the same machine. Usage:

    python benchmarks/store_append.py [--seconds 1] [--rounds 2] [--sizes 10,100,1000,10000,50000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store

SERIES = 1000
STEP_NS = 1_000_003
WARM_UP_BATCHES = 3
RATE_TARGET_PER_S = 1_000_000
"""Of the largest batches."""
LATENCY_TARGET_MS = 2.0
"""Median of the smallest batches."""

Append = Callable[[Columns], None]


class Measured(NamedTuple):
    points: int
    latencies_s: list[float]

    @property
    def per_s(self) -> float:
        return self.points / sum(self.latencies_s)

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_s, n=100, method="inclusive")[percent - 1] * 1000


def columns_of(size: int, start_ns: int) -> Columns:
    """Points as a fleet of devices sends them: series in turn, times rising, values of two decimals."""
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", (n % SERIES for n in range(size)))
    columns.at_ns = array("q", range(start_ns, start_ns + size * STEP_NS, STEP_NS))
    columns.values = array("d", (n * 7919 % 10_000 / 100 for n in range(size)))
    return columns


def measure(append: Append, size: int, seconds: float, start_ns: int) -> Measured:
    """Append batches for so long; only the appends are timed. The first few, which warm caches, do not count."""
    latencies: list[float] = []
    batches = 0
    while sum(latencies) < seconds or len(latencies) < 2:
        columns = columns_of(size, start_ns + batches * size * STEP_NS)
        begun = time.perf_counter()
        append(columns)
        taken = time.perf_counter() - begun
        batches += 1
        if batches > WARM_UP_BATCHES:
            latencies.append(taken)
    return Measured(len(latencies) * size, latencies)


def measure_headwater(directory: Path, size: int, seconds: float) -> Measured:
    with closing(open_duck_store(directory)) as store:
        series = [Series(n, SeriesKey(n // 8, "channel"), f"field{n % 8 + 1}", ValueType.FLOAT) for n in range(SERIES)]
        store.append(Batch(series))
        return measure(lambda columns: store.append(Batch(columns={columns.type: columns})), size, seconds, 0)


def measure_sqlite(directory: Path, size: int, seconds: float) -> Measured:
    directory.mkdir()
    connection = sqlite3.connect(directory / "points.db")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE points (series_id INTEGER, at_ns INTEGER, value REAL)")

        def append(columns: Columns) -> None:
            rows = zip(columns.series_ids, columns.at_ns, columns.values, strict=True)
            with connection:
                connection.executemany("INSERT INTO points VALUES (?, ?, ?)", rows)

        return measure(append, size, seconds, 0)
    finally:
        connection.close()


def merged(rounds: list[Measured]) -> Measured:
    return Measured(sum(one.points for one in rounds), [taken for one in rounds for taken in one.latencies_s])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1, help="of appending, for each engine, size and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", default="10,100,1000,10000,50000", help="points a batch")
    parser.add_argument("--directory", type=Path, help="where to put the files; on a disk, not in memory")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]

    engines = {"headwater": measure_headwater, "sqlite": measure_sqlite}
    results: dict[tuple[str, int], list[Measured]] = {}
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("appending", total=len(sizes) * arguments.rounds * len(engines))
        for size in sizes:
            for _ in range(arguments.rounds):
                for name, measure_engine in engines.items():
                    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
                        measured = measure_engine(Path(directory) / name, size, arguments.seconds)
                    results.setdefault((name, size), []).append(measured)
                    progress.advance(task)

    table = Table(title="Durable appends; commit latencies in ms")
    for heading in ("batch", "Headwater points/s", "p50", "p99", "SQLite points/s", "p50", "p99", "ratio"):
        table.add_column(heading, justify="right")
    for size in sizes:
        ours, theirs = (merged(results[name, size]) for name in engines)
        cells = [f"{size:,}"]
        for one in (ours, theirs):
            cells += [f"{one.per_s:,.0f}", f"{one.percentile_ms(50):.2f}", f"{one.percentile_ms(99):.2f}"]
        table.add_row(*cells, f"{ours.per_s / theirs.per_s:.2f}")
    console.print(table)
    rate = merged(results["headwater", sizes[-1]]).per_s
    latency_ms = merged(results["headwater", sizes[0]]).percentile_ms(50)
    console.print(
        f"Targets: {RATE_TARGET_PER_S:,} points/s in batches of {sizes[-1]:,}: {_verdict(rate >= RATE_TARGET_PER_S)}; "
        f"median commit of {sizes[0]:,} points under {LATENCY_TARGET_MS:g} ms: "
        f"{_verdict(latency_ms < LATENCY_TARGET_MS)}."
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


if __name__ == "__main__":
    main()
