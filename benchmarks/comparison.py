"""Loads put on Headwater and its peer in turn, several times, and the verdict as a table. Knows no protocol."""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from servers import Target

Start = Callable[[], AbstractContextManager[Target]]


@dataclass(frozen=True)
class Measured:
    """One figure of one server."""

    value: float
    load_busy: float | None = None
    """Share of the time in which the load itself used the processor: near 1, the load is what limits the figure."""
    dropped: int = 0
    """Messages that were sent and arrived nowhere."""


class Stopwatch:
    """Time since it was made, and the processor time of this process in it."""

    def __init__(self) -> None:
        self._cpu_started_s = time.process_time()
        self._started_s = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s

    def rate(self, count: int, dropped: int = 0) -> Measured:
        """`count` things happened until now."""
        elapsed_s = self.elapsed_s
        return Measured(count / elapsed_s, (time.process_time() - self._cpu_started_s) / elapsed_s, dropped)


@dataclass(frozen=True)
class Load:
    """What is measured, on which two servers, and what Headwater has to reach: at least `least_ratio` times its peer's
    figure, or a figure of at most `most`. Without either, the figure is only told."""

    name: str
    title: str
    measure: Callable[[Target, float], Measured]
    """Puts the load on a server for about so many seconds."""
    headwater: Start
    peer: Start
    least_ratio: float | None = None
    most: float | None = None
    unit: str = "/s"
    rounds: int | None = None
    """Where one measurement says enough."""


@dataclass
class _Result:
    load: Load
    ours: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)

    @property
    def figures(self) -> tuple[float, float]:
        return _median(self.ours), _median(self.theirs)

    @property
    def is_met(self) -> bool:
        """Judged as printed: a ratio has two decimals."""
        ours, theirs = self.figures
        load = self.load
        if load.least_ratio is not None and round(ours / theirs, 2) < load.least_ratio:
            return False
        return load.most is None or ours <= load.most

    def cells(self) -> list[str]:
        ours, theirs = self.figures
        load = self.load
        goal = ""
        if load.least_ratio is not None:
            goal = f">= {load.least_ratio:.1f}"
        elif load.most is not None:
            goal = f"<= {load.most:,.0f}{load.unit}"
        ratio = f"{ours / theirs:.2f}"
        return [
            load.title,
            f"{ours:,.0f}{load.unit}",
            f"{theirs:,.0f}{load.unit}",
            ratio if self.is_met else f"[bold red]{ratio}",
            goal,
            _busy(self.ours, self.theirs),
            _dropped(self.ours, self.theirs),
        ]


def _median(measured: list[Measured]) -> float:
    return statistics.median(one.value for one in measured)


def _busy(ours: list[Measured], theirs: list[Measured]) -> str:
    if ours[0].load_busy is None:
        return ""
    return " / ".join(f"{statistics.median(one.load_busy or 0 for one in side):.0%}" for side in (ours, theirs))


def _dropped(ours: list[Measured], theirs: list[Measured]) -> str:
    dropped = [sum(one.dropped for one in side) for side in (ours, theirs)]
    return " / ".join(f"{count:,}" for count in dropped) if any(dropped) else ""


def add_arguments(parser: argparse.ArgumentParser, loads: Sequence[str]) -> None:
    """The options that all comparisons have."""
    parser.add_argument("--only", action="append", choices=loads, help="measure this load; may be given several times")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each measurement lasts")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; the median counts")


def compare(title: str, peer: str, loads: Sequence[Load], arguments: argparse.Namespace) -> None:
    """Measure, print the table and end the process: status 1 when a target is missed."""
    raise_file_limit()
    results = [_Result(load) for load in loads if not arguments.only or load.name in arguments.only]
    total = sum(2 * (result.load.rounds or arguments.rounds) for result in results)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=total)
        for round_number in range(arguments.rounds):
            for result in results:
                load = result.load
                if load.rounds is not None and round_number >= load.rounds:
                    continue
                progress.update(task, description=load.name)
                turns = [(load.headwater, result.ours), (load.peer, result.theirs)]
                for start, measured in turns if round_number % 2 == 0 else reversed(turns):
                    with start() as target:
                        measured.append(load.measure(target, arguments.seconds))
                    progress.advance(task)
    _print(title, peer, results)
    sys.exit(0 if all(result.is_met for result in results) else 1)


def _print(title: str, peer: str, results: list[_Result]) -> None:
    table = Table(title=f"{title}; median of the rounds")
    for column in ("load", "Headwater", peer, "ratio", "target", "load busy", "dropped"):
        table.add_column(column, justify="left" if column == "load" else "right")
    for result in results:
        table.add_row(*result.cells())
    console = Console()
    console.print(table)
    missed = [result.load.name for result in results if not result.is_met]
    console.print(f"Missed: {', '.join(missed)}." if missed else "Every target is met.")


def raise_file_limit() -> None:
    """Every connection takes an open file here and one in the server, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
