"""What the columns of a table are called, so that a file that went through other programs still says what is what.

`time` and `measurement` are called so; a tag is called `NAME:tag`; a field is called `NAME` or `NAME:TYPE`. Knows no
format.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.model.series import ValueType
from headwater.store import ARROW_TYPES

TIME, MEASUREMENT = "time", "measurement"
TIME_TYPE = pa.timestamp("ns", "UTC")
TYPE_NAMES: Mapping[str, ValueType] = {value_type.name.lower(): value_type for value_type in ValueType}
_TAG = "tag"
KINDS = (TIME, MEASUREMENT, _TAG, *TYPE_NAMES)
"""What a column may be said to be."""


class Role(enum.Enum):
    TIME = enum.auto()
    MEASUREMENT = enum.auto()
    TAG = enum.auto()
    FIELD = enum.auto()


class Column(NamedTuple):
    """A column and what stands in it."""

    role: Role
    name: str = ""
    """Of the tag or field."""
    type: ValueType | None = None
    """Of a field; None where the column's name does not say it."""

    @property
    def arrow_type(self) -> pa.DataType:
        if self.role is Role.TIME:
            return TIME_TYPE
        return pa.string() if self.type is None else ARROW_TYPES[self.type]


def parse_label(label: str) -> Column:
    """What stands in a column of this name."""
    if label == TIME:
        return Column(Role.TIME)
    if label == MEASUREMENT:
        return Column(Role.MEASUREMENT)
    name, colon, kind = label.rpartition(":")
    if colon and kind == _TAG:
        return Column(Role.TAG, name)
    if colon and kind in TYPE_NAMES:
        return Column(Role.FIELD, name, TYPE_NAMES[kind])
    return Column(Role.FIELD, label)


def parse_labels(labels: Sequence[str], kinds: Mapping[str, str]) -> list[Column]:
    """What stands in columns of these names; `kinds` says it (as one of `KINDS`) for some, whatever they are called.

    Raises BadRequest, also for two columns of the same.
    """
    for label, kind in kinds.items():
        if label not in labels:
            raise BadRequest(f"there is no column {label!r}: the file has {', '.join(map(repr, labels[:50]))}")
        if kind not in KINDS:
            raise BadRequest(f"a column is one of {', '.join(KINDS)}, not {kind!r}")
    columns = [parse_label(label) if label not in kinds else _of_kind(label, kinds[label]) for label in labels]
    for column, count in Counter(columns).items():
        if count > 1:
            raise BadRequest(f"the file has {count} columns for the same {column.role.name.lower()} {column.name!r}")
    return columns


def _of_kind(label: str, kind: str) -> Column:
    return parse_label(kind) if kind in (TIME, MEASUREMENT) else parse_label(f"{label}:{kind}")


def canonical_label(column: Column) -> str:
    """A name that says everything."""
    if column.role is Role.TIME:
        return TIME
    if column.role is Role.MEASUREMENT:
        return MEASUREMENT
    return f"{column.name}:{_TAG if column.type is None else column.type.name.lower()}"


def short_labels(columns: Sequence[Column], *, has_types: bool) -> list[str]:
    """Names that are no longer than needed: without the type where the file has it, or where it is a float."""
    types_of: dict[str, int] = Counter(column.name for column in columns if column.role is Role.FIELD)
    labels = []
    for column in columns:
        label = canonical_label(column)
        if column.role is Role.FIELD and column.name and parse_label(column.name) == Column(Role.FIELD, column.name):
            is_default = types_of[column.name] == 1 if has_types else column.type is ValueType.FLOAT
            label = column.name if is_default else label
        labels.append(label)
    return labels


def table_schema(columns: Sequence[Column]) -> pa.Schema:
    """A table with these columns, which all say what they are."""
    return pa.schema([(canonical_label(column), column.arrow_type) for column in columns])
