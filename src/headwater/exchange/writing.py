"""Tables to the bytes of a file, batch by batch. Knows no store: whatever gives record batches can be written.

What a format cannot hold is left out and counted, for whoever asked to be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.ipc
import pyarrow.parquet as pq

from headwater.errors import ConfigurationError
from headwater.exchange.arff import ArffWriter
from headwater.exchange.columns import Column, Role, parse_label, short_labels
from headwater.exchange.formats import Format
from headwater.exchange.times import render_times
from headwater.line_protocol import TIME_MAX_NS, TIME_MIN_NS, render_field, render_head, render_value
from headwater.model.series import Unsigned, ValueType
from headwater.whole_files import Output


class Writer(Protocol):
    """Takes the batches of one table; `close` writes what stands at the end."""

    def write_batch(self, batch: pa.RecordBatch, /) -> None: ...
    def close(self) -> None: ...


@contextmanager
def open_writer(
    chosen: Format, output: Output, schema: pa.Schema, losses: Counter[str], *, are_records: bool = True
) -> Iterator[Writer]:
    """Writes batches of this schema; whole when the block has ended without an error.

    Args: `losses` counts by reason what the format cannot hold; `are_records`: the columns are named as `columns` says,
    else they are those of any table and keep their names. Raises ConfigurationError for a format that cannot be
    written.
    """
    columns = [parse_label(name) for name in schema.names] if are_records else None
    file = OutputFile(output)
    match chosen:
        case Format.CSV:
            named = _renamed(schema, columns, has_types=False)
            writer: Writer = _Renaming(pa_csv.CSVWriter(pa.PythonFile(file, mode="w"), named), named)
        case Format.PARQUET:
            named = _renamed(schema, columns, has_types=True)
            made = pq.ParquetWriter(pa.PythonFile(file, mode="w"), named, compression="zstd", version="2.6")
            writer = _Renaming(made, named)
        case Format.ARROW:
            named = _renamed(schema, columns, has_types=True)
            writer = _Renaming(pa.ipc.new_file(pa.PythonFile(file, mode="w"), named), named)
        case Format.JSON_LINES:
            writer = _JsonLines(file, _renamed(schema, columns, has_types=False))
        case Format.ARFF:
            writer = ArffWriter(file, _renamed(schema, columns, has_types=False), losses)
        case Format.LINE_PROTOCOL if columns is not None:
            writer = _Lines(file, columns, losses)
        case _:
            raise ConfigurationError(f"this cannot be written as {chosen.value}: choose another --format")
    yield writer
    writer.close()


class OutputFile:
    """An output as libraries want it."""

    closed = False

    def __init__(self, output: Output) -> None:
        self._output = output
        self._written = 0

    def write(self, data: bytes) -> int:
        content = bytes(data)
        self._output.write(content)
        self._written += len(content)
        return len(content)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Whoever opened the output closes it."""


def _renamed(schema: pa.Schema, columns: Sequence[Column] | None, *, has_types: bool) -> pa.Schema:
    if columns is None:
        return schema
    labels = short_labels(columns, has_types=has_types)
    return pa.schema([pa.field(label, one.type) for label, one in zip(labels, schema, strict=True)])


class _Renaming:
    """Gives the columns their names in the file."""

    def __init__(self, writer: Any, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        self._writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    """One object a line; what a record does not have is left out, and what JSON has no number for is a text."""

    def __init__(self, file: OutputFile, schema: pa.Schema) -> None:
        self._file = file
        self._names = schema.names
        self._encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        columns = [_json_values(column) for column in batch.columns]
        names, encoder = self._names, self._encoder
        rows = [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(*columns, strict=True)
        ]
        self._file.write(encoder.encode_lines(rows))

    def close(self) -> None:
        """Nothing stands at the end."""


def _json_values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = render_times(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type) and pc.all(pc.is_finite(column)).as_py() is False:
        return [value if value is None or value - value == 0 else str(value) for value in values]
    return values


class _Lines:
    """Line protocol, with times in nanoseconds."""

    def __init__(self, file: OutputFile, columns: Sequence[Column], losses: Counter[str]) -> None:
        self._file = file
        self._losses = losses
        self._columns = columns
        self._heads: dict[tuple[str | None, ...], str | None] = {}
        self._key_columns = [n for n, c in enumerate(columns) if c.role in (Role.MEASUREMENT, Role.TAG)]

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        times = batch.column(0).cast(pa.int64()).to_pylist()
        keys = zip(*(batch.column(n).to_pylist() for n in self._key_columns), strict=True)
        numbers = [n for n, c in enumerate(self._columns) if c.role is Role.FIELD]
        fields = [self._rendered(self._columns[n], batch.column(n)) for n in numbers]
        names = [self._columns[n].name for n in numbers]
        is_repeated = len(set(names)) < len(names)
        lines = []
        for at_ns, key, values in zip(times, keys, zip(*fields, strict=True), strict=True):
            if key not in self._heads:
                self._heads[key] = self._head(key)
            head = self._heads[key]
            found = [value for value in values if value is not None]
            if head is None:
                self._losses["values of series with a name that no line can hold"] += len(found)
            elif not TIME_MIN_NS <= at_ns <= TIME_MAX_NS:
                self._losses["values at a time that no line can hold"] += len(found)
            elif not is_repeated:
                lines.append(f"{head} {','.join(found)} {at_ns}\n" if found else "")
            else:
                lines += [f"{head} {','.join(texts)} {at_ns}\n" for texts in _without_repeats(names, values)]
        self._file.write("".join(lines).encode())

    def _head(self, key: Sequence[str | None]) -> str | None:
        measurement, tags = "", {}
        for number, text in zip(self._key_columns, key, strict=True):
            if self._columns[number].role is Role.MEASUREMENT:
                measurement = text or ""
            elif text is not None:
                tags[self._columns[number].name] = text
        return render_head(measurement, tags)

    def _rendered(self, column: Column, values: pa.Array) -> list[str | None]:
        """`name=value` for each row that has one."""
        name = render_field(column.name)
        if name is None:
            self._losses["values of fields with a name that no line can hold"] += len(values) - values.null_count
            return [None] * len(values)
        found: list[str | None] = []
        for value in values.to_pylist():
            if value is None:
                found.append(None)
                continue
            text = render_value(Unsigned(value) if column.type is ValueType.UNSIGNED else value)
            if text is None:
                is_text = column.type is ValueType.STRING
                self._losses[
                    "texts that are too long for a line" if is_text else "values that are NaN or infinite"
                ] += 1
            found.append(None if text is None else f"{name}={text}")
        return found

    def close(self) -> None:
        """Nothing stands at the end."""


def _without_repeats(names: Sequence[str], values: Sequence[str | None]) -> list[list[str]]:
    """The fields of one record in lines: of a name that stood twice in a line, one value would be lost."""
    lines: list[dict[str, str]] = []
    for name, text in zip(names, values, strict=True):
        if text is None:
            continue
        line = next((line for line in lines if name not in line), None)
        if line is None:
            lines.append(line := {})
        line[name] = text
    return [list(line.values()) for line in lines]
