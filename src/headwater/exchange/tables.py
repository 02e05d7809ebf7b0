"""Tables to blocks: CSV and what else is texts in columns, Parquet and Arrow, which have types. Column by column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.ipc
import pyarrow.parquet as pq

from headwater.errors import BadRequest
from headwater.exchange.block import Block, blocks_of
from headwater.exchange.columns import MEASUREMENT, TIME, TYPE_NAMES, Column, Role, parse_labels
from headwater.exchange.entries_csv import CREATED_AT, EntryRows
from headwater.exchange.times import parse_times
from headwater.model.series import ValueType
from headwater.whole_files import Begun, Input

if TYPE_CHECKING:
    from headwater.exchange.reading import BadLines, Reading

CSV_BLOCK_BYTES = 4 * 2**20
"""Also the longest row."""
HEADER_BYTES = 2**20
ROWS_AT_ONCE = 20_000
_ARROW_MAGIC = b"ARROW1\0\0"
_BOOLEANS = pa.array(["true", "false", "True", "False", "TRUE", "FALSE"])
_INTEGER = r"^-?[0-9]+$"
_ROW = re.compile(r"Row #(\d+)")


class _Table:
    """What tables have in common: rows that cannot be used are told and left out."""

    def __init__(self, columns: Sequence[Column], labels: Sequence[str], how: Reading, bad: BadLines) -> None:
        roles = [column.role for column in columns]
        if Role.TIME not in roles:
            raise BadRequest(f"the file has no column {TIME!r}: say which it is with --type NAME={TIME}")
        if Role.MEASUREMENT not in roles and how.measurement is None:
            raise BadRequest(f"the file has no column {MEASUREMENT!r}: give a measurement with --measurement")
        self._labels = labels
        self._how = how
        self._bad = bad
        self._rows = 0
        self._time_at = roles.index(Role.TIME)

    def pass_over(self, count: int) -> None:
        """So many rows of the file are not in what comes."""
        self._rows += count

    def _blocks(
        self, columns: Sequence[Column], found: list[pa.Array], wrong: Mapping[int, str], where: Sequence[str] | None
    ) -> Iterator[Block]:
        """Args: `wrong` says of rows what is wrong with them; `where` is each row's place in words, else its number."""
        count = len(found[0])
        wrong = dict(wrong)
        for row in _rows_where(found[self._time_at].is_null()):
            wrong.setdefault(row, "it has no time")
        columns = list(columns)
        measured = [number for number, column in enumerate(columns) if column.role is Role.MEASUREMENT]
        if measured and self._how.measurement is not None:
            found[measured[0]] = found[measured[0]].fill_null(self._how.measurement)
        elif measured:
            for row in _rows_where(found[measured[0]].is_null()):
                wrong.setdefault(row, "it has no measurement: give one with --measurement")
        else:
            columns.append(Column(Role.MEASUREMENT))
            found.append(pa.repeat(pa.scalar(self._how.measurement, pa.string()), count))
        for row, reason in sorted(wrong.items()):
            self._bad.add(where[row] if where is not None else f"row {self._rows + row + 1}", reason)
        batch = pa.RecordBatch.from_arrays(found, names=[str(number) for number in range(len(found))])
        if wrong:
            batch = batch.filter(pa.array([row not in wrong for row in range(count)], pa.bool_()))
        first_row, self._rows = self._rows, self._rows + count
        for block in blocks_of(batch, columns, first_row):
            if block.end_row == first_row + batch.num_rows:
                block.end_row = self._rows
            yield block

    def _converted(self, number: int, column: Column, values: pa.Array, wrong: dict[int, str]) -> pa.Array:
        target = pa.int64() if column.role is Role.TIME else column.arrow_type
        converted = self._times(values) if column.role is Role.TIME else _cast_or_null(values, target)
        for row in _rows_where(pc.and_(values.is_valid(), converted.is_null())):
            wanted = column.role.name.lower() if column.type is None else column.type.name.lower()
            wrong.setdefault(
                row, f"{self._labels[number]!r} is {str(values[row].as_py())[:60]!r}, which is no {wanted}"
            )
        return converted

    def _times(self, values: pa.Array) -> pa.Array:
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            return parse_times(values.cast(pa.string()), self._how.unit_ns)
        if pa.types.is_integer(values.type):
            return parse_times(values.cast(pa.string()), self._how.unit_ns)
        return _cast_or_null(_cast_or_null(values, pa.timestamp("ns")), pa.int64())


class TextTable(_Table):
    """Cells are texts; a column of which nobody says what it is becomes what its first cells look like.

    Args: `word`: what a row is called; `kinds`: of columns, by name, where neither the user nor their names say it.
    """

    def __init__(
        self, labels: Sequence[str], how: Reading, bad: BadLines, word: str, kinds: Mapping[str, str] | None = None
    ) -> None:
        columns = parse_labels(labels, how.kinds)
        for number, (label, column) in enumerate(zip(labels, columns, strict=True)):
            if column.role is Role.FIELD and column.type is None and kinds is not None:
                columns[number] = column._replace(type=TYPE_NAMES[kinds[label]])
        super().__init__(columns, labels, how, bad)
        self._columns = columns
        self._word = word

    def blocks(self, texts: Sequence[pa.Array], numbers: Sequence[int] | range) -> Iterator[Block]:
        """The points of some rows, of which `numbers` are the places in the file."""
        wrong: dict[int, str] = {}
        found = []
        for number, cells in enumerate(texts):
            column = self._columns[number]
            if column.role is Role.FIELD and column.type is None:
                column = self._columns[number] = column._replace(type=_looks_like(cells))
            if column.role is Role.TIME or column.type not in (ValueType.STRING, None):
                cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
            found.append(self._converted(number, column, cells, wrong))
        yield from self._blocks(self._columns, found, wrong, [f"{self._word} {number}" for number in numbers])


def columns_of(rows: Sequence[Sequence[str | None]], count: int) -> list[pa.Array]:
    """Rows turned into columns of texts."""
    return [pa.array([row[number] for row in rows], pa.string()) for number in range(count)]


def _looks_like(texts: pa.Array) -> ValueType:
    said = pc.drop_null(pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts))
    if _cast_or_null(said, pa.float64()).null_count == 0:
        return ValueType.FLOAT
    return ValueType.BOOLEAN if pc.all(pc.is_in(said, _BOOLEANS)).as_py() else ValueType.STRING


def _cast_or_null(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Values of another type, null for each that is none."""
    if values.type.equals(target):
        return values
    try:
        if pa.types.is_string(values.type) and pa.types.is_integer(target):  # Arrow reads 0x10, which nobody writes
            values = pc.if_else(pc.match_substring_regex(values, _INTEGER), values, pa.scalar("?"))
        return values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.concat_arrays([_one_or_null(values.slice(row, 1), target) for row in range(len(values))])


def _one_or_null(value: pa.Array, target: pa.DataType) -> pa.Array:
    try:
        return value.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(1, target)


def _rows_where(condition: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(condition).to_pylist()
    return rows


# -- CSV --------------------------------------------------------------------------------------------------------------


def read_csv(source: Input, how: Reading, bad: BadLines) -> Iterator[Block]:
    """Rows of a CSV file with a header; of ThingSpeak's own if it has a column `created_at` and no `time`."""
    table: TextTable | EntryRows | None = None
    skipped: list[int] = []
    reasons: list[tuple[str, str]] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        where = f"row {row.number}" if row.number is not None else "a row"
        reasons.append((where, f"it has {row.actual_columns} cells instead of {row.expected_columns}"))
        skipped.append(row.number or 0)
        return "skip" if how.may_skip else "error"

    def new_bad_rows() -> None:
        if table is not None:
            table.pass_over(len(reasons))
        for where, reason in reasons:
            bad.add(where, reason)
        reasons.clear()

    try:
        labels, stream = _open_csv(source, skip)
        is_thingspeak = CREATED_AT in labels and TIME not in labels and TIME not in how.kinds.values()
        table = EntryRows(labels, bad) if is_thingspeak else TextTable(labels, how, bad, "row")
        last = 1
        for batch in stream:
            new_bad_rows()
            numbers = []
            for _ in range(batch.num_rows):
                last += 1
                while last in skipped:
                    last += 1
                numbers.append(last)
            texts = [_texts(label, column, numbers) for label, column in zip(labels, batch.columns, strict=True)]
            yield from table.blocks(texts, numbers)
        new_bad_rows()
    except pa.ArrowInvalid as error:
        new_bad_rows()
        raise BadRequest(_csv_error(str(error))) from error


def _open_csv(source: Input, skip: Callable[[pa_csv.InvalidRow], str]) -> tuple[list[str], pa_csv.CSVStreamingReader]:
    """The names of the columns, and the rows as they are."""
    begin = b""
    while len(begin) < HEADER_BYTES and (chunk := source.read(HEADER_BYTES)):
        begin += chunk
    try:
        text = begin.decode(errors="surrogateescape").removeprefix("\ufeff")
        first = text.partition("\n")[0]
        delimiter = next((mark for mark in ",;\t" if mark in first), ",")
        labels = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        for label in labels:
            label.encode()
    except (csv.Error, UnicodeEncodeError):
        raise BadRequest("the first row is no list of names in UTF-8: this is not a CSV file with a header") from None
    if not labels:
        raise BadRequest("the file is empty: the first row has to name the columns")
    options = pa_csv.ConvertOptions(
        check_utf8=False,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
        column_types=dict.fromkeys(labels, pa.binary()),
    )
    stream = pa_csv.open_csv(
        pa.PythonFile(Begun(begin, source), mode="r"),
        read_options=pa_csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=options,
    )
    return labels, stream


def _csv_error(text: str) -> str:
    row = _ROW.search(text)
    where = f"row {row[1]}: " if row is not None else ""
    if "straddling" in text:
        return f"a row has more than {CSV_BLOCK_BYTES // 2**20} MB, or a quote in it is not ended"
    return f"{where}this is not a CSV file ({text})"


def _texts(label: str, column: pa.Array, numbers: Sequence[int]) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = _cast_or_null(column, pa.string())
        row = _rows_where(pc.and_(column.is_valid(), texts.is_null()))[0]
        raise BadRequest(f"row {numbers[row]}: {label!r} is not UTF-8 text") from None


# -- Parquet and Arrow --------------------------------------------------------------------------------------------


def read_parquet(path: Path, how: Reading, bad: BadLines) -> Iterator[Block]:
    """Rows of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            yield from _typed(file.schema_arrow, file.iter_batches(ROWS_AT_ONCE), how, bad)
    except pa.ArrowException as error:
        raise BadRequest(f"{path} is damaged, or not a Parquet file ({error})") from error


def read_arrow(source: Input, how: Reading, bad: BadLines) -> Iterator[Block]:
    """Record batches of an Arrow file or stream; of a file, what stands at its end is not looked at."""
    begin = b""
    while len(begin) < len(_ARROW_MAGIC) and (chunk := source.read(len(_ARROW_MAGIC) - len(begin))):
        begin += chunk
    rest = source if begin == _ARROW_MAGIC else Begun(begin, source)
    try:
        stream = pa.ipc.open_stream(pa.PythonFile(rest, mode="r"))
        yield from _typed(stream.schema, stream, how, bad)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadRequest(f"the file is damaged or cut off, or not an Arrow file ({error})") from error


def _typed(schema: pa.Schema, batches: Iterable[pa.RecordBatch], how: Reading, bad: BadLines) -> Iterator[Block]:
    table = _TypedTable(schema, how, bad)
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            yield from table.blocks(batch.slice(start, ROWS_AT_ONCE))


class _TypedTable(_Table):
    """The columns have types; those that only hold nulls are left out."""

    def __init__(self, schema: pa.Schema, how: Reading, bad: BadLines) -> None:
        self._used = [number for number, one in enumerate(schema) if not pa.types.is_null(one.type)]
        labels = [schema.names[number] for number in self._used]
        columns = parse_labels(labels, how.kinds)
        for index, number in enumerate(self._used):
            if columns[index].role is Role.FIELD and columns[index].type is None:
                columns[index] = columns[index]._replace(type=_type_of(labels[index], schema.field(number).type))
        super().__init__(columns, labels, how, bad)
        self._columns = columns

    def blocks(self, batch: pa.RecordBatch) -> Iterator[Block]:
        batch.validate(full=True)  # the bytes may be anybody's
        wrong: dict[int, str] = {}
        found = []
        for index, number in enumerate(self._used):
            values = batch.column(number)
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            found.append(self._converted(index, self._columns[index], values, wrong))
        yield from self._blocks(self._columns, found, wrong, None)


def _type_of(label: str, arrow_type: pa.DataType) -> ValueType:
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_boolean(arrow_type):
        return ValueType.BOOLEAN
    if pa.types.is_signed_integer(arrow_type):
        return ValueType.INTEGER
    if pa.types.is_unsigned_integer(arrow_type):
        return ValueType.UNSIGNED
    if pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type):
        return ValueType.FLOAT
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type):
        return ValueType.STRING
    raise BadRequest(f"the column {label!r} is of type {arrow_type}: say what it is with --type, or leave it out")
