"""Answers of queries in SQL: for files, with the types that all formats have, and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, TextIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from headwater.exchange.formats import Format
from headwater.exchange.streams import TableStream
from headwater.exchange.times import in_calendar, render_times

_TEXTS = (None, Format.CSV, Format.JSON_LINES)
_JSON = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def for_files(answer: TableStream, chosen: Format | None, losses: Counter[str]) -> TableStream:
    """The same as a format can hold it (None: a table for people). Texts stand for rows and lists (as JSON), for
    intervals, and in texts for times, which may be infinite; other formats lose such times, which `losses` counts."""

    def is_text(kind: pa.DataType) -> bool:
        return _is_odd(kind) or (_is_time(kind) and chosen in _TEXTS)

    def fitting(column: pa.Array) -> pa.Array:
        if is_text(column.type):
            return _texts(column)
        return _with_calendar(column, losses) if _is_time(column.type) else column

    schema = pa.schema([pa.field(one.name, pa.string() if is_text(one.type) else one.type) for one in answer.schema])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in answer.batches:
            yield pa.RecordBatch.from_arrays([fitting(column) for column in batch.columns], schema=schema)

    return TableStream(schema, batches())


def show(answer: TableStream, output: TextIO) -> None:
    """As a table for people, which is there when all of it is."""
    table = for_files(answer, None, Counter())
    shown = Table(*table.schema.names)
    for batch in table.batches:
        parts = zip(batch.columns, answer.schema.types, strict=True)
        for row in zip(*(_cells(column, kind) for column, kind in parts), strict=True):
            shown.add_row(*row)
    console = Console(file=output, markup=False)
    with console.capture() as captured:  # printing, it would end the process where nobody reads the output
        console.print(shown)
    output.write(captured.get())


def _is_odd(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_interval(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date32(kind))


def _with_calendar(times: pa.Array, losses: Counter[str]) -> pa.Array:
    has_calendar = in_calendar(times)
    if lost := pc.sum(pc.invert(has_calendar)).as_py():
        losses["times that no calendar has"] += lost
    return pc.if_else(has_calendar, times, None) if lost else times


def _texts(column: pa.Array) -> pa.Array:
    if _is_time(column.type):
        return render_times(column)
    if pa.types.is_interval(column.type):
        found = [None if value is None else _duration(value) for value in column.to_pylist()]
    else:
        found = [None if value is None else _JSON.encode(value).decode() for value in _values(column)]
    return pa.array(found, pa.string())


def _values(column: pa.Array) -> list[Any]:
    """Values that JSON has."""
    kind = column.type
    if pa.types.is_map(kind):
        column = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        kind = column.type
    if pa.types.is_struct(kind):
        parts = [_values(part) for part in column.flatten()]
        names = [one.name for one in kind]
        return [
            dict(zip(names, row, strict=True)) if is_there else None
            for row, is_there in zip(zip(*parts, strict=True), column.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inside = iter(_values(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if length is None else list(islice(inside, length)) for length in lengths]
    is_shown_as_text = _is_time(kind) or pa.types.is_interval(kind)
    return list((_texts(column) if is_shown_as_text else column).to_pylist())


def _duration(value: pa.MonthDayNano) -> str:
    """As ISO 8601 writes it."""
    seconds, part_ns = divmod(abs(value.nanoseconds), 1_000_000_000)
    sign = "-" if value.nanoseconds < 0 else ""
    return f"P{value.months}M{value.days}DT{sign}{seconds}.{part_ns:09d}S"


def _cells(column: pa.Array, kind: pa.DataType) -> list[str]:
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring_regex(column, r"\.0+Z$", "Z")
        column = pc.replace_substring_regex(texts, r"(\.\d*[1-9])0+Z$", r"\1Z")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.string())
    return ["" if value is None else str(value) for value in column.to_pylist()]
