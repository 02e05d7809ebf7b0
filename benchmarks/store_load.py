"""The data of the store's benchmarks: what a fleet of weather stations sends, the same from every run. Knows no server.

Every station writes one record of three fields each `INTERVAL_S`; the stations take turns, so that records come in the
order of their times. Values are random walks of two decimals. Columns are made with Arrow: a load that is cheap beside
what it measures.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.services.catalogue import Catalogue
from headwater.store import Batch, Columns

MEASUREMENT = "climate"
FIELDS = {"temperature": 2_000, "humidity": 5_000, "pressure": 101_300}
"""Where the walks begin, in hundredths."""
STATIONS = 1_000
ROOMS = 10
INTERVAL_S = 30
"""30 million records of 1,000 stations are ten days, so that there is a whole week to ask for."""
START_NS = 1_704_067_200_000_000_000
STEPS_PER_BLOCK = 10
MOST_CHANGE = 10
"""Of a value from one record to the next, in hundredths."""
_POOL = 1_000_003
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Station:
    device: str
    room: str

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(1, MEASUREMENT, (("device", self.device), ("room", self.room)))


@dataclass(frozen=True)
class Block:
    """Some records after another, column by column."""

    at_ns: pa.Array
    values: list[pa.Array]
    """Of each field."""

    def __len__(self) -> int:
        return len(self.at_ns)


class Fleet:
    """The stations and what they send. Goes on where it stopped.

    `jitter_ms`: by how much at most a record is late. Without it all times are whole seconds, evenly spaced for each
    station, which any engine stores in next to no room.
    """

    def __init__(self, stations: int = STATIONS, jitter_ms: int = 0, seed: int = 4) -> None:
        self.stations = [Station(f"station-{n:06d}", f"room-{n % ROOMS}") for n in range(stations)]
        self.steps = 0
        """How many records each station has sent."""
        self._random = random.Random(seed)
        self._changes = pa.array(self._random.choices(range(-MOST_CHANGE, MOST_CHANGE + 1), k=_POOL + stations))
        self._values = [pa.array([begin] * stations) for begin in FIELDS.values()]
        self._turns_ns = pa.array([n * INTERVAL_S // stations * _SECOND_NS for n in range(stations)])
        self._jitters_ns: pa.Array | None = None
        if jitter_ms:
            late = (ms * 1_000_000 for ms in self._random.choices(range(jitter_ms + 1), k=_POOL + stations))
            self._jitters_ns = pa.array(late, pa.int64())

    @property
    def end_ns(self) -> int:
        """A time after all that was sent."""
        return START_NS + self.steps * INTERVAL_S * _SECOND_NS

    @property
    def records(self) -> int:
        """How many were sent."""
        return self.steps * len(self.stations)

    def blocks(self, records: int, steps_per_block: int = STEPS_PER_BLOCK) -> Iterator[Block]:
        """So many records more (as far as they fill whole blocks)."""
        for _ in range(records // (len(self.stations) * steps_per_block)):
            yield self.block(steps_per_block)

    def block(self, steps: int) -> Block:
        """What all stations send in the next so many intervals."""
        at_ns: list[pa.Array] = []
        hundredths: list[list[pa.Array]] = [[] for _ in self._values]
        for _ in range(steps):
            turns_ns = pc.add(self._turns_ns, self.end_ns)
            if self._jitters_ns is not None:
                turns_ns = pc.add(turns_ns, self._some(self._jitters_ns))
            at_ns.append(turns_ns)
            for number, values in enumerate(self._values):
                self._values[number] = pc.add(values, self._some(self._changes))
                hundredths[number].append(self._values[number])
            self.steps += 1
        values = [pc.divide(pc.cast(pa.concat_arrays(of_field), pa.float64()), 100.0) for of_field in hundredths]
        return Block(pa.concat_arrays(at_ns), values)

    def _some(self, pool: pa.Array) -> pa.Array:
        return pool.slice(self._random.randrange(_POOL), len(self.stations))


class Lines:
    """Records as line protocol."""

    def __init__(self, fleet: Fleet) -> None:
        first = next(iter(FIELDS))
        self._heads = [f"{MEASUREMENT},device={one.device},room={one.room} {first}=" for one in fleet.stations]

    def render(self, block: Block) -> bytes:
        heads = pa.array(self._heads * (len(block) // len(self._heads)))
        parts: list[pa.Array | str] = [heads]
        for name, values in zip(FIELDS, block.values, strict=True):
            if len(parts) > 1:
                parts.append(f",{name}=")
            parts.append(pc.cast(values, pa.string()))
        lines = pc.binary_join_element_wise(*parts, " ", pc.cast(block.at_ns, pa.string()), "\n", "")
        size: int = pc.sum(pc.binary_length(lines)).as_py()
        return bytes(memoryview(lines.buffers()[2])[:size])


class Points:
    """Records as the store takes them, in the order in which ingest would hand them over: record after record."""

    def __init__(self, fleet: Fleet, catalogue: Catalogue) -> None:
        self.new_series: list[Series] = []
        """What the first batch has to bring with it."""
        self.ids: dict[str, list[int]] = {field: [] for field in FIELDS}
        """The series of each field, station by station."""
        for station in fleet.stations:
            for field in FIELDS:
                series = catalogue.create(station.key, field, ValueType.FLOAT)
                self.new_series.append(series)
                self.ids[field].append(series.id)
        self._ids = array("q", (one.id for one in self.new_series))
        self._orders: dict[int, tuple[pa.Array, pa.Array]] = {}

    def batch(self, block: Block) -> Batch:
        records, places = self._order(len(block))
        columns = Columns(ValueType.FLOAT)
        columns.series_ids = self._ids * (len(records) // len(self._ids))
        columns.at_ns.frombytes(_memory(block.at_ns.take(records)))
        columns.values.frombytes(_memory(pa.concat_arrays(block.values).take(places)))
        return Batch(columns={ValueType.FLOAT: columns})

    def _order(self, records: int) -> tuple[pa.Array, pa.Array]:
        """For each point: which record it is of, and where its value stands when field is put after field."""
        if records not in self._orders:
            fields = range(len(FIELDS))
            self._orders[records] = (
                pa.array([record for record in range(records) for _ in fields], pa.int32()),
                pa.array([number * records + record for record in range(records) for number in fields], pa.int32()),
            )
        return self._orders[records]


def _memory(numbers: pa.Array) -> memoryview:
    """The bytes of an array that is no slice."""
    return memoryview(numbers.buffers()[1])[: len(numbers) * 8]
