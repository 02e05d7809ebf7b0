"""The answer of a query as text: a table for people, CSV, or JSON lines. Knows no store."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TextIO

import pyarrow as pa
from rich.console import Console
from rich.table import Table

FORMATS = ("table", "csv", "json")
_UNITS_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def write_answer(schema: pa.Schema, batches: Iterator[pa.RecordBatch], form: str, output: TextIO) -> None:
    """Write batches of one schema. A table is shown when all of it is there; the others as they come."""
    names, rows = schema.names, (row for batch in batches for row in _rows(batch))
    if form == "csv":
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(["" if value is None else _text(value) for value in row] for row in rows)
    elif form == "json":
        for row in rows:
            output.write(json.dumps(dict(zip(names, row, strict=True)), default=str, allow_nan=False) + "\n")
    else:
        table = Table(*names)
        for row in rows:
            table.add_row(*("" if value is None else _text(value) for value in row))
        Console(file=output, markup=False).print(table)


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, bool | dict | list) else str(value)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    columns = [_plain(column) for column in batch.columns]
    yield from zip(*columns, strict=True)


def _plain(column: pa.Array) -> list[Any]:
    """Values that JSON has; times as RFC 3339 writes them, to the last nanosecond."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        unit, ending = _UNITS_PER_S[kind.unit], "Z" if kind.tz else ""
        return [None if at is None else _time_text(at, unit) + ending for at in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_struct(kind):
        parts = [_plain(column.field(number)) for number in range(kind.num_fields)]
        return [dict(zip((one.name for one in kind), values, strict=True)) for values in zip(*parts, strict=True)]
    return [_number(value) for value in column.to_pylist()]


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _time_text(at: int, unit: int) -> str:
    whole, part = divmod(at, unit)
    try:
        text = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}"
    except (OverflowError, ValueError):  # infinity, or a year that RFC 3339 cannot write
        return "infinity" if at > 0 else "-infinity"
    fraction = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if unit > 1 else ""
    return f"{text}.{fraction}" if fraction else text
