"""How the cost of questions grows with the store: the same ones at 1, 10 and 100 million records. Headwater alone.

One store grows; at each size it is put in order, closed and opened again before it is asked. Usage:

    python benchmarks/store_growth.py [--records 1000000,10000000,100000000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from database_server import size_of
from headwater.services.catalogue import Catalogue
from headwater.store import Batch
from headwater.store.duck import open_duck_store
from store_load import FIELDS, Fleet, Points
from store_questions import WARM_UP, Latencies, Question, ask_headwater, questions, subjects_of
from store_upkeep import kept_in_order


@dataclass
class Grown:
    """The store at one size."""

    records: int
    records_per_s: float
    """While it grew to that."""
    bytes_per_value: float
    opening_s: float
    answers: dict[str, Latencies]
    """Question to how long the lists took."""


def grow(directory: Path, fleet: Fleet, points: Points, records: int, progress: Progress) -> float:
    """Store what is missing; records a second."""
    before = fleet.records
    task = progress.add_task(f"storing up to {records:,}", total=records - before)
    with closing(open_duck_store(directory)) as store:
        if not before:
            store.append(Batch(points.new_series))
        begun_s = time.perf_counter()
        with kept_in_order(store):
            for block in fleet.blocks(records - before):
                store.append(points.batch(block))
                progress.advance(task, len(block))
            stored_s = time.perf_counter()
    return (fleet.records - before) / (stored_s - begun_s)


def measure(directory: Path, asked: list[Question], fleet: Fleet, rate: float, progress: Progress) -> Grown:
    bytes_per_value = size_of(directory) / (fleet.records * len(FIELDS))
    begun_s = time.perf_counter()
    with closing(open_duck_store(directory)) as store:
        opening_s = time.perf_counter() - begun_s
        answers = {}
        for question in progress.track(asked, description=f"asking at {fleet.records:,}"):
            about = subjects_of(question, fleet)
            ask_headwater(question, store, about[:WARM_UP])
            _, answers[question.title] = ask_headwater(question, store, about)
    return Grown(fleet.records, rate, bytes_per_value, opening_s, answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="1000000,10000000,100000000", help="of three fields, ascending")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to put the files; not in memory")
    arguments = parser.parse_args()
    sizes = sorted(int(size) for size in arguments.records.split(","))

    console = Console()
    fleet = Fleet()
    points = Points(fleet, Catalogue())
    found = []
    with (
        Progress(console=console, transient=True) as progress,
        tempfile.TemporaryDirectory(prefix="store-bench-", dir=arguments.directory) as name,
    ):
        directory = Path(name) / "headwater"
        for size in sizes:
            rate = grow(directory, fleet, points, size, progress)
            found.append(measure(directory, questions(fleet, points), fleet, rate, progress))
    console.print(_table(found))


def _table(found: list[Grown]) -> Table:
    table = Table(title="Growth; answers as Python lists, p50 / p99 in ms")
    table.add_column("records of three fields")
    for one in found:
        table.add_column(f"{one.records:,}", justify="right")
    table.add_row("stored, records/s", *(f"{one.records_per_s:,.0f}" for one in found))
    table.add_row("bytes a value", *(f"{one.bytes_per_value:.2f}" for one in found))
    table.add_row("opening the store", *(f"{one.opening_s * 1000:.0f} ms" for one in found))
    for title in found[0].answers:
        table.add_row(title, *(one.answers[title].cell for one in found))
    return table


if __name__ == "__main__":
    main()
