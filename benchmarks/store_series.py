"""The store and the catalogue with a million series: memory, time to open, how fast new series and points get in, and
how long the latest points take. Headwater alone; nothing is judged.

A third as many stations have three fields each. Filling and reading are done by processes of their own, so that each
begins with nothing in memory. Usage:

    python benchmarks/store_series.py [--series 1000000] [--records 5000000] [--directory DIR]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.table import Table

from database_server import size_of
from headwater.services.catalogue import Catalogue
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store
from servers import resident_bytes
from store_load import FIELDS, Fleet, Points
from store_questions import Latencies
from store_upkeep import kept_in_order

NEW_SERIES_AT_ONCE = 3_000
"""A thousand stations are heard for the first time in one commit."""
POINTS_AT_ONCE = 30_000
ASKED = 200
_MIB = 2**20
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def fill(directory: Path, stations: int, records: int) -> dict[str, str]:
    """Make the series, then a record of every station in turn; what there is to tell of it."""
    begun_s = time.perf_counter()
    catalogue = Catalogue()
    fleet = Fleet(stations)
    points = Points(fleet, catalogue)
    made_s = time.perf_counter() - begun_s
    series = points.new_series
    with closing(open_duck_store(directory)) as store:
        begun_s = time.perf_counter()
        for first in range(0, len(series), NEW_SERIES_AT_ONCE):
            store.append(Batch(series[first : first + NEW_SERIES_AT_ONCE]))
        listed_s = time.perf_counter() - begun_s
        appending_s = 0.0
        with kept_in_order(store):
            for block in fleet.blocks(records, steps_per_block=1):
                for batch in portions(points.batch(block)):
                    begun_s = time.perf_counter()
                    store.append(batch)
                    appending_s += time.perf_counter() - begun_s
            storing_until_s = time.perf_counter()
        ordering_s = time.perf_counter() - storing_until_s
    return {
        "series": f"{len(series):,}",
        "numbered in memory": f"{len(series) / made_s:,.0f}/s",
        "new series stored": f"{len(series) / listed_s:,.0f}/s",
        "records of three fields stored": f"{fleet.records / appending_s:,.0f}/s",
        "then put in order in": f"{ordering_s:.1f} s",
        "most memory while filling": f"{_most_memory() / _MIB:,.0f} MiB",
        "bytes on disk a value": f"{size_of(directory) / (fleet.records * len(FIELDS)):.2f}",
    }


def portions(batch: Batch) -> Iterator[Batch]:
    """A batch in several of a usual size."""
    for value_type, columns in batch.columns.items():
        for first in range(0, len(columns), POINTS_AT_ONCE):
            portion = Columns(value_type)
            for name in ("series_ids", "at_ns", "values"):
                setattr(portion, name, getattr(columns, name)[first : first + POINTS_AT_ONCE])
            yield Batch(columns={value_type: portion})


def read(directory: Path) -> dict[str, str]:
    """Open what was filled, and ask for the latest points."""
    empty = resident_bytes(os.getpid())
    begun_s = time.perf_counter()
    with closing(open_duck_store(directory)) as store:
        opened_s, opened = time.perf_counter() - begun_s, resident_bytes(os.getpid())
        begun_s = time.perf_counter()
        catalogue = Catalogue(store.catalogue())
        loaded_s, loaded = time.perf_counter() - begun_s, resident_bytes(os.getpid())
        ids = [one.id for bucket_id in catalogue.bucket_ids() for one in catalogue.of_bucket(bucket_id)]
        latest = Latencies()
        for series_id in random.Random(3).choices(ids, k=ASKED):
            begun_s = time.perf_counter()
            store.rows([series_id], newest=1).to_pydict()
            latest.taken.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
        found = store.newest_times(ids)
        all_latest_s = time.perf_counter() - begun_s
        if len(found) != len(ids):
            raise RuntimeError(f"{len(found)} of {len(ids)} series have a latest time")
    return {
        "opening the store": f"{opened_s * 1000:,.0f} ms",
        "loading the catalogue": f"{loaded_s:.1f} s",
        "memory of the store, opened": f"{(opened - empty) / _MIB:,.0f} MiB",
        "memory of the catalogue": f"{(loaded - opened) / _MIB:,.0f} MiB",
        "of it a series": f"{(loaded - opened) / len(ids):,.0f} bytes",
        "latest of one series, p50 / p99": f"{latest.cell} ms",
        "latest times of all series": f"{all_latest_s:.2f} s",
        "most memory while reading": f"{_most_memory() / _MIB:,.0f} MiB",
    }


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_new_process(work: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=5_000_000, help="of three fields; at least one a station")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to put the files; not in memory")
    arguments = parser.parse_args()
    stations = arguments.series // len(FIELDS)

    console = Console()
    table = Table("what", "figure", title="A store of many series")
    table.columns[1].justify = "right"
    with tempfile.TemporaryDirectory(prefix="store-bench-", dir=arguments.directory) as name:
        directory = Path(name) / "headwater"
        with console.status("filling"):
            found = in_new_process(fill, directory, stations, max(arguments.records, stations))
        with console.status("reading"):
            found |= in_new_process(read, directory)
    for what, figure in found.items():
        table.add_row(what, figure)
    console.print(table)


if __name__ == "__main__":
    main()
