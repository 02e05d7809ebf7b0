"""The same telemetry in Headwater's store, in InfluxDB 1.x and in VictoriaMetrics: how fast it gets in, how fast
questions are answered, and how much room it takes.

Records of three fields from 1,000 stations, one after another in the order of their times. Headwater's store is in
this process, InfluxDB is asked over HTTP on one connection that is kept alive: what an exchange without any work takes
stands below the table. The engines take turns, and each is at rest (all compacted) before it is asked. Usage:

    python benchmarks/store_queries.py [--records 30000000] [--jitter-ms 0] [--directory DIR]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import influx as influxdb
import victoria as victoriametrics
from database_server import size_of
from headwater.services.catalogue import Catalogue
from headwater.store import Batch, Store
from headwater.store.duck import open_duck_store
from influx import Influx, influxd
from servers import find_program
from store_load import FIELDS, Block, Fleet, Lines, Points
from store_questions import (
    WARM_UP,
    Latencies,
    Question,
    ask_headwater,
    ask_influx,
    check_same,
    questions,
    subjects,
    subjects_of,
)
from store_upkeep import kept_in_order, upkeep_beside
from victoria import victoria_metrics

ROUNDS = 4
"""Turns that each engine gets with each question."""
APPEND_TARGET_PER_S = 1_000_000
PREPARED_RECORDS = 5_000_000
"""So many are made before the clock starts: 360 MB."""


@dataclass
class Loaded:
    """How data got into an engine."""

    records_per_s: float
    settling_s: float
    """Until nothing was left to be put in order."""


@dataclass
class Answered:
    """What a question took."""

    question: Question
    columns: Latencies = field(default_factory=Latencies)
    lists: Latencies = field(default_factory=Latencies)
    influx: Latencies = field(default_factory=Latencies)

    @property
    def ratio(self) -> float:
        """How many times as fast as InfluxDB; lists are what counts."""
        return self.influx.percentile_ms(50) / self.lists.percentile_ms(50)


class Benchmark:
    """One run: the data is the same for every engine."""

    def __init__(self, records: int, jitter_ms: int, progress: Progress) -> None:
        self.records = records
        self._jitter_ms = jitter_ms
        self._progress = progress

    def fleet(self) -> Fleet:
        return Fleet(jitter_ms=self._jitter_ms)

    def blocks(self, fleet: Fleet, title: str, most: int | None = None) -> Iterator[Block]:
        """What the fleet has not sent yet, or so many records of it."""
        left = self.records - fleet.records
        count = left if most is None else min(most, left)
        task = self._progress.add_task(title, total=count)
        for block in fleet.blocks(count):
            yield block
            self._progress.advance(task, len(block))

    def load_headwater(self, store: Store, fleet: Fleet, points: Points) -> tuple[float, Loaded]:
        """With upkeep beside it, as in a server. Also answers how fast the first millions got in, which were ready in
        memory: to make the data takes a tenth of a second for each."""
        store.append(Batch(points.new_series))
        prepared = [points.batch(block) for block in self.blocks(fleet, "Headwater: preparing", PREPARED_RECORDS)]
        count = fleet.records
        with kept_in_order(store):
            begun_s = time.perf_counter()
            for batch in prepared:
                store.append(batch)
            append_rate = count / (time.perf_counter() - begun_s)
            for block in self.blocks(fleet, "Headwater: storing"):
                store.append(points.batch(block))
            stored_s = time.perf_counter()
        return append_rate, Loaded(fleet.records / (stored_s - begun_s), time.perf_counter() - stored_s)

    def load_influx(self, influx: Influx) -> Loaded:
        fleet = self.fleet()
        lines = Lines(fleet)
        begun_s = time.perf_counter()
        for block in self.blocks(fleet, "InfluxDB: storing"):
            influx.write(lines.render(block))
        stored_s = time.perf_counter()
        influx.wait_until_settled()
        return Loaded(fleet.records / (stored_s - begun_s), time.perf_counter() - stored_s)

    def load_victoria(self, directory: Path) -> Loaded:
        fleet = self.fleet()
        lines = Lines(fleet)
        with victoria_metrics(directory) as victoria:
            begun_s = time.perf_counter()
            for block in self.blocks(fleet, "VictoriaMetrics: storing"):
                victoria.write(lines.render(block))
            stored_s = time.perf_counter()
            victoria.merge()
            if victoria.values() < fleet.records * len(FIELDS):
                raise RuntimeError(f"VictoriaMetrics has {victoria.values()} values of {fleet.records * len(FIELDS)}")
            return Loaded(fleet.records / (stored_s - begun_s), time.perf_counter() - stored_s)

    def ask(self, store: Store, influx: Influx, fleet: Fleet, points: Points) -> list[Answered]:
        found = []
        for question in questions(fleet, points):
            task = self._progress.add_task(question.title, total=ROUNDS)
            answered = Answered(question)
            check_same(question, store, influx, subjects(fleet, 1)[0])
            asked = subjects_of(question, fleet)
            size = len(asked) // ROUNDS
            for number in range(ROUNDS):
                portion = asked[number * size : (number + 1) * size]
                ask_headwater(question, store, portion[:WARM_UP])
                columns, lists = ask_headwater(question, store, portion)
                answered.columns.taken += columns.taken
                answered.lists.taken += lists.taken
                ask_influx(question, influx, portion[:WARM_UP])
                answered.influx.taken += ask_influx(question, influx, portion).taken
                self._progress.advance(task)
            found.append(answered)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=30_000_000, help="of three fields")
    parser.add_argument("--jitter-ms", type=int, default=0, help="by how much at most a record is late")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to put the files; not in memory")
    arguments = parser.parse_args()
    try:
        find_program("influxd", influxdb.PACKAGE)  # rather now than in some minutes
        find_program("victoria-metrics", victoriametrics.PACKAGE)
    except RuntimeError as error:
        parser.exit(2, f"{error}\n")

    console = Console()
    with (
        Progress(console=console, transient=True) as progress,
        tempfile.TemporaryDirectory(prefix="store-bench-", dir=arguments.directory) as name,
    ):
        directory = Path(name)
        benchmark = Benchmark(arguments.records, arguments.jitter_ms, progress)
        fleet = benchmark.fleet()
        points = Points(fleet, Catalogue())
        with closing(open_duck_store(directory / "headwater")) as store:
            append_rate, of_headwater = benchmark.load_headwater(store, fleet, points)
            loaded = {"Headwater": of_headwater}
            with influxd(directory / "influx") as influx:
                loaded["InfluxDB"] = benchmark.load_influx(influx)
                with upkeep_beside(store):
                    answered = benchmark.ask(store, influx, fleet, points)
                exchange = _exchange(influx)
        loaded["VictoriaMetrics"] = benchmark.load_victoria(directory / "victoria")
        paths = dict(zip(loaded, ("headwater", "influx", "victoria"), strict=True))
        bytes_per_value = {
            engine: size_of(directory / path) / (fleet.records * len(FIELDS)) for engine, path in paths.items()
        }
        unsorted = (directory / "headwater" / "points.duckdb").stat().st_size / (fleet.records * len(FIELDS))
    console.print(_loading(fleet, loaded, bytes_per_value))
    console.print(f"Headwater: {unsorted:.2f} bytes a value are in points.duckdb, with the room that is free in it.")
    prepared = min(PREPARED_RECORDS, fleet.records)
    console.print(f"Headwater: {append_rate:,.0f} records/s of the first {prepared:,}, made before the clock started.")
    console.print(_asking(answered))
    console.print(f"InfluxDB: an exchange over HTTP without any work takes {exchange.percentile_ms(50):.2f} ms.")
    verdicts = {
        f"at least {APPEND_TARGET_PER_S:,} records/s": append_rate >= APPEND_TARGET_PER_S,
        "no more bytes a value than InfluxDB": bytes_per_value["Headwater"] <= bytes_per_value["InfluxDB"],
    }
    verdicts |= {f"{one.question.title}: no slower than InfluxDB": one.ratio >= 1 for one in answered}
    missed = [target for target, is_met in verdicts.items() if not is_met]
    console.print(f"Missed: {'; '.join(missed)}." if missed else "Every target is met.")
    sys.exit(1 if missed else 0)


def _exchange(influx: Influx) -> Latencies:
    latencies = Latencies()
    for _ in range(200):
        begun_s = time.perf_counter()
        influx.ping()
        latencies.taken.append(time.perf_counter() - begun_s)
    return latencies


def _loading(fleet: Fleet, loaded: dict[str, Loaded], bytes_per_value: dict[str, float]) -> Table:
    table = Table(title=f"{fleet.records:,} records of {len(FIELDS)} fields in {len(fleet.stations):,} series keys")
    for heading in ("engine", "records/s", "then put in order", "bytes a value"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for engine, one in loaded.items():
        row = [f"{one.records_per_s:,.0f}", f"{one.settling_s:.1f} s", f"{bytes_per_value[engine]:.2f}"]
        table.add_row(engine, *row)
    return table


def _asking(answered: list[Answered]) -> Table:
    table = Table(title="Answers, p50 / p99 in ms")
    for heading in ("question", "asked", "Headwater", "as lists", "InfluxDB", "ratio"):
        table.add_column(heading, justify="left" if heading == "question" else "right")
    for one in answered:
        ratio = f"{one.ratio:.2f}" if one.ratio >= 1 else f"[bold red]{one.ratio:.2f}"
        asked = str(len(one.columns.taken))
        table.add_row(one.question.title, asked, one.columns.cell, one.lists.cell, one.influx.cell, ratio)
    return table


if __name__ == "__main__":
    main()
