"""Where the points of one value type are: which tables, in which order of age, over which times. Pure values.

A store's points of a type are spread over *parts*: tables of arrivals (hot) and files of sorted points (runs). Every
part holds all that arrived in some generations, so of two parts one is newer as a whole, and its points win.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headwater.model.series import ValueType
from headwater.store.duck.schema import hot_table

EARLIEST_NS, LATEST_NS = -(2**63), 2**63 - 1
MERGED_AT_ONCE = 8
"""So many runs of about one size are merged into one: each point is rewritten once for every such step of growth."""
MAX_RUN_ROWS = 128_000_000
"""Merging more takes minutes of one core, and a query that looks at one file more costs half a millisecond more. Three
steps of growth from arrivals of a million, which are some more by the time they are sorted."""


@dataclass(slots=True)
class Hot:
    """The table of one generation. Its times may reach further than its rows do, never less far."""

    type: ValueType
    generation: int
    rows: int = 0
    first_ns: int = LATEST_NS
    last_ns: int = EARLIEST_NS

    def reach(self, rows: int, first_ns: int, last_ns: int) -> None:
        """So many rows more will be there, from this time to that."""
        self.rows += rows
        self.first_ns = min(self.first_ns, first_ns)
        self.last_ns = max(self.last_ns, last_ns)

    def part(self) -> Part:
        table = hot_table(self.type, self.generation)
        return Part(table, self.generation, self.generation, self.rows, self.first_ns, self.last_ns, 1, None)


class Run(NamedTuple):
    """A file of sorted points: a row of the table `runs`."""

    number: int
    type: ValueType
    first_generation: int
    last_generation: int
    rows: int
    first_ns: int
    last_ns: int
    unit_ns: int
    """Its times are kept in this unit, which they are all multiples of: small numbers take little room."""
    deletions_applied: int
    """The number of the last deletion whose points were left out when it was written."""

    @property
    def database(self) -> str:
        """The name under which its file is attached."""
        return f"run_{self.number:d}"

    def part(self) -> Part:
        return Part(f"{self.database}.points", *self[2:])


class Part(NamedTuple):
    """What a query needs to know of a hot table or a run. Behind the table's name, its fields are those of `Run`."""

    table: str
    first_generation: int
    last_generation: int
    rows: int
    first_ns: int
    last_ns: int
    unit_ns: int
    deletions_applied: int | None
    """None for a hot table: deletions are carried out there at once."""

    @property
    def is_hot(self) -> bool:
        return self.deletions_applied is None

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether it may have points in [start, end)."""
        return self.first_ns < end_ns and self.last_ns >= start_ns


class Layout(NamedTuple):
    """All parts of one value type. Never changed: a new one takes its place, so that a reader sees one or the other."""

    runs: tuple[Run, ...]
    """From the oldest to the newest."""
    hots: tuple[Hot, ...]
    """Newer than all runs; the last takes new points, the others wait to become a run."""

    @property
    def active(self) -> Hot:
        return self.hots[-1]

    @property
    def last_ns(self) -> int:
        """No point is later than this."""
        return max(part.last_ns for part in self.parts())

    def parts(self) -> list[Part]:
        """From the oldest to the newest."""
        return [*(run.part() for run in self.runs), *(hot.part() for hot in self.hots)]

    def replace(self, former: Collection[Run], new: Run | None) -> Layout:
        """With one run (or nothing) in the place of some neighbours."""
        runs = [run for run in self.runs if run not in former]
        if new is not None:
            runs.append(new)
        return self._replace(runs=tuple(sorted(runs, key=lambda run: run.last_generation)))


def ids_by_type(types: Mapping[int, ValueType]) -> dict[ValueType, list[int]]:
    """Series together that have their points in the same layout."""
    ids_of: dict[ValueType, list[int]] = {}
    for series_id, value_type in types.items():
        ids_of.setdefault(value_type, []).append(series_id)
    return ids_of


def runs_to_merge(runs: Sequence[Run], *, at_once: int = MERGED_AT_ONCE, max_rows: int = MAX_RUN_ROWS) -> Sequence[Run]:
    """Which neighbours in age to merge next; empty when there is no need.

    Runs come in sizes that grow by the factor `at_once`, oldest largest: the youngest `at_once` of about one size
    become one of the next (smaller ones between them are taken along, but none is hurried). Only neighbours are merged,
    so that newer still wins over older as a whole.
    """
    for stop in range(len(runs), at_once - 1, -1):
        chosen = runs[stop - at_once : stop]
        largest = max(run.rows for run in chosen)
        total = sum(run.rows for run in chosen)
        if chosen[-1].rows * 2 >= largest and total * 2 >= largest * at_once and total <= max_rows:
            return chosen
    return ()
