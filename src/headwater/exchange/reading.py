"""The bytes of a file to blocks of points. Knows no store.

What cannot be read is told with its line and what is wrong with it; whether that ends the reading is up to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headwater.errors import BadRequest, ConfigurationError
from headwater.exchange import tables
from headwater.exchange.arff import read_attributes, read_cells
from headwater.exchange.block import POINTS_AT_ONCE, Block, BlockBuilder
from headwater.exchange.columns import KINDS, Column, Role, parse_labels
from headwater.exchange.formats import STANDARD_STREAM, Format
from headwater.exchange.times import parse_time
from headwater.line_protocol import Heads, LineSplitter, parse_line
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, Unsigned, Value, ValueType
from headwater.whole_files import Input, decompressed

CHUNK_BYTES = 2**20
MAX_LINE_BYTES = 16 * 2**20
MAX_TOLD = 5
"""Bad lines that are told in words; the others are counted."""
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a file."""

    unit_ns: int = 1
    """What times that are whole numbers count in."""
    measurement: str | None = None
    """Of records that do not say it."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What columns are, by name, where their names do not say it: see `columns.parse_labels`."""
    may_skip: bool = False
    """Whether lines that cannot be read are passed over."""


@dataclass(slots=True)
class BadLines:
    """What could not be read."""

    may_skip: bool
    count: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str) -> None:
        """Raises BadRequest unless such lines are passed over."""
        if not self.may_skip:
            raise BadRequest(f"{where}: {reason}; correct it, or pass over such lines with --skip-bad")
        self.count += 1
        if len(self.told) < MAX_TOLD:
            self.told.append(f"{where}: {reason}")


def read_blocks(chosen: Format, path: Path, source: Input, how: Reading, bad: BadLines) -> Iterator[Block]:
    """The points of a file, in its order, from a stream of its bytes. Raises BadRequest, and ConfigurationError for a
    format that cannot be read from there."""
    if how.kinds and chosen is Format.LINE_PROTOCOL:
        raise ConfigurationError("line protocol says itself what is what: leave --type out")
    try:
        match chosen:
            case Format.PARQUET:
                if path == STANDARD_STREAM:
                    raise ConfigurationError("a Parquet file is read from its end: name a file, not '-'")
                yield from tables.read_parquet(path, how, bad)
            case Format.ARROW:
                yield from tables.read_arrow(decompressed(source), how, bad)
            case Format.CSV:
                yield from tables.read_csv(decompressed(source), how, bad)
            case Format.ARFF:
                yield from _read_arff(_lines(decompressed(source)), how, bad)
            case Format.JSON_LINES:
                yield from _read_json_lines(_lines(decompressed(source)), how, bad)
            case Format.LINE_PROTOCOL:
                yield from _read_line_protocol(decompressed(source), how, bad)
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadRequest(f"{path} is damaged or cut off ({error}): what was read before is stored") from error


def _lines(source: Input) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    tail, number = b"", 0
    while chunk := source.read(CHUNK_BYTES):
        *lines, tail = (tail + chunk).split(b"\n")
        for line in lines:
            number += 1
            if line and not line.isspace():
                yield number, line
        if len(tail) > MAX_LINE_BYTES:
            raise BadRequest(f"line {number + 1} has more than {MAX_LINE_BYTES // 2**20} MB: this is not such a file")
    if tail and not tail.isspace():
        yield number + 1, tail


# -- line protocol --------------------------------------------------------------------------------------------------


def _read_line_protocol(source: Input, how: Reading, bad: BadLines) -> Iterator[Block]:
    builder, heads, row = BlockBuilder(), Heads(), 0
    for number, line in _logical_lines(source):
        row += 1
        try:
            said = parse_line(line, how.unit_ns, heads)
        except BadRequest as error:
            bad.add(f"line {number}", str(error))
            continue
        if said.at_ns is None:
            bad.add(f"line {number}", "it has no time")
            continue
        for name, value in said.fields.items():
            builder.add(said.measurement, said.tags, name, said.at_ns, value)
        if len(builder) >= POINTS_AT_ONCE:
            yield builder.take(row)
    yield builder.take(row)


def _logical_lines(source: Input) -> Iterator[tuple[int, bytes]]:
    splitter = LineSplitter()
    while chunk := source.read(CHUNK_BYTES):
        yield from splitter.feed(chunk)
    yield from splitter.finish()


# -- JSON lines -----------------------------------------------------------------------------------------------------


class _BadValue(Exception):
    """What stands in a JSON object is not what its name says."""


def _read_json_lines(lines: Iterator[tuple[int, bytes]], how: Reading, bad: BadLines) -> Iterator[Block]:
    builder, row = BlockBuilder(), 0
    columns: dict[str, Column] = {}
    for number, line in lines:
        row += 1
        try:
            members = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            bad.add(f"line {number}", f"it is not JSON ({error})")
            continue
        try:
            _add_members(builder, columns, members, how)
        except _BadValue as error:
            bad.add(f"line {number}", str(error))
            continue
        if len(builder) >= POINTS_AT_ONCE:
            yield builder.take(row)
    yield builder.take(row)


def _add_members(builder: BlockBuilder, columns: dict[str, Column], members: Any, how: Reading) -> None:
    if not isinstance(members, dict):
        raise _BadValue("it is not an object")
    at_ns, measurement = None, how.measurement
    tags, values = [], []
    for label, member in members.items():
        if member is None:
            continue
        column = columns.get(label)
        if column is None:
            column = columns[label] = _json_column(label, member, how.kinds)
        value = _json_value(column, member, how.unit_ns)
        if value is None:
            wanted = column.role.name.lower() if column.type is None else column.type.name.lower()
            raise _BadValue(f"{label!r} is {_short(member)}, which is no {wanted}")
        if column.role is Role.FIELD:
            values.append((column.name, value))
        elif column.role is Role.TAG:
            tags.append((column.name, str(value)))
        elif column.role is Role.TIME:
            at_ns = value
        else:
            measurement = str(value)
    if at_ns is None:
        raise _BadValue("it has no time")
    if measurement is None:
        raise _BadValue("it has no measurement: give one with --measurement")
    key = tuple(sorted(tags))
    for name, value in values:
        builder.add(measurement, key, name, int(at_ns), value)


def _json_column(label: str, member: Any, kinds: Mapping[str, str]) -> Column:
    (column,) = parse_labels([label], {label: kinds[label]} if label in kinds else {})
    if column.role is not Role.FIELD or column.type is not None:
        return column
    if isinstance(member, bool):
        return column._replace(type=ValueType.BOOLEAN)
    is_number = isinstance(member, int | float) or (isinstance(member, str) and member in _NOT_FINITE)
    return column._replace(type=ValueType.FLOAT if is_number else ValueType.STRING)


def _json_value(column: Column, member: Any, unit_ns: int) -> Value | None:
    """The value for this column, or None where it is none."""
    is_integer = isinstance(member, int) and not isinstance(member, bool)
    if column.role is Role.TIME:
        return parse_time(str(member), unit_ns) if is_integer or isinstance(member, str) else None
    match column.type:
        case ValueType.FLOAT:
            if isinstance(member, float) or (is_integer and abs(member) < 2**1000):
                return float(member)
            return _NOT_FINITE.get(member) if isinstance(member, str) else None
        case ValueType.INTEGER:
            return int(member) if is_integer and INTEGER_MIN <= member <= INTEGER_MAX else None
        case ValueType.UNSIGNED:
            return Unsigned(member) if is_integer and 0 <= member <= UNSIGNED_MAX else None
        case ValueType.BOOLEAN:
            return member if isinstance(member, bool) else None
        case _:
            return member if isinstance(member, str) else None


def _short(member: Any) -> str:
    text = repr(member)
    return text if len(text) <= 60 else f"{text[:60]}…"


# -- ARFF -----------------------------------------------------------------------------------------------------------


def _read_arff(lines: Iterator[tuple[int, bytes]], how: Reading, bad: BadLines) -> Iterator[Block]:
    texts = _decoded(lines)
    attributes = read_attributes(texts)
    names = [one.name for one in attributes]
    table = tables.TextTable(names, how, bad, "line", {one.name: one.kind for one in attributes})
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    for number, text in texts:
        if text.lstrip().startswith("%"):
            continue
        cells = read_cells(text.rstrip("\r"))
        if cells is None or len(cells) != len(attributes):
            bad.add(f"line {number}", f"it does not have {len(attributes)} values")
            continue
        rows.append(cells)
        numbers.append(number)
        if len(rows) * len(attributes) >= POINTS_AT_ONCE:
            yield from table.blocks(tables.columns_of(rows, len(attributes)), numbers)
            rows, numbers = [], []
    yield from table.blocks(tables.columns_of(rows, len(attributes)), numbers)


def _decoded(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        try:
            yield number, line.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"line {number} is not UTF-8 text") from None


def check_kinds(kinds: Mapping[str, str]) -> None:
    """Raises ConfigurationError for what no column can be."""
    for label, kind in kinds.items():
        if kind not in KINDS:
            raise ConfigurationError(f"--type {label}={kind}: a column is one of {', '.join(KINDS)}")
