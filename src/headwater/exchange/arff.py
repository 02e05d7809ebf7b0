"""ARFF, the format of Weka: tables to text and back. Times have milliseconds there, and numbers are finite."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadRequest
from headwater.whole_files import Output

RELATION = "headwater"
_DATE_FORMAT = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
_ESCAPES = {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "%": "\\%"}
_UNESCAPES = {escaped[1]: plain for plain, escaped in _ESCAPES.items()}
_SPECIAL = re.compile(r"[\\'\"\n\r\t%]")
_ESCAPED = re.compile(r"\\([\s\S])")
_CELL = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)"|([^,'"\s][^,]*)|)\s*(,|$)""")
_ATTRIBUTE = re.compile(
    r"""@attribute\s+(?:'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)"|([^\s'"{]\S*))\s+(.+?)\s*""", re.IGNORECASE
)


def quote(text: str) -> str:
    """A text as Weka reads it back."""
    return "'" + _SPECIAL.sub(lambda found: _ESCAPES[found[0]], text) + "'"


def _unquote(text: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPES.get(found[1], found[1]), text)


class ArffWriter:
    """Tells `losses` of what cannot be said."""

    def __init__(self, output: Output, schema: pa.Schema, losses: Counter[str]) -> None:
        self._output = output
        self._losses = losses
        lines = [f"@relation {RELATION}", ""]
        lines += [f"@attribute {quote(one.name)} {_type_of(one.type)}" for one in schema]
        output.write("\n".join([*lines, "", "@data", ""]).encode())

    def write_batch(self, batch: pa.RecordBatch, /) -> None:
        columns = [self._texts(column) for column in batch.columns]
        self._output.write("".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode())

    def _texts(self, column: pa.Array) -> list[str]:
        if pa.types.is_timestamp(column.type):
            at_ms = column.cast(pa.timestamp("ms", "UTC")) if column.type.unit in ("s", "ms") else self._cut(column)
            texts = pc.strftime(at_ms, format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
            return ["?" if text is None else f'"{text}"' for text in texts]
        values: list[Any] = column.to_pylist()
        if pa.types.is_boolean(column.type):
            return ["?" if value is None else "true" if value else "false" for value in values]
        if pa.types.is_floating(column.type):
            finite = pc.sum(pc.is_finite(column)).as_py() or 0
            if lost := len(column) - column.null_count - finite:
                self._losses["values that are NaN or infinite"] += lost
            return ["?" if value is None or value - value != 0 else repr(value) for value in values]
        if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
            return ["?" if value is None else str(value) for value in values]
        return ["?" if value is None else quote(str(value)) for value in values]

    def _cut(self, times: pa.Array) -> pa.Array:
        """Times in milliseconds, the earlier ones."""
        in_ms = 1_000_000 if times.type.unit == "ns" else 1_000
        at = times.cast(pa.int64())
        towards_0_ms = pc.divide(at, in_ms)
        rest = pc.subtract(at, pc.multiply(towards_0_ms, in_ms))
        # Within the range of times: Arrow's own rounding leaves it at the first one.
        at_ms = pc.if_else(pc.less(rest, 0), pc.subtract(towards_0_ms, 1), towards_0_ms)
        at_ms = pc.max_element_wise(at_ms, -(2**63 // in_ms), skip_nulls=False)
        exact = pc.equal(rest, 0)
        cut = len(times) - times.null_count - (pc.sum(exact).as_py() or 0)
        if cut:
            self._losses["sub-millisecond parts of times"] += cut
        return at_ms.cast(pa.timestamp("ms", "UTC"))

    def close(self) -> None:
        """Nothing stands at the end."""


def _type_of(arrow_type: pa.DataType) -> str:
    if pa.types.is_timestamp(arrow_type):
        return f'date "{_DATE_FORMAT}"'
    if pa.types.is_boolean(arrow_type):
        return "{false,true}"
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return "numeric" if any(of_kind(arrow_type) for of_kind in kinds) else "string"


class Attribute(NamedTuple):
    """A column: its name, and which of `float`, `boolean` and `string` it is where the name does not say it."""

    name: str
    kind: str


def read_attributes(lines: Iterator[tuple[int, str]]) -> list[Attribute]:
    """The attributes of a file, of which the lines up to `@data` are taken. Raises BadRequest."""
    attributes: list[Attribute] = []
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%") or text.lower().startswith("@relation"):
            continue
        if text.lower() == "@data":
            return attributes
        found = _ATTRIBUTE.fullmatch(text)
        if found is None:
            raise BadRequest(f"line {number} is not an attribute of an ARFF file: {text[:80]}")
        name = _unquote(found[1] or found[2] or "") if found[3] is None else found[3]
        declared = found[4].strip().lower()
        kind = "string"
        if declared.startswith(("numeric", "real", "integer")):
            kind = "float"
        elif re.fullmatch(r"\{\s*(false\s*,\s*true|true\s*,\s*false)\s*\}", declared):
            kind = "boolean"
        attributes.append(Attribute(name, kind))
    raise BadRequest("there is no @data in the file: it is cut off, or not ARFF")


def read_cells(line: str) -> list[str | None] | None:
    """The cells of a line of data, None where one is missing; None for a line that cannot be read."""
    cells: list[str | None] = []
    at = 0
    while True:
        found = _CELL.match(line, at)
        if found is None:
            return None
        single, double, bare, end = found.groups()
        if bare is not None:
            cells.append(None if bare.strip() == "?" else bare.strip())
        elif single is None and double is None:
            return None
        else:
            cells.append(_unquote(single if single is not None else double))
        at = found.end()
        if end != ",":
            return cells if at == len(line) else None
