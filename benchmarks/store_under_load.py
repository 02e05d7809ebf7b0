"""How long questions to the store take while telemetry pours in, beside the same questions to a store at rest.

Records of three fields come at a steady pace; as in a server, each commit takes all that came during the one before,
and upkeep is running. Questions are asked one after another, of one store: first at rest, then under load. Usage:

    python benchmarks/store_under_load.py [--records 30000000] [--rate 200000] [--seconds 10] [--directory DIR]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headwater.app import THREAD_SWITCH_S
from headwater.services.catalogue import Catalogue
from headwater.store import Batch, Store
from headwater.store.duck import open_duck_store
from store_load import FIELDS, Fleet, Points
from store_questions import WARM_UP, Latencies, Question, ask_headwater, questions, subjects
from store_upkeep import kept_in_order, upkeep_beside

MOST_SLOWER = 3.0
"""Of the 99th percentile."""
LEAST_PACE = 0.95
"""Share of the wanted rate that must have been reached for the figures to count."""


MOST_STEPS = 50
"""So many thousands of records are in one commit at most."""


class Pace:
    """Appends at a steady rate until it is told to stop; what it could not do in time, as fast as it can."""

    def __init__(self, store: Store, fleet: Fleet, points: Points, records_per_s: int) -> None:
        self.appended = 0
        self.commits = Latencies()
        self._store = store
        self._fleet = fleet
        self._points = points
        self._rate = records_per_s
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work, name="appending")
        begun_s = time.perf_counter()
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()
        self.reached_per_s = self.appended / (time.perf_counter() - begun_s)
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        begun_s = time.perf_counter()
        try:
            while not self._stopping.is_set():
                due = (time.perf_counter() - begun_s) * self._rate - self.appended
                steps = min(int(due / len(self._fleet.stations)), MOST_STEPS)
                if not steps:
                    self._stopping.wait(0.001)
                    continue
                block = self._fleet.block(steps)
                batch = self._points.batch(block)
                committing_s = time.perf_counter()
                self._store.append(batch)
                self.commits.taken.append(time.perf_counter() - committing_s)
                self.appended += len(block)
        except BaseException as error:
            self._failures.append(error)


def ask_for(seconds: float, question: Question, store: Store, fleet: Fleet) -> Latencies:
    """Ask for so long, about random stations; how long the lists took."""
    latencies = Latencies()
    about = itertools.cycle(subjects(fleet, 1 if question.is_repeated else 10_000))
    ask_headwater(question, store, list(itertools.islice(about, WARM_UP)))
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        latencies.taken += ask_headwater(question, store, [next(about)])[1].taken
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=30_000_000, help="that are there before")
    parser.add_argument("--rate", type=int, default=200_000, help="records a second that are appended meanwhile")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each question, at rest and under load")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to put the files; not in memory")
    arguments = parser.parse_args()

    sys.setswitchinterval(THREAD_SWITCH_S)  # as the server does
    console = Console()
    fleet = Fleet()
    points = Points(fleet, Catalogue())
    idle: dict[str, Latencies] = {}
    busy: dict[str, Latencies] = {}
    with (
        Progress(console=console, transient=True) as progress,
        tempfile.TemporaryDirectory(prefix="store-bench-", dir=arguments.directory) as name,
        closing(open_duck_store(Path(name) / "headwater")) as store,
    ):
        task = progress.add_task("storing", total=arguments.records)
        store.append(Batch(points.new_series))
        with kept_in_order(store):
            for block in fleet.blocks(arguments.records):
                store.append(points.batch(block))
                progress.advance(task, len(block))
        asked = questions(fleet, points)
        with upkeep_beside(store):
            for question in progress.track(asked, description="asking at rest"):
                idle[question.title] = ask_for(arguments.seconds, question, store, fleet)
        pace = Pace(store, fleet, points, arguments.rate)
        with upkeep_beside(store), pace.running():
            for question in progress.track(asked, description="asking under load"):
                busy[question.title] = ask_for(arguments.seconds, question, store, fleet)

    table = Table(title=f"Answers while {arguments.rate:,} records/s come in, p50 / p99 in ms")
    for heading in ("question", "at rest", "under load", "p99 ratio", "target"):
        table.add_column(heading, justify="left" if heading == "question" else "right")
    missed = []
    for title in idle:
        ratio = busy[title].percentile_ms(99) / idle[title].percentile_ms(99)
        if ratio >= MOST_SLOWER:
            missed.append(title)
        cell = f"[bold red]{ratio:.2f}" if title in missed else f"{ratio:.2f}"
        table.add_row(title, idle[title].cell, busy[title].cell, cell, f"< {MOST_SLOWER:g}")
    console.print(table)
    console.print(
        f"{pace.reached_per_s:,.0f} records/s of {len(FIELDS)} fields were appended, {pace.appended:,} in all; "
        f"a commit took {pace.commits.cell} ms."
    )
    if pace.reached_per_s < LEAST_PACE * arguments.rate:
        missed.append("the rate of appending")
    console.print(f"Missed: {'; '.join(missed)}." if missed else "Every target is met.")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
