"""What is loaded at a time: points of many series in columns, and how they cross from a command to the server.

A block is small enough for one transaction, and holds the whole of each record. Knows no format and no store.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadRequest
from headwater.exchange.columns import Column, Role
from headwater.model.series import TYPE_OF, Value, ValueType
from headwater.store import Columns

POINTS_AT_ONCE = 30_000
MAX_BLOCK_BYTES = 256 * 2**20
"""Far above what such a block can be: texts have at most a few megabytes."""

Tags = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Block:
    """Points whose series are named by their index in `series`: measurement, tags by name, field and type."""

    end_row: int
    """How many records of the file were read when this ended."""
    series: list[tuple[str, Tags, str, ValueType]] = field(default_factory=list)
    columns: dict[ValueType, Columns] = field(default_factory=dict)
    are_entries: bool = False
    """Whether it is of a file of ThingSpeak's, whose rows are entries of a channel."""

    def __len__(self) -> int:
        """How many points."""
        return sum(len(columns) for columns in self.columns.values())

    def of(self, value_type: ValueType) -> Columns:
        """The columns of this type."""
        if value_type not in self.columns:
            self.columns[value_type] = Columns(value_type)
        return self.columns[value_type]

    def begins_before(self, at_ns: int) -> bool:
        """Whether there is a point of an earlier time."""
        return any(min(columns.at_ns, default=at_ns) < at_ns for columns in self.columns.values())

    def since(self, start_ns: int) -> Block:
        """The points of this time and later, with the series that they need."""
        block = Block(self.end_row, are_entries=self.are_entries)
        new_index: dict[int, int] = {}
        for value_type, columns in self.columns.items():
            for index, at_ns, value in zip(columns.series_ids, columns.at_ns, columns.values, strict=True):
                if at_ns >= start_ns:
                    if index not in new_index:
                        new_index[index] = len(block.series)
                        block.series.append(self.series[index])
                    block.of(value_type).append(new_index[index], at_ns, value)
        return block


class BlockBuilder:
    """Gathers records one by one."""

    def __init__(self) -> None:
        self._block = Block(0)
        self._indexes: dict[tuple[str, Tags, str, type], int] = {}

    def __len__(self) -> int:
        return len(self._block)

    def add(self, measurement: str, tags: Tags, name: str, at_ns: int, value: Value) -> None:
        value_class = value.__class__
        value_type = TYPE_OF[value_class]
        index = self._indexes.get((measurement, tags, name, value_class))
        if index is None:
            index = self._indexes[measurement, tags, name, value_class] = len(self._block.series)
            self._block.series.append((measurement, tags, name, value_type))
        self._block.of(value_type).append(index, at_ns, value)

    def take(self, end_row: int, *, are_entries: bool = False) -> Block:
        """What was gathered."""
        block, self._block = self._block, Block(0)
        self._indexes.clear()
        block.end_row, block.are_entries = end_row, are_entries
        return block


def blocks_of(batch: pa.RecordBatch, columns: Sequence[Column], first_row: int) -> Iterator[Block]:
    """The records of a table's piece: `columns` say what stands in it, types included. Times are int64, not null; a
    measurement is not null; a null field is no point. Raises BadRequest for a record without a value."""
    fields = [number for number, column in enumerate(columns) if column.role is Role.FIELD]
    at_once = max(1, POINTS_AT_ONCE // max(1, len(fields)))
    for start in range(0, batch.num_rows, at_once):
        yield _block_of(batch.slice(start, at_once), columns, fields, first_row + min(start + at_once, batch.num_rows))


def _block_of(batch: pa.RecordBatch, columns: Sequence[Column], fields: Sequence[int], end_row: int) -> Block:
    block = Block(end_row)
    keys, key_of_row = _keys(batch, columns)
    at_ns = batch.column(next(number for number, column in enumerate(columns) if column.role is Role.TIME))
    for number in fields:
        column, values = columns[number], batch.column(number)
        assert column.type is not None
        present = values.is_valid()
        if not pc.any(present).as_py():
            continue
        rows = pa.table([key_of_row, at_ns, values], names=["key", "at", "value"]).filter(present).combine_chunks()
        used = pc.unique(rows.column("key")).to_pylist()
        index_of_key = [-1] * len(keys)
        for key in used:
            index_of_key[key] = len(block.series)
            block.series.append((*keys[key], column.name, column.type))
        points = block.of(column.type)
        indexes = pa.array(index_of_key, pa.int64()).take(rows.column("key"))
        points.series_ids.frombytes(_bytes_of(indexes))
        points.at_ns.frombytes(_bytes_of(rows.column("at")))
        if column.type is ValueType.STRING:
            points.values.extend(rows.column("value").to_pylist())
        elif column.type is ValueType.BOOLEAN:
            points.values.frombytes(_bytes_of(rows.column("value").cast(pa.int8())))
        else:
            points.values.frombytes(_bytes_of(rows.column("value")))
    return block


def _keys(batch: pa.RecordBatch, columns: Sequence[Column]) -> tuple[list[tuple[str, Tags]], pa.Array]:
    """The different measurements with tags, and for each row the index of its own."""
    named = [(c, batch.column(n)) for n, c in enumerate(columns) if c.role in (Role.MEASUREMENT, Role.TAG)]
    codes = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
    for _, texts in named:
        encoded = pc.dictionary_encode(texts, null_encoding="encode")
        codes = pc.add(pc.multiply(codes, len(encoded.dictionary)), encoded.indices.cast(pa.int64()))
        codes = pc.dictionary_encode(codes).indices.cast(pa.int64())  # kept small, whatever the number of tags
    first_row: dict[int, int] = {}
    for row, code in enumerate(codes.to_pylist()):
        first_row.setdefault(code, row)
    keys = []
    for row in first_row.values():  # codes are numbered in the order of their first rows
        measurement, tags = "", []
        for column, texts in named:
            text = texts[row].as_py()
            if column.role is Role.MEASUREMENT:
                measurement = text
            elif text is not None:
                tags.append((column.name, text))
        keys.append((measurement, tuple(sorted(tags))))
    return keys, codes


def _bytes_of(column: pa.ChunkedArray | pa.Array) -> memoryview:
    """The values of a column of numbers without nulls."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    width = values.type.bit_width // 8
    start = values.offset * width
    data = values.buffers()[1]
    return memoryview(data)[start : start + len(values) * width] if data is not None else memoryview(b"")


# -- from a command to the server -----------------------------------------------------------------------------------

_LENGTH = struct.Struct(">I")


class _Points(msgspec.Struct, array_like=True):
    type: int
    series: bytes
    at_ns: bytes
    values: bytes | list[str]


class _Packed(msgspec.Struct, array_like=True):
    end_row: int
    are_entries: bool
    series: list[tuple[str, Tags, str, int]]
    columns: list[_Points]


def pack(block: Block) -> bytes:
    """A block's bytes, which say how many they are."""
    columns = [
        _Points(
            int(value_type),
            points.series_ids.tobytes(),
            points.at_ns.tobytes(),
            points.values if isinstance(points.values, list) else points.values.tobytes(),
        )
        for value_type, points in block.columns.items()
    ]
    series = [(*one[:3], int(one[3])) for one in block.series]
    packed = msgspec.msgpack.encode(_Packed(block.end_row, block.are_entries, series, columns))
    return _LENGTH.pack(len(packed)) + packed


def unpack(read: Callable[[int], bytes]) -> Block | None:
    """The next block of a stream, or None at its end. Raises BadRequest for what cannot be one."""
    head = read(_LENGTH.size)
    if not head:
        return None
    try:
        (size,) = _LENGTH.unpack(head)
        if size > MAX_BLOCK_BYTES:
            raise ValueError("a block that is too large")
        packed = msgspec.msgpack.decode(read(size), type=_Packed)
        series = [(measurement, tags, name, ValueType(number)) for measurement, tags, name, number in packed.series]
        block = Block(packed.end_row, series, are_entries=packed.are_entries)
        for points in packed.columns:
            _fill(block.of(ValueType(points.type)), points)
        for value_type, columns in block.columns.items():
            _check(block, value_type, columns)
    except (msgspec.MsgspecError, ValueError, TypeError, struct.error) as error:
        raise BadRequest("what was sent is no block of points") from error
    return block


def _fill(columns: Columns, points: _Points) -> None:
    columns.series_ids.frombytes(points.series)
    columns.at_ns.frombytes(points.at_ns)
    if isinstance(columns.values, array) and isinstance(points.values, bytes):
        columns.values.frombytes(points.values)
    elif isinstance(columns.values, list) and isinstance(points.values, list):
        columns.values.extend(points.values)
    else:
        raise ValueError("values of another type")


def _check(block: Block, value_type: ValueType, columns: Columns) -> None:
    count = len(columns)
    if not len(columns.at_ns) == len(columns.values) == count:
        raise ValueError("columns of unequal length")
    if count and not 0 <= min(columns.series_ids) <= max(columns.series_ids) < len(block.series):
        raise ValueError("a series that is not there")
    if any(block.series[index][3] is not value_type for index in set(columns.series_ids)):
        raise ValueError("a series of another type")
