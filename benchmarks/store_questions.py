"""What the store's benchmarks ask, of Headwater in this process and of InfluxDB over HTTP, and how long answers take.

Headwater answers with Arrow columns; what it takes to turn those into Python lists is measured too. InfluxDB's answer
is taken from the socket and not decoded.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.windows import Windows
from influx import Influx
from store_load import FIELDS, MEASUREMENT, ROOMS, START_NS, Fleet, Points

HOUR_NS = 3_600_000_000_000
WEEK_NS = 7 * 24 * HOUR_NS
NEWEST = 100
WARM_UP = 3
_MEAN = Aggregate(Function.MEAN)
_FIELD_NAMES = list(FIELDS)


@dataclass(frozen=True)
class Subject:
    """What a question is about: a station and one of its fields, by their numbers."""

    station: int
    field: int


@dataclass
class Latencies:
    """How long the answers to one question took, in seconds."""

    taken: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: int) -> float:
        if len(self.taken) == 1:
            return self.taken[0] * 1000
        return statistics.quantiles(self.taken, n=100, method="inclusive")[percent - 1] * 1000

    @property
    def cell(self) -> str:
        """Median and 99th percentile."""
        return f"{self.percentile_ms(50):.2f} / {self.percentile_ms(99):.2f}"


@dataclass(frozen=True)
class Question:
    name: str
    title: str
    ask_headwater: Callable[[Store, Subject], pa.Table]
    render_influxql: Callable[[Subject], str]
    times: int
    """How often it is asked."""
    is_repeated: bool = False
    """Whether the same is asked again and again, as dashboards do, and not of another series each time."""


def questions(fleet: Fleet, points: Points) -> list[Question]:
    """About all that the fleet has sent until now."""
    ids = points.ids
    end_ns = fleet.end_ns
    week_ns = max(START_NS, end_ns - WEEK_NS)
    span = f"time >= {START_NS} AND time < {end_ns}"
    rooms = [list(range(room, len(fleet.stations), ROOMS)) for room in range(ROOMS)]
    whole = Windows(START_NS, end_ns, every_ns=end_ns - START_NS, offset_ns=START_NS)

    def device(subject: Subject) -> str:
        return f"device = '{fleet.stations[subject.station].device}'"

    def series(subject: Subject) -> int:
        return ids[_FIELD_NAMES[subject.field]][subject.station]

    def newest(fields: str, subject: Subject) -> str:
        return f"SELECT {fields} FROM {MEASUREMENT} WHERE {device(subject)} ORDER BY time DESC LIMIT {NEWEST}"

    last_field = Question(
        "last-field",
        f"last {NEWEST}, one field",
        lambda store, subject: store.rows([series(subject)], newest=NEWEST),
        lambda subject: newest(_FIELD_NAMES[subject.field], subject),
        200,
    )
    return [
        last_field,
        replace(last_field, name="last-field-again", title=f"{last_field.title}, again", is_repeated=True),
        Question(
            "last-record",
            f"last {NEWEST}, {len(FIELDS)} fields",
            lambda store, subject: store.rows([ids[name][subject.station] for name in FIELDS], newest=NEWEST),
            lambda subject: newest(", ".join(FIELDS), subject),
            200,
        ),
        Question(
            "hourly-mean",
            "hourly mean of a week",
            lambda store, subject: store.windows([[series(subject)]], [_MEAN], Windows(week_ns, end_ns, HOUR_NS)),
            lambda subject: (
                f"SELECT mean({_FIELD_NAMES[subject.field]}) FROM {MEASUREMENT} "
                f"WHERE {device(subject)} AND time >= {week_ns} AND time < {end_ns} GROUP BY time(1h)"
            ),
            200,
        ),
        Question(
            "mean-by-tag",
            "mean of all by tag",
            lambda store, subject: store.windows(
                [[ids[_FIELD_NAMES[subject.field]][n] for n in room] for room in rooms], [_MEAN], whole
            ),
            lambda subject: f"SELECT mean({_FIELD_NAMES[subject.field]}) FROM {MEASUREMENT} WHERE {span} GROUP BY room",
            8,
        ),
    ]


def subjects_of(question: Question, fleet: Fleet) -> list[Subject]:
    """What it is asked about, one after another."""
    if question.is_repeated:
        return subjects(fleet, 1) * question.times
    return subjects(fleet, question.times)


def subjects(fleet: Fleet, count: int, seed: int = 11) -> list[Subject]:
    """Random ones, the same from every run."""
    source = random.Random(seed)
    return [Subject(source.randrange(len(fleet.stations)), source.randrange(len(FIELDS))) for _ in range(count)]


def ask_headwater(question: Question, store: Store, asked: Sequence[Subject]) -> tuple[Latencies, Latencies]:
    """Until the columns are there, and until they are lists."""
    columns, lists = Latencies(), Latencies()
    for subject in asked:
        begun_s = time.perf_counter()
        answer = question.ask_headwater(store, subject)
        answered_s = time.perf_counter()
        answer.to_pydict()
        lists.taken.append(time.perf_counter() - begun_s)
        columns.taken.append(answered_s - begun_s)
    return columns, lists


def ask_influx(question: Question, influx: Influx, asked: Sequence[Subject]) -> Latencies:
    """Until the answer has come over the wire."""
    latencies = Latencies()
    for subject in asked:
        query = question.render_influxql(subject)
        begun_s = time.perf_counter()
        influx.ask(query)
        latencies.taken.append(time.perf_counter() - begun_s)
    return latencies


def check_same(question: Question, store: Store, influx: Influx, subject: Subject) -> None:
    """Raises RuntimeError unless both give the same answer."""
    table = question.ask_headwater(store, subject)
    columns = [name for name in table.column_names if name != "group"]
    ours: list[list[Any]] = [
        list(row) for row in zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    ]
    theirs = sorted(influx.rows(question.render_influxql(subject)), key=lambda row: row[0])  # groups keep their order
    is_same = len(ours) == len(theirs) and all(
        len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True))
        for one, other in zip(ours, theirs, strict=True)
    )
    if not is_same:
        raise RuntimeError(f"{question.name}: Headwater answered {ours[:3]}..., InfluxDB {theirs[:3]}...")
