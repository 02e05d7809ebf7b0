"""What tests of data in and out share: records of every kind, as tables and as points."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from headwater.exchange.block import Block, pack, unpack
from headwater.exchange.columns import MEASUREMENT, TIME, TIME_TYPE, Column, Role, table_schema
from headwater.exchange.formats import Format
from headwater.exchange.reading import BadLines, Reading, read_blocks
from headwater.exchange.writing import open_writer
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, TYPE_OF, UNSIGNED_MAX, Unsigned, ValueType

Point = tuple[str, tuple[tuple[str, str], ...], str, ValueType, int]
Points = dict[Point, Any]

NAMES = st.text(max_size=5) | st.sampled_from(["time", "measurement", "a:tag", "a:float", "a", "entry_id", "#m", ":"])
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["", "?", "nan", "true", "1", "a,b", 'say "x"', "a\nb", "'", "\\", "\r\n"]
)
VALUES = {
    ValueType.FLOAT: st.floats(),
    ValueType.INTEGER: st.integers(INTEGER_MIN, INTEGER_MAX),
    ValueType.UNSIGNED: st.integers(0, UNSIGNED_MAX).map(Unsigned),
    ValueType.BOOLEAN: st.booleans(),
    ValueType.STRING: TEXTS,
}
TIMES = st.integers(INTEGER_MIN, INTEGER_MAX) | st.integers(1_700_000_000_000_000_000, 1_700_000_000_000_000_099)


@st.composite
def records(draw: st.DrawFn) -> Points:
    """Points of some records."""
    fields = draw(st.lists(st.tuples(NAMES, st.sampled_from(ValueType)), min_size=1, max_size=4, unique=True))
    keys = draw(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, TEXTS, max_size=2)), min_size=1, max_size=3))
    points: Points = {}
    for measurement, tags in keys:
        for at_ns in draw(st.lists(TIMES, max_size=4, unique=True)):
            for name, value_type in draw(st.lists(st.sampled_from(fields), min_size=1, unique=True)):
                point = measurement, tuple(sorted(tags.items())), name, value_type, at_ns
                points[point] = draw(VALUES[value_type])
    return points


def table_of(points: Points) -> tuple[pa.Schema, pa.RecordBatch]:
    """The table that an export makes of them."""
    tags = dict.fromkeys(name for point in points for name, _ in point[1])
    fields = dict.fromkeys((point[2], point[3]) for point in points)
    columns = [Column(Role.TIME), Column(Role.MEASUREMENT), *(Column(Role.TAG, name) for name in tags)]
    columns += [Column(Role.FIELD, *one) for one in fields]
    rows: dict[Any, dict[Column, Any]] = {}
    for (measurement, key, name, value_type, at_ns), value in points.items():
        row = rows.setdefault((measurement, key, at_ns), {columns[0]: at_ns, columns[1]: measurement})
        row |= {Column(Role.TAG, tag): text for tag, text in key}
        row[Column(Role.FIELD, name, value_type)] = value
    arrays = [
        pa.array(
            [row.get(column) for row in rows.values()],
            pa.int64() if column.role is Role.TIME else None or column.arrow_type,
        )
        for column in columns
    ]
    arrays[0] = arrays[0].cast(TIME_TYPE)
    schema = table_schema(columns)
    assert schema.names[:2] == [TIME, MEASUREMENT]
    return schema, pa.RecordBatch.from_arrays(arrays, schema=schema)


def written(chosen: Format, points: Points, losses: Counter[str]) -> bytes:
    schema, batch = table_of(points)
    output = io.BytesIO()
    with open_writer(chosen, output, schema, losses) as writer:
        writer.write_batch(batch.slice(0, 2))
        writer.write_batch(batch.slice(2))
    return output.getvalue()


def blocks(
    chosen: Format, content: bytes, directory: Path | None = None, bad: BadLines | None = None, **how: Any
) -> list[Block]:
    path = Path("-")
    if directory is not None:
        path = directory / "file"
        path.write_bytes(content)
    reading = Reading(**how)
    bad = BadLines(reading.may_skip) if bad is None else bad
    return [over_the_wire(block) for block in read_blocks(chosen, path, io.BytesIO(content), reading, bad)]


def over_the_wire(block: Block) -> Block:
    stream = io.BytesIO(pack(block))
    back = unpack(stream.read)
    assert back is not None
    assert unpack(stream.read) is None
    return back


def points_of(found: Iterable[Block]) -> Points:
    points: Points = {}
    for block in found:
        for value_type, columns in block.columns.items():
            for index, at_ns, value in zip(columns.series_ids, columns.at_ns, columns.values, strict=True):
                measurement, tags, name, its_type = block.series[index]
                assert its_type is value_type
                points[measurement, tags, name, value_type, at_ns] = value
    return points


def comparable(points: Points) -> dict[Point, str]:
    """Equal when every bit is: NaN is like NaN, and -0.0 is not like 0.0."""
    return {
        point: "nan" if isinstance(value, float) and math.isnan(value) else repr(_plain(point[3], value))
        for point, value in points.items()
    }


def _plain(value_type: ValueType, value: Any) -> Any:
    return bool(value) if value_type is ValueType.BOOLEAN else int(value) if isinstance(value, Unsigned) else value


def read(chosen: Format, content: bytes, directory: Path | None = None, **how: Any) -> Points:
    return points_of(blocks(chosen, content, directory, **how))


def of_types(*values: Any) -> Sequence[ValueType]:
    return [TYPE_OF[value.__class__] for value in values]
